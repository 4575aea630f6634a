//! [`GroupError`]: all that went wrong in a group, together.
//!
//! *Invariant.* Errors stand in the order in which the group learned of them. *Threads.* Any. *Ordering.* None: plain data.

use std::error::Error;
use std::fmt;
use std::panic::Location;

use super::child::cancelled_in;
use super::start::StartError;
use crate::cancel::{Cancelled, CarriesCancelled};
use crate::task::{ErrorContext, Id, JoinError};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// What went wrong in a [`TaskGroup`](crate::TaskGroup): one error or more, never hidden behind each other.
///
/// Without a single error, it says that the scope that the group is [`within`](crate::TaskGroup::within) was cancelled.
///
/// Counterpart: Python's `ExceptionGroup`, with [`leaves`](Self::leaves) for groups of groups.
///
/// # Examples
///
/// ```
/// use std::io;
/// use epicycle::TaskGroup;
///
/// epicycle::run(async {
///     let group = TaskGroup::new();
///     group.spawn(async { Err::<(), _>(io::Error::from(io::ErrorKind::AddrInUse)) });
///     let error = group.join().await.unwrap_err();
///     assert_eq!(error.errors().len(), 1);
///     assert_eq!(error.find::<io::Error>().unwrap().kind(), io::ErrorKind::AddrInUse);
///
///     let group = TaskGroup::new();
///     group.spawn(async { if true { panic!("oh no") }; Ok::<_, io::Error>(()) });
///     let error = group.join().await.unwrap_err();
///     assert!(error.errors()[0].is_panic());
///     assert_eq!(error.to_string(), "task group failed: task panicked: oh no");
/// });
/// ```
#[derive(Debug)]
pub struct GroupError {
    errors: Vec<ChildError>,
    cancelled: Option<Cancelled>,
}

impl GroupError {
    pub(super) fn new(errors: Vec<ChildError>, cancelled: Option<Cancelled>) -> Self {
        Self { errors, cancelled }
    }

    /// The errors, in the order in which the group learned of them.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(async { Err::<(), _>("no") });
    ///     assert_eq!(group.join().await.unwrap_err().errors()[0].to_string(), "no");
    /// });
    /// ```
    pub fn errors(&self) -> &[ChildError] {
        &self.errors
    }

    /// The errors, to keep.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(async { Err::<(), _>(std::io::Error::other("no")) });
    ///     let error = group.join().await.unwrap_err().into_errors().remove(0);
    ///     assert_eq!(error.downcast::<std::io::Error>().unwrap().to_string(), "no");
    /// });
    /// ```
    pub fn into_errors(self) -> Vec<ChildError> {
        self.errors
    }

    /// All errors, with those of a child's own group in the place of that group's error.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let outer = TaskGroup::new();
    ///     outer.spawn(async {
    ///         let inner = TaskGroup::new();
    ///         inner.spawn(async { Err::<(), _>("deep") });
    ///         inner.join().await
    ///     });
    ///     let error = outer.join().await.unwrap_err();
    ///     assert_eq!(error.leaves()[0].to_string(), "deep");
    /// });
    /// ```
    pub fn leaves(&self) -> Vec<&ChildError> {
        let mut leaves = Vec::new();
        let mut next: Vec<&ChildError> = self.errors.iter().rev().collect();
        while let Some(error) = next.pop() {
            match error.downcast_ref::<GroupError>() {
                Some(group) if !group.errors.is_empty() => next.extend(group.errors.iter().rev()),
                _ => leaves.push(error),
            }
        }
        leaves
    }

