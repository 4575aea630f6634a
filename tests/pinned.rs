//! C4, C5: what is pinned to a loop runs and is dropped on that loop's thread, in order, and takes its fair share.
//!
//! Behaviours 42-46 of the Tokio list and 26. Loop 0's thread is the one inside `block_on`, which is the test's own.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use common::{DropProbe, Flag, Gate, OnDrop, eventually, eventually_async, loop_index, panics_with, pending_with};
use epicycle::time::{sleep, timeout};
use epicycle::{EventLoop, LoopHandle, Runtime, Task, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The thread of each loop of `rt`; to be awaited inside `block_on`.
async fn threads_of(rt: &Runtime) -> Vec<ThreadId> {
    let mut threads = Vec::new();
    for event_loop in rt.loops() {
        threads.push(event_loop.spawn_local(|| async { thread::current().id() }).await.unwrap());
    }
    threads
}

/// Something that is not `Send` and tells if it is touched on another thread than its maker's.
struct Local {
    home: ThreadId,
    _not_send: Rc<()>,
}

impl Local {
    fn new() -> Local {
        Local { home: thread::current().id(), _not_send: Rc::new(()) }
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(thread::current().id(), self.home, "a pinned thing was touched on another thread");
    }
}

common::flavours! {
    fn c01_each_loop_has_a_thread_of_its_own_and_an_index(rt: Runtime) {
        let threads = rt.block_on(threads_of(&rt));
        assert_eq!(threads[0], thread::current().id());
        for (i, a) in threads.iter().enumerate() {
            for b in &threads[..i] { assert_ne!(a, b) }
        }
        rt.block_on(async {
            for (i, event_loop) in rt.loops().iter().enumerate() {
                assert_eq!(event_loop.index(), i);
                let seen = event_loop.spawn_local(|| async { (EventLoop::current().index(), EventLoop::current().handle().index()) });
                assert_eq!(seen.await.unwrap(), (i, i));
            }
        });
    }

    fn c04_b42_local_tasks_and_nested_ones_stay_on_their_thread(rt: Runtime) {
        rt.block_on(async {
            // Work to steal, so that there is every temptation to move things.
            for _ in 0..50 { epicycle::spawn(async { for _ in 0..200 { yield_now().await } }); }
            let tasks: Vec<Task<usize>> = rt.loops().iter().flat_map(|event_loop| (0..5).map(|_| event_loop.spawn_local(|| async {
                let local = Local::new();
                let mut nested = Vec::new();
                for i in 0..5 {
                    let inner = Rc::new(i);
                    let home = local.home;
                    nested.push(spawn_local(async move {
                        for round in 0..20 {
                            if round % 7 == 0 { sleep(Duration::from_micros(100)).await } else { yield_now().await }
                            assert_eq!(thread::current().id(), home);
                        }
                        spawn_local(async move { assert_eq!(thread::current().id(), home); inner }).await.unwrap()
                    }));
                }
                let mut sum = 0;
                for task in nested { sum += *task.await.unwrap(); local.check() }
                epicycle::run_in_executor(|| ()).await.unwrap();
                local.check();
                epicycle::spawn(async { yield_now().await }).await.unwrap();
                local.check();
                sum
            }))).collect();
            for task in tasks { assert_eq!(task.await.unwrap(), 10) }
        });
    }

    fn c04_b43_a_wake_from_any_thread_schedules_at_home(rt: Runtime) {
        rt.block_on(async {
            for event_loop in rt.loops() {
                let flags: Vec<Flag> = (0..20).map(|_| Flag::new()).collect();
                let (inner, started) = (flags.clone(), Flag::new());
                let start = started.clone();
                let task = event_loop.spawn_local(move || async move {
                    let local = Local::new();
                    start.set();
                    for flag in inner { flag.wait().await; local.check() }
                });
                started.wait().await;
                // By turns: a foreign thread, a stealable task, this loop, an executor job.
                for (i, flag) in flags.into_iter().enumerate() {
                    match i % 4 {
                        0 => thread::spawn(move || flag.set()).join().unwrap(),
                        1 => epicycle::spawn(async move { flag.set() }).await.unwrap(),
                        2 => flag.set(),
                        _ => epicycle::run_in_executor(move || flag.set()).await.unwrap(),
                    }
                }
                task.await.unwrap();
            }
        });
    }

    fn c04_b26_cancel_from_another_thread_neither_polls_nor_drops_there(rt: Runtime) {
        rt.block_on(async {
            let threads = threads_of(&rt).await;
            for (event_loop, home) in rt.loops().iter().zip(threads) {
                for waiting in [true, false] {
                    let (probe, started) = (DropProbe::new(), Flag::new());
                    let (guard, start) = (probe.guard(), started.clone());
                    let task = event_loop.spawn_local(move || async move {
                        let (_guard, local) = (guard, Local::new());
                        let _check = OnDrop(move || local.check());
                        start.set();
                        if waiting { pending::<()>().await }
                        loop { yield_now().await }
                    });
                    started.wait().await;
                    let task = thread::spawn(move || { assert!(task.cancel()); task }).join().unwrap();
                    assert!(task.await.unwrap_err().is_cancelled());
                    assert_eq!(probe.only().thread, home);
                }
            }
        });
    }

    fn c04_a_pinned_future_that_was_never_polled_is_dropped_at_home(rt: Runtime) {
        rt.block_on(async {
            let threads = threads_of(&rt).await;
            for (event_loop, home) in rt.loops().iter().zip(threads) {
                // The second task is spawned locally by the first, and cancelled elsewhere before its first poll.
                let probe = DropProbe::new();
                let (guard, ran) = (probe.guard(), Arc::new(AtomicUsize::new(0)));
                let count = ran.clone();
                event_loop.spawn_local(move || async move {
                    let inner = spawn_local(async move { count.fetch_add(1, SeqCst); drop(guard) });
                    // This thread is inside this very handle, so the task cannot start meanwhile.
                    let (inner, cancelled) = thread::spawn(move || { let yes = inner.cancel(); (inner, yes) }).join().unwrap();
                    assert!(cancelled);
                    assert!(inner.await.unwrap_err().is_cancelled());
                }).await.unwrap();
                assert_eq!((probe.only().thread, ran.load(SeqCst)), (home, 0));
            }
        });
    }

    fn c04_callbacks_cancelled_elsewhere_are_posted_home_to_be_dropped(rt: Runtime) {
        rt.block_on(async {
            let threads = threads_of(&rt).await;
            for (event_loop, home) in rt.loops().iter().zip(threads) {
                let (probe, gate) = (DropProbe::new(), Gate::new());
                let (inner, hold) = (probe.clone(), gate.clone());
                let handles = Arc::new(Mutex::new(None));
                let slot = handles.clone();
                let holder = event_loop.spawn_local(move || async move {
                    let (soon, later) = (inner.guard(), inner.guard());
                    let event_loop = EventLoop::current();
                    let soon = event_loop.call_soon(move || drop(soon));
                    let later = event_loop.call_later(HOUR, move || drop(later));
                    *slot.lock().unwrap() = Some((soon, later));
                    hold.wait(); // neither can run before they are cancelled
                });
                let cancelled = {
                    let (handles, gate, probe) = (handles.clone(), gate.clone(), probe.clone());
                    thread::spawn(move || {
                        eventually("the callbacks are queued", || handles.lock().unwrap().is_some());
                        let (soon, later) = handles.lock().unwrap().take().unwrap();
                        let both = soon.cancel() && later.cancel() && soon.cancelled() && later.cancelled();
                        assert_eq!(probe.count(), 0, "its home thread is blocked, and nobody else may drop them");
                        gate.open();
                        both
                    })
                };
                holder.await.unwrap();
                assert!(cancelled.join().unwrap());
                eventually_async("both dropped", || probe.count() == 2).await;
                assert!(probe.records().iter().all(|record| record.thread == home));
            }
        });
    }

    fn c04_call_soon_and_timers_run_on_the_loop_they_were_made_on(rt: Runtime) {
        rt.block_on(async {
            let threads = threads_of(&rt).await;
            let ran = Arc::new(Mutex::new(Vec::new()));
            for event_loop in rt.loops() {
                let ran = ran.clone();
                event_loop.spawn_local(move || async move {
                    let event_loop = EventLoop::current();
                    for i in 0..10 {
                        let (ran, index, local) = (ran.clone(), event_loop.index(), Local::new());
                        let work = move || { local.check(); ran.lock().unwrap().push((index, thread::current().id())) };
                        match i % 3 {
                            0 => drop(event_loop.call_soon(work)),
                            1 => drop(event_loop.call_later(MS, work)),
                            _ => drop(event_loop.call_at(Instant::now() + 2 * MS, work)),
                        }
                    }
                }).await.unwrap();
            }
            eventually_async("all of them", || ran.lock().unwrap().len() == 10 * rt.loops().len()).await;
            assert!(ran.lock().unwrap().iter().all(|(index, thread)| threads[*index] == *thread));
        });
    }

    fn c05_pinned_work_is_fifo_on_each_loop(rt: Runtime) {
        const POSTS: usize = 2000;
        rt.block_on(async {
            let logs: Vec<_> = rt.loops().iter().map(|_| Arc::new(Mutex::new(Vec::new()))).collect();
            for _ in 0..20 { epicycle::spawn(async { for _ in 0..500 { yield_now().await } }); }
            let (loops, inner): (Vec<LoopHandle>, Vec<_>) = (rt.loops().to_vec(), logs.clone());
            // One foreign thread posts to all loops, callbacks and local tasks by turns.
            let poster = thread::spawn(move || for i in 0..POSTS {
                for (event_loop, log) in loops.iter().zip(&inner) {
                    let log = log.clone();
                    if i % 2 == 0 {
                        event_loop.call_soon_threadsafe(move || log.lock().unwrap().push(i));
                    } else {
                        event_loop.spawn_local(move || async move { log.lock().unwrap().push(i) });
                    }
                }
            });
            eventually_async("all posts", || logs.iter().all(|log| log.lock().unwrap().len() == POSTS)).await;
            poster.join().unwrap();
            for log in &logs { assert_eq!(*log.lock().unwrap(), (0..POSTS).collect::<Vec<_>>()) }
        });
    }

    fn c05_callbacks_of_callbacks_run_in_the_next_turn_on_every_loop(rt: Runtime) {
        rt.block_on(async {
            for event_loop in rt.loops() {
                let log = event_loop.spawn_local(|| async {
                    let log = Rc::new(RefCell::new(Vec::new()));
                    let event_loop = EventLoop::current();
                    for i in 0..5 {
                        let (log, inner) = (log.clone(), event_loop.clone());
                        event_loop.call_soon(move || {
                            log.borrow_mut().push(i);
                            inner.call_soon(move || log.borrow_mut().push(10 + i));
                        });
                    }
                    while log.borrow().len() < 10 { yield_now().await }
                    log.take()
                }).await.unwrap();
                assert_eq!(log, [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]);
            }
        });
    }

    fn c04_an_output_is_dropped_by_its_task_if_there_is_one(rt: Runtime) {
        rt.block_on(async {
            for event_loop in rt.loops() {
                // A Task that outlives completion: the output goes where the Task goes.
                let probe = DropProbe::new();
                let guard = probe.guard();
                let task = event_loop.spawn_local(move || async move { guard });
                eventually_async("done", || task.done()).await;
                assert_eq!(probe.count(), 0, "kept for the Task");
                let elsewhere = thread::spawn(move || { drop(task); thread::current().id() });
                let elsewhere = elsewhere.join().unwrap();
                assert_eq!(probe.only().thread, elsewhere);
                // The same, taken by await.
                let probe = DropProbe::new();
                let guard = probe.guard();
                let output = event_loop.spawn_local(move || async move { yield_now().await; guard }).await.unwrap();
                assert_eq!(probe.count(), 0);
                drop(output);
                assert_eq!(probe.only().thread, thread::current().id());
            }
        });
    }

    fn c04_b24_the_output_of_a_detached_task_is_dropped_by_the_completing_loop(rt: Runtime) {
        rt.block_on(async {
            let threads = threads_of(&rt).await;
            for (event_loop, home) in rt.loops().iter().zip(threads) {
                let (probe, flag) = (DropProbe::new(), Flag::new());
                let (guard, wait) = (probe.guard(), flag.clone());
                let waker_slot = Arc::new(Mutex::new(None::<Waker>));
                let slot = waker_slot.clone();
                drop(event_loop.spawn_local(move || async move {
                    poll_fn(|cx| { *slot.lock().unwrap() = Some(cx.waker().clone()); Poll::Ready(()) }).await;
                    wait.wait().await;
                    guard
                }));
                eventually_async("it waits", || flag.waiters() == 1).await;
                thread::spawn(move || flag.set()).join().unwrap();
                eventually_async("right away, though a waker still exists", || probe.count() == 1).await;
                assert_eq!(probe.only().thread, home);
                thread::spawn(move || drop(waker_slot)).join().unwrap();
            }
        });
    }

    fn c04_wakers_are_not_what_drops_a_pinned_future(rt: Runtime) {
        rt.block_on(async {
            let threads = threads_of(&rt).await;
            for (event_loop, home) in rt.loops().iter().zip(threads) {
                // The last references are wakers held by a foreign thread: the future is long gone when they are dropped.
                let (probe, wakers) = (DropProbe::new(), Arc::new(Mutex::new(Vec::new())));
                let (guard, slot) = (probe.guard(), wakers.clone());
                let task = event_loop.spawn_local(move || async move {
                    let _guard = guard;
                    let _local = Local::new();
                    poll_fn::<(), _>(|cx| { slot.lock().unwrap().push(cx.waker().clone()); Poll::Pending }).await
                });
                eventually_async("polled", || !wakers.lock().unwrap().is_empty()).await;
                assert!(task.cancel());
                assert!(task.await.unwrap_err().is_cancelled());
                assert_eq!(probe.only().thread, home);
                thread::spawn(move || for waker in wakers.lock().unwrap().drain(..) { waker.wake_by_ref(); drop(waker) }).join().unwrap();
            }
        });
    }

    fn c04_b44_shutdown_drops_pinned_things_at_home_with_wakes_under_way(rt: Runtime) {
        let probe = DropProbe::new();
        let stop = Arc::new(AtomicUsize::new(0));
        let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
        let homes = rt.block_on(async {
            let threads = threads_of(&rt).await;
            for event_loop in rt.loops().iter().skip(1) {
                for _ in 0..50 {
                    let (guard, slot) = (probe.guard(), wakers.clone());
                    event_loop.spawn_local(move || async move {
                        let (_guard, local) = (guard, Local::new());
                        let _check = OnDrop(move || local.check());
                        poll_fn::<(), _>(|cx| {
                            let mut wakers = slot.lock().unwrap();
                            if wakers.len() < 500 { wakers.push(cx.waker().clone()) }
                            Poll::Pending
                        }).await
                    });
                }
                let later = probe.guard();
                event_loop.spawn_local(move || async move { EventLoop::current().call_later(HOUR, move || drop(later)); }).await.unwrap();
            }
            threads
        });
        let storm = {
            let (wakers, stop) = (wakers.clone(), stop.clone());
            thread::spawn(move || while stop.load(SeqCst) == 0 {
                let some: Vec<Waker> = wakers.lock().unwrap().clone();
                some.into_iter().for_each(Waker::wake);
            })
        };
        let expected = 51 * (rt.loops().len() - 1);
        drop(rt);
        assert_eq!(probe.count(), expected, "each exactly once, before the drop returns");
        assert!(probe.records().iter().all(|record| homes[1..].contains(&record.thread)));
        stop.store(1, SeqCst);
        storm.join().unwrap();
        wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    fn c04_b46_pinned_and_stealable_work_share_a_loop_fairly(rt: Runtime) {
        // On one loop, 20 of one kind and one of the other, all always ready. The single one must not be starved.
        for few_pinned in [true, false] {
            let (few, many, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let spin = |count: &Arc<AtomicUsize>| {
                let (count, done) = (count.clone(), done.clone());
                async move { while done.load(SeqCst) == 0 { count.fetch_add(1, SeqCst); yield_now().await } }
            };
            rt.block_on(async {
                let mut tasks = Vec::new();
                if few_pinned {
                    for _ in 0..20 { tasks.push(epicycle::spawn(spin(&many))) }
                    tasks.push(spawn_local(spin(&few)));
                } else {
                    for _ in 0..20 { tasks.push(spawn_local(spin(&many))) }
                    tasks.push(epicycle::spawn(spin(&few)));
                }
                eventually_async("both kinds run", || many.load(SeqCst) >= 10_000 && few.load(SeqCst) >= 50).await;
                done.store(1, SeqCst);
                for task in tasks { task.await.unwrap() }
            });
        }
    }

    fn c04_b46_a_timeout_beside_a_busy_local_task_fires(rt: Runtime) {
        rt.block_on(async {
            for event_loop in rt.loops() {
                event_loop.spawn_local(|| async {
                    let busy = spawn_local(async { loop { yield_now().await } });
                    assert!(timeout(5 * MS, pending::<()>()).await.is_err());
                    let waited = timeout(5 * MS, async { loop { yield_now().await } }).await;
                    assert!(waited.is_err(), "nor does one that is busy itself hide it");
                    assert!(busy.cancel());
                    assert!(busy.await.unwrap_err().is_cancelled());
                }).await.unwrap();
            }
        });
    }

    fn c04_pinned_state_may_be_shared_by_tasks_of_a_loop_and_served_to_others(rt: Runtime) {
        // The `pinned` example: a counter per loop in an Rc, called from everywhere by closures sent home.
        rt.block_on(async {
            let total = Arc::new(AtomicUsize::new(0));
            let mut calls = Vec::new();
            for i in 0..200 {
                let (event_loop, total) = (rt.loops()[i % rt.loops().len()].clone(), total.clone());
                calls.push(epicycle::spawn(async move {
                    event_loop.spawn_local(move || async move {
                        thread_local! { static STATE: Rc<Cell<usize>> = Rc::default() }
                        let state = STATE.with(Rc::clone);
                        state.set(state.get() + 1);
                        yield_now().await;
                        total.fetch_add(1, SeqCst);
                    }).await.unwrap();
                }));
            }
            for call in calls { call.await.unwrap() }
            assert_eq!(total.load(SeqCst), 200);
        });
    }

    fn c04_the_maker_runs_at_home_and_its_panic_is_the_tasks(rt: Runtime) {
        rt.block_on(async {
            for event_loop in rt.loops() {
                let index = event_loop.index();
                let seen = event_loop.spawn_local(move || { let made_on = loop_index(); async move { made_on } }).await.unwrap();
                assert_eq!(seen, Some(index));
                let task = event_loop.spawn_local(|| -> std::future::Pending<()> { panic!("in the maker") });
                let error = task.await.unwrap_err();
                assert!(error.is_panic());
                assert_eq!(common::panic_text(&*error.into_panic()), "in the maker");
            }
        });
    }

    fn c08_s0_16_a_post_cancelled_before_it_is_built_is_never_built(rt: Runtime) {
        // Loop 0 has no driver now, so nothing can be built.
        let (probe, built) = (DropProbe::new(), Arc::new(AtomicUsize::new(0)));
        let (guard, count) = (probe.guard(), built.clone());
        let task = rt.loops()[0].spawn_local(move || { count.fetch_add(1, SeqCst); pending_with(guard) });
        let (guard, count) = (probe.guard(), built.clone());
        let handle = rt.loops()[0].call_soon_threadsafe(move || { count.fetch_add(1, SeqCst); drop(guard) });
        // Both are closures still, which may be dropped anywhere: it takes no loop to end them.
        assert!(task.cancel() && handle.cancel() && handle.cancelled());
        assert_eq!((built.load(SeqCst), probe.count()), (0, 2));
        assert!(task.done() && task.cancelled() && !task.cancel(), "it has ended");
        rt.block_on(async {
            assert!(task.await.unwrap_err().is_cancelled());
            for _ in 0..3 { yield_now().await }
        });
        assert_eq!((built.load(SeqCst), probe.count()), (0, 2));
    }

    fn c08_who_awaits_a_post_to_an_absent_loop_is_told_of_its_cancel(rt: Runtime) {
        let task = rt.loops()[0].spawn_local(pending::<()>).cancel_on_drop();
        let (asleep, sleeping) = std::sync::mpsc::channel();
        let group = epicycle::TaskGroup::new();
        group.spawn_on(&rt.loops()[0], pending::<Result<(), &str>>);
        let group_ends = rt.loops().len() > 1;
        thread::scope(|threads| {
            // Not with a loop of this runtime.
            let (mut task, group) = (task, group);
            let stop = group.handle();
            let waiting = threads.spawn(move || futures_lite::future::block_on(async {
                asleep.send(()).unwrap();
                // With one loop, the group's callbacks keep asyncio's turns, so they wait for that loop.
                if group_ends { group.join().await.unwrap() }
                task.cancel();
                assert!((&mut task).await.unwrap_err().is_cancelled());
            }));
            sleeping.recv().unwrap();
            stop.cancel();
            waiting.join().unwrap();
        });
    }

    fn c08_posts_that_are_cancelled_while_their_loop_takes_them_end_once(rt: Runtime) {
        // The model in loom_tests/one_shot.rs, on the real thing.
        let probe = DropProbe::new();
        rt.block_on(async {
            let last = rt.loops().last().unwrap().clone();
            for round in 0..500 {
                let guard = probe.guard();
                let task = last.spawn_local(move || pending_with(guard));
                if round % 3 == 0 { yield_now().await }
                assert!(task.cancel());
                assert!(task.await.unwrap_err().is_cancelled());
            }
        });
        assert_eq!(probe.count(), 500);
    }

    fn c09_a_cancelled_posts_destructor_panics_into_its_task(rt: Runtime) {
        struct Bomb;
        impl Drop for Bomb { fn drop(&mut self) { panic!("in the closure's destructor") } }
        let bomb = Bomb;
        let task = rt.loops()[0].spawn_local(move || { let _bomb = bomb; std::future::pending::<()>() });
        assert!(task.cancel() && task.done());
        assert!(rt.block_on(task).unwrap_err().is_panic());
    }

    fn b45_spawn_local_off_a_loop_panics(rt: Runtime) {
        const TEXT: &str = "spawn_local needs an event loop";
        panics_with(TEXT, || spawn_local(async {}));
        let handle = rt.handle();
        let _entered = handle.enter();
        panics_with(TEXT, || spawn_local(async {}));
        drop(_entered);
        // Nor on an executor thread, which is no loop's.
        rt.block_on(epicycle_executor_job(&rt));
    }
}

/// `spawn_local` in an executor job panics with the same text.
async fn epicycle_executor_job(rt: &Runtime) {
    rt.run_in_executor(|| panics_with("spawn_local needs an event loop", || spawn_local(async {}))).await.unwrap();
}
