# `make demo` and `make test` need a Debian 12 machine, a Rust toolchain and this folder.

export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
ARTEFACTS := --locked --package kms-provider --package kms-daemon
# Ed448 and X448, whose libraries are pre-releases (docs/decisions/0055).
CURVES := kms-provider/pre-release-curves,kms-daemon/pre-release-curves
CURVES_TESTS := kms-provider/pre-release-curves,kms-crypto/pre-release-curves
# The database of known vulnerabilities. `require` makes a missing database an error; `warn` only reports it.
ADVISORY_DB ?= https://github.com/RustSec/advisory-db
ADVISORIES ?= warn

.DEFAULT_GOAL := help
.PHONY: help demo build test curves quick test-release suites mutants bench bench-fairness lint advisories release

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

demo: ## Show the main functions: create keys, sign, encrypt, kill the backend, continue
	@softhsm-config/install-packages demo
	@$(MAKE) --no-print-directory build
	@tests/demo.sh

build: ## Build the release artefacts: TARGET/release/kms and libkms_pkcs11.so, with their debug information beside them
	$(CARGO) build --release $(ARTEFACTS)
	@.cargo/split-debug $(TARGET)/release/kms $(TARGET)/release/libkms_pkcs11.so

test: ## Install what the tests need, build everything once (profile dev) and run all tests; CI runs the same
	@softhsm-config/install-packages test
	@$(MAKE) --no-print-directory curves
	$(CARGO) build --locked --workspace
	KMS_TESTS_BUILT=1 $(CARGO) test --locked --workspace --no-fail-fast

# Before the other tests, which then build and test the artefacts as they are shipped: without these curves.
curves: ## Build with the feature pre-release-curves (Ed448, X448, off by default) and run the tests of these curves
	$(CARGO) build --locked --package kms-provider --package kms-daemon --features $(CURVES)
	$(CARGO) test --locked --package kms-crypto --package kms-provider --lib --features $(CURVES_TESTS) -- 448 edwards curve
	KMS_TESTS_BUILT=1 KMS_TESTS_PRE_RELEASE_CURVES=1 \
		$(CARGO) test --locked --package kms-tests --test pkcs11 --test vectors -- 448 edwards

quick: ## Run the unit tests and the rules of the tree: minutes less, nothing to install but SoftHSM
	$(CARGO) test --locked --workspace --lib --no-fail-fast
	$(CARGO) test --locked --package kms-tests --test tidy

test-release: ## Run all tests of `make test` on release artefacts
	@softhsm-config/install-packages test
	$(CARGO) build --release $(ARTEFACTS)
	KMS_TESTS_BUILT=1 KMS_TESTS_ARTEFACTS=$(abspath $(TARGET))/release $(CARGO) test --locked --workspace --no-fail-fast

suites: ## Run the third-party test suites whole (half an hour); writes docs/suites.md
	@softhsm-config/install-packages test
	$(CARGO) build --release $(ARTEFACTS)
	@tests/suites/run
	KMS_TESTS_BUILT=1 KMS_TESTS_ARTEFACTS=$(abspath $(TARGET))/release KMS_TESTS_SCHEMATHESIS_SECONDS=600 \
		$(CARGO) test --locked --package kms-tests --test rest document
	KMS_ADVERSARY_CALLS=5 $(CARGO) test --release --locked --package kms-core --test adversary -- --nocapture

mutants: ## Change the code that decides, one thing at a time, and check that a test fails (hours); writes docs/mutants.md
	@tests/mutants/run

bench: ## Measure against SoftHSM, and the REST API; writes docs/benchmarks.md
	@softhsm-config/install-packages demo
	$(CARGO) build --release $(ARTEFACTS)
	KMS_TESTS_BUILT=1 $(CARGO) run --release --locked --package kms-tests --bin kms-bench

bench-fairness: ## Measure one tenant beside a hostile one; needs root, writes nothing
	@softhsm-config/install-packages demo
	$(CARGO) build --release $(ARTEFACTS)
	KMS_TESTS_BUILT=1 $(CARGO) run --release --locked --package kms-tests --bin kms-bench -- fairness

lint: ## Check format, clippy, documentation, shell scripts, licences, sources and advisories
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@softhsm-config/install-packages lint
	shellcheck .ci/run softhsm-config/build-image softhsm-config/entrypoint softhsm-config/install-packages \
		.cargo/split-debug tests/demo.sh tests/suites/run tests/mutants/run
	@command -v cargo-deny > /dev/null || $(CARGO) install cargo-deny --locked
	$(CARGO) deny --locked --config .deny.toml check licenses bans sources
	@$(MAKE) --no-print-directory advisories

# The database is looked for first, because cargo-deny reports a database that it cannot fetch like a vulnerability.
advisories: ## Check the dependencies against known vulnerabilities; ADVISORIES=require fails where the database is missing
	@if timeout 30 git ls-remote --quiet --exit-code $(ADVISORY_DB) HEAD > /dev/null 2>&1; then \
		$(CARGO) deny --locked --config .deny.toml check advisories; \
	elif [ "$(ADVISORIES)" = require ]; then \
		echo "advisories: FAILED: cannot fetch $(ADVISORY_DB); a release needs it" >&2; exit 1; \
	else \
		echo "advisories: WARNING: not checked, cannot fetch $(ADVISORY_DB)" >&2; \
	fi

release: ## Everything that a release needs: lint with advisories required, release artefacts, all tests on them
	@$(MAKE) --no-print-directory lint ADVISORIES=require
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory test-release