    /// The first error of the type `E`, in this group or a child's own.
    ///
    /// Counterpart: Python's `ExceptionGroup.subgroup`, and `except*`.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    /// use std::{fmt, num::ParseIntError};
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(async { "two".parse::<u8>() });
    ///     let error = group.join().await.unwrap_err();
    ///     assert!(error.find::<ParseIntError>().is_some());
    ///     assert!(error.find::<fmt::Error>().is_none());
    /// });
    /// ```
    pub fn find<E: Error + 'static>(&self) -> Option<&E> {
        self.leaves().into_iter().find_map(ChildError::downcast_ref)
    }

    /// The cancellation of the scope that the group is within, if that is why it stopped.
    ///
    /// ```
    /// use epicycle::{CancelScope, TaskGroup};
    ///
    /// epicycle::run(async {
    ///     let scope = CancelScope::new();
    ///     let group = TaskGroup::within(&scope);
    ///     scope.cancel_with("shutting down");
    ///     let error = group.join().await.unwrap_err();
    ///     assert_eq!(error.cancelled().unwrap().reason(), Some("shutting down"));
    /// });
    /// ```
    pub fn cancelled(&self) -> Option<&Cancelled> {
        self.cancelled.as_ref()
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.errors[..], &self.cancelled) {
            ([], Some(cancelled)) => write!(f, "task group {cancelled}"),
            ([], None) => f.write_str("task group failed"),
            ([only], _) => write!(f, "task group failed: {only}"),
            ([first, ..], _) => {
                write!(f, "task group failed with {} errors, the first of them: {first}", self.errors.len())
            }
        }
    }
}

impl Error for GroupError {
    /// The first error.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.errors.first().map(|first| first as &(dyn Error + 'static))
    }
}

impl IntoIterator for GroupError {
    type Item = ChildError;
    type IntoIter = std::vec::IntoIter<ChildError>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.into_iter()
    }
}

impl<'a> IntoIterator for &'a GroupError {
    type Item = &'a ChildError;
    type IntoIter = std::slice::Iter<'a, ChildError>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.iter()
    }
}

impl From<Cancelled> for GroupError {
    fn from(cancelled: Cancelled) -> Self {
        Self { errors: Vec::new(), cancelled: Some(cancelled) }
    }
}

impl CarriesCancelled for GroupError {
    /// None if something else went wrong, too, which beats the cancellation. Errors that are the `Cancelled` of one and the same
    /// scope are nothing else: that scope may take the group's error for its own, wherever the group stood.
    fn as_cancelled(&self) -> Option<&Cancelled> {
        let mut causes = self.errors.iter().map(ChildError::as_cancelled).chain(self.cancelled.as_ref().map(Some));
        let first = causes.next()??;
        causes.all(|cause| cause.is_some_and(|cause| cause.is_same_scope(first))).then_some(first)
    }
}

/// One error of a group: the `Err` that a child (or the body of a scope) returned, or its panic.
///
/// # Examples
///
/// ```
/// use epicycle::TaskGroup;
///
/// epicycle::run(async {
///     let group = TaskGroup::new();
///     let task = group.spawn(async { Err::<(), _>("no") });
///     let error = group.join().await.unwrap_err();
///     assert_eq!(error.errors()[0].to_string(), "no");
///     assert_eq!(error.errors()[0].task_id(), Some(task.id()));
/// });
/// ```
pub struct ChildError {
    what: Failure,
    who: Option<Who>,
}

/// How a child failed.
#[derive(Debug)]
pub enum Failure {
    /// With an error of its own.
    Error(BoxError),
    /// By a panic.
    Panic(JoinError),
}

impl Failure {
    /// It says no more than that some task was cancelled.
    pub(super) fn is_of_cancelled(&self) -> bool {
        let Failure::Error(error) = self else { return false };
        error.downcast_ref().is_some_and(JoinError::is_cancelled)
            || error.downcast_ref().is_some_and(StartError::is_of_cancelled)
    }
}

/// Which child.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) id: Id,
    pub(super) name: Option<String>,
    pub(super) location: &'static Location<'static>,
}

impl ChildError {
    pub(super) fn new(what: Failure, who: Option<Who>) -> Self {
        Self { what, who }
    }

    /// The child's task; none if it was the body of a scope.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let error = TaskGroup::scope(async |_| Err::<(), _>("the body's")).await.unwrap_err();
    ///     assert_eq!(error.errors()[0].task_id(), None);
    /// });
    /// ```
    pub fn task_id(&self) -> Option<Id> {
        self.who.as_ref().map(|who| who.id)
    }

    /// The child's name, if it was given one.
    ///
    /// ```
    /// use epicycle::{TaskGroup, task};
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn_with(task::Builder::new().name("reader"), async { Err::<(), _>("unreadable") });
    ///     assert_eq!(group.join().await.unwrap_err().errors()[0].task_name(), Some("reader"));
    /// });
    /// ```
    pub fn task_name(&self) -> Option<&str> {
        self.who.as_ref()?.name.as_deref()
    }

