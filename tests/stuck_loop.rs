//! C3 and C7: while one loop's thread is stuck, everything on it that is not pinned is served by the others.
//!
//! A thread is stuck here in the plainest way: it waits in a [`Gate`], and the gate is opened by the very work that must be
//! served meanwhile. So a handle that is stranded, even one, ends the test by the gate's own panic. Behaviours 20, 21, 64.

mod common;

use std::future::{Future, poll_fn};
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use common::{Flag, Flavour, Gate, eventually, eventually_async, loop_index, with_timeout};
use epicycle::io::{AsyncReadExt, AsyncWriteExt};
use epicycle::net::{TcpListener, TcpStream, UnixStream};
use epicycle::time::{Sleep, sleep, sleep_until};
use epicycle::{EventLoop, Runtime, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);

fn four() -> Runtime {
    Runtime::builder().worker_threads(4).build().unwrap()
}

/// Opens `gate` when it has been hit `hits` times.
#[derive(Clone)]
struct Countdown(Arc<AtomicUsize>, Gate);

impl Countdown {
    fn new(hits: usize) -> Countdown {
        Countdown(Arc::new(AtomicUsize::new(hits)), Gate::new())
    }

    fn hit(&self) {
        if self.0.fetch_sub(1, SeqCst) == 1 {
            self.1.open();
        }
    }

    fn wait(&self) {
        self.1.wait();
    }
}

/// Polls `future` once, here, so that what it arms is armed on this thread's loop.
async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) {
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// A sleep that is armed on the loop of this thread, to be awaited on another.
async fn armed_here(deadline: Instant) -> Pin<Box<Sleep>> {
    let mut timer = Box::pin(sleep_until(deadline));
    poll_once(&mut timer).await;
    timer
}

#[test]
fn c03_c07_b20_tasks_spawned_by_the_root_that_then_blocks() {
    with_timeout(|| {
        let rt = four();
        for count in [1, 2, 3, 10, 100, 1000] {
            for _ in 0..10 {
                rt.block_on(async {
                    let countdown = Countdown::new(count);
                    for _ in 0..count {
                        let countdown = countdown.clone();
                        spawn(async move { countdown.hit() });
                    }
                    countdown.wait();
                });
            }
        }
    });
}

#[test]
fn c03_c07_b20_tasks_spawned_by_a_task_that_then_blocks() {
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            for count in [1, 2, 10, 100] {
                for _ in 0..20 {
                    spawn(async move {
                        let countdown = Countdown::new(count);
                        for _ in 0..count {
                            let countdown = countdown.clone();
                            spawn(async move {
                                yield_now().await;
                                countdown.hit()
                            });
                        }
                        countdown.wait();
                    })
                    .await
                    .unwrap();
                }
            }
        });
    });
}

#[test]
fn c03_c07_b20_tasks_spawned_by_a_pinned_task_that_then_blocks() {
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            for event_loop in rt.loops() {
                event_loop
                    .spawn_local(|| async {
                        let countdown = Countdown::new(20);
                        for _ in 0..20 {
                            let countdown = countdown.clone();
                            spawn(async move { countdown.hit() });
                        }
                        countdown.wait();
                    })
                    .await
                    .unwrap();
            }
        });
    });
}

#[test]
fn c03_c07_b20_a_callback_blocks_after_waking() {
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            for _ in 0..20 {
                let (flag, gate) = (Flag::new(), Gate::new());
                let (wait, open) = (flag.clone(), gate.clone());
                spawn(async move {
                    wait.wait().await;
                    open.open()
                });
                eventually_async("it waits", || flag.waiters() == 1).await;
                let done = Flag::new();
                let end = done.clone();
                EventLoop::current().call_soon(move || {
                    flag.set();
                    gate.wait();
                    end.set()
                });
                done.wait().await;
            }
        });
    });
}

#[test]
fn c03_c07_b20_a_single_woken_task_is_in_no_private_slot() {
    // The task that was woken last is where a LIFO slot would hide it.
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            for pinned in [false, true] {
                for _ in 0..30 {
                    let (flag, gate) = (Flag::new(), Gate::new());
                    let (wait, open) = (flag.clone(), gate.clone());
                    spawn(async move {
                        wait.wait().await;
                        open.open()
                    });
                    eventually_async("it waits", || flag.waiters() == 1).await;
                    let block = async move {
                        flag.set();
                        gate.wait()
                    };
                    if pinned { spawn_local(block).await.unwrap() } else { spawn(block).await.unwrap() }
                }
            }
        });
    });
}

