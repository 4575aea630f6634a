//! What cells inherit from who makes them: the values of context variables, as an immutable map.
//!
//! *Invariant.* A map never changes; to set a variable is to make another one. While a cell runs, its map is the thread's
//! current one; otherwise it is in the cell (`Extra`). Between two handles a loop's thread has none. `IS_SET` says whether the
//! thread has a map, so that whoever uses no variables pays for no more than a look at it.
//!
//! *Threads.* A map is anybody's; the current one is the thread's own, and in its exit destructors there is none.
//! *Ordering.* `Arc`'s.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::mem;
use std::sync::Arc;

use super::{catch, drop_payload};

/// A variable's value. Shared, since every task spawned meanwhile has it.
pub(crate) type Value = Arc<dyn Any + Send + Sync>;

#[derive(Clone)]
struct Binding {
    /// The address of the variable.
    key: usize,
    value: Value,
}

/// Never empty. A vector, so that a reference to it is one word.
type Map = Vec<Binding>;

thread_local! {
    static CURRENT: Cell<Option<Arc<Map>>> = const { Cell::new(None) };
    /// Without a destructor, unlike `CURRENT`, and so a plain load.
    static IS_SET: Cell<bool> = const { Cell::new(false) };
}

/// The values of context variables at some moment.
///
/// A task, a callback, a timer and an executor job are made with the values that are current where they are made, so this is
/// needed only where something else is to be called with them: on a thread of one's own, say.
///
/// Counterpart: `contextvars.Context`. To copy one is to clone it.
///
/// ```
/// use epicycle::context::Context;
/// epicycle::task_local! { static USER: &'static str; }
///
/// let mut context = USER.sync_scope("ada", Context::capture);
/// assert!(USER.try_get().is_err());
/// let thread = std::thread::spawn(move || context.run(|| USER.get()));
/// assert_eq!(thread.join().unwrap(), "ada");
/// ```
#[derive(Clone, Default)]
pub struct Context {
    map: Option<Arc<Map>>,
}

impl Context {
    /// No variable is set.
    ///
    /// Counterpart: `contextvars.Context()`.
    ///
    /// ```
    /// use epicycle::context::Context;
    /// epicycle::task_local! { static USER: &'static str = "nobody"; }
    ///
    /// USER.sync_scope("ada", || assert_eq!(Context::new().run(|| USER.get()), "nobody"));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// The values that are current here. asyncio's `copy_context`.
    ///
    /// ```
    /// use epicycle::context::Context;
    /// epicycle::task_local! { static USER: &'static str = "nobody"; }
    ///
    /// let mut context = USER.sync_scope("ada", Context::capture);
    /// assert_eq!(context.run(|| USER.get()), "ada");
    /// ```
    pub fn capture() -> Self {
        if !is_set() {
            return Self::default();
        }
        let map = CURRENT.try_with(|current| {
            let map = current.take();
            current.set(map.clone());
            map
        });
        Self { map: map.ok().flatten() }
    }

    /// Calls `f` with these values current, and no others. What `f` sets stays in this context and is not seen outside.
    ///
    /// ```
    /// use epicycle::context::Context;
    /// epicycle::task_local! { static DEPTH: u32 = 0; }
    ///
    /// let mut context = Context::new();
    /// context.run(|| DEPTH.set(1));
    /// assert_eq!(DEPTH.get(), 0);
    /// assert_eq!(context.run(|| DEPTH.get()), 1);
    /// ```
    pub fn run<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let outer = replace(mem::take(self));
        let _back = Back { own: self, outer };
        f()
    }

    /// How many variables are set.
    ///
    /// Counterpart: `len` of a `contextvars.Context`.
    ///
    /// ```
    /// use epicycle::context::Context;
    /// epicycle::task_local! { static USER: &'static str; static DEPTH: u32 = 0; }
    ///
    /// let context = USER.sync_scope("ada", Context::capture);
    /// assert_eq!(context.len(), 1); // a default is not set
    /// ```
    pub fn len(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.len())
    }

    /// Whether no variable is set.
    ///
    /// ```
    /// assert!(epicycle::context::Context::new().is_empty());
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.map.is_none()
    }

    pub(crate) fn value(&self, key: usize) -> Option<&Value> {
        self.map.as_ref()?.iter().find(|binding| binding.key == key).map(|binding| &binding.value)
    }

    /// The same but for one variable.
    pub(crate) fn with(&self, key: usize, value: Option<Value>) -> Self {
        let others = self.map.iter().flat_map(|map| map.iter()).filter(|binding| binding.key != key).cloned();
        let map: Map = others.chain(value.map(|value| Binding { key, value })).collect();
        Self { map: (!map.is_empty()).then(|| Arc::new(map)) }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.map, &other.map) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (None, None) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Gives a context back what became of it, and the thread what it had.
