//! `cargo run --example trace`
//!
//! Runs two requests at once on one event loop, and prints all that the loop did, step by step, beside the source lines that
//! made it do so. The steps and their order are asyncio's own; what has no number is what an epicycle loop tells beyond them.
//!
//! *Invariant*: one loop, so the order is always the same. *Threads*: one. *Ordering*: the order of the telling.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use epicycle::time::sleep;
use epicycle::{Event, EventLoop, Instrument, gather};

const SECOND: Duration = Duration::from_secs(1);

async fn req1() -> u32 {
    sleep(SECOND).await;
    1
}

async fn req2() -> u32 {
    2
}

async fn both() -> (u32, u32) {
    gather!(req1(), req2()).await.expect("neither panics")
}

/// Keeps each event, and when it was told.
#[derive(Clone)]
struct Recorder {
    start: Instant,
    told: Arc<Mutex<Vec<(Duration, Event)>>>,
}

impl Instrument for Recorder {
    fn event(&self, event: &Event) {
        self.told.lock().expect("nobody panics").push((self.start.elapsed(), *event));
    }
}

fn main() -> io::Result<()> {
    let recorder = Recorder { start: Instant::now(), told: Arc::default() };
    let event_loop = EventLoop::with_instrument(recorder.clone())?;
    let result = event_loop.run_until_complete(both());
    event_loop.close();

    let (times, events): (Vec<_>, Vec<_>) = recorder.told.lock().expect("nobody panics").drain(..).unzip();
    println!("{:>8}  {:>4}  {:<60}{:<38}event", "ms", "step", "what", "source");
    for ((time, event), step) in times.iter().zip(&events).zip(steps::number(&events)) {
        let found = steps::STEPS.iter().find(|(number, ..)| Some(*number) == step);
        let (number, what, source) = *found.unwrap_or(&("", "", ""));
        println!("{:>8.3}  {number:>4}  {what:<60}{source:<38}{}", time.as_secs_f64() * 1e3, short(event));
    }
    println!("result: {:?}", result.expect("nobody stops the loop"));
    Ok(())
}

/// An event without what tells a run from the next.
fn short(event: &Event) -> String {
    let text = format!("{event:?}");
    match event {
        Event::HandleEnded { work, .. } => format!("HandleEnded {{ {work:?} }}"),
        Event::TaskSpawned { task, .. } => format!("TaskSpawned {{ {task:?} }}"),
        Event::TimerArmed { timer, .. } => format!("TimerArmed {{ {timer} }}"),
        Event::Blocking { future, .. } => format!("Blocking {{ {} }}", future.kind()),
        Event::WakerRegistered { future, .. } => format!("WakerRegistered {{ {} }}", future.kind()),
        Event::FutureResumed { future, .. } => format!("FutureResumed {{ {} }}", future.kind()),
        Event::FutureCreated { future } => format!("FutureCreated {{ {} }}", future.kind()),
        Event::FutureJoins { future, task } => format!("FutureJoins {{ {}, {task:?} }}", future.kind()),
        Event::FutureSet { future } => format!("FutureSet {{ {} }}", future.kind()),
        Event::TimerFired { timer, .. } => format!("TimerFired {{ {timer} }}"),
        _ => text,
    }
}

pub mod steps {
    //! The 27 steps of `gather(req1(), req2())`, found among what an instrument was told. The numbers are those of a well-known
    //! walk through asyncio's source; `5` and `6` happen once for each request. The golden test uses this, too.

    use std::collections::HashMap;

    use epicycle::task::{Id, TaskKind};
    use epicycle::{Event, FutureId};

