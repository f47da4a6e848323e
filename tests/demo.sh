#!/usr/bin/env bash
# Demonstrates the main function: applications use keys that are stored in the KMS, and lose nothing when the backend is
# killed. `make demo` builds first, then runs this. KEEP=1 keeps the folder, VERBOSE=1 shows the output of each step.
set -euo pipefail
cd "$(dirname "$0")/.."

kms=$PWD/target/release/kms
module=$PWD/target/release/libkms_pkcs11.so
work=$(mktemp -d "${TMPDIR:-/tmp}/kms-demo.XXXXXX")
home=$work/home
ring=demo
backend=
server=
passed=()
skipped=()

clean() {
    status=$?
    trap - EXIT
    for process in $server $backend; do
        kill "$process" 2> /dev/null || true
        wait "$process" 2> /dev/null || true
    done
    if [[ ${KEEP:-} == 1 ]]; then
        echo "Kept: $work"
    else
        rm -rf "$work"
    fi
    exit "$status"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    printf 'FAILED\n\n%s\n' "Step $((${#passed[@]} + 1)), \"$1\", failed. Its commands and output:" >&2
    sed 's/^/    /' "$work/step.log" >&2
    if [[ -s $work/backend.log ]]; then
        printf '\nThe end of the backend'"'"'s log:\n' >&2
        tail -n 15 "$work/backend.log" | sed 's/^/    /' >&2
    fi
    exit 1
}

# step TEXT COMMAND...: runs the command in the work folder, each line of it traced, and stops the demo if one fails.
step() {
    local text=$1
    shift
    printf '%2d. %s ... ' "$((${#passed[@]} + 1))" "$text"
    set +e
    (
        set -ex
        cd "$work"
        "$@"
    ) > "$work/step.log" 2>&1 < /dev/null
    local status=$?
    set -e
    ((status == 0)) || fail "$text"
    echo ok
    [[ ${VERBOSE:-} != 1 ]] || sed 's/^/      /' "$work/step.log"
    passed+=("$text")
}

