//! What the table of a cell points to: the functions that know the types of its future and its scheduler.
//!
//! *Invariant.* `F` and `S` are the types the cell was made with; each function is called through the cell's own table only.
//! A function that gives up the runtime's reference does not touch the cell afterwards.
//!
//! *Threads.* Whoever holds the right that the function names. *Ordering.* `state.rs`.

use std::any::Any;
use std::future::Future;
use std::mem::{self, ManuallyDrop};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::super::callback::Callbacks;
use super::super::context;
use super::super::id;
use super::super::join::{JoinError, Outcome};
use super::super::state::{Claim, Complete, Suspend};
use super::super::waker::waker_ref;
use super::super::{Event, Observer, ReadyHandle, Schedule, drop_payload, is_observed, unseen};
use super::block::Block;
use super::{Cell, FUTURE, Kind, NOTHING, OUTPUT, RawTask, Vtable, catch, free_extra};
use crate::primitive::atomic::Ordering;

pub(super) const fn vtable<F: Future, S: Schedule>() -> Vtable {
    Vtable {
        run: run::<F, S>,
        schedule: schedule::<F, S>,
        finish_drop: finish_unrun::<F, S>,
        take_output: take_output::<F, S>,
        show_value: show_value::<F, S>,
        drop_output: drop_output::<F, S>,
        take_join_waker: take_join_waker::<F, S>,
        set_join_waker: set_join_waker::<F, S>,
        is_home: is_home::<F, S>,
        is_driven_here: is_driven_here::<F, S>,
        only_loop: only_loop::<F, S>,
        deliver: deliver::<F, S>,
        observer: observer::<F, S>,
        report: report_panic::<F, S>,
        free: free::<F, S>,
    }
}

unsafe fn schedule<F: Future, S: Schedule>(task: RawTask) {
    task.tell_woken();
    // The target holds what the push needs: once pushed, the cell may be gone.
    // SAFETY: the table's types.
    let target = unsafe { task.cell::<F, S>() }.home.target();
    S::push(target, ReadyHandle::new(task));
}

unsafe fn run<F: Future, S: Schedule>(task: RawTask) {
    // SAFETY: the table's types.
    let cell = unsafe { task.cell::<F, S>() };
    if !cell.header.kind.is_future() {
        // SAFETY: as for this function.
        return unsafe { run_one_shot::<F, S>(task) };
    }
    let (seen, first_run_of_post) = cell.header.state.start();
    if first_run_of_post && seen.is_claimed() {
        // A canceller took it: only the queue's reference is left to give up.
        return task.drop_ref();
    }
    // SAFETY: rule 1, from `start` on.
    let _inside = unsafe { task.enter() };
    if first_run_of_post && !task.bind(&cell.home) {
        // Posted to a loop that closed meanwhile.
        let _ = cell.header.state.cancel();
    } else if !seen.is_cancelled() {
        id::begin_poll();
        // SAFETY: rule 1, between `start` and `suspend` or `complete`.
        let polled = catch(|| unsafe { poll::<F, S>(task) });
        let woke_itself = id::end_poll();
        match polled {
            Ok(Poll::Pending) => {
                // SAFETY: rule 1: not suspended yet.
                unsafe { cell.header.keep_context() };
                let state = &cell.header.state;
                match if woke_itself { state.go_on() } else { state.suspend(seen) } {
                    Suspend::Idle => return,
                    // SAFETY: as for this function.
                    Suspend::Reschedule => return unsafe { schedule::<F, S>(task) },
                    // SAFETY: rule 1: not suspended after all, and none is current.
                    Suspend::Cancelled => drop(context::replace(unsafe { cell.header.take_context() })),
                }
            }
            // SAFETY: rule 1: still ours.
            Ok(Poll::Ready(output)) => return unsafe { finish::<F, S>(task, Ok(output)) },
            // SAFETY: as above.
            Err(payload) => return unsafe { finish::<F, S>(task, Err(JoinError::panic(payload))) },
        }
    }
    finish_drop(task, JoinError::cancelled(), true);
}

