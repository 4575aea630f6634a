//! The pair of sockets by which a signal reaches a loop.
//!
//! *Invariant*: a byte lies in the socket if a signal came since the last [`drain`]; more than one means no more than one.
//! *Threads*: any. *Ordering*: the kernel's.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use signal_hook::SigId;
use signal_hook::consts::FORBIDDEN;
use signal_hook::low_level::{pipe, unregister};

use super::SignalKind;

/// The loop's end and the signal handler's.
///
/// # Errors
/// `InvalidInput` for signals that cannot or must not be handled; those of making sockets.
pub(super) fn sockets(kind: SignalKind) -> io::Result<(UnixStream, UnixStream)> {
    if FORBIDDEN.contains(&kind.as_raw()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{kind:?} cannot be listened for")));
    }
    UnixStream::pair()
}

/// Writes the bytes. Made after the loop's end was set up and dropped before it is closed: writing to a socket that nobody
/// reads would raise `SIGPIPE`.
pub(super) struct Hook(SigId);

impl Hook {
    /// Has every signal of the kind from now on write a byte into `socket`, if there is room.
    pub(super) fn new(kind: SignalKind, socket: UnixStream) -> io::Result<Hook> {
        // The handler sends without blocking, whatever the mode.
        pipe::register(kind.as_raw(), socket).map(Hook)
    }

    /// Writes no more from now on.
    pub(super) fn unhook(&self) {
        unregister(self.0);
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.unhook();
    }
}

/// Takes all the bytes there are out of a socket in non-blocking mode. `WouldBlock` if there are none.
pub(super) fn drain(mut bytes: &UnixStream) -> io::Result<()> {
    let mut taken = [0; 64];
    let mut any = false;
    loop {
        match bytes.read(&mut taken) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && any => return Ok(()),
            Err(error) => return Err(error),
            // The other end is open for as long as the listener is.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => any = true,
        }
    }
}
