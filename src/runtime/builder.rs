//! The options of a runtime.
//!
//! *Invariant.* A value that makes no sense is refused where it is given. *Threads.* Any. *Ordering.* None.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Runtime;
use crate::scheduler::{Executor, Options, Threads};
use crate::task::{ErrorContext, Instrument, Observer};

/// The variable that sets the number of loops where the program does not.
const WORKER_THREADS: &str = "EPICYCLE_WORKER_THREADS";

/// The variable that turns debug mode on.
const DEBUG: &str = "EPICYCLE_DEBUG";

/// Options of a [`Runtime`].
///
/// ```
/// use std::time::Duration;
/// let rt = epicycle::Runtime::builder()
///     .worker_threads(4)
///     .thread_name("web")
///     .max_blocking_threads(64)
///     .blocking_keep_alive(Duration::from_secs(5))
///     .build()
///     .unwrap();
/// assert_eq!(rt.loops().len(), 4);
/// ```
///
/// Counterparts: Tokio's `runtime::Builder`; asyncio has settings of the loop and of the policy instead.
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    worker_threads: Option<usize>,
    debug: Option<bool>,
    slow_callback_duration: Duration,
    instrument: Option<Arc<dyn Instrument>>,
    track_tasks: Option<bool>,
    /// If it is always the same: to be looked at even if no thread is started yet.
    thread_name: Option<String>,
    options: Options,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// The default options.
    ///
    /// ```
    /// use epicycle::runtime::Builder;
    ///
    /// let rt = Builder::new().build().unwrap(); // what `Runtime::new` does
    /// assert_eq!(rt.block_on(async { 6 * 7 }), 42);
    /// ```
    pub fn new() -> Self {
        let options = Options {
            loops: 0,
            work_stealing: true,
            event_interval: 61,
            spin: Duration::ZERO,
            may_spin: false,
            threads: Threads::default(),
            default_executor: None,
            on_thread_start: None,
            on_thread_stop: None,
            exception_handler: None,
            observer: Observer::default(),
            slow: None,
        };
        Self {
            worker_threads: None,
            debug: None,
            slow_callback_duration: Duration::from_millis(100),
            instrument: None,
            track_tasks: None,
            thread_name: None,
            options,
        }
    }

    /// How many loops, and so how many threads run tasks, the caller of `block_on` included. Default: the environment's
    /// `EPICYCLE_WORKER_THREADS`, else the number of CPUs, but at least two. With one loop there is no background thread:
    /// the runtime runs only inside `block_on`, in asyncio's exact order.
    ///
    /// # Panics
    /// If `n` is 0.
    ///
    /// Counterpart: Tokio's `worker_threads`, which does not count the caller of `block_on`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().worker_threads(1).build().unwrap();
    /// let task = rt.spawn(async { 1 });
    /// assert!(!task.done()); // nobody is inside block_on
    /// assert_eq!(rt.block_on(task).unwrap(), 1);
    /// ```
    #[track_caller]
    pub fn worker_threads(mut self, n: usize) -> Self {
        assert!(n >= 1, "worker_threads must be at least 1");
        self.worker_threads = Some(n);
        self
    }

    /// The name of the threads. Linux shows the first 15 bytes. Default: "epicycle". [`build`](Self::build) refuses one with a
    /// null byte in it.
    ///
    /// Counterpart: Tokio's `thread_name`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().thread_name("web").build().unwrap();
    /// let name = rt.run_in_executor(|| std::thread::current().name().map(str::to_owned));
    /// assert_eq!(rt.block_on(name).unwrap().as_deref(), Some("web"));
    /// ```
    pub fn thread_name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        let first = name.clone();
        Self { thread_name: Some(first), ..self.thread_name_fn(move || name.clone()) }
    }

    /// Called for the name of each thread as it starts. With a null byte in it the name of a loop's thread makes
    /// [`build`](Self::build) fail; an executor's thread is then called "epicycle".
    ///
    /// Counterpart: Tokio's `thread_name_fn`.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let count = AtomicUsize::new(1);
    /// let rt = epicycle::Runtime::builder()
    ///     .worker_threads(1) // with more, the loops' threads are the first to be named
    ///     .thread_name_fn(move || format!("web-{}", count.fetch_add(1, Ordering::Relaxed)))
    ///     .build()
    ///     .unwrap();
    /// let name = rt.run_in_executor(|| std::thread::current().name().map(str::to_owned));
    /// assert_eq!(rt.block_on(name).unwrap().as_deref(), Some("web-1"));
    /// ```
    pub fn thread_name_fn(mut self, name: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.options.threads.name = Arc::new(name);
        self.thread_name = None;
        self
    }

    /// The stack size of the threads, in bytes. Default: std's, 2 MiB.
    ///
    /// Counterpart: Tokio's `thread_stack_size`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().thread_stack_size(16 << 20).build().unwrap();
    /// let job = rt.run_in_executor(|| std::hint::black_box([1_u8; 3 << 20]).len()); // too much for 2 MiB
    /// assert_eq!(rt.block_on(job).unwrap(), 3 << 20);
    /// ```
    pub fn thread_stack_size(mut self, bytes: usize) -> Self {
        self.options.threads.stack_size = Some(bytes);
        self
    }

    /// Called on each background loop's thread before it runs anything, with the loop's index. Not for loop 0, whose thread
    /// is the caller's own. A panic in it goes to the exception handler.
    ///
    /// Counterpart: Tokio's `on_thread_start`.
    ///
    /// ```
    /// let (sender, started) = std::sync::mpsc::channel();
    /// let rt = epicycle::Runtime::builder()
    ///     .worker_threads(2)
    ///     .on_thread_start(move |index| sender.send(index).unwrap())
    ///     .build()
    ///     .unwrap();
    /// assert_eq!(started.recv(), Ok(1));
    /// # drop(rt);
    /// ```
    pub fn on_thread_start(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.options.on_thread_start = Some(Arc::new(hook));
        self
    }

    /// Called on each background loop's thread after everything there was dropped, with the loop's index. A panic in it goes to
    /// the exception handler.
    ///
    /// Counterpart: Tokio's `on_thread_stop`.
    ///
    /// ```
    /// let (sender, stopped) = std::sync::mpsc::channel();
    /// let rt = epicycle::Runtime::builder()
    ///     .worker_threads(2)
    ///     .on_thread_stop(move |index| sender.send(index).unwrap())
    ///     .build()
    ///     .unwrap();
    /// drop(rt);
    /// assert_eq!(stopped.recv(), Ok(1));
    /// ```
    pub fn on_thread_stop(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.options.on_thread_stop = Some(Arc::new(hook));
        self
    }

    /// The most threads that [`run_in_executor`](crate::run_in_executor) uses; they are started as needed. Default: 512.
    ///
    /// Counterparts: Tokio's `max_blocking_threads`, `max_workers` of Python's `ThreadPoolExecutor`.
    ///
    /// # Panics
    /// If `n` is 0.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().max_blocking_threads(1).build().unwrap();
    /// let [one, two] = [1, 2].map(|_| rt.run_in_executor(|| std::thread::current().id()));
    /// rt.block_on(async { assert_eq!(one.await.unwrap(), two.await.unwrap()) });
    /// ```
    #[track_caller]
    pub fn max_blocking_threads(mut self, n: usize) -> Self {
        assert!(n >= 1, "max_blocking_threads must be at least 1");
        self.options.threads.max = n;
        self
    }

    /// How long an idle executor thread waits for work before it ends. Default: 10 s.
    ///
    /// Counterpart: Tokio's `thread_keep_alive`.
    ///
    /// ```
    /// use std::{thread, time::Duration};
    ///
    /// let rt = epicycle::Runtime::builder().blocking_keep_alive(Duration::from_millis(1)).build().unwrap();
    /// rt.block_on(rt.run_in_executor(|| {})).unwrap();
    /// while rt.metrics().executor_threads > 0 {
    ///     thread::sleep(Duration::from_millis(1));
    /// }
    /// ```
    pub fn blocking_keep_alive(mut self, time: Duration) -> Self {
        self.options.threads.keep_alive = time;
        self
    }

    /// Has [`run_in_executor`](crate::run_in_executor) use `executor` instead of a pool of the runtime's own, whose options then
    /// mean nothing. When the runtime ends, jobs that `executor` has not started are cancelled, and running ones awaited.
    ///
    /// Counterpart: asyncio's `set_default_executor`.
    ///
    /// ```
    /// use epicycle::{Runtime, runtime::Job};
    ///
    /// let threads = |job: Job| drop(std::thread::Builder::new().name("mine".into()).spawn(job));
    /// let rt = Runtime::builder().default_executor(threads).build().unwrap();
    /// let name = rt.run_in_executor(|| std::thread::current().name().map(str::to_owned));
    /// assert_eq!(rt.block_on(name).unwrap().as_deref(), Some("mine"));
    /// ```
    pub fn default_executor(mut self, executor: impl Executor) -> Self {
        self.options.default_executor = Some(Arc::new(executor));
        self
    }

    /// Whether loops take ready tasks from each other. Default: true. Without it a task runs where it was woken, and what a
    /// stuck loop has queued waits for it; sockets and timers of a stuck loop are served all the same.
    ///
    /// ```
    /// use epicycle::EventLoop;
    ///
    /// let rt = epicycle::Runtime::builder().work_stealing(false).build().unwrap();
    /// rt.block_on(async {
    ///     let task = epicycle::spawn(async { EventLoop::current().index() });
    ///     assert_eq!(task.await.unwrap(), EventLoop::current().index());
    /// });
    /// ```
    pub fn work_stealing(mut self, steal: bool) -> Self {
        self.options.work_stealing = steal;
        self
    }

    /// How long a loop with nothing to do looks around before it sleeps. Saves the 10-20 us of waking a sleeping thread, at
    /// the price of a busy CPU; of several loops one at a time does. Default: zero; but while posts from other threads come in
    /// quick succession, a loop looks for the next one for 25 us all the same, if there is a CPU for each loop.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let rt = epicycle::Runtime::builder().spin(Duration::from_micros(50)).build().unwrap();
    /// assert_eq!(rt.block_on(rt.spawn(async { 1 })).unwrap(), 1);
    /// ```
    pub fn spin(mut self, time: Duration) -> Self {
        self.options.spin = time;
        self
    }

    /// How many handles a busy loop runs at most before it looks at its sockets and timers. It does so every 50 us in any
    /// case. Default: 61. Has no effect with one loop, which looks every turn.
    ///
    /// # Panics
    /// If `n` is 0.
    ///
    /// Counterpart: Tokio's `event_interval`.
    ///
    /// ```
    /// // Looks after each handle: for a server whose requests take long to compute.
    /// let rt = epicycle::Runtime::builder().event_interval(1).build().unwrap();
    /// assert_eq!(rt.block_on(rt.spawn(async { 1 })).unwrap(), 1);
    /// ```
    #[track_caller]
    pub fn event_interval(mut self, n: usize) -> Self {
        assert!(n >= 1, "event_interval must be at least 1");
        self.options.event_interval = n;
        self
    }

    /// Has errors that nobody can be handed (a panicking callback, destructor or hook; a task's panic that nobody retrieved)
    /// go to `handler`. The default one logs them through the `log` crate, or to standard error if no logger is set.
    ///
    /// Counterpart: asyncio's `set_exception_handler`.
    ///
    /// ```
    /// let (sender, errors) = std::sync::mpsc::channel();
    /// let rt = epicycle::Runtime::builder()
    ///     .exception_handler(move |context| sender.send(context.to_string()).unwrap())
    ///     .build()
    ///     .unwrap();
    /// drop(rt.spawn(async { panic!("oh no") })); // nobody will await it
    /// assert!(errors.recv().unwrap().starts_with("Task exception was never retrieved: oh no"));
    /// ```
    pub fn exception_handler(mut self, handler: impl Fn(&ErrorContext) + Send + Sync + 'static) -> Self {
        self.options.exception_handler = Some(Arc::new(handler));
        self
    }

    /// Debug mode: reports each poll or callback that takes [`slow_callback_duration`](Self::slow_callback_duration) or
    /// longer to the exception handler, with the task's name and the place it was spawned at. One that takes more than twice as
    /// long is also reported while it runs (`Loop 2 has been executing <reader> for 0.250 seconds`), by another loop, unless
    /// all are held up or there is only one. Keeps [track of tasks](Self::track_tasks), too. Costs some hundred nanoseconds per
    /// handle. Default: whether the environment's `EPICYCLE_DEBUG` is set to something other than 0. asyncio's `debug`.
    ///
    /// ```
    /// use std::{thread, time::Duration};
    ///
    /// let (sender, reports) = std::sync::mpsc::channel();
    /// let rt = epicycle::Runtime::builder()
    ///     .debug(true)
    ///     .slow_callback_duration(Duration::from_millis(2))
    ///     .exception_handler(move |context| sender.send(context.to_string()).unwrap())
    ///     .build()
    ///     .unwrap();
    /// let cook = epicycle::task::Builder::new().name("cook");
    /// rt.block_on(async { cook.spawn(async { thread::sleep(Duration::from_millis(3)) }).await.unwrap() });
    /// assert!(reports.iter().any(|report| report.contains("cook")));
    /// ```
    pub fn debug(mut self, debug: bool) -> Self {
        self.debug = Some(debug);
        self
    }

    /// How long a handle may take before debug mode reports it. Default: 0.1 s, as in asyncio.
    ///
    /// Counterpart: asyncio's `loop.slow_callback_duration`.
    ///
    /// ```
    /// use std::{thread, time::Duration};
    ///
    /// let (sender, reports) = std::sync::mpsc::channel();
    /// let rt = epicycle::Runtime::builder()
    ///     .debug(true)
    ///     .slow_callback_duration(Duration::from_secs(3600))
    ///     .exception_handler(move |context| sender.send(context.to_string()).unwrap())
    ///     .build()
    ///     .unwrap();
    /// rt.block_on(async { thread::sleep(Duration::from_millis(1)) });
    /// drop(rt);
    /// assert!(reports.try_recv().is_err()); // nothing took an hour
    /// ```
    pub fn slow_callback_duration(mut self, time: Duration) -> Self {
        self.slow_callback_duration = time;
        self
    }

    /// Keeps track of who spawned each task, what it waits for, how often and how long it ran, for
    /// [`RuntimeHandle::ps`](crate::RuntimeHandle::ps) and [`pstree`](crate::RuntimeHandle::pstree). Costs a few hundred
    /// nanoseconds per poll and per task. Default: whether debug mode is on. A task that is not kept track of costs nothing for it.
    ///
    /// ```
    /// use epicycle::RuntimeHandle;
    ///
    /// let rt = epicycle::Runtime::builder().track_tasks(true).build().unwrap();
    /// let tree = rt.block_on(async { RuntimeHandle::current().pstree() });
    /// assert!(tree.contains("root, running on loop 0"));
    /// ```
    pub fn track_tasks(mut self, track: bool) -> Self {
        self.track_tasks = Some(track);
        self
    }

    /// Has `instrument` told of every event: spawns, wakes, polls, ends, waits, timers, steals, sleeps. See
    /// [`Event`](crate::Event).
    ///
    /// Counterpart: trio's `run(.., instruments=..)`.
    ///
    /// ```
    /// use epicycle::{Event, Instrument};
    /// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
    ///
    /// struct Handles(Arc<AtomicUsize>);
    /// impl Instrument for Handles {
    ///     fn event(&self, event: &Event) {
    ///         if let Event::HandleStarted { .. } = event {
    ///             self.0.fetch_add(1, Ordering::Relaxed);
    ///         }
    ///     }
    /// }
    ///
    /// let count = Arc::new(AtomicUsize::new(0));
    /// let rt = epicycle::Runtime::builder().instrument(Handles(count.clone())).build().unwrap();
    /// rt.block_on(rt.spawn(async {})).unwrap();
    /// assert!(count.load(Ordering::Relaxed) >= 2); // the task and the root
    /// ```
    pub fn instrument(mut self, instrument: impl Instrument) -> Self {
        self.instrument = Some(Arc::new(instrument));
        self
    }

    /// Starts the runtime.
    ///
    /// Counterpart: Tokio's `Builder::build`.
    ///
    /// # Errors
    /// If the system refuses threads or descriptors, `EPICYCLE_WORKER_THREADS` is not a positive number, or a thread's name has a
    /// null byte in it.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().worker_threads(2).build()?;
    /// assert_eq!(rt.loops().len(), 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn build(mut self) -> io::Result<Runtime> {
        if let Some(name) = self.thread_name.take() {
            drop(self.options.threads.builder(name)?);
        }
        self.options.loops = match self.worker_threads {
            Some(n) => n,
            None => default_worker_threads()?,
        };
        self.options.may_spin = self.options.loops <= num_cpus::get();
        let debug = self.debug.unwrap_or_else(|| std::env::var_os(DEBUG).is_some_and(|value| value != "0"));
        self.options.slow = debug.then_some(self.slow_callback_duration);
        self.options.observer = Observer::new(self.instrument, self.track_tasks.unwrap_or(debug));
        Runtime::start(self.options)
    }
}

fn default_worker_threads() -> io::Result<usize> {
    let Some(value) = std::env::var_os(WORKER_THREADS) else {
        return Ok(num_cpus::get().max(2));
    };
    let number = value.to_str().and_then(|text| text.trim().parse().ok());
    number.filter(|&n| n >= 1).ok_or_else(|| {
        let text = format!("{WORKER_THREADS} must be a positive number, not {value:?}");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("worker_threads", &self.worker_threads)
            .field("work_stealing", &self.options.work_stealing)
            .finish_non_exhaustive()
    }
}
