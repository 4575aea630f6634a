//! `wait` and `as_completed` (S1-13, S4-16, N31 to N34).
//!
//! Hop counts are asked of one loop; the rest of all flavours. Lower bounds of times are exact, upper ones are not asserted.

mod common;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{DropProbe, Flag, eventually_async, on_one_loop, panics_with, pending_with, turns_of};
use epicycle::future::ReturnWhen::{AllCompleted, FirstCompleted, FirstException};
use epicycle::time::sleep;
use epicycle::{Runtime, Task, as_completed, as_completed_tasks, spawn, spawn_local, try_wait, wait, yield_now};
use futures_lite::StreamExt as _;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A task that ends when the flag is set.
fn until(flag: &Flag) -> Task<()> {
    spawn(flag.wait())
}

#[test]
fn c05_n31_hops_wait_for_no_ops_takes_three() {
    on_one_loop(async |event_loop| {
        for when in [AllCompleted, FirstCompleted, FirstException] {
            let waits = async {
                let tasks = [spawn_local(async {}), spawn_local(async {})];
                assert_eq!(wait(&tasks, when).await.0.len(), 2);
            };
            assert_eq!(turns_of(&event_loop, waits).await, 3, "{when:?}");
            let waits = async {
                let mut tasks = [spawn_local(async { Ok::<_, ()>(()) }), spawn_local(async { Ok(()) })];
                assert_eq!(try_wait(&mut tasks, when).await.0.len(), 2);
            };
            assert_eq!(turns_of(&event_loop, waits).await, 3, "{when:?}");
        }
    });
}

#[test]
fn c05_n34_hops_as_completed_of_a_no_op_takes_three() {
    on_one_loop(async |event_loop| {
        let first = async { as_completed([async { 1 }]).next().await.unwrap().unwrap() };
        assert_eq!(turns_of(&event_loop, first).await, 3);
    });
}