struct Back<'a> {
    own: &'a mut Context,
    outer: Context,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        *self.own = replace(mem::take(&mut self.outer));
    }
}

/// Whether any variable is set on this thread.
#[inline]
pub(crate) fn is_set() -> bool {
    IS_SET.get()
}

/// Makes `context` the current one; returns the one that was.
pub(crate) fn replace(context: Context) -> Context {
    let set = context.map.is_some();
    match CURRENT.try_with(|current| current.replace(context.map)) {
        Ok(map) => {
            IS_SET.set(set);
            Context { map }
        }
        // The thread is ending.
        Err(_) => Context::default(),
    }
}

/// Leaves no variable set.
#[inline]
pub(crate) fn take() -> Context {
    if is_set() { replace(Context::default()) } else { Context::default() }
}

/// Sets one variable, or unsets it; returns its old value.
pub(crate) fn set(key: usize, value: Option<Value>) -> Option<Value> {
    let old = Context::capture();
    drop(replace(old.with(key, value)));
    old.value(key).cloned()
}

/// A thread's own context, put aside until this is dropped.
pub(crate) struct Aside(Context);

impl Aside {
    /// With `inner` current instead.
    pub(super) fn under(inner: Context) -> Self {
        Self(replace(inner))
    }

    /// Where there is none, and none is to be current.
    #[inline]
    pub(super) fn none() -> Self {
        Self(Context { map: None })
    }

    #[cold]
    fn end(&mut self) {
        let inner = replace(mem::take(&mut self.0));
        // Values are user data.
        if let Err(payload) = catch(|| drop(inner)) {
            drop_payload(payload);
        }
    }
}

/// The thread has no context until the guard goes: the engine is about to run what is not the caller's.
pub(crate) fn put_aside() -> Aside {
    Aside(take())
}

impl Drop for Aside {
    #[inline]
    fn drop(&mut self) {
        if is_set() || !self.0.is_empty() {
            self.end();
        }
    }
}

/// One variable's value for a part of a task: what a scope is made of. Other variables go through it in both directions.
pub(crate) struct Bound {
    key: usize,
    value: Option<Value>,
    /// The context outside that was last seen, and the one inside that was made of it: while nothing is set, entering makes none.
    made: Option<(Context, Context)>,
}

impl Bound {
    pub(crate) fn new(key: usize, value: Value) -> Self {
        Self { key, value: Some(value), made: None }
    }

    /// Calls `f` with the variable set.
    pub(crate) fn run<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let outer = take();
        let inner = match &self.made {
            Some((outside, inside)) if outside.is_same(&outer) => inside.clone(),
            _ => {
                let inner = outer.with(self.key, self.value.clone());
                self.made = Some((outer.clone(), inner.clone()));
                inner
            }
        };
        drop(replace(inner));
        let _unbind = Unbind { bound: self, outer };
        f()
    }
}

/// Ends the run of a [`Bound`], on unwind too.
struct Unbind<'a> {
    bound: &'a mut Bound,
    outer: Context,
}

impl Drop for Unbind<'_> {
    fn drop(&mut self) {
        let (bound, outer) = (&mut *self.bound, mem::take(&mut self.outer));
        let inner = replace(outer.clone());
        if bound.made.as_ref().is_some_and(|(_, made)| made.is_same(&inner)) {
            return;
        }
        // Something was set: our variable's new value stays in here, the others go out.
        bound.value = inner.value(bound.key).cloned();
        let outer = inner.with(bound.key, outer.value(bound.key).cloned());
        drop(replace(outer.clone()));
        bound.made = Some((outer, inner));
    }
}
