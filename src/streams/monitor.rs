//! [`Monitor`]: a state under a lock, and those who wait until it says something.
//!
//! *Invariant*: whoever changes the state so that a wait may end wakes all who wait, and they look again. Wakers are cloned,
//! woken and dropped outside the lock, for they may be anybody's code. *Threads*: any. *Ordering*: the lock's.

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, Waker};

use crate::primitive::Mutex;
use crate::scheduler::{shield_waker, tell};
use crate::task::{Event, FutureId, try_id};

pub(super) struct Monitor<S> {
    /// Whose it is, for who is told of waits.
    what: &'static str,
    inner: Mutex<Inner<S>>,
}

struct Inner<S> {
    state: S,
    /// Each with its ticket.
    waiters: Vec<(u64, Waker)>,
    last_ticket: u64,
}

impl<S> Monitor<S> {
    pub(super) fn new(what: &'static str, state: S) -> Self {
        Self { what, inner: Mutex::new(Inner { state, waiters: Vec::new(), last_ticket: 0 }) }
    }

    /// Looks at the state, or changes it in a way that nobody waits for.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.inner.lock().state)
    }

    /// Changes the state, and wakes those who wait if `change` says that it may concern them.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut S) -> (bool, R)) -> R {
        let (woken, result) = {
            let mut inner = self.inner.lock();
            let (concerned, result) = change(&mut inner.state);
            (if concerned { mem::take(&mut inner.waiters) } else { Vec::new() }, result)
        };
        woken.into_iter().for_each(|(_, waker)| shield_waker(|| waker.wake()));
        result
    }

    /// Ready with what `done` gives, or the context's waker waits under `ticket`, which is 0 at first.
    pub(super) fn poll_until<R>(
        &self,
        cx: &mut Context<'_>,
        ticket: &mut u64,
        mut done: impl FnMut(&mut S) -> Option<R>,
    ) -> Poll<R> {
        let first = self.with(&mut done);
        if let Some(result) = first {
            self.leave(ticket);
            return Poll::Ready(result);
        }
        // Before it can be woken.
        tell(|| Event::Blocking { task: try_id(), future: FutureId::at(self.what, self) });
        let waker = cx.waker().clone();
        let (result, replaced) = {
            let mut inner = self.inner.lock();
            // Once more: it may have come while the waker was cloned.
            let result = done(&mut inner.state);
            (result, inner.enter(ticket, waker))
        };
        drop(replaced);
        match result {
            Some(result) => {
                self.leave(ticket);
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }

    /// Waits until `done` gives something. Dropping the future loses nothing.
    pub(super) async fn until<R>(&self, mut done: impl FnMut(&mut S) -> Option<R>) -> R {
        let mut wait = Wait { monitor: self, ticket: 0 };
        poll_fn(|cx| self.poll_until(cx, &mut wait.ticket, &mut done)).await
    }

    /// Waits no more.
    pub(super) fn leave(&self, ticket: &mut u64) {
        let ticket = mem::take(ticket);
        if ticket != 0 {
            let removed = self.inner.lock().remove(ticket);
            drop(removed);
        }
    }
}

impl<S> Inner<S> {
    /// Enters a waiter, or replaces its waker; returns the old one.
    fn enter(&mut self, ticket: &mut u64, waker: Waker) -> Option<Waker> {
        if let Some((_, held)) = self.waiters.iter_mut().find(|(held, _)| held == ticket) {
            return Some(mem::replace(held, waker));
        }
        self.last_ticket += 1;
        *ticket = self.last_ticket;
        self.waiters.push((*ticket, waker));
        None
    }

    fn remove(&mut self, ticket: u64) -> Option<Waker> {
        let at = self.waiters.iter().position(|(held, _)| *held == ticket)?;
        Some(self.waiters.remove(at).1)
    }
}

/// Gives the ticket back when the wait is dropped.
struct Wait<'a, S> {
    monitor: &'a Monitor<S>,
    ticket: u64,
}

impl<S> Drop for Wait<'_, S> {
    fn drop(&mut self) {
        self.monitor.leave(&mut self.ticket);
    }
}
