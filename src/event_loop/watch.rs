//! asyncio's readers and writers: callbacks for a descriptor that is ready, as long as it is.
//!
//! *Invariant.* Keyed by descriptor number, one callback a direction. Each is a pinned task that the selector wakes; it runs
//! only from the ready queue, and has the kernel report once more what is ready then. A descriptor that was closed without
//! being removed takes its watch with it: the number's next user is a stranger to it. (Were the kernel to go on reporting by
//! itself, it could not be stopped when a copy of such a descriptor lives on.)
//!
//! *Threads.* The loop's own. *Ordering.* Owner-only; `readiness.rs` carries the event over.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use mio::{Interest, Token};

use super::Remote;
use super::core::LoopCore;
use super::readiness::{Direction, Readiness};
use super::selector::Trigger;
use crate::task::{ErrorContext, Task, catch, drop_payload};

#[derive(Default)]
pub(super) struct Watches {
    by_fd: HashMap<RawFd, Watch>,
}

struct Watch {
    token: Token,
    readiness: Arc<Readiness>,
    /// By direction.
    callbacks: [Option<Callback>; 2],
    /// What the registration waits for, for a callback that re-arms it.
    registered: Rc<Cell<Interest>>,
}

struct Callback {
    task: Task<()>,
    /// Neither removed nor replaced: a callback that replaces itself must leave the direction to its successor.
    current: Rc<Cell<bool>>,
}

impl Callback {
    fn cancel(self) {
        self.current.set(false);
        self.task.cancel();
    }
}

impl Watch {
    fn interest(&self) -> Option<Interest> {
        match (&self.callbacks[0], &self.callbacks[1]) {
            (Some(_), Some(_)) => Some(Interest::READABLE | Interest::WRITABLE),
            (Some(_), None) => Some(Interest::READABLE),
            (None, Some(_)) => Some(Interest::WRITABLE),
            (None, None) => None,
        }
    }

    fn cancel(self) {
        self.callbacks.into_iter().flatten().for_each(Callback::cancel);
    }
}

impl Watches {
    /// Takes every descriptor out of the selector. The tasks go with the loop's pinned list.
    pub(super) fn close(self, remote: &Remote) {
        for (fd, watch) in self.by_fd {
            remote.selector().deregister(fd, watch.token);
            watch.cancel();
        }
    }
}

fn interest_of(direction: Direction) -> Interest {
    match direction {
        Direction::Read => Interest::READABLE,
        Direction::Write => Interest::WRITABLE,
    }
}

/// Has `callback` called in every turn in which `fd` is ready. Replaces and cancels the direction's old callback.
pub(super) fn add(
    core: &LoopCore,
    fd: BorrowedFd<'_>,
    direction: Direction,
    callback: Box<dyn FnMut()>,
    location: &'static Location<'static>,
) -> io::Result<()> {
    if core.is_closed() {
        return Err(io::Error::other("event loop is closed"));
    }
    let selector = core.devices().selector();
    let raw = fd.as_raw_fd();
    let mut watch = core.watches().borrow_mut().by_fd.remove(&raw);
    if let Some(known) = &watch {
        let wanted = known.interest().map_or(interest_of(direction), |i| i | interest_of(direction));
        known.readiness.forget(direction);
        if selector.rearm(raw, known.token, wanted).is_err() {
            // The number's former owner was closed: its callbacks die with it.
            selector.deregister_closed(raw, known.token);
            watch.take().into_iter().for_each(Watch::cancel);
        }
    }
    let mut watch = match watch {
        Some(watch) => watch,
        None => register(core, fd, direction)?,
    };
    watch.registered.set(watch.interest().map_or(interest_of(direction), |i| i | interest_of(direction)));
    let callback = spawn(core, &watch, raw, direction, callback, location);
    let old = watch.callbacks[direction as usize].replace(callback);
    core.watches().borrow_mut().by_fd.insert(raw, watch);
    if let Some(old) = old {
        old.cancel();
    }
    Ok(())
}

fn register(core: &LoopCore, fd: BorrowedFd<'_>, direction: Direction) -> io::Result<Watch> {
    let selector = core.devices().selector();
    if selector.is_registered(fd.as_raw_fd()) {
        let text = "this descriptor belongs to a socket of the runtime: use the socket's own methods";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let (token, readiness) = selector.register(fd, Trigger::Rearmed(interest_of(direction)))?;
    let registered = Rc::new(Cell::new(interest_of(direction)));
    Ok(Watch { token, readiness, callbacks: [None, None], registered })
}

/// The task that runs the callback. It is woken by events only, so it starts with its waker in the direction's slot.
fn spawn(
    core: &LoopCore,
    watch: &Watch,
    fd: RawFd,
    direction: Direction,
    mut callback: Box<dyn FnMut()>,
    location: &'static Location<'static>,
) -> Callback {
    let readiness = watch.readiness.clone();
    let token = watch.token;
    let remote = core.devices().clone();
    let current = Rc::new(Cell::new(true));
    let is_current = current.clone();
    let registered = watch.registered.clone();
    let run = poll_fn(move |cx| {
        // Has the kernel report anew what is ready then; false if the descriptor is not the one that was meant any more.
        let ask_again = || {
            readiness.forget(direction);
            remote.selector().rearm(fd, token, registered.get()).is_ok()
        };
        match readiness.poll(cx, direction) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            // Before the call. What the callback leaves will be reported, what it takes will not: the kernel looks again
            // when it is asked.
            Poll::Ready(Ok(_)) if !ask_again() => return Poll::Ready(()),
            Poll::Ready(Ok(_)) => {}
        }
        if let Err(payload) = catch(&mut callback) {
            let mut context = ErrorContext::new("Exception in callback").with_panic(&*payload);
            context.location = Some(location);
            context.loop_index = Some(remote.index());
            remote.report(&context);
            drop_payload(payload);
        }
        if !is_current.get() {
            return Poll::Ready(());
        }
        if readiness.poll(cx, direction).is_ready() {
            // Another thread looked during the call: at what was there before it.
            if !ask_again() {
                return Poll::Ready(());
            }
            if readiness.poll(cx, direction).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    });
    let idle = core.spawn_reader(run, location);
    if watch.readiness.poll(&Context::from_waker(&idle.waker), direction).is_ready() {
        idle.waker.wake_by_ref();
    }
    Callback { task: idle.task, current }
}

/// Removes a direction's callback; true if there was one.
pub(super) fn remove(core: &LoopCore, fd: BorrowedFd<'_>, direction: Direction) -> bool {
    let raw = fd.as_raw_fd();
    let Some(mut watch) = core.watches().borrow_mut().by_fd.remove(&raw) else {
        return false;
    };
    let callback = watch.callbacks[direction as usize].take();
    let selector = core.devices().selector();
    match watch.interest() {
        Some(rest) => {
            watch.registered.set(rest);
            // Fails only if the descriptor was closed: then nothing will be heard of it anyway.
            let _ = selector.rearm(raw, watch.token, rest);
            core.watches().borrow_mut().by_fd.insert(raw, watch);
        }
        None => selector.deregister(raw, watch.token),
    }
    callback.map(Callback::cancel).is_some()
}
