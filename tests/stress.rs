//! What loom cannot see: the real selectors, clocks and threads, oversubscribed (8 loops on few cores), for a while.
//!
//! Every test counts what went in and what came out; a lost wake or handle shows as a hang, which the watchdog ends.
//! `EPICYCLE_STRESS=n` runs each n times as long.

mod common;

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{DropProbe, Flag, OnDrop, eventually, eventually_async, with_timeout_of};
use epicycle::io::{AsyncReadExt, AsyncWriteExt};
use epicycle::net::{TcpListener, TcpStream};
use epicycle::time::{sleep, sleep_until, timeout};
use epicycle::{EventLoop, Runtime, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);

fn times(n: usize) -> usize {
    n * std::env::var("EPICYCLE_STRESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A small generator, so that runs differ in nothing but the machine's timing.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Runs `test` for 1, 2 and 8 loops, and for 8 without stealing.
fn oversubscribed(test: impl Fn(Runtime)) {
    with_timeout_of(Duration::from_secs(180), || {
        for (loops, stealing) in [(1, true), (2, true), (8, true), (8, false)] {
            println!("{loops} loops, stealing: {stealing}");
            test(Runtime::builder().worker_threads(loops).work_stealing(stealing).build().unwrap());
        }
    });
}

#[test]
fn c02_wake_round_trips_with_a_foreign_thread() {
    oversubscribed(|rt| {
        let (requests, server) = mpsc::channel::<Flag>();
        let echo = thread::spawn(move || {
            for (i, flag) in server.into_iter().enumerate() {
                if i % 100 == 0 {
                    thread::sleep(Duration::from_micros(300))
                } // let the loops fall asleep now and then
                flag.set();
            }
        });
        rt.block_on(async {
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let requests = requests.clone();
                    spawn(async move {
                        for _ in 0..times(1500) {
                            let flag = Flag::new();
                            requests.send(flag.clone()).unwrap();
                            flag.wait().await
                        }
                    })
                })
                .collect();
            for _ in 0..times(1500) {
                let flag = Flag::new();
                requests.send(flag.clone()).unwrap();
                flag.wait().await
            }
            for task in tasks {
                task.await.unwrap()
            }
        });
        drop(requests);
        echo.join().unwrap();
    });
}

#[test]
fn c03_tasks_that_yield_sleep_wake_and_spawn_at_random() {
    fn life(seed: u64, depth: usize, ended: Arc<AtomicUsize>) -> Pin<Box<dyn Future<Output = usize> + Send>> {
        Box::pin(async move {
            let (mut random, mut total) = (Random(seed * 2 + 1), 1);
            let mut children = Vec::new();
            for step in 0..random.below(12) {
                match random.below(8) {
                    0 => sleep(Duration::from_micros(random.below(800) as u64)).await,
                    1 if depth > 0 => children.push(spawn(life(seed * 31 + step as u64, depth - 1, ended.clone()))),
                    2 => {
                        let flag = Flag::new();
                        let set = flag.clone();
                        spawn(async move { set.set() });
                        flag.wait().await
                    }
                    3 => {
                        let _ = timeout(Duration::from_micros(200), std::future::pending::<()>()).await;
                    }
                    4 => {
                        std::hint::black_box((0..random.below(20_000)).sum::<usize>());
                    }
                    5 => assert_eq!(epicycle::run_in_executor(|| 1).await.unwrap(), 1),
                    _ => yield_now().await,
                }
            }
            for child in children {
                total += child.await.unwrap()
            }
            ended.fetch_add(1, SeqCst);
            total
        })
    }
    oversubscribed(|rt| {
        let ended = Arc::new(AtomicUsize::new(0));
        let total = rt.block_on(async {
            let tasks: Vec<_> = (0..times(150) as u64).map(|seed| spawn(life(seed, 3, ended.clone()))).collect();
            let mut total = 0;
            for task in tasks {
                total += task.await.unwrap()
            }
            total
        });
        assert_eq!(ended.load(SeqCst), total);
        assert_eq!(rt.metrics().alive_tasks, 0);
    });
}

