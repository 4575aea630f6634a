//! Writing to a child and reading what it says at the same time, so that no pipe fills up behind our back.
//!
//! *Invariant*: what was sent and what came is kept here and not in a future, so that giving up a wait loses nothing.
//! *Threads*: the child's owner. *Ordering*: none.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use super::pipe::{ChildStderr, ChildStdin, ChildStdout};

/// As much as a pipe takes by default.
const CHUNK: usize = 64 * 1024;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    sent: usize,
    /// The input's end was reached, or the child wants no more.
    said: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Conversation {
    pub(super) fn is_said(&self) -> bool {
        self.said
    }

    /// What came.
    pub(super) fn take(&mut self) -> (Vec<u8>, Vec<u8>) {
        (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr))
    }

    /// Ready when all was sent and both outputs have ended. Closes the pipes on the way.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        input: &[u8],
        (stdin, stdout, stderr): (&mut Option<ChildStdin>, &mut Option<ChildStdout>, &mut Option<ChildStderr>),
    ) -> Poll<io::Result<()>> {
        let said = self.poll_say(cx, input, stdin)?.is_ready();
        let heard_out = poll_hear(cx, stdout, &mut self.stdout)?.is_ready();
        let heard_err = poll_hear(cx, stderr, &mut self.stderr)?.is_ready();
        if said && heard_out && heard_err { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_say(&mut self, cx: &mut Context<'_>, input: &[u8], stdin: &mut Option<ChildStdin>) -> Poll<io::Result<()>> {
        while let Some(pipe) = stdin {
            let rest = input.get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                *stdin = None;
                break;
            }
            match ready!(Pin::new(pipe).poll_write(cx, rest)) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It may well do its work without having read all of it.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    *stdin = None
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.said = true;
        Poll::Ready(Ok(()))
    }
}

fn poll_hear<R: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    pipe: &mut Option<R>,
    heard: &mut Vec<u8>,
) -> Poll<io::Result<()>> {
    while let Some(open) = pipe {
        let before = heard.len();
        heard.resize(before + CHUNK, 0);
        let read = Pin::new(open).poll_read(cx, &mut heard[before..]);
        let length = if let Poll::Ready(Ok(length)) = read { length } else { 0 };
        heard.truncate(before + length);
        match ready!(read) {
            Ok(0) => *pipe = None,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}
