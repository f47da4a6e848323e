//! A small file system over a stack's home, for tests of a disk that is full or nearly so.

use std::path::PathBuf;
use std::process::Command;

use crate::{Stack, program};

/// The file system; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    /// Where it is mounted: the home.
    pub path: PathBuf,
}

impl SmallDisk {
    /// Mounts a file system of this size (`8m`) over the home of a stack that does not run, with what the home contains.
    /// Returns `None` without root.
    ///
    /// # Panics
    /// When it cannot be mounted; in CI also without root.
    pub fn mount_over_home(stack: &Stack, size: &str) -> Option<Self> {
        if !program::runs_as_root("mounts a small disk") {
            return None;
        }
        let (path, aside) = (stack.home(), stack.folder().join("aside"));
        std::fs::rename(&path, &aside).expect("the home can be moved");
        std::fs::create_dir(&path).expect("a folder can be created");
        let options = format!("size={size},mode=700");
        program::run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "kms-test"]).arg(&path)).ok();
        let disk = Self { path };
        program::run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&disk.path)).ok();
        Some(disk)
    }

    /// Gives it another size.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        program::run(Command::new("mount").args(["-o", &options]).arg(&self.path)).ok();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.path).status().map(drop).unwrap_or_default();
    }
}