#[test]
fn c04_posts_to_every_loop_from_many_threads() {
    oversubscribed(|rt| {
        let rt = Arc::new(rt);
        let (sent, ran, misplaced) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let posters: Vec<_> = (0..4u64)
            .map(|who| {
                let (rt, sent, ran, misplaced) = (rt.clone(), sent.clone(), ran.clone(), misplaced.clone());
                thread::spawn(move || {
                    let mut random = Random(who + 1);
                    for _ in 0..times(3000) {
                        let index = random.below(rt.loops().len());
                        let (count, wrong) = (ran.clone(), misplaced.clone());
                        let check = move || {
                            if common::loop_index() != Some(index) {
                                wrong.fetch_add(1, SeqCst);
                            }
                            count.fetch_add(1, SeqCst);
                        };
                        sent.fetch_add(1, SeqCst);
                        match random.below(3) {
                            0 => drop(rt.loops()[index].call_soon_threadsafe(check)),
                            1 => drop(rt.loops()[index].spawn_local(move || async move { check() })),
                            _ => drop(rt.loops()[index].spawn_local(move || async move {
                                yield_now().await;
                                check()
                            })),
                        }
                        if random.below(200) == 0 {
                            thread::sleep(Duration::from_micros(500))
                        }
                    }
                })
            })
            .collect();
        rt.block_on(async {
            eventually_async("the posters are done", || posters.iter().all(|poster| poster.is_finished())).await;
            eventually_async("all ran", || ran.load(SeqCst) == sent.load(SeqCst)).await;
        });
        for poster in posters {
            poster.join().unwrap()
        }
        assert_eq!(misplaced.load(SeqCst), 0);
    });
}

