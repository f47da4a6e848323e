//! What a restore brings back: the copy compared with the database that it replaces (docs/decisions/0051).

use std::collections::BTreeMap;

use kms_core::api::{Grant, Life};
use kms_core::object::RingRole;
use kms_protocol::{AttributeType, Template};
use kms_store::{KeyRecord, Ring, Store, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

/// How many keys or objects are read at once.
const PAGE: usize = 1000;

/// How many names of each kind the audit log keeps of a restore.
const NAMES_MAX: usize = 20;

/// The kinds of things that are compared. A restore ends the credentials among what it would bring back.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ItemKind {
    /// A ring.
    Ring,
    /// A principal of a ring, with its role.
    Principal,
    /// The PIN of a principal.
    Pin,
    /// A service account.
    Account,
    /// A role of a service account.
    Role,
    /// A static token.
    Token,
    /// An account key.
    AccountKey,
    /// A version of a key.
    KeyVersion,
    /// A certificate, a data object, or another object that belongs to no key.
    Object,
}

impl ItemKind {
    /// Its name in JSON and in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Principal => "principal",
            Self::Pin => "pin",
            Self::Account => "account",
            Self::Role => "role",
            Self::Token => "token",
            Self::AccountKey => "accountKey",
            Self::KeyVersion => "keyVersion",
            Self::Object => "object",
        }
    }

    /// Its name in texts.
    pub fn text(self) -> &'static str {
        match self {
            Self::AccountKey => "account key",
            Self::KeyVersion => "key version",
            Self::Pin => "PIN",
            Self::Ring | Self::Principal | Self::Account | Self::Role | Self::Token | Self::Object => {
                self.name()
            }
        }
    }
}

/// A thing in one of the databases.
#[derive(Clone, Debug)]
struct Item {
    name: String,
    /// What it may do: zero if nothing.
    standing: u8,
    /// Its state, as texts show it.
    state: String,
    /// What distinguishes two things of equal standing; not shown.
    mark: String,
    credential: Option<Uuid>,
}

/// Everything in a database that lets somebody do something, by kind and identity.
#[derive(Debug, Default)]
pub(super) struct Inventory(BTreeMap<(ItemKind, String), Item>);

/// One difference between a copy and the database that it replaces.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What differs.
    pub kind: ItemKind,
    /// Its name.
    pub name: String,
    /// Its state in the database that is replaced.
    pub replaced: String,
    /// Its state in the copy.
    pub copy: String,
    credential: Option<Uuid>,
}

/// What the operator decides about a restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Logins, session objects and credentials of the copy continue.
    pub keep_logins: bool,
    /// The credentials that continue: tokens as `ACCOUNT/NAME`, account keys by id.
    pub keep_credentials: Vec<String>,
}

/// What a restore will do.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// Why the copy cannot be compared with the database that it replaces.
    pub not_compared: Option<String>,
    /// Whether all logins, session objects and access tokens end.
    pub ends_logins: bool,
    /// What the copy allows and the replaced database does not.
    pub returning: Vec<Difference>,
    /// The credentials of the copy that end.
    pub ended: Vec<Difference>,
    /// What exists only in the database that is replaced.
    pub lost: Vec<Difference>,
}

impl RestorePlan {
    /// Compares the copy with the database that it replaces, or with the reason why that one cannot be read.
    ///
    /// # Errors
    /// The credential of `options` that the copy does not have.
    pub(super) fn new(
        copy: &Inventory,
        replaced: Result<&Inventory, String>,
        options: &RestoreOptions,
    ) -> Result<Self, String> {
        let (returning, lost, not_compared) = match replaced {
            Ok(replaced) => (copy.beyond(replaced), replaced.only_here(copy), None),
            // A static token may have been revoked since, and nobody knows.
            Err(reason) => (copy.tokens(), Vec::new(), Some(reason)),
        };
        let named = |item: &Difference, name: &String| {
            item.name == *name || item.credential.is_some_and(|id| *name == id.to_string())
        };
        for name in &options.keep_credentials {
            let known = |(_, item): (_, &Item)| {
                item.credential.is_some_and(|id| item.name == *name || *name == id.to_string())
            };
            if !copy.0.iter().any(known) {
                return Err(name.clone());
            }
        }
        let ends = |item: &Difference| {
            let kept = options.keep_logins || options.keep_credentials.iter().any(|name| named(item, name));
            item.credential.is_some() && !kept
        };
        let (ended, returning) = returning.into_iter().partition(ends);
        Ok(Self { not_compared, ends_logins: !options.keep_logins, returning, ended, lost })
    }

