//! A post to one loop's inbox against that loop's falling asleep.
//!
//! *Property.* Every post is run, in the order of each poster; one sleep costs one system call at most, however many post.
//! *Threads.* One loop, two posters. *Bound.* Two preemptions.
//! *Seeded bugs.* `unpark` without GiveFence; `publish` without SleepFence; the loop looks at its inbox before it publishes
//! itself; every unpark is a system call.

use loom::thread;

use super::fleet::{Finish, Fleet, To, Worker, give};
use super::support::check;

#[test]
fn posts_are_not_overslept() {
    check(|| {
        let (fleet, finish) = (Fleet::new(1, false), Finish::after(2));
        fleet.idle.enter();
        let running = thread::spawn({
            let fleet = fleet.clone();
            move || Worker::new(&fleet, 0).run()
        });
        let posting = thread::spawn({
            let (fleet, callback) = (fleet.clone(), finish.callback());
            move || give(&fleet, To::One(0), callback)
        });
        give(&fleet, To::One(0), finish.callback());
        finish.wait();
        fleet.start_closing();
        posting.join().unwrap();
        running.join().unwrap();
        let (writes, parks) = (fleet.loops[0].selector.edge.writes.get(), fleet.loops[0].parks.get());
        assert!(writes <= parks, "{writes} system calls for {parks} sleeps");
    });
}

#[test]
fn posts_keep_their_order() {
    check(|| {
        let (fleet, finish) = (Fleet::new(1, false), Finish::after(3));
        let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        fleet.idle.enter();
        let running = thread::spawn({
            let fleet = fleet.clone();
            move || Worker::new(&fleet, 0).run()
        });
        for i in 0..3 {
            let (callback, order) = (finish.callback(), order.clone());
            give(&fleet, To::One(0), move || {
                order.lock().unwrap().push(i);
                callback();
            });
        }
        finish.wait();
        fleet.start_closing();
        running.join().unwrap();
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    });
}
