//! Child processes: started at once, awaited on any loop.
//!
//! ```
//! use epicycle::process::{Command, Stdio};
//!
//! # epicycle::run(async {
//! let mut child = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
//! let (sorted, _) = child.communicate("pear\napple\n").await?;
//! assert_eq!(sorted, b"apple\npear\n");
//! assert!(child.wait().await?.success());
//! # Ok::<(), std::io::Error>(())
//! # }).unwrap();
//! ```
//!
//! | asyncio | Tokio | here |
//! |---|---|---|
//! | `create_subprocess_exec` | `Command::spawn` | [`Command::spawn`] |
//! | `create_subprocess_shell` | | [`shell`] |
//! | `Process.communicate` | | [`Child::communicate`] |
//! | `Process.wait` | `Child::wait` | [`Child::wait`], [`ChildHandle::wait`] |
//! | `Process.returncode` | | [`Child::returncode`], [`returncode`] |
//! | `Process.send_signal`, `terminate`, `kill` | `Child::start_kill` | the same, on [`Child`] and [`ChildHandle`] |
//!
//! *How an end is noticed.* On Linux every child has a pidfd, a descriptor that can be read from when the process has
//! ended, registered with a loop like a socket. Elsewhere, and where the kernel refuses it, one thread for all children
//! listens for `SIGCHLD`.
//!
//! *No zombies.* A [`Child`] that is dropped before it ended goes on running, unless
//! [`kill_on_drop`](Command::kill_on_drop) was asked for, and in either case it is reaped when it has ended, also after the
//! runtime is gone. (One thread looks after such children, as long as there are any.) Nobody else may reap: a program that
//! has `SIGCHLD` ignored, or calls `waitpid` for all of its children, takes their exit status away, and waiting for them
//! fails.
//!
//! *No signal goes astray.* A process number is in use again as soon as its process was reaped. Signals sent from here go to
//! this child or to nobody.
//!
//! Pipes carry bytes. There is no text mode, as there is none in asyncio: put a
//! [`BufReader`](crate::io::BufReader) around them for lines.
//!
//! *Invariant*: a child is reaped by `exit.rs` only, once. *Threads*: any. *Ordering*: the lock's in `exit.rs`.

#![forbid(unsafe_code)]

mod exit;
mod reaper;

mod communicate;
mod pipe;

mod child;
mod command;

pub use child::{Child, ChildHandle};
pub use command::{Command, shell};
pub use exit::returncode;
pub use pipe::{ChildStderr, ChildStdin, ChildStdout};
#[doc(no_inline)]
pub use std::process::{ExitStatus, Output, Stdio};
