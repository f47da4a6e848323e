//! OpenSSH: lists the token's public keys, signs certificates with a CA key in the token, and signs through the agent.

use std::os::unix::fs::PermissionsExt;

use kms_tests::program::{self, installed};
use kms_tests::{Stack, USER_PIN};

use crate::{command, file, pkcs11_tool, words};

/// Writes a program that prints the PIN, for `SSH_ASKPASS`.
fn askpass(stack: &Stack) -> std::path::PathBuf {
    let path = file(stack, "askpass", format!("#!/bin/sh\necho {USER_PIN}\n").as_bytes());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("a mode can be set");
    path
}

#[test]
fn keys_are_listed_and_sign_certificates() {
    if !installed(&["ssh-keygen", "pkcs11-tool"]) {
        return;
    }
    let stack = Stack::strict();
    let askpass = askpass(&stack);
    pkcs11_tool(&stack, &words("--keypairgen --key-type rsa:2048 --id 01 --label r1 --usage-sign")).ok();
    pkcs11_tool(&stack, &words("--keypairgen --key-type EC:secp256r1 --id 02 --label e1 --usage-sign")).ok();
    let ssh_keygen = || {
        let mut command = command(&stack, "ssh-keygen");
        command.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", ":0");
        command
    };
    let listed = program::run(ssh_keygen().arg("-D").arg(stack.module())).ok();
    assert!(listed.contains("ssh-rsa ") && listed.contains("ecdsa-sha2-nistp256 "), "{listed}");
    program::run(ssh_keygen().args(words("-q -t ed25519 -N")).args(["", "-f", "user"])).ok();
    for kind in ["ssh-rsa ", "ecdsa-sha2-nistp256 "] {
        let line = listed.lines().find(|line| line.starts_with(kind)).expect("it is listed");
        file(&stack, "ca.pub", line.as_bytes());
        let mut sign = ssh_keygen();
        sign.args(["-s", "ca.pub", "-D"]).arg(stack.module()).args(["-I", "me", "-n", "root", "user.pub"]);
        program::run(&mut sign).ok();
        let shown = program::run(ssh_keygen().args(["-L", "-f", "user-cert.pub"])).ok();
        assert!(shown.contains("Key ID: \"me\""), "{shown}");
    }
}

#[test]
fn the_agent_signs() {
    if !installed(&["ssh-agent", "ssh-add", "ssh-keygen", "pkcs11-tool"]) {
        return;
    }
    let stack = Stack::strict();
    let askpass = askpass(&stack);
    pkcs11_tool(&stack, &words("--keypairgen --key-type EC:secp256r1 --id 02 --label e1 --usage-sign")).ok();
    file(&stack, "letter", b"Dear grandmother");
    // All commands run under one agent, which ends with the shell.
    let script = "set -e; ssh-add -s \"$1\"; ssh-add -L > key.pub; ssh-keygen -q -Y sign -f key.pub -n file letter; \
                  ssh-keygen -Y check-novalidate -n file -s letter.sig < letter";
    let mut agent = command(&stack, "ssh-agent");
    agent.arg("-P").arg(stack.module()).args(["sh", "-c", script, "sh"]).arg(stack.module());
    agent.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", ":0");
    let checked = program::run(&mut agent);
    assert!(checked.text().contains("Good \"file\" signature"), "{checked}");
}
