//! What an instrument is told: each event, in its order, of all kinds of tasks, callbacks, timers and loops.

mod common;

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use common::{Flavour, Gate, eventually, eventually_async, with_timeout};
use epicycle::task::{self, Id, Outcome, TaskKind, Work};
use epicycle::time::sleep;
use epicycle::{Event, EventLoop, FutureId, Instrument, Runtime, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Keeps what it is told.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Event>>>);

impl Instrument for Recorder {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(*event);
    }
}

impl Recorder {
    fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|event| is(event)).count()
    }

    fn position(&self, what: &str, is: impl Fn(&Event) -> bool) -> usize {
        self.0.lock().unwrap().iter().position(is).unwrap_or_else(|| panic!("never told: {what}"))
    }
}

fn runtime(flavour: Flavour) -> (Runtime, Recorder) {
    let recorder = Recorder::default();
    let rt = Runtime::builder()
        .worker_threads(flavour.loops())
        .work_stealing(flavour.stealing())
        .instrument(recorder.clone())
        .build()
        .unwrap();
    (rt, recorder)
}

/// A task's own events as words; loops and durations left out.
fn story(events: &[Event], id: Id) -> Vec<&'static str> {
    let own = FutureId::of_task(id);
    events
        .iter()
        .filter_map(|event| match *event {
            Event::TaskSpawned { task, .. } if task == id => Some("spawned"),
            Event::TaskEnded { task, outcome } if task == id => Some(match outcome {
                Outcome::Completed => "completed",
                Outcome::Cancelled => "cancelled",
                Outcome::Panicked => "panicked",
            }),
            Event::Woken { task, .. } if task == id => Some("woken"),
            Event::HandleQueued { work } if work.task() == Some(id) => Some("queued"),
            Event::HandleStarted { work, .. } if work.task() == Some(id) => Some("started"),
            Event::HandleEnded { work, .. } if work.task() == Some(id) => Some("ended"),
            Event::CallbackAdded { task, .. } if task == id => Some("callback added"),
            Event::CallbackRun { task, .. } if task == id => Some("callback run"),
            Event::Blocking { future, .. } if future == own => Some("awaited"),
            Event::WakerRegistered { future, .. } if future == own => Some("waker registered"),
            Event::FutureResumed { future, .. } if future == own => Some("resumed"),
            _ => None,
        })
        .collect()
}

