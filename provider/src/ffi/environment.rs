//! Environment variables, `errno`, and strings that may not be readable.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use crate::config::Environment;

/// Reads the environment variables that the configuration depends on; none in a set-user-id host (`secure_getenv`),
/// whose caller must not choose where its secrets go.
pub(crate) fn read() -> Environment {
    Environment {
        file: variable(c"KMS_PKCS11_CONFIG"),
        config_home: variable(c"XDG_CONFIG_HOME"),
        home: variable(c"HOME"),
    }
}

unsafe extern "C" {
    // Declared as in glibc's and musl's headers: the `libc` crate does not declare it on Linux.
    fn secure_getenv(name: *const c_char) -> *mut c_char;
}

fn variable(name: &CStr) -> Option<OsString> {
    // SAFETY: `name` ends with a zero. The value is copied at once; a host that changes its environment in another
    // thread meanwhile breaks its own `getenv` calls as well.
    let value = unsafe { secure_getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: not null, so it is a string with a final zero inside the environment.
    let value = unsafe { CStr::from_ptr(value) };
    Some(OsStr::from_bytes(value.to_bytes()).to_owned())
}

/// The text behind a pointer that may point anywhere; none if it is not a readable string of at most 4 KiB.
///
/// # Safety
/// If the memory is readable, it stays so until the call returns.
pub(crate) unsafe fn foreign_text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // The kernel reads the string for us, and returns EFAULT or ENAMETOOLONG where we would crash or read on.
    // SAFETY: any pointer may be passed to the kernel.
    let found = unsafe { libc::access(text, libc::F_OK) };
    if found != 0
        && matches!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT | libc::ENAMETOOLONG))
    {
        return None;
    }
    // SAFETY: the kernel has just read up to a final zero, and the memory stays readable.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().ok().map(str::to_owned)
}

/// The caller's `errno`, restored on drop: hosts read it after unrelated calls.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Errno(c_int);

impl Errno {
    /// Saves the current `errno`.
    pub(crate) fn save() -> Self {
        let address = errno();
        // SAFETY: the C library gives each thread a valid address for its lifetime.
        Self(unsafe { address.read() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        let address = errno();
        // SAFETY: as above, and only this thread writes to it.
        unsafe { address.write(self.0) }
    }
}

fn errno() -> *mut c_int {
    // SAFETY: has no requirements.
    unsafe { libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "the same promise for all three")]
    fn memory_that_cannot_be_read_is_not_text() {
        let text = c"config=/a/b.toml";
        // SAFETY: a readable string, an invalid pointer, and null.
        let texts = unsafe {
            [
                foreign_text(text.as_ptr()),
                foreign_text(std::ptr::without_provenance(1)),
                foreign_text(std::ptr::null()),
            ]
        };
        assert_eq!(texts, [Some("config=/a/b.toml".to_owned()), None, None]);
        let long = vec![b'a'; 5000];
        // SAFETY: 5,000 readable bytes, more than are read.
        assert_eq!(unsafe { foreign_text(long.as_ptr().cast()) }, None);
    }
}
