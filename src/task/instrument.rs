//! The hook that sees what the runtime does.
//!
//! *Invariant.* Off, it costs one predictable branch per event and no byte of a task; on, it is called outside all locks, and a
//! panic of it is caught. *Threads.* Whichever the event happens on. *Ordering.* Events of one thread come in their order; of two
//! threads only this is said: what makes something ready is told before it is, and what ends a task before its awaiter is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, panic::Location};

use super::tracker::Tracker;
use super::{Id, Outcome, catch};

/// Sees every event of a runtime: for tracing, statistics, tests. See
/// [`Builder::instrument`](crate::Builder::instrument).
///
/// It is called on the thread on which things happen, in the midst of the engine's work, so it should be quick. It may call back
/// into the runtime; what that causes is told, too. A panic of it is dropped.
///
/// Counterparts: trio's `Instrument`, Tokio's unstable hooks.
///
/// ```
/// use epicycle::{Event, Instrument, Runtime, task::TaskKind};
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
///
/// struct Spawns(Arc<AtomicUsize>);
/// impl Instrument for Spawns {
///     fn event(&self, event: &Event) {
///         // The root of `block_on` is told of as a task, too.
///         if let Event::TaskSpawned { kind: TaskKind::Stealable, .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let spawns = Arc::new(AtomicUsize::new(0));
/// let rt = Runtime::builder().instrument(Spawns(spawns.clone())).build().unwrap();
/// rt.block_on(async {
///     for _ in 0..3 {
///         epicycle::spawn(async {}).await.unwrap();
///     }
/// });
/// assert_eq!(spawns.load(Ordering::Relaxed), 3);
/// ```
pub trait Instrument: Send + Sync + 'static {
    /// Something happened.
    ///
    /// ```
    /// use epicycle::{Event, Instrument};
    /// use std::sync::Mutex;
    ///
    /// struct Names(Mutex<Vec<String>>);
    /// impl Instrument for Names {
    ///     fn event(&self, event: &Event) {
    ///         self.0.lock().unwrap().push(format!("{event:?}"));
    ///     }
    /// }
    ///
    /// let names = Names(Mutex::default());
    /// names.event(&Event::Parked { on: 0 }); // as a loop does
    /// assert_eq!(*names.0.lock().unwrap(), ["Parked { on: 0 }"]);
    /// ```
    fn event(&self, event: &Event);
}

