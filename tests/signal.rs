//! Signals (`epicycle::signal`).
//!
//! A signal reaches every listener of the process, so the tests of this file take turns. Threads: the signal is sent to the
//! process and handled on whichever thread the kernel picks.

mod common;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use common::{DropProbe, Flag, Reports, Turns, eventually, eventually_async};
use epicycle::signal::{Signal, SignalKind, ctrl_c, signal};
use epicycle::time::{sleep, timeout};
use epicycle::{EventLoop, Runtime, spawn};
use futures_lite::StreamExt;
use futures_lite::future::poll_once;

const MS: Duration = Duration::from_millis(1);

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(kind: SignalKind) {
    let signal = rustix::process::Signal::from_named_raw(kind.as_raw()).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
}

/// Whether there is a signal, given time.
async fn comes(signal: &mut Signal) -> bool {
    timeout(Duration::from_secs(20), signal.recv()).await.is_ok_and(|received| received.is_ok())
}

async fn is_silent(signal: &mut Signal) -> bool {
    timeout(5 * MS, signal.recv()).await.is_err()
}

common::flavours! {
    fn b65_a_signal_is_received_as_often_as_it_is_waited_for(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let mut signal = signal(SignalKind::user_defined1()).unwrap();
            for _ in 0..20 {
                send(SignalKind::user_defined1());
                assert!(comes(&mut signal).await);
            }
            assert!(is_silent(&mut signal).await);
        });
    }

    fn b65_signals_reach_all_listeners(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let listeners: Vec<_> = (0..20).map(|_| signal(SignalKind::user_defined1()).unwrap()).collect();
            let received = Arc::new(AtomicUsize::new(0));
            let waiting: Vec<_> = listeners
                .into_iter()
                .map(|mut listener| {
                    let received = received.clone();
                    spawn(async move {
                        assert!(comes(&mut listener).await);
                        received.fetch_add(1, SeqCst);
                        listener
                    })
                })
                .collect();
            sleep(2 * MS).await;
            send(SignalKind::user_defined1());
            let mut listeners = Vec::new();
            for task in waiting {
                listeners.push(task.await.unwrap());
            }
            assert_eq!(received.load(SeqCst), 20);
            // The end of some has no effect on the others.
            let mut rest = listeners.split_off(10);
            drop(listeners);
            send(SignalKind::user_defined1());
            for listener in &mut rest {
                assert!(comes(listener).await);
            }
        });
    }

    fn b65_dropping_a_runtime_does_not_starve_the_listeners_of_another(rt: Runtime) {
        let _turn = turn();
        let other = Runtime::new();
        let listener_there = other.block_on(async { signal(SignalKind::user_defined2()).unwrap() });
        rt.block_on(async {
            let mut listener = signal(SignalKind::user_defined2()).unwrap();
            send(SignalKind::user_defined2());
            assert!(comes(&mut listener).await);

            thread::spawn(move || {
                let mut listener_there = listener_there;
                assert!(other.block_on(async { comes(&mut listener_there).await }), "both runtimes see it");
                drop(other);
                // A listener of a dead runtime is harmless.
                send(SignalKind::user_defined2());
                assert!(futures_lite::future::block_on(listener_there.recv()).is_err());
            })
            .join()
            .unwrap();
            assert!(comes(&mut listener).await);
            send(SignalKind::user_defined2());
            assert!(comes(&mut listener).await);
        });
    }

    fn b65_signals_before_the_first_wait_count(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let mut listener = signal(SignalKind::hangup()).unwrap();
            for _ in 0..3 {
                send(SignalKind::hangup());
            }
            sleep(5 * MS).await;
            assert!(comes(&mut listener).await);
            assert!(is_silent(&mut listener).await, "they are merged into one");
        });
    }

    fn b65_a_dropped_wait_loses_no_signal(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let mut listener = signal(SignalKind::user_defined1()).unwrap();
            for _ in 0..10 {
                assert!(poll_once(pin!(listener.recv())).await.is_none());
                send(SignalKind::user_defined1());
                assert!(comes(&mut listener).await);
            }
            // As a stream.
            send(SignalKind::user_defined1());
            assert!(listener.next().await.unwrap().is_ok());
        });
    }

    fn b65_kinds_are_kept_apart(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let mut one = signal(SignalKind::user_defined1()).unwrap();
            let mut two = signal(SignalKind::user_defined2()).unwrap();
            send(SignalKind::user_defined2());
            assert!(comes(&mut two).await);
            assert!(is_silent(&mut one).await);
            assert_eq!((one.kind(), two.kind()), (SignalKind::user_defined1(), SignalKind::user_defined2()));
        });
    }

    fn b65_ctrl_c(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            // Keeps the process alive, come what may.
            let mut guard = signal(SignalKind::interrupt()).unwrap();
            for _ in 0..3 {
                let waiting: Vec<_> = (0..2).map(|_| spawn(ctrl_c())).collect();
                let mut own = pin!(ctrl_c());
                assert!(poll_once(own.as_mut()).await.is_none());
                sleep(10 * MS).await;
                send(SignalKind::interrupt());
                own.await.unwrap();
                assert!(comes(&mut guard).await);
                for task in waiting {
                    // It may not have begun to listen in time: again, then.
                    while !task.done() {
                        send(SignalKind::interrupt());
                        sleep(MS).await;
                    }
                    task.await.unwrap().unwrap();
                }
            }
        });
    }

    fn b65_a_signal_is_seen_by_a_loop_that_sleeps(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let mut listener = signal(SignalKind::user_defined1()).unwrap();
            let sending = thread::spawn(|| {
                thread::sleep(20 * MS); // by now nothing happens in the runtime
                send(SignalKind::user_defined1());
            });
            listener.recv().await.unwrap();
            sending.join().unwrap();
        });
    }
}

