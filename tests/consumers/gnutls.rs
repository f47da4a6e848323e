//! GnuTLS: p11tool and certtool.

use kms_tests::program::{self, installed};
use kms_tests::{Stack, USER_PIN};

use crate::{command, file};

#[test]
fn generates_lists_and_signs() {
    if !installed(&["p11tool", "certtool"]) {
        return;
    }
    let stack = Stack::strict();
    let module = stack.module();
    let run = |program: &str, arguments: &[&str]| {
        let mut tool = command(&stack, program);
        tool.arg("--provider").arg(&module).env("GNUTLS_PIN", USER_PIN);
        program::run(tool.args(arguments)).ok()
    };
    let token = "pkcs11:token=test";
    let tokens = run("p11tool", &["--list-tokens"]);
    assert!(tokens.contains("token=test"), "{tokens}");
    let rsa = [
        "--login",
        "--generate-privkey=rsa",
        "--bits=2048",
        "--label=g1",
        "--id=61",
        "--outfile=g1.pub",
        token,
    ];
    run("p11tool", &rsa);
    let ec = [
        "--login",
        "--generate-privkey=ecdsa",
        "--curve=secp256r1",
        "--label=g2",
        "--id=62",
        "--outfile=g2.pub",
        token,
    ];
    run("p11tool", &ec);
    let listed = run("p11tool", &["--login", "--list-all", token]);
    for label in ["g1", "g2"] {
        assert!(listed.contains(label), "{label}: {listed}");
        let key = format!("pkcs11:token=test;object={label};type=private");
        run("p11tool", &["--login", "--test-sign", &key]);
    }
    let key = "pkcs11:token=test;object=g1;type=private";
    run("p11tool", &["--login", "--test-sign", "--sign-params=rsa-pss", "--hash=sha256", key]);
    file(&stack, "t.cfg", b"cn = \"kms test\"\nca\ncert_signing_key\nexpiration_days = 30\n");
    let public = "pkcs11:token=test;object=g1;type=public";
    let mut arguments = vec!["--generate-self-signed", "--template", "t.cfg", "--load-privkey", key];
    arguments.extend(["--load-pubkey", public, "--outfile", "c.pem"]);
    run("certtool", &arguments);
    let mut verify = command(&stack, "openssl");
    program::run(verify.args(["verify", "-CAfile", "c.pem", "c.pem"])).ok();
}
