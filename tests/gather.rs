//! Gathering, shielding, joining and racing (S0-10, S2-14, S3-04, S4-16, N28 to N30, N35; `join!`, `try_join!`, `select!`).
//!
//! Hop counts and exact order are asked of one loop; the rest of all flavours.

mod common;

use std::cell::RefCell;
use std::future::{pending, ready};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{
    DropProbe, Flag, Reports, eventually, eventually_async, on_one_loop, panics_with, pending_with, turns_of,
};
use epicycle::future::{Shield, TryGatherError};
use epicycle::time::{sleep, timeout};
use epicycle::{
    EventLoop, Runtime, gather, gather_local, gather_tasks, join, select, shield, spawn, spawn_local, try_gather,
    try_join, yield_now,
};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

// ---------------------------------------------------------------------------------------------------- one loop

#[test]
fn c05_hops_gather_of_two_no_ops_takes_three_and_of_none_takes_none() {
    on_one_loop(async |event_loop| {
        for _ in 0..3 {
            let two = async { gather!(async {}, async {}).await.unwrap() };
            assert_eq!(turns_of(&event_loop, two).await, 3);
            let two = async { gather([ready(1), ready(2)]).await.unwrap() };
            assert_eq!(turns_of(&event_loop, two).await, 3);
            let two = async { gather_local([ready(1), ready(2)]).return_exceptions().await };
            assert_eq!(turns_of(&event_loop, two).await, 3);
            let two = async { try_gather([ready(Ok::<_, ()>(1)), ready(Ok(2))]).await.unwrap() };
            assert_eq!(turns_of(&event_loop, two).await, 3);
            let none = async {
                assert_eq!(gather(Vec::<std::future::Ready<u8>>::new()).await.unwrap(), []);
                let () = gather!().await.unwrap();
            };
            assert_eq!(turns_of(&event_loop, none).await, 0);
        }
    });
}

#[test]
fn c05_hops_gather_of_tasks_that_are_done_takes_none() {
    on_one_loop(async |event_loop| {
        let tasks = vec![spawn(async { 1 }), spawn(async { 2 })];
        yield_now().await;
        yield_now().await;
        let gathered = async { assert_eq!(gather_tasks(tasks).await.unwrap(), [1, 2]) };
        assert_eq!(turns_of(&event_loop, gathered).await, 0);
    });
}

#[test]
fn c05_n35_hops_shield_of_a_no_op_takes_three() {
    on_one_loop(async |event_loop| {
        assert_eq!(turns_of(&event_loop, async { shield(async {}).await.unwrap() }).await, 3);
    });
}

#[test]
fn s0_10_s2_14_children_are_scheduled_by_the_call_and_begin_in_order() {
    on_one_loop(async |event_loop| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let note = |n: usize| {
            let log = log.clone();
            move || log.borrow_mut().push(n)
        };
        event_loop.call_soon(note(0));
        let gather = gather_local((1..=3).map(|n| {
            let note = note(n);
            async move { note() }
        }));
        event_loop.call_soon(note(4));
        assert!(log.borrow().is_empty(), "no user code runs in the call");
        yield_now().await;
        assert_eq!(*log.borrow(), [0, 1, 2, 3, 4], "without an await");
        gather.await.unwrap();
    });
}

#[test]
fn gather_on_a_loop_of_its_own_and_with_borrowed_neighbours() {
    on_one_loop(async |_| {
        let text = String::from("borrowed");
        let (a, b) = join!(async { text.len() }, async { &text[..3] });
        assert_eq!((a, b), (8, "bor"));
        let one = spawn_local(async { Rc::new(1) });
        let (one, two) = gather!(one, async { 2 }).await.unwrap();
        assert_eq!(*one + two, 3);
    });
}

// ---------------------------------------------------------------------------------------------------- gather

