//! One armed deadline: firing on one thread against cancelling and updating on others, and arming against a loop that goes to
//! sleep; the spare that the loop's thread leaves in the heap and takes again without asking, and what has been swept.
//!
//! *Property.* A timer wakes once at most, and not if its drop came first; the waker that it wakes is the last one given; each
//! waker is dropped. A cancel takes out its own timer, not one that came after it in the same place. A loop that sleeps past
//! an earlier deadline is told. Every timer is counted in one place, at any moment. Who believes a timer to be swept is right.
//! *Threads.* One or two expire, one updates or arms, one cancels. *Bound.* Two preemptions.
//! *Seeded bugs.* An entry is known by its slot alone; an armed timer unparks nobody; an update keeps the old waker; the spare
//! is woken like any other; a second spare takes the place of the first; a late sweep takes back what an earlier one noted; a helper
//! wakes what is pinned to the loop; a loop forgets what was left for it.

use std::sync::{Arc as StdArc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use loom::thread;

use super::support::{Home, Hub, Signal, check, new_task};
use crate::event_loop::clock::NEVER;
use crate::event_loop::park::Seen;
use crate::event_loop::{Remote, Timer};
use crate::primitive::BiasedArc;
use crate::task::{Kind, Once, spawn_cell};

/// A moment after all deadlines.
const PAST_IT: u64 = NEVER - 1;

const SECOND: Duration = Duration::from_secs(1);

fn remote() -> BiasedArc<Remote> {
    Remote::new(0, false, None, crate::task::Observer::default()).expect("a selector")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn expire(remote: &Remote) -> usize {
    remote.timers().expire_for(PAST_IT, |waker| waker.wake())
}

#[test]
fn fire_against_update_and_cancel() {
    check(|| {
        let remote = remote();
        let (first, second) = (Signal::new(), Signal::new());
        let mut timer = Timer::arm(remote.clone(), soon(), first.waker());
        let updating = thread::spawn({
            let second = second.clone();
            // Dropped on this thread, which cancels.
            move || timer.update(&second.waker())
        });
        let expiring = thread::spawn({
            let remote = remote.clone();
            move || expire(&remote)
        });
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
                let mut timer = Timer::arm(remote.clone(), soon(), second.waker());
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

#[test]
fn a_spare_is_armed_again_or_taken_by_a_helper() {
    check(|| {
        let remote = remote();
        let signal = Signal::new();
        let timer = Timer::arm(remote.clone(), soon(), signal.waker());
        let own = thread::spawn({
            let (remote, signal) = (remote.clone(), signal.clone());
            move || {
                timer.drop_in_turn();
                let again = Timer::arm_in_turn(&remote, soon(), signal.waker());
                drop(remote.timers().end_turn());
                again
            }
        });
        let helper = thread::spawn({
            let remote = remote.clone();
            move || expire(&remote)
        });
        let counts = remote.timers().counts();
        assert_eq!(counts.armed, counts.fired + counts.cancelled + counts.pending as u64);
        let again = own.join().unwrap();
        let fired = helper.join().unwrap();
        assert_eq!(signal.woken.get(), fired);
        let counts = remote.timers().counts();
        assert_eq!(counts.armed, 2);
        assert_eq!(counts.armed, counts.fired + counts.cancelled + counts.pending as u64);
        drop(again);
        assert_eq!(remote.timers().counts().pending, 0, "the spare has ended with the turn");
        assert_eq!(expire(&remote), 0);
        assert_eq!(StdArc::strong_count(&signal), 1);
    });
}

#[test]
fn a_spare_wakes_nobody_who_was_told_of_the_drop() {
    check(|| {
        let remote = remote();
        let (first, second) = (Signal::new(), Signal::new());
        let timers = [&first, &second].map(|signal| Timer::arm(remote.clone(), soon(), signal.waker()));
        let _ = timers.map(Timer::drop_in_turn);
        let helper = thread::spawn({
            let remote = remote.clone();
            move || {
                let counts = remote.timers().counts();
                assert_eq!((counts.armed, counts.cancelled, counts.pending, counts.next), (2, 2, 0, NEVER));
                expire(&remote)
            }
        });
        drop(remote.timers().end_turn());
        assert_eq!(helper.join().unwrap(), 0);
        assert_eq!((first.woken.get(), second.woken.get()), (0, 0));
        assert_eq!((StdArc::strong_count(&first), StdArc::strong_count(&second)), (1, 1));
    });
}

#[test]
fn what_is_believed_to_be_swept_is_gone() {
    check(|| {
        let remote = remote();
        let (early, middle, late) = (soon(), soon() + SECOND, soon() + 2 * SECOND);
        // So that there is something to sweep for both.
        let signal = Signal::new();
        let first = Timer::arm(remote.clone(), early, signal.waker());
        let sweeps = [early, late].map(|until| {
            let remote = remote.clone();
            thread::spawn(move || {
                remote.timers().expire_for(crate::event_loop::clock::nanos(until), |waker| waker.wake())
            })
        });
        drop(Timer::arm(remote.clone(), middle, signal.waker()));
        assert!(remote.timers().counts().pending <= 1, "the second is gone");
        let fired: usize = sweeps.map(|sweep| sweep.join().unwrap()).iter().sum();
        assert_eq!(signal.woken.get(), fired);
        drop(first);
        assert_eq!(remote.timers().counts().pending, 0);
    });
}

#[test]
fn callbacks_of_a_loop_fire_in_order_beside_a_helper() {
    check(|| {
        let remote = remote();
        let (hub, ran) = (Hub::new(), StdArc::new(StdMutex::new(Vec::new())));
        let when = soon();
        let armed = [0, 1].map(|n| {
            let ran = ran.clone();
            let callback = Once::new(move || ran.lock().unwrap().push(n));
            let task = spawn_cell(callback, Home::of(&hub), new_task(Kind::Callback, true, false));
            let timer = Timer::arm(remote.clone(), when, task.waker());
            (task.into_handle(), timer)
        });
        let helper = thread::spawn({
            let remote = remote.clone();
            move || {
                expire(&remote);
            }
        });
        // The loop's own turns.
        remote.timers().expire_own(PAST_IT, |waker| waker.wake());
        hub.run_all();
        helper.join().unwrap();
        assert_eq!(remote.timers().next_own(), if ran.lock().unwrap().len() == 2 { NEVER } else { 0 });
        remote.timers().expire_own(PAST_IT, |waker| waker.wake());
        hub.run_all();
        assert_eq!(*ran.lock().unwrap(), [0, 1]);
        drop(armed);
        assert_eq!(hub.freed.get(), 2);
    });
}
