//! The executor: `run_in_executor` and its threads, and executors of one's own (behaviours 47-50; S0-13, S3-09, S3-34, S3-35,
//! N53, N85).
//!
//! Jobs are held in a [`Gate`] where a test must know that they run; a job's thread belongs to no loop.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{
    DropProbe, Flag, Flavour, Gate, Reports, eventually, eventually_async, loop_index, panic_text, panics, with_timeout,
};
use epicycle::io::AsyncReadExt;
use epicycle::runtime::{Executor, Job};
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, RuntimeHandle, Task, run_in_executor, run_in_executor_on, spawn, yield_now};

const MS: Duration = Duration::from_millis(1);

/// An executor for tests: keeps its jobs until it is told to run or to drop them.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<Job>>>);

impl Shelf {
    fn take(&self) -> Vec<Job> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Runs what is there, on a thread of its own.
    fn run(&self) {
        let jobs = self.take();
        thread::spawn(move || jobs.into_iter().for_each(|job| job())).join().unwrap();
    }
}

impl Executor for Shelf {
    fn execute(&self, job: Job) {
        self.0.lock().unwrap().push(job);
    }
}

/// A thread for each job.
fn threads(job: Job) {
    thread::Builder::new().name("custom".into()).spawn(job).unwrap();
}

fn on_custom() -> bool {
    thread::current().name() == Some("custom")
}

