//! [`CancelScope`]: a piece of work that can be asked to stop, and stops by its own leave.
//!
//! *Invariant.* A scope takes one body at most. What the body returns is a value, this scope's own cancellation, or none of
//! its business; a cancellation of a scope around it is never taken for its own. *Threads.* Any. *Ordering.* `node.rs`.

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cancelled::{CarriesCancelled, Ended, ScopeId};
use super::node::Node;
use super::{Cancelled, Guard, WaitCancelled};
use crate::scheduler::yield_now;

/// A piece of work that can be asked to stop. The asking is not forgotten: it stands, and every checkpoint inside the scope
/// says so, until the work is over.
///
/// A handle: clones mean the same scope. Scopes form a tree; cancelling one cancels those below it, except behind a shield.
/// [`run`](Self::run) runs a body in it; a scope without a body is a plain signal to many tasks.
///
/// Counterparts: trio's `CancelScope`; asyncio's `Task.cancel`, `cancelling` and `uncancel`, for a piece of code instead of a
/// task; tokio-util's `CancellationToken`. [The module's page](crate::cancel) says when to use this and when to drop.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use epicycle::cancel::{CancelScope, Cancelled, Ended};
/// use epicycle::time::sleep;
///
/// epicycle::run(async {
///     let scope = CancelScope::new();
///     let stop = scope.clone();
///     let worker = epicycle::spawn(async move {
///         scope.run(async |scope| {
///             let work = scope.guard(sleep(Duration::from_secs(60))).await; // a checkpoint
///             sleep(Duration::from_millis(1)).await;                        // not one: clean-up takes its time
///             work.map(|()| "done")
///         }).await
///     });
///     stop.cancel_with("shutting down");
///     let Ok(Ended::Cancelled(cancelled)) = worker.await.unwrap() else { panic!() };
///     assert_eq!(cancelled.reason(), Some("shutting down"));
/// });
/// ```
#[doc(alias = "CancellationToken")]
#[derive(Clone)]
pub struct CancelScope {
    node: Arc<Node>,
}

impl CancelScope {
    /// A scope with nothing around it.
    ///
    /// ```
    /// let scope = epicycle::CancelScope::new();
    /// assert!(!scope.is_cancelled() && !scope.is_shielded() && scope.deadline().is_none());
    /// ```
    #[expect(clippy::new_without_default, reason = "two default scopes would not be equal")]
    pub fn new() -> Self {
        Self { node: Node::new(None, false) }
    }

    /// A scope inside this one: it is cancelled when this one is, and can be cancelled alone.
    ///
    /// Counterpart: tokio-util's `CancellationToken::child_token`.
    ///
    /// ```
    /// use epicycle::CancelScope;
    /// let outer = CancelScope::new();
    /// let inner = outer.child();
    /// outer.cancel();
    /// assert!(inner.check().unwrap_err().is_of(&outer));
    /// ```
    pub fn child(&self) -> Self {
        Self { node: Node::new(Some(self.node.clone()), false) }
    }

    /// A scope inside this one that does not see this one's cancellation, for work that has to be finished: asyncio's
    /// `shield`, trio's `CancelScope(shield=True)`. Give it a time limit.
    ///
    /// ```
    /// use epicycle::CancelScope;
    /// let outer = CancelScope::new();
    /// let inner = outer.shielded();
    /// outer.cancel();
    /// assert!(!inner.is_cancelled());
    /// inner.set_shield(false);
    /// assert!(inner.is_cancelled());
    /// ```
    pub fn shielded(&self) -> Self {
        Self { node: Node::new(Some(self.node.clone()), true) }
    }

    /// The same scope, to be cancelled at `deadline`.
    ///
    /// In a scope that was cancelled by its deadline, or whose body has ended, this changes nothing.
    ///
    /// Counterparts: trio's `move_on_at`, `asyncio.timeout_at`.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// let scope = epicycle::CancelScope::new().with_deadline(Instant::now());
    /// assert!(scope.is_cancelled());
    /// ```
    pub fn with_deadline(self, deadline: Instant) -> Self {
        self.set_deadline(Some(deadline));
        self
    }

