//! Full stacks of freed blocks, on their way from threads that free cells to threads that make them.
//!
//! *Invariant.* What is here is nobody's, and no more than `BOUND`; what would be more goes to the allocator, of the size that has
//! most here, so that what is left of a burst does not keep the other sizes out. Each stack is full, and its blocks are of the
//! size that it stands under. *Threads.* Any, ending ones included. *Ordering.* The lock's.

use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use super::block::{Free, SIZES, STACK, free_stack};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicUsize, Ordering};

/// How many stacks: 1 MiB.
const BOUND: usize = (1 << 20) / STACK;

struct Depot {
    stacks: Mutex<Stacks>,
    /// How many there are of each size, written under the lock; for a look without it.
    counts: [AtomicUsize; SIZES],
}

/// By size: the first block of the first stack.
struct Stacks {
    first: [*mut Free; SIZES],
    count: usize,
}

// SAFETY: the blocks are nobody's, and may be used and freed by any thread.
unsafe impl Send for Stacks {}

fn depot() -> &'static Depot {
    static DEPOT: OnceLock<Depot> = OnceLock::new();
    DEPOT.get_or_init(|| Depot {
        stacks: Mutex::new(Stacks { first: [ptr::null_mut(); SIZES], count: 0 }),
        counts: std::array::from_fn(|_| AtomicUsize::new(0)),
    })
}

/// Whether there is one of that size, as of some moment ago.
pub(super) fn has(size: usize) -> bool {
    // Ordering: Relaxed: a hint.
    depot().counts[size].load(Ordering::Relaxed) > 0
}

/// Takes over a full stack.
///
/// # Safety
/// It is the caller's, and of that size.
pub(super) unsafe fn give(size: usize, stack: NonNull<Free>) {
    let mut stacks = depot().stacks.lock();
    // SAFETY: the caller's word.
    unsafe { (&raw mut (*stack.as_ptr()).next_stack).write(stacks.first[size]) };
    stacks.first[size] = stack.as_ptr();
    stacks.count += 1;
    count(size, 1);
    let too_many = if stacks.count > BOUND { stacks.take_of_the_most() } else { None };
    drop(stacks);
    if let Some((size, stack)) = too_many {
        // SAFETY: it was here, under that size.
        unsafe { free_stack(size, stack) };
    }
}

/// Gives one away, if there is one of that size.
pub(super) fn take(size: usize) -> Option<NonNull<Free>> {
    depot().stacks.lock().take(size)
}

impl Stacks {
    fn take(&mut self, size: usize) -> Option<NonNull<Free>> {
        let stack = NonNull::new(self.first[size])?;
        // SAFETY: it is here, so `give` has written this.
        self.first[size] = unsafe { (*stack.as_ptr()).next_stack };
        self.count -= 1;
        count(size, usize::MAX);
        Some(stack)
    }

    fn take_of_the_most(&mut self) -> Option<(usize, NonNull<Free>)> {
        // Ordering: Relaxed: written under the lock, which is held.
        let size = (0..SIZES).max_by_key(|&size| depot().counts[size].load(Ordering::Relaxed))?;
        Some((size, self.take(size)?))
    }
}

/// Adds to a count, under the lock.
fn count(size: usize, change: usize) {
    let count = &depot().counts[size];
    // Ordering: Relaxed: see `has`.
    count.store(count.load(Ordering::Relaxed).wrapping_add(change), Ordering::Relaxed);
}
