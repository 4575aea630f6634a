//! [`TaskGroup::scope`]: a body and its children, as one.
//!
//! *Invariant.* The body is over, and all children are, before the future completes, on unwind too. *Threads.* The body's is
//! that of the future. *Ordering.* None of its own.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::child::{Valueless, settle};
use super::error::{BoxError, GroupError};
use super::{TaskGroup, Watch};
use crate::scheduler::report_error;
use crate::task::{catch, drop_payload};

/// What the body of a [`TaskGroup::scope`] may return: nothing, or a `Result` whose error counts as one of the group's.
///
/// | the body returns | the scope gives |
/// |---|---|
/// | `()` | `Result<(), GroupError>` |
/// | `Result<T, E>` | `Result<Option<T>, GroupError>`, `None` if the group was cancelled before the body had finished |
///
/// ```
/// use epicycle::TaskGroup;
///
/// epicycle::run(async {
///     let nothing: () = TaskGroup::scope(async |_| ()).await.unwrap();
///     let value: Option<u8> = TaskGroup::scope(async |_| "1".parse()).await.unwrap();
///     assert_eq!((nothing, value), ((), Some(1)));
///     assert!(TaskGroup::scope(async |_| "two".parse::<u8>()).await.is_err());
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "the body of a TaskGroup's scope returns `()` or a `Result`, not `{Self}`",
    label = "the body returns `{Self}`",
    note = "return a value as `Ok::<_, Box<dyn std::error::Error + Send + Sync>>(value)`, or with any other error"
)]
pub trait ScopeOutput: sealed::Settle {}

impl<R: sealed::Settle> ScopeOutput for R {}

mod sealed {
    use super::{BoxError, Valueless, settle};

    #[expect(unnameable_types, reason = "sealed")]
    #[diagnostic::on_unimplemented(
        message = "the body of a TaskGroup's scope returns `()` or a `Result`, not `{Self}`"
    )]
    pub trait Settle {
        type Value;
        type Output;
        fn settle(self) -> Result<Self::Value, Valueless>;
        fn output(value: Option<Self::Value>) -> Self::Output;
    }

    impl Settle for () {
        type Value = ();
        type Output = ();
        fn settle(self) -> Result<(), Valueless> {
            Ok(())
        }
        fn output(_: Option<()>) {}
    }

    impl<T, E: Into<BoxError>> Settle for Result<T, E> {
        type Value = T;
        type Output = Option<T>;
        fn settle(self) -> Result<T, Valueless> {
            // The body's caller is on the way up, whosever it is.
            settle(self, |_| true)
        }
        fn output(value: Option<T>) -> Option<T> {
            value
        }
    }
}

impl TaskGroup {
    /// Runs `body` with a new group, and waits for the body and all children. The body may borrow.
    ///
    /// The first error, of a child or the body, cancels the rest; the body is dropped where it waits, as children are.
    /// The body returns nothing or a `Result`, see [`ScopeOutput`].
    ///
    /// Counterpart: `async with asyncio.TaskGroup() as group`.
    ///
    /// # Errors
    /// [`GroupError`] with all that went wrong in the children and the body.
    ///
    /// # Panics
    /// With the body's panic, once all children were cancelled and have ended. Panics of children are errors.
    ///
    /// # Cancel safety
    /// Dropping the future drops the body and cancels the children.
    ///
    /// ```
    /// use std::io;
    /// use epicycle::TaskGroup;
    ///
    /// epicycle::run(async {
    ///     let names = vec!["a", "b", "c"];
    ///     let total = TaskGroup::scope(async |group| {
    ///         let tasks: Vec<_> = names.iter().map(|name| {
    ///             let len = name.len();
    ///             group.spawn(async move { Ok::<_, io::Error>(len) })
    ///         }).collect();
    ///         let mut total = 0;
    ///         for task in tasks {
    ///             total += task.await?;
    ///         }
    ///         Ok::<_, epicycle::JoinError>(total)
    ///     });
    ///     assert_eq!(total.await.unwrap(), Some(3));
    /// });
    /// ```
    pub async fn scope<R, B>(body: B) -> Result<R::Output, GroupError>
    where
        B: AsyncFnOnce(&TaskGroup) -> R,
        R: ScopeOutput,
    {
        Self::new().run(body).await
    }

