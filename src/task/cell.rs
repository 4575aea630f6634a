//! The allocation of a task and all that is done to its memory: the unsafe file.
//!
//! *Invariant.* One allocation holds [`Header`], scheduler, join slot, and the future or its output. A [`RawTask`] points
//! to a cell that is alive as long as a counted reference exists or the task is not complete (the runtime's reference).
//! The rules cited below are those of `mod.rs`.
//!
//! *Threads.* Any; each function says whose right it uses. *Ordering.* `state.rs`.

mod block;
mod depot;
mod join_slot;
mod table;

pub(super) use join_slot::Join;

use std::any::Any;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::task::Waker;

use super::callback::{Callbacks, Registered, Waiting};
use super::context::{self, Context};
use super::eager;
use super::id::{self, Id};
use super::join::{DoneCallback, JoinError, Outcome};
use super::live::NO_KEY;
use super::state::{Cancel, Claim, State, Wake};
use super::waker::first_waker;
use super::{ErrorContext, Event, Observer, ReadyHandle, Schedule, TaskKind, Work, is_observed};
use crate::primitive::atomic::{AtomicPtr, AtomicU32, Ordering};
use crate::primitive::{Mutex, UnsafeCell};
use block::Block;

/// What a cell holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A future, polled until it is ready.
    Task,
    /// Stands for a future that its caller polls, in `block_on`: nobody may cancel it.
    Root,
    /// The same as a task, but what it polls is a reader's or writer's callback: no task to the user.
    Watch,
    /// A closure of the executor: runs once, and once started cannot be cancelled.
    Job,
    /// A closure of `call_soon` and friends: the same without a result.
    Callback,
}

impl Kind {
    #[inline]
    fn is_future(self) -> bool {
        matches!(self, Self::Task | Self::Root | Self::Watch)
    }

    /// Known to the user by an id and a name.
    #[inline]
    fn has_id(self) -> bool {
        matches!(self, Self::Task | Self::Root | Self::Job)
    }
}

pub(crate) struct Header {
    pub(super) state: State,
    vtable: &'static Vtable,
    id: Id,
    /// Where it was spawned: a `Location`; or, with the lowest bit set, an `Extra`, which lives as long as the cell.
    origin: AtomicPtr<()>,
    live_key: AtomicU32,
    kind: Kind,
    pinned: bool,
    /// How it ended, as a number; written before COMPLETE.
    outcome: AtomicU8,
    /// What the stage holds: one of the three below. Belongs to whom the stage belongs to.
    held: AtomicU8,
}

const FUTURE: u8 = 0;
const OUTPUT: u8 = 1;
const NOTHING: u8 = 2;

/// What few tasks have.
struct Extra {
    location: &'static Location<'static>,
    name: Option<String>,
    callbacks: Mutex<Registered>,
    /// Nobody wants to hear of a panic of it.
    quiet: AtomicBool,
    /// The cell's context while it does not run; belongs to who may touch the future.
    context: UnsafeCell<Context>,
}

impl Extra {
    /// As an `origin`.
    #[cold]
    fn origin(location: &'static Location<'static>, name: Option<String>, context: Context) -> *mut () {
        let callbacks = Mutex::new(Registered::default());
        let quiet = AtomicBool::new(false);
        let context = UnsafeCell::new(context);
        let extra = Box::new(Extra { location, name, callbacks, quiet, context });
        Box::into_raw(extra).cast::<()>().map_addr(|address| address | EXTRA)
    }
}

enum Origin<'a> {
    Plain(&'static Location<'static>),
    Extra(&'a Extra),
}

