//! One armed deadline.
//!
//! *Invariant.* Its key finds its own entry in its loop's heap, or none once it has fired. Dropping it cancels. *Threads.* Any.
//! *Ordering.* The heap's lock; what is known without it, `timers.rs` argues.

use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use super::super::core::LoopCore;
use super::super::heap::Key;
use super::super::{Remote, clock, current};
use super::{Given, Timers};
use crate::primitive::BiasedArc;
use crate::task::{Event, FutureId, is_own_waker, try_id};

/// Whether the waker belongs to the loop `home`, which this thread drives: its cell goes without user code.
fn may_be_kept(home: &BiasedArc<Remote>, waker: &Waker) -> bool {
    is_own_waker(waker, home.index()) && current::is_on(home)
}

/// One armed deadline. Dropping it cancels.
pub(crate) struct Timer {
    home: BiasedArc<Remote>,
    key: Key,
    /// Whether the waker is one that may be kept for a while.
    may_be_kept: bool,
}

impl Timer {
    /// Arms `waker` for `deadline` on `home`; on a closed loop it is woken at once.
    pub(crate) fn arm(home: BiasedArc<Remote>, deadline: Instant, waker: Waker) -> Self {
        let nanos = clock::nanos(deadline);
        Self::arm_told(home, nanos, Given::Own(waker), |timers, number| timers.tell_armed(number, deadline))
    }

    /// The same for a future that a task polls, which is going to wait for it. On the `home` that is asked for, or in the place
    /// of a timer that was just dropped on this thread's loop. `nanos`: the deadline.
    #[inline]
    pub(crate) fn arm_awaited(
        home: impl FnOnce() -> BiasedArc<Remote>,
        deadline: Instant,
        nanos: u64,
        waker: &Waker,
    ) -> Self {
        let waker = match Self::rearm(nanos, Given::Lent(waker)) {
            Ok(timer) => return timer,
            Err(waker) => waker,
        };
        Self::arm_told(home(), nanos, waker, |timers, number| {
            let (task, future) = (try_id(), FutureId::of_timer(number));
            timers.observer.tell(|| Event::FutureCreated { future });
            timers.tell_armed(number, deadline);
            timers.observer.tell(|| Event::Blocking { task, future });
            timers.observer.tell(|| Event::WakerRegistered { task, future });
        })
    }