unsafe fn run_one_shot<F: Future, S: Schedule>(task: RawTask) {
    match task.claim() {
        Claim::Gone => {}
        Claim::Drop => {
            // SAFETY: rule 1: we set CLAIMED.
            let _inside = unsafe { task.enter() };
            return finish_drop(task, JoinError::cancelled(), true);
        }
        Claim::Run => {
            // SAFETY: as above.
            let _inside = unsafe { task.enter() };
            // SAFETY: as above.
            let output = match catch(|| unsafe { poll::<F, S>(task) }) {
                Ok(Poll::Ready(output)) => Ok(output),
                Ok(Poll::Pending) => unreachable!("one-shots are ready at once"),
                Err(payload) => Err(JoinError::panic(payload)),
            };
            // SAFETY: as above.
            return unsafe { finish::<F, S>(task, output) };
        }
    }
    task.drop_ref();
}

/// # Safety
/// The caller has the right to the future (rule 1).
unsafe fn poll<F: Future, S: Schedule>(task: RawTask) -> Poll<F::Output> {
    // SAFETY: the table's types.
    let cell = unsafe { task.cell::<F, S>() };
    let waker = waker_ref(task);
    let mut cx = Context::from_waker(&waker);
    assert!(cell.header.held() == FUTURE, "polled without a future");
    cell.stage.with_mut(|stage| {
        // SAFETY: the caller's right; nobody else has a reference into the stage, and `held` says that the future is there. It
        // never moves: it is in a heap cell and is dropped in place.
        unsafe { Pin::new_unchecked(&mut *(*stage).future) }.poll(&mut cx)
    })
}

/// Drops the future in place, with the right to it. A panic of its destructor comes back.
unsafe fn drop_future<F: Future, S: Schedule>(task: RawTask) -> Result<(), Box<dyn Any + Send>> {
    // SAFETY: the table's types; the caller's right to the future.
    let cell = unsafe { task.cell::<F, S>() };
    if cell.header.held() != FUTURE {
        return Ok(());
    }
    // First, so that it is dropped once, whatever its destructor does.
    cell.header.set_held(NOTHING);
    cell.stage.with_mut(|stage| {
        // SAFETY: the caller's right. The future is dropped where it is, as pinning demands.
        catch(|| unsafe { ManuallyDrop::drop(&mut (*stage).future) })
    })
}

/// Ends a run with an output: drops the future, stores, completes, tells, and gives up the runtime's reference.
unsafe fn finish<F: Future, S: Schedule>(task: RawTask, output: Result<F::Output, JoinError>) {
    // SAFETY: the table's types; the caller's right to the future.
    let cell = unsafe { task.cell::<F, S>() };
    // SAFETY: as above.
    let dropped = unsafe { drop_future::<F, S>(task) };
    leave_context::<F, S>(task);
    let output = match dropped {
        Ok(()) => output,
        Err(payload) => {
            drop_reporting::<F, S>(task, output);
            Err(JoinError::panic(payload))
        }
    };
    if let Some(live) = cell.home.live() {
        live.release(task, cell.home.is_birthplace());
    }
    if cell.header.state.is_forgotten() {
        cell.header.set_outcome(Outcome::of(&output));
        tell_end(task);
        drop_unwanted::<F, S>(task, output);
        id::leave(task);
        // SAFETY: the only reference is the runtime's, which is given up here.
        return unsafe { free::<F, S>(task) };
    }
    // SAFETY: rule 2: not complete yet, so the stage is still ours; the future is gone.
    unsafe { cell.put(output) };
    // Only now is it known whether a cancel wins. With an instrument the cell is kept until that was told.
    let kept = is_observed().then(|| task.new_ref());
    match cell.header.state.complete() {
        Complete::Released => {
            if kept.is_some() {
                tell_end(task);
            }
            return;
        }
        Complete::Tell => {
            tell_end(task);
            // SAFETY: complete; the runtime's reference is still held.
            unsafe { tell::<F, S>(task) }
        }
        Complete::CancelWon => {
            // A panic is not silenced by a cancel that came during the same poll.
            if cell.header.outcome() == Outcome::Completed {
                // SAFETY: rule 2: still not complete.
                let lost = unsafe { cell.take() };
                // SAFETY: as above.
                unsafe { cell.put(Err(JoinError::cancelled())) };
                drop_reporting::<F, S>(task, lost);
            }
            tell_end(task);
            let _ = cell.header.state.complete_cancelled();
            // SAFETY: as above.
            unsafe { tell::<F, S>(task) }
        }
    }
    task.drop_ref();
}

