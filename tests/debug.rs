//! Debug mode: slow handles are reported with what they are and where they came from.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use epicycle::{EventLoop, Runtime};

fn runtime(loops: usize, debug: bool) -> (Runtime, mpsc::Receiver<(String, Option<u32>)>) {
    let (sender, reports) = mpsc::channel();
    let rt = Runtime::builder()
        .worker_threads(loops)
        .debug(debug)
        .slow_callback_duration(Duration::from_millis(20))
        .exception_handler(move |context| {
            let line = context.location().map(|location| location.line());
            sender.send((context.message().to_string(), line)).unwrap();
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
