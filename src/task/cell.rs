//! The allocation of a task and all that is done to its memory: the unsafe file.
//!
//! *Invariant.* One allocation holds [`Header`], scheduler, join slot, and the future or its output. A [`RawTask`] points
//! to a cell that is alive as long as a counted reference exists or the task is not complete (the runtime's reference).
//! The rules cited below are those of `mod.rs`.
//!
//! *Threads.* Any; each function says whose right it uses. *Ordering.* `state.rs`.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU8;
use std::task::{Context, Poll, Waker};

use super::id::{self, Id};
use super::join::{DoneCallback, JoinError, Outcome};
use super::live::NO_KEY;
use super::state::{Cancel, Claim, Complete, DropJoin, State, Suspend, Wake};
use super::waker::waker_ref;
use super::{ErrorContext, ReadyHandle, Schedule};
use crate::primitive::atomic::{AtomicPtr, AtomicU32, Ordering};
use crate::primitive::{Mutex, UnsafeCell};

/// What a cell holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A future, polled until it is ready.
    Task,
    /// A closure of the executor: runs once, and once started cannot be cancelled.
    Job,
    /// A closure of `call_soon` and friends: the same without a result.
    Callback,
}

pub(crate) struct Header {
    pub(super) state: State,
    vtable: &'static Vtable,
    id: Id,
    location: &'static Location<'static>,
    /// What few tasks have. Null, or a box that lives as long as the cell.
    extra: AtomicPtr<Extra>,
    live_key: AtomicU32,
    kind: Kind,
    pinned: bool,
    /// How it ended, as a number; written before COMPLETE.
    outcome: AtomicU8,
}

struct Extra {
    name: Option<String>,
    callbacks: Mutex<Vec<DoneCallback>>,
}

struct Vtable {
    run: unsafe fn(RawTask),
    schedule: unsafe fn(RawTask),
    drop_future: unsafe fn(RawTask) -> Result<(), Box<dyn Any + Send>>,
    finish_cancelled: unsafe fn(RawTask, Option<Box<dyn Any + Send>>),
    take_output: unsafe fn(RawTask, *mut ()),
    drop_output: unsafe fn(RawTask),
    take_join_waker: unsafe fn(RawTask) -> Option<Waker>,
    set_join_waker: unsafe fn(RawTask, Waker),
    is_home: unsafe fn(RawTask) -> bool,
    deliver: unsafe fn(RawTask, Vec<DoneCallback>, Outcome),
    free: unsafe fn(RawTask),
}

enum Stage<F: Future> {
    Future(F),
    Output(Result<F::Output, JoinError>),
    Consumed,
}

#[repr(C)]
struct Cell<F: Future, S> {
    header: Header,
    home: S,
    join: UnsafeCell<Option<Waker>>,
    stage: UnsafeCell<Stage<F>>,
}

/// Calls user code; a panic comes back as a value.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    // What a panicking closure leaves half done is the user's own; the engine's state is settled before each call.
    catch_unwind(AssertUnwindSafe(f))
}

/// What a new cell is made from, beside its future and scheduler.
pub(crate) struct NewTask {
    pub(crate) kind: Kind,
    pub(crate) pinned: bool,
    /// Made with a ready handle. Else something else wakes it: a timer.
    pub(crate) queued: bool,
    /// Posted from elsewhere: enters its loop's live list when it first runs there.
    pub(crate) unbuilt: bool,
    pub(crate) name: Option<String>,
    pub(crate) location: &'static Location<'static>,
}

/// Makes a cell. Two references exist: the runtime's, and the one returned. Not in a live list, not in a queue.
pub(crate) fn spawn_cell<F: Future, S: Schedule>(future: F, home: S, new: NewTask) -> RawTask {
    let extra = match new.name {
        Some(name) => {
            Box::into_raw(Box::new(Extra { name: Some(name), callbacks: Mutex::new(Vec::new()) }))
        }
        None => ptr::null_mut(),
    };
    let cell = Box::new(Cell {
        header: Header {
            state: State::new(new.kind != Kind::Callback, new.queued, new.unbuilt),
            vtable: &const { vtable::<F, S>() },
            id: Id::next(),
            location: new.location,
            extra: AtomicPtr::new(extra),
            live_key: AtomicU32::new(NO_KEY),
            kind: new.kind,
            pinned: new.pinned,
            outcome: AtomicU8::new(0),
        },
        home,
        join: UnsafeCell::new(None),
        stage: UnsafeCell::new(Stage::Future(future)),
    });
    // SAFETY: a box is not null.
    RawTask(unsafe { NonNull::new_unchecked(Box::into_raw(cell).cast()) })
}

