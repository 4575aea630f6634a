//! The orderly end of the executor, while the loops still run.
//!
//! *Invariant.* Once polled, the executor refuses jobs. *Threads.* Any. *Ordering.* The executor's lock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::event_loop::Timer;
use crate::primitive::BiasedArc;
use crate::scheduler::{self, Anchor};
use crate::task::ErrorContext;

/// The future of [`RuntimeHandle::shutdown_default_executor`](crate::RuntimeHandle::shutdown_default_executor).
///
/// Gives whether all jobs had ended in time.
///
/// # Cancel safety
/// Dropped after its first poll, it has ended the executor without waiting.
///
/// ```
/// use epicycle::{RuntimeHandle, run_in_executor, runtime::ShutdownExecutor};
/// use std::time::Duration;
///
/// epicycle::run(async {
///     let job = run_in_executor(|| 1);
///     let end: ShutdownExecutor = RuntimeHandle::current().shutdown_default_executor(Some(Duration::from_secs(60)));
///     assert!(end.await && job.done());
/// });
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct ShutdownExecutor {
    anchor: BiasedArc<Anchor>,
    timeout: Option<Duration>,
    /// From the first poll on.
    deadline: Option<Instant>,
    timer: Option<Timer>,
}

impl ShutdownExecutor {
    pub(super) fn new(anchor: BiasedArc<Anchor>, timeout: Option<Duration>) -> Self {
        Self { anchor, timeout, deadline: None, timer: None }
    }

    fn give_up(&self, after: Duration) {
        let shared = &self.anchor.shared;
        let text = format!("executor jobs still run {after:?} after its shutdown: they are left behind");
        shared.remotes[0].report(&ErrorContext::new(text));
        shared.executor.abandon();
    }
}

impl Future for ShutdownExecutor {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        let executor = &this.anchor.shared.executor;
        executor.refuse();
        if executor.poll_drained(cx.waker()).is_ready() {
            return Poll::Ready(true);
        }
        let Some(timeout) = this.timeout else { return Poll::Pending };
        let now = Instant::now();
        if this.deadline.is_none() {
            // A timeout beyond the clock is none.
            this.deadline = now.checked_add(timeout);
        }
        let Some(deadline) = this.deadline else { return Poll::Pending };
        if now >= deadline {
            this.give_up(timeout);
            return Poll::Ready(false);
        }
        if !this.timer.as_mut().is_some_and(|timer| timer.update(cx.waker())) {
            let home = scheduler::try_timer_home().unwrap_or_else(|| this.anchor.shared.present_home().clone());
            this.timer = Some(Timer::arm(home, deadline, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl fmt::Debug for ShutdownExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownExecutor").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