    /// Where the child was spawned.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     let line = line!() + 1;
    ///     group.spawn(async { Err::<(), _>("no") });
    ///     assert_eq!(group.join().await.unwrap_err().errors()[0].location().unwrap().line(), line);
    /// });
    /// ```
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.who.as_ref().map(|who| who.location)
    }

    /// Whether the child panicked.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(async { if true { panic!("oh no") } Ok::<_, &str>(()) });
    ///     assert!(group.join().await.unwrap_err().errors()[0].is_panic());
    /// });
    /// ```
    pub fn is_panic(&self) -> bool {
        matches!(self.what, Failure::Panic(_))
    }

    /// The panic's payload, for `std::panic::resume_unwind`.
    ///
    /// # Errors
    /// This error, if it is not a panic.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(async { if true { panic!("oh no") } Ok::<_, &str>(()) });
    ///     for error in group.join().await.unwrap_err() {
    ///         assert_eq!(error.try_into_panic().unwrap().downcast_ref(), Some(&"oh no"));
    ///     }
    /// });
    /// ```
    pub fn try_into_panic(self) -> Result<Box<dyn std::any::Any + Send>, Self> {
        match self.what {
            Failure::Panic(panic) => {
                panic.try_into_panic().map_err(|panic| Self { what: Failure::Panic(panic), ..self })
            }
            what => Err(Self { what, ..self }),
        }
    }

    /// The error that the child returned, if it is an `E`.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    /// use std::io;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(async { Err::<(), _>(io::Error::from(io::ErrorKind::NotFound)) });
    ///     let error = group.join().await.unwrap_err();
    ///     let cause: &io::Error = error.errors()[0].downcast_ref().unwrap();
    ///     assert_eq!(cause.kind(), io::ErrorKind::NotFound);
    /// });
    /// ```
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match &self.what {
            Failure::Error(error) => error.downcast_ref(),
            Failure::Panic(_) => None,
        }
    }

    /// The error that the child returned, if it is an `E`, to keep.
    ///
    /// # Errors
    /// This error, if it is not.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    /// use std::{fmt, io};
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(async { Err::<(), _>(io::Error::from(io::ErrorKind::NotFound)) });
    ///     let error = group.join().await.unwrap_err().into_errors().remove(0);
    ///     let error = error.downcast::<fmt::Error>().unwrap_err(); // given back
    ///     assert_eq!(error.downcast::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
    /// });
    /// ```
    pub fn downcast<E: Error + 'static>(self) -> Result<E, Self> {
        match self.what {
            Failure::Error(error) => match error.downcast() {
                Ok(error) => Ok(*error),
                Err(error) => Err(Self { what: Failure::Error(error), ..self }),
            },
            what => Err(Self { what, ..self }),
        }
    }

    /// Whether the error that the child returned is an `E`.
    ///
    /// ```
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(async { "two".parse::<u8>() });
    ///     assert!(group.join().await.unwrap_err().errors()[0].is::<std::num::ParseIntError>());
    /// });
    /// ```
    pub fn is<E: Error + 'static>(&self) -> bool {
        self.downcast_ref::<E>().is_some()
    }

    fn as_cancelled(&self) -> Option<&Cancelled> {
        match &self.what {
            Failure::Error(error) => cancelled_in(error),
            Failure::Panic(_) => None,
        }
    }

    /// What the exception handler is told if nobody else is.
    pub(super) fn context(&self, message: &str) -> ErrorContext {
        let mut context = ErrorContext::new(format!("{message}: {self}"));
        context.location = self.location();
        if let Some(who) = &self.who {
            let name = who.name.clone().unwrap_or_else(|| format!("Task-{}", who.id));
            context.task = Some((who.id, name));
        }
        context
    }
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Failure::Error(error) => error.fmt(f),
            Failure::Panic(panic) => panic.fmt(f),
        }
    }
}

impl fmt::Debug for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("ChildError");
        match &self.what {
            Failure::Error(error) => tuple.field(error),
            Failure::Panic(panic) => tuple.field(panic),
        };
        tuple.finish()
    }
}

impl Error for ChildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.what {
            Failure::Error(error) => error.source(),
            Failure::Panic(_) => None,
        }
    }
}
