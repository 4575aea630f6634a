//! A callback that waits for its time: cancelling it, on its loop or elsewhere, against the timer's wake and its run.
//!
//! *Property.* After `cancel()` returned true it never runs, after false it has run or does; its closure is dropped at home,
//! once; the cell is freed once, whichever of queue, canceller and timer comes last.
//! *Threads.* The main thread is home; one fires the timer; one cancels. *Bound.* Two preemptions.
//! *Seeded bugs.* `cancel_one_shot` does not count a wake, so that the timer queues what is finished; a canceller gives up
//! the reference of a queued handle; `claim` does not see a cancel.

use loom::sync::Arc;
use loom::thread;

use super::support::{Home, Hub, OnDrop, Tally, check, new_task};
use crate::task::{Handle, Kind, Once, RawTask, spawn_cell};

struct Setup {
    hub: Arc<Hub>,
    ran: Tally,
    dropped: Tally,
    task: RawTask,
    handle: Handle,
}

/// What `LoopCore::call_at` makes, or with `queued` `LoopCore::call_soon`.
fn set_up(pinned: bool, queued: bool) -> Setup {
    let (hub, ran, dropped) = (Hub::new(), Tally::default(), Tally::default());
    let closure = {
        let (ran, guard, home) = (ran.clone(), OnDrop(dropped.clone()), thread::current().id());
        let at_home = AtHome(pinned.then_some(home));
        move || {
            let _guard = (guard, at_home);
            ran.add();
        }
    };
    let task = spawn_cell(Once::new(closure), Home::of(&hub), new_task(Kind::Callback, pinned, queued));
    if queued {
        hub.push(task.into_ready());
    }
    Setup { hub, ran, dropped, handle: task.into_handle(), task }
}

/// Says where it may be dropped.
struct AtHome(Option<thread::ThreadId>);

impl Drop for AtHome {
    fn drop(&mut self) {
        assert!(self.0.is_none_or(|home| home == thread::current().id()), "dropped on a foreign thread");
    }
}

fn finish(setup: Setup, cancelled: bool) {
    let Setup { hub, ran, dropped, handle, .. } = setup;
    hub.run_all();
    assert_eq!(handle.cancelled(), cancelled);
    assert_eq!(ran.get(), usize::from(!cancelled));
    assert_eq!(dropped.get(), 1);
    drop(handle);
    assert_eq!(hub.freed.get(), 1);
}

#[test]
fn cancel_at_home_against_the_timer() {
    check(|| {
        let setup = set_up(true, false);
        let waker = setup.task.waker();
        let firing = thread::spawn(move || waker.wake());
        setup.hub.run_all();
        let cancelled = setup.handle.cancel();
        setup.hub.run_all();
        firing.join().unwrap();
        finish(setup, cancelled);
    });
}

#[test]
fn cancel_from_afar_against_the_timer() {
    check(|| {
        let setup = set_up(true, false);
        let waker = setup.task.waker();
        let firing = thread::spawn(move || waker.wake());
        let handle = Arc::new(setup.handle);
        let cancelling = thread::spawn({
            let handle = handle.clone();
            move || handle.cancel()
        });
        // There is something to run in any case: the callback, or its drop.
        setup.hub.run_one();
        firing.join().unwrap();
        let cancelled = cancelling.join().unwrap();
        let handle = Arc::try_unwrap(handle).ok().expect("the other has ended");
        finish(Setup { handle, ..setup }, cancelled);
    });
}

#[test]
fn two_cancels_and_a_thief() {
    check(|| {
        let setup = set_up(false, true);
        let handle = Arc::new(setup.handle);
        let cancelling = thread::spawn({
            let handle = handle.clone();
            move || handle.cancel()
        });
        let thieving = thread::spawn({
            let hub = setup.hub.clone();
            move || hub.run_all()
        });
        let first = handle.cancel();
        let second = cancelling.join().unwrap();
        thieving.join().unwrap();
        assert_eq!(first, second, "both say whether it has run");
        let handle = Arc::try_unwrap(handle).ok().expect("the other has ended");
        finish(Setup { handle, ..setup }, first);
    });
}

#[test]
fn a_queue_that_closes_drops_it() {
    check(|| {
        let setup = set_up(false, true);
        let handle = Arc::new(setup.handle);
        let cancelling = thread::spawn({
            let handle = handle.clone();
            move || handle.cancel()
        });
        // A ready handle that is dropped cancels what it would have run.
        drop(setup.hub.pop());
        assert!(cancelling.join().unwrap(), "it never runs");
        let handle = Arc::try_unwrap(handle).ok().expect("the other has ended");
        finish(Setup { handle, ..setup }, true);
    });
}
