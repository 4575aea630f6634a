//! Tasks: spawning, joining, cancelling, callbacks, ids and names (C8; behaviours 2, 3, 12, 22-30; N21-N26).
//!
//! Stealable tasks unless said; `pinned.rs` has the others, `panics.rs` what panics.

mod common;

use std::collections::HashSet;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    CountPolls, CountWakes, DropProbe, Flag, Flavour, Gate, OnDrop, Reports, eventually, eventually_async, flavour,
    panic_text, pending_with,
};
use epicycle::task::{self, Outcome};
use epicycle::time::{sleep, timeout, wait_for};
use epicycle::{Runtime, Task, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

type Slot<T> = Arc<Mutex<Option<T>>>;

common::flavours! {
    fn b02_a_spawned_task_runs_with_nobody_awaiting_it(rt: Runtime) {
        let ran = Arc::new(AtomicBool::new(false));
        let inner = ran.clone();
        rt.block_on(async {
            drop(spawn(async move { yield_now().await; inner.store(true, SeqCst) }));
            eventually_async("it ran", || ran.load(SeqCst)).await;
            assert_eq!(spawn(async { sleep(MS).await; 7 }).await.unwrap(), 7);
        });
    }

    fn b03_tasks_spawn_tasks_to_any_depth(rt: Runtime) {
        fn nest(depth: usize) -> Pin<Box<dyn Future<Output = usize> + Send>> {
            Box::pin(async move { if depth == 0 { 0 } else { spawn(nest(depth - 1)).await.unwrap() + 1 } })
        }
        assert_eq!(rt.block_on(nest(800)), 800);
        // A fan-out: each of 4 levels spawns 6.
        fn fan(level: usize, leaves: Arc<AtomicUsize>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                if level == 0 { leaves.fetch_add(1, SeqCst); return }
                let tasks: Vec<_> = (0..6).map(|_| spawn(fan(level - 1, leaves.clone()))).collect();
                for task in tasks { task.await.unwrap() }
            })
        }
        let leaves = Arc::new(AtomicUsize::new(0));
        rt.block_on(fan(4, leaves.clone()));
        assert_eq!(leaves.load(SeqCst), 6 * 6 * 6 * 6);
    }

    fn b12_a_wake_is_exactly_one_more_poll(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..50 {
                let flag = Flag::new();
                let (work, polls) = CountPolls::new(flag.wait());
                let task = spawn(work);
                eventually_async("polled", || flag.waiters() == 1).await;
                for _ in 0..10 { yield_now().await }
                assert_eq!(polls.load(SeqCst), 1, "no wake, no poll");
                flag.set();
                task.await.unwrap();
                assert_eq!(polls.load(SeqCst), 2);
            }
        });
    }

    fn b12_wakes_before_the_poll_coalesce_and_wakes_during_it_poll_again(rt: Runtime) {
        rt.block_on(async {
            let (polls, wakers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::<Waker>::new())));
            let (count, slot) = (polls.clone(), wakers.clone());
            // A pinned task on this very loop: its wakes and polls are ordered with this code.
            let task = spawn_local(poll_fn(move |cx| {
                slot.lock().unwrap().push(cx.waker().clone());
                match count.fetch_add(1, SeqCst) {
                    // Wakes itself thrice while running: one more poll.
                    0 => { for _ in 0..3 { cx.waker().wake_by_ref() } Poll::Pending }
                    1 | 2 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            }));
            eventually_async("two polls", || polls.load(SeqCst) >= 2).await;
            for _ in 0..20 { yield_now().await }
            assert_eq!(polls.load(SeqCst), 2, "three wakes while it runs are one poll");
            let wakers: Vec<Waker> = wakers.lock().unwrap().clone();
            for waker in wakers.iter().cycle().take(10) { waker.wake_by_ref() }
            eventually_async("a third poll", || polls.load(SeqCst) >= 3).await;
            for _ in 0..20 { yield_now().await }
            assert_eq!(polls.load(SeqCst), 3, "ten wakes at rest are one poll");
            wakers[0].wake_by_ref();
            task.await.unwrap();
            assert_eq!(polls.load(SeqCst), 4);
            for waker in wakers { waker.wake_by_ref(); waker.wake() }
            for _ in 0..3 { yield_now().await }
            assert_eq!(polls.load(SeqCst), 4, "a wake after the end is nothing");
        });
    }

    fn b12_a_join_wakes_its_waiter_once(rt: Runtime) {
        rt.block_on(async {
            let flag = Flag::new();
            let mut task = spawn({ let flag = flag.clone(); async move { flag.wait().await; 5 } });
            let (wakes, waker) = CountWakes::new();
            assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
            assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
            let (latest, second) = CountWakes::new();
            assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&second)).is_pending());
            flag.set();
            eventually_async("woken", || latest.count() == 1).await;
            assert_eq!(wakes.count(), 0, "only the waker of the last poll");
            assert!(matches!(Pin::new(&mut task).poll(&mut Context::from_waker(&second)), Poll::Ready(Ok(5))));
        });
    }

    fn b12_wakers_know_each_other(rt: Runtime) {
        rt.block_on(async {
            let slot: Slot<(Waker, Waker)> = Slot::default();
            let inner = slot.clone();
            let one = spawn_local(poll_fn(move |cx| { *inner.lock().unwrap() = Some((cx.waker().clone(), cx.waker().clone())); Poll::Ready(()) }));
            one.await.unwrap();
            let (a, b) = slot.lock().unwrap().take().unwrap();
            assert!(a.will_wake(&b) && a.clone().will_wake(&b));
            let other = spawn(poll_fn(|cx| Poll::Ready(cx.waker().clone()))).await.unwrap();
            assert!(!a.will_wake(&other));
        });
    }

    fn c08_b25_cancelling_an_idle_task_drops_its_future_on_the_runtime(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..50 {
                let (probe, flag) = (DropProbe::new(), Flag::new());
                let (guard, wait) = (probe.guard(), flag.clone());
                let task = spawn(async move { let _guard = guard; wait.wait().await });
                eventually_async("it waits", || flag.waiters() == 1).await;
                let (task, canceller) = thread::spawn(move || { assert!(task.cancel()); (task, thread::current().id()) }).join().unwrap();
                assert!(task.await.unwrap_err().is_cancelled());
                let record = probe.only();
                assert!(record.thread != canceller && record.loop_index.is_some(), "on a loop, never inline in cancel()");
            }
        });
    }

    fn c08_cancel_never_drops_inline(rt: Runtime) {
        rt.block_on(async {
            // Pinned here, so nobody else could drop it meanwhile.
            let probe = DropProbe::new();
            let task = spawn_local(pending_with(probe.guard()));
            yield_now().await;
            assert!(task.cancel());
            assert_eq!(probe.count(), 0);
            assert!(!task.done() && !task.cancelled(), "n24: only after it ended");
            assert!(spawn(async { 1 }).await.is_ok());
            eventually_async("ended", || task.done()).await;
            assert!(task.cancelled() && probe.count() == 1);
            assert!(task.await.unwrap_err().is_cancelled());
        });
    }

    fn c08_n25_s3_31_a_task_cancelled_before_its_first_poll_never_runs(rt: Runtime) {
        rt.block_on(async {
            let (ran, probe) = (Arc::new(AtomicBool::new(false)), DropProbe::new());
            let (set, guard) = (ran.clone(), probe.guard());
            let task = spawn_local(async move { set.store(true, SeqCst); drop(guard) });
            assert!(task.cancel());
            assert!(task.await.unwrap_err().is_cancelled());
            assert!(!ran.load(SeqCst) && probe.count() == 1);
            // Stealable: true exactly if it had not begun.
            for _ in 0..200 {
                let ran = Arc::new(AtomicBool::new(false));
                let set = ran.clone();
                let task = spawn(async move { set.store(true, SeqCst) });
                let cancelled = task.cancel();
                match task.await {
                    Ok(()) => assert!(!cancelled && ran.load(SeqCst)),
                    Err(error) => assert!(cancelled && error.is_cancelled()),
                }
                if flavour() != Flavour::FourLoops { assert!(cancelled && !ran.load(SeqCst)) }
            }
        });
    }

    fn c08_s3_31_cancel_wins_over_a_poll_in_progress_that_returns_ready(rt: Runtime) {
        let (inside, gate, probe) = (Gate::new(), Gate::new(), DropProbe::new());
        let (enter, release, guard) = (inside.clone(), gate.clone(), probe.guard());
        let rt = Arc::new(rt);
        let task = rt.spawn(async move { enter.open(); release.wait(); guard });
        let runner = { let rt = rt.clone(); let stop = Flag::new(); let end = stop.clone(); (thread::spawn(move || rt.block_on(end.wait())), stop) };
        inside.wait();
        assert!(task.cancel());
        assert!(!task.done() && probe.count() == 0);
        gate.open();
        let error = rt.handle().spawn(task);
        let outcome = futures_lite::future::block_on(error).unwrap();
        assert!(outcome.err().expect("cancel wins").is_cancelled());
        assert_eq!(probe.count(), 1, "the value is dropped");
        runner.1.set();
        runner.0.join().unwrap();
    }

    fn c08_a_task_may_cancel_itself(rt: Runtime) {
        rt.block_on(async {
            for end_at_once in [true, false] {
                let slot: Slot<Task<()>> = Slot::default();
                let (inner, after) = (slot.clone(), Arc::new(AtomicBool::new(false)));
                let set = after.clone();
                let task = spawn(async move {
                    while inner.lock().unwrap().is_none() { yield_now().await }
                    assert!(inner.lock().unwrap().as_ref().unwrap().cancel());
                    if !end_at_once { yield_now().await; set.store(true, SeqCst) }
                });
                *slot.lock().unwrap() = Some(task);
                eventually_async("ended", || slot.lock().unwrap().as_ref().unwrap().done()).await;
                let task = slot.lock().unwrap().take().unwrap();
                assert!(task.cancelled() && !after.load(SeqCst));
                assert!(task.await.unwrap_err().is_cancelled());
            }
        });
    }

    fn c08_b27_cancel_after_completion_is_false_and_keeps_the_value(rt: Runtime) {
        rt.block_on(async {
            let task = spawn(async { String::from("kept") });
            eventually_async("done", || task.done()).await;
            assert!(!task.cancel() && !task.cancelled() && !task.cancel());
            assert_eq!(task.await.unwrap(), "kept");
        });
    }

    fn c08_b27_cancel_takes_effect_at_the_next_suspension_however_often_it_is_asked(rt: Runtime) {
        rt.block_on(async {
            let (polls, probe) = (Arc::new(AtomicUsize::new(0)), DropProbe::new());
            let (count, guard) = (polls.clone(), probe.guard());
            let task = spawn(async move { let _guard = guard; loop { count.fetch_add(1, SeqCst); yield_now().await } });
            eventually_async("it runs", || polls.load(SeqCst) > 5).await;
            assert!(task.cancel());
            for _ in 0..5 { task.cancel(); }
            assert!(task.await.unwrap_err().is_cancelled());
            let last = polls.load(SeqCst);
            for _ in 0..20 { yield_now().await }
            assert_eq!((polls.load(SeqCst), probe.count()), (last, 1));
        });
    }

    fn c08_n26_a_cancelled_awaiter_leaves_the_awaited_task_unless_told_otherwise(rt: Runtime) {
        rt.block_on(async {
            for on_drop in [false, true] {
                let (probe, started) = (DropProbe::new(), Flag::new());
                let (guard, start) = (probe.guard(), started.clone());
                let inner = spawn(async move { start.set(); pending_with(guard).await });
                let outer = spawn(async move { if on_drop { inner.cancel_on_drop().await } else { inner.await } });
                started.wait().await;
                sleep(MS).await;
                assert!(outer.cancel());
                assert!(outer.await.unwrap_err().is_cancelled());
                if on_drop {
                    eventually_async("the inner one went along", || probe.count() == 1).await;
                } else {
                    sleep(5 * MS).await;
                    assert_eq!(probe.count(), 0, "drop = detach");
                }
            }
            // What is awaited as a future, not as a task, goes with the cancelled one: N26 proper.
            let probe = DropProbe::new();
            let guard = probe.guard();
            let flag = Flag::new();
            let wait = flag.clone();
            async fn inner(guard: common::DropGuard, wait: Flag) { let _guard = guard; wait.wait().await }
            async fn middle(guard: common::DropGuard, wait: Flag) { inner(guard, wait).await }
            let outer = spawn(middle(guard, wait));
            eventually_async("it waits", || flag.waiters() == 1).await;
            assert!(outer.cancel());
            assert!(outer.await.unwrap_err().is_cancelled());
            assert_eq!(probe.count(), 1);
        });
    }

    fn c08_cancel_on_drop_gives_the_value_if_awaited(rt: Runtime) {
        rt.block_on(async {
            assert_eq!(spawn(async { sleep(MS).await; 3 }).cancel_on_drop().await.unwrap(), 3);
            let probe = DropProbe::new();
            drop(spawn(pending_with(probe.guard())).cancel_on_drop());
            eventually_async("cancelled", || probe.count() == 1).await;
        });
    }

    fn c08_n37_wait_for_cancels_its_task_and_awaits_the_end(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            let guard = probe.guard();
            let task = spawn(async move {
                // Takes its time in the destructor: wait_for must have waited for that.
                let _guard = guard;
                let _slow = OnDrop(|| thread::sleep(20 * MS));
                pending::<()>().await
            });
            assert!(wait_for(task, 5 * MS).await.is_err());
            assert_eq!(probe.count(), 1, "it has really ended");
            // In time: the value. A panic and a foreign cancel come through as the inner error.
            assert_eq!(wait_for(spawn(async { 4 }), HOUR).await.unwrap().unwrap(), 4);
            assert!(wait_for(spawn(async { panic!("on purpose") }), HOUR).await.unwrap().unwrap_err().is_panic());
            // Against that, a timeout around a task detaches it.
            let flag = Flag::new();
            let (wait, probe) = (flag.clone(), DropProbe::new());
            let guard = probe.guard();
            assert!(timeout(MS, spawn(async move { wait.wait().await; drop(guard) })).await.is_err());
            flag.set();
            eventually_async("it went on", || probe.count() == 1).await;
        });
    }

    fn c08_a_running_job_cannot_be_cancelled_and_its_value_is_delivered(rt: Runtime) {
        rt.block_on(async {
            let (inside, gate) = (Gate::new(), Gate::new());
            let _open = gate.open_on_drop();
            let (enter, release) = (inside.clone(), gate.clone());
            let job = epicycle::run_in_executor(move || { enter.open(); release.wait(); 8 });
            eventually_async("it runs", || inside.is_open()).await;
            assert!(!job.cancel() && !job.cancelled() && !job.done());
            gate.open();
            assert_eq!(job.await.unwrap(), 8);
        });
    }

    fn c08_a_handle_whose_cancel_said_true_never_runs(rt: Runtime) {
        let rt = Arc::new(rt);
        let stop = Flag::new();
        let runner = { let (rt, stop) = (rt.clone(), stop.clone()); thread::spawn(move || rt.block_on(stop.wait())) };
        let mut both = [0usize; 2];
        for round in 0..3000 {
            let (ran, probe) = (Arc::new(AtomicUsize::new(0)), DropProbe::new());
            let (count, guard) = (ran.clone(), probe.guard());
            let work = move || { let _guard = guard; count.fetch_add(1, SeqCst); };
            let handle = if round % 2 == 0 { rt.call_soon_threadsafe(work) } else { rt.loops()[0].call_soon_threadsafe(work) };
            for _ in 0..(round % 50) * 20 { std::hint::spin_loop() }
            let cancelled = handle.cancel();
            eventually("it ran or was dropped", || probe.count() == 1);
            let runs = ran.load(SeqCst);
            assert_eq!(runs, usize::from(!cancelled), "round {round}");
            assert_eq!(handle.cancelled(), cancelled);
            both[usize::from(cancelled)] += 1;
        }
        println!("ran {} cancelled {}", both[0], both[1]);
        stop.set();
        runner.join().unwrap();
    }

    fn c08_cancel_races_with_completion_and_one_of_them_wins(rt: Runtime) {
        let rt = Arc::new(rt);
        let stop = Flag::new();
        let runner = { let (rt, stop) = (rt.clone(), stop.clone()); thread::spawn(move || rt.block_on(stop.wait())) };
        for round in 0..1500 {
            let (flag, probe) = (Flag::new(), DropProbe::new());
            let (wait, guard) = (flag.clone(), probe.guard());
            let task = rt.spawn(async move { wait.wait().await; guard });
            if round % 3 != 0 { eventually("it waits", || flag.waiters() == 1) }
            flag.set();
            for _ in 0..(round % 40) * 20 { std::hint::spin_loop() }
            let cancelled = task.cancel();
            match futures_lite::future::block_on(task) {
                Ok(guard) => { assert!(!cancelled); assert_eq!(probe.count(), 0); drop(guard) }
                Err(error) => assert!(cancelled && error.is_cancelled()),
            }
            assert_eq!(probe.count(), 1, "round {round}");
        }
        stop.set();
        runner.join().unwrap();
    }

    fn c08_b22_a_panic_becomes_a_join_error_with_its_payload(rt: Runtime) {
        rt.block_on(async {
            let before = spawn(async { sleep(5 * MS).await; 1 });
            let error = spawn(async { if true { std::panic::panic_any(vec![1u8, 2]) } }).await.unwrap_err();
            assert!(error.is_panic() && !error.is_cancelled());
            assert_eq!(*error.into_panic().downcast::<Vec<u8>>().unwrap(), [1, 2]);
            let error = spawn(async { yield_now().await; panic!("told {}", "so") }).await.unwrap_err();
            assert!(format!("{error} {error:?}").to_lowercase().contains("panic"));
            assert_eq!(panic_text(&*error.into_panic()), "told so");
            assert_eq!(before.await.unwrap(), 1, "others go on");
        });
    }

    fn b24_dropping_the_handle_detaches_and_the_output_goes_at_once(rt: Runtime) {
        rt.block_on(async {
            let (probe, flag) = (DropProbe::new(), Flag::new());
            let (guard, wait) = (probe.guard(), flag.clone());
            drop(spawn(async move { wait.wait().await; guard }));
            eventually_async("it waits, detached", || flag.waiters() == 1).await;
            assert_eq!(probe.count(), 0);
            let stale = flag.waker();
            flag.set();
            eventually_async("dropped right away", || probe.count() == 1).await;
            assert!(probe.only().loop_index.is_some());
            drop(stale);
        });
    }

    fn b28_a_destructor_that_panics_during_cancel_is_contained(rt: Runtime) {
        rt.block_on(async {
            for pinned in [false, true] {
                let flag = Flag::new();
                let wait = flag.clone();
                let work = async move { let _bomb = OnDrop(|| panic!("in a destructor")); wait.wait().await };
                let task = if pinned { spawn_local(work) } else { spawn(work) };
                eventually_async("it waits", || flag.waiters() == 1).await;
                assert!(task.cancel());
                let error = task.await.unwrap_err();
                assert!(error.is_panic());
                assert_eq!(panic_text(&*error.into_panic()), "in a destructor");
            }
            assert_eq!(spawn(async { 2 }).await.unwrap(), 2);
        });
    }

    fn b29_done_only_after_the_future_is_gone(rt: Runtime) {
        rt.block_on(async {
            for cancel in [false, true] {
                let (inside, gate, dropped) = (Gate::new(), Gate::new(), Arc::new(AtomicBool::new(false)));
                let _open = gate.open_on_drop();
                let (enter, release, set) = (inside.clone(), gate.clone(), dropped.clone());
                let flag = Flag::new();
                let wait = flag.clone();
                let task = spawn(async move {
                    let _slow = OnDrop(move || { enter.open(); release.wait(); set.store(true, SeqCst) });
                    wait.wait().await
                });
                eventually_async("it waits", || flag.waiters() == 1).await;
                let opener = {
                    let (inside, gate) = (inside.clone(), gate.clone());
                    let task = Arc::new(task);
                    let seen = task.clone();
                    let thread = thread::spawn(move || { inside.wait(); let early = seen.done(); drop(seen); gate.open(); early });
                    if cancel { assert!(task.cancel()); }
                    flag.set();
                    eventually_async("done", || task.done()).await;
                    assert!(dropped.load(SeqCst), "the future's destructor has returned");
                    thread
                };
                assert!(!opener.join().unwrap(), "not done while its destructor runs");
            }
        });
    }

    fn b30_ids_are_unique_and_visible_in_polls_and_destructors(rt: Runtime) {
        rt.block_on(async {
            assert_eq!(spawn(async { task::try_id() }).await.unwrap().map(|_| ()), Some(()));
            let tasks: Vec<_> = (0..500).map(|i| {
                let work = async move { let before = task::id(); yield_now().await; assert_eq!(task::id(), before); before };
                if i % 2 == 0 { spawn(work) } else { spawn_local(work) }
            }).collect();
            let mut ids = HashSet::new();
            for task in tasks {
                let id = task.id();
                assert_eq!(task.await.unwrap(), id);
                assert!(ids.insert(id));
            }
            for cancel in [false, true] {
                let (seen, flag): (Slot<Option<task::Id>>, _) = (Slot::default(), Flag::new());
                let (slot, wait) = (seen.clone(), flag.clone());
                let task = spawn(async move {
                    let _look = OnDrop(move || *slot.lock().unwrap() = Some(task::try_id()));
                    wait.wait().await;
                });
                let id = task.id();
                eventually_async("it waits", || flag.waiters() == 1).await;
                if cancel { task.cancel(); } else { flag.set() }
                assert_eq!(task.await.is_err(), cancel);
                assert_eq!(*seen.lock().unwrap(), Some(Some(id)), "in the destructor, cancelled: {cancel}");
            }
        });
    }

    fn s3_24_names_are_kept_and_default_ones_differ(rt: Runtime) {
        rt.block_on(async {
            let named = task::Builder::new().name("worker 7").spawn(async { task::id() });
            assert!(format!("{:?}", named.name()).contains("worker 7"));
            named.await.unwrap();
            let local = task::Builder::new().name("local").spawn_local(async {});
            assert!(format!("{:?}", local.name()).contains("local"));
            let (a, b) = (spawn(async {}), spawn(async {}));
            assert_ne!(format!("{:?}", a.name()), format!("{:?}", b.name()));
            assert!(format!("{:?}", a.name()).contains("Task-"));
            let number = |task: Task<()>| task.name().strip_prefix("Task-").unwrap().parse::<u64>().unwrap();
            let numbers: Vec<u64> = (0..3000).map(|i| number(if i % 2 == 0 { spawn(async {}) } else { spawn_local(async {}) })).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "increasing, on one thread");
        });
    }

    fn s0_04_done_callbacks_run_once_each_in_order_whatever_the_end(rt: Runtime) {
        rt.block_on(async {
            for end in [Outcome::Completed, Outcome::Cancelled, Outcome::Panicked] {
                let (log, flag) = (Arc::new(Mutex::new(Vec::new())), Flag::new());
                let wait = flag.clone();
                let task = spawn(async move { wait.wait().await; assert!(end != Outcome::Panicked, "on purpose") });
                let add = |n: u32| { let log = log.clone(); task.add_done_callback(move |outcome| log.lock().unwrap().push((n, outcome))) };
                for n in 1..=3 { add(n) }
                eventually_async("it waits", || flag.waiters() == 1).await;
                assert!(log.lock().unwrap().is_empty());
                if end == Outcome::Cancelled { assert!(task.cancel()) } else { flag.set() }
                eventually_async("three calls", || log.lock().unwrap().len() == 3).await;
                add(4); // late: still called, not in place
                eventually_async("the fourth", || log.lock().unwrap().len() == 4).await;
                let log = log.lock().unwrap().clone();
                let mut sorted = log.clone();
                sorted.sort_by_key(|(n, _)| *n);
                assert_eq!(sorted, [1, 2, 3, 4].map(|n| (n, end)));
                if flavour() == Flavour::OneLoop { assert_eq!(log, sorted, "in registration order") }
                assert_eq!(task.await.is_ok(), end == Outcome::Completed);
            }
        });
    }

    fn s0_04_a_done_callback_survives_its_tasks_handle(rt: Runtime) {
        rt.block_on(async {
            let (called, flag) = (Arc::new(AtomicUsize::new(0)), Flag::new());
            let (count, wait) = (called.clone(), flag.clone());
            let task = spawn(async move { wait.wait().await });
            task.add_done_callback(move |_| { count.fetch_add(1, SeqCst); });
            drop(task);
            flag.set();
            eventually_async("called", || called.load(SeqCst) == 1).await;
            sleep(2 * MS).await;
            assert_eq!(called.load(SeqCst), 1);
        });
    }

    fn c09_n21_an_unretrieved_panic_is_reported_once_and_a_retrieved_one_never(flavour: Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        let _ = flavour;
        rt.block_on(async {
            // Retrieved: silence.
            assert!(spawn(async { panic!("retrieved") }).await.unwrap_err().is_panic());
            // Detached before, dropped after the panic, cancelled on drop.
            drop(spawn(async { yield_now().await; panic!("detached before") }));
            let after = task::Builder::new().name("late drop").spawn(async { panic!("detached after") });
            eventually_async("done", || after.done()).await;
            let id = after.id();
            drop(after);
            eventually_async("both reports", || reports.all().len() >= 2).await;
            sleep(5 * MS).await;
            assert_eq!((reports.of_panic("detached before"), reports.of_panic("detached after"), reports.of_panic("retrieved")), (1, 1, 0));
            for report in reports.all() { assert!(report.message().contains("never retrieved"), "{report}") }
            let late = reports.all().into_iter().find(|report| report.panic_message() == Some("detached after")).unwrap();
            assert_eq!((late.task_id(), late.task_name()), (Some(id), Some("late drop")));
            assert!(late.location().is_some_and(|place| place.file().ends_with("task.rs")));
            // Cancellation is no error.
            let cancelled = spawn(pending::<()>());
            assert!(cancelled.cancel());
            drop(cancelled);
            sleep(5 * MS).await;
            assert_eq!(reports.all().len(), 2);
        });
    }

    fn s3_31_a_task_that_awaits_itself_does_not_hang_the_others(rt: Runtime) {
        rt.block_on(async {
            let (slot, flag): (Slot<Task<bool>>, _) = (Slot::default(), Flag::new());
            let (own, wait) = (slot.clone(), flag.clone());
            let task = spawn(async move {
                wait.wait().await;
                let itself = own.lock().unwrap().take().unwrap();
                itself.await.is_err()
            });
            let ended = Flag::new();
            let end = ended.clone();
            task.add_done_callback(move |_| end.set());
            *slot.lock().unwrap() = Some(task);
            flag.set();
            // Detected: it panics or gets an error. asyncio: "Task cannot await on itself".
            timeout(Duration::from_secs(10), ended.wait()).await.expect("a task that awaits itself is an error, not a hang");
        });
    }

    fn b04_ten_thousand_tasks_from_everywhere(rt: Runtime) {
        const N: usize = 10_000;
        let done = Arc::new(AtomicUsize::new(0));
        let work = |done: &Arc<AtomicUsize>| { let done = done.clone(); async move { yield_now().await; done.fetch_add(1, SeqCst); } };
        // From a foreign thread, from block_on, and from a task.
        let rt = Arc::new(rt);
        let rest = rt.block_on(async { rt.metrics().alive_tasks });
        let foreign = { let (rt, done) = (rt.clone(), done.clone()); thread::spawn(move || for _ in 0..N { rt.spawn(work(&done)); }) };
        rt.block_on(async {
            for _ in 0..N { spawn(work(&done)); }
            let inner = done.clone();
            spawn(async move { for _ in 0..N { spawn(work(&inner)); } }).await.unwrap();
            eventually_async("all 30 000", || done.load(SeqCst) == 3 * N).await;
        });
        foreign.join().unwrap();
        rt.block_on(async { eventually_async("nothing left", || rt.metrics().alive_tasks == rest).await });
    }

    fn b05_a_foreign_spawn_is_picked_up_idle_or_saturated(rt: Runtime) {
        let rt = Arc::new(rt);
        for saturated in [false, true] {
            let stop = Flag::new();
            let runner = { let (rt, stop) = (rt.clone(), stop.clone()); thread::spawn(move || rt.block_on(stop.wait())) };
            let busy = Arc::new(AtomicBool::new(saturated));
            let spinners: Vec<_> = (0..8).map(|_| { let busy = busy.clone(); rt.spawn(async move { while busy.load(SeqCst) { yield_now().await } }) }).collect();
            for i in 0..300 {
                if i % 10 == 0 { thread::sleep(MS) } // now and then everybody has gone to sleep
                let task = rt.spawn(async move { i });
                assert_eq!(futures_lite::future::block_on(task).unwrap(), i);
            }
            busy.store(false, SeqCst);
            for task in spinners { futures_lite::future::block_on(task).unwrap() }
            stop.set();
            runner.join().unwrap();
        }
    }

    fn b14_destructors_may_wake_spawn_and_lock(rt: Runtime) {
        rt.block_on(async {
            // A future's destructor wakes another task, spawns, cancels, and takes a lock that the canceller released.
            let lock = Arc::new(Mutex::new(0));
            let (other, spawned) = (Flag::new(), Arc::new(AtomicUsize::new(0)));
            let waiter = spawn({ let other = other.clone(); async move { other.wait().await } });
            let victim = spawn(pending::<()>());
            let flag = Flag::new();
            let task = {
                let (lock, count, wait) = (lock.clone(), spawned.clone(), flag.clone());
                spawn(async move {
                    let _all = OnDrop(move || {
                        *lock.lock().unwrap() += 1;
                        other.set();
                        victim.cancel();
                        let count = count.clone();
                        spawn(async move { count.fetch_add(1, SeqCst); });
                    });
                    wait.wait().await
                })
            };
            eventually_async("it waits", || flag.waiters() == 1).await;
            { let _held = lock.lock().unwrap(); assert!(task.cancel()); }
            assert!(task.await.unwrap_err().is_cancelled());
            waiter.await.unwrap();
            eventually_async("spawned from a destructor", || spawned.load(SeqCst) == 1).await;
            assert_eq!(*lock.lock().unwrap(), 1);
        });
    }

    fn s1_10_alive_tasks_counts_from_spawn_to_completion(rt: Runtime) {
        rt.block_on(async {
            let alive = || rt.metrics().alive_tasks;
            let (before, flag) = (alive(), Flag::new());
            let tasks: Vec<_> = (0..10).map(|i| { let wait = flag.wait(); if i % 2 == 0 { spawn(wait) } else { spawn_local(wait) } }).collect();
            assert_eq!(alive(), before + 10);
            eventually_async("all wait", || flag.waiters() == 10).await;
            assert_eq!(alive(), before + 10);
            flag.set();
            for task in tasks { task.await.unwrap() }
            eventually_async("all gone", || alive() == before).await;
        });
    }

    fn s1_10_n88_all_tasks_shows_each_from_spawn_to_completion(rt: Runtime) {
        let handle = rt.handle();
        let listed = |id: task::Id| handle.all_tasks().iter().filter(|info| info.id == id).count();
        rt.block_on(async {
            let flag = Flag::new();
            let tasks: Vec<Task<()>> = (0..20).map(|i| match i % 3 {
                0 => spawn(flag.wait()),
                1 => spawn_local(flag.wait()),
                _ => { let wait = flag.wait(); rt.loops()[i % rt.loops().len()].spawn_local(move || wait) }
            }).collect();
            eventually_async("all wait", || flag.waiters() == 20).await;
            for task in &tasks { assert_eq!(listed(task.id()), 1) }
            let named = task::Builder::new().name("find me").spawn(pending::<()>());
            assert!(handle.all_tasks().iter().any(|info| info.id == named.id() && info.name == "find me"));
            assert!(named.cancel());
            flag.set();
            let ids: Vec<_> = tasks.iter().map(|task| task.id()).collect();
            for task in tasks { task.await.unwrap() }
            eventually_async("none is left", || ids.iter().all(|id| listed(*id) == 0)).await;
        });
        // Consistent while others spawn and finish.
        let rt = Arc::new(rt);
        let stop = Flag::new();
        let driver = { let (rt, stop) = (rt.clone(), stop.clone()); thread::spawn(move || rt.block_on(stop.wait())) };
        let keeper = rt.spawn(pending::<()>());
        let churn = { let rt = rt.clone(); thread::spawn(move || for _ in 0..3000 { rt.spawn(async { yield_now().await }); }) };
        while !churn.is_finished() {
            let all = rt.handle().all_tasks();
            assert_eq!(all.iter().filter(|info| info.id == keeper.id()).count(), 1);
            let ids: HashSet<_> = all.iter().map(|info| info.id).collect();
            assert_eq!(ids.len(), all.len(), "none twice");
        }
        churn.join().unwrap();
        stop.set();
        driver.join().unwrap();
    }

    fn b12_a_task_awaited_by_another_loop_gives_its_value(rt: Runtime) {
        rt.block_on(async {
            for event_loop in rt.loops() {
                for early in [true, false] {
                    let (flag, wait) = (Flag::new(), Flag::new());
                    let release = flag.clone();
                    let task = spawn(async move { release.wait().await; 11 });
                    let ready = wait.clone();
                    if early { flag.set() }
                    let joined = event_loop.spawn_local(move || async move { ready.set(); task.await.unwrap() });
                    wait.wait().await;
                    flag.set();
                    assert_eq!(joined.await.unwrap(), 11);
                }
            }
        });
    }

    fn b12_a_task_may_be_awaited_off_the_runtime(rt: Runtime) {
        let rt = Arc::new(rt);
        let task = rt.spawn(async { sleep(5 * MS).await; 12 });
        let foreign = thread::spawn(move || futures_lite::future::block_on(task).unwrap());
        let start = Instant::now();
        rt.block_on(async { while !foreign.is_finished() { assert!(start.elapsed() < common::PATIENCE); sleep(MS).await } });
        assert_eq!(foreign.join().unwrap(), 12);
    }
}