common::flavours! {
    fn s2_14_s4_16_results_come_in_the_order_of_the_arguments(rt: Runtime) {
        rt.block_on(async {
            let slow_first = (0..10u32).map(|n| async move { sleep((10 - n) * MS).await; n });
            assert_eq!(gather(slow_first).await.unwrap(), (0..10).collect::<Vec<_>>());
            let gathered = gather!(async { sleep(3 * MS).await; 1 }, async { "two" }, spawn(async { 3.0 }));
            assert_eq!(gathered.await.unwrap(), (1, "two", 3.0));
            let many = gather((0..2000usize).map(ready)).await.unwrap();
            assert!(many.is_sorted() && many.len() == 2000, "more than a task's budget");
        });
    }

    fn s3_04_a_task_is_taken_over_not_spawned_again(rt: Runtime) {
        rt.block_on(async {
            let ids = Arc::new(Mutex::new(Vec::new()));
            let task = |_| {
                let ids = ids.clone();
                spawn(async move { ids.lock().unwrap().push(epicycle::task::id()) })
            };
            let tasks: Vec<_> = (0..3).map(task).collect();
            let mut expected: Vec<_> = tasks.iter().map(epicycle::Task::id).collect();
            gather_tasks(tasks).await.unwrap();
            let single = task(0);
            expected.push(single.id());
            gather!(single).await.unwrap();
            let mut ids = ids.lock().unwrap().clone();
            ids.sort();
            expected.sort();
            assert_eq!(ids, expected);
        });
    }

    fn s4_16_a_users_error_is_a_value(rt: Runtime) {
        rt.block_on(async {
            let results = gather([ready(Ok(1)), ready(Err("no"))]).await.unwrap();
            assert_eq!(results, [Ok(1), Err("no")]);
        });
    }

    fn n29_the_first_error_returns_at_once_and_siblings_run_on_in_silence(flavour: common::Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let (go, ran) = (Flag::new(), Arc::new(AtomicUsize::new(0)));
            let children = (0..5).map(|n| {
                let (go, ran) = (go.clone(), ran.clone());
                async move {
                    if n == 2 { panic!("first") }
                    go.wait().await;
                    ran.fetch_add(1, SeqCst);
                    if n == 3 { panic!("later") }
                }
            });
            let error = gather(children).await.unwrap_err();
            assert_eq!(error.to_string(), "task panicked: first");
            assert_eq!(ran.load(SeqCst), 0, "at once");
            go.set();
            eventually_async("the siblings ran on", || ran.load(SeqCst) == 4).await;
            for _ in 0..10 { yield_now().await }
        });
        drop(rt);
        assert!(reports.all().is_empty(), "{:?}", reports.all());
        let _ = flavour;
    }

    fn n29_return_exceptions_collects_all_outcomes(rt: Runtime) {
        rt.block_on(async {
            let cancelled = spawn(pending());
            cancelled.cancel();
            let tasks = vec![spawn(async { 1 }), spawn(async { panic!("no") }), cancelled, spawn(async { sleep(MS).await; 4 })];
            let outcomes = gather_tasks(tasks).return_exceptions().await;
            assert_eq!(outcomes[0].as_ref().unwrap(), &1);
            assert!(outcomes[1].as_ref().unwrap_err().is_panic());
            assert!(outcomes[2].as_ref().unwrap_err().is_cancelled());
            assert_eq!(outcomes[3].as_ref().unwrap(), &4);
            let (one, two) = gather!(async { 1 }, async { panic!("no") as u8 }).return_exceptions().await;
            assert!(one.is_ok() && two.is_err());
        });
    }

    fn n28_s4_16_dropping_a_gather_cancels_the_unfinished(rt: Runtime) {
        rt.block_on(async {
            let (probe, started) = (DropProbe::new(), Arc::new(AtomicUsize::new(0)));
            let child = || {
                let (guard, started) = (probe.guard(), started.clone());
                async move { started.fetch_add(1, SeqCst); pending_with(guard).await }
            };
            let outer = spawn(gather([child(), child(), child()]));
            eventually_async("they run", || started.load(SeqCst) == 3).await;
            outer.cancel();
            assert!(outer.await.unwrap_err().is_cancelled());
            eventually_async("all are gone", || probe.count() == 3).await;

            drop(gather!(child(), spawn(child())));
            eventually_async("these, too", || probe.count() == 5).await;
            drop(gather_tasks([spawn(child())]).return_exceptions());
            eventually_async("and this", || probe.count() == 6).await;
            drop(try_gather([async move { pending::<Result<(), ()>>().await }]));

            let gather = gather([child()]);
            gather.cancel();
            assert!(gather.await.unwrap_err().is_cancelled());
            assert_eq!(probe.count(), 7);
        });
    }

    fn n29_gather_of_tasks_awaits_them_and_gives_a_result_each(rt: Runtime) {
        rt.block_on(async {
            let tasks = [spawn(async { 1 }), spawn(async { panic!("on purpose") })];
            let results = gather(tasks).await.unwrap();
            assert_eq!(results[0].as_ref().unwrap(), &1);
            assert!(results[1].as_ref().unwrap_err().is_panic());
            // Not taken over: dropping it cancels those that wait, not those that are awaited.
            let flag = Flag::new();
            let probe = DropProbe::new();
            let guard = probe.guard();
            let task = spawn({ let flag = flag.clone(); async move { flag.wait().await; drop(guard) } });
            let gathered = gather([task]);
            for _ in 0..3 { yield_now().await }
            drop(gathered);
            for _ in 0..3 { yield_now().await }
            assert_eq!(probe.count(), 0);
            flag.set();
            eventually_async("it has ended by itself", || probe.count() == 1).await;
        });
    }

    fn n30_a_childs_cancellation_alone_leaves_the_others(rt: Runtime) {
        rt.block_on(async {
            let (go, ran) = (Flag::new(), Arc::new(AtomicUsize::new(0)));
            let victim = spawn(pending::<()>());
            let others = (0..2).map(|_| {
                let (go, ran) = (go.clone(), ran.clone());
                spawn(async move { go.wait().await; ran.fetch_add(1, SeqCst); })
            });
            victim.cancel();
            let gathered = gather_tasks(std::iter::once(victim).chain(others)).await;
            assert!(gathered.unwrap_err().is_cancelled(), "as if it had raised that");
            go.set();
            eventually_async("the others were not cancelled", || ran.load(SeqCst) == 2).await;
        });
    }

    fn n30_an_outer_cancel_wins_over_return_exceptions(rt: Runtime) {
        rt.block_on(async {
            let reached = Arc::new(AtomicUsize::new(0));
            let after = reached.clone();
            let outer = spawn(async move {
                let _outcomes = gather([pending::<()>()]).return_exceptions().await;
                after.fetch_add(1, SeqCst);
            });
            for _ in 0..5 { yield_now().await }
            outer.cancel();
            assert!(outer.await.unwrap_err().is_cancelled());
            assert_eq!(reached.load(SeqCst), 0);
        });
    }

    fn try_gather_fails_on_a_users_error(flavour: common::Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            assert_eq!(try_gather((0..3).map(|n| ready(Ok::<_, ()>(n)))).await.unwrap(), [0, 1, 2]);
            let (go, ran) = (Flag::new(), Arc::new(AtomicUsize::new(0)));
            let children = (0..4).map(|n| {
                let (go, ran) = (go.clone(), ran.clone());
                async move {
                    if n == 1 { return Err("no") }
                    go.wait().await;
                    ran.fetch_add(1, SeqCst);
                    if n == 2 { return Err("later") }
                    if n == 3 { panic!("later") }
                    Ok(n)
                }
            });
            assert_eq!(try_gather(children).await.unwrap_err().into_failed().unwrap(), "no");
            go.set();
            eventually_async("the others ran on", || ran.load(SeqCst) == 3).await;
            let panicked = try_gather([async { panic!("on purpose") as Result<u8, ()> }]).await;
            assert!(matches!(panicked, Err(TryGatherError::Join(error)) if error.is_panic()));
        });
        drop(rt);
        assert!(reports.all().is_empty(), "{:?}", reports.all());
        let _ = flavour;
    }

    fn an_iterator_that_panics_midway_leaves_no_children(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            panics_with("midway", || {
                gather((0..3).map(|n| {
                    assert!(n < 2, "midway");
                    pending_with(probe.guard())
                }))
            });
            eventually_async("they are gone", || probe.count() == 2).await;
        });
    }

    fn arguments_are_evaluated_before_the_first_is_spawned(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            let early = || -> Result<(), &str> {
                let _gather = gather!(pending_with(probe.guard()), ready(Err::<u8, _>("out")?));
                Ok(())
            };
            assert_eq!(early(), Err("out"));
            assert_eq!(probe.count(), 1, "dropped, not running");
        });
    }

    fn a_gather_of_a_runtime_that_ends_does_not_hang(rt: Runtime) {
        let waiting = Runtime::builder().worker_threads(1).build().unwrap();
        let handle = rt.handle();
        let entered = handle.enter();
        let (gather, shield) = (gather((0..3).map(|_| pending::<()>())), shield(pending::<()>()));
        drop(entered);
        let ended = waiting.spawn(async move { (gather.await.is_err(), shield.await.is_err()) });
        drop(rt);
        assert_eq!(waiting.block_on(ended).unwrap(), (true, true));
    }

    fn children_on_other_loops_can_be_gathered(rt: Runtime) {
        rt.block_on(async {
            let loops: Vec<_> = epicycle::RuntimeHandle::current().loops().to_vec();
            let tasks = loops.iter().map(|each| each.spawn_local(async || EventLoop::current().index()));
            let indices = gather_tasks(tasks).await.unwrap();
            assert_eq!(indices, (0..loops.len()).collect::<Vec<_>>());
        });
    }

    // ------------------------------------------------------------------------------------------------ shield

    fn n35_an_outer_cancel_does_not_reach_the_inner(rt: Runtime) {
        rt.block_on(async {
            let (go, done) = (Flag::new(), Flag::new());
            let (wait, set) = (go.clone(), done.clone());
            let outer = spawn(shield(async move { wait.wait().await; set.set() }));
            for _ in 0..5 { yield_now().await }
            outer.cancel();
            assert!(outer.await.unwrap_err().is_cancelled());
            assert!(!done.is_set());
            go.set();
            done.wait().await;
            assert_eq!(shield(async { 3 }).await.unwrap(), 3);
        });
    }

    fn n35_an_inner_cancel_reaches_the_outer(rt: Runtime) {
        rt.block_on(async {
            let inner = spawn(pending::<()>());
            let shield = Shield::from(inner);
            let task = shield.into_task();
            task.cancel();
            assert!(Shield::from(task).await.unwrap_err().is_cancelled());
        });
    }

    fn n35_a_later_inner_error_is_reported(flavour: common::Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let go = Flag::new();
            let wait = go.clone();
            let inner = async move { wait.wait().await; panic!("on purpose") };
            assert!(timeout(MS, shield(inner)).await.is_err());
            go.set();
            eventually_async("it is reported", || reports.of_panic("on purpose") == 1).await;
            // Shown to whoever waits, it is not.
            assert!(shield(async { assert_eq!(MS, HOUR, "seen") }).await.unwrap_err().is_panic());
        });
        drop(rt);
        assert_eq!(reports.all().len(), 1);
        let _ = flavour;
    }

    fn n35_a_later_error_of_a_shielded_task_is_reported_once(flavour: common::Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        let _ = flavour;
        rt.block_on(async {
            let go = Flag::new();
            let fails = |text: &'static str| { let wait = go.clone(); spawn(async move { wait.wait().await; panic!("{text}") }) };
            let (adopted, wrapped, local) = (Shield::from(fails("adopted")), shield(fails("wrapped")), fails("local"));
            assert!(timeout(MS, adopted).await.is_err());
            assert!(timeout(MS, wrapped).await.is_err());
            drop(spawn_local(local)); // any task that returns what another one gave it
            let deep = fails("deep");
            drop(spawn(async { vec![Ok(shield(async { 1 }).await), Err(deep.await)] }));
            go.set();
            for text in ["adopted", "wrapped", "local", "deep"] {
                eventually_async(text, || reports.of_panic(text) == 1).await;
            }
            // Ended before the shield is dropped.
            let early = shield(fails("early"));
            sleep(MS).await;
            drop(early);
            eventually_async("early", || reports.of_panic("early") == 1).await;
            // Shown to whoever waits, it is not; nor is a cancellation.
            assert!(shield(fails("seen")).await.unwrap().unwrap_err().is_panic());
            let seen = fails("looked at");
            drop(spawn(async move { assert!(seen.await.unwrap_err().is_panic()) }));
            let cancelled = spawn(pending::<()>());
            cancelled.cancel();
            drop(shield(cancelled));
            sleep(5 * MS).await;
        });
        drop(rt);
        let all = reports.all();
        assert_eq!(all.len(), 5, "{all:?}");
        assert!(all.iter().all(|report| report.message() == "Task exception was never retrieved"), "{all:?}");
    }

    // ------------------------------------------------------------------------------------------------ join, select

    fn join_gives_all_and_runs_them_side_by_side(rt: Runtime) {
        rt.block_on(async {
            let flag = Flag::new();
            let (a, (), c) = join!(async { flag.wait().await; 1 }, async { yield_now().await; flag.set() }, ready("c"),);
            assert_eq!((a, c), (1, "c"));
            let (one,) = join!(ready(1));
            assert_eq!(one, 1);
        });
    }

    fn join_does_not_let_one_use_up_the_budget_of_all(rt: Runtime) {
        rt.block_on(async {
            let (busy, other) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let greedy = async {
                while other.load(SeqCst) == 0 {
                    sleep(Duration::ZERO).await; // ready whenever there is budget
                    busy.fetch_add(1, SeqCst);
                }
            };
            let modest = async { sleep(Duration::ZERO).await; other.store(1, SeqCst) };
            join!(greedy, modest);
        });
    }

    fn try_join_stops_at_the_first_error(rt: Runtime) {
        rt.block_on(async {
            let both: Result<_, ()> = try_join!(async { Ok(1) }, async { yield_now().await; Ok("two") });
            assert_eq!(both, Ok((1, "two")));
            let probe = DropProbe::new();
            let never = async { pending_with(probe.guard()).await; Ok(()) };
            let failed = try_join!(never, async { yield_now().await; Err::<u8, _>("no") });
            assert_eq!((failed, probe.count()), (Err("no"), 1));
        });
    }

    fn select_takes_the_first_and_drops_the_rest_before_its_handler(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            let mut text = String::from("a");
            let first = select! {
                () = pending_with(probe.guard()) => unreachable!(),
                // It borrows what the handler changes.
                length = async { yield_now().await; text.len() } => {
                    assert_eq!(probe.count(), 1);
                    text.push('b');
                    yield_now().await;
                    length
                }
            };
            assert_eq!((first, text.as_str()), (1, "ab"));
        });
    }

    fn select_has_conditions_patterns_and_an_else(rt: Runtime) {
        rt.block_on(async {
            let on = |on: bool| async move {
                select! {
                    Some(1 | 2) = async { Some(3) } => "no match",
                    _ = ready(()), if on => "on",
                    else => "else",
                }
            };
            assert_eq!((on(true).await, on(false).await), ("on", "else"));
            // A branch that does not match leaves the others to be waited for.
            let value = select! {
                biased;
                Err(()) = ready(Ok::<u8, ()>(1)) => 0,
                mut value = async { yield_now().await; 2 } => { value += 1; value }
            };
            assert_eq!(value, 3);
        });
    }

    fn select_lets_handlers_leave(rt: Runtime) {
        async fn leave(how: u8) -> Result<&'static str, &'static str> {
            loop {
                select! {
                    biased;
                    _ = ready(()), if how == 0 => break,
                    _ = ready(()), if how == 1 => return Ok("returned"),
                    result = ready(Err::<(), _>("failed")), if how == 2 => result?,
                    _ = ready(()) => return Ok("last"),
                }
            }
            Ok("broken out")
        }
        rt.block_on(async {
            assert_eq!(leave(0).await, Ok("broken out"));
            assert_eq!(leave(1).await, Ok("returned"));
            assert_eq!(leave(2).await, Err("failed"));
            assert_eq!(leave(3).await, Ok("last"));
        });
    }

    fn select_is_fair_unless_it_is_biased(rt: Runtime) {
        rt.block_on(async {
            let mut wins = [0; 3];
            for _ in 0..3000 {
                select! {
                    _ = ready(()) => wins[0] += 1,
                    _ = ready(()) => wins[1] += 1,
                    _ = ready(()) => wins[2] += 1,
                }
            }
            assert!(wins.iter().all(|wins| *wins > 500), "{wins:?}");
            for _ in 0..100 {
                select! {
                    biased;
                    _ = ready(()) => {}
                    _ = ready(()) => unreachable!(),
                }
            }
        });
    }

    fn select_without_a_way_out_panics(rt: Runtime) {
        let off = false;
        panics_with("all branches of this select! are off", || rt.block_on(async { select! { _ = ready(()), if off => {} } }));
    }

    fn select_keeps_what_is_made_outside(rt: Runtime) {
        rt.block_on(async {
            let mut kept = pin!(async { yield_now().await; yield_now().await; 5 });
            let mut rounds = 0;
            let value = loop {
                select! {
                    value = &mut kept => break value,
                    () = yield_now() => rounds += 1,
                }
            };
            assert!(value == 5 && rounds <= 3, "{rounds}");
        });
    }
}

#[test]
fn a_gather_that_is_not_awaited_runs_all_the_same() {
    common::with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).build().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let handle = rt.handle();
        let _entered = handle.enter();
        let _gather = gather((0..3).map(|_| {
            let ran = ran.clone();
            async move { ran.fetch_add(1, SeqCst) }
        }));
        eventually("they run", || ran.load(SeqCst) == 3);
    });
}
