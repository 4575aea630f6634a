//! Where a promise belongs: the runtime, or the loop on its own, whose queue takes its callbacks.
//!
//! *Invariant.* Callbacks are queued there, never called in place. *Threads.* Any. *Ordering.* The queues' own.

use std::panic::Location;

use crate::event_loop::{EventLoop, LoopHandle};
use crate::primitive::BiasedArc;
use crate::scheduler::{Anchor, call_soon_on, try_current};
use crate::task::{ErrorContext, report_to};

#[derive(Clone)]
pub(super) enum Home {
    Runtime(BiasedArc<Anchor>),
    Loop(LoopHandle),
}

impl Home {
    /// This thread's, chosen as `spawn` chooses.
    pub(super) fn current() -> Option<Self> {
        if let Ok(anchor) = try_current() {
            return Some(Self::Runtime(anchor));
        }
        EventLoop::try_current().map(|event_loop| Self::Loop(event_loop.handle()))
    }

    /// The runtime of `event_loop`, or else that loop.
    pub(super) fn of(event_loop: &EventLoop) -> Self {
        let handle = event_loop.handle();
        match try_current() {
            // A guest of `block_on` is not among its runtime's loops, and has a number that none of them has.
            Ok(anchor) if anchor.shared.handles.get(handle.index()).is_none_or(|own| *own == handle) => {
                Self::Runtime(anchor)
            }
            _ => Self::Loop(handle),
        }
    }

    pub(super) fn call_soon(&self, callback: impl FnOnce() + Send + 'static, location: &'static Location<'static>) {
        drop(match self {
            Self::Runtime(anchor) => call_soon_on(anchor, callback, location),
            Self::Loop(event_loop) => event_loop.call_soon_from(callback, location),
        });
    }

    pub(super) fn report(&self, context: &ErrorContext) {
        match self {
            Self::Runtime(anchor) => anchor.report(context),
            Self::Loop(event_loop) => event_loop.report(context),
        }
    }
}

/// Tells the exception handler of `home`, else this thread's, else the default one.
pub(super) fn report(home: Option<&Home>, context: &ErrorContext) {
    match home.cloned().or_else(Home::current) {
        Some(home) => home.report(context),
        None => report_to(&None, context),
    }
}
