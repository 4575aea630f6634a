//! A callback that waits for its time: cancelling it, on its loop or elsewhere, against the timer's wake and its run. Giving up
//! the handle of one, or running one that nobody else has a handle of, which takes no read-modify-write at home. And a post,
//! which is a closure until its loop makes a task of it: cancelling it against just that.
//!
//! *Property.* After `cancel()` returned true it never runs, after false it has run or does; its closure is dropped at home,
//! once; the cell is freed once, whichever of queue, canceller and timer comes last. A post that is cancelled before its loop
//! begins is over when `cancel()` returns, wherever that was; later its future is dropped at home.
//! *Threads.* The main thread is home; one fires the timer; one or two cancel. *Bound.* Two preemptions.
//! *Seeded bugs.* `cancel_one_shot` does not count a wake, so that the timer queues what is finished; a canceller gives up
//! the reference of a queued handle; `claim` does not see a cancel; a loop builds a post that a canceller has taken; a canceller
//! takes a post that its loop is building; a handle is given up as if at home on another thread, with a timer's waker about, or
//! after completion; a job in a list is claimed as if nobody else could reach it.

use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use loom::sync::Arc;
use loom::thread;

use super::support::{Home, Hub, OnDrop, Signal, Tally, check, new_task};
use crate::task::{Handle, Kind, NewTask, Once, Task, launch, launch_waiting, spawn_cell};

struct Setup {
    hub: Arc<Hub>,
    ran: Tally,
    dropped: Tally,
    /// The timer's, if there is one.
    waker: Option<Waker>,
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
    let home = Home::of(&hub);
    let mut timers = None;
    let task = if queued {
        let task = spawn_cell(Once::new(closure), home, new_task(Kind::Callback, pinned, true));
        hub.push(task.into_ready());
        task
    } else {
        launch_waiting(closure, home, Location::caller(), |waker| timers = Some(waker))
    };
    Setup { hub, ran, dropped, handle: task.into_handle(), waker: timers }
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
        let mut setup = set_up(true, false);
        let waker = setup.waker.take().expect("a timer's");
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
        let mut setup = set_up(true, false);
        let waker = setup.waker.take().expect("a timer's");
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
        let thieving = Hub::run_elsewhere(&setup.hub);
        let first = handle.cancel();
        let second = cancelling.join().unwrap();
        thieving.join().unwrap();
        assert_eq!(first, second, "both say whether it has run");
        let handle = Arc::try_unwrap(handle).ok().expect("the other has ended");
        finish(Setup { handle, ..setup }, first);
    });
}

#[test]
fn a_handle_given_up_at_home_against_the_timer() {
    check(|| {
        let mut setup = set_up(true, false);
        let waker = setup.waker.take().expect("a timer's");
        let firing = thread::spawn(move || waker.wake());
        let Setup { hub, ran, dropped, handle, .. } = setup;
        drop(handle);
        hub.run_one();
        firing.join().unwrap();
        assert_eq!((ran.get(), dropped.get(), hub.freed.get()), (1, 1, 1));
    });
}

#[test]
fn a_handle_given_up_at_home_after_a_cancel_against_the_timer() {
    check(|| {
        let mut setup = set_up(true, false);
        let waker = setup.waker.take().expect("a timer's");
        let firing = thread::spawn(move || waker.wake());
        let Setup { hub, ran, dropped, handle, .. } = setup;
        assert!(handle.cancel());
        drop(handle);
        firing.join().unwrap();
        hub.run_all();
        assert_eq!((ran.get(), dropped.get(), hub.freed.get()), (0, 1, 1));
    });
}

#[test]
fn a_handle_given_up_at_home_after_a_cancel_from_afar_beside_a_waker() {
    check(|| {
        let mut setup = set_up(true, false);
        let waker = setup.waker.take().expect("a timer's");
        let Setup { hub, ran, dropped, handle, .. } = setup;
        let handle = thread::spawn(move || {
            assert!(handle.cancel());
            handle
        });
        let handle = handle.join().unwrap();
        hub.run_all();
        let elsewhere = thread::spawn(move || drop(waker));
        drop(handle);
        elsewhere.join().unwrap();
        assert_eq!((ran.get(), dropped.get(), hub.freed.get()), (0, 1, 1));
    });
}

