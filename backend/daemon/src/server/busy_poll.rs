//! Adaptive busy polling for a provider's next request.
//!
//! Waking a sleeping thread takes longer than most requests do. So a connection whose last request arrived within
//! [`POLL_TIME`] of the previous response is polled that long before its thread blocks (docs/decisions/0019). Idle
//! connections block, and at most half as many threads poll at once as there are processors: the other half is for the
//! applications.

use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

/// How soon a request must arrive for the next one to be polled for, and how long that is done.
const POLL_TIME: Duration = Duration::from_micros(50);

/// The number of threads that poll.
static POLLING: AtomicUsize = AtomicUsize::new(0);

/// The poll policy of one connection.
#[derive(Debug, Default)]
pub(super) struct PollPolicy {
    /// Whether to poll for the next request: true if the last one arrived soon.
    poll_next: bool,
}

impl PollPolicy {
    /// Receives data as `recv` does, with polling first where the policy says so.
    ///
    /// # Errors
    /// Those of `recv`; `EAGAIN` after the socket's own timeout.
    #[expect(clippy::disallowed_methods, reason = "a time between two requests, not a date")]
    pub(super) fn receive(&mut self, stream: &UnixStream, buffer: &mut [u8]) -> Result<usize, Errno> {
        let started = Instant::now();
        let polled = if self.poll_next { poll(stream, buffer, started) } else { None };
        let received = polled.unwrap_or_else(|| {
            rustix::net::recv(stream, &mut *buffer, RecvFlags::empty()).map(|(read, _)| read)
        });
        self.poll_next = started.elapsed() < POLL_TIME;
        received
    }
}

/// Polls for [`POLL_TIME`]. Returns `None` if nothing arrived, or too many threads poll.
fn poll(stream: &UnixStream, buffer: &mut [u8], started: Instant) -> Option<Result<usize, Errno>> {
    let _slot = PollSlot::take()?;
    while started.elapsed() < POLL_TIME {
        match rustix::net::recv(stream, &mut *buffer, RecvFlags::DONTWAIT) {
            // Other threads come first, above all those of the application.
            Err(Errno::AGAIN) => std::thread::yield_now(),
            other => return Some(other.map(|(read, _)| read)),
        }
    }
    None
}

/// The permission to poll, of which there is a limited number.
struct PollSlot;

impl PollSlot {
    fn take() -> Option<Self> {
        static SLOTS: OnceLock<usize> = OnceLock::new();
        let slots =
            *SLOTS.get_or_init(|| std::thread::available_parallelism().map_or(0, |count| count.get() / 2));
        if POLLING.fetch_add(1, Ordering::Relaxed) < slots {
            return Some(Self);
        }
        POLLING.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for PollSlot {
    fn drop(&mut self) {
        POLLING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn data_is_received_with_and_without_polling() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        for poll_next in [false, true] {
            let (mut policy, mut buffer) = (PollPolicy { poll_next }, [0; 8]);
            theirs.write_all(b"soon").unwrap();
            assert_eq!((policy.receive(&ours, &mut buffer), &buffer[..4]), (Ok(4), b"soon".as_slice()));
            // Nothing arrives: the socket's own timeout ends the wait, and the next wait does not poll.
            let mut policy = PollPolicy { poll_next };
            assert_eq!(policy.receive(&ours, &mut buffer), Err(Errno::AGAIN));
            assert!(!policy.poll_next);
        }
        drop(theirs);
        assert_eq!(PollPolicy { poll_next: true }.receive(&ours, &mut [0; 8]), Ok(0));
    }
}
