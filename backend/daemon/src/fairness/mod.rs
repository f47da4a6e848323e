//! Shares of what callers of different tenants have in common: connections, processors, memory and calls. Nothing here
//! knows what it is used for; docs/decisions/0052 has the shares and why.
//!
//! - `connections`: how many connections a peer may have, and which one is closed when there are too many.
//! - `byte_budget`: memory for frames that have not arrived completely.
//! - `contention`: whether several users have requests at present.
//! - `gate`: expensive work, a few at a time, in turn by user and ring.
//! - `quota`: calls per hour in a sliding window.
//! - `throttled_log`: events that others can cause at any rate, logged once a minute.

mod byte_budget;
mod connections;
mod contention;
mod gate;
mod quota;
mod throttled_log;

pub(crate) use byte_budget::{ByteBudget, HeldBytes};
pub(crate) use connections::{Activity, Busy, ConnectionLimits, Connections, ListenerCounts, Place};
pub(crate) use contention::Contention;
pub(crate) use gate::{Gate, GatePlace, Tenant};
pub(crate) use quota::{Allowance, Exhausted, Quota};
pub(crate) use throttled_log::ThrottledLog;

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "periods are measured, not dates")]
fn now() -> Instant {
    Instant::now()
}