/// What an [`Instrument`] is told. A loop is named by its index; `usize::MAX` stands for threads that are none: the executor's,
/// and a caller of `block_on` who visits while another thread drives loop 0.
///
/// In asyncio's own order these are the steps of a program with one loop: see `examples/trace.rs`.
///
/// ```
/// use epicycle::{Event, EventLoop, Instrument};
/// use std::sync::{Arc, Mutex};
///
/// #[derive(Clone, Default)]
/// struct Log(Arc<Mutex<Vec<Event>>>);
/// impl Instrument for Log {
///     fn event(&self, event: &Event) {
///         self.0.lock().unwrap().push(*event);
///     }
/// }
///
/// let log = Log::default();
/// EventLoop::with_instrument(log.clone()).unwrap().run_until_complete(async {}).unwrap();
/// let log = log.0.lock().unwrap();
/// assert_eq!(log.first(), Some(&Event::RunStart { on: 0 }));
/// assert_eq!(log.last(), Some(&Event::RunStop { on: 0 }));
/// assert!(log.iter().any(|event| matches!(event, Event::TaskEnded { .. })));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A thread begins to drive a loop: a background thread, `block_on`, or a run method of an `EventLoop`.
    RunStart {
        /// The loop.
        on: usize,
    },
    /// It has left the loop.
    RunStop {
        /// The loop.
        on: usize,
    },
    /// A task was spawned. If its loop takes tasks it is queued next.
    TaskSpawned {
        /// The task.
        task: Id,
        /// The task that spawned it, if one did.
        parent: Option<Id>,
        /// What it is.
        kind: TaskKind,
        /// Where it was spawned.
        location: &'static Location<'static>,
    },
    /// A task has its output, and its future is gone (a root's goes when `block_on` returns).
    TaskEnded {
        /// The task.
        task: Id,
        /// How.
        outcome: Outcome,
    },
    /// The waker of a task that was idle was woken, or that of a running one, told when its poll ends: it is queued next. A wake
    /// of a task that is queued already does nothing and is not told.
    Woken {
        /// The task.
        task: Id,
        /// The task inside which that happened; a task that was woken during its own poll says itself.
        by: Option<Id>,
    },
    /// A handle is about to enter a queue: the step of a task, a callback, a job.
    HandleQueued {
        /// What it will run.
        work: Work,
    },
    /// A thread begins a handle.
    HandleStarted {
        /// The loop.
        on: usize,
        /// What it runs.
        work: Work,
    },
    /// The same ends.
    HandleEnded {
        /// The loop.
        on: usize,
        /// What it ran.
        work: Work,
        /// How long that took.
        took: Duration,
    },
    /// A done-callback was registered on a task. For the root of a run it is the one that ends the run.
    CallbackAdded {
        /// The task.
        task: Id,
        /// Which of the task's, from 1.
        number: u32,
    },
    /// A done-callback is called.
    CallbackRun {
        /// The task that is done.
        task: Id,
        /// Which of the task's, from 1.
        number: u32,
    },
    /// Something to wait for that is no task came into being. A timer does when a task first waits for it.
    FutureCreated {
        /// It.
        future: FutureId,
    },
    /// A future that stands for several tasks, as `gather`'s does, counts this one among them.
    FutureJoins {
        /// The future.
        future: FutureId,
        /// The task it waits for.
        task: Id,
    },
    /// It has its result.
    FutureSet {
        /// It.
        future: FutureId,
    },
    /// A poll finds that it has to wait: for a task, a timer, a future, a descriptor, a lock. asyncio's `yield self` in
    /// `Future.__await__`. Of a descriptor and of streams nothing else is told; of a lock and its like (`sync`, a scope) neither that it came into
    /// being nor that it is set: who is given it is [woken](Event::Woken).
    Blocking {
        /// The task that will wait, if one polls.
        task: Option<Id>,
        /// What for.
        future: FutureId,
    },
    /// The poll has left its waker there. asyncio's `add_done_callback(self.__wakeup)`.
    WakerRegistered {
        /// The task that will be woken, if one polls.
        task: Option<Id>,
        /// By what.
        future: FutureId,
    },
    /// A poll that had to wait before goes on.
    FutureResumed {
        /// The task, if one polls.
        task: Option<Id>,
        /// What it waited for.
        future: FutureId,
    },
    /// A timer is about to enter a loop's heap: a sleep's, a timeout's, a `call_later`'s.
    TimerArmed {
        /// The loop.
        on: usize,
        /// The timer.
        timer: FutureId,
        /// When it is due.
        when: Instant,
    },
    /// A timer is due and has left the heap; its waker is woken next.
    TimerFired {
        /// The loop whose heap it was in; another one may have looked after it.
        on: usize,
        /// The timer.
        timer: FutureId,
    },
    /// A timer has left the heap before it was due: what it was for was dropped, moved to another time, or came in time.
    TimerCancelled {
        /// The loop whose heap it was in.
        on: usize,
        /// The timer.
        timer: FutureId,
    },
    /// A loop goes to sleep in its selector. trio's `before_io_wait`.
    Parked {
        /// The loop.
        on: usize,
    },
    /// It is awake again. trio's `after_io_wait`.
    Woke {
        /// The loop.
        on: usize,
    },
    /// A loop took handles from another.
    Stole {
        /// The thief.
        on: usize,
        /// The victim.
        from: usize,
        /// How many.
        handles: usize,
    },
}