#[test]
fn c03_c07_b20_tasks_woken_by_others_while_their_loop_is_stuck() {
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            for foreign in [true, false] {
                const N: usize = 50;
                let (flag, countdown) = (Flag::new(), Countdown::new(N));
                for _ in 0..N {
                    let (wait, countdown) = (flag.wait(), countdown.clone());
                    spawn(async move {
                        wait.await;
                        countdown.hit()
                    });
                }
                eventually_async("all wait", || flag.waiters() == N).await;
                let wake = flag.clone();
                let waker = foreign.then(|| {
                    thread::spawn(move || {
                        thread::sleep(5 * MS);
                        wake.set()
                    })
                });
                if !foreign {
                    // Another loop's pinned task wakes them while this thread is stuck.
                    rt.loops()[2].spawn_local(move || async move {
                        sleep(5 * MS).await;
                        flag.set()
                    });
                }
                countdown.wait();
                if let Some(thread) = waker {
                    thread.join().unwrap()
                }
            }
        });
    });
}

#[test]
fn c03_c07_b20_a_batch_from_the_injector_is_not_held_back() {
    // Among a thousand handles submitted at once some block until all the others are done: wherever a batch was carried,
    // whoever carried it must give it up.
    with_timeout(|| {
        let rt = four();
        for round in 0..10 {
            let stop = Flag::new();
            const N: usize = 1000;
            let countdown = Countdown::new(N - 3);
            for i in 0..N {
                let countdown = countdown.clone();
                let blocks = [round * 7 % 50, 300 + round, 800].contains(&i);
                rt.spawn(async move { if blocks { countdown.wait() } else { countdown.hit() } });
            }
            let end = stop.clone();
            let waiter = countdown.clone();
            let thread = thread::spawn(move || {
                waiter.wait();
                end.set()
            });
            rt.block_on(stop.wait());
            thread.join().unwrap();
        }
    });
}

#[test]
fn c03_c07_b20_a_batch_of_spawned_tasks_with_three_blockers() {
    with_timeout(|| {
        let rt = four();
        for round in 0..10 {
            rt.block_on(async {
                const N: usize = 1000;
                let countdown = Countdown::new(N - 3);
                let tasks: Vec<_> = (0..N)
                    .map(|i| {
                        let countdown = countdown.clone();
                        let blocks = [round, 100 + 31 * round, 999].contains(&i);
                        spawn(async move { if blocks { countdown.wait() } else { countdown.hit() } })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap()
                }
            });
        }
    });
}

#[test]
fn c03_c07_b20_a_batch_of_due_timers_is_not_held_back() {
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            for _ in 0..5 {
                const N: usize = 60;
                let (countdown, deadline) = (Countdown::new(N - 1), Instant::now() + 10 * MS);
                let first = Arc::new(AtomicBool::new(true));
                let mut tasks = Vec::new();
                for _ in 0..N {
                    let (timer, countdown, first) = (armed_here(deadline).await, countdown.clone(), first.clone());
                    tasks.push(spawn(async move {
                        timer.await;
                        // Whichever runs first holds its loop until the rest of the batch is done.
                        if first.swap(false, SeqCst) { countdown.wait() } else { countdown.hit() }
                    }));
                }
                for task in tasks {
                    task.await.unwrap()
                }
            }
        });
    });
}

#[test]
fn c03_c07_b20_a_batch_of_ready_sockets_is_not_held_back() {
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            for _ in 0..5 {
                const N: usize = 60;
                let (countdown, first) = (Countdown::new(N - 1), Arc::new(AtomicBool::new(true)));
                let (mut tasks, mut peers) = (Vec::new(), Vec::new());
                for _ in 0..N {
                    let (mut ours, theirs) = common::socket_pair();
                    peers.push(theirs);
                    let (countdown, first) = (countdown.clone(), first.clone());
                    tasks.push(spawn(async move {
                        ours.read_exact(&mut [0; 1]).await.unwrap();
                        if first.swap(false, SeqCst) { countdown.wait() } else { countdown.hit() }
                    }));
                }
                sleep(2 * MS).await;
                for peer in &mut peers {
                    peer.write_all(b"x").unwrap()
                }
                for task in tasks {
                    task.await.unwrap()
                }
            }
        });
    });
}

