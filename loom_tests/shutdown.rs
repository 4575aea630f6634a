//! Closing against what still comes: pushes to the injector, spawns into a live list.
//!
//! *Property.* Every task is run, or its future is dropped, once; nothing is left in a queue or a list that nobody looks at
//! any more; every cell is freed.
//! *Threads.* The main thread closes; two push, or one spawns and one wakes. *Bound.* Two preemptions.
//! *Seeded bugs.* A pusher does not look at the flag after its push, or without a fence; the closer drains without a fence; the
//! live list takes tasks after its closing.

use loom::sync::Arc;
use loom::thread;

use super::support::{Home, Hub, OnDrop, PushOnly, Signal, Tally, check, new_task};
use crate::primitive::deque::Worker;
use crate::scheduler::injector::Injector;
use crate::task::{Kind, Once, ReadyHandle, Task, launch};

/// `StealableHome` off the loops, without the invitation.
struct Injecting {
    injector: Arc<Injector>,
    freed: Tally,
}

impl Drop for Injecting {
    fn drop(&mut self) {
        self.freed.add();
    }
}

impl PushOnly for Injecting {
    type Target = Arc<Injector>;

    fn target(&self) -> Arc<Injector> {
        self.injector.clone()
    }

    fn push(injector: Arc<Injector>, handle: ReadyHandle) {
        injector.push(handle);
    }
}

#[test]
fn nothing_stays_in_the_injector() {
    check(|| {
        let (injector, freed, dropped) = (Arc::new(Injector::new()), Tally::default(), Tally::default());
        let pushing = [0, 1].map(|_| {
            let home = Injecting { injector: injector.clone(), freed: freed.clone() };
            let guard = OnDrop(dropped.clone());
            thread::spawn(move || {
                let closure = Once::new(move || drop(guard));
                drop(launch(closure, home, new_task(Kind::Callback, false, true)).into_handle());
            })
        });
        // A loop's last look, as in its turn, then its end.
        let own = Worker::new_fifo();
        injector.pull(&own, 1);
        while let Some(handle) = own.pop() {
            handle.run();
        }
        injector.close();
        pushing.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(injector.is_empty());
        assert_eq!((dropped.get(), freed.get()), (2, 2));
    });
}

/// `close_loop`, as far as it concerns the live list: closes, then cancels until nothing new appears.
fn close(hub: &Hub) {
    hub.list().close();
    hub.close();
    hub.list().cancel_all();
}

#[test]
fn a_spawn_is_cancelled_or_refused() {
    check(|| {
        let (hub, dropped) = (Hub::new(), Tally::default());
        let spawning = thread::spawn({
            let (hub, guard) = (hub.clone(), OnDrop(dropped.clone()));
            move || {
                let future = async move {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                };
                Task::<()>::new(launch(future, Home::of(&hub), new_task(Kind::Task, false, true)))
            }
        });
        // A turn of the loop, which may leave the task idle.
        hub.run_all();
        close(&hub);
        let task = spawning.join().unwrap();
        assert!(task.cancelled());
        assert!(hub.list().is_empty());
        assert!(!task.cancel(), "too late");
        drop(task);
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn a_spawn_whose_queue_is_still_open() {
    check(|| {
        // The list of a loop that closes, the queue of one that still runs.
        let (hub, dropped) = (Hub::new(), Tally::default());
        let spawning = thread::spawn({
            let (hub, guard) = (hub.clone(), OnDrop(dropped.clone()));
            move || {
                let future = async move {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                };
                let task = Task::<()>::new(launch(future, Home::of(&hub), new_task(Kind::Task, false, true)));
                hub.run_all();
                task
            }
        });
        hub.list().close();
        hub.list().cancel_all();
        let task = spawning.join().unwrap();
        assert!(task.cancelled(), "it would wait for ever");
        drop(task);
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}

#[test]
fn an_idle_task_is_woken_meanwhile() {
    check(|| {
        let (hub, dropped, signal) = (Hub::new(), Tally::default(), Signal::new());
        let guard = OnDrop(dropped.clone());
        let future = async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        };
        let mut task = Task::<()>::new(launch(future, Home::of(&hub), new_task(Kind::Task, false, true)));
        hub.run_all();
        let waker = task.waker();
        let waking = thread::spawn(move || waker.wake());
        let awaiting = thread::spawn({
            let signal = signal.clone();
            move || {
                let waker = signal.waker();
                let mut cx = std::task::Context::from_waker(&waker);
                loop {
                    match std::future::Future::poll(std::pin::Pin::new(&mut task), &mut cx) {
                        std::task::Poll::Ready(output) => break output,
                        std::task::Poll::Pending => signal.wait(),
                    }
                }
            }
        });
        close(&hub);
        waking.join().unwrap();
        assert!(awaiting.join().unwrap().is_err_and(|error| error.is_cancelled()));
        assert!(hub.list().is_empty());
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}