#[test]
fn what_cannot_be_listened_for_is_refused() {
    let rt = Runtime::new();
    rt.block_on(async {
        for number in [9, 19, 11, 8, 4] {
            let error = signal(SignalKind::from_raw(number)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        }
        assert!(signal(SignalKind::from_raw(1000)).is_err());
    });
}

#[test]
fn a_listener_leaves_nothing_behind() {
    let _turn = turn();
    common::with_timeout(|| {
        let rt = Runtime::new();
        let sources = || rt.metrics().loops.iter().map(|each| each.sources).sum::<usize>();
        rt.block_on(async {
            let before = sources();
            let listener = signal(SignalKind::user_defined1()).unwrap();
            assert_eq!(sources(), before + 1);
            drop(listener);
            assert_eq!(sources(), before);
            send(SignalKind::user_defined1()); // goes nowhere, and does not end the process
        });
        eventually("all is quiet", || sources() == 0);
    });
}

// ------------------------------------------------------------------------------------------------ callbacks of a loop

const ONE: SignalKind = SignalKind::user_defined1();
const TWO: SignalKind = SignalKind::user_defined2();

/// To this thread: the signal has been handled when this returns.
fn raise(kind: SignalKind) {
    signal_hook::low_level::raise(kind.as_raw()).unwrap();
}

/// A counter, and a callback that counts.
fn counter() -> (Rc<Cell<usize>>, impl FnMut() + 'static) {
    let count = Rc::new(Cell::new(0));
    let inner = count.clone();
    (count, move || inner.set(inner.get() + 1))
}

/// A callback that owns a probe.
fn holding(guard: common::DropGuard) -> impl FnMut() + 'static {
    move || {
        let _held = &guard;
    }
}

