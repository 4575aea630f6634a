//! [`wait`] and [`try_wait`]: until some or all of a set of tasks have ended.
//!
//! *Invariant.* They only look: they cancel nothing, take no output, and leave no callback behind. *Threads.* Any. *Ordering.*
//! `tally.rs`.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::tally::{Goal, Tally, Watch};
use crate::task::{CancelOnDrop, Outcome, Task};
use crate::time::{Sleep, sleep};

/// When [`wait`] and [`try_wait`] return.
///
/// Counterpart: asyncio's `FIRST_COMPLETED`, `FIRST_EXCEPTION`, `ALL_COMPLETED`.
///
/// ```
/// use epicycle::{ReturnWhen, spawn, wait};
///
/// epicycle::run(async {
///     let (fine, bad) = (spawn(async {}), spawn(async { panic!("oh no") }));
///     let stuck = spawn(std::future::pending::<()>());
///     wait([&fine, &bad, &stuck], ReturnWhen::FirstException).await;
///     assert!(bad.done() && !stuck.done());
///     wait([&fine, &bad], ReturnWhen::AllCompleted).await;
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReturnWhen {
    /// When one has ended, however.
    FirstCompleted,
    /// When one has panicked, or all have ended. A cancellation is no panic. An `Err` that a task returned is a value to [`wait`],
    /// and as good as a panic to [`try_wait`].
    FirstException,
    /// When all have ended.
    AllCompleted,
}

/// Waits until the given tasks have ended, as far as `return_when` says, and gives them back: those that have ended, and the others,
/// each in the order of the arguments.
///
/// Tasks may be lent (`tasks.iter()`), so that they outlive a wait that is dropped. Nothing is cancelled, not at the end of a
/// [`timeout`](Wait::timeout) either, and no output is taken: await those that are done for theirs.
///
/// *Cancel safety.* Dropped, it leaves the tasks running; those given by value are detached.
///
/// For [`FirstException`](ReturnWhen::FirstException) an `Err` is a value like any other, as for [`gather`](crate::gather()):
/// [`try_wait`] looks into the results.
///
/// Counterpart: `asyncio.wait`.
///
/// # Panics
/// If there are no tasks: that would mean waiting for ever, or for nothing.
///
/// ```
/// use epicycle::{spawn, wait, future::ReturnWhen};
///
/// epicycle::run(async {
///     let tasks = vec![spawn(async { 1 }), spawn(std::future::pending())];
///     let (done, pending) = wait(tasks, ReturnWhen::FirstCompleted).await;
///     assert_eq!((done.len(), pending.len()), (1, 1));
///     for task in done {
///         assert_eq!(task.await.unwrap(), 1);
///     }
/// });
/// ```
#[track_caller]
pub fn wait<I>(tasks: I, return_when: ReturnWhen) -> Wait<I::Item>
where
    I: IntoIterator,
    I::Item: Watch,
{
    let goal = match return_when {
        ReturnWhen::FirstCompleted => Goal::First,
        ReturnWhen::FirstException => Goal::Panic,
        ReturnWhen::AllCompleted => Goal::All,
    };
    Wait::new(tasks.into_iter().collect(), goal, None)
}

/// As [`wait`], for tasks that return a `Result`: with [`FirstException`](ReturnWhen::FirstException) it returns when one has
/// returned an `Err` or has panicked, or all have ended.
///
/// To look into a result takes the task itself, or a mutable loan of it (`tasks.iter_mut()`). The results stay where they are: await
/// those that are done for theirs.
///
/// *Cancel safety.* As of [`wait`].
///
/// Counterpart: `asyncio.wait(tasks, return_when=FIRST_EXCEPTION)`, where an exception is what an `Err` is here.
///
/// # Panics
/// If there are no tasks.
///
/// ```
/// use epicycle::{spawn, try_wait, future::ReturnWhen};
///
/// epicycle::run(async {
///     let read = |what: Result<u8, &'static str>| spawn(async move { what });
///     let mut tasks = [read(Ok(1)), read(Err("no")), spawn(std::future::pending())];
///     let (_, pending) = try_wait(tasks.iter_mut(), ReturnWhen::FirstException).await;
///     pending.into_iter().for_each(|task| _ = task.cancel());
///     let [_, failed, _] = tasks;
///     assert_eq!(failed.await.unwrap(), Err("no"));
/// });
/// ```
#[track_caller]
pub fn try_wait<I>(tasks: I, return_when: ReturnWhen) -> Wait<I::Item>
where
    I: IntoIterator,
    I::Item: WatchResult,
{
    match return_when {
        // Each end is looked at as it comes.
        ReturnWhen::FirstException => Wait::new(tasks.into_iter().collect(), Goal::Each, Some(WatchResult::has_failed)),
        _ => wait(tasks, return_when),
    }
}

/// What [`try_wait`] can wait for: a [`Task`] that returns a `Result`, owned or mutably borrowed.
///
/// ```
/// use epicycle::{future::{ReturnWhen, WatchResult}, spawn, try_wait};
///
/// async fn first_trouble<W: WatchResult>(tasks: Vec<W>) -> usize {
///     try_wait(tasks, ReturnWhen::FirstException).await.0.len()
/// }
/// let task = || spawn(async { Ok::<_, &str>(()) });
/// assert_eq!(epicycle::run(async { first_trouble(vec![task(), task()]).await }), 2);
/// ```
pub trait WatchResult: Watch {
    /// Whether it has panicked, or returned an `Err` that nobody has taken.
    #[doc(hidden)]
    fn has_failed(&mut self) -> bool;
}

