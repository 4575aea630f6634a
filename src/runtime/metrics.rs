//! Figures of a runtime, always counted.
//!
//! *Invariant.* Reading them disturbs nobody: counters are relaxed loads; depths take short locks. *Threads.* Any.
//! *Ordering.* None: each figure is true of some recent moment, not all of the same one.

use std::time::Duration;

use crate::event_loop::{Remote, clock, current};
use crate::primitive::BiasedArc;
use crate::scheduler::Shared;

/// A runtime's figures. See [`Runtime::metrics`](crate::Runtime::metrics).
///
/// ```
/// let rt = epicycle::Runtime::new();
/// rt.block_on(async { epicycle::spawn(async {}).await.unwrap() });
/// let metrics = rt.metrics();
/// assert_eq!(metrics.alive_tasks, 0);
/// assert!(metrics.loops.iter().map(|l| l.handles_run).sum::<u64>() >= 2);
/// ```
///
/// Counterpart: Tokio's `RuntimeMetrics`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// By loop.
    pub loops: Vec<LoopMetrics>,
    /// Tasks that have not ended; the root of `block_on`, readers, writers and callbacks that wait for their time included.
    pub alive_tasks: usize,
    /// Handles that wait in the global queue.
    pub injector_depth: usize,
    /// The executor's threads, idle ones included.
    pub executor_threads: usize,
    /// Those of them that wait for a job.
    pub executor_idle_threads: usize,
    /// Jobs that wait for a thread.
    pub executor_queue_depth: usize,
}

/// One loop's figures: counts since the runtime's start, unless it says otherwise.
///
/// ```
/// let rt = epicycle::Runtime::builder().worker_threads(2).build().unwrap();
/// rt.block_on(rt.loops()[1].spawn_local(|| async {})).unwrap();
/// while rt.metrics().loops[1].inbox_pulls == 0 {
///     std::thread::yield_now(); // the loop counts when it has done a few
/// }
/// assert_eq!(rt.metrics().loops[1].next_timer, None);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoopMetrics {
    /// Polls of tasks and runs of callbacks.
    pub handles_run: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Looks at the selector, waiting or not.
    pub selects: u64,
    /// Events those brought.
    pub events: u64,
    /// Times the loop announced that it sleeps.
    pub parks: u64,
    /// Wake-ups (system calls) this loop's thread has sent to others.
    pub unparks_sent: u64,
    /// Wake-ups sent to this loop.
    pub unparks_received: u64,
    /// Tries to steal.
    pub steals_tried: u64,
    /// Those that brought something.
    pub steals_won: u64,
    /// Handles that others took from this loop.
    pub handles_stolen_from: u64,
    /// Handles taken from the global queue.
    pub injector_pulls: u64,
    /// Pinned handles posted from other threads.
    pub inbox_pulls: u64,
    /// Timers armed on this loop.
    pub timers_armed: u64,
    /// Timers that came due.
    pub timers_fired: u64,
    /// Timers cancelled.
    pub timers_cancelled: u64,
    /// Events and timers this loop took care of for stuck or absent ones.
    pub adoptions: u64,
    /// The longest time between two looks at the clock with handles in between. Exact for long handles, which are looked at
    /// one by one; short ones are measured a few at a time.
    pub longest_handle: Duration,
    /// Handles queued: now, if asked on the loop's own thread; else at the beginning of its last turn.
    pub ready_depth: usize,
    /// Posts not fetched now.
    pub inbox_depth: usize,
    /// Timers pending now.
    pub timers_pending: usize,
    /// How long until the earliest of them is due: zero if it is overdue, none if there is none.
    pub next_timer: Option<Duration>,
    /// Descriptors registered now.
    pub sources: usize,
}

fn ready_depth(shared: &Shared, index: usize) -> usize {
    let remote = &shared.remotes[index];
    current::with(|core| match core {
        Some(core) if BiasedArc::ptr_eq(core.remote(), remote) => core.ready().len(),
        _ => remote.stats().ready_depth.get() as usize,
    })
}

pub(super) fn collect(shared: &Shared) -> Metrics {
    let executor = shared.executor.counts();
    let alive = |remote: &Remote| remote.live().count() + remote.pinned().count();
    Metrics {
        loops: (0..shared.remotes.len()).map(|index| collect_loop(shared, index)).collect(),
        alive_tasks: shared.remotes.iter().map(|remote| alive(remote)).sum::<usize>() + shared.outside.count(),
        injector_depth: shared.injector.len(),
        executor_threads: executor.threads,
        executor_idle_threads: executor.idle,
        executor_queue_depth: executor.queued,
    }
}

fn collect_loop(shared: &Shared, index: usize) -> LoopMetrics {
    let remote = &shared.remotes[index];
    let stats = remote.stats();
    let timers = remote.timers().counts();
    LoopMetrics {
        handles_run: stats.handles_run.get(),
        turns: stats.turns.get(),
        selects: stats.selects.get(),
        events: stats.events.get(),
        parks: stats.parks.get(),
        unparks_sent: stats.unparks_sent.get(),
        unparks_received: stats.unparks_received.get(),
        steals_tried: stats.steals_tried.get(),
        steals_won: stats.steals_won.get(),
        handles_stolen_from: stats.handles_stolen_from.get(),
        injector_pulls: stats.injector_pulls.get(),
        inbox_pulls: stats.inbox_pulls.get(),
        timers_armed: timers.armed,
        timers_fired: timers.fired,
        timers_cancelled: timers.cancelled,
        adoptions: stats.adoptions.get(),
        longest_handle: Duration::from_nanos(stats.longest_handle_nanos.get()),
        ready_depth: ready_depth(shared, index),
        inbox_depth: remote.inbox().len(),
        timers_pending: timers.pending,
        next_timer: match timers.next {
            clock::NEVER => None,
            next => Some(Duration::from_nanos(next.saturating_sub(clock::now()))),
        },
        sources: remote.selector().sources(),
    }
}