#[test]
fn c07_b21_several_loops_are_stuck_at_once() {
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            // Loops 1, 2 and 3 stop, each with sockets and sleeps and a queue of its own; loop 0 must serve it all.
            const EACH: usize = 10;
            let countdown = Countdown::new(3 * 3 * EACH);
            let peers: Arc<Mutex<Vec<std::os::unix::net::UnixStream>>> = Arc::default();
            let mut stuck = Vec::new();
            for event_loop in &rt.loops()[1..] {
                let (countdown, peers) = (countdown.clone(), peers.clone());
                stuck.push(event_loop.spawn_local(move || async move {
                    for _ in 0..EACH {
                        let (mut ours, theirs) = common::socket_pair();
                        peers.lock().unwrap().push(theirs);
                        let mut read = Box::pin(async move { ours.read(&mut [0; 1]).await.unwrap() });
                        poll_once(&mut read).await;
                        let hit = countdown.clone();
                        spawn(async move {
                            assert_eq!(read.await, 1);
                            hit.hit()
                        });
                        let (timer, hit) = (armed_here(Instant::now() + 20 * MS).await, countdown.clone());
                        spawn(async move {
                            timer.await;
                            hit.hit()
                        });
                        let hit = countdown.clone();
                        spawn(async move { hit.hit() });
                    }
                    countdown.wait();
                }));
            }
            eventually_async("all is armed", || peers.lock().unwrap().len() == 3 * EACH).await;
            sleep(5 * MS).await;
            for peer in peers.lock().unwrap().iter_mut() {
                peer.write_all(b"x").unwrap()
            }
            for task in stuck {
                task.await.unwrap()
            }
        });
    });
}

#[test]
fn c07_a_stuck_loops_pinned_work_waits_and_is_not_lost() {
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            let (gate, inside, log) = (Gate::new(), Gate::new(), Arc::new(Mutex::new(Vec::new())));
            let _open = gate.open_on_drop();
            let (release, enter, entries) = (gate.clone(), inside.clone(), log.clone());
            let stuck = rt.loops()[1].spawn_local(move || async move {
                let (event_loop, one, two, three) =
                    (EventLoop::current(), entries.clone(), entries.clone(), entries.clone());
                event_loop.call_soon(move || one.lock().unwrap().push(loop_index()));
                event_loop.call_later(MS, move || two.lock().unwrap().push(loop_index()));
                spawn_local(async move {
                    sleep(MS).await;
                    three.lock().unwrap().push(loop_index())
                });
                enter.open();
                release.wait();
            });
            eventually_async("it is stuck", || inside.is_open()).await;
            let posted = log.clone();
            rt.loops()[1].call_soon_threadsafe(move || posted.lock().unwrap().push(loop_index()));
            // Stealable work goes on meanwhile, which shows that the others are about.
            for _ in 0..20 {
                spawn(async { sleep(MS).await }).await.unwrap()
            }
            assert!(log.lock().unwrap().is_empty(), "nothing pinned ran elsewhere");
            gate.open();
            stuck.await.unwrap();
            eventually_async("all four ran", || log.lock().unwrap().len() == 4).await;
            assert!(log.lock().unwrap().iter().all(|index| *index == Some(1)));
        });
    });
}

#[test]
fn c07_work_of_a_stuck_loop_is_served_with_all_peers_busy() {
    with_timeout(|| {
        let rt = four();
        let busy = Arc::new(AtomicBool::new(true));
        // Endless yielders keep all loops running; none ever parks, so there is no watcher.
        for _ in 0..16 {
            let busy = busy.clone();
            rt.spawn(async move {
                while busy.load(SeqCst) {
                    yield_now().await
                }
            });
        }
        rt.block_on(async {
            for _ in 0..5 {
                let countdown = Countdown::new(3);
                let (mut ours, mut theirs) = common::socket_pair();
                let mut read = Box::pin(async move { ours.read(&mut [0; 1]).await.unwrap() });
                poll_once(&mut read).await;
                let (one, two, three) = (countdown.clone(), countdown.clone(), countdown.clone());
                spawn(async move {
                    read.await;
                    one.hit()
                });
                let timer = armed_here(Instant::now() + 3 * MS).await;
                spawn(async move {
                    timer.await;
                    two.hit()
                });
                spawn(async move { three.hit() });
                let writer = thread::spawn(move || {
                    thread::sleep(3 * MS);
                    theirs.write_all(b"x").unwrap();
                    theirs
                });
                countdown.wait();
                writer.join().unwrap();
            }
        });
        busy.store(false, SeqCst);
    });
}

