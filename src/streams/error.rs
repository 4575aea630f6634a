//! What reading can end in: [`ReadError`] and the two errors of asyncio in it; and [`Loss`], an I/O error for everybody.
//!
//! *Invariant*: plain values. *Threads*: any. *Ordering*: none.

use std::error::Error;
use std::fmt;
use std::io;

/// The stream ended before what was asked for had come.
///
/// asyncio's `IncompleteReadError`.
///
/// # Examples
///
/// ```
/// use epicycle::streams::{ReadError, StreamReader};
///
/// # epicycle::run(async {
/// let mut reader = StreamReader::new(&b"abc"[..]);
/// let Err(ReadError::Incomplete(error)) = reader.readexactly(8).await else { panic!() };
/// assert_eq!((&error.partial[..], error.expected), (&b"abc"[..], Some(8)));
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncompleteReadError {
    /// What did come. It is no longer in the reader.
    pub partial: Vec<u8>,
    /// How many bytes were asked for; `None` if it was up to a separator.
    pub expected: Option<usize>,
}

impl fmt::Display for IncompleteReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expected {
            Some(expected) => write!(f, "{} bytes read on a total of {expected} expected bytes", self.partial.len()),
            None => write!(f, "{} bytes read, and then the end instead of a separator", self.partial.len()),
        }
    }
}

impl Error for IncompleteReadError {}

/// No separator came within the reader's limit. The data is still in the reader.
///
/// asyncio's `LimitOverrunError`.
///
/// # Examples
///
/// ```
/// use epicycle::streams::{ReadError, StreamReader};
///
/// # epicycle::run(async {
/// let mut reader = StreamReader::with_limit(4, &b"too long;"[..]);
/// let Err(ReadError::Overrun(error)) = reader.readuntil(b";").await else { panic!() };
/// // That much can be taken out without losing a separator.
/// let skipped = reader.readexactly(error.consumed).await.unwrap();
/// assert!(b"too long".starts_with(&skipped));
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitOverrunError {
    /// How many bytes can be read without touching a separator that may begin after them.
    pub consumed: usize,
}

impl fmt::Display for LimitOverrunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no separator within the limit: {} bytes without one", self.consumed)
    }
}

impl Error for LimitOverrunError {}

/// Why [`readexactly`](super::StreamReader::readexactly), [`readuntil`](super::StreamReader::readuntil) or
/// [`readline`](super::StreamReader::readline) failed.
///
/// Becomes an [`io::Error`] by `?`, of the kind `UnexpectedEof` or `InvalidData`, with the original inside.
///
/// asyncio raises what is inside, and for a line over the limit a `ValueError`.
///
/// # Examples
///
/// ```
/// use epicycle::streams::StreamReader;
///
/// async fn header(text: &[u8]) -> std::io::Result<Vec<u8>> {
///     Ok(StreamReader::new(text).readuntil("\r\n\r\n").await?)
/// }
///
/// let error = epicycle::run(header(b"GET /")).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream ended first.
    Incomplete(IncompleteReadError),
    /// The limit was reached first.
    Overrun(LimitOverrunError),
    /// Reading failed.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(error) => error.fmt(f),
            Self::Overrun(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // What it says is what we say; behind that is its own source.
            Self::Io(error) => error.source(),
            _ => None,
        }
    }
}

impl From<IncompleteReadError> for ReadError {
    fn from(error: IncompleteReadError) -> Self {
        Self::Incomplete(error)
    }
}

impl From<LimitOverrunError> for ReadError {
    fn from(error: LimitOverrunError) -> Self {
        Self::Overrun(error)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Incomplete(error) => Self::new(io::ErrorKind::UnexpectedEof, error),
            ReadError::Overrun(error) => Self::new(io::ErrorKind::InvalidData, error),
            ReadError::Io(error) => error,
        }
    }
}

/// An `io::Error` that can be told to any number of callers.
#[derive(Debug, Clone)]
pub(super) struct Loss {
    code: Option<i32>,
    kind: io::ErrorKind,
    text: String,
}

impl From<&io::Error> for Loss {
    fn from(error: &io::Error) -> Self {
        Self { code: error.raw_os_error(), kind: error.kind(), text: error.to_string() }
    }
}

impl Loss {
    pub(super) fn error(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind, self.text.clone()),
        }
    }
}
