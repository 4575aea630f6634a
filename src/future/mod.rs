//! Futures made of tasks and of each other: promises, gathering, waiting, shielding, racing.
//!
//! | asyncio | Tokio | here |
//! |---|---|---|
//! | `loop.create_future()`, `Future` | `sync::oneshot` | [`Promise`] |
//! | `gather(*aws)` | - | [`gather`](gather()), [`gather!`](crate::gather!), [`try_gather`], [`gather_local`], [`gather_tasks`] |
//! | `wait(tasks)` | - | [`wait`], [`try_wait`] |
//! | `as_completed(aws)` | `task::JoinSet` | [`as_completed`], [`as_completed_tasks`] |
//! | `shield(aw)` | - | [`shield`] |
//! | `TaskGroup` | `task::JoinSet` | [`TaskGroup`], [`LocalGroup`] |
//! | - | `join!`, `try_join!`, `select!` | [`join!`](crate::join!), [`try_join!`](crate::try_join!), [`select!`](crate::select!) |
//!
//! ```
//! use epicycle::{Promise, gather};
//!
//! epicycle::run(async {
//!     let promise = Promise::new();
//!     let setter = promise.clone();
//!     let both = gather!(promise, async move { setter.set_result("set").is_ok() });
//!     let (value, was_first) = both.await.unwrap();
//!     assert_eq!((value.unwrap(), was_first), ("set", true));
//! });
//! ```
//!
//! *Invariant.* What completes somewhere makes ready who waits for it, and never runs it. *Threads.* Any. *Ordering.* The locks'.

#![forbid(unsafe_code)]

mod arms;
mod as_completed;
mod children;
mod error;
mod gather;
mod local_group;
mod macros;
mod promise;
mod shield;
mod tally;
mod task_group;
mod try_gather;
mod wait;

pub use as_completed::{AsCompleted, AsCompletedInTime, as_completed, as_completed_tasks};
pub use children::Children;
pub use error::{CancelledError, Exception, InvalidStateError, PromiseError};
pub use gather::{Gather, GatherAll, gather, gather_local, gather_tasks};
pub use local_group::LocalGroup;
pub use promise::{CallbackId, Promise, SharedPromise};
pub use shield::{Shield, shield};
pub use tally::Watch;
pub use task_group::{ChildError, GroupError, GroupHandle, Policy, ScopeOutput, StartError, TaskGroup, TaskStatus};
pub use try_gather::{TryGather, TryGatherError, try_gather};
pub use wait::{ReturnWhen, Wait, WatchResult, try_wait, wait};

/// For the macros, and of sealed traits; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use super::arms::{Branch, Cons, Either, Else, Join, Joined, Nil, Offer, Select, Unfailing, join, select};
    pub use super::gather::{Argument, Spawn, gather_children};
    pub use super::tally::Tally;
    pub use super::task_group::{Failure, Valueless};
}
