//! [`Buffer`]: what has been read from a source and not yet by the user; and the search for separators in it.
//!
//! *Invariant*: `start <= end <= storage.len()`; all of the storage is initialised, once, so that reading into it needs no
//! zeroing each time. *Threads*: the owner's. *Ordering*: owner-only, none.

use std::mem;

use memchr::{memchr, memmem};

/// A buffer that grew beyond that, in bytes, is given back once it is empty.
const KEEP: usize = 128 * 1024;

#[derive(Debug, Default)]
pub(super) struct Buffer {
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn data(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Exactly `wanted` bytes to read into, behind the data.
    pub(super) fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.storage.len() - self.end < wanted {
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.storage.len() - self.end < wanted {
            let doubled = 2 * self.storage.len();
            self.storage.resize(doubled.max(self.end + wanted), 0);
        }
        &mut self.storage[self.end..self.end + wanted]
    }

    /// That much of the room has been read into.
    pub(super) fn filled(&mut self, read: usize) {
        self.end += read;
    }

    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed more than there is");
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            if self.storage.len() > KEEP {
                self.storage = Vec::new();
            }
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        if self.start == 0 && count == self.end && count > KEEP {
            // All of a large buffer: it may as well be the result.
            let mut taken = mem::take(&mut self.storage);
            taken.truncate(count);
            self.end = 0;
            return taken;
        }
        let taken = self.data()[..count].to_vec();
        self.consume(count);
        taken
    }

    pub(super) fn take_all(&mut self) -> Vec<u8> {
        self.take(self.len())
    }
}

/// Where the earliest match ends, and where it starts. Of two that end at the same place, the shorter separator counts.
pub(super) fn find(data: &[u8], separators: &[&[u8]]) -> Option<(usize, usize)> {
    let ends = separators.iter().filter_map(|separator| {
        let start = match separator {
            [byte] => memchr(*byte, data),
            _ => memmem::find(data, separator),
        }?;
        Some((start, start + separator.len()))
    });
    ends.min_by_key(|(start, end)| (*end, usize::MAX - start))
}

/// What [`StreamReader::readuntil`](super::StreamReader::readuntil) reads up to: one separator or several.
///
/// A byte, bytes or a text; and arrays and slices of texts or of byte slices. asyncio's is bytes, or a tuple of them.
///
/// # Examples
///
/// ```
/// use epicycle::streams::StreamReader;
///
/// # epicycle::run(async {
/// let mut reader = StreamReader::new(&b"one;two\r\nthree.four"[..]);
/// assert_eq!(reader.readuntil(b';').await.unwrap(), b"one;");
/// assert_eq!(reader.readuntil(b"\r\n").await.unwrap(), b"two\r\n");
/// assert_eq!(reader.readuntil(["\r\n", ".", ";"]).await.unwrap(), b"three.");
/// # });
/// ```
pub trait Separators {
    /// The separators.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::Separators;
    ///
    /// assert_eq!("\r\n".list(), [b"\r\n"]);
    /// assert_eq!([";", "\n"].list(), [b";", b"\n"]);
    /// ```
    fn list(&self) -> Vec<&[u8]>;
}

macro_rules! one_separator {
    ($($ty:ty),+) => {$(
        impl Separators for $ty {
            fn list(&self) -> Vec<&[u8]> {
                vec![self.as_ref()]
            }
        }
    )+};
}

one_separator!([u8], Vec<u8>, str, String);

impl Separators for u8 {
    fn list(&self) -> Vec<&[u8]> {
        vec![std::slice::from_ref(self)]
    }
}

impl<const N: usize> Separators for [u8; N] {
    fn list(&self) -> Vec<&[u8]> {
        vec![self]
    }
}

macro_rules! several_separators {
    ($($ty:ty),+) => {$(
        impl Separators for [$ty] {
            fn list(&self) -> Vec<&[u8]> {
                self.iter().map(AsRef::as_ref).collect()
            }
        }

        impl<const N: usize> Separators for [$ty; N] {
            fn list(&self) -> Vec<&[u8]> {
                self[..].list()
            }
        }
    )+};
}

several_separators!(&[u8], &str, Vec<u8>, String);

impl<T: Separators + ?Sized> Separators for &T {
    fn list(&self) -> Vec<&[u8]> {
        (**self).list()
    }
}
