//! The programs of examples/seeds.rs do what their documents say: line by line and in asyncio's order with one loop, and the same
//! lines in any order the loops like with several.
//!
//! *Threads.* Each test's own runtime.

mod common;
#[allow(dead_code)] // Its `main` is the example's.
#[path = "../examples/seeds.rs"]
mod seeds;

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{CountPolls, Flavour, flavour, with_timeout};
use epicycle::{EventLoop, Runtime};
use seeds::Say;

const UNIT: Duration = Duration::from_millis(20);

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn say(&self) -> Say {
        let lines = self.0.clone();
        Arc::new(move |line| lines.lock().unwrap().push(line))
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn count(lines: &[String], start: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(start)).count()
}

common::flavours! {
    /// All three wait before one ends: together they take as long as the slowest, not the sum.
    fn s1_04_s1_13_three_workers_sleep_side_by_side(rt: Runtime) {
        let lines = Lines::default();
        let begun = Instant::now();
        rt.block_on(seeds::workers(UNIT, lines.say()));
        assert!(begun.elapsed() >= 3 * UNIT);
        let lines = lines.take();
        assert_eq!([count(&lines, "Waiting: "), count(&lines, "long time work"), lines.len()], [3, 6, 9]);
        if flavour() == Flavour::OneLoop {
            let expected = ["Waiting: 1", "long time work", "Waiting: 2", "long time work", "Waiting: 3", "long time work"];
            assert_eq!(lines[..6], expected);
            assert!(lines[6..].iter().all(|line| line == "long time work End"));
        }
    }

    /// One thread says all four lines, both first ones first.
    fn s4_05_s4_06_two_hellos_alternate_on_one_thread(rt: Runtime) {
        let lines = Lines::default();
        rt.block_on(seeds::two_hellos(UNIT, lines.say()));
        let lines = lines.take();
        assert_eq!([count(&lines, "Hello world!"), count(&lines, "Hello again!"), lines.len()], [2, 2, 4]);
        if flavour() == Flavour::OneLoop {
            let here = format!("({:?})", thread::current().id());
            assert_eq!(count(&lines[..2], "Hello world!"), 2);
            assert!(lines.iter().all(|line| line.ends_with(&here)), "{lines:?}");
        }
    }

    /// Ten sleeps: the first poll and one for each timer.
    fn s3_05_mock_sleep_naps_ten_times(rt: Runtime) {
        let lines = Lines::default();
        let begun = Instant::now();
        let (program, polls) = CountPolls::new(seeds::mock_sleep(UNIT, lines.say()));
        rt.block_on(program);
        assert!(begun.elapsed() >= 10 * UNIT);
        let expected: Vec<_> = (0..10).map(|i| format!(">>>> run {i}")).collect();
        assert_eq!(lines.take(), expected);
        assert_eq!(polls.load(std::sync::atomic::Ordering::SeqCst), 11);
    }

    fn s0_08_s0_13_a_queue_before_an_executor(rt: Runtime) {
        let lines = Lines::default();
        assert_eq!(rt.block_on(seeds::squares(lines.say())), [1, 4, 9]);
        let lines = lines.take();
        assert_eq!([count(&lines, "put "), lines.len()], [3, 6]);
        let at = |what: &str| lines.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {lines:?}"));
        assert!(at("1 squared is 1") < at("2 squared is 4") && at("2 squared is 4") < at("3 squared is 9"));
    }

    fn s1_03_s3_04_whatever_becomes_a_future_can_be_awaited(rt: Runtime) {
        assert_eq!(rt.block_on(seeds::inputs()), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn s1_03_s1_02_a_task_made_by_hand_of_futures_and_steps() {
    with_timeout(|| {
        let lines = Lines::default();
        assert_eq!(seeds::by_hand(UNIT, lines.say()), 21);
        let expected =
            ["the first waits for a nap", "the second waits for the first", "the first goes on", "the second goes on"];
        assert_eq!(lines.take(), expected);
    });
}

/// A nap that is cancelled is not set when its timer fires, and whoever waits hears of the cancel.
#[test]
fn s1_03_s3_30_a_nap_by_hand_can_be_cancelled() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let nap = seeds::nap(&event_loop, UNIT);
        assert!(nap.cancel());
        let later = seeds::nap(&event_loop, 2 * UNIT);
        event_loop.run_until_complete(later).unwrap().unwrap();
        assert!(event_loop.run_until_complete(nap).unwrap().unwrap_err().is_cancelled());
        event_loop.close();
    });
}

#[test]
fn s1_03_a_selector_under_http() {
    with_timeout(|| {
        let (told, address) = mpsc::channel();
        let clients = thread::spawn(move || {
            let address = address.recv().unwrap();
            let clients: Vec<_> =
                (0..5).map(|n| thread::spawn(move || seeds::ask(address, &format!("/{n}")).unwrap())).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        let lines = Lines::default();
        seeds::http(5, |address| told.send(address).unwrap(), lines.say()).unwrap();
        for (n, answer) in clients.join().unwrap().into_iter().enumerate() {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.0 200 OK"), "{head}");
            assert_eq!(body, format!("you asked: GET /{n} HTTP/1.0\n"));
        }
        let mut asked = lines.take();
        asked.sort();
        assert_eq!(asked, (0..5).map(|n| format!("GET /{n} HTTP/1.0")).collect::<Vec<_>>());
    });
}
