//! A mutex that costs its owner's thread no atomic read-modify-write: biased locking.
//!
//! *Invariant.* One guard at a time. The *owner* is the thread that called [`take_over`](BiasedMutex::take_over), until it calls
//! [`give_up`](BiasedMutex::give_up). While the mutex is biased (`revoked` is not set) the owner locks by setting `busy`, a
//! plain store. Anybody else locks `others` first, then *revokes*: sets `revoked`, and waits for `busy` to be unset. From
//! then on the owner locks `others`, too, until it has done so so often without meeting anybody that being biased pays again.
//!
//! | who | does |
//! |---|---|
//! | owner | `busy` := true, light fence, reads `revoked`; if set: `busy` := false, and locks `others` |
//! | another | locks `others`; if not revoked: `revoked` := true, heavy fence, waits until `busy` is false |
//!
//! By the fences (`asymmetric.rs`) either the owner reads `revoked` as set, or the other one reads `busy` as set: both do
//! not get in. `revoked` is written by holders of `others` only. A revocation costs microseconds and an interrupt of the owner's
//! CPU, and it takes [`UNOPPOSED`] locks of the owner to come to the next. Without such fences it stays revoked.
//!
//! *Threads.* Any; `give_up` is its owner's. Locking twice on one thread panics or blocks for ever, as with any mutex.
//! *Ordering.* As a mutex: each guard sees what those before it did. Owner to owner by program order; between others by `others`;
//! owner to other by `busy` (Release, Acquire); other to owner by `others`, which the owner locks before it is biased again, for it
//! alone sets the bias.

// std's cell in both builds: loom's lends its pointer to a closure, while guards give references. `witness` is for loom.
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::atomic::{AtomicBool, Ordering};
use super::owner::Owner;
use super::{MODELLED, Mutex, MutexGuard, asymmetric, give_way};

/// How often the owner locks `others` without meeting anybody before the mutex is biased again.
const UNOPPOSED: u32 = if MODELLED { 1 } else { 4096 };

pub(crate) struct BiasedMutex<T> {
    owner: Owner,
    /// The owner has it, without `others`.
    busy: AtomicBool,
    /// The owner locks `others`, too.
    revoked: AtomicBool,
    /// The owner's locks since somebody else's.
    others: Mutex<u32>,
    /// Written by each guard at its beginning and end: two guards at a time are a race that loom sees.
    witness: super::UnsafeCell<()>,
    value: UnsafeCell<T>,
}

// SAFETY: a shared mutex gives the value to one guard at a time, so it moves it between threads, never shares it.
unsafe impl<T: Send> Sync for BiasedMutex<T> {}

impl<T> BiasedMutex<T> {
    /// One without an owner.
    pub(crate) fn new(value: T) -> Self {
        asymmetric::prepare();
        Self {
            owner: Owner::nobody(),
            busy: AtomicBool::new(false),
            revoked: AtomicBool::new(true),
            others: Mutex::new(0),
            witness: super::UnsafeCell::new(()),
            value: UnsafeCell::new(value),
        }
    }

    /// The calling thread is the owner from now on.
    ///
    /// # Panics
    /// If another thread has not given it up.
    pub(crate) fn take_over(&self) {
        let _others = self.others.lock();
        assert!(!self.owner.is_elsewhere(), "a biased mutex has two owners");
        self.owner.begin();
        // Ordering: Relaxed: the bias is set under `others`; without it only the owner draws conclusions.
        self.revoked.store(!asymmetric::are_there(), Ordering::Relaxed);
    }

    /// The owner, who holds no guard, is none any more.
    pub(crate) fn give_up(&self) {
        if !self.owner.is_here() {
            return;
        }
        let _others = self.others.lock();
        assert!(!self.busy.load(Ordering::Relaxed), "a biased mutex is given up while it is locked");
        // Ordering: Relaxed, as in `take_over`.
        self.revoked.store(true, Ordering::Relaxed);
        self.owner.end();
    }

