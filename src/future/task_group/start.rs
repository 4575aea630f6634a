//! [`GroupHandle::start`]: a child that says when it is ready to be used.
//!
//! *Invariant.* `start` gives a child that has reported, or leaves none behind. A child's error goes to one of the two, the
//! starter or the group. *Threads.* Any. *Ordering.* The lock of the slot.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::GroupHandle;
use super::child::{HandedOver, adopt, enter};
use super::error::{BoxError, Failure, Who};
use super::state::Group;
use crate::cancel::wake_all;
use crate::primitive::Mutex;
use crate::scheduler::{self, tell};
use crate::task::{Event, FutureId, Task, try_id};

impl GroupHandle {
    /// Starts a child and waits until it reports, by [`TaskStatus::started`], that it is ready: a server that listens, say.
    /// Gives what it reported, and its task.
    ///
    /// An error that the child returns before it reports comes out here, and is not the group's; the group goes on. A panic is
    /// always the group's.
    ///
    /// Counterpart: trio's `nursery.start`.
    ///
    /// # Errors
    /// [`StartError`] if the child ended without reporting; or dropped its status, so that it never can: then it is cancelled.
    /// In both cases it has ended.
    ///
    /// # Panics
    /// Outside a runtime.
    ///
    /// # Cancel safety
    /// Dropping the future before the child has reported cancels the child.
    ///
    /// ```
    /// use std::io;
    /// use epicycle::TaskGroup;
    /// use epicycle::net::{TcpListener, TcpStream};
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     let (address, _server) = group.start(|status| async move {
    ///         let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///         status.started(listener.local_addr()?);
    ///         listener.accept().await?;
    ///         Ok::<_, io::Error>(())
    ///     }).await.unwrap();
    ///     TcpStream::connect(address).await.unwrap();
    ///     group.join().await.unwrap();
    /// });
    /// ```
    #[track_caller]
    pub fn start<M, F, V, T, E>(
        &self,
        make: M,
    ) -> impl Future<Output = Result<(V, Task<T>), StartError>> + use<M, F, V, T, E>
    where
        M: FnOnce(TaskStatus<V>) -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        V: Send + 'static,
        T: Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let slot = Arc::new(Mutex::new(Slot::Waiting(None)));
        let future = make(TaskStatus { slot: slot.clone() });
        let future = start(future, slot.clone());
        let location = Location::caller();
        let (place, report) = enter(self.group(), None);
        let task = adopt(place, (None, location), scheduler::spawn(report.around(future)));
        let who = Who { id: task.id(), name: None, location };
        let starter = Starter { slot, group: self.group().clone(), who };
        let mut task = task.cancel_on_drop();
        async move {
            let slot = &starter.slot;
            let child = FutureId::of_task(starter.who.id);
            let started = poll_fn(|cx| {
                let started = Slot::poll_started(slot, cx.waker());
                if started.is_pending() {
                    tell(|| Event::Blocking { task: try_id(), future: child });
                }
                started
            });
            if let Some(value) = started.await {
                return Ok((value, task.detach()));
            }
            // It may have dropped the status a moment before it returns its error.
            task.cancel();
            let _ = (&mut task).await;
            let error = if let Slot::Failed(error) = Slot::take(slot) { Some(error) } else { None };
            Err(StartError { error })
        }
    }
}

/// Who waits. Once it gives up, an error of the child is the group's.
struct Starter<V> {
    slot: Arc<Mutex<Slot<V>>>,
    group: Arc<Group>,
    who: Who,
}

impl<V> Drop for Starter<V> {
    fn drop(&mut self) {
        if let Slot::Failed(error) = Slot::take(&self.slot) {
            self.group.fail(Failure::Error(error), Some(self.who.clone()));
        }
    }
}

/// Between the child and who waits for it.
enum Slot<V> {
    Waiting(Option<Waker>),
    Started(V),
    /// The status is gone.
    Dropped,
    Failed(BoxError),
    Taken,
}

impl<V> Slot<V> {
    /// `None`: it will not.
    fn poll_started(slot: &Mutex<Self>, waker: &Waker) -> Poll<Option<V>> {
        let waker = waker.clone();
        let mut now = slot.lock();
        let old = match &mut *now {
            Slot::Waiting(old) => old.replace(waker),
            Slot::Started(_) => {
                let Slot::Started(value) = mem::replace(&mut *now, Slot::Taken) else { unreachable!("just seen") };
                return Poll::Ready(Some(value));
            }
            Slot::Dropped | Slot::Failed(_) | Slot::Taken => return Poll::Ready(None),
        };
        drop(now);
        drop(old);
        Poll::Pending
    }

