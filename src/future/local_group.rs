//! [`LocalGroup`]: futures that run concurrently inside one task, and so may borrow from it.
//!
//! *Invariant.* A child is polled only when it was woken, and at most once a poll of the group. Children never leave the
//! group: they are polled and dropped where it is. *Threads.* The group is one owner's; the children's wakers go anywhere.
//! *Ordering.* The lock in `Woken`.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use slab::Slab;

use crate::event_loop::poll_proceed;
use crate::primitive::Mutex;
use crate::task::catch;

/// Futures that run concurrently inside the current task. Nothing is spawned, so they need be neither `Send` nor `'static`:
/// they may borrow whatever the task has. They do not run in parallel; for that, there is [`TaskGroup`](crate::TaskGroup).
///
/// When one fails, [`join`](Self::join) drops the others on the spot, and so does dropping the group. A panic of a child is
/// one of the task, as if the child's code stood there.
///
/// The children are all of the same type. For a mixture, `F` is a boxed future: `Pin<Box<dyn Future<Output = _> + '_>>`.
///
/// Counterparts: a trio nursery, whose children may refer to their parent's variables; `FuturesUnordered` of the futures crate.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use epicycle::future::LocalGroup;
///
/// epicycle::run(async {
///     let words = ["to", "be", "or"];
///     let total = Cell::new(0); // neither Send nor 'static
///     let mut group = LocalGroup::new();
///     for word in &words {
///         let total = &total;
///         group.spawn(async move {
///             epicycle::yield_now().await;
///             total.set(total.get() + word.len());
///             Ok::<_, &str>(())
///         });
///     }
///     group.join().await.unwrap();
///     assert_eq!(total.get(), 6);
/// });
/// ```
#[doc(alias = "FuturesUnordered")]
#[must_use = "its futures run only while join or next_done is awaited"]
pub struct LocalGroup<F> {
    children: Slab<Child<F>>,
    spawned: usize,
    woken: Own,
}

struct Child<F> {
    future: Pin<Box<F>>,
    waker: Waker,
    /// Its place in the order of spawning.
    number: usize,
}

impl<F> LocalGroup<F> {
    /// A group without children.
    ///
    /// ```
    /// use epicycle::future::LocalGroup;
    ///
    /// epicycle::run(async {
    ///     let mut group = LocalGroup::new();
    ///     group.spawn(async { Ok::<_, &str>(1) });
    ///     assert_eq!(group.join().await, Ok(vec![1]));
    /// });
    /// ```
    pub fn new() -> Self {
        let state = State { queue: VecDeque::new(), queued: Vec::new(), parent: None };
        Self { children: Slab::new(), spawned: 0, woken: Own(Arc::new(Woken { state: Mutex::new(state) })) }
    }

    /// How many children have not ended.
    ///
    /// ```
    /// use epicycle::future::LocalGroup;
    /// use std::future::{Ready, ready};
    ///
    /// let mut group = LocalGroup::<Ready<Result<(), ()>>>::new();
    /// group.spawn(ready(Ok(())));
    /// assert_eq!(group.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether there are no children.
    ///
    /// ```
    /// use epicycle::future::LocalGroup;
    /// use std::future::{Ready, ready};
    ///
    /// epicycle::run(async {
    ///     let mut group = LocalGroup::<Ready<Result<(), ()>>>::new();
    ///     group.spawn(ready(Ok(())));
    ///     assert!(!group.is_empty());
    ///     group.join().await.unwrap();
    ///     assert!(group.is_empty());
    /// });
    /// ```
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Drops all children.
    ///
    /// # Panics
    /// With that of a child's destructor.
    ///
    /// ```
    /// use epicycle::future::LocalGroup;
    /// use std::future::pending;
    ///
    /// let mut group = LocalGroup::new();
    /// group.spawn(pending::<Result<(), ()>>());
    /// group.cancel();
    /// assert!(group.is_empty());
    /// ```
    pub fn cancel(&mut self) {
        // Taken out first: a destructor that panics must not leave the count behind.
        drop(mem::take(&mut self.children));
    }
}

