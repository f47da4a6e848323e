//! What is found in the daemon's memory: the HSM's PIN is not, keys and plaintexts are while they are used. The scan needs
//! root, to which a process that is not dumpable shows its memory.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use cryptoki_sys::{
    CKA_CLASS, CKA_ENCRYPT, CKA_EXTRACTABLE, CKA_KEY_TYPE, CKA_SENSITIVE, CKA_TOKEN, CKA_VALUE, CKK_AES,
    CKM_AES_CBC_PAD, CKO_SECRET_KEY,
};
use kms_tests::program::runs_as_root;
use kms_tests::raw::{Mechanism, Module, OutputSize, Template};
use kms_tests::rest::{Field, Rest, base64};
use kms_tests::{Policy, Stack};
use serde_json::json;

/// The parts of memory that hold a text, with the mapping of each. None where this user may not read the memory.
fn found(pid: u32, text: &[u8]) -> Option<Vec<String>> {
    let mut memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mappings = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process lives");
    let mut places = Vec::new();
    for mapping in
        mappings.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let (start, end) =
            mapping.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        let (start, end) = (number(start), number(end));
        let mut bytes = vec![0; usize::try_from(end - start).expect("a size")];
        memory.seek(SeekFrom::Start(start)).expect("an address");
        // A mapping that ended meanwhile, or pages that cannot be read, hold nothing.
        if memory.read_exact(&mut bytes).is_err() {
            continue;
        }
        let mut rest = &bytes[..];
        while let Some(at) = rest.windows(text.len()).position(|window| window == text) {
            places.push(format!("{:x} in {mapping}", end - rest.len() as u64 + at as u64));
            rest = &rest[at + 1..];
        }
    }
    Some(places)
}

/// The number of places that hold a text. A scan that finds nothing at all would prove nothing, so each also looks for the
/// path of the home, which the daemon does have in memory.
fn count(stack: &mut Stack, text: &[u8]) -> usize {
    let pid = stack.daemon().pid();
    let home = stack.home();
    let Some(known) = found(pid, home.as_os_str().as_encoded_bytes()) else {
        assert!(!runs_as_root("reads the daemon's memory"), "root cannot read it");
        return 0;
    };
    assert!(!known.is_empty(), "the scan does not find what is there");
    let places = found(pid, text).expect("it was readable");
    places.len()
}

/// Waits until the daemon has wiped what it may hold for a second.
fn wiped(stack: &mut Stack, text: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "a limit of the test")]
    let start = Instant::now();
    while count(stack, text) > 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "it is still in memory");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A KMS whose opened keys live for a second, and whose background jobs run each second.
fn forgetful() -> Stack {
    let mut stack = Stack::stopped(Policy::Compat);
    stack.configure("keys", "cache_seconds", "1");
    stack.configure("lifecycle", "deletion_seconds", "1");
    stack.start();
    stack
}

fn secret(token: bool, value: &[u8]) -> Template {
    Template::new()
        .ulong(CKA_CLASS, CKO_SECRET_KEY)
        .ulong(CKA_KEY_TYPE, CKK_AES)
        .bool(CKA_TOKEN, token)
        .bytes(CKA_VALUE, value)
        .bool(CKA_SENSITIVE, true)
        .bool(CKA_EXTRACTABLE, false)
        .bool(CKA_ENCRYPT, true)
}

#[test]
fn the_hsms_pin_is_not_in_memory_after_the_login() {
    let mut stack = Stack::strict();
    let pin = fs::read_to_string(stack.home().join("hsm.pin")).expect("the PIN of the HSM");
    assert!(pin.trim().len() >= 8, "a PIN that is not in memory by chance");
    assert_eq!(count(&mut stack, pin.trim().as_bytes()), 0);
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("ring");
    rest.create_key(&ring, "key", "aes_256_gcm");
    assert_eq!(count(&mut stack, pin.trim().as_bytes()), 0);
}

#[test]
fn a_sessions_key_is_in_memory_while_a_call_runs() {
    let mut stack = forgetful();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let value: Vec<u8> = (0..32_u8).map(|at| at.wrapping_mul(37) ^ 0xa5).collect();
    let key = session.create(secret(false, &value)).expect("it is created");
    wiped(&mut stack, &value);
    for _ in 0..20 {
        session
            .encrypt_init(Mechanism::with(CKM_AES_CBC_PAD, &[7; 16]), key)
            .expect("C_EncryptInit succeeds");
        session.encrypt_into(b"data", OutputSize::Bytes(64)).expect("it encrypts");
    }
    wiped(&mut stack, &value);
}

#[test]
fn an_opened_key_has_one_schedule_and_is_wiped_at_the_end_of_its_lifetime() {
    let mut stack = Stack::stopped(Policy::Compat);
    stack.configure("keys", "cache_seconds", "20");
    stack.configure("lifecycle", "deletion_seconds", "1");
    stack.start();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let value: Vec<u8> = (0..32_u8).map(|at| at.wrapping_mul(91) ^ 0x3c).collect();
    let key = session.create(secret(true, &value)).expect("it is created");
    for _ in 0..20 {
        session
            .encrypt_init(Mechanism::with(CKM_AES_CBC_PAD, &[7; 16]), key)
            .expect("C_EncryptInit succeeds");
        session.encrypt_into(b"data", OutputSize::Bytes(64)).expect("it encrypts");
    }
    // The value, for derivations, and the schedule, which begins with it. A call may still be about to wipe its stack.
    std::thread::sleep(Duration::from_millis(200));
    let places = count(&mut stack, &value);
    assert!(places <= 2, "{places} copies of one opened key");
    wiped(&mut stack, &value);
}

#[test]
fn plaintexts_over_rest_are_wiped() {
    let mut stack = forgetful();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("ring");
    let key = rest.create_key(&ring, "key", "aes_256_gcm");
    let plaintext = "a plaintext that nobody should find here afterwards";
    for _ in 0..5 {
        let data = json!({ "data": base64(plaintext.as_bytes()) });
        let encrypted = rest.post(&format!("{key}/versions/1/encrypt"), data).json(200).text("data");
        let data = json!({ "data": encrypted });
        let decrypted = rest.post(&format!("{key}/versions/1/decrypt"), data).json(200).text("data");
        assert_eq!(decrypted, base64(plaintext.as_bytes()));
    }
    wiped(&mut stack, plaintext.as_bytes());
    // The buffers of an open connection hold what was last read and written; they are wiped with it.
    drop(rest);
    wiped(&mut stack, &base64(plaintext.as_bytes()).as_bytes()[..40]);
}
