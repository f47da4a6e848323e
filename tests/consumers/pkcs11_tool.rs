//! OpenSC's pkcs11-tool.

use kms_tests::openssl;
use kms_tests::program::{self, installed};
use kms_tests::{Policy, Stack};

use crate::{command, file, pkcs11_tool, words};

#[test]
fn generates_lists_and_deletes() {
    if !installed(&["pkcs11-tool"]) {
        return;
    }
    for policy in [Policy::Strict, Policy::Compat] {
        let stack = Stack::new(policy);
        let tool = |line: &str| pkcs11_tool(&stack, &words(line)).ok();
        tool("--keypairgen --key-type rsa:2048 --id 01 --label r1 --usage-sign --usage-decrypt");
        tool("--keypairgen --key-type EC:secp256r1 --id 02 --label e1 --usage-sign");
        tool("--keypairgen --key-type EC:secp384r1 --id 03 --label e2 --usage-sign");
        tool("--keypairgen --key-type EC:secp521r1 --id 04 --label e3 --usage-sign");
        tool("--keygen --key-type AES:32 --id 05 --label a1 --usage-decrypt");
        tool("--keygen --key-type AES:16 --id 06 --label a2 --usage-decrypt");
        tool("--keygen --key-type GENERIC:64 --id 07 --label g1 --usage-sign");
        let listed = pkcs11_tool(&stack, &["--list-objects"]);
        let text = listed.text();
        listed.ok();
        for label in ["r1", "e1", "e2", "e3", "a1", "a2", "g1"] {
            assert!(text.contains(label), "{label}: {text}");
        }
        // The tool warns about each attribute that the module does not return, and about values that it may not read.
        let warnings = text.lines().filter(|line| line.contains("warning") || line.contains("failed"));
        let unexpected: Vec<_> =
            warnings.filter(|line| !line.contains("(VALUE) failed: rv = CKR_ATTRIBUTE_SENSITIVE")).collect();
        assert_eq!(unexpected, [""; 0], "{text}");
        tool("--set-id 41 --type privkey --id 01");
        tool("--delete-object --type secrkey --id 06");
        assert!(!tool("--list-objects").contains("label:      a2"));
    }
}

#[test]
fn mechanisms_and_slots_are_listed_without_login() {
    if !installed(&["pkcs11-tool"]) {
        return;
    }
    let stack = Stack::strict();
    let list = |arguments: &[&str]| {
        let mut tool = command(&stack, "pkcs11-tool");
        program::run(tool.arg("--module").arg(stack.module()).args(arguments)).ok()
    };
    let slots = list(&["--list-slots"]);
    assert!(slots.contains("token label        : test") && slots.contains("login required"), "{slots}");
    let mechanisms = list(&["--list-mechanisms"]);
    for name in ["AES-GCM", "SHA256-RSA-PKCS-PSS", "ECDSA-SHA512", "SHA512-HMAC", "SHA256"] {
        assert!(mechanisms.contains(name), "{name}: {mechanisms}");
    }
    list(&["--show-info"]);
    let interfaces = list(&["--list-interfaces"]);
    for version in ["3.2", "3.0", "2.40"] {
        assert!(interfaces.contains(version), "{interfaces}");
    }
    let random = list(&["--generate-random", "64"]);
    assert!(!random.is_empty());
}

#[test]
fn openssl_verifies_its_signatures() {
    if !installed(&["pkcs11-tool", "openssl"]) {
        return;
    }
    let stack = Stack::strict();
    let tool = |line: &str| pkcs11_tool(&stack, &words(line)).ok();
    let message = file(&stack, "msg", b"a message to sign");
    file(&stack, "digest", &openssl::digest("sha256", b"a message to sign"));
    tool("--keypairgen --key-type rsa:2048 --id 01 --label r1 --usage-sign");
    tool("--keypairgen --key-type EC:secp256r1 --id 02 --label e1 --usage-sign");
    for id in ["01", "02"] {
        tool(&format!("--read-object --type pubkey --id {id} -o pub{id}.der"));
    }
    let verify = |key: &str, options: &[&str], signature: &str| {
        let mut command = command(&stack, "openssl");
        command.args(["dgst", "-sha256", "-keyform", "DER", "-verify", key]).args(options);
        let ran = program::run(command.args(["-signature", signature]).arg(&message));
        assert!(ran.text().contains("Verified OK"), "{ran}");
    };
    tool("--sign -m SHA256-RSA-PKCS --id 01 -i msg -o s1");
    verify("pub01.der", &[], "s1");
    tool("--sign -m SHA256-RSA-PKCS-PSS --id 01 -i msg -o s2");
    verify("pub01.der", &["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"], "s2");
    tool("--sign -m RSA-PKCS-PSS --hash-algorithm SHA256 --id 01 -i digest -o s3");
    tool("--verify -m RSA-PKCS-PSS --hash-algorithm SHA256 --id 01 -i digest --signature-file s3");
    tool("--sign -m ECDSA --id 02 -i digest -o s4 --signature-format openssl");
    verify("pub02.der", &[], "s4");
    tool("--sign -m ECDSA-SHA256 --id 02 -i msg -o s5 --signature-format openssl");
    verify("pub02.der", &[], "s5");
    tool("--verify -m ECDSA-SHA256 --id 02 -i msg --signature-file s5 --signature-format openssl");
    tool("--keygen --key-type GENERIC:32 --id 03 --label g1 --usage-sign");
    tool("--sign -m SHA256-HMAC --id 03 -i msg -o mac");
    tool("--verify -m SHA256-HMAC --id 03 -i msg --signature-file mac");
}

