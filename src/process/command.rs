//! [`Command`]: what to start, and how.
//!
//! *Invariant*: where there is no runtime, nothing is started. *Threads*: any. *Ordering*: none.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};

use super::Child;
use crate::scheduler;

/// A command of the shell: `/bin/sh -c command`. asyncio's `create_subprocess_shell`.
///
/// Never put text from elsewhere into `command`: it would be taken for commands. Hand it over as an argument, which the shell
/// knows as `"$1"` (the first one is its name, `$0`), or use [`Command::new`] and no shell.
///
/// # Examples
///
/// ```
/// use epicycle::process::shell;
///
/// # epicycle::run(async {
/// let output = shell("echo \"$1\" | tr a-z A-Z").args(["sh", "; rm *"]).output().await?;
/// assert_eq!(output.stdout, b"; RM *\n");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub fn shell(command: impl AsRef<OsStr>) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command);
    shell
}

/// A process to start: std's `Command`, whose children are awaited.
///
/// What it has no method for is to be had from [`as_std_mut`](Self::as_std_mut). It may be used any number of times.
/// asyncio's `create_subprocess_exec`, Tokio's `process::Command`.
///
/// # Examples
///
/// ```
/// use epicycle::process::Command;
///
/// # epicycle::run(async {
/// let output = Command::new("env").env_clear().env("COLOUR", "blue").output().await?;
/// assert_eq!(output.stdout, b"COLOUR=blue\n");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Command {
    std: std::process::Command,
    kill_on_drop: bool,
    /// Which of the three streams were set here.
    streams: [bool; 3],
}

macro_rules! setters {
    ($(
        $(#[$doc:meta])*
        fn $name:ident$(<$($generic:ident: $bound:path),+>)?(&mut self $(, $arg:ident: $ty:ty)*) $example:literal;
    )*) => {
        impl Command {
            $(
                $(#[$doc])*
                ///
                /// # Examples
                ///
                /// ```
                /// # epicycle::run(async {
                #[doc = concat!("let output = epicycle::process::", $example, ".output().await?;")]
                /// assert!(output.status.success());
                /// # Ok::<(), std::io::Error>(())
                /// # }).unwrap();
                /// ```
                pub fn $name$(<$($generic: $bound),+>)?(&mut self $(, $arg: $ty)*) -> &mut Self {
                    self.std.$name($($arg),*);
                    self
                }
            )*
        }
    };
}

setters! {
    /// Adds an argument.
    fn arg(&mut self, arg: impl AsRef<OsStr>) "Command::new(\"test\").arg(\"word\")";
    /// Adds arguments.
    fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) "Command::new(\"test\").args([\"1\", \"=\", \"1\"])";
    /// Sets a variable of the environment.
    fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) "shell(\"test $COLOUR = blue\").env(\"COLOUR\", \"blue\")";
    /// Sets variables of the environment.
    fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(&mut self, variables: impl IntoIterator<Item = (K, V)>) "shell(\"test $A$B = 12\").envs([(\"A\", \"1\"), (\"B\", \"2\")])";
    /// Takes a variable out of the environment.
    fn env_remove(&mut self, name: impl AsRef<OsStr>) "shell(\"test -z $HOME\").env_remove(\"HOME\")";
    /// Starts with an empty environment.
    fn env_clear(&mut self) "shell(\"test -z $HOME\").env_clear()";
    /// Where to start it.
    fn current_dir(&mut self, folder: impl AsRef<Path>) "shell(\"test $PWD = /\").current_dir(\"/\")";
    /// What it is to be told is its own name, its zeroth argument.
    fn arg0(&mut self, name: impl AsRef<OsStr>) "shell(\"test $0 = me\").arg0(\"me\")";
    /// Starts it in this process group; 0: in one of its own, so that Ctrl-C in the terminal does not reach it.
    fn process_group(&mut self, group: i32) "Command::new(\"true\").process_group(0)";
}

