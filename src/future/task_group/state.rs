//! What the children of a group share: who is alive, what went wrong, who waits.
//!
//! *Invariant.* A child is counted from `enter` until its done-callback has run (or was dropped, at shutdown): by then its
//! task is complete and its future gone. While the group is open nobody is stopped; from the moment it is stopping nobody
//! enters. No user code runs under the lock: tasks are cancelled, wakers woken and errors dropped after it.
//!
//! *Threads.* Any. *Ordering.* The lock's.

use std::collections::VecDeque;
use std::mem;
use std::task::{Context, Waker};

use slab::Slab;

use super::Policy;
use super::error::{ChildError, Failure, GroupError, Who};
use crate::cancel::{CancelScope, Cancelled, WakerSet, wake_all};
use crate::primitive::Mutex;
use crate::scheduler::report;
use crate::task::{ErrorContext, FutureId, Handle, Id, Outcome, catch, drop_payload};

pub(super) struct Group {
    /// Cancelled when the group stops: what cooperative children and bodies look at.
    pub(super) scope: CancelScope,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Stopping,
    /// Joined: nothing more can happen.
    Closed,
}

struct Child {
    /// From when its task is known.
    who: Option<Who>,
    /// The right to cancel its task, until that is used.
    stop: Option<Handle>,
    failures: Vec<Failure>,
    /// It has ended without a value for its `Task`, which is to be cancelled.
    valueless: bool,
    /// It is asked to stop, by the scope.
    cooperative: bool,
}

struct State {
    phase: Phase,
    children: Slab<Child>,
    errors: Vec<ChildError>,
    policy: Policy,
    winner: Option<Winner>,
    /// Who has ended and was not yet given out by `next_done`, if that is wanted.
    done: Option<VecDeque<Id>>,
    cancelled: Option<Cancelled>,
    /// Nobody will join: errors are reported.
    abandoned: bool,
    waiters: WakerSet,
}

/// The child that decided, under a policy that lets one decide.
#[derive(Clone, Copy)]
struct Winner {
    id: Id,
    has_value: bool,
}

/// What is left to do once the lock is released.
#[derive(Default)]
struct Later {
    stops: Vec<Handle>,
    cancels_scope: bool,
    wakers: Vec<Waker>,
    lost: Vec<ChildError>,
}

impl Group {
    pub(super) fn new(scope: CancelScope) -> Self {
        let state = State {
            phase: Phase::Open,
            children: Slab::new(),
            errors: Vec::new(),
            policy: Policy::All,
            winner: None,
            done: None,
            cancelled: None,
            abandoned: false,
            waiters: WakerSet::new(),
        };
        Self { scope, state: Mutex::new(state) }
    }

    /// How an instrument is told of it.
    pub(super) fn id(&self) -> FutureId {
        FutureId::at("group", self)
    }

    pub(super) fn set_policy(&self, policy: Policy) {
        self.state.lock().policy = policy;
    }

    pub(super) fn record_done(&self) {
        self.state.lock().done.get_or_insert_default();
    }

    // ---- the children's side ---------------------------------------------------------------------------------------

    /// Makes room for a child; none if the group takes no more.
    pub(super) fn enter(&self, cooperative: bool) -> Option<usize> {
        let mut state = self.state.lock();
        let child = Child { who: None, stop: None, failures: Vec::new(), valueless: false, cooperative };
        (state.phase == Phase::Open).then(|| state.children.insert(child))
    }

    /// The child's task is known; it may be running, or over.
    pub(super) fn register(&self, key: usize, who: Who, stop: Handle) {
        let mut state = self.state.lock();
        let is_open = state.phase == Phase::Open;
        let child = &mut state.children[key];
        child.who = Some(who);
        if child.valueless || !(is_open || child.cooperative) {
            drop(state);
            stop.cancel();
        } else {
            child.stop = Some(stop);
        }
    }

    /// The child ends without a value. Its task is cancelled for that, at once or as soon as it is known.
    pub(super) fn end_without_value(&self, key: usize, failure: Option<Failure>) {
        let mut state = self.state.lock();
        let counts = state.counts(failure.as_ref());
        let child = &mut state.children[key];
        child.failures.extend(failure.filter(|_| counts));
        child.valueless = true;
        let stop = child.stop.take();
        drop(state);
        if let Some(stop) = stop {
            stop.cancel();
        }
    }

    /// The child is over, and so is its task.
    pub(super) fn ended(&self, key: usize, outcome: Outcome) {
        let mut later = Later::default();
        let mut state = self.state.lock();
        let Child { who, failures, stop, .. } = state.children.remove(key);
        let id = who.as_ref().map(|who| who.id);
        if let (Some(done), Some(id)) = (&mut state.done, id) {
            done.push_back(id);
        }
        let failed = !failures.is_empty();
        for failure in failures {
            state.add_error(ChildError::new(failure, who.clone()), &mut later);
        }
        let has_value = outcome == Outcome::Completed;
        if state.phase == Phase::Open
            && let Some(id) = id
            && state.policy.decides(has_value, failed)
        {
            state.winner = (state.policy != Policy::All).then_some(Winner { id, has_value });
            state.stop(&mut later);
        }
        if state.children.is_empty() || state.done.is_some() {
            state.waiters.take_all(&mut later.wakers);
        }
        drop(state);
        drop(stop);
        self.finish(later);
    }

    // ---- the parent's side -----------------------------------------------------------------------------------------

