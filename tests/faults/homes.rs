//! Homes with faults: each has its own error message and exit code 1, and no data is lost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kms_tests::program::{self, Ran};
use kms_tests::{Policy, Stack, init};

/// Every file under a folder with its contents.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("the folder can be read"))
    {
        if entry.file_type().is_file() {
            found.insert(entry.path().to_owned(), fs::read(entry.path()).expect("a file can be read"));
        }
    }
    found
}

/// The error message of `kms serve`, which must fail.
#[track_caller]
fn serve_refused(stack: &Stack) -> String {
    one_message(stack.kms(&["serve"]))
}

/// The error message of a command that fails with exit code 1, in a few lines and without a panic.
#[track_caller]
fn one_message(ran: Ran) -> String {
    assert_eq!(ran.status.code(), Some(1), "{ran}");
    let text = ran.refused();
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
    assert!(text.lines().count() <= 12, "more than a message:\n{text}");
    text
}

#[test]
fn a_home_that_exists_is_left_alone() {
    let stack = Stack::stopped(Policy::Strict);
    let before = contents(&stack.home());
    let text = one_message(program::run(&mut init(&stack.home(), "other", Policy::Compat)));
    assert!(text.contains(&stack.home().display().to_string()), "{text}");
    assert_eq!(contents(&stack.home()), before);
    // A folder with other files is not a home either, and is not changed.
    let folder = stack.folder().join("photos");
    fs::create_dir(&folder).expect("a folder can be made");
    fs::write(folder.join("cat.jpg"), b"meow").expect("a file can be written");
    one_message(program::run(&mut init(&folder, "test", Policy::Strict)));
    assert_eq!(contents(&folder).len(), 1);
}

#[test]
fn an_init_that_fails_leaves_nothing_behind() {
    let stack = Stack::stopped(Policy::Strict);
    let home = stack.folder().join("second");
    let text = one_message(program::run(init(&home, "not a name!", Policy::Strict).env("UNUSED", "1")));
    assert!(text.contains("not a name!"), "{text}");
    assert!(!home.exists(), "an incomplete home");
    program::run(&mut init(&home, "name", Policy::Strict)).ok();
}

