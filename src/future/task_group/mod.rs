//! [`TaskGroup`]: tasks that end before the code that started them goes on.
//!
//! *Invariant.* When `join` or `scope` returns, every child's task is complete and its future gone; what went wrong in any of
//! them comes out of one `Err` or, if nobody waits any more, goes to the exception handler. *Threads.* Any.
//! *Ordering.* The lock of `state.rs`.

mod child;
mod error;
mod handle;
mod run;
mod start;
mod state;

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

#[doc(hidden)]
pub use child::Valueless;
#[doc(hidden)]
pub use error::Failure;
pub use error::{ChildError, GroupError};
pub use handle::GroupHandle;
pub use run::ScopeOutput;
pub use start::{StartError, TaskStatus};

use crate::cancel::{CancelScope, WaitCancelled};
use crate::event_loop::poll_proceed;
use crate::scheduler::tell;
use crate::task::{Event, Id, is_observed, try_id};
use state::Group;

/// Tasks that belong together: whoever started them waits for all, and if one fails, the others are cancelled.
///
/// - [`join`](Self::join) waits for every child, also for those that children start meanwhile.
/// - The first child that returns `Err` or panics cancels the others; all errors come out together, as a [`GroupError`], also if
///   there is only one.
/// - A child that is cancelled alone is no error. Nor is it, once the group is stopping, that the body or another child
///   returns the [`JoinError`](crate::JoinError) of a cancelled task, or a [`StartError`] without a cause.
/// - A child that returns a [`Cancelled`](crate::Cancelled) of the group's scope, or of one around it, is cancelled, too. That of
///   any other scope is an error: a time limit inside the child that it did not deal with, say. (If all errors of a group are
///   the `Cancelled` of one scope, the [`GroupError`] still finds its way to that scope.)
/// - Dropping the group, or a `join` that waits, cancels all children. A drop cannot wait: the children end at their next
///   suspension points, perhaps a little after the drop. Where that matters, [`cancel`](GroupHandle::cancel) and then join, or
///   work [within a scope](Self::within), which is asked to stop and does the waiting itself.
///
/// A child's [`Task`](crate::Task) gives its value. If the child failed, its error is the group's, and the task says that it is
/// cancelled; so the task may be dropped without anything being lost.
///
/// Children are started by [`spawn`](GroupHandle::spawn) and the other methods of [`GroupHandle`], which this type derefs to.
/// Children that are to start others are given a clone of the [`handle`](Self::handle).
///
/// Counterparts: asyncio's `TaskGroup`, trio's nursery, curio's `TaskGroup`, Tokio's `JoinSet` (which does not cancel on errors).
///
/// # Borrowing
///
/// Children are tasks: they run on any thread and may not borrow from the code that started them. Rust has no sound way to
/// allow it, since a future can be forgotten instead of dropped, and the children would go on with what they borrowed.
/// Futures that run concurrently *inside* the current task may borrow: that is [`LocalGroup`](crate::future::LocalGroup). The
/// body of a [`scope`](Self::scope) may, too.
///
/// # Examples
///
/// ```
/// use std::io;
/// use epicycle::TaskGroup;
///
/// epicycle::run(async {
///     let group = TaskGroup::new();
///     let one = group.spawn(async { Ok::<_, io::Error>(1) });
///     let two = group.spawn(async { Ok::<_, io::Error>("two") });
///     group.join().await.unwrap();
///     assert_eq!((one.await.unwrap(), two.await.unwrap()), (1, "two"));
/// });
/// ```
#[doc(alias = "JoinSet")]
#[doc(alias = "Nursery")]
#[must_use = "dropping the group cancels its children"]
pub struct TaskGroup {
    handle: GroupHandle,
    /// What it is within.
    outer: Option<CancelScope>,
}

/// When a group is done with waiting. curio's `TaskGroup(wait=..)`.
///
/// # Examples
///
/// The first of two mirrors that answers:
///
/// ```
/// use std::{future::pending, io};
/// use epicycle::TaskGroup;
/// use epicycle::future::Policy;
///
/// epicycle::run(async {
///     let group = TaskGroup::new().policy(Policy::FirstSuccess);
///     let _down = group.spawn(async { Err::<u8, _>(io::Error::from(io::ErrorKind::ConnectionRefused)) });
///     let _slow = group.spawn(pending::<io::Result<u8>>());
///     let good = group.spawn(async { Ok::<_, io::Error>(7) });
///     group.join().await.unwrap();
///     assert_eq!(group.winner(), Some(good.id()));
///     assert_eq!(good.await.unwrap(), 7);
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Policy {
    /// All children; the first error cancels the others.
    #[default]
    All,
    /// Until the first child ends with a value or an error; the others are cancelled. curio's `wait=any`.
    Any,
    /// Until the first child ends with a value; the others are cancelled. If none does, all their errors come out. curio's
    /// `wait=object`.
    FirstSuccess,
}

