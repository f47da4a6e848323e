# Few targets, each what it says. `make demo` and `make test` need a Debian 12 machine, a Rust toolchain and this folder.

export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO ?= cargo
# The two artefacts: target/release/libkms_pkcs11.so and target/release/kms.
BUILD := $(CARGO) build --release --locked --package kms-provider --package kms-daemon

.DEFAULT_GOAL := help
.PHONY: help demo test bench suites lint build

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: ## The main job in front of you: make keys, sign, encrypt, kill the backend, go on
	@softhsm-config/install-packages demo
	@$(BUILD)
	@tests/demo.sh

test: ## Install what the tests need, build, and run all of them
	@softhsm-config/install-packages test
	$(BUILD)
	KMS_TESTS_BUILT=1 $(CARGO) test --locked --workspace --no-fail-fast

bench: ## Ours against SoftHSM in one process each, and the REST door; rewrites docs/benchmarks.md
	@softhsm-config/install-packages demo
	$(BUILD)
	KMS_TESTS_BUILT=1 $(CARGO) run --release --locked --package kms-tests --bin kms-bench

suites: ## The suites of others, on tokens of ours (half an hour); rewrites docs/suites.md
	@softhsm-config/install-packages test
	$(BUILD)
	@tests/suites/run
	KMS_TESTS_BUILT=1 KMS_TESTS_SCHEMATHESIS_SECONDS=600 $(CARGO) test --locked --workspace --test rest document

lint: ## Format, clippy, documentation, shell scripts, licences and advisories
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@softhsm-config/install-packages lint
	shellcheck .ci/run softhsm-config/build-image softhsm-config/entrypoint softhsm-config/install-packages tests/demo.sh tests/suites/run
	@command -v cargo-deny > /dev/null || $(CARGO) install cargo-deny --locked
	$(CARGO) deny --locked --config .deny.toml check licenses bans sources
	@if timeout 30 git ls-remote --quiet --exit-code https://github.com/RustSec/advisory-db HEAD > /dev/null 2>&1; then \
		$(CARGO) deny --locked --config .deny.toml check advisories; \
	else \
		echo "lint: advisories were NOT checked: the RustSec database cannot be fetched from here"; \
	fi

build: ## The provider and the backend, optimised
	$(BUILD)
