//! `kill -9` while four callers create, rotate, import and destroy: after each restart the effect of every acknowledged
//! call is present, and no call has taken effect partially.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use kms_tests::rest::{Field, Response, Rest, base64, der, key};
use kms_tests::{Policy, Stack, openssl};

/// The number of acknowledged calls in all.
const CALLS: usize = 500;

/// How often the daemon is killed meanwhile.
const KILLS: usize = 12;

/// The number of callers.
const CALLERS: usize = 4;

/// The expected state of a key, according to acknowledged calls.
#[derive(Clone, Debug, Default)]
struct ExpectedKey {
    /// The minimum number of versions, and the number of unacknowledged calls that may have added one.
    versions: u64,
    unacknowledged: u64,
    /// Versions whose destruction was acknowledged.
    destroyed: Vec<u64>,
    /// Versions whose destruction was requested but not acknowledged.
    perhaps_destroyed: Vec<u64>,
}

/// The expected state of the ring.
#[derive(Debug, Default)]
struct ExpectedState {
    keys: BTreeMap<String, ExpectedKey>,
    /// Creations that were not acknowledged.
    unacknowledged: usize,
}

#[test]
fn acknowledged_calls_survive_kill_9() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "calls_per_hour", "1000000");
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("crash");
    let wrapped = wrapped_key(&rest, &ring);
    let (expected, acknowledged) = (Mutex::new(ExpectedState::default()), AtomicUsize::new(0));
    for round in 1..=KILLS {
        let rest = Rest::of(&stack);
        let enough = CALLS * round / KILLS;
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (rest, ring, wrapped, expected, acknowledged) =
                    (&rest, &ring, &wrapped, &expected, &acknowledged);
                scope.spawn(move || {
                    let mut caller =
                        Caller { rest, ring, wrapped, expected, seed: (round * CALLERS + caller) as u64 };
                    while caller.step(acknowledged) {}
                });
            }
            while acknowledged.load(Ordering::Relaxed) < enough {
                std::thread::sleep(Duration::from_millis(1));
            }
            stack.kill9();
        });
        stack.start();
        check(&Rest::of(&stack), &ring, &expected.lock().expect("no caller panicked"));
        stack.kms(&["audit", "verify"]).ok();
    }
    let expected = expected.into_inner().expect("no caller panicked");
    let unacknowledged =
        expected.keys.values().map(|key| key.unacknowledged).sum::<u64>() + expected.unacknowledged as u64;
    assert!(
        expected.keys.len() > 50 && unacknowledged > 0,
        "kills interrupt calls: {unacknowledged} of {}",
        expected.keys.len()
    );
}

/// A caller, which runs until the daemon is killed.
struct Caller<'a> {
    rest: &'a Rest,
    ring: &'a str,
    wrapped: &'a Value,
    expected: &'a Mutex<ExpectedState>,
    seed: u64,
}

