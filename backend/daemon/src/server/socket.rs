//! The Unix socket: one daemon per home, and nobody's file is removed that is not a dead socket of ours.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The longest path a Unix socket can have on Linux (`sun_path`, with its final zero).
const PATH_BYTES_MAX: usize = 107;

/// Why the socket is not ours to listen on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon serves it.
    #[error("another `kms serve` is already running on {}; stop it first", .0.display())]
    Taken(PathBuf),
    /// Something else has that name.
    #[error("{} is there and is not a socket; move it away, or set [socket] path in kms.toml", .0.display())]
    NotASocket(PathBuf),
    /// The path does not fit.
    #[error("{} is too long for a Unix socket (107 bytes at most); choose a shorter home, or set [socket] path", .0.display())]
    TooLong(PathBuf),
    /// The operating system says no.
    #[error("cannot listen on {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A socket that listens, and the lock that says it is ours.
pub struct SocketListener {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    _lock: File,
}

impl SocketListener {
    /// Listens. A socket left behind by a daemon that was killed is replaced.
    ///
    /// # Errors
    /// When another daemon has it, or the path will not do.
    pub fn open(path: &Path, mode: u32) -> Result<Self, SocketError> {
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(SocketError::TooLong(path.to_owned()));
        }
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        let lock = lock(path).map_err(failed)?.ok_or_else(|| SocketError::Taken(path.to_owned()))?;
        clear(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }
}

impl Drop for SocketListener {
    fn drop(&mut self) {
        // The lock is still held: the file is ours.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket had already gone");
        }
    }
}

/// The lock beside the socket, held until the process ends; none if another process holds it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name)?;
    fs::set_permissions(&name, Permissions::from_mode(0o600))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a dead socket; leaves anything else alone.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(SocketError::Taken(path.to_owned())),
            Err(_) => fs::remove_file(path).map_err(failed),
        },
    }
}