impl<F, T, E> LocalGroup<F>
where
    F: Future<Output = Result<T, E>>,
{
    /// Adds a child. It begins when [`join`](Self::join) or [`next_done`](Self::next_done) is next polled.
    ///
    /// ```
    /// use epicycle::future::LocalGroup;
    ///
    /// epicycle::run(async {
    ///     let text = String::from("borrowed");
    ///     let mut group = LocalGroup::new();
    ///     group.spawn(async { Ok::<_, &str>(text.len()) });
    ///     assert_eq!(group.join().await, Ok(vec![8]));
    /// });
    /// ```
    pub fn spawn(&mut self, future: F) {
        let entry = self.children.vacant_entry();
        let bell = Arc::new(Bell { key: entry.key(), woken: self.woken.0.clone() });
        let waker = Waker::from(bell);
        let child = Child { future: Box::pin(future), waker: waker.clone(), number: self.spawned };
        entry.insert(child);
        self.spawned += 1;
        waker.wake();
    }

    /// What the next child to end has returned; `None` once there are no children. More may be added between two calls.
    ///
    /// Counterpart: `next` of the futures crate's `FuturesUnordered`.
    ///
    /// # Panics
    /// With a child's panic; the child is gone then, the others are not.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    ///
    /// ```
    /// use epicycle::future::LocalGroup;
    ///
    /// epicycle::run(async {
    ///     let mut group = LocalGroup::new();
    ///     let child = |n: u32| async move { if n < 3 { Ok(n) } else { Err(n) } };
    ///     group.spawn(child(0));
    ///     let mut seen = Vec::new();
    ///     while let Some(Ok(n)) = group.next_done().await {
    ///         seen.push(n);
    ///         group.spawn(child(n + 1));
    ///     }
    ///     assert_eq!(seen, [0, 1, 2]);
    /// });
    /// ```
    pub async fn next_done(&mut self) -> Option<Result<T, E>> {
        poll_fn(|cx| self.poll_next(cx)).await.map(|(_, result)| result)
    }

    /// Waits for all children and gives their values in the order of spawning. The first error drops the others, at once.
    ///
    /// # Errors
    /// The first one.
    ///
    /// # Panics
    /// With a child's panic.
    ///
    /// # Cancel safety
    /// Dropping the future loses the values of children that had ended. The children stay in the group.
    ///
    /// ```
    /// use epicycle::future::LocalGroup;
    ///
    /// epicycle::run(async {
    ///     let mut group = LocalGroup::new();
    ///     for word in ["1", "two", "3"] {
    ///         group.spawn(async move { word.parse::<u8>() });
    ///     }
    ///     assert_eq!(group.join().await.unwrap_err().to_string(), "invalid digit found in string");
    ///     assert!(group.is_empty());
    /// });
    /// ```
    pub async fn join(&mut self) -> Result<Vec<T>, E> {
        let mut values = Vec::with_capacity(self.len());
        while let Some((number, result)) = poll_fn(|cx| self.poll_next(cx)).await {
            match result {
                Ok(value) => values.push((number, value)),
                Err(error) => {
                    self.cancel();
                    return Err(error);
                }
            }
        }
        values.sort_unstable_by_key(|(number, _)| *number);
        Ok(values.into_iter().map(|(_, value)| value).collect())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Result<T, E>)>> {
        ready!(poll_proceed(cx));
        if self.children.is_empty() {
            return Poll::Ready(None);
        }
        // Those that are woken from now on have their turn in the next poll.
        for _ in 0..self.woken.0.expect(cx.waker().clone()) {
            let Some(key) = self.woken.0.next() else { break };
            // A waker may outlive its child.
            let Some(child) = self.children.get_mut(key) else { continue };
            match catch(|| child.future.as_mut().poll(&mut Context::from_waker(&child.waker))) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(result)) => return Poll::Ready(Some((self.children.remove(key).number, result))),
                Err(payload) => {
                    self.children.remove(key);
                    resume_unwind(payload);
                }
            }
        }
        Poll::Pending
    }
}

impl<F> Default for LocalGroup<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> fmt::Debug for LocalGroup<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalGroup").field("children", &self.len()).finish()
    }
}

/// Who has been woken, and who polls the group.
struct Woken {
    state: Mutex<State>,
}

/// The group's end. When it is gone, wakers that are left over must not keep the task that polled it.
struct Own(Arc<Woken>);

impl Drop for Own {
    fn drop(&mut self) {
        let parent = self.0.state.lock().parent.take();
        drop(parent);
    }
}

struct State {
    /// Keys, in the order of waking.
    queue: VecDeque<usize>,
    /// By key: whether it is in the queue.
    queued: Vec<bool>,
    parent: Option<Waker>,
}

impl Woken {
    /// Enters the group's waker, and says how many are in the queue.
    fn expect(&self, parent: Waker) -> usize {
        let mut state = self.state.lock();
        let old = state.parent.replace(parent);
        let count = state.queue.len();
        drop(state);
        drop(old);
        count
    }

    fn next(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let key = state.queue.pop_front()?;
        state.queued[key] = false;
        Some(key)
    }

    fn ring(&self, key: usize) {
        let mut state = self.state.lock();
        if state.queued.len() <= key {
            state.queued.resize(key + 1, false);
        }
        if mem::replace(&mut state.queued[key], true) {
            return;
        }
        state.queue.push_back(key);
        let parent = state.parent.take();
        drop(state);
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

/// A child's waker.
struct Bell {
    key: usize,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.woken.ring(self.key);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.ring(self.key);
    }
}