common::flavours! {
    fn s0_03_s1_08_s2_16_a_task_is_told_from_spawn_to_end_in_order(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        let (plain, pinned, cancelled) = rt.block_on(async {
            let plain = spawn(yield_now());
            let id = plain.id();
            plain.await.unwrap();
            let pinned = spawn_local(async {});
            let pinned_id = pinned.id();
            pinned.await.unwrap();
            let cancelled = spawn(pending::<()>());
            let ids = (id, pinned_id, cancelled.id());
            let waits = |event: &Event| matches!(event, Event::HandleEnded { work: Work::Task(id), .. } if *id == ids.2);
            eventually_async("it waits", || recorder.count(waits) == 1).await;
            cancelled.cancel();
            cancelled.await.unwrap_err();
            ids
        });
        drop(rt);
        let events = recorder.all();
        let own = |id| {
            let mut story = story(&events, id);
            story.retain(|word| !matches!(*word, "awaited" | "waker registered" | "resumed"));
            story
        };
        let polls = ["spawned", "queued", "started", "woken", "queued"];
        let story = own(plain);
        // On another loop its second poll may begin before the first one's end is told.
        assert_eq!(story[..5], polls);
        assert_eq!(story.iter().filter(|word| **word == "started").count(), 2);
        assert_eq!(story.iter().filter(|word| **word == "ended").count(), 2);
        assert_eq!(story.iter().filter(|word| **word == "completed").count(), 1);
        assert_eq!(own(pinned), ["spawned", "queued", "started", "completed", "ended"]);
        let cancel = ["spawned", "queued", "started", "ended", "woken", "queued", "started", "cancelled", "ended"];
        assert_eq!(own(cancelled), cancel);
    }

    fn s3_trace_a_lock_is_told_as_any_future_a_task_blocks_on(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        let waiter = rt.block_on(async {
            let lock = Arc::new(epicycle::sync::Mutex::new(0));
            // Without contention nobody waits, and nothing is told.
            drop(lock.lock().await);
            let guard = lock.lock().await;
            let task = spawn({ let lock = lock.clone(); async move { *lock.lock().await += 1 } });
            let id = task.id();
            let blocks = |event: &Event| matches!(event, Event::Blocking { task, future } if *task == Some(id) && future.kind() == "lock");
            eventually_async("it blocks", || recorder.count(blocks) == 1).await;
            drop(guard);
            task.await.unwrap();
            id
        });
        drop(rt);
        let events = recorder.all();
        let told: Vec<_> = events.iter().filter_map(|event| match *event {
            Event::Blocking { task, future } if future.kind() == "lock" => Some(("blocking", task, future)),
            Event::WakerRegistered { task, future } if future.kind() == "lock" => Some(("registered", task, future)),
            Event::FutureResumed { task, future } if future.kind() == "lock" => Some(("resumed", task, future)),
            _ => None,
        }).collect();
        let future = told[0].2;
        assert_eq!(told, ["blocking", "registered", "resumed"].map(|what| (what, Some(waiter), future)));
        let at = |wanted: Event| events.iter().position(|event| *event == wanted).unwrap();
        let resumed = at(Event::FutureResumed { task: Some(waiter), future });
        let woken = events.iter().position(|event| matches!(event, Event::Woken { task, by: Some(_) } if *task == waiter)).unwrap();
        assert!(at(Event::WakerRegistered { task: Some(waiter), future }) < woken && woken < resumed);
    }

    fn s0_02_a_spawn_tells_parent_kind_and_place_before_it_is_queued(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        let (parent, stealable, pinned, posted, job, line) = rt.block_on(async {
            let handle = rt.loops().last().unwrap().clone();
            let parent = spawn_local(async move {
                let line = line!() + 1;
                let stealable = spawn(async {});
                let pinned = spawn_local(async {});
                let posted = handle.spawn_local(|| async {});
                let job = epicycle::run_in_executor(|| ());
                let ids = (stealable.id(), pinned.id(), posted.id(), job.id());
                stealable.await.unwrap();
                pinned.await.unwrap();
                posted.await.unwrap();
                job.await.unwrap();
                (task::id(), ids.0, ids.1, ids.2, ids.3, line)
            });
            parent.await.unwrap()
        });
        let spawned = |id| recorder.position("the spawn", |event| matches!(event, Event::TaskSpawned { task, .. } if *task == id));
        let queued = |id| recorder.position("the queueing", |event| matches!(event, Event::HandleQueued { work } if work.task() == Some(id)));
        let kinds = [(stealable, TaskKind::Stealable), (pinned, TaskKind::Pinned), (posted, TaskKind::Pinned), (job, TaskKind::Job)];
        for (at, (id, expected)) in (0..).zip(kinds) {
            let Event::TaskSpawned { parent: by, kind, location, .. } = recorder.all()[spawned(id)] else { unreachable!() };
            assert_eq!((by, kind), (Some(parent), expected));
            assert_eq!((location.file(), location.line()), (file!(), line + at));
            assert!(spawned(id) < queued(id));
        }
        let Event::TaskSpawned { parent: root, .. } = recorder.all()[spawned(parent)] else { unreachable!() };
        let is_root = |event: &Event| matches!(event, Event::TaskSpawned { task, kind: TaskKind::Root, parent: None, .. } if Some(*task) == root);
        assert_eq!(recorder.count(is_root), 1, "the root of block_on is a task, too");
        for id in [stealable, pinned, posted, job] {
            eventually("each end is told", || recorder.count(|event| matches!(event, Event::TaskEnded { task, .. } if *task == id)) == 1);
        }
    }

    fn c08_a_cancel_that_wins_during_the_last_poll_is_told_as_such(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        rt.block_on(async {
            for kept in [true, false] {
                let (slot, ran) = (Arc::new(Mutex::new(None::<epicycle::Task<()>>)), Arc::new(AtomicBool::new(false)));
                let (own, done) = (slot.clone(), ran.clone());
                let task = spawn(async move {
                    eventually_async("the handle comes", || own.lock().unwrap().is_some()).await;
                    let task = own.lock().unwrap().take().unwrap();
                    assert!(task.cancel());
                    if kept { own.lock().unwrap().replace(task); }
                    done.store(true, SeqCst);
                });
                let id = task.id();
                slot.lock().unwrap().replace(task);
                let told = |event: &Event| matches!(event, Event::TaskEnded { task, .. } if *task == id);
                eventually_async("it ends", || recorder.count(told) == 1).await;
                assert!(ran.load(SeqCst));
                let at = recorder.position("its end", told);
                assert_eq!(recorder.all()[at], Event::TaskEnded { task: id, outcome: Outcome::Cancelled });
            }
        });
        drop(rt);
    }

    fn c09_a_panic_is_told_as_such(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        let id = rt.block_on(async {
            let task = spawn(async { panic!("told") });
            let id = task.id();
            assert!(task.await.unwrap_err().is_panic());
            id
        });
        let told = Event::TaskEnded { task: id, outcome: Outcome::Panicked };
        eventually("its end is told", || recorder.count(|event| *event == told) == 1);
    }

    fn s0_04_s2_09_done_callbacks_are_told_when_added_and_when_run(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        let id = rt.block_on(async {
            let task = spawn(yield_now());
            let id = task.id();
            let ran = Arc::new(Mutex::new(Vec::new()));
            let add = |number: u32| { let ran = ran.clone(); task.add_done_callback(move |_| ran.lock().unwrap().push(number)) };
            add(0);
            add(1);
            eventually_async("done", || task.done()).await;
            add(2);
            eventually_async("all ran", || ran.lock().unwrap().len() == 3).await;
            assert_eq!(*ran.lock().unwrap(), [0, 1, 2]);
            id
        });
        for number in 1..4 {
            let added = recorder.position("added", |event| *event == Event::CallbackAdded { task: id, number });
            let run = recorder.position("run", |event| *event == Event::CallbackRun { task: id, number });
            let ended = recorder.position("ended", |event| matches!(event, Event::TaskEnded { task, .. } if *task == id));
            assert!(added < run && ended < run);
            assert_eq!(added < ended, number < 3);
            assert_eq!(recorder.count(|event| *event == Event::CallbackRun { task: id, number }), 1);
        }
    }

    fn s2_16_s3_33_awaiting_a_task_is_told_at_both_ends(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        let (waiter, awaited) = rt.block_on(async {
            let flag = common::Flag::new();
            let wait = flag.wait();
            let awaited = spawn(wait);
            let awaited_id = awaited.id();
            let waiter = spawn_local(async move { awaited.await.unwrap() });
            let waiter_id = waiter.id();
            let waits = Event::WakerRegistered { task: Some(waiter_id), future: FutureId::of_task(awaited_id) };
            eventually_async("it waits", || recorder.count(|event| *event == waits) == 1).await;
            flag.set();
            waiter.await.unwrap();
            (waiter_id, awaited_id)
        });
        let future = FutureId::of_task(awaited);
        assert_eq!(future.task(), Some(awaited));
        assert_eq!(future.to_string(), format!("task-{awaited}"));
        let task = Some(waiter);
        let at = |event: Event| recorder.position("the join", |told| *told == event);
        let (blocking, registered) = (at(Event::Blocking { task, future }), at(Event::WakerRegistered { task, future }));
        let (resumed, ended) = (at(Event::FutureResumed { task, future }), at(Event::TaskEnded { task: awaited, outcome: Outcome::Completed }));
        assert!(blocking < registered && registered < ended && ended < resumed);
        let woken = recorder.position("the wake", |event| matches!(event, Event::Woken { task, .. } if *task == waiter));
        assert!(ended < woken && woken < resumed);
    }

    fn s3_05_a_sleep_is_told_from_arming_to_firing(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        let deadline = Instant::now() + 20 * MS;
        let id = rt.block_on(async {
            let task = spawn(epicycle::time::sleep_until(deadline));
            let id = task.id();
            task.await.unwrap();
            id
        });
        let events = recorder.all();
        let armed = recorder.position("armed", |event| matches!(event, Event::TimerArmed { when, .. } if *when == deadline));
        let Event::TimerArmed { timer, .. } = events[armed] else { unreachable!() };
        assert_eq!(timer.kind(), "timer");
        let at = |event: Event| recorder.position("a sleep's", |told| *told == event);
        let task = Some(id);
        let fired = recorder.position("fired", |event| matches!(event, Event::TimerFired { timer: it, .. } if *it == timer));
        let order = [
            at(Event::FutureCreated { future: timer }),
            armed,
            at(Event::Blocking { task, future: timer }),
            at(Event::WakerRegistered { task, future: timer }),
            fired,
            recorder.position("woken", |event| matches!(event, Event::Woken { task, .. } if *task == id)),
            at(Event::FutureResumed { task, future: timer }),
        ];
        assert!(order.is_sorted(), "{order:?}");
    }

    fn s2_13_a_cancelled_timer_is_never_told_to_fire(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        rt.block_on(async {
            let task = spawn(sleep(HOUR));
            eventually_async("armed", || recorder.count(|event| matches!(event, Event::TimerArmed { .. })) >= 1).await;
            task.cancel();
            task.await.unwrap_err();
            let callback = EventLoop::current().call_later(HOUR, || unreachable!());
            assert!(callback.cancel());
        });
        drop(rt);
        let far = Instant::now() + HOUR / 2;
        let is_far = |event: &&Event| matches!(event, Event::TimerArmed { when, .. } if *when > far);
        let events = recorder.all();
        let far: Vec<FutureId> = events.iter().filter(is_far).map(|event| match event {
            Event::TimerArmed { timer, .. } => *timer,
            _ => unreachable!(),
        }).collect();
        assert_eq!(far.len(), 2);
        assert_ne!(far[0], far[1]);
        for timer in far {
            assert_eq!(recorder.count(|event| matches!(event, Event::TimerFired { timer: it, .. } if *it == timer)), 0);
            assert_eq!(recorder.count(|event| matches!(event, Event::TimerCancelled { timer: it, .. } if *it == timer)), 1);
        }
    }

    fn trio_loops_tell_when_they_park_and_wake(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        rt.block_on(sleep(10 * MS));
        drop(rt);
        for on in 0..flavour.loops() {
            let mut asleep = false;
            let mut parks = 0;
            for event in recorder.all() {
                match event {
                    Event::Parked { on: it } if it == on => {
                        assert!(!asleep);
                        asleep = true;
                        parks += 1;
                    }
                    Event::Woke { on: it } if it == on => {
                        assert!(asleep);
                        asleep = false;
                    }
                    Event::HandleStarted { on: it, .. } if it == on => assert!(!asleep, "nothing runs on a loop that sleeps"),
                    _ => {}
                }
            }
            assert!(parks > 0, "loop {on} slept");
        }
    }

    fn s0_05_a_run_begins_and_ends_once(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        for _ in 0..2 {
            rt.block_on(yield_now());
        }
        drop(rt);
        for on in 0..flavour.loops() {
            let runs: Vec<Event> = recorder.all().into_iter().filter(|event| match event {
                Event::RunStart { on: it } | Event::RunStop { on: it } => *it == on,
                _ => false,
            }).collect();
            let tenancies = if on == 0 { 2 } else { 1 };
            assert_eq!(runs, [Event::RunStart { on }, Event::RunStop { on }].repeat(tenancies));
        }
    }

    fn s1_08_no_handle_begins_inside_another(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        rt.block_on(async {
            let tasks: Vec<_> = (0..50).map(|i| spawn(async move {
                EventLoop::current().call_soon(|| ());
                spawn_local(async {});
                if i % 2 == 0 { yield_now().await } else { sleep(MS).await }
            })).collect();
            for task in tasks { task.await.unwrap() }
        });
        drop(rt);
        for on in 0..flavour.loops() {
            let mut inside = None;
            for event in recorder.all() {
                match event {
                    Event::HandleStarted { on: it, work } if it == on => assert_eq!(inside.replace(work), None),
                    Event::HandleEnded { on: it, work, .. } if it == on => assert_eq!(inside.take(), Some(work)),
                    _ => {}
                }
            }
        }
        let queued = recorder.count(|event| matches!(event, Event::HandleQueued { .. }));
        let started = recorder.count(|event| matches!(event, Event::HandleStarted { .. }));
        assert!(started <= queued, "{started} handles were begun, but only {queued} queued");
    }

    fn an_instrument_that_panics_harms_nobody(flavour: Flavour) {
        struct Bad;
        impl Instrument for Bad {
            fn event(&self, _: &Event) { panic!("instrument"); }
        }
        let rt = common::builder!().instrument(Bad).build().unwrap();
        assert_eq!(flavour.loops(), rt.loops().len());
        let sum = rt.block_on(async {
            sleep(MS).await;
            spawn(async { 1 }).await.unwrap() + spawn_local(async { sleep(MS).await; 2 }).await.unwrap()
        });
        assert_eq!(sum, 3);
    }

    fn an_instrument_may_use_the_runtime(flavour: Flavour) {
        /// Wakes a task when a loop goes to sleep: the loop must not oversleep it.
        #[derive(Clone, Default)]
        struct Nagging(Arc<Mutex<Option<std::task::Waker>>>);
        impl Instrument for Nagging {
            fn event(&self, event: &Event) {
                if let Event::Parked { on: 0 } = event {
                    let waker = self.0.lock().unwrap().take();
                    waker.inspect(|waker| waker.wake_by_ref());
                }
            }
        }
        let nagging = Nagging::default();
        let rt = common::builder!().instrument(nagging.clone()).build().unwrap();
        assert_eq!(flavour.loops(), rt.loops().len());
        let slot = nagging.0;
        rt.block_on(async {
            for _ in 0..20 {
                let mut first = true;
                poll_fn(|cx| {
                    if !first { return Poll::Ready(()) }
                    first = false;
                    *slot.lock().unwrap() = Some(cx.waker().clone());
                    Poll::Pending
                }).await;
            }
        });
    }

    fn s3_32_the_root_is_a_task_while_it_is_polled(flavour: Flavour) {
        let (rt, recorder) = runtime(flavour);
        let id = rt.block_on(async {
            let before = task::id();
            yield_now().await;
            sleep(MS).await;
            assert_eq!(task::id(), before);
            assert!(rt.handle().all_tasks().iter().any(|info| info.id == before));
            before
        });
        assert!(task::try_id().is_none());
        let events = recorder.all();
        let story = story(&events, id);
        assert_eq!(story[..4], ["spawned", "queued", "callback added", "started"]);
        let end: Vec<_> = story.iter().filter(|word| matches!(**word, "completed" | "callback run")).collect();
        assert_eq!(end, [&"completed", &"callback run"]);
        let failed = rt.block_on(async {
            let mut work = pin!(async { panic!("root") });
            let id = task::id();
            (std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                let _: Poll<()> = work.as_mut().poll(&mut cx);
            })).is_err(), id)
        });
        assert!(failed.0 && failed.1 != id);
    }
}

