//! [`Home`]: where the tasks of a connection or a server run, whoever starts them and wherever.
//!
//! *Invariant*: chosen when the connection or the server is made. *Threads*: any. *Ordering*: none of its own.

use crate::event_loop::{EventLoop, LoopHandle};
use crate::runtime::RuntimeHandle;
use crate::scheduler::NO_RUNTIME;
use crate::task::Task;

#[derive(Clone)]
pub(super) enum Home {
    Runtime(RuntimeHandle),
    /// Of a loop without a runtime.
    Loop(LoopHandle),
}

impl Home {
    /// # Panics
    /// Outside of a runtime and off a loop.
    #[track_caller]
    pub(super) fn current() -> Self {
        match RuntimeHandle::try_current() {
            Ok(runtime) => Self::Runtime(runtime),
            Err(_) => Self::Loop(EventLoop::try_current().expect(NO_RUNTIME).handle()),
        }
    }

    #[track_caller]
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Task<()> {
        match self {
            Self::Runtime(runtime) => runtime.spawn(future),
            Self::Loop(event_loop) => event_loop.spawn_local(move || future),
        }
    }

    /// How many loops there are.
    pub(super) fn loops(&self) -> usize {
        match self {
            Self::Runtime(runtime) => runtime.loops().len(),
            Self::Loop(_) => 1,
        }
    }

    /// Spawns on that loop, for good. Counted round if there are fewer. But a runtime's loop 0 may be absent, and ends what is
    /// pinned to it when its thread leaves: what is meant for that one may run on any.
    #[track_caller]
    pub(super) fn spawn_on(&self, index: usize, future: impl Future<Output = ()> + Send + 'static) -> Task<()> {
        match self {
            Self::Runtime(runtime) => match index % self.loops() {
                0 => runtime.spawn(future),
                index => runtime.loops()[index].spawn_local(move || future),
            },
            Self::Loop(event_loop) => event_loop.spawn_local(move || future),
        }
    }

    /// Whether this thread drives that loop of the runtime.
    pub(super) fn is_here(&self, index: usize) -> bool {
        let Self::Runtime(runtime) = self else { return false };
        EventLoop::try_current().is_some_and(|here| here.handle() == runtime.loops()[index % self.loops()])
    }
}