impl Policy {
    fn decides(self, has_value: bool, failed: bool) -> bool {
        match self {
            Policy::All => failed,
            Policy::Any => failed || has_value,
            Policy::FirstSuccess => has_value,
        }
    }
}

impl TaskGroup {
    /// A group without children.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let group = epicycle::TaskGroup::new();
    ///     assert!(group.is_empty());
    ///     group.join().await.unwrap(); // need not wait
    /// });
    /// ```
    #[expect(clippy::new_without_default, reason = "a group that nobody joins is a mistake")]
    pub fn new() -> Self {
        Self { handle: GroupHandle::new(Group::new(CancelScope::new())), outer: None }
    }

    /// A group inside a cancel scope. When that is cancelled, the children that were
    /// [spawned cooperatively](GroupHandle::spawn_cooperative) are asked to stop; `join` and `run` cancel the others, wait for
    /// all, and then pass the cancellation on, as a [`GroupError`] that [says so](GroupError::cancelled). Errors of children
    /// come before it; it is still pending then, for the next checkpoint.
    ///
    /// The body of [`run`](Self::run) is asked as well, not dropped: it should have its checkpoints in the group's
    /// [`cancel_scope`](GroupHandle::cancel_scope).
    ///
    /// ```
    /// use epicycle::cancel::{CancelScope, Ended};
    /// use epicycle::{GroupError, TaskGroup};
    ///
    /// epicycle::run(async {
    ///     let scope = CancelScope::new();
    ///     let end = scope.run(async |scope| {
    ///         let group = TaskGroup::within(scope);
    ///         group.spawn_cooperative(|scope| async move {
    ///             let who = scope.cancelled().await;
    ///             // Clean-up may await, and the group waits for it.
    ///             epicycle::yield_now().await;
    ///             Err::<(), _>(who)
    ///         });
    ///         scope.cancel();
    ///         group.join().await?;
    ///         Ok::<_, GroupError>("not cancelled")
    ///     }).await;
    ///     assert!(matches!(end, Ok(Ended::Cancelled(_))));
    /// });
    /// ```
    pub fn within(scope: &CancelScope) -> Self {
        Self { handle: GroupHandle::new(Group::new(scope.child())), outer: Some(scope.clone()) }
    }

    /// The same group, waiting for other than all.
    ///
    /// ```
    /// use epicycle::{TaskGroup, future::Policy};
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new().policy(Policy::Any);
    ///     let slow = group.spawn(std::future::pending::<Result<(), &str>>());
    ///     group.spawn(async { Ok::<_, &str>(1) });
    ///     group.join().await.unwrap();
    ///     assert!(slow.cancelled());
    /// });
    /// ```
    pub fn policy(self, policy: Policy) -> Self {
        self.group().set_policy(policy);
        self
    }

    /// The same group, keeping record of who has ended, for [`next_done`](Self::next_done). Without it nothing is kept of a
    /// child that has ended, so that a server can have one group for all its connections.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let group = epicycle::TaskGroup::new().record_done();
    ///     let task = group.spawn(async { Ok::<_, &str>(1) });
    ///     assert_eq!(group.next_done().await, Some(task.id()));
    ///     assert_eq!(group.next_done().await, None);
    /// });
    /// ```
    pub fn record_done(self) -> Self {
        self.group().record_done();
        self
    }

    /// What children need to start others.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let group = epicycle::TaskGroup::new();
    ///     let handle = group.handle();
    ///     group.spawn(async move {
    ///         handle.spawn(async { Err::<(), _>("a grandchild's") });
    ///         Ok::<_, &str>(())
    ///     });
    ///     assert_eq!(group.join().await.unwrap_err().errors()[0].to_string(), "a grandchild's");
    /// });
    /// ```
    pub fn handle(&self) -> GroupHandle {
        self.handle.clone()
    }

    fn group(&self) -> &Arc<Group> {
        self.handle.group()
    }

    /// Waits until all children have ended, and closes the group: what is spawned later is cancelled. On one loop, a group
    /// of tasks that do nothing takes three turns, as in asyncio.
    ///
    /// # Errors
    /// [`GroupError`] with all that went wrong in the children, given out once; or, [within](Self::within) a scope that was
    /// cancelled, with that cancellation.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits cancels all children. A second join may follow and waits for their end.
    ///
    /// ```
    /// use std::future::pending;
    /// use std::time::Duration;
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     let task = group.spawn(pending::<Result<(), &str>>());
    ///     assert!(epicycle::timeout(Duration::from_millis(1), group.join()).await.is_err());
    ///     assert!(group.join().await.is_ok()); // they were cancelled, and have ended now
    ///     assert!(task.cancelled());
    /// });
    /// ```
    pub async fn join(&self) -> Result<(), GroupError> {
        Watch::new(self).closed().await;
        // The children may have been asked, and have ended, before this looked for the first time.
        let cancelled = self.outer.as_ref().and_then(|outer| outer.check().err());
        self.group().take_result(cancelled)
    }

