//! A child's future: the user's, with what ends badly handed to the group instead of the task.
//!
//! *Invariant.* Its task completes with the child's value or is cancelled; it never panics. A child that fails cancels its own
//! task, from inside its last poll. Returning the `Cancelled` of its own scope, or of one around that, is being cancelled; that of
//! any other scope is an error like any other. *Threads.* Wherever the task runs. *Ordering.* None: `state.rs` has the lock.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::error::{BoxError, Failure, GroupError, Who};
use super::state::Group;
use crate::cancel::{CancelScope, Cancelled, CarriesCancelled};
use crate::scheduler::tell;
use crate::task::{Event, JoinError, Outcome, Task, catch, drop_payload};

/// A place in the group for a child whose task is about to be spawned, and what to wrap its future in. Two steps, so that the
/// caller itself spawns and the task bears the place of the call. A cooperative child has a scope of its own.
pub(super) fn enter(group: &Arc<Group>, scope: Option<CancelScope>) -> (Option<Member>, Report) {
    let Some(key) = group.enter(scope.is_some()) else { return (None, Report { to: None }) };
    let member = Member { group: group.clone(), key, outcome: Outcome::Cancelled };
    (Some(member), Report { to: Some(Parent { group: group.clone(), key, scope }) })
}

/// Makes the task the child for which `place` was kept. Without one, the group having taken no more children, the task is
/// cancelled before it begins.
pub(super) fn adopt<T>(
    place: Option<Member>,
    (name, location): (Option<String>, &'static Location<'static>),
    task: Task<T>,
) -> Task<T> {
    let Some(member) = place else {
        task.cancel();
        return task;
    };
    let group = &member.group;
    tell(|| Event::FutureJoins { future: group.id(), task: task.id() });
    group.register(member.key, Who { id: task.id(), name, location }, task.canceller());
    // Not by a handle of the child's loop, which may be away when the child ends, and stay away.
    task.watch(move |outcome| member.ended(outcome));
    task
}

/// A child's place in the group. It is given up when the task is over, or when nobody is left to say so: also if spawning
/// panics, for want of a runtime.
pub(super) struct Member {
    group: Arc<Group>,
    key: usize,
    outcome: Outcome,
}

impl Member {
    fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.ended(self.key, self.outcome);
    }
}

/// A child's way to tell how it ended.
pub(super) struct Report {
    /// None if the group did not take it.
    to: Option<Parent>,
}

/// A child's group, as the child knows it.
struct Parent {
    group: Arc<Group>,
    /// The child's.
    key: usize,
    /// The child's own, if it has one.
    scope: Option<CancelScope>,
}

impl Report {
    /// What the child's task is made of.
    pub(super) fn around<F>(self, future: F) -> ChildFuture<F> {
        ChildFuture { future: Some(future), report: self }
    }

    fn end_without_value(&self, failure: Option<Failure>) {
        if let Some(Parent { group, key, .. }) = &self.to {
            group.end_without_value(*key, failure);
        }
    }

    /// Whether that is the child's cancellation, and none that it should have dealt with itself.
    fn is_cancelled_by(&self, cancelled: &Cancelled) -> bool {
        self.to.as_ref().is_some_and(|to| to.scope.as_ref().unwrap_or(&to.group.scope).is_within(cancelled))
    }
}

pin_project! {
    pub(super) struct ChildFuture<F> {
        // Empty once it has ended.
        #[pin]
        future: Option<F>,
        report: Report,
    }

    impl<F> PinnedDrop for ChildFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let Err(payload) = catch(|| this.future.set(None)) else { return };
            match this.report.to {
                Some(_) => this.report.end_without_value(Valueless::panic(payload).into_failure()),
                // Nobody's child: its task has the panic.
                None => resume_unwind(payload),
            }
        }
    }
}

impl<F, T, E> Future for ChildFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut this = self.project();
        if this.report.to.is_none() {
            // Refused: its task is about to be cancelled, but another loop was quicker.
            return Poll::Pending;
        }
        // Without a future it has ended without a value, and its task is about to be cancelled.
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let mut ended = match catch(|| future.poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => settle(result, |cancelled| this.report.is_cancelled_by(cancelled)),
            Err(payload) => Err(Valueless::panic(payload)),
        };
        // The future goes first, so that the group hears of its destructor's panic, too.
        if let Err(payload) = catch(|| this.future.set(None)) {
            match ended {
                Ok(value) => {
                    let _ = catch(|| drop(value)).map_err(drop_payload);
                }
                Err(first) => this.report.end_without_value(first.into_failure()),
            }
            ended = Err(Valueless::panic(payload));
        }
        match ended {
            Ok(value) => Poll::Ready(value),
            Err(why) => {
                this.report.end_without_value(why.into_failure());
                Poll::Pending
            }
        }
    }
}

/// Why there is no value.
#[derive(Debug)]
pub enum Valueless {
    /// It failed.
    Failure(Failure),
    /// It passes on the cancellation of a scope around the group.
    Cancelled(Cancelled),
    /// Somebody else has the error.
    HandedOver,
}

impl Valueless {
    pub(super) fn panic(payload: Box<dyn Any + Send>) -> Self {
        Self::Failure(Failure::Panic(JoinError::panic(payload)))
    }

    fn into_failure(self) -> Option<Failure> {
        match self {
            Self::Failure(failure) => Some(failure),
            Self::Cancelled(_) | Self::HandedOver => None,
        }
    }
}

/// The value, or why there is none. A `Cancelled` on its way up is no failure, if it `may_pass`.
pub(super) fn settle<T, E: Into<BoxError>>(
    result: Result<T, E>,
    may_pass: impl FnOnce(&Cancelled) -> bool,
) -> Result<T, Valueless> {
    let error = match result {
        Ok(value) => return Ok(value),
        Err(error) => catch(|| error.into()).map_err(Valueless::panic)?,
    };
    if error.is::<HandedOver>() {
        return Err(Valueless::HandedOver);
    }
    Err(match cancelled_in(&error).filter(|cancelled| may_pass(cancelled)) {
        Some(cancelled) => Valueless::Cancelled(cancelled.clone()),
        None => Valueless::Failure(Failure::Error(error)),
    })
}

/// The cancellation, if the error is nothing else.
pub(super) fn cancelled_in(error: &BoxError) -> Option<&Cancelled> {
    error.as_cancelled().or_else(|| error.downcast_ref::<GroupError>()?.as_cancelled()).or_else(|| {
        let error: &std::io::Error = error.downcast_ref()?;
        error.as_cancelled()
    })
}

/// The error of a child whose real error somebody else has got.
#[derive(Debug)]
pub(super) struct HandedOver;

impl fmt::Display for HandedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the error was handed over")
    }
}

impl Error for HandedOver {}
