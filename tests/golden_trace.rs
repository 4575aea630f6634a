//! The golden trace: asyncio's order, step by step, with one loop; the partial order that several loops keep; and how many
//! turns things take.
//!
//! The steps are numbered as in `examples/trace.rs`.

mod common;
#[allow(dead_code)]
#[path = "../examples/trace.rs"]
mod trace;

use std::cell::RefCell;
use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Flavour, Turns, with_timeout};
use epicycle::future::ReturnWhen;
use epicycle::task::{Outcome, Work};
use epicycle::time::sleep;
use epicycle::{Event, EventLoop, Instrument, Promise, Runtime, gather, shield, spawn, wait, yield_now};
use trace::steps;

const MS: Duration = Duration::from_millis(1);
/// Long enough that a busy machine runs what is ready before it is over: else the timer would fire earlier in the order.
const SHORT: Duration = Duration::from_millis(300);
const HOUR: Duration = Duration::from_secs(3600);

/// Keeps what it is told, and when.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<(Instant, Event)>>>);

impl Instrument for Recorder {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push((Instant::now(), *event));
    }
}

impl Recorder {
    fn take(&self) -> (Vec<Instant>, Vec<Event>) {
        self.0.lock().unwrap().drain(..).unzip()
    }
}

async fn req1(delay: Duration) -> u32 {
    sleep(delay).await;
    1
}

async fn req2() -> u32 {
    2
}

async fn both(delay: Duration) -> (u32, u32) {
    gather!(req1(delay), req2()).await.unwrap()
}

// ------------------------------------------------------------------------------------------------ one loop

fn numbered(events: &[Event]) -> Vec<&'static str> {
    steps::number(events).into_iter().flatten().collect()
}

fn all_steps() -> Vec<&'static str> {
    steps::STEPS.iter().map(|(number, ..)| *number).collect()
}

#[track_caller]
fn assert_golden(events: &[Event]) {
    assert_eq!(numbered(events), all_steps(), "{events:#?}");
    assert!(matches!(events.last(), Some(Event::RunStop { on: 0 })));
    // What goes with a step: a task is queued when it is spawned or woken, a callback when its task ends.
    let at = |step: &str| steps::number(events).iter().position(|number| *number == Some(step)).unwrap();
    let queues = |step: &str, task: usize| {
        let rest = &events[at(step) + 1..];
        let next = rest.iter().position(|event| matches!(event, Event::HandleQueued { .. })).expect("something queued");
        let is_step = |number: &Option<&str>| number.is_some_and(|number| number != "5b");
        let later = steps::number(events)[at(step) + 1..].iter().position(is_step).unwrap_or(rest.len());
        assert!(next < later, "step {step} queues a handle at once");
        assert_eq!(rest[next], Event::HandleQueued { work: events_work(events, task) }, "after step {step}");
    };
    let started: Vec<Work> = events
        .iter()
        .filter_map(|event| match event {
            Event::HandleStarted { work, .. } => Some(*work),
            _ => None,
        })
        .collect();
    let is_callback: Vec<bool> = started.iter().map(|work| matches!(work, Work::Callback(_))).collect();
    // asyncio runs one more: the timer's own callback, which sets the sleep's future.
    assert_eq!(is_callback, [false, false, false, true, false, true, false, true]);
    for (step, handle) in [("2", 0), ("5a", 1), ("5b", 2), ("16", 3), ("18", 4), ("21", 5), ("23", 6), ("26", 7)] {
        queues(step, handle);
    }
}

/// What the nth handle ran.
fn events_work(events: &[Event], nth: usize) -> Work {
    let mut started = events.iter().filter_map(|event| match event {
        Event::HandleStarted { work, .. } => Some(*work),
        _ => None,
    });
    started.nth(nth).expect("so many handles")
}

#[test]
fn golden_27_steps_one_loop() {
    with_timeout(|| {
        let recorder = Recorder::default();
        let event_loop = EventLoop::with_instrument(recorder.clone()).unwrap();
        let begun = Instant::now();
        assert_eq!(event_loop.run_until_complete(both(1000 * MS)), Ok((1, 2)));
        assert!(begun.elapsed() >= 1000 * MS);
        assert_golden(&recorder.take().1);
        // And again on the same loop: nothing is left over.
        assert_eq!(event_loop.run_until_complete(both(SHORT)), Ok((1, 2)));
        assert_golden(&recorder.take().1);
        event_loop.close();
    });
}

