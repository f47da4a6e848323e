//! Commands on projects, the tenants of the REST API.

use kms_store::{Project, StoreError};
use serde_json::json;
use uuid::Uuid;

use super::accounts::AccountError;
use super::audited_command::AuditedCommand;
use super::{Backend, ServiceError};

/// The maximum length of a display name, such as that of a project or a token.
const NAME_CHARACTERS_MAX: usize = 64;

impl Backend {
    /// Creates a project.
    ///
    /// # Errors
    /// When the name is invalid, another project has the id or the name, or the clock is behind the newest project.
    pub fn add_project(&self, id: Uuid, name: &str) -> Result<Project, ServiceError> {
        check_label(name)?;
        let project = Project { id, name: name.to_owned(), created: self.dispatch.clock.seconds() };
        self.insert_project(&project)?;
        Ok(project)
    }

    fn insert_project(&self, project: &Project) -> Result<(), ServiceError> {
        let (id, name) = (project.id, &project.name);
        let audited = AuditedCommand {
            event: "kms.project.create",
            command: "kms project add",
            resource: format!("projects/{id}"),
            project: Some(id),
        };
        let entry = self.entry(audited, [("name", json!(name))]);
        match self.dispatch.store.insert_project(project, entry) {
            Err(StoreError::NameInUse(taken)) => Err(ServiceError::Exists(taken)),
            done => Ok(done?),
        }
    }

    /// All projects, the oldest first. An empty home without projects has the implied one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn projects(&self) -> Result<Vec<Project>, ServiceError> {
        let mut projects = self.dispatch.store.projects()?;
        if projects.is_empty() {
            projects.push(Project::implied());
        }
        Ok(projects)
    }

    /// The project with this name or id.
    pub(super) fn project_of(&self, name: &str) -> Result<Project, ServiceError> {
        let id = Uuid::parse_str(name).ok();
        let mut projects = self.projects()?.into_iter();
        let found = projects.find(|project| project.name == name || Some(project.id) == id);
        Ok(found.ok_or_else(|| AccountError::NoSuchProject(name.to_owned()))?)
    }
}

/// Checks a display name, which appears in tables and logs.
pub(super) fn check_label(name: &str) -> Result<(), AccountError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = (1..=NAME_CHARACTERS_MAX).contains(&name.len()) && name.chars().all(legal);
    if good { Ok(()) } else { Err(AccountError::BadName(name.to_owned())) }
}
