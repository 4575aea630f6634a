//! Rows of the acceptance table that belong to no area alone: what the seeds say of loops and tasks in general.
//!
//! *Threads.* Each test's own runtime, or a loop of its own.

mod common;

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{DropProbe, Flag, Flavour, Gate, Reports, eventually_async, flavour, with_timeout};
use epicycle::{Event, EventLoop, Instrument, Runtime, TimerHandle, run_in_executor, spawn, spawn_local, yield_now};

const FAR: Duration = Duration::from_secs(3600);

common::flavours! {
    /// Tasks of one loop see no change but at their own awaits, so that a read and a write belong together without a lock.
    fn s1_01_nothing_of_the_same_loop_runs_between_two_awaits(rt: Runtime) {
        rt.block_on(async {
            let counter = Rc::new(Cell::new(0));
            let tasks: Vec<_> = (0..10).map(|_| {
                let counter = counter.clone();
                spawn_local(async move {
                    for _ in 0..100 {
                        let before = counter.get();
                        std::hint::black_box((0..100).sum::<u32>());
                        counter.set(before + 1);
                        yield_now().await;
                    }
                })
            }).collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(counter.get(), 1000);
        });
    }

    /// What stands before an await runs with the first poll, what stands after it when the wake comes, and not before.
    fn s1_02_what_stands_after_an_await_runs_as_its_callback(rt: Runtime) {
        let (log, flag) = (Arc::new(Mutex::new(Vec::new())), Flag::new());
        rt.block_on(async {
            let (says, waits) = (log.clone(), flag.clone());
            let task = spawn(async move {
                says.lock().unwrap().push("before");
                waits.wait().await;
                says.lock().unwrap().push("after");
            });
            eventually_async("it waits", || flag.waiters() == 1).await;
            assert_eq!(*log.lock().unwrap(), ["before"]);
            flag.set();
            task.await.unwrap();
            assert_eq!(*log.lock().unwrap(), ["before", "after"]);
        });
    }

    fn s1_11_a_step_ends_as_value_panic_or_cancellation_and_the_loop_lives_on(rt: Runtime) {
        rt.block_on(async {
            assert_eq!(spawn(async { 1 }).await.unwrap(), 1);
            assert!(spawn(async { panic!("a step's") }).await.unwrap_err().is_panic());
            let task = spawn(std::future::pending::<()>());
            assert!(task.cancel());
            assert!(task.await.unwrap_err().is_cancelled());
            // Some other loop may have run those, so one on this very loop.
            assert!(spawn_local(async { panic!("a step's") }).await.unwrap_err().is_panic());
            assert_eq!(spawn_local(async { 2 }).await.unwrap(), 2);
        });
    }

    fn s4_12_values_go_both_ways_through_awaits_within_awaits(rt: Runtime) {
        async fn inner(value: u32, flag: Flag) -> Result<u32, String> {
            flag.wait().await;
            if value > 2 { Err(format!("{value} is too much")) } else { Ok(value * 10) }
        }
        async fn outer(value: u32, flag: Flag) -> Result<u32, String> {
            Ok(inner(value, flag).await? + 1)
        }
        let flag = Flag::new();
        let both = [2, 3].map(|value| rt.spawn(outer(value, flag.clone())));
        rt.block_on(async {
            eventually_async("both wait", || flag.waiters() == 2).await;
            flag.set();
            let [two, three] = both;
            assert_eq!(two.await.unwrap(), Ok(21));
            assert_eq!(three.await.unwrap(), Err("3 is too much".to_owned()));
        });
    }

    /// The future goes at its await: what it holds is dropped, what stands after the await never runs.
    fn s4_13_a_cancelled_task_ends_at_its_await(rt: Runtime) {
        let (probe, flag, went_on) = (DropProbe::new(), Flag::new(), Arc::new(AtomicUsize::new(0)));
        rt.block_on(async {
            let (guard, waits, counts) = (probe.guard(), flag.clone(), went_on.clone());
            let task = spawn(async move {
                let _guard = guard;
                waits.wait().await;
                counts.fetch_add(1, SeqCst);
            });
            eventually_async("it waits", || flag.waiters() == 1).await;
            assert_eq!(probe.count(), 0);
            assert!(task.cancel());
            flag.set();
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(probe.count(), 1);
        });
        drop(rt);
        assert_eq!(went_on.load(SeqCst), 0);
    }

    /// What is spawned, and what a loop runs, is a task without being wrapped by hand.
    fn s4_14_spawn_and_run_make_tasks_of_what_they_get(rt: Runtime) {
        assert_eq!(epicycle::task::try_id(), None);
        rt.block_on(async {
            let root = epicycle::task::try_id().expect("the root is a task");
            let spawned = spawn(async { epicycle::task::try_id().expect("what is spawned is a task") });
            let id = spawned.id();
            assert_eq!(spawned.await.unwrap(), id);
            assert_ne!(id, root);
        });
        let event_loop = EventLoop::new().unwrap();
        assert!(event_loop.run_until_complete(async { epicycle::task::try_id() }).unwrap().is_some());
        event_loop.close();
    }

    /// A job that blocks, here with a file at its end, holds nobody up.
    fn s4_15_blocking_work_goes_to_the_executor_and_the_loop_runs_on(rt: Runtime) {
        rt.block_on(async {
            let gate = Gate::new();
            let blocks = gate.clone();
            let job = run_in_executor(move || {
                blocks.wait();
                std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap()
            });
            for _ in 0..100 {
                yield_now().await;
            }
            epicycle::time::sleep(Duration::from_millis(1)).await;
            assert!(!job.done());
            gate.open();
            assert!(job.await.unwrap().contains("name = \"epicycle\""));
        });
    }

    /// A task that blocks its thread holds up what is pinned to its loop; others go on where there are other loops.
    fn s3_06_a_blocking_task_holds_up_its_loops_own_and_no_others(flavour: Flavour) {
        if flavour.loops() == 1 {
            return; // Then there is nobody else.
        }
        let rt = common::builder!().build().unwrap();
        let gate = Gate::new();
        let _open = gate.open_on_drop();
        let pinned_ran = Arc::new(AtomicUsize::new(0));
        let (blocks, entered) = (gate.clone(), Gate::new());
        let enters = entered.clone();
        rt.loops()[1].spawn_local(move || async move {
            enters.open();
            blocks.wait();
        });
        entered.wait();
        let counts = pinned_ran.clone();
        let pinned = rt.loops()[1].spawn_local(move || async move { counts.fetch_add(1, SeqCst) });
        rt.block_on(async {
            for _ in 0..100 {
                spawn(yield_now()).await.unwrap();
            }
            epicycle::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(pinned_ran.load(SeqCst), 0);
            gate.open();
            pinned.await.unwrap();
        });
        assert_eq!(pinned_ran.load(SeqCst), 1);
    }

    /// What the loops hold can be read.
    fn s2_02_a_loops_state_can_be_read(rt: Runtime) {
        rt.block_on(async {
            let here = EventLoop::current();
            let index = here.index();
            let before = rt.metrics().loops[index].clone();
            let timer = here.call_later(FAR, || unreachable!());
            here.call_soon(|| ());
            let with_both = rt.metrics().loops[index].clone();
            assert_eq!(with_both.timers_pending, before.timers_pending + 1);
            assert!(with_both.next_timer.is_some_and(|next| next <= FAR));
            assert!(timer.cancel());
            yield_now().await;
            assert!(rt.metrics().loops[index].turns > before.turns);
            let time = here.time();
            assert!(here.time() >= time);
        });
        assert_eq!(rt.metrics().loops.len(), flavour().loops());
    }
}