#[test]
fn b_the_root_of_a_guest_is_told_like_any_other() {
    with_timeout(|| {
        let (rt, recorder) = runtime(Flavour::FourLoops);
        let (rt, gate) = (Arc::new(rt), Gate::new());
        let _open = gate.open_on_drop();
        let (driver, wait) = (rt.clone(), gate.clone());
        let driver = thread::spawn(move || {
            driver.block_on(async {
                let opened = epicycle::run_in_executor(move || wait.wait());
                opened.await.unwrap();
            })
        });
        eventually("somebody drives loop 0", || recorder.count(|event| *event == Event::RunStart { on: 0 }) == 1);
        let id = rt.block_on(async {
            yield_now().await;
            sleep(MS).await;
            task::id()
        });
        gate.open();
        driver.join().unwrap();
        let is_end = |event: &Event| *event == Event::TaskEnded { task: id, outcome: Outcome::Completed };
        assert_eq!(recorder.count(is_end), 1);
        let guest = usize::MAX;
        assert_eq!(recorder.count(|event| *event == Event::RunStart { on: guest }), 1);
        assert_eq!(recorder.count(|event| *event == Event::RunStop { on: guest }), 1);
        let own = |event: &Event| matches!(event, Event::HandleStarted { on, work: Work::Task(task) } if *on == guest && *task == id);
        assert!(recorder.count(own) >= 2);
    });
}

