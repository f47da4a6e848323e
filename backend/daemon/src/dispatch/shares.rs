//! What tenants have in common, in fair shares (docs/decisions/0052).

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use kms_core::object::{Caller, KeySpec};
use kms_crypto::GeneratedKey;
use kms_protocol::{AttributeType, ObjectRef, Request, Rv, Template};
use kms_store::Ring;

use crate::config::RingShares;
use crate::dispatch::Dispatch;
use crate::error::Error;
use crate::fairness::{Contention, Gate, GatePlace, ListenerCounts, Quota, Tenant, ThrottledLog};

/// How long a request waits for its turn: less than the provider waits for a response.
const TURN_WAIT_MAX: Duration = Duration::from_secs(8);

/// How long the use of a key waits for its turn, and then goes on without one: those before it may wait for the HSM.
const USE_WAIT_MAX: Duration = Duration::from_millis(50);

/// Changes that are written at a time. They share transactions, so there are more than processors.
const CHANGES_AT_A_TIME: usize = 128;

/// Of those, the changes of one tenant. The others of it wait, and nobody else waits behind them.
const CHANGES_PER_TENANT: usize = 16;

/// The shares and counts that outlive a single request.
pub(crate) struct Shares {
    /// Connections that were refused or closed at the listener for providers.
    pub(crate) provider_connections: Arc<ListenerCounts>,
    /// The same at the REST listener.
    pub(crate) rest_connections: Arc<ListenerCounts>,
    /// Whether several users have requests at present.
    contention: Contention,
    /// Before each use of a key or object, while several users have requests.
    uses: Gate,
    /// Before each part of a search.
    searches: Gate,
    /// Before the generation of an RSA key pair, which takes a processor for up to seconds.
    generations: Gate,
    /// Before each request that writes.
    changes: Gate,
    /// Recorded changes of each principal: its ring, and its name's hash.
    recorded: Quota<([u8; 16], u64)>,
    names: RandomState,
    recorded_per_hour: u32,
    refused: ThrottledLog,
    low_disk: ThrottledLog,
}

impl Shares {
    /// Shares of which nothing is taken.
    pub(crate) fn new(config: RingShares) -> Self {
        Self {
            provider_connections: Arc::default(),
            rest_connections: Arc::default(),
            contention: Contention::new(),
            uses: Gate::of_processors(),
            searches: Gate::of_processors(),
            generations: Gate::of_processors(),
            changes: Gate::new(CHANGES_AT_A_TIME, CHANGES_PER_TENANT),
            recorded: Quota::default(),
            names: RandomState::new(),
            recorded_per_hour: config.changes_per_hour,
            refused: ThrottledLog::default(),
            low_disk: ThrottledLog::default(),
        }
    }
}

impl Dispatch {
    /// Waits until it is the caller's turn to be served, if the request is expensive or several users have requests, and
    /// counts what will be recorded.
    /// The turn is given back when the value is dropped.
    ///
    /// # Errors
    /// `CKR_FUNCTION_REJECTED` when there is no turn in time, or the principal has made too many changes within the hour.
    pub(in crate::dispatch) fn turn(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: &Request,
    ) -> Result<Option<GatePlace<'_>>, Error> {
        let is_shared = caller.peer.is_some_and(|peer| self.shares.contention.note(peer.uid));
        let gate = match Cost::of(request) {
            // By user alone, who could otherwise have a place for each ring.
            Cost::Use if is_shared => {
                let user = Tenant { ring: [0; 16], ..tenant(ring, caller) };
                return Ok(self.shares.uses.enter(user, USE_WAIT_MAX).ok());
            }
            Cost::Use | Cost::Elsewhere => return Ok(None),
            Cost::Search => &self.shares.searches,
            Cost::Removal => &self.shares.changes,
            Cost::Change => {
                self.count_change(ring, caller)?;
                &self.shares.changes
            }
        };
        enter(gate, tenant(ring, caller)).map(Some)
    }

    /// Generates a key; RSA key pairs in turn with those of other tenants.
    pub(in crate::dispatch) fn generate_key(
        &self,
        tenant: Tenant,
        spec: &KeySpec,
    ) -> Result<GeneratedKey, Error> {
        let is_expensive = matches!(spec, KeySpec::Rsa { .. });
        let _turn = if is_expensive { Some(enter(&self.shares.generations, tenant)?) } else { None };
        Ok(kms_crypto::generate(spec, &self.random)?)
    }

    /// Logs when the disk has less space than new keys need, or twice that: before and while they are refused.
    pub(crate) fn watch_disk(&self) {
        let Ok(disk) = self.store.disk() else { return };
        if disk.free < disk.floor.saturating_mul(2) && self.shares.low_disk.count().is_some() {
            tracing::warn!(
                free_mib = disk.free >> 20,
                floor_mib = disk.floor >> 20,
                refused = disk.free < disk.floor,
                "the disk is nearly full: below [store] disk_floor_mib nothing more is created; free some space"
            );
        }
    }

    /// Counts a change that will be in the audit log.
    fn count_change(&self, ring: &Ring, caller: &Caller) -> Result<(), Error> {
        let Some(login) = &caller.login else { return Ok(()) };
        let (key, limit) =
            ((ring.id.0, self.shares.names.hash_one(&login.name)), self.shares.recorded_per_hour);
        let Err(_) = self.shares.recorded.take(key, self.clock.seconds(), limit) else { return Ok(()) };
        if let Some(times) = self.shares.refused.count() {
            tracing::warn!(
                ring = ring.label,
                principal = login.name,
                times,
                changes_per_hour = limit,
                "changes were refused: the principal has used [rings] changes_per_hour"
            );
        }
        Err(Rv::FUNCTION_REJECTED.into())
    }
}

