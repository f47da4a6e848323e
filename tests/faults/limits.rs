//! What a tenant may take of the database, the audit log and the disk: others are not affected, and what a tenant has goes
//! on working.

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, UserType};
use kms_protocol::{Attribute as ProtocolAttribute, AttributeType as Kind, Request, Response, Rv, Template};
use kms_tests::client::{Client, pin};
use kms_tests::peer::{Peer, open_to_all_users};
use kms_tests::program::runs_as_root;
use kms_tests::rest::{Rest, key};
use kms_tests::small_disk::SmallDisk;
use kms_tests::{Policy, Stack, USER_PIN};

use crate::restart::template;

fn generate(session: &Session, label: &str) -> Result<ObjectHandle, Error> {
    session.generate_key(&Mechanism::AesKeyGen, &template(label, true))
}

fn five_keys(session: &Session) -> Vec<ObjectHandle> {
    (0..5).map(|number| generate(session, &number.to_string()).expect("there is space")).collect()
}

#[track_caller]
fn assert_code(result: Result<ObjectHandle, Error>, expected: RvError) {
    match result {
        Err(Error::Pkcs11(code, _)) => assert_eq!(code, expected),
        Err(error) => panic!("{expected:?} expected: {error:?}"),
        Ok(_) => panic!("{expected:?} expected"),
    }
}

#[test]
fn a_ring_with_all_the_keys_it_may_have_works_and_makes_no_more() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rings", "keys_max", "5");
    stack.start();
    let client = Client::user(&stack);
    let keys = five_keys(&client.session);
    for _ in 0..10 {
        assert_code(generate(&client.session, "more"), RvError::DeviceMemory);
    }
    let sealed =
        client.session.encrypt(&Mechanism::AesCbcPad([0; 16]), keys[0], b"data").expect("it encrypts");
    assert_eq!(
        client.session.decrypt(&Mechanism::AesCbcPad([0; 16]), keys[0], &sealed).expect("it decrypts"),
        b"data"
    );
    // Session keys take no space.
    client.session.generate_key(&Mechanism::AesKeyGen, &template("session", false)).expect("a session key");
    // The same ring over REST, and another ring.
    let rest = Rest::of(&stack);
    let rings = rest.read("keyrings").json(200);
    let ring = rings["keyRings"][0]["id"].as_str().expect("an id").to_owned();
    let refused = rest.post(&format!("keyrings/{ring}/keys"), key("more", "aes_256_gcm")).refused(409);
    assert!(refused.contains("5 keys in this key ring"), "{refused}");
    let other = rest.create_ring("other");
    rest.create_key(&other, "k", "aes_256_gcm");
    let log = kms_tests::daemon::read_log(&stack.log());
    assert!(!log.contains("ERROR"), "a limit is no failure of the daemon: {log}");
}

#[test]
fn changes_are_counted_and_destruction_is_always_possible() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rings", "changes_per_hour", "5");
    stack.start();
    let client = Client::user(&stack);
    let keys = five_keys(&client.session);
    assert_code(generate(&client.session, "more"), RvError::FunctionRejected);
    // A session key is no change; a destruction is not counted.
    client.session.generate_key(&Mechanism::AesKeyGen, &template("session", false)).expect("a session key");
    for key in keys {
        client.session.destroy_object(key).expect("it is destroyed");
    }
    client.session.set_pin(&pin(USER_PIN), &pin("another")).expect("the PIN is changed");
    // Another principal of the ring is not affected.
    let secret = stack.folder().join("secret");
    std::fs::write(&secret, "alices secret").expect("a file can be written");
    let file = secret.to_str().expect("a path");
    stack
        .kms(&["account", "add", "alice", "--ring", stack.ring(), "--role", "admin", "--secret-file", file])
        .ok();
    client.session.logout().expect("the user logs out");
    client.session.login(UserType::User, Some(&pin("alice:alices secret"))).expect("alice logs in");
    generate(&client.session, "hers").expect("she has changes of her own");
}

#[test]
fn logins_are_recorded_one_by_one_and_then_counted() {
    let mut stack = Stack::strict();
    let client = Client::public(&stack);
    for _ in 0..200 {
        client.session.login(UserType::User, Some(&pin(USER_PIN))).expect("the user logs in");
        client.session.logout().expect("the user logs out");
    }
    // The daemon writes what it has counted when it stops.
    stack.stop();
    let listed = stack.kms(&["audit", "list", "--json", "--limit", "1000"]);
    let text = String::from_utf8_lossy(&listed.output).into_owned();
    let entries: Vec<serde_json::Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let entries = match entries.as_slice() {
        [serde_json::Value::Array(all)] => all.clone(),
        _ => entries,
    };
    let of_logins: Vec<_> =
        entries.iter().filter(|entry| entry.to_string().contains("kms.principal.login")).collect();
    let counts: Vec<u64> = of_logins.iter().map(|entry| count_in(entry).unwrap_or(1)).collect();
    assert_eq!(counts.iter().sum::<u64>(), 200, "{text}");
    assert!(of_logins.len() < 100, "{} entries: {text}", of_logins.len());
}

/// The value of a field `count`, wherever it is in an entry.
fn count_in(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Object(fields) => fields
            .get("count")
            .and_then(serde_json::Value::as_u64)
            .or_else(|| fields.values().find_map(count_in)),
        serde_json::Value::Array(values) => values.iter().find_map(count_in),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => None,
    }
}

