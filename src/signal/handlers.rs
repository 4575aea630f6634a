//! Signals as callbacks of a loop: asyncio's `add_signal_handler`.
//!
//! The callback is a reader of a bell's socket, so it is run, replaced and dropped as readers are: on its loop only, and at
//! the latest when the loop is closed. The list here serves no more than to find the bell of a kind again.
//!
//! *Invariant*: one bell for each loop and kind; the list names those that are in use. A callback that replaces another takes
//! over the bell, so that a signal that came before is its own. *Threads*: the loop's own, for each entry. *Ordering*: the
//! lock's, under which nothing of the user's runs or is dropped.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock, Weak};

use super::SignalKind;
use super::bell::{self, Hook};
use crate::event_loop::{EventLoop, LoopHandle};
use crate::primitive::Mutex;

struct Entry {
    home: LoopHandle,
    kind: SignalKind,
    bell: Weak<Bell>,
}

static ENTRIES: LazyLock<Mutex<Vec<Entry>>> = LazyLock::new(|| Mutex::new(Vec::new()));

/// Owned by the callback's reader.
struct Bell {
    // Dropped in this order.
    hook: Hook,
    socket: UnixStream,
}

impl Bell {
    fn find(home: &LoopHandle, kind: SignalKind) -> Option<Arc<Bell>> {
        let entries = ENTRIES.lock();
        entries.iter().find(|entry| entry.kind == kind && entry.home == *home)?.bell.upgrade()
    }

    fn hang(home: &LoopHandle, kind: SignalKind) -> io::Result<Arc<Bell>> {
        let (socket, handlers) = bell::sockets(kind)?;
        socket.set_nonblocking(true)?;
        let bell = Arc::new(Bell { hook: Hook::new(kind, handlers)?, socket });
        ENTRIES.lock().push(Entry { home: home.clone(), kind, bell: Arc::downgrade(&bell) });
        Ok(bell)
    }

    /// Rings no more and is not found any more.
    fn take_down(&self) {
        self.hook.unhook();
        // Dropped outside the lock: an entry may hold the last reference to its loop.
        let gone: Vec<Entry> = ENTRIES.lock().extract_if(.., |entry| std::ptr::eq(entry.bell.as_ptr(), self)).collect();
        drop(gone);
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.take_down();
    }
}

impl EventLoop {
    /// Has `callback` called on this loop, as any other callback, when the process gets a signal of this kind.
    ///
    /// It is no signal handler in C's sense: it runs in a turn of the loop, between other callbacks, and may do what they
    /// may. Signals that come before it has run are merged into one call, as the operating system itself does. A panic in it
    /// goes to the exception handler, and it stays.
    ///
    /// One callback for each kind and loop: adding another replaces it, and signals that it has not been called for yet go
    /// to the new one. It stays until it is removed or the loop is closed; for loop 0 of a runtime, that is the end of
    /// `block_on`. Every loop of a process may have its own callback for a kind, and [`signal()`](crate::signal::signal)
    /// may listen for it beside them: all are told.
    ///
    /// asyncio's `loop.add_signal_handler`, which only the main thread's loop may use; here any loop may.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for signals that cannot or must not be handled (`SIGKILL`, `SIGSTOP`, `SIGILL`, `SIGFPE`, `SIGSEGV`);
    /// if the loop is closed; those of setting up a pair of sockets.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::EventLoop;
    /// use epicycle::signal::SignalKind;
    ///
    /// let event_loop = EventLoop::new()?;
    /// let stopper = event_loop.clone();
    /// event_loop.add_signal_handler(SignalKind::hangup(), move || stopper.stop())?;
    /// signal_hook::low_level::raise(SignalKind::hangup().as_raw())?; // or `kill -HUP`
    /// event_loop.run_forever();
    /// assert!(event_loop.remove_signal_handler(SignalKind::hangup()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn add_signal_handler(&self, kind: SignalKind, mut callback: impl FnMut() + 'static) -> io::Result<()> {
        if self.is_closed() {
            return Err(io::Error::other("event loop is closed"));
        }
        let home = self.handle();
        let bell = match Bell::find(&home, kind) {
            Some(bell) => bell,
            None => Bell::hang(&home, kind)?,
        };
        let own = bell.clone();
        self.add_reader(&bell.socket, move || {
            // There is nothing if the selector was mistaken.
            if bell::drain(&own.socket).is_ok() {
                callback();
            }
        })
    }

    /// Has the callback for this kind of signal called no more; true if there was one.
    ///
    /// A signal that has come and that it was not called for is forgotten. The default action does not come back: without
    /// any listener, the signal is ignored from now on.
    ///
    /// asyncio's `loop.remove_signal_handler`, which restores the default action.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::{EventLoop, signal::SignalKind};
    ///
    /// let event_loop = EventLoop::new()?;
    /// event_loop.add_signal_handler(SignalKind::user_defined1(), || unreachable!("removed"))?;
    /// assert!(event_loop.remove_signal_handler(SignalKind::user_defined1()));
    /// assert!(!event_loop.remove_signal_handler(SignalKind::user_defined1()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn remove_signal_handler(&self, kind: SignalKind) -> bool {
        // A loop that is closed may share its name with its successor's.
        if self.is_closed() {
            return false;
        }
        let Some(bell) = Bell::find(&self.handle(), kind) else {
            return false;
        };
        bell.take_down();
        self.remove_reader(&bell.socket)
    }
}