/// Makes a cell and queues it. A task enters its live list first; if that is closed, the future is dropped instead and the
/// task is cancelled. The reference is the caller's.
pub(crate) fn launch<F: Future, S: Schedule>(future: F, home: S, new: NewTask) -> RawTask {
    let binds = new.kind == Kind::Task && !new.unbuilt;
    let task = spawn_cell(future, home, new);
    // SAFETY: just made with these types.
    let home = unsafe { &task.cell::<F, S>().home };
    let bound = !binds || task.bind(home);
    let target = home.target();
    let handle = ReadyHandle::new(task);
    if bound {
        S::push(target, handle);
    } else {
        drop(handle);
    }
    task
}

const fn vtable<F: Future, S: Schedule>() -> Vtable {
    Vtable {
        run: run::<F, S>,
        schedule: schedule::<F, S>,
        drop_future: drop_future::<F, S>,
        finish_cancelled: finish_cancelled::<F, S>,
        take_output: take_output::<F, S>,
        drop_output: drop_output::<F, S>,
        take_join_waker: take_join_waker::<F, S>,
        set_join_waker: set_join_waker::<F, S>,
        is_home: is_home::<F, S>,
        deliver: deliver::<F, S>,
        free: free::<F, S>,
    }
}

/// A pointer to a cell of any type. Copying it counts nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawTask(NonNull<Header>);

// SAFETY: all that can be done through it is guarded by the state word, which decides who may touch what was not `Send`
// (rules 1 and 4): the header itself is atomics and immutable data.
unsafe impl Send for RawTask {}
// SAFETY: as above.
unsafe impl Sync for RawTask {}

impl RawTask {
    /// # Safety
    /// `ptr` came from `as_ptr`, and the cell is alive.
    pub(super) unsafe fn from_ptr(ptr: NonNull<Header>) -> Self {
        Self(ptr)
    }

    pub(super) fn as_ptr(self) -> *mut Header {
        self.0.as_ptr()
    }

    pub(super) fn header<'a>(self) -> &'a Header {
        // SAFETY: whoever holds a RawTask holds, or was lent, a reference that keeps the cell alive meanwhile.
        unsafe { &*self.0.as_ptr() }
    }

    /// # Safety
    /// `F` and `S` are the types the cell was made with.
    unsafe fn cell<'a, F: Future, S>(self) -> &'a Cell<F, S> {
        // SAFETY: the caller's word; the pointer was made from the whole cell, whose first field is the header (repr C).
        unsafe { &*self.0.as_ptr().cast::<Cell<F, S>>() }
    }

    // ---- references ------------------------------------------------------------------------------------------------

    pub(super) fn add_ref(self) {
        self.header().state.add_ref();
    }

    pub(super) fn drop_ref(self) {
        if self.header().state.drop_ref() {
            self.free();
        }
    }

    /// A counted reference of its own.
    pub(super) fn new_ref(self) -> TaskRef {
        self.add_ref();
        TaskRef(self)
    }

    fn free(self) {
        // SAFETY: called by whoever gave up the last reference.
        unsafe { (self.header().vtable.free)(self) }
    }

    // ---- waking and running ----------------------------------------------------------------------------------------

    pub(super) fn wake_by_ref(self) {
        if self.header().state.wake_by_ref() == Wake::Schedule {
            self.schedule();
        }
    }

    /// # Safety
    /// Gives up a counted reference of the caller's.
    pub(super) unsafe fn wake_by_val(self) {
        match self.header().state.wake_by_val() {
            Wake::Nothing => {}
            Wake::Schedule => self.schedule(),
            Wake::Free => self.free(),
        }
    }

    /// Makes the ready handle and queues it; only for who was told to by the state word. May be the last touch.
    fn schedule(self) {
        // SAFETY: the right types are in the table; the state word made the caller the one to schedule.
        unsafe { (self.header().vtable.schedule)(self) }
    }

    /// Runs the holder's turn; only for the holder of the ready handle. May be the last touch.
    pub(super) fn run(self) {
        // SAFETY: as in `schedule`.
        unsafe { (self.header().vtable.run)(self) }
    }

    // ---- cancelling ------------------------------------------------------------------------------------------------

    /// `Task::cancel` and `Handle::cancel`: true if it will not, or no longer, produce its own output.
    pub(super) fn cancel(self) -> bool {
        let cancel = self.request_cancel();
        if cancel == Cancel::Schedule {
            self.schedule();
        }
        cancel != Cancel::TooLate
    }

