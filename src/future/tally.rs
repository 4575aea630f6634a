//! Counts the ends of tasks, and wakes whoever waits for enough of them: what gather, wait, as_completed and shield have in common.
//!
//! *Invariant.* Each watched task counts once, by its done-callback: with one loop a handle of its own, so that the turns are
//! asyncio's; with several, as it ends. A callback that is dropped uncalled, as after the end of its runtime, counts too: nobody waits for ever.
//!
//! *Threads.* Any: wherever the tasks end. *Ordering.* The lock's.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::event_loop::poll_proceed;
use crate::primitive::Mutex;
use crate::scheduler::tell;
use crate::task::{CancelOnDrop, Event, FutureId, Outcome, Task, try_id};

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The end of all.
    All,
    /// The end of one.
    First,
    /// A panic, or the end of all.
    Panic,
    /// A panic, a cancellation or a marked failure, or the end of all.
    Failure,
    /// The next end, over and over.
    Each,
}

/// The count of the ends of tasks.
pub struct Tally {
    /// Whose it is, for who is told of it.
    what: &'static str,
    inner: Mutex<Inner>,
}

struct Inner {
    goal: Goal,
    total: usize,
    left: usize,
    /// The first that failed, in the order of the callbacks.
    failed: Option<usize>,
    /// Those whose output is an error, though they completed.
    marked: Vec<usize>,
    /// For [`Goal::Each`]: who ended and was not asked for yet.
    ended: VecDeque<usize>,
    waker: Option<Waker>,
    /// Somebody has waited.
    blocked: bool,
}

impl Inner {
    fn is_met(&self) -> bool {
        let enough = match self.goal {
            Goal::All => false,
            Goal::First => self.left < self.total,
            Goal::Panic | Goal::Failure => self.failed.is_some(),
            Goal::Each => !self.ended.is_empty(),
        };
        enough || self.left == 0
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").field("of", &self.what).field("left", &self.inner.lock().left).finish_non_exhaustive()
    }
}

impl Tally {
    /// Of `total` tasks.
    pub(super) fn new(what: &'static str, goal: Goal, total: usize) -> Arc<Self> {
        let inner = Inner {
            goal,
            total,
            left: total,
            failed: None,
            marked: Vec::new(),
            ended: VecDeque::new(),
            waker: None,
            blocked: false,
        };
        Arc::new(Self { what, inner: Mutex::new(inner) })
    }

    fn id(&self) -> FutureId {
        FutureId::at(self.what, self)
    }

    /// All tasks are watched: tells that there is something to wait for.
    pub(super) fn tell_created(&self) {
        tell(|| Event::FutureCreated { future: self.id() });
    }

    /// Before the first task is watched, for who did not know.
    pub(super) fn set_total(&self, total: usize) {
        let mut inner = self.inner.lock();
        (inner.total, inner.left) = (total, total);
    }

    /// Before it is waited for.
    pub(super) fn set_goal(&self, goal: Goal) {
        self.inner.lock().goal = goal;
    }

    /// The output of `index`, which is about to end, counts as a failure.
    pub(super) fn mark(&self, index: usize) {
        self.inner.lock().marked.push(index);
    }

    /// The first that failed.
    pub(super) fn failed(&self) -> Option<usize> {
        self.inner.lock().failed
    }

