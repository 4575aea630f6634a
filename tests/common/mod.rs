//! What every behavioural test shares: the three flavours of a runtime, the watchdog, and probes.
//!
//! A test states what must happen and counts events; it never asserts that something is *quick* except where a contract
//! names a time, and then with a generous bound. Anything that hangs is ended by the [`Watchdog`], which prints the name of
//! the test and the state of every thread, and aborts. Any thread may use anything in here.
#![allow(dead_code, unused_imports, unused_macros)]

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use epicycle::{ErrorContext, EventLoop, Runtime};

/// How long a test may take before the watchdog ends the process. `EPICYCLE_TEST_LIMIT` (seconds) overrides it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long [`eventually`] waits. Far more than anything needs on a busy machine, and less than [`LIMIT`].
pub const PATIENCE: Duration = Duration::from_secs(30);

// ---------------------------------------------------------------------------------------------------- flavours

/// The three runtimes on which every flavoured test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    OneLoop,
    FourLoops,
    FourLoopsNoSteal,
}

impl Flavour {
    pub fn loops(self) -> usize {
        match self {
            Flavour::OneLoop => 1,
            Flavour::FourLoops | Flavour::FourLoopsNoSteal => 4,
        }
    }

    /// The argument for `Builder::work_stealing`.
    pub fn stealing(self) -> bool {
        self != Flavour::FourLoopsNoSteal
    }
}

thread_local! {
    static FLAVOUR: Cell<Option<Flavour>> = const { Cell::new(None) };
}

/// The flavour of the test that runs on this thread. Only on the thread of a test made by [`flavours!`].
#[track_caller]
pub fn flavour() -> Flavour {
    FLAVOUR.get().expect("common::flavour() works on the thread of a flavoured test only")
}

/// `Runtime::builder()` with the loops and the stealing of this test's flavour already set, for more options.
macro_rules! builder {
    () => {
        ::epicycle::Runtime::builder()
            .worker_threads($crate::common::flavour().loops())
            .work_stealing($crate::common::flavour().stealing())
    };
}
pub(crate) use builder;

/// What a flavoured test may take as its argument: a [`Runtime`] made to the flavour, or the [`Flavour`] itself.
pub trait FromFlavour {
    fn from_flavour(flavour: Flavour) -> Self;
}

impl FromFlavour for Runtime {
    fn from_flavour(flavour: Flavour) -> Runtime {
        Runtime::builder()
            .worker_threads(flavour.loops())
            .work_stealing(flavour.stealing())
            .build()
            .expect("a runtime can be built")
    }
}

impl FromFlavour for Flavour {
    fn from_flavour(flavour: Flavour) -> Flavour {
        flavour
    }
}

/// Makes of each function a module of its name with the tests `one_loop`, `four_loops` and `four_loops_no_steal`.
///
/// ```ignore
/// common::flavours! {
///     fn b01_block_on_returns_the_value(rt: Runtime) { assert_eq!(rt.block_on(async { 1 }), 1); }
///     #[ignore = "attributes go to all three"]
///     fn b02_other(flavour: Flavour) { let rt = common::builder!().event_interval(1).build().unwrap(); .. }
/// }
/// ```
macro_rules! flavours {
    ($($(#[$meta:meta])* fn $name:ident($arg:ident : $ty:ty) $body:block)+) => {$(
        mod $name {
            use super::*;

            fn body($arg: $ty) $body

            $(#[$meta])*
            #[test]
            fn one_loop() {
                $crate::common::run_flavoured(stringify!($name), $crate::common::Flavour::OneLoop, body);
            }

            $(#[$meta])*
            #[test]
            fn four_loops() {
                $crate::common::run_flavoured(stringify!($name), $crate::common::Flavour::FourLoops, body);
            }

            $(#[$meta])*
            #[test]
            fn four_loops_no_steal() {
                $crate::common::run_flavoured(stringify!($name), $crate::common::Flavour::FourLoopsNoSteal, body);
            }
        }
    )+};
}
pub(crate) use flavours;

/// The engine of [`flavours!`].
pub fn run_flavoured<T: FromFlavour>(name: &str, flavour: Flavour, body: fn(T)) {
    let _watchdog = Watchdog::start(format!("{name} ({flavour:?})"), LIMIT);
    FLAVOUR.set(Some(flavour));
    body(T::from_flavour(flavour));
}

// ---------------------------------------------------------------------------------------------------- watchdog

/// Aborts the process, with the name of the test and a line per thread, unless dropped within the limit.
pub struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    pub fn start(name: String, limit: Duration) -> Watchdog {
        let limit = match std::env::var("EPICYCLE_TEST_LIMIT").ok().and_then(|text| text.parse().ok()) {
            Some(seconds) => Duration::from_secs(seconds),
            None => limit,
        };
        let (alive, dropped) = mpsc::channel();
        thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                if dropped.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                    bark(&name, limit);
                }
            })
            .expect("a watchdog thread starts");
        Watchdog { _alive: alive }
    }
}

