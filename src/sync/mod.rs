//! For tasks and threads to wait for each other: asyncio's locks and queues, between all loops.
//!
//! | asyncio | Tokio | here |
//! |---|---|---|
//! | `Lock` | `sync::Mutex` | [`Mutex`], [`MutexGuard`], [`OwnedMutexGuard`] |
//! | `Event` | `sync::Notify` | [`Event`] |
//! | `Condition` | - | [`Condition`] |
//! | `Semaphore`, `BoundedSemaphore` | `sync::Semaphore` | [`Semaphore`], [`SemaphorePermit`], [`OwnedSemaphorePermit`] |
//! | `Barrier` | `sync::Barrier` | [`Barrier`] |
//! | `Queue` | `sync::mpsc` (async-channel) | [`Queue`] |
//! | `PriorityQueue`, `LifoQueue` | - | [`PriorityQueue`], [`LifoQueue`] |
//!
//! All of them keep asyncio's promises. *First come, first served*: there is one line, and while somebody stands in it no
//! newcomer goes ahead (but for the nowait forms of the queues, which look at the items only, as asyncio's do). *Nothing is
//! lost by giving up*: whoever was chosen and is dropped before it ran passes on what it had. What is free is had at once,
//! without letting other tasks run (as long as the task's cooperative budget lasts). Unlike asyncio's they belong to no loop.
//! Tasks of any loop and any runtime, a loop on its own, futures under another executor and, with the `blocking_` forms, plain
//! threads all stand in the same line.
//!
//! *Invariant.* Each primitive is a few fields and one or more `lot.rs` (lines of waiters) under one lock, and `wait.rs` is
//! everybody's future; a permit, a lock or a reservation is always in exactly one hand: free, held, or granted to one waiter.
//! *Threads.* Any. *Ordering.* Each primitive's lock, which is held for a few instructions; wakers are called after it. The one
//! piece of user code that runs under it is the comparison of a [`PriorityQueue`]'s items.

#![forbid(unsafe_code)]

mod barrier;
mod blocking;
mod condition;
mod event;
mod lot;
mod mutex;
mod permits;
mod queue;
mod semaphore;
mod wait;

pub use barrier::{Barrier, BrokenBarrierError};
pub use condition::Condition;
pub use event::Event;
pub use mutex::{Guard, Mutex, MutexGuard, OwnedMutexGuard};
pub use queue::{
    GetNowaitError, LifoQueue, PriorityQueue, PutNowaitError, Queue, QueueEmpty, QueueFull, QueueShutDown,
};
pub use semaphore::{OverReleaseError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