    /// Whether the operator must confirm it: it brings something back, or nobody knows what.
    pub fn must_be_confirmed(&self) -> bool {
        !self.returning.is_empty() || self.not_compared.is_some()
    }

    /// The credentials of one kind that end.
    pub(super) fn ended_ids(&self, kind: ItemKind) -> Vec<Uuid> {
        let of_kind = self.ended.iter().filter(|item| item.kind == kind);
        of_kind.filter_map(|item| item.credential).collect()
    }

    /// The plan as JSON.
    pub fn json(&self) -> Value {
        let list = |items: &[Difference]| -> Vec<Value> {
            let one = |item: &Difference| json!({ "kind": item.kind.name(), "name": item.name, "replaced": item.replaced, "copy": item.copy });
            items.iter().map(one).collect()
        };
        json!({
            "compared": self.not_compared.is_none(),
            "notCompared": self.not_compared,
            "loginsEnd": self.ends_logins,
            "returning": list(&self.returning),
            "credentialsEnded": list(&self.ended),
            "lost": list(&self.lost),
        })
    }

    /// The plan as the audit log keeps it: the numbers, and the first names of each kind.
    pub(super) fn summary(&self) -> Value {
        let summary = |items: &[Difference]| -> Value {
            let mut kinds: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
            for item in items {
                let (count, names) = kinds.entry(item.kind.name()).or_default();
                *count += 1;
                if names.len() < NAMES_MAX {
                    names.push(&item.name);
                }
            }
            let kinds = kinds.into_iter();
            kinds
                .map(|(kind, (count, names))| (kind.to_owned(), json!({ "count": count, "names": names })))
                .collect()
        };
        json!({
            "notCompared": self.not_compared,
            "loginsEnded": self.ends_logins,
            "returned": summary(&self.returning),
            "credentialsEnded": summary(&self.ended),
            "lost": summary(&self.lost),
        })
    }
}

impl Inventory {
    /// Lists what is in a database. What cannot be read is not there.
    pub(super) fn of(store: &Store, now: u64) -> Result<Self, StoreError> {
        let mut inventory = Self::default();
        let rings = store.rings()?;
        for ring in &rings {
            inventory.add_ring(store, ring)?;
        }
        inventory.add_accounts(store, &rings, now)?;
        Ok(inventory)
    }

    fn add(&mut self, kind: ItemKind, id: String, item: Item) {
        self.0.insert((kind, id), item);
    }

