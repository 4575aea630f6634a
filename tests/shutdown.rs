//! C10: how a runtime ends. Behaviours 33-41; S3-02.
//!
//! The thread that drops a runtime plays the part of loop 0's thread when nobody drives it.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{CountWakes, DropProbe, Flag, Flavour, Gate, OnDrop, eventually, flavour, pending_with, with_timeout};
use epicycle::io::{AsyncReadExt, AsyncWriteExt};
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, RuntimeHandle, Task, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Awaits `task` off any runtime; the watchdog ends it if that hangs.
fn join<T>(task: Task<T>) -> Result<T, epicycle::JoinError> {
    futures_lite::future::block_on(task)
}

common::flavours! {
    fn c10_b33_every_pending_future_is_dropped_exactly_once_before_drop_returns(rt: Runtime) {
        const EACH: usize = 100;
        let probe = DropProbe::new();
        let (mut tasks, mut peers) = (Vec::new(), Vec::new());
        let flag = Flag::new();
        rt.block_on(async {
            for i in 0..EACH {
                tasks.push(spawn(pending_with(probe.guard())));
                let (one, two, three, four) = (probe.guard(), probe.guard(), probe.guard(), probe.guard());
                tasks.push(spawn(async move { let _guard = one; sleep(HOUR).await }));
                let (mut ours, theirs) = common::socket_pair();
                peers.push(theirs);
                tasks.push(spawn(async move { let _guard = two; let _ = ours.read(&mut [0; 1]).await; pending::<()>().await }));
                let wait = flag.wait();
                tasks.push(spawn(async move { let _guard = three; wait.await }));
                tasks.push(spawn(async move { let _guard = four; loop { yield_now().await } }));
                let event_loop = &rt.loops()[i % rt.loops().len()];
                // On loop 0 these are leftovers of the tenancy; on the others they live until shutdown.
                let guard = probe.guard();
                tasks.push(event_loop.spawn_local(move || pending_with(guard)));
            }
            sleep(5 * MS).await;
            // Some that never had a first poll.
            for _ in 0..EACH { tasks.push(spawn(pending_with(probe.guard()))) }
        });
        for _ in 0..EACH { tasks.push(rt.spawn(pending_with(probe.guard()))) }
        drop(rt);
        assert_eq!(probe.count(), 8 * EACH);
        for task in tasks { assert!(task.done() && task.cancelled() && join(task).unwrap_err().is_cancelled()) }
        flag.set();
        assert_eq!(probe.count(), 8 * EACH);
    }

    fn c10_c04_pinned_things_are_dropped_on_their_own_threads(rt: Runtime) {
        let probes: Vec<_> = rt.loops().iter().map(|_| DropProbe::new()).collect();
        let homes: Arc<Mutex<Vec<_>>> = Arc::default();
        for (event_loop, probe) in rt.loops().iter().zip(&probes).skip(1) {
            let (probe, log) = (probe.clone(), homes.clone());
            let task = event_loop.spawn_local(move || async move {
                log.lock().unwrap().push(thread::current().id());
                let event_loop = EventLoop::current();
                let (a, b, c, d) = (probe.guard(), probe.guard(), probe.guard(), probe.guard());
                spawn_local(pending_with(a));
                event_loop.call_later(HOUR, move || drop(b));
                let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                event_loop.add_reader(&ours, move || { let _guard = &c; }).unwrap();
                let _keep = (ours, _theirs, d);
                pending::<()>().await
            });
            eventually("built", || homes.lock().unwrap().len() == event_loop.index());
            drop(task);
        }
        // Loop 0: what was posted and never built is the dropping thread's.
        let (a, b) = (probes[0].guard(), probes[0].guard());
        rt.loops()[0].spawn_local(move || pending_with(a));
        rt.loops()[0].call_soon_threadsafe(move || drop(b));
        drop(rt);
        let homes = homes.lock().unwrap();
        for (probe, home) in probes.iter().skip(1).zip(homes.iter()) {
            assert_eq!(probe.count(), 4);
            assert!(probe.records().iter().all(|record| record.thread == *home));
        }
        assert_eq!(probes[0].count(), 2);
        assert!(probes[0].records().iter().all(|record| record.thread == thread::current().id()));
    }

    fn c10_later_posts_are_cancelled_and_dropped_by_the_poster(rt: Runtime) {
        let (handle, loops, probe) = (rt.handle(), rt.loops().to_vec(), DropProbe::new());
        drop(rt);
        let mut count = 0;
        let mut dropped_here = || {
            count += 1;
            assert_eq!(probe.count(), count);
            assert_eq!(probe.records().last().unwrap().thread, thread::current().id());
        };
        let task = handle.spawn(pending_with(probe.guard()));
        dropped_here();
        assert!(task.done() && join(task).unwrap_err().is_cancelled());
        let guard = probe.guard();
        let post = handle.call_soon_threadsafe(move || drop(guard));
        dropped_here();
        post.cancel();
        for event_loop in &loops {
            let guard = probe.guard();
            event_loop.call_soon_threadsafe(move || drop(guard));
            dropped_here();
            let guard = probe.guard();
            let task = event_loop.spawn_local(move || pending_with(guard));
            dropped_here();
            assert!(join(task).unwrap_err().is_cancelled());
        }
        let guard = probe.guard();
        let job = handle.run_in_executor(move || drop(guard));
        dropped_here();
        assert!(join(job).unwrap_err().is_cancelled());
        let _ = handle.metrics();
        let _entered = handle.enter();
        let task = spawn(pending_with(probe.guard()));
        dropped_here();
        assert!(join(task).unwrap_err().is_cancelled());
    }

    fn c10_block_on_of_a_runtime_that_is_gone_does_not_hang(rt: Runtime) {
        let handle = rt.handle();
        drop(rt);
        // It may refuse by a panic or run what needs no runtime; a wait for ever is the one wrong answer.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.block_on(async { 1 })));
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.block_on(async { handle.spawn(async {}).await })));
    }

    fn c10_b35_wakers_and_handles_outlive_the_runtime_harmlessly(rt: Runtime) {
        let (slot, flag, probe) = (Arc::new(Mutex::new(Vec::<Waker>::new())), Flag::new(), DropProbe::new());
        let mut handles = Vec::new();
        let (mut timer, mut timers) = (Box::pin(sleep_in(&rt, HOUR)), Vec::new());
        rt.block_on(async {
            for _ in 0..10 {
                let (slot, guard, wait) = (slot.clone(), probe.guard(), flag.wait());
                spawn(async move {
                    let _guard = guard;
                    std::future::poll_fn(|cx| { slot.lock().unwrap().push(cx.waker().clone()); Poll::Ready(()) }).await;
                    wait.await
                });
                handles.push(EventLoop::current().call_later(HOUR, || ()));
                timers.push(rt.call_soon_threadsafe(|| ()));
            }
            let _ = futures_lite::future::poll_once(timer.as_mut()).await;
            sleep(3 * MS).await;
        });
        drop(rt);
        assert_eq!(probe.count(), 10);
        let storm: Vec<_> = (0..3).map(|_| { let slot = slot.clone(); thread::spawn(move || for _ in 0..100 {
            for waker in slot.lock().unwrap().iter() { waker.wake_by_ref(); drop(waker.clone()) }
        }) }).collect();
        for thread in storm { thread.join().unwrap() }
        flag.set();
        slot.lock().unwrap().drain(..).for_each(Waker::wake);
        for handle in handles { assert!(!handle.cancel() || handle.cancelled()); let _ = handle.when(); }
        for handle in timers { handle.cancel(); }
        timer.as_mut().reset(Instant::now() + MS);
        assert!(timer.deadline() > Instant::now() - HOUR);
        let poll = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = timer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }));
        drop(poll);
        drop(timer);
    }

    fn c10_b39_sockets_error_rather_than_hang_after_shutdown(rt: Runtime) {
        let (mut ours, mut theirs) = rt.block_on(async { common::socket_pair() });
        let (mut waiting, peer) = rt.block_on(async { common::socket_pair() });
        // Pending on a foreign thread, off the runtime, while it goes down.
        let started = Flag::new();
        let set = started.clone();
        let pending_read = thread::spawn(move || futures_lite::future::block_on(async {
            let mut buf = [0; 1];
            let mut read = Box::pin(waiting.read(&mut buf));
            assert!(futures_lite::future::poll_once(&mut read).await.is_none());
            set.set();
            read.await
        }));
        eventually("it waits", || started.is_set());
        drop(rt);
        assert!(pending_read.join().unwrap().is_err(), "woken with an error");
        assert!(futures_lite::future::block_on(ours.read(&mut [0; 1])).is_err(), "a later wait is an error too");
        // What needs no waiting may still work; either way it returns.
        let _ = futures_lite::future::block_on(ours.write(b"x"));
        let _ = theirs.write(b"x");
        drop((ours, peer));
    }

    fn c10_sleeps_awaited_elsewhere_do_not_hang_when_the_runtime_goes(rt: Runtime) {
        let (handle, started) = (rt.handle(), Flag::new());
        let set = started.clone();
        let sleeper = thread::spawn(move || {
            let _entered = handle.enter();
            let mut timer = Box::pin(sleep(50 * MS));
            futures_lite::future::block_on(async {
                let _ = futures_lite::future::poll_once(&mut timer).await;
                set.set();
                timer.await // ends in whatever way: it may fire, or panic and say that its runtime is gone
            })
        });
        eventually("it is armed", || started.is_set());
        drop(rt);
        let _ = sleeper.join();
    }

    fn c10_registering_after_shutdown_is_an_error(rt: Runtime) {
        let handle = rt.handle();
        drop(rt);
        let _entered = handle.enter();
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| epicycle::net::UnixStream::from_std(ours)));
        if let Ok(Ok(mut stream)) = made {
            assert!(futures_lite::future::block_on(stream.read(&mut [0; 1])).is_err());
        }
    }

    fn c10_b34_a_spawn_that_races_with_shutdown_runs_or_is_cancelled(flavour: Flavour) {
        let _ = flavour;
        for round in 0..30u64 {
            let rt = common::builder!().build().unwrap();
            let (probe, made, stop) = (DropProbe::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
            let spawners: Vec<_> = (0..3).map(|who| {
                let (handle, probe, made, stop) = (rt.handle(), probe.clone(), made.clone(), stop.clone());
                thread::spawn(move || {
                    let mut tasks = Vec::new();
                    while !stop.load(SeqCst) {
                        made.fetch_add(1, SeqCst);
                        let guard = probe.guard();
                        tasks.push(match (who, made.load(SeqCst) % 4) {
                            (_, 0) => handle.spawn(async move { yield_now().await; drop(guard) }),
                            (_, 1) => handle.spawn(pending_with(guard)),
                            (0, _) => handle.run_in_executor(move || drop(guard)),
                            (_, _) => { let loops = handle.loops(); loops[made.load(SeqCst) % loops.len()].spawn_local(move || pending_with(guard)) }
                        });
                        if tasks.len() % 8 == 0 { thread::yield_now() }
                        if tasks.len() > 5000 { thread::sleep(MS) }
                    }
                    tasks
                })
            }).collect();
            thread::sleep(Duration::from_micros(300 + 100 * round));
            drop(rt);
            stop.store(true, SeqCst);
            for spawner in spawners {
                for task in spawner.join().unwrap() { match join(task) { Ok(()) => (), Err(error) => assert!(error.is_cancelled()) } }
            }
            assert_eq!(probe.count(), made.load(SeqCst), "round {round}: none leaked, none twice");
        }
    }

    fn c10_b34_destructors_that_spawn_and_post_during_shutdown(rt: Runtime) {
        let (probe, made) = (DropProbe::new(), Arc::new(AtomicUsize::new(0)));
        fn breeder(handle: RuntimeHandle, probe: DropProbe, made: Arc<AtomicUsize>, depth: usize) -> impl FnMut() + Send {
            move || {
                drop(probe.guard());
                if depth == 0 { return }
                for kind in 0..3 {
                    made.fetch_add(1, SeqCst);
                    let child = OnDrop(breeder(handle.clone(), probe.clone(), made.clone(), depth - 1));
                    match kind {
                        0 => drop(handle.spawn(pending_with(child))),
                        1 => drop(handle.loops()[depth % handle.loops().len()].spawn_local(move || pending_with(child))),
                        _ => drop(handle.call_soon_threadsafe(move || drop(child))),
                    }
                }
            }
        }
        rt.block_on(async {
            for _ in 0..10 {
                made.fetch_add(1, SeqCst);
                spawn(pending_with(OnDrop(breeder(rt.handle(), probe.clone(), made.clone(), 4))));
            }
            sleep(2 * MS).await;
        });
        drop(rt);
        assert_eq!(probe.count(), made.load(SeqCst));
    }

    fn c10_b14_destructors_that_wake_each_other_and_share_a_lock(rt: Runtime) {
        let (lock, flags) = (Arc::new(Mutex::new(0)), (0..20).map(|_| Flag::new()).collect::<Vec<_>>());
        rt.block_on(async {
            for i in 0..20 {
                let (lock, wait, next) = (lock.clone(), flags[i].wait(), flags[(i + 1) % 20].clone());
                spawn(async move {
                    let _wake = OnDrop(move || { *lock.lock().unwrap() += 1; next.set() });
                    wait.await
                });
            }
            sleep(2 * MS).await;
        });
        drop(rt);
        assert_eq!(*lock.lock().unwrap(), 20);
    }

    fn c10_b38_reference_cycles_are_broken(rt: Runtime) {
        let probe = DropProbe::new();
        rt.block_on(async {
            for _ in 0..10 {
                // A task that owns its own handle, its own waker, and a handle of the runtime.
                type Cycle = Arc<Mutex<(Option<Task<()>>, Option<Waker>)>>;
                let (cycle, guard, handle): (Cycle, _, _) = (Cycle::default(), probe.guard(), rt.handle());
                let inner = cycle.clone();
                let task = spawn(async move {
                    let _keep = (guard, handle, inner.clone());
                    std::future::poll_fn::<(), _>(|cx| { inner.lock().unwrap().1 = Some(cx.waker().clone()); Poll::Pending }).await
                });
                cycle.lock().unwrap().0 = Some(task);
            }
            sleep(2 * MS).await;
        });
        drop(rt);
        assert_eq!(probe.count(), 10);
    }

    fn c10_b36_shutdown_timeout_bounds_the_wait(flavour: Flavour) {
        let _ = flavour;
        // A job that runs on, and where there is one a loop that is stuck.
        let rt = common::builder!().build().unwrap();
        let (gate, inside, probe) = (Gate::new(), Gate::new(), DropProbe::new());
        let _open = gate.open_on_drop();
        let (release, enter) = (gate.clone(), inside.clone());
        drop(rt.run_in_executor(move || { enter.open(); release.wait() }));
        inside.wait();
        let mut on_stuck_loop = 0;
        if let Some(event_loop) = rt.loops().get(1) {
            let (release, enter, inner) = (gate.clone(), Gate::new(), probe.clone());
            let entered = enter.clone();
            event_loop.spawn_local(move || async move {
                spawn_local(pending_with(inner.guard()));
                let _guard = inner.guard();
                yield_now().await;
                enter.open();
                release.wait();
                pending::<()>().await
            });
            entered.wait();
            on_stuck_loop = 2;
        }
        let start = Instant::now();
        rt.shutdown_timeout(20 * MS);
        assert!(start.elapsed() < Duration::from_secs(10), "bounded: {:?}", start.elapsed());
        assert_eq!(probe.count(), 0, "the stuck loop has its pinned things still");
        gate.open();
        eventually("it drops its list when its handle returns", || probe.count() == on_stuck_loop);
    }

    fn c10_b36_a_huge_shutdown_timeout_returns_promptly_when_idle(rt: Runtime) {
        let probe = DropProbe::new();
        rt.spawn(pending_with(probe.guard()));
        let start = Instant::now();
        rt.shutdown_timeout(Duration::MAX);
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(probe.count(), 1);
    }

    fn c10_b36_shutdown_background_and_a_timeout_of_zero_return_at_once(flavour: Flavour) {
        let _ = flavour;
        for background in [true, false] {
            let rt = common::builder!().build().unwrap();
            let (gate, inside, probe) = (Gate::new(), Gate::new(), DropProbe::new());
            let _open = gate.open_on_drop();
            let (release, enter, guard) = (gate.clone(), inside.clone(), probe.guard());
            let job = rt.run_in_executor(move || { let _guard = guard; enter.open(); release.wait() });
            inside.wait();
            for _ in 0..10 { rt.spawn(pending_with(probe.guard())); }
            if background { rt.shutdown_background() } else { rt.shutdown_timeout(Duration::ZERO) }
            assert!(!job.done(), "it did not wait for the job");
            gate.open();
            eventually("all ends in the background", || probe.count() == 11);
            assert!(join(job).is_ok());
        }
    }

    fn c10_b37_dropped_in_one_of_its_own_tasks(rt: Runtime) {
        if flavour() == Flavour::OneLoop { return } // its loop is inside block_on, which borrows it: below
        let (probe, slot) = (DropProbe::new(), Arc::new(Mutex::new(None::<Runtime>)));
        for _ in 0..20 { rt.spawn(pending_with(probe.guard())); }
        let (inner, guard, own) = (slot.clone(), probe.guard(), probe.clone());
        let handle = rt.handle();
        *slot.lock().unwrap() = Some(rt);
        let dropper = handle.spawn(async move {
            let _guard = guard;
            loop { let rt = inner.lock().unwrap().take(); if let Some(rt) = rt { drop(rt); break } yield_now().await }
            own.count() // it started the shutdown and returned: this very task is still here
        });
        assert!(join(dropper).is_ok() || probe.count() > 0);
        eventually("the rest ends", || probe.count() == 21);
        assert!(join(handle.spawn(async {})).unwrap_err().is_cancelled());
    }

    fn c10_b37_dropped_in_a_pinned_task_a_callback_and_a_job(flavour: Flavour) {
        for place in 0..3 {
            if flavour == Flavour::OneLoop && place != 2 { continue }
            let rt = common::builder!().build().unwrap();
            let (probe, handle, ended) = (DropProbe::new(), rt.handle(), Arc::new(AtomicBool::new(false)));
            for _ in 0..10 { rt.spawn(pending_with(probe.guard())); }
            let end = ended.clone();
            let work = move || { drop(rt); end.store(true, SeqCst) };
            match place {
                0 => drop(handle.loops()[1].spawn_local(move || async move { work() })),
                1 => drop(handle.loops()[1].call_soon_threadsafe(work)),
                _ => drop(handle.run_in_executor(work)),
            }
            eventually("the drop returned", || ended.load(SeqCst));
            eventually("the rest ends", || probe.count() == 10);
        }
    }

    fn c10_dropped_inside_its_own_block_on(flavour: Flavour) {
        let _ = flavour;
        let rt = common::builder!().build().unwrap();
        let (probe, handle) = (DropProbe::new(), rt.handle());
        for _ in 0..10 { rt.spawn(pending_with(probe.guard())); }
        let value = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.block_on(async {
            spawn_local(pending_with(probe.guard()));
            yield_now().await;
            drop(rt);
            5
        })));
        assert_eq!(value.expect("the root may go on to its end"), 5);
        eventually("the rest ends", || probe.count() == 11);
    }

    fn c10_a_runtime_that_goes_while_another_thread_is_inside_block_on(flavour: Flavour) {
        // By a handle: the runtime is not borrowed. The root may complete or be told; it must not hang.
        let _ = flavour;
        let rt = common::builder!().build().unwrap();
        let (handle, inside, probe) = (rt.handle(), Gate::new(), DropProbe::new());
        let (enter, guard, flag) = (inside.clone(), probe.guard(), Flag::new());
        let wait = flag.clone();
        let inner = thread::spawn(move || handle.block_on(async move { let _guard = guard; enter.open(); wait.wait().await }));
        inside.wait();
        let waker = { let flag = flag.clone(); thread::spawn(move || { thread::sleep(20 * MS); flag.set() }) };
        drop(rt);
        waker.join().unwrap();
        let _ = inner.join();
        assert_eq!(probe.count(), 1);
    }

    fn c10_b40_a_runtime_in_a_thread_local_is_dropped_at_thread_exit(flavour: Flavour) {
        thread_local! { static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) } }
        let probe = DropProbe::new();
        let inner = probe.clone();
        thread::spawn(move || {
            let rt = Runtime::builder().worker_threads(flavour.loops()).work_stealing(flavour.stealing()).build().unwrap();
            rt.block_on(async { for _ in 0..10 { spawn(pending_with(inner.guard())); } yield_now().await });
            RUNTIME.with(|slot| *slot.borrow_mut() = Some(rt));
        }).join().unwrap();
        assert_eq!(probe.count(), 10);
    }

    fn c10_b41_hooks_have_all_fired_when_drop_returns(flavour: Flavour) {
        let (started, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (start, stop) = (started.clone(), stopped.clone());
        let rt = common::builder!()
            .on_thread_start(move |index| start.lock().unwrap().push((index, thread::current().id())))
            .on_thread_stop(move |index| stop.lock().unwrap().push((index, thread::current().id())))
            .build().unwrap();
        rt.block_on(async { sleep(MS).await });
        drop(rt);
        let background = |log: &Arc<Mutex<Vec<(usize, thread::ThreadId)>>>| {
            let mut log: Vec<_> = log.lock().unwrap().iter().copied().filter(|(index, _)| *index != 0).collect();
            log.sort_by_key(|(index, _)| *index);
            log
        };
        let (started, stopped) = (background(&started), background(&stopped));
        assert_eq!(started.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (1..flavour.loops()).collect::<Vec<_>>());
        assert_eq!(started, stopped, "once per thread, on it");
    }

    fn c10_drop_joins_all_threads(flavour: Flavour) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("join{}x", NEXT.fetch_add(1, SeqCst));
        let stopped = Arc::new(AtomicUsize::new(0));
        let stops = stopped.clone();
        let slowly = move |_| { thread::sleep(5 * MS); stops.fetch_add(1, SeqCst); };
        let rt = common::builder!().thread_name(name.clone()).on_thread_stop(slowly).build().unwrap();
        rt.block_on(async { sleep(MS).await; epicycle::run_in_executor(|| ()).await.unwrap() });
        eventually("they are all up", || common::threads_named(&name).len() >= flavour.loops() - 1);
        drop(rt);
        assert!(stopped.load(SeqCst) >= flavour.loops() - 1, "a drop waits for what threads do last");
        // The kernel lists a thread for a moment after it could be joined.
        eventually("they are gone", || common::threads_named(&name).is_empty());
    }

    fn c10_a_task_awaited_on_another_runtime_is_cancelled_when_its_own_goes(rt: Runtime) {
        let other = Runtime::builder().worker_threads(2).build().unwrap();
        let (flag, wakes) = (Flag::new(), CountWakes::new());
        let mut task = rt.spawn(flag.wait());
        let _ = Pin::new(&mut task).poll(&mut Context::from_waker(&wakes.1));
        let waiting = other.spawn(task);
        thread::sleep(2 * MS);
        drop(rt);
        assert!(other.block_on(waiting).unwrap().unwrap_err().is_cancelled());
    }

    fn c10_done_callbacks_of_dropped_tasks_are_not_leaked(rt: Runtime) {
        let (probe, called) = (DropProbe::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..10 {
            let task = rt.spawn(pending::<()>());
            let (guard, count) = (probe.guard(), called.clone());
            task.add_done_callback(move |_| { let _guard = guard; count.fetch_add(1, SeqCst); });
        }
        drop(rt);
        assert_eq!(probe.count(), 10, "called or dropped, {} were called", called.load(SeqCst));
    }

    fn c10_b33_a_runtime_dropped_by_an_unwind_ends_in_order(rt: Runtime) {
        let probe = DropProbe::new();
        let guard = probe.guard();
        common::panics_with("on purpose", move || {
            rt.spawn(pending_with(guard));
            let _moved = rt;
            panic!("on purpose");
        });
        assert_eq!(probe.count(), 1);
    }

    fn c10_many_runtimes_come_and_go(flavour: Flavour) {
        let _ = flavour;
        for i in 0..100 {
            let rt = common::builder!().build().unwrap();
            match i % 4 {
                0 => (),
                1 => rt.block_on(async { yield_now().await }),
                2 => { rt.spawn(async { sleep(HOUR).await }); }
                _ => { assert_eq!(rt.block_on(async { spawn(async { 1 }).await.unwrap() }), 1); }
            }
        }
    }
}