    /// Cancels for a shutdown: as `cancel`, but what is idle is dropped by the calling thread, which is its home.
    pub(super) fn shut_down(self) {
        if self.request_cancel() == Cancel::Schedule {
            // The cancel moved the wake count from 0: the right to run is the caller's, and a cancelled task's run is
            // the drop of its future.
            self.run();
        }
    }

    fn request_cancel(self) -> Cancel {
        let header = self.header();
        if header.kind == Kind::Task {
            return header.state.cancel();
        }
        let cancel = header.state.cancel_one_shot(|now| {
            // SAFETY: the right types are in the table.
            !header.pinned || now.is_unbuilt() || unsafe { (header.vtable.is_home)(self) }
        });
        if let Cancel::Claimed { queued } = cancel {
            finish_drop(self);
            if !queued {
                // No ready handle holds the runtime's reference, so it is given up here.
                self.drop_ref();
            }
        }
        cancel
    }

    /// Cancelled, or asked to be: what a callback's `Handle` says.
    pub(super) fn is_cancelled(self) -> bool {
        self.header().state.load().is_cancelled()
    }

    pub(super) fn is_complete(self) -> bool {
        self.header().state.load().is_complete()
    }

    pub(super) fn is_stealable(self) -> bool {
        !self.header().pinned
    }

    /// A ready handle of this cell may cross to another thread and wait there, or be dropped.
    pub(super) fn may_travel(self) -> bool {
        !self.header().pinned || self.header().state.load().is_unbuilt()
    }

    /// Enters the live list; false if it is closed, and then the caller cancels the task.
    pub(crate) fn bind(self, home: &impl Schedule) -> bool {
        home.live().is_none_or(|live| live.bind(self))
    }

    /// Registers a done-callback; on a complete task it is queued at once.
    pub(super) fn add_done_callback(self, callback: DoneCallback) {
        let header = self.header();
        header.extra().callbacks.lock().push(callback);
        if header.state.set_callbacks() {
            self.deliver_callbacks();
        }
    }

    /// Queues whatever callbacks are in the list. Only when complete.
    fn deliver_callbacks(self) {
        let callbacks = std::mem::take(&mut *self.header().extra().callbacks.lock());
        if !callbacks.is_empty() {
            // SAFETY: the right types are in the table.
            unsafe { (self.header().vtable.deliver)(self, callbacks, self.header().outcome()) }
        }
    }
}

/// The sole right to a cell's join slot and output: what a `Task<T>` is made of.
pub(super) struct Join<T> {
    task: RawTask,
    output: PhantomData<fn() -> T>,
}

// SAFETY: whoever owns it may take the output, on whatever thread it is, so it goes where the output may go.
unsafe impl<T: Send> Send for Join<T> {}
// SAFETY: through a shared reference only the state word is reached, never the output.
unsafe impl<T> Sync for Join<T> {}

impl<T> Join<T> {
    /// Takes over the reference that `spawn_cell` returned; `T` is the output of the future it was given.
    pub(super) fn new(task: RawTask) -> Self {
        Self { task, output: PhantomData }
    }

    pub(super) fn raw(&self) -> RawTask {
        self.task
    }

    /// The output, if complete; else the context's waker will be woken.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
        let Header { state, vtable, .. } = self.task.header();
        let now = state.load();
        let owns_slot = !now.is_complete() && (!now.has_join_waker() || state.unset_join_waker());
        if owns_slot {
            // SAFETY: rule 3: JOIN_WAKER is unset and `&mut self` is the only Join.
            let old = unsafe { (vtable.take_join_waker)(self.task) };
            let waker = match old {
                Some(old) if old.will_wake(cx.waker()) => old,
                _ => cx.waker().clone(),
            };
            // SAFETY: as above.
            unsafe { (vtable.set_join_waker)(self.task, waker) };
            if state.set_join_waker() {
                return Poll::Pending;
            }
            // Completed meanwhile without seeing the waker: the slot is still ours.
            // SAFETY: as above.
            drop(unsafe { (vtable.take_join_waker)(self.task) });
        }
        let mut output = None::<Result<T, JoinError>>;
        // SAFETY: complete, so rule 2 gives us the output, whose type is T by `new`.
        unsafe { (vtable.take_output)(self.task, ptr::from_mut(&mut output).cast()) };
        Poll::Ready(output.expect("a Task was awaited again after it gave its output"))
    }
}