    /// As [`scope`](Self::scope), with this group: one with a [`policy`](Self::policy), or [within](Self::within) a cancel scope.
    ///
    /// # Errors
    /// As there; within a cancel scope also its cancellation, as of [`join`](Self::join).
    ///
    /// # Panics
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    ///
    /// ```
    /// use std::{future::pending, io};
    /// use epicycle::TaskGroup;
    /// use epicycle::future::Policy;
    ///
    /// epicycle::run(async {
    ///     let group = TaskGroup::new().policy(Policy::Any);
    ///     group.run(async |group| {
    ///         group.spawn(async { Ok::<_, io::Error>(1) });
    ///         group.spawn(pending::<io::Result<()>>());
    ///     }).await.unwrap();
    /// });
    /// ```
    pub async fn run<R, B>(self, body: B) -> Result<R::Output, GroupError>
    where
        B: AsyncFnOnce(&TaskGroup) -> R,
        R: ScopeOutput,
    {
        let mut watch = Watch::new(&self);
        let mut body = Box::pin(body(&self));
        let ended = poll_fn(|cx| self.poll_body(&mut watch, body.as_mut(), cx)).await;
        let dropped = catch(|| drop(body));
        let (value, panic) = self.conclude(ended, dropped);
        watch.closed().await;
        let result = self.group().take_result(None);
        if let Some(payload) = panic {
            if let Err(lost) = result {
                // Their texts are user code, too.
                let report = || {
                    report_error("Errors of a task group were hidden by a panic of its body", io::Error::other(lost))
                };
                let _ = catch(report).map_err(drop_payload);
            }
            resume_unwind(payload);
        }
        result.map(|()| R::output(value))
    }

    /// Ready when the body is over, or is to be dropped because the group is stopping.
    fn poll_body<F: Future>(
        &self,
        watch: &mut Watch<'_>,
        body: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<F::Output>, Payload>> {
        match catch(|| body.poll(cx)) {
            Ok(Poll::Ready(ended)) => return Poll::Ready(Ok(Some(ended))),
            Ok(Poll::Pending) => {}
            Err(payload) => return Poll::Ready(Err(payload)),
        }
        watch.waiter.poll_scope(cx);
        // A body within a scope is asked, like everything there.
        let stopping = self.group().poll_stopping(&mut watch.waiter.key, cx);
        if stopping && self.outer.is_none() { Poll::Ready(Ok(None)) } else { Poll::Pending }
    }

    /// Makes of the body's end a value or the group's stop, or the panic that is to go on.
    fn conclude<R: ScopeOutput>(
        &self,
        ended: Result<Option<R>, Payload>,
        dropped: Result<(), Payload>,
    ) -> (Option<R::Value>, Option<Payload>) {
        let group = self.group();
        let why = match (ended, dropped) {
            (Ok(None), Ok(())) => return (None, None),
            (Ok(Some(output)), Ok(())) => match output.settle() {
                Ok(value) => return (Some(value), None),
                Err(why) => why,
            },
            (Err(payload), second) => {
                group.stop(None);
                let _ = second.map_err(drop_payload);
                return (None, Some(payload));
            }
            (Ok(_), Err(payload)) => {
                group.stop(None);
                return (None, Some(payload));
            }
        };
        match why {
            Valueless::Failure(failure) => group.fail(failure, None),
            // That of the group's own scope ends here; any other is on its way up.
            Valueless::Cancelled(cancelled) => group.stop((!cancelled.is_of(&group.scope)).then_some(cancelled)),
            Valueless::HandedOver => group.stop(None),
        }
        (None, None)
    }
}

type Payload = Box<dyn Any + Send>;
