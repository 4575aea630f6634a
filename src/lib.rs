//! A work-stealing async runtime in which every worker thread owns a whole asyncio-style event loop: a ready queue, a timer
//! heap and a selector. Idle loops steal ready tasks from busy ones, and serve the sockets and timers of a loop that is
//! stuck.
//!
//! ```
//! use std::time::Duration;
//!
//! let greeting = epicycle::run(async {
//!     let task = epicycle::spawn(async {
//!         epicycle::time::sleep(Duration::from_millis(10)).await;
//!         "hello"
//!     });
//!     task.await.unwrap()
//! });
//! assert_eq!(greeting, "hello");
//! ```
//!
//! *For those who read the source:* the rooms below import only from rooms above them. `scheduler/worker.rs` is the page to
//! read first.

#![warn(missing_debug_implementations, unnameable_types)]

mod primitive;

pub mod task;

mod event_loop;
mod scheduler;

pub mod runtime;

pub mod context;
pub mod io;
pub mod net;
pub mod signal;
pub mod time;

pub mod cancel;
pub mod future;
pub mod process;
pub mod streams;
pub mod sync;

#[cfg(feature = "hyper")]
pub mod hyper;

#[cfg(all(test, epicycle_loom))]
#[path = "../loom_tests/mod.rs"]
mod loom_tests;

pub use cancel::{CancelScope, Cancelled};
pub use event_loop::{EventLoop, LoopHandle, LoopStopped};
pub use future::{
    CancelledError, GroupError, InvalidStateError, Promise, PromiseError, ReturnWhen, TaskGroup, as_completed,
    as_completed_tasks, gather, gather_local, gather_tasks, shield, try_gather, try_wait, wait,
};
pub use runtime::{Builder, Runner, Runtime, RuntimeHandle, run};
pub use scheduler::{YieldNow, run_in_executor, run_in_executor_on, spawn, spawn_local, yield_now};
pub use task::{
    ErrorContext, Event, FutureId, Handle, Instrument, JoinError, JoinHandle, Task, TimerHandle, current_task,
};
pub use time::{TimeoutError, timeout, timeout_at, wait_for};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[doc = include_str!("coming_from_asyncio.md")]
pub mod coming_from_asyncio {}
