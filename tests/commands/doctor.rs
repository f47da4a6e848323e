//! `kms doctor` in situations that a new user encounters: only the failed part is reported, with the next step.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;

use kms_tests::rest::Rest;
use kms_tests::small_disk::SmallDisk;
use kms_tests::{Policy, Stack, program};

/// The doctor's report, whose `ok` agrees with the exit code.
fn doctor_report(stack: &Stack) -> Value {
    let module = stack.module();
    let ran = stack.kms(&["doctor", "--json", "--module", module.to_str().expect("a path")]);
    let report: Value = serde_json::from_slice(&ran.output).unwrap_or_else(|error| panic!("{error}: {ran}"));
    assert_eq!(ran.status.code(), Some(if report["ok"] == true { 0 } else { 1 }), "{ran}");
    report
}

/// Asserts that exactly these checks failed, and that the first one has this text and this next step.
#[track_caller]
fn fails(stack: &Stack, parts: &[&str], what: &str, next: &str) {
    let report = doctor_report(stack);
    let failed: Vec<&Value> = (report["checks"].as_array().expect("a list").iter())
        .filter(|check| check["state"] == "failed")
        .collect();
    let names: Vec<&str> = failed.iter().filter_map(|check| check["name"].as_str()).collect();
    assert_eq!(names, parts, "{report:#}");
    let text = |field: &str| failed[0][field].as_str().unwrap_or_default().to_owned();
    assert!(text("detail").contains(what), "{what:?} is not in {:?}", text("detail"));
    assert!(text("next").contains(next), "{next:?} is not in {:?}", text("next"));
}