    /// The next child that has ended, by its task's id, in the order of their ends; each once. `None` once there are no
    /// children and all were given out. Counterpart: curio's `next_done`, and `async for` over a group.
    ///
    /// Errors cancel the others nevertheless, and come out of [`join`](Self::join). So does a cancellation: when the group is
    /// cancelled, or its [scope](GroupHandle::cancel_scope), or one around it, the children are stopped as by `join`. They are
    /// given out as they end, like any others, and then there is `None`; what cancelled them, `join` says.
    ///
    /// # Panics
    /// Without [`record_done`](Self::record_done).
    ///
    /// # Cancel safety
    /// Nothing is lost, and nobody cancelled.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new().record_done();
    ///     let slow = group.spawn(async { epicycle::yield_now().await; Ok::<_, &str>(1) });
    ///     let quick = group.spawn(async { Ok::<_, &str>(2) });
    ///     let mut order = Vec::new();
    ///     while let Some(id) = group.next_done().await {
    ///         order.push(id);
    ///     }
    ///     assert_eq!(order.len(), 2);
    ///     assert!(order.contains(&slow.id()) && order.contains(&quick.id()));
    ///     group.join().await.unwrap();
    /// });
    /// ```
    pub async fn next_done(&self) -> Option<Id> {
        assert!(self.group().records_done(), "next_done() needs a group made with TaskGroup::new().record_done()");
        let mut waiter = Waiter::new(self.group());
        poll_fn(|cx| {
            ready!(poll_proceed(cx));
            if is_observed() && !waiter.group.has_done() {
                waiter.tell_blocking();
            }
            if let Some(done) = waiter.group.poll_done(&mut waiter.key, cx) {
                waiter.tell_resumed();
                return Poll::Ready(done);
            }
            waiter.poll_scope(cx);
            Poll::Pending
        })
        .await
    }
}

impl Deref for TaskGroup {
    type Target = GroupHandle;

    fn deref(&self) -> &GroupHandle {
        &self.handle
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        self.group().abandon();
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("children", &self.len()).field("closed", &self.is_closed()).finish()
    }
}

/// A place among the group's waiters, and among those of its scope.
struct Waiter<'a> {
    group: &'a Group,
    key: Option<usize>,
    /// Until the scope was seen to be cancelled.
    scope: Option<WaitCancelled>,
    /// An instrument was told that it waits.
    told: bool,
}

impl<'a> Waiter<'a> {
    fn new(group: &'a Group) -> Self {
        Self { group, key: None, scope: Some(group.scope.cancelled()), told: false }
    }

    /// Stops the group when its scope is cancelled, or the one around it.
    fn poll_scope(&mut self, cx: &mut Context<'_>) {
        if let Some(scope) = &mut self.scope
            && let Poll::Ready(cancelled) = scope.poll_now(cx)
        {
            self.scope = None;
            // That of the group's own scope ends here.
            self.group.stop((!cancelled.is_of(&self.group.scope)).then_some(cancelled));
        }
    }

    /// Before a look that will find nothing, if nothing happens meanwhile: told before it can be woken.
    #[cold]
    fn tell_blocking(&mut self) {
        tell(|| Event::Blocking { task: try_id(), future: self.group.id() });
        if !self.told {
            tell(|| Event::WakerRegistered { task: try_id(), future: self.group.id() });
        }
        self.told = true;
    }

    fn tell_resumed(&self) {
        if self.told {
            tell(|| Event::FutureResumed { task: try_id(), future: self.group.id() });
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.group.leave(&mut self.key);
    }
}

/// Who waits for the end of a group. Giving up cancels it.
struct Watch<'a> {
    waiter: Waiter<'a>,
    finished: bool,
}

impl<'a> Watch<'a> {
    fn new(group: &'a TaskGroup) -> Self {
        Self { waiter: Waiter::new(group.group()), finished: false }
    }

    async fn closed(&mut self) {
        poll_fn(|cx| {
            ready!(poll_proceed(cx));
            if is_observed() && self.waiter.group.len() > 0 {
                self.waiter.tell_blocking();
            }
            if !self.waiter.group.poll_closed(&mut self.waiter.key, cx) {
                self.waiter.poll_scope(cx);
                return Poll::Pending;
            }
            self.finished = true;
            self.waiter.tell_resumed();
            Poll::Ready(())
        })
        .await;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.waiter.group.stop(None);
        }
    }
}
