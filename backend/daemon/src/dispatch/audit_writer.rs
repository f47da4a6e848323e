//! Audit entries that do not belong to a change: uses of keys, denials and logins. Uses are counted and written once a minute,
//! or written one by one, depending on `[audit] crypto`.

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
use crate::dispatch::audit_names::AuditedResource;

/// How many denials of one caller and one kind are recorded one by one within a minute; further ones are counted.
/// Otherwise a caller that repeats a denied request in a loop would fill the disk.
const DENIALS_EACH: u64 = 30;

/// The same for the logins of one principal under one uid.
const LOGINS_EACH: u64 = 30;

/// The counters of uses and denials, and the settings of the audit log.
#[derive(Debug)]
pub(crate) struct AuditWriter {
    crypto: AtomicU8,
    uses: Tally,
    denials: Tally,
    logins: Tally,
    /// Start of the current counting period, in milliseconds since 1970.
    since: AtomicU64,
    /// How long entries are stored, in days.
    keep_days: AtomicU64,
    /// The hour of the last maintenance, and the audit head at that time.
    pub(in crate::dispatch) last_maintenance: Mutex<(u64, Option<Link>)>,
}

impl AuditWriter {
    /// Creates the counters; `now` is in milliseconds since 1970.
    pub(crate) fn new(config: AuditConfig, now: u64) -> Self {
        let writer = Self {
            crypto: AtomicU8::new(0),
            uses: Tally::default(),
            denials: Tally::default(),
            logins: Tally::default(),
            since: AtomicU64::new(now),
            keep_days: AtomicU64::new(0),
            last_maintenance: Mutex::default(),
        };
        writer.set(config);
        writer
    }

    /// Applies a changed configuration.
    pub(crate) fn set(&self, config: AuditConfig) {
        self.set_crypto(config.crypto);
        self.keep_days.store(config.keep_days.into(), Ordering::Relaxed);
    }

    /// How long entries are stored, in milliseconds.
    pub(in crate::dispatch) fn keep_millis(&self) -> u64 {
        self.keep_days.load(Ordering::Relaxed) * 24 * 3600 * 1000
    }

    /// Sets how uses are recorded from now on.
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
    /// Records that a provider's application was permitted to use a key version.
    pub(in crate::dispatch) fn record_use(
        &self,
        ring: &Ring,
        caller: &Caller,
        event: &'static str,
        version: Option<KeyVersion>,
    ) -> Result<(), StoreError> {
        let used = Used {
            api: "pkcs11",
            event,
            initiator: None,
            name: caller.login.as_ref().map_or("", |login| login.name.as_str()),
            uid: caller.peer.map(|peer| peer.uid),
            project: None,
            ring: Some(ring.id.0),
            version,
            status: 200,
        };
        match self.audit_writer.crypto() {
            CryptoAudit::Off => Ok(()),
            CryptoAudit::Summary => {
                self.audit_writer.uses.count(&used);
                Ok(())
            }
            CryptoAudit::Each => {
                let entry = self.summary(Count::first(&used), None);
                self.store.record(entry)
            }
        }
    }