impl<T> Drop for Join<T> {
    fn drop(&mut self) {
        let Header { state, vtable, .. } = self.task.header();
        match state.drop_join() {
            // SAFETY: rule 3: the slot is ours again.
            DropJoin::Detached => drop(unsafe { (vtable.take_join_waker)(self.task) }),
            // SAFETY: rule 2: the output is ours.
            DropJoin::Complete => unsafe { (vtable.drop_output)(self.task) },
        }
        self.task.drop_ref();
    }
}

impl Header {
    pub(super) fn id(&self) -> Id {
        self.id
    }

    pub(super) fn name(&self) -> String {
        match self.existing_extra().and_then(|extra| extra.name.as_ref()) {
            Some(name) => name.clone(),
            None => format!("Task-{}", self.id),
        }
    }

    pub(super) fn set_live_key(&self, key: u32) {
        // Ordering: Relaxed: written by the spawner or the first run, read at completion, which those happen before.
        self.live_key.store(key, Ordering::Relaxed);
    }

    pub(super) fn take_live_key(&self) -> u32 {
        // Ordering: Relaxed, as above. Only the completer takes it.
        let key = self.live_key.load(Ordering::Relaxed);
        self.live_key.store(NO_KEY, Ordering::Relaxed);
        key
    }

    fn set_outcome(&self, outcome: Outcome) {
        // Ordering: Relaxed: the Release of COMPLETE publishes it.
        self.outcome.store(outcome as u8, Ordering::Relaxed);
    }

    /// Only when complete.
    pub(super) fn outcome(&self) -> Outcome {
        // Ordering: Relaxed: the caller has acquired COMPLETE.
        match self.outcome.load(Ordering::Relaxed) {
            0 => Outcome::Completed,
            1 => Outcome::Cancelled,
            _ => Outcome::Panicked,
        }
    }

    fn existing_extra(&self) -> Option<&Extra> {
        // Ordering: Acquire, pairs with the exchange in `extra`.
        let extra = self.extra.load(Ordering::Acquire);
        // SAFETY: null, or a box that is freed with the cell.
        unsafe { extra.as_ref() }
    }

