//! Many loops: sharing work, waking each other, standing in for each other.
//!
//! *Invariant.* `README.md` in this folder is the sleep and wake protocol with its proof; the code is its transcription.
//! Everything not pinned can be taken by an idle loop at once.
//!
//! *Threads.* `worker.rs` and `watcher.rs`: a loop's own; `drive.rs`: the threads themselves; the rest any. *Ordering.*
//! `README.md`.

mod alone;
mod blocking;
mod context;
mod drive;
mod executor;
pub(crate) mod idle;
pub(crate) mod injector;
mod jobs;
mod report;
mod shared;
mod spawn;
pub(crate) mod tenancy;
mod watcher;
mod worker;

pub use jobs::{Executor, Job};
pub use spawn::{YieldNow, run_in_executor, run_in_executor_on, spawn, spawn_local, yield_now};

pub(crate) use context::{Entered, Missing, enter, try_current, works_for};
pub(crate) use drive::{block_on, close_vacant_loop, run_background};
pub(crate) use executor::Threads;
pub(crate) use jobs::{run_in_executor_of, run_in_executor_on_of};
pub(crate) use report::{report, shield_waker};
pub(crate) use shared::{Anchor, OUTSIDE, Options, Shared};
pub(crate) use spawn::{NO_RUNTIME, call_soon_on, home, report_error, spawn_at, spawn_from, tell, try_timer_home};