#[test]
fn a_posted_callback_s_handle_comes_home() {
    check(|| {
        let (hub, ran) = (Hub::new(), Tally::default());
        let posting = thread::spawn({
            let (hub, ran) = (hub.clone(), ran.clone());
            move || {
                let new = NewTask { unbuilt: true, ..new_task(Kind::Callback, true, true) };
                launch(Once::new(move || ran.add()), Home::of(&hub), new).into_handle()
            }
        });
        hub.run_all();
        drop(posting.join().unwrap());
        hub.run_all();
        assert_eq!((ran.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn a_handle_given_up_elsewhere_against_the_run() {
    check(|| {
        let Setup { hub, ran, dropped, handle, .. } = set_up(true, true);
        let elsewhere = thread::spawn(move || drop(handle));
        hub.run_all();
        elsewhere.join().unwrap();
        assert_eq!((ran.get(), dropped.get(), hub.freed.get()), (1, 1, 1));
    });
}

#[test]
fn a_listed_job_without_an_owner_against_a_shutdown() {
    check(|| {
        let (hub, ran, dropped) = (Hub::new(), Tally::default(), Tally::default());
        let job = Once::new({
            let (ran, guard) = (ran.clone(), OnDrop(dropped.clone()));
            move || {
                let _guard = guard;
                ran.add();
            }
        });
        let task = spawn_cell(job, Home::of(&hub), new_task(Kind::Job, false, true));
        assert!(task.bind(&Home::of(&hub)));
        hub.push(task.into_ready());
        drop(Task::<()>::new(task));
        let running = Hub::run_elsewhere(&hub);
        hub.list().cancel_all();
        running.join().unwrap();
        hub.run_all();
        assert!(ran.get() <= 1);
        // The other `Home` is the one that was made to bind with.
        assert_eq!((dropped.get(), hub.freed.get()), (1, 2));
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

/// What `LoopHandle::spawn_local` makes: pending for ever once it is built.
fn post(hub: &Arc<Hub>, dropped: &Tally, built: &Tally) -> Task<()> {
    let (guard, built) = (OnDrop(dropped.clone()), built.clone());
    let home = thread::current().id();
    let future = async move {
        let _guard = guard;
        built.add();
        let _at_home = AtHome(Some(home));
        std::future::pending::<()>().await;
    };
    let new = NewTask { unbuilt: true, ..new_task(Kind::Task, true, true) };
    Task::new(launch(future, Home::of(hub), new))
}

#[test]
fn a_post_is_cancelled_while_its_loop_builds_it() {
    check(|| {
        let (hub, dropped) = (Hub::new(), Tally::default());
        let task = post(&hub, &dropped, &Tally::default());
        let cancelling = thread::spawn({
            let dropped = dropped.clone();
            move || {
                assert!(task.cancel(), "it is pending, or not begun");
                if task.done() {
                    assert_eq!(dropped.get(), 1, "over, so all of it is gone");
                }
                task
            }
        });
        // The post itself, and if it was begun the drop of its future.
        hub.run_all();
        let task = cancelling.join().unwrap();
        hub.run_all();
        assert!(task.cancelled());
        assert_eq!(dropped.get(), 1);
        drop(task);
        assert_eq!(hub.freed.get(), 1);
    });
}

#[test]
fn a_post_to_an_absent_loop_ends_with_its_cancel() {
    check(|| {
        let (hub, dropped, built) = (Hub::new(), Tally::default(), Tally::default());
        let task = post(&hub, &dropped, &built);
        let canceller = task.canceller();
        let cancelling = thread::spawn(move || canceller.cancel());
        let awaiting = thread::spawn(move || {
            let (mut task, signal) = (task, Signal::new());
            while poll(&mut task, &signal).is_pending() {
                signal.wait();
            }
        });
        // Nobody runs the queue until the task is known to have ended.
        assert!(cancelling.join().unwrap());
        awaiting.join().unwrap();
        assert_eq!((dropped.get(), hub.freed.get()), (1, 0), "the queue has the cell");
        hub.close();
        assert_eq!((built.get(), hub.freed.get()), (0, 1));
    });
}

fn poll(task: &mut Task<()>, signal: &std::sync::Arc<Signal>) -> Poll<()> {
    let waker = signal.waker();
    Pin::new(task).poll(&mut Context::from_waker(&waker)).map(|output| assert!(output.unwrap_err().is_cancelled()))
}

#[test]
fn two_cancels_of_a_post_that_its_queue_drops() {
    check(|| {
        let (hub, dropped, built) = (Hub::new(), Tally::default(), Tally::default());
        let task = post(&hub, &dropped, &built);
        let cancelling = thread::spawn(move || {
            task.cancel();
            task
        });
        // A queue that closes drops its handles, and that cancels.
        hub.close();
        let task = cancelling.join().unwrap();
        assert!(task.cancelled());
        drop(task);
        assert_eq!((built.get(), dropped.get(), hub.freed.get()), (0, 1, 1));
    });
}
