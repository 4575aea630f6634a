//! [`GroupHandle`]: what it takes to start and stop children.
//!
//! *Invariant.* It keeps the group's memory, not its children: when the [`TaskGroup`](super::TaskGroup) is gone, what is
//! spawned here is cancelled. *Threads.* Any. *Ordering.* The lock of `state.rs`.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use super::child::{adopt, enter};
use super::state::Group;
use crate::cancel::CancelScope;
use crate::event_loop::LoopHandle;
use crate::scheduler;
use crate::task::{Builder, Id, Task};

/// A handle to a [`TaskGroup`](crate::TaskGroup), for children that start others or cancel all. Cheap to clone, for any thread.
///
/// A group that is stopping (an error, a cancel, the group dropped) or was joined takes no more children: what is spawned
/// then is dropped without being polled, and its task is cancelled.
///
/// # Examples
///
/// ```
/// use epicycle::future::GroupHandle;
/// use epicycle::TaskGroup;
///
/// fn walk(group: GroupHandle, depth: u32) {
///     group.clone().spawn(async move {
///         if depth > 0 {
///             walk(group.clone(), depth - 1);
///             walk(group, depth - 1);
///         }
///         Ok::<_, std::io::Error>(())
///     });
/// }
///
/// epicycle::run(async {
///     let group = TaskGroup::new();
///     walk(group.handle(), 3);
///     group.join().await.unwrap(); // all fifteen
/// });
/// ```
#[derive(Clone)]
pub struct GroupHandle {
    group: Arc<Group>,
}

impl GroupHandle {
    pub(super) fn new(group: Group) -> Self {
        Self { group: Arc::new(group) }
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Starts a child that may run on any loop. asyncio's `TaskGroup.create_task`.
    ///
    /// The task is for the child's value; dropping it changes nothing. Values and errors may differ in type from child to
    /// child; any error will do that converts into a boxed one.
    ///
    /// # Panics
    /// Outside a runtime.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     let number = group.spawn(async { "1".parse::<u8>() });
    ///     let word = group.spawn(async { Ok::<_, &str>("two") });
    ///     group.join().await.unwrap();
    ///     assert_eq!((number.await.unwrap(), word.await.unwrap()), (1, "two"));
    /// });
    /// ```
    #[track_caller]
    pub fn spawn<F, T, E>(&self, future: F) -> Task<T>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let named = (None, Location::caller());
        let (place, report) = enter(&self.group, None);
        adopt(place, named, scheduler::spawn(report.around(future)))
    }

