//! The primitives of a normal build: std's atomics, parking_lot's locks, crossbeam's deques.
//!
//! *Invariant.* Same names and shapes as in `model.rs`. *Threads.* Any. *Ordering.* As their own documentation says.

pub(crate) use std::thread_local;

pub(crate) use parking_lot::{Mutex, MutexGuard};

/// Whether this build is for the models, which shrink some constants.
pub(crate) const MODELLED: bool = false;

pub(crate) mod atomic {
    //! Atomics and fences.
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

/// What tells this thread from all others that ever were; never 0.
#[inline]
pub(crate) fn thread_token() -> usize {
    thread_local! {
        // Not destroyed, so it is there in exit destructors as well.
        static TOKEN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }
    match TOKEN.get() {
        0 => {
            let token = next_token();
            TOKEN.set(token);
            token
        }
        token => token,
    }
}

#[cold]
fn next_token() -> usize {
    use atomic::{AtomicUsize, Ordering};
    static LAST: AtomicUsize = AtomicUsize::new(0);
    // Ordering: Relaxed: only that they differ matters.
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Lets others go first, who are about to do what this thread waits for, the `n`th time.
pub(crate) fn give_way(n: u32) {
    match n {
        0..64 => std::hint::spin_loop(),
        // It was interrupted in the middle.
        64..1024 => std::thread::yield_now(),
        // It may be of a lower priority.
        _ => std::thread::sleep(std::time::Duration::from_micros(50)),
    }
}

pub(crate) mod deque {
    //! The stealable FIFO and the global FIFO.
    pub(crate) use crossbeam_deque::{Injector, Steal, Stealer, Worker};
}

/// `UnsafeCell` with loom's closure interface, so that the models see every access.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Calls `f` with a pointer that the caller may write through, under the caller's own argument of exclusivity.
    #[inline]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
