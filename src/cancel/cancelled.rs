//! [`Cancelled`]: what a checkpoint of a cancelled scope gives, and how it finds its way home to that scope.
//!
//! *Invariant.* It names the scope that was cancelled, so a scope tells its own from those that are to pass through.
//! *Threads.* Any. *Ordering.* None: immutable.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

use super::CancelScope;

/// The number of a scope, unique in the process.
pub(super) type ScopeId = u64;

/// The scope around this code is cancelled: the error of every checkpoint inside it, to be passed up with `?`.
///
/// Counterparts: asyncio's `CancelledError` and trio's `Cancelled`, which carries a reason since trio 0.31.
///
/// # Examples
///
/// ```
/// use epicycle::CancelScope;
///
/// let scope = CancelScope::new();
/// scope.cancel_with("the user went away");
/// let cancelled = scope.check().unwrap_err();
/// assert_eq!(cancelled.reason(), Some("the user went away"));
/// assert!(cancelled.is_of(&scope) && !cancelled.is_timeout());
/// assert_eq!(cancelled.to_string(), "cancelled: the user went away");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    pub(super) scope: ScopeId,
    pub(super) cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Request(Option<Cow<'static, str>>),
    Deadline,
}

impl Cancelled {
    /// The reason that was given to [`CancelScope::cancel_with`], if the scope was cancelled with one.
    ///
    /// ```
    /// let scope = epicycle::CancelScope::new();
    /// scope.cancel();
    /// assert_eq!(scope.check().unwrap_err().reason(), None);
    /// ```
    pub fn reason(&self) -> Option<&str> {
        match &self.cause {
            Cause::Request(reason) => reason.as_deref(),
            Cause::Deadline => None,
        }
    }

    /// Whether the scope's deadline cancelled it, not somebody's request.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// let scope = epicycle::CancelScope::new().with_deadline(Instant::now());
    /// assert!(scope.check().unwrap_err().is_timeout());
    /// ```
    pub fn is_timeout(&self) -> bool {
        self.cause == Cause::Deadline
    }

    /// Whether it is `scope` that was cancelled, not one around it.
    ///
    /// ```
    /// let outer = epicycle::CancelScope::new();
    /// let inner = outer.child();
    /// outer.cancel();
    /// let cancelled = inner.check().unwrap_err();
    /// assert!(cancelled.is_of(&outer) && !cancelled.is_of(&inner));
    /// ```
    pub fn is_of(&self, scope: &CancelScope) -> bool {
        self.scope == scope.id()
    }

    pub(crate) fn is_same_scope(&self, other: &Cancelled) -> bool {
        self.scope == other.scope
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Request(Some(reason)) => write!(f, "cancelled: {reason}"),
            Cause::Request(None) => f.write_str("cancelled"),
            Cause::Deadline => f.write_str("cancelled: the deadline of the scope was reached"),
        }
    }
}

impl Error for Cancelled {}

impl From<Cancelled> for io::Error {
    /// Of the kind `TimedOut` if a deadline did it, else `Other`; `Interrupted` would have loops try again.
    fn from(cancelled: Cancelled) -> Self {
        let kind = if cancelled.is_timeout() { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
        io::Error::new(kind, cancelled)
    }
}

/// An error type that a [`Cancelled`] can travel in: what the body of [`CancelScope::run`] fails with.
///
/// A scope must find its own `Cancelled` in what its body returns. `Cancelled` itself, [`io::Error`], the boxed errors and
/// [`GroupError`](crate::GroupError) can do that; for an error type of your own it takes these lines:
///
/// ```
/// use epicycle::cancel::{CarriesCancelled, CancelScope, Cancelled, Ended};
///
/// #[derive(Debug)]
/// enum MyError { Cancelled(Cancelled), Other }
///
/// impl From<Cancelled> for MyError {
///     fn from(cancelled: Cancelled) -> Self { MyError::Cancelled(cancelled) }
/// }
///
/// impl CarriesCancelled for MyError {
///     fn as_cancelled(&self) -> Option<&Cancelled> {
///         match self { MyError::Cancelled(cancelled) => Some(cancelled), MyError::Other => None }
///     }
/// }
///
/// epicycle::run(async {
///     let scope = CancelScope::new();
///     let end = scope.run(async |scope| { scope.cancel(); scope.check()?; Err::<(), _>(MyError::Other) }).await;
///     assert!(matches!(end, Ok(Ended::Cancelled(_))));
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry the cancellation of a `CancelScope`",
    note = "let the body fail with `Cancelled`, `std::io::Error` or `Box<dyn std::error::Error + Send + Sync>`, or implement \
            `CarriesCancelled` for an error type of your own"
)]
pub trait CarriesCancelled: From<Cancelled> {
    /// The `Cancelled` inside, if this error is nothing else.
    ///
    /// ```
    /// use epicycle::cancel::{CancelScope, CarriesCancelled};
    /// use std::io;
    ///
    /// let scope = CancelScope::new();
    /// scope.cancel();
    /// let error = io::Error::from(scope.check().unwrap_err());
    /// assert!(error.as_cancelled().unwrap().is_of(&scope));
    /// assert!(io::Error::from(io::ErrorKind::NotFound).as_cancelled().is_none());
    /// ```
    fn as_cancelled(&self) -> Option<&Cancelled>;
}