/// Written to the real stderr: what the print macros say is captured by the test harness and lost in an abort.
fn bark(name: &str, limit: Duration) -> ! {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "\nwatchdog: {name} still runs after {limit:?}. Threads:");
    for thread in threads() {
        let _ = writeln!(
            err,
            "  {:>7} {:<16} {} cpu={:?} wait={}",
            thread.tid, thread.name, thread.state, thread.cpu, thread.wchan
        );
    }
    std::process::abort()
}

/// Runs `test` under a watchdog of [`LIMIT`]; for tests that are not flavoured.
#[track_caller]
pub fn with_timeout<T>(test: impl FnOnce() -> T) -> T {
    with_timeout_of(LIMIT, test)
}

/// Runs `test` under a watchdog of `limit`.
#[track_caller]
pub fn with_timeout_of<T>(limit: Duration, test: impl FnOnce() -> T) -> T {
    let name = format!("{} at {}", thread::current().name().unwrap_or("?"), Location::caller());
    let _watchdog = Watchdog::start(name, limit);
    test()
}

/// Waits, without a runtime, until `condition` holds; panics at the caller's line after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        thread::sleep(Duration::from_micros(500));
    }
}

/// The same inside a runtime. It yields and sleeps by turns, so that it neither hogs its loop nor depends on timers alone.
pub async fn eventually_async(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        epicycle::yield_now().await;
        if start.elapsed() > Duration::from_millis(5) {
            epicycle::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

// ---------------------------------------------------------------------------------------------------- probes

/// The index of the loop whose thread this is.
pub fn loop_index() -> Option<usize> {
    EventLoop::try_current().map(|event_loop| event_loop.index())
}

/// A door that blocks threads (not tasks) until it is opened; once open it stays open.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn new() -> Gate {
        Gate::default()
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap()
    }

    /// Blocks the thread. Panics after [`PATIENCE`], so that a failed test ends with a line instead of a hang.
    #[track_caller]
    pub fn wait(&self) {
        let guard = self.0.0.lock().unwrap();
        let (_guard, timeout) = self.0.1.wait_timeout_while(guard, PATIENCE, |open| !*open).unwrap();
        assert!(!timeout.timed_out(), "the gate was never opened");
    }

    /// Opens the gate when dropped, on unwind too: a failing test must not leave threads behind it.
    pub fn open_on_drop(&self) -> OpenOnDrop {
        OpenOnDrop(self.clone())
    }
}

pub struct OpenOnDrop(Gate);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Records where and how often the guards it made were dropped.
#[derive(Clone, Default)]
pub struct DropProbe(Arc<Mutex<Vec<DropRecord>>>);

#[derive(Clone, Copy, Debug)]
pub struct DropRecord {
    pub thread: ThreadId,
    /// The loop on whose thread it happened, if any.
    pub loop_index: Option<usize>,
    pub at: Instant,
}

impl DropProbe {
    pub fn new() -> DropProbe {
        DropProbe::default()
    }