    /// Each step: its number, what happens in asyncio's terms, and the source line that is to thank for it.
    pub const STEPS: [(&str, &str, &str); 29] = [
        ("1", "run_until_complete is entered", "event_loop.run_until_complete(both())"),
        ("2", "main_task is created, main_step queued", ""),
        ("3", "main_callback, which stops the loop, is added to main_task", ""),
        ("4", "main_step runs", "async fn both() -> (u32, u32) {"),
        ("5a", "req1_task is created, its step queued", "    gather!(req1(), req2())"),
        ("5b", "req2_task is created, its step queued", ""),
        ("6a", "req1_callback is added to req1_task", ""),
        ("6b", "req2_callback is added to req2_task", ""),
        ("7", "gather_future is created and returned", ""),
        ("8", "gather_future blocks", "    .await"),
        ("9", "main_wakeup is added to gather_future", ""),
        ("10", "req1_step runs", "async fn req1() -> u32 {"),
        ("11", "sleep_future is created", "    sleep(SECOND)"),
        ("12", "a timer is armed that will set it", ""),
        ("13", "sleep_future blocks", "    .await;"),
        ("14", "req1_wakeup is added to sleep_future", ""),
        ("15", "req2_step runs", "async fn req2() -> u32 {"),
        ("16", "req2 returns 2, its callbacks are queued", "    2"),
        ("17", "req2_callback: 1 of 2 done", "    gather!(req1(), req2())"),
        ("18", "the timer fires, sleep_future is set", "    sleep(SECOND)"),
        ("19", "req1_wakeup", ""),
        ("20", "sleep_future unblocks", "    .await;"),
        ("21", "req1 returns 1, its callbacks are queued", "    1"),
        ("22", "req1_callback: 2 of 2 done", "    gather!(req1(), req2())"),
        ("23", "gather_future is set to (1, 2), main_wakeup queued", ""),
        ("24", "main_wakeup", ""),
        ("25", "gather_future unblocks", "    .await"),
        ("26", "main returns (1, 2), its callbacks are queued", "}"),
        ("27", "main_callback: the loop stops", "event_loop.run_until_complete(both())"),
    ];

    /// Who is who in one run.
    struct Cast {
        main: Option<Id>,
        /// In the order of their spawning.
        requests: Vec<Id>,
        gather: Option<FutureId>,
        sleep: Option<FutureId>,
    }

    impl Cast {
        fn of(events: &[Event]) -> Self {
            let mut cast = Self { main: None, requests: Vec::new(), gather: None, sleep: None };
            for event in events {
                match *event {
                    Event::TaskSpawned { task, kind: TaskKind::Root, .. } => cast.main = Some(task),
                    Event::TaskSpawned { task, parent, .. } if parent.is_some() && parent == cast.main => {
                        cast.requests.push(task);
                    }
                    Event::FutureCreated { future } if future.kind() == "gather" => cast.gather = Some(future),
                    Event::FutureCreated { future } if future.kind() == "timer" => cast.sleep = Some(future),
                    _ => {}
                }
            }
            cast
        }

        /// 0: main; 1 and 2: the requests.
        fn role(&self, task: Id) -> Option<usize> {
            if Some(task) == self.main { Some(0) } else { Some(1 + self.requests.iter().position(|id| *id == task)?) }
        }
    }

    /// Which step each event is.
    pub fn number(events: &[Event]) -> Vec<Option<&'static str>> {
        let cast = Cast::of(events);
        let mut polls: HashMap<usize, usize> = HashMap::new();
        let numbered = events.iter().map(|event| match *event {
            Event::RunStart { on: 0 } => Some("1"),
            Event::TaskSpawned { task, .. } => [Some("2"), Some("5a"), Some("5b")][cast.role(task)?],
            Event::CallbackAdded { task, .. } => [Some("3"), Some("6a"), Some("6b")][cast.role(task)?],
            Event::HandleStarted { work, .. } => {
                let role = cast.role(work.task()?)?;
                let poll = polls.entry(role).or_default();
                *poll += 1;
                match (role, *poll) {
                    (0, 1) => Some("4"),
                    (0, 2) => Some("24"),
                    (1, 1) => Some("10"),
                    (1, 2) => Some("19"),
                    (2, 1) => Some("15"),
                    _ => None,
                }
            }
            Event::FutureCreated { future } => cast.choose(future, "7", "11"),
            Event::Blocking { future, .. } => cast.choose(future, "8", "13"),
            Event::WakerRegistered { future, .. } => cast.choose(future, "9", "14"),
            Event::FutureResumed { future, .. } => cast.choose(future, "25", "20"),
            Event::FutureSet { future } if Some(future) == cast.gather => Some("23"),
            Event::TimerArmed { timer, .. } if Some(timer) == cast.sleep => Some("12"),
            Event::TimerFired { timer, .. } if Some(timer) == cast.sleep => Some("18"),
            Event::TaskEnded { task, .. } => [Some("26"), Some("21"), Some("16")][cast.role(task)?],
            Event::CallbackRun { task, .. } => [Some("27"), Some("22"), Some("17")][cast.role(task)?],
            _ => None,
        });
        numbered.collect()
    }

    impl Cast {
        fn choose(&self, future: FutureId, gather: &'static str, sleep: &'static str) -> Option<&'static str> {
            match Some(future) {
                it if it == self.gather => Some(gather),
                it if it == self.sleep => Some(sleep),
                _ => None,
            }
        }
    }
}
