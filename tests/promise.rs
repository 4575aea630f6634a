//! Promises: asyncio's Future (S0-14, S0-15, S2-07 to S2-12, S3-29, S3-30, S3-35, S4-08 to S4-11, N18 to N23).
//!
//! Hop counts and exact order are asked of one loop; the rest of all flavours. Threads are named where they are started.

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{
    DropProbe, Reports, eventually, eventually_async, on_one_loop, panics_with, pending_with, turns_of, with_timeout,
};
use epicycle::{EventLoop, Promise, PromiseError, Runtime, RuntimeHandle, spawn, spawn_local, yield_now};
use futures_lite::future::poll_once;

type Log = Arc<Mutex<Vec<&'static str>>>;

fn note(log: &Log, what: &'static str) -> impl FnOnce(&Promise<u8>) + Send + 'static + use<> {
    let log = log.clone();
    move |_| log.lock().unwrap().push(what)
}

fn seen(log: &Log) -> Vec<&'static str> {
    log.lock().unwrap().clone()
}

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

#[test]
fn a_promise_is_as_send_as_its_value() {
    fn check<T: Send + Sync + Unpin + 'static>() {}
    check::<Promise<u8>>();
    check::<Promise<std::cell::Cell<u8>>>();
    check::<epicycle::future::SharedPromise<u8>>();
    check::<PromiseError>();
    check::<epicycle::InvalidStateError<u8>>();
}

// ---------------------------------------------------------------------------------------------------- one loop

#[test]
fn s0_15_s2_12_hops_a_promise_set_by_a_queued_callback_takes_two() {
    on_one_loop(async |event_loop| {
        for _ in 0..5 {
            let promise = event_loop.create_future();
            let setter = promise.clone();
            event_loop.call_soon(move || setter.set_result(1).unwrap());
            assert_eq!(
                turns_of(&event_loop, async { assert_eq!(promise.await.unwrap(), 1) }).await,
                0,
                "set meanwhile"
            );

            let promise = event_loop.create_future();
            let setter = promise.clone();
            let count = turns_of(&event_loop, async {
                event_loop.call_soon(move || setter.set_result(1).unwrap());
                assert_eq!(promise.await.unwrap(), 1);
            });
            assert_eq!(count.await, 2);
        }
    });
}

#[test]
fn s2_12_hops_a_promise_that_is_done_takes_none() {
    on_one_loop(async |event_loop| {
        let promise = Promise::new();
        promise.set_result(1).unwrap();
        assert_eq!(turns_of(&event_loop, async { promise.await.unwrap() }).await, 0);
    });
}

#[test]
fn s2_10_s4_09_a_late_callback_is_queued_too() {
    on_one_loop(async |_| {
        let (log, promise) = (Log::default(), Promise::new());
        promise.add_done_callback(note(&log, "1"));
        promise.add_done_callback(note(&log, "2"));
        assert!(!promise.done());
        promise.set_result(7).unwrap();
        log.lock().unwrap().push("set");
        promise.add_done_callback(note(&log, "3"));
        log.lock().unwrap().push("added");
        yield_now().await;
        assert_eq!(seen(&log), ["set", "added", "1", "2", "3"]);
        turns(3).await;
        assert_eq!(seen(&log).len(), 5, "once each");
    });
}

#[test]
fn s2_09_tasks_and_callbacks_are_served_in_the_order_in_which_they_came() {
    on_one_loop(async |event_loop| {
        let (log, promise) = (Log::default(), Promise::<u8>::new());
        for names in [["callback 1", "task 1"], ["callback 2", "task 2"]] {
            promise.add_done_callback(note(&log, names[0]));
            let (log, waiting) = (log.clone(), promise.clone().shared());
            spawn_local(async move {
                assert_eq!(waiting.await.unwrap(), 7);
                log.lock().unwrap().push(names[1]);
            });
            turns(2).await;
        }
        let soon = log.clone();
        event_loop.call_soon(move || soon.lock().unwrap().push("before"));
        promise.set_result(7).unwrap();
        let soon = log.clone();
        event_loop.call_soon(move || soon.lock().unwrap().push("after"));
        assert!(seen(&log).is_empty(), "nothing runs inside set_result");
        yield_now().await;
        assert_eq!(seen(&log), ["before", "callback 1", "task 1", "callback 2", "task 2", "after"]);
    });
}