impl<T, E> WatchResult for Task<Result<T, E>> {
    fn has_failed(&mut self) -> bool {
        self.done() && (self.outcome() == Outcome::Panicked || self.look(Result::is_err) == Some(true))
    }
}

impl<T, E> WatchResult for CancelOnDrop<Result<T, E>> {
    fn has_failed(&mut self) -> bool {
        (**self).has_failed()
    }
}

impl<W: WatchResult> WatchResult for &mut W {
    fn has_failed(&mut self) -> bool {
        (**self).has_failed()
    }
}

/// The future of [`wait`] and [`try_wait`].
///
/// # Panics
/// When awaited again after it gave its result.
///
/// ```
/// use epicycle::{ReturnWhen, Task, future::Wait, spawn, wait};
///
/// epicycle::run(async {
///     let both: Wait<Task<()>> = wait([spawn(async {}), spawn(async {})], ReturnWhen::AllCompleted);
///     let (done, pending) = both.await;
///     assert_eq!((done.len(), pending.len()), (2, 0));
/// });
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Wait<W: Watch> {
    /// Each with the number of its callback.
    watched: Vec<(W, u32)>,
    tally: Arc<Tally>,
    limit: Option<Sleep>,
    /// If each end is to be looked at: whether it is one to return for.
    has_failed: Option<fn(&mut W) -> bool>,
}

impl<W: Watch> Wait<W> {
    #[track_caller]
    fn new(tasks: Vec<W>, goal: Goal, has_failed: Option<fn(&mut W) -> bool>) -> Self {
        assert!(!tasks.is_empty(), "wait() needs at least one task: look whether there are any before");
        let tally = Tally::new("wait", goal, tasks.len());
        let watched = tasks.into_iter().enumerate().map(|(index, task)| {
            let number = task.watch(&tally, index);
            (task, number)
        });
        let watched = watched.collect();
        tally.tell_created();
        Self { watched, tally, limit: None, has_failed }
    }

    fn poll_enough(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(has_failed) = self.has_failed else { return self.tally.poll_met(cx) };
        loop {
            ready!(self.tally.poll_met(cx));
            match self.tally.next_ended() {
                Some(index) if !has_failed(&mut self.watched[index].0) => {}
                // One to return for, or none is left.
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Waits no longer than `limit` from now. Reaching it is no error: what has ended by then is done, the rest pending.
    ///
    /// Counterpart: the `timeout` of `asyncio.wait`.
    ///
    /// ```
    /// use epicycle::{spawn, wait, future::ReturnWhen};
    /// use std::time::Duration;
    ///
    /// epicycle::run(async {
    ///     let task = spawn(std::future::pending::<()>());
    ///     let (done, pending) = wait([&task], ReturnWhen::AllCompleted).timeout(Duration::from_millis(1)).await;
    ///     assert_eq!((done.len(), pending.len()), (0, 1));
    ///     assert!(!task.done());
    /// });
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(sleep(limit));
        self
    }
}

impl<W: Watch> Unpin for Wait<W> {}

impl<W: Watch> Future for Wait<W> {
    type Output = (Vec<W>, Vec<W>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.watched.is_empty(), "a Wait was awaited again after it gave its result");
        if self.poll_enough(cx).is_pending() {
            match &mut self.limit {
                Some(limit) => ready!(Pin::new(limit).poll(cx)),
                None => return Poll::Pending,
            }
        }
        let watched = mem::take(&mut self.watched);
        self.tally.forget_waker();
        watched.iter().for_each(|(task, number)| task.unwatch(*number));
        Poll::Ready(watched.into_iter().map(|(task, _)| task).partition(Watch::is_done))
    }
}

impl<W: Watch> Drop for Wait<W> {
    fn drop(&mut self) {
        self.tally.forget_waker();
        self.watched.iter().for_each(|(task, number)| task.unwatch(*number));
    }
}

impl<W: Watch> fmt::Debug for Wait<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("tasks", &self.watched.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use super::*;
    use crate::runtime::run;
    use crate::scheduler::spawn;

    /// A callback that stayed would keep its tally: with a task that lives long, one for each wait.
    #[test]
    fn waits_that_end_or_are_dropped_leave_no_callback_behind() {
        run(async {
            let (task, done) = (spawn(std::future::pending::<()>()), spawn(async {}));
            let dropped = wait([&task], ReturnWhen::AllCompleted);
            let ended = wait([&task, &done], ReturnWhen::FirstCompleted);
            let failed = try_wait([spawn(std::future::pending::<Result<(), ()>>())], ReturnWhen::FirstException);
            let all = [&dropped.tally, &ended.tally, &failed.tally];
            let mut tallies: Vec<_> = all.into_iter().map(Arc::downgrade).collect();
            drop((dropped, failed));
            assert_eq!(ended.await.1.len(), 1);
            let late = wait([&task], ReturnWhen::AllCompleted).timeout(Duration::from_millis(1));
            tallies.push(Arc::downgrade(&late.tally));
            assert_eq!(late.await.1.len(), 1);
            assert!(tallies.iter().all(|tally| tally.upgrade().is_none()));
        });
    }
}
