//! Debug mode: slow handles are reported with what they are and where they came from, those that do not end while they run.

mod common;

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{Flavour, Gate, Reports, eventually, eventually_async};
use epicycle::{ErrorContext, EventLoop, Runtime};

fn runtime(loops: usize, debug: bool) -> (Runtime, mpsc::Receiver<(String, Option<u32>)>) {
    let (sender, reports) = mpsc::channel();
    let rt = Runtime::builder()
        .worker_threads(loops)
        .debug(debug)
        .slow_callback_duration(Duration::from_millis(20))
        .exception_handler(move |context| {
            let line = context.location().map(|location| location.line());
            if context.message().starts_with("Executing") {
                sender.send((context.message().to_string(), line)).unwrap();
            }
        })
        .build()
        .unwrap();
    (rt, reports)
}

#[test]
fn s3_21_slow_callback_is_reported_with_its_origin() {
    common::with_timeout(|| {
        for loops in [1, 4] {
            let (rt, reports) = runtime(loops, true);
            let line = rt.block_on(async {
                let line = line!() + 1;
                EventLoop::current().call_soon(|| std::thread::sleep(Duration::from_millis(40)));
                epicycle::yield_now().await;
                epicycle::yield_now().await;
                line
            });
            let (message, from) = reports.recv().unwrap();
            assert!(message.starts_with("Executing <callback> took 0."), "{message}");
            assert_eq!(from, Some(line));
        }
    });
}

#[test]
fn s3_21_slow_task_is_reported_by_name() {
    common::with_timeout(|| {
        let (rt, reports) = runtime(4, true);
        rt.block_on(async {
            let slow = async { std::thread::sleep(Duration::from_millis(40)) };
            epicycle::task::Builder::new().name("sluggish").spawn(slow).await.unwrap();
        });
        let (message, _) = reports.recv().unwrap();
        assert!(message.starts_with("Executing <sluggish> took 0."), "{message}");
    });
}

#[test]
fn s3_21_nothing_is_reported_out_of_debug_mode() {
    common::with_timeout(|| {
        let (rt, reports) = runtime(4, false);
        rt.block_on(async {
            epicycle::spawn(async { std::thread::sleep(Duration::from_millis(40)) }).await.unwrap();
        });
        drop(rt);
        assert!(reports.try_recv().is_err());
    });
}

fn nap() {
    thread::sleep(Duration::from_millis(25));
}

common::flavours! {
    fn s1_09_each_kind_of_slow_handle_names_the_place_it_came_from(flavour: Flavour) {
        let reports = Reports::new();
        let rt = common::builder!()
            .debug(true)
            .slow_callback_duration(Duration::from_millis(20))
            .exception_handler(reports.handler())
            .build()
            .unwrap();
        let here = rt.loops()[0].clone();
        let expected = rt.block_on(async {
            let event_loop = EventLoop::current();
            let mut lines = Vec::new();
            let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            std::io::Write::write_all(&mut theirs, b"x").unwrap();
            let mut tasks = Vec::new();
            let first = line!() + 1;
            tasks.push(epicycle::spawn(async { nap() }));
            tasks.push(epicycle::spawn_local(async { nap() }));
            tasks.push(event_loop.spawn_local(async { nap() }));
            tasks.push(here.spawn_local(|| async { nap() }));
            tasks.push(rt.spawn(async { nap() }));
            tasks.push(epicycle::task::Builder::new().spawn(async { nap() }));
            event_loop.call_soon(nap);
            event_loop.call_later(Duration::from_millis(1), nap);
            here.call_soon_threadsafe(nap);
            rt.call_soon_threadsafe(nap);
            event_loop.add_reader(&ours, nap).unwrap();
            lines.extend(first..line!());
            for task in tasks {
                task.await.unwrap();
            }
            let seen = |line| reports.all().iter().any(|report| is_slow(report) && at(report) == (file!(), line));
            eventually_async("all are reported", || lines.iter().all(|line| seen(*line))).await;
            event_loop.remove_reader(&ours);
            lines.len()
        });
        assert_eq!(expected, 11);
        assert_eq!(flavour.loops(), rt.loops().len());
    }

    fn s1_09_s3_21_a_slow_root_is_reported_with_the_place_of_block_on(flavour: Flavour) {
        let reports = Reports::new();
        let rt = common::builder!()
            .debug(true)
            .slow_callback_duration(Duration::from_millis(20))
            .exception_handler(reports.handler())
            .build()
            .unwrap();
        let (id, line) = (rt.block_on(async { (nap(), epicycle::task::id()).1 }), line!());
        let report = reports.all().into_iter().find(is_slow).expect("a report");
        assert_eq!((at(&report), report.task_id()), ((file!(), line), Some(id)));
        assert_eq!(flavour.loops(), rt.loops().len());
    }

    fn s3_21_a_stuck_loop_is_reported_while_it_is_stuck(flavour: Flavour) {
        let reports = Reports::new();
        let rt = common::builder!()
            .debug(true)
            .slow_callback_duration(Duration::from_millis(10))
            .exception_handler(reports.handler())
            .build()
            .unwrap();
        let gate = Gate::new();
        let _open = gate.open_on_drop();
        let wait = gate.clone();
        let is_inside = Arc::new(AtomicBool::new(false));
        let inside = is_inside.clone();
        let stuck = epicycle::task::Builder::new().name("heavy");
        let is_early = |report: &ErrorContext| report.message().starts_with("Loop ");
        let early = |n: usize| reports.all().iter().filter(|report| is_early(report)).count() >= n;
        let guard = rt.handle();
        let (task, line) = {
            let _in_runtime = guard.enter();
            (stuck.spawn(async move { inside.store(true, SeqCst); wait.wait() }), line!())
        };
        let id = task.id();
        if flavour.loops() == 1 {
            // Nobody is there to see it.
            thread::scope(|scope| {
                scope.spawn(|| rt.block_on(task).unwrap());
                eventually("it runs", || is_inside.load(SeqCst));
                thread::sleep(Duration::from_millis(50));
                assert!(!early(1));
                gate.open();
            });
        } else {
            eventually("it is reported twice", || early(2));
            let report = reports.all().into_iter().find(is_early).unwrap();
            let text = report.message();
            let index = report.loop_index().unwrap();
            assert!(text.starts_with(&format!("Loop {index} has been executing <heavy> for ")), "{text}");
            assert_eq!((report.task_id(), report.location().unwrap().line()), (Some(id), line));
            assert!(!reports.all().iter().any(is_slow), "it has not ended");
            gate.open();
        }
        eventually("its end is reported", || reports.all().iter().any(|report| is_slow(report) && report.task_id() == Some(id)));
        let ends = reports.all().iter().filter(|report| is_slow(report) && report.task_id() == Some(id)).count();
        assert_eq!(ends, 1);
    }

    fn s3_21_nothing_stuck_is_reported_out_of_debug_mode(flavour: Flavour) {
        let reports = Reports::new();
        let rt = common::builder!()
            .debug(false)
            .slow_callback_duration(Duration::from_millis(1))
            .exception_handler(reports.handler())
            .build()
            .unwrap();
        rt.block_on(async { epicycle::spawn(async { nap() }).await.unwrap() });
        assert_eq!(flavour.loops(), rt.loops().len());
        drop(rt);
        assert!(reports.all().is_empty());
    }
}

fn is_slow(report: &ErrorContext) -> bool {
    report.message().starts_with("Executing <")
}

fn at(report: &ErrorContext) -> (&'static str, u32) {
    report.location().map_or(("", 0), |place: &'static Location<'static>| (place.file(), place.line()))
}
