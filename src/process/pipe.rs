//! The ends of a child's pipes that are ours: [`ChildStdin`], [`ChildStdout`], [`ChildStderr`].
//!
//! *Invariant*: non-blocking as long as they are ours, blocking again when they are handed on. *Threads*: any.
//! *Ordering*: none of its own.

use std::io::{self, IoSlice, IoSliceMut, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::net::Async;

/// What a child may rely on in its standard streams.
fn blocking(pipe: OwnedFd) -> io::Result<OwnedFd> {
    let flags = fcntl_getfl(&pipe)?;
    fcntl_setfl(&pipe, flags - OFlags::NONBLOCK)?;
    Ok(pipe)
}

/// The pipe to a child's standard input.
///
/// Closing or dropping it is how the child learns that its input has ended. Written to after the child closed its end, it
/// fails with `BrokenPipe`. Tokio's `ChildStdin`; asyncio's `Process.stdin`, a `StreamWriter`.
///
/// # Examples
///
/// ```
/// use epicycle::io::{AsyncReadExt, AsyncWriteExt};
/// use epicycle::process::{Command, Stdio};
///
/// # epicycle::run(async {
/// let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
/// let mut input = cat.stdin.take().unwrap();
/// input.write_all(b"meow").await?;
/// input.close().await?;
/// let mut output = Vec::new();
/// cat.stdout.take().unwrap().read_to_end(&mut output).await?;
/// assert_eq!(output, b"meow");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct ChildStdin {
    /// None: closed.
    pipe: Option<Async<PipeWriter>>,
}

impl ChildStdin {
    #[track_caller]
    pub(super) fn new(pipe: std::process::ChildStdin) -> io::Result<Self> {
        let pipe = PipeWriter::from(OwnedFd::from(pipe));
        Ok(Self { pipe: Some(Async::new(pipe)?) })
    }

    /// The descriptor, in blocking mode: for another child, or for use without a runtime.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if it was closed; those of changing the mode.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::{Command, Stdio};
    ///
    /// # epicycle::run(async {
    /// let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn()?;
    /// let descriptor = cat.stdin.take().unwrap().into_owned_fd()?;
    /// drop(descriptor);
    /// assert!(cat.wait().await?.success());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn into_owned_fd(self) -> io::Result<OwnedFd> {
        match self.pipe {
            Some(pipe) => blocking(pipe.into_inner().into()),
            None => Err(closed()),
        }
    }

    /// The pipe as another child's standard output, so that this one reads what that one writes.
    ///
    /// # Errors
    ///
    /// As [`into_owned_fd`](Self::into_owned_fd).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::{Command, Stdio, shell};
    ///
    /// # epicycle::run(async {
    /// let mut reader = shell("read word; test $word = hello").stdin(Stdio::piped()).spawn()?;
    /// let into = reader.stdin.take().unwrap().into_stdio()?;
    /// Command::new("echo").arg("hello").stdout(into).status().await?;
    /// assert!(reader.wait().await?.success());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn into_stdio(self) -> io::Result<Stdio> {
        self.into_owned_fd().map(Stdio::from)
    }

    fn poll_with(
        &mut self,
        operation: impl FnOnce(Pin<&mut Async<PipeWriter>>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &mut self.pipe {
            Some(pipe) => operation(Pin::new(pipe)),
            None => Poll::Ready(Err(closed())),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the child's standard input has been closed")
}

impl AsyncWrite for ChildStdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_with(|pipe| pipe.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(|pipe| pipe.poll_write_vectored(cx, bufs))
    }

    /// Nothing is held back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes the descriptor: a pipe can be ended in no other way.
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe = None;
        Poll::Ready(Ok(()))
    }
}

macro_rules! output_pipe {
    ($pipe:ident, $of:literal, $field:literal, $redirect:literal) => {
        #[doc = concat!("The pipe from a child's standard ", $of, ".")]
        ///
        #[doc = concat!("Tokio's `", stringify!($pipe), "`; asyncio's `Process.", $field, "`, a `StreamReader`.")]
        ///
        /// # Examples
        ///
        /// ```
        /// use epicycle::io::{AsyncBufReadExt, BufReader};
        /// use epicycle::process::{Stdio, shell};
        /// use futures_lite::StreamExt;
        ///
        /// # epicycle::run(async {
        #[doc = concat!("let mut child = shell(\"for i in 1 2 3; do echo $i", $redirect, "; done\").", $field, "(Stdio::piped()).spawn()?;")]
        #[doc = concat!("let mut lines = BufReader::new(child.", $field, ".take().unwrap()).lines();")]
        /// assert_eq!(lines.next().await.unwrap()?, "1");
        /// assert_eq!(lines.next().await.unwrap()?, "2");
        /// # Ok::<(), std::io::Error>(())
        /// # }).unwrap();
        /// ```
        #[derive(Debug)]
        pub struct $pipe {
            pipe: Async<PipeReader>,
        }

        impl $pipe {
            #[track_caller]
            pub(super) fn new(pipe: std::process::$pipe) -> io::Result<Self> {
                let pipe = PipeReader::from(OwnedFd::from(pipe));
                Ok(Self { pipe: Async::new(pipe)? })
            }

            /// The descriptor, in blocking mode: for another child, or for use without a runtime.
            ///
            /// # Errors
            ///
            /// Those of changing the mode.
            ///
            /// # Examples
            ///
            /// ```
            /// use epicycle::process::{Stdio, shell};
            /// use std::io::Read;
            ///
            /// # epicycle::run(async {
            #[doc = concat!("let mut child = shell(\"echo hi", $redirect, "\").", $field, "(Stdio::piped()).spawn()?;")]
            #[doc = concat!("let descriptor = child.", $field, ".take().unwrap().into_owned_fd()?;")]
            /// let mut text = String::new();
            /// std::io::PipeReader::from(descriptor).read_to_string(&mut text)?; // blocks
            /// assert_eq!(text, "hi\n");
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn into_owned_fd(self) -> io::Result<OwnedFd> {
                blocking(self.pipe.into_inner().into())
            }

            /// The pipe as another child's standard input.
            ///
            /// # Errors
            ///
            /// Those of changing the mode.
            ///
            /// # Examples
            ///
            /// ```
            /// use epicycle::process::{Command, Stdio, shell};
            ///
            /// # epicycle::run(async {
            #[doc = concat!("let mut first = shell(\"echo hello", $redirect, "\").", $field, "(Stdio::piped()).spawn()?;")]
            #[doc = concat!("let from = first.", $field, ".take().unwrap().into_stdio()?;")]
            /// let output = Command::new("tr").args(["a-z", "A-Z"]).stdin(from).output().await?;
            /// assert_eq!(output.stdout, b"HELLO\n");
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn into_stdio(self) -> io::Result<Stdio> {
                self.into_owned_fd().map(Stdio::from)
            }
        }

        impl AsFd for $pipe {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.pipe.get_ref().as_fd()
            }
        }

        impl AsyncRead for $pipe {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                Pin::new(&mut &self.pipe).poll_read(cx, buf)
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut &self.pipe).poll_read_vectored(cx, bufs)
            }
        }
    };
}

output_pipe!(ChildStdout, "output", "stdout", "");
output_pipe!(ChildStderr, "error", "stderr", " >&2");