#[test]
fn encrypts_and_decrypts() {
    if !installed(&["pkcs11-tool", "openssl"]) {
        return;
    }
    let stack = Stack::strict();
    let tool = |line: &str| pkcs11_tool(&stack, &words(line)).ok();
    let read = |name: &str| std::fs::read(stack.folder().join(name)).expect("a file can be read");
    let text = vec![b'x'; 10_000];
    file(&stack, "msg", &text);
    tool("--keygen --key-type AES:32 --id 04 --label a1 --usage-decrypt");
    let iv = "--iv 000102030405060708090a0b0c0d0e0f";
    tool(&format!("--encrypt -m AES-CBC-PAD --id 04 {iv} -i msg -o c1"));
    tool(&format!("--decrypt -m AES-CBC-PAD --id 04 {iv} -i c1 -o p1"));
    assert_eq!(read("p1"), text);
    assert_ne!(read("c1"), text);
    file(&stack, "blocks", &[7; 160]);
    tool(&format!("--encrypt -m AES-CBC --id 04 {iv} -i blocks -o c2"));
    tool(&format!("--decrypt -m AES-CBC --id 04 {iv} -i c2 -o p2"));
    assert_eq!(read("p2"), [7; 160]);
    tool("--encrypt -m AES-ECB --id 04 -i blocks -o c3");
    tool("--decrypt -m AES-ECB --id 04 -i c3 -o p3");
    assert_eq!(read("p3"), [7; 160]);
    tool("--keypairgen --key-type rsa:2048 --id 05 --label r1 --usage-decrypt");
    tool("--read-object --type pubkey --id 05 -o pub.der");
    file(&stack, "short", b"a short message");
    for hash in ["sha1", "sha256", "sha512"] {
        let (md, mgf) = (format!("rsa_oaep_md:{hash}"), format!("rsa_mgf1_md:{hash}"));
        let mut command = command(&stack, "openssl");
        command.args(words("pkeyutl -encrypt -pubin -keyform DER -inkey pub.der -in short -out c4"));
        command.args(["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", &md, "-pkeyopt", &mgf]);
        program::run(&mut command).ok();
        let name = if hash == "sha1" { "SHA-1".to_owned() } else { hash.to_uppercase() };
        tool(&format!("--decrypt -m RSA-PKCS-OAEP --hash-algorithm {name} --id 05 -i c4 -o p4"));
        assert_eq!(read("p4"), b"a short message", "{hash}");
    }
}

#[test]
fn changes_pins() {
    if !installed(&["pkcs11-tool"]) {
        return;
    }
    let stack = Stack::strict();
    pkcs11_tool(&stack, &words("--change-pin --new-pin 567890")).ok();
    let refused = pkcs11_tool(&stack, &["--list-objects"]).refused();
    assert!(refused.contains("CKR_PIN_INCORRECT"), "{refused}");
    let mut tool = command(&stack, "pkcs11-tool");
    tool.arg("--module").arg(stack.module()).args(["--token-label", "test", "--login", "--login-type", "so"]);
    program::run(tool.args(["--so-pin", kms_tests::SO_PIN, "--init-pin", "--new-pin", "1234"])).ok();
    pkcs11_tool(&stack, &["--list-objects"]).ok();
}

#[test]
fn its_thread_and_fork_tests_pass() {
    if !installed(&["pkcs11-tool"]) {
        return;
    }
    let stack = Stack::strict();
    let mut tool = command(&stack, "pkcs11-tool");
    tool.arg("--module").arg(stack.module());
    for _ in 0..3 {
        tool.args(["--test-threads", "ILGISLT0"]);
    }
    program::run(tool.args(["--use-locking", "-L"])).ok();
    let forked = pkcs11_tool(&stack, &["--test-fork"]);
    assert!(!forked.text().contains("CKR_"), "{forked}");
    forked.ok();
}

#[test]
fn its_self_test_passes() {
    if !installed(&["pkcs11-tool"]) {
        return;
    }
    let stack = Stack::compat();
    pkcs11_tool(
        &stack,
        &words("--keypairgen --key-type rsa:2048 --id 01 --label r1 --usage-sign --usage-decrypt"),
    )
    .ok();
    let tested = pkcs11_tool(&stack, &["--test"]);
    let text = tested.text();
    assert!(text.contains("No errors"), "{tested}");
    tested.ok();
}