common::flavours! {
    fn b47_s0_13_a_job_gives_its_value_while_the_loop_runs_on(rt: Runtime) {
        rt.block_on(async {
            let (gate, here) = (Gate::new(), thread::current().id());
            let release = gate.clone();
            let job = run_in_executor(move || { release.wait(); (thread::current().id(), loop_index()) });
            // The loop lives: it opens the gate from a timer, after many turns.
            for _ in 0..100 { yield_now().await }
            sleep(2 * MS).await;
            assert!(!job.done());
            gate.open();
            let (thread, index) = job.await.unwrap();
            assert!(thread != here && index.is_none());
            assert_eq!(rt.run_in_executor(|| 1).await.unwrap() + rt.handle().run_in_executor(|| 2).await.unwrap(), 3);
        });
    }

    fn b47_jobs_run_without_any_loop_running(rt: Runtime) {
        // Off every loop, and with one loop nobody drives it.
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        let job = rt.run_in_executor(move || { count.fetch_add(1, SeqCst); 5 });
        eventually("the job ran", || done.load(SeqCst) == 1);
        assert_eq!(futures_lite::future::block_on(job).unwrap(), 5);
    }

    fn b47_jobs_nest_and_may_block_on_the_runtime(rt: Runtime) {
        rt.block_on(async {
            let nested = run_in_executor(|| {
                let inner = run_in_executor(|| run_in_executor(|| 3));
                futures_lite::future::block_on(async { inner.await.unwrap().await.unwrap() })
            });
            assert_eq!(nested.await.unwrap(), 3);
            let handle = rt.handle();
            let blocked = run_in_executor(move || handle.block_on(async {
                sleep(2 * MS).await;
                let (mut ours, mut theirs) = common::socket_pair();
                std::io::Write::write_all(&mut theirs, b"ok").unwrap();
                let mut buf = [0; 2];
                ours.read_exact(&mut buf).await.unwrap();
                let value = spawn(async { yield_now().await; 4 }).await.unwrap();
                let local = epicycle::spawn_local(async { std::rc::Rc::new(1) }).await.unwrap();
                (buf, value + *local)
            }));
            assert_eq!(blocked.await.unwrap(), (*b"ok", 5));
        });
    }

    fn b47_a_job_is_inside_the_runtime(rt: Runtime) {
        rt.block_on(async {
            run_in_executor(|| {
                assert!(RuntimeHandle::try_current().is_ok());
                drop(spawn(async {}));
                RuntimeHandle::current().loops()[0].call_soon_threadsafe(|| ());
            }).await.unwrap();
        });
    }

    fn c09_b22_a_panicking_job_is_a_join_error_and_its_thread_lives(rt: Runtime) {
        rt.block_on(async {
            let threads = Arc::new(Mutex::new(HashSet::new()));
            for _ in 0..50 {
                let seen = threads.clone();
                let job = run_in_executor(move || { seen.lock().unwrap().insert(thread::current().id()); if true { panic!("in a job") } });
                assert_eq!(panic_text(&*job.await.unwrap_err().into_panic()), "in a job");
            }
            // A thread may not be idle again when the next job comes, so a few is not one; but none is lost to a panic.
            assert!(threads.lock().unwrap().len() < 45, "{} threads for 50 jobs one after the other", threads.lock().unwrap().len());
            assert_eq!(run_in_executor(|| 6).await.unwrap(), 6);
        });
    }

    fn c09_n21_a_detached_jobs_panic_is_reported(flavour: Flavour) {
        let _ = flavour;
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            drop(run_in_executor(|| panic!("nobody looks")));
            eventually_async("reported", || reports.of_panic("nobody looks") == 1).await;
        });
    }

    fn b48_never_more_threads_than_allowed_and_the_queue_still_drains(flavour: Flavour) {
        let _ = flavour;
        for cap in [1, 3] {
            let rt = common::builder!().max_blocking_threads(cap).build().unwrap();
            let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            rt.block_on(async {
                let jobs: Vec<_> = (0..40).map(|i| {
                    let (running, peak) = (running.clone(), peak.clone());
                    run_in_executor(move || {
                        peak.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        thread::sleep(MS);
                        running.fetch_sub(1, SeqCst);
                        i
                    })
                }).collect();
                assert!(rt.metrics().executor_threads <= cap);
                for (i, job) in jobs.into_iter().enumerate() { assert_eq!(job.await.unwrap(), i) }
            });
            assert!(peak.load(SeqCst) <= cap, "{} at once, {cap} allowed", peak.load(SeqCst));
            assert!(rt.metrics().executor_queue_depth == 0);
        }
    }

    fn b48_as_many_jobs_as_threads_really_run_at_once(flavour: Flavour) {
        // Jobs that wait for each other: hangs if one is queued behind a thread that is counted as idle but is not.
        let _ = flavour;
        const CAP: usize = 8;
        let rt = common::builder!().max_blocking_threads(CAP).build().unwrap();
        rt.block_on(async {
            for _ in 0..50 {
                let barrier = Arc::new(std::sync::Barrier::new(CAP));
                let jobs: Vec<_> = (0..CAP).map(|_| { let barrier = barrier.clone(); run_in_executor(move || { barrier.wait(); }) }).collect();
                for job in jobs { job.await.unwrap() }
            }
        });
    }

    fn c08_b49_n85_queued_jobs_can_be_cancelled_and_running_ones_not(flavour: Flavour) {
        let _ = flavour;
        let rt = common::builder!().max_blocking_threads(1).build().unwrap();
        rt.block_on(async {
            let (inside, gate, probe) = (Gate::new(), Gate::new(), DropProbe::new());
            let _open = gate.open_on_drop();
            let (enter, release) = (inside.clone(), gate.clone());
            let running = run_in_executor(move || { enter.open(); release.wait(); "value" });
            eventually_async("it runs", || inside.is_open()).await;
            let (ran, guard) = (Arc::new(AtomicUsize::new(0)), probe.guard());
            let count = ran.clone();
            let queued = run_in_executor(move || { let _guard = guard; count.fetch_add(1, SeqCst); });
            let last = run_in_executor(|| 9);
            assert!(queued.cancel());
            assert!(queued.await.unwrap_err().is_cancelled());
            assert_eq!(probe.count(), 1, "its closure is gone");
            assert!(!running.cancel() && !running.cancelled());
            gate.open();
            assert_eq!(running.await.unwrap(), "value");
            assert_eq!(last.await.unwrap(), 9);
            assert_eq!(ran.load(SeqCst), 0);
        });
    }

    fn s0_04_done_callbacks_of_jobs_run_on_a_loop(rt: Runtime) {
        rt.block_on(async {
            let seen = Arc::new(Mutex::new(None));
            let slot = seen.clone();
            let job = run_in_executor(|| 1);
            job.add_done_callback(move |outcome| *slot.lock().unwrap() = Some((outcome, loop_index().is_some())));
            assert_eq!(job.await.unwrap(), 1);
            eventually_async("called", || seen.lock().unwrap().is_some()).await;
            assert_eq!(*seen.lock().unwrap(), Some((epicycle::task::Outcome::Completed, true)));
        });
    }

    fn s3_09_s3_35_shutdown_cancels_queued_jobs_and_awaits_running_ones(flavour: Flavour) {
        let _ = flavour;
        let rt = common::builder!().max_blocking_threads(1).build().unwrap();
        let (inside, finished, probe) = (Gate::new(), Arc::new(AtomicUsize::new(0)), DropProbe::new());
        let (enter, count) = (inside.clone(), finished.clone());
        let running = rt.run_in_executor(move || { enter.open(); thread::sleep(30 * MS); count.fetch_add(1, SeqCst); 7 });
        inside.wait();
        let queued: Vec<Task<()>> = (0..10).map(|_| {
            let (guard, count) = (probe.guard(), finished.clone());
            rt.run_in_executor(move || { let _guard = guard; count.fetch_add(100, SeqCst); })
        }).collect();
        let handle = rt.handle();
        drop(rt);
        assert_eq!((finished.load(SeqCst), probe.count()), (1, 10), "the running one ended, the others were dropped");
        assert_eq!(futures_lite::future::block_on(running).unwrap(), 7, "its value is kept");
        for job in queued { assert!(futures_lite::future::block_on(job).unwrap_err().is_cancelled()) }
        // b49: refused from now on, quietly.
        let guard = probe.guard();
        let late = handle.run_in_executor(move || drop(guard));
        assert!(futures_lite::future::block_on(late).unwrap_err().is_cancelled());
        assert_eq!(probe.count(), 11);
    }

    fn b48_s3_34_threads_are_made_lazily_reused_and_let_go(flavour: Flavour) {
        let _ = flavour;
        let rt = common::builder!().blocking_keep_alive(40 * MS).build().unwrap();
        rt.block_on(async {
            assert_eq!(rt.metrics().executor_threads, 0, "s3_34: none before the first job");
            let mut threads = HashSet::new();
            for _ in 0..50 { threads.insert(run_in_executor(|| thread::current().id()).await.unwrap()); }
            assert!(threads.len() < 45, "jobs one after the other reuse threads: {}", threads.len());
            let gate = Gate::new();
            let jobs: Vec<_> = (0..5).map(|_| { let gate = gate.clone(); run_in_executor(move || gate.wait()) }).collect();
            eventually_async("five at once need five", || rt.metrics().executor_threads >= 5).await;
            gate.open();
            for job in jobs { job.await.unwrap() }
            eventually_async("all let go", || rt.metrics().executor_threads == 0).await;
            assert_eq!(run_in_executor(|| 3).await.unwrap(), 3, "and made again");
        });
    }

    fn b47_thousands_of_jobs(rt: Runtime) {
        rt.block_on(async {
            let jobs: Vec<_> = (0..2000usize).map(|i| run_in_executor(move || i)).collect();
            for (i, job) in jobs.into_iter().enumerate() { assert_eq!(job.await.unwrap(), i) }
        });
    }

    fn s3_09_after_its_shutdown_the_executor_refuses_and_queued_jobs_have_run(flavour: Flavour) {
        let _ = flavour;
        let rt = common::builder!().max_blocking_threads(1).build().unwrap();
        rt.block_on(async {
            let (inside, gate) = (Gate::new(), Gate::new());
            let (enter, release) = (inside.clone(), gate.clone());
            let running = run_in_executor(move || { enter.open(); release.wait(); 1 });
            eventually_async("it runs", || inside.is_open()).await;
            let queued = run_in_executor(|| 2);
            let handle = rt.handle();
            let shutdown = spawn(async move { handle.shutdown_default_executor(None).await });
            // Jobs are refused as soon as it has begun; and the loop runs on while it waits.
            let probe = DropProbe::new();
            let late = loop {
                let guard = probe.guard();
                let late = run_in_executor(move || drop(guard));
                if late.done() { break late }
                assert!(late.cancel());
                yield_now().await;
            };
            let refused = late.await.unwrap_err();
            assert!(refused.is_cancelled() && !refused.is_panic());
            assert_eq!(refused.to_string(), "Executor shutdown has been called");
            assert!(refused.try_into_panic().unwrap_err().to_string().contains("shutdown"), "the error itself");
            assert!(!shutdown.done());
            gate.open();
            assert!(shutdown.await.unwrap());
            assert_eq!((running.await.unwrap(), queued.await.unwrap()), (1, 2));
            assert_eq!(rt.metrics().executor_threads, 0);
            assert!(rt.handle().shutdown_default_executor(None).await, "again: nothing to do");
            assert!(run_in_executor_on(&threads, on_custom).await.unwrap(), "other executors are not concerned");
        });
    }

    fn s3_09_n53_a_shutdown_has_a_bound_and_then_a_warning(flavour: Flavour) {
        let _ = flavour;
        let (reports, gate, inside, probe) = (Reports::new(), Gate::new(), Gate::new(), DropProbe::new());
        let _open = gate.open_on_drop();
        let rt = common::builder!().max_blocking_threads(1).exception_handler(reports.handler()).build().unwrap();
        let (release, enter) = (gate.clone(), inside.clone());
        let stuck = rt.run_in_executor(move || { enter.open(); release.wait(); 3 });
        inside.wait();
        let guard = probe.guard();
        let queued = rt.run_in_executor(move || drop(guard));
        rt.block_on(async {
            assert!(!rt.handle().shutdown_default_executor(Some(20 * MS)).await);
            assert!(queued.await.unwrap_err().is_cancelled());
            assert_eq!(probe.count(), 1);
            let warnings = reports.all();
            assert!(warnings.len() == 1 && warnings[0].message().contains("still run"), "{warnings:?}");
        });
        drop(rt); // does not wait for what was left behind: the gate is still closed
        assert!(!stuck.done());
        gate.open();
        assert_eq!(futures_lite::future::block_on(stuck).unwrap(), 3, "s3_35: and what it gives is not lost");
    }

    fn s3_09_a_shutdown_that_is_dropped_goes_on_refusing(rt: Runtime) {
        rt.block_on(async {
            let gate = Gate::new();
            let _open = gate.open_on_drop();
            let release = gate.clone();
            let job = run_in_executor(move || release.wait());
            {
                let mut shutdown = std::pin::pin!(rt.handle().shutdown_default_executor(Some(Duration::MAX)));
                assert!(futures_lite::future::poll_once(&mut shutdown).await.is_none());
            }
            assert!(run_in_executor(|| ()).await.is_err());
            gate.open();
            job.await.unwrap();
            assert!(rt.handle().shutdown_default_executor(Some(Duration::ZERO)).await || rt.metrics().executor_threads > 0);
        });
    }

    fn s0_13_a_loop_of_a_runtime_gives_its_jobs_to_the_runtime(rt: Runtime) {
        rt.block_on(async {
            let event_loop = EventLoop::current();
            assert!(event_loop.run_in_executor(|| RuntimeHandle::try_current().is_ok()).await.unwrap());
            assert!(rt.metrics().executor_threads > 0);
            let last = rt.loops().last().unwrap().spawn_local(|| async {
                EventLoop::current().run_in_executor(|| loop_index().is_none()).await.unwrap()
            });
            assert!(last.await.unwrap());
            // Whatever runtime was entered since: it is the loop's own.
            let other = Runtime::builder().worker_threads(1).build().unwrap();
            let other_handle = other.handle();
            let entered = other_handle.enter();
            let job = event_loop.run_in_executor(|| RuntimeHandle::current().loops().len());
            drop(entered);
            assert_eq!(job.await.unwrap(), rt.loops().len());
            assert_eq!(other.metrics().executor_threads, 0);
            drop(run_in_executor(move || drop(other)));
        });
    }

    fn s0_13_jobs_on_an_executor_of_ones_own(rt: Runtime) {
        rt.block_on(async {
            let task = run_in_executor_on(&threads, || {
                assert!(RuntimeHandle::try_current().is_ok() && loop_index().is_none());
                drop(spawn(async {}));
                (on_custom(), futures_lite::future::block_on(spawn(async { 4 })).unwrap())
            });
            assert_eq!(task.await.unwrap(), (true, 4));
            assert!(rt.handle().run_in_executor_on(&threads, on_custom).await.unwrap());
            let boxed: Box<dyn Executor> = Box::new(threads);
            assert!(run_in_executor_on(&*boxed, on_custom).await.unwrap());
            // One that runs its job in place.
            let here = thread::current().id();
            let inline = run_in_executor_on(&|job: Job| job(), move || thread::current().id() == here);
            assert!(inline.done());
            assert!(inline.await.unwrap());
            assert_eq!(rt.metrics().executor_threads, 0, "s3_34: the pool was not needed");
            let panicking = run_in_executor_on(&threads, || if true { panic!("in a job") });
            assert_eq!(panic_text(&*panicking.await.unwrap_err().into_panic()), "in a job");
        });
    }

    fn n85_queued_jobs_of_an_own_executor_can_be_cancelled(rt: Runtime) {
        rt.block_on(async {
            let (shelf, probe, ran) = (Shelf::default(), DropProbe::new(), Arc::new(AtomicUsize::new(0)));
            let submit = || {
                let (guard, count) = (probe.guard(), ran.clone());
                run_in_executor_on(&shelf, move || { let _guard = guard; count.fetch_add(1, SeqCst) })
            };
            let (one, two) = (submit(), submit());
            assert!(one.cancel());
            assert_eq!(probe.count(), 1, "the closure is gone, whatever the executor does with its place");
            assert!(one.await.unwrap_err().is_cancelled());
            shelf.run();
            assert_eq!((two.await.unwrap(), ran.load(SeqCst)), (0, 1));
            // Dropped by its executor.
            let three = submit();
            drop(shelf.take());
            assert!(three.await.unwrap_err().is_cancelled());
            assert_eq!(probe.count(), 3);
            // A running one.
            let (inside, gate) = (Gate::new(), Gate::new());
            let _open = gate.open_on_drop();
            let (enter, release) = (inside.clone(), gate.clone());
            let running = run_in_executor_on(&threads, move || { enter.open(); release.wait(); 5 });
            eventually_async("it runs", || inside.is_open()).await;
            assert!(!running.cancel());
            gate.open();
            assert_eq!(running.await.unwrap(), 5);
        });
    }

    fn s3_35_a_job_that_ends_after_the_runtime_harms_nobody(rt: Runtime) {
        let (shelf, inside, gate) = (Shelf::default(), Gate::new(), Gate::new());
        let _open = gate.open_on_drop();
        let (enter, release) = (inside.clone(), gate.clone());
        let handle = rt.handle();
        let running = handle.run_in_executor_on(&threads, move || {
            enter.open();
            release.wait();
            // The runtime is gone: what is given to it is cancelled.
            assert!(futures_lite::future::block_on(spawn(async {})).unwrap_err().is_cancelled());
            assert!(futures_lite::future::block_on(run_in_executor(|| ())).unwrap_err().is_cancelled());
            6
        });
        running.add_done_callback(|_| ());
        let queued = handle.run_in_executor_on(&shelf, || 7);
        let awaiting = handle.spawn(async move { running.await.unwrap() });
        inside.wait();
        drop(rt);
        let late = handle.run_in_executor_on(&threads, || 8);
        assert_eq!(futures_lite::future::block_on(late).unwrap(), 8, "an own executor outlives the runtime");
        gate.open();
        assert!(futures_lite::future::block_on(awaiting).unwrap_err().is_cancelled());
        shelf.run();
        assert_eq!(futures_lite::future::block_on(queued).unwrap(), 7);
    }

    fn s0_13_a_default_executor_of_ones_own(flavour: Flavour) {
        let _ = flavour;
        let rt = common::builder!().default_executor(threads).build().unwrap();
        rt.block_on(async {
            assert!(run_in_executor(on_custom).await.unwrap());
            let nested = run_in_executor(|| futures_lite::future::block_on(run_in_executor(on_custom)).unwrap());
            assert!(nested.await.unwrap());
            let jobs: Vec<_> = (0..50).map(|i| run_in_executor(move || i)).collect();
            for (i, job) in jobs.into_iter().enumerate() { assert_eq!(job.await.unwrap(), i) }
            assert_eq!(rt.metrics().executor_threads, 0);
            let gate = Gate::new();
            let release = gate.clone();
            let job = run_in_executor(move || { release.wait(); 9 });
            let handle = rt.handle();
            let shutdown = spawn(async move { handle.shutdown_default_executor(None).await });
            eventually_async("it has begun", || { let late = run_in_executor(|| ()); late.done() && late.cancelled() }).await;
            for _ in 0..10 { yield_now().await }
            assert!(!shutdown.done());
            gate.open();
            assert!(shutdown.await.unwrap());
            assert_eq!(job.await.unwrap(), 9);
            assert_eq!(run_in_executor(|| ()).await.unwrap_err().to_string(), "Executor shutdown has been called");
        });
    }

    fn s3_09_s3_35_the_runtimes_end_with_a_default_executor_of_ones_own(flavour: Flavour) {
        let _ = flavour;
        let (shelf, probe) = (Shelf::default(), DropProbe::new());
        let rt = common::builder!().default_executor(shelf.clone()).build().unwrap();
        let (inside, finished) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
        let (enter, count) = (inside.clone(), finished.clone());
        let running = rt.run_in_executor(move || { enter.open(); thread::sleep(30 * MS); count.fetch_add(1, SeqCst); 7 });
        let jobs = shelf.take();
        let worker = thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        inside.wait();
        let guard = probe.guard();
        let queued = rt.run_in_executor(move || drop(guard));
        drop(rt);
        assert_eq!((finished.load(SeqCst), probe.count()), (1, 1), "the running one ended, the queued one was dropped");
        assert_eq!(futures_lite::future::block_on(running).unwrap(), 7);
        assert!(futures_lite::future::block_on(queued).unwrap_err().is_cancelled());
        worker.join().unwrap();
        shelf.run(); // finds nothing to do, and does not mind
    }

    fn c09_a_panicking_executor_is_reported_and_its_job_cancelled(flavour: Flavour) {
        let _ = flavour;
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let job = run_in_executor_on(&|_: Job| panic!("no room"), || 1);
            assert!(job.await.unwrap_err().is_cancelled());
            assert_eq!(reports.of_panic("no room"), 1);
            assert_eq!(reports.all()[0].message(), "Exception in an executor");
        });
    }

    fn s0_13_a_thread_that_awaits(rt: Runtime) {
        // curio's spawn_thread and AWAIT: a job is a thread that may wait for futures, by block_on, as often as it likes.
        rt.block_on(async {
            let handle = rt.handle();
            let (flag, told) = (Flag::new(), Arc::new(AtomicUsize::new(0)));
            let (wait, count) = (flag.clone(), told.clone());
            let thread = run_in_executor(move || {
                let await_ = |n: usize| handle.block_on(async { yield_now().await; sleep(MS).await; n });
                let mut total = 0;
                for i in 0..5 {
                    total += await_(i);
                    count.fetch_add(1, SeqCst);
                }
                handle.block_on(wait.wait());
                let task = handle.spawn(async { sleep(MS).await; 100 });
                total + handle.block_on(task).unwrap()
            });
            eventually_async("it has waited five times", || told.load(SeqCst) == 5).await;
            assert!(!thread.done());
            flag.set();
            assert_eq!(thread.await.unwrap(), 110);
        });
    }

    fn b05_a_job_that_ends_while_all_loops_sleep_wakes_its_waiter(rt: Runtime) {
        rt.block_on(async {
            for i in 0..50 {
                assert_eq!(run_in_executor(move || { thread::sleep(Duration::from_micros(300)); i }).await.unwrap(), i);
            }
            let flag = Flag::new();
            let set = flag.clone();
            drop(run_in_executor(move || { thread::sleep(5 * MS); set.set() }));
            flag.wait().await;
        });
    }
}

