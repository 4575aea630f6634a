//! An adopter that polls a loop's selector against the wake-up of that loop.
//!
//! *Property.* A poll of the edge-triggered selector takes the wake-up that is there. As adopters poll under the selector's
//! lock only, they take none that a sleeper relies on: the owner never sleeps for ever over a post.
//! *Threads.* The owner, an adopter that polls twice, a poster. *Bound.* Two preemptions.
//! *Seeded bugs.* The adopter polls without the lock; the owner publishes `PARKED` before it has the lock.

use loom::thread;

use super::fleet::{Finish, Fleet, To, Worker, give};
use super::support::check;

#[test]
fn the_owner_does_not_sleep_for_ever() {
    check(|| {
        let (fleet, finish) = (Fleet::new(1, false), Finish::after(2));
        fleet.idle.enter();
        let owner = thread::spawn({
            let fleet = fleet.clone();
            move || Worker::new(&fleet, 0).run()
        });
        let adopter = thread::spawn({
            let fleet = fleet.clone();
            move || {
                fleet.loops[0].look_at();
                fleet.loops[0].look_at();
            }
        });
        give(&fleet, To::One(0), finish.callback());
        give(&fleet, To::One(0), finish.callback());
        finish.wait();
        // Before the join: loom has a `try_lock` wait for a lock that is taken at that moment.
        fleet.start_closing();
        adopter.join().unwrap();
        owner.join().unwrap();
    });
}