/// The mark of an `Extra` among origins.
const EXTRA: usize = 1;
const _: () = assert!(align_of::<Location<'static>>() > EXTRA && align_of::<Extra>() > EXTRA);

struct Vtable {
    run: unsafe fn(RawTask),
    schedule: unsafe fn(RawTask),
    finish_drop: unsafe fn(RawTask, JoinError, bool),
    take_output: unsafe fn(RawTask, *mut ()),
    show_value: unsafe fn(RawTask, &mut dyn FnMut(*const ())),
    drop_output: unsafe fn(RawTask),
    take_join_waker: unsafe fn(RawTask) -> Option<Waker>,
    set_join_waker: unsafe fn(RawTask, Waker),
    is_home: unsafe fn(RawTask) -> bool,
    is_driven_here: unsafe fn(RawTask) -> bool,
    only_loop: unsafe fn(RawTask) -> Option<usize>,
    deliver: unsafe fn(RawTask, Callbacks),
    observer: unsafe fn(RawTask) -> Option<*const Observer>,
    report: unsafe fn(RawTask, &str, Box<dyn Any + Send>),
    free: unsafe fn(RawTask),
}

/// Without a tag of its own, which would cost a word: the header's `held` says whether there is a future or an output, its
/// `outcome` whether that is a value or an error.
union Stage<F: Future> {
    future: ManuallyDrop<F>,
    value: ManuallyDrop<F::Output>,
    error: ManuallyDrop<JoinError>,
}

#[repr(C)]
struct Cell<F: Future, S> {
    header: Header,
    home: S,
    join: UnsafeCell<Option<Waker>>,
    stage: UnsafeCell<Stage<F>>,
}

impl<F: Future, S> Cell<F, S> {
    /// Stores an output, and how it came about.
    ///
    /// # Safety
    /// The caller has the right to the stage, and it holds nothing.
    unsafe fn put(&self, output: Result<F::Output, JoinError>) {
        let outcome = Outcome::of(&output);
        self.stage.with_mut(|stage| {
            // One member is written, not a whole stage: that may be as large as the largest future, and would go over the stack.
            // SAFETY: the caller's right; what is overwritten is nothing.
            unsafe {
                match output {
                    Ok(value) => ptr::write(&raw mut (*stage).value, ManuallyDrop::new(value)),
                    Err(error) => ptr::write(&raw mut (*stage).error, ManuallyDrop::new(error)),
                }
            }
        });
        self.header.set_outcome(outcome);
        self.header.set_held(OUTPUT);
    }

    /// Takes the output out, if it is there.
    ///
    /// # Safety
    /// The caller has the right to the stage.
    unsafe fn take(&self) -> Option<Result<F::Output, JoinError>> {
        if self.header.held() != OUTPUT {
            return None;
        }
        self.header.set_held(NOTHING);
        self.stage.with_mut(|stage| {
            // SAFETY: the caller's right; `put` wrote this member, and `held` has just said for the last time that it is there.
            unsafe {
                Some(match self.header.outcome() {
                    Outcome::Completed => Ok(ManuallyDrop::take(&mut (*stage).value)),
                    Outcome::Cancelled | Outcome::Panicked => Err(ManuallyDrop::take(&mut (*stage).error)),
                })
            }
        })
    }
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
#[inline]
pub(crate) fn spawn_cell<F: Future, S: Schedule>(future: F, home: S, new: NewTask) -> RawTask {
    let origin = if new.name.is_some() || context::is_set() {
        Extra::origin(new.location, new.name, Context::capture())
    } else {
        ptr::from_ref(new.location).cast_mut().cast()
    };
    let id = Id::next();
    let cell = Block::new(|| Cell {
        header: Header {
            state: State::new(new.kind != Kind::Callback, new.queued, new.unbuilt),
            vtable: &const { table::vtable::<F, S>() },
            id,
            origin: AtomicPtr::new(origin),
            live_key: AtomicU32::new(NO_KEY),
            kind: new.kind,
            pinned: new.pinned,
            outcome: AtomicU8::new(0),
            held: AtomicU8::new(FUTURE),
        },
        home,
        join: UnsafeCell::new(None),
        stage: UnsafeCell::new(Stage { future: ManuallyDrop::new(future) }),
    });
    RawTask(cell.into_raw().cast())
}

/// Makes the cell of a callback that waits for what `arm` arranges, given its waker. That goes with the callback, run or cancelled.
/// It is in its live list; if that is closed, it is cancelled and nothing is arranged.
///
/// # Panics
/// If another thread may run what `home` schedules.
pub(crate) fn launch_waiting<T, F: FnOnce(), S: Schedule>(
    f: F,
    home: S,
    location: &'static Location<'static>,
    arm: impl FnOnce(Waker) -> T,
) -> RawTask {
    let kind = Kind::Callback;
    let new = NewTask { kind, pinned: true, queued: false, unbuilt: false, name: None, location };
    let task = spawn_cell(Waiting::<T, F>::new(f), home, new);
    // SAFETY: just made with these types.
    let cell = unsafe { task.cell::<Waiting<T, F>, S>() };
    let waker = first_waker(task);
    if !task.bind(&cell.home) {
        drop(waker);
        task.cancel();
        return task;
    }
    assert!(cell.home.is_driven_here());
    let armed = arm(waker);
    // Only this thread runs it, or drops its closure. If it has not by now, then not before this function has returned either.
    if cell.header.state.load().is_claimed() {
        drop(armed);
    } else {
        // SAFETY: as just said; and the stage has held the future since it was made.
        cell.stage.with_mut(|stage| unsafe { (*(*stage).future).set(armed) });
    }
    task
}

/// Makes a task and runs it on this thread, which must be its loop's, until it first has to wait.
pub(crate) fn launch_eagerly<F: Future, S: Schedule>(future: F, home: S, new: NewTask) -> RawTask {
    let task = spawn_cell(future, home, new);
    // SAFETY: just made with these types.
    let home = unsafe { &task.cell::<F, S>().home };
    let bound = task.bind(home);
    task.tell_spawned();
    let handle = ReadyHandle::new(task);
    if bound {
        if let Err(handle) = eager::try_run(handle) {
            // Not run, so the cell is still there.
            task.tell_queued();
            S::push(home.target(), handle);
        }
    } else {
        drop(handle);
    }
    task
}

/// Makes a cell and queues it. A task enters its live list first; if that is closed, the future is dropped instead and the
/// task is cancelled. The reference is the caller's.
#[inline]
pub(crate) fn launch<F: Future, S: Schedule>(future: F, home: S, new: NewTask) -> RawTask {
    let binds = new.kind == Kind::Task && !new.unbuilt;
    let task = spawn_cell(future, home, new);
    // SAFETY: just made with these types.
    let home = unsafe { &task.cell::<F, S>().home };
    let bound = !binds || task.bind(home);
    task.tell_spawned();
    if bound {
        task.tell_queued();
    }
    let handle = ReadyHandle::new(task);
    if bound {
        // The reference that is returned keeps the cell meanwhile.
        home.queue(handle);
    } else {
        drop(handle);
    }
    task
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

    #[inline]
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

    #[inline]
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

    #[inline]
    fn free(self) {
        // What the cell refers to may go with it, and call user code.
        id::leave(self);
        // SAFETY: called by whoever gave up the last reference.
        unsafe { (self.header().vtable.free)(self) }
    }

    /// This is the thread's current task, and its context the current one, until the guard goes.
    ///
    /// # Safety
    /// The caller may touch the future (rule 1).
    #[inline]
    unsafe fn enter(self) -> Inside {
        let task = id::enter(self.header().kind.has_id().then_some(self));
        // SAFETY: the caller's word.
        Inside { _task: task, _context: unsafe { self.header().enter_context() } }
    }

    // ---- waking and running ----------------------------------------------------------------------------------------

    pub(super) fn wake_by_ref(self) {
        if id::wake_polled(self) {
            return;
        }
        if self.header().state.wake_by_ref() == Wake::Schedule {
            self.schedule();
        }
    }

    /// # Safety
    /// Gives up a counted reference of the caller's.
    pub(super) unsafe fn wake_by_val(self) {
        if id::wake_polled(self) {
            return self.drop_ref();
        }
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

    // ---- telling ---------------------------------------------------------------------------------------------------

    /// Tells the instrument of the cell's runtime, if there is one. The cell is alive.
    #[inline]
    pub(super) fn tell(self, event: impl FnOnce() -> Event) {
        if is_observed() {
            self.tell_now(event());
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_now(self, event: Event) {
        // SAFETY: the right types are in the table; the observer lives as long as the scheduler that the cell holds, and whoever
        // calls keeps the cell.
        if let Some(observer) = unsafe { (self.header().vtable.observer)(self).map(|observer| &*observer) } {
            observer.tell(|| event);
        }
    }

    /// Before its ready handle is pushed.
    #[inline]
    pub(super) fn tell_queued(self) {
        if is_observed() {
            self.tell_queued_now(None);
        }
    }

    /// The same by a waker.
    #[inline]
    pub(super) fn tell_woken(self) {
        if is_observed() {
            self.tell_queued_now(Some(id::try_id()));
        }
    }

    #[cold]
    fn tell_queued_now(self, waker: Option<Option<Id>>) {
        let work = self.header().work();
        if let (Work::Task(task), Some(by)) = (work, waker) {
            self.tell(|| Event::Woken { task, by });
        }
        self.tell(|| Event::HandleQueued { work });
    }

    /// Of a task or job that was just made.
    #[inline]
    pub(crate) fn tell_spawned(self) {
        if is_observed() {
            self.tell_spawned_now();
        }
    }

    #[cold]
    fn tell_spawned_now(self) {
        let header = self.header();
        let kind = match header.kind {
            Kind::Root => TaskKind::Root,
            Kind::Task if header.pinned => TaskKind::Pinned,
            Kind::Task => TaskKind::Stealable,
            Kind::Job => TaskKind::Job,
            Kind::Callback | Kind::Watch => return,
        };
        let parent = id::try_id();
        self.tell(|| Event::TaskSpawned { task: header.id, parent, kind, location: header.location() });
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
        let cancel = if header.kind.is_future() {
            header.state.cancel()
        } else {
            header.state.cancel_one_shot(header.kind == Kind::Callback, |now| {
                // SAFETY: the right types are in the table.
                !header.pinned || now.is_unbuilt() || unsafe { (header.vtable.is_home)(self) }
            })
        };
        if cancel == Cancel::Claimed {
            // SAFETY: rule 1: the claim is ours.
            let _inside = unsafe { self.enter() };
            table::finish_drop(self, JoinError::cancelled(), false);
        }
        cancel
    }

    /// The index of the loop that it is pinned to.
    pub(super) fn only_loop(self) -> Option<usize> {
        // SAFETY: the right types are in the table.
        unsafe { (self.header().vtable.only_loop)(self) }
    }

    /// The turn of a one-shot, for the holder of its ready handle.
    #[inline]
    fn claim(self) -> Claim {
        let header = self.header();
        // A job may be in a list whose tasks any thread cancels. A callback is in the list of what is pinned to its loop or in none,
        // and who cancels what is in there is the loop's thread, which holds the handle.
        header.state.claim(header.kind == Kind::Callback)
    }

    /// Gives up the reference of a `Handle`.
    #[inline]
    pub(super) fn drop_handle(self) {
        let header = self.header();
        let last = header.state.drop_handle(|| {
            // SAFETY: the right types are in the table.
            header.kind == Kind::Callback && header.pinned && unsafe { (header.vtable.is_driven_here)(self) }
        });
        if last {
            self.free();
        }
    }

    /// Ends a one-shot unrun, by the holder of its ready handle; awaiting it says why. May be the last touch.
    pub(super) fn refuse(self, why: &'static str) {
        if self.claim() == Claim::Gone {
            return self.drop_ref();
        }
        // SAFETY: rule 1: the claim is ours.
        let _inside = unsafe { self.enter() };
        table::finish_drop(self, JoinError::refused(why), true);
    }

    /// Cancelled, or asked to be: what a callback's `Handle` says.
    pub(super) fn is_cancelled(self) -> bool {
        self.header().state.load().is_cancelled()
    }

    #[inline]
    pub(super) fn is_complete(self) -> bool {
        self.header().state.load().is_complete()
    }

    /// A ready handle of this cell may cross to another thread and wait there, or be dropped. One whose cell a canceller has
    /// claimed holds nothing but a reference.
    pub(super) fn may_travel(self) -> bool {
        let header = self.header();
        let now = header.state.load();
        !header.pinned || now.is_unbuilt() || now.is_claimed()
    }

    /// Enters the live list; false if it is closed, and then the caller cancels the task.
    pub(crate) fn bind(self, home: &impl Schedule) -> bool {
        home.live().is_none_or(|live| live.bind(self))
    }

    /// Registers a done-callback; on a complete task it is queued at once. The number is unique in
    /// this task. `counts`: it is the engine's own and only counts.
    pub(super) fn add_done_callback(self, callback: DoneCallback, counts: bool) -> u32 {
        let header = self.header();
        let callbacks = &header.extra().callbacks;
        let number = callbacks.lock().number();
        self.tell(|| Event::CallbackAdded { task: header.id, number });
        callbacks.lock().add(number, callback, counts);
        if header.state.set_callbacks() {
            self.deliver_callbacks();
        }
        number
    }

    /// Takes a done-callback out, unless it is queued already or gone.
    pub(super) fn remove_done_callback(self, number: u32) -> Option<DoneCallback> {
        self.header().existing_extra()?.callbacks.lock().remove(number)
    }

    /// Queues whatever callbacks are in the list. Only when complete.
    fn deliver_callbacks(self) {
        let header = self.header();
        let callbacks = header.extra().callbacks.lock().take();
        if !callbacks.is_empty() {
            let callbacks = Callbacks::new(callbacks, header.id, header.outcome(), header.location());
            // SAFETY: the right types are in the table.
            unsafe { (header.vtable.deliver)(self, callbacks) }
        }
    }
}

impl Header {
    pub(super) fn id(&self) -> Id {
        self.id
    }

    /// What a handle of the cell runs.
    pub(super) fn work(&self) -> Work {
        match self.kind {
            Kind::Task | Kind::Root => Work::Task(self.id),
            Kind::Job => Work::Job(self.id),
            Kind::Callback | Kind::Watch => Work::Callback(self.id),
        }
    }

    pub(super) fn name(&self) -> String {
        match self.existing_extra().and_then(|extra| extra.name.as_ref()) {
            Some(name) => name.clone(),
            None => format!("Task-{}", self.id),
        }
    }

    /// Shown to the user.
    pub(super) fn is_task(&self) -> bool {
        matches!(self.kind, Kind::Task | Kind::Root)
    }

    pub(super) fn is_root(&self) -> bool {
        self.kind == Kind::Root
    }

    /// Queued or running, or complete.
    pub(super) fn is_ready(&self) -> bool {
        self.state.load().is_ready()
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pinned
    }

    pub(super) fn location(&self) -> &'static Location<'static> {
        match self.origin() {
            Origin::Plain(location) => location,
            Origin::Extra(extra) => extra.location,
        }
    }

    pub(super) fn set_live_key(&self, key: u32) {
        // Ordering: Relaxed: written by the spawner or the first run, read at completion, which those happen before.
        self.live_key.store(key, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn take_live_key(&self) -> u32 {
        // Ordering: Relaxed, as above. Only the completer takes it.
        let key = self.live_key.load(Ordering::Relaxed);
        self.live_key.store(NO_KEY, Ordering::Relaxed);
        key
    }

    #[inline]
    fn set_outcome(&self, outcome: Outcome) {
        // Ordering: Relaxed: the Release of COMPLETE publishes it.
        self.outcome.store(outcome as u8, Ordering::Relaxed);
    }

    /// Only when complete.
    #[inline]
    pub(super) fn outcome(&self) -> Outcome {
        // Ordering: Relaxed: the caller has acquired COMPLETE.
        match self.outcome.load(Ordering::Relaxed) {
            0 => Outcome::Completed,
            1 => Outcome::Cancelled,
            _ => Outcome::Panicked,
        }
    }

    #[inline]
    fn held(&self) -> u8 {
        // Ordering: Relaxed: it goes with the stage, whose right the caller has acquired.
        self.held.load(Ordering::Relaxed)
    }

    #[inline]
    fn set_held(&self, held: u8) {
        // Ordering: Relaxed, as above.
        self.held.store(held, Ordering::Relaxed);
    }

    // ---- context ---------------------------------------------------------------------------------------------------

    /// The cell's context is the thread's until the guard goes. Costs a look at two words where no context is in use.
    ///
    /// # Safety
    /// The caller may touch the future (rule 1).
    #[inline]
    unsafe fn enter_context(&self) -> context::Aside {
        // Ordering: Relaxed: without a box now there was no context when the caller got its right.
        if self.origin.load(Ordering::Relaxed).addr() & EXTRA == 0 && !context::is_set() {
            return context::Aside::none();
        }
        // SAFETY: the caller's word.
        context::Aside::under(unsafe { self.take_context() })
    }

    /// # Safety
    /// As for `enter_context`.
    #[inline(never)]
    unsafe fn take_context(&self) -> Context {
        let Some(extra) = self.existing_extra() else { return Context::new() };
        // SAFETY: the caller's word: nobody else touches it.
        extra.context.with_mut(|context| unsafe { std::mem::take(&mut *context) })
    }

    /// Before a suspension: the context, with what was set in it, stays with the cell.
    ///
    /// # Safety
    /// As for `enter_context`.
    #[inline]
    unsafe fn keep_context(&self) {
        if context::is_set() {
            // SAFETY: the caller's word.
            unsafe { self.keep_this_context() };
        }
    }

    /// # Safety
    /// As for `enter_context`.
    #[cold]
    unsafe fn keep_this_context(&self) {
        let context = context::take();
        // SAFETY: the caller's word. What is overwritten is empty: it was taken at the entering.
        self.extra().context.with_mut(|kept| unsafe { *kept = context });
    }

    fn origin(&self) -> Origin<'_> {
        // Ordering: Acquire, pairs with the exchange in `extra`.
        let origin = self.origin.load(Ordering::Acquire);
        if origin.addr() & EXTRA == 0 {
            // SAFETY: without the mark it is the location that the cell was made with.
            return Origin::Plain(unsafe { &*origin.cast_const().cast() });
        }
        // SAFETY: with the mark it is a box that is freed with the cell.
        Origin::Extra(unsafe { &*origin.map_addr(|address| address & !EXTRA).cast_const().cast() })
    }

    pub(super) fn hush(&self) {
        // Ordering: Relaxed: the Task is given up after it, which releases it to whoever completes.
        self.extra().quiet.store(true, Ordering::Relaxed);
    }

    fn is_quiet(&self) -> bool {
        // Ordering: Relaxed, as in `hush`; or the reader is the thread that wrote it.
        self.existing_extra().is_some_and(|extra| extra.quiet.load(Ordering::Relaxed))
    }

    fn existing_extra(&self) -> Option<&Extra> {
        match self.origin() {
            Origin::Plain(_) => None,
            Origin::Extra(extra) => Some(extra),
        }
    }

    fn extra(&self) -> &Extra {
        let location = match self.origin() {
            Origin::Extra(extra) => return extra,
            Origin::Plain(location) => location,
        };
        let plain = ptr::from_ref(location).cast_mut().cast();
        let new = Extra::origin(location, None, Context::new());
        // Ordering: Release publishes the box, pairs with the load in `origin`; Acquire on losing.
        if self.origin.compare_exchange(plain, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: nobody else has seen it.
            unsafe { free_extra(new) };
        }
        self.existing_extra().expect("just stored")
    }

    pub(super) fn context(&self, message: &str) -> ErrorContext {
        let mut context = ErrorContext::new(message);
        if self.kind.has_id() {
            context.task = Some((self.id, self.name()));
        }
        context.location = Some(self.location());
        context
    }
}

/// Frees the `Extra` that an origin is, if it is one.
///
/// # Safety
/// Nobody else uses it any more.
#[inline]
unsafe fn free_extra(origin: *mut ()) {
    if origin.addr() & EXTRA != 0 {
        let extra = origin.map_addr(|address| address & !EXTRA).cast::<Extra>();
        // SAFETY: the caller's word.
        unsafe { free_this_extra(extra) };
    }
}

/// # Safety
/// As for `free_extra`.
#[cold]
unsafe fn free_this_extra(extra: *mut Extra) {
    // SAFETY: made by `Extra::origin` from a box; the caller's word.
    drop(unsafe { Box::from_raw(extra) });
}

/// Left in this order: values are user data, whose destructors may ask for the current task, and by now this cell may be gone.
struct Inside {
    _task: id::Entered,
    _context: context::Aside,
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
