//! A loop that pops and runs against a peer that steals and runs, while the tasks wake themselves and are woken.
//!
//! *Property.* Each task is polled on one thread at a time and sees its own last poll; none is lost, whoever has it.
//! *Threads.* Owner and thief, each with a queue of its own, and a waker from outside. *Bound.* Two preemptions.
//! *Seeded bug.* A task that woke itself is queued again, but counted as idle, so that a wake queues it twice.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use loom::cell::Cell;
use loom::sync::Arc;
use loom::thread::{self, ThreadId};

use super::support::{OnDrop, PushOnly, Tally, check, new_task};
use crate::primitive::deque::{Steal, Stealer, Worker};
use crate::task::{Kind, ReadyHandle, Task, launch};

/// Two loops' stealable queues. What is woken goes to the queue of the thread it is woken on, from outside to the owner's
/// (in the engine: to the injector, see `inject_sleep.rs`).
struct Pair {
    owner: Worker<ReadyHandle>,
    thief: Worker<ReadyHandle>,
    victim: Stealer<ReadyHandle>,
    thief_thread: loom::sync::Mutex<Option<ThreadId>>,
    freed: Tally,
}

struct Home(Arc<Pair>);

impl Drop for Home {
    fn drop(&mut self) {
        self.0.freed.add();
    }
}

impl PushOnly for Home {
    type Target = (Arc<Pair>, bool);

    fn target(&self) -> Self::Target {
        (self.0.clone(), *self.0.thief_thread.lock().unwrap() == Some(thread::current().id()))
    }

    fn push((pair, is_thief): Self::Target, handle: ReadyHandle) {
        if is_thief { pair.thief.push(handle) } else { pair.owner.push(handle) }
    }
}

/// Ready at its third poll; wakes itself at each of the others.
struct Thrice {
    polls: Cell<usize>,
    _dropped: OnDrop,
}

impl Future for Thrice {
    type Output = usize;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        let polls = self.polls.get() + 1;
        self.polls.set(polls);
        if polls >= 3 {
            return Poll::Ready(polls);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Pair {
    fn new() -> Arc<Self> {
        let owner = Worker::new_fifo();
        Arc::new(Self {
            victim: owner.stealer(),
            owner,
            thief: Worker::new_fifo(),
            thief_thread: loom::sync::Mutex::new(None),
            freed: Tally::default(),
        })
    }

    /// The owner's turn: `LoopCore::run_ready`.
    fn run_own(&self) {
        while let Some(handle) = self.owner.pop() {
            handle.run();
        }
    }

    /// The thief's: `Worker::steal_from`, then `LoopCore::run_ready`.
    fn steal_and_run(&self) {
        *self.thief_thread.lock().unwrap() = Some(thread::current().id());
        if let Steal::Success(()) = self.victim.steal_batch_with_limit(&self.thief, 32) {
            while let Some(handle) = self.thief.pop() {
                handle.run();
            }
        }
    }
}

fn spawn(pair: &Arc<Pair>, dropped: &Tally) -> Task<usize> {
    let future = Thrice { polls: Cell::new(0), _dropped: OnDrop(dropped.clone()) };
    Task::new(launch(future, Home(pair.clone()), new_task(Kind::Task, false, true)))
}

#[test]
fn two_tasks_and_a_thief() {
    check(|| {
        let (pair, dropped) = (Pair::new(), Tally::default());
        let tasks = [spawn(&pair, &dropped), spawn(&pair, &dropped)];
        let thief = thread::spawn({
            let pair = pair.clone();
            move || pair.steal_and_run()
        });
        pair.run_own();
        thief.join().unwrap();
        pair.run_own();
        assert!(tasks.iter().all(Task::done));
        drop(tasks);
        assert_eq!((dropped.get(), pair.freed.get()), (2, 2));
    });
}

#[test]
fn a_stolen_task_is_woken_from_outside() {
    check(|| {
        let (pair, dropped) = (Pair::new(), Tally::default());
        let task = spawn(&pair, &dropped);
        let waker = task.waker();
        let waking = thread::spawn(move || waker.wake());
        let thief = thread::spawn({
            let pair = pair.clone();
            move || pair.steal_and_run()
        });
        pair.run_own();
        waking.join().unwrap();
        thief.join().unwrap();
        pair.run_own();
        assert!(task.done());
        drop(task);
        assert_eq!((dropped.get(), pair.freed.get()), (1, 1));
    });
}
