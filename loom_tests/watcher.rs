//! Who watches: three loops park, wake, enter, leave and invite each other; and an adopter that polls while a tick is due.
//!
//! *Property.* When all is quiet: if any loop runs and any is parked, one parked loop is the watcher, and its tick was armed
//! after it had parked. The counts are those of the loops. A sleeper that is appointed ticks, though an adopter may have polled
//! its selector before it had the lock.
//! *Threads.* One a loop. A loop that stays parked is one whose thread has ended; if it was invited, it wakes at the end.
//! *Bound.* Two preemptions.
//! *Seeded bugs.* A watcher that wakes appoints no successor; a loop that enters appoints nobody; a loop that parks while
//! others run does not become the watcher; a tick gives the watch up while somebody runs; a sleeper asks whether
//! it watches before it has its selector's lock.

use std::sync::Mutex;

use loom::sync::Arc;
use loom::thread;

use super::support::{Edge, check};
use crate::event_loop::park::{Parker, Seen, Unblock};
use crate::primitive;
use crate::scheduler::idle::{Census, Idle};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Is {
    Running,
    Parked,
    Absent,
}

struct Loops {
    idle: Idle,
    /// What each loop does; and whether its tick is armed. No part of the model.
    seen: Mutex<[(Is, bool); 3]>,
}

impl Loops {
    /// All run but the `absent` ones.
    fn new(absent: [bool; 3]) -> Arc<Self> {
        let idle = Idle::new(3);
        let seen = absent.map(|absent| (if absent { Is::Absent } else { Is::Running }, false));
        absent.iter().filter(|absent| !**absent).for_each(|_| assert_eq!(idle.enter(), None));
        Arc::new(Self { idle, seen: Mutex::new(seen) })
    }

    fn note(&self, index: usize, is: Is) {
        self.seen.lock().unwrap()[index] = (is, false);
    }

    /// `Shared::start_watch`: sets the timer of a sleeper. Whoever has woken by then takes no notice.
    fn start_watch(&self, watcher: Option<usize>) {
        if let Some(index) = watcher {
            self.seen.lock().unwrap()[index].1 = true;
        }
    }

    /// `Worker::park` up to the wait. Without a gift, it sleeps.
    fn park(&self, index: usize) {
        self.note(index, Is::Parked);
        self.idle.park(index, false);
        if self.idle.keep_watch(index, false) {
            self.start_watch(Some(index));
        }
    }

    /// `Worker::park` from the end of the wait.
    fn wake(&self, index: usize) {
        let woken = self.idle.wake(index);
        self.note(index, Is::Running);
        self.start_watch(woken.new_watcher);
        if woken.invited {
            self.idle.end_search();
        }
    }

    fn enter(&self, index: usize) {
        let new_watcher = self.idle.enter();
        self.note(index, Is::Running);
        self.start_watch(new_watcher);
    }

    fn leave(&self, index: usize) {
        self.idle.leave(false);
        self.note(index, Is::Absent);
    }

    /// `Shared::invite`; the unpark is the wake that follows at the latest in `is_right`.
    fn invite(&self) {
        let _ = self.idle.invite(|_| false);
    }

    /// Lets the invited ones wake, and checks.
    fn is_right(&self) {
        for index in 0..3 {
            if self.idle.is_invited(index) {
                self.wake(index);
            }
        }
        let seen = *self.seen.lock().unwrap();
        let count = |what| seen.iter().filter(|(is, _)| *is == what).count();
        let census = Census { searching: 0, running: count(Is::Running), parked: count(Is::Parked) };
        assert_eq!(self.idle.census(), census, "{seen:?}");
        if census.running == 0 || census.parked == 0 {
            return;
        }
        let watchers: Vec<_> = (0..3).filter(|&index| self.idle.keep_watch(index, true)).collect();
        assert_eq!(watchers.len(), 1, "{seen:?}: {watchers:?} watch");
        assert_eq!(seen[watchers[0]], (Is::Parked, true), "{seen:?}: {watchers:?} watches");
    }
}

