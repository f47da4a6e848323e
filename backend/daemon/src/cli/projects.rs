//! `kms project`.

use std::ffi::OsString;

use serde_json::{Value, json};
use uuid::Uuid;

use super::arguments::{Project, ProjectAdd, ProjectList};
use super::failure::Failure;
use super::home::Home;
use super::output;
use crate::service::Backend;

/// Runs a command of `kms project`.
pub(super) fn run(command: Project, argv: &[OsString]) -> Result<(), Failure> {
    match command {
        Project::Add(add) => self::add(add, argv),
        Project::List(list) => self::list(list, argv),
    }
}

fn add(arguments: ProjectAdd, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let id = arguments.id.unwrap_or_else(Uuid::new_v4);
    let project = Backend::open(&home.open(argv)?)?.add_project(id, &arguments.name)?;
    let message = format!("project {:?} created: {}", project.name, project.id);
    output::result(arguments.output.json, &project_json(&project), &message);
    Ok(())
}

fn list(arguments: ProjectList, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let projects = Backend::open(&home.open(argv)?)?.projects()?;
    if arguments.output.json {
        output::json(&projects.iter().map(project_json).collect());
        return Ok(());
    }
    let rows: Vec<_> = projects
        .iter()
        .map(|project| [project.name.clone(), project.id.to_string(), output::time(project.created)])
        .collect();
    output::table(["NAME", "ID", "CREATED"], &rows, "no projects; create one with `kms project add NAME`");
    Ok(())
}

fn project_json(project: &kms_store::Project) -> Value {
    json!({ "id": project.id, "name": project.name, "created": output::time(project.created) })
}