    /// Ends the waiting.
    fn take(slot: &Mutex<Self>) -> Self {
        mem::replace(&mut *slot.lock(), Slot::Taken)
    }

    /// Settles a slot that is still waiting; else gives `settled` back.
    fn settle(slot: &Mutex<Self>, settled: Self) -> Result<(), Self> {
        let mut now = slot.lock();
        let is_open = matches!((&*now, &settled), (Slot::Waiting(_), _) | (Slot::Dropped, Slot::Failed(_)));
        if !is_open {
            return Err(settled);
        }
        let before = mem::replace(&mut *now, settled);
        drop(now);
        if let Slot::Waiting(Some(waker)) = before {
            wake_all(vec![waker]);
        }
        Ok(())
    }
}

/// A child's way to report that it is ready. trio's `TaskStatus`.
///
/// # Examples
///
/// ```
/// use epicycle::TaskGroup;
///
/// epicycle::run(async {
///     let group = TaskGroup::new();
///     let (port, task) = group.start(|status| async move {
///         status.started(8080);
///         Ok::<_, &str>("served")
///     }).await.unwrap();
///     assert_eq!((port, task.await.unwrap()), (8080, "served"));
/// });
/// ```
#[must_use = "a child that drops it without a report fails to start"]
pub struct TaskStatus<V> {
    slot: Arc<Mutex<Slot<V>>>,
}

impl<V> TaskStatus<V> {
    /// Reports. If nobody waits any more, the child is cancelled already.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     let (value, task) = group.start(|status| async move {
    ///         status.started("ready");
    ///         std::future::pending::<Result<(), &str>>().await
    ///     }).await.unwrap();
    ///     assert_eq!((value, task.done()), ("ready", false));
    ///     group.cancel();
    /// });
    /// ```
    pub fn started(self, value: V) {
        let _unwanted = Slot::settle(&self.slot, Slot::Started(value));
    }
}

impl<V> Drop for TaskStatus<V> {
    fn drop(&mut self) {
        let _settled = Slot::settle(&self.slot, Slot::Dropped);
    }
}

impl<V> fmt::Debug for TaskStatus<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskStatus")
    }
}

/// The child: its error is the starter's until it has reported.
async fn start<V, T, E: Into<BoxError>>(
    future: impl Future<Output = Result<T, E>>,
    slot: Arc<Mutex<Slot<V>>>,
) -> Result<T, BoxError> {
    let error = match future.await {
        Ok(value) => return Ok(value),
        Err(error) => error.into(),
    };
    match Slot::settle(&slot, Slot::Failed(error)) {
        Ok(()) => Err(HandedOver.into()),
        Err(Slot::Failed(error)) => Err(error),
        Err(_) => unreachable!("what was not taken comes back"),
    }
}

/// A child of [`GroupHandle::start`] ended before it had reported.
///
/// # Examples
///
/// ```
/// use epicycle::TaskGroup;
///
/// epicycle::run(async {
///     let group = TaskGroup::new();
///     let error = group.start::<_, _, u16, (), _>(|status| async move {
///         let _status = status;
///         Err("port in use")
///     }).await.unwrap_err();
///     assert_eq!(error.to_string(), "the child failed before it had started: port in use");
///     assert!(group.join().await.is_ok());
/// });
/// ```
#[derive(Debug)]
pub struct StartError {
    error: Option<BoxError>,
}

impl StartError {
    /// The child's error; none if it ended, was cancelled or dropped its [`TaskStatus`] without one.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     let silent = group.start::<_, _, u16, (), _>(|status| async move {
    ///         drop(status);
    ///         Ok::<_, &str>(())
    ///     });
    ///     assert!(silent.await.unwrap_err().into_error().is_none());
    /// });
    /// ```
    pub fn into_error(self) -> Option<Box<dyn Error + Send + Sync>> {
        self.error
    }

    /// As far as one can tell: it has no error.
    pub(super) fn is_of_cancelled(&self) -> bool {
        self.error.is_none()
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "the child failed before it had started: {error}"),
            None => f.write_str("the child ended without having started"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_ref().map(|error| &**error as &(dyn Error + 'static))
    }
}
