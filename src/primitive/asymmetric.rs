//! A pair of fences of which one costs nothing: the other makes up for it.
//!
//! *Invariant.* Between a [`light`] on one thread and a [`heavy`] on another it is as between two `SeqCst` fences: what the one
//! wrote before its fence the other reads after its own, or the other way round. `light` only keeps the compiler from moving
//! accesses across it; `heavy` has the kernel run a full barrier on each CPU that runs a thread of this process, so at
//! whatever point such a thread is, its CPU has put its accesses in order there. That is outside of the language's memory
//! model and in the kernel's: `membarrier(2)` promises it of pairs of a barrier of the compiler and a call.
//!
//! *Threads.* Any. `light` may be relied upon only if [`are_there`] says so. *Ordering.* As said; the models' stand-ins give
//! that and no more, so `light` makes no Release of a plain store after it.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};

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
    if let Err(error) = membarrier(MembarrierCommand::PrivateExpedited) {
        // It was registered, or nobody would be here, and then it fails only if a sandbox has come since that forbids it, or the
        // kernel is out of memory. Going on would be a data race, and a panic would leave the lock open.
        eprintln!("epicycle: membarrier(2) fails now, and did not before: {error}; aborting");
        std::process::abort();
    }
}

/// Whether the kernel has granted them, so that `light` may be relied upon.
#[inline]
pub(crate) fn are_there() -> bool {
    // Ordering: Acquire, pairs with the store in `register`.
    REGISTERED.load(Ordering::Acquire)
}

static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Asks the kernel for them, once. In a process of many threads that takes some ten milliseconds, until each CPU has been through the
/// scheduler; so it is done where a loop is made, and not by a loop's thread.
pub(crate) fn prepare() {
    static ASKED: Once = Once::new();
    ASKED.call_once(register);
}

#[cfg(target_os = "linux")]
fn register() {
    let registered = membarrier_query().contains(MembarrierQuery::PRIVATE_EXPEDITED)
        && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok();
    // Ordering: Release, pairs with the load in `are_there`.
    REGISTERED.store(registered, Ordering::Release);
}

#[cfg(not(target_os = "linux"))]
fn register() {}