#[test]
fn s2_09_a_callback_that_registers_another_does_not_loop() {
    on_one_loop(async |event_loop| {
        fn again(promise: &Promise<u8>, count: Arc<AtomicUsize>) {
            promise.add_done_callback(move |promise| {
                if count.fetch_add(1, SeqCst) < 9 {
                    again(promise, count);
                }
            });
        }
        let (promise, count) = (Promise::new(), Arc::new(AtomicUsize::new(0)));
        again(&promise, count.clone());
        promise.set_result(1).unwrap();
        let mut before = 0;
        for turn in 1..=10 {
            yield_now().await;
            assert_eq!((count.load(SeqCst), before), (turn, turn - 1), "one each turn");
            before = turn;
        }
        turns(3).await;
        assert_eq!(count.load(SeqCst), 10);
        let _ = event_loop;
    });
}

#[test]
fn s0_14_hops_a_chain_takes_a_turn_each_way() {
    on_one_loop(async |event_loop| {
        let (source, destination) = (Promise::new(), Promise::<u8>::new());
        source.chain(&destination);
        let count = turns_of(&event_loop, async {
            source.set_result(3).unwrap();
            assert!(!destination.done(), "never inline");
            assert_eq!(destination.clone().await.unwrap(), 3);
        });
        assert_eq!(count.await, 2);
    });
}

#[test]
fn s2_07_a_loop_makes_promises_before_it_runs() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let (log, promise) = (Log::default(), event_loop.create_future::<u8>());
        promise.add_done_callback(note(&log, "called"));
        promise.set_result(1).unwrap();
        assert!(seen(&log).is_empty());
        event_loop.run_once(Some(Duration::ZERO));
        assert_eq!(seen(&log), ["called"]);
    });
}

#[test]
fn s2_11_n20_what_is_removed_during_dispatch_is_too_late_but_harmless() {
    on_one_loop(async |_| {
        let (log, promise) = (Log::default(), Promise::<u8>::new());
        let second = Arc::new(Mutex::new(None));
        let (ids, said) = (second.clone(), log.clone());
        promise.add_done_callback(move |promise| {
            let id = ids.lock().unwrap().take().unwrap();
            assert!(!promise.remove_done_callback(id), "it is queued already");
            said.lock().unwrap().push("1");
        });
        *second.lock().unwrap() = Some(promise.add_done_callback(note(&log, "2")));
        promise.set_result(1).unwrap();
        turns(3).await;
        assert_eq!(seen(&log), ["1", "2"]);
    });
}

#[test]
fn a_value_that_is_not_send_stays_on_its_loop() {
    on_one_loop(async |_| {
        let promise = Promise::new();
        let setter = promise.clone();
        spawn_local(async move { setter.set_result(Rc::new(RefCell::new(1))).unwrap() });
        assert_eq!(*promise.await.unwrap().borrow(), 1);
    });
}

// ---------------------------------------------------------------------------------------------------- all flavours