    pub fn guard(&self) -> DropGuard {
        DropGuard(self.clone())
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn records(&self) -> Vec<DropRecord> {
        self.0.lock().unwrap().clone()
    }

    /// The one record; panics unless there is exactly one.
    #[track_caller]
    pub fn only(&self) -> DropRecord {
        let records = self.records();
        assert_eq!(records.len(), 1, "dropped exactly once");
        records[0]
    }
}

pub struct DropGuard(DropProbe);

impl Drop for DropGuard {
    fn drop(&mut self) {
        let record = DropRecord { thread: thread::current().id(), loop_index: loop_index(), at: Instant::now() };
        self.0.0.lock().unwrap().push(record);
    }
}

/// Never completes; owns `_guard` until it is dropped.
pub async fn pending_with<T>(_guard: T) {
    std::future::pending::<()>().await;
}

/// Runs its closure when dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Counts the polls of the future inside.
pub struct CountPolls<F> {
    inner: Pin<Box<F>>,
    polls: Arc<AtomicUsize>,
}

impl<F: Future> CountPolls<F> {
    pub fn new(inner: F) -> (CountPolls<F>, Arc<AtomicUsize>) {
        let polls = Arc::new(AtomicUsize::new(0));
        (CountPolls { inner: Box::pin(inner), polls: polls.clone() }, polls)
    }
}

impl<F: Future> Future for CountPolls<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, SeqCst);
        self.inner.as_mut().poll(cx)
    }
}

/// A waker that counts how often it was woken.
#[derive(Default)]
pub struct CountWakes(AtomicUsize);

impl CountWakes {
    pub fn new() -> (Arc<CountWakes>, Waker) {
        let count = Arc::new(CountWakes::default());
        (count.clone(), Waker::from(count))
    }

    pub fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A slot that tasks wait on by hand: stores the waker of the last poll and completes once set. Wakes in `set` only.
#[derive(Clone, Default)]
pub struct Flag(Arc<FlagInner>);

#[derive(Default)]
struct FlagInner {
    set: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Flag {
    pub fn new() -> Flag {
        Flag::default()
    }

    /// Sets and wakes, once.
    pub fn set(&self) {
        self.0.set.store(true, SeqCst);
        let wakers = std::mem::take(&mut *self.0.wakers.lock().unwrap());
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn is_set(&self) -> bool {
        self.0.set.load(SeqCst)
    }

    /// How many wakers wait: a test that must know that a task sleeps looks here.
    pub fn waiters(&self) -> usize {
        self.0.wakers.lock().unwrap().len()
    }

    /// A clone of the waker of the last poll.
    pub fn waker(&self) -> Option<Waker> {
        self.0.wakers.lock().unwrap().last().cloned()
    }

    pub fn wait(&self) -> impl Future<Output = ()> + Send + Sync + Unpin + 'static + use<> {
        let inner = self.0.clone();
        std::future::poll_fn(move |cx| {
            let mut wakers = inner.wakers.lock().unwrap();
            if inner.set.load(SeqCst) {
                return Poll::Ready(());
            }
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// The text of a panic payload.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(not a text)".to_owned()
    }
}

/// Runs `f`, which must panic, and gives the text of its panic.
#[track_caller]
pub fn panics<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("a panic was expected"),
        Err(payload) => panic_text(&*payload),
    }
}

/// Runs `f`, which must panic with a text that contains `part`.
#[track_caller]
pub fn panics_with<R>(part: &str, f: impl FnOnce() -> R) {
    let text = panics(f);
    assert!(text.contains(part), "the panic said {text:?}, without {part:?}");
}

/// An exception handler that keeps what it is told.
#[derive(Clone, Default)]
pub struct Reports(Arc<Mutex<Vec<ErrorContext>>>);

impl Reports {
    pub fn new() -> Reports {
        Reports::default()
    }

    /// The argument for `Builder::exception_handler`.
    pub fn handler(&self) -> impl Fn(&ErrorContext) + Send + Sync + 'static + use<> {
        let reports = self.clone();
        move |context| reports.0.lock().unwrap().push(context.clone())
    }

    pub fn all(&self) -> Vec<ErrorContext> {
        self.0.lock().unwrap().clone()
    }

    /// How many reports are of a panic with exactly this text.
    pub fn of_panic(&self, text: &str) -> usize {
        self.all().iter().filter(|report| report.panic_message() == Some(text)).count()
    }
}

/// Counts the turns of the loop it was started on, from the moment of `start`.
///
/// A callback that reschedules itself runs once per turn, and nothing that is queued later can get before it: with it at
/// the front of the queue, a difference of two readings is the exact number of turns between them.
#[derive(Clone, Default)]
pub struct Turns(std::rc::Rc<Cell<usize>>, std::rc::Rc<Cell<bool>>);

impl Turns {
    pub fn start(event_loop: &EventLoop) -> Turns {
        let turns = Turns::default();
        turns.clone().again(event_loop);
        turns
    }