#[test]
fn s2_02_s2_04_a_loop_that_was_stopped_runs_again() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let runs = Rc::new(Cell::new(0));
        for _ in 0..3 {
            assert!(!event_loop.is_running());
            let (stops, counts) = (event_loop.clone(), runs.clone());
            event_loop.call_soon(move || {
                assert!(stops.is_running());
                counts.set(counts.get() + 1);
                stops.stop();
            });
            event_loop.run_forever();
        }
        assert_eq!(runs.get(), 3);
        assert_eq!(event_loop.run_until_complete(async { 5 }), Ok(5));
        assert!(!event_loop.is_closed());
        event_loop.close();
        assert!(event_loop.is_closed());
    });
}

/// All timers that are due go off in one turn, behind what was queued before; those that are not stay.
#[test]
fn s2_05_a_turn_takes_all_due_timers() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let log = Rc::new(RefCell::new(Vec::new()));
        let note = |what: &'static str| {
            let log = log.clone();
            move || log.borrow_mut().push(what)
        };
        let now = event_loop.time();
        event_loop.call_at(now, note("due 1"));
        event_loop.call_at(now, note("due 2"));
        event_loop.call_later(FAR, note("far"));
        event_loop.call_at(now, note("due 3"));
        event_loop.call_soon(note("queued"));
        event_loop.run_once(Some(Duration::ZERO));
        assert_eq!(*log.borrow(), ["queued", "due 1", "due 2", "due 3"]);
        event_loop.run_once(Some(Duration::ZERO));
        assert_eq!(log.borrow().len(), 4);
        event_loop.close();
    });
}

