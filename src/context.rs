//! Context variables: values that a task has, and that whatever it spawns or schedules inherits.
//!
//! | asyncio | Tokio | here |
//! |---|---|---|
//! | `ContextVar("name")`, with a default | `task_local!` | [`task_local!`](crate::task_local), with a default if you like |
//! | - | `KEY.scope(value, future)`, `sync_scope` | [`LocalKey::scope`], [`sync_scope`](LocalKey::sync_scope) |
//! | `var.get()` | `with`, `try_with`, `get` | [`with`](LocalKey::with), [`try_with`](LocalKey::try_with), [`get`](LocalKey::get) |
//! | `var.set(value)`, `var.reset(token)` | - | [`set`](LocalKey::set), [`reset`](LocalKey::reset) |
//! | `copy_context()`, `Context.run` | - | [`Context::capture`], [`Context::run`] |
//! | `create_task(coro, context=..)` | - | [`Context::scope`] |
//!
//! A task starts with the values that are current where it is spawned. From then on they are its own: what the parent sets
//! later the child does not see, nor the other way round. In the same way a callback (`call_soon`, `call_later`, a reader, a
//! task's done-callback) and an executor job have the values that were current where they were made. A future's destructor
//! sees the values of its task.
//!
//! `block_on` is a call like any other: its future has the values of the caller, and what it sets is still set afterwards.
//!
//! ```
//! epicycle::task_local! { static REQUEST: u64 = 0; }
//!
//! epicycle::run(REQUEST.scope(7, async {
//!     let child = epicycle::spawn(async { REQUEST.get() });
//!     assert_eq!(child.await.unwrap(), 7);
//! }));
//! ```
//!
//! *Invariant*: the engine's part is `task/context.rs`; here are only the names for it. *Threads*: any. *Ordering*: none of
//! its own.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use pin_project_lite::pin_project;

pub use crate::task::context::Context;

use crate::task::context::{Bound, Value, set};

/// Declares context variables: statics of the type [`LocalKey`](crate::context::LocalKey).
///
/// With an initial value, that is what a variable has where it is not set; it is made once, when it is first needed.
///
/// Counterparts: Tokio's `task_local!`, asyncio's `ContextVar`.
///
/// # Examples
///
/// ```
/// epicycle::task_local! {
///     /// Who asks.
///     pub static USER: String;
///     static DEPTH: u32 = 0;
/// }
///
/// epicycle::run(USER.scope("ada".to_owned(), async {
///     DEPTH.set(1);
///     let child = epicycle::spawn(async { format!("{} at {}", USER.get(), DEPTH.get()) });
///     DEPTH.set(2); // too late for the child
///     assert_eq!(child.await.unwrap(), "ada at 1");
/// }));
/// ```
#[macro_export]
macro_rules! task_local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty $(= $default:expr)?);* $(;)?) => {$(
        $(#[$attribute])*
        $visibility static $name: $crate::context::LocalKey<$type> =
            $crate::context::LocalKey::__new(::core::stringify!($name))$(.__or(|| $default))?;
    )*};
}

/// A context variable. Made by [`task_local!`](crate::task_local).
///
/// Counterparts: `contextvars.ContextVar`, Tokio's `LocalKey`.
///
/// # Examples
///
/// ```
/// epicycle::task_local! { static REQUEST: u64; }
///
/// async fn log(what: &str) -> String {
///     format!("[{}] {what}", REQUEST.get())
/// }
///
/// epicycle::run(async {
///     let (one, two) = (REQUEST.scope(1, log("in")), REQUEST.scope(2, log("out")));
///     assert_eq!((one.await, two.await), ("[1] in".to_owned(), "[2] out".to_owned()));
///     assert!(REQUEST.try_get().is_err());
/// });
/// ```
pub struct LocalKey<T: 'static> {
    name: &'static str,
    make_default: Option<fn() -> T>,
    default: OnceLock<Arc<T>>,
}