#[test]
fn c08_cancels_from_everywhere_against_everything() {
    oversubscribed(|rt| {
        let rt = Arc::new(rt);
        let (probe, made) = (DropProbe::new(), Arc::new(AtomicUsize::new(0)));
        let stop = Flag::new();
        let driver = {
            let (rt, stop) = (rt.clone(), stop.clone());
            thread::spawn(move || rt.block_on(stop.wait()))
        };
        let threads: Vec<_> = (0..3u64)
            .map(|who| {
                let (rt, probe, made) = (rt.clone(), probe.clone(), made.clone());
                thread::spawn(move || {
                    let mut random = Random(who + 77);
                    for _ in 0..times(1500) {
                        made.fetch_add(1, SeqCst);
                        let guard = probe.guard();
                        let pause = random.below(300);
                        let task = match random.below(4) {
                            0 => rt.spawn(async move {
                                let _guard = guard;
                                sleep(Duration::from_micros(100)).await
                            }),
                            1 => rt.spawn(async move {
                                let _guard = guard;
                                for _ in 0..5 {
                                    yield_now().await
                                }
                            }),
                            2 => {
                                let loops = rt.loops();
                                loops[random.below(loops.len())].spawn_local(move || async move {
                                    let _guard = guard;
                                    sleep(Duration::from_micros(50)).await
                                })
                            }
                            _ => rt.run_in_executor(move || {
                                let _guard = guard;
                            }),
                        };
                        for _ in 0..pause {
                            std::hint::spin_loop()
                        }
                        let cancelled = task.cancel();
                        match futures_lite::future::block_on(task) {
                            Ok(()) => assert!(!cancelled),
                            Err(error) => assert!(error.is_cancelled() && cancelled),
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap()
        }
        eventually("all dropped", || probe.count() == made.load(SeqCst));
        stop.set();
        driver.join().unwrap();
    });
}

#[test]
fn c06_timers_are_polled_moved_reset_and_dropped_on_any_thread() {
    oversubscribed(|rt| {
        let rt = Arc::new(rt);
        let early = Arc::new(AtomicUsize::new(0));
        rt.block_on(async {
            let tasks: Vec<_> = (0..8u64)
                .map(|seed| {
                    let early = early.clone();
                    spawn(async move {
                        let mut random = Random(seed + 9);
                        for _ in 0..times(150) {
                            let deadline = Instant::now() + Duration::from_micros(random.below(2000) as u64);
                            let mut timer = Box::pin(sleep_until(deadline));
                            poll_fn(|cx| {
                                let _ = timer.as_mut().poll(cx);
                                Poll::Ready(())
                            })
                            .await;
                            match random.below(4) {
                                // Dropped on another thread, moved to another task, reset there, or awaited here.
                                0 => drop(epicycle::run_in_executor(move || drop(timer))),
                                1 => {
                                    let late = early.clone();
                                    spawn(async move {
                                        timer.await;
                                        if Instant::now() < deadline {
                                            late.fetch_add(1, SeqCst);
                                        }
                                    })
                                    .await
                                    .unwrap()
                                }
                                2 => {
                                    let moved = epicycle::run_in_executor(move || {
                                        timer.as_mut().reset(deadline + Duration::from_micros(300));
                                        timer
                                    });
                                    moved.await.unwrap().await;
                                    if Instant::now() < deadline {
                                        early.fetch_add(1, SeqCst);
                                    }
                                }
                                _ => {
                                    timer.await;
                                    if Instant::now() < deadline {
                                        early.fetch_add(1, SeqCst);
                                    }
                                }
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap()
            }
        });
        assert_eq!(early.load(SeqCst), 0);
        eventually("no timer is left", || {
            rt.metrics().loops.iter().map(|l| l.timers_pending).sum::<usize>() <= 100 * rt.loops().len()
        });
    });
}

#[test]
fn c06_call_later_cancel_races_with_firing() {
    oversubscribed(|rt| {
        rt.block_on(async {
            for event_loop in rt.loops() {
                let wrong = event_loop
                    .spawn_local(|| async {
                        let (ran, event_loop) = (Arc::new(Mutex::new(Vec::new())), EventLoop::current());
                        let mut handles = Vec::new();
                        for i in 0..times(300) {
                            let ran = ran.clone();
                            handles.push(
                                event_loop.call_later(Duration::from_micros((i % 40) as u64 * 100), move || {
                                    ran.lock().unwrap().push(i)
                                }),
                            );
                        }
                        let answers = epicycle::run_in_executor(move || {
                            handles
                                .into_iter()
                                .map(|handle| {
                                    thread::yield_now();
                                    handle.cancel()
                                })
                                .collect::<Vec<bool>>()
                        })
                        .await
                        .unwrap();
                        sleep(10 * MS).await;
                        let ran = ran.lock().unwrap().clone();
                        answers
                            .iter()
                            .enumerate()
                            .filter(|(i, cancelled)| {
                                ran.iter().filter(|n| *n == i).count() != usize::from(!**cancelled)
                            })
                            .count()
                    })
                    .await
                    .unwrap();
                assert_eq!(wrong, 0, "each ran once or was cancelled, never both");
            }
        });
    });
}

#[test]
fn c02_loop_zero_changes_hands_while_everything_lives_on_it() {
    oversubscribed(|rt| {
        let rt = Arc::new(rt);
        let (ticks, echoes, on) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let peers = rt.block_on(async {
            let mut peers = Vec::new();
            for _ in 0..4 {
                let ticks = ticks.clone();
                spawn(async move {
                    loop {
                        sleep(Duration::from_micros(300)).await;
                        ticks.fetch_add(1, SeqCst);
                    }
                });
                let (mut ours, theirs) = common::socket_pair();
                spawn(async move {
                    let mut buf = [0; 16];
                    loop {
                        let n = ours.read(&mut buf).await.unwrap();
                        if n == 0 {
                            break;
                        }
                        ours.write_all(&buf[..n]).await.unwrap()
                    }
                });
                peers.push(theirs);
            }
            sleep(MS).await;
            peers
        });
        let clients: Vec<_> = peers
            .into_iter()
            .map(|mut peer| {
                let (echoes, on) = (echoes.clone(), on.clone());
                thread::spawn(move || {
                    peer.set_nonblocking(false).unwrap();
                    while on.load(SeqCst) {
                        peer.write_all(b"ping").unwrap();
                        peer.read_exact(&mut [0; 4]).unwrap();
                        echoes.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let callers: Vec<_> = (0..3u64)
            .map(|who| {
                let (rt, on) = (rt.clone(), on.clone());
                thread::spawn(move || {
                    let mut random = Random(who + 5);
                    // At n = 1 somebody must drive for the clients to end: the callers stop after them.
                    while on.load(SeqCst) {
                        rt.block_on(async {
                            let local = spawn_local(async {
                                yield_now().await;
                                2
                            });
                            for _ in 0..random.below(4) {
                                sleep(Duration::from_micros(200)).await
                            }
                            assert_eq!(spawn(async { 1 }).await.unwrap() + local.await.unwrap(), 3);
                        });
                        if random.below(3) == 0 {
                            thread::sleep(Duration::from_micros(random.below(1500) as u64))
                        }
                    }
                })
            })
            .collect();
        let goal = times(400);
        eventually("echoes and ticks", || echoes.load(SeqCst) > goal && ticks.load(SeqCst) > goal);
        on.store(false, SeqCst);
        for caller in callers {
            caller.join().unwrap()
        }
        // The clients' last round trips may still need a driver.
        let stop = Flag::new();
        let driver = {
            let (rt, stop) = (rt.clone(), stop.clone());
            thread::spawn(move || rt.block_on(stop.wait()))
        };
        for client in clients {
            client.join().unwrap()
        }
        stop.set();
        driver.join().unwrap();
    });
}

#[test]
fn c07_loops_get_stuck_at_random_and_nothing_waits_for_them() {
    with_timeout_of(Duration::from_secs(120), || {
        let rt = Runtime::builder().worker_threads(8).build().unwrap();
        rt.block_on(async {
            let on = Arc::new(AtomicBool::new(true));
            // At most 6 of 8 threads are ever blocked by these.
            let hogs: Vec<_> = (0..6u64)
                .map(|seed| {
                    let on = on.clone();
                    spawn(async move {
                        let mut random = Random(seed + 3);
                        while on.load(SeqCst) {
                            thread::sleep(Duration::from_micros(random.below(8000) as u64));
                            yield_now().await
                        }
                    })
                })
                .collect();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    spawn(async move {
                        let mut buf = [0; 64];
                        loop {
                            let n = stream.read(&mut buf).await.unwrap_or(0);
                            if n == 0 || stream.write_all(&buf[..n]).await.is_err() {
                                break;
                            }
                        }
                    });
                }
            });
            let clients: Vec<_> = (0..20u8)
                .map(|i| {
                    spawn(async move {
                        let mut stream = TcpStream::connect(address).await.unwrap();
                        for round in 0..times(30) as u32 {
                            let sent = [i, round as u8, (round >> 8) as u8];
                            stream.write_all(&sent).await.unwrap();
                            let mut back = [0; 3];
                            stream.read_exact(&mut back).await.unwrap();
                            assert_eq!(back, sent);
                            if round % 8 == 0 {
                                sleep(Duration::from_micros(500)).await
                            }
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap()
            }
            on.store(false, SeqCst);
            for hog in hogs {
                hog.await.unwrap()
            }
            assert!(server.cancel());
        });
    });
}

#[test]
fn b62_connections_come_and_go() {
    oversubscribed(|rt| {
        let sources = |rt: &Runtime| rt.metrics().loops.iter().map(|l| l.sources).sum::<usize>();
        let before = sources(&rt);
        rt.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let served = Arc::new(AtomicUsize::new(0));
            let count = served.clone();
            let server = spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let count = count.clone();
                    spawn(async move {
                        let mut byte = [0; 1];
                        if stream.read_exact(&mut byte).await.is_ok() {
                            let _ = stream.write_all(&byte).await;
                        }
                        count.fetch_add(1, SeqCst);
                    });
                }
            });
            let clients: Vec<_> = (0..8u64)
                .map(|seed| {
                    spawn(async move {
                        let mut random = Random(seed + 21);
                        for _ in 0..times(40) {
                            let mut stream = TcpStream::connect(address).await.unwrap();
                            match random.below(3) {
                                0 => drop(stream), // goes away without a word
                                1 => {
                                    stream.write_all(b"x").await.unwrap();
                                } // without waiting for the answer
                                _ => {
                                    stream.write_all(b"y").await.unwrap();
                                    let mut back = [0; 1];
                                    stream.read_exact(&mut back).await.unwrap();
                                    assert_eq!(&back, b"y")
                                }
                            }
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap()
            }
            eventually_async("all served", || served.load(SeqCst) == 8 * times(40)).await;
            assert!(server.cancel());
            let _ = server.await;
        });
        eventually("every registration is gone", || sources(&rt) <= before);
    });
}

#[test]
fn c10_runtimes_are_born_and_dropped_in_the_middle_of_everything() {
    with_timeout_of(Duration::from_secs(180), || {
        for round in 0..times(60) as u64 {
            let mut random = Random(round + 1);
            let loops = [1, 2, 8][random.below(3)];
            let rt = Runtime::builder().worker_threads(loops).work_stealing(random.below(2) == 0).build().unwrap();
            let (probe, made, wakers) =
                (DropProbe::new(), Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::<Waker>::new())));
            let make = || {
                made.fetch_add(1, SeqCst);
                probe.guard()
            };
            let on = Arc::new(AtomicBool::new(true));
            let storm = {
                let (wakers, on) = (wakers.clone(), on.clone());
                thread::spawn(move || {
                    while on.load(SeqCst) {
                        let some = wakers.lock().unwrap().clone();
                        some.into_iter().for_each(Waker::wake);
                        thread::sleep(Duration::from_micros(100));
                    }
                })
            };
            let peers = rt.block_on(async {
                let mut peers = Vec::new();
                for _ in 0..30 {
                    let (guard, slot) = (make(), wakers.clone());
                    spawn(async move {
                        let _guard = guard;
                        poll_fn::<(), _>(|cx| {
                            slot.lock().unwrap().push(cx.waker().clone());
                            Poll::Pending
                        })
                        .await
                    });
                    let guard = make();
                    spawn(async move {
                        let _guard = guard;
                        loop {
                            sleep(Duration::from_micros(50)).await
                        }
                    });
                    let (guard, (mut ours, theirs)) = (make(), common::socket_pair());
                    peers.push(theirs);
                    spawn(async move {
                        let _guard = guard;
                        let _ = ours.read(&mut [0; 8]).await;
                    });
                    let guard = make();
                    rt.loops()[random.below(loops)].spawn_local(move || async move {
                        let _guard = guard;
                        loop {
                            yield_now().await
                        }
                    });
                    let guard = make();
                    drop(epicycle::run_in_executor(move || drop(guard)));
                }
                sleep(Duration::from_micros(random.below(2000) as u64)).await;
                peers
            });
            let writer = thread::spawn(move || {
                for mut peer in peers {
                    let _ = peer.write_all(b"x");
                }
            });
            match random.below(3) {
                0 => drop(rt),
                1 => rt.shutdown_timeout(Duration::from_secs(60)),
                _ => rt.shutdown_background(),
            }
            eventually("each dropped once", || probe.count() == made.load(SeqCst));
            on.store(false, SeqCst);
            storm.join().unwrap();
            writer.join().unwrap();
        }
    });
}

#[test]
fn b32_destructors_run_somewhere_exactly_once_under_load() {
    oversubscribed(|rt| {
        let dropped = Arc::new(AtomicUsize::new(0));
        rt.block_on(async {
            let mut tasks = Vec::new();
            for i in 0..times(3000) {
                let count = dropped.clone();
                let on_drop = OnDrop(move || {
                    count.fetch_add(1, SeqCst);
                });
                let task = spawn(async move {
                    let _kept = &on_drop;
                    for _ in 0..i % 4 {
                        yield_now().await
                    }
                });
                match i % 3 {
                    0 => drop(task),
                    1 => {
                        task.cancel();
                    }
                    _ => tasks.push(task),
                }
            }
            for task in tasks {
                task.await.unwrap()
            }
            eventually_async("all", || dropped.load(SeqCst) == times(3000)).await;
        });
    });
}
