//! Whether the process that listens on the socket may be the backend: PINs are sent to it. Another user of the machine can
//! listen on a path in a folder that he can write, or that he created first.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;

use super::CallError;

/// The users as whom the backend may run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServerUser {
    /// `server_uid` of the configuration: then nobody else.
    pub(crate) uid: Option<u32>,
    /// The owner of the configuration file, who also names the socket.
    pub(crate) configured_by: Option<u32>,
}

impl ServerUser {
    /// Checks the user of the process that listens at the other end of a connection, before anything is sent.
    ///
    /// # Errors
    /// [`CallError::ForeignServer`].
    pub(super) fn check(&self, socket: impl AsFd, path: &Path) -> Result<(), CallError> {
        let peer = socket_peercred(socket).map_err(|_| CallError::Disconnected)?.uid.as_raw();
        if self.accepts(peer, path) { Ok(()) } else { Err(CallError::ForeignServer(peer)) }
    }

    fn accepts(&self, peer: u32, path: &Path) -> bool {
        if let Some(uid) = self.uid {
            return peer == uid;
        }
        // Whoever is root, this user or the owner of the configuration could redirect this process anyway.
        let own = rustix::process::geteuid().as_raw();
        peer == 0 || peer == own || Some(peer) == self.configured_by || owns_name(peer, path)
    }
}

/// Whether only this user (and root) can decide what the path names: the socket's folder is his, and no other user can
/// write it or a folder above it.
fn owns_name(user: u32, path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let mut folders = path.ancestors().skip(1);
    let is_closed = |folder: &Path, owners: &[u32]| {
        folder.metadata().is_ok_and(|folder| owners.contains(&folder.uid()) && folder.mode() & 0o022 == 0)
    };
    folders.next().is_some_and(|folder| is_closed(folder, &[user]))
        && folders.all(|folder| is_closed(folder, &[user, 0]))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn root_this_user_and_the_owner_of_the_configuration_may_listen() {
        let path = Path::new("/nonexistent/kms.sock");
        let own = rustix::process::geteuid().as_raw();
        let by_default = ServerUser { uid: None, configured_by: Some(7) };
        for (peer, accepted) in [(0, true), (own, true), (7, true), (own + 8, false)] {
            assert_eq!(by_default.accepts(peer, path), accepted, "{peer}");
        }
        let set = ServerUser { uid: Some(9), configured_by: Some(7) };
        for (peer, accepted) in [(0, false), (own, false), (7, false), (9, true)] {
            assert_eq!(set.accepts(peer, path), accepted, "{peer}");
        }
    }

    #[test]
    fn a_folder_that_others_can_write_names_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        fs::write(&path, "").unwrap();
        let own = rustix::process::geteuid().as_raw();
        // The temporary folder itself is open to everybody, sticky or not: a name in it may be anybody's.
        assert!(!owns_name(own, &path));
        assert!(owns_name(0, Path::new("/proc/self/status")) || !Path::new("/proc/self").exists());
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(!owns_name(own, &path));
    }

    #[test]
    fn the_listeners_user_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(ServerUser::default().check(&stream, &path), Ok(()));
        let other = ServerUser { uid: Some(own + 1), ..ServerUser::default() };
        assert_eq!(other.check(&stream, &path), Err(CallError::ForeignServer(own)));
    }
}
