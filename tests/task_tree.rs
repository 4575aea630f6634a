//! `ps` and `pstree`: who is there, who spawned whom, who waits for whom.

mod common;

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Flag, Flavour, Gate, eventually, eventually_async, with_timeout};
use epicycle::task::{self, Builder, TaskState};
use epicycle::time::sleep;
use epicycle::{Runtime, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

fn tracked(flavour: Flavour) -> Runtime {
    let builder = Runtime::builder().worker_threads(flavour.loops()).work_stealing(flavour.stealing());
    builder.track_tasks(true).build().unwrap()
}

/// The one line of `text` that contains `part`.
#[track_caller]
fn line<'a>(text: &'a str, part: &str) -> &'a str {
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(part)).collect();
    assert_eq!(lines.len(), 1, "{part:?} in\n{text}");
    lines[0]
}

/// How far a line is indented.
fn depth(line: &str) -> usize {
    line.chars().take_while(|c| !c.is_alphanumeric()).count() / 4
}

common::flavours! {
    fn tree_shows_who_awaits_whom(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            let outer = Builder::new().name("outer").spawn(async {
                let middle = Builder::new().name("middle").spawn(async {
                    Builder::new().name("inner").spawn(sleep(HOUR)).await.unwrap();
                });
                middle.await.unwrap();
            });
            let loose = Builder::new().name("loose").spawn_local(pending::<()>());
            eventually_async("all wait", || {
                let tree = handle.pstree();
                tree.contains("awaits inner") && tree.contains("awaits middle") && tree.contains("waiting for timer-") && !tree.contains("queued")
            }).await;
            let tree = handle.pstree();
            let root = task::id();
            assert!(tree.starts_with(&format!("Task-{root}: root, running on loop 0")), "{tree}");
            assert_eq!(depth(line(&tree, "spawned outer (")), 1);
            assert_eq!(depth(line(&tree, "awaits middle (")), 2);
            assert_eq!(depth(line(&tree, "awaits inner (")), 3);
            assert!(line(&tree, "awaits inner").contains(": task, waiting for timer-"), "{tree}");
            assert!(line(&tree, "awaits inner").contains("task_tree.rs:"), "{tree}");
            assert!(line(&tree, "loose").contains(": pinned, waiting"), "{tree}");
            assert!(!tree.contains("CYCLE"), "{tree}");
            let table = handle.ps();
            assert!(line(&table, " middle ").contains(" waiting "), "{table}");
            let awaited_by = line(&table, " middle ").split_whitespace().last().unwrap();
            assert_eq!(awaited_by, format!("Task-{}", outer.id()), "{table}");
            assert!(line(&table, " loose ").contains(&format!(" Task-{root} ")), "spawned by the root: {table}");
            outer.cancel();
            outer.await.unwrap_err();
            loose.cancel();
        });
    }

    fn tree_follows_what_happens(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            let (one, two) = (Flag::new(), Flag::new());
            let (first, second) = (one.wait(), two.wait());
            let (a, b) = (Builder::new().name("a").spawn(first), Builder::new().name("b").spawn(second));
            let waiter = Builder::new().name("waiter").spawn(async move {
                a.await.unwrap();
                b.await.unwrap();
            });
            let waits_for = |name: &str| line(&handle.pstree(), &format!(" {name} (")).contains("awaits");
            eventually_async("a is awaited", || waits_for("a")).await;
            assert!(!waits_for("b"), "{}", handle.pstree());
            one.set();
            eventually_async("b is awaited", || waits_for("b")).await;
            assert!(!handle.pstree().contains(" a ("), "it has ended");
            two.set();
            waiter.await.unwrap();
            eventually_async("all are gone", || handle.pstree().lines().count() == 1).await;
            assert_eq!(handle.ps().lines().count(), 2, "the head and the root");
        });
        eventually("the root, too", || handle.pstree().is_empty());
        assert_eq!(handle.ps().lines().count(), 1);
    }

    fn tree_names_a_cycle(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            type Slot = Arc<Mutex<Option<epicycle::Task<()>>>>;
            let slots: [Slot; 3] = Default::default();
            let tasks: Vec<_> = (0..3).map(|i| {
                let next = slots[(i + 1) % 3].clone();
                Builder::new().name(format!("knot{i}")).spawn(async move {
                    eventually_async("the next one's handle", || next.lock().unwrap().is_some()).await;
                    let next = next.lock().unwrap().take().unwrap();
                    let _ = next.await;
                })
            }).collect();
            let ids: Vec<_> = tasks.iter().map(|task| task.id()).collect();
            for (slot, task) in slots.iter().zip(tasks) {
                slot.lock().unwrap().replace(task);
            }
            eventually_async("the cycle shows", || handle.pstree().starts_with("CYCLE: ")).await;
            let tree = handle.pstree();
            let expected = format!(
                "CYCLE: knot0 (Task-{0}) awaits knot1 (Task-{1}) awaits knot2 (Task-{2}) awaits knot0 (Task-{0}): they wait for each other",
                ids[0], ids[1], ids[2]
            );
            assert_eq!(tree.lines().next().unwrap(), expected);
            assert_eq!(tree.lines().count(), 6, "each task once, and where the cycle is cut:\n{tree}");
            assert!(tree.contains(", shown elsewhere"), "{tree}");
        });
        // A cycle of tasks holds itself; the runtime drops it.
        drop(rt);
    }

    fn tree_shows_jobs_and_posted_tasks(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        let gate = Gate::new();
        let _open = gate.open_on_drop();
        let wait = gate.clone();
        let rt = &rt;
        rt.block_on(async {
            let job = epicycle::run_in_executor(move || wait.wait());
            let waiter = Builder::new().name("waiter").spawn(async { job.await.unwrap() });
            eventually_async("the job runs and is awaited", || handle.pstree().contains(": job, running for")).await;
            eventually_async("the job is awaited", || line(&handle.pstree(), ": job,").contains("awaits")).await;
            let posted = rt.loops()[0].spawn_local(pending::<()>);
            assert!(handle.ps().contains(" pinned "), "{}", handle.ps());
            gate.open();
            waiter.await.unwrap();
            posted.cancel();
            posted.await.unwrap_err();
            eventually_async("gone", || handle.ps().lines().count() == 2).await;
        });
    }

    fn tree_shows_what_gathers_and_promises_wait_for(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            let promise = epicycle::Promise::<u8>::new();
            let (one, two) = (Builder::new().name("one"), Builder::new().name("two"));
            let awaited = promise.clone();
            let gatherer = Builder::new().name("gatherer").spawn(async move {
                let tasks = [one.spawn(sleep(HOUR)), two.spawn(async move { drop(awaited.await) })];
                epicycle::gather_tasks(tasks).await
            });
            eventually_async("both are awaited", || {
                let tree = handle.pstree();
                tree.contains("awaits one (") && tree.contains("awaits two (") && tree.contains("waiting for promise@")
                    && tree.contains("waiting for timer-")
            }).await;
            let tree = handle.pstree();
            assert!(line(&tree, "gatherer").contains("waiting for gather@"), "{tree}");
            assert_eq!(depth(line(&tree, "awaits one (")), depth(line(&tree, "gatherer")) + 1, "{tree}");
            assert!(line(&tree, "awaits one (").contains("waiting for timer-"), "{tree}");
            assert!(line(&tree, "awaits two (").contains("waiting for promise@"), "{tree}");
            promise.set_result(1).unwrap();
            eventually_async("two has ended", || !handle.pstree().contains("two (")).await;
            gatherer.cancel();
            gatherer.await.unwrap_err();
            eventually_async("with its children", || handle.pstree().lines().count() == 1).await;
        });
    }

    fn tree_shows_who_waits_for_a_descriptor(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            use epicycle::io::{AsyncReadExt, AsyncWriteExt};
            use std::os::fd::AsRawFd;
            let (mut ours, mut theirs) = epicycle::net::UnixStream::pair().unwrap();
            let number = ours.as_raw_fd();
            let task = Builder::new().name("reader").spawn(async move { ours.read(&mut [0; 1]).await.unwrap() });
            let text = format!("waiting for fd {number} to be readable");
            eventually_async("it shows", || line(&handle.pstree(), "reader").contains(&text)).await;
            theirs.write_all(b"x").await.unwrap();
            task.await.unwrap();
        });
    }

    fn tree_shows_who_waits_for_locks_queues_and_their_like(flavour: Flavour) {
        use epicycle::sync::{Barrier, Condition, Event, Mutex, Queue, Semaphore};
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            let (lock, semaphore, event) = (Arc::new(Mutex::new(())), Arc::new(Semaphore::new(0)), Arc::new(Event::new()));
            let (barrier, condition, queue) = (Arc::new(Barrier::new(2)), Arc::new(Condition::new()), Arc::new(Queue::new(1)));
            let (other, scope) = (Arc::new(Mutex::new(())), epicycle::CancelScope::new());
            let guard = lock.lock().await;
            queue.put(1).await.unwrap();
            let named = |name: &str| Builder::new().name(name);
            let tasks = [
                named("locker").spawn({ let lock = lock.clone(); async move { drop(lock.lock().await) } }),
                named("acquirer").spawn({ let semaphore = semaphore.clone(); async move { drop(semaphore.acquire().await) } }),
                named("eventer").spawn({ let event = event.clone(); async move { event.wait().await } }),
                named("barrierer").spawn({ let barrier = barrier.clone(); async move { _ = barrier.wait().await } }),
                named("conditioner").spawn({ let (condition, other) = (condition.clone(), other.clone()); async move {
                    let guard = other.lock().await;
                    _ = condition.wait(guard).await;
                } }),
                named("putter").spawn({ let queue = queue.clone(); async move { queue.put(2).await.unwrap() } }),
                named("joiner").spawn({ let queue = queue.clone(); async move { queue.join().await } }),
                named("getter").spawn({ let queue = Arc::new(Queue::<u8>::new(1)); async move { _ = queue.get().await } }),
                named("scoped").spawn({ let scope = scope.clone(); async move { _ = scope.cancelled().await } }),
            ];
            for (name, kind) in [
                ("locker", "lock"), ("acquirer", "semaphore"), ("eventer", "event"), ("barrierer", "barrier"),
                ("conditioner", "condition"), ("putter", "queue.put"), ("joiner", "queue.join"), ("getter", "queue.get"),
                ("scoped", "scope"),
            ] {
                let text = format!("waiting for {kind}@");
                eventually_async(name, || line(&handle.pstree(), &format!("{name} (")).contains(&text)).await;
                assert!(line(&handle.ps(), &format!(" {name} ")).contains(&format!("{kind}@")), "{}", handle.ps());
            }
            // Two who wait for one lock wait for the same thing.
            let second = named("second").spawn({ let lock = lock.clone(); async move { drop(lock.lock().await) } });
            let whom = |name: &str| line(&handle.pstree(), name).split("lock@").nth(1).map(|rest| rest.split(' ').next().unwrap().to_owned());
            eventually_async("the second waits", || whom("second (").is_some()).await;
            assert_eq!(whom("second ("), whom("locker ("));
            drop(guard);
            second.await.unwrap();
            for task in tasks { task.cancel(); }
        });
    }

    fn tree_shows_the_children_of_a_group_below_who_joins_it(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            let parent = Builder::new().name("parent").spawn(async {
                let group = epicycle::TaskGroup::new();
                group.spawn_with(Builder::new().name("one"), async { sleep(HOUR).await; Ok::<_, ()>(()).map_err(|()| "") });
                // By somebody else: asyncio's tree has it below the group's owner all the same.
                let inner = group.handle();
                epicycle::spawn(async move { inner.spawn_with(Builder::new().name("two"), pending::<Result<(), &str>>()); }).await.unwrap();
                group.join().await.unwrap();
            });
            eventually_async("both are awaited", || {
                let tree = handle.pstree();
                tree.contains("awaits one (") && tree.contains("awaits two (") && line(&tree, "parent (").contains("waiting for group@")
            }).await;
            let tree = handle.pstree();
            assert_eq!(depth(line(&tree, "awaits two (")), depth(line(&tree, "parent (")) + 1, "{tree}");
            parent.cancel();
            parent.await.unwrap_err();
            eventually_async("with its children", || handle.pstree().lines().count() == 1).await;

            let starter = Builder::new().name("starter").spawn(async {
                let group = epicycle::TaskGroup::new();
                drop(group.start::<_, _, (), (), &str>(|status| async move { let _status = status; pending().await }).await);
            });
            eventually_async("the child is awaited", || handle.pstree().lines().any(|line| line.contains("awaits Task-"))).await;
            starter.cancel();
            starter.await.unwrap_err();
        });
    }

    fn tree_shows_who_waits_for_a_writer_or_a_server(flavour: Flavour) {
        use epicycle::streams::{StreamReader, StreamWriter, open_connection, start_server};
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            let server = start_server(async |_reader: StreamReader, _writer: StreamWriter| pending::<()>().await, "127.0.0.1:0");
            let server = Arc::new(server.await.unwrap());
            let (_reader, writer) = open_connection(server.local_addrs()[0]).await.unwrap();
            let drainer = Builder::new().name("drainer").spawn(async move {
                // Nobody reads it.
                loop {
                    writer.write(&[0; 1 << 16]).unwrap();
                    writer.drain().await.unwrap();
                }
            });
            let closer = Builder::new().name("closer").spawn({ let server = server.clone(); async move { server.close(); server.wait_closed().await } });
            for (name, kind) in [("drainer (", "writer@"), ("closer (", "server@")] {
                eventually_async(name, || line(&handle.pstree(), name).contains(&format!("waiting for {kind}"))).await;
            }
            drainer.cancel();
            closer.cancel();
        });
    }

    fn tree_counts_polls_and_their_time(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            let flag = Flag::new();
            let wait = flag.wait();
            let task = Builder::new().name("polled").spawn(async move {
                for _ in 0..3 { yield_now().await }
                thread::sleep(5 * MS);
                wait.await;
            });
            eventually_async("it waits", || flag.waiters() == 1).await;
            let row = || {
                let table = handle.ps();
                let row: Vec<String> = line(&table, " polled ").split_whitespace().map(String::from).collect();
                (row[4].clone(), row[5].clone())
            };
            eventually_async("its polls are counted", || row().0 == "4" && row().1.ends_with("ms")).await;
            flag.set();
            task.await.unwrap();
        });
    }

    fn n88_ps_and_all_tasks_are_consistent_while_others_spawn_and_end(flavour: Flavour) {
        let rt = Arc::new(tracked(flavour));
        let stop = Flag::new();
        let driver = { let (rt, stop) = (rt.clone(), stop.clone()); thread::spawn(move || rt.block_on(stop.wait())) };
        let keeper = { let keep = pending::<()>(); rt.spawn(async move { Builder::new().name("keeper").spawn(keep).await.unwrap() }) };
        eventually("it waits", || rt.handle().pstree().contains("awaits keeper"));
        let churn = {
            let rt = rt.clone();
            thread::spawn(move || for i in 0..2000 {
                let task = rt.spawn(async { spawn(yield_now()).await.unwrap() });
                if i % 3 == 0 { task.cancel(); }
            })
        };
        while !churn.is_finished() {
            let (table, tree) = (rt.handle().ps(), rt.handle().pstree());
            assert_eq!(table.lines().filter(|line| line.contains(" keeper ")).count(), 1, "{table}");
            assert_eq!(depth(line(&tree, "awaits keeper")), 1, "{tree}");
            assert!(!tree.contains("CYCLE"), "{tree}");
            let all = rt.handle().all_tasks();
            assert_eq!(all.iter().filter(|info| info.name == "keeper" && info.state == TaskState::Waiting).count(), 1);
        }
        churn.join().unwrap();
        eventually("the others are gone", || rt.handle().ps().lines().count() == 4);
        assert!(keeper.cancel());
        stop.set();
        driver.join().unwrap();
    }

    fn n22_a_forgotten_task_that_waits_is_listed_until_it_ends(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            let flag = Flag::new();
            drop(Builder::new().name("forgotten").spawn(flag.wait()));
            eventually_async("it waits", || flag.waiters() == 1).await;
            assert!(line(&handle.pstree(), "forgotten").contains("spawned"));
            flag.set();
            eventually_async("it ends", || !handle.pstree().contains("forgotten")).await;
        });
    }

    fn s3_24_names_show_as_given_and_by_default(flavour: Flavour) {
        let rt = tracked(flavour);
        let handle = rt.handle();
        rt.block_on(async {
            let (named, plain) = (Builder::new().name("with a name").spawn(pending::<()>()), spawn_local(pending::<()>()));
            let table = handle.ps();
            assert!(line(&table, "with a name").starts_with(&format!("{} ", named.id())));
            assert!(line(&table, &format!("Task-{}  ", plain.id())).contains(" pinned "));
            assert!(handle.pstree().contains(&format!("with a name (Task-{})", named.id())));
            assert_eq!(plain.name(), format!("Task-{}", plain.id()));
            assert!(plain.id() > named.id(), "numbers grow");
        });
    }

    fn without_tracking_there_is_less_to_see(flavour: Flavour) {
        let rt = common::builder!().track_tasks(false).debug(true).build().unwrap();
        assert_eq!(flavour.loops(), rt.loops().len());
        let handle = rt.handle();
        rt.block_on(async {
            let waiter = Builder::new().name("waiter").spawn(async { Builder::new().name("awaited").spawn(pending::<()>()).await });
            let is_waiting = |name: &str| handle.all_tasks().iter().any(|info| info.name == name && info.state == TaskState::Waiting);
            eventually_async("both wait", || is_waiting("waiter") && is_waiting("awaited")).await;
            let table = handle.ps();
            assert!(line(&table, " waiter ").contains(" waiting ") && table.contains("track_tasks"), "{table}");
            let tree = handle.pstree();
            assert_eq!(depth(line(&tree, "awaited (")), 0, "{tree}");
            assert!(tree.contains("track_tasks"));
            waiter.cancel();
        });
    }
}

