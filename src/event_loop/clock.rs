//! Time as the engine counts it: whole nanoseconds since the process first asked.
//!
//! *Invariant.* Never rounds down a deadline, so that nothing fires early; 64 bits last for centuries. *Threads.* Any.
//! *Ordering.* None.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// What stands for "too far for the clock": about thirty years.
pub(crate) const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

#[inline]
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// `instant` in nanoseconds since the epoch; 0 for what lies before it.
pub(crate) fn nanos(instant: Instant) -> u64 {
    let since = instant.saturating_duration_since(epoch());
    u64::try_from(since.as_nanos()).unwrap_or(NEVER - 1)
}

pub(crate) fn now() -> u64 {
    nanos(Instant::now())
}
