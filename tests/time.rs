//! Sleeps, intervals and limits (`epicycle::time`).
//!
//! Lower bounds are exact, for nothing may fire early; upper ones are there only where something would otherwise never
//! happen. Threads: the test's own is inside `block_on`; others are named where they are started.

mod common;

use std::future::{Future, IntoFuture, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{CountWakes, DropProbe, Flag, Gate, eventually, eventually_async, panics_with, pending_with};
use epicycle::time::{
    Interval, MissedTickBehavior, Sleep, Timeout, TimeoutError, interval, interval_at, sleep, sleep_until, timeout,
    timeout_at, wait_for,
};
use epicycle::{Runtime, run_in_executor, spawn, yield_now};
use futures_lite::future::{block_on, poll_once};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1000);

fn pending_timers(rt: &Runtime) -> usize {
    rt.metrics().loops.iter().map(|each| each.timers_pending).sum()
}

/// Polls once, which arms the sleep; unless this thread was held up until its deadline.
async fn arm(sleep: &mut Sleep) {
    assert!(poll_once(&mut *sleep).await.is_none() || sleep.is_elapsed());
}

/// A sleep that has been polled with `waker` and waits.
fn armed(duration: Duration, waker: &Waker) -> Sleep {
    loop {
        let mut sleep = sleep(duration);
        if poll_with(&mut sleep, waker).is_pending() {
            return sleep;
        }
    }
}

/// Polls once, with a waker that counts.
fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn c6_sleep_is_send_sync_and_unpin() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<Sleep>();
    check::<Interval>();
    check::<Timeout<Sleep>>();
    check::<TimeoutError>();
}