    pub(super) fn ended(&self, index: usize, outcome: Outcome) {
        let mut inner = self.inner.lock();
        let was_met = inner.is_met();
        inner.left = inner.left.saturating_sub(1);
        let fails = match inner.goal {
            Goal::All | Goal::First | Goal::Each => false,
            Goal::Panic => outcome == Outcome::Panicked,
            Goal::Failure => outcome != Outcome::Completed || inner.marked.contains(&index),
        };
        if fails {
            inner.failed.get_or_insert(index);
        }
        if inner.goal == Goal::Each {
            inner.ended.push_back(index);
        }
        let is_met = inner.is_met();
        let waker = if is_met { inner.waker.take() } else { None };
        drop(inner);
        if is_met && !was_met {
            tell(|| Event::FutureSet { future: self.id() });
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready once the goal is met.
    pub(super) fn poll_met(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Made and dropped while the lock is not held.
        let mut waker = None;
        loop {
            let mut inner = self.inner.lock();
            if inner.is_met() {
                let blocked = std::mem::take(&mut inner.blocked);
                drop(inner);
                if blocked {
                    tell(|| Event::FutureResumed { task: try_id(), future: self.id() });
                }
                return poll_proceed(cx);
            }
            inner.blocked = true;
            match (&inner.waker, waker.take()) {
                (Some(old), new) if old.will_wake(cx.waker()) => {
                    drop(inner);
                    if new.is_none() {
                        tell(|| Event::Blocking { task: try_id(), future: self.id() });
                    }
                    return Poll::Pending;
                }
                (_, Some(new)) => {
                    let old = inner.waker.replace(new);
                    drop(inner);
                    drop(old);
                    return Poll::Pending;
                }
                (_, None) => {}
            }
            drop(inner);
            // Told before it can be woken.
            tell(|| Event::Blocking { task: try_id(), future: self.id() });
            tell(|| Event::WakerRegistered { task: try_id(), future: self.id() });
            waker = Some(cx.waker().clone());
        }
    }

    /// For [`Goal::Each`], when it is met: who ended; none if all have been asked for.
    pub(super) fn next_ended(&self) -> Option<usize> {
        self.inner.lock().ended.pop_front()
    }

    /// Nobody waits any more.
    pub(super) fn forget_waker(&self) {
        let waker = self.inner.lock().waker.take();
        drop(waker);
    }
}

/// The end of one task, to be counted when it is called or dropped.
struct End {
    tally: Arc<Tally>,
    index: usize,
    /// What it counts as if nobody says.
    outcome: Outcome,
}

impl Drop for End {
    fn drop(&mut self) {
        self.tally.ended(self.index, self.outcome);
    }
}

/// What can be waited for: a [`Task`], owned or borrowed.
///
/// ```
/// use epicycle::{future::{ReturnWhen, Watch}, spawn, wait};
///
/// async fn count_done<W: Watch>(tasks: Vec<W>) -> usize {
///     wait(tasks, ReturnWhen::AllCompleted).await.0.len()
/// }
/// epicycle::run(async {
///     let (one, two) = (spawn(async {}), spawn(async {}));
///     assert_eq!(count_done(vec![&one, &two]).await, 2); // lent
///     assert_eq!(count_done(vec![one, two]).await, 2);
/// });
/// ```
pub trait Watch {
    #[doc(hidden)]
    fn is_done(&self) -> bool;
    /// Has the end counted as that of `index`, by a queued callback.
    #[doc(hidden)]
    fn watch(&self, tally: &Arc<Tally>, index: usize) -> u32;
    #[doc(hidden)]
    fn unwatch(&self, number: u32);
}

impl<T> Watch for Task<T> {
    fn is_done(&self) -> bool {
        self.done()
    }

    fn watch(&self, tally: &Arc<Tally>, index: usize) -> u32 {
        tell(|| Event::FutureJoins { future: tally.id(), task: self.id() });
        let mut end = End { tally: tally.clone(), index, outcome: Outcome::Completed };
        Task::watch(self, move |outcome| {
            end.outcome = outcome;
            drop(end);
        })
    }

    fn unwatch(&self, number: u32) {
        Task::unwatch(self, number);
    }
}

impl<T> Watch for CancelOnDrop<T> {
    fn is_done(&self) -> bool {
        self.done()
    }

    fn watch(&self, tally: &Arc<Tally>, index: usize) -> u32 {
        Watch::watch(&**self, tally, index)
    }

    fn unwatch(&self, number: u32) {
        Watch::unwatch(&**self, number);
    }
}

macro_rules! watch_by_reference {
    ($($reference:ty),+) => {$(
        impl<W: Watch> Watch for $reference {
            fn is_done(&self) -> bool {
                (**self).is_done()
            }

            fn watch(&self, tally: &Arc<Tally>, index: usize) -> u32 {
                (**self).watch(tally, index)
            }

            fn unwatch(&self, number: u32) {
                (**self).unwatch(number);
            }
        }
    )+};
}

watch_by_reference!(&W, &mut W);