    /// Takes the place of this thread's spare, if there is one.
    #[inline]
    fn rearm(deadline: u64, waker: Given<'_>) -> Result<Self, Given<'_>> {
        let has_spare = |core: &Rc<LoopCore>| core.is_in_turn() && core.remote().timers().spare.key().is_some();
        let core = current::with(|core| core.filter(|core| has_spare(core)).cloned());
        match core {
            Some(core) => {
                let may_be_kept = is_own_waker(waker.waker(), core.remote().index());
                Self::rearm_on(core.remote(), deadline, waker, may_be_kept)
            }
            None => Err(waker),
        }
    }

    /// The same on `home`, which is this thread's.
    #[inline]
    fn rearm_on<'a>(
        home: &BiasedArc<Remote>,
        deadline: u64,
        waker: Given<'a>,
        may_be_kept: bool,
    ) -> Result<Self, Given<'a>> {
        let key = home.timers().rearm(deadline, waker)?;
        Ok(Self { home: home.clone(), key, may_be_kept })
    }

    /// `tell` is called before the timer can fire, if there is anybody to be told.
    fn arm_told(home: BiasedArc<Remote>, deadline: u64, waker: Given<'_>, tell: impl FnOnce(&Timers, u64)) -> Self {
        let here = current::is_on(&home);
        let may_be_kept = here && is_own_waker(waker.waker(), home.index());
        let waker = waker.into_owned();
        let timers = home.timers();
        let mut inner = timers.inner.lock();
        let sequence = inner.number();
        if timers.observer.is_on() {
            drop(inner);
            tell(timers, sequence);
            inner = timers.inner.lock();
        }
        if inner.closed {
            drop(inner);
            waker.wake();
            return Self { home, key: Key::DEAD, may_be_kept };
        }
        let earliest = deadline < inner.heap.next();
        let key = inner.heap.insert(deadline, sequence, waker);
        timers.publish(&inner.heap);
        drop(inner);
        if earliest && !here {
            // It may be asleep with a later deadline.
            home.unpark();
        }
        Self { home, key, may_be_kept }
    }

    /// What it was armed for.
    pub(crate) fn deadline(&self) -> u64 {
        self.key.deadline
    }

    /// Has `waker` woken instead, if it is another. False: the timer has fired, or its loop is gone.
    pub(crate) fn update(&mut self, waker: &Waker) -> bool {
        let timers = self.home.timers();
        match timers.inner.lock().heap.waker(self.key) {
            None => return false,
            Some(kept) if kept.will_wake(waker) => return true,
            Some(_) => {}
        }
        // Cloned and dropped outside the lock: both are user code.
        let mut waker = waker.clone();
        self.may_be_kept = may_be_kept(&self.home, &waker);
        match timers.inner.lock().heap.waker(self.key) {
            None => return false,
            Some(kept) => std::mem::swap(kept, &mut waker),
        }
        true
    }

    /// A poll by a task that waits for this timer: it found that it has to wait on, or that it need not any more.
    pub(crate) fn tell_polled(&self, resumed: bool) {
        let future = FutureId::of_timer(self.key.sequence);
        self.home.timers().observer.tell(|| match resumed {
            true => Event::FutureResumed { task: try_id(), future },
            false => Event::Blocking { task: try_id(), future },
        });
    }

    /// Cancels; gives back the waker, unless the timer has fired.
    pub(crate) fn take(mut self) -> Option<Waker> {
        let waker = self.cancel();
        self.key = Key::DEAD;
        waker
    }

    fn cancel(&self) -> Option<Waker> {
        let timers = self.home.timers();
        if timers.has_swept(self.key) {
            return None;
        }
        let mut inner = timers.inner.lock();
        let waker = timers.cancel(&mut inner, self.key)?;
        timers.publish(&inner.heap);
        drop(inner);
        let timer = FutureId::of_timer(self.key.sequence);
        timers.observer.tell(|| Event::TimerCancelled { on: timers.index, timer });
        Some(waker)
    }

    /// Whether it may be kept as a spare: it is this thread's loop's, which is in a turn.
    #[inline]
    fn is_here(&self) -> bool {
        let is_here = |core: &Rc<LoopCore>| core.is_in_turn() && BiasedArc::ptr_eq(core.remote(), &self.home);
        self.may_be_kept && current::with(|core| core.is_some_and(is_here))
    }
}

impl Timer {
    /// Arms a callback of this thread's loop, which is in a turn.
    #[inline]
    pub(crate) fn arm_in_turn(home: &BiasedArc<Remote>, deadline: Instant, waker: Waker) -> Self {
        match Self::rearm_on(home, clock::nanos(deadline), Given::Own(waker), true) {
            Ok(timer) => timer,
            Err(waker) => Self::arm(home.clone(), deadline, waker.into_owned()),
        }
    }

    /// Drops it as its loop's thread does in a turn: for the models, whose threads are on no loop.
    #[allow(dead_code, reason = "for the models")]
    pub(crate) fn drop_in_turn(mut self) {
        if self.home.timers().set_aside(self.key) {
            self.key = Key::DEAD;
        }
    }
}

impl Drop for Timer {
    #[inline]
    fn drop(&mut self) {
        let timers = self.home.timers();
        if timers.has_swept(self.key) || (self.is_here() && timers.set_aside(self.key)) {
            return;
        }
        // The waker is dropped here, after the lock.
        drop(self.cancel());
    }
}
