//! [`shield`]: what goes on though nobody waits for it any more.
//!
//! *Invariant.* It never cancels its task. *Threads.* Any. *Ordering.* `tally.rs`.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::children::output;
use super::tally::{Goal, Tally, Watch};
use crate::scheduler::spawn;
use crate::task::{JoinError, Task};

/// Spawns `future` and waits for it, without being able to stop it: if the waiting is cancelled, it goes on by itself, and an error
/// of it is then reported.
///
/// A future that is dropped is stopped; a [`Task`] that is dropped is not. So a task needs no shield; this makes one of a future.
/// Where the waiting cancels a task, as in a [`gather_tasks`](crate::gather_tasks) or a [`wait_for`](crate::wait_for), a shield
/// around it keeps it safe. `Shield::from(task)` makes one without a task of its own; `shield(task)` spawns another task, which
/// awaits the first, and so its output is a result in a result.
///
/// *Cancel safety.* Dropped, it leaves the task running.
///
/// Counterpart: `asyncio.shield`.
///
/// # Panics
/// Outside a runtime.
///
/// ```
/// use epicycle::{shield, time::{sleep, timeout}};
/// use std::time::Duration;
/// use std::sync::mpsc::channel;
///
/// epicycle::run(async {
///     let (sender, receiver) = channel();
///     let inner = async move {
///         sleep(Duration::from_millis(5)).await;
///         sender.send("all the same").unwrap();
///     };
///     assert!(timeout(Duration::from_millis(1), shield(inner)).await.is_err());
///     epicycle::run_in_executor(move || assert_eq!(receiver.recv(), Ok("all the same"))).await.unwrap();
/// });
/// ```
#[track_caller]
pub fn shield<F>(future: F) -> Shield<F::Output>
where
    F: IntoFuture<IntoFuture: Send + 'static, Output: Send + 'static>,
{
    Shield::from(spawn(future.into_future()))
}

/// The future of [`shield`].
///
/// # Panics
/// When awaited again after it gave its output.
///
/// ```
/// use epicycle::future::Shield;
///
/// epicycle::run(async {
///     let task = epicycle::spawn(async { epicycle::yield_now().await; 1 });
///     let shielded: Shield<u8> = Shield::from(task);
///     assert_eq!(shielded.await.unwrap(), 1);
/// });
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Shield<T> {
    task: Option<(Task<T>, u32)>,
    tally: Arc<Tally>,
}

impl<T> Shield<T> {
    /// The task inside.
    ///
    /// # Panics
    /// After it gave its output.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let task = epicycle::shield(async { 1 }).into_task();
    ///     assert_eq!(task.await.unwrap(), 1);
    /// });
    /// ```
    #[track_caller]
    pub fn into_task(mut self) -> Task<T> {
        self.unwatch().expect("this Shield has given its output")
    }

    fn unwatch(&mut self) -> Option<Task<T>> {
        self.tally.forget_waker();
        let (task, number) = self.task.take()?;
        task.unwatch(number);
        Some(task)
    }
}

impl<T> From<Task<T>> for Shield<T> {
    fn from(task: Task<T>) -> Self {
        let tally = Tally::new("shield", Goal::All, 1);
        let number = Watch::watch(&task, &tally, 0);
        tally.tell_created();
        Self { task: Some((task, number)), tally }
    }
}

impl<T> Unpin for Shield<T> {}

impl<T> Future for Shield<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.task.is_some(), "a Shield was awaited again after it gave its output");
        ready!(self.tally.poll_met(cx));
        let (task, _) = self.task.take().expect("just looked");
        Poll::Ready(output(task))
    }
}

impl<T> Drop for Shield<T> {
    fn drop(&mut self) {
        drop(self.unwatch());
    }
}

impl<T> fmt::Debug for Shield<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shield").field("task", &self.task.as_ref().map(|(task, _)| task)).finish()
    }
}