#[test]
fn b48_the_builder_rejects_no_threads_at_all() {
    with_timeout(|| {
        let text = panics(|| Runtime::builder().max_blocking_threads(0).build());
        assert!(text.contains("max_blocking_threads"), "{text}");
    });
}

#[test]
fn s3_34_executor_threads_have_a_name() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).thread_name("exn").build().unwrap();
        let name =
            futures_lite::future::block_on(rt.run_in_executor(|| thread::current().name().map(str::to_owned))).unwrap();
        assert_eq!(name.as_deref(), Some("exn"));
    });
}

#[test]
fn b48_a_storm_with_no_keep_alive_loses_no_job() {
    // Every thread is on its way out when the next job comes.
    with_timeout(|| {
        let rt = Runtime::builder()
            .worker_threads(2)
            .blocking_keep_alive(Duration::ZERO)
            .max_blocking_threads(4)
            .build()
            .unwrap();
        rt.block_on(async {
            for i in 0..1000 {
                assert_eq!(run_in_executor(move || i).await.unwrap(), i);
                if i % 20 == 0 {
                    yield_now().await
                }
            }
            for _ in 0..50 {
                let jobs: Vec<_> = (0..10).map(|i| run_in_executor(move || i)).collect();
                for (i, job) in jobs.into_iter().enumerate() {
                    assert_eq!(job.await.unwrap(), i)
                }
            }
        });
    });
}