/// How long this thread is kept off its CPU at most, in a while of wanting it all the time.
fn longest_gap() -> Duration {
    let (start, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while start.elapsed() < 60 * MS {
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    longest
}

/// Starts what is measured and gives the moment from which it is late.
type Measured = Box<dyn FnOnce() -> Instant>;

#[test]
fn c07_the_times_it_names() {
    // Latencies of a loop 0 that is stuck in a handle, with idle peers (1 ms) and with busy ones (10 ms).
    common::with_timeout_of(Duration::from_secs(120), || {
        let rt = four();
        for (busy, bound) in [(false, MS), (true, 10 * MS)] {
            let on = Arc::new(AtomicBool::new(busy));
            let spinners: Vec<_> = if busy {
                rt.loops()[1..]
                    .iter()
                    .map(|event_loop| {
                        let on = on.clone();
                        event_loop.spawn_local(move || async move {
                            while on.load(SeqCst) {
                                yield_now().await
                            }
                        })
                    })
                    .collect()
            } else {
                Vec::new()
            };
            // What the machine adds: with more busy threads than CPUs, whoever serves must first get a CPU.
            let bound = if busy { bound + 2 * longest_gap() } else { bound };
            let measure = |what: &str, work: &dyn Fn(Arc<Mutex<Option<Instant>>>, Gate) -> Measured| {
                common::assert_latency(&format!("{what}, peers busy: {busy}"), bound, 30, || {
                    rt.block_on(async {
                        // Let everybody settle: parked peers if idle.
                        sleep(2 * MS).await;
                        let (at, gate) = (Arc::new(Mutex::new(None)), Gate::new());
                        let due = work(at.clone(), gate.clone())();
                        gate.wait();
                        at.lock().unwrap().unwrap().saturating_duration_since(due)
                    })
                });
            };
            measure("a queued task", &|at, gate| {
                Box::new(move || {
                    let due = Instant::now();
                    spawn(async move {
                        *at.lock().unwrap() = Some(Instant::now());
                        gate.open()
                    });
                    due
                })
            });
            measure("a due sleep", &|at, gate| {
                Box::new(move || {
                    let due = Instant::now() + 4 * MS;
                    let mut timer = Box::pin(sleep_until(due));
                    // Armed on this loop: polled here with a waker that does nothing, then handed on.
                    let _ = timer.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                    spawn(async move {
                        timer.await;
                        *at.lock().unwrap() = Some(Instant::now());
                        gate.open()
                    });
                    due
                })
            });
            measure("a ready socket", &|at, gate| {
                Box::new(move || {
                    let (mut ours, mut theirs) = common::socket_pair();
                    spawn(async move {
                        ours.read(&mut [0; 1]).await.unwrap();
                        *at.lock().unwrap() = Some(Instant::now());
                        gate.open()
                    });
                    // Long enough for the task to have been taken and to wait for the socket.
                    thread::sleep(4 * MS);
                    let due = Instant::now();
                    theirs.write_all(b"x").unwrap();
                    HOLD.with(|hold| hold.borrow_mut().push(theirs));
                    due
                })
            });
            on.store(false, SeqCst);
            rt.block_on(async {
                for task in spinners {
                    task.await.unwrap()
                }
            });
        }
    });
}

thread_local! {
    /// Keeps the peers of the measured sockets open.
    static HOLD: std::cell::RefCell<Vec<std::os::unix::net::UnixStream>> = const { std::cell::RefCell::new(Vec::new()) };
}

common::flavours! {
    fn c07_sleeps_and_sockets_of_a_stuck_loop_are_served_without_stealing_too(rt: Runtime) {
        // The tasks live on other loops; only what wakes them is on the stuck one. So this holds without stealing.
        if flavour_is_one(&rt) { return }
        rt.block_on(async {
            for _ in 0..5 {
                let countdown = Countdown::new(2);
                let (mut ours, mut theirs) = common::socket_pair(); // registered here, on loop 0
                let timer = armed_here(Instant::now() + 20 * MS).await;
                let (one, two, settled) = (countdown.clone(), countdown.clone(), Arc::new(AtomicUsize::new(0)));
                let (first, second) = (settled.clone(), settled.clone());
                // Pinned to loops 1 and 2: they cannot have been moved by a thief.
                rt.loops()[1].spawn_local(move || async move {
                    first.fetch_add(1, SeqCst);
                    ours.read_exact(&mut [0; 1]).await.unwrap();
                    one.hit();
                });
                rt.loops()[2].spawn_local(move || async move { second.fetch_add(1, SeqCst); timer.await; two.hit() });
                eventually_async("both settled", || settled.load(SeqCst) == 2).await;
                sleep(MS).await;
                let writer = thread::spawn(move || { thread::sleep(10 * MS); theirs.write_all(b"x").unwrap(); theirs });
                countdown.wait(); // loop 0 is stuck
                writer.join().unwrap();
            }
        });
    }

    fn b21_echo_goes_on_beside_a_task_that_blocks_its_thread_again_and_again(rt: Runtime) {
        if flavour_is_one(&rt) || common::flavour() == Flavour::FourLoopsNoSteal { return }
        rt.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    spawn(async move {
                        let mut buf = [0; 256];
                        loop {
                            let n = stream.read(&mut buf).await.unwrap_or(0);
                            if n == 0 { break }
                            stream.write_all(&buf[..n]).await.unwrap();
                        }
                    });
                }
            });
            let stop = Arc::new(AtomicBool::new(false));
            let off = stop.clone();
            let hog = spawn(async move { while !off.load(SeqCst) { thread::sleep(20 * MS); yield_now().await } });
            let clients: Vec<_> = (0..8u8).map(|i| spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                for round in 0..50u8 {
                    stream.write_all(&[i, round]).await.unwrap();
                    let mut back = [0; 2];
                    stream.read_exact(&mut back).await.unwrap();
                    assert_eq!(back, [i, round]);
                }
            })).collect();
            for client in clients { client.await.unwrap() }
            stop.store(true, SeqCst);
            hog.await.unwrap();
            assert!(server.cancel());
        });
    }

    fn b64_a_socket_works_from_any_loop(rt: Runtime) {
        rt.block_on(async {
            let (mut ours, mut theirs) = common::socket_pair();
            for round in 0..5 * rt.loops().len() {
                let event_loop = &rt.loops()[round % rt.loops().len()];
                let (wait, waiting) = (Flag::new(), Arc::new(AtomicBool::new(false)));
                let (ready, set) = (wait.clone(), waiting.clone());
                let task = event_loop.spawn_local(move || async move {
                    ready.set();
                    set.store(true, SeqCst);
                    ours.read_exact(&mut [0; 1]).await.unwrap();
                    ours
                });
                wait.wait().await;
                if round % 2 == 0 { sleep(MS).await }
                theirs.write_all(b"x").unwrap();
                ours = task.await.unwrap();
            }
        });
    }
}