    /// The same scope, to be cancelled once `limit` has passed, counted from this call. What is too long for the clock means
    /// never.
    ///
    /// Counterparts: trio's `move_on_after`, `asyncio.timeout`.
    ///
    /// ```
    /// use epicycle::cancel::{CancelScope, Cancelled};
    /// use std::{future::pending, time::Duration};
    ///
    /// epicycle::run(async {
    ///     let scope = CancelScope::new().with_timeout(Duration::from_millis(1));
    ///     let end: Result<_, Cancelled> = scope.run(async |scope| scope.guard(pending::<()>()).await).await;
    ///     assert!(end.unwrap().is_cancelled());
    /// });
    /// ```
    pub fn with_timeout(self, limit: Duration) -> Self {
        self.set_deadline(Instant::now().checked_add(limit));
        self
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn id(&self) -> ScopeId {
        self.node.id
    }

    /// Whether `cancelled` is of this scope or of one around it, shields or not.
    pub(crate) fn is_within(&self, cancelled: &Cancelled) -> bool {
        self.node.is_within(cancelled.scope)
    }

    // ---- cancelling ------------------------------------------------------------------------------------------------

    /// Asks for the scope to stop. True: its checkpoints will say so, unless the request is
    /// [taken back](Self::uncancel). False: its body has ended, and nothing happens.
    ///
    /// Requests are counted. asyncio's `Task.cancel()`.
    ///
    /// ```
    /// use epicycle::cancel::{CancelScope, Cancelled};
    ///
    /// epicycle::run(async {
    ///     let scope = CancelScope::new();
    ///     assert!(scope.cancel());
    ///     assert!(scope.check().is_err());
    ///
    ///     let over = CancelScope::new();
    ///     let _ended = over.run(async |_| Ok::<_, Cancelled>(())).await;
    ///     assert!(!over.cancel()); // too late
    /// });
    /// ```
    pub fn cancel(&self) -> bool {
        self.node.request(None)
    }

    /// The same with a reason, which [`Cancelled::reason`] gives back. The first reason stands. trio's `cancel(reason=..)`.
    ///
    /// ```
    /// let scope = epicycle::CancelScope::new();
    /// scope.cancel_with("shutting down");
    /// scope.cancel_with("no longer wanted");
    /// assert_eq!(scope.check().unwrap_err().reason(), Some("shutting down"));
    /// ```
    pub fn cancel_with(&self, reason: impl Into<Cow<'static, str>>) -> bool {
        self.node.request(Some(reason.into()))
    }

    /// How many requests stand against this scope itself. asyncio's `Task.cancelling()`.
    ///
    /// ```
    /// let scope = epicycle::CancelScope::new();
    /// scope.cancel();
    /// scope.cancel();
    /// assert_eq!(scope.cancelling(), 2);
    /// assert_eq!(scope.child().cancelling(), 0); // requests against the scope itself
    /// ```
    pub fn cancelling(&self) -> usize {
        self.node.requests()
    }

    /// Takes one request back and returns how many are left; with none left, the checkpoints pass again (except for a
    /// deadline that was reached, and for a scope around this one). asyncio's `Task.uncancel()`.
    ///
    /// ```
    /// use epicycle::CancelScope;
    /// let scope = CancelScope::new();
    /// scope.cancel();
    /// scope.cancel();
    /// assert_eq!(scope.uncancel(), 1);
    /// assert!(scope.is_cancelled());
    /// assert_eq!(scope.uncancel(), 0);
    /// assert!(!scope.is_cancelled());
    /// ```
    pub fn uncancel(&self) -> usize {
        self.node.take_back()
    }

    /// Whether a checkpoint in this scope would fail: because of the scope itself, or one around it.
    ///
    /// Counterpart: tokio-util's `CancellationToken::is_cancelled`.
    ///
    /// ```
    /// let outer = epicycle::CancelScope::new();
    /// let inner = outer.child();
    /// outer.cancel();
    /// assert!(inner.is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.node.status().is_some()
    }

    // ---- deadline and shield ---------------------------------------------------------------------------------------