impl CarriesCancelled for Cancelled {
    fn as_cancelled(&self) -> Option<&Cancelled> {
        Some(self)
    }
}

impl CarriesCancelled for io::Error {
    fn as_cancelled(&self) -> Option<&Cancelled> {
        self.get_ref()?.downcast_ref()
    }
}

impl CarriesCancelled for Box<dyn Error + Send + Sync> {
    fn as_cancelled(&self) -> Option<&Cancelled> {
        self.downcast_ref()
    }
}

impl CarriesCancelled for Box<dyn Error> {
    fn as_cancelled(&self) -> Option<&Cancelled> {
        self.downcast_ref()
    }
}

/// How the body of [`CancelScope::run`] ended, as far as the scope is concerned. What is not its business, the body's own
/// errors and the cancellation of a scope around it, comes out as `Err` instead.
///
/// Counterpart: trio's `CancelScope.cancelled_caught`; curio's distinction between "my timeout" and "an outer one's".
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use epicycle::cancel::{CancelScope, Cancelled, Ended};
/// use epicycle::time::sleep;
///
/// epicycle::run(async {
///     let scope = CancelScope::new().with_timeout(Duration::from_millis(1));
///     let end = scope.run(async |scope| scope.guard(sleep(Duration::from_secs(60))).await).await;
///     match end {
///         Ok(Ended::Finished(())) => unreachable!("that was too quick"),
///         Ok(Ended::Cancelled(cancelled)) => assert!(cancelled.is_timeout()), // ours
///         Err(escaped) => { let _: Cancelled = escaped; }                     // an outer scope's
///     }
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the body may have been cancelled"]
pub enum Ended<T> {
    /// The body ended with a value, cancelled or not.
    Finished(T),
    /// The body gave up because this scope was cancelled.
    Cancelled(Cancelled),
}

impl<T> Ended<T> {
    /// The value, if the body finished.
    ///
    /// ```
    /// use epicycle::cancel::{CancelScope, Cancelled};
    ///
    /// epicycle::run(async {
    ///     let scope = CancelScope::new();
    ///     let end = scope.run(async |scope| {
    ///         scope.cancel(); // comes to no checkpoint, so it makes no difference
    ///         Ok::<_, Cancelled>(42)
    ///     }).await;
    ///     assert_eq!(end.unwrap().finished(), Some(42));
    /// });
    /// ```
    pub fn finished(self) -> Option<T> {
        match self {
            Ended::Finished(value) => Some(value),
            Ended::Cancelled(_) => None,
        }
    }

    /// Whether this scope's cancellation ended the body. trio's `cancelled_caught`.
    ///
    /// ```
    /// use epicycle::cancel::{CancelScope, Cancelled};
    ///
    /// epicycle::run(async {
    ///     let scope = CancelScope::new();
    ///     scope.cancel();
    ///     let end = scope.run(async |scope| scope.checkpoint().await).await;
    ///     assert!(end.unwrap().is_cancelled());
    /// });
    /// ```
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Ended::Cancelled(_))
    }
}
