//! A descriptor registered with a loop's selector: the one door from sockets to the loop.
//!
//! *Invariant.* Registered once, on the loop that was current, both directions, edge-triggered; never moved. Dropping it
//! takes the descriptor out of the selector, so it must go before the descriptor is closed.
//!
//! *Threads.* Any. *Ordering.* `readiness.rs`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mio::Token;

use super::readiness::{Direction, Readiness, ReadyEvent, ReadyFuture};
use super::selector::Trigger;
use super::{Remote, poll_proceed};
use crate::primitive::BiasedArc;
use crate::task::{Event, FutureId, is_observed, try_id};

pub(crate) struct Registration {
    home: BiasedArc<Remote>,
    fd: RawFd,
    token: Token,
    readiness: Arc<Readiness>,
}

impl Registration {
    /// Registers `fd` with `home`'s selector.
    ///
    /// # Errors
    /// The kernel's, for a descriptor that cannot be polled or is registered there already; or the loop is closed.
    pub(crate) fn new(home: BiasedArc<Remote>, fd: BorrowedFd<'_>) -> io::Result<Self> {
        let (token, readiness) = home.selector().register(fd, Trigger::Edge)?;
        Ok(Self { home, fd: fd.as_raw_fd(), token, readiness })
    }

    /// Ready, or the direction's one slot holds the context's waker.
    #[inline]
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<ReadyEvent>> {
        self.told(direction, self.readiness.poll(cx, direction))
    }

    /// Waits for the direction to be ready; any number may wait. Cancel safe.
    pub(crate) async fn ready(&self, direction: Direction) -> io::Result<ReadyEvent> {
        let mut ready = ReadyFuture::new(&self.readiness, direction);
        std::future::poll_fn(move |cx| self.told(direction, Pin::new(&mut ready).poll(cx))).await
    }

    /// Tells of a poll that has to wait.
    #[inline]
    fn told<T>(&self, direction: Direction, polled: Poll<T>) -> Poll<T> {
        if polled.is_pending() && is_observed() {
            let future = FutureId::of_descriptor(self.fd, direction == Direction::Write);
            self.home.observer().tell(|| Event::Blocking { task: try_id(), future });
        }
        polled
    }

    /// Notes that the direction is not ready, unless an event came since `event`.
    pub(crate) fn clear(&self, event: ReadyEvent) {
        self.readiness.clear(event);
    }

    /// Tries `operation` now, and notes it if it would block.
    pub(crate) fn try_io<R>(&self, direction: Direction, operation: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        // The look comes first: what it does not see, the clear does not take.
        let event = self.readiness.look(direction);
        let result = operation();
        if let (Some(event), Err(error)) = (event, &result)
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.readiness.clear(event);
        }
        result
    }

    /// Tries `operation` as long as the direction is ready, or leaves the context's waker in the direction's slot.
    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut operation: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let event = ready!(self.poll_ready(cx, direction))?;
            ready!(poll_proceed(cx));
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(event),
                result => return Poll::Ready(result),
            }
        }
    }

    /// As `poll_io` for transfers: one that moved less than `wanted` emptied (or filled) the kernel's buffer, so that the
    /// next call waits for an event instead of asking the kernel in vain.
    #[inline]
    pub(crate) fn poll_transfer(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        wanted: usize,
        mut operation: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let event = ready!(self.poll_ready(cx, direction))?;
            ready!(poll_proceed(cx));
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(event),
                Ok(n) => {
                    // Only where a partial transfer is a promise: epoll(7) says so for streams.
                    if cfg!(target_os = "linux") && 0 < n && n < wanted {
                        self.clear(event);
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// `poll_io` as a future; any number may wait. Cancel safe if `operation` is.
    pub(crate) async fn io<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            let event = self.ready(direction).await?;
            std::future::poll_fn(poll_proceed).await;
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(event),
                result => return result,
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.home.selector().deregister(self.fd, self.token);
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("fd", &self.fd).field("loop", &self.home.index()).finish()
    }
}