/// The future is gone: its context goes, too, while errors can still be reported.
#[inline]
fn leave_context<F: Future, S: Schedule>(task: RawTask) {
    if context::is_set() {
        drop_context::<F, S>(task);
    }
}

#[cold]
fn drop_context<F: Future, S: Schedule>(task: RawTask) {
    drop_reporting::<F, S>(task, context::take());
}

/// Of a task or job whose outcome stands and that is still held. A root's end is told by its driver, who has the output.
#[inline]
fn tell_end(task: RawTask) {
    let header = task.header();
    if is_observed() && matches!(header.kind, Kind::Task | Kind::Job) {
        task.tell(|| Event::TaskEnded { task: header.id, outcome: header.outcome() });
    }
}

/// Drops the future with the right to it and completes with `error`, or as panicked if the destructor did. The thread is inside
/// the cell. `for_good`: gives up the runtime's reference as well; if not, a callback is complete already.
pub(super) fn finish_drop(task: RawTask, error: JoinError, for_good: bool) {
    // SAFETY: the table's types; the callers hold the right to the future.
    unsafe { (task.header().vtable.finish_drop)(task, error, for_good) }
}

unsafe fn finish_unrun<F: Future, S: Schedule>(task: RawTask, error: JoinError, for_good: bool) {
    // SAFETY: the table's types.
    let cell = unsafe { task.cell::<F, S>() };
    // SAFETY: the callers hold the right to the future.
    let error = unsafe { drop_future::<F, S>(task) }.map_or_else(JoinError::panic, |()| error);
    leave_context::<F, S>(task);
    if let Some(live) = cell.home.live() {
        live.release(task, cell.home.is_birthplace());
    }
    if cell.header.kind == Kind::Callback {
        // Nobody awaits it.
        if error.is_panic() {
            drop_unwanted::<F, S>(task, Err(error));
        }
        if for_good && cell.header.state.complete_unawaited() {
            task.free();
        }
        return;
    }
    // SAFETY: rule 2: not complete yet, and the future is gone.
    unsafe { cell.put(Err(error)) };
    tell_end(task);
    let _ = cell.header.state.complete_cancelled();
    // SAFETY: complete; the runtime's reference is still held.
    unsafe { tell::<F, S>(task) }
    if for_good {
        task.drop_ref();
    }
}

/// After completion: drops an output nobody wants, wakes the joiner, queues the callbacks.
unsafe fn tell<F: Future, S: Schedule>(task: RawTask) {
    // SAFETY: the table's types.
    let cell = unsafe { task.cell::<F, S>() };
    let now = cell.header.state.load();
    if now.has_callbacks() {
        task.deliver_callbacks();
    }
    if !now.has_join() {
        // SAFETY: rule 2: no Task at completion, so the output is ours.
        unsafe { drop_output::<F, S>(task) };
    } else if now.has_join_waker() {
        // SAFETY: rule 3: JOIN_WAKER was set at completion, so the slot is ours.
        if let Some(waker) = unsafe { take_join_waker::<F, S>(task) }
            && let Err(payload) = catch(|| waker.wake())
        {
            report_panic::<F, S>(task, "Exception in a waker", payload);
        }
    }
}

unsafe fn take_output<F: Future, S: Schedule>(task: RawTask, out: *mut ()) {
    // SAFETY: the table's types; rule 2 for the stage; `out` is an Option of the output's type, by `poll_join`.
    unsafe { *out.cast::<Option<Result<F::Output, JoinError>>>() = task.cell::<F, S>().take() };
}

/// Shows the output where it is, if it is there and a value.
unsafe fn show_value<F: Future, S: Schedule>(task: RawTask, look: &mut dyn FnMut(*const ())) {
    // SAFETY: the table's types.
    let cell = unsafe { task.cell::<F, S>() };
    if cell.header.held() == OUTPUT && cell.header.outcome() == Outcome::Completed {
        // SAFETY: rule 2: the caller's, as is the right to let somebody look. `put` wrote this member.
        cell.stage.with_mut(|stage| look(unsafe { (&raw const (*stage).value).cast() }));
    }
}

/// Drops the output, and reports a panic that nobody has been given: its own, or one in its value.
unsafe fn drop_output<F: Future, S: Schedule>(task: RawTask) {
    // SAFETY: the table's types; rule 2.
    if let Some(output) = unsafe { task.cell::<F, S>().take() } {
        drop_unwanted::<F, S>(task, output);
    }
}

