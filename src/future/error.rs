//! The errors of a [`Promise`](super::Promise), by asyncio's names.
//!
//! *Invariant.* None of them loses what it was given. *Threads.* Any. *Ordering.* None.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The operation does not fit the state: a result that is set already, or one that is not set yet.
///
/// What could not be put in comes back: [`into_inner`](Self::into_inner).
///
/// Counterpart: asyncio's `InvalidStateError`.
///
/// ```
/// use epicycle::Promise;
/// let promise = Promise::new();
/// promise.set_result("first").unwrap();
/// let error = promise.set_result("second").unwrap_err();
/// assert_eq!(error.to_string(), "invalid state: the result is set already");
/// assert_eq!(error.into_inner(), "second");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InvalidStateError<T = ()> {
    value: T,
    state: Invalid,
}

/// In which way it does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Invalid {
    Done,
    NotReady,
    Taken,
}

impl<T> InvalidStateError<T> {
    pub(super) fn new(value: T, state: Invalid) -> Self {
        Self { value, state }
    }

    /// What was not put in.
    ///
    /// ```
    /// let promise = epicycle::Promise::new();
    /// promise.cancel();
    /// assert_eq!(promise.set_result("too late").unwrap_err().into_inner(), "too late");
    /// ```
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> fmt::Display for InvalidStateError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            Invalid::Done => "invalid state: the result is set already",
            Invalid::NotReady => "invalid state: the result is not ready",
            Invalid::Taken => "invalid state: the result was taken already",
        })
    }
}

impl<T> fmt::Debug for InvalidStateError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvalidStateError({:?})", self.state)
    }
}

impl<T> Error for InvalidStateError<T> {}

/// It was cancelled, or everybody who could have completed it is gone.
///
/// Counterpart: asyncio's `CancelledError`. Tasks have [`JoinError`](crate::JoinError) instead, which has panics to tell of,
/// too.
///
/// ```
/// use epicycle::{CancelledError, Promise, PromiseError};
/// let promise = Promise::<u8>::new();
/// promise.cancel();
/// assert!(matches!(promise.result(), Err(PromiseError::Cancelled(CancelledError { .. }))));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CancelledError {}

impl fmt::Display for CancelledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was cancelled")
    }
}

impl Error for CancelledError {}

/// What [`Promise::set_exception`](crate::Promise::set_exception) was given; shared by all who retrieve it.
///
/// ```
/// use epicycle::{Promise, future::Exception};
///
/// let promise = Promise::<u8>::new();
/// promise.set_exception("no luck").unwrap();
/// let error: Exception = promise.exception().unwrap().unwrap();
/// assert_eq!(error.to_string(), "no luck");
/// ```
pub type Exception = Arc<dyn Error + Send + Sync>;

/// Why a [`Promise`](crate::Promise) has no value to give.
///
/// ```
/// use epicycle::{Promise, PromiseError};
///
/// epicycle::run(async {
///     let promise = Promise::<u8>::new();
///     assert!(promise.result().unwrap_err().is_invalid_state());
///     promise.set_exception("no luck").unwrap();
///     match promise.await {
///         Err(PromiseError::Exception(exception)) => assert_eq!(exception.to_string(), "no luck"),
///         other => panic!("{other:?}"),
///     }
/// });
/// ```
#[derive(Clone, Debug)]
pub enum PromiseError {
    /// It was cancelled, or nobody is left who could have completed it.
    Cancelled(CancelledError),
    /// The error that it was completed with.
    Exception(Exception),
    /// There is no value yet, or it was taken already.
    InvalidState(InvalidStateError),
}

impl PromiseError {
    pub(super) fn cancelled() -> Self {
        Self::Cancelled(CancelledError {})
    }

    pub(super) fn invalid(state: Invalid) -> Self {
        Self::InvalidState(InvalidStateError::new((), state))
    }

    /// It was cancelled.
    ///
    /// ```
    /// let promise = epicycle::Promise::<u8>::new();
    /// promise.cancel();
    /// assert!(promise.result().unwrap_err().is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// There was no value yet, or it was taken already.
    ///
    /// ```
    /// let promise = epicycle::Promise::<u8>::new();
    /// assert!(promise.result().unwrap_err().is_invalid_state()); // not yet
    /// ```
    pub fn is_invalid_state(&self) -> bool {
        matches!(self, Self::InvalidState(_))
    }

    /// The error that it was completed with.
    ///
    /// ```
    /// let promise = epicycle::Promise::<u8>::new();
    /// promise.set_exception("no luck").unwrap();
    /// let error = promise.result().unwrap_err();
    /// assert_eq!(error.exception().unwrap().to_string(), "no luck");
    /// ```
    pub fn exception(&self) -> Option<&Exception> {
        match self {
            Self::Exception(exception) => Some(exception),
            _ => None,
        }
    }
}

impl fmt::Display for PromiseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(error) => error.fmt(f),
            Self::Exception(error) => error.fmt(f),
            Self::InvalidState(error) => error.fmt(f),
        }
    }
}

impl Error for PromiseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Its own text has been shown as ours.
            Self::Exception(exception) => exception.source(),
            _ => None,
        }
    }
}

impl From<CancelledError> for PromiseError {
    fn from(error: CancelledError) -> Self {
        Self::Cancelled(error)
    }
}

impl From<InvalidStateError> for PromiseError {
    fn from(error: InvalidStateError) -> Self {
        Self::InvalidState(error)
    }
}
