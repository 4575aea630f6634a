//! [`as_completed`]: many at once, each result as it comes.
//!
//! *Invariant.* Each task is given once, in the order of the done-callbacks. Nothing is cancelled. *Threads.* Any. *Ordering.*
//! `tally.rs`.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_lite::Stream;

use super::children::output;
use super::tally::{Goal, Tally, Watch};
use crate::scheduler::spawn;
use crate::task::{JoinError, Task};
use crate::time::{Sleep, TimeoutError, sleep};

/// Spawns all `futures` at once, in order, and gives the outcome of each as it ends.
///
/// It is a [`Stream`], and has a [`next`](AsCompleted::next) of its own.
///
/// *Cancel safety.* Dropping it cancels nothing: what has not ended runs on, detached. Use
/// [`into_tasks`](AsCompleted::into_tasks) to keep hold of the rest.
///
/// Counterparts: `asyncio.as_completed`; `futures::stream::FuturesUnordered`.
///
/// # Panics
/// Outside a runtime.
///
/// ```
/// use epicycle::as_completed;
/// use std::time::Duration;
///
/// epicycle::run(async {
///     let mut results = as_completed([20, 1].map(|ms| async move {
///         epicycle::time::sleep(Duration::from_millis(ms)).await;
///         ms
///     }));
///     while let Some(result) = results.next().await {
///         println!("{} ms are over", result.unwrap());
///     }
/// });
/// ```
#[track_caller]
pub fn as_completed<I>(futures: I) -> AsCompleted<<I::Item as IntoFuture>::Output>
where
    I: IntoIterator,
    I::Item: IntoFuture<IntoFuture: Send + 'static, Output: Send + 'static>,
{
    let mut tasks = Vec::new();
    for future in futures {
        tasks.push(spawn(future.into_future()));
    }
    as_completed_tasks(tasks)
}

/// As [`as_completed`], for tasks: they are taken over, not spawned again.
///
/// ```
/// epicycle::run(async {
///     let tasks = [epicycle::spawn(async { 1 }), epicycle::spawn_local(async { 2 })];
///     let mut results = epicycle::as_completed_tasks(tasks);
///     let (a, b) = (results.next().await.unwrap().unwrap(), results.next().await.unwrap().unwrap());
///     assert_eq!(a + b, 3);
///     assert!(results.next().await.is_none());
/// });
/// ```
pub fn as_completed_tasks<T>(tasks: impl IntoIterator<Item = Task<T>>) -> AsCompleted<T> {
    let tasks: Vec<_> = tasks.into_iter().collect();
    let tally = Tally::new("as_completed", Goal::Each, tasks.len());
    let left = tasks.len();
    let watch = |(index, task): (usize, Task<T>)| {
        let number = Watch::watch(&task, &tally, index);
        Some((task, number))
    };
    let tasks = tasks.into_iter().enumerate().map(watch).collect();
    tally.tell_created();
    AsCompleted { tasks, left, tally }
}

/// The stream of [`as_completed`].
///
/// ```
/// use epicycle::{as_completed, future::AsCompleted};
/// use futures_lite::StreamExt;
///
/// epicycle::run(async {
///     let results: AsCompleted<u8> = as_completed([1, 2].map(|n| async move { n }));
///     let sum = StreamExt::map(results, Result::unwrap).fold(0, |sum, n| sum + n).await;
///     assert_eq!(sum, 3);
/// });
/// ```
#[must_use = "it does nothing unless it is asked for the next"]
pub struct AsCompleted<T> {
    /// Those not given yet, each with the number of its callback.
    tasks: Vec<Option<(Task<T>, u32)>>,
    left: usize,
    tally: Arc<Tally>,
}

