//! Java's SunPKCS11, by keytool. Its key stores make keys outside and import them, which comes with `C_CreateObject`;
//! keys that were made inside are listed and removed.

use kms_tests::program::{self, installed};
use kms_tests::{Stack, USER_PIN};

use crate::{command, file, pkcs11_tool, words};

#[test]
fn keytool_lists_and_deletes_secret_keys() {
    if !installed(&["keytool", "pkcs11-tool"]) {
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
    pkcs11_tool(&stack, &words("--keygen --key-type AES:32 --id 01 --label ja1")).ok();
    let listed = keytool(&["-list"]).ok();
    assert!(listed.contains("ja1, SecretKeyEntry"), "{listed}");
    keytool(&["-delete", "-alias", "ja1"]).ok();
    assert!(!keytool(&["-list"]).ok().contains("ja1"));
}
