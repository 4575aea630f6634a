//! [`gather`]: many at once, the results in the order of the arguments.
//!
//! *Invariant.* The children are tasks from the moment of the call. The gather owns them until it gives its result; dropped before
//! that, it cancels them. *Threads.* Any; with [`gather_local`] the children's own. *Ordering.* `tally.rs`.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::children::Children;
use super::tally::{Goal, Tally};
use crate::scheduler::{spawn, spawn_local};
use crate::task::{JoinError, Task};

/// Spawns all `futures` at once, in order, and gives their values in that order, whatever the order in which they finish.
///
/// The first of them to panic or to be cancelled ends the waiting with its [`JoinError`]; the others run on, and what becomes of
/// them is of no interest. An `Err` that a future returns is a value like any other: see
/// [`try_gather`](crate::try_gather). For all outcomes, whatever they are:
/// [`return_exceptions`](Gather::return_exceptions). A fixed number of futures of several kinds: [`gather!`](crate::gather!).
///
/// Given [`Task`]s, it awaits each in a task of its own: the values are then what awaiting them gives, a `Result` each, and
/// dropping the gather lets go of them. [`gather_tasks`] takes them over instead, as [`gather!`](crate::gather!) does and asyncio.
/// This function cannot: a task is a future, so a rule for tasks would contradict the one for all futures (stable Rust has no
/// specialization), and with it the values would be of another type.
///
/// *Cancel safety.* Dropping the [`Gather`] cancels the children that have not ended.
///
/// Counterpart: `asyncio.gather`. (There a future may be given twice, and runs once; here it is moved.)
///
/// # Panics
/// Outside a runtime.
///
/// ```
/// use epicycle::gather;
/// use std::time::Duration;
///
/// epicycle::run(async {
///     let squares = gather((1..=3u64).map(|n| async move {
///         epicycle::time::sleep(Duration::from_millis(10 - n)).await;
///         n * n
///     }));
///     assert_eq!(squares.await.unwrap(), [1, 4, 9]);
/// });
/// ```
#[track_caller]
pub fn gather<I>(futures: I) -> Gather<Vec<Task<<I::Item as IntoFuture>::Output>>>
where
    I: IntoIterator,
    I::Item: IntoFuture<IntoFuture: Send + 'static, Output: Send + 'static>,
{
    let mut gather = Gather::empty(Tally::new("gather", Goal::Failure, 0));
    for future in futures {
        gather.push(spawn(future.into_future()));
    }
    gather.begin()
}

/// As [`gather`], for futures that are not `Send`: the children stay on this thread's loop.
///
/// # Panics
/// Off a loop.
///
/// ```
/// use std::rc::Rc;
/// epicycle::run(async {
///     let shared = Rc::new(5);
///     let copies = epicycle::gather_local((0..2).map(|_| std::future::ready(shared.clone())));
///     assert_eq!(copies.await.unwrap(), [shared.clone(), shared]);
/// });
/// ```
#[track_caller]
pub fn gather_local<I>(futures: I) -> Gather<Vec<Task<<I::Item as IntoFuture>::Output>>>
where
    I: IntoIterator,
    I::Item: IntoFuture<IntoFuture: 'static, Output: 'static>,
{
    let mut gather = Gather::empty(Tally::new("gather", Goal::Failure, 0));
    for future in futures {
        gather.push(spawn_local(future.into_future()));
    }
    gather.begin()
}

/// As [`gather`], for tasks: they are taken over, not spawned again. So dropping the [`Gather`] cancels them.
///
/// ```
/// epicycle::run(async {
///     let tasks: Vec<_> = (0..3).map(|n| epicycle::spawn(async move { n })).collect();
///     assert_eq!(epicycle::gather_tasks(tasks).await.unwrap(), [0, 1, 2]);
/// });
/// ```
pub fn gather_tasks<T>(tasks: impl IntoIterator<Item = Task<T>>) -> Gather<Vec<Task<T>>> {
    let mut gather = Gather::empty(Tally::new("gather", Goal::Failure, 0));
    for task in tasks {
        gather.push(task);
    }
    gather.begin()
}

/// Spawns the given futures at once, in order, and gives a tuple of their values. Tasks among them are taken over, not spawned
/// again. In all else as [`gather`](crate::gather()).
///
/// Counterpart: `asyncio.gather`. (Tokio's `join!` is [`join!`](crate::join!) here: without tasks.)
///
/// ```
/// use epicycle::gather;
///
/// epicycle::run(async {
///     let task = epicycle::spawn(async { 2.5 });
///     let gathered = gather!(async { 1 }, async { "two" }, task);
///     assert_eq!(gathered.await.unwrap(), (1, "two", 2.5));
///
///     let (fine, not) = gather!(async { 1 }, async { panic!("no") as u8 }).return_exceptions().await;
///     assert_eq!(fine.unwrap(), 1);
///     assert!(not.unwrap_err().is_panic());
/// });
/// ```
#[macro_export]
macro_rules! gather {
    // All arguments are evaluated before the first is spawned, each to a name of its own.
    (@spawn [$($argument:ident)*]) => {{
        #[allow(unused_imports)]
        use $crate::future::__private::Spawn as _;
        $crate::future::__private::gather_children(($($argument.spawn(),)*))
    }};
    (@spawn [$($argument:ident)*] $head:expr $(, $tail:expr)*) => {
        match $crate::future::__private::Argument($head) {
            argument => $crate::gather!(@spawn [$($argument)* argument] $($tail),*),
        }
    };
    ($($future:expr),* $(,)?) => {
        $crate::gather!(@spawn [] $($future),*)
    };
}