/// Each loop does its part on a thread of its own, loop 0 on the main one.
fn play(absent: [bool; 3], parts: [fn(&Loops); 3]) {
    check(move || {
        let loops = Loops::new(absent);
        let others = [1, 2].map(|index| {
            let loops = loops.clone();
            thread::spawn(move || parts[index](&loops))
        });
        parts[0](&loops);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        loops.is_right();
    });
}

#[test]
fn two_park_and_one_wakes() {
    play(
        [false; 3],
        [
            |_| (),
            |loops| {
                loops.park(1);
                loops.wake(1);
            },
            |loops| loops.park(2),
        ],
    );
}

#[test]
fn loop_0_enters_while_others_park() {
    play(
        [true, false, false],
        [
            |loops| loops.enter(0),
            |loops| {
                loops.park(1);
                loops.idle.keep_watch(1, true);
            },
            |loops| {
                loops.park(2);
                loops.idle.keep_watch(2, true);
            },
        ],
    );
}

#[test]
fn loop_0_enters_when_the_watcher_has_resigned() {
    check(|| {
        let loops = Loops::new([true, false, false]);
        loops.park(1);
        let parts: [fn(&Loops); 2] = [|loops| _ = loops.idle.keep_watch(1, true), |loops| loops.park(2)];
        let others = parts.map(|part| {
            let loops = loops.clone();
            thread::spawn(move || part(&loops))
        });
        loops.enter(0);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        loops.is_right();
    });
}

#[test]
fn loop_0_leaves_and_the_watcher_ticks() {
    play(
        [false; 3],
        [
            |loops| loops.leave(0),
            |loops| {
                loops.park(1);
                // A tick, and something to do.
                loops.idle.keep_watch(1, true);
                loops.wake(1);
            },
            |loops| {
                loops.park(2);
                loops.idle.keep_watch(2, true);
            },
        ],
    );
}

#[test]
fn a_watcher_is_invited() {
    play(
        [false; 3],
        [
            |loops| loops.invite(),
            |loops| {
                loops.park(1);
                loops.wake(1);
                loops.park(1);
            },
            |loops| loops.park(2),
        ],
    );
}

/// A sleeper that may be appointed, and its selector, whose timer goes off as soon as it is set.
struct Bed {
    idle: Idle,
    parker: Parker,
    poll: primitive::Mutex<()>,
    tick: Edge,
}

impl Bed {
    /// `Shared::start_watch`, for loop 0.
    fn start_watch(&self, watcher: Option<usize>) {
        if watcher == Some(0) {
            self.tick.unblock();
        }
    }

    /// `Idle::park` and `Worker::sleep`, until the first tick.
    fn sleep(&self) {
        self.idle.park(0, false);
        loop {
            let poll = self.poll.lock();
            self.parker.publish();
            let watches = self.idle.keep_watch(0, false);
            if watches {
                self.start_watch(Some(0));
            }
            self.tick.wait();
            self.parker.retract();
            drop(poll);
            if self.idle.keep_watch(0, false) {
                return;
            }
        }
    }

    /// `Worker::relieve` of a loop that is awake and does not move: polls its selector.
    fn adopt(&self) {
        if self.parker.seen() == Seen::Awake
            && let Some(_poll) = self.poll.try_lock()
        {
            self.tick.look();
        }
    }
}

#[test]
fn a_tick_is_not_taken() {
    check(|| {
        let bed =
            Bed { idle: Idle::new(3), parker: Parker::new(false), poll: primitive::Mutex::new(()), tick: Edge::new() };
        (0..3).for_each(|_| _ = bed.idle.enter());
        // Loop 1 watches; loop 2 runs.
        bed.idle.park(1, false);
        assert!(bed.idle.keep_watch(1, false));
        let bed = Arc::new(bed);
        let waking = thread::spawn({
            let bed = bed.clone();
            move || bed.start_watch(bed.idle.wake(1).new_watcher)
        });
        let adopting = thread::spawn({
            let bed = bed.clone();
            move || bed.adopt()
        });
        bed.sleep();
        waking.join().unwrap();
        adopting.join().unwrap();
    });
}
