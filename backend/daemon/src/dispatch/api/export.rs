//! The export: all that is needed to build the architecture of a project's keys anew, as JSON, without any material.
//! Written piece by piece, out of one state of the database: 100,000 keys are never held at once, and whoever writes
//! meanwhile neither waits nor is seen.

use std::io::{self, Write};

use kms_core::api::{
    Amounts, EXPORT_FORMAT, Export, ExportedAccount, ExportedAccountKey, ExportedGrant, ExportedKey,
    ExportedMetadata, ExportedPrincipal, ExportedProject, ExportedRing, ExportedToken, OtherKey, Outcome,
    Problem, Time, Usage, UsageHour,
};
use kms_protocol::RingPolicy;
use kms_store::{KeyRecord, Project, Ring, ServiceAccount, Snapshot, StoreError, UsageOf};
use serde::Serialize;
use uuid::Uuid;

use super::Dispatch;
use super::failure::Failure;
use super::views;

/// Keys read at once.
const CHUNK: usize = 256;

/// Why an export ends.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What is asked for is not there, or could not be read.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// It could not be written.
    #[error("the export could not be written")]
    Io(#[from] io::Error),
}

impl From<Failure> for ExportError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure.problem("kms.project.export", ""))
    }
}

impl From<StoreError> for ExportError {
    fn from(error: StoreError) -> Self {
        Failure::from(error).into()
    }
}

/// A JSON array whose items are written as they come.
struct List<'a> {
    out: &'a mut dyn Write,
    begun: bool,
}

impl<'a> List<'a> {
    fn begin(out: &'a mut dyn Write) -> Self {
        Self { out, begun: false }
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
}

/// What stands before, between and after the last lists of a value, which are empty in it.
fn around<const N: usize>(value: &impl Serialize, lists: [&str; N]) -> io::Result<Vec<String>> {
    let whole = serde_json::to_string(value)?;
    let mut rest = whole.as_str();
    let mut parts = Vec::with_capacity(N + 1);
    for list in lists {
        let place = format!("\"{list}\":[]");
        let at =
            rest.rfind(&place).ok_or_else(|| io::Error::other("a list that is to be filled is not there"))?;
        let (before, after) = rest.split_at(at + place.len() - 1);
        parts.push(before.to_owned());
        rest = after;
    }
    parts.push(rest.to_owned());
    Ok(parts)
}

/// An export that can be written: the database as it was when it was asked for.
pub struct Exporting {
    snapshot: Snapshot,
    project: Option<Uuid>,
    projects: Vec<Project>,
    at: u64,
}

impl Dispatch {
    /// Begins the export of a project, or of all of them with the home's accounts.
    ///
    /// # Errors
    /// When there is no such project, or the database fails.
    pub(crate) fn export(&self, project: Option<Uuid>) -> Result<Exporting, ExportError> {
        let snapshot = self.store.snapshot()?;
        let projects = projects_of(snapshot.projects()?);
        if !projects.iter().any(|known| project.is_none_or(|id| id == known.id)) {
            return Err(Problem::not_found("project").into());
        }
        Ok(Exporting { snapshot, project, projects, at: self.clock.seconds() })
    }
}

/// All projects; a home from before there were any has one, whose id is nil.
pub(super) fn projects_of(mut projects: Vec<Project>) -> Vec<Project> {
    if projects.is_empty() {
        projects.push(Project { id: Uuid::nil(), name: "default".to_owned(), created: 0 });
    }
    projects
}

impl Exporting {
    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn write(&self, out: &mut dyn Write) -> Result<(), ExportError> {
        let document = Export {
            format: EXPORT_FORMAT,
            service: "kms",
            region: "eu01",
            exported_at: Time(self.at),
            projects: Vec::new(),
            accounts: Vec::new(),
        };
        let parts = around(&document, ["projects", "accounts"])?;
        let [before, between, after] = &parts[..] else { return Ok(()) };
        out.write_all(before.as_bytes())?;
        let mut list = List::begin(out);
        for project in self.projects.iter().filter(|known| self.project.is_none_or(|id| id == known.id)) {
            self.write_project(project, list.next()?)?;
        }
        out.write_all(between.as_bytes())?;
        let mut list = List::begin(out);
        for account in self.snapshot.accounts()? {
            if let Some(account) = self.account(&account)? {
                list.item(&account)?;
            }
        }
        writeln!(out, "{after}")?;
        Ok(out.flush()?)
    }

