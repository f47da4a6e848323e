//! Java's SunPKCS11, by keytool. Key pairs need certificates in the token, which come with a later issue; secret keys
//! do not.

use kms_tests::program::{self, installed};
use kms_tests::{Stack, USER_PIN};

use crate::{command, file};

#[test]
fn keytool_makes_and_lists_secret_keys() {
    if !installed(&["keytool"]) {
        return;
    }
    let stack = Stack::compat();
    let text = format!("name = Kms\nlibrary = {}\nslotListIndex = 0\n", stack.module().display());
    let config = file(&stack, "p11.cfg", text.as_bytes());
    let keytool = |words: &[&str]| {
        let mut command = command(&stack, "keytool");
        command.args(["-keystore", "NONE", "-storetype", "PKCS11", "-storepass", USER_PIN]);
        command.args(["-providerClass", "sun.security.pkcs11.SunPKCS11", "-providerArg"]).arg(&config);
        program::run(command.args(words))
    };
    keytool(&["-genseckey", "-alias", "ja1", "-keyalg", "AES", "-keysize", "256"]).ok();
    let listed = keytool(&["-list"]).ok();
    assert!(listed.contains("ja1, SecretKeyEntry"), "{listed}");
    keytool(&["-delete", "-alias", "ja1"]).ok();
    assert!(!keytool(&["-list"]).ok().contains("ja1"));
}