#[test]
fn trio_a_loop_on_its_own_tells_all_of_it() {
    with_timeout(|| {
        let recorder = Recorder::default();
        let event_loop = EventLoop::with_instrument(recorder.clone()).unwrap();
        event_loop.call_later(5 * MS, || ());
        event_loop.run_until_complete(sleep(10 * MS)).unwrap();
        let stopper = event_loop.clone();
        event_loop.call_soon(move || stopper.stop());
        event_loop.run_forever();
        event_loop.run_once(Some(MS));
        event_loop.close();
        assert_eq!(recorder.count(|event| *event == Event::RunStart { on: 0 }), 3);
        assert_eq!(recorder.count(|event| *event == Event::RunStop { on: 0 }), 3);
        let parks = recorder.count(|event| *event == Event::Parked { on: 0 });
        assert!(parks >= 2);
        assert_eq!(recorder.count(|event| *event == Event::Woke { on: 0 }), parks);
        assert_eq!(recorder.count(|event| matches!(event, Event::TimerArmed { .. })), 2);
        assert_eq!(recorder.count(|event| matches!(event, Event::TimerFired { .. })), 2);
        assert_eq!(
            recorder.count(|event| matches!(event, Event::FutureCreated { .. })),
            1,
            "a callback's timer is no future"
        );
    });
}