#[test]
fn golden_27_steps_one_loop_in_a_runtime() {
    with_timeout(|| {
        let recorder = Recorder::default();
        let rt = Runtime::builder().worker_threads(1).instrument(recorder.clone()).build().unwrap();
        for delay in [1000 * MS, SHORT] {
            assert_eq!(rt.block_on(both(delay)), (1, 2));
            assert_golden(&recorder.take().1);
        }
        drop(recorder);
        let turns = rt.metrics().loops[0].turns;
        rt.block_on(both(SHORT));
        let turns = rt.metrics().loops[0].turns - turns;
        assert!(turns <= 8, "asyncio takes 8 turns; this took {turns}");
    });
}

/// A Rust future leaves its waker before its poll ends, where a Python coroutine first yields: seen by the ends of the polls, 9 comes
/// before 8, and 14 before 13.
#[test]
fn s2_17_golden_27_steps_one_loop_with_the_ends_of_polls() {
    with_timeout(|| {
        let recorder = Recorder::default();
        let event_loop = EventLoop::with_instrument(recorder.clone()).unwrap();
        event_loop.run_until_complete(both(SHORT)).unwrap();
        event_loop.close();
        let events = recorder.take().1;
        let (main, request) = (events_work(&events, 0), events_work(&events, 1));
        let mut ends = vec![(main, "8"), (request, "13")];
        let by_ends = events.iter().zip(steps::number(&events)).filter_map(|(event, step)| match event {
            Event::HandleEnded { work, .. } => {
                let at = ends.iter().position(|(first, _)| first == work)?;
                Some(ends.remove(at).1)
            }
            Event::Blocking { .. } => None,
            _ => step,
        });
        let mut expected = all_steps();
        let at = |step: &str| all_steps().iter().position(|number| *number == step).unwrap();
        expected.swap(at("8"), at("9"));
        expected.swap(at("13"), at("14"));
        assert_eq!(by_ends.collect::<Vec<_>>(), expected);
    });
}

