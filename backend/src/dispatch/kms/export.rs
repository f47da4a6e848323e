//! The export: all that is needed to build the architecture of a project's keys anew, as JSON, without any material.
//! Written piece by piece: 100,000 keys are never held at once.

use std::io::{self, Write};

use kms_protocol::RingPolicy;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Dispatch;
use super::failure::Failure;
use super::views;
use crate::audit::timestamp;
use crate::kms::{Amounts, Outcome, Refusal};
use crate::store::{HourUsage, KnownKey, Project, Ring, UsageOf};

/// The form of what is written; it grows with each change that a reader must know of.
const EXPORT_FORMAT: u32 = 1;

/// Keys read at once.
const CHUNK: usize = 256;

/// Why an export ends.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What is asked for is not there, or could not be read.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be written.
    #[error("the export could not be written")]
    Io(#[from] io::Error),
}

impl From<Failure> for ExportError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure.refusal("kms.project.export", ""))
    }
}

impl From<crate::store::StoreError> for ExportError {
    fn from(error: crate::store::StoreError) -> Self {
        Failure::from(error).into()
    }
}

/// A JSON array whose items are written as they come.
struct List<'a> {
    out: &'a mut dyn Write,
    begun: bool,
}

impl<'a> List<'a> {
    fn begin(out: &'a mut dyn Write, name: &str) -> io::Result<Self> {
        write!(out, "\"{name}\":[")?;
        Ok(Self { out, begun: false })
    }

    /// Where the next item is written.
    fn next(&mut self) -> io::Result<&mut dyn Write> {
        self.out.write_all(if self.begun { b",\n" } else { b"\n" })?;
        self.begun = true;
        Ok(self.out)
    }

    fn item(&mut self, item: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(self.next()?, item).map_err(io::Error::from)
    }

    fn end(self) -> io::Result<()> {
        self.out.write_all(b"]")
    }
}

fn time(seconds: u64) -> String {
    timestamp(seconds.saturating_mul(1000))
}

/// Writes an object's first fields and leaves it open.
fn open(out: &mut dyn Write, fields: &Value) -> io::Result<()> {
    let written = fields.to_string();
    out.write_all(written.trim_end_matches('}').as_bytes())?;
    out.write_all(b",")
}

impl Dispatch {
    /// Writes a project, or all of them with the home's accounts.
    ///
    /// # Errors
    /// When there is no such project, or it cannot be read or written.
    pub(crate) fn export(&self, project: Option<Uuid>, out: &mut dyn Write) -> Result<(), ExportError> {
        let projects = self.projects()?;
        let first = projects.first().map(|project| project.id);
        let chosen: Vec<&Project> =
            projects.iter().filter(|known| project.is_none_or(|id| id == known.id)).collect();
        if chosen.is_empty() {
            return Err(Refusal::not_found("project").into());
        }
        let at = timestamp(self.clock.millis());
        open(out, &json!({ "format": EXPORT_FORMAT, "service": "kms", "region": "eu01", "exportedAt": at }))?;
        let mut list = List::begin(out, "projects")?;
        for project in chosen {
            let out = list.next()?;
            open(
                out,
                &json!({ "id": project.id, "name": project.name, "createdAt": time(project.created) }),
            )?;
            self.export_rings(project.id, first == Some(project.id), out)?;
            out.write_all(b"}")?;
        }
        list.end()?;
        out.write_all(b",\n")?;
        self.export_accounts(project, out)?;
        out.write_all(b"}\n")?;
        Ok(out.flush()?)
    }

    fn export_rings(&self, project: Uuid, first: bool, out: &mut dyn Write) -> Result<(), ExportError> {
        let mut list = List::begin(out, "keyRings")?;
        for ring in self.store.rings()? {
            if ring.facts.project != Some(project) && !(first && ring.facts.project.is_none()) {
                continue;
            }
            let out = list.next()?;
            let view = views::ring(&ring);
            let policy = match ring.policy {
                RingPolicy::Strict => "strict",
                RingPolicy::Compat => "compat",
            };
            let mut fields = serde_json::to_value(&view).map_err(io::Error::from)?;
            fields["label"] = json!(ring.label);
            fields["slot"] = json!(ring.slot.0);
            fields["policy"] = json!(policy);
            open(out, &fields)?;
            self.export_keys(&ring, out)?;
            out.write_all(b",")?;
            let mut principals = List::begin(out, "principals")?;
            for principal in self.store.principals(ring.id)? {
                let standing = format!("{:?}", principal.standing).to_lowercase();
                principals.item(&json!({ "name": principal.name, "standing": standing }))?;
            }
            principals.end()?;
            out.write_all(b"}")?;
        }
        Ok(list.end()?)
    }