    #[inline]
    pub(crate) fn lock(&self) -> BiasedGuard<'_, T> {
        let mine = self.owner.is_here();
        if mine && self.enter() {
            self.witness.with_mut(|_| ());
            return BiasedGuard { mutex: self, others: None, value: PhantomData };
        }
        self.lock_others(mine)
    }

    /// The owner's way; false if the bias is revoked.
    #[inline]
    fn enter(&self) -> bool {
        // Ordering: Relaxed: only this thread writes it.
        assert!(!self.busy.load(Ordering::Relaxed), "a mutex is locked twice on one thread");
        // Ordering: Relaxed: the light fence orders it before the load below, against the heavy one in `revoke`.
        self.busy.store(true, Ordering::Relaxed);
        asymmetric::light();
        // Ordering: Relaxed: unset it was by this thread, which holding `others` saw what others had done.
        if !self.revoked.load(Ordering::Relaxed) {
            return true;
        }
        // Ordering: Release, pairs with the Acquire in `revoke`: nothing was done under it, but who reads this is to see what was done
        // under the one before.
        self.busy.store(false, Ordering::Release);
        false
    }

    #[cold]
    fn lock_others(&self, mine: bool) -> BiasedGuard<'_, T> {
        let mut others = self.others.lock();
        if mine {
            *others += 1;
        } else {
            *others = 0;
            self.revoke();
        }
        self.witness.with_mut(|_| ());
        BiasedGuard { mutex: self, others: Some(others), value: PhantomData }
    }

    /// By who holds `others` and is not the owner.
    fn revoke(&self) {
        // Ordering: Relaxed: written under `others` only.
        if self.revoked.load(Ordering::Relaxed) {
            return;
        }
        // Ordering: Relaxed: the heavy fence orders it before the load below, against the light one in `enter`.
        self.revoked.store(true, Ordering::Relaxed);
        asymmetric::heavy();
        let mut n = 0;
        // Ordering: Acquire, pairs with the Release in the drop of the owner's guard.
        while self.busy.load(Ordering::Acquire) {
            give_way(n);
            n += 1;
        }
    }
}

/// The value, for as long as this lives.
pub(crate) struct BiasedGuard<'a, T> {
    mutex: &'a BiasedMutex<T>,
    /// `None`: the owner's, by `busy`.
    others: Option<MutexGuard<'a, u32>>,
    /// As to what may be shared.
    value: PhantomData<&'a mut T>,
}

impl<T> Deref for BiasedGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard is the only one (file header), and its own borrow keeps `&T` and `&mut T` apart.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for BiasedGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for BiasedGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.witness.with_mut(|_| ());
        match &mut self.others {
            // Ordering: Release, pairs with the Acquire in `revoke`.
            None => self.mutex.busy.store(false, Ordering::Release),
            Some(unopposed) if **unopposed >= UNOPPOSED => {
                **unopposed = 0;
                // Ordering: Relaxed: by the owner, under `others`.
                self.mutex.revoked.store(!asymmetric::are_there(), Ordering::Relaxed);
            }
            Some(_) => {}
        }
    }
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool as StdBool;
    use std::thread;

    use super::*;

    /// What the model cannot have: the kernel's own fence.
    #[test]
    fn owners_and_others_count_together() {
        const LOCKS: u64 = 200_000;
        let mutex = Arc::new(BiasedMutex::new((0, 0)));
        let done = Arc::new(StdBool::new(false));
        let others = [0, 1].map(|_| {
            let (mutex, done) = (mutex.clone(), done.clone());
            thread::spawn(move || {
                let mut times = 0;
                while !done.load(Ordering::Relaxed) {
                    let mut guard = mutex.lock();
                    assert_eq!(guard.0, guard.1, "half a change is seen");
                    guard.0 += 1;
                    guard.1 += 1;
                    times += 1;
                    drop(guard);
                    if times % 4 == 0 {
                        // So that the owner gets its bias back now and then.
                        thread::sleep(std::time::Duration::from_micros(300));
                    }
                }
                times
            })
        });
        for _ in 0..2 {
            mutex.take_over();
            for _ in 0..LOCKS {
                let mut guard = mutex.lock();
                assert_eq!(guard.0, guard.1, "half a change is seen");
                guard.0 += 1;
                guard.1 += 1;
            }
            mutex.give_up();
        }
        done.store(true, Ordering::Relaxed);
        let times: u64 = others.map(|thread| thread.join().unwrap()).iter().sum();
        assert_eq!(*mutex.lock(), (2 * LOCKS + times, 2 * LOCKS + times));
    }

    #[test]
    #[should_panic(expected = "locked twice")]
    fn a_second_guard_of_the_owner_is_refused() {
        asymmetric::prepare();
        if !asymmetric::are_there() {
            panic!("locked twice: not on this system");
        }
        let mutex = BiasedMutex::new(());
        mutex.take_over();
        let _first = mutex.lock();
        let _second = mutex.lock();
    }

    #[test]
    #[should_panic(expected = "two owners")]
    fn a_second_owner_is_refused() {
        let mutex = BiasedMutex::new(());
        mutex.take_over();
        thread::scope(|scope| {
            let second = scope.spawn(|| mutex.take_over());
            if let Err(payload) = second.join() {
                std::panic::resume_unwind(payload);
            }
        });
    }
}