/// A sleep made for `rt` from outside.
fn sleep_in(rt: &Runtime, duration: Duration) -> epicycle::time::Sleep {
    let handle = rt.handle();
    let _entered = handle.enter();
    sleep(duration)
}

#[test]
fn s3_02_run_tears_down_in_order_also_after_a_panic() {
    with_timeout(|| {
        for panicking in [false, true] {
            let (probe, jobs) = (DropProbe::new(), Arc::new(AtomicUsize::new(0)));
            let (inner, count) = (probe.clone(), jobs.clone());
            let main = move || {
                epicycle::run(async move {
                    for _ in 0..10 {
                        spawn(pending_with(inner.guard()));
                    }
                    spawn_local(pending_with(inner.guard()));
                    let started = Flag::new();
                    let set = started.clone();
                    drop(epicycle::run_in_executor(move || {
                        set.set();
                        thread::sleep(10 * MS);
                        count.fetch_add(1, SeqCst);
                    }));
                    started.wait().await;
                    assert!(!panicking, "on purpose");
                    4
                })
            };
            if panicking {
                common::panics_with("on purpose", main)
            } else {
                assert_eq!(main(), 4)
            }
            assert_eq!((probe.count(), jobs.load(SeqCst)), (11, 1), "tasks dropped, then the running job awaited");
        }
    });
}

#[test]
fn c10_a_dropped_runtime_gives_its_descriptors_back() {
    with_timeout(|| {
        let cycle = || {
            let rt = Runtime::builder().worker_threads(4).build().unwrap();
            rt.block_on(async {
                let _pair = common::socket_pair();
                sleep(MS).await
            });
        };
        cycle();
        // Other tests open and close some meanwhile: the least of several readings must not grow with the rounds.
        let least = || {
            (0..20)
                .map(|_| {
                    thread::sleep(MS);
                    common::open_descriptors()
                })
                .min()
                .unwrap()
        };
        let before = least();
        for _ in 0..100 {
            cycle()
        }
        let after = least();
        assert!(after < before + 100, "{before} descriptors before, {after} after 100 runtimes with at least 4 each");
    });
}
