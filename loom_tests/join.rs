//! The output slot and the join slot: completing against awaiting, dropping the `Task`, and registering callbacks.
//!
//! *Property.* Who awaits is woken; the output is dropped once, by its owner; a done-callback is delivered once; the waker in
//! the slot is dropped once and never touched by two.
//! *Threads.* One runs the task; one or two hold its `Task`. *Bound.* Two preemptions.
//! *Seeded bugs.* `complete` overlooks the join waker; the `Task` leaves its waker with, or takes it back from, a task that is
//! complete; the completer drops an output that has an owner; the registrar of a callback does not look for completion; who gives
//! up the last reference but one frees the cell; a runner takes a task for forgotten that has a `Task`, or callbacks.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use loom::sync::Arc;
use loom::thread;

use super::support::{Home, Hub, OnDrop, Signal, Tally, check, new_task};
use crate::task::{Kind, Task, launch};

struct Setup {
    hub: Arc<Hub>,
    dropped: Tally,
    task: Task<OnDrop>,
}

/// A queued task that is ready at its first poll, with an output that counts its drop.
fn set_up() -> Setup {
    let (hub, dropped) = (Hub::new(), Tally::default());
    let output = OnDrop(dropped.clone());
    let task = launch(async move { output }, Home::of(&hub), new_task(Kind::Task, false, true));
    Setup { hub, dropped, task: Task::new(task) }
}

fn poll(task: &mut Task<OnDrop>, signal: &std::sync::Arc<Signal>) -> Poll<OnDrop> {
    let waker = signal.waker();
    Pin::new(task).poll(&mut Context::from_waker(&waker)).map(|output| output.expect("neither cancelled nor panicked"))
}

#[test]
fn who_awaits_is_woken() {
    check(|| {
        let Setup { hub, dropped, mut task } = set_up();
        let awaiting = thread::spawn(move || {
            let signal = Signal::new();
            loop {
                match poll(&mut task, &signal) {
                    Poll::Ready(output) => break drop(output),
                    Poll::Pending => signal.wait(),
                }
            }
        });
        hub.run_one();
        awaiting.join().unwrap();
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn the_last_waker_counts() {
    check(|| {
        let Setup { hub, dropped, mut task } = set_up();
        // The awaiting thread is the main one, so that no preemption is spent on its beginning.
        let running = thread::spawn({
            let hub = hub.clone();
            move || hub.run_one()
        });
        let (first, second) = (Signal::new(), Signal::new());
        let mut polled = poll(&mut task, &first);
        if polled.is_pending() {
            polled = poll(&mut task, &second);
        }
        if polled.is_pending() {
            second.wait();
            assert_eq!(first.woken.get(), 0, "a waker that was replaced");
            polled = poll(&mut task, &second);
        }
        assert!(polled.is_ready());
        drop((polled, task));
        running.join().unwrap();
        assert!(first.woken.get() + second.woken.get() <= 1);
        assert_eq!((std::sync::Arc::strong_count(&first), std::sync::Arc::strong_count(&second)), (1, 1));
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn dropping_the_task_drops_the_output_once() {
    check(|| {
        let Setup { hub, dropped, mut task } = set_up();
        let signal = Signal::new();
        let dropping = thread::spawn({
            let signal = signal.clone();
            move || {
                // Perhaps with a waker in the slot.
                let _ = poll(&mut task, &signal);
                drop(task);
            }
        });
        hub.run_one();
        dropping.join().unwrap();
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
        assert_eq!(std::sync::Arc::strong_count(&signal), 1, "the waker in the slot is gone");
    });
}

#[test]
fn callbacks_are_delivered_once() {
    check(|| {
        let Setup { hub, dropped, task } = set_up();
        let task = Arc::new(task);
        let calls = Tally::default();
        let registering = [0, 1].map(|_| {
            let (task, calls) = (task.clone(), calls.clone());
            thread::spawn(move || task.add_done_callback(move |_| calls.add()))
        });
        hub.run_one();
        registering.into_iter().for_each(|thread| thread.join().unwrap());
        drop(task);
        hub.call_back();
        assert_eq!(calls.get(), 2);
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn callbacks_of_a_task_that_was_let_go_are_delivered() {
    check(|| {
        let Setup { hub, dropped, task } = set_up();
        let calls = Tally::default();
        let counted = calls.clone();
        let letting_go = thread::spawn(move || {
            task.add_done_callback(move |_| counted.add());
            drop(task);
        });
        hub.run_one();
        letting_go.join().unwrap();
        hub.call_back();
        assert_eq!(calls.get(), 1);
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn a_canceller_keeps_the_cell_of_a_task_that_was_let_go() {
    check(|| {
        let Setup { hub, dropped, task } = set_up();
        let canceller = task.canceller();
        let cancelling = thread::spawn(move || {
            let cancelled = canceller.cancel();
            // Too late is not cancelled; and who is told that it was cancelled finds it so.
            assert_eq!(canceller.cancelled(), cancelled);
        });
        let letting_go = thread::spawn(move || drop(task));
        hub.run_one();
        cancelling.join().unwrap();
        letting_go.join().unwrap();
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn the_last_waker_of_a_task_that_was_let_go_frees_it() {
    check(|| {
        let (hub, dropped) = (Hub::new(), Tally::default());
        let guard = OnDrop(dropped.clone());
        let slot = Arc::new(loom::sync::Mutex::new(None));
        let given = slot.clone();
        let body = std::future::poll_fn(move |cx| {
            let _guard = &guard;
            *given.lock().unwrap() = Some(cx.waker().clone());
            Poll::Ready(())
        });
        let task = Task::<()>::new(launch(body, Home::of(&hub), new_task(Kind::Task, false, true)));
        let waking = thread::spawn(move || {
            let waker = slot.lock().unwrap().take();
            if let Some(waker) = waker {
                waker.wake();
            }
            // Else it goes with the slot.
        });
        let letting_go = thread::spawn(move || drop(task));
        hub.run_one();
        waking.join().unwrap();
        letting_go.join().unwrap();
        assert_eq!((dropped.get(), hub.run_all(), hub.freed.get()), (1, 0, 1));
    });
}