    /// Records that a key version was used over REST, and with which status. A key that does not exist was not used.
    pub(in crate::dispatch) fn record_rest_use(
        &self,
        context: &RequestContext,
        mut key_use: RestKeyUse,
        result: &Result<Outcome, Problem>,
    ) -> Result<(), StoreError> {
        let status = match result {
            Ok(Outcome::Versioned(data)) => key_use.succeeded_with(data.version_number),
            Ok(Outcome::DataKey(key)) => key_use.succeeded_with(key.version_number),
            Ok(_) => 200,
            Err(Problem { status: Status::NotFound, .. }) => return Ok(()),
            Err(problem) => problem.status.code(),
        };
        let used = Used {
            api: "rest",
            event: key_use.event,
            initiator: Some(context.account.id),
            name: &context.account.email,
            uid: None,
            project: Some(key_use.project),
            ring: key_use.ring,
            version: key_use.version,
            status,
        };
        match self.audit_writer.crypto() {
            CryptoAudit::Off => Ok(()),
            CryptoAudit::Summary => {
                self.audit_writer.uses.count(&used);
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

    /// Records a denial, durably when this returns. Beyond [`DENIALS_EACH`] of a kind within a minute, it is counted
    /// only.
    pub(in crate::dispatch) fn record_denial(&self, entry: Entry) -> Result<(), StoreError> {
        let used = Used {
            api: "",
            event: entry.event,
            initiator: entry.initiator,
            name: &entry.name,
            uid: None,
            project: entry.project,
            ring: None,
            version: None,
            status: entry.status,
        };
        if self.audit_writer.denials.count(&used) <= DENIALS_EACH { self.store.record(entry) } else { Ok(()) }
    }

    /// Records a login over PKCS#11, durably when this returns. Beyond [`LOGINS_EACH`] of a principal within a minute, it is
    /// counted only.
    pub(in crate::dispatch) fn record_login(
        &self,
        ring: &Ring,
        caller: &Caller,
        name: &str,
        entry: Entry,
    ) -> Result<(), StoreError> {
        let login = Used {
            api: "pkcs11",
            event: entry.event,
            initiator: None,
            name,
            uid: caller.peer.map(|peer| peer.uid),
            project: None,
            ring: Some(ring.id.0),
            version: None,
            status: entry.status,
        };
        if self.audit_writer.logins.count(&login) <= LOGINS_EACH { self.store.record(entry) } else { Ok(()) }
    }

    /// Writes the entries of what was counted since the last call.
    pub(crate) fn summarise(&self) {
        let until = self.clock.millis();
        let since = self.audit_writer.since.swap(until, Ordering::Relaxed);
        let (uses, denials) = (self.audit_writer.uses.take(), self.audit_writer.denials.take());
        let logins = self.audit_writer.logins.take();
        let mut entries: Vec<Entry> = Vec::with_capacity(uses.counts.len());
        entries.extend(uses.counts.iter().cloned().map(|count| self.summary(count, Some(since))));
        for (counted, each) in [(&denials, DENIALS_EACH), (&logins, LOGINS_EACH)] {
            let unrecorded = counted.counts.iter().filter(|count| count.times > each).cloned();
            entries.extend(unrecorded.map(|count| {
                let times = count.times - each;
                self.summary(Count { times, ..count }, Some(since))
            }));
        }
        for (counted, event) in
            [(&uses, "kms.key.version.use"), (&denials, "kms.denied"), (&logins, "kms.principal.login")]
        {
            entries.extend(self.overflow_entry(counted, event, since));
        }
        if entries.is_empty() {
            return;
        }
        if let Err(error) = self.store.record_all(entries) {
            tracing::error!(
                cause = error_chain(&error),
                "the uses of keys could not be recorded; the next attempt includes them"
            );
            self.audit_writer.uses.put_back(&uses);
            self.audit_writer.denials.put_back(&denials);
            self.audit_writer.logins.put_back(&logins);
            self.audit_writer.since.fetch_min(since, Ordering::Relaxed);
        }
    }

    /// The entry of a number of uses since `since`, or of a single one.
    fn summary(&self, count: Count, since: Option<u64>) -> Entry {
        let ring = count.ring.and_then(|id| self.store.ring_of(kms_protocol::RingId(id)).ok().flatten());
        let project = count.project.or_else(|| ring.as_ref().map(|ring| ring.metadata.project));
        let parent = match (count.ring, project) {
            (Some(ring), Some(project)) => RingPath { project, ring: Uuid::from_bytes(ring) }.resource(),
            (Some(ring), None) => format!("keyrings/{}", Uuid::from_bytes(ring)),
            (None, Some(project)) => format!("projects/{project}"),
            (None, None) => String::new(),
        };
        let resource = count.version.map_or(AuditedResource::Ring, AuditedResource::Version);
        let mut details = Map::new();
        if let Some(since) = since {
            details.insert("count".to_owned(), json!(count.times));
            details.insert("since".to_owned(), json!(since));
        }
        if let Some(uid) = count.uid {
            details.insert("uid".to_owned(), json!(uid));
        }
        // An account's name is its address, over REST and over PKCS#11.
        let (initiator, name) = match &ring {
            Some(ring) if count.api == "pkcs11" => {
                let login = Some(count.name.as_str()).filter(|name| !name.is_empty());
                self.initiator(ring, login, count.uid)
            }
            Some(_) | None => (count.initiator, count.name),
        };
        Entry {
            at: self.clock.millis(),
            event: count.event,
            kind: if count.status == 403 { Kind::PolicyDenied } else { Kind::AdminActivity },
            project,
            resource: format!("{parent}{}", resource.path()),
            initiator,
            name,
            endpoint: count.api.to_owned(),
            source: None,
            agent: String::new(),
            trace: None,
            status: count.status,
            details,
        }
    }

    /// The entry of the uses or denials beyond the maximum number of counters.
    fn overflow_entry(&self, counted: &Counted, event: &'static str, since: u64) -> Option<Entry> {
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

/// What is recorded of a cryptographic operation over REST, kept while it is performed.
#[derive(Clone, Copy, Debug)]
pub(in crate::dispatch) struct RestKeyUse {
    event: &'static str,
    project: Uuid,
    ring: Option<[u8; 16]>,
    version: Option<KeyVersion>,
}

impl RestKeyUse {
    /// Returns it for an operation that uses a key. The version number is 0 while the operation does not name one.
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

    /// Sets the version that was used, and returns the status of success.
    fn succeeded_with(&mut self, number: u32) -> u16 {
        if let Some(version) = &mut self.version {
            version.number = number;
        }
        200
    }
}
