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

/// Keeps what it is told.
#[derive(Clone, Default)]
struct Recorder(std::sync::Arc<std::sync::Mutex<Vec<epicycle::Event>>>);

impl epicycle::Instrument for Recorder {
    fn event(&self, event: &epicycle::Event) {
        self.0.lock().unwrap().push(*event);
    }
}

#[test]
fn an_instrument_sees_a_task_from_spawn_to_end_in_order() {
    use epicycle::{Event, task::Outcome};
    common::with_timeout(|| {
        let recorder = Recorder::default();
        let rt = Runtime::builder().worker_threads(1).instrument(recorder.clone()).build().unwrap();
        let (id, pinned, cancelled) = rt.block_on(async {
            let task = epicycle::spawn(epicycle::yield_now());
            let pinned = epicycle::spawn_local(async {});
            let cancelled = epicycle::spawn(std::future::pending::<()>());
            let ids = (task.id(), pinned.id(), cancelled.id());
            task.await.unwrap();
            pinned.await.unwrap();
            cancelled.cancel();
            cancelled.await.unwrap_err();
            ids
        });
        let events = recorder.0.lock().unwrap().clone();
        let of = |task| -> Vec<Event> {
            let is = |event: &&Event| match event {
                Event::TaskSpawned { task: id } | Event::TaskEnded { task: id, .. } => *id == task,
                Event::HandleStarted { task: id, .. } | Event::HandleEnded { task: id, .. } => *id == Some(task),
                _ => false,
            };
            events.iter().filter(is).copied().collect()
        };
        let poll =
            |task| [Event::HandleStarted { on: 0, task: Some(task) }, Event::HandleEnded { on: 0, task: Some(task) }];
        let spawned = |task| Event::TaskSpawned { task };
        let ended = |task, outcome| Event::TaskEnded { task, outcome };
        let [begin, end] = poll(id);
        assert_eq!(of(id), [spawned(id), begin, end, begin, ended(id, Outcome::Completed), end]);
        let [begin, end] = poll(pinned);
        assert_eq!(of(pinned), [spawned(pinned), begin, ended(pinned, Outcome::Completed), end]);
        let [begin, end] = poll(cancelled);
        let cancel = ended(cancelled, Outcome::Cancelled);
        assert_eq!(of(cancelled), [spawned(cancelled), begin, end, begin, cancel, end]);
    });
}

#[test]
fn an_instrument_that_panics_harms_nobody() {
    struct Bad;
    impl epicycle::Instrument for Bad {
        fn event(&self, _: &epicycle::Event) {
            panic!("instrument");
        }
    }
    common::with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).instrument(Bad).build().unwrap();
        assert_eq!(rt.block_on(async { epicycle::spawn(async { 1 }).await.unwrap() }), 1);
    });
}
