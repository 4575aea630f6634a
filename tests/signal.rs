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

use common::eventually;
use epicycle::signal::{Signal, SignalKind, ctrl_c, signal};
use epicycle::time::{sleep, timeout};
use epicycle::{Runtime, spawn};
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