common::flavours! {
    fn n84_a_handler_runs_as_a_callback_of_its_loop(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let event_loop = EventLoop::current();
            let turns = Turns::start(&event_loop);
            let seen = Rc::new(RefCell::new(Vec::new()));
            let (inner, clock) = (seen.clone(), turns.clone());
            let thread = thread::current().id();
            event_loop
                .add_signal_handler(ONE, move || {
                    assert_eq!(thread::current().id(), thread);
                    inner.borrow_mut().push(clock.count());
                })
                .unwrap();
            for round in 1..=10 {
                let raised = Rc::new(Cell::new(0));
                let (at, clock, before) = (raised.clone(), turns.clone(), seen.clone());
                event_loop.call_soon(move || {
                    raise(ONE);
                    at.set(clock.count());
                    assert_eq!(before.borrow().len(), round - 1, "not inside of whatever is interrupted");
                });
                eventually_async("the handler runs", || seen.borrow().len() == round).await;
                assert!(seen.borrow()[round - 1] > raised.get(), "in a later turn");
            }
        });
    }

    fn n84_signals_are_merged(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let (count, callback) = counter();
            let event_loop = EventLoop::current();
            event_loop.add_signal_handler(ONE, callback).unwrap();
            for round in 1..=5 {
                for _ in 0..1000 {
                    raise(ONE);
                }
                eventually_async("it is called", || count.get() >= round).await;
                sleep(2 * MS).await;
                assert_eq!(count.get(), round, "once for all of them");
            }
        });
    }

    fn n84_adding_again_replaces(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let event_loop = EventLoop::current();
            let (first, callback) = counter();
            let probe = DropProbe::new();
            let guard = probe.guard();
            let mut callback = callback;
            event_loop
                .add_signal_handler(ONE, move || {
                    let _owned = &guard;
                    callback();
                })
                .unwrap();
            raise(ONE);
            eventually_async("the first is called", || first.get() == 1).await;
            // What has come and was not told to the old one is told to the new one.
            raise(ONE);
            let (second, callback) = counter();
            event_loop.add_signal_handler(ONE, callback).unwrap();
            eventually_async("the second is called", || second.get() == 1).await;
            eventually_async("the first is dropped", || probe.count() == 1).await;
            raise(ONE);
            eventually_async("the second is called", || second.get() == 2).await;
            assert_eq!(first.get(), 1);
            assert!(event_loop.remove_signal_handler(ONE));
            assert!(!event_loop.remove_signal_handler(ONE), "there was one");
        });
    }

    fn n84_removing_tells_whether_there_was_one(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let event_loop = EventLoop::current();
            assert!(!event_loop.remove_signal_handler(ONE));
            for _ in 0..5 {
                let (count, callback) = counter();
                event_loop.add_signal_handler(ONE, callback).unwrap();
                assert!(!event_loop.remove_signal_handler(TWO));
                raise(ONE);
                // What has come is forgotten.
                assert!(event_loop.remove_signal_handler(ONE));
                raise(ONE);
                let (next, callback) = counter();
                event_loop.add_signal_handler(ONE, callback).unwrap();
                sleep(2 * MS).await;
                assert_eq!(next.get(), 0);
                raise(ONE);
                eventually_async("the next one works", || next.get() == 1).await;
                assert_eq!(count.get(), 0);
                assert!(event_loop.remove_signal_handler(ONE));
                assert!(!event_loop.remove_signal_handler(ONE));
            }
        });
    }

    fn n84_a_handler_may_replace_and_remove_itself(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let event_loop = EventLoop::current();
            let log = Rc::new(RefCell::new(Vec::new()));
            let (own, first, second) = (event_loop.clone(), log.clone(), log.clone());
            event_loop
                .add_signal_handler(ONE, move || {
                    first.borrow_mut().push("first");
                    let (own_again, second) = (own.clone(), second.clone());
                    let replacement = move || {
                        second.borrow_mut().push("second");
                        assert!(own_again.remove_signal_handler(ONE));
                    };
                    own.add_signal_handler(ONE, replacement).unwrap();
                })
                .unwrap();
            for calls in 1..=2 {
                raise(ONE);
                eventually_async("it is called", || log.borrow().len() == calls).await;
            }
            raise(ONE);
            sleep(2 * MS).await;
            assert_eq!(*log.borrow(), ["first", "second"]);
            assert!(!event_loop.remove_signal_handler(ONE));
        });
    }

    fn n84_what_cannot_be_handled_is_refused(rt: Runtime) {
        rt.block_on(async {
            let event_loop = EventLoop::current();
            for number in [9, 19, 11, 8, 4] {
                let error = event_loop.add_signal_handler(SignalKind::from_raw(number), || ()).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
                assert!(!event_loop.remove_signal_handler(SignalKind::from_raw(number)));
            }
            assert!(event_loop.add_signal_handler(SignalKind::from_raw(1000), || ()).is_err());
        });
    }

    fn n84_the_end_of_the_loop_removes_all(rt: Runtime) {
        let _turn = turn();
        let probe = DropProbe::new();
        let old = rt.block_on(async {
            let event_loop = EventLoop::current();
            for kind in [ONE, TWO] {
                let guard = probe.guard();
                event_loop.add_signal_handler(kind, holding(guard)).unwrap();
            }
            event_loop
        });
        assert_eq!(probe.count(), 2, "loop 0 has been left");
        raise(ONE); // goes nowhere, and does not end the process
        assert!(old.add_signal_handler(ONE, || ()).is_err());
        assert!(!old.remove_signal_handler(ONE));
        rt.block_on(async {
            let event_loop = EventLoop::current();
            assert!(!event_loop.remove_signal_handler(ONE));
            let (count, callback) = counter();
            event_loop.add_signal_handler(ONE, callback).unwrap();
            assert!(!old.remove_signal_handler(ONE), "a stale handle to the loop does not concern the new one");
            raise(ONE);
            eventually_async("it is called", || count.get() == 1).await;
        });
        // The other loops, and all of them at the end of the runtime.
        let probe = DropProbe::new();
        let tasks: Vec<_> = rt.loops().iter().skip(1).map(|home| {
            let guard = probe.guard();
            home.spawn_local(move || async move { EventLoop::current().add_signal_handler(TWO, holding(guard)).unwrap() })
        }).collect();
        let loops = tasks.len();
        rt.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(probe.count(), 0);
        drop(rt);
        assert_eq!(probe.count(), loops);
        raise(TWO);
    }

    fn n84_every_loop_has_its_own(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let called = Arc::new(AtomicUsize::new(0));
            let mut listener = signal(ONE).unwrap();
            let mut tasks = Vec::new();
            for home in epicycle::RuntimeHandle::current().loops() {
                let called = called.clone();
                tasks.push(home.spawn_local(move || async move {
                    let event_loop = EventLoop::current();
                    let (index, own) = (event_loop.index(), event_loop.clone());
                    event_loop
                        .add_signal_handler(ONE, move || {
                            assert_eq!(EventLoop::current().index(), index);
                            called.fetch_add(1, SeqCst);
                            assert!(own.remove_signal_handler(ONE));
                        })
                        .unwrap();
                }));
            }
            let loops = tasks.len();
            for task in tasks {
                task.await.unwrap();
            }
            send(ONE);
            eventually_async("all are called", || called.load(SeqCst) == loops).await;
            assert!(comes(&mut listener).await, "and listeners, too");
            send(ONE);
            assert!(comes(&mut listener).await);
            assert_eq!(called.load(SeqCst), loops, "they have removed themselves");
        });
    }

    fn n84_a_panic_is_reported_and_the_handler_stays(_flavour: common::Flavour) {
        let _turn = turn();
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            EventLoop::current().add_signal_handler(ONE, || panic!("in a signal handler")).unwrap();
            for times in 1..=2 {
                raise(ONE);
                eventually_async("it is reported", || reports.of_panic("in a signal handler") == times).await;
            }
        });
    }

    fn n84_a_second_thread_in_block_on_has_its_own(rt: Runtime) {
        let _turn = turn();
        let called = Arc::new(AtomicUsize::new(0));
        // From now on it does not end the process.
        drop(rt.block_on(async { signal(ONE) }));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    rt.block_on(async {
                        let thread = thread::current().id();
                        let (inner, flag) = (called.clone(), Flag::new());
                        let setting = flag.clone();
                        let event_loop = EventLoop::current();
                        event_loop
                            .add_signal_handler(ONE, move || {
                                assert_eq!(thread::current().id(), thread);
                                inner.fetch_add(1, SeqCst);
                                setting.set();
                            })
                            .unwrap();
                        flag.wait().await;
                        assert!(event_loop.remove_signal_handler(ONE));
                    });
                });
            }
            // With one loop, the second thread may have to wait for the first to leave.
            eventually("both were called", || {
                send(ONE);
                called.load(SeqCst) >= 2
            });
        });
    }

    fn s3_14_a_signal_wakes_a_loop_that_sleeps(rt: Runtime) {
        let _turn = turn();
        rt.block_on(async {
            let flag = Flag::new();
            let setting = flag.clone();
            EventLoop::current().add_signal_handler(ONE, move || setting.set()).unwrap();
            let sending = thread::spawn(|| {
                thread::sleep(20 * MS); // by now nothing happens in the runtime
                send(ONE);
            });
            // Nothing but the signal can end this.
            flag.wait().await;
            sending.join().unwrap();
        });
    }
}