    fn extra(&self) -> &Extra {
        if let Some(extra) = self.existing_extra() {
            return extra;
        }
        let new = Box::into_raw(Box::new(Extra { name: None, callbacks: Mutex::new(Vec::new()) }));
        // Ordering: Release publishes the box, pairs with the loads in `existing_extra`; Acquire on losing.
        let won = self.extra.compare_exchange(
            ptr::null_mut(),
            new,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if won.is_err() {
            // SAFETY: nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
        self.existing_extra().expect("just stored")
    }

    pub(super) fn context(&self, message: &str) -> ErrorContext {
        let mut context = ErrorContext::new(message);
        if self.kind != Kind::Callback {
            context.task = Some((self.id, self.name()));
        }
        context.location = Some(self.location);
        context
    }
}

/// A counted reference.
pub(super) struct TaskRef(RawTask);

impl std::ops::Deref for TaskRef {
    type Target = RawTask;
    fn deref(&self) -> &RawTask {
        &self.0
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        self.0.drop_ref();
    }
}

// ---- the functions in the table: `F` and `S` are the cell's own --------------------------------------------------------

unsafe fn schedule<F: Future, S: Schedule>(task: RawTask) {
    // The target holds what the push needs: once pushed, the cell may be gone.
    // SAFETY: the table's types.
    let target = unsafe { task.cell::<F, S>() }.home.target();
    S::push(target, ReadyHandle::new(task));
}

unsafe fn run<F: Future, S: Schedule>(task: RawTask) {
    // SAFETY: the table's types.
    let cell = unsafe { task.cell::<F, S>() };
    let _inside = id::enter((cell.header.kind != Kind::Callback).then_some(cell.header.id));
    if cell.header.kind != Kind::Task {
        // SAFETY: as for this function.
        return unsafe { run_one_shot::<F, S>(task) };
    }
    let (seen, first_run_of_post) = cell.header.state.start();
    if first_run_of_post && !task.bind(&cell.home) {
        // Posted to a loop that closed meanwhile.
        let _ = cell.header.state.cancel();
    } else if !seen.is_cancelled() {
        // SAFETY: rule 1, between `start` and `suspend` or `complete`.
        match catch(|| unsafe { poll::<F, S>(task) }) {
            Ok(Poll::Pending) => match cell.header.state.suspend(seen) {
                Suspend::Idle => return,
                // SAFETY: as for this function.
                Suspend::Reschedule => return unsafe { schedule::<F, S>(task) },
                Suspend::Cancelled => {}
            },
            // SAFETY: rule 1: still ours.
            Ok(Poll::Ready(output)) => return unsafe { finish::<F, S>(task, Ok(output)) },
            // SAFETY: as above.
            Err(payload) => return unsafe { finish::<F, S>(task, Err(JoinError::panic(payload))) },
        }
    }
    finish_drop(task);
    task.drop_ref();
}

unsafe fn run_one_shot<F: Future, S: Schedule>(task: RawTask) {
    // SAFETY: the table's types.
    let cell = unsafe { task.cell::<F, S>() };
    match cell.header.state.claim() {
        Claim::Gone => {}
        Claim::Drop => finish_drop(task),
        Claim::Run => {
            // SAFETY: rule 1: we set CLAIMED.
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
    cell.stage.with_mut(|stage| {
        // SAFETY: the caller's right; nobody else has a reference into the stage.
        let Stage::Future(future) = (unsafe { &mut *stage }) else {
            unreachable!("polled without a future");
        };
        // SAFETY: the future never moves: it is in a heap cell and is dropped in place.
        unsafe { Pin::new_unchecked(future) }.poll(&mut cx)
    })
}

/// Drops the future in place, with the right to it. A panic of its destructor comes back.
unsafe fn drop_future<F: Future, S: Schedule>(task: RawTask) -> Result<(), Box<dyn Any + Send>> {
    // SAFETY: the table's types; the caller's right to the future.
    let cell = unsafe { task.cell::<F, S>() };
    let dropped = cell.stage.with_mut(|stage| {
        // SAFETY: as above. The future is dropped where it is, as pinning demands, and once: the write below follows.
        catch(|| unsafe { ptr::drop_in_place(stage) })
    });
    // SAFETY: overwrites without dropping: what was there is gone, or lost to its own panic.
    cell.stage.with_mut(|stage| unsafe { ptr::write(stage, Stage::Consumed) });
    dropped
}

/// Ends a run with an output: drops the future, stores, completes, tells, and gives up the runtime's reference.
unsafe fn finish<F: Future, S: Schedule>(task: RawTask, output: Result<F::Output, JoinError>) {
    // SAFETY: the table's types; the caller's right to the future.
    let cell = unsafe { task.cell::<F, S>() };
    // SAFETY: as above.
    let dropped = unsafe { drop_future::<F, S>(task) };
    let output = match dropped {
        Ok(()) => output,
        Err(payload) => {
            drop_reporting::<F, S>(task, output);
            Err(JoinError::panic(payload))
        }
    };
    cell.header.set_outcome(if output.is_ok() { Outcome::Completed } else { Outcome::Panicked });
    // SAFETY: rule 2: not complete yet, so the stage is still ours.
    cell.stage.with_mut(|stage| unsafe { ptr::write(stage, Stage::Output(output)) });
    if let Some(live) = cell.home.live() {
        live.release(task);
    }
    match cell.header.state.complete() {
        Complete::Released => return,
        // SAFETY: complete; the runtime's reference is still held.
        Complete::Tell => unsafe { tell::<F, S>(task) },
        Complete::CancelWon => {
            let lost = cell.stage.with_mut(|stage| {
                // SAFETY: rule 2: still not complete.
                unsafe { ptr::replace(stage, Stage::Output(Err(JoinError::cancelled()))) }
            });
            if let Stage::Output(Ok(lost)) = lost {
                cell.header.set_outcome(Outcome::Cancelled);
                drop_reporting::<F, S>(task, lost);
            } else if let Stage::Output(error @ Err(_)) = lost {
                // A panic is not silenced by a cancel that came during the same poll.
                // SAFETY: as above.
                cell.stage.with_mut(|stage| unsafe { *stage = Stage::Output(error) });
            }
            let _ = cell.header.state.complete_cancelled();
            // SAFETY: as above.
            unsafe { tell::<F, S>(task) }
        }
    }
    task.drop_ref();
}

/// Drops the future with the right to it and completes as cancelled, or as panicked if the destructor did. Keeps the
/// runtime's reference.
fn finish_drop(task: RawTask) {
    let _inside = id::enter((task.header().kind != Kind::Callback).then_some(task.header().id));
    // SAFETY: the table's types; the callers hold the right to the future.
    unsafe {
        let payload = (task.header().vtable.drop_future)(task).err();
        (task.header().vtable.finish_cancelled)(task, payload);
    }
}

unsafe fn finish_cancelled<F: Future, S: Schedule>(
    task: RawTask,
    payload: Option<Box<dyn Any + Send>>,
) {
    // SAFETY: the table's types.
    let cell = unsafe { task.cell::<F, S>() };
    let panicked = payload.is_some();
    cell.header.set_outcome(if panicked { Outcome::Panicked } else { Outcome::Cancelled });
    let error = payload.map_or_else(JoinError::cancelled, JoinError::panic);
    // SAFETY: rule 2: not complete yet.
    cell.stage.with_mut(|stage| unsafe { ptr::write(stage, Stage::Output(Err(error))) });
    if let Some(live) = cell.home.live() {
        live.release(task);
    }
    let _ = cell.header.state.complete_cancelled();
    // SAFETY: complete; the runtime's reference is still held.
    unsafe { tell::<F, S>(task) }
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
        if let Some(waker) = unsafe { take_join_waker::<F, S>(task) } {
            if let Err(payload) = catch(|| waker.wake()) {
                report_panic::<F, S>(task, "Exception in a waker", payload);
            }
        }
    }
}

unsafe fn take_output<F: Future, S: Schedule>(task: RawTask, out: *mut ()) {
    // SAFETY: the table's types; rule 2 for the stage; `out` is an Option of the output's type, by `poll_join`.
    unsafe {
        let cell = task.cell::<F, S>();
        let stage = cell.stage.with_mut(|stage| ptr::replace(stage, Stage::Consumed));
        if let Stage::Output(output) = stage {
            *out.cast::<Option<Result<F::Output, JoinError>>>() = Some(output);
        }
    }
}

/// Drops the output, and reports a panic that nobody has been given.
unsafe fn drop_output<F: Future, S: Schedule>(task: RawTask) {
    // SAFETY: the table's types; rule 2.
    let stage = unsafe {
        task.cell::<F, S>().stage.with_mut(|stage| ptr::replace(stage, Stage::Consumed))
    };
    match stage {
        Stage::Output(Ok(output)) => drop_reporting::<F, S>(task, output),
        Stage::Output(Err(error)) => {
            if let Ok(payload) = error.try_into_panic() {
                let message = match task.header().kind {
                    Kind::Callback => "Exception in callback",
                    Kind::Task | Kind::Job => "Task exception was never retrieved",
                };
                report_panic::<F, S>(task, message, payload);
            }
        }
        Stage::Future(_) | Stage::Consumed => {}
    }
}

fn drop_reporting<F: Future, S: Schedule>(task: RawTask, value: impl Sized) {
    if let Err(payload) = catch(|| drop(value)) {
        report_panic::<F, S>(task, "Exception in a destructor", payload);
    }
}

fn report_panic<F: Future, S: Schedule>(
    task: RawTask,
    message: &str,
    payload: Box<dyn Any + Send>,
) {
    // SAFETY: the table's types, by all callers.
    let home = unsafe { &task.cell::<F, S>().home };
    home.report(&task.header().context(message).with_panic(&*payload));
    // A payload is user data: its destructor may panic as well, and there it ends.
    if let Err(second) = catch(|| drop(payload)) {
        std::mem::forget(second);
    }
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

/// Queues one callback that calls them all in order, each guarded from the others' panics.
unsafe fn deliver<F: Future, S: Schedule>(
    task: RawTask,
    callbacks: Vec<DoneCallback>,
    outcome: Outcome,
) {
    // SAFETY: the table's types.
    let home = &unsafe { task.cell::<F, S>() }.home;
    home.deliver(
        Box::new(move || {
            let mut first_panic = None;
            for callback in callbacks {
                if let Err(payload) = catch(|| callback(outcome)) {
                    first_panic.get_or_insert(payload);
                }
            }
            if let Some(payload) = first_panic {
                resume_unwind(payload);
            }
        }),
        task.header().location,
    );
}

unsafe fn free<F: Future, S: Schedule>(task: RawTask) {
    // SAFETY: the last reference: nobody else can reach the cell.
    let cell = unsafe { Box::from_raw(task.as_ptr().cast::<Cell<F, S>>()) };
    // Ordering: Relaxed: the caller's drop_ref acquired everything.
    let extra = cell.header.extra.load(Ordering::Relaxed);
    if !extra.is_null() {
        // SAFETY: made by Box::into_raw, freed only here.
        drop(unsafe { Box::from_raw(extra) });
    }
}
