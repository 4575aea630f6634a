//! Waiting for a task on a thread of one's own: the result's side of `run_coroutine_threadsafe`.
//!
//! *Invariant.* Refused on a thread that drives a loop: it would wait for itself. *Threads.* The caller's. *Ordering.* The join
//! slot's, and `unpark`'s.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::event_loop::current;
use crate::task::{JoinError, Task};

const ON_A_LOOP: &str = "would block the event loop that this thread drives: await the task instead, or move the call to \
     run_in_executor";

/// Unparks the thread that waits; it looks for itself whenever it comes back.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<T> Task<T> {
    /// Waits on this thread for the task to end: on one of one's own, or in a job of
    /// [`run_in_executor`](crate::run_in_executor). With [`RuntimeHandle::spawn`](crate::RuntimeHandle::spawn) or
    /// [`LoopHandle::spawn_local`](crate::LoopHandle::spawn_local) before it, this is asyncio's
    /// `run_coroutine_threadsafe(..).result()`.
    ///
    /// A runtime with one loop runs tasks only while somebody is inside `block_on`.
    ///
    /// # Errors
    /// As awaiting the task.
    ///
    /// # Panics
    /// On a thread that drives an event loop, which would wait for itself.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let handle = rt.handle();
    /// let thread = std::thread::spawn(move || handle.spawn(async { 6 * 7 }).blocking_join().unwrap());
    /// assert_eq!(thread.join().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn blocking_join(mut self) -> Result<T, JoinError> {
        assert!(current::current().is_none(), "blocking_join {ON_A_LOOP}");
        wait(&mut self, None).expect("without a deadline it waits for the end")
    }

    /// As [`blocking_join`](Self::blocking_join), for up to `timeout`. `None`: the task still runs. It is not cancelled, and
    /// may be waited for again.
    ///
    /// Counterpart: `result(timeout)` of `run_coroutine_threadsafe`'s future.
    ///
    /// # Errors
    /// As awaiting the task.
    ///
    /// # Panics
    /// On a thread that drives an event loop; and if it gave the output before.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let rt = epicycle::Runtime::new();
    /// let mut task = rt.spawn(std::future::pending::<()>());
    /// assert!(task.blocking_join_timeout(Duration::from_millis(5)).is_none());
    /// task.cancel();
    /// assert!(task.blocking_join().unwrap_err().is_cancelled());
    /// ```
    #[track_caller]
    pub fn blocking_join_timeout(&mut self, timeout: Duration) -> Option<Result<T, JoinError>> {
        assert!(current::current().is_none(), "blocking_join_timeout {ON_A_LOOP}");
        // A timeout beyond the clock is none.
        wait(self, Instant::now().checked_add(timeout))
    }
}

fn wait<T>(task: &mut Task<T>, deadline: Option<Instant>) -> Option<Result<T, JoinError>> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(result) = Pin::new(&mut *task).poll(&mut cx) {
            return Some(result);
        }
        match deadline {
            None => thread::park(),
            Some(deadline) => match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return None,
                left => thread::park_timeout(left),
            },
        }
    }
}