impl Command {
    /// A command without arguments, that inherits environment, folder and standard streams.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::Command;
    ///
    /// # epicycle::run(async {
    /// let mut command = Command::new("true");
    /// for _ in 0..2 {
    ///     assert!(command.status().await?.success()); // as often as one likes
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        std::process::Command::new(program).into()
    }

    /// Starts it as this user; needs the right to do so.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # epicycle::run(async {
    /// epicycle::process::Command::new("id").uid(1000).gid(1000).status().await?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn uid(&mut self, id: u32) -> &mut Self {
        self.std.uid(id);
        self
    }

    /// Starts it as this group; needs the right to do so.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::Command;
    ///
    /// # epicycle::run(async {
    /// let own = rustix::process::getgid().as_raw();
    /// let output = Command::new("id").arg("-g").gid(own).output().await?;
    /// assert_eq!(output.stdout, format!("{own}\n").into_bytes());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn gid(&mut self, id: u32) -> &mut Self {
        self.std.gid(id);
        self
    }

    /// Where its input comes from; inherited by default, and nowhere for [`output`](Self::output).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::{Command, Stdio};
    ///
    /// # epicycle::run(async {
    /// assert!(Command::new("cat").stdin(Stdio::null()).status().await?.success());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.std.stdin(stdin);
        self.streams[0] = true;
        self
    }

    /// Where its output goes to; inherited by default, and returned by [`output`](Self::output).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::{Stdio, shell};
    ///
    /// # epicycle::run(async {
    /// let output = shell("echo yes; echo no >&2").stdout(Stdio::null()).output().await?;
    /// assert_eq!((&*output.stdout, &*output.stderr), (&b""[..], &b"no\n"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.std.stdout(stdout);
        self.streams[1] = true;
        self
    }

    /// Where its errors go to; inherited by default, and returned by [`output`](Self::output).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::{Stdio, shell};
    ///
    /// # epicycle::run(async {
    /// let output = shell("echo yes; echo no >&2").stderr(Stdio::null()).output().await?;
    /// assert_eq!((&*output.stdout, &*output.stderr), (&b"yes\n"[..], &b""[..]));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.std.stderr(stderr);
        self.streams[2] = true;
        self
    }

    /// Kills the process when its [`Child`], or the future of [`status`](Self::status) or [`output`](Self::output), is
    /// dropped. By default it goes on running. It is reaped in either case.
    ///
    /// Also when the runtime ends, which drops all tasks. asyncio does so when a child's transport is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use epicycle::process::Command;
    ///
    /// # epicycle::run(async {
    /// let status = Command::new("sleep").arg("60").kill_on_drop(true).status();
    /// assert!(epicycle::timeout(Duration::from_millis(5), status).await.is_err()); // and it is gone
    /// # });
    /// ```
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// std's.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::process::Command::new("ls").as_std().get_program(), "ls");
    /// ```
    pub fn as_std(&self) -> &std::process::Command {
        &self.std
    }

    /// std's, for what is only to be had there. [`output`](Self::output) does not know of streams that are set there.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut command = epicycle::process::Command::new("ls");
    /// command.as_std_mut().arg("-l");
    /// assert_eq!(command.as_std().get_args().count(), 1);
    /// ```
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.std
    }

    /// Starts it. It is started when this returns, or there is an error; there is nothing to await.
    ///
    /// The thread is held up for as long as that takes, usually less than a millisecond.
    ///
    /// # Errors
    ///
    /// If there is no such program, or no right to execute it; if the system is out of processes or descriptors. If it was
    /// started and cannot be watched, it is killed and reaped.
    ///
    /// # Panics
    ///
    /// Outside of a runtime; nothing is started then.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::Command;
    ///
    /// # epicycle::run(async {
    /// let child = Command::new("sleep").arg("60").kill_on_drop(true).spawn()?;
    /// assert!(child.try_wait()?.is_none()); // it runs
    /// let error = Command::new("/no/such/program").spawn().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn(&mut self) -> io::Result<Child> {
        // Panics before it is too late.
        let _ = scheduler::home();
        Child::new(self.std.spawn()?, self.kill_on_drop)
    }

    /// Starts it and waits for its end. Pipes are closed at once.
    ///
    /// It is started by the call; the future waits, and needs the command no more.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn), to be had from the future, and of [`Child::wait`].
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::Command;
    ///
    /// # epicycle::run(async {
    /// assert!(Command::new("true").status().await?.success());
    /// assert!(Command::new("/no/such/program").status().await.is_err());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the [`Child`]: see [`kill_on_drop`](Self::kill_on_drop).
    #[track_caller]
    #[must_use = "the process was started; to wait for its end, await the future"]
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send + 'static + use<> {
        let child = self.spawn();
        async move {
            let mut child = child?;
            (child.stdin, child.stdout, child.stderr) = (None, None, None);
            child.wait().await
        }
    }

    /// Starts it, reads its output and errors, and waits for its end. Streams that were not set otherwise are pipes; the
    /// input is empty.
    ///
    /// It is started by the call; the future waits, and needs the command no more.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn), to be had from the future, and of [`Child::wait_with_output`].
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::process::Command;
    ///
    /// # epicycle::run(async {
    /// let output = Command::new("echo").args(["hello", "world"]).output().await?;
    /// assert_eq!(output.stdout, b"hello world\n");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`status`](Self::status). What it has written is lost.
    #[track_caller]
    #[must_use = "the process was started; to get its output, await the future"]
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> + Send + 'static + use<> {
        self.set_unset_streams(Stdio::null, Stdio::piped);
        let child = self.spawn();
        // As they were, for the next use.
        self.set_unset_streams(Stdio::inherit, Stdio::inherit);
        async move { child?.wait_with_output().await }
    }

    fn set_unset_streams(&mut self, input: fn() -> Stdio, output: fn() -> Stdio) {
        let [stdin, stdout, stderr] = self.streams;
        if !stdin {
            self.std.stdin(input());
        }
        if !stdout {
            self.std.stdout(output());
        }
        if !stderr {
            self.std.stderr(output());
        }
    }
}

/// Its streams count as not set: [`output`](Command::output) makes pipes of them, and leaves them inherited.
impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Self {
        Self { std, kill_on_drop: false, streams: [false; 3] }
    }
}