impl<T> AsCompleted<T> {
    /// The outcome of the task that ends next; `None` when all have been given.
    ///
    /// *Cancel safety.* Dropped, it loses nothing.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let (slow, quick) = (epicycle::spawn(std::future::pending()), epicycle::spawn(async { 2 }));
    ///     let mut results = epicycle::as_completed_tasks([slow, quick]);
    ///     assert_eq!(results.next().await.unwrap().unwrap(), 2);
    /// });
    /// ```
    pub async fn next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| self.poll_task(cx)).await
    }

    /// How many have not been given yet.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let mut results = epicycle::as_completed([1, 2].map(|n| async move { n }));
    ///     assert_eq!(results.remaining(), 2);
    ///     results.next().await;
    ///     assert_eq!(results.remaining(), 1);
    /// });
    /// ```
    pub fn remaining(&self) -> usize {
        self.left
    }

    /// The tasks whose outcome has not been given yet, in the order of the arguments.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let tasks = [epicycle::spawn(std::future::pending()), epicycle::spawn(async { 2 })];
    ///     let mut results = epicycle::as_completed_tasks(tasks);
    ///     results.next().await;
    ///     let rest = results.into_tasks();
    ///     assert_eq!(rest.len(), 1);
    ///     rest[0].cancel();
    /// });
    /// ```
    pub fn into_tasks(mut self) -> Vec<Task<T>> {
        self.unwatch()
    }

    /// From `limit` from now on, gives a [`TimeoutError`] for each task that has not ended.
    ///
    /// Counterpart: the `timeout` of `asyncio.as_completed`.
    ///
    /// ```
    /// use epicycle::as_completed;
    /// use std::time::Duration;
    ///
    /// epicycle::run(async {
    ///     let mut results = as_completed([std::future::pending::<()>()]).timeout(Duration::from_millis(1));
    ///     assert!(results.next().await.unwrap().is_err());
    ///     assert!(results.next().await.is_none());
    /// });
    /// ```
    pub fn timeout(self, limit: Duration) -> AsCompletedInTime<T> {
        AsCompletedInTime { inner: self, limit: sleep(limit), late: false }
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        loop {
            ready!(self.tally.poll_met(cx));
            let index = self.tally.next_ended().expect("there are more, and one has ended");
            if let Some((task, _)) = self.tasks[index].take() {
                self.left -= 1;
                return Poll::Ready(Some(output(task)));
            }
        }
    }

    fn unwatch(&mut self) -> Vec<Task<T>> {
        self.tally.forget_waker();
        let unwatched = mem::take(&mut self.tasks).into_iter().flatten().map(|(task, number)| {
            task.unwatch(number);
            task
        });
        unwatched.collect()
    }
}

impl<T> Unpin for AsCompleted<T> {}

impl<T> Stream for AsCompleted<T> {
    type Item = Result<T, JoinError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_task(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> Drop for AsCompleted<T> {
    fn drop(&mut self) {
        self.unwatch();
    }
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("remaining", &self.left).finish_non_exhaustive()
    }
}

/// The stream of [`AsCompleted::timeout`].
///
/// ```
/// use epicycle::{as_completed, future::AsCompletedInTime};
/// use std::time::Duration;
///
/// epicycle::run(async {
///     let quick = as_completed([async { 1 }]);
///     let mut results: AsCompletedInTime<u8> = quick.timeout(Duration::from_secs(60));
///     assert_eq!(results.next().await.unwrap().unwrap().unwrap(), 1);
///     assert!(results.next().await.is_none());
/// });
/// ```
#[must_use = "it does nothing unless it is asked for the next"]
#[derive(Debug)]
pub struct AsCompletedInTime<T> {
    inner: AsCompleted<T>,
    limit: Sleep,
    late: bool,
}

impl<T> AsCompletedInTime<T> {
    /// As [`AsCompleted::next`].
    ///
    /// But from the limit on it gives an error at once, for each of those that are left.
    ///
    /// *Cancel safety.* Dropped, it loses nothing.
    ///
    /// ```
    /// use std::{future::pending, time::Duration};
    ///
    /// epicycle::run(async {
    ///     let stuck = epicycle::as_completed([pending::<()>(), pending()]);
    ///     let mut results = stuck.timeout(Duration::from_millis(1));
    ///     assert!(results.next().await.unwrap().is_err());
    ///     assert!(results.next().await.unwrap().is_err());
    ///     assert!(results.next().await.is_none());
    /// });
    /// ```
    pub async fn next(&mut self) -> Option<Result<Result<T, JoinError>, TimeoutError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The tasks whose outcome has not been given, in the order of the arguments; those that were too late among them.
    ///
    /// ```
    /// use std::{future::pending, time::Duration};
    ///
    /// epicycle::run(async {
    ///     let mut results = epicycle::as_completed([pending::<()>()]).timeout(Duration::from_millis(1));
    ///     assert!(results.next().await.unwrap().is_err());
    ///     for late in results.into_tasks() {
    ///         late.cancel();
    ///         assert!(late.await.unwrap_err().is_cancelled());
    ///     }
    /// });
    /// ```
    pub fn into_tasks(mut self) -> Vec<Task<T>> {
        self.inner.unwatch()
    }
}

impl<T> Unpin for AsCompletedInTime<T> {}

impl<T> Stream for AsCompletedInTime<T> {
    type Item = Result<Result<T, JoinError>, TimeoutError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if !this.late {
            if let Poll::Ready(next) = this.inner.poll_task(cx) {
                return Poll::Ready(next.map(Ok));
            }
            ready!(Pin::new(&mut this.limit).poll(cx));
            this.late = true;
        }
        if this.inner.left == 0 {
            return Poll::Ready(None);
        }
        // Those that ended in time have all been given, or this would not be late.
        this.inner.left -= 1;
        Poll::Ready(Some(Err(TimeoutError::new())))
    }
}
