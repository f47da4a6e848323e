//! Java's SunPKCS11, used by keytool. Its key stores generate keys outside and import them, which compat rings accept;
//! keys that were generated in the KMS are listed and deleted.

use kms_tests::program::{self, Ran, installed};
use kms_tests::{Stack, USER_PIN};

use crate::{command, file, pkcs11_tool, words};

/// Runs keytool with a stack's module as its key store.
fn keytool(stack: &Stack, arguments: &[&str]) -> Ran {
    let text = format!("name = Kms\nlibrary = {}\nslotListIndex = 0\n", stack.module().display());
    let config = file(stack, "p11.cfg", text.as_bytes());
    let mut command = command(stack, "keytool");
    command.args(["-keystore", "NONE", "-storetype", "PKCS11", "-storepass", USER_PIN]);
    command.args(["-providerClass", "sun.security.pkcs11.SunPKCS11", "-providerArg"]).arg(&config);
    program::run(command.args(arguments))
}

#[test]
fn keytool_lists_and_deletes_secret_keys() {
    if !installed(&["keytool", "pkcs11-tool"]) {
        return;
    }
    let stack = Stack::compat();
    pkcs11_tool(&stack, &words("--keygen --key-type AES:32 --id 01 --label ja1")).ok();
    let listed = keytool(&stack, &["-list"]).ok();
    assert!(listed.contains("ja1, SecretKeyEntry"), "{listed}");
    keytool(&stack, &["-delete", "-alias", "ja1"]).ok();
    assert!(!keytool(&stack, &["-list"]).ok().contains("ja1"));
}

#[test]
fn keytool_stores_keys_and_certificates() {
    if !installed(&["keytool"]) {
        return;
    }
    let stack = Stack::compat();
    keytool(&stack, &["-genseckey", "-keyalg", "AES", "-keysize", "256", "-alias", "generated"]).ok();
    let pair = ["-genkeypair", "-keyalg", "RSA", "-keysize", "2048", "-alias", "web", "-dname", "CN=web"];
    keytool(&stack, &pair).ok();
    let listed = keytool(&stack, &["-list"]).ok();
    for entry in ["generated, SecretKeyEntry", "web, PrivateKeyEntry"] {
        assert!(listed.contains(entry), "{listed}");
    }
    let certificate = keytool(&stack, &["-exportcert", "-rfc", "-alias", "web"]).ok();
    assert!(certificate.contains("BEGIN CERTIFICATE"), "{certificate}");
    let request = keytool(&stack, &["-certreq", "-alias", "web"]).ok();
    assert!(request.contains("BEGIN NEW CERTIFICATE REQUEST"), "the private key signs: {request}");
    keytool(&stack, &["-delete", "-alias", "web"]).ok();
    assert!(!keytool(&stack, &["-list"]).ok().contains("web"));
}
