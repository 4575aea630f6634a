//! Work for all loops against loops that go to sleep.
//!
//! *Property.* No gift is overslept: what is injected is run, though nobody else helps; also if the loop that took the first
//! of two gifts is stuck in it, so that another has to be invited for the second.
//! *Threads.* One gives; one or two loops search, park and run. *Bound.* Two preemptions.
//! *Seeded bugs.* No SleepFence; no GiveFence; the look before sleeping leaves out the injector; the last searcher that found
//! work does not look at the injector; no FoundFence; an invitation is no gift.

use loom::sync::Arc;
use loom::thread;

use super::fleet::{Finish, Fleet, To, Worker, give};
use super::support::{Edge, check};
use crate::event_loop::park::Unblock;

/// A background loop, which was counted by `Idle::enter` before its thread began.
fn start(fleet: &Arc<Fleet>, index: usize, searching: bool) -> thread::JoinHandle<()> {
    let fleet = fleet.clone();
    thread::spawn(move || {
        let worker = Worker::new(&fleet, index);
        worker.searching.set(searching);
        worker.run();
    })
}

/// Two callbacks, the first of which does not return before the second has run.
fn stuck_pair(finish: &Finish) -> (impl FnOnce() + Send + use<>, impl FnOnce() + Send + use<>) {
    let gate = std::sync::Arc::new(Edge::new());
    let (first, second) = (finish.callback(), finish.callback());
    let open = gate.clone();
    let stuck = move || {
        gate.wait();
        first();
    };
    let opening = move || {
        open.unblock();
        second();
    };
    (stuck, opening)
}

#[test]
fn a_loop_that_goes_to_sleep() {
    check(|| {
        let (fleet, finish) = (Fleet::new(1, false), Finish::after(1));
        fleet.idle.enter();
        let running = start(&fleet, 0, false);
        give(&fleet, To::All, finish.callback());
        finish.wait();
        fleet.start_closing();
        running.join().unwrap();
    });
}

#[test]
fn the_last_searcher_goes_to_sleep() {
    check(|| {
        let (fleet, finish) = (Fleet::new(1, false), Finish::after(1));
        fleet.idle.enter();
        assert!(fleet.idle.try_search());
        let running = start(&fleet, 0, true);
        give(&fleet, To::All, finish.callback());
        finish.wait();
        fleet.start_closing();
        running.join().unwrap();
    });
}

#[test]
fn a_searcher_that_found_work_hands_the_search_on() {
    check(|| {
        let (fleet, finish) = (Fleet::new(2, false), Finish::after(2));
        fleet.idle.enter();
        fleet.idle.enter();
        assert!(fleet.idle.try_search());
        let (stuck, opening) = stuck_pair(&finish);
        give(&fleet, To::All, stuck);
        let running = [start(&fleet, 0, true), start(&fleet, 1, false)];
        give(&fleet, To::All, opening);
        finish.wait();
        fleet.start_closing();
        running.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn an_invited_loop_hands_the_search_on() {
    check(|| {
        let (fleet, finish) = (Fleet::new(2, false), Finish::after(2));
        fleet.idle.enter();
        fleet.idle.enter();
        let giver = thread::spawn({
            let fleet = fleet.clone();
            move || {
                let (stuck, opening) = stuck_pair(&finish);
                give(&fleet, To::All, stuck);
                give(&fleet, To::All, opening);
                finish.wait();
                fleet.start_closing();
            }
        });
        let running = start(&fleet, 1, false);
        // On the main thread, so that no preemption is spent on its beginning.
        Worker::new(&fleet, 0).run();
        running.join().unwrap();
        giver.join().unwrap();
    });
}
