//! Loop 0 comes and goes: entering and leaving against gifts to all loops and posts to it.
//!
//! *Property.* Work for all loops is run by the other loop, though the one that leaves was the one to find it; what was queued
//! on it, too. Posts wait, in order, for the next tenancy. An absent loop stays absent, whoever unparks it late.
//! *Threads.* A driver, a background loop, a giver. *Bound.* Two preemptions.
//! *Seeded bugs.* The leaver keeps its role as the last searcher to itself; the leaver forgets its queue; `unpark` overwrites
//! `ABSENT`; posts that came after are put before those that came first.

use std::collections::VecDeque;

use loom::sync::Arc;
use loom::thread;

use super::fleet::{Finish, Fleet, To, Worker, give};
use super::support::check;
use crate::event_loop::park::Seen;

/// `enter_loop_0`, without the selectors.
fn enter(fleet: &Arc<Fleet>) -> Worker {
    fleet.loops[0].parker.enter();
    fleet.idle.enter();
    Worker::new(fleet, 0)
}

/// `leave_loop_0`, without the custodian and the tenancy; callbacks count as posts that were not built yet.
fn leave(fleet: &Fleet, worker: &Worker) {
    let (stealable, posts) = worker.take_ready();
    fleet.loops[0].parker.leave();
    let last_searcher = worker.retire();
    hand_on(fleet, stealable, posts);
    if last_searcher || !fleet.injector.is_empty() {
        fleet.invite();
    }
}

/// `hand_on`.
fn hand_on(fleet: &Fleet, stealable: VecDeque<crate::task::ReadyHandle>, posts: VecDeque<crate::task::ReadyHandle>) {
    for handle in stealable {
        fleet.inject(handle);
    }
    if !posts.is_empty() {
        fleet.loops[0].inbox.restore(posts);
    }
}

fn background(fleet: &Arc<Fleet>) -> thread::JoinHandle<()> {
    fleet.idle.enter();
    let fleet = fleet.clone();
    thread::spawn(move || Worker::new(&fleet, 1).run())
}

#[test]
fn a_searcher_leaves() {
    check(|| {
        let (fleet, finish) = (Fleet::new(2, true), Finish::after(1));
        let background = background(&fleet);
        let driver = enter(&fleet);
        driver.searching.set(fleet.idle.try_search());
        let giver = thread::spawn({
            let (fleet, callback) = (fleet.clone(), finish.callback());
            move || give(&fleet, To::All, callback)
        });
        leave(&fleet, &driver);
        finish.wait();
        giver.join().unwrap();
        fleet.start_closing();
        background.join().unwrap();
        assert_eq!(fleet.loops[0].parker.seen(), Seen::Absent);
    });
}

#[test]
fn a_loop_with_work_leaves() {
    check(|| {
        let (fleet, finish) = (Fleet::new(2, true), Finish::after(2));
        let driver = enter(&fleet);
        give(&fleet, To::All, finish.callback());
        driver.find_work();
        let background = background(&fleet);
        let giver = thread::spawn({
            let (fleet, callback) = (fleet.clone(), finish.callback());
            move || give(&fleet, To::All, callback)
        });
        leave(&fleet, &driver);
        finish.wait();
        giver.join().unwrap();
        fleet.start_closing();
        background.join().unwrap();
        assert_eq!(fleet.loops[0].parker.seen(), Seen::Absent);
    });
}

#[test]
fn a_loop_comes_while_work_comes() {
    check(|| {
        let (fleet, finish) = (Fleet::new(2, true), Finish::after(2));
        let background = background(&fleet);
        let giver = thread::spawn({
            let (fleet, callbacks) = (fleet.clone(), [finish.callback(), finish.callback()]);
            move || {
                callbacks.into_iter().zip([To::One(0), To::All]).for_each(|(callback, to)| give(&fleet, to, callback))
            }
        });
        let driver = enter(&fleet);
        // The end of the root future is a post to its loop.
        give(&fleet, To::One(0), || ());
        driver.run_once();
        while !finish.is_reached() && !fleet.loops[0].inbox.is_empty() {
            driver.run_once();
        }
        leave(&fleet, &driver);
        giver.join().unwrap();
        // The next tenancy.
        let driver = enter(&fleet);
        driver.take_posts();
        driver.run_ready();
        leave(&fleet, &driver);
        finish.wait();
        fleet.start_closing();
        background.join().unwrap();
    });
}

/// Posts that say in which order they were run.
fn posts(finish: &Finish, order: &std::sync::Arc<std::sync::Mutex<Vec<usize>>>) -> Vec<impl FnOnce() + Send + use<>> {
    let post = |i| {
        let (callback, order) = (finish.callback(), order.clone());
        move || {
            order.lock().unwrap().push(i);
            callback();
        }
    };
    (0..3).map(post).collect()
}

#[test]
fn an_absent_loop_stays_absent() {
    check(|| {
        let (fleet, finish, order) = (Fleet::new(1, true), Finish::after(3), std::sync::Arc::default());
        let posts = posts(&finish, &order);
        let poster = thread::spawn({
            let fleet = fleet.clone();
            move || posts.into_iter().for_each(|post| give(&fleet, To::One(0), post))
        });
        // Sleeps until a post comes, at least.
        let driver = enter(&fleet);
        driver.run_once();
        leave(&fleet, &driver);
        assert_eq!(fleet.loops[0].parker.seen(), Seen::Absent);
        poster.join().unwrap();
        assert_eq!(fleet.loops[0].parker.seen(), Seen::Absent);
        let driver = enter(&fleet);
        while !finish.is_reached() {
            driver.run_once();
        }
        leave(&fleet, &driver);
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    });
}

#[test]
fn posts_wait_in_order_for_the_next_tenancy() {
    check(|| {
        let (fleet, finish, order) = (Fleet::new(1, true), Finish::after(3), std::sync::Arc::default());
        let mut posts = posts(&finish, &order).into_iter();
        give(&fleet, To::One(0), posts.next().expect("three"));
        let poster = thread::spawn({
            let fleet = fleet.clone();
            move || posts.for_each(|post| give(&fleet, To::One(0), post))
        });
        // A driver that runs nothing.
        let driver = enter(&fleet);
        leave(&fleet, &driver);
        let driver = enter(&fleet);
        while !finish.is_reached() {
            driver.run_once();
        }
        leave(&fleet, &driver);
        poster.join().unwrap();
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    });
}
