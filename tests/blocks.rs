//! The memory that threads keep for tasks to come: how much of it, until when, and that it is fit for every future (behaviour 20;
//! C8).
//!
//! One test, since what is counted is the process's.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::thread;

use epicycle::{Runtime, Task, spawn, spawn_local, yield_now};

/// What all threads keep together, as the engine says.
const DEPOT: isize = 1 << 20;

/// What a thread keeps beside that, of a size.
const STACKS: isize = 32 << 10;

/// What else of these sizes there may be, also by way of stacks of other sizes than a test is about.
const SLACK: isize = 128 << 10;

/// Counts the bytes in blocks of the sizes that are kept.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

fn counted(layout: Layout) -> isize {
    let is_cells = layout.align() == 8 && layout.size() % 16 == 8 && (72..=264).contains(&layout.size());
    if is_cells { layout.size() as isize } else { 0 }
}

// SAFETY: it is `System`, which is asked with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(counted(layout), Relaxed);
        ALLOCATED.fetch_add(counted(layout), Relaxed);
        // SAFETY: the caller's word.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(counted(layout), Relaxed);
        // SAFETY: the caller's word.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> isize {
    LIVE.load(Relaxed)
}

fn runtime(loops: usize) -> Runtime {
    Runtime::builder().worker_threads(loops).build().unwrap()
}

#[test]
fn b20_blocks_are_kept_within_bounds() {
    common::with_timeout(|| {
        a_burst_is_given_back();
        other_sizes_find_room();
        what_travels_finds_room_after_a_burst_of_another_size();
        threads_give_back_what_they_kept();
        threads_free_tasks_in_their_exit_destructors();
        every_size_and_alignment();
    });
}

async fn burst(tasks: usize) {
    let tasks: Vec<_> = (0..tasks).map(|i| spawn(async move { i })).collect();
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), i);
    }
}

fn a_burst_is_given_back() {
    let before = live();
    let rt = runtime(2);
    for _ in 0..3 {
        rt.block_on(burst(100_000));
        // Ours, as loop 0's, and loop 1's.
        let kept = live() - before;
        assert!(kept <= DEPOT + 2 * STACKS + SLACK, "{kept} bytes kept with two threads");
    }
}

fn other_sizes_find_room() {
    let rt = runtime(1);
    rt.block_on(async {
        burst(10_000).await;
        let before = ALLOCATED.load(Relaxed);
        // Were all room taken by the others, each of these would come from the allocator and go there.
        for _ in 0..10_000 {
            let large = [1u64; 16];
            let task = spawn_local(async move {
                yield_now().await;
                large.iter().sum::<u64>()
            });
            assert_eq!(task.await.unwrap(), 16);
        }
        let allocated = ALLOCATED.load(Relaxed) - before;
        assert!(allocated <= SLACK, "{allocated} bytes for one task at a time");
    });
}

/// Cells that this thread makes and loop 1 frees go round by the depot, whatever filled that before.
fn what_travels_finds_room_after_a_burst_of_another_size() {
    let rt = runtime(2);
    let large = |n: usize| async move {
        let tasks: Vec<_> = (0..n)
            .map(|i| {
                let large = [i as u64; 16];
                spawn_local(async move {
                    yield_now().await;
                    large[3]
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), i as u64);
        }
    };
    rt.block_on(large(30_000));
    let post = |batches: usize| {
        for _ in 0..batches {
            for _ in 0..500 {
                let bytes = [1u64; 4];
                rt.loops()[1].call_soon_threadsafe(move || assert_eq!(bytes[0], 1));
            }
            let (send, receive) = std::sync::mpsc::channel();
            rt.loops()[1].call_soon_threadsafe(move || send.send(()).unwrap());
            receive.recv().unwrap();
        }
    };
    post(100);
    let before = ALLOCATED.load(Relaxed);
    post(200);
    let allocated = ALLOCATED.load(Relaxed) - before;
    // One by one they would be ten megabytes.
    assert!(allocated <= 1 << 20, "{allocated} bytes for 100 000 posts");
}

fn threads_give_back_what_they_kept() {
    let before = live();
    for _ in 0..20 {
        runtime(2).block_on(burst(10_000));
        thread::spawn(|| runtime(1).block_on(burst(10_000))).join().unwrap();
    }
    let kept = live() - before;
    assert!(kept <= DEPOT + STACKS + SLACK, "{kept} bytes kept with one thread");
}

fn threads_free_tasks_in_their_exit_destructors() {
    thread_local! {
        static FIRST: RefCell<Vec<(Waker, Task<usize>)>> = const { RefCell::new(Vec::new()) };
        static LAST: RefCell<Vec<(Waker, Task<usize>)>> = const { RefCell::new(Vec::new()) };
    }
    let before = live();
    for _ in 0..60 {
        let exit = || {
            // Registered before and after the stacks' own end.
            FIRST.with(|_| ());
            runtime(2).block_on(async {
                burst(1000).await;
                LAST.with(|_| ());
                for i in 0..1000 {
                    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone()));
                    let (send, receive) = std::sync::mpsc::channel();
                    let task = spawn(async move {
                        send.send(waker.await).unwrap();
                        i
                    });
                    while !task.done() {
                        yield_now().await
                    }
                    let list = if i % 2 == 0 { &FIRST } else { &LAST };
                    list.with_borrow_mut(|list| list.push((receive.recv().unwrap(), task)));
                }
            });
        };
        thread::spawn(exit).join().unwrap();
    }
    let kept = live() - before;
    // Each list's tasks alone would be three times as much.
    assert!(kept <= DEPOT + SLACK, "{kept} bytes lost by threads that have ended");
}

/// A future of some size and alignment, which says whether it is where it may be.
struct Placed<T>(T);

impl<T: Copy + PartialEq + Unpin + std::fmt::Debug> Future for Placed<(T, T)> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        let (first, second) = &self.0;
        assert_eq!(&raw const *first as usize % align_of::<T>(), 0);
        assert_eq!(first, second);
        Poll::Ready(*first)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
struct Wide([u64; 8]);

fn every_size_and_alignment() {
    async fn check<T: Copy + PartialEq + Unpin + Send + std::fmt::Debug + 'static>(value: T) {
        for _ in 0..3 {
            let tasks: Vec<_> = (0..50).map(|_| spawn(Placed((value, value)))).collect();
            for task in tasks {
                assert_eq!(task.await.unwrap(), value)
            }
        }
    }
    runtime(2).block_on(async {
        check(()).await;
        check(7u8).await;
        check([7u8; 3]).await;
        check([7u64; 2]).await;
        check([7u64; 7]).await;
        check([7u64; 8]).await;
        check([7u64; 9]).await;
        check([7u64; 11]).await;
        check([7u64; 12]).await;
        check([7u64; 32]).await;
        check(7u128).await;
        check([7u128; 5]).await;
        check(Wide([7; 8])).await;
    });
}