#[test]
fn s2_06_stop_is_a_flag_that_ends_the_run_after_its_batch() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let log = Rc::new(RefCell::new(Vec::new()));
        for what in ["first", "second", "third"] {
            let (log, stops) = (log.clone(), event_loop.clone());
            event_loop.call_soon(move || {
                stops.stop();
                let later = log.clone();
                stops.call_soon(move || later.borrow_mut().push("of the next run"));
                log.borrow_mut().push(what);
            });
        }
        event_loop.run_forever();
        assert_eq!(*log.borrow(), ["first", "second", "third"]);
        event_loop.stop();
        event_loop.run_forever();
        assert_eq!(log.borrow()[3..], ["of the next run"; 3]);
        event_loop.close();
    });
}

/// A reader's and a timer's callback of the same turn stand in the queue: the reader's, first, can still cancel the timer's.
#[test]
fn s4_02_callbacks_of_io_and_timers_are_queued_not_called() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        there.write_all(b"x").unwrap();
        let timer: Rc<RefCell<Option<TimerHandle>>> = Rc::default();
        let cancelled = Rc::new(Cell::new(None));
        let (cancels, says) = (timer.clone(), cancelled.clone());
        event_loop
            .add_reader(&here, move || {
                if let Some(timer) = cancels.take() {
                    says.set(Some(timer.cancel()));
                }
            })
            .unwrap();
        *timer.borrow_mut() = Some(event_loop.call_at(event_loop.time(), || panic!("it was cancelled")));
        event_loop.run_once(Some(Duration::ZERO));
        assert_eq!(cancelled.get(), Some(true), "the timer was due, and waited for its place in the queue");
        event_loop.run_once(Some(Duration::ZERO));
        event_loop.remove_reader(&here);
        event_loop.close();
    });
}

/// The four parts of a loop know nothing of each other: only the loop itself knows them.
#[test]
fn s4_01_queue_selector_and_timers_are_separate() {
    let parts = ["ready", "selector", "timers"];
    for part in parts {
        let path = format!("{}/src/event_loop/{part}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let imports: Vec<_> = text.lines().filter(|line| line.trim_start().starts_with("use ")).collect();
        for other in parts {
            for import in &imports {
                let names_it = import.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == other);
                assert!(!names_it, "{part} imports {other}: {import}");
            }
        }
    }
    // And each has tests of its own.
    for tests in ["event_loop", "selector", "time", "fairness"] {
        assert!(std::path::Path::new(&format!("{}/tests/{tests}.rs", env!("CARGO_MANIFEST_DIR"))).exists());
    }
}

#[derive(Clone, Default)]
struct Spawns(Arc<AtomicUsize>);

impl Instrument for Spawns {
    fn event(&self, event: &Event) {
        if let Event::TaskSpawned { .. } = event {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

#[test]
fn s3_07_debug_slow_duration_handler_and_spawn_hook_can_be_set() {
    with_timeout(|| {
        let (spawns, reports) = (Spawns::default(), Reports::new());
        let event_loop = EventLoop::with_instrument(spawns.clone()).unwrap();
        event_loop.set_exception_handler(Some(Box::new(reports.handler())));
        event_loop.run_until_complete(async { yield_now().await }).unwrap();
        assert!(reports.all().is_empty());
        event_loop.set_debug(Some(Duration::from_nanos(1)));
        event_loop.run_until_complete(async { spawn_local(async {}).await.unwrap() }).unwrap();
        assert!(!reports.all().is_empty(), "every handle takes a nanosecond");
        event_loop.set_debug(None);
        let before = reports.all().len();
        event_loop.call_soon(|| panic!("a callback's"));
        event_loop.run_until_complete(async { yield_now().await }).unwrap();
        assert_eq!(reports.all().len(), before + 1);
        assert_eq!(reports.of_panic("a callback's"), 1);
        assert_eq!(spawns.0.load(SeqCst), 4, "three runs and a task");
        event_loop.close();
    });
    with_timeout(|| {
        let (spawns, reports) = (Spawns::default(), Reports::new());
        let rt = Runtime::builder()
            .worker_threads(1)
            .debug(true)
            .slow_callback_duration(Duration::from_nanos(1))
            .exception_handler(reports.handler())
            .instrument(spawns.clone())
            .build()
            .unwrap();
        rt.block_on(async { spawn(async {}).await.unwrap() });
        assert!(!reports.all().is_empty());
        assert!(spawns.0.load(SeqCst) >= 1);
    });
}
