//! C11: nothing that is always ready starves sockets, timers, other tasks or remote submissions (behaviours 6, 15-19, 46, 57).
//!
//! Bounds are counts of polls, not of time: how many turns of the busy thing pass before the other one is served.

mod common;

use std::future::{Future, pending, poll_fn};
use std::io::Write;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use common::{Flag, Flavour, eventually_async, flavour};
use epicycle::io::{AsyncReadExt, AsyncWriteExt};
use epicycle::net::{TcpListener, TcpStream};
use epicycle::time::{interval, sleep, timeout};
use epicycle::{EventLoop, Runtime, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);

/// Stops the busy tasks of a test, on unwind too.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new() -> Busy {
        Busy(Arc::new(AtomicBool::new(true)))
    }

    /// A task that is always ready, and counts its polls.
    fn spin(&self) -> (impl Future<Output = ()> + Send + 'static + use<>, Arc<AtomicUsize>) {
        let (on, polls) = (self.0.clone(), Arc::new(AtomicUsize::new(0)));
        let count = polls.clone();
        let spin = async move {
            while on.load(SeqCst) {
                count.fetch_add(1, SeqCst);
                yield_now().await;
            }
        };
        (spin, polls)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// Yields, pinned to the caller's loop, until `done`; gives the number of yields, of which at most `limit` are done.
async fn yields_until(limit: usize, mut done: impl FnMut() -> bool) -> usize {
    for n in 0..limit {
        if done() {
            return n;
        }
        yield_now().await;
    }
    panic!("not within {limit} yields");
}

common::flavours! {
    fn c11_b06_the_root_and_a_fresh_task_complete_beside_endless_ones(rt: Runtime) {
        let busy = Busy::new();
        rt.block_on(async {
            for i in 0..40 { let (spin, _) = busy.spin(); if i % 2 == 0 { drop(spawn(spin)) } else { drop(spawn_local(spin)) } }
            for _ in 0..20 {
                assert_eq!(spawn(async { yield_now().await; 1 }).await.unwrap(), 1);
                assert_eq!(spawn_local(async { yield_now().await; 2 }).await.unwrap(), 2);
                sleep(MS).await;
            }
        });
    }

    fn c11_b15_sockets_are_served_beside_a_hundred_tasks_that_wake_themselves(rt: Runtime) {
        let busy = Busy::new();
        rt.block_on(async {
            for _ in 0..100 { drop(spawn(busy.spin().0)) }
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buf = [0; 8];
                for _ in 0..30 { stream.read_exact(&mut buf).await.unwrap(); stream.write_all(&buf).await.unwrap() }
            });
            let mut stream = TcpStream::connect(address).await.unwrap();
            for round in 0..30u64 {
                stream.write_all(&round.to_le_bytes()).await.unwrap();
                let mut back = [0; 8];
                stream.read_exact(&mut back).await.unwrap();
                assert_eq!(u64::from_le_bytes(back), round);
            }
            server.await.unwrap();
        });
    }

    fn c11_b16_io_that_became_ready_is_seen_within_a_few_yields(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..20 {
                let ((mut ours, mut theirs), seen) = (common::socket_pair(), Arc::new(AtomicBool::new(false)));
                let set = seen.clone();
                let reader = spawn_local(async move { ours.read_exact(&mut [0; 1]).await.unwrap(); set.store(true, SeqCst) });
                for _ in 0..3 { yield_now().await }
                theirs.write_all(b"x").unwrap();
                // With one loop every turn looks. With several a look may be skipped for `event_interval` handles or ~50 us.
                let limit = if flavour() == Flavour::OneLoop { 10 } else { 2000 };
                yields_until(limit, || seen.load(SeqCst)).await;
                reader.await.unwrap();
            }
        });
    }

    fn c11_b16_an_accept_is_seen_within_a_few_yields(rt: Runtime) {
        rt.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let accepted = Arc::new(AtomicUsize::new(0));
            let count = accepted.clone();
            let server = spawn_local(async move { loop { listener.accept().await.unwrap(); count.fetch_add(1, SeqCst); } });
            for n in 0..10 {
                for _ in 0..3 { yield_now().await }
                let _client = std::net::TcpStream::connect(address).unwrap(); // complete when it returns
                yields_until(if flavour() == Flavour::OneLoop { 10 } else { 2000 }, || accepted.load(SeqCst) > n).await;
            }
            assert!(server.cancel());
        });
    }

    fn c11_an_event_interval_of_one_looks_every_handle(flavour: Flavour) {
        let _ = flavour;
        let rt = common::builder!().event_interval(1).build().unwrap();
        rt.block_on(async {
            for _ in 0..20 {
                let ((mut ours, mut theirs), seen) = (common::socket_pair(), Arc::new(AtomicBool::new(false)));
                let set = seen.clone();
                let reader = spawn_local(async move { ours.read_exact(&mut [0; 1]).await.unwrap(); set.store(true, SeqCst) });
                for _ in 0..3 { yield_now().await }
                theirs.write_all(b"x").unwrap();
                yields_until(20, || seen.load(SeqCst)).await;
                reader.await.unwrap();
            }
        });
    }

    fn c11_b17_a_ping_pong_pair_does_not_starve_a_third(rt: Runtime) {
        rt.block_on(async {
            for pinned in [false, true] {
                // Two tasks that wake only each other: each wake is the newest, which a LIFO slot would always prefer.
                let (turn, stop) = (Arc::new(Mutex::new((0usize, None::<std::task::Waker>))), Arc::new(AtomicBool::new(false)));
                let player = |me: usize| {
                    let (turn, stop) = (turn.clone(), stop.clone());
                    poll_fn(move |cx| {
                        let mut turn = turn.lock().unwrap();
                        if turn.0 % 2 == me { turn.0 += 1 }
                        let other = turn.1.replace(cx.waker().clone());
                        drop(turn);
                        if let Some(other) = other { other.wake() }
                        if stop.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
                    })
                };
                let pair = if pinned { [spawn_local(player(0)), spawn_local(player(1))] } else { [spawn(player(0)), spawn(player(1))] };
                for _ in 0..20 {
                    assert_eq!(if pinned { spawn_local(async { 1 }) } else { spawn(async { 1 }) }.await.unwrap(), 1);
                    yield_now().await;
                }
                eventually_async("they play", || turn.lock().unwrap().0 > 100).await;
                stop.store(true, SeqCst);
                // Whichever ends first leaves the other its last wake.
                for task in &pair { eventually_async("the end", || { if let Some(waker) = turn.lock().unwrap().1.take() { waker.wake() } task.done() }).await }
            }
        });
    }

    fn c11_b17_self_respawning_chains_do_not_starve_others(rt: Runtime) {
        fn chain(on: Arc<AtomicBool>, links: Arc<AtomicUsize>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move { if on.load(SeqCst) { links.fetch_add(1, SeqCst); drop(spawn(chain(on.clone(), links))) } })
        }
        let (busy, links) = (Busy::new(), Arc::new(AtomicUsize::new(0)));
        rt.block_on(async {
            for _ in 0..4 { drop(spawn(chain(busy.0.clone(), links.clone()))) }
            for _ in 0..50 { spawn(async { yield_now().await }).await.unwrap(); sleep(Duration::from_micros(100)).await }
            eventually_async("they are really busy", || links.load(SeqCst) > 1000).await;
        });
    }

    fn c11_s3_20_callbacks_that_reschedule_themselves_do_not_starve_others(rt: Runtime) {
        fn again(on: Arc<AtomicBool>) {
            if on.load(SeqCst) { EventLoop::current().call_soon(move || again(on)); }
        }
        let busy = Busy::new();
        rt.block_on(async {
            for _ in 0..4 { again(busy.0.clone()) }
            let (mut ours, mut theirs) = common::socket_pair();
            for _ in 0..10 {
                theirs.write_all(b"x").unwrap();
                ours.read_exact(&mut [0; 1]).await.unwrap();
                sleep(MS).await;
                spawn(async {}).await.unwrap();
            }
        });
    }

    fn c11_b18_a_task_that_reads_an_always_ready_socket_must_yield(rt: Runtime) {
        rt.block_on(async {
            const BYTES: usize = 20_000;
            let (mut ours, mut theirs) = common::socket_pair();
            assert!(theirs.write(&[7; BYTES]).unwrap() == BYTES, "it all fits");
            let (reading, done) = (Arc::new(AtomicUsize::new(0)), Flag::new());
            let (count, end) = (reading.clone(), done.clone());
            // Pinned beside a pinned witness: if the reader never gave way, the witness would see nothing between 0 and the end.
            let reader = spawn_local(async move {
                let mut byte = [0; 1];
                for _ in 0..BYTES { ours.read_exact(&mut byte).await.unwrap(); count.fetch_add(1, SeqCst); }
                end.set();
            });
            let mut steps = Vec::new();
            while !done.is_set() { steps.push(reading.load(SeqCst)); yield_now().await }
            reader.await.unwrap();
            let longest = steps.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(BYTES);
            assert!(longest <= 1000, "{longest} reads in one handle ({} steps)", steps.len());
        });
    }

    fn c11_b18_ready_leaf_futures_of_every_kind_use_up_a_budget(rt: Runtime) {
        // A loop over leaf futures that are always ready must give way; the witness runs on the same loop.
        rt.block_on(async {
            let polls_between = |work: std::pin::Pin<Box<dyn Future<Output = ()>>>| async move {
                let witness = Arc::new(AtomicUsize::new(0));
                let (count, on) = (witness.clone(), Arc::new(AtomicBool::new(true)));
                let off = on.clone();
                let spin = spawn_local(async move { while on.load(SeqCst) { count.fetch_add(1, SeqCst); yield_now().await } });
                yield_now().await;
                let before = witness.load(SeqCst);
                work.await;
                off.store(false, SeqCst);
                spin.await.unwrap();
                witness.load(SeqCst) - before
            };
            // 5000 leaf operations at a budget of 128 are 39 handles.
            let (ours, _theirs) = common::socket_pair();
            let mut ours = ours;
            let writes = polls_between(Box::pin(async move { for _ in 0..5000 { ours.write_all(b"x").await.unwrap() } }));
            // The buffer takes 5000 small writes or not; if not they wait, which the reader below prevents.
            let mut theirs = _theirs;
            let drain = thread::spawn(move || { theirs.set_nonblocking(false).unwrap(); let mut left = 5000; let mut buf = [0; 512];
                while left > 0 { left -= std::io::Read::read(&mut theirs, &mut buf).unwrap() } });
            assert!(writes.await >= 10, "socket writes give way");
            drain.join().unwrap();
            let past = std::time::Instant::now();
            let sleeps = polls_between(Box::pin(async move { for _ in 0..5000 { epicycle::time::sleep_until(past).await } }));
            assert!(sleeps.await >= 10, "sleeps that are due give way");
            let tasks: Vec<_> = (0..5000).map(|i| spawn(async move { i })).collect();
            for task in &tasks { eventually_async("done", || task.done()).await }
            let joins = polls_between(Box::pin(async move { for task in tasks { task.await.unwrap(); } }));
            assert!(joins.await >= 10, "joins of tasks that are done give way");
            let mut ticks = interval(Duration::from_nanos(1));
            let intervals = polls_between(Box::pin(async move { for _ in 0..5000 { ticks.tick().await; } }));
            assert!(intervals.await >= 10, "interval ticks give way");
        });
    }

    fn c11_b19_remote_submissions_are_picked_up_within_a_bounded_number_of_handles(rt: Runtime) {
        let busy = Busy::new();
        rt.block_on(async {
            // Every loop is busy with its own queue.
            for event_loop in rt.loops() { for _ in 0..4 { let spin = busy.spin().0; event_loop.spawn_local(move || spin); } }
            sleep(2 * MS).await;
            for kind in 0..3 * rt.loops().len() {
                let ran = Arc::new(AtomicBool::new(false));
                let (set, handle, index) = (ran.clone(), rt.handle(), kind / 3);
                // The submission is complete when the thread has been joined, inside this very handle.
                thread::spawn(move || match kind % 3 {
                    0 => drop(handle.spawn(async move { set.store(true, SeqCst) })),
                    1 => drop(handle.call_soon_threadsafe(move || set.store(true, SeqCst))),
                    _ => drop(handle.loops()[index].spawn_local(move || async move { set.store(true, SeqCst) })),
                }).join().unwrap();
                // With one loop the yields are turns of five handles each. With four, handles of other loops pass in parallel.
                let limit = if flavour() == Flavour::OneLoop { 200 } else { 200_000 };
                yields_until(limit, || ran.load(SeqCst)).await;
            }
        });
    }

    fn c11_b46_timers_fire_beside_busy_tasks_and_in_busy_tasks(rt: Runtime) {
        let busy = Busy::new();
        rt.block_on(async {
            for _ in 0..8 { drop(spawn(busy.spin().0)); drop(spawn_local(busy.spin().0)) }
            for _ in 0..10 {
                assert!(timeout(MS, pending::<()>()).await.is_err());
                assert!(spawn(timeout(MS, pending::<()>())).await.unwrap().is_err());
                assert!(timeout(MS, async { loop { yield_now().await } }).await.is_err());
            }
        });
    }

    fn c11_b57_a_timer_completes_though_its_poller_wakes_itself_each_time(rt: Runtime) {
        rt.block_on(async {
            let mut polls = 0usize;
            let mut timer = pin!(sleep(5 * MS));
            poll_fn(|cx| { polls += 1; cx.waker().wake_by_ref(); timer.as_mut().poll(cx) }).await;
            assert!(polls > 1);
            let task = spawn(async {
                let mut timer = pin!(sleep(5 * MS));
                poll_fn(|cx| { cx.waker().wake_by_ref(); timer.as_mut().poll(cx) }).await;
            });
            task.await.unwrap();
        });
    }

    fn c11_always_ready_tasks_share_a_loop_evenly(rt: Runtime) {
        let busy = Busy::new();
        rt.block_on(async {
            let counts: Vec<_> = (0..10).map(|_| { let (spin, polls) = busy.spin(); spawn_local(spin); polls }).collect();
            eventually_async("they run", || counts.iter().all(|polls| polls.load(SeqCst) >= 500)).await;
            let counts: Vec<usize> = counts.iter().map(|polls| polls.load(SeqCst)).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 1, "pinned tasks are FIFO, so they take turns: {counts:?}");
        });
    }

    fn c11_a_flood_of_posts_does_not_starve_what_is_on_the_loop(rt: Runtime) {
        // Foreign threads post to loop 0 as fast as they can, callbacks and tasks.
        let rt = Arc::new(rt);
        let on = Busy::new();
        let floods: Vec<_> = (0..2).map(|_| {
            let (rt, on) = (rt.clone(), on.0.clone());
            thread::spawn(move || while on.load(SeqCst) {
                for _ in 0..50 { rt.loops()[0].call_soon_threadsafe(|| ()); rt.spawn(async {}); }
                thread::sleep(Duration::from_micros(50));
            })
        }).collect();
        rt.block_on(async {
            let (mut ours, mut theirs) = common::socket_pair();
            for _ in 0..30 {
                theirs.write_all(b"x").unwrap();
                ours.read_exact(&mut [0; 1]).await.unwrap();
                sleep(Duration::from_micros(500)).await;
                spawn_local(async { yield_now().await }).await.unwrap();
            }
        });
        drop(on);
        for flood in floods { flood.join().unwrap() }
    }
}