#[test]
fn secrets_are_readable_by_the_owner_alone() {
    let stack = Stack::strict();
    let mode = |name: &str| {
        let metadata = fs::metadata(stack.home().join(name)).expect("the file is there");
        metadata.permissions().mode() & 0o777
    };
    for secret in ["credentials", "hsm.pin"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    assert_eq!(mode("kms.toml") & 0o077, 0, "kms.toml");
    assert_eq!(mode("kms.db") & 0o077, 0, "kms.db");
    assert_eq!(fs::metadata(stack.home()).expect("the home is there").permissions().mode() & 0o022, 0);
    assert_eq!(mode("kms.sock") & 0o007, 0, "kms.sock is for owner and group");
    let provider = fs::read_to_string(stack.config()).expect("pkcs11.toml can be read");
    assert!(!provider.contains("1234"), "no PIN in what applications read");
}

#[test]
fn a_broken_configuration_names_file_line_and_key() {
    let stack = Stack::stopped(Policy::Strict);
    let path = stack.home().join("kms.toml");
    let right = fs::read_to_string(&path).expect("kms.toml can be read");
    let line = right.lines().count() + 1;
    let broken = [
        ("colour = \"green\"\n", "colour"),
        ("[socket]\nconnections_max = \"many\"\n", "connections_max"),
        ("[keys]\ncache_seconds = -5\n", "cache_seconds"),
    ];
    for (text, key) in broken {
        // Tables may stand once only: replace those that are there.
        let header = text.lines().next().expect("a line");
        let table = header.starts_with('[') && right.contains(header);
        let whole = if table { right.replace(header, text.trim_end()) } else { format!("{right}\n{text}") };
        fs::write(&path, &whole).expect("kms.toml can be written");
        let message = serve_refused(&stack);
        assert!(message.contains("kms.toml"), "the file: {message}");
        assert!(message.contains(key), "the key: {message}");
        let at = whole.lines().position(|line| line.contains(key)).expect("it stands somewhere") + 1;
        assert!(
            message.contains(&format!("line {at}")) || message.contains(&format!(":{at}:")),
            "line {at}: {message}"
        );
    }
    fs::write(&path, format!("{right}\nnonsense here\n")).expect("kms.toml can be written");
    let message = serve_refused(&stack);
    assert!(message.contains("kms.toml") && message.contains(&(line + 1).to_string()), "{message}");
    fs::remove_file(&path).expect("kms.toml can be removed");
    let message = serve_refused(&stack);
    assert!(message.contains("kms.toml"), "{message}");
}

#[test]
fn a_foreign_database_is_named_as_such() {
    let stack = Stack::stopped(Policy::Strict);
    let path = stack.home().join("kms.db");
    for leftover in ["kms.db", "kms.db-wal", "kms.db-shm"] {
        fs::remove_file(stack.home().join(leftover)).unwrap_or_default();
    }
    let message = serve_refused(&stack);
    assert!(message.contains("kms.db") && message.contains("not exist"), "missing: {message}");
    fs::write(&path, b"This is a letter to my grandmother, and no database at all. ".repeat(100))
        .expect("written");
    let letter = serve_refused(&stack);
    assert!(letter.contains("not a database"), "a letter: {letter}");
    fs::remove_file(&path).expect("the file can be removed");
    let other = rusqlite::Connection::open(&path).expect("a database can be made");
    other
        .execute_batch("CREATE TABLE recipes (name TEXT); INSERT INTO recipes VALUES ('soup');")
        .expect("filled");
    drop(other);
    let recipes = serve_refused(&stack);
    assert!(recipes.contains("another program"), "recipes: {recipes}");
    let rows: u32 = rusqlite::Connection::open(&path)
        .and_then(|database| database.query_row("SELECT count(*) FROM recipes", [], |row| row.get(0)))
        .expect("the recipes are still there");
    assert_eq!(rows, 1);
}

#[test]
fn a_damaged_database_is_named_as_such() {
    let stack = Stack::stopped(Policy::Strict);
    let path = stack.home().join("kms.db");
    let mut bytes = fs::read(&path).expect("the database can be read");
    // All pages but the first, which makes it a database of ours.
    let length = bytes.len();
    bytes[4096..].fill(0xa5);
    fs::write(&path, &bytes).expect("the database can be written");
    let message = serve_refused(&stack);
    assert!(message.contains("damaged"), "{length} bytes: {message}");
    assert_eq!(
        fs::read(&path).expect("the database can be read").len(),
        length,
        "it is left for the backup's owner"
    );
}

#[test]
fn another_homes_token_or_database_does_not_fit() {
    let (one, two) = (Stack::stopped(Policy::Strict), Stack::stopped(Policy::Strict));
    for leftover in ["kms.db-wal", "kms.db-shm"] {
        fs::remove_file(one.home().join(leftover)).unwrap_or_default();
    }
    fs::copy(two.home().join("kms.db"), one.home().join("kms.db")).expect("the database can be copied");
    let message = serve_refused(&one);
    assert!(message.contains("another home") || message.contains("do not belong together"), "{message}");
}

#[test]
fn a_missing_token_a_wrong_pin_and_a_missing_module() {
    let stack = Stack::stopped(Policy::Strict);
    let (tokens, aside) = (stack.home().join("tokens"), stack.folder().join("aside"));
    fs::rename(&tokens, &aside).expect("the tokens can be moved");
    let missing = serve_refused(&stack);
    fs::create_dir(&tokens).expect("a folder can be made");
    let empty = serve_refused(&stack);
    for message in [&missing, &empty] {
        assert!(message.contains("token"), "{message}");
    }
    fs::remove_dir(&tokens).expect("it is empty");
    fs::rename(&aside, &tokens).expect("the tokens can be moved back");
    let pin = stack.home().join("hsm.pin");
    let right = fs::read(&pin).expect("the PIN can be read");
    fs::write(&pin, "0000wrong\n").expect("the PIN can be written");
    let wrong = serve_refused(&stack);
    assert!(wrong.contains("PIN"), "{wrong}");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).expect("a mode can be set");
    let open = serve_refused(&stack);
    assert!(open.contains("hsm.pin") && open != wrong, "a PIN that all can read: {open}");
    fs::write(&pin, right).expect("the PIN can be written");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
    let config = stack.home().join("kms.toml");
    let text = fs::read_to_string(&config).expect("kms.toml can be read");
    fs::write(&config, text.replace("libsofthsm2.so", "libnothing.so")).expect("kms.toml can be written");
    let module = serve_refused(&stack);
    assert!(module.contains("libnothing.so"), "{module}");
    fs::write(&config, text).expect("kms.toml can be written");
    let mut stack = stack;
    stack.start();
}

#[test]
fn one_home_has_one_daemon() {
    let stack = Stack::strict();
    let message = serve_refused(&stack);
    assert!(message.contains("kms.sock") || message.contains("running"), "{message}");
    kms_tests::client::Client::user(&stack);
}

#[test]
fn a_stale_socket_is_no_obstacle_and_a_file_is() {
    let mut stack = Stack::strict();
    stack.kill9();
    assert!(stack.socket().exists(), "kill -9 leaves the socket");
    stack.start();
    stack.stop();
    fs::write(stack.socket(), b"precious").expect("a file can be written");
    serve_refused(&stack);
    assert_eq!(fs::read(stack.socket()).expect("it is still there"), b"precious");
}

#[test]
fn the_doctor_reports_passed_and_failed_checks() {
    let mut stack = Stack::strict();
    let module = stack.module();
    let arguments = ["doctor", "--json", "--module", module.to_str().expect("a path")];
    let passed = stack.kms(&arguments);
    let report: serde_json::Value = serde_json::from_slice(&passed.output).expect("the doctor writes JSON");
    assert_eq!(passed.status.code(), Some(0), "{report:#}");
    stack.kill9();
    let failed = stack.kms(&arguments);
    assert_eq!(failed.status.code(), Some(1), "{failed}");
    serde_json::from_slice::<serde_json::Value>(&failed.output).expect("the doctor writes JSON");
}