// ------------------------------------------------------------------------------------------------ a loop on its own

/// Runs `body` on a loop without a runtime, which is closed at the end.
fn alone<T>(body: impl AsyncFnOnce(EventLoop) -> T) -> T {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let output = event_loop.run_until_complete(body(event_loop.clone())).unwrap();
        event_loop.close();
        output
    })
}

#[test]
fn b47_s0_13_a_loop_on_its_own_has_an_executor() {
    alone(async |event_loop| {
        let (gate, here) = (Gate::new(), thread::current().id());
        let release = gate.clone();
        let job = run_in_executor(move || {
            release.wait();
            assert!(loop_index().is_none() && RuntimeHandle::try_current().is_err());
            thread::current().id()
        });
        let ran = Arc::new(Mutex::new(None));
        let slot = ran.clone();
        job.add_done_callback(move |outcome| *slot.lock().unwrap() = Some((outcome, loop_index())));
        event_loop.call_later(MS, move || gate.open()); // so the loop runs on
        assert_ne!(job.await.unwrap(), here);
        eventually_async("called", || ran.lock().unwrap().is_some()).await;
        assert_eq!(*ran.lock().unwrap(), Some((epicycle::task::Outcome::Completed, Some(0))), "called on the loop");
        // One after the other, on a thread that is kept; and many at once.
        let mut seen = HashSet::new();
        for _ in 0..50 {
            seen.insert(event_loop.run_in_executor(|| thread::current().id()).await.unwrap());
        }
        assert!(seen.len() < 25, "{seen:?}");
        let jobs: Vec<_> = (0..1000).map(|i| run_in_executor(move || i)).collect();
        for (i, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), i);
        }
        assert!(run_in_executor_on(&threads, on_custom).await.unwrap());
    });
}