fn flavour_is_one(rt: &Runtime) -> bool {
    rt.loops().len() == 1
}

#[test]
fn c07_b20_the_stuck_loop_gets_its_things_back() {
    // A loop that was adopted for a while must work on as before, many times over.
    with_timeout(|| {
        let rt = four();
        rt.block_on(async {
            let (mut ours, mut theirs) = common::socket_pair();
            for round in 0..30 {
                let gate = Gate::new();
                let (open, timer) = (gate.clone(), armed_here(Instant::now() + 2 * MS).await);
                spawn(async move {
                    timer.await;
                    open.open()
                });
                gate.wait();
                // Its own selector, heap, inbox and queue.
                theirs.write_all(&[round]).unwrap();
                let mut byte = [0; 1];
                ours.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte[0], round);
                sleep(Duration::from_micros(300)).await;
                let flag = Flag::new();
                let set = flag.clone();
                let own = EventLoop::current().handle();
                thread::spawn(move || own.call_soon_threadsafe(move || set.set()));
                flag.wait().await;
            }
        });
    });
}

/// How long so many round trips take between two ends of a connection, both held here.
async fn round_trips(ours: &mut UnixStream, theirs: &mut UnixStream, trips: usize) -> Duration {
    let began = Instant::now();
    let asks = async {
        for _ in 0..trips {
            ours.write_all(b"?").await.unwrap();
            ours.read_exact(&mut [0; 1]).await.unwrap();
        }
    };
    let answers = async {
        for _ in 0..trips {
            theirs.read_exact(&mut [0; 1]).await.unwrap();
            theirs.write_all(b"!").await.unwrap();
        }
    };
    epicycle::join!(asks, answers);
    began.elapsed()
}

