//! Each defect of the seed's own code (S2-18), as a regression test on ours.
//!
//! Everything is on the test's thread, but for the background loops of the flavours.

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::{on_one_loop, panics_with, turns_of, with_timeout};
use epicycle::time::sleep;
use epicycle::{EventLoop, Promise, Runtime, gather, spawn, yield_now};

const MS: Duration = Duration::from_millis(1);

/// Without a selector, a sleep of a second spun 5.86 million turns; asyncio makes 8.
#[test]
fn s2_18_sleeping_does_not_spin() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        let turns = || rt.metrics().loops.iter().map(|each| each.turns).sum::<u64>();
        let before = turns();
        rt.block_on(async {
            sleep(300 * MS).await;
        });
        assert!(turns() - before < 50, "{} turns", turns() - before);
    });
}

/// A second concurrent timer was a TypeError: its handles had no order.
#[test]
fn s2_18_any_number_of_timers_may_wait_at_once() {
    on_one_loop(async |event_loop| {
        let (order, when) = (Rc::new(RefCell::new(Vec::new())), Instant::now() + 10 * MS);
        for n in 0..100 {
            let order = order.clone();
            // Equal deadlines and different ones.
            event_loop.call_at(when + (n % 2) * MS, move || order.borrow_mut().push(n));
        }
        while order.borrow().len() < 100 {
            sleep(MS).await;
        }
        let expected: Vec<u32> = (0..100).step_by(2).chain((1..100).step_by(2)).collect();
        assert_eq!(*order.borrow(), expected);
    });
}

/// `sleep(0)` never came back: the bare yield was ignored.
#[test]
fn s2_18_s2_13_yielding_comes_back_after_one_turn() {
    on_one_loop(async |event_loop| {
        assert_eq!(turns_of(&event_loop, yield_now()).await, 1);
        assert!(turns_of(&event_loop, sleep(Duration::ZERO)).await <= 1);
        // What yields must see to it that it is woken; so a future of the user's that wakes itself goes on.
        struct Twice(u8);
        impl Future for Twice {
            type Output = ();
            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
                self.0 += 1;
                cx.waker().wake_by_ref();
                if self.0 > 2 { Poll::Ready(()) } else { Poll::Pending }
            }
        }
        assert_eq!(turns_of(&event_loop, Twice(0)).await, 2);
    });
}

/// A bare `except: pass` made `run_until_complete` return None for a crash.
#[test]
fn s2_18_a_crash_comes_out() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        panics_with("on purpose", || event_loop.run_until_complete(async { panic!("on purpose") }));
        panics_with("on purpose", || epicycle::run(async { panic!("on purpose") }));
        let error = epicycle::run(async { spawn(async { assert!(MS.is_zero(), "on purpose") }).await }).unwrap_err();
        assert_eq!(error.to_string(), "task panicked: on purpose");
        assert_eq!(event_loop.run_until_complete(async { 1 }), Ok(1), "and the loop lives on");
    });
}

/// `sleep` and `gather` crashed unless they were told the loop.
#[test]
fn s2_18_sleep_and_gather_find_their_loop() {
    on_one_loop(async |_| {
        let both = gather([1, 2].map(|n| async move {
            sleep(n * MS).await;
            n
        }));
        assert_eq!(both.await.unwrap(), [1, 2]);
    });
}

common::flavours! {
    /// `_set_result_unless_cancelled` did not look.
    fn s2_18_s3_30_a_cancelled_promise_is_not_set(rt: Runtime) {
        rt.block_on(async {
            let promise = Promise::new();
            let setter = promise.clone();
            let timer = spawn(async move { sleep(2 * MS).await; setter.set_result(1) });
            promise.cancel();
            assert_eq!(timer.await.unwrap().unwrap_err().into_inner(), 1);
            assert!(promise.await.unwrap_err().is_cancelled());
            // A sleep that is cancelled leaves no timer to go off.
            let asleep = spawn(sleep(Duration::from_secs(1000)));
            for _ in 0..5 { yield_now().await }
            asleep.cancel();
            assert!(asleep.await.unwrap_err().is_cancelled());
        });
        assert_eq!(rt.metrics().loops.iter().map(|each| each.timers_pending).sum::<usize>(), 0);
    }

    /// A second `set_result` was taken in silence.
    fn s2_18_s3_30_a_second_result_is_an_error(rt: Runtime) {
        rt.block_on(async {
            let promise = Promise::new();
            promise.set_result(1).unwrap();
            assert_eq!(promise.set_result(2).unwrap_err().into_inner(), 2);
            assert_eq!(promise.await.unwrap(), 1);
        });
    }

    /// The order of the tasks was that of a `set()`.
    fn s2_18_gather_keeps_the_order_of_its_arguments(rt: Runtime) {
        let one_loop = rt.loops().len() == 1;
        rt.block_on(async {
            let begun = Arc::new(Mutex::new(Vec::new()));
            let results = gather((0..100).map(|n| {
                let begun = begun.clone();
                async move { begun.lock().unwrap().push(n); n }
            }));
            assert_eq!(results.await.unwrap(), (0..100).collect::<Vec<_>>());
            assert!(!one_loop || begun.lock().unwrap().is_sorted());
        });
    }
}
