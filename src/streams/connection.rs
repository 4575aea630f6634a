//! [`Connection`]: what a reader and its writers share; above all, the bytes on their way out.
//!
//! *Invariant.* Bytes leave in the order of the calls of `write`. While nobody flushes, nothing is buffered, and a write goes
//! straight to the kernel, under the lock. What the kernel does not take is buffered, and from then on one [`Flusher`],
//! a task, is the only one to write, until it finds nothing left. So `unsent > 0` implies that a flusher exists. The
//! connection is over once: the first reason stays.
//!
//! *Threads.* Any. *Ordering.* The lock's. System calls that cannot block are made under it, polls are not: those wake,
//! and may so call an instrument's hooks.

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::AsyncRead;

use super::error::Loss;
use super::home::Home;
use super::monitor::Monitor;
use super::service::Membership;
use super::socket::Socket;

/// asyncio's high-water mark of a transport, in bytes; the low one is a quarter of it.
const HIGH_WATER: usize = 64 * 1024;

pub(super) struct Connection {
    socket: Socket,
    /// Known from the start, for who asks after the end.
    peer: Option<SocketAddr>,
    home: Home,
    outgoing: Monitor<Outgoing>,
}

struct Outgoing {
    /// What came since the flusher looked last. It takes all of it at once.
    pending: Vec<u8>,
    /// `pending`, and what the flusher has.
    unsent: usize,
    marks: Marks,
    /// Above the high-water mark, and not yet down at the low one.
    paused: bool,
    flushing: bool,
    ending: Ending,
    over: Option<Over>,
    /// Of a server, until it is over.
    membership: Option<Membership>,
}

/// How much may be buffered before `drain` waits, and down to what it waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    pub(super) high: usize,
    pub(super) low: usize,
}

impl Marks {
    /// # Panics
    /// If `low` is above `high`.
    #[track_caller]
    pub(super) fn new(high: usize, low: usize) -> Self {
        assert!(low <= high, "the low-water mark ({low}) must not be above the high one ({high})");
        Self { high, low }
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self { high: HIGH_WATER, low: HIGH_WATER / 4 }
    }
}

/// What is to be done when all has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    None,
    Eof,
    Close,
}

/// Why nothing goes out any more.
#[derive(Debug, Clone)]
enum Over {
    Closed,
    Aborted,
    Lost(Loss),
}

impl Over {
    /// As asyncio, which does not tell these apart once the connection is gone.
    fn error(&self) -> io::Error {
        match self {
            Self::Closed | Self::Aborted => io::Error::new(io::ErrorKind::ConnectionReset, "connection lost"),
            Self::Lost(loss) => loss.error(),
        }
    }
}

impl Outgoing {
    fn check_writable(&self) -> io::Result<()> {
        let text = match (&self.over, self.ending) {
            (Some(Over::Lost(loss)), _) => return Err(loss.error()),
            (None, Ending::None) => return Ok(()),
            (None, Ending::Eof) => "cannot write after write_eof()",
            (Some(_), _) | (None, Ending::Close) => "cannot write after close() or abort()",
        };
        Err(io::Error::new(io::ErrorKind::BrokenPipe, text))
    }

    /// Returns what is to be dropped outside the lock.
    fn finish(&mut self, over: Over) -> Option<Membership> {
        if self.over.is_none() {
            self.over = Some(over);
            self.pending = Vec::new();
            self.unsent = 0;
            self.paused = false;
        }
        self.membership.take()
    }

    /// Something, when `drain` need not wait.
    fn drained(&self) -> Option<io::Result<()>> {
        match &self.over {
            Some(over) => Some(Err(over.error())),
            None => (!self.paused).then_some(Ok(())),
        }
    }

    /// Something, when nothing is left to be sent.
    fn flushed(&self) -> Option<io::Result<()>> {
        match &self.over {
            Some(Over::Closed) => Some(Ok(())),
            Some(over) => Some(Err(over.error())),
            None => (self.unsent == 0).then_some(Ok(())),
        }
    }

    fn closed(&self) -> Option<io::Result<()>> {
        match self.over.as_ref()? {
            Over::Closed | Over::Aborted => Some(Ok(())),
            Over::Lost(loss) => Some(Err(loss.error())),
        }
    }
}