#[test]
fn b47_a_job_wakes_a_lone_loop_that_sleeps() {
    alone(async |_| {
        for _ in 0..20 {
            run_in_executor(|| thread::sleep(MS)).await.unwrap(); // nothing else: the loop has no timer and no source
        }
    });
}

#[test]
fn s0_13_a_job_may_be_given_to_a_lone_loop_that_does_not_run() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let job = event_loop.run_in_executor(|| 6);
        eventually("done by its thread", || job.done());
        assert_eq!(event_loop.run_until_complete(job).unwrap().unwrap(), 6);
        let held = event_loop.clone();
        event_loop.close();
        assert_eq!(panics(|| held.run_in_executor(|| 1)), "event loop is closed");
        assert!(panics(|| run_in_executor(|| 1)).contains("no epicycle runtime here"));
    });
}

#[test]
fn s3_09_s3_35_closing_a_lone_loop_cancels_queued_jobs_and_leaves_running_ones() {
    const THREADS: usize = 512;
    with_timeout(|| {
        let (gate, begun, probe) = (Gate::new(), Arc::new(AtomicUsize::new(0)), DropProbe::new());
        let _open = gate.open_on_drop();
        let event_loop = EventLoop::new().unwrap();
        let running: Vec<_> = (0..THREADS)
            .map(|i| {
                let (release, count) = (gate.clone(), begun.clone());
                event_loop.run_in_executor(move || {
                    count.fetch_add(1, SeqCst);
                    release.wait();
                    i
                })
            })
            .collect();
        eventually("all threads are busy", || begun.load(SeqCst) == THREADS);
        let (guard, count, called) = (probe.guard(), begun.clone(), Arc::new(AtomicUsize::new(0)));
        let queued = event_loop.run_in_executor(move || {
            let _guard = guard;
            count.fetch_add(1, SeqCst);
        });
        let awaiting = event_loop.spawn_local(std::future::pending::<()>());
        let counter = called.clone();
        running[0].add_done_callback(move |_| _ = counter.fetch_add(1, SeqCst));
        event_loop.close(); // does not wait: the gate is still closed
        assert!(queued.done() && probe.count() == 1, "its closure is gone");
        assert!(futures_lite::future::block_on(queued).unwrap_err().is_cancelled());
        assert!(awaiting.cancelled());
        assert!(running.iter().all(|job| !job.done()));
        drop(event_loop);
        gate.open();
        for (i, job) in running.into_iter().enumerate() {
            assert_eq!(futures_lite::future::block_on(job).unwrap(), i, "what it gives is not lost");
        }
        assert_eq!((begun.load(SeqCst), called.load(SeqCst)), (THREADS, 0), "no loop is left for the callback");
    });
}

