//! The export: everything that is needed to recreate the structure of a project's keys, as JSON, without key material.
//! It is streamed from one snapshot of the database: 100,000 keys are never in memory at once, and concurrent writes
//! neither wait nor appear in it.

use std::io::{self, Write};

use kms_core::api::{
    Amounts, EXPORT_FORMAT, Export, ExportedAccount, ExportedAccountKey, ExportedGrant, ExportedKey,
    ExportedMetadata, ExportedPrincipal, ExportedProject, ExportedRing, ExportedToken, OtherKey, Outcome,
    Problem, Time, Usage, UsageHour,
};
use kms_protocol::RingPolicy;
use kms_store::{KeyRecord, Project, Ring, ServiceAccount, Snapshot, StoreError, UsageScope};
use serde::Serialize;
use uuid::Uuid;

use super::Dispatch;
use super::failure::Failure;
use super::views;

/// How many keys are read at once.
const CHUNK: usize = 256;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The project does not exist, or could not be read.
    #[error(transparent)]
    Rejected(#[from] Problem),
    /// The output could not be written.
    #[error("the export could not be written")]
    Io(#[from] io::Error),
}

impl From<Failure> for ExportError {
    fn from(failure: Failure) -> Self {
        Self::Rejected(failure.problem("kms.project.export", ""))
    }
}

impl From<StoreError> for ExportError {
    fn from(error: StoreError) -> Self {
        Failure::from(error).into()
    }
}

/// A JSON array whose items are written one after the other.
struct JsonArray<'a> {
    out: &'a mut dyn Write,
    has_items: bool,
}

impl<'a> JsonArray<'a> {
    fn begin(out: &'a mut dyn Write) -> Self {
        Self { out, has_items: false }
    }

    /// Writes the separator, and returns the output for the next item.
    fn next(&mut self) -> io::Result<&mut dyn Write> {
        self.out.write_all(if self.has_items { b",\n" } else { b"\n" })?;
        self.has_items = true;
        Ok(self.out)
    }

    fn item(&mut self, item: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(self.next()?, item).map_err(io::Error::from)
    }
}

/// Serialises a value and splits the text inside its empty lists `lists`, whose items are then written in between.
fn split_at_lists<const N: usize>(value: &impl Serialize, lists: [&str; N]) -> io::Result<Vec<String>> {
    let text = serde_json::to_string(value)?;
    let mut rest = text.as_str();
    let mut parts = Vec::with_capacity(N + 1);
    for list in lists {
        let empty = format!("\"{list}\":[]");
        let at = rest.rfind(&empty).ok_or_else(|| io::Error::other("a list of the export is missing"))?;
        let (before, after) = rest.split_at(at + empty.len() - 1);
        parts.push(before.to_owned());
        rest = after;
    }
    parts.push(rest.to_owned());
    Ok(parts)
}

/// An export that is ready to be written, with the snapshot of the database from its start.
pub struct PendingExport {
    snapshot: Snapshot,
    project: Option<Uuid>,
    projects: Vec<Project>,
    at: u64,
}

impl Dispatch {
    /// Begins the export of a project, or of all projects and the home's accounts.
    ///
    /// # Errors
    /// When there is no such project, or the database fails.
    pub(crate) fn export(&self, project: Option<Uuid>) -> Result<PendingExport, ExportError> {
        let snapshot = self.store.snapshot()?;
        let projects = projects_of(snapshot.projects()?);
        if !projects.iter().any(|known| project.is_none_or(|id| id == known.id)) {
            return Err(Problem::not_found("project").into());
        }
        Ok(PendingExport { snapshot, project, projects, at: self.clock.seconds() })
    }
}

/// Returns all projects. An empty home without projects has the implied one.
pub(super) fn projects_of(mut projects: Vec<Project>) -> Vec<Project> {
    if projects.is_empty() {
        projects.push(Project::implied());
    }
    projects
}

impl PendingExport {
    /// Writes the export.
    ///
    /// # Errors
    /// When the database cannot be read or the output cannot be written.
    pub(crate) fn write(&self, out: &mut dyn Write) -> Result<(), ExportError> {
        let document = Export {
            format: EXPORT_FORMAT,
            service: "kms",
            region: "eu01",
            exported_at: Time(self.at),
            projects: Vec::new(),
            accounts: Vec::new(),
        };
        let parts = split_at_lists(&document, ["projects", "accounts"])?;
        let [before, between, after] = &parts[..] else { return Ok(()) };
        out.write_all(before.as_bytes())?;
        let mut list = JsonArray::begin(out);
        for project in self.projects.iter().filter(|known| self.project.is_none_or(|id| id == known.id)) {
            self.write_project(project, list.next()?)?;
        }
        out.write_all(between.as_bytes())?;
        let mut list = JsonArray::begin(out);
        for account in self.snapshot.accounts()? {
            if let Some(account) = self.account(&account)? {
                list.item(&account)?;
            }
        }
        writeln!(out, "{after}")?;
        Ok(out.flush()?)
    }

    fn write_project(&self, project: &Project, out: &mut dyn Write) -> Result<(), ExportError> {
        let (id, name, created_at) = (project.id, project.name.clone(), Time(project.created));
        let fields = ExportedProject { id, name, created_at, key_rings: Vec::new() };
        let parts = split_at_lists(&fields, ["keyRings"])?;
        let [before, after] = &parts[..] else { return Ok(()) };
        out.write_all(before.as_bytes())?;
        let mut list = JsonArray::begin(out);
        for ring in self.snapshot.rings()? {
            if ring.metadata.project == project.id {
                self.write_ring(&ring, list.next()?)?;
            }
        }
        Ok(out.write_all(after.as_bytes())?)
    }