impl Caller<'_> {
    /// Makes one random call; returns whether it was acknowledged.
    fn step(&mut self, count: &AtomicUsize) -> bool {
        // A linear congruential generator is random enough to choose among four calls.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = self.seed >> 33;
        let key = self.pick(random);
        let acknowledged = match (random % 8, key) {
            (0..=2, _) | (_, None) => self.create(),
            (3 | 4, Some((path, _))) => self.add_version(&path, "rotate", None),
            (5 | 6, Some((path, _))) => self.add_version(&path, "import", Some(self.wrapped.to_string())),
            (_, Some((path, key))) => self.destroy(&path, 1 + random % key.versions),
        };
        count.fetch_add(usize::from(acknowledged), Ordering::Relaxed);
        acknowledged
    }

    fn pick(&self, random: u64) -> Option<(String, ExpectedKey)> {
        let expected = self.expected.lock().expect("no caller panicked");
        let index = usize::try_from(random).expect("31 bits") % expected.keys.len().max(1);
        expected.keys.iter().nth(index).map(|(path, key)| (path.clone(), key.clone()))
    }

    fn post(&self, path: &str, body: Option<&str>) -> Option<Response> {
        self.rest.try_call("POST", &self.rest.path(path), body.map(str::as_bytes), &[]).ok()
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut ExpectedKey)) {
        change(self.expected.lock().expect("no caller panicked").keys.entry(path.to_owned()).or_default());
    }

    fn create(&self) -> bool {
        let body = key("key", "aes_256_gcm").to_string();
        match self.post(&format!("keyrings/{}/keys", self.ring), Some(&body)) {
            Some(response) => {
                let path = format!("keyrings/{}/keys/{}", self.ring, response.json(202).text("id"));
                // No other caller knows the key yet, so it has one version.
                self.change(&path, |key| key.versions = 1);
                true
            }
            None => {
                self.expected.lock().expect("no caller panicked").unacknowledged += 1;
                false
            }
        }
    }

    /// A call that adds a version.
    fn add_version(&self, path: &str, action: &str, body: Option<String>) -> bool {
        let response = self.post(&format!("{path}/{action}"), body.as_deref());
        if let Some(response) = &response {
            response.json(202);
        }
        self.change(path, |key| match response {
            Some(_) => key.versions += 1,
            None => key.unacknowledged += 1,
        });
        response.is_some()
    }

    fn destroy(&self, path: &str, number: u64) -> bool {
        match self.post(&format!("{path}/versions/{number}/destroy"), None) {
            Some(response) if response.status == 409 => true,
            Some(response) => {
                response.empty(204);
                self.change(path, |key| key.destroyed.push(number));
                true
            }
            None => {
                self.change(path, |key| key.perhaps_destroyed.push(number));
                false
            }
        }
    }
}

/// Asserts that the effects of all acknowledged calls and of no other requests are present, and that each version works
/// or is destroyed.
fn check(rest: &Rest, ring: &str, expected: &ExpectedState) {
    let listed = rest.read(&format!("keyrings/{ring}/keys")).json(200);
    let listed = listed["keys"].as_array().expect("a list").len();
    let least = expected.keys.len();
    assert!(
        (least..=least + expected.unacknowledged).contains(&listed),
        "{listed} keys, {least} acknowledged"
    );
    for (path, key) in &expected.keys {
        let versions = rest.read(&format!("{path}/versions")).json(200);
        let versions = versions["versions"].as_array().expect("a list");
        let count = versions.len() as u64;
        assert!(
            (key.versions..=key.versions + key.unacknowledged).contains(&count),
            "{path}: {count}, {key:?}"
        );
        for (index, version) in versions.iter().enumerate() {
            let number = index as u64 + 1;
            assert_eq!(version["number"], number, "{path}: numbers have no gaps");
            let encrypted =
                rest.post(&format!("{path}/versions/{number}/encrypt"), json!({ "data": base64("x") }));
            let destroyed = version.text("state") == "destroyed";
            assert_eq!(encrypted.status, if destroyed { 409 } else { 200 }, "{path} {version}: {encrypted}");
            let may_be_destroyed = key.destroyed.contains(&number) || key.perhaps_destroyed.contains(&number);
            assert!(
                !destroyed || may_be_destroyed,
                "{path}: version {number} is destroyed without a request"
            );
            assert!(destroyed || !key.destroyed.contains(&number), "{path}: version {number} was destroyed");
        }
    }
}

/// The body of an import that can be sent repeatedly.
fn wrapped_key(rest: &Rest, ring: &str) -> Value {
    let body = json!({
        "displayName": "wrapping-key",
        "protection": "software",
        "algorithm": "rsa_2048_oaep_sha256",
        "purpose": "wrap_symmetric_key",
    });
    let wrapping = rest.post(&format!("keyrings/{ring}/wrappingkeys"), body).json(202);
    let public = openssl::PublicKey::new(&der(&wrapping.text("publicKey")));
    let options = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"];
    let wrapped = public.encrypt(&options, &[5; 32]);
    json!({ "wrappingKeyId": wrapping.text("id"), "wrappedKey": base64(wrapped) })
}
