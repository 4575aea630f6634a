//! [`Child`], which owns a process' pipes, and [`ChildHandle`], which anybody may have.
//!
//! *Invariant*: when its `Child` is dropped, a process that still runs goes to the reaper. *Threads*: any.
//! *Ordering*: `exit.rs`.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::process::{ExitStatus, Output};
use std::sync::Arc;

use super::communicate::Conversation;
use super::exit::{Process, returncode};
use super::pipe::{ChildStderr, ChildStdin, ChildStdout};
use crate::signal::SignalKind;

/// A process that was started with [`Command::spawn`](super::Command::spawn). asyncio's `Process`, Tokio's
/// `process::Child`.
///
/// Dropping it closes the pipes. The process goes on running, unless
/// [`kill_on_drop`](super::Command::kill_on_drop) was asked for, and is reaped when it ends.
///
/// # Examples
///
/// ```
/// use epicycle::process::Command;
///
/// # epicycle::run(async {
/// let child = Command::new("sleep").arg("60").spawn()?;
/// child.terminate()?;
/// child.wait().await?;
/// assert_eq!(child.returncode(), Some(-15));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct Child {
    /// Its input, if [`Stdio::piped`](super::Stdio::piped) was asked for.
    pub stdin: Option<ChildStdin>,
    /// Its output, if [`Stdio::piped`](super::Stdio::piped) was asked for.
    pub stdout: Option<ChildStdout>,
    /// Its errors, if [`Stdio::piped`](super::Stdio::piped) was asked for.
    pub stderr: Option<ChildStderr>,
    handle: ChildHandle,
    kill_on_drop: bool,
    conversation: Conversation,
}

/// A child process as others than its owner know it: for waiting and for signals, on any thread, any number.
///
/// From [`Child::handle`]. It does not keep the process from being killed when its [`Child`] is dropped.
///
/// asyncio's tasks share the `Process` itself; Tokio has no counterpart.
///
/// # Examples
///
/// ```
/// use epicycle::process::Command;
///
/// # epicycle::run(async {
/// let child = Command::new("sleep").arg("60").spawn()?;
/// let handle = child.handle();
/// let waiting = epicycle::spawn(async move { handle.wait().await });
/// child.kill()?;
/// assert_eq!(waiting.await.unwrap()?, child.wait().await?);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct ChildHandle {
    process: Arc<Process>,
}