impl Connection {
    #[track_caller]
    pub(super) fn new(socket: Socket, peer: Option<SocketAddr>, marks: Marks) -> Arc<Self> {
        let outgoing = Outgoing {
            pending: Vec::new(),
            unsent: 0,
            marks,
            paused: false,
            flushing: false,
            ending: Ending::None,
            over: None,
            membership: None,
        };
        Arc::new(Self { socket, peer, home: Home::current(), outgoing: Monitor::new("writer", outgoing) })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Makes it a server's, until it is over.
    pub(super) fn join(&self, membership: Membership) {
        let mut membership = Some(membership);
        self.outgoing.with(|out| {
            if out.over.is_none() {
                out.membership = membership.take();
            }
        });
    }

    // ---- writing ---------------------------------------------------------------------------------------------------

    pub(super) fn write(self: &Arc<Self>, data: &[u8]) -> io::Result<()> {
        let copy = |pending: &mut Vec<u8>, from: usize| pending.extend_from_slice(&data[from..]);
        self.write_with(data.len(), || self.socket.try_write(data), copy)
    }

    pub(super) fn write_all_of(self: &Arc<Self>, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let length = parts.iter().map(|part| part.len()).sum();
        let copy = |pending: &mut Vec<u8>, mut from: usize| {
            for part in parts {
                let skipped = from.min(part.len());
                pending.extend_from_slice(&part[skipped..]);
                from -= skipped;
            }
        };
        self.write_with(length, || self.socket.try_write_vectored(parts), copy)
    }

    fn write_with(
        self: &Arc<Self>,
        length: usize,
        direct: impl FnOnce() -> io::Result<usize>,
        copy: impl FnOnce(&mut Vec<u8>, usize),
    ) -> io::Result<()> {
        let begun = self.outgoing.with(|out| {
            out.check_writable().map_err(Refusal::Known)?;
            let written = match out.flushing || length == 0 {
                true => 0,
                false => direct().or_else(later).map_err(Refusal::New)?,
            };
            if written == length {
                return Ok(false);
            }
            copy(&mut out.pending, written);
            out.unsent += length - written;
            out.paused |= out.unsent > out.marks.high;
            Ok(!mem::replace(&mut out.flushing, true))
        });
        match begun {
            Ok(true) => {
                drop(self.home.spawn(Flusher { connection: self.clone(), chunk: Vec::new(), sent: 0, done: false }));
            }
            Ok(false) => {}
            Err(Refusal::Known(error)) => return Err(error),
            Err(Refusal::New(error)) => {
                self.lose(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits until there is no more buffered than should be.
    pub(super) async fn drain(&self) -> io::Result<()> {
        self.outgoing.until(|out| out.drained()).await
    }

    pub(super) fn poll_drained(&self, cx: &mut Context<'_>, ticket: &mut u64) -> Poll<io::Result<()>> {
        self.outgoing.poll_until(cx, ticket, |out| out.drained())
    }

    pub(super) fn poll_flushed(&self, cx: &mut Context<'_>, ticket: &mut u64) -> Poll<io::Result<()>> {
        self.outgoing.poll_until(cx, ticket, |out| out.flushed())
    }

    pub(super) fn leave(&self, ticket: &mut u64) {
        self.outgoing.leave(ticket);
    }

    pub(super) fn unsent(&self) -> usize {
        self.outgoing.with(|out| out.unsent)
    }

    pub(super) fn marks(&self) -> Marks {
        self.outgoing.with(|out| out.marks)
    }

    pub(super) fn set_marks(&self, marks: Marks) {
        self.outgoing.change(|out| {
            out.marks = marks;
            let paused = out.unsent > if out.paused { marks.low } else { marks.high };
            (mem::replace(&mut out.paused, paused) && !paused, ())
        });
    }

    // ---- ending ----------------------------------------------------------------------------------------------------

    pub(super) fn write_eof(&self) {
        self.end(Ending::Eof);
    }

    pub(super) fn close(&self) {
        self.end(Ending::Close);
    }

    fn end(&self, ending: Ending) {
        let left = self.outgoing.change(|out| {
            if out.over.is_some() || out.ending >= ending {
                return (false, None);
            }
            out.ending = ending;
            (true, if out.flushing { None } else { self.carry_out(out) })
        });
        drop(left);
    }

    /// Nothing is left to be sent: does what was to be done then.
    fn carry_out(&self, out: &mut Outgoing) -> Option<Membership> {
        match out.ending {
            Ending::None => None,
            Ending::Eof => {
                self.socket.end(Shutdown::Write);
                None
            }
            Ending::Close => {
                // Reading, too: who waits for data gets the end.
                self.socket.end(Shutdown::Both);
                out.finish(Over::Closed)
            }
        }
    }

    pub(super) fn abort(&self) {
        let left = self.outgoing.change(|out| {
            if out.over.is_some() {
                return (false, None);
            }
            self.socket.abort();
            (true, out.finish(Over::Aborted))
        });
        drop(left);
    }

    /// An error ended it, unless it was over before.
    fn lose(&self, error: &io::Error) {
        let left = self.outgoing.change(|out| {
            if out.over.is_some() {
                return (false, None);
            }
            // Wakes the other direction.
            self.socket.end(Shutdown::Both);
            (true, out.finish(Over::Lost(Loss::from(error))))
        });
        drop(left);
    }

    pub(super) async fn wait_closed(&self) -> io::Result<()> {
        self.outgoing.until(|out| out.closed()).await
    }

    pub(super) fn is_closing(&self) -> bool {
        self.outgoing.with(|out| out.over.is_some() || out.ending == Ending::Close)
    }

    // ---- what the reader does --------------------------------------------------------------------------------------

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match ready!(self.socket.poll_read(cx, buf)) {
            Ok(read) if read > 0 => Poll::Ready(Ok(read)),
            result => Poll::Ready(self.end_of_reading(result)),
        }
    }

    /// The kernel tells of an error once, and then of the end. Here the error stays.
    fn end_of_reading(&self, result: io::Result<usize>) -> io::Result<usize> {
        match (self.outgoing.with(|out| out.over.clone()), &result) {
            (Some(Over::Lost(loss)), _) => Err(loss.error()),
            (Some(Over::Closed | Over::Aborted), _) => Ok(0),
            (None, Err(error)) if error.kind() != io::ErrorKind::Interrupted => {
                self.lose(error);
                result
            }
            (None, _) => result,
        }
    }

    // ---- what the flusher does -------------------------------------------------------------------------------------

    /// So much has been sent. False if the connection is over.
    fn sent(&self, count: usize) -> bool {
        self.outgoing.change(|out| {
            if out.over.is_some() {
                return (false, false);
            }
            out.unsent -= count;
            let resumed = out.paused && out.unsent <= out.marks.low;
            out.paused &= !resumed;
            (resumed, true)
        })
    }

    /// Exchanges an empty chunk for what has come meanwhile. False if there is nothing: then the flusher is none any more.
    fn refill(&self, chunk: &mut Vec<u8>) -> bool {
        let (more, left) = self.outgoing.change(|out| {
            if out.over.is_none() && !out.pending.is_empty() {
                mem::swap(&mut out.pending, chunk);
                return (false, (true, None));
            }
            out.flushing = false;
            // It may have grown large.
            out.pending = Vec::new();
            let left = if out.over.is_none() { self.carry_out(out) } else { None };
            (true, (false, left))
        });
        drop(left);
        more
    }
}

/// Why something is not written.
enum Refusal {
    /// By what was known before.
    Known(io::Error),
    /// By the kernel.
    New(io::Error),
}

/// The kernel has no room, or was interrupted: nothing has been written.
fn later(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}

/// The task that sends what the kernel did not take at once. It holds the connection open until then, also when reader and
/// writers are gone.
struct Flusher {
    connection: Arc<Connection>,
    chunk: Vec<u8>,
    sent: usize,
    done: bool,
}

impl Future for Flusher {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if this.sent == this.chunk.len() {
                this.chunk.clear();
                this.sent = 0;
                if !this.connection.refill(&mut this.chunk) {
                    this.done = true;
                    return Poll::Ready(());
                }
            }
            match ready!(this.connection.socket.poll_write(cx, &this.chunk[this.sent..])) {
                Ok(count) => {
                    this.sent += count;
                    if !this.connection.sent(count) {
                        // Over: the rest is not to be sent.
                        this.sent = this.chunk.len();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    this.connection.lose(&error);
                    this.sent = this.chunk.len();
                }
            }
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        if !self.done {
            // With the runtime: nobody will send the rest.
            self.connection.lose(&io::Error::other("the event loop that served this connection is closed"));
        }
    }
}

/// The receiving direction of a connection: what a [`StreamReader`](super::StreamReader) of a socket reads from.
///
/// # Examples
///
/// ```
/// use epicycle::net::UnixStream;
/// use epicycle::streams::{self, Incoming, Socket, StreamReader};
///
/// # epicycle::run(async {
/// let (socket, _peer) = UnixStream::pair()?;
/// let (reader, _writer): (StreamReader<Incoming>, _) = streams::split(socket);
/// assert!(matches!(reader.get_ref().as_ref(), Socket::Unix(_)));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct Incoming {
    connection: Arc<Connection>,
}

impl Incoming {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl AsRef<Socket> for Incoming {
    /// The whole socket.
    fn as_ref(&self) -> &Socket {
        self.connection.socket()
    }
}

impl AsyncRead for Incoming {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.connection.poll_read(cx, buf)
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Incoming").field(self.connection.socket()).finish()
    }
}