    /// Something went wrong that is not in any child's hands: in the body of a scope, or in a child that is over.
    pub(super) fn fail(&self, failure: Failure, who: Option<Who>) {
        let mut later = Later::default();
        let mut state = self.state.lock();
        if state.counts(Some(&failure)) {
            state.add_error(ChildError::new(failure, who), &mut later);
        }
        state.stop(&mut later);
        drop(state);
        self.finish(later);
    }

    /// Cancels all children; of what was cancelled around the group, it takes note.
    pub(super) fn stop(&self, cancelled: Option<Cancelled>) {
        let mut later = Later::default();
        let mut state = self.state.lock();
        if state.phase != Phase::Closed && state.cancelled.is_none() {
            state.cancelled = cancelled;
        }
        state.stop(&mut later);
        drop(state);
        self.finish(later);
    }

    /// Nobody will join.
    pub(super) fn abandon(&self) {
        let mut later = Later::default();
        let mut state = self.state.lock();
        state.abandoned = true;
        later.lost.append(&mut state.errors);
        state.stop(&mut later);
        drop(state);
        self.finish(later);
    }

    /// Enters the waiter, then says whether all children have ended; the group is closed then.
    pub(super) fn poll_closed(&self, key: &mut Option<usize>, cx: &Context<'_>) -> bool {
        self.poll(key, cx, |state| {
            let closed = state.children.is_empty();
            if closed {
                state.phase = Phase::Closed;
            }
            closed
        })
    }

    /// Enters the waiter, then says whether the group is stopping.
    pub(super) fn poll_stopping(&self, key: &mut Option<usize>, cx: &Context<'_>) -> bool {
        self.poll(key, cx, |state| state.phase != Phase::Open)
    }

    /// Enters the waiter, then takes a child that has ended. `Some(None)`: there will be none.
    pub(super) fn poll_done(&self, key: &mut Option<usize>, cx: &Context<'_>) -> Option<Option<Id>> {
        self.poll(key, cx, |state| match state.done.as_mut().and_then(VecDeque::pop_front) {
            None if !state.children.is_empty() => None,
            done => Some(done),
        })
    }

    fn poll<R>(&self, key: &mut Option<usize>, cx: &Context<'_>, look: impl FnOnce(&mut State) -> R) -> R {
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        let old = state.waiters.put(key, waker);
        let seen = look(&mut state);
        drop(state);
        drop(old);
        seen
    }

    pub(super) fn leave(&self, key: &mut Option<usize>) {
        let old = self.state.lock().waiters.remove(key);
        drop(old);
    }

    /// What `join` says. Errors are given out once. `outer`: a cancellation that was not noted before.
    pub(super) fn take_result(&self, outer: Option<Cancelled>) -> Result<(), GroupError> {
        let mut state = self.state.lock();
        let mut errors = mem::take(&mut state.errors);
        let cancelled = state.cancelled.take().or(outer);
        let has_value = state.winner.is_some_and(|winner| winner.has_value);
        drop(state);
        if has_value {
            // The other children's errors no longer matter. Their panics do, and so do the body's errors.
            let (others, body): (Vec<_>, Vec<_>) = errors.into_iter().partition(|error| error.task_id().is_some());
            others.iter().filter(|error| error.is_panic()).for_each(report_lost);
            errors = body;
        }
        if errors.is_empty() && cancelled.is_none() { Ok(()) } else { Err(GroupError::new(errors, cancelled)) }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state.lock().phase != Phase::Open
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().children.len()
    }

    pub(super) fn records_done(&self) -> bool {
        self.state.lock().done.is_some()
    }

    /// Whether `poll_done` would not have to wait.
    pub(super) fn has_done(&self) -> bool {
        let state = self.state.lock();
        state.children.is_empty() || state.done.as_ref().is_some_and(|done| !done.is_empty())
    }

    pub(super) fn winner(&self) -> Option<Id> {
        self.state.lock().winner.map(|winner| winner.id)
    }

    fn finish(&self, later: Later) {
        let Later { stops, cancels_scope, wakers, lost } = later;
        for stop in stops {
            stop.cancel();
        }
        if cancels_scope {
            self.scope.cancel_with("its task group is stopping");
        }
        wake_all(wakers);
        lost.iter().for_each(report_lost);
    }
}

impl State {
    /// Whether it went wrong by itself. Once the group is stopping, a child that is found cancelled is no news.
    fn counts(&self, failure: Option<&Failure>) -> bool {
        self.phase == Phase::Open || !failure.is_some_and(Failure::is_of_cancelled)
    }

    fn add_error(&mut self, error: ChildError, later: &mut Later) {
        if self.abandoned {
            later.lost.push(error);
        } else {
            self.errors.push(error);
        }
    }

    /// Once: cancels the children that do not cooperate, has the others asked, and tells who waits.
    fn stop(&mut self, later: &mut Later) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Stopping;
        let others = self.children.iter_mut().filter(|(_, child)| !child.cooperative);
        later.stops.extend(others.filter_map(|(_, child)| child.stop.take()));
        later.cancels_scope = true;
        self.waiters.take_all(&mut later.wakers);
    }
}

fn report_lost(error: &ChildError) {
    const MESSAGE: &str = "An error of a task group was never retrieved";
    // Its text is user code, and this may be a destructor.
    match catch(|| error.context(MESSAGE)) {
        Ok(context) => report(&context),
        Err(payload) => {
            report(&ErrorContext::new(MESSAGE).with_panic(&*payload));
            drop_payload(payload);
        }
    }
}