impl<T: Send + Sync + 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn __new(name: &'static str) -> Self {
        Self { name, make_default: None, default: OnceLock::new() }
    }

    #[doc(hidden)]
    pub const fn __or(mut self, make: fn() -> T) -> Self {
        self.make_default = Some(make);
        self
    }

    /// What tells it from all others: statics that are not empty have an address of their own.
    fn key(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn value(&'static self) -> Result<Arc<T>, AccessError> {
        self.value_in(&Context::capture()).ok_or(AccessError { name: self.name })
    }

    fn value_in(&'static self, context: &Context) -> Option<Arc<T>> {
        if let Some(value) = context.value(self.key()) {
            let value = value.clone().downcast();
            return Some(value.expect("values are stored under the key of their type"));
        }
        let make = self.make_default?;
        Some(self.default.get_or_init(|| Arc::new(make())).clone())
    }

    /// The name it was declared with.
    ///
    /// Counterpart: `ContextVar.name`.
    ///
    /// # Examples
    ///
    /// ```
    /// epicycle::task_local! { static USER: String; }
    ///
    /// assert_eq!(USER.name(), "USER");
    /// ```
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// `future` with this variable set to `value`: in its polls, in its destructor, and in what it spawns. Other variables
    /// that it sets are set for the task it is part of, as in a function that is called.
    ///
    /// Counterpart: Tokio's `LocalKey::scope`.
    ///
    /// # Cancel safety
    ///
    /// That of `future`, which is dropped along with it.
    ///
    /// # Examples
    ///
    /// ```
    /// epicycle::task_local! { static USER: &'static str; }
    ///
    /// let greeting = USER.scope("ada", async { format!("hello, {}", USER.get()) });
    /// assert_eq!(epicycle::run(greeting), "hello, ada");
    /// ```
    pub fn scope<F: Future>(&'static self, value: T, future: F) -> Scope<T, F> {
        Scope { future: Some(future), bound: Bound::new(self.key(), Arc::new(value)), value: PhantomData }
    }

    /// Calls `f` with this variable set to `value`.
    ///
    /// Counterpart: Tokio's `LocalKey::sync_scope`.
    ///
    /// # Examples
    ///
    /// ```
    /// epicycle::task_local! { static NUMBER: u32 = 0; }
    ///
    /// assert_eq!(NUMBER.sync_scope(7, || NUMBER.get()), 7);
    /// assert_eq!(NUMBER.get(), 0);
    /// ```
    pub fn sync_scope<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        Bound::new(self.key(), Arc::new(value)).run(f)
    }

    /// Calls `f` with the value.
    ///
    /// Counterpart: Tokio's `LocalKey::with`.
    ///
    /// # Panics
    ///
    /// If it is not set and has no default; [`try_with`](Self::try_with) gives an error instead.
    ///
    /// # Examples
    ///
    /// ```
    /// epicycle::task_local! { static WORDS: Vec<String> = vec!["a".to_owned()]; }
    ///
    /// assert_eq!(WORDS.with(|words| words.len()), 1);
    /// ```
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.value() {
            Ok(value) => f(&value),
            Err(error) => panic!("{error}"),
        }
    }

    /// Calls `f` with the value.
    ///
    /// Counterpart: Tokio's `LocalKey::try_with`.
    ///
    /// # Errors
    ///
    /// If it is not set and has no default. asyncio's `LookupError`.
    ///
    /// # Examples
    ///
    /// ```
    /// epicycle::task_local! { static USER: String; }
    ///
    /// assert!(USER.try_with(|user| user.len()).is_err());
    /// let len = USER.sync_scope("ada".to_owned(), || USER.try_with(|user| user.len()));
    /// assert_eq!(len, Ok(3));
    /// ```
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.value().map(|value| f(&value))
    }

    /// Sets it from here on, in the current task, callback or job and whatever that spawns from now on. Outside those it is set
    /// for the thread. Inside a [`scope`](Self::scope) of this variable it is set to the end of that.
    ///
    /// Counterpart: `ContextVar.set`.
    ///
    /// # Examples
    ///
    /// ```
    /// epicycle::task_local! { static LEVEL: u8 = 0; }
    ///
    /// epicycle::run(async {
    ///     let token = LEVEL.set(3);
    ///     assert_eq!(epicycle::spawn(async { LEVEL.get() }).await.unwrap(), 3);
    ///     LEVEL.reset(token);
    ///     assert_eq!(LEVEL.get(), 0);
    /// });
    /// ```
    pub fn set(&'static self, value: T) -> Token<T> {
        Token { key: self, old: set(self.key(), Some(Arc::new(value))) }
    }

    /// Takes a [`set`](Self::set) back: the variable has the value that it had before, or none.
    ///
    /// Counterpart: `ContextVar.reset`.
    ///
    /// # Panics
    ///
    /// If the token came from another variable.
    ///
    /// # Examples
    ///
    /// ```
    /// epicycle::task_local! { static LEVEL: u8; }
    ///
    /// let token = LEVEL.set(3);
    /// LEVEL.reset(token);
    /// assert!(LEVEL.try_get().is_err()); // as before
    /// ```
    #[track_caller]
    pub fn reset(&'static self, token: Token<T>) {
        assert!(
            std::ptr::eq(self, token.key),
            "the token of `{}` was given to `{}`: reset the variable that was set",
            token.key.name,
            self.name
        );
        drop(set(self.key(), token.old));
    }
}