common::flavours! {
    fn b51_s3_18_a_sleep_is_never_early(rt: Runtime) {
        rt.block_on(async {
            let tasks: Vec<_> = (0..200u32)
                .map(|n| {
                    spawn(async move {
                        let duration = Duration::from_micros(u64::from(n * 7919 % 20_000));
                        let start = Instant::now();
                        sleep(duration).await;
                        assert!(start.elapsed() >= duration);
                        let deadline = Instant::now() + duration / 3;
                        sleep_until(deadline).await;
                        assert!(Instant::now() >= deadline);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    fn b51_a_zero_or_past_sleep_completes_at_once(rt: Runtime) {
        rt.block_on(async {
            assert!(poll_once(sleep(Duration::ZERO)).await.is_some());
            assert!(poll_once(sleep_until(Instant::now())).await.is_some());
            let past = Instant::now();
            thread::sleep(MS);
            assert!(poll_once(sleep_until(past)).await.is_some());
            // It looks at the clock itself: nobody has to expire it.
            let mut overdue = sleep(MS);
            arm(&mut overdue).await;
            thread::sleep(2 * MS);
            assert!(overdue.is_elapsed());
            assert!(poll_once(&mut overdue).await.is_some());
        });
    }

    fn b51_thousands_of_sleeps_all_complete(rt: Runtime) {
        let done = Arc::new(AtomicUsize::new(0));
        rt.block_on(async {
            let tasks: Vec<_> = (0..5000u64)
                .map(|n| {
                    let done = done.clone();
                    spawn(async move {
                        sleep(Duration::from_micros(n % 50 * 400)).await;
                        done.fetch_add(1, SeqCst);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(done.load(SeqCst), 5000);
    }

    fn c6_a_sleep_may_be_created_outside_of_a_runtime(rt: Runtime) {
        let start = Instant::now();
        let sleep = sleep(5 * MS);
        rt.block_on(sleep);
        assert!(start.elapsed() >= 5 * MS);
    }

    fn c6_a_sleep_may_be_polled_off_a_loop(rt: Runtime) {
        // Entered: armed on a present loop. Not entered: on the loop where it was created, which is absent by now.
        let start = Instant::now();
        let (one, two) = rt.block_on(async { (sleep(20 * MS), sleep(30 * MS)) });
        if rt.loops().len() > 1 {
            let handle = rt.handle();
            thread::spawn(move || {
                let entered = handle.enter();
                block_on(one);
                assert!(start.elapsed() >= 20 * MS);
                drop(entered);
                block_on(two);
                assert!(start.elapsed() >= 30 * MS);
            })
            .join()
            .unwrap();
        }
        rt.block_on(async {
            let start = Instant::now();
            let born_here = sleep(10 * MS);
            let done = Flag::new();
            let waiting = done.wait();
            let other = thread::spawn(move || {
                block_on(born_here);
                done.set();
            });
            waiting.await;
            assert!(start.elapsed() >= 10 * MS);
            other.join().unwrap();
        });
    }

    fn c6_an_armed_sleep_may_move_to_another_loop(rt: Runtime) {
        let loops = rt.loops().to_vec();
        rt.block_on(async move {
            let start = Instant::now();
            let mut tasks = Vec::new();
            for home in &loops {
                let mut sleep = sleep(10 * MS);
                arm(&mut sleep).await;
                tasks.push(home.spawn_local(move || async move {
                    arm(&mut sleep).await;
                    spawn(sleep).await.unwrap();
                    assert!(start.elapsed() >= 10 * MS);
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    fn c6_an_armed_sleep_may_outlive_the_block_on_that_armed_it(rt: Runtime) {
        let start = Instant::now();
        let mut armed = sleep(10 * MS);
        rt.block_on(arm(&mut armed));
        armed.reset(start + 20 * MS);
        rt.block_on(armed);
        assert!(start.elapsed() >= 20 * MS);
    }

    fn c6_a_sleep_of_a_dead_runtime_is_harmless(rt: Runtime) {
        let start = Instant::now();
        let mut armed = sleep(20 * MS);
        rt.block_on(arm(&mut armed));
        drop(rt);
        let (_, waker) = CountWakes::new();
        let _ = poll_with(&mut armed, &waker);
        armed.reset(start + 10 * MS);
        block_on(&mut armed); // it looks at the clock itself
        assert!(start.elapsed() >= 10 * MS);
        armed.reset(Instant::now() + LONG);
        drop(armed);
    }

    fn s3_23_a_dropped_or_cancelled_sleep_leaves_no_timer(rt: Runtime) {
        rt.block_on(async {
            let armed: Vec<_> = (0..200).map(|_| spawn(sleep(LONG))).collect();
            eventually_async("all are armed", || pending_timers(&rt) >= 200).await;
            armed.iter().for_each(|task| assert!(task.cancel()));
            eventually_async("all are gone", || pending_timers(&rt) < 10).await;

            let mut dropped = sleep(LONG);
            arm(&mut dropped).await;
            drop(dropped);
            assert!(timeout(LONG, yield_now()).await.is_ok());
        });
        eventually("nothing is left", || pending_timers(&rt) == 0);
    }

    fn s3_23_a_dropped_sleep_is_neither_counted_nor_shown_from_then_on(rt: Runtime) {
        rt.block_on(async {
            let before = rt.metrics().loops.iter().map(|each| each.timers_cancelled).sum::<u64>();
            for round in 1..=100 {
                let (mut first, mut second) = (sleep(LONG), sleep(2 * LONG));
                arm(&mut first).await;
                arm(&mut second).await;
                assert_eq!(pending_timers(&rt), 2);
                drop(first);
                assert_eq!(pending_timers(&rt), 1);
                drop(second);
                let loops = rt.metrics().loops;
                assert_eq!(loops.iter().map(|each| each.timers_pending).sum::<usize>(), 0);
                assert!(loops.iter().all(|each| each.next_timer.is_none()));
                assert_eq!(loops.iter().map(|each| each.timers_cancelled).sum::<u64>(), before + 2 * round);
                if round % 3 == 0 {
                    yield_now().await;
                }
            }
            for each in rt.metrics().loops {
                assert_eq!(each.timers_armed, each.timers_cancelled + each.timers_fired);
            }
        });
    }

    fn s3_23_a_sleep_dropped_by_another_waker_leaves_it_at_once(rt: Runtime) {
        rt.block_on(async {
            let (wakes, waker) = CountWakes::new();
            let known = Arc::strong_count(&wakes);
            drop(armed(LONG, &waker));
            assert_eq!(Arc::strong_count(&wakes), known);
        });
    }

    fn b51_a_sleep_armed_right_after_another_was_dropped_is_met(rt: Runtime) {
        rt.block_on(async {
            let mut dropped = sleep(LONG);
            for duration in [MS, 3 * MS, MS] {
                // In the place of a later one, and with others around that are earlier and later.
                let (mut earlier, mut later) = (sleep(MS / 2), sleep(2 * LONG));
                arm(&mut dropped).await;
                let (_, _) = (poll_once(&mut earlier).await, poll_once(&mut later).await);
                dropped = sleep(LONG);
                let start = Instant::now();
                sleep(duration).await;
                assert!(start.elapsed() >= duration);
            }
            assert!(timeout(MS, timeout(LONG, pending::<()>())).await.is_err());
            // In the place of an earlier one.
            assert!(timeout(LONG, async {
                let mut brief = sleep(2 * MS);
                arm(&mut brief).await;
                drop(brief);
                let start = Instant::now();
                sleep(5 * MS).await;
                assert!(start.elapsed() >= 5 * MS);
            }).await.is_ok());
        });
    }

    fn b51_a_sleep_takes_the_place_of_another_tasks(rt: Runtime) {
        rt.block_on(async {
            // Each drops a sleep and ends, while others arm theirs in the same turn.
            let tasks: Vec<_> = (0..200_u32).map(|each| spawn(async move {
                let mut dropped = sleep(LONG);
                arm(&mut dropped).await;
                drop(dropped);
                if each % 3 > 0 {
                    yield_now().await;
                    sleep(each % 5 * MS).await;
                }
                each
            })).collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            assert_eq!(sum, 199 * 200 / 2);
        });
        eventually("nothing is left", || pending_timers(&rt) == 0);
    }

    fn s3_23_a_sleep_that_is_not_polled_arms_nothing(rt: Runtime) {
        rt.block_on(async {
            let _unpolled: Vec<_> = (0..100).map(|_| (sleep(LONG), interval(LONG), timeout(LONG, ready(1)))).collect();
            assert_eq!(pending_timers(&rt), 0);
            let _never = (sleep(Duration::MAX), sleep(Duration::MAX));
            let mut never = sleep(Duration::MAX);
            assert!(poll_once(&mut never).await.is_none());
            assert_eq!(pending_timers(&rt), 0, "never is not armed");
        });
    }

    fn b52_reset_before_the_first_poll(rt: Runtime) {
        rt.block_on(async {
            let start = Instant::now();
            let mut forward = sleep(MS);
            forward.reset(start + 15 * MS);
            assert_eq!(forward.deadline(), start + 15 * MS);
            forward.await;
            assert!(start.elapsed() >= 15 * MS);

            let mut back = sleep(LONG);
            back.reset(Instant::now() + MS);
            back.await;

            let mut past = sleep(LONG);
            past.reset(start);
            assert!(poll_once(past).await.is_some());
        });
    }

    fn b52_reset_while_armed(rt: Runtime) {
        rt.block_on(async {
            let start = Instant::now();
            let mut forward = sleep(5 * MS);
            arm(&mut forward).await;
            forward.reset(start + 25 * MS);
            forward.await;
            assert!(start.elapsed() >= 25 * MS);

            let mut back = sleep(LONG);
            arm(&mut back).await;
            back.reset(Instant::now() + 2 * MS);
            back.await;

            // Forward and back again, around the timer that was left in place.
            let start = Instant::now();
            let mut to_and_fro = sleep(20 * MS);
            arm(&mut to_and_fro).await;
            to_and_fro.reset(start + LONG);
            arm(&mut to_and_fro).await;
            to_and_fro.reset(start + 30 * MS);
            to_and_fro.await;
            assert!(start.elapsed() >= 30 * MS);
        });
        assert_eq!(pending_timers(&rt), 0);
    }

    fn b52_reset_wakes_at_the_new_deadline_without_a_poll(rt: Runtime) {
        rt.block_on(async {
            let (wakes, waker) = CountWakes::new();
            let mut reset = sleep(LONG);
            assert!(poll_with(&mut reset, &waker).is_pending());
            let deadline = Instant::now() + 5 * MS;
            reset.reset(deadline);
            eventually_async("the waiter is woken", || wakes.count() > 0).await;
            assert!(Instant::now() >= deadline);
            assert!(poll_with(&mut reset, &waker).is_ready());
        });
    }

    fn b52_reset_from_another_thread_while_a_task_waits(rt: Runtime) {
        let shared = Arc::new(Mutex::new(sleep(LONG)));
        let (armed, is_armed) = mpsc::channel();
        let resetting = {
            let shared = shared.clone();
            let handle = rt.handle();
            thread::spawn(move || {
                is_armed.recv().unwrap();
                let _entered = handle.enter();
                shared.lock().unwrap().reset(Instant::now() + 3 * MS);
            })
        };
        rt.block_on(async {
            let waiting = spawn(async move {
                poll_fn(|cx| {
                    let poll = Pin::new(&mut *shared.lock().unwrap()).poll(cx);
                    let _ = armed.send(());
                    poll
                })
                .await;
            });
            waiting.await.unwrap();
        });
        resetting.join().unwrap();
    }

    fn b52_reset_after_it_fired(rt: Runtime) {
        rt.block_on(async {
            let mut again = sleep(MS);
            for _ in 0..5 {
                (&mut again).await;
                let deadline = Instant::now() + 2 * MS;
                again.reset(deadline);
                arm(&mut again).await;
                (&mut again).await;
                assert!(Instant::now() >= deadline);
            }
            // Fired, not looked at, and put off.
            let (wakes, waker) = CountWakes::new();
            let mut put_off = armed(MS, &waker);
            eventually_async("it fires", || wakes.count() > 0).await;
            let deadline = Instant::now() + 10 * MS;
            put_off.reset(deadline);
            put_off.await;
            assert!(Instant::now() >= deadline);
        });
    }

    fn b52_resets_that_race_with_firing(rt: Runtime) {
        rt.block_on(async {
            let tasks: Vec<_> = (0..50u64)
                .map(|n| {
                    spawn(async move {
                        let mut racing = sleep(Duration::from_micros(n * 10));
                        for round in 0..50u64 {
                            let deadline = Instant::now() + Duration::from_micros((n * 31 + round * 17) % 300);
                            let _ = poll_once(&mut racing).await;
                            racing.reset(deadline);
                            if round % 3 == 0 {
                                (&mut racing).await;
                                assert!(Instant::now() >= deadline);
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(pending_timers(&rt), 0);
    }

    fn b52_a_sleep_may_be_dropped_by_the_wake_it_causes(rt: Runtime) {
        struct Dropper(Mutex<Option<Sleep>>, AtomicBool);
        impl Dropper {
            fn put(&self, make: impl FnOnce() -> Sleep) {
                let mut place = self.0.lock().unwrap();
                *place = Some(make());
            }
        }
        impl Wake for Dropper {
            fn wake(self: Arc<Self>) {
                drop(self.0.lock().unwrap().take());
                self.1.store(true, SeqCst);
            }
        }
        rt.block_on(async {
            let dropper = Arc::new(Dropper(Mutex::default(), AtomicBool::new(false)));
            let waker = Waker::from(dropper.clone());
            // Held while it is put in place: the wake must not come first.
            dropper.put(|| armed(2 * MS, &waker));
            eventually_async("the wake drops it", || dropper.1.load(SeqCst)).await;
        });
        assert_eq!(pending_timers(&rt), 0);
    }

    fn b53_long_durations_do_not_overflow(rt: Runtime) {
        rt.block_on(async {
            let year = Duration::from_secs(365 * 24 * 3600);
            for duration in [Duration::MAX, u32::MAX * year, 1000 * year, 20 * year, year, Duration::from_nanos(u64::MAX)] {
                let mut long = sleep(duration);
                assert!(poll_once(&mut long).await.is_none());
                assert!(!long.is_elapsed() && long.deadline() > Instant::now());
                long.reset(Instant::now());
                long.await;

                assert_eq!(timeout(duration, ready(1)).await, Ok(1));
                assert!(poll_once(timeout(duration, pending::<()>())).await.is_none());

                let mut ticks = interval(duration);
                ticks.tick().await;
                assert!(poll_once(ticks.tick()).await.is_none());
                ticks.reset();
                ticks.reset_after(duration);
                assert!(poll_once(ticks.tick()).await.is_none());
            }
            // They are out of the way of the short ones.
            sleep(2 * MS).await;
            let task = spawn(pending::<()>());
            assert!(poll_once(pin!(wait_for(task, Duration::MAX))).await.is_none());
        });
        assert_eq!(pending_timers(&rt), 0);
    }

    fn b54_timeout_gives_the_value_or_an_error(rt: Runtime) {
        rt.block_on(async {
            assert_eq!(timeout(LONG, async { 1 }).await, Ok(1));
            let value = async {
                sleep(2 * MS).await;
                2
            };
            assert_eq!(timeout(LONG, value).await, Ok(2));
            let start = Instant::now();
            let error = timeout(10 * MS, pending::<()>()).await.unwrap_err();
            assert!(start.elapsed() >= 10 * MS);
            assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);

            let deadline = Instant::now() + 5 * MS;
            assert!(timeout_at(deadline, pending::<()>()).await.is_err());
            assert!(Instant::now() >= deadline);
        });
    }

    fn b54_the_value_wins_at_the_deadline(rt: Runtime) {
        rt.block_on(async {
            assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
            assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err());
            // Both are due when it is polled next.
            loop {
                let value = Flag::new();
                let mut both = pin!(timeout(20 * MS, value.wait()));
                if poll_once(both.as_mut()).await.is_some() {
                    continue; // this thread was held up
                }
                value.set();
                thread::sleep(21 * MS);
                assert_eq!(both.await, Ok(()));
                break;
            }
        });
    }

    fn b54_an_exhausted_budget_does_not_hide_the_timeout(rt: Runtime) {
        rt.block_on(async {
            let start = Instant::now();
            let busy = async {
                loop {
                    sleep(Duration::ZERO).await; // always ready
                }
            };
            assert!(timeout(10 * MS, busy).await.is_err());
            assert!(start.elapsed() >= 10 * MS);
            let spinning = async {
                loop {
                    yield_now().await;
                }
            };
            assert!(timeout(10 * MS, spinning).await.is_err());
        });
    }

    fn b54_the_future_is_dropped_with_the_timeout(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            let mut limited = pin!(timeout(2 * MS, pending_with(probe.guard())));
            assert!(limited.as_mut().await.is_err());
            assert_eq!(probe.count(), 0, "it belongs to the timeout, which is still there");
            let inner = DropProbe::new();
            assert!(timeout(2 * MS, pending_with(inner.guard())).await.is_err());
            assert_eq!(inner.count(), 1);
        });
    }

    fn b54_a_timeout_takes_whatever_becomes_a_future(rt: Runtime) {
        struct Lazy;
        impl IntoFuture for Lazy {
            type Output = u8;
            type IntoFuture = std::future::Ready<u8>;
            fn into_future(self) -> Self::IntoFuture {
                ready(3)
            }
        }
        assert_eq!(rt.block_on(timeout(LONG, Lazy)), Ok(3));
    }

    fn n40_nested_timeouts_are_told_apart(rt: Runtime) {
        rt.block_on(async {
            let inner_first = timeout(LONG, timeout(2 * MS, pending::<()>())).await;
            assert!(matches!(inner_first, Ok(Err(_))));
            let outer_first = timeout(2 * MS, timeout(LONG, pending::<()>())).await;
            assert!(outer_first.is_err());
        });
    }

    fn n36_wait_for_gives_the_value_of_a_task_in_time(rt: Runtime) {
        rt.block_on(async {
            assert_eq!(wait_for(spawn(async { 1 }), LONG).await.unwrap().unwrap(), 1);
            let later = spawn(async {
                sleep(3 * MS).await;
                2
            });
            assert_eq!(wait_for(later, LONG).await.unwrap().unwrap(), 2);
        });
        assert_eq!(pending_timers(&rt), 0);
    }

    fn n36_wait_for_zero_gives_the_value_of_a_task_that_is_done(rt: Runtime) {
        rt.block_on(async {
            let done = spawn(async { 1 });
            eventually_async("it is done", || done.done()).await;
            assert_eq!(wait_for(done, Duration::ZERO).await.unwrap().unwrap(), 1);
            let waiting = spawn(pending::<()>());
            assert!(wait_for(waiting, Duration::ZERO).await.is_err());
        });
    }

    fn n37_wait_for_cancels_the_task_and_awaits_its_end(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            for limit in [Duration::ZERO, 2 * MS] {
                let started = Flag::new();
                let task = spawn({
                    let (started, guard) = (started.clone(), probe.guard());
                    async move {
                        started.set();
                        pending_with(guard).await
                    }
                });
                started.wait().await;
                let before = probe.count();
                assert!(wait_for(task, limit).await.is_err());
                assert_eq!(probe.count(), before + 1, "it has really ended");
            }
        });
    }

    fn n37_wait_for_awaits_a_task_that_cannot_be_stopped(rt: Runtime) {
        let gate = Gate::new();
        let _open = gate.open_on_drop();
        rt.block_on(async {
            let (running, is_running) = (Flag::new(), Flag::new());
            let job = run_in_executor({
                let (gate, running) = (gate.clone(), running.clone());
                move || {
                    running.set();
                    gate.wait();
                    7
                }
            });
            running.wait().await;
            drop(is_running);
            let mut waiting = pin!(wait_for(job, 2 * MS));
            assert!(timeout(20 * MS, waiting.as_mut()).await.is_err(), "the job is not over");
            gate.open();
            assert_eq!(waiting.await.unwrap().unwrap(), 7);
        });
    }

    fn n39_a_foreign_cancel_and_a_panic_pass_through_wait_for(rt: Runtime) {
        rt.block_on(async {
            let cancelled = spawn(pending::<()>());
            assert!(cancelled.cancel());
            assert!(wait_for(cancelled, LONG).await.unwrap().unwrap_err().is_cancelled());
            let panicked = spawn(async { panic!("on purpose") });
            assert!(wait_for::<()>(panicked, LONG).await.unwrap().unwrap_err().is_panic());
        });
    }

    fn c08_dropping_wait_for_cancels_the_task(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            let task = spawn(pending_with(probe.guard()));
            let outer = spawn(async move { wait_for(task, LONG).await.map(drop) });
            for _ in 0..5 {
                yield_now().await;
            }
            outer.cancel();
            assert!(outer.await.unwrap_err().is_cancelled());
            eventually_async("the task is gone", || probe.count() == 1).await;
        });
    }

    fn b55_the_first_tick_is_immediate(rt: Runtime) {
        rt.block_on(async {
            let before = Instant::now();
            let mut ticks = interval(20 * MS);
            let first = poll_once(ticks.tick()).await.expect("at once");
            assert!(first >= before && first <= Instant::now());
            for n in 1..4 {
                assert_eq!(ticks.tick().await, first + n * 20 * MS);
                assert!(Instant::now() >= first + n * 20 * MS);
            }
            assert_eq!(ticks.period(), 20 * MS);

            let start = Instant::now() + 10 * MS;
            let mut later = interval_at(start, 5 * MS);
            assert_eq!(later.tick().await, start);
            assert!(Instant::now() >= start);
        });
    }

    fn b55_burst_catches_up(rt: Runtime) {
        rt.block_on(async {
            let mut ticks = interval(10 * MS);
            let start = ticks.tick().await;
            sleep(55 * MS).await;
            for n in 1..=5 {
                assert_eq!(poll_once(ticks.tick()).await, Some(start + n * 10 * MS), "without waiting");
            }
            assert_eq!(ticks.tick().await, start + 60 * MS, "and on the grid again");
        });
    }

    fn b55_delay_waits_a_period_after_a_late_tick(rt: Runtime) {
        rt.block_on(async {
            let mut ticks = interval(20 * MS);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let start = ticks.tick().await;
            sleep(50 * MS).await;
            let taken = Instant::now();
            assert_eq!(poll_once(ticks.tick()).await, Some(start + 20 * MS));
            let next = ticks.tick().await;
            assert!(next >= taken + 20 * MS && Instant::now() >= next);
        });
    }

    fn b55_skip_stays_on_the_grid(rt: Runtime) {
        rt.block_on(async {
            let mut ticks = interval(20 * MS);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            assert_eq!(ticks.missed_tick_behavior(), MissedTickBehavior::Skip);
            let start = ticks.tick().await;
            sleep(70 * MS).await;
            let taken = Instant::now();
            assert_eq!(poll_once(ticks.tick()).await, Some(start + 20 * MS));
            let next = ticks.tick().await;
            assert!(next > taken, "what was missed is gone");
            assert_eq!((next - start).as_nanos() % (20 * MS).as_nanos(), 0);
        });
    }

    fn b55_resets(rt: Runtime) {
        rt.block_on(async {
            let mut ticks = interval(30 * MS);
            ticks.tick().await;
            let before = Instant::now();
            ticks.reset();
            assert!(ticks.tick().await >= before + 30 * MS);

            ticks.reset_immediately();
            assert!(poll_once(ticks.tick()).await.is_some());

            let before = Instant::now();
            ticks.reset_after(3 * MS);
            let due = ticks.tick().await;
            assert!(due >= before + 3 * MS && Instant::now() >= due);

            let deadline = Instant::now() + 4 * MS;
            ticks.reset_at(deadline);
            assert_eq!(ticks.tick().await, deadline);
            assert!(Instant::now() >= deadline);
        });
    }

    fn b55_a_dropped_tick_is_not_lost(rt: Runtime) {
        rt.block_on(async {
            let mut ticks = interval(200 * MS);
            let start = ticks.tick().await;
            assert!(timeout(MS, ticks.tick()).await.is_err());
            assert_eq!(ticks.tick().await, start + 200 * MS);
        });
    }

    fn b57_a_sleep_completes_though_its_poller_wakes_itself(rt: Runtime) {
        rt.block_on(async {
            let start = Instant::now();
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    spawn(async move {
                        let mut polled = sleep(15 * MS);
                        poll_fn(|cx| {
                            let poll = Pin::new(&mut polled).poll(cx);
                            cx.waker().wake_by_ref();
                            poll
                        })
                        .await;
                        assert!(start.elapsed() >= 15 * MS);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    fn c11_two_hundred_sleeps_in_one_task_all_complete(rt: Runtime) {
        // More leaf futures than the budget has operations: those that only wait are not charged.
        rt.block_on(async {
            let mut sleeps: Vec<_> = (0..200u64).map(|n| Some(sleep(Duration::from_micros(n * 50)))).collect();
            let polls = Arc::new(AtomicUsize::new(0));
            poll_fn(|cx| {
                polls.fetch_add(1, SeqCst);
                for slot in &mut sleeps {
                    if slot.as_mut().is_some_and(|sleep| Pin::new(sleep).poll(cx).is_ready()) {
                        *slot = None;
                    }
                }
                if sleeps.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            assert!(polls.load(SeqCst) <= 400, "polled {} times for 200 sleeps", polls.load(SeqCst));
        });
    }
}

/// Equal deadlines have an order on one loop only.
#[test]
fn c6_equal_deadlines_fire_in_arming_order_on_one_loop() {
    common::with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        rt.block_on(async {
            let deadline = Instant::now() + 200 * MS; // far enough for all to be armed in time
            let tasks: Vec<_> = (0..50)
                .map(|n| {
                    let order = order.clone();
                    spawn(async move {
                        sleep_until(deadline).await;
                        order.lock().unwrap().push(n);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    });
}

/// With one loop, and no poll of the task in between, it is certain that the task has not begun.
#[test]
fn n36_wait_for_zero_never_starts_a_task_that_has_not_begun() {
    common::with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        let began = Arc::new(AtomicBool::new(false));
        let result = rt.block_on(async {
            let task = spawn({
                let began = began.clone();
                async move { began.store(true, SeqCst) }
            });
            wait_for(task, Duration::ZERO).await
        });
        assert!(result.is_err());
        assert!(!began.load(SeqCst));
    });
}

#[test]
fn b55_a_zero_period_panics() {
    panics_with("the period of an interval must not be zero", || interval(Duration::ZERO));
    panics_with("the period of an interval must not be zero", || interval_at(Instant::now(), Duration::ZERO));
}

#[test]
fn b10_a_sleep_that_must_wait_needs_a_runtime() {
    panics_with("no epicycle runtime", || block_on(sleep(LONG)));
    panics_with("no epicycle runtime", || block_on(timeout(LONG, pending::<()>())));
    // But not to complete.
    block_on(sleep(Duration::ZERO));
    assert_eq!(block_on(timeout(LONG, async { 1 })), Ok(1));
}
