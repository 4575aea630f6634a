//! The tree of scopes: who is cancelled, by whom, and who is to be told.
//!
//! *Invariant.* A scope's own state says only what was done to that scope; whether it is cancelled is found by walking up to
//! the first shield, when somebody asks. So nothing has to be undone when a shield or a deadline moves. Whoever changes a
//! state so that more scopes may be cancelled wakes all waiters below it: they ask again.
//!
//! *Threads.* Any. *Ordering.* The locks', of which a thread holds one at a time. A waiter enters its waker, then asks; a
//! canceller writes, then collects wakers. Going through the same locks, one of the two sees the other: if the collecting
//! came to the waiter's scope too early, or before the scope entered its parent's list, then the asking came after it.

use std::borrow::Cow;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use slab::Slab;

use super::cancelled::{Cancelled, Cause, ScopeId};
use super::waker_set::{WakerSet, wake_all};
use crate::primitive::Mutex;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

pub(super) struct Node {
    pub(super) id: ScopeId,
    parent: Option<Arc<Node>>,
    /// Its place in the parent's list.
    key: usize,
    state: Mutex<State>,
}

/// Of the body that runs in the scope. A scope may do without, as a mere signal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Running,
    Ended,
}

struct State {
    requests: usize,
    /// Of the first request that stands.
    reason: Option<Cow<'static, str>>,
    deadline: Option<Instant>,
    /// The deadline was seen to be reached: moving it is no use any more.
    expired: bool,
    shielded: bool,
    body: Body,
    children: Slab<Weak<Node>>,
    waiters: WakerSet,
}

impl State {
    /// Looks at the clock if there is a deadline, and keeps what it saw.
    fn is_expired(&mut self) -> bool {
        if !self.expired && self.body != Body::Ended {
            self.expired = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        }
        self.expired
    }

    /// Why the scope itself is cancelled, if it is. A request comes first: it has a reason.
    fn cause(&mut self) -> Option<Cause> {
        if self.requests > 0 {
            return Some(Cause::Request(self.reason.clone()));
        }
        self.is_expired().then_some(Cause::Deadline)
    }
}

impl Node {
    pub(super) fn new(parent: Option<Arc<Node>>, shielded: bool) -> Arc<Self> {
        let state = State {
            requests: 0,
            reason: None,
            deadline: None,
            expired: false,
            shielded,
            body: Body::None,
            children: Slab::new(),
            waiters: WakerSet::new(),
        };
        Arc::new_cyclic(|node| {
            let key = parent.as_ref().map_or(0, |parent| parent.state.lock().children.insert(node.clone()));
            // Ordering: Relaxed: a counter that publishes nothing.
            Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), parent, key, state: Mutex::new(state) }
        })
    }

    // ---- asking ----------------------------------------------------------------------------------------------------

    /// Who cancelled this scope, if it is: the outermost one that no shield hides.
    pub(super) fn status(&self) -> Option<Cancelled> {
        let mut found = None;
        let mut next = Some(self);
        while let Some(node) = next {
            let mut state = node.state.lock();
            if let Some(cause) = state.cause() {
                found = Some(Cancelled { scope: node.id, cause });
            }
            next = if state.shielded { None } else { node.parent.as_deref() };
        }
        found
    }

    /// Whether it is the scope of that number, or below it.
    pub(super) fn is_within(&self, id: ScopeId) -> bool {
        std::iter::successors(Some(self), |node| node.parent.as_deref()).any(|node| node.id == id)
    }

    /// The same for what is around this scope.
    pub(super) fn outer_status(&self) -> Option<Cancelled> {
        let shielded = self.state.lock().shielded;
        if shielded { None } else { self.parent.as_ref()?.status() }
    }

    /// The earliest deadline that matters here and has not been reached.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let mut earliest: Option<Instant> = None;
        let mut next = Some(self);
        while let Some(node) = next {
            let state = node.state.lock();
            if let Some(deadline) = state.deadline.filter(|_| !state.expired && state.body != Body::Ended) {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
            next = if state.shielded { None } else { node.parent.as_deref() };
        }
        earliest
    }

    pub(super) fn own_cause(&self) -> Option<Cause> {
        self.state.lock().cause()
    }

    pub(super) fn expired(&self) -> bool {
        self.state.lock().is_expired()
    }

    pub(super) fn requests(&self) -> usize {
        self.state.lock().requests
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state.lock().deadline
    }

    pub(super) fn is_shielded(&self) -> bool {
        self.state.lock().shielded
    }

    // ---- changing --------------------------------------------------------------------------------------------------

    /// Counts a request; false if the scope's body has ended.
    pub(super) fn request(&self, reason: Option<Cow<'static, str>>) -> bool {
        let mut state = self.state.lock();
        if state.body == Body::Ended {
            return false;
        }
        let first = state.requests == 0;
        state.requests += 1;
        let unused = if first { mem::replace(&mut state.reason, reason) } else { reason };
        drop(state);
        drop(unused);
        if first {
            self.tell();
        }
        true
    }

    /// Takes a request back; returns how many are left.
    pub(super) fn take_back(&self) -> usize {
        let mut state = self.state.lock();
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            state.reason = None;
        }
        state.requests
    }

    /// False if it is too late: the deadline was reached or the body has ended.
    pub(super) fn set_deadline(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        if state.is_expired() || state.body == Body::Ended {
            return false;
        }
        state.deadline = deadline;
        drop(state);
        self.tell();
        true
    }

    pub(super) fn set_shielded(&self, shielded: bool) {
        self.state.lock().shielded = shielded;
        self.tell();
    }

    /// False if a body is or was in it.
    pub(super) fn enter(&self) -> bool {
        let mut state = self.state.lock();
        let first = state.body == Body::None;
        if first {
            state.body = Body::Running;
        }
        first
    }

    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        state.is_expired();
        state.body = Body::Ended;
    }

    // ---- telling ---------------------------------------------------------------------------------------------------

    /// Wakes whoever waits in this scope or below it. Shielded ones too: it costs them a look.
    fn tell(&self) {
        let mut wakers = Vec::new();
        let mut below = Vec::new();
        self.collect(&mut wakers, &mut below);
        while let Some(node) = below.pop() {
            node.collect(&mut wakers, &mut below);
        }
        wake_all(wakers);
    }

    fn collect(&self, wakers: &mut Vec<std::task::Waker>, below: &mut Vec<Arc<Node>>) {
        let mut state = self.state.lock();
        state.waiters.take_all(wakers);
        below.extend(state.children.iter().filter_map(|(_, child)| child.upgrade()));
    }

    /// The waiters of this scope, under its lock.
    pub(super) fn with_waiters<R>(&self, f: impl FnOnce(&mut WakerSet) -> R) -> R {
        f(&mut self.state.lock().waiters)
    }
}

impl Drop for Node {
    /// In a loop, so that the last handle to a long chain of scopes does not go down the stack.
    fn drop(&mut self) {
        let mut key = self.key;
        let mut next = self.parent.take();
        while let Some(parent) = next.take() {
            parent.state.lock().children.remove(key);
            if let Some(mut parent) = Arc::into_inner(parent) {
                key = parent.key;
                next = parent.parent.take();
            }
        }
    }
}
