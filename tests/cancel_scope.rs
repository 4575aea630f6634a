//! Cancel scopes: asking work to stop. Which checkpoints fail, whose cancellation it is, and that none gets lost.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, ready};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{CountPolls, DropProbe, Flag, eventually_async, panics_with, with_timeout};
use epicycle::cancel::{CancelScope, Cancelled, Ended};
use epicycle::time::{sleep, timeout};
use epicycle::{EventLoop, Runtime, TaskGroup, spawn, yield_now};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Never ends, some awaits down.
async fn deeper(depth: usize) -> io::Result<()> {
    if depth == 0 { pending().await } else { Box::pin(deeper(depth - 1)).await }
}

type End<T> = Result<Ended<T>, Cancelled>;

/// A scope whose deadline has passed.
fn expired() -> CancelScope {
    CancelScope::new().with_deadline(Instant::now())
}

common::flavours! {
    // ------------------------------------------------------------------------------------------------ requests

    fn n24_a_body_may_catch_the_request_and_return_a_value(rt: Runtime) {
        rt.block_on(async {
            let (scope, begun) = (CancelScope::new(), Flag::new());
            let (stop, set) = (scope.clone(), begun.clone());
            let task = spawn(async move {
                scope.run(async |scope| {
                    set.set();
                    assert!(scope.guard(pending::<()>()).await.is_err());
                    yield_now().await;
                    Ok::<_, Cancelled>(42)
                }).await
            });
            begun.wait().await;
            assert!(stop.cancel(), "pending, so it is told");
            assert!(!task.cancelled(), "asked is not ended");
            assert_eq!(task.await.unwrap(), Ok(Ended::Finished(42)));
            assert!(!stop.cancel(), "too late");
            assert_eq!(stop.cancelling(), 1);
        });
    }

    fn n25_a_scope_cancelled_before_its_body_fails_the_first_checkpoint(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            scope.cancel();
            let (future, polls) = CountPolls::new(ready(()));
            let end: End<()> = scope.run(async |scope| scope.guard(future).await).await;
            assert!(end.unwrap().is_cancelled());
            assert_eq!(polls.load(SeqCst), 0, "never begun");
        });
    }

    fn n26_a_cancel_reaches_the_innermost_future(rt: Runtime) {
        rt.block_on(async {
            // By dropping, through awaits, a guarded task and a group.
            let (probe, begun) = (DropProbe::new(), Flag::new());
            let (guard, set) = (probe.guard(), begun.clone());
            let task = spawn(async move {
                let inner = spawn(async move {
                    TaskGroup::scope(async |group| {
                        group.spawn(async move {
                            let _guard = guard;
                            set.set();
                            deeper(2).await
                        });
                    }).await
                });
                inner.cancel_on_drop().await
            });
            begun.wait().await;
            assert!(task.cancel());
            assert!(task.await.unwrap_err().is_cancelled());
            eventually_async("the innermost is gone", || probe.count() == 1).await;
            // By asking, through scopes and functions.
            async fn innermost(scope: &CancelScope) -> Result<(), Cancelled> {
                scope.child().guard(pending::<()>()).await
            }
            let scope = CancelScope::new().with_timeout(MS);
            let end: End<()> = scope.run(async |scope| async { innermost(scope).await }.await).await;
            assert!(end.unwrap().is_cancelled());
        });
    }

    fn n27_requests_are_counted_and_can_be_taken_back(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            assert_eq!((scope.cancelling(), scope.uncancel()), (0, 0));
            assert!(scope.cancel_with("first") && scope.cancel_with("second"));
            assert_eq!(scope.cancelling(), 2);
            assert_eq!(scope.check().unwrap_err().reason(), Some("first"));
            assert_eq!(scope.uncancel(), 1);
            assert!(scope.is_cancelled());
            assert_eq!(scope.uncancel(), 0);
            scope.check().unwrap();
            // One that was not delivered is dropped at zero.
            let end: End<_> = scope.run(async |scope| {
                scope.cancel();
                scope.uncancel();
                scope.guard(yield_now()).await?;
                scope.checkpoint().await?;
                Ok(scope.cancelling())
            }).await;
            assert_eq!(end, Ok(Ended::Finished(0)));
            let again = CancelScope::new();
            again.cancel_with("old");
            again.uncancel();
            again.cancel();
            assert_eq!(again.check().unwrap_err().reason(), None, "the reason goes with its requests");
        });
    }

    fn n27_a_waiter_whose_request_was_taken_back_goes_on_waiting(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            let mut waiting = std::pin::pin!(scope.cancelled());
            assert!(timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
            scope.cancel();
            scope.uncancel();
            assert!(timeout(2 * MS, waiting.as_mut()).await.is_err());
            scope.cancel();
            assert!(waiting.await.is_of(&scope));
        });
    }

    fn level_every_later_checkpoint_fails_again(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            let failures = Cell::new(0);
            let end: End<()> = scope.run(async |scope| {
                scope.cancel();
                for _ in 0..5 {
                    failures.set(failures.get() + usize::from(scope.guard(ready(())).await.is_err()));
                    failures.set(failures.get() + usize::from(scope.check().is_err()));
                    failures.set(failures.get() + usize::from(scope.checkpoint().await.is_err()));
                    let _ = scope.cancelled().await;
                }
                yield_now().await;
                scope.check()
            }).await;
            assert!(end.unwrap().is_cancelled());
            assert_eq!(failures.get(), 15);
        });
    }

    fn a_reason_travels_with_the_error(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            scope.cancel_with(String::from("made up"));
            let Ok(Ended::Cancelled(cancelled)) = scope.run(async |scope| scope.child().check()).await else { panic!() };
            assert_eq!((cancelled.reason(), cancelled.is_timeout()), (Some("made up"), false));
            assert_eq!(cancelled.to_string(), "cancelled: made up");
            assert_eq!(io::Error::from(cancelled).kind(), io::ErrorKind::Other);
            let late = expired().check().unwrap_err();
            assert!(late.is_timeout() && late.reason().is_none());
            assert_eq!(io::Error::from(late).kind(), io::ErrorKind::TimedOut);
        });
    }

    // ------------------------------------------------------------------------------------------------ the tree

    fn tree_children_are_cancelled_with_their_parents_but_not_the_other_way_round(rt: Runtime) {
        rt.block_on(async {
            let root = CancelScope::new();
            let (left, right) = (root.child(), root.child());
            let leaf = left.child();
            let waiting: Vec<_> = [&root, &left, &right, &leaf].map(|scope| {
                let scope = scope.clone();
                spawn(async move { scope.cancelled().await })
            }).into_iter().collect();
            left.cancel_with("left");
            assert!(leaf.is_cancelled() && !right.is_cancelled() && !root.is_cancelled());
            assert!(leaf.check().unwrap_err().is_of(&left));
            root.cancel_with("root");
            assert!(right.is_cancelled());
            assert!(leaf.check().unwrap_err().is_of(&root), "the outermost speaks");
            for task in waiting { task.await.unwrap(); }
            // A child of a cancelled scope is born cancelled.
            assert!(leaf.child().is_cancelled());
        });
    }

    fn tree_a_shield_hides_what_is_around_and_nothing_else(rt: Runtime) {
        rt.block_on(async {
            let outer = CancelScope::new();
            let shielded = outer.shielded();
            let inner = shielded.child();
            outer.cancel();
            assert!(shielded.is_shielded() && !shielded.is_cancelled() && !inner.is_cancelled());
            let waiter = spawn({ let inner = inner.clone(); async move { inner.cancelled().await } });
            yield_now().await;
            assert!(!waiter.done());
            shielded.set_shield(false);
            assert!(waiter.await.unwrap().is_of(&outer), "lowering it wakes who waits");
            shielded.set_shield(true);
            assert!(!inner.is_cancelled());
            shielded.cancel();
            assert!(inner.check().unwrap_err().is_of(&shielded));
        });
    }

    fn tree_clean_up_in_a_shielded_scope_may_be_limited(rt: Runtime) {
        rt.block_on(async {
            let steps = RefCell::new(Vec::new());
            let scope = CancelScope::new();
            scope.cancel();
            let end: End<()> = scope.run(async |scope| {
                let work = scope.guard(ready(())).await;
                let quick = scope.shielded().with_timeout(HOUR);
                let end: End<()> = quick.run(async |limit| { limit.guard(sleep(MS)).await?; limit.checkpoint().await }).await;
                steps.borrow_mut().push(end.unwrap().finished().is_some());
                let slow = scope.shielded().with_timeout(MS);
                let end: End<()> = slow.run(async |limit| limit.guard(sleep(HOUR)).await).await;
                steps.borrow_mut().push(end.unwrap().is_cancelled());
                work
            }).await;
            assert!(end.unwrap().is_cancelled());
            assert_eq!(*steps.borrow(), [true, true]);
        });
    }

    fn tree_scopes_reach_tasks_on_all_loops(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            let waiting = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..40).map(|i| {
                let (child, waiting) = (scope.child(), waiting.clone());
                let work = move || async move {
                    let child = if i % 2 == 0 { child.child() } else { child };
                    waiting.fetch_add(1, SeqCst);
                    child.guard(pending::<()>()).await
                };
                rt.loops()[i % rt.loops().len()].spawn_local(work)
            }).collect();
            eventually_async("all have begun", || waiting.load(SeqCst) == 40).await;
            scope.cancel_with("all of you");
            for task in tasks {
                assert_eq!(task.await.unwrap().unwrap_err().reason(), Some("all of you"));
            }
        });
    }

    // ------------------------------------------------------------------------------------------------ deadlines

    fn n38_gh_86296_a_cancel_at_the_moment_of_success_is_not_lost(rt: Runtime) {
        rt.block_on(async {
            // The value is ready and the scope is cancelled when the guard looks: the value wins, and the next checkpoint fails.
            let scope = CancelScope::new();
            let stop = scope.clone();
            let end = scope.run(async |scope| {
                let value = scope.guard(async { yield_now().await; stop.cancel(); 7 }).await?;
                assert_eq!(value, 7);
                scope.check()?;
                Ok::<_, Cancelled>(value)
            }).await;
            assert!(end.unwrap().is_cancelled());
            // The same with a timeout in between, which swallows nothing.
            let scope = CancelScope::new();
            let end = scope.run(async |scope| {
                let value = timeout(HOUR, scope.guard(async { scope.cancel(); 7 })).await;
                assert_eq!(value, Ok(Ok(7)));
                let late = timeout(Duration::ZERO, scope.guard(pending::<()>())).await;
                assert!(late.unwrap().is_err());
                scope.checkpoint().await
            }).await;
            assert!(end.unwrap().is_cancelled());
        });
    }

    fn n38_gh_86296_an_outer_cancel_while_an_inner_limit_expires_is_not_lost(rt: Runtime) {
        rt.block_on(async {
            let outer = CancelScope::new();
            let end: End<()> = outer.run(async |outer| {
                let inner = outer.child().with_timeout(MS);
                let end = inner.run(async |inner| {
                    let end = inner.guard(pending::<()>()).await;
                    assert!(end.as_ref().unwrap_err().is_of(inner));
                    // While the inner error is on its way up.
                    outer.cancel();
                    end
                }).await;
                assert!(end.unwrap_err().is_of(outer));
                outer.check()
            }).await;
            assert!(end.unwrap().is_cancelled());
        });
    }

    fn n39_a_scope_takes_only_its_own_cancellation_for_its_own(rt: Runtime) {
        rt.block_on(async {
            let stranger = CancelScope::new();
            stranger.cancel_with("not you");
            let scope = expired();
            let end: End<()> = scope.run(async |_| stranger.check()).await;
            assert!(end.unwrap_err().is_of(&stranger));
            let other = expired();
            let end: Result<Ended<()>, io::Error> = other.run(async |_| Err(io::Error::other("mine"))).await;
            assert_eq!(end.unwrap_err().to_string(), "mine", "and other errors escape as they are");
        });
    }

    fn n40_of_nested_limits_that_expire_together_the_outermost_speaks(rt: Runtime) {
        rt.block_on(async {
            let ends = RefCell::new(Vec::new());
            let deadline = Instant::now() + 2 * MS;
            let outer = CancelScope::new().with_deadline(deadline);
            let end: End<()> = outer.run(async |outer| {
                let middle = outer.child().with_deadline(deadline);
                let end: End<()> = middle.run(async |middle| {
                    let inner = middle.child().with_deadline(deadline);
                    let end: End<()> = inner.run(async |inner| inner.guard(sleep(HOUR)).await).await;
                    ends.borrow_mut().push(end.clone());
                    end.map(|_| ())
                }).await;
                ends.borrow_mut().push(end.clone());
                end.map(|_| ())
            }).await;
            assert!(end.unwrap().is_cancelled());
            for end in ends.into_inner() { assert!(end.unwrap_err().is_of(&outer)); }
        });
    }

    fn n40_an_inner_limit_alone_is_the_inner_scopes_affair(rt: Runtime) {
        rt.block_on(async {
            let outer = CancelScope::new().with_timeout(HOUR);
            let end: End<u8> = outer.run(async |outer| {
                let inner = outer.child().with_timeout(MS);
                let end: End<()> = inner.run(async |inner| inner.guard(pending()).await).await;
                assert!(matches!(end?, Ended::Cancelled(cancelled) if cancelled.is_timeout() && cancelled.is_of(&inner)));
                outer.check()?;
                Ok(1)
            }).await;
            assert_eq!(end, Ok(Ended::Finished(1)));
            assert!(!outer.expired());
        });
    }

    fn n41_a_deadline_can_be_moved_while_the_scope_is_active_only(rt: Runtime) {
        rt.block_on(async {
            // Earlier, while somebody waits for a later one.
            let scope = CancelScope::new().with_timeout(HOUR);
            let waiter = spawn({ let scope = scope.clone(); async move { scope.child().cancelled().await } });
            yield_now().await;
            assert!(scope.set_deadline(Some(Instant::now() + MS)));
            assert!(waiter.await.unwrap().is_timeout());
            assert!(!scope.set_deadline(None), "it was reached");
            assert!(scope.is_cancelled());
            // Later, or away.
            let scope = CancelScope::new().with_timeout(20 * MS);
            let end: End<()> = scope.run(async |scope| {
                assert!(scope.set_deadline(None) && scope.deadline().is_none());
                scope.guard(sleep(40 * MS)).await
            }).await;
            assert_eq!(end, Ok(Ended::Finished(())));
            assert!(!scope.set_deadline(Some(Instant::now())), "its body has ended");
            assert!(!scope.expired() && !scope.is_cancelled());
        });
    }

    fn n41_a_scope_runs_one_body(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            let end: End<()> = scope.run(async |_| Ok(())).await;
            assert!(end.is_ok());
            panics_with("one body", || drop(scope.run(async |_| Ok::<_, Cancelled>(()))));
        });
    }

    fn n42_a_body_that_finishes_despite_expiry_keeps_its_value(rt: Runtime) {
        rt.block_on(async {
            let scope = expired();
            let end: End<u8> = scope.run(async |scope| {
                assert!(scope.is_cancelled());
                yield_now().await;
                Ok(3)
            }).await;
            assert_eq!(end, Ok(Ended::Finished(3)));
            assert!(scope.expired());
            let early = CancelScope::new().with_timeout(5 * MS);
            let end: End<u8> = early.run(async |_| Ok(3)).await;
            assert_eq!(end, Ok(Ended::Finished(3)));
            sleep(10 * MS).await;
            assert!(!early.expired(), "what passes after the end does not count");
        });
    }

    fn curio_three_outcomes_are_kept_apart(rt: Runtime) {
        async fn attempt(outer: &CancelScope, inner: &CancelScope, error: bool) -> &'static str {
            let end: Result<Ended<Result<Ended<()>, io::Error>>, Cancelled> = outer.run(async |_| {
                let end = inner.run(async |inner| {
                    if error { return Err(io::Error::other("escaped")); }
                    inner.guard(pending::<()>()).await?;
                    Ok(())
                }).await;
                Ok(end)
            }).await;
            match end.unwrap().finished().unwrap() {
                Ok(Ended::Finished(())) => "finished",
                Ok(Ended::Cancelled(_)) => "mine",
                Err(error) => match epicycle::cancel::CarriesCancelled::as_cancelled(&error) {
                    Some(cancelled) if cancelled.is_of(outer) => "an outer one's",
                    _ => "escaped",
                },
            }
        }
        rt.block_on(async {
            let outer = CancelScope::new();
            assert_eq!(attempt(&outer, &outer.child().with_timeout(MS), false).await, "mine");
            let outer = CancelScope::new().with_timeout(MS);
            assert_eq!(attempt(&outer, &outer.child().with_timeout(HOUR), false).await, "an outer one's");
            let outer = CancelScope::new();
            assert_eq!(attempt(&outer, &outer.child().with_timeout(HOUR), true).await, "escaped");
        });
    }

    fn deadlines_of_any_length_are_accepted(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new().with_timeout(Duration::MAX);
            assert_eq!(scope.guard(sleep(MS)).await, Ok(()));
            let scope = CancelScope::new().with_timeout(Duration::ZERO);
            assert!(scope.guard(ready(())).await.unwrap_err().is_timeout());
        });
    }

    // ------------------------------------------------------------------------------------------------ dropping

    fn n47_dropping_the_run_drops_the_body_and_tells_the_scopes_below(rt: Runtime) {
        rt.block_on(async {
            let (probe, scope) = (DropProbe::new(), CancelScope::new());
            let below = scope.child();
            let run = scope.run(async |scope| {
                let _guard = probe.guard();
                scope.guard(pending::<()>()).await
            });
            assert!(timeout(MS, run).await.is_err());
            assert_eq!(probe.count(), 1);
            assert_eq!(below.check().unwrap_err().reason(), Some("the future that ran the scope was dropped"));
            assert!(!scope.cancel(), "it has ended");
        });
    }

    fn a_guard_drops_its_future_when_it_gives_up(rt: Runtime) {
        rt.block_on(async {
            let (probe, scope) = (DropProbe::new(), CancelScope::new().with_timeout(MS));
            let guard = probe.guard();
            let end = scope.guard(common::pending_with(guard)).await;
            assert_eq!((end.is_err(), probe.count()), (true, 1));
        });
    }

    fn waiters_that_give_up_leave_nothing_behind(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            for _ in 0..100 {
                let child = scope.child();
                assert!(timeout(Duration::ZERO, child.cancelled()).await.is_err());
                assert!(timeout(Duration::ZERO, scope.cancelled()).await.is_err());
            }
            scope.cancel();
            scope.cancelled().await;
        });
    }

    fn an_ignored_cancellation_does_not_keep_others_from_running(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            scope.cancel();
            let ran = std::rc::Rc::new(Cell::new(0));
            for _ in 0..2 {
                let set = ran.clone();
                epicycle::spawn_local(async move { set.set(set.get() + 1) });
            }
            let start = Instant::now();
            while ran.get() < 2 {
                assert!(start.elapsed() < common::PATIENCE, "the others never ran");
                assert!(scope.guard(ready(())).await.is_err());
                scope.cancelled().await;
            }
        });
    }

    fn scopes_may_be_cancelled_and_dropped_by_other_threads(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..50 {
                let scope = CancelScope::new();
                let (stop, child) = (scope.clone(), scope.child().child());
                drop(scope);
                let thread = std::thread::spawn(move || stop.cancel());
                assert!(child.cancelled().await.reason().is_none());
                assert!(thread.join().unwrap());
            }
        });
    }
}

