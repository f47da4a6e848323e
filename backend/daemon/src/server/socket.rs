//! The Unix socket: one daemon per home. Only a stale socket is removed from its path, never another file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The maximum length of a Unix socket's path on Linux (`sun_path`, without the terminating zero).
const PATH_BYTES_MAX: usize = 107;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon serves this socket.
    #[error("another `kms serve` is already running on {}; stop it first", .0.display())]
    NameInUse(PathBuf),
    /// Another file has that path.
    #[error("{} exists and is not a socket; move it away, or set [socket] path in kms.toml", .0.display())]
    NotASocket(PathBuf),
    /// The path is too long.
    #[error("{} is too long for a Unix socket (107 bytes at most); choose a shorter home, or set [socket] path", .0.display())]
    TooLong(PathBuf),
    /// The operating system reports an error.
    #[error("cannot listen on {}", path.display())]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A listening socket, and the lock that makes this process its only daemon.
pub struct SocketListener {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    _lock: File,
}

impl SocketListener {
    /// Binds the socket. A stale socket of a daemon that was killed is replaced.
    ///
    /// # Errors
    /// When another daemon serves it, or the path cannot be used.
    pub fn open(path: &Path, mode: u32) -> Result<Self, SocketError> {
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(SocketError::TooLong(path.to_owned()));
        }
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        let lock = lock(path).map_err(failed)?.ok_or_else(|| SocketError::NameInUse(path.to_owned()))?;
        clear(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }
}

impl Drop for SocketListener {
    fn drop(&mut self) {
        // The lock is still held, so the file belongs to this process.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket was already removed");
        }
    }
}

/// Acquires the lock file beside the socket, until the process ends. Returns `None` if another process holds it.
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

/// Removes a stale socket. Any other file is left unchanged.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(SocketError::NameInUse(path.to_owned())),
            Err(_) => fs::remove_file(path).map_err(failed),
        },
    }
}