/// What sort of task it is.
///
/// ```
/// use epicycle::{Event, EventLoop, Instrument, task::TaskKind};
/// use std::sync::{Arc, Mutex};
///
/// #[derive(Clone, Default)]
/// struct Kinds(Arc<Mutex<Vec<TaskKind>>>);
/// impl Instrument for Kinds {
///     fn event(&self, event: &Event) {
///         if let Event::TaskSpawned { kind, .. } = event {
///             self.0.lock().unwrap().push(*kind);
///         }
///     }
/// }
///
/// let kinds = Kinds::default();
/// let event_loop = EventLoop::with_instrument(kinds.clone()).unwrap();
/// event_loop.run_until_complete(event_loop.spawn_local(async {})).unwrap().unwrap();
/// assert_eq!(*kinds.0.lock().unwrap(), [TaskKind::Pinned, TaskKind::Root]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskKind {
    /// The future given to `block_on` or `run_until_complete`.
    Root,
    /// A task that any loop may run.
    Stealable,
    /// A task that stays on its loop.
    Pinned,
    /// A job of the executor.
    Job,
}

/// What a handle runs.
///
/// ```
/// use epicycle::{Event, EventLoop, Instrument, task::Work};
/// use std::sync::{Arc, Mutex};
///
/// #[derive(Clone, Default)]
/// struct Begun(Arc<Mutex<Vec<Work>>>);
/// impl Instrument for Begun {
///     fn event(&self, event: &Event) {
///         if let Event::HandleStarted { work, .. } = event {
///             self.0.lock().unwrap().push(*work);
///         }
///     }
/// }
///
/// let begun = Begun::default();
/// let event_loop = EventLoop::with_instrument(begun.clone()).unwrap();
/// event_loop.call_soon(|| {});
/// event_loop.run_once(None);
/// assert!(matches!(begun.0.lock().unwrap()[..], [Work::Callback(_)]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Work {
    /// A step of this task: a poll, or the drop of a cancelled one.
    Task(Id),
    /// A callback; numbered as tasks are.
    Callback(Id),
    /// A job of the executor.
    Job(Id),
}

impl Work {
    /// The task or job, unless it is a callback.
    ///
    /// ```
    /// use epicycle::task::Work;
    ///
    /// epicycle::run(async {
    ///     let id = epicycle::task::id();
    ///     assert_eq!(Work::Task(id).task(), Some(id));
    ///     assert_eq!(Work::Callback(id).task(), None);
    /// });
    /// ```
    pub fn task(self) -> Option<Id> {
        match self {
            Work::Task(id) | Work::Job(id) => Some(id),
            Work::Callback(_) => None,
        }
    }
}

/// Names what a task waits for: another task, a timer, something else that can be awaited.
///
/// ```
/// # use epicycle::{Event, Instrument};
/// struct Waits;
/// impl Instrument for Waits {
///     fn event(&self, event: &Event) {
///         if let Event::Blocking { task: Some(task), future } = event {
///             println!("task {task} waits for {future}"); // "task 3 waits for timer-0.1"
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FutureId {
    kind: &'static str,
    number: u64,
}

const TASK: &str = "task";
const TIMER: &str = "timer";
const READABLE: &str = "readable";
const WRITABLE: &str = "writable";

/// A timer's number is that of its heap, and in so many bits its place among those armed there.
const TIMER_BITS: u32 = 40;

static NEXT_HEAP: AtomicU64 = AtomicU64::new(0);

impl FutureId {
    /// A task, as something to wait for.
    ///
    /// ```
    /// use epicycle::FutureId;
    ///
    /// epicycle::run(async {
    ///     let task = epicycle::task::id();
    ///     assert_eq!(FutureId::of_task(task).to_string(), format!("task-{task}"));
    /// });
    /// ```
    pub fn of_task(task: Id) -> Self {
        Self { kind: TASK, number: task.number() }
    }

    /// Where the numbers of another heap's timers begin.
    pub(crate) fn next_timers() -> u64 {
        // Ordering: Relaxed: a counter that publishes nothing.
        NEXT_HEAP.fetch_add(1, Ordering::Relaxed) << TIMER_BITS
    }

    pub(crate) fn of_timer(number: u64) -> Self {
        Self { kind: TIMER, number }
    }

    /// A descriptor's readiness.
    pub(crate) fn of_descriptor(number: i32, for_writing: bool) -> Self {
        Self { kind: if for_writing { WRITABLE } else { READABLE }, number: u64::from(number.unsigned_abs()) }
    }

