//! Reading from and writing to a stream's socket: each one system call, made without libc where rustix can, on Linux.
//!
//! libc's own are points at which a thread can be cancelled, which in a process of several threads is two atomic operations
//! around each call, 1 % of an echo server's time; nobody cancels a thread of Rust's.
//!
//! *Invariant*: what std's sockets do: no signal for a connection that the peer has closed, and an interrupted call is an
//! error. *Threads*: any. *Ordering*: none of its own.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};

/// How many buffers the kernel takes in one call.
const BUFFERS: usize = 1024;

/// Elsewhere it is an option of the socket, or nothing: Rust's programs ignore the signal.
#[cfg(target_os = "linux")]
const FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const FLAGS: SendFlags = SendFlags::empty();

pub(super) fn read(socket: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    let (len, _) = recv(socket, buf, RecvFlags::empty())?;
    Ok(len)
}

pub(super) fn read_vectored(socket: impl AsFd, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    Ok(rustix::io::readv(socket, bufs)?)
}

pub(super) fn write(socket: impl AsFd, buf: &[u8]) -> io::Result<usize> {
    Ok(send(socket, buf, FLAGS)?)
}

pub(super) fn write_vectored(socket: impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let bufs = &bufs[..bufs.len().min(BUFFERS)];
    Ok(sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), FLAGS)?)
}

/// How many bytes of such buffers one call can move.
pub(super) fn at_once(lens: impl Iterator<Item = usize>) -> usize {
    lens.take(BUFFERS).sum()
}