    /// The same with options, such as a name, which errors then bear.
    ///
    /// Counterpart: the `name` of asyncio's `TaskGroup.create_task`.
    ///
    /// ```
    /// use epicycle::{TaskGroup, task};
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn_with(task::Builder::new().name("reader"), async { Err::<(), _>("unreadable") });
    ///     let error = group.join().await.unwrap_err();
    ///     assert_eq!(error.errors()[0].task_name(), Some("reader"));
    /// });
    /// ```
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn spawn_with<F, T, E>(&self, options: Builder, future: F) -> Task<T>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let named = (options.name.clone(), Location::caller());
        let (place, report) = enter(&self.group, None);
        adopt(place, named, options.spawn(report.around(future)))
    }

    /// Starts a child that stays on this thread's loop, so that it need not be `Send`.
    ///
    /// Counterpart: Tokio's `JoinSet::spawn_local`.
    ///
    /// # Panics
    /// Off a loop.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    /// use std::{cell::Cell, rc::Rc};
    ///
    /// epicycle::run(async {
    ///     let (group, total) = (TaskGroup::new(), Rc::new(Cell::new(0)));
    ///     for n in 1..=3 {
    ///         let total = total.clone();
    ///         group.spawn_local(async move { Ok::<_, &str>(total.set(total.get() + n)) });
    ///     }
    ///     group.join().await.unwrap();
    ///     assert_eq!(total.get(), 6);
    /// });
    /// ```
    #[track_caller]
    pub fn spawn_local<F, T, E>(&self, future: F) -> Task<T>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let named = (None, Location::caller());
        let (place, report) = enter(&self.group, None);
        adopt(place, named, scheduler::spawn_local(report.around(future)))
    }

    /// Starts a child on the loop of one's choice, where it stays; `make` is called there.
    ///
    /// ```
    /// use std::{io, rc::Rc};
    /// use epicycle::{EventLoop, RuntimeHandle, TaskGroup};
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     for event_loop in RuntimeHandle::current().loops() {
    ///         let index = event_loop.index();
    ///         group.spawn_on(event_loop, move || async move {
    ///             let here = Rc::new(EventLoop::current().index());
    ///             epicycle::yield_now().await;
    ///             assert_eq!(*here, index);
    ///             Ok::<_, io::Error>(())
    ///         });
    ///     }
    ///     group.join().await.unwrap();
    /// });
    /// ```
    #[track_caller]
    pub fn spawn_on<M, F, T, E>(&self, event_loop: &LoopHandle, make: M) -> Task<T>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + 'static,
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let named = (None, Location::caller());
        let (place, report) = enter(&self.group, None);
        // A panic of `make` is the child's, too.
        adopt(place, named, event_loop.spawn_local(move || report.around(async move { make().await })))
    }

    /// Starts a child that is asked to stop, not dropped, when the group stops: it is given a scope, which is cancelled
    /// then. The group waits for it as for the others. Dropping the group asks it, too, and it goes on until it has cleaned up.
    ///
    /// A child that returns the [`Cancelled`](crate::Cancelled) of its scope, or of one around it, counts as cancelled, not as
    /// failed. That of another scope, as of a time limit inside the child, is an error like any other.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     let polite = group.spawn_cooperative(|scope| async move {
    ///         scope.cancelled().await;
    ///         epicycle::yield_now().await; // clean-up
    ///         Ok::<_, &str>("bye")
    ///     });
    ///     group.cancel();
    ///     group.join().await.unwrap();
    ///     assert_eq!(polite.await.unwrap(), "bye");
    /// });
    /// ```
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn spawn_cooperative<M, F, T, E>(&self, make: M) -> Task<T>
    where
        M: FnOnce(CancelScope) -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let named = (None, Location::caller());
        let scope = self.group.scope.child();
        let future = make(scope.clone());
        let (place, report) = enter(&self.group, Some(scope));
        adopt(place, named, scheduler::spawn(report.around(future)))
    }

    /// Cancels all children, and the body of a [`scope`](crate::TaskGroup::scope). That is no error: a `join` returns `Ok`,
    /// unless something went wrong as well. From now on the group takes no more children. Idempotent.
    ///
    /// Counterpart: asyncio's `TaskGroup.cancel()`, since 3.15.
    ///
    /// ```
    /// use std::future::pending;
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     let task = group.spawn(pending::<Result<(), &str>>());
    ///     group.cancel();
    ///     group.join().await.unwrap();
    ///     assert!(task.cancelled());
    /// });
    /// ```
    pub fn cancel(&self) {
        self.group.stop(None);
    }

    /// Whether the group takes no more children: it is stopping, or was joined.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     assert!(!group.is_closed());
    ///     group.join().await.unwrap();
    ///     assert!(group.is_closed());
    ///     let late = group.spawn(async { Ok::<_, &str>(1) });
    ///     assert!(late.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn is_closed(&self) -> bool {
        self.group.is_stopping()
    }

    /// The scope of the group: cancelled when it stops. What cooperative children look at.
    ///
    /// Cancelling it, or giving it a deadline, cancels the group for whoever waits for it, in `join`, `run` or `next_done`; that
    /// is no error, as with [`cancel`](Self::cancel). trio's `nursery.cancel_scope`.
    ///
    /// ```
    /// use std::{future::pending, time::Duration};
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     let task = group.spawn(pending::<Result<(), &str>>());
    ///     let scope = group.cancel_scope().with_timeout(Duration::from_millis(1));
    ///     group.join().await.unwrap();
    ///     assert!(task.cancelled() && scope.expired());
    /// });
    /// ```
    pub fn cancel_scope(&self) -> CancelScope {
        self.group.scope.clone()
    }

    /// How many children have not ended.
    ///
    /// Counterpart: Tokio's `JoinSet::len`.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    /// use std::future::pending;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(pending::<Result<(), &str>>());
    ///     group.spawn(pending::<Result<(), &str>>());
    ///     assert_eq!(group.len(), 2);
    ///     group.cancel();
    ///     group.join().await.unwrap();
    ///     assert_eq!(group.len(), 0);
    /// });
    /// ```
    pub fn len(&self) -> usize {
        self.group.len()
    }

    /// Whether all children have ended.
    ///
    /// Counterpart: Tokio's `JoinSet::is_empty`.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     assert!(group.is_empty());
    ///     let task = group.spawn(std::future::pending::<Result<(), &str>>());
    ///     assert!(!group.is_empty());
    ///     task.cancel();
    ///     group.join().await.unwrap();
    /// });
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The child that decided, under [`Policy::Any`](super::Policy::Any) and
    /// [`Policy::FirstSuccess`](super::Policy::FirstSuccess).
    ///
    /// None as long as no child has, and under [`Policy::All`](super::Policy::All).
    ///
    /// Counterpart: curio's `TaskGroup.completed`.
    ///
    /// ```
    /// use epicycle::{TaskGroup, future::Policy};
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new().policy(Policy::Any);
    ///     assert_eq!(group.winner(), None);
    ///     let quick = group.spawn(async { Ok::<_, &str>(1) });
    ///     group.spawn(std::future::pending::<Result<(), &str>>());
    ///     group.join().await.unwrap();
    ///     assert_eq!(group.winner(), Some(quick.id()));
    /// });
    /// ```
    pub fn winner(&self) -> Option<Id> {
        self.group.winner()
    }
}

impl fmt::Debug for GroupHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupHandle").field("children", &self.len()).finish_non_exhaustive()
    }
}
