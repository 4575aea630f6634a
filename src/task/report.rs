//! The last resort: errors that nobody can be handed go to the exception handler.
//!
//! *Invariant.* Reporting never unwinds and never loses the report: a handler that panics is replaced by the default one
//! for that report, and if no logger is installed the default one writes to standard error.
//!
//! *Threads.* Any. *Ordering.* None: no shared state.

use std::any::Any;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use super::{Id, catch};

/// What the exception handler is told. asyncio's context dictionary.
///
/// ```
/// use epicycle::Runtime;
/// let (sender, reports) = std::sync::mpsc::channel();
/// let rt = Runtime::builder()
///     .exception_handler(move |context| {
///         sender.send((context.message().to_string(), context.panic_message().map(str::to_string))).unwrap()
///     })
///     .build()
///     .unwrap();
/// rt.block_on(async {
///     epicycle::EventLoop::current().call_soon(|| panic!("oh no"));
///     epicycle::yield_now().await;
///     epicycle::yield_now().await;
/// });
/// let (message, panic) = reports.recv().unwrap();
/// assert_eq!(message, "Exception in callback");
/// assert_eq!(panic.as_deref(), Some("oh no"));
/// ```
#[derive(Debug, Clone)]
pub struct ErrorContext {
    pub(crate) message: String,
    pub(crate) panic: Option<String>,
    pub(crate) task: Option<(Id, String)>,
    pub(crate) location: Option<&'static Location<'static>>,
    pub(crate) loop_index: Option<usize>,
}

impl ErrorContext {
    /// A context for [`EventLoop::call_exception_handler`](crate::EventLoop::call_exception_handler).
    ///
    /// ```
    /// use epicycle::ErrorContext;
    ///
    /// let context = ErrorContext::new("the log is full");
    /// assert_eq!(context.message(), "the log is full");
    /// assert!(context.task_id().is_none() && context.panic_message().is_none());
    /// ```
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), panic: None, task: None, location: None, loop_index: None }
    }

    pub(crate) fn with_panic(mut self, payload: &(dyn Any + Send)) -> Self {
        self.panic = Some(payload_text(payload).unwrap_or("(a panic without a text)").to_string());
        self
    }

    /// What happened, in asyncio's words where it has some: "Exception in callback", "Task exception was never retrieved".
    ///
    /// Counterpart: `context["message"]` in asyncio.
    ///
    /// ```
    /// assert_eq!(epicycle::ErrorContext::new("the log is full").message(), "the log is full");
    /// ```
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The text of the panic, if there was one.
    ///
    /// Counterpart: `context["exception"]` in asyncio.
    ///
    /// ```
    /// let (sender, texts) = std::sync::mpsc::channel();
    /// let handler = move |context: &epicycle::ErrorContext| {
    ///     sender.send(context.panic_message().map(str::to_owned)).unwrap();
    /// };
    /// let rt = epicycle::Runtime::builder().exception_handler(handler).build().unwrap();
    /// drop(rt.spawn(async { panic!("oh no") }));
    /// assert_eq!(texts.recv().unwrap().as_deref(), Some("oh no"));
    /// ```
    pub fn panic_message(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    /// The task it happened in.
    ///
    /// Counterpart: `context["task"]` in asyncio.
    ///
    /// ```
    /// let (sender, ids) = std::sync::mpsc::channel();
    /// let handler = move |context: &epicycle::ErrorContext| sender.send(context.task_id()).unwrap();
    /// let rt = epicycle::Runtime::builder().exception_handler(handler).build().unwrap();
    /// let task = rt.spawn(async { panic!("oh no") });
    /// let id = task.id();
    /// drop(task);
    /// assert_eq!(ids.recv().unwrap(), Some(id));
    /// ```
    pub fn task_id(&self) -> Option<Id> {
        self.task.as_ref().map(|(id, _)| *id)
    }

    /// That task's name.
    ///
    /// ```
    /// let (sender, names) = std::sync::mpsc::channel();
    /// let handler = move |context: &epicycle::ErrorContext| {
    ///     sender.send(context.task_name().map(str::to_owned)).unwrap();
    /// };
    /// let rt = epicycle::Runtime::builder().exception_handler(handler).build().unwrap();
    /// rt.block_on(async { drop(epicycle::task::Builder::new().name("cook").spawn(async { panic!("oh no") })) });
    /// assert_eq!(names.recv().unwrap().as_deref(), Some("cook"));
    /// ```
    pub fn task_name(&self) -> Option<&str> {
        self.task.as_ref().map(|(_, name)| &**name)
    }

    /// Where the task was spawned or the callback scheduled.
    ///
    /// Counterpart: `context["source_traceback"]` in asyncio's debug mode.
    ///
    /// ```
    /// let (sender, places) = std::sync::mpsc::channel();
    /// let handler = move |context: &epicycle::ErrorContext| sender.send(context.location()).unwrap();
    /// let rt = epicycle::Runtime::builder().exception_handler(handler).build().unwrap();
    /// drop(rt.spawn(async { panic!("oh no") }));
    /// assert_eq!(places.recv().unwrap().unwrap().file(), file!());
    /// ```
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.location
    }

    /// The loop it happened on, if on one.
    ///
    /// ```
    /// let (sender, indexes) = std::sync::mpsc::channel();
    /// let handler = move |context: &epicycle::ErrorContext| sender.send(context.loop_index()).unwrap();
    /// let rt = epicycle::Runtime::builder().worker_threads(2).exception_handler(handler).build().unwrap();
    /// rt.loops()[1].call_soon_threadsafe(|| panic!("oh no"));
    /// assert_eq!(indexes.recv().unwrap(), Some(1));
    /// ```
    pub fn loop_index(&self) -> Option<usize> {
        self.loop_index
    }
}

