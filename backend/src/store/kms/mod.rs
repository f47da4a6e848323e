//! What the service's API knows: projects, and rings, keys and versions as it sees them.

mod projects;

pub use projects::Project;