    /// Something that stays where it is as long as it is waited for. Costs it nothing; a later one may have the same name.
    pub(crate) fn at<T: ?Sized>(kind: &'static str, place: *const T) -> Self {
        Self { kind, number: place.cast::<()>().addr() as u64 }
    }

    /// "task", "timer", "readable", "writable"; "promise"; "gather", "wait", "group" and so on, which
    /// [stand for tasks](Event::FutureJoins); "lock", "semaphore", "event", "condition", "barrier", "queue.get", "queue.put",
    /// "queue.join"; "writer" and "server", whose draining or closing is waited for; "scope", if its cancellation is.
    ///
    /// ```
    /// epicycle::run(async {
    ///     assert_eq!(epicycle::FutureId::of_task(epicycle::task::id()).kind(), "task");
    /// });
    /// ```
    pub fn kind(self) -> &'static str {
        self.kind
    }

    /// Tells it from others of its kind that exist at the same time: a task's id, a descriptor's number.
    ///
    /// ```
    /// use epicycle::FutureId;
    ///
    /// epicycle::run(async {
    ///     let task = epicycle::task::id();
    ///     assert_eq!(FutureId::of_task(task).number().to_string(), task.to_string());
    /// });
    /// ```
    pub fn number(self) -> u64 {
        self.number
    }

    /// The task, if it is one.
    ///
    /// ```
    /// use epicycle::FutureId;
    ///
    /// epicycle::run(async {
    ///     let task = epicycle::task::id();
    ///     assert_eq!(FutureId::of_task(task).task(), Some(task));
    /// });
    /// ```
    pub fn task(self) -> Option<Id> {
        if self.kind == TASK { Id::from_number(self.number) } else { None }
    }
}

impl fmt::Display for FutureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TASK => write!(f, "{TASK}-{}", self.number),
            TIMER => write!(f, "{TIMER}-{}.{}", self.number >> TIMER_BITS, self.number & ((1 << TIMER_BITS) - 1)),
            READABLE | WRITABLE => write!(f, "fd {} to be {}", self.number, self.kind),
            _ => write!(f, "{}@{:x}", self.kind, self.number),
        }
    }
}

/// How many observers with something to tell exist in the process: as long as it is none, nobody looks further.
static OBSERVERS: AtomicUsize = AtomicUsize::new(0);

/// Whether anybody may want to know: what is asked first where an observer is not at hand, or not in the cache.
#[inline]
pub(crate) fn is_observed() -> bool {
    // Ordering: Relaxed: an observer is there before its runtime is, whose threads and tasks are made after.
    OBSERVERS.load(Ordering::Relaxed) != 0
}

/// The instrument and the tracker of a runtime, if it has any.
#[derive(Clone, Default)]
pub(crate) struct Observer(Option<Arc<Hooks>>);

struct Hooks {
    instrument: Option<Arc<dyn Instrument>>,
    tracker: Option<Tracker>,
}

impl Observer {
    pub(crate) fn new(instrument: Option<Arc<dyn Instrument>>, track: bool) -> Self {
        if instrument.is_none() && !track {
            return Self(None);
        }
        // Ordering: Relaxed, as in `is_observed`.
        OBSERVERS.fetch_add(1, Ordering::Relaxed);
        Self(Some(Arc::new(Hooks { instrument, tracker: track.then(Tracker::default) })))
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What it knows of the tasks that are alive, if it was asked to keep track.
    pub(crate) fn tracker(&self) -> Option<&Tracker> {
        self.0.as_ref()?.tracker.as_ref()
    }

    /// Tells the instrument, if there is one; `event` is made only then.
    #[inline]
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(hooks) = &self.0 {
            hooks.tell(&event());
        }
    }
}

impl Hooks {
    #[cold]
    fn tell(&self, event: &Event) {
        if let Some(tracker) = &self.tracker {
            tracker.note(event);
        }
        if let Some(instrument) = &self.instrument
            && let Err(payload) = catch(|| instrument.event(event))
        {
            // To report it would be an event's worth of trouble each time; the panic hook has printed it.
            std::mem::forget(payload);
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        // Ordering: Relaxed, as in `is_observed`.
        OBSERVERS.fetch_sub(1, Ordering::Relaxed);
    }
}
