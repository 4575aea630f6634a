//! [`try_gather`]: as gather, for futures that may fail.
//!
//! *Invariant.* An `Err` is marked in the tally before its task ends, so that its done-callback counts as a failure. *Threads.*
//! Any. *Ordering.* `tally.rs`.

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::children::{Children, output};
use super::gather::Gather;
use super::tally::{Goal, Tally};
use crate::scheduler::spawn;
use crate::task::{JoinError, Task};

/// Spawns all `futures` at once, in order, and gives their values in that order; or the first error.
///
/// The first of them to return an `Err`, to panic or to be cancelled ends the waiting. The others run on, as in
/// [`gather`](crate::gather()), and what becomes of them is of no interest. (To have them cancelled instead, drop them: that is
/// what a task group does, and [`try_join!`](crate::try_join!) for futures that are no tasks.)
///
/// *Cancel safety.* Dropping the [`TryGather`] cancels the children that have not ended.
///
/// Counterpart: `asyncio.gather`, where an exception is what an `Err` is here.
///
/// # Panics
/// Outside a runtime.
///
/// ```
/// use epicycle::{try_gather, future::TryGatherError};
///
/// epicycle::run(async {
///     let parse = |text: &'static str| async move { text.parse::<u8>() };
///     assert_eq!(try_gather(["1", "2"].map(parse)).await.unwrap(), [1, 2]);
///     match try_gather(["1", "two"].map(parse)).await {
///         Err(TryGatherError::Failed(error)) => assert_eq!(error.to_string(), "invalid digit found in string"),
///         other => panic!("{other:?}"),
///     }
/// });
/// ```
#[track_caller]
pub fn try_gather<I, T, E>(futures: I) -> TryGather<T, E>
where
    I: IntoIterator,
    I::Item: IntoFuture<IntoFuture: Send + 'static, Output = Result<T, E>>,
    T: Send + 'static,
    E: Send + 'static,
{
    let tally = Tally::new("gather", Goal::Failure, 0);
    let mut gather = Gather::empty(tally.clone());
    for (index, future) in futures.into_iter().enumerate() {
        let (future, tally) = (future.into_future(), tally.clone());
        gather.push(spawn(async move {
            let result = future.await;
            if result.is_err() {
                tally.mark(index);
            }
            result
        }));
    }
    TryGather { gather: gather.begin() }
}

/// The future of [`try_gather`].
///
/// # Panics
/// When awaited again after it gave its result.
///
/// ```
/// use epicycle::{future::TryGather, try_gather};
/// use std::num::ParseIntError;
///
/// epicycle::run(async {
///     let gathered: TryGather<u8, ParseIntError> = try_gather(["1", "2"].map(|text| async move { text.parse() }));
///     assert_eq!(gathered.await.unwrap(), [1, 2]);
/// });
/// ```
#[must_use = "dropping it cancels the children"]
#[derive(Debug)]
pub struct TryGather<T, E> {
    gather: Gather<Vec<Task<Result<T, E>>>>,
}

impl<T, E> Future for TryGather<T, E> {
    type Output = Result<Vec<T>, TryGatherError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (mut children, failed) = ready!(self.gather.poll_children(cx));
        let flatten = |result| match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(TryGatherError::Failed(error)),
            Err(error) => Err(TryGatherError::Join(error)),
        };
        let Some(index) = failed else {
            return Poll::Ready(children.results().into_iter().map(flatten).collect());
        };
        let first = output(children.swap_remove(index));
        children.into_iter().for_each(Task::detach_quietly);
        Poll::Ready(flatten(first).map(|value| vec![value]))
    }
}

/// Why a [`try_gather`] has no values.
///
/// ```
/// use epicycle::{future::TryGatherError, try_gather};
///
/// epicycle::run(async {
///     let check = |n: u8| async move {
///         assert!(n > 0);
///         if n > 1 { Ok(n) } else { Err("too few") }
///     };
///     assert!(matches!(try_gather([1].map(check)).await, Err(TryGatherError::Failed("too few"))));
///     assert!(matches!(try_gather([0].map(check)).await, Err(TryGatherError::Join(error)) if error.is_panic()));
/// });
/// ```
#[derive(Debug)]
pub enum TryGatherError<E> {
    /// One of the futures returned this.
    Failed(E),
    /// One of the tasks panicked or was cancelled.
    Join(JoinError),
}

impl<E> TryGatherError<E> {
    /// What a future returned.
    ///
    /// # Errors
    /// If a task panicked or was cancelled instead.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let error = epicycle::try_gather([async { Err::<(), _>("no") }]).await.unwrap_err();
    ///     assert_eq!(error.into_failed().unwrap(), "no");
    /// });
    /// ```
    pub fn into_failed(self) -> Result<E, JoinError> {
        match self {
            Self::Failed(error) => Ok(error),
            Self::Join(error) => Err(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for TryGatherError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Join(error) => error.fmt(f),
        }
    }
}

impl<E: Error> Error for TryGatherError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::Join(error) => error.source(),
        }
    }
}

impl<E> From<JoinError> for TryGatherError<E> {
    fn from(error: JoinError) -> Self {
        Self::Join(error)
    }
}
