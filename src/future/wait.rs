//! [`wait`]: until some or all of a set of tasks have ended.
//!
//! *Invariant.* It only looks: it cancels nothing, takes no output, and leaves no callback behind. *Threads.* Any. *Ordering.*
//! `tally.rs`.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::tally::{Goal, Tally, Watch};
use crate::time::{Sleep, sleep};

/// When [`wait`] returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReturnWhen {
    /// When one has ended, however.
    FirstCompleted,
    /// When one has panicked, or all have ended. A cancellation is no panic, and an `Err` that a task returned is a value.
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
    let tasks: Vec<_> = tasks.into_iter().collect();
    assert!(!tasks.is_empty(), "wait() needs at least one task: look whether there are any before");
    let goal = match return_when {
        ReturnWhen::FirstCompleted => Goal::First,
        ReturnWhen::FirstException => Goal::Panic,
        ReturnWhen::AllCompleted => Goal::All,
    };
    let tally = Tally::new("wait", goal, tasks.len());
    let watched = tasks.into_iter().enumerate().map(|(index, task)| {
        let number = task.watch(&tally, index);
        (task, number)
    });
    let watched = watched.collect();
    tally.tell_created();
    Wait { watched, tally, limit: None }
}

/// The future of [`wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct Wait<W: Watch> {
    /// Each with the number of its callback.
    watched: Vec<(W, u32)>,
    tally: Arc<Tally>,
    limit: Option<Sleep>,
}

impl<W: Watch> Wait<W> {
    /// Waits no longer than `limit` from now. Reaching it is no error: what has ended by then is done, the rest pending.
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
        if self.tally.poll_met(cx).is_pending() {
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
            let mut tallies = vec![Arc::downgrade(&dropped.tally), Arc::downgrade(&ended.tally)];
            drop(dropped);
            assert_eq!(ended.await.1.len(), 1);
            let late = wait([&task], ReturnWhen::AllCompleted).timeout(Duration::from_millis(1));
            tallies.push(Arc::downgrade(&late.tally));
            assert_eq!(late.await.1.len(), 1);
            assert!(tallies.iter().all(|tally| tally.upgrade().is_none()));
        });
    }
}