#[test]
fn below_the_floor_of_the_disk_nothing_is_created_and_all_else_is_done() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("store", "disk_floor_mib", "8");
    let Some(disk) = SmallDisk::mount_over_home(&stack, "24m") else { return };
    stack.start();
    let client = Client::user(&stack);
    let session = &client.session;
    let (kept, doomed) =
        (generate(session, "kept").expect("it fits"), generate(session, "doomed").expect("it fits"));
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("rest");
    let over_rest = rest.create_key(&ring, "k", "aes_256_gcm");
    stack.kms(&["account", "add", "ci@x.sa.kms.local", "--role", "kms.user"]).ok();
    let token = stack.folder().join("ci.token");
    stack.kms(&["token", "create", "ci@x.sa.kms.local", "--out", token.to_str().expect("a path")]).ok();

    let ballast = disk.path.join("ballast");
    std::fs::write(&ballast, vec![1; 16 << 20]).expect("the disk has that much space");
    assert_code(generate(session, "more"), RvError::DeviceMemory);
    let refused = rest.post(&format!("keyrings/{ring}/keys"), key("more", "aes_256_gcm")).refused(503);
    assert!(refused.contains("disk"), "{refused}");
    rest.post(&format!("{over_rest}/rotate"), serde_json::json!({})).refused(503);
    let report = stack.kms(&["doctor", "--module", stack.module().to_str().expect("a path")]);
    assert!(!report.status.success(), "{report}");
    assert!(report.to_string().contains("disk_floor_mib"), "{report}");
    let metrics = String::from_utf8(rest.call("GET", "/metrics", None, &[]).body).expect("text");
    assert!(metrics.contains("kms_disk_floor_bytes 8388608"), "{metrics}");

    // Uses, changes of PINs, revocations and destructions are recorded and done.
    session.encrypt(&Mechanism::AesCbcPad([0; 16]), kept, b"data").expect("it encrypts");
    session.set_pin(&pin(USER_PIN), &pin("another")).expect("the PIN is changed");
    session.destroy_object(doomed).expect("it is destroyed");
    stack.kms(&["account", "disable", "ci@x.sa.kms.local"]).ok();
    rest.delete(&over_rest);
    session.logout().expect("the user logs out");
    session.login(UserType::User, Some(&pin("another"))).expect("the new PIN holds");

    std::fs::remove_file(&ballast).expect("the ballast can be removed");
    generate(session, "more").expect("there is space again");
    drop(client);
    stack.stop();
}

#[test]
fn unfinished_frames_of_one_user_leave_memory_for_others() {
    if !runs_as_root("takes the ids of other users") {
        return;
    }
    let mut stack = Stack::stopped(Policy::Strict);
    open_to_all_users(&stack);
    stack.start();
    let mut hostile: Vec<_> =
        (0..60).map(|_| Peer::connect(&stack.socket(), 40_001).expect("it gets in")).collect();
    for peer in &mut hostile {
        // The longest frame is announced, and most of it does not come.
        peer.send_raw(&(1_u32 << 20).to_le_bytes()).expect("the header is sent");
        peer.send_raw(&[0; 64 << 10]).expect("a part is sent");
    }
    // A large frame of another user is read as a whole while all of those wait.
    let mut other = Peer::connect(&stack.socket(), 40_002).expect("another user gets in");
    let label = ProtocolAttribute::bytes(Kind::LABEL, vec![b'x'; 60_000]);
    for _ in 0..20 {
        let template = Template(vec![label.clone()]);
        let found = other.call(0, Request::Find { template, after: None }).expect("it is answered");
        assert!(
            matches!(found, Ok(Response::Found { ref objects, next: None }) if objects.is_empty()),
            "{found:?}"
        );
    }
    // The hostile user's frames time out, and its connections are closed.
    for peer in &mut hostile {
        assert!(peer.response().is_err());
    }
}

#[test]
fn guesses_under_many_users_do_not_stop_the_login_of_another() {
    if !runs_as_root("takes the ids of other users") {
        return;
    }
    let mut stack = Stack::stopped(Policy::Strict);
    open_to_all_users(&stack);
    stack.start();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (socket, stop) = (stack.socket(), &stop);
            scope.spawn(move || {
                // A new connection each time, and five users in turn: delays are by user, and beyond 64 users shared.
                for round in 0_u32.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    let user = 41_000 + number * 5 + round % 5;
                    let Some(mut peer) = Peer::connect(&socket, user) else { continue };
                    let result = peer.log_in(0, "9999");
                    assert!(
                        matches!(result, Ok(Err(Rv::PIN_INCORRECT | Rv::FUNCTION_REJECTED))),
                        "{result:?}"
                    );
                }
            });
        }
        let stopper = kms_tests::SetOnDrop(&stop);
        for _ in 0..10 {
            // Another user each time, so that no proof is remembered.
            let user = 40_500 + u32::from(next_number());
            let mut peer = Peer::connect(&stack.socket(), user).expect("it gets in");
            peer.log_in(0, USER_PIN).expect("it is answered").expect("it logs in");
        }
        drop(stopper);
    });
}

/// A number that differs from call to call.
fn next_number() -> u8 {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
