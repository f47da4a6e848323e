//! The end of a thread that runs until a flag is set.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets a flag when it is dropped. A thread scope waits for its threads before a panic leaves it: a thread that runs
/// until the flag is set would keep a failed test from ending.
#[derive(Debug)]
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
