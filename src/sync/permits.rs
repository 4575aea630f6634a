//! A counted number of permits and who waits for them: what [`Mutex`](super::Mutex) (of one permit) and
//! [`Semaphore`](super::Semaphore) are made of.
//!
//! *Invariant.* While somebody waits, what is free is less than the first in the line asked for; so a newcomer that looks at the
//! line first never overtakes. Free, granted and held permits add up to `total`. *Threads.* Any. *Ordering.* The lock's: who
//! takes permits sees what was done before they were given back.

use std::ops::Deref;

use super::lot::{Lot, Wakers};
use super::wait::{Need, Wait};
use crate::primitive::Mutex;

#[derive(Debug)]
pub(super) struct Permits {
    state: Mutex<State>,
    /// What their total may grow to.
    bound: usize,
}

#[derive(Debug)]
pub(super) struct State {
    free: usize,
    total: usize,
    lot: Lot<usize, ()>,
}

impl State {
    /// Takes permits, unless somebody was here before.
    fn take(&mut self, count: usize) -> bool {
        let can = self.lot.waiting() == 0 && count <= self.free;
        if can {
            self.free -= count;
        }
        can
    }

    /// Hands out what is free, in the order of the line: who is behind one that wants more than there is waits, too.
    fn hand_out(&mut self, wakers: &mut Wakers) {
        while let Some(&count) = self.lot.first()
            && count <= self.free
        {
            self.free -= count;
            if let Some(waker) = self.lot.choose(()) {
                wakers.push(waker);
            }
        }
    }
}

impl Permits {
    pub(super) fn new(count: usize, bound: usize) -> Self {
        Self { state: Mutex::new(State { free: count, total: count, lot: Lot::new() }), bound }
    }

    pub(super) fn free(&self) -> usize {
        self.state.lock().free
    }

    /// Whether a newcomer that wants one permit would have to wait.
    pub(super) fn is_locked(&self) -> bool {
        let state = self.state.lock();
        state.free == 0 || state.lot.waiting() > 0
    }

    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    pub(super) fn try_take(&self, count: usize) -> bool {
        self.state.lock().take(count)
    }

    pub(super) fn take(&self, count: usize) -> Wait<'_, Take<false>> {
        Wait::new(&self.state, Take(count))
    }

    /// The only one.
    pub(super) fn lock(&self) -> Wait<'_, Take<true>> {
        Wait::new(&self.state, Take(1))
    }

    pub(super) fn give_back(&self, count: usize) {
        let mut wakers = Wakers::default();
        {
            let mut state = self.state.lock();
            state.free += count;
            state.hand_out(&mut wakers);
        }
        wakers.wake();
    }

    /// Adds new permits; false if they would be more than the bound allows.
    pub(super) fn add(&self, count: usize) -> bool {
        {
            let mut state = self.state.lock();
            match state.total.checked_add(count) {
                Some(total) if total <= self.bound => state.total = total,
                _ => return false,
            }
        }
        self.give_back(count);
        true
    }

    /// Held permits that will not come back.
    pub(super) fn forget(&self, count: usize) {
        self.state.lock().total -= count;
    }
}

/// The need for some permits, or that of a lock.
#[derive(Debug)]
pub(super) struct Take<const OF_LOCK: bool>(usize);

impl<const OF_LOCK: bool> Need for Take<OF_LOCK> {
    type State = State;
    type Request = usize;
    type Grant = ();
    type Output = ();

    const NAME: &'static str = if OF_LOCK { "lock" } else { "semaphore" };

    fn lot(state: &mut State) -> &mut Lot<usize, ()> {
        &mut state.lot
    }

    fn request(&self) -> usize {
        self.0
    }

    fn arrive(&mut self, state: &mut State, _: &mut Wakers) -> Option<()> {
        state.take(self.0).then_some(())
    }

    fn collect(&mut self, _: &mut State, (): (), _: &mut Wakers) {}

    fn abandon(&mut self, state: &mut State, grant: Option<()>, wakers: &mut Wakers) {
        if grant.is_some() {
            state.free += self.0;
        }
        // Also when it was not granted: it may have been the first, and wanted more than the next one does.
        state.hand_out(wakers);
    }
}

/// What has permits.
pub(super) trait HasPermits {
    fn permits(&self) -> &Permits;
}

/// Permits that are held. Dropping it gives them back.
#[derive(Debug)]
pub(super) struct Held<P: Deref<Target: HasPermits>> {
    owner: P,
    count: usize,
}

impl<P: Deref<Target: HasPermits>> Held<P> {
    /// For who has just taken `count` permits.
    pub(super) fn new(owner: P, count: usize) -> Self {
        Self { owner, count }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn forget(mut self) {
        self.owner.permits().forget(self.count);
        self.count = 0;
    }
}

impl<P: Deref<Target: HasPermits>> Drop for Held<P> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.owner.permits().give_back(self.count);
        }
    }
}