#[test]
fn s4_10_a_long_chain_of_scopes_is_cancelled_and_dropped_without_a_deep_stack() {
    with_timeout(|| {
        let root = CancelScope::new();
        let mut leaf = root.child();
        for _ in 0..100_000 {
            leaf = leaf.child();
        }
        let mut waiting = Box::pin(leaf.cancelled());
        let (wakes, waker) = common::CountWakes::new();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        root.cancel();
        assert_eq!(wakes.count(), 1);
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
    });
}

#[test]
fn n42_curio_work_that_over_ran_its_deadline_is_warned_of() {
    struct Count(AtomicUsize);
    impl log::Log for Count {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            if record.args().to_string().contains("after its deadline") {
                self.0.fetch_add(1, SeqCst);
            }
        }
        fn flush(&self) {}
    }
    static COUNT: Count = Count(AtomicUsize::new(0));
    with_timeout(|| {
        log::set_logger(&COUNT).expect("the only logger of this binary");
        log::set_max_level(log::LevelFilter::Warn);
        let end: End<()> = epicycle::run(async { expired().run(async |_| Ok(())).await });
        assert!(end.is_ok());
        assert!(COUNT.0.load(SeqCst) >= 1);
    });
}

#[test]
fn a_checkpoint_takes_a_turn_and_a_guard_of_what_is_ready_none() {
    with_timeout(|| {
        Runtime::builder().worker_threads(1).build().unwrap().block_on(async {
            let turns = common::Turns::start(&EventLoop::current());
            yield_now().await;
            yield_now().await;
            let scope = CancelScope::new();
            let before = turns.count();
            scope.guard(ready(())).await.unwrap();
            assert_eq!(turns.count(), before);
            scope.checkpoint().await.unwrap();
            assert_eq!(turns.count(), before + 1);
        });
    });
}

