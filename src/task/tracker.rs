//! What is known of the tasks that are alive, for who asked to keep track: who spawned them, what they wait for, how long
//! they have run.
//!
//! *Invariant.* Made of events alone, so that a task that nobody tracks has no byte for it; an ended task leaves nothing behind.
//! No user code runs under a lock. *Threads.* Any. *Ordering.* The locks'. Each task's part is true of one moment, not all of the
//! same one.

use std::collections::HashMap;
use std::panic::Location;
use std::time::{Duration, Instant};

use super::{Event, FutureId, Id, TaskKind, Work};
use crate::primitive::Mutex;

/// Tasks are kept apart by number, so that loops seldom meet at a lock.
const SHARDS: usize = 16;

#[derive(Default)]
pub(crate) struct Tracker {
    shards: [Mutex<HashMap<Id, Tracked>>; SHARDS],
    /// When the timers that are armed are due.
    timers: [Mutex<HashMap<FutureId, Instant>>; SHARDS],
}

/// One task.
#[derive(Clone)]
pub(crate) struct Tracked {
    pub(crate) parent: Option<Id>,
    pub(crate) kind: TaskKind,
    pub(crate) location: &'static Location<'static>,
    pub(crate) phase: Phase,
    /// What it found it had to wait for in its last poll.
    pub(crate) waits_for: Vec<FutureId>,
    /// The futures that count it among the tasks they stand for.
    pub(crate) joined_by: Vec<FutureId>,
    pub(crate) polls: u64,
    /// What the polls that have ended took.
    pub(crate) busy: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Queued,
    Running { on: usize, since: Instant },
    Waiting,
}

impl Tracker {
    fn with<R>(&self, id: Id, f: impl FnOnce(&mut HashMap<Id, Tracked>) -> R) -> R {
        f(&mut self.shards[(id.number() % SHARDS as u64) as usize].lock())
    }

    fn update(&self, id: Id, f: impl FnOnce(&mut Tracked)) {
        self.with(id, |tasks| tasks.get_mut(&id).map(f));
    }

    pub(crate) fn note(&self, event: &Event) {
        match *event {
            Event::TaskSpawned { task, parent, kind, location } => {
                let (waits_for, joined_by) = (Vec::new(), Vec::new());
                let (phase, polls, busy) = (Phase::Waiting, 0, Duration::ZERO);
                let tracked = Tracked { parent, kind, location, phase, waits_for, joined_by, polls, busy };
                self.with(task, |tasks| tasks.insert(task, tracked));
            }
            Event::TaskEnded { task, .. } => drop(self.with(task, |tasks| tasks.remove(&task))),
            Event::HandleQueued { work: Work::Task(task) | Work::Job(task) } => {
                self.update(task, |tracked| tracked.phase = Phase::Queued);
            }
            Event::HandleStarted { on, work: Work::Task(task) | Work::Job(task) } => self.update(task, |tracked| {
                tracked.phase = Phase::Running { on, since: Instant::now() };
                tracked.waits_for.clear();
                tracked.polls += 1;
            }),
            Event::HandleEnded { on, work: Work::Task(task) | Work::Job(task), took } => self.update(task, |tracked| {
                // It may be queued again already, or running elsewhere.
                if matches!(tracked.phase, Phase::Running { on: there, .. } if there == on) {
                    tracked.phase = Phase::Waiting;
                }
                tracked.busy += took;
            }),
            Event::Blocking { task: Some(task), future } => self.update(task, |tracked| {
                if !tracked.waits_for.contains(&future) {
                    tracked.waits_for.push(future);
                }
            }),
            Event::FutureJoins { future, task } => self.update(task, |tracked| tracked.joined_by.push(future)),
            Event::TimerArmed { timer, when, .. } => drop(self.timers_with(timer).lock().insert(timer, when)),
            Event::TimerFired { timer, .. } | Event::TimerCancelled { timer, .. } => {
                self.timers_with(timer).lock().remove(&timer);
            }
            _ => {}
        }
    }

    fn timers_with(&self, timer: FutureId) -> &Mutex<HashMap<FutureId, Instant>> {
        &self.timers[(timer.number() % SHARDS as u64) as usize]
    }

    /// When a timer is due, if it is armed.
    pub(crate) fn due(&self, timer: FutureId) -> Option<Instant> {
        self.timers_with(timer).lock().get(&timer).copied()
    }

    /// All tasks that are alive.
    pub(crate) fn snapshot(&self) -> HashMap<Id, Tracked> {
        let mut all = HashMap::new();
        for shard in &self.shards {
            all.extend(shard.lock().iter().map(|(id, tracked)| (*id, tracked.clone())));
        }
        all
    }
}
