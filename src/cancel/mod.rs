//! Stopping work that is under way: by dropping it, or by asking it.
//!
//! # Two ways to stop
//!
//! **Dropping** is the rule in Rust, and needs nothing from this module. A future that is dropped is gone, with its
//! destructors run and nothing else: [`Task::cancel`](crate::Task::cancel), [`timeout`](crate::timeout), a
//! [`TaskGroup`](crate::TaskGroup) that cancels its children, a branch of a `select` that lost. The code that is stopped
//! is not consulted. It cannot refuse, it cannot be forgotten, and it cannot await anything on the way out.
//!
//! **Asking** is what asyncio and trio do: the code is told at its next *checkpoint*, by an error that it passes up with `?`,
//! and on the way out it may await, finish a transaction, say good-bye to its peer, or even decide to return a value.
//! That takes its cooperation: whoever never comes to a checkpoint never stops. This module is for it.
//!
//! | the code to be stopped | use |
//! |---|---|
//! | owns memory, sockets, locks: what destructors can give back | dropping |
//! | is not yours, or might not cooperate | dropping |
//! | must await to end well: a closing handshake, a flush, a rollback | a [`CancelScope`] |
//! | is to be told why | a [`CancelScope`] with a reason |
//! | must be over when you go on | dropping, and awaiting the [`Task`](crate::Task) or the group; or a scope |
//!
//! A `drop` cannot wait. Dropping a [`TaskGroup`](crate::TaskGroup) or its `join` cancels the children, which end at their
//! next suspension points, perhaps after the code that dropped it went on. `task.cancel()` and then `task.await` waits for the
//! end (curio's `cancel(blocking=True)`), and so does cancelling a group and then joining it. A future that is *asked* can do
//! that waiting itself, since it goes on running.
//!
//! # Checkpoints
//!
//! trio makes a checkpoint of every operation. Here the body says which of its awaits may be interrupted:
//!
//! | in the body | when the scope is cancelled |
//! |---|---|
//! | `scope.guard(future).await?` | `future` is dropped; if it has not begun, it never does |
//! | `scope.check()?`, `scope.checkpoint().await?` | fail |
//! | `scope.cancelled().await` | completes, with who and why |
//! | `future.await` | goes on: it is part of what has to be finished |
//!
//! The request is a state, not an event: *every* checkpoint fails from then on, so that it cannot be lost by code that
//! swallows one error, or by one that arrives together with a success (gh-86296). Clean-up that
//! needs checkpoints of its own, with a time limit, runs in a [`shielded`](CancelScope::shielded) scope.
//!
//! ```
//! use std::time::Duration;
//! use epicycle::cancel::{CancelScope, Cancelled, Ended};
//! use epicycle::time::sleep;
//!
//! async fn transaction(scope: &CancelScope) -> Result<u32, Cancelled> {
//!     let work = scope.guard(sleep(Duration::from_secs(60))).await;
//!     if work.is_err() {
//!         // The rollback may await, but not for ever.
//!         let limit = scope.shielded().with_timeout(Duration::from_secs(5));
//!         let _ = limit.run(async |limit| limit.guard(sleep(Duration::from_millis(1))).await).await?;
//!     }
//!     work.map(|()| 42)
//! }
//!
//! epicycle::run(async {
//!     let scope = CancelScope::new().with_timeout(Duration::from_millis(5));
//!     let end = scope.run(transaction).await;
//!     assert!(matches!(end, Ok(Ended::Cancelled(cancelled)) if cancelled.is_timeout()));
//! });
//! ```
//!
//! # Who is meant
//!
//! Scopes nest, by [`child`](CancelScope::child). A [`Cancelled`] names the scope it belongs to, and
//! [`run`](CancelScope::run) tells three ends apart: it was my cancellation ([`Ended::Cancelled`]), it was that of
//! a scope around me (an `Err` that passes through), or it was some other error (an `Err` as well, as it is).
//!
//! A task that is spawned takes part by being given a scope (a clone, or a `child`), as any argument is given: there is no
//! hidden current scope. A group's [`spawn_cooperative`](crate::future::GroupHandle::spawn_cooperative) does so, and a group
//! [`within`](crate::TaskGroup::within) a scope stops its children and waits for them when the scope is cancelled.
//!
//! *Invariant.* Cancelled or not is asked, never sent: `node.rs`. *Threads.* Any. *Ordering.* `node.rs`.

#![forbid(unsafe_code)]

mod cancelled;
mod node;
mod scope;
mod wait;
mod waker_set;

pub use cancelled::{Cancelled, CarriesCancelled, Ended};
pub use scope::CancelScope;
pub use wait::{Guard, WaitCancelled};

pub(crate) use waker_set::{WakerSet, wake_all};
