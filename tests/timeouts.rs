//! Limits against asyncio's rows N36 to N42; `tests/time.rs` has the rest of `timeout` and `wait_for`.
//!
//! Lower bounds are exact; upper ones are not asserted.

mod common;

use std::future::{pending, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{DropProbe, Flag, eventually_async, on_one_loop, pending_with, turns_of};
use epicycle::time::{ScopedTimeout, TimeoutScope, sleep, timeout, timeout_scope, wait_for};
use epicycle::{Runtime, spawn, spawn_local, yield_now};
use futures_lite::future::poll_once;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1000);

#[test]
fn scopes_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<TimeoutScope>();
    check::<ScopedTimeout<std::future::Ready<()>>>();
}

#[test]
fn c05_n36_hops_a_limit_adds_no_turns() {
    on_one_loop(async |event_loop| {
        assert_eq!(turns_of(&event_loop, async { timeout(LONG, ready(1)).await.unwrap() }).await, 0);
        assert_eq!(turns_of(&event_loop, async { timeout_scope(LONG, |_| ready(1)).await.unwrap() }).await, 0);
        assert_eq!(turns_of(&event_loop, async { timeout_scope(LONG, |_| yield_now()).await.unwrap() }).await, 1);
        let task = async { wait_for(spawn_local(async {}), LONG).await.unwrap().unwrap() };
        assert_eq!(turns_of(&event_loop, task).await, 2, "the task's own");
        let moved = async {
            let body = |scope: TimeoutScope| async move {
                scope.reschedule(None);
                yield_now().await;
                scope.reschedule(Some(Instant::now() + LONG));
                yield_now().await;
            };
            timeout_scope(LONG, body).await.unwrap();
        };
        assert_eq!(turns_of(&event_loop, moved).await, 2);
    });
}

#[test]
fn n38_a_cancel_at_the_same_moment_as_success_or_expiry_is_not_lost() {
    on_one_loop(async |_| {
        for limit in [LONG, 200 * MS] {
            let (after, flag) = (Arc::new(AtomicUsize::new(0)), Flag::new());
            let (reached, wait) = (after.clone(), flag.clone());
            let inner = spawn_local(async move { wait.wait().await });
            let outer = spawn_local(async move {
                let _ = wait_for(inner, limit).await;
                reached.fetch_add(1, SeqCst);
            });
            for _ in 0..3 {
                yield_now().await;
            }
            // In one turn: the reason to wake, and the cancel.
            match limit {
                LONG => flag.set(),
                _ => thread::sleep(limit),
            }
            yield_now().await;
            assert!(outer.cancel());
            assert!(outer.await.unwrap_err().is_cancelled());
            assert_eq!(after.load(SeqCst), 0);
        }
    });
}