common::flavours! {
    fn s3_29_n18_s4_11_result_never_waits_and_has_four_answers(rt: Runtime) {
        rt.block_on(async {
            let promise = Promise::<u8>::new();
            assert!(promise.result().unwrap_err().is_invalid_state());
            assert!(promise.exception().unwrap_err().is_invalid_state());
            assert!(promise.take_result().unwrap_err().is_invalid_state());
            promise.set_result(1).unwrap();
            assert_eq!(promise.result().unwrap(), 1);
            assert_eq!(promise.result().unwrap(), 1, "it stays");
            assert!(promise.exception().unwrap().is_none());
            assert!(promise.done() && !promise.cancelled());

            let failed = Promise::<u8>::new();
            failed.set_exception(std::io::Error::other("broken")).unwrap();
            assert_eq!(failed.result().unwrap_err().exception().unwrap().to_string(), "broken");
            assert_eq!(failed.exception().unwrap().unwrap().to_string(), "broken");
            assert_eq!(failed.clone().await.unwrap_err().to_string(), "broken");

            let cancelled = Promise::<u8>::new();
            assert!(cancelled.cancel() && cancelled.cancelled() && cancelled.done());
            assert!(cancelled.result().unwrap_err().is_cancelled());
            assert!(cancelled.exception().unwrap_err().is_cancelled());
            assert!(cancelled.clone().await.unwrap_err().is_cancelled());
        });
    }

    fn s3_30_it_is_completed_once_and_the_second_value_comes_back(rt: Runtime) {
        rt.block_on(async {
            let promise = Promise::new();
            promise.set_result("first".to_owned()).unwrap();
            assert_eq!(promise.set_result("second".to_owned()).unwrap_err().into_inner(), "second");
            assert_eq!(promise.set_exception("third").unwrap_err().into_inner().to_string(), "third");
            assert_eq!(promise.await.unwrap(), "first");

            let cancelled = Promise::new();
            cancelled.cancel();
            assert_eq!(cancelled.set_result(2).unwrap_err().into_inner(), 2);
            assert!(cancelled.cancelled(), "it stays cancelled");
        });
    }

    fn n19_cancel_tells_whether_it_did_and_queues_the_callbacks(rt: Runtime) {
        rt.block_on(async {
            let (log, promise) = (Log::default(), Promise::<u8>::new());
            promise.add_done_callback(note(&log, "called"));
            assert!(promise.cancel());
            assert!(!promise.cancel());
            eventually_async("it is called", || seen(&log) == ["called"]).await;
            let done = Promise::new();
            done.set_result(1).unwrap();
            assert!(!done.cancel() && !done.cancelled());
        });
    }

    fn an_await_takes_the_value_and_the_next_is_told_so(rt: Runtime) {
        rt.block_on(async {
            let promise = Promise::new();
            let again = promise.clone();
            promise.set_result(String::from("one")).unwrap();
            assert_eq!(promise.await.unwrap(), "one");
            assert!(again.result().unwrap_err().is_invalid_state());
            assert!(again.await.unwrap_err().is_invalid_state());
        });
    }

    fn s4_08_whoever_waits_for_what_nobody_can_set_is_cancelled(rt: Runtime) {
        rt.block_on(async {
            // The setter goes while it is awaited.
            let promise = Promise::<u8>::new();
            let setter = promise.clone();
            let waiting = spawn(promise);
            for _ in 0..3 { yield_now().await }
            drop(setter);
            assert!(waiting.await.unwrap().unwrap_err().is_cancelled());
            // It was gone before.
            assert!(Promise::<u8>::new().await.unwrap_err().is_cancelled());
            // Two may wait for each other's value.
            let promise = Promise::<u8>::new();
            let (mut one, two) = (promise.clone(), promise);
            let other = spawn(two.shared());
            assert!(poll_once(&mut one).await.is_none());
            one.set_result(3).unwrap();
            assert_eq!(other.await.unwrap().unwrap(), 3);
            // Nobody is left at all: the callbacks are told.
            let log = Log::default();
            let called = log.clone();
            Promise::<u8>::new().add_done_callback(move |promise| {
                assert!(promise.cancelled());
                called.lock().unwrap().push("called");
            });
            eventually_async("called", || seen(&log) == ["called"]).await;
        });
    }

    fn s4_08_a_task_that_is_cancelled_lets_go_of_its_clone(rt: Runtime) {
        rt.block_on(async {
            let promise = Promise::<u8>::new();
            let setter = promise.clone();
            let holder = spawn(pending_with(setter));
            let waiting = spawn(promise);
            for _ in 0..3 { yield_now().await }
            holder.cancel();
            assert!(waiting.await.unwrap().unwrap_err().is_cancelled());
        });
    }

    fn s2_09_s0_04_callbacks_come_in_order_of_registration_once_each(rt: Runtime) {
        rt.block_on(async {
            let (order, promise) = (Arc::new(Mutex::new(Vec::new())), Promise::new());
            for n in 0..100 {
                let order = order.clone();
                promise.add_done_callback(move |promise| {
                    assert_eq!(promise.result().unwrap(), 5);
                    order.lock().unwrap().push(n);
                });
            }
            promise.set_result(5).unwrap();
            eventually_async("all are called", || order.lock().unwrap().len() == 100).await;
            assert!(order.lock().unwrap().is_sorted());
        });
    }

    fn s2_11_a_registration_can_be_taken_back_once(rt: Runtime) {
        rt.block_on(async {
            let (log, promise, probe) = (Log::default(), Promise::<u8>::new(), DropProbe::new());
            let first = promise.add_done_callback(note(&log, "1"));
            let guard = probe.guard();
            let second = promise.add_done_callback(move |_| drop(guard));
            promise.add_done_callback(note(&log, "3"));
            assert_ne!(first, second);
            assert!(promise.remove_done_callback(second));
            assert_eq!(probe.count(), 1, "dropped at once");
            assert!(!promise.remove_done_callback(second));
            promise.set_result(1).unwrap();
            eventually_async("the others are called", || seen(&log) == ["1", "3"]).await;
            assert!(!promise.remove_done_callback(first));
        });
    }

    fn callbacks_that_panic_are_reported_and_the_others_run(flavour: common::Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let (log, promise) = (Log::default(), Promise::<u8>::new());
            promise.add_done_callback(|_| panic!("on purpose"));
            promise.add_done_callback(note(&log, "called"));
            promise.set_result(1).unwrap();
            eventually_async("called", || seen(&log) == ["called"]).await;
            assert_eq!(reports.of_panic("on purpose"), 1);
            assert_eq!(reports.all()[0].message(), "Exception in callback");
            assert!(reports.all()[0].location().unwrap().file().ends_with("promise.rs"));
        });
        let _ = flavour;
    }

    fn n21_an_error_nobody_retrieved_is_reported_once(flavour: common::Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let lost = Promise::<u8>::new();
            let again = lost.clone();
            lost.set_exception("lost").unwrap();
            drop(lost);
            assert_eq!(reports.all().len(), 0, "there is a clone");
            drop(again);
            assert_eq!(reports.all().len(), 1);
            assert_eq!(reports.all()[0].message(), "Future exception was never retrieved");
            assert_eq!(reports.all()[0].panic_message(), Some("lost"));

            let awaited = Promise::<u8>::new();
            awaited.set_exception("awaited").unwrap();
            awaited.await.unwrap_err();
            let looked_at = Promise::<u8>::new();
            looked_at.set_exception("looked at").unwrap();
            let _ = looked_at.exception();
            drop(looked_at);
            let cancelled = Promise::<u8>::new();
            cancelled.set_exception("cancelled").unwrap();
            assert!(!cancelled.cancel());
            drop(cancelled);
            assert_eq!(reports.all().len(), 1, "these were silenced");
        });
        let _ = flavour;
    }

    fn n21_an_error_lost_off_the_loops_is_reported_as_well(flavour: common::Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        let lose = || Promise::<u8>::new().set_exception("lost").unwrap();
        rt.block_on(async { epicycle::run_in_executor(lose).await.unwrap() });
        let entered = rt.handle().enter();
        lose();
        drop(entered);
        assert_eq!(reports.all().len(), 2);
        let _ = flavour;
    }

    fn s0_14_s3_35_a_chain_carries_outcomes_down_and_cancellation_up(rt: Runtime) {
        rt.block_on(async {
            let pair = || {
                let (source, destination) = (Promise::<u8>::new(), Promise::<u8>::new());
                source.chain(&destination);
                (source, destination)
            };
            let (source, destination) = pair();
            source.set_result(1).unwrap();
            assert_eq!(destination.await.unwrap(), 1);
            assert_eq!(source.result().unwrap(), 1, "a copy");

            let (source, destination) = pair();
            source.set_exception("broken").unwrap();
            assert_eq!(destination.await.unwrap_err().exception().unwrap().to_string(), "broken");

            let (source, destination) = pair();
            source.cancel();
            assert!(destination.await.unwrap_err().is_cancelled());

            let (source, destination) = pair();
            destination.cancel();
            eventually_async("the source is cancelled", || source.cancelled()).await;

            // The source is abandoned.
            let (source, destination) = pair();
            drop(source);
            assert!(destination.await.unwrap_err().is_cancelled());

            // Too late, either way.
            let (source, destination) = pair();
            destination.set_result(2).unwrap();
            source.set_result(1).unwrap();
            for _ in 0..4 { yield_now().await }
            assert_eq!((source.result().unwrap(), destination.result().unwrap()), (1, 2));
        });
    }

    fn s3_35_what_completes_after_the_runtime_ended_is_dropped_in_silence(rt: Runtime) {
        let (source, destination) = rt.block_on(async { (Promise::<u8>::new(), Promise::<u8>::new()) });
        source.chain(&destination);
        let (probe, promise) = (DropProbe::new(), destination.clone());
        let guard = probe.guard();
        promise.add_done_callback(move |_| drop(guard));
        drop(rt);
        thread::spawn(move || source.set_result(1).unwrap()).join().unwrap();
        destination.set_result(2).unwrap();
        assert_eq!(destination.result().unwrap(), 2);
        eventually("the callback is gone", || probe.count() == 1);
    }

    fn s4_10_a_long_chain_of_completions_does_not_grow_the_stack(rt: Runtime) {
        const LINKS: usize = 100_000;
        rt.block_on(async {
            // By callbacks.
            let first = Promise::new();
            let mut last = first.clone();
            for _ in 0..LINKS {
                let next = Promise::new();
                let to = next.clone();
                last.add_done_callback(move |from| to.set_result(from.result().unwrap() + 1).unwrap());
                last = next;
            }
            first.set_result(0).unwrap();
            assert_eq!(last.await.unwrap(), LINKS);
            // Abandoned, from one to the next.
            let first = Promise::<u8>::new();
            let mut last = first.clone();
            for _ in 0..LINKS {
                let next = Promise::new();
                last.chain(&next);
                last = next;
            }
            drop(first);
            assert!(last.await.unwrap_err().is_cancelled());
        });
    }

    fn s4_10_nor_does_one_that_the_end_of_the_runtime_breaks(rt: Runtime) {
        let (first, last) = rt.block_on(async {
            let first = Promise::<u8>::new();
            let mut last = first.clone();
            for _ in 0..20_000 {
                let next = Promise::new();
                last.chain(&next);
                last = next;
            }
            (first, last)
        });
        drop(rt);
        drop(first);
        assert!(futures_lite::future::block_on(last).unwrap_err().is_cancelled());
    }

    fn n22_a_task_that_nobody_refers_to_lives_on(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            let promise = Promise::<u8>::new();
            let (waiting, guard) = (promise.clone(), probe.guard());
            drop(spawn(async move { let _ = waiting.await; drop(guard) }));
            for _ in 0..10 { yield_now().await }
            assert_eq!(probe.count(), 0, "pending, and not destroyed");
            promise.set_result(1).unwrap();
            eventually_async("it went on", || probe.count() == 1).await;
        });
    }

    fn a_dropped_await_takes_nothing_and_leaves_nothing(rt: Runtime) {
        rt.block_on(async {
            let promise = Promise::new();
            let (count, waker) = common::CountWakes::new();
            let mut waiting = promise.clone();
            assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waiting);
            assert_eq!(Arc::strong_count(&count), 2, "the promise has let go of the waker");
            promise.set_result(4).unwrap();
            assert_eq!(count.count(), 0);
            assert_eq!(promise.await.unwrap(), 4);
        });
    }

    fn wakers_may_do_what_they_like(rt: Runtime) {
        /// Looks at the promise whenever it is woken or dropped: a deadlock if that happened under the lock.
        struct Nosy(Promise<u8>, AtomicBool);
        impl Wake for Nosy {
            fn wake(self: Arc<Self>) {
                assert!(self.0.done());
                self.1.store(true, SeqCst);
            }
        }
        impl Drop for Nosy {
            fn drop(&mut self) {
                let _ = self.0.done();
            }
        }
        rt.block_on(async {
            let promise = Promise::new();
            let mut waiting = promise.clone();
            for _ in 0..2 {
                // The second takes the first one's place.
                let waker = Waker::from(Arc::new(Nosy(promise.clone(), AtomicBool::new(false))));
                assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(&waker)).is_pending());
            }
            let nosy = Arc::new(Nosy(promise.clone(), AtomicBool::new(false)));
            assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(&Waker::from(nosy.clone()))).is_pending());
            promise.set_result(1).unwrap();
            assert!(nosy.1.load(SeqCst));
            assert_eq!(Pin::new(&mut waiting).poll(&mut Context::from_waker(Waker::noop())).map(Result::unwrap), Poll::Ready(1));
        });
    }

    fn a_clone_that_looks_at_its_own_promise_does_not_hang(rt: Runtime) {
        struct Curious(Arc<Mutex<Option<Promise<Curious>>>>, usize);
        impl Clone for Curious {
            fn clone(&self) -> Self {
                let promise = self.0.lock().unwrap().take();
                let depth = match &promise {
                    Some(promise) => {
                        assert!(promise.take_result().is_err(), "it is being copied");
                        promise.result().unwrap().1
                    }
                    None => self.1,
                };
                Curious(self.0.clone(), depth + 1)
            }
        }
        rt.block_on(async {
            let (promise, slot) = (Promise::new(), Arc::new(Mutex::new(None)));
            promise.set_result(Curious(slot.clone(), 0)).map_err(drop).unwrap();
            *slot.lock().unwrap() = Some(promise.clone());
            let copy = promise.result().map_err(drop).unwrap();
            assert_eq!(copy.1, 2);
            slot.lock().unwrap().take();
        });
    }

    fn many_threads_may_set_wait_and_cancel_at_once(rt: Runtime) {
        let (set, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let called = Arc::new(AtomicUsize::new(0));
        for round in 0..50usize {
            let handle = rt.handle();
            let entered = handle.enter();
            let promise = Promise::new();
            drop(entered);
            let setters: Vec<_> = (0..3)
                .map(|n| {
                    let (promise, set, cancelled) = (promise.clone(), set.clone(), cancelled.clone());
                    thread::spawn(move || {
                        match (n + round) % 3 {
                            0 => _ = cancelled.fetch_add(usize::from(promise.cancel()), SeqCst),
                            n => _ = set.fetch_add(usize::from(promise.set_result(n).is_ok()), SeqCst),
                        }
                    })
                })
                .collect();
            let waiting: Vec<_> = (0..3).map(|_| rt.spawn(promise.clone().shared())).collect();
            let calls = called.clone();
            promise.add_done_callback(move |_| _ = calls.fetch_add(1, SeqCst));
            rt.block_on(async {
                for task in waiting {
                    let result = task.await.unwrap();
                    assert_eq!(result.is_err(), promise.cancelled());
                }
            });
            for setter in setters {
                setter.join().unwrap();
            }
        }
        assert_eq!(set.load(SeqCst) + cancelled.load(SeqCst), 50);
        rt.block_on(eventually_async("all callbacks are called", || called.load(SeqCst) == 50));
    }

    fn a_promise_of_no_runtime_takes_the_first_it_meets(rt: Runtime) {
        let promise = Promise::<u8>::new();
        panics_with("no epicycle runtime would run this callback", || promise.add_done_callback(|_| {}));
        let handle: RuntimeHandle = rt.handle();
        let called = Arc::new(AtomicBool::new(false));
        let enter = handle.enter();
        let calls = called.clone();
        promise.add_done_callback(move |_| calls.store(true, SeqCst));
        drop(enter);
        thread::spawn({ let promise = promise.clone(); move || promise.set_result(1) }).join().unwrap().unwrap();
        rt.block_on(eventually_async("called", || called.load(SeqCst)));
        assert_eq!(rt.block_on(promise).unwrap(), 1);
    }
}