    fn export_keys(&self, ring: &Ring, out: &mut dyn Write) -> Result<(), ExportError> {
        let mut after = None;
        let mut list = List::begin(out, "keys")?;
        loop {
            let chunk = self.store.all_keys(ring.id, after, CHUNK)?;
            for known in &chunk {
                list.item(&self.exported_key(known)?)?;
            }
            after = chunk.last().map(|known| (known.created, known.id)).or(after);
            if chunk.len() < CHUNK {
                return Ok(list.end()?);
            }
        }
    }

    /// A key, also one that the API has no name for.
    fn exported_key(&self, known: &KnownKey) -> Result<Value, ExportError> {
        let mut key = if known.facts.wrapping.is_some() {
            serde_json::to_value(self.wrapping_view(known)?).map_err(io::Error::from)?
        } else if known.facts.algorithm.is_some() {
            serde_json::to_value(views::key(known)?).map_err(io::Error::from)?
        } else {
            json!({ "id": known.id, "state": known.state(), "createdAt": time(known.created) })
        };
        let use_ = if known.facts.wrapping.is_some() { "wrapping" } else { "key" };
        key["use"] = json!(use_);
        key["type"] = json!(known.shape);
        match std::str::from_utf8(&known.label) {
            Ok(label) => key["label"] = json!(label),
            Err(_) => key["labelBytes"] = json!(known.label),
        }
        let mut versions = Vec::with_capacity(known.versions.len());
        for version in &known.versions {
            versions.push(serde_json::to_value(self.view_of(known, version)?).map_err(io::Error::from)?);
        }
        key["versions"] = Value::Array(versions);
        Ok(key)
    }

    /// Accounts with their roles: of a project, those that have any in it. No secrets: names and dates alone.
    fn export_accounts(&self, project: Option<Uuid>, out: &mut dyn Write) -> Result<(), ExportError> {
        let counts = |of: Option<Uuid>| project.is_none() || of.is_none() || of == project;
        let now = self.clock.seconds();
        let mut list = List::begin(out, "accounts")?;
        for account in self.store.accounts()? {
            let grants: Vec<Value> = (self.store.grants(Some(account.id))?.iter())
                .filter(|given| counts(given.grant.project))
                .map(|given| {
                    let grant = given.grant;
                    json!({ "role": grant.role.name(), "project": grant.project, "keyRing": grant.ring })
                })
                .collect();
            if grants.is_empty() && project.is_some() {
                continue;
            }
            let tokens: Vec<Value> = (self.store.tokens(Some(account.id))?.iter())
                .map(|token| {
                    let expires = token.expires.map(time);
                    json!({ "id": token.id, "name": token.name, "createdAt": time(token.created), "expiresAt": expires })
                })
                .collect();
            let keys: Vec<Value> = (self.store.account_keys(Some(account.id))?.iter())
                .map(|key| {
                    let until = key.valid_until.map(time);
                    json!({ "id": key.id, "algorithm": key.algorithm.name(), "createdAt": time(key.created),
                            "validUntil": until, "active": key.is_active(now) })
                })
                .collect();
            list.item(&json!({
                "id": account.id, "email": account.email, "createdAt": time(account.created),
                "disabledAt": account.disabled.map(time), "grants": grants, "tokens": tokens, "keys": keys,
            }))?;
        }
        Ok(list.end()?)
    }

    /// What a project has.
    ///
    /// # Errors
    /// When there is no such project, or the database fails.
    pub(crate) fn amounts_of(&self, project: Uuid) -> Result<Amounts, Refusal> {
        match self.amounts(project) {
            Ok(Outcome::Amounts(amounts)) => Ok(amounts),
            Ok(_) => Err(Refusal::not_found("project")),
            Err(failure) => Err(failure.refusal("kms.project.amounts", "")),
        }
    }

    /// How many key versions were available, hour by hour: of a project, or of all.
    ///
    /// # Errors
    /// When there is no such project, or the database fails.
    pub(crate) fn usage_of(
        &self,
        project: Option<Uuid>,
        range: (u64, u64),
    ) -> Result<Vec<HourUsage>, Refusal> {
        let usage = || -> Result<Vec<HourUsage>, Failure> {
            let of = match project {
                None => UsageOf::All,
                Some(id) => UsageOf::Project { id, first: self.known_project(id)? },
            };
            Ok(self.store.usage(of, range, self.clock.seconds())?)
        };
        usage().map_err(|failure| failure.refusal("kms.project.usage", ""))
    }
}