fn drop_unwanted<F: Future, S: Schedule>(task: RawTask, output: Result<F::Output, JoinError>) {
    match output {
        Ok(output) if mem::needs_drop::<F::Output>() => {
            let (dropped, unseen) = unseen::drop_output(output);
            unseen.into_iter().for_each(|payload| report_unseen::<F, S>(task, payload));
            if let Err(payload) = dropped {
                report_panic::<F, S>(task, "Exception in a destructor", payload);
            }
        }
        Ok(_) => {}
        Err(error) => {
            if let Ok(payload) = error.try_into_panic() {
                report_unseen::<F, S>(task, payload);
            }
        }
    }
}

/// Reports a panic that nobody has been given.
#[cold]
fn report_unseen<F: Future, S: Schedule>(task: RawTask, payload: Box<dyn Any + Send>) {
    let message = match task.header().kind {
        Kind::Callback | Kind::Watch => "Exception in callback",
        Kind::Task | Kind::Root | Kind::Job => "Task exception was never retrieved",
    };
    match task.header().is_quiet() {
        true => drop_payload(payload),
        false => report_panic::<F, S>(task, message, payload),
    }
}

fn drop_reporting<F: Future, S: Schedule>(task: RawTask, value: impl Sized) {
    if let Err(payload) = catch(|| drop(value)) {
        report_panic::<F, S>(task, "Exception in a destructor", payload);
    }
}

fn report_panic<F: Future, S: Schedule>(task: RawTask, message: &str, payload: Box<dyn Any + Send>) {
    // SAFETY: the table's types, by all callers.
    let home = unsafe { &task.cell::<F, S>().home };
    home.report(&task.header().context(message).with_panic(&*payload));
    drop_payload(payload);
}

unsafe fn take_join_waker<F: Future, S: Schedule>(task: RawTask) -> Option<Waker> {
    // SAFETY: the table's types; rule 3.
    unsafe { task.cell::<F, S>().join.with_mut(|slot| (*slot).take()) }
}

unsafe fn set_join_waker<F: Future, S: Schedule>(task: RawTask, waker: Waker) {
    // SAFETY: the table's types; rule 3.
    unsafe { task.cell::<F, S>().join.with_mut(|slot| *slot = Some(waker)) }
}

unsafe fn is_home<F: Future, S: Schedule>(task: RawTask) -> bool {
    // SAFETY: the table's types.
    unsafe { task.cell::<F, S>() }.home.is_home()
}

unsafe fn is_driven_here<F: Future, S: Schedule>(task: RawTask) -> bool {
    // SAFETY: the table's types.
    unsafe { task.cell::<F, S>() }.home.is_driven_here()
}

unsafe fn only_loop<F: Future, S: Schedule>(task: RawTask) -> Option<usize> {
    // SAFETY: the table's types.
    unsafe { task.cell::<F, S>() }.home.only_loop()
}

/// Queues one callback that calls them all in order. Where no order of turns is promised, those that only count do so at once.
unsafe fn deliver<F: Future, S: Schedule>(task: RawTask, mut callbacks: Callbacks) {
    // SAFETY: the table's types.
    let home = &unsafe { task.cell::<F, S>() }.home;
    if let Some(counting) = home.has_peers().then(|| callbacks.take_counting()).flatten() {
        counting.call(home.observer().unwrap_or(&Observer::default()), |context| home.report(context));
    }
    if !callbacks.is_empty() {
        home.deliver(callbacks);
    }
}

unsafe fn observer<F: Future, S: Schedule>(task: RawTask) -> Option<*const Observer> {
    // SAFETY: the table's types.
    unsafe { task.cell::<F, S>() }.home.observer().map(std::ptr::from_ref)
}

unsafe fn free<F: Future, S: Schedule>(task: RawTask) {
    // SAFETY: the last reference: nobody else can reach the cell.
    let cell = unsafe { Block::from_raw(task.0.cast::<Cell<F, S>>()) };
    debug_assert!(cell.header.held() == NOTHING, "a cell is freed after its future and its output");
    // Ordering: Relaxed: the caller's drop_ref acquired everything.
    let origin = cell.header.origin.load(Ordering::Relaxed);
    // SAFETY: as above.
    unsafe { free_extra(origin) };
}
