//! What is recorded beside the entries that go with a change: uses of keys, and what was denied. Uses are counted and
//! written each minute, or written one by one, as `[audit] crypto` says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use kms_core::api::{Operation, Outcome, Problem, RequestContext, RingPath, Status, Subject};
use kms_core::audit::{Count, Counted, CryptoAudit, Entry, Kind, Link, Tally, Used};
use kms_core::error_chain;
use kms_core::object::{Caller, KeyVersion};
use kms_store::{Ring, StoreError};
use serde_json::{Map, json};
use uuid::Uuid;

use crate::config::AuditConfig;
use crate::dispatch::Dispatch;
use crate::dispatch::audit_events::About;

/// Denials of one caller and one kind that are recorded one by one within a minute; the others of that minute are
/// counted. A caller that goes on asking in a loop would fill the disk otherwise.
const DENIALS_EACH: u64 = 30;

/// What was counted, and what is to be.
#[derive(Debug)]
pub(crate) struct Recorder {
    crypto: AtomicU8,
    uses: Tally,
    denials: Tally,
    /// Since when, in milliseconds since 1970.
    since: AtomicU64,
    /// For how many days entries are kept.
    keep_days: AtomicU64,
    /// The hour in which the log was last looked after, and its head then.
    pub(in crate::dispatch) looked: Mutex<(u64, Option<Link>)>,
}

impl Recorder {
    /// Nothing is counted yet.
    pub(crate) fn new(config: AuditConfig, now: u64) -> Self {
        let recorder = Self {
            crypto: AtomicU8::new(0),
            uses: Tally::default(),
            denials: Tally::default(),
            since: AtomicU64::new(now),
            keep_days: AtomicU64::new(0),
            looked: Mutex::default(),
        };
        recorder.set(config);
        recorder
    }

    /// From now on it is done so.
    pub(crate) fn set(&self, config: AuditConfig) {
        self.set_crypto(config.crypto);
        self.keep_days.store(config.keep_days.into(), Ordering::Relaxed);
    }

    /// For how long entries are kept, in milliseconds.
    pub(in crate::dispatch) fn keep_millis(&self) -> u64 {
        self.keep_days.load(Ordering::Relaxed) * 24 * 3600 * 1000
    }

    /// From now on uses are recorded so.
    pub(crate) fn set_crypto(&self, crypto: CryptoAudit) {
        let number = match crypto {
            CryptoAudit::Off => 0,
            CryptoAudit::Summary => 1,
            CryptoAudit::Each => 2,
        };
        self.crypto.store(number, Ordering::Relaxed);
    }

    fn crypto(&self) -> CryptoAudit {
        match self.crypto.load(Ordering::Relaxed) {
            0 => CryptoAudit::Off,
            1 => CryptoAudit::Summary,
            _ => CryptoAudit::Each,
        }
    }
}

impl Dispatch {
    /// Records that a provider's application may use a key version now.
    pub(in crate::dispatch) fn used(
        &self,
        ring: &Ring,
        caller: &Caller,
        event: &'static str,
        version: Option<KeyVersion>,
    ) -> Result<(), StoreError> {
        let used = Used {
            door: "pkcs11",
            event,
            initiator: None,
            name: caller.login.as_ref().map_or("", |login| login.name.as_str()),
            uid: caller.peer.map(|peer| peer.uid),
            project: None,
            ring: Some(ring.id.0),
            version,
            status: 200,
        };
        match self.recorder.crypto() {
            CryptoAudit::Off => Ok(()),
            CryptoAudit::Summary => {
                self.recorder.uses.count(&used);
                Ok(())
            }
            CryptoAudit::Each => {
                let entry = self.summary(Count::first(&used), None);
                self.store.record(entry)
            }
        }
    }

    /// Records that a key version was used over REST, and how that ended. What is not there was not used.
    pub(in crate::dispatch) fn used_over_rest(
        &self,
        context: &RequestContext,
        mut operation: UsedKey,
        done: &Result<Outcome, Problem>,
    ) -> Result<(), StoreError> {
        let status = match done {
            Ok(Outcome::Versioned(answer)) => operation.under(answer.version_number),
            Ok(Outcome::DataKey(answer)) => operation.under(answer.version_number),
            Ok(_) => 200,
            Err(Problem { status: Status::NotFound, .. }) => return Ok(()),
            Err(problem) => problem.status.code(),
        };
        let used = Used {
            door: "rest",
            event: operation.event,
            initiator: Some(context.account.id),
            name: &context.account.email,
            uid: None,
            project: Some(operation.project),
            ring: operation.ring,
            version: operation.version,
            status,
        };
        match self.recorder.crypto() {
            CryptoAudit::Off => Ok(()),
            CryptoAudit::Summary => {
                self.recorder.uses.count(&used);
                Ok(())
            }
            CryptoAudit::Each => {
                let mut entry = self.summary(Count::first(&used), None);
                entry.endpoint.clone_from(&context.endpoint);
                entry.source = Some(context.source);
                entry.agent = context.agent.to_string();
                entry.trace = Some(context.trace);
                self.store.record(entry)
            }
        }
    }