#[test]
fn c07_a_stuck_loops_sockets_are_not_served_by_the_tick() {
    // Whoever has found a loop stuck is woken by what comes for it. By the watcher's ticks alone a round trip takes two of
    // them, 600 us: six times and more what it takes when loop 1 is free, and is woken for each event.
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).build().unwrap();
        rt.block_on(async {
            let (mut ours, mut theirs) =
                rt.loops()[1].spawn_local(|| async { UnixStream::pair().unwrap() }).await.unwrap();
            let mut tried = Vec::new();
            for _ in 0..20 {
                let free = round_trips(&mut ours, &mut theirs, 200).await;
                let (gate, stuck) = (Gate::new(), Flag::new());
                let (closed, is_stuck) = (gate.clone(), stuck.clone());
                let blocker = rt.loops()[1].spawn_local(move || async move {
                    is_stuck.set();
                    closed.wait();
                });
                stuck.wait().await;
                let helped = round_trips(&mut ours, &mut theirs, 200).await;
                gate.open();
                blocker.await.unwrap();
                if helped < 2 * free {
                    return;
                }
                tried.push((free, helped));
            }
            panic!("free and helped: {tried:?}");
        });
    });
}

#[test]
fn c07_metrics_count_the_adoptions() {
    with_timeout(|| {
        let rt = four();
        let adoptions = |rt: &Runtime| rt.metrics().loops.iter().map(|l| l.adoptions).sum::<u64>();
        let before = adoptions(&rt);
        rt.block_on(async {
            let gate = Gate::new();
            let (open, timer) = (gate.clone(), armed_here(Instant::now() + 10 * MS).await);
            rt.loops()[1].spawn_local(move || async move {
                timer.await;
                open.open()
            });
            gate.wait();
        });
        eventually("an adoption is counted", || adoptions(&rt) > before);
    });
}

