//! One armed deadline: firing on one thread against cancelling and updating on others, and arming against a loop that goes to
//! sleep.
//!
//! *Property.* A timer wakes once at most, and not if its drop came first; the waker that it wakes is the last one given; each
//! waker is dropped. A cancel takes out its own timer, not one that came after it in the same place. A loop that sleeps past
//! an earlier deadline is told.
//! *Threads.* One expires, one updates or arms, one cancels. *Bound.* Two preemptions.
//! *Seeded bugs.* An entry is known by its slot alone; an armed timer unparks nobody; an update keeps the old waker.

use std::sync::Arc as StdArc;
use std::time::{Duration, Instant};

use loom::thread;

use super::support::{Signal, check};
use crate::event_loop::clock::NEVER;
use crate::event_loop::park::Seen;
use crate::event_loop::{Remote, Timer};
use crate::primitive::BiasedArc;

/// A moment after all deadlines.
const PAST_IT: u64 = NEVER - 1;

fn remote() -> BiasedArc<Remote> {
    Remote::new(0, false, None, crate::task::Observer::default()).expect("a selector")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn expire(remote: &Remote) -> usize {
    remote.timers().expire(PAST_IT, |waker| waker.wake())
}

#[test]
fn fire_against_update_and_cancel() {
    check(|| {
        let remote = remote();
        let (first, second) = (Signal::new(), Signal::new());
        let timer = StdArc::new(Timer::arm(remote.clone(), soon(), first.waker()));
        let updating = thread::spawn({
            let (timer, second) = (timer.clone(), second.clone());
            move || timer.update(&second.waker())
        });
        let expiring = thread::spawn({
            let remote = remote.clone();
            move || expire(&remote)
        });
        // The last of the two to drop it cancels.
        drop(timer);
        let updated = updating.join().unwrap();
        let fired = expiring.join().unwrap();
        let woken = (first.woken.get(), second.woken.get());
        assert_eq!(
            woken,
            if fired == 0 {
                (0, 0)
            } else if updated {
                (0, 1)
            } else {
                (1, 0)
            }
        );
        assert_eq!(expire(&remote), 0, "cancelled");
        assert_eq!((StdArc::strong_count(&first), StdArc::strong_count(&second)), (1, 1));
        assert_eq!(remote.timers().next_hint(), NEVER);
    });
}

#[test]
fn owner_and_adopter_expire() {
    check(|| {
        let remote = remote();
        let signals = [Signal::new(), Signal::new()];
        let timers = signals.each_ref().map(|signal| Timer::arm(remote.clone(), soon(), signal.waker()));
        let adopter = thread::spawn({
            let remote = remote.clone();
            move || expire(&remote)
        });
        let own = expire(&remote);
        assert_eq!(own + adopter.join().unwrap(), 2);
        drop(timers);
        assert!(signals.iter().all(|signal| signal.woken.get() == 1 && StdArc::strong_count(signal) == 1));
    });
}

#[test]
fn a_late_cancel_spares_the_next_timer() {
    check(|| {
        let remote = remote();
        let (first, second) = (Signal::new(), Signal::new());
        let timer = Timer::arm(remote.clone(), soon(), first.waker());
        let cancelling = thread::spawn(move || drop(timer));
        let next = thread::spawn({
            let (remote, second) = (remote.clone(), second.clone());
            move || {
                expire(&remote);
                // Perhaps in the place of the first.
                let timer = Timer::arm(remote.clone(), soon(), second.waker());
                assert!(timer.update(&second.waker()), "still armed");
                timer
            }
        });
        cancelling.join().unwrap();
        let timer = next.join().unwrap();
        assert_eq!(expire(&remote), 1);
        assert_eq!(second.woken.get(), 1);
        drop(timer);
        assert!(first.woken.get() <= 1);
        assert_eq!((StdArc::strong_count(&first), StdArc::strong_count(&second)), (1, 1));
    });
}

#[test]
fn a_sleeper_is_told_of_an_earlier_deadline() {
    check(|| {
        let remote = remote();
        let arming = thread::spawn({
            let remote = remote.clone();
            move || Timer::arm(remote.clone(), soon(), Signal::new().waker())
        });
        // `Worker::park` as far as the wait; the wait itself is the kernel's.
        remote.parker().publish();
        let deadline = remote.timers().next();
        let timer = arming.join().unwrap();
        assert!(deadline != NEVER || remote.parker().seen() == Seen::Awake, "it would sleep for ever");
        remote.parker().retract();
        assert_eq!(remote.parker().seen(), Seen::Awake);
        drop(timer);
    });
}