#[test]
fn a_panicking_waker_keeps_no_other_from_being_woken() {
    struct Evil;
    impl std::task::Wake for Evil {
        fn wake(self: Arc<Self>) {
            panic!("evil waker")
        }
    }
    with_timeout(|| {
        let scope = CancelScope::new();
        let (wakes, good) = common::CountWakes::new();
        let evil = std::task::Waker::from(Arc::new(Evil));
        let mut waiting = Vec::new();
        for waker in [&good, &evil, &good] {
            let mut wait = Box::pin(scope.cancelled());
            assert!(wait.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
            waiting.push(wait);
        }
        assert!(scope.cancel());
        assert_eq!(wakes.count(), 2);
    });
}

// ---------------------------------------------------------------------------------------------------- stress

#[test]
fn stress_n27_n38_random_cancels_and_deadlines_on_four_loops() {
    fn random(seed: &mut u64, n: u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % n
    }
    async fn body(scope: &CancelScope, mut seed: u64, cleaned: &AtomicUsize) -> Result<u64, Cancelled> {
        let mut result = Ok(seed);
        for _ in 0..random(&mut seed, 8) {
            result = match random(&mut seed, 6) {
                0 => scope.guard(sleep(Duration::from_micros(random(&mut seed, 400)))).await.map(|()| seed),
                1 => scope.checkpoint().await.map(|()| seed),
                2 => {
                    let child = if random(&mut seed, 2) == 0 { scope.child() } else { scope.shielded() };
                    let child = child.with_timeout(Duration::from_micros(random(&mut seed, 300)));
                    let end: End<()> = child.run(async |child| child.guard(sleep(MS)).await).await;
                    match end {
                        Ok(_) => Ok(seed),
                        Err(cancelled) => {
                            assert!(!cancelled.is_of(&child));
                            Err(cancelled)
                        }
                    }
                }
                _ => {
                    yield_now().await;
                    Ok(seed)
                }
            };
            if result.is_err() {
                break;
            }
        }
        yield_now().await;
        cleaned.fetch_add(1, SeqCst);
        result
    }
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(4).build().unwrap();
        let cleaned = Arc::new(AtomicUsize::new(0));
        rt.block_on(async {
            let rounds: Vec<_> = (0..200u64)
                .map(|round| {
                    let cleaned = cleaned.clone();
                    spawn(async move {
                        let mut seed = round * 6151 + 1;
                        let root = CancelScope::new();
                        let tasks: Vec<_> = (0..5)
                            .map(|_| {
                                let (child, seed) = (root.child(), random(&mut seed, u64::MAX) | 1);
                                let cleaned = cleaned.clone();
                                spawn(async move {
                                    let end: End<u64> =
                                        child.run(async |scope| body(scope, seed, &cleaned).await).await;
                                    end
                                })
                            })
                            .collect();
                        sleep(Duration::from_micros(random(&mut seed, 400))).await;
                        root.cancel();
                        if random(&mut seed, 4) == 0 {
                            root.uncancel();
                        }
                        for task in tasks {
                            if let Err(cancelled) = task.await.unwrap() {
                                assert!(cancelled.is_of(&root));
                            }
                        }
                    })
                })
                .collect();
            for round in rounds {
                round.await.unwrap();
            }
        });
        assert_eq!(cleaned.load(SeqCst), 1000, "every body came to its end");
    });
}
