//! Waiting for a task from a thread: asyncio's `run_coroutine_threadsafe` and its future (N86).

mod common;

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::{DropProbe, Flag, eventually, panic_text, panics_with, with_timeout};
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, RuntimeHandle, run_in_executor, spawn, yield_now};

const MS: Duration = Duration::from_millis(1);
const ON_A_LOOP: &str = "would block the event loop";

/// Drives the runtime on a thread while `foreign` runs on this one.
fn while_driven<T>(rt: Runtime, foreign: impl FnOnce(RuntimeHandle) -> T) -> T {
    let (handle, stop) = (rt.handle(), Flag::new());
    let wait = stop.clone();
    let driver = thread::spawn(move || rt.block_on(wait.wait()));
    let value = foreign(handle);
    stop.set();
    driver.join().unwrap();
    value
}

common::flavours! {
    fn n86_a_thread_spawns_and_waits(rt: Runtime) {
        while_driven(rt, |handle| {
            for i in 0..100 {
                assert_eq!(handle.spawn(async move { yield_now().await; i }).blocking_join().unwrap(), i);
            }
            assert_eq!(handle.spawn(async { sleep(2 * MS).await; "slept" }).blocking_join().unwrap(), "slept");
            for event_loop in handle.loops() {
                let index = event_loop.index();
                let task = event_loop.spawn_local(|| async { let here = Rc::new(EventLoop::current().index()); yield_now().await; *here });
                assert_eq!(task.blocking_join().unwrap(), index);
            }
            let panicked = handle.spawn(async { if true { panic!("for the thread") } }).blocking_join();
            assert_eq!(panic_text(&*panicked.unwrap_err().into_panic()), "for the thread");
        });
    }

    fn n86_a_timeout_does_not_cancel(rt: Runtime) {
        while_driven(rt, |handle| {
            let (flag, probe) = (Flag::new(), DropProbe::new());
            let (wait, guard) = (flag.clone(), probe.guard());
            let mut task = handle.spawn(async move { let _guard = guard; wait.wait().await; 5 });
            for timeout in [Duration::ZERO, MS, 10 * MS] { assert!(task.blocking_join_timeout(timeout).is_none()) }
            assert!(!task.done() && probe.count() == 0);
            flag.set();
            assert_eq!(task.blocking_join_timeout(Duration::MAX).unwrap().unwrap(), 5);
            assert!(task.done() && probe.count() == 1);
            panics_with("awaited again", || task.blocking_join_timeout(MS));
            // One that nobody waits for after all goes on.
            let ran = Arc::new(AtomicBool::new(false));
            let (done, flag) = (ran.clone(), Flag::new());
            let wait = flag.clone();
            let mut task = handle.spawn(async move { wait.wait().await; done.store(true, SeqCst) });
            assert!(task.blocking_join_timeout(MS).is_none());
            drop(task);
            flag.set();
            eventually("it ran to its end", || ran.load(SeqCst));
        });
    }

    fn n86_cancel_from_the_thread_cancels_the_task(rt: Runtime) {
        while_driven(rt, |handle| {
            let (flag, probe) = (Flag::new(), DropProbe::new());
            let (wait, guard) = (flag.clone(), probe.guard());
            let mut task = handle.loops()[0].spawn_local(move || async move { let _guard = guard; wait.wait().await });
            eventually("it waits", || flag.waiters() == 1);
            assert!(task.blocking_join_timeout(MS).is_none());
            assert!(task.cancel());
            assert!(task.blocking_join().unwrap_err().is_cancelled());
            assert_eq!(probe.only().loop_index, Some(0), "dropped at home");
            let before = handle.spawn(async { unreachable!("cancelled before its first poll, or panics") });
            before.cancel();
            let _: Result<(), _> = before.blocking_join();
        });
    }

    fn n86_on_an_executor_thread(rt: Runtime) {
        rt.block_on(async {
            let handle = rt.handle();
            let job = run_in_executor(move || {
                let inner = spawn(async { sleep(MS).await; 1 }).blocking_join().unwrap();
                inner + handle.loops()[0].spawn_local(|| async { 2 }).blocking_join().unwrap() + run_in_executor(|| 4).blocking_join().unwrap()
            });
            assert_eq!(job.await.unwrap(), 7);
        });
    }

    fn n86_on_a_loop_it_panics_at_once(rt: Runtime) {
        rt.block_on(async {
            panics_with(ON_A_LOOP, || spawn(pending::<()>()).blocking_join());
            panics_with("run_in_executor", || spawn(async {}).blocking_join_timeout(MS));
            for event_loop in rt.loops() {
                event_loop.spawn_local(|| async { panics_with(ON_A_LOOP, || spawn(pending::<()>()).blocking_join()) }).await.unwrap();
            }
            let done = spawn(async {});
            while !done.done() { yield_now().await }
            panics_with(ON_A_LOOP, || done.blocking_join());
        });
    }

    fn n86_c10_the_runtimes_end_ends_the_waiting(rt: Runtime) {
        let task = rt.spawn(pending::<()>());
        let waiter = thread::spawn(move || task.blocking_join());
        thread::sleep(2 * MS);
        let late = rt.handle();
        drop(rt);
        assert!(waiter.join().unwrap().unwrap_err().is_cancelled());
        assert!(late.spawn(async {}).blocking_join().unwrap_err().is_cancelled());
        assert!(late.loops()[0].spawn_local(|| async {}).blocking_join().unwrap_err().is_cancelled());
    }

    fn n86_many_threads_at_once(rt: Runtime) {
        while_driven(rt, |handle| thread::scope(|scope| for i in 0..8 {
            let handle = handle.clone();
            scope.spawn(move || for j in 0..200 {
                assert_eq!(handle.spawn(async move { if j % 3 == 0 { yield_now().await } i * j }).blocking_join().unwrap(), i * j);
            });
        }));
    }
}

#[test]
fn n86_misuse_names_the_callers_line() {
    with_timeout(|| {
        epicycle::run(async {
            for joins in [0, 1] {
                let file = common_panic_file(|| {
                    let mut task = spawn(async {});
                    match joins {
                        0 => drop(task.blocking_join()),
                        _ => drop(task.blocking_join_timeout(MS)),
                    }
                });
                assert!(file.ends_with("blocking_join.rs"), "{file}");
            }
        });
    });
}

/// The file that a panic of `f` blames. The hook is the process's: the other tests of this file expect their panics' texts only.
fn common_panic_file(f: impl FnOnce()) -> String {
    use std::cell::RefCell;
    thread_local! { static FILE: RefCell<String> = const { RefCell::new(String::new()) }; }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        FILE.set(info.location().map(|at| at.file().to_owned()).unwrap_or_default());
        before(info);
    }));
    common::panics(f);
    FILE.take()
}
