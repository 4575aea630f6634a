//! Ctrl-C as the end of a future: the first one drops it, the second ends the process.
//!
//! *Invariant.* While no future listens, `SIGINT` does what it does by default: the handlers stay installed, for what they
//! replaced cannot be put back without a race, and the one that ends the process is on except between listening and the first
//! signal. *Threads.* Any; signal handlers do no more than store a flag and write to a socket. *Ordering.* The flag publishes
//! nothing; the socket wakes the loop.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use signal_hook::consts::SIGINT;
use signal_hook::low_level::{pipe, unregister};
use signal_hook::{SigId, flag};

use parking_lot::Mutex;

use crate::event_loop::EventLoop;

/// How many futures listen, and the switch of the handler that ends the process; `None` before the first.
static LISTENERS: Mutex<(usize, Option<Arc<AtomicBool>>)> = Mutex::new((0, None));

/// The future was dropped: by the signal, or because the loop refused to listen.
pub(super) struct Interrupted(pub(super) Option<io::Error>);

/// Told of each `SIGINT` from its making on.
pub(super) struct Interrupt {
    signals: UnixStream,
    id: SigId,
}

impl Interrupt {
    pub(super) fn listen() -> io::Result<Self> {
        let (signals, handlers) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        let mut listeners = LISTENERS.lock();
        let deadly = match &listeners.1 {
            Some(deadly) => deadly.clone(),
            None => {
                let deadly = Arc::new(AtomicBool::new(true));
                // Handlers run in this order: a signal is deadly if the one before has made it so.
                flag::register_conditional_default(SIGINT, deadly.clone())?;
                flag::register(SIGINT, deadly.clone())?;
                listeners.1 = Some(deadly.clone());
                deadly
            }
        };
        let id = pipe::register(SIGINT, handlers)?;
        if listeners.0 == 0 {
            // Ordering: Relaxed, file header.
            deadly.store(false, Ordering::Relaxed);
        }
        listeners.0 += 1;
        Ok(Self { signals, id })
    }

    /// `future`, until the signal. Inside `block_on`, since it reads from the loop.
    pub(super) async fn stop<F: Future>(self, future: F) -> Result<F::Output, Interrupted> {
        let (came, waker) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None::<Waker>)));
        let mut bytes = self.signals.try_clone().map_err(|error| Interrupted(Some(error)))?;
        let (tell, wake) = (came.clone(), waker.clone());
        let read = move || {
            let _ = bytes.read(&mut [0; 16]);
            tell.set(true);
            let waker = wake.borrow_mut().take();
            waker.into_iter().for_each(Waker::wake);
        };
        let event_loop = EventLoop::current();
        event_loop.add_reader(&self.signals, read).map_err(|error| Interrupted(Some(error)))?;
        let output = {
            let mut future = pin!(future);
            std::future::poll_fn(|cx| {
                if came.get() {
                    return Poll::Ready(Err(Interrupted(None)));
                }
                let old = waker.borrow_mut().replace(cx.waker().clone());
                drop(old);
                future.as_mut().poll(cx).map(Ok)
            })
            .await
        };
        event_loop.remove_reader(&self.signals);
        output
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        unregister(self.id);
        let mut listeners = LISTENERS.lock();
        listeners.0 -= 1;
        if let (0, Some(deadly)) = (listeners.0, &listeners.1) {
            // Ordering: Relaxed, file header.
            deadly.store(true, Ordering::Relaxed);
        }
    }
}
