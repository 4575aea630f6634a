//! The wakers of whoever waits for one thing, all of whom are told together.
//!
//! *Invariant.* A waiter's key is its own from its first `put` to its `remove`, whether or not it was woken between. No
//! method runs a waker's code: wakers are cloned before the owner's lock is taken and dropped after it is released.
//! *Threads.* Any, under the owner's lock. *Ordering.* That lock's.

use std::task::Waker;

use slab::Slab;

use crate::scheduler::shield_waker;

pub(crate) struct WakerSet {
    slots: Slab<Option<Waker>>,
}

impl WakerSet {
    pub(crate) const fn new() -> Self {
        Self { slots: Slab::new() }
    }

    /// Enters `waker` under the waiter's `key`, which is made if there is none. Returns what to drop outside the lock.
    #[must_use]
    pub(crate) fn put(&mut self, key: &mut Option<usize>, waker: Waker) -> Option<Waker> {
        match *key {
            Some(key) => self.slots[key].replace(waker),
            None => {
                *key = Some(self.slots.insert(Some(waker)));
                None
            }
        }
    }

    /// Takes the waiter out. Returns what to drop outside the lock.
    #[must_use]
    pub(crate) fn remove(&mut self, key: &mut Option<usize>) -> Option<Waker> {
        key.take().and_then(|key| self.slots.remove(key))
    }

    /// Adds all wakers to `woken`, to be woken outside the lock.
    pub(crate) fn take_all(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(self.slots.iter_mut().filter_map(|(_, slot)| slot.take()));
    }
}

/// Wakes each. A waker that panics keeps none of the others from being woken.
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        shield_waker(|| waker.wake());
    }
}