impl fmt::Display for ErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(panic) = &self.panic {
            write!(f, ": {panic}")?;
        }
        if let Some((_, name)) = &self.task {
            write!(f, " [{name}]")?;
        }
        if let Some(location) = self.location {
            write!(f, " (from {location})")?;
        }
        if let Some(index) = self.loop_index {
            write!(f, " on loop {index}")?;
        }
        Ok(())
    }
}

/// A function that is told of errors.
///
/// Counterpart: what asyncio's `set_exception_handler` takes.
///
/// ```
/// use epicycle::{ErrorContext, EventLoop, task::Handler};
///
/// let quiet: Box<Handler> = Box::new(|_: &ErrorContext| {});
/// EventLoop::new().unwrap().set_exception_handler(Some(quiet));
/// ```
pub type Handler = dyn Fn(&ErrorContext) + Send + Sync;

/// A user's handler; `None` stands for the default one.
pub(crate) type ExceptionHandler = Option<Arc<Handler>>;

/// Hands `context` to `handler`, and to the default one if that panics.
pub(crate) fn report_to(handler: &ExceptionHandler, context: &ErrorContext) {
    let Some(handler) = handler else {
        return default_handler(context);
    };
    if let Err(payload) = catch(|| handler(context)) {
        default_handler(&ErrorContext::new("Unhandled error in exception handler").with_panic(&*payload));
        default_handler(context);
        drop_payload(payload);
    }
}

fn default_handler(context: &ErrorContext) {
    // A logger is user code too.
    let _ = catch(|| {
        if log::max_level() == log::LevelFilter::Off {
            eprintln!("epicycle: {context}");
        } else {
            log::error!(target: "epicycle", "{context}");
        }
    });
}

/// Drops a panic's payload: user data, whose destructor may panic as well. There it ends.
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch(|| drop(payload)) {
        std::mem::forget(second);
    }
}

/// The text of a panic's payload, for the two types that `panic!` makes.
pub(crate) fn payload_text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&'static str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}