common::flavours! {
    fn n37_timeout_scope_drops_its_body_before_it_returns(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            assert!(timeout_scope(2 * MS, |_| pending_with(probe.guard())).await.is_err());
            assert_eq!(probe.count(), 1);
            // The body is polled at least once.
            assert_eq!(timeout_scope(Duration::ZERO, |_| ready(1)).await, Ok(1));
            assert!(timeout_scope(Duration::ZERO, |_| pending::<()>()).await.is_err());
        });
    }

    fn n39_only_the_limits_own_end_is_a_timeout(rt: Runtime) {
        rt.block_on(async {
            // A task cancelled inside stays cancelled.
            let victim = spawn(pending::<()>());
            victim.cancel();
            let seen = timeout_scope(LONG, |_| victim).await;
            assert!(seen.unwrap().unwrap_err().is_cancelled());
            // A cancel from outside goes through: nothing after the scope runs.
            let after = Arc::new(AtomicUsize::new(0));
            let reached = after.clone();
            let outer = spawn(async move {
                let _ = timeout_scope(LONG, |_| pending::<()>()).await;
                reached.fetch_add(1, SeqCst);
            });
            for _ in 0..5 { yield_now().await }
            outer.cancel();
            assert!(outer.await.unwrap_err().is_cancelled());
            assert_eq!(after.load(SeqCst), 0);
            // An error of the body's own that looks the same is the body's.
            let own = timeout_scope(LONG, |_| timeout(Duration::ZERO, pending::<()>())).await;
            assert!(matches!(own, Ok(Err(_))));
        });
    }

    fn n40_nested_scopes_know_which_of_them_were_reached(rt: Runtime) {
        rt.block_on(async {
            let mut scopes = Vec::new();
            let outer = timeout_scope(2 * MS, |outer| {
                scopes.push(outer);
                let inner = timeout_scope(LONG, |_| pending::<()>());
                scopes.push(inner.scope().clone());
                inner
            });
            assert!(outer.await.is_err());
            assert_eq!((scopes[0].expired(), scopes[1].expired()), (true, false));

            // Both at the same time: the inner one is an error to the code around it, and the outer one knows.
            let deadline = Instant::now() + 5 * MS;
            let outer = timeout_scope(LONG, |scope| async move {
                scope.reschedule(Some(deadline));
                let inner = timeout_scope(LONG, |scope| async move {
                    scope.reschedule(Some(deadline));
                    pending::<()>().await;
                });
                let scope = inner.scope().clone();
                assert!(inner.await.is_err());
                assert!(scope.expired());
            });
            let scope = outer.scope().clone();
            let _ = outer.await;
            assert!(scope.expired());
        });
    }

    fn n41_a_deadline_can_be_moved_and_taken_away_while_the_scope_is_active(rt: Runtime) {
        rt.block_on(async {
            // Nearer, from inside.
            let start = Instant::now();
            let sooner = timeout_scope(LONG, |scope| async move {
                assert!(scope.when().unwrap() > Instant::now() + LONG / 2);
                assert!(scope.reschedule(Some(start + 5 * MS)));
                assert_eq!(scope.when(), Some(start + 5 * MS));
                pending::<()>().await
            });
            assert!(sooner.await.is_err());
            assert!(start.elapsed() >= 5 * MS);
            // Further, after it was armed; then none at all.
            let start = Instant::now();
            let later = timeout_scope(5 * MS, |scope| async move {
                yield_now().await;
                scope.reschedule(Some(start + 15 * MS));
                sleep(8 * MS).await;
                scope.reschedule(None);
                assert_eq!(scope.when(), None);
                sleep(20 * MS).await;
                8
            });
            let scope = later.scope().clone();
            // A thread that was held up may have been too late to move it.
            match later.await {
                Ok(value) => assert!(value == 8 && !scope.expired()),
                Err(_) => assert!(scope.expired()),
            }
            // From another task, while the body sleeps.
            let waiting = timeout_scope(LONG, |_| pending::<()>());
            let scope = waiting.scope().clone();
            let other = spawn(async move {
                sleep(5 * MS).await;
                scope.reschedule(Some(Instant::now()))
            });
            let scope = waiting.scope().clone();
            assert!(waiting.await.is_err());
            assert!(other.await.unwrap());
            assert!(!scope.reschedule(None), "it has ended");
            // Given up, it has ended, too.
            let dropped = timeout_scope(LONG, |_| pending::<()>());
            let scope = dropped.scope().clone();
            let mut dropped = Box::pin(dropped);
            assert!(poll_once(&mut dropped).await.is_none());
            drop(dropped);
            assert!(!scope.reschedule(None) && !scope.expired());
        });
        assert_eq!(rt.metrics().loops.iter().map(|each| each.timers_pending).sum::<usize>(), 0);
    }

    fn n42_a_body_that_is_ready_at_the_deadline_keeps_its_value_and_expired_says_so(rt: Runtime) {
        rt.block_on(async {
            let value = Flag::new();
            let mut scoped = pin!(timeout_scope(10 * MS, |_| value.wait()));
            let scope = scoped.scope().clone();
            let first = poll_once(scoped.as_mut()).await;
            if first.is_none() {
                value.set();
                thread::sleep(11 * MS);
                assert_eq!(scoped.await, Ok(()));
            }
            assert!(scope.expired());
            let in_time = timeout_scope(LONG, |_| ready(1));
            let scope = in_time.scope().clone();
            assert_eq!(in_time.await, Ok(1));
            assert!(!scope.expired());
        });
    }

    fn n37_n39_wait_for_on_a_gather_cancels_its_children(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            let started = Arc::new(AtomicUsize::new(0));
            let children: Vec<_> = (0..3).map(|_| {
                let (guard, started) = (probe.guard(), started.clone());
                async move { started.fetch_add(1, SeqCst); pending_with(guard).await }
            }).collect();
            let limited = wait_for(spawn(epicycle::gather(children)), 20 * MS).await;
            assert!(limited.is_err());
            eventually_async("all children are gone", || probe.count() == 3).await;
        });
    }
}