    fn write_project(&self, project: &Project, out: &mut dyn Write) -> Result<(), ExportError> {
        let first = self.projects.first().is_some_and(|first| first.id == project.id);
        let (id, name, created_at) = (project.id, project.name.clone(), Time(project.created));
        let fields = ExportedProject { id, name, created_at, key_rings: Vec::new() };
        let parts = around(&fields, ["keyRings"])?;
        let [before, after] = &parts[..] else { return Ok(()) };
        out.write_all(before.as_bytes())?;
        let mut list = List::begin(out);
        for ring in self.snapshot.rings()? {
            if ring.metadata.project.map_or(first, |of| of == project.id) {
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
        let parts = around(&fields, ["keys"])?;
        let [before, after] = &parts[..] else { return Ok(()) };
        out.write_all(before.as_bytes())?;
        let (mut list, mut last) = (List::begin(out), None);
        loop {
            let chunk = self.snapshot.keys(ring.id, last, CHUNK)?;
            for known in &chunk {
                list.item(&self.key(known)?)?;
            }
            last = chunk.last().map(|known| (known.created, known.id)).or(last);
            if chunk.len() < CHUNK {
                return Ok(out.write_all(after.as_bytes())?);
            }
        }
    }

    /// A key, also one that the API has no name for.
    fn key(&self, known: &KeyRecord) -> Result<ExportedKey, ExportError> {
        let object = |ring, id| self.snapshot.object(ring, id);
        let (used_for, metadata) = if known.metadata.wrapping.is_some() {
            ("wrapping", ExportedMetadata::Wrapping(Box::new(views::wrapping_key(known, self.at, &object)?)))
        } else if known.metadata.algorithm.is_some() {
            ("key", ExportedMetadata::Key(Box::new(views::key(known)?)))
        } else {
            let (id, state, created_at) = (known.id, known.state(), Time(known.created));
            ("key", ExportedMetadata::Other(OtherKey { id, state, created_at }))
        };
        let label = String::from_utf8(known.label.clone());
        let versions = known.versions.iter().map(|version| views::version(known, version, &object));
        Ok(ExportedKey {
            metadata,
            used_for,
            shape: known.shape.clone(),
            label_bytes: label.as_ref().err().map(|error| error.as_bytes().to_vec()),
            label: label.ok(),
            versions: versions.collect::<Result<_, _>>()?,
        })
    }

    /// An account with its roles: of a project, if it has any in it. No secrets: names and dates alone.
    fn account(&self, account: &ServiceAccount) -> Result<Option<ExportedAccount>, ExportError> {
        let counts = |of: Option<Uuid>| self.project.is_none() || of.is_none() || of == self.project;
        let grants: Vec<ExportedGrant> = (self.snapshot.grants(account.id)?.into_iter())
            .map(|given| given.grant)
            .filter(|grant| counts(grant.project))
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
    /// What a project has.
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

    /// How many key versions were available, hour by hour: of a project, or of all.
    ///
    /// # Errors
    /// When there is no such project, or the database fails.
    pub(crate) fn usage_of(&self, project: Option<Uuid>, range: (u64, u64)) -> Result<Usage, Problem> {
        let usage = || -> Result<Usage, Failure> {
            let of = match project {
                None => UsageOf::All,
                Some(id) => UsageOf::Project { id, first: self.known_project(id)? },
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
