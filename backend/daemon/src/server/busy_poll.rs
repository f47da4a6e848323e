//! Waiting for a provider's next request: awake for a moment if it has just been quick, else asleep.
//!
//! Waking a sleeping thread takes longer than most requests do. So a connection whose last request came within
//! [`AWAKE`] of the answer before is looked at that long without sleeping (docs/decisions/0019). An idle one sleeps, and
//! no more threads are awake at once than half of the processors: the other half is the applications'.

use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

/// How soon a request is soon, and how long one is waited for awake.
const AWAKE: Duration = Duration::from_micros(50);

/// Threads that are awake though they have nothing to do.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// One connection's policy.
#[derive(Debug, Default)]
pub(super) struct PollPolicy {
    /// Whether the last request came soon.
    quick: bool,
}

impl PollPolicy {
    /// Reads what comes next, as `recv` does.
    ///
    /// # Errors
    /// What `recv` says; `EAGAIN` after the socket's own timeout.
    #[expect(clippy::disallowed_methods, reason = "a time between two requests, not a date")]
    pub(super) fn receive(&mut self, stream: &UnixStream, room: &mut [u8]) -> Result<usize, Errno> {
        let started = Instant::now();
        let looked = if self.quick { look(stream, room, started) } else { None };
        let received = looked.unwrap_or_else(|| {
            rustix::net::recv(stream, &mut *room, RecvFlags::empty()).map(|(read, _)| read)
        });
        self.quick = started.elapsed() < AWAKE;
        received
    }
}

/// Looks for a moment without sleeping; none if there was nothing.
fn look(stream: &UnixStream, room: &mut [u8], started: Instant) -> Option<Result<usize, Errno>> {
    let _seat = PollSlot::take()?;
    while started.elapsed() < AWAKE {
        match rustix::net::recv(stream, &mut *room, RecvFlags::DONTWAIT) {
            // Who else has something to do goes first, the application above all.
            Err(Errno::AGAIN) => std::thread::yield_now(),
            other => return Some(other.map(|(read, _)| read)),
        }
    }
    None
}

/// The right to be awake.
struct PollSlot;

impl PollSlot {
    fn take() -> Option<Self> {
        static SEATS: OnceLock<usize> = OnceLock::new();
        let seats =
            *SEATS.get_or_init(|| std::thread::available_parallelism().map_or(0, |count| count.get() / 2));
        if WAITING.fetch_add(1, Ordering::Relaxed) < seats {
            return Some(Self);
        }
        WAITING.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for PollSlot {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_comes_is_received_awake_or_asleep() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        for quick in [false, true] {
            let (mut policy, mut room) = (PollPolicy { quick }, [0; 8]);
            theirs.write_all(b"soon").unwrap();
            assert_eq!((policy.receive(&ours, &mut room), &room[..4]), (Ok(4), b"soon".as_slice()));
            // Nothing comes: the socket's own timeout ends the wait, and the next one is not awake.
            let mut policy = PollPolicy { quick };
            assert_eq!(policy.receive(&ours, &mut room), Err(Errno::AGAIN));
            assert!(!policy.quick);
        }
        drop(theirs);
        assert_eq!(PollPolicy { quick: true }.receive(&ours, &mut [0; 8]), Ok(0));
    }
}