    /// Records a denial, durable when this returns; of many alike within a minute, their number.
    pub(in crate::dispatch) fn record_denial(&self, entry: Entry) -> Result<(), StoreError> {
        let used = Used {
            door: "",
            event: entry.event,
            initiator: entry.initiator,
            name: &entry.name,
            uid: None,
            project: entry.project,
            ring: None,
            version: None,
            status: entry.status,
        };
        if self.recorder.denials.count(&used) <= DENIALS_EACH { self.store.record(entry) } else { Ok(()) }
    }

    /// Writes down what was counted since the last time.
    pub(crate) fn summarise(&self) {
        let until = self.clock.millis();
        let since = self.recorder.since.swap(until, Ordering::Relaxed);
        let (uses, denials) = (self.recorder.uses.take(), self.recorder.denials.take());
        let mut entries: Vec<Entry> = Vec::with_capacity(uses.counts.len());
        entries.extend(uses.counts.iter().cloned().map(|count| self.summary(count, Some(since))));
        let more = denials.counts.iter().filter(|count| count.times > DENIALS_EACH).cloned();
        entries.extend(more.map(|count| {
            let times = count.times - DENIALS_EACH;
            self.summary(Count { times, ..count }, Some(since))
        }));
        for (counted, event) in [(&uses, "kms.key.version.use"), (&denials, "kms.denied")] {
            entries.extend(self.others(counted, event, since));
        }
        if entries.is_empty() {
            return;
        }
        if let Err(error) = self.store.record_all(entries) {
            tracing::error!(
                cause = error_chain(&error),
                "the uses of keys could not be recorded; they are kept"
            );
            self.recorder.uses.put_back(&uses);
            self.recorder.denials.put_back(&denials);
            self.recorder.since.fetch_min(since, Ordering::Relaxed);
        }
    }

    /// The entry of so many uses, or of one.
    fn summary(&self, count: Count, since: Option<u64>) -> Entry {
        let ring = count.ring.and_then(|id| self.store.ring_of(kms_protocol::RingId(id)).ok().flatten());
        let project = count.project.or_else(|| ring.as_ref().map(|ring| self.home_project(ring)));
        let place = match (count.ring, project) {
            (Some(ring), Some(project)) => RingPath { project, ring: Uuid::from_bytes(ring) }.resource(),
            (Some(ring), None) => format!("keyrings/{}", Uuid::from_bytes(ring)),
            (None, Some(project)) => format!("projects/{project}"),
            (None, None) => String::new(),
        };
        let about = count.version.map_or(About::Ring, About::Version);
        let mut details = Map::new();
        if let Some(since) = since {
            details.insert("count".to_owned(), json!(count.times));
            details.insert("since".to_owned(), json!(since));
        }
        if let Some(uid) = count.uid {
            details.insert("uid".to_owned(), json!(uid));
        }
        // Over REST the account's address is its name, as it is for one that logs in over PKCS #11.
        let (initiator, name) = match &ring {
            Some(ring) if count.door == "pkcs11" => {
                let login = Some(count.name.as_str()).filter(|name| !name.is_empty());
                self.who(ring, login, count.uid)
            }
            Some(_) | None => (count.initiator, count.name),
        };
        Entry {
            at: self.clock.millis(),
            event: count.event,
            kind: if count.status == 403 { Kind::PolicyDenied } else { Kind::AdminActivity },
            project,
            resource: format!("{place}{}", about.path()),
            initiator,
            name,
            endpoint: count.door.to_owned(),
            source: None,
            agent: String::new(),
            trace: None,
            status: count.status,
            details,
        }
    }

    /// The entry of what found no counter of its own.
    fn others(&self, counted: &Counted, event: &'static str, since: u64) -> Option<Entry> {
        if counted.others == 0 {
            return None;
        }
        let details = [("count".to_owned(), json!(counted.others)), ("since".to_owned(), json!(since))];
        Some(Entry {
            at: self.clock.millis(),
            event,
            kind: Kind::SystemEvent,
            project: None,
            resource: String::new(),
            initiator: None,
            name: "kms".to_owned(),
            endpoint: "kms serve".to_owned(),
            source: None,
            agent: String::new(),
            trace: None,
            status: 200,
            details: Map::from_iter(details),
        })
    }
}

/// What of an operation over REST is counted, kept while the operation itself is being done.
#[derive(Clone, Copy, Debug)]
pub(in crate::dispatch) struct UsedKey {
    event: &'static str,
    project: Uuid,
    ring: Option<[u8; 16]>,
    version: Option<KeyVersion>,
}

impl UsedKey {
    /// Of an operation that uses a key. Which version that was is not known yet where the operation names none.
    pub(in crate::dispatch) fn of(operation: &Operation) -> Option<Self> {
        if !operation.is_cryptographic() {
            return None;
        }
        let subject = operation.subject();
        let (key, number) = match subject {
            Subject::Version(path) => (Some(path.key.key), u32::try_from(path.number).unwrap_or(0)),
            Subject::Key(path) => (Some(path.key), 0),
            Subject::Project(_) | Subject::Ring(_) | Subject::WrappingKey(_) => (None, 0),
        };
        Some(Self {
            event: operation.event(),
            project: subject.project(),
            ring: subject.ring().map(Uuid::into_bytes),
            version: key.map(|key| KeyVersion { key: key.into_bytes(), number }),
        })
    }

    /// Says which version was used after all; the call succeeded.
    fn under(&mut self, number: u32) -> u16 {
        if let Some(version) = &mut self.version {
            version.number = number;
        }
        200
    }
}