# wait_for SECONDS PROCESS COMMAND...: until the command succeeds; fails when the process ends or the time is over.
wait_for() {
    local end=$((SECONDS + $1)) process=$2
    shift 2
    until "$@" > /dev/null 2>&1; do
        kill -0 "$process" 2> /dev/null || return 1
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# The backend runs until it is killed, so it is not started inside a step.
start_backend() {
    : > "$work/ready"
    "$kms" serve --home "$home" --rest-listen 127.0.0.1:0 > "$work/ready" 2>> "$work/backend.log" &
    backend=$!
}

is_ready() { wait_for 20 "$backend" grep -q '^kms: ready on ' "$work/ready"; }

tool() {
    # The PIN is passed in the environment: every user of the machine can read a command line.
    pkcs11-tool --module "$module" --token-label "$ring" --login --pin env:KMS_DEMO_PIN "$@"
}

# --- the steps

make_home() { "$kms" init --home "$home" --ring "$ring" --user-pin-file user.pin --so-pin-file so.pin; }
list_token() { pkcs11-tool --module "$module" --list-token-slots | tee slots && grep -q "token label *: $ring" slots; }
make_aes() { tool --keygen --key-type AES:32 --label data --id 01 --sensitive; }
make_rsa() { tool --keypairgen --key-type rsa:2048 --label signer --id 02 --usage-sign --usage-decrypt; }
export_public() {
    tool --read-object --type pubkey --id 02 --output-file signer.der
    openssl pkey -pubin -inform DER -in signer.der -out signer.pem
}
sign_with_tool() {
    tool --sign --mechanism SHA256-RSA-PKCS --id 02 --input-file message --output-file "$1"
    openssl dgst -sha256 -verify signer.pem -signature "$1" message
}
encrypt() {
    tool --encrypt --mechanism AES-CBC-PAD --id 01 --iv 000102030405060708090a0b0c0d0e0f \
        --input-file message --output-file message.aes
    ! cmp --silent message message.aes
}
decrypt() {
    tool --decrypt --mechanism AES-CBC-PAD --id 01 --iv 000102030405060708090a0b0c0d0e0f \
        --input-file message.aes --output-file "$1"
    cmp message "$1"
}
decrypt_oaep() {
    openssl pkeyutl -encrypt -pubin -inkey signer.pem -in session.key -out session.enc \
        -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256
    tool --decrypt --mechanism RSA-PKCS-OAEP --hash-algorithm SHA256 --mgf MGF1-SHA256 --id 02 \
        --input-file session.enc --output-file session.dec
    cmp session.key session.dec
}

with_engine() { OPENSSL_CONF=$work/engine.cnf openssl "$@"; }
key="pkcs11:token=$ring;object=signer;type=private"
engine_sign() {
    with_engine dgst -engine pkcs11 -keyform engine -sha256 -sign "$key" -out "$1" message
    openssl dgst -sha256 -verify signer.pem -signature "$1" message
}
engine_certificate() {
    with_engine req -engine pkcs11 -keyform engine -new -x509 -key "$key" -subj "/CN=kms demo" -days 30 -out cert.pem
    openssl verify -CAfile cert.pem cert.pem
    openssl x509 -in cert.pem -pubkey -noout | cmp - signer.pem
}

with_provider() { OPENSSL_CONF=$work/provider.cnf openssl "$@"; }
provider_sign() {
    with_provider dgst -sha256 -sign "$key" -out provider.sig message
    openssl dgst -sha256 -verify signer.pem -signature provider.sig message
}
provider_certificate() {
    with_provider req -new -x509 -key "$key" -subj "/CN=kms demo" -days 30 -out provider.pem
    openssl verify -CAfile provider.pem provider.pem
}

start_server() {
    OPENSSL_CONF=$work/engine.cnf openssl s_server -engine pkcs11 -keyform engine -key "$key" \
        -cert "$work/cert.pem" -unix "$work/tls.sock" -quiet > "$work/server.log" 2>&1 &
    server=$!
}
server_listens() { wait_for 20 "$server" test -S "$work/tls.sock" || { cat server.log && false; }; }
# Each handshake makes a signature with the KMS's key, in the server's process.
handshake() {
    openssl s_client -unix tls.sock -CAfile cert.pem -verify_return_error -brief > handshake.log 2>&1 ||
        { cat handshake.log server.log && false; }
    cat handshake.log
    grep -q 'Verification: OK' handshake.log
}
is_dead() { ! kill -0 "$backend" 2> /dev/null; }
same_server() { kill -0 "$server"; }
list_keys() { "$kms" key list --home "$home"; }
examine() { "$kms" doctor --home "$home" --module "$module" --pin-file user.pin; }

# --- the demo

for artefact in "$kms" "$module"; do
    [[ -e $artefact ]] || { echo "$artefact is not built; run: make demo" >&2 && exit 1; }
done
umask 077
export KMS_PKCS11_CONFIG=$home/pkcs11.toml
KMS_DEMO_PIN=$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')
export KMS_DEMO_PIN
printf '%s\n' "$KMS_DEMO_PIN" > "$work/user.pin"
od -An -N6 -tx1 /dev/urandom | tr -d ' ' > "$work/so.pin"
head -c 20000 /dev/urandom > "$work/message"
head -c 32 /dev/urandom > "$work/session.key"
cat > "$work/engine.cnf" << END
openssl_conf = init
[init]
engines = engines
[engines]
pkcs11 = pkcs11
[pkcs11]
engine_id = pkcs11
MODULE_PATH = $module
PIN = $KMS_DEMO_PIN
init = 0
[req]
distinguished_name = name
[name]
END

echo "The KMS's home is $home"
step "kms init creates a home: SoftHSM token with the master key, database, first ring" make_home
start_backend
step "kms serve starts the backend" is_ready
step "An application loads libkms_pkcs11.so and lists the ring as a token" list_token
step "pkcs11-tool generates an AES-256 key in the ring" make_aes
step "pkcs11-tool generates an RSA-2048 key pair in the ring" make_rsa
step "pkcs11-tool exports the public key" export_public
step "pkcs11-tool signs 20 kB, openssl verifies with only the public key" sign_with_tool one.sig
step "pkcs11-tool encrypts 20 kB with the AES key (CBC)" encrypt
step "pkcs11-tool decrypts it" decrypt before
step "openssl encrypts with the public key (OAEP), the KMS decrypts" decrypt_oaep
step "openssl signs through the engine, and verifies without it" engine_sign two.sig
step "openssl issues a certificate whose key never leaves the KMS" engine_certificate

modules=$(openssl version -m | sed -n 's/^MODULESDIR: "\(.*\)"$/\1/p')
if [[ -e $modules/pkcs11.so ]]; then
    cat > "$work/provider.cnf" << END
openssl_conf = init
[init]
providers = providers
[providers]
default = default_provider
pkcs11 = pkcs11_provider
[default_provider]
activate = 1
[pkcs11_provider]
module = $modules/pkcs11.so
pkcs11-module-path = $module
pkcs11-module-token-pin = $KMS_DEMO_PIN
activate = 1
[req]
distinguished_name = name
[name]
END
    step "openssl signs through pkcs11-provider" provider_sign
    step "openssl issues a certificate through pkcs11-provider" provider_certificate
else
    skipped+=("openssl through pkcs11-provider: it is not installed (Debian 12 has it in bookworm-backports)")
fi

start_server
step "A TLS server starts with a key in the KMS" server_listens
step "A client connects and verifies the server" handshake

kill -KILL "$backend"
{ wait "$backend" || true; } 2> /dev/null
step "The backend is killed (kill -9)" is_dead
start_backend
step "The backend is started again" is_ready

step "The TLS server still runs" same_server
step "A client connects again: same server process, session and login" handshake
step "pkcs11-tool decrypts the earlier ciphertext" decrypt after
step "pkcs11-tool signs with the same key" sign_with_tool three.sig
step "openssl signs with the same key" engine_sign four.sig
step "kms key list lists the keys" list_keys
sed -n '/^RING/,$p' "$work/step.log" | grep -v '^+' | sed 's/^/      /'
step "kms doctor passes all checks, from the configuration to the module" examine
grep -E '^(ok|-|FAILED|all) ' "$work/step.log" | sed 's/^/      /'

echo
for text in "${skipped[@]}"; do
    echo "Skipped: $text"
done
echo "${#passed[@]} steps passed: two keys created in the ring and used by four programs, before and after the backend was killed."