#[test]
fn golden_trace_is_the_same_every_time() {
    with_timeout(|| {
        let rt =
            |recorder: &Recorder| Runtime::builder().worker_threads(1).instrument(recorder.clone()).build().unwrap();
        let mut known = None;
        for _ in 0..5 {
            let recorder = Recorder::default();
            rt(&recorder).block_on(async {
                let tasks: Vec<_> = (0..5)
                    .map(|i| {
                        spawn(async move {
                            for _ in 0..i {
                                yield_now().await
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
                both(SHORT).await
            });
            // Without ids and times.
            let shape: Vec<String> = recorder
                .take()
                .1
                .iter()
                .filter(|event| !matches!(event, Event::Parked { .. } | Event::Woke { .. }))
                .map(|event| format!("{event:?}").split([' ', '(']).next().unwrap().to_owned())
                .collect();
            assert_eq!(*known.get_or_insert(shape.clone()), shape);
        }
    });
}

// ------------------------------------------------------------------------------------------------ several loops

/// What must come before what, whoever runs it.
const ORDER: &[&[&str]] = &[
    &["1", "2", "3", "27"],
    &["2", "4", "5a", "5b", "7", "9", "24"],
    &["5a", "6a", "7"],
    &["5b", "6b", "7"],
    &["5a", "10", "11", "12", "14", "18", "19", "20", "21"],
    &["5b", "15", "16"],
    &["16", "17"],
    &["6b", "17"],
    &["21", "22"],
    &["6a", "22"],
    &["16", "23"],
    &["17", "23"],
    &["22", "23"],
    &["23", "24", "25", "26", "27"],
];

/// The thief of a request may be so quick that the gather finds it done, and counts it then and there: no 6b and no 17.
fn may_be_missing(step: &str) -> bool {
    matches!(step, "6b" | "17")
}

fn partial_order(flavour: Flavour) {
    let recorder = Recorder::default();
    let rt = Runtime::builder()
        .worker_threads(flavour.loops())
        .work_stealing(flavour.stealing())
        .instrument(recorder.clone())
        .build()
        .unwrap();
    let delay = 20 * MS;
    let mut complete = 0;
    for _ in 0..30 {
        // Earlier rounds' late events.
        while !recorder.take().1.is_empty() {
            std::thread::sleep(MS);
        }
        assert_eq!(rt.block_on(both(delay)), (1, 2));
        common::eventually("the run's end is told", || {
            recorder.0.lock().unwrap().iter().any(|(_, event)| *event == Event::RunStop { on: 0 })
        });
        let (times, events) = recorder.take();
        let numbers = steps::number(&events);
        let at = |step: &str| numbers.iter().position(|number| *number == Some(step));
        if at("8").is_none() {
            // This thread was held up until all was done: nobody waited.
            continue;
        }
        complete += usize::from(at("6b").is_some());
        assert_eq!(at("6b").is_some(), at("17").is_some());
        for chain in ORDER {
            for pair in chain.windows(2) {
                match (at(pair[0]), at(pair[1])) {
                    (Some(before), Some(after)) => {
                        assert!(before < after, "{} before {}: {numbers:?}", pair[0], pair[1])
                    }
                    (one, _) => {
                        let missing = if one.is_none() { pair[0] } else { pair[1] };
                        assert!(may_be_missing(missing), "step {missing} was never told: {numbers:?}");
                    }
                }
            }
        }
        // The delay counts from the call of `sleep`, a moment before the timer is armed.
        let Event::TimerArmed { when, .. } = events[at("12").unwrap()] else { unreachable!() };
        let fired = times[at("18").unwrap()];
        assert!(fired >= when, "a timer is never early: {:?}", when - fired);
        assert!(when >= times[at("1").unwrap()] + delay);
        let ended = events.iter().filter(|event| matches!(event, Event::TaskEnded { outcome: Outcome::Completed, .. }));
        assert_eq!(ended.count(), 3);
    }
    assert!(complete > 0, "no round in 30 had all steps");
}

#[test]
fn golden_partial_order_four_loops() {
    with_timeout(|| partial_order(Flavour::FourLoops));
}

#[test]
fn golden_partial_order_four_loops_no_steal() {
    with_timeout(|| partial_order(Flavour::FourLoopsNoSteal));
}

// ------------------------------------------------------------------------------------------------ hop counts

/// Runs each body twice: on a loop of its own, and on loop 0 of a runtime with one loop.
macro_rules! one_loop {
    ($(async fn $name:ident($turns:ident : Turns) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn body($turns: Turns) $body

            #[test]
            fn alone() {
                with_timeout(|| {
                    let event_loop = EventLoop::new().unwrap();
                    event_loop.run_until_complete(async { body(turns().await).await }).unwrap();
                    event_loop.close();
                });
            }

            #[test]
            fn runtime() {
                with_timeout(|| {
                    let rt = Runtime::builder().worker_threads(1).build().unwrap();
                    rt.block_on(async { body(turns().await).await });
                });
            }
        }
    )+};
}

/// A running count of turns, warmed up.
async fn turns() -> Turns {
    let turns = Turns::start(&EventLoop::current());
    yield_now().await;
    yield_now().await;
    turns
}

/// How many turns each of ten runs of `work` takes; all the same.
#[track_caller]
fn turns_of<F: Future>(turns: &Turns, mut work: impl FnMut() -> F) -> impl Future<Output = usize> {
    let place = std::panic::Location::caller();
    async move {
        let mut counts = Vec::new();
        for _ in 0..10 {
            let before = turns.count();
            work().await;
            counts.push(turns.count() - before);
        }
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?} at {place}");
        counts[0]
    }
}

async fn no_op() {}

one_loop! {
    async fn hops_0_for_await_chains_and_ready_futures(turns: Turns) {
        fn chain(depth: usize) -> Pin<Box<dyn Future<Output = usize>>> {
            Box::pin(async move { if depth == 0 { 0 } else { chain(depth - 1).await + 1 } })
        }
        assert_eq!(turns_of(&turns, || chain(50)).await, 0);
        assert_eq!(turns_of(&turns, || ready(())).await, 0);
        let set = || {
            let promise = Promise::new();
            promise.set_result(1).unwrap();
            async { assert_eq!(promise.await.unwrap(), 1) }
        };
        assert_eq!(turns_of(&turns, set).await, 0);
    }

    async fn hops_0_for_an_empty_gather(turns: Turns) {
        let empty = || async { assert!(gather(Vec::<std::future::Ready<()>>::new()).await.unwrap().is_empty()) };
        assert_eq!(turns_of(&turns, empty).await, 0);
        assert_eq!(turns_of(&turns, || async { gather!().await.unwrap() }).await, 0);
    }

    async fn hops_0_for_a_timeout_on_a_no_op(turns: Turns) {
        assert_eq!(turns_of(&turns, || async { epicycle::timeout(HOUR, no_op()).await.unwrap() }).await, 0);
    }

    async fn hops_1_for_yield_now(turns: Turns) {
        assert_eq!(turns_of(&turns, yield_now).await, 1);
    }

    async fn hops_2_for_a_future_set_by_a_queued_callback(turns: Turns) {
        let set = || {
            let promise = Promise::new();
            let setter = promise.clone();
            EventLoop::current().call_soon(move || setter.set_result(1).unwrap());
            async { assert_eq!(promise.await.unwrap(), 1) }
        };
        assert_eq!(turns_of(&turns, set).await, 2);
    }

    async fn hops_2_for_a_spawned_no_op(turns: Turns) {
        assert_eq!(turns_of(&turns, || async { spawn(no_op()).await.unwrap() }).await, 2);
        assert_eq!(turns_of(&turns, || async { epicycle::spawn_local(no_op()).await.unwrap() }).await, 2);
    }

    async fn hops_3_for_gather_wait_and_shield_of_no_ops(turns: Turns) {
        assert_eq!(turns_of(&turns, || async { gather!(no_op(), no_op()).await.unwrap() }).await, 3);
        assert_eq!(turns_of(&turns, || async { gather([no_op(), no_op()]).await.unwrap() }).await, 3);
        assert_eq!(turns_of(&turns, || async { wait([spawn(no_op()), spawn(no_op())], ReturnWhen::AllCompleted).await }).await, 3);
        assert_eq!(turns_of(&turns, || async { shield(no_op()).await.unwrap() }).await, 3);
    }

    async fn hops_3_for_cancelling_a_sleeping_task(turns: Turns) {
        let cancel = || async {
            let task = spawn(sleep(HOUR));
            yield_now().await;
            assert!(task.cancel());
            assert!(task.await.unwrap_err().is_cancelled());
        };
        assert_eq!(turns_of(&turns, cancel).await, 3);
        let pinned = || async {
            let task = epicycle::spawn_local(pending::<()>());
            yield_now().await;
            assert!(task.cancel());
            assert!(task.await.unwrap_err().is_cancelled());
        };
        assert_eq!(turns_of(&turns, pinned).await, 3);
    }

    async fn s2_10_callbacks_of_a_future_run_in_order_set_added_1_2_3(turns: Turns) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| { let log = log.clone(); move |_: &Promise<u8>| log.lock().unwrap().push(what) };
        let promise = Promise::new();
        promise.add_done_callback(note("1"));
        promise.add_done_callback(note("2"));
        promise.set_result(0).unwrap();
        log.lock().unwrap().push("set");
        promise.add_done_callback(note("3"));
        log.lock().unwrap().push("added");
        let before = turns.count();
        yield_now().await;
        assert_eq!(turns.count() - before, 1);
        assert_eq!(*log.lock().unwrap(), ["set", "added", "1", "2", "3"]);
    }
}

#[test]
fn hops_2_for_block_on_and_run_until_complete_of_a_no_op() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        rt.block_on(no_op());
        let before = rt.metrics().loops[0].turns;
        rt.block_on(no_op());
        assert_eq!(rt.metrics().loops[0].turns - before, 2);
        let recorder = Recorder::default();
        let event_loop = EventLoop::with_instrument(recorder.clone()).unwrap();
        event_loop.run_until_complete(no_op()).unwrap();
        let handles = recorder.take().1.iter().filter(|event| matches!(event, Event::HandleStarted { .. })).count();
        assert_eq!(handles, 2, "the step, and the callback that stops the loop");
        event_loop.close();
    });
}

#[test]
fn s0_05_before_the_first_poll_one_handle_is_queued() {
    with_timeout(|| {
        let recorder = Recorder::default();
        let event_loop = EventLoop::with_instrument(recorder.clone()).unwrap();
        let seen = Rc::new(RefCell::new(0));
        let (queued, at_first) = (recorder.clone(), seen.clone());
        let first = async move {
            let told = queued.0.lock().unwrap();
            *at_first.borrow_mut() =
                told.iter().filter(|(_, event)| matches!(event, Event::HandleQueued { .. })).count();
        };
        event_loop.run_until_complete(first).unwrap();
        assert_eq!(*seen.borrow(), 1);
        event_loop.close();
    });
}