#[test]
fn a_working_home_passes_every_check() {
    let stack = Stack::strict();
    let address = Rest::of(&stack).base().trim_start_matches("http://").to_owned();
    stack.configure("rest", "listen", &format!("{address:?}"));
    let report = doctor_report(&stack);
    assert_eq!(report["ok"], true, "{report:#}");
    let names: Vec<&str> = report["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|check| check["name"].as_str())
        .collect();
    for part in [
        "configuration",
        "hsm",
        "database",
        "rows",
        "audit log",
        "clock",
        "disk",
        "socket",
        "rest",
        "token",
        "login",
    ] {
        assert!(names.contains(&part), "{part} is not among {names:?}");
    }
}

#[test]
fn no_daemon_a_missing_token_and_a_wrong_pin() {
    let stack = Stack::stopped(Policy::Strict);
    fails(&stack, &["socket"], "no daemon listens", "kms serve --home");
    let (tokens, aside) = (stack.home().join("tokens"), stack.folder().join("aside"));
    fs::rename(&tokens, &aside).expect("the tokens can be moved");
    fails(&stack, &["hsm", "socket"], "cannot be loaded", "its own configuration");
    fs::create_dir(&tokens).expect("a folder can be made");
    fails(&stack, &["hsm", "socket"], "has no token", "restore the token's folder");
    fs::remove_dir(&tokens).expect("it is empty");
    fs::rename(&aside, &tokens).expect("the tokens can be moved back");
    let pin = stack.home().join("hsm.pin");
    fs::write(&pin, "0000wrong\n").expect("the PIN can be written");
    fails(&stack, &["hsm", "socket"], "refused the PIN", "correct PIN");
    fs::remove_file(&pin).expect("the PIN can be removed");
    fails(&stack, &["hsm", "socket"], "hsm.pin", "pin_file");
}

#[test]
fn a_typo_and_a_database_of_a_newer_version() {
    let stack = Stack::stopped(Policy::Strict);
    let path = stack.home().join("kms.toml");
    let right = fs::read_to_string(&path).expect("kms.toml can be read");
    fs::write(&path, right.replace("[keys]", "[keyz]")).expect("kms.toml can be written");
    fails(&stack, &["configuration", "token"], "unknown field `keyz`", "correct the file");
    fs::write(&path, right).expect("kms.toml can be written");
    let database = Connection::open(stack.home().join("kms.db")).expect("the database opens");
    database.pragma_update(None, "user_version", 99).expect("a number is written");
    drop(database);
    fails(&stack, &["database", "socket"], "newer version of kms", "install the version");
}

#[test]
fn a_clock_that_was_set_back() {
    let stack = Stack::strict();
    // After the clock was corrected, the last entry is in the future.
    let database = Connection::open(stack.home().join("kms.db")).expect("the database opens");
    let sql = "UPDATE audit SET at = at + 86400000 WHERE sequence = (SELECT max(sequence) FROM audit)";
    assert_eq!(database.execute(sql, []).expect("the statement runs"), 1);
    fails(&stack, &["clock"], "the audit log's last entry is of", "set the clock");
}

#[test]
fn an_address_in_use_and_an_address_without_a_listener() {
    let mut stack = Stack::strict();
    let other = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = other.local_addr().expect("it has an address").to_string();
    stack.configure("rest", "listen", &format!("{address:?}"));
    stack.kill9();
    let report = doctor_report(&stack);
    let check = report["checks"].as_array().expect("a list").iter().find(|check| check["name"] == "rest");
    let check = check.map(Value::to_string).unwrap_or_default();
    assert!(check.contains("another program listens") && check.contains("[rest] listen"), "{report:#}");
    // The daemon may listen at the address of --rest-listen, which the doctor cannot see, or its configuration has
    // changed since.
    drop(other);
    stack.start();
    stack.configure("rest", "listen", "\"127.0.0.1:1\"");
    let report = doctor_report(&stack);
    assert_eq!(report["ok"], true, "{report:#}");
    let check = report["checks"].as_array().expect("a list").iter().find(|check| check["name"] == "rest");
    let check = check.map(Value::to_string).unwrap_or_default();
    assert!(
        check.contains("nothing listens on 127.0.0.1:1") && check.contains("restart the daemon"),
        "{check}"
    );
}

#[test]
fn a_certificate_that_has_expired() {
    let mut stack = Stack::stopped(Policy::Strict);
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let key = rcgen::KeyPair::generate().expect("a key pair");
    let write = |name: &str, text: String| {
        let path = stack.home().join(name);
        fs::write(&path, text).expect("a file can be written");
        program::run(Command::new("chmod").arg("600").arg(path)).ok();
    };
    write("tls.key", key.serialize_pem());
    parameters.not_after = rcgen::date_time_ymd(2024, 2, 29);
    write("tls.pem", parameters.self_signed(&key).expect("a certificate").pem());
    stack.configure("rest", "tls_cert", "\"tls.pem\"");
    stack.configure("rest", "tls_key", "\"tls.key\"");
    stack.start();
    fails(&stack, &["certificate"], "has expired: it was valid until 2024-02-29", "SIGHUP");
    parameters.not_after = rcgen::date_time_ymd(2060, 1, 1);
    let path = stack.home().join("tls.pem");
    fs::write(path, parameters.self_signed(&key).expect("a certificate").pem()).expect("written");
    let report = doctor_report(&stack);
    assert!(report["ok"] == true && report.to_string().contains("is valid until 2060-01-01"), "{report:#}");
}

#[test]
fn a_nearly_full_disk() {
    let mut stack = Stack::stopped(Policy::Strict);
    let Some(_disk) = SmallDisk::mount_over_home(&stack, "8m") else { return };
    stack.start();
    let result = std::panic::catch_unwind(|| fails(&stack, &["disk"], "MiB are free", "free some space"));
    // Before the disk is unmounted.
    stack.stop();
    if let Err(panicked) = result {
        std::panic::resume_unwind(panicked);
    }
}

#[test]
fn files_with_credentials_in_the_home_are_a_warning_and_not_a_failure() {
    let stack = Stack::strict();
    let check = |name: &str| {
        let report = doctor_report(&stack);
        assert_eq!(report["ok"], true, "{report:#}");
        let check = report["checks"].as_array().expect("a list").iter().find(|check| check["name"] == name);
        check.cloned().expect("the check is made")
    };
    let left = check("credentials");
    let text = |field: &str| left[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(left["state"], "warning");
    assert!(text("detail").contains("admin.token") && text("detail").contains("PINs in plaintext"), "{left}");
    assert!(text("next").contains("kms token revoke") && text("next").contains("--pin-file"), "{left}");
    assert_eq!(check("pins")["state"], "ok");
    // The advice works.
    for name in ["admin.token", "credentials"] {
        fs::rename(stack.home().join(name), stack.folder().join(name)).expect("it can be moved");
    }
    assert_eq!(check("credentials")["state"], "ok");
}
