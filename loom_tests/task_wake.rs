//! Waking a task while it runs, wakes itself, is woken by others, is cancelled, or completes.
//!
//! *Property.* What happens before a wake is seen by a poll that comes after it; no two threads poll at once, and none misses
//! what the last poll wrote; the future is dropped once, the cell freed once, and not before its last use.
//! *Threads.* Two wakers or cancellers; the main thread, or two, run. *Bound.* Two preemptions; the wake count is folded back
//! from three on.
//! *Seeded bugs.* `suspend` goes idle although a wake came; `start` does not acquire; transitions do not release; `fold` does not
//! tell the runner; `complete` overlooks a cancel; who was woken, or woke itself, is queued, but counted as idle; who woke itself is
//! not queued; the note of a self-wake is everybody's; a self-wake by value keeps its reference.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use loom::cell::Cell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use loom::thread;

use super::support::{Home, Hub, OnDrop, Signal, Tally, check, new_task};
use crate::task::{Kind, Task, launch};

/// Ready when all flags are up. Its own data is not atomic: two polls at once, or a poll that does not see the last one, are
/// a race.
struct Flags {
    flags: Arc<[AtomicBool; 2]>,
    polls: Cell<usize>,
    _dropped: OnDrop,
}

impl Future for Flags {
    type Output = usize;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<usize> {
        let polls = self.polls.get() + 1;
        self.polls.set(polls);
        if self.flags.iter().all(|flag| flag.load(Relaxed)) { Poll::Ready(polls) } else { Poll::Pending }
    }
}

/// The same, but it wakes itself in its first polls.
struct Restless(Flags);

impl Future for Restless {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        let polled = Pin::new(&mut self.0).poll(cx);
        if polled.is_pending() {
            match self.0.polls.get() {
                1 => cx.waker().wake_by_ref(),
                2 => [cx.waker().clone()].into_iter().for_each(Waker::wake),
                _ => {}
            }
        }
        polled
    }
}

struct Setup {
    hub: Arc<Hub>,
    flags: Arc<[AtomicBool; 2]>,
    dropped: Tally,
    task: Task<usize>,
}

fn set_up() -> Setup {
    set_up_with(|flags| flags)
}

fn set_up_with<F: Future<Output = usize> + 'static>(with: impl FnOnce(Flags) -> F) -> Setup {
    let (hub, dropped) = (Hub::new(), Tally::default());
    let flags = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
    let future = Flags { flags: flags.clone(), polls: Cell::new(0), _dropped: OnDrop(dropped.clone()) };
    let task = Task::new(launch(with(future), Home::of(&hub), new_task(Kind::Task, false, true)));
    Setup { hub, flags, dropped, task }
}

/// The output of a task that is complete.
fn output<T>(mut task: Task<T>) -> Result<T, crate::task::JoinError> {
    let signal = Signal::new();
    let waker = signal.waker();
    match Pin::new(&mut task).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not complete"),
    }
}

#[test]
fn no_wake_is_lost() {
    check(|| {
        let Setup { hub, flags, dropped, task } = set_up();
        let wakers = [0, 1].map(|i| {
            let (flags, waker) = (flags.clone(), task.waker());
            thread::spawn(move || {
                flags[i].store(true, Relaxed);
                waker.wake();
            })
        });
        // Waits for ever if a wake is lost.
        while !task.done() {
            hub.run_one();
        }
        let polls = output(task).unwrap();
        assert!((1..=3).contains(&polls), "{polls} polls");
        wakers.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

/// A thread wakes so often that the count is folded back.
fn wake_and_fold(Setup { hub, flags, dropped, task }: Setup) {
    let waker = task.waker();
    let waking = thread::spawn({
        let flags = flags.clone();
        move || {
            waker.wake_by_ref();
            waker.wake_by_ref();
            flags[0].store(true, Relaxed);
            flags[1].store(true, Relaxed);
            waker.wake_by_ref();
        }
    });
    while !task.done() {
        hub.run_one();
    }
    waking.join().unwrap();
    output(task).unwrap();
    assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
}

#[test]
fn folding_loses_no_wake() {
    check(|| wake_and_fold(set_up()));
}

#[test]
fn two_runners_never_poll_at_once() {
    check(|| {
        let Setup { hub, flags, dropped, task } = set_up();
        let waking = thread::spawn({
            let (flags, waker) = (flags.clone(), task.waker());
            move || {
                flags[0].store(true, Relaxed);
                waker.wake_by_ref();
                flags[1].store(true, Relaxed);
                waker.wake();
            }
        });
        let running = Hub::run_elsewhere(&hub);
        hub.run_all();
        waking.join().unwrap();
        running.join().unwrap();
        hub.run_all();
        output(task).unwrap();
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn waking_itself_against_a_wake_and_a_second_runner() {
    check(|| {
        let Setup { hub, flags, dropped, task } = set_up_with(Restless);
        let waking = thread::spawn({
            let (flags, waker) = (flags.clone(), task.waker());
            move || {
                flags[0].store(true, Relaxed);
                flags[1].store(true, Relaxed);
                waker.wake();
            }
        });
        let running = Hub::run_elsewhere(&hub);
        hub.run_all();
        waking.join().unwrap();
        running.join().unwrap();
        hub.run_all();
        let polls = output(task).unwrap();
        assert!((1..=4).contains(&polls), "{polls} polls");
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn waking_itself_against_folding() {
    check(|| wake_and_fold(set_up_with(Restless)));
}

#[test]
fn waking_itself_against_a_cancel() {
    check(|| {
        let Setup { hub, flags, dropped, task } = set_up_with(Restless);
        flags[0].store(true, Relaxed);
        let task = Arc::new(task);
        let cancelling = thread::spawn({
            let task = task.clone();
            move || task.cancel()
        });
        let running = Hub::run_elsewhere(&hub);
        hub.run_all();
        assert!(cancelling.join().unwrap());
        running.join().unwrap();
        hub.run_all();
        assert!(task.cancelled());
        drop(task);
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn cancel_against_wake_and_completion() {
    check(|| {
        let Setup { hub, flags, dropped, task } = set_up();
        let task = Arc::new(task);
        let waking = thread::spawn({
            let (flags, waker) = (flags.clone(), task.waker());
            move || {
                flags[0].store(true, Relaxed);
                flags[1].store(true, Relaxed);
                waker.wake();
            }
        });
        let cancelling = thread::spawn({
            let task = task.clone();
            move || task.cancel()
        });
        while !task.done() {
            hub.run_one();
        }
        waking.join().unwrap();
        let cancelled = cancelling.join().unwrap();
        let task = Arc::try_unwrap(task).ok().expect("the others have ended");
        assert_eq!(task.cancelled(), cancelled);
        match output(task) {
            Ok(_) => assert!(!cancelled),
            Err(error) => assert!(cancelled && error.is_cancelled(), "{error}"),
        }
        assert_eq!(hub.run_all(), 0, "a complete task was queued");
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn a_queue_that_closes_drops_it() {
    check(|| {
        let Setup { hub, dropped, task, .. } = set_up();
        let waking = thread::spawn({
            let waker = task.waker();
            move || waker.wake()
        });
        let task = Arc::new(task);
        let cancelling = thread::spawn({
            let task = task.clone();
            move || task.cancel()
        });
        drop(hub.pop());
        waking.join().unwrap();
        cancelling.join().unwrap();
        assert!(task.cancelled());
        assert_eq!(hub.run_all(), 0, "a complete task was queued");
        drop(task);
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}