#[test]
fn readers_are_callbacks_not_tasks() {
    with_timeout(|| {
        let recorder = Recorder::default();
        let event_loop = EventLoop::with_instrument(recorder.clone()).unwrap();
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut theirs, b"x").unwrap();
        let stopper = event_loop.clone();
        event_loop
            .add_reader(&ours, move || {
                assert!(task::try_id().is_none());
                stopper.stop();
            })
            .unwrap();
        event_loop.run_forever();
        event_loop.remove_reader(&ours);
        event_loop.close();
        assert_eq!(recorder.count(|event| matches!(event, Event::TaskSpawned { .. } | Event::TaskEnded { .. })), 0);
        assert!(recorder.count(|event| matches!(event, Event::HandleStarted { work: Work::Callback(_), .. })) >= 1);
    });
}

/// trio's `RunStatistics`: tasks living and runnable, the next deadline, what waits to be taken in.
#[test]
fn trio_run_statistics_are_in_the_metrics() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        rt.block_on(async {
            let before = rt.metrics();
            assert_eq!(before.loops[0].next_timer, None);
            let sleeper = spawn(sleep(HOUR));
            let runnable = spawn(async {});
            let metrics = rt.metrics();
            assert_eq!(metrics.alive_tasks, before.alive_tasks + 2);
            assert_eq!(metrics.loops[0].ready_depth, 2);
            runnable.await.unwrap();
            let next = rt.metrics().loops[0].next_timer.expect("the sleeper's");
            assert!(HOUR - common::PATIENCE < next && next <= HOUR, "{next:?}");
            thread::scope(|scope| scope.spawn(|| drop(rt.spawn(async {}))).join().unwrap());
            assert_eq!(rt.metrics().loops[0].inbox_depth, 1);
            sleeper.cancel();
            sleeper.await.unwrap_err();
            assert_eq!(rt.metrics().loops[0].next_timer, None);
        });
    });
}
