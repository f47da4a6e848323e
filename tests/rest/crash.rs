//! `kill -9` while four callers create, rotate, import and destroy: after each restart every answered call is there, and
//! none is half there.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use kms_tests::rest::{Field, Response, Rest, base64, der, key};
use kms_tests::{Policy, Stack, openssl};

/// How many calls are answered in all.
const CALLS: usize = 500;

/// How often the daemon is killed meanwhile.
const KILLS: usize = 12;

/// How many callers there are.
const CALLERS: usize = 4;

/// What a caller knows of a key: by answered calls alone.
#[derive(Clone, Debug, Default)]
struct Known {
    /// How many versions there are at least, and how many calls got no answer that may have made one more.
    versions: u64,
    unanswered: u64,
    /// Versions whose destruction was answered.
    destroyed: Vec<u64>,
    /// Versions whose destruction got no answer.
    perhaps_destroyed: Vec<u64>,
}

/// All that was answered.
#[derive(Debug, Default)]
struct Book {
    keys: BTreeMap<String, Known>,
    /// Creations without an answer.
    unanswered: usize,
}

#[test]
fn what_was_answered_outlives_kill_9() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "calls_per_hour", "1000000");
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.make_ring("crash");
    let wrapped = wrapped_key(&rest, &ring);
    let (book, answered) = (Mutex::new(Book::default()), AtomicUsize::new(0));
    for round in 1..=KILLS {
        let rest = Rest::of(&stack);
        let enough = CALLS * round / KILLS;
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (rest, ring, wrapped, book, answered) = (&rest, &ring, &wrapped, &book, &answered);
                scope.spawn(move || {
                    let mut caller =
                        Caller { rest, ring, wrapped, book, seed: (round * CALLERS + caller) as u64 };
                    while caller.step(answered) {}
                });
            }
            while answered.load(Ordering::Relaxed) < enough {
                std::thread::sleep(Duration::from_millis(1));
            }
            stack.kill9();
        });
        stack.start();
        check(&Rest::of(&stack), &ring, &book.lock().expect("no caller panicked"));
        stack.kms(&["audit", "verify"]).ok();
    }
    let book = book.into_inner().expect("no caller panicked");
    let unanswered = book.keys.values().map(|known| known.unanswered).sum::<u64>() + book.unanswered as u64;
    assert!(book.keys.len() > 50 && unanswered > 0, "kills hit calls: {unanswered} of {}", book.keys.len());
}

/// One of the callers, until the daemon is killed.
struct Caller<'a> {
    rest: &'a Rest,
    ring: &'a str,
    wrapped: &'a Value,
    book: &'a Mutex<Book>,
    seed: u64,
}

impl Caller<'_> {
    /// One call; says whether it was answered.
    fn step(&mut self, answered: &AtomicUsize) -> bool {
        // A linear congruence is chance enough to choose among four calls.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = self.seed >> 33;
        let known = self.pick(dice);
        let went = match (dice % 8, known) {
            (0..=2, _) | (_, None) => self.create(),
            (3 | 4, Some((path, _))) => self.more(&path, "rotate", None),
            (5 | 6, Some((path, _))) => self.more(&path, "import", Some(self.wrapped.to_string())),
            (_, Some((path, known))) => self.destroy(&path, 1 + dice % known.versions),
        };
        answered.fetch_add(usize::from(went), Ordering::Relaxed);
        went
    }

    fn pick(&self, dice: u64) -> Option<(String, Known)> {
        let book = self.book.lock().expect("no caller panicked");
        let index = usize::try_from(dice).expect("31 bits") % book.keys.len().max(1);
        book.keys.iter().nth(index).map(|(path, known)| (path.clone(), known.clone()))
    }

    fn post(&self, path: &str, body: Option<&str>) -> Option<Response> {
        self.rest.try_call("POST", &self.rest.path(path), body.map(str::as_bytes), &[]).ok()
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Known)) {
        change(self.book.lock().expect("no caller panicked").keys.entry(path.to_owned()).or_default());
    }

    fn create(&self) -> bool {
        let ask = key("made", "aes_256_gcm").to_string();
        match self.post(&format!("keyrings/{}/keys", self.ring), Some(&ask)) {
            Some(answer) => {
                let path = format!("keyrings/{}/keys/{}", self.ring, answer.json(202).text("id"));
                // Another caller may have rotated it already, if it was listed; nobody lists here.
                self.change(&path, |known| known.versions = 1);
                true
            }
            None => {
                self.book.lock().expect("no caller panicked").unanswered += 1;
                false
            }
        }
    }

    /// A call that makes one more version.
    fn more(&self, path: &str, word: &str, body: Option<String>) -> bool {
        let answer = self.post(&format!("{path}/{word}"), body.as_deref());
        if let Some(answer) = &answer {
            answer.json(202);
        }
        self.change(path, |known| match answer {
            Some(_) => known.versions += 1,
            None => known.unanswered += 1,
        });
        answer.is_some()
    }

    fn destroy(&self, path: &str, number: u64) -> bool {
        match self.post(&format!("{path}/versions/{number}/destroy"), None) {
            Some(answer) if answer.status == 409 => true,
            Some(answer) => {
                answer.empty(204);
                self.change(path, |known| known.destroyed.push(number));
                true
            }
            None => {
                self.change(path, |known| known.perhaps_destroyed.push(number));
                false
            }
        }
    }
}

/// That the daemon knows what was answered, nothing that was not asked, and that each version works or is destroyed.
fn check(rest: &Rest, ring: &str, book: &Book) {
    let listed = rest.read(&format!("keyrings/{ring}/keys")).json(200);
    let listed = listed["keys"].as_array().expect("a list").len();
    let least = book.keys.len();
    assert!((least..=least + book.unanswered).contains(&listed), "{listed} keys, {least} answered");
    for (path, known) in &book.keys {
        let versions = rest.read(&format!("{path}/versions")).json(200);
        let versions = versions["versions"].as_array().expect("a list");
        let count = versions.len() as u64;
        assert!(
            (known.versions..=known.versions + known.unanswered).contains(&count),
            "{path}: {count}, {known:?}"
        );
        for (index, version) in versions.iter().enumerate() {
            let number = index as u64 + 1;
            assert_eq!(version["number"], number, "{path}: numbers without gaps");
            let encrypted =
                rest.post(&format!("{path}/versions/{number}/encrypt"), json!({ "data": base64("x") }));
            let destroyed = version.text("state") == "destroyed";
            assert_eq!(encrypted.status, if destroyed { 409 } else { 200 }, "{path} {version}: {encrypted}");
            let may = known.destroyed.contains(&number) || known.perhaps_destroyed.contains(&number);
            assert!(!destroyed || may, "{path}: version {number} is destroyed, which nobody asked");
            assert!(
                destroyed || !known.destroyed.contains(&number),
                "{path}: version {number} was destroyed"
            );
        }
    }
}

/// An upload that can be sent again and again.
fn wrapped_key(rest: &Rest, ring: &str) -> Value {
    let ask = json!({
        "displayName": "way-in",
        "protection": "software",
        "algorithm": "rsa_2048_oaep_sha256",
        "purpose": "wrap_symmetric_key",
    });
    let made = rest.post(&format!("keyrings/{ring}/wrappingkeys"), ask).json(202);
    let public = openssl::PublicKey::new(&der(&made.text("publicKey")));
    let options = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"];
    let wrapped = public.encrypt(&options, &[5; 32]);
    json!({ "wrappingKeyId": made.text("id"), "wrappedKey": base64(wrapped) })
}