#[test]
fn b50_a_panic_of_a_lone_loops_job_is_its_error_or_a_report() {
    let reports = Reports::new();
    let event_loop = EventLoop::new().unwrap();
    event_loop.set_exception_handler(Some(Box::new(reports.handler())));
    with_timeout(|| {
        event_loop
            .run_until_complete(async {
                let error = run_in_executor(|| panic!("in a job")).await.unwrap_err();
                assert_eq!(panic_text(&*error.into_panic()), "in a job");
                drop(run_in_executor(|| panic!("nobody looks")));
                eventually_async("reported", || reports.of_panic("nobody looks") == 1).await;
                assert_eq!(run_in_executor(|| 6).await.unwrap(), 6, "the pool lives on");
            })
            .unwrap();
    });
    assert_eq!(reports.all().len(), 1);
}

#[test]
fn n53_the_threads_of_a_closed_lone_loop_end() {
    with_timeout(|| {
        let ended = Gate::new();
        thread_local! { static GUARD: std::cell::RefCell<Option<Box<dyn std::any::Any>>> = const { std::cell::RefCell::new(None) } }
        let event_loop = EventLoop::new().unwrap();
        let signal = ended.clone();
        let job = event_loop.run_in_executor(move || {
            let open = signal.open_on_drop();
            GUARD.with(|guard| *guard.borrow_mut() = Some(Box::new(open)));
        });
        event_loop.run_until_complete(job).unwrap().unwrap();
        assert!(!ended.is_open(), "the thread is kept");
        event_loop.close();
        ended.wait();
    });
}

#[test]
fn s0_13_names_are_looked_up_on_a_lone_loop() {
    alone(async |_| {
        let found: Vec<_> = epicycle::net::lookup_host("localhost:1").await.unwrap().collect();
        assert!(!found.is_empty() && found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 1));
        let listener = epicycle::net::TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting =
            epicycle::spawn_local(async move { (listener.accept().await.unwrap(), listener.accept().await.unwrap()) });
        epicycle::net::TcpStream::connect(("localhost", port)).await.unwrap();
        epicycle::streams::open_connection(("localhost", port)).await.unwrap();
        accepting.await.unwrap();
        assert!(epicycle::net::lookup_host("no such name:1").await.is_err());
    });
}