    fn again(self, event_loop: &EventLoop) {
        event_loop.call_soon(move || {
            if !self.1.get() {
                self.0.set(self.0.get() + 1);
                self.again(&EventLoop::current());
            }
        });
    }

    /// Counts no more, and lets the loop come to rest.
    pub fn stop(&self) {
        self.1.set(true);
    }

    pub fn count(&self) -> usize {
        self.0.get()
    }
}

/// Takes the time of `attempts` runs of `measured` against a time that a contract names: half of them must be within 20
/// times `bound`, and one within `bound` itself. So neither a mechanism that is too slow passes nor a busy machine fails it.
#[track_caller]
pub fn assert_latency(what: &str, bound: Duration, attempts: usize, mut measured: impl FnMut() -> Duration) {
    let mut times: Vec<Duration> = (0..attempts).map(|_| measured()).collect();
    times.sort();
    let (best, median, worst) = (times[0], times[attempts / 2], times[attempts - 1]);
    println!("{what}: best {best:?}, median {median:?}, worst {worst:?}");
    assert!(best <= bound, "{what}: never within {bound:?} (best {best:?}, median {median:?}, worst {worst:?})");
    assert!(median <= bound * 20, "{what}: rarely near {bound:?} (best {best:?}, median {median:?}, worst {worst:?})");
}

/// A connected pair: ours on the runtime that is entered here, the other a plain non-blocking one.
#[track_caller]
pub fn socket_pair() -> (epicycle::net::UnixStream, std::os::unix::net::UnixStream) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (epicycle::net::UnixStream::from_std(ours).expect("from_std"), theirs)
}

// ---------------------------------------------------------------------------------------------------- the process

/// One line of `/proc/self/task`: what the kernel knows of a thread.
#[derive(Debug, Clone)]
pub struct ThreadInfo {
    pub tid: u64,
    /// At most 15 bytes of the thread's name.
    pub name: String,
    pub state: char,
    /// User and system time, in steps of a clock tick (10 ms).
    pub cpu: Duration,
    /// Voluntary and forced context switches: stands still if and only if the thread sleeps through.
    pub switches: u64,
    pub wchan: String,
}

/// All threads of the process; empty where there is no `/proc`.
pub fn threads() -> Vec<ThreadInfo> {
    let Ok(dir) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    dir.flatten().filter_map(|entry| thread_info(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The threads whose name starts with `prefix` (compare at most 15 bytes).
pub fn threads_named(prefix: &str) -> Vec<ThreadInfo> {
    threads().into_iter().filter(|thread| thread.name.starts_with(prefix)).collect()
}

/// The kernel's number for this thread.
pub fn this_tid() -> u64 {
    let link = std::fs::read_link("/proc/thread-self").expect("/proc/thread-self");
    link.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).expect("a thread id")
}

pub fn thread_info(tid: u64) -> Option<ThreadInfo> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/task/{tid}/{file}")).ok();
    let stat = read("stat")?;
    let (head, tail) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let switches = read("status")?
        .lines()
        .filter(|line| line.contains("ctxt_switches"))
        .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
        .sum();
    Some(ThreadInfo {
        tid,
        name: head.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        cpu: Duration::from_millis(ticks * 10),
        switches,
        wchan: read("wchan").unwrap_or_default(),
    })
}

/// How many descriptors the process has open. Other tests of the same binary open and close some meanwhile: a test that
/// compares two of these belongs in a binary of its own or must retry.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map(|dir| dir.count()).unwrap_or(0)
}

// ---------------------------------------------------------------------------------------------------- one loop

/// Runs `body` twice: on a loop of its own, and on loop 0 of a runtime with one loop. With one loop the order is asyncio's exactly,
/// so these tests may count turns.
#[track_caller]
pub fn on_one_loop(body: impl AsyncFn(EventLoop)) {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        event_loop.run_until_complete(body(event_loop.clone())).unwrap();
        event_loop.close();
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        rt.block_on(async { body(EventLoop::current()).await });
    });
}

/// The number of turns that `work` takes, begun at the start of a turn.
pub async fn turns_of(event_loop: &EventLoop, work: impl Future) -> usize {
    let turns = Turns::start(event_loop);
    epicycle::yield_now().await;
    epicycle::yield_now().await;
    let before = turns.count();
    work.await;
    turns.stop();
    turns.count() - before
}