#[test]
fn c03_as_many_tasks_as_loops_really_run_at_once() {
    // Tasks that wait for each other with their threads: each must have a loop of its own, the caller's included.
    with_timeout(|| {
        let rt = four();
        for round in 0..50 {
            rt.block_on(async {
                let barrier = Arc::new(std::sync::Barrier::new(4));
                let tasks: Vec<_> = (0..4)
                    .map(|_| {
                        let barrier = barrier.clone();
                        spawn(async move {
                            barrier.wait();
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap()
                }
                if round % 10 == 0 {
                    sleep(15 * MS).await
                } // sometimes from deep sleep
            });
        }
        // The same submitted from outside.
        for _ in 0..50 {
            let barrier = Arc::new(std::sync::Barrier::new(4));
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let barrier = barrier.clone();
                    rt.spawn(async move {
                        barrier.wait();
                    })
                })
                .collect();
            rt.block_on(async {
                for task in tasks {
                    task.await.unwrap()
                }
            });
        }
    });
}

#[test]
fn c07_c02_what_loop_zero_left_is_served_though_any_other_loop_is_stuck() {
    // Loop 0 is absent, and each of the others in turn is stuck, whichever looks after loop 0; then two at a time.
    with_timeout(|| {
        let rt = four();
        for stuck in [vec![1], vec![2], vec![3], vec![1, 2], vec![1, 3], vec![2, 3]] {
            let gate = Gate::new();
            let _open = gate.open_on_drop();
            let done = Arc::new(AtomicUsize::new(0));
            let (mut theirs, holders) = rt.block_on(async {
                let (mut ours, theirs) = common::socket_pair();
                let mut read = Box::pin(async move { ours.read(&mut [0; 1]).await.unwrap() });
                poll_once(&mut read).await;
                let (one, two) = (done.clone(), done.clone());
                spawn(async move {
                    read.await;
                    one.fetch_add(1, SeqCst)
                });
                let timer = armed_here(Instant::now() + 30 * MS).await;
                spawn(async move {
                    timer.await;
                    two.fetch_add(1, SeqCst)
                });
                // The tasks have been polled somewhere, and wait on loop 0.
                sleep(2 * MS).await;
                let mut holders = Vec::new();
                for index in &stuck {
                    let (release, enter) = (gate.clone(), Gate::new());
                    let entered = enter.clone();
                    holders.push(rt.loops()[*index].spawn_local(move || async move {
                        entered.open();
                        release.wait()
                    }));
                    eventually_async("it is stuck", || enter.is_open()).await;
                }
                (theirs, holders)
            });
            thread::sleep(3 * MS);
            theirs.write_all(b"x").unwrap();
            eventually("both are served by who is left", || done.load(SeqCst) == 2);
            gate.open();
            for holder in holders {
                futures_lite::future::block_on(holder).unwrap()
            }
        }
    });
}

#[test]
fn c07_c02_what_loop_zero_left_is_served_with_all_others_busy() {
    with_timeout(|| {
        let rt = four();
        let on = Arc::new(AtomicBool::new(true));
        for event_loop in &rt.loops()[1..] {
            let on = on.clone();
            event_loop.spawn_local(move || async move {
                while on.load(SeqCst) {
                    yield_now().await
                }
            });
        }
        let bound = 10 * MS + 2 * longest_gap();
        common::assert_latency("a sleep of an absent loop, all others busy", bound, 20, || {
            let at = Arc::new(Mutex::new(None));
            let slot = at.clone();
            let due = rt.block_on(async {
                let due = Instant::now() + 3 * MS;
                let timer = armed_here(due).await;
                spawn(async move {
                    timer.await;
                    *slot.lock().unwrap() = Some(Instant::now())
                });
                due
            });
            eventually("the sleep", || at.lock().unwrap().is_some());
            at.lock().unwrap().unwrap().saturating_duration_since(due)
        });
        on.store(false, SeqCst);
    });
}

/// What is left of a backlog of quick handles is worth nothing to a loop that searches, but who has it never comes to it.
#[test]
fn c07_r46_a_backlog_of_quick_handles_is_not_served_by_the_tick() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).build().unwrap();
        for count in [20, 100, 300, 1000] {
            common::assert_latency(&format!("{count} quick handles"), 2 * MS, 12, || {
                rt.block_on(async {
                    // What a handle takes is learnt from these.
                    for _ in 0..20_000 {
                        yield_now().await;
                    }
                    let countdown = Countdown::new(count);
                    for _ in 0..count {
                        let countdown = countdown.clone();
                        spawn(async move { countdown.hit() });
                    }
                    let start = Instant::now();
                    countdown.wait();
                    start.elapsed()
                })
            });
        }
    });
}

/// The custodian's own handles were quick, and now are slow: it reads the clock often enough all the same.
#[test]
fn c02_c07_r47_a_sleep_of_an_absent_loop_0_waits_for_few_of_its_custodians_handles() {
    struct Note(AtomicUsize, AtomicUsize);
    impl std::task::Wake for Note {
        fn wake(self: Arc<Self>) {
            let now = self.0.load(SeqCst);
            self.1.store(now, SeqCst);
        }
    }
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).build().unwrap();
        for _ in 0..8 {
            let note = Arc::new(Note(AtomicUsize::new(0), AtomicUsize::new(usize::MAX)));
            let start = Instant::now();
            let mut sleep: Pin<Box<Sleep>> = Box::pin(sleep_until(start + 31 * MS));
            rt.block_on(async {
                let waker = note.clone().into();
                assert!(sleep.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
            });
            let begun = note.clone();
            let task = rt.loops()[1].spawn_local(move || async move {
                while start.elapsed() < 30 * MS {
                    yield_now().await;
                }
                for slow in 1..=20 {
                    begun.0.store(slow, SeqCst);
                    thread::sleep(4 * MS);
                    yield_now().await;
                }
            });
            eventually("the slow handles have run", || task.done());
            let waited = note.1.load(SeqCst);
            assert!(waited <= 6, "the sleep fired in slow handle {waited}");
        }
    });
}