    /// When the scope is to be cancelled, scopes around it not considered. asyncio's `Timeout.when()`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let when = Instant::now() + Duration::from_secs(60);
    /// let outer = epicycle::CancelScope::new().with_deadline(when);
    /// assert_eq!(outer.deadline(), Some(when));
    /// assert_eq!(outer.child().deadline(), None);
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.node.deadline()
    }

    /// Moves the deadline, or with `None` takes it away. False: too late, it was reached or the body has ended. asyncio's
    /// `Timeout.reschedule()`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let scope = epicycle::CancelScope::new().with_timeout(Duration::from_secs(60));
    /// assert!(scope.set_deadline(Some(Instant::now())));
    /// assert!(scope.is_cancelled());
    /// assert!(!scope.set_deadline(None)); // too late
    /// ```
    pub fn set_deadline(&self, deadline: Option<Instant>) -> bool {
        self.node.set_deadline(deadline)
    }

    /// Whether the scope's own deadline was reached before its body ended, also if the body finished in spite of it.
    /// asyncio's `Timeout.expired()`.
    ///
    /// ```
    /// use epicycle::CancelScope;
    /// use std::time::Instant;
    ///
    /// let (late, asked) = (CancelScope::new(), CancelScope::new());
    /// late.set_deadline(Some(Instant::now()));
    /// asked.cancel();
    /// assert!(late.expired() && !asked.expired());
    /// ```
    pub fn expired(&self) -> bool {
        self.node.expired()
    }

    /// Whether what is around this scope is hidden from it.
    ///
    /// Counterpart: trio's `CancelScope.shield`.
    ///
    /// ```
    /// let outer = epicycle::CancelScope::new();
    /// assert!(outer.shielded().is_shielded() && !outer.child().is_shielded());
    /// ```
    pub fn is_shielded(&self) -> bool {
        self.node.is_shielded()
    }

    /// Raises or lowers the shield. When it is lowered, a cancellation of a scope around this one takes effect.
    ///
    /// Counterpart: trio's `CancelScope.shield`.
    ///
    /// ```
    /// let outer = epicycle::CancelScope::new();
    /// let inner = outer.child();
    /// outer.cancel();
    /// inner.set_shield(true);
    /// assert!(inner.check().is_ok());
    /// inner.set_shield(false);
    /// assert!(inner.check().is_err());
    /// ```
    pub fn set_shield(&self, shielded: bool) {
        self.node.set_shielded(shielded);
    }

    // ---- checkpoints -----------------------------------------------------------------------------------------------

    /// A checkpoint that does not wait. curio's `check_cancellation`.
    ///
    /// # Errors
    /// [`Cancelled`] if the scope is cancelled. It names the outermost cancelled scope, for the error has to go that far.
    ///
    /// ```
    /// use epicycle::cancel::{CancelScope, Cancelled};
    ///
    /// fn search(scope: &CancelScope) -> Result<u32, Cancelled> {
    ///     for n in 0.. {
    ///         scope.check()?; // a loop that awaits nothing
    ///         if n == 3 {
    ///             scope.cancel();
    ///         }
    ///     }
    ///     unreachable!()
    /// }
    /// assert!(search(&CancelScope::new()).is_err());
    /// ```
    pub fn check(&self) -> Result<(), Cancelled> {
        self.node.status().map_or(Ok(()), Err)
    }

    /// A checkpoint that lets every other ready task go first. trio's `checkpoint()`.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    ///
    /// # Cancel safety
    /// Nothing to lose.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let scope = epicycle::CancelScope::new();
    ///     assert!(scope.checkpoint().await.is_ok());
    ///     scope.cancel();
    ///     assert!(scope.checkpoint().await.is_err());
    /// });
    /// ```
    pub async fn checkpoint(&self) -> Result<(), Cancelled> {
        yield_now().await;
        self.check()
    }

    /// Completes when the scope is cancelled.
    ///
    /// # Cancel safety
    /// Nothing to lose.
    ///
    /// Counterpart: tokio-util's `CancellationToken::cancelled`.
    ///
    /// ```
    /// use epicycle::CancelScope;
    ///
    /// epicycle::run(async {
    ///     let scope = CancelScope::new();
    ///     let (seen, told) = (scope.clone(), scope.clone());
    ///     let watcher = epicycle::spawn(async move { seen.cancelled().await });
    ///     told.cancel_with("shutting down");
    ///     assert_eq!(watcher.await.unwrap().reason(), Some("shutting down"));
    /// });
    /// ```
    pub fn cancelled(&self) -> WaitCancelled {
        WaitCancelled::new(self.clone())
    }

    /// A checkpoint that waits: runs `future` until the scope is cancelled, and drops it then. In a scope that is cancelled
    /// already it never starts. A value that is ready at that moment wins.
    ///
    /// tokio-util's `run_until_cancelled`.
    ///
    /// ```
    /// use std::future::pending;
    /// use epicycle::CancelScope;
    ///
    /// epicycle::run(async {
    ///     let scope = CancelScope::new();
    ///     assert_eq!(scope.guard(async { 1 }).await, Ok(1));
    ///     scope.cancel();
    ///     assert!(scope.guard(pending::<()>()).await.is_err());
    /// });
    /// ```
    ///
    /// # Errors
    /// As [`check`](Self::check).
    ///
    /// # Cancel safety
    /// That of `future`.
    pub fn guard<F: IntoFuture>(&self, future: F) -> Guard<F::IntoFuture> {
        Guard::new(self.clone(), future.into_future())
    }

    // ---- the body --------------------------------------------------------------------------------------------------

    /// Runs `body` in the scope. It is not dropped when the scope is cancelled: its next checkpoint fails, the body passes
    /// that up with `?`, cleans up on the way with as many `.await`s as it needs, and the error ends here, as
    /// [`Ended::Cancelled`]. A body that finishes nevertheless keeps its value; if its deadline had passed, that is logged as a
    /// warning, as curio does.
    ///
    /// When the future is dropped, the body is dropped with it, and the scope counts as cancelled for scopes below it.
    ///
    /// # Errors
    /// The body's, as they are. Also, if a scope around this one is cancelled, that one's [`Cancelled`], even if this one
    /// is cancelled as well: with several limits that expire together, the outermost speaks.
    ///
    /// # Panics
    /// When the scope has or had a body already: make a [`child`](Self::child) for each.
    ///
    /// # Cancel safety
    /// Dropping the future drops the body where it is; whether anything is lost is up to the body.
    ///
    /// ```
    /// use epicycle::cancel::{CancelScope, Cancelled, Ended};
    /// use std::future::pending;
    ///
    /// epicycle::run(async {
    ///     let (scope, mut log) = (CancelScope::new(), Vec::new());
    ///     let end: Result<Ended<()>, Cancelled> = scope.run(async |scope| {
    ///         scope.cancel();
    ///         let work = scope.guard(pending()).await;
    ///         epicycle::yield_now().await; // clean-up may await
    ///         log.push("cleaned up");
    ///         work
    ///     }).await;
    ///     assert!(end.unwrap().is_cancelled());
    ///     assert_eq!(log, ["cleaned up"]);
    /// });
    /// ```
    #[track_caller]
    pub fn run<T, E, B>(&self, body: B) -> impl Future<Output = Result<Ended<T>, E>> + use<'_, T, E, B>
    where
        B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
        E: CarriesCancelled,
    {
        assert!(self.node.enter(), "a CancelScope runs one body; make a child scope for each");
        let running = Running { scope: self, finished: false };
        async move {
            let result = body(running.scope).await;
            running.finish(result)
        }
    }
}

/// Ends the scope when the body does, on unwind and drop too.
struct Running<'a> {
    scope: &'a CancelScope,
    finished: bool,
}

impl Running<'_> {
    fn finish<T, E: CarriesCancelled>(mut self, result: Result<T, E>) -> Result<Ended<T>, E> {
        self.finished = true;
        let node = &self.scope.node;
        let error = match result {
            Ok(value) => {
                if node.expired() {
                    log::warn!(target: "epicycle", "a scope finished after its deadline");
                }
                return Ok(Ended::Finished(value));
            }
            Err(error) => error,
        };
        match error.as_cancelled().filter(|cancelled| cancelled.is_of(self.scope)).cloned() {
            None => Err(error),
            // The outer one was cancelled while this one's error was on its way.
            Some(own) => node.outer_status().map_or(Ok(Ended::Cancelled(own)), |outer| Err(E::from(outer))),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.scope.node.request(Some("the future that ran the scope was dropped".into()));
        }
        self.scope.node.leave();
    }
}

impl PartialEq for CancelScope {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.node, &other.node)
    }
}

impl Eq for CancelScope {}

impl fmt::Debug for CancelScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelScope").field("id", &self.node.id).field("cancelled", &self.node.own_cause()).finish()
    }
}