/// The same methods for both, so that one need not ask for a handle.
macro_rules! shared_methods {
    ($(
        $(#[$doc:meta])*
        fn $name:ident(&self $(, $arg:ident: $ty:ty)?) -> $output:ty = |$process:ident| $body:expr;
    )*) => {
        impl ChildHandle {
            $($(#[$doc])* pub fn $name(&self $(, $arg: $ty)?) -> $output {
                let $process = &*self.process;
                $body
            })*
        }
        impl Child {
            $($(#[$doc])* pub fn $name(&self $(, $arg: $ty)?) -> $output {
                self.handle.$name($($arg)?)
            })*
        }
    };
}

shared_methods! {
    /// Its number. Once it was waited for, another process may get the same one: to send signals, use
    /// [`send_signal`](Self::send_signal). asyncio's `Process.pid`.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let child = epicycle::process::Command::new("true").spawn()?;
    /// assert!(child.id() > 1);
    /// assert_eq!(child.id(), child.handle().id());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    fn id(&self) -> u32 = |process| process.id();

    /// How it ended, if it has. std's and Tokio's `Child::try_wait`.
    ///
    /// # Errors
    ///
    /// If it was reaped behind our back: see [`crate::process`].
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let child = epicycle::process::Command::new("sleep").arg("60").spawn()?;
    /// assert!(child.try_wait()?.is_none());
    /// child.kill()?;
    /// child.wait().await?;
    /// assert!(child.try_wait()?.is_some());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    fn try_wait(&self) -> io::Result<Option<ExitStatus>> = |process| process.try_wait();

    /// How it ended, as asyncio's `Process.returncode`: the exit code, or `-N` if signal `N` ended it; `None` if it runs,
    /// or if it was reaped behind our back: then [`try_wait`](Self::try_wait) says so.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let child = epicycle::process::Command::new("sleep").arg("60").spawn()?;
    /// assert_eq!(child.returncode(), None);
    /// child.kill()?;
    /// child.wait().await?;
    /// assert_eq!(child.returncode(), Some(-9));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    fn returncode(&self) -> Option<i32> = |process| process.try_wait().ok().flatten().map(returncode);

    /// Sends it a signal. After its end that does nothing, and no other process is met.
    ///
    /// # Errors
    ///
    /// If it runs as another user; `InvalidInput` for a number that is not that of a named signal.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::signal::SignalKind;
    ///
    /// # epicycle::run(async {
    /// let child = epicycle::process::Command::new("sleep").arg("60").spawn()?;
    /// child.send_signal(SignalKind::terminate())?;
    /// child.wait().await?;
    /// assert_eq!(child.returncode(), Some(-15));
    /// child.send_signal(SignalKind::terminate())?; // too late, and no error
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    fn send_signal(&self, kind: SignalKind) -> io::Result<()> = |process| process.send_signal(kind);

    /// Asks it to end: `SIGTERM`. It may take its time, or ignore it.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal).
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let child = epicycle::process::Command::new("sleep").arg("60").spawn()?;
    /// child.terminate()?;
    /// assert!(!child.wait().await?.success());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    fn terminate(&self) -> io::Result<()> = |process| process.send_signal(SignalKind::terminate());

    /// Ends it: `SIGKILL`. Its end is to be awaited still. Processes that it has started itself are not concerned.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal).
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let child = epicycle::process::Command::new("sleep").arg("60").spawn()?;
    /// child.kill()?;
    /// assert!(!child.wait().await?.success());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    fn kill(&self) -> io::Result<()> = |process| process.send_signal(KILL);
}

const KILL: SignalKind = SignalKind::from_raw(signal_hook::consts::SIGKILL);

impl ChildHandle {
    /// Waits for its end, as [`Child::wait`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let child = epicycle::process::shell("exit 7").spawn()?;
    /// let handle = child.handle();
    /// drop(child); // it goes on, and is known still
    /// assert_eq!(handle.wait().await?.code(), Some(7));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn wait(&self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }
}

impl Child {
    #[track_caller]
    pub(super) fn new(mut child: std::process::Child, kill_on_drop: bool) -> io::Result<Self> {
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let process = Process::new(child)?;
        // If a pipe fails, the child is dropped: nobody will ever hear of it, so it is killed whatever was asked for.
        let mut this = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            handle: ChildHandle { process },
            kill_on_drop: true,
            conversation: Conversation::default(),
        };
        this.stdin = pipes.0.map(ChildStdin::new).transpose()?;
        this.stdout = pipes.1.map(ChildStdout::new).transpose()?;
        this.stderr = pipes.2.map(ChildStderr::new).transpose()?;
        this.kill_on_drop = kill_on_drop;
        Ok(this)
    }

    /// A handle for others: to wait, or to send signals.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::Command;
    ///
    /// # epicycle::run(async {
    /// let child = Command::new("sleep").arg("60").spawn()?;
    /// let handle = child.handle();
    /// let killer = std::thread::spawn(move || handle.kill());
    /// assert!(!child.wait().await?.success());
    /// killer.join().unwrap()?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn handle(&self) -> ChildHandle {
        self.handle.clone()
    }

    /// Waits for its end. Any number of tasks may do so, here and with [`handle`](Self::handle), before and after it.
    ///
    /// A pipe to its input stays open meanwhile: a child that reads up to the end of it waits for
    /// [`stdin`](Self::stdin) to be dropped. And one that writes more than a pipe holds waits until it is read:
    /// [`communicate`](Self::communicate) does both.
    ///
    /// # Errors
    ///
    /// If it was reaped behind our back (see [`crate::process`]), or the runtime on which it was started has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let child = epicycle::process::shell("exit 7").spawn()?;
    /// assert_eq!(child.wait().await?.code(), Some(7));
    /// assert_eq!(child.wait().await?.code(), Some(7));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn wait(&self) -> io::Result<ExitStatus> {
        self.handle.wait().await
    }

    /// Writes `input` to its input and closes that, reads its outputs to their ends, all at once, and waits for its end.
    /// Returns the output and the errors; what is not a pipe of ours yields nothing.
    ///
    /// A child that does not care to read all of its input is no error. It waits for the ends of the outputs, so also for
    /// processes that the child has started, if they have inherited them.
    ///
    /// asyncio's `Process.communicate`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is input and no pipe for it; those of reading and writing, except for a broken pipe; and those
    /// of [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::{Stdio, shell};
    ///
    /// # epicycle::run(async {
    /// let mut child = shell("tr a-z A-Z; echo done >&2")
    ///     .stdin(Stdio::piped())
    ///     .stdout(Stdio::piped())
    ///     .stderr(Stdio::piped())
    ///     .spawn()?;
    /// let (stdout, stderr) = child.communicate("hello").await?;
    /// assert_eq!((&*stdout, &*stderr), (&b"HELLO"[..], &b"done\n"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// What was written and read so far is remembered: called again, with the same input, it goes on. So after a timeout one
    /// can kill the child and call it again for what it had to say until then.
    pub async fn communicate(&mut self, input: impl AsRef<[u8]>) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let input = input.as_ref();
        if !input.is_empty() && self.stdin.is_none() && !self.conversation.is_said() {
            let text = "there is input for the child, and no pipe: call stdin(Stdio::piped()) on the Command";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (talk, pipes) = (&mut self.conversation, (&mut self.stdin, &mut self.stdout, &mut self.stderr));
        let (stdin, stdout, stderr) = pipes;
        poll_fn(|cx| talk.poll(cx, input, (&mut *stdin, &mut *stdout, &mut *stderr))).await?;
        self.wait().await?;
        Ok(self.conversation.take())
    }

    /// Closes its input, reads its outputs to their ends and waits for its end. std's and Tokio's `wait_with_output`.
    ///
    /// # Errors
    ///
    /// As [`communicate`](Self::communicate).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::{Command, Stdio};
    ///
    /// # epicycle::run(async {
    /// let child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    /// let output = child.wait_with_output().await?;
    /// assert!(output.status.success() && output.stdout == b"hello\n");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// The child is dropped along with the future.
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        let (stdout, stderr) = self.communicate([]).await?;
        Ok(Output { status: self.wait().await?, stdout, stderr })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kill_on_drop {
            // Fails only for a child that has become another user.
            let _ = self.kill();
        }
        self.handle.process.clone().orphan();
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("kill_on_drop", &self.kill_on_drop)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ChildHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildHandle").field("id", &self.id()).finish()
    }
}