#[test]
fn tree_is_tracked_in_debug_mode_and_not_otherwise() {
    with_timeout(|| {
        for (debug, hint) in [(true, false), (false, true)] {
            let rt = Runtime::builder().worker_threads(1).debug(debug).build().unwrap();
            assert_eq!(rt.block_on(async { rt.handle().ps().contains("track_tasks") }), hint);
        }
    });
}

#[test]
fn tree_of_a_stuck_loop_says_where_it_is() {
    with_timeout(|| {
        let rt = tracked(Flavour::FourLoops);
        let handle = rt.handle();
        let gate = Gate::new();
        let _open = gate.open_on_drop();
        let wait = gate.clone();
        let stuck = rt.loops()[2].spawn_local(move || async move { wait.wait() });
        eventually("it shows", || handle.pstree().contains("running on loop 2 for "));
        let id = stuck.id();
        assert!(line(&handle.pstree(), &format!("Task-{id}")).contains("running on loop 2 for "));
        gate.open();
        eventually("it is gone", || handle.pstree().is_empty());
    });
}

#[test]
fn tree_of_a_long_chain_is_drawn_to_some_depth() {
    with_timeout(|| {
        let rt = tracked(Flavour::OneLoop);
        let handle = rt.handle();
        rt.block_on(async {
            let flag = Flag::new();
            let wait = flag.wait();
            let mut task = spawn(wait);
            for _ in 0..3000 {
                task = spawn(async move { task.await.unwrap() });
            }
            eventually_async("all wait", || flag.waiters() == 1).await;
            let start = Instant::now();
            let tree = handle.pstree();
            assert!(tree.contains("(deeper than can be drawn; see ps)"), "{tree}");
            assert!(tree.lines().count() < 200);
            assert_eq!(handle.ps().lines().count(), 1 + 1 + 3001);
            assert!(start.elapsed() < common::PATIENCE);
            flag.set();
            task.await.unwrap();
        });
    });
}