#[test]
fn n84_closing_a_loop_removes_all() {
    let _turn = turn();
    common::with_timeout(|| {
        let probe = DropProbe::new();
        let event_loop = EventLoop::new().unwrap();
        let (count, callback) = counter();
        event_loop.add_signal_handler(ONE, callback).unwrap();
        let guard = probe.guard();
        event_loop.add_signal_handler(TWO, holding(guard)).unwrap();
        raise(ONE);
        assert_eq!(count.get(), 0, "not before the loop runs");
        event_loop.run_once(None);
        while count.get() == 0 {
            event_loop.run_once(Some(MS));
        }
        // Kept by the loop's shared half, which nothing keeps in turn.
        let shared = DropProbe::new();
        let guard = shared.guard();
        event_loop.set_exception_handler(Some(Box::new(move |_| _ = &guard)));
        event_loop.close();
        assert_eq!(probe.count(), 1);
        assert_eq!(Rc::strong_count(&count), 1);
        raise(ONE);
        assert!(event_loop.add_signal_handler(ONE, || ()).is_err());
        assert!(!event_loop.remove_signal_handler(TWO));
        drop(event_loop);
        assert_eq!(shared.count(), 1);
        // Another loop is not concerned.
        let (one, other) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
        let (count, callback) = counter();
        one.add_signal_handler(ONE, || ()).unwrap();
        other.add_signal_handler(ONE, callback).unwrap();
        one.close();
        raise(ONE);
        while count.get() == 0 {
            other.run_once(Some(MS));
        }
    });
}