    fn write_ring(&self, ring: &Ring, out: &mut dyn Write) -> Result<(), ExportError> {
        let principals = self.snapshot.principals(ring.id)?.into_iter().map(|principal| ExportedPrincipal {
            ring_role: format!("{:?}", principal.ring_role).to_lowercase(),
            name: principal.name,
        });
        let fields = ExportedRing {
            ring: views::ring(ring),
            label: ring.label.clone(),
            slot: ring.slot.0,
            policy: match ring.policy {
                RingPolicy::Strict => "strict",
                RingPolicy::Compat => "compat",
            },
            principals: principals.collect(),
            keys: Vec::new(),
        };
        let parts = split_at_lists(&fields, ["keys"])?;
        let [before, after] = &parts[..] else { return Ok(()) };
        out.write_all(before.as_bytes())?;
        let (mut list, mut last) = (JsonArray::begin(out), None);
        loop {
            let chunk = self.snapshot.keys(ring.id, last, CHUNK)?;
            for record in &chunk {
                list.item(&self.key(record)?)?;
            }
            last = chunk.last().map(|record| (record.created, record.id)).or(last);
            if chunk.len() < CHUNK {
                return Ok(out.write_all(after.as_bytes())?);
            }
        }
    }

    /// Returns a key for the export, also one without an algorithm of the API.
    fn key(&self, record: &KeyRecord) -> Result<ExportedKey, ExportError> {
        let object = |ring, id| self.snapshot.object(ring, id);
        let (used_for, metadata) = if record.metadata.wrapping.is_some() {
            ("wrapping", ExportedMetadata::Wrapping(Box::new(views::wrapping_key(record, self.at, &object)?)))
        } else if record.metadata.algorithm.is_some() {
            ("key", ExportedMetadata::Key(Box::new(views::key(record)?)))
        } else {
            let (id, state, created_at) = (record.id, record.state(), Time(record.created));
            ("key", ExportedMetadata::Other(OtherKey { id, state, created_at }))
        };
        let label = String::from_utf8(record.label.clone());
        let versions = record.versions.iter().map(|version| views::version(record, version, &object));
        Ok(ExportedKey {
            metadata,
            used_for,
            shape: record.shape.clone(),
            label_bytes: label.as_ref().err().map(|error| error.as_bytes().to_vec()),
            label: label.ok(),
            versions: versions.collect::<Result<_, _>>()?,
        })
    }

    /// Returns an account with its roles, without secrets; in the export of one project, only if it has a role there.
    fn account(&self, account: &ServiceAccount) -> Result<Option<ExportedAccount>, ExportError> {
        let is_relevant = |of: Option<Uuid>| self.project.is_none() || of.is_none() || of == self.project;
        let grants: Vec<ExportedGrant> = (self.snapshot.grants(account.id)?.into_iter())
            .map(|given| given.grant)
            .filter(|grant| is_relevant(grant.project))
            .map(|grant| ExportedGrant {
                role: grant.role.name(),
                project: grant.project,
                key_ring: grant.ring,
            })
            .collect();
        if grants.is_empty() && self.project.is_some() {
            return Ok(None);
        }
        let tokens = self.snapshot.tokens(account.id)?.into_iter().map(|token| ExportedToken {
            id: token.id,
            name: token.name,
            created_at: Time(token.created),
            expires_at: token.expires.map(Time),
        });
        let keys = self.snapshot.account_keys(account.id)?.into_iter().map(|key| ExportedAccountKey {
            id: key.id,
            algorithm: key.algorithm.name(),
            created_at: Time(key.created),
            valid_until: key.valid_until.map(Time),
            active: key.is_active(self.at),
        });
        Ok(Some(ExportedAccount {
            id: account.id,
            email: account.email.clone(),
            created_at: Time(account.created),
            disabled_at: account.disabled.map(Time),
            grants,
            tokens: tokens.collect(),
            keys: keys.collect(),
        }))
    }
}

impl Dispatch {
    /// Returns the amounts of a project.
    ///
    /// # Errors
    /// When there is no such project, or the database fails.
    pub(crate) fn amounts_of(&self, project: Uuid) -> Result<Amounts, Problem> {
        match self.amounts(project) {
            Ok(Outcome::Amounts(amounts)) => Ok(amounts),
            Ok(_) => Err(Problem::not_found("project")),
            Err(failure) => Err(failure.problem("kms.project.amounts", "")),
        }
    }

    /// Returns how many key versions were available, hour by hour, in one project or in all.
    ///
    /// # Errors
    /// When there is no such project, or the database fails.
    pub(crate) fn usage_of(&self, project: Option<Uuid>, range: (u64, u64)) -> Result<Usage, Problem> {
        let usage = || -> Result<Usage, Failure> {
            let of = match project {
                None => UsageScope::All,
                Some(id) => {
                    self.check_project(id)?;
                    UsageScope::Project(id)
                }
            };
            let hours = self.store.usage(of, range, self.clock.seconds())?;
            Ok(Usage {
                version_hours: hours.iter().map(|hour| hour.versions).sum(),
                hours: (hours.iter())
                    .map(|hour| UsageHour {
                        hour: Time(hour.hour),
                        versions: hour.versions,
                        version_seconds: hour.seconds,
                    })
                    .collect(),
            })
        };
        usage().map_err(|failure| failure.problem("kms.project.usage", ""))
    }
}