impl<T: Clone + Send + Sync + 'static> LocalKey<T> {
    /// The value.
    ///
    /// Counterparts: `ContextVar.get`, Tokio's `LocalKey::get`.
    ///
    /// # Panics
    ///
    /// If it is not set and has no default; [`try_get`](Self::try_get) gives an error instead.
    ///
    /// # Examples
    ///
    /// ```
    /// epicycle::task_local! { static DEPTH: u32 = 7; }
    ///
    /// assert_eq!(DEPTH.get(), 7);
    /// ```
    #[track_caller]
    pub fn get(&'static self) -> T {
        self.with(T::clone)
    }

    /// The value.
    ///
    /// Counterpart: `ContextVar.get`, with its `LookupError`.
    ///
    /// # Errors
    ///
    /// If it is not set and has no default.
    ///
    /// # Examples
    ///
    /// ```
    /// epicycle::task_local! { static USER: &'static str; }
    ///
    /// assert!(USER.try_get().is_err());
    /// assert_eq!(USER.sync_scope("ada", || USER.try_get()), Ok("ada"));
    /// ```
    pub fn try_get(&'static self) -> Result<T, AccessError> {
        self.try_with(T::clone)
    }
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What [`LocalKey::set`] returns: the value that [`LocalKey::reset`] goes back to.
///
/// Counterpart: `contextvars.Token`.
///
/// # Examples
///
/// ```
/// use epicycle::context::Token;
/// epicycle::task_local! { static DEPTH: u32 = 0; }
///
/// let outer: Token<u32> = DEPTH.set(1);
/// let inner = DEPTH.set(2);
/// DEPTH.reset(inner);
/// assert_eq!(DEPTH.get(), 1);
/// DEPTH.reset(outer);
/// assert_eq!(DEPTH.get(), 0);
/// ```
pub struct Token<T: 'static> {
    key: &'static LocalKey<T>,
    old: Option<Value>,
}

impl<T> fmt::Debug for Token<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("key", &self.key.name).finish_non_exhaustive()
    }
}

/// A context variable was read that is not set. asyncio's `LookupError`.
///
/// # Examples
///
/// ```
/// epicycle::task_local! { static USER: String; }
///
/// assert!(USER.try_get().unwrap_err().to_string().contains("`USER` is not set"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessError {
    name: &'static str,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        write!(f, "the context variable `{name}` is not set here: wrap the future in {name}.scope(value, future)")
    }
}

impl Error for AccessError {}

impl Context {
    /// What `key` has in this context, or its default.
    ///
    /// Counterpart: `contextvars.Context.get`.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::context::Context;
    /// epicycle::task_local! { static USER: &'static str; }
    ///
    /// let context = USER.sync_scope("ada", Context::capture);
    /// assert_eq!(context.get(&USER).as_deref(), Some(&"ada"));
    /// ```
    pub fn get<T: Send + Sync + 'static>(&self, key: &'static LocalKey<T>) -> Option<Arc<T>> {
        key.value_in(self)
    }

    /// `future` with these values and no others, in its polls, its destructor, and what it spawns. What it sets stays in here.
    ///
    /// Counterpart: `create_task(coro, context=..)`, which shares the context where this has it for itself.
    ///
    /// # Cancel safety
    ///
    /// That of `future`, which is dropped along with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::context::Context;
    /// epicycle::task_local! { static USER: &'static str = "nobody"; }
    ///
    /// epicycle::run(USER.scope("ada", async {
    ///     let apart = epicycle::spawn(Context::new().scope(async { USER.get() }));
    ///     assert_eq!(apart.await.unwrap(), "nobody");
    /// }));
    /// ```
    pub fn scope<F: Future>(self, future: F) -> InContext<F> {
        InContext { future: Some(future), context: self }
    }
}

pin_project! {
    /// The future of [`LocalKey::scope`].
    ///
    /// # Cancel safety
    ///
    /// That of the future inside, which is dropped with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::context::Scope;
    /// use std::future::{Ready, ready};
    /// epicycle::task_local! { static USER: &'static str; }
    ///
    /// let scoped: Scope<&str, Ready<u8>> = USER.scope("ada", ready(1));
    /// assert_eq!(epicycle::run(scoped), 1);
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    pub struct Scope<T, F> where T: 'static {
        #[pin]
        future: Option<F>,
        bound: Bound,
        value: PhantomData<fn(T)>,
    }

    impl<T, F> PinnedDrop for Scope<T, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                this.bound.run(|| this.future.set(None));
            }
        }
    }
}

impl<T, F: Future> Future for Scope<T, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("taken in drop only");
        this.bound.run(|| future.poll(cx))
    }
}

impl<T, F> fmt::Debug for Scope<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`Context::scope`].
    ///
    /// # Cancel safety
    ///
    /// That of the future inside, which is dropped with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::context::{Context, InContext};
    /// epicycle::task_local! { static DEPTH: u32 = 0; }
    ///
    /// let inside: InContext<_> = Context::new().scope(async { DEPTH.set(1); DEPTH.get() });
    /// assert_eq!(epicycle::run(inside), 1);
    /// assert_eq!(DEPTH.get(), 0);
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    pub struct InContext<F> {
        #[pin]
        future: Option<F>,
        context: Context,
    }

    impl<F> PinnedDrop for InContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                this.context.run(|| this.future.set(None));
            }
        }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("taken in drop only");
        this.context.run(|| future.poll(cx))
    }
}

impl<F> fmt::Debug for InContext<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InContext").field("context", &self.context).finish_non_exhaustive()
    }
}
