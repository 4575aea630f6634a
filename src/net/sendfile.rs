//! `sendfile`: from a file to a socket inside the kernel.
//!
//! *Invariant*: the file is read by position, so that whoever else uses it is not disturbed, and no byte is sent twice: what the
//! kernel does not do itself goes on where it stopped. *Threads*: any. *Ordering*: none of its own.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::Async;
use crate::scheduler::run_in_executor;

/// So much at a time, that others have their turns.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CHUNK: u64 = 1 << 20;

/// What is read in one job where the kernel does not do it.
const COPIED: u64 = 1 << 18;

/// Sends `count` bytes of `file`, or all to its end, from `offset` on. Returns how many there were.
pub(super) async fn sendfile<T>(io: &Async<T>, file: &File, offset: u64, count: Option<u64>) -> io::Result<u64>
where
    T: AsFd,
    for<'a> &'a T: Write,
{
    let end = count.map_or(u64::MAX, |count| offset.saturating_add(count));
    let mut at = offset;
    if !in_kernel(io, file, &mut at, end).await? {
        copy(io, file, &mut at, end).await?;
    }
    Ok(at - offset)
}

/// Moves `at` on to the end of the file or to `end`: true. False: the kernel or the file's kind does not offer that.
#[cfg(any(target_os = "linux", target_os = "android"))]
async fn in_kernel<T: AsFd>(io: &Async<T>, file: &File, at: &mut u64, end: u64) -> io::Result<bool> {
    use rustix::io::Errno;
    while *at < end {
        let chunk = usize::try_from(CHUNK.min(end - *at)).unwrap_or(usize::MAX);
        let sent = io.write_with(|socket| {
            let mut from = *at;
            Ok(rustix::fs::sendfile(socket, file, Some(&mut from), chunk)?)
        });
        match sent.await {
            Ok(0) => break,
            Ok(sent) => *at += sent as u64,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(false),
                _ => return Err(error),
            },
        }
    }
    Ok(true)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
async fn in_kernel<T: AsFd>(_: &Async<T>, _: &File, _: &mut u64, _: u64) -> io::Result<bool> {
    Ok(false)
}

/// The same by reading on the executor and writing.
async fn copy<T>(io: &Async<T>, file: &File, at: &mut u64, end: u64) -> io::Result<()>
where
    T: AsFd,
    for<'a> &'a T: Write,
{
    while *at < end {
        let (file, from, most) = (file.try_clone()?, *at, COPIED.min(end - *at));
        let read = run_in_executor(move || {
            let mut chunk = vec![0; usize::try_from(most).unwrap_or(usize::MAX)];
            let read = loop {
                match file.read_at(&mut chunk, from) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            chunk.truncate(read);
            Ok(chunk)
        });
        let chunk: Vec<u8> = read.await.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        if chunk.is_empty() {
            break;
        }
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let written = io.write_with(|mut socket| socket.write(rest)).await?;
            rest = &rest[written..];
            *at += written as u64;
        }
    }
    Ok(())
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::runtime::run;

    /// What is done where the kernel does not.
    #[test]
    fn a_copy_stops_at_the_end_of_the_file_or_the_count() {
        let path = std::env::temp_dir().join(format!("epicycle-sendfile-{}", std::process::id()));
        let content: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for (from, end) in [(0, u64::MAX), (1000, 300_000), (699_999, u64::MAX), (700_000, u64::MAX), (5, 5)] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let reader = std::thread::spawn(move || {
                let mut received = Vec::new();
                theirs.read_to_end(&mut received).unwrap();
                received
            });
            let at = run(async {
                let mut at = from;
                let io = Async::new(ours).unwrap();
                copy(&io, &file, &mut at, end).await.unwrap();
                at
            });
            let expected = &content[from as usize..content.len().min(end as usize)];
            assert_eq!(at, from + expected.len() as u64);
            assert!(reader.join().unwrap() == expected);
        }
    }
}