    fn add_ring(&mut self, store: &Store, ring: &Ring) -> Result<(), StoreError> {
        let id = Uuid::from_bytes(ring.id.0);
        self.add(ItemKind::Ring, id.to_string(), Item::new(ring.label.clone(), 1, "there"));
        for principal in store.principals(ring.id)? {
            let name = format!("{} of ring {}", principal.name, ring.label);
            let key = format!("{id}/{}", principal.name);
            if principal.has_pin() {
                let pin = Item::new(name.clone(), 1, "as in the copy").marked(principal.pin_hash.clone());
                self.add(ItemKind::Pin, key.clone(), pin);
            }
            let role = role_name(principal.ring_role);
            self.add(ItemKind::Principal, key, Item::new(name, 1, role).marked(role.to_owned()));
        }
        let mut after = None;
        loop {
            let page = store.all_keys(ring.id, after, PAGE)?;
            page.iter().for_each(|key| self.add_key(ring, key));
            after = page.last().map(|key| (key.created, key.id));
            if page.len() < PAGE {
                break;
            }
        }
        let mut after = None;
        loop {
            let page = store.find(ring.id, &Template::default(), after, PAGE)?;
            for object in page.iter().filter(|object| object.version.is_none()) {
                let text = |kind| String::from_utf8_lossy(object.attributes.bytes(kind).unwrap_or_default());
                let name = format!("{} in ring {}", text(AttributeType::LABEL), ring.label);
                let unique = text(AttributeType::UNIQUE_ID).into_owned();
                self.add(ItemKind::Object, unique, Item::new(name, 1, "there"));
            }
            after = page.last().and_then(|object| object.id);
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    fn add_key(&mut self, ring: &Ring, key: &KeyRecord) {
        let label = String::from_utf8_lossy(&key.label);
        for version in &key.versions {
            let name = format!("{label} version {} in ring {}", version.number, ring.label);
            let (standing, state) = match version.life {
                None => (0, "changed outside the KMS"),
                Some(Life::Erased { .. }) => (0, "destroyed"),
                Some(_) if key.is_deleted() => (1, "scheduled for deletion"),
                Some(Life::Leaving { .. }) => (1, "scheduled for destruction"),
                Some(Life::Disabled) => (2, "disabled"),
                Some(Life::Active) => (3, "active"),
            };
            self.add(
                ItemKind::KeyVersion,
                format!("{}/{}", key.id, version.number),
                Item::new(name, standing, state),
            );
        }
    }

    fn add_accounts(&mut self, store: &Store, rings: &[Ring], now: u64) -> Result<(), StoreError> {
        let mut emails = BTreeMap::new();
        for account in store.accounts()? {
            let (standing, state) = if account.disabled.is_some() { (1, "disabled") } else { (2, "active") };
            self.add(
                ItemKind::Account,
                account.id.to_string(),
                Item::new(account.email.clone(), standing, state),
            );
            emails.insert(account.id, account.email);
        }
        let email = |id: Uuid| emails.get(&id).map_or("?", String::as_str);
        for given in store.grants(None)? {
            let scope = scope_name(&given.grant, rings);
            let name = format!("{} of {} {scope}", given.grant.role.name(), email(given.account));
            self.add(ItemKind::Role, format!("{}/{name}", given.account), Item::new(name, 1, "granted"));
        }
        for token in store.tokens(None)? {
            let valid = token.expires.is_none_or(|end| now < end);
            let item = Item::new(format!("{}/{}", email(token.account), token.name), valid.into(), "valid");
            self.add(ItemKind::Token, token.id.to_string(), Item { credential: Some(token.id), ..item });
        }
        for key in store.account_keys(None)? {
            let (standing, state) = if key.is_active(now) { (1, "valid") } else { (0, "revoked or expired") };
            let item = Item::new(format!("{}/{}", email(key.account), key.id), standing, state);
            self.add(ItemKind::AccountKey, key.id.to_string(), Item { credential: Some(key.id), ..item });
        }
        Ok(())
    }

    /// What may do more here than in `other`, or something else.
    fn beyond(&self, other: &Self) -> Vec<Difference> {
        let beyond = |(key, item): (&(ItemKind, String), &Item)| {
            let there = other.0.get(key);
            let standing = there.map_or(0, |there| there.standing);
            let differs = there.is_some_and(|there| there.mark != item.mark) && item.standing == standing;
            let replaced = there.map_or_else(|| "not there".to_owned(), |there| there.replaced_state(item));
            (item.standing > standing || (differs && item.standing > 0))
                .then(|| item.difference(key.0, replaced))
        };
        self.0.iter().filter_map(beyond).collect()
    }

    /// What is usable here and does not exist in `other`.
    fn only_here(&self, other: &Self) -> Vec<Difference> {
        let only = self.0.iter().filter(|(key, item)| item.standing > 0 && !other.0.contains_key(key));
        let absent = "not there".to_owned();
        only.map(|(key, item)| Difference {
            copy: absent.clone(),
            ..item.difference(key.0, item.state.clone())
        })
        .collect()
    }

    /// The static tokens that are valid.
    fn tokens(&self) -> Vec<Difference> {
        let tokens = self.0.iter().filter(|((kind, _), item)| *kind == ItemKind::Token && item.standing > 0);
        tokens.map(|(key, item)| item.difference(key.0, "not known".to_owned())).collect()
    }
}

impl Item {
    fn new(name: String, standing: u8, state: &str) -> Self {
        Self { name, standing, state: state.to_owned(), mark: String::new(), credential: None }
    }

    fn marked(self, mark: String) -> Self {
        Self { mark, ..self }
    }

    /// Its state in the replaced database, where the copy has `copy`.
    fn replaced_state(&self, copy: &Self) -> String {
        let same = self.state == copy.state;
        if same { "changed since the copy".to_owned() } else { self.state.clone() }
    }

    fn difference(&self, kind: ItemKind, replaced: String) -> Difference {
        let Self { name, state, credential, .. } = self.clone();
        Difference { kind, name, replaced, copy: state, credential }
    }
}

/// Where a role applies.
fn scope_name(grant: &Grant, rings: &[Ring]) -> String {
    match (grant.project, grant.ring) {
        (_, Some(id)) => {
            let ring = rings.iter().find(|ring| ring.id.0 == *id.as_bytes());
            format!("in ring {}", ring.map_or_else(|| id.to_string(), |ring| ring.label.clone()))
        }
        (Some(project), None) => format!("in project {project}"),
        (None, None) => "everywhere".to_owned(),
    }
}

fn role_name(role: RingRole) -> &'static str {
    match role {
        RingRole::Officer => "officer",
        RingRole::Admin => "admin",
        RingRole::Editor => "editor",
        RingRole::User => "user",
        RingRole::Reader => "reader",
    }
}
