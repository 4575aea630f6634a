//! Queues (`epicycle::sync::{Queue, PriorityQueue, LifoQueue}`; asyncio's S0-08 and N64-N69).
//!
//! The order of a line is checked by polling futures by hand on the test's own thread; that nothing is lost or doubled between
//! loops is stressed by tasks of all flavours, which are cancelled at random; hops are counted on one loop. Plain threads take
//! part where a test says so.

mod common;

use std::cmp::{Ordering, Reverse};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::{DropProbe, Flag, Turns, eventually, eventually_async, panics_with, with_timeout};
use epicycle::sync::{
    GetNowaitError, LifoQueue, PriorityQueue, PutNowaitError, Queue, QueueEmpty, QueueFull, QueueShutDown,
};
use epicycle::{EventLoop, Runtime, spawn, yield_now};
use futures_lite::future::poll_once;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

fn poll<T>(future: &mut Boxed<'_, T>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A future that was polled and waits.
#[track_caller]
fn waiting<'a, T: 'a>(future: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
    let mut future: Boxed<'a, T> = Box::pin(future);
    assert!(poll(&mut future).is_none(), "it has to wait");
    future
}

/// A future that needs one poll.
#[track_caller]
fn now<'a, T: 'a>(future: impl Future<Output = T> + Send + 'a) -> T {
    poll(&mut (Box::pin(future) as Boxed<'a, T>)).expect("it need not wait")
}

const GONE: QueueShutDown = QueueShutDown(());

#[test]
fn all_types_are_send_and_sync_as_their_items_are_send() {
    type SendOnly = std::cell::Cell<u8>;
    fn both<T: Send + Sync>() {}
    both::<(Queue<SendOnly>, LifoQueue<SendOnly>, PriorityQueue<SendOnly>)>();
    fn send<T: Send>(_: T) {}
    let queue: Queue<SendOnly> = Queue::new(1);
    send((queue.put(SendOnly::new(1)), queue.get(), queue.join()));
}

#[test]
fn n64_getters_are_served_in_the_order_of_their_arrival() {
    let queue = Queue::new(0);
    let (mut first, mut second) = (waiting(queue.get()), waiting(queue.get()));
    queue.put_nowait('a').unwrap();
    // One put wakes one getter, and a newcomer does not take what it was woken for.
    assert!(poll(&mut second).is_none());
    let mut newcomer = waiting(queue.get());
    assert_eq!(queue.qsize(), 1);
    assert_eq!(poll(&mut first), Some(Ok('a')));
    now(queue.put('b')).unwrap();
    now(queue.put('c')).unwrap();
    assert_eq!((poll(&mut newcomer), poll(&mut second)), (Some(Ok('b')), Some(Ok('c'))));
    assert!(queue.empty());
}

#[test]
fn n64_putters_are_served_in_the_order_of_their_arrival() {
    let queue = Queue::new(2);
    now(queue.put(1)).unwrap();
    now(queue.put(2)).unwrap();
    assert!(queue.full());
    let (mut third, mut fourth) = (waiting(queue.put(3)), waiting(queue.put(4)));
    assert_eq!(queue.get_nowait(), Ok(1));
    assert!(poll(&mut fourth).is_none());
    let mut newcomer = waiting(queue.put(5));
    assert_eq!(poll(&mut third), Some(Ok(())));
    assert_eq!(now(queue.get()), Ok(2));
    assert_eq!(now(queue.get()), Ok(3));
    assert_eq!((poll(&mut fourth), poll(&mut newcomer)), (Some(Ok(())), Some(Ok(()))));
    assert_eq!((queue.get_nowait(), queue.get_nowait(), queue.get_nowait()), (Ok(4), Ok(5), Err(QueueEmpty)));
}

#[test]
fn n64_a_chosen_getter_that_is_dropped_leaves_its_item_to_the_next() {
    let queue = Queue::new(0);
    let (first, mut second) = (waiting(queue.get()), waiting(queue.get()));
    queue.put_nowait(1).unwrap();
    drop(first);
    assert_eq!(poll(&mut second), Some(Ok(1)));
    // With nobody behind it the item stays.
    let only = waiting(queue.get());
    queue.put_nowait(2).unwrap();
    drop(only);
    assert_eq!(now(queue.get()), Ok(2));
    // One that was not chosen disturbs nothing.
    let (first, mut second) = (waiting(queue.get()), waiting(queue.get()));
    drop(first);
    queue.put_nowait(3).unwrap();
    assert_eq!(poll(&mut second), Some(Ok(3)));
}

#[test]
fn n64_a_chosen_putter_that_is_dropped_leaves_its_place_to_the_next_and_drops_its_item() {
    let probe = DropProbe::new();
    let queue = Queue::new(1);
    queue.put_nowait(probe.guard()).unwrap();
    let (first, mut second) = (waiting(queue.put(probe.guard())), waiting(queue.put(probe.guard())));
    drop(queue.get_nowait().unwrap());
    assert_eq!(probe.count(), 1);
    drop(first);
    assert_eq!(probe.count(), 2);
    assert!(poll(&mut second).is_some());
    assert!(queue.full());
    drop(second);
    drop(queue);
    assert_eq!(probe.count(), 3);
}

#[test]
fn s0_08_a_getter_that_loses_the_race_waits_again_in_its_old_place() {
    let queue = Queue::new(0);
    let (mut first, mut second) = (waiting(queue.get()), waiting(queue.get()));
    queue.put_nowait(1).unwrap();
    assert_eq!(queue.get_nowait(), Ok(1));
    assert!(poll(&mut first).is_none(), "it looks again, and waits again");
    queue.put_nowait(2).unwrap();
    assert!(poll(&mut second).is_none());
    assert_eq!(poll(&mut first), Some(Ok(2)));
    queue.put_nowait(3).unwrap();
    assert_eq!(poll(&mut second), Some(Ok(3)));
    // The same before it looked: the next put finds it chosen already.
    let mut getter = waiting(queue.get());
    queue.put_nowait(4).unwrap();
    assert_eq!(queue.get_nowait(), Ok(4));
    queue.put_nowait(5).unwrap();
    assert_eq!(poll(&mut getter), Some(Ok(5)));
}

#[test]
fn s0_08_a_putter_that_loses_the_race_waits_again_in_its_old_place() {
    let queue = Queue::new(1);
    queue.put_nowait(1).unwrap();
    let (mut first, mut second) = (waiting(queue.put(2)), waiting(queue.put(3)));
    assert_eq!(queue.get_nowait(), Ok(1));
    queue.put_nowait(9).unwrap();
    assert!(poll(&mut first).is_none());
    assert_eq!(queue.get_nowait(), Ok(9));
    assert!(poll(&mut second).is_none());
    assert_eq!(poll(&mut first), Some(Ok(())));
    assert_eq!(queue.get_nowait(), Ok(2));
    assert_eq!(poll(&mut second), Some(Ok(())));
}

#[test]
fn a_get_that_is_polled_again_takes_no_second_item() {
    let queue = Queue::new(0);
    queue.put_nowait(1).unwrap();
    queue.put_nowait(2).unwrap();
    let mut get: Boxed<'_, _> = Box::pin(queue.get());
    assert_eq!(poll(&mut get), Some(Ok(1)));
    panics_with("after it had completed", || poll(&mut get));
    assert_eq!(queue.qsize(), 1);
}

#[test]
fn n65_the_nowait_forms_say_empty_and_full_and_give_back() {
    let queue = Queue::new(1);
    assert_eq!(queue.get_nowait(), Err(QueueEmpty));
    assert_eq!(queue.put_nowait("a"), Ok(()));
    assert_eq!(queue.put_nowait("b"), Err(QueueFull("b")));
    assert_eq!(queue.put_nowait("b").unwrap_err().to_string(), "the queue is full");
    assert_eq!(queue.get_nowait(), Ok("a"));
    assert_eq!(queue.get_nowait().unwrap_err().to_string(), "the queue is empty");
    let endless = Queue::default();
    (0..1000).for_each(|n| endless.put_nowait(n).unwrap());
    assert_eq!((endless.maxsize(), endless.full(), endless.qsize()), (0, false, 1000));
    assert_eq!(format!("{endless:?}"), "Queue { qsize: 1000, maxsize: 0, shutdown: false, .. }");
}

#[test]
fn n66_the_lowest_first_and_the_oldest_of_equals() {
    let queue = PriorityQueue::new(0);
    for (n, priority) in [3, 1, 2, 1, 3, 2].into_iter().enumerate() {
        queue.put_nowait(ByPriority(priority, n)).unwrap();
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.get_nowait().ok()).map(|item| (item.0, item.1)).collect();
    assert_eq!(order, [(1, 1), (1, 3), (2, 2), (2, 5), (3, 0), (3, 4)]);
    let highest = PriorityQueue::new(0);
    [1, 3, 2].into_iter().for_each(|n| highest.put_nowait(Reverse(n)).unwrap());
    assert_eq!(now(highest.get()), Ok(Reverse(3)));
    // Put between the waking of a getter and its run: the lower one is what it gets.
    let queue = PriorityQueue::new(0);
    let mut getter = waiting(queue.get());
    queue.put_nowait(2).unwrap();
    queue.put_nowait(1).unwrap();
    assert_eq!(poll(&mut getter), Some(Ok(1)));
}

/// Compares by its first number only.
struct ByPriority(u32, usize);

impl Ord for ByPriority {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for ByPriority {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByPriority {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByPriority {}

#[test]
fn n66_the_newest_first() {
    let queue = LifoQueue::new(3);
    [1, 2, 3].into_iter().for_each(|n| queue.put_nowait(n).unwrap());
    assert_eq!(queue.put_nowait(4), Err(QueueFull(4)));
    assert_eq!([queue.get_nowait(), queue.get_nowait(), queue.get_nowait()], [Ok(3), Ok(2), Ok(1)]);
}

#[test]
fn n67_join_waits_until_every_item_is_done() {
    let queue = Queue::new(0);
    now(queue.join());
    queue.put_nowait(1).unwrap();
    queue.put_nowait(2).unwrap();
    let (mut join, mut other) = (waiting(queue.join()), waiting(queue.join()));
    queue.get_nowait().unwrap();
    queue.task_done();
    assert!(poll(&mut join).is_none());
    queue.get_nowait().unwrap();
    assert!(poll(&mut join).is_none(), "taken is not done");
    queue.task_done();
    // All go, even if there is new work before they run.
    queue.put_nowait(3).unwrap();
    assert!(poll(&mut join).is_some() && poll(&mut other).is_some());
    drop(waiting(queue.join()));
    queue.task_done();
    panics_with("too many times", || queue.task_done());
}

#[test]
fn n68_shutdown_lets_getters_drain_and_fails_putters() {
    let queue = Queue::new(2);
    queue.put_nowait(1).unwrap();
    queue.put_nowait(2).unwrap();
    let (mut first, mut second) = (waiting(queue.put(3)), waiting(queue.put(4)));
    queue.shutdown(false);
    assert_eq!((poll(&mut first), poll(&mut second)), (Some(Err(QueueShutDown(3))), Some(Err(QueueShutDown(4)))));
    assert_eq!(now(queue.put(5)), Err(QueueShutDown(5)));
    assert_eq!(queue.put_nowait(6), Err(PutNowaitError::ShutDown(6)));
    assert!(queue.is_shutdown());
    assert_eq!((now(queue.get()), queue.get_nowait()), (Ok(1), Ok(2)));
    assert_eq!((now(queue.get()), queue.get_nowait()), (Err(GONE), Err(GetNowaitError::ShutDown)));
    // The work goes on being counted.
    let mut join = waiting(queue.join());
    queue.task_done();
    queue.task_done();
    assert!(poll(&mut join).is_some());
    queue.shutdown(false);
    queue.shutdown(true);
}

#[test]
fn n68_shutdown_wakes_getters_who_find_nothing() {
    let queue = Queue::new(0);
    let mut line = [waiting(queue.get()), waiting(queue.get()), waiting(queue.get())];
    queue.put_nowait(1).unwrap();
    queue.shutdown(false);
    assert_eq!(line.each_mut().map(poll), [Some(Ok(1)), Some(Err(GONE)), Some(Err(GONE))]);
}

#[test]
fn n68_a_putter_that_was_chosen_before_the_shutdown_fails_as_well() {
    let queue = Queue::new(1);
    queue.put_nowait(1).unwrap();
    let mut putter = waiting(queue.put(2));
    assert_eq!(queue.get_nowait(), Ok(1));
    queue.shutdown(false);
    assert_eq!(poll(&mut putter), Some(Err(QueueShutDown(2))));
}

#[test]
fn n69_an_immediate_shutdown_drops_the_items_and_their_work() {
    let probe = DropProbe::new();
    let queue = Queue::new(3);
    (0..3).for_each(|_| queue.put_nowait(probe.guard()).unwrap());
    let taken = queue.get_nowait().unwrap();
    let mut join = waiting(queue.join());
    queue.put_nowait(probe.guard()).unwrap();
    let mut putter = waiting(queue.put(probe.guard()));
    queue.shutdown(true);
    assert_eq!((probe.count(), queue.qsize()), (3, 0));
    assert!(poll(&mut putter).unwrap().is_err());
    assert!(now(queue.get()).is_err() && queue.get_nowait().is_err());
    assert!(poll(&mut join).is_none(), "one is still being worked on");
    drop(taken);
    queue.task_done();
    assert!(poll(&mut join).is_some());
    // With nothing in hand, join returns at once.
    let queue = Queue::new(0);
    queue.put_nowait(1).unwrap();
    let (mut join, mut getter) = (
        waiting(queue.join()),
        waiting(async {
            queue.get_nowait().unwrap();
            queue.get().await
        }),
    );
    queue.put_nowait(2).unwrap();
    queue.task_done();
    queue.shutdown(true);
    assert!(poll(&mut join).is_some());
    assert_eq!(poll(&mut getter), Some(Err(GONE)));
}

#[test]
fn items_are_dropped_outside_the_lock() {
    struct Nosy(Arc<Queue<Option<Nosy>>>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.0.qsize();
        }
    }
    with_timeout(|| {
        let queue = Arc::new(Queue::new(0));
        queue.put_nowait(Some(Nosy(queue.clone()))).unwrap();
        queue.shutdown(true);
        drop(queue.put_nowait(Some(Nosy(queue.clone()))));
        drop(queue.put(Some(Nosy(queue.clone()))));
    });
}

#[test]
fn a_comparison_that_panics_leaves_the_queue_usable() {
    #[derive(PartialEq, Eq, Debug)]
    struct Touchy(u8);
    impl PartialOrd for Touchy {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Touchy {
        fn cmp(&self, other: &Self) -> Ordering {
            assert!(self.0 != 13 && other.0 != 13, "on purpose");
            self.0.cmp(&other.0)
        }
    }
    let queue = PriorityQueue::new(0);
    queue.put_nowait(Touchy(1)).unwrap();
    panics_with("on purpose", || queue.put_nowait(Touchy(13)));
    assert_eq!(queue.qsize(), 2);
    assert!(queue.get_nowait().is_ok() && queue.get_nowait().is_ok());
    queue.put_nowait(Touchy(2)).unwrap();
    assert_eq!(queue.get_nowait(), Ok(Touchy(2)));
    (0..3).for_each(|_| queue.task_done());
}

// ------------------------------------------------------------------------------------------- hops, on one loop

/// Runs `body` on a loop of its own, and on the only loop of a runtime; with a count of its turns.
fn on_one_loop<F: Future<Output = ()>>(body: impl Fn(EventLoop, Turns) -> F) {
    let with_turns = async |event_loop: EventLoop| {
        let turns = Turns::start(&event_loop);
        yield_now().await;
        yield_now().await;
        body(event_loop, turns).await;
    };
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        event_loop.run_until_complete(with_turns(event_loop.clone())).unwrap();
        event_loop.close();
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        rt.block_on(async { with_turns(EventLoop::current()).await });
    });
}

async fn turns_of<T>(turns: &Turns, work: impl Future<Output = T>) -> (usize, T) {
    let before = turns.count();
    let value = work.await;
    (turns.count() - before, value)
}

#[test]
fn c05_hops_a_queue_that_has_an_item_or_room_takes_no_turn() {
    on_one_loop(|_, turns| async move {
        let queue = Queue::new(1);
        let work = async {
            for n in 0..10 {
                queue.put(n).await.unwrap();
                assert_eq!(queue.get().await, Ok(n));
                queue.task_done();
            }
            queue.join().await;
        };
        assert_eq!(turns_of(&turns, work).await.0, 0);
    });
}

#[test]
fn c05_hops_a_put_or_get_by_a_callback_takes_two() {
    on_one_loop(|event_loop, turns| async move {
        let queue = Arc::new(Queue::new(1));
        for n in 0..5 {
            let theirs = queue.clone();
            event_loop.call_soon(move || theirs.put_nowait(n).unwrap());
            assert_eq!(turns_of(&turns, queue.get()).await, (2, Ok(n)));
            queue.put(n).await.unwrap();
            let theirs = queue.clone();
            event_loop.call_soon(move || assert_eq!(theirs.get_nowait(), Ok(n)));
            assert_eq!(turns_of(&turns, queue.put(7)).await, (2, Ok(())));
            assert_eq!(queue.get().await, Ok(7));
        }
    });
}

#[test]
fn c11_a_task_that_never_waits_for_its_queue_lets_others_run() {
    on_one_loop(|event_loop, _| async move {
        let (queue, stop) = (Queue::new(1), Flag::new());
        let stopper = stop.clone();
        let task = event_loop.spawn_local(async move { stopper.set() });
        while !stop.is_set() {
            queue.put(1).await.unwrap();
            queue.get().await.unwrap();
        }
        task.await.unwrap();
    });
}

// ------------------------------------------------------------------------------------------------ between loops

/// Numbers that are random enough, and the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

common::flavours! {
    fn n64_every_item_arrives_once_from_many_to_many(rt: Runtime) {
        for maxsize in [1, 3, 0] {
            let queue = Arc::new(Queue::new(maxsize));
            let mut received = rt.block_on(async {
                let consumers: Vec<_> = (0..4).map(|_| {
                    let queue = queue.clone();
                    spawn(async move {
                        let mut received = Vec::new();
                        while let Ok(item) = queue.get().await {
                            received.push(item);
                            queue.task_done();
                        }
                        received
                    })
                }).collect();
                let producers: Vec<_> = (0..4).map(|producer| {
                    let queue = queue.clone();
                    spawn(async move {
                        for n in 0..500 { queue.put(producer * 500 + n).await.unwrap() }
                    })
                }).collect();
                for task in producers { task.await.unwrap() }
                queue.join().await;
                queue.shutdown(false);
                let mut received = Vec::new();
                for task in consumers {
                    let items = task.await.unwrap();
                    for producer in 0..4 {
                        assert!(items.iter().filter(|item| **item / 500 == producer).is_sorted(), "in order");
                    }
                    received.extend(items);
                }
                received
            });
            received.sort_unstable();
            assert!(received.into_iter().eq(0..2000));
        }
    }

    fn n64_no_item_is_lost_or_doubled_whatever_is_cancelled(rt: Runtime) {
        let (put, got) = (Arc::new(StdMutex::new(Vec::new())), Arc::new(StdMutex::new(Vec::new())));
        let queue = Arc::new(Queue::new(3));
        rt.block_on(async {
            let mut dice = Dice(0x2545_f491_4f6c_dd1d);
            let mut tasks = Vec::new();
            for n in 0..1500_u32 {
                // What is recorded after an await is recorded only if that returned: no other await is in between.
                let (queue, put, got) = (queue.clone(), put.clone(), got.clone());
                tasks.push(if n % 2 == 0 {
                    spawn(async move {
                        if queue.put(n).await.is_ok() { put.lock().unwrap().push(n) }
                    })
                } else {
                    spawn(async move {
                        let _ = poll_once(queue.join()).await;
                        if let Some(Ok(item)) = poll_once(queue.get()).await { got.lock().unwrap().push(item) }
                        if let Ok(item) = queue.get().await { got.lock().unwrap().push(item) }
                    })
                });
                if dice.below(3) == 0 {
                    let at = usize::try_from(dice.below(tasks.len() as u64)).unwrap();
                    tasks.swap_remove(at).cancel();
                }
                if dice.below(3) == 0 { yield_now().await }
                if n % 50 == 0 { epicycle::time::sleep(Duration::from_millis(1)).await }
            }
            queue.shutdown(false);
            while let Ok(item) = queue.get().await { got.lock().unwrap().push(item) }
            for task in tasks { let _ = task.await; }
        });
        // Cancelled ones may be about to end.
        eventually("all is recorded", || put.lock().unwrap().len() <= got.lock().unwrap().len());
        drop(rt);
        let (mut put, mut got) = (put.lock().unwrap().clone(), got.lock().unwrap().clone());
        put.sort_unstable();
        got.sort_unstable();
        assert_eq!(put, got);
        assert!(put.len() > 20, "the test does something");
    }

    fn n64_threads_and_tasks_share_a_queue(rt: Runtime) {
        let (work, results) = (Arc::new(Queue::new(2)), Arc::new(LifoQueue::new(2)));
        let threads: Vec<_> = (0..2).map(|_| {
            let (work, results) = (work.clone(), results.clone());
            thread::spawn(move || {
                while let Ok(n) = work.blocking_get() {
                    results.blocking_put(n * 2).unwrap();
                    work.task_done();
                }
            })
        }).collect();
        let sum: u64 = rt.block_on(async {
            let theirs = work.clone();
            let producer = spawn(async move { for n in 0..500_u64 { theirs.put(n).await.unwrap() } });
            let mut sum = 0;
            for _ in 0..500 { sum += results.get().await.unwrap() }
            producer.await.unwrap();
            sum
        });
        work.blocking_join();
        work.shutdown(false);
        for thread in threads { thread.join().unwrap() }
        assert_eq!(sum, 500 * 499);
    }

    fn n67_n68_workers_end_with_the_queue(rt: Runtime) {
        rt.block_on(async {
            let (queue, done) = (Arc::new(PriorityQueue::new(0)), Arc::new(AtomicUsize::new(0)));
            let workers: Vec<_> = (0..5).map(|_| {
                let (queue, done) = (queue.clone(), done.clone());
                spawn(async move {
                    while let Ok(n) = queue.get().await {
                        if n % 3 == 0 { yield_now().await }
                        done.fetch_add(1, SeqCst);
                        queue.task_done();
                    }
                })
            }).collect();
            for n in 0..300 { queue.put(n).await.unwrap() }
            queue.join().await;
            assert_eq!(done.load(SeqCst), 300);
            queue.shutdown(true);
            for worker in workers { worker.await.unwrap() }
        });
    }

    fn a_blocking_call_on_a_loops_thread_says_what_to_do_instead(rt: Runtime) {
        rt.block_on(async {
            let queue = Arc::new(Queue::new(0));
            panics_with("use `put(item).await` here", || queue.blocking_put(1));
            panics_with("`get().await`", || queue.blocking_get());
            panics_with("`join().await`", || queue.blocking_join());
            assert!(queue.empty());
            let theirs = queue.clone();
            epicycle::run_in_executor(move || for n in 0..1000 {
                theirs.blocking_put(n).unwrap();
                assert_eq!(theirs.blocking_get(), Ok(n));
            }).await.unwrap();
        });
    }

    fn c8_a_cancelled_task_gives_up_its_place(rt: Runtime) {
        rt.block_on(async {
            let (queue, probe) = (Arc::new(Queue::new(1)), DropProbe::new());
            queue.put(probe.guard()).await.unwrap();
            let (theirs, item) = (queue.clone(), probe.guard());
            let putter = spawn(async move { drop(theirs.put(item).await) });
            yield_now().await;
            putter.cancel();
            assert!(putter.await.unwrap_err().is_cancelled());
            eventually_async("its item is dropped", || probe.count() == 1).await;
            drop(queue.get().await.unwrap());
            assert!(queue.empty());
        });
    }
}

#[test]
fn n65_asyncios_names_of_the_errors_are_types_and_values() {
    fn take(queue: &Queue<&'static str>) -> Result<&'static str, QueueEmpty> {
        queue.get_nowait()
    }
    fn give(queue: &LifoQueue<u8>, item: u8) -> Result<(), QueueFull<u8>> {
        queue.put_nowait(item)?;
        Ok(())
    }
    assert_eq!(take(&Queue::new(0)), Err(QueueEmpty));
    let queue = LifoQueue::new(1);
    give(&queue, 1).unwrap();
    match give(&queue, 2) {
        Err(QueueFull(item)) => assert_eq!(item, 2),
        other => panic!("{other:?}"),
    }
    let error: QueueFull = QueueFull(());
    assert_eq!(error.into_inner(), ());
}
