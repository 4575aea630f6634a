//! Clients' handlers: the task that each one gets, and what becomes of its result.
//!
//! *Invariant*: a handler is called inside its task, so that a panic of it is that task's, which reports it. *Threads*: any.
//! *Ordering*: none of its own.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use super::service::Serve;
use super::{StreamReader, StreamWriter};
use crate::event_loop::EventLoop;
use crate::scheduler::spawn_at;
use crate::task::{Builder, ErrorContext};

/// What a client's handler may return: nothing, or a `Result`, of which an error is reported to the exception handler, as
/// asyncio does with what a `client_connected_cb` raises.
///
/// # Examples
///
/// ```
/// use epicycle::streams::HandlerOutput;
///
/// assert_eq!(().error(), None);
/// assert_eq!(Err::<(), _>("no").error().as_deref(), Some("no"));
/// ```
#[diagnostic::on_unimplemented(
    message = "a client's handler returns `()` or a `Result`, not `{Self}`",
    note = "the error of the `Result` has to be `Display + Send`",
    note = "one that never returns (`!`): give its `async fn` the return type `()`"
)]
pub trait HandlerOutput: Send + 'static {
    /// The text of the error, if it is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::HandlerOutput;
    ///
    /// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    /// assert_eq!(Err::<(), _>(refused).error().as_deref(), Some("connection refused"));
    /// assert_eq!(Ok::<_, std::io::Error>("whatever").error(), None);
    /// ```
    fn error(self) -> Option<String>;
}

impl HandlerOutput for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<T: Send + 'static, E: Display + Send + 'static> HandlerOutput for Result<T, E> {
    fn error(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// The tasks bear `location`, the place where the server was started.
pub(super) fn serve<H, F>(handler: H, location: &'static Location<'static>) -> Arc<Serve>
where
    H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
    F: Future<Output: HandlerOutput> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |reader, writer| {
        let handler = handler.clone();
        let client = async move {
            if let Some(error) = handler(reader, writer).await.error() {
                report(error);
            }
        };
        drop(spawn_at(client, Builder::new(), location));
    })
}

/// In asyncio's words.
fn report(error: String) {
    if let Some(event_loop) = EventLoop::try_current() {
        let context = ErrorContext::new(format!("Unhandled exception in client_connected_cb: {error}"));
        event_loop.call_exception_handler(&context);
    }
}
