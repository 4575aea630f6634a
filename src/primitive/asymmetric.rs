//! A pair of fences of which one costs nothing: the other makes up for it.
//!
//! *Invariant.* Between a [`light`] on one thread and a [`heavy`] on another it is as between two `SeqCst` fences: what the one
//! wrote before its fence the other reads after its own, or the other way round. `light` only keeps the compiler from moving
//! accesses across it; `heavy` has the kernel run a full barrier on each CPU that runs a thread of this process, so at
//! whatever point such a thread is, its CPU has put its accesses in order there. That is outside of the language's memory
//! model and in the kernel's: `membarrier(2)` promises it of pairs of a barrier of the compiler and a call.
//!
//! *Threads.* Any. `light` may be relied upon only if [`are_there`] says so. *Ordering.* As said; the models' stand-ins
//! are `SeqCst` fences.

use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence};

#[cfg(target_os = "linux")]
use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

/// For the side that comes often.
#[inline(always)]
pub(crate) fn light() {
    compiler_fence(Ordering::SeqCst);
}

/// For the side that comes rarely: microseconds, and an interrupt for each CPU that is at work for this process.
#[cold]
pub(crate) fn heavy() {
    #[cfg(target_os = "linux")]
    // Registered, or nobody would be here, and then it does not fail. If it did, going on would be a data race.
    membarrier(MembarrierCommand::PrivateExpedited).expect("membarrier was there before");
}

/// Whether the kernel has them. Asks it at the first call.
pub(crate) fn are_there() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(register)
}

#[cfg(target_os = "linux")]
fn register() -> bool {
    membarrier_query().contains(MembarrierQuery::PRIVATE_EXPEDITED)
        && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn register() -> bool {
    false
}