/// An argument of [`gather!`](crate::gather!). A task is taken over by the method below, which the compiler prefers to the trait's.
#[doc(hidden)]
#[derive(Debug)]
pub struct Argument<A>(pub A);

impl<T> Argument<Task<T>> {
    pub fn spawn(self) -> Task<T> {
        self.0
    }
}

#[doc(hidden)]
pub trait Spawn {
    type Output;
    fn spawn(self) -> Task<Self::Output>;
}

impl<F> Spawn for Argument<F>
where
    F: IntoFuture<IntoFuture: Send + 'static, Output: Send + 'static>,
{
    type Output = F::Output;

    #[track_caller]
    fn spawn(self) -> Task<F::Output> {
        spawn(self.0.into_future())
    }
}

#[doc(hidden)]
pub fn gather_children<C: Children>(children: C) -> Gather<C> {
    Gather { children: Some(children), tally: Tally::new("gather", Goal::Failure, 0) }.begin()
}

/// The future of [`gather`] and its like. Its children run whether it is awaited or not.
///
/// # Panics
/// When awaited again after it gave its result.
///
/// *Cancel safety.* An await of `&mut gather` that is dropped loses nothing; dropping the gather itself cancels the
/// children.
///
/// ```
/// use epicycle::{Task, future::Gather, gather};
///
/// epicycle::run(async {
///     let mut gathered: Gather<Vec<Task<u8>>> = gather([1, 2].map(|n| async move { n }));
///     assert_eq!((&mut gathered).await.unwrap(), [1, 2]);
/// });
/// ```
#[must_use = "dropping it cancels the children"]
pub struct Gather<C: Children> {
    children: Option<C>,
    tally: Arc<Tally>,
}

impl<T> Gather<Vec<Task<T>>> {
    pub(super) fn empty(tally: Arc<Tally>) -> Self {
        Self { children: Some(Vec::new()), tally }
    }

    pub(super) fn push(&mut self, task: Task<T>) {
        self.children.get_or_insert_default().push(task);
    }
}

impl<C: Children> Gather<C> {
    /// Once all children are there.
    pub(super) fn begin(self) -> Self {
        if let Some(children) = &self.children {
            self.tally.set_total(children.count());
            children.watch(&self.tally);
            self.tally.tell_created();
        }
        self
    }

    /// Waits for all, and gives the outcome of each instead of the first error.
    ///
    /// Counterpart: `asyncio.gather` with `return_exceptions=True`.
    ///
    /// *Cancel safety.* Dropped, it cancels the children all the same.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let tasks = (0..3u8).map(|n| epicycle::spawn(async move { 6 / n }));
    ///     let outcomes = epicycle::gather_tasks(tasks).return_exceptions().await;
    ///     assert!(outcomes[0].as_ref().is_err_and(|error| error.is_panic()));
    ///     assert_eq!(outcomes[2].as_ref().unwrap(), &3);
    /// });
    /// ```
    pub fn return_exceptions(self) -> GatherAll<C> {
        self.tally.set_goal(Goal::All);
        GatherAll { gather: self }
    }

    /// Asks all children that have not ended to be cancelled. Awaiting then gives the error of the first that was.
    ///
    /// Counterpart: asyncio's `cancel` of the future that `gather` gives.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let gathered = epicycle::gather([std::future::pending::<()>(), std::future::pending()]);
    ///     gathered.cancel();
    ///     assert!(gathered.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn cancel(&self) {
        if let Some(children) = &self.children {
            children.cancel();
        }
    }

    /// The children, once the goal is met.
    pub(super) fn poll_children(&mut self, cx: &mut Context<'_>) -> Poll<(C, Option<usize>)> {
        assert!(self.children.is_some(), "a Gather was awaited again after it gave its result");
        ready!(self.tally.poll_met(cx));
        Poll::Ready((self.children.take().expect("just looked"), self.tally.failed()))
    }
}

impl<C: Children> Unpin for Gather<C> {}

impl<C: Children> Future for Gather<C> {
    type Output = Result<C::Values, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (children, failed) = ready!(self.poll_children(cx));
        Poll::Ready(match failed {
            Some(index) => Err(children.fail(index)),
            None => C::values(children.results()),
        })
    }
}

impl<C: Children> Drop for Gather<C> {
    fn drop(&mut self) {
        if self.children.is_some() {
            self.tally.forget_waker();
            self.cancel();
        }
    }
}

impl<C: Children> fmt::Debug for Gather<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("children", &self.children.as_ref().map(C::count)).finish_non_exhaustive()
    }
}

/// The future of [`Gather::return_exceptions`].
///
/// # Panics
/// When awaited again after it gave its result.
///
/// ```
/// use epicycle::{Task, future::GatherAll, gather};
///
/// epicycle::run(async {
///     let all: GatherAll<Vec<Task<u8>>> = gather([1, 0].map(|n| async move { 6 / n })).return_exceptions();
///     let outcomes = all.await;
///     assert_eq!(outcomes[0].as_ref().unwrap(), &6);
///     assert!(outcomes[1].as_ref().unwrap_err().is_panic());
/// });
/// ```
#[must_use = "dropping it cancels the children"]
#[derive(Debug)]
pub struct GatherAll<C: Children> {
    gather: Gather<C>,
}

impl<C: Children> Future for GatherAll<C> {
    type Output = C::Results;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (children, _) = ready!(self.gather.poll_children(cx));
        Poll::Ready(children.results())
    }
}