common::flavours! {
    fn s1_13_s1_04_three_workers_are_waited_for_together(rt: Runtime) {
        rt.block_on(async {
            let start = Instant::now();
            let work = |x: u32| spawn(async move { sleep(10 * x * MS).await; x });
            let (done, pending) = wait([work(1), work(2), work(3)], AllCompleted).await;
            assert!(pending.is_empty() && start.elapsed() >= 30 * MS);
            let mut sum = 0;
            for task in done { sum += task.await.unwrap() }
            assert_eq!(sum, 6);
        });
    }

    fn n31_an_empty_set_is_rejected(rt: Runtime) {
        rt.block_on(async {
            panics_with("wait() needs at least one task", || wait(Vec::<Task<()>>::new(), AllCompleted));
        });
    }

    fn n32_first_completed_gives_those_that_are_done(rt: Runtime) {
        rt.block_on(async {
            let flag = Flag::new();
            let tasks = [until(&flag), spawn(pending()), until(&flag)];
            flag.set();
            let (done, pending) = wait(tasks, FirstCompleted).await;
            assert!(!done.is_empty() && done.len() + pending.len() == 3);
            assert!(done.iter().all(Task::done));
            // A cancellation is an end, too.
            let cancelled = spawn(std::future::pending::<()>());
            cancelled.cancel();
            assert_eq!(wait([&cancelled, &spawn(std::future::pending())], FirstCompleted).await.0.len(), 1);
        });
    }

    fn n32_first_exception_ignores_cancellations_and_values(rt: Runtime) {
        rt.block_on(async {
            let (cancelled, flag) = (spawn(pending::<Result<(), ()>>()), Flag::new());
            cancelled.cancel();
            let failed = spawn(async { Err(()) });
            let last = spawn({ let flag = flag.clone(); async move { flag.wait().await; Ok(()) } });
            let tasks = [cancelled, failed, last];
            eventually_async("two are done", || tasks[0].done() && tasks[1].done()).await;
            let (done, pending) = wait(&tasks, FirstException).timeout(10 * MS).await;
            assert_eq!((done.len(), pending.len()), (2, 1), "still waiting when its time was up");
            flag.set();
            assert_eq!(wait(&tasks, FirstException).await.0.len(), 3);

            let panics = spawn(async { panic!("on purpose") });
            let tasks = [panics, spawn(std::future::pending::<()>())];
            let (done, pending) = wait(&tasks, FirstException).await;
            assert_eq!((done.len(), pending.len()), (1, 1));
            for task in tasks {
                task.cancel();
                assert!(task.await.is_err());
            }
        });
    }

    fn n32_first_exception_sees_an_err_with_try_wait(rt: Runtime) {
        rt.block_on(async {
            let (cancelled, flag) = (spawn(pending::<Result<u8, &str>>()), Flag::new());
            cancelled.cancel();
            let fine = spawn(async { Ok(1) });
            let fails = spawn({ let flag = flag.clone(); async move { flag.wait().await; Err("on purpose") } });
            let mut tasks = [cancelled, fine, fails, spawn(pending())];
            // Neither a value nor a cancellation is one.
            eventually_async("two are done", || tasks[0].done() && tasks[1].done()).await;
            let (done, pending) = try_wait(&mut tasks, FirstException).timeout(10 * MS).await;
            assert_eq!((done.len(), pending.len()), (2, 2), "still waiting when its time was up");
            flag.set();
            for _ in 0..2 {
                let (done, pending) = try_wait(&mut tasks, FirstException).await;
                assert_eq!((done.len(), pending.len()), (3, 1), "also if it had failed before");
            }
            let [_, fine, fails, forever] = tasks;
            assert_eq!((fine.await.unwrap(), fails.await.unwrap()), (Ok(1), Err("on purpose")), "nothing was taken");
            assert!(!forever.done(), "nobody was cancelled");

            // By value, and with a guard; a panic counts as well.
            let panics = spawn(async { if true { panic!("on purpose") }; Ok::<u8, &str>(0) });
            let tasks = [panics.cancel_on_drop(), forever.cancel_on_drop()];
            let (done, pending) = try_wait(tasks, FirstException).await;
            assert_eq!((done.len(), pending.len()), (1, 1));
            for task in done { assert!(task.await.unwrap_err().is_panic()) }
        });
    }

    fn n32_try_wait_without_errors_waits_for_all_or_the_first(rt: Runtime) {
        rt.block_on(async {
            let tasks: Vec<_> = (0..20u32).map(|n| spawn(async move { sleep(n % 4 * MS).await; Ok::<_, ()>(n) })).collect();
            let (done, pending) = try_wait(tasks, FirstException).await;
            assert_eq!((done.len(), pending.len()), (20, 0));
            // An output that was taken before is no failure.
            let mut taken = spawn(async { Err::<(), _>(()) });
            assert_eq!((&mut taken).await.unwrap(), Err(()));
            let (mut forever, mut fine) = (spawn(std::future::pending()), spawn(async { Ok(()) }));
            let (done, _) = try_wait([&mut taken, &mut forever], FirstCompleted).await;
            assert!(!done.is_empty());
            let (done, pending) = try_wait([&mut taken, &mut fine], FirstException).await;
            assert_eq!((done.len(), pending.len()), (2, 0));
            panics_with("wait() needs at least one task", || try_wait(Vec::<Task<Result<(), ()>>>::new(), FirstException));
        });
    }

    fn n32_a_timeout_returns_and_cancels_nothing(rt: Runtime) {
        rt.block_on(async {
            let start = Instant::now();
            let (done_already, waiting) = (spawn(async {}), spawn(pending()));
            eventually_async("it is done", || done_already.done()).await;
            let (done, pending) = wait([done_already, waiting], AllCompleted).timeout(5 * MS).await;
            assert!(start.elapsed() >= 5 * MS);
            assert_eq!((done.len(), pending.len()), (1, 1));
            assert!(!pending[0].done() && !pending[0].cancelled());
            // In time, it costs nothing.
            let (done, _) = wait([spawn(async {})], AllCompleted).timeout(HOUR).await;
            assert_eq!(done.len(), 1);
        });
        assert_eq!(rt.metrics().loops.iter().map(|each| each.timers_pending).sum::<usize>(), 0);
    }

    fn n33_cancelling_wait_leaves_the_tasks_running(rt: Runtime) {
        rt.block_on(async {
            let (flag, ran) = (Flag::new(), Arc::new(AtomicUsize::new(0)));
            let task = || {
                let (flag, ran) = (flag.clone(), ran.clone());
                spawn(async move { flag.wait().await; ran.fetch_add(1, SeqCst); })
            };
            let tasks = [task(), task()];
            let waiting = spawn(async move { wait(tasks, AllCompleted).await; });
            for _ in 0..5 { yield_now().await }
            waiting.cancel();
            assert!(waiting.await.unwrap_err().is_cancelled());
            // Lent, they are still at hand.
            let lent = [task()];
            assert_eq!(wait(&lent, AllCompleted).timeout(MS).await.1.len(), 1);
            flag.set();
            eventually_async("all ran", || ran.load(SeqCst) == 3).await;
            for task in lent { task.await.unwrap() }
        });
    }

    fn s4_16_both_halves_keep_the_order_of_the_arguments(rt: Runtime) {
        rt.block_on(async {
            let flag = Flag::new();
            let task = |n: usize| {
                let flag = flag.clone();
                spawn(async move { if n & 1 == 0 { flag.wait().await } n })
            };
            let mut tasks: Vec<_> = (0..6).map(task).collect();
            eventually_async("the odd ones are done", || tasks.iter().filter(|task| task.done()).count() == 3).await;
            let ids: Vec<_> = tasks.iter().map(Task::id).collect();
            let (done, pending) = wait(tasks.iter_mut(), FirstCompleted).await;
            assert_eq!(done.iter().map(|task| task.id()).collect::<Vec<_>>(), [ids[1], ids[3], ids[5]]);
            assert_eq!(pending.iter().map(|task| task.id()).collect::<Vec<_>>(), [ids[0], ids[2], ids[4]]);
        });
    }

    fn tasks_that_cancel_on_drop_can_be_waited_for(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            let guards = [spawn(pending_with(probe.guard())).cancel_on_drop(), spawn(async {}).cancel_on_drop()];
            let (done, pending) = wait(guards, FirstCompleted).await;
            assert_eq!((done.len(), pending.len()), (1, 1));
            drop(pending);
            eventually_async("cancelled", || probe.count() == 1).await;
        });
    }

    // ------------------------------------------------------------------------------------------------ as_completed

    fn n34_results_come_as_they_finish_each_once(rt: Runtime) {
        rt.block_on(async {
            let flags: Vec<_> = (0..4).map(|_| Flag::new()).collect();
            let futures = flags.iter().cloned().enumerate().map(|(n, flag)| async move { flag.wait().await; n });
            let mut results = as_completed(futures);
            for n in [2, 0, 3, 1] {
                assert_eq!(results.remaining(), flags.iter().filter(|flag| !flag.is_set()).count());
                flags[n].set();
                assert_eq!(results.next().await.unwrap().unwrap(), n);
            }
            assert!(results.next().await.is_none() && results.next().await.is_none());
        });
    }

    fn n34_it_is_a_stream_and_tells_errors(rt: Runtime) {
        rt.block_on(async {
            let cancelled = spawn(pending());
            cancelled.cancel();
            let tasks = [spawn(async { 1 }), spawn(async { panic!("on purpose") }), cancelled];
            let results: Vec<_> = as_completed_tasks(tasks).collect().await;
            assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
            assert_eq!(results.iter().flat_map(|result| result.as_ref().err()).filter(|error| error.is_panic()).count(), 1);
            assert!(as_completed(Vec::<std::future::Ready<()>>::new()).next().await.is_none());
            let many = as_completed((0..1000).map(std::future::ready));
            assert_eq!(many.count().await, 1000);
        });
    }

    fn n34_a_timeout_is_told_for_each_that_has_not_finished(rt: Runtime) {
        rt.block_on(async {
            let tasks = [spawn(pending()), spawn(async { 1 }), spawn(pending())];
            eventually_async("one is done", || tasks[1].done()).await;
            let start = Instant::now();
            let mut results = as_completed_tasks(tasks).timeout(200 * MS);
            assert_eq!(results.next().await.unwrap().unwrap().unwrap(), 1);
            assert!(results.next().await.unwrap().is_err());
            assert!(start.elapsed() >= 200 * MS);
            assert!(results.next().await.unwrap().is_err());
            assert!(results.next().await.is_none());
            let tasks = results.into_tasks();
            assert!(tasks.len() == 2 && tasks.iter().all(|task| !task.done()), "nothing is cancelled");
        });
    }

    fn n34_dropping_it_leaves_the_tasks_running(rt: Runtime) {
        rt.block_on(async {
            let (flag, ran) = (Flag::new(), Arc::new(AtomicUsize::new(0)));
            let child = || {
                let (flag, ran) = (flag.clone(), ran.clone());
                async move { flag.wait().await; ran.fetch_add(1, SeqCst) }
            };
            drop(as_completed([child(), child()]));
            let rest = as_completed([child()]).into_tasks();
            flag.set();
            eventually_async("they ran on", || ran.load(SeqCst) == 3).await;
            for task in rest { task.await.unwrap(); }
        });
    }
}