/// What a request costs the others.
enum Cost {
    /// A processor for some microseconds, or milliseconds with a large key.
    Use,
    /// What has a gate of its own where it is expensive, or waits: it must not hold a place meanwhile.
    Elsewhere,
    /// Reading many rows.
    Search,
    /// Writing and an entry in the audit log, and there is less afterwards.
    Removal,
    /// The same, and there may be more afterwards.
    Change,
}

impl Cost {
    fn of(request: &Request) -> Self {
        let of_object = |object: &ObjectRef| match object {
            ObjectRef::Token(_) => Self::Change,
            ObjectRef::Session(_) => Self::Use,
        };
        let of_template = |template: &Template| match template.bool(AttributeType::TOKEN) {
            Some(true) => Self::Change,
            Some(false) | None => Self::Elsewhere,
        };
        match request {
            Request::Find { .. } => Self::Search,
            Request::Destroy { object: ObjectRef::Token(_) } => Self::Removal,
            Request::SetAttributes { object, .. } => of_object(object),
            Request::Create { template }
            | Request::Generate { template, .. }
            | Request::Unwrap { template, .. }
            | Request::Derive { template, .. }
            | Request::Encapsulate { template, .. }
            | Request::Decapsulate { template, .. } => of_template(template),
            Request::Copy { object, template } => match template.bool(AttributeType::TOKEN) {
                Some(_) => of_template(template),
                None => of_object(object),
            },
            Request::GeneratePair { public, private, .. } => {
                let on_token = [public, private].map(|template| template.bool(AttributeType::TOKEN));
                if on_token.contains(&Some(true)) { Self::Change } else { Self::Elsewhere }
            }
            Request::Attributes { .. }
            | Request::Decrypt { .. }
            | Request::DecryptProven { .. }
            | Request::SignProven { .. }
            | Request::Destroy { .. }
            | Request::Encrypt { .. }
            | Request::EncryptMessage { .. }
            | Request::Reveal { .. }
            | Request::Sign { .. }
            | Request::Verify { .. }
            | Request::Wrap { .. } => Self::Use,
            Request::InitPin { .. }
            | Request::InitToken { .. }
            | Request::Login { .. }
            | Request::ProveUse { .. }
            | Request::SetPin { .. }
            | Request::Slots => Self::Elsewhere,
        }
    }
}

/// For whom a request is served.
pub(in crate::dispatch) fn tenant(ring: &Ring, caller: &Caller) -> Tenant {
    Tenant { uid: caller.peer.map(|peer| peer.uid), ring: ring.id.0 }
}

fn enter(gate: &Gate, tenant: Tenant) -> Result<GatePlace<'_>, Error> {
    gate.enter(tenant, TURN_WAIT_MAX).map_err(|_| Rv::FUNCTION_REJECTED.into())
}
