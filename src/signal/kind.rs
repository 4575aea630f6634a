//! [`SignalKind`]: which signal.
//!
//! *Invariant*: a number, whether or not the system knows it. *Threads*: any. *Ordering*: none.

use signal_hook::consts;

/// A kind of signal, such as `SIGTERM`.
///
/// Counterparts: Python's `signal.Signals`, Tokio's `SignalKind`.
///
/// # Examples
///
/// ```
/// use epicycle::signal::SignalKind;
///
/// assert_eq!(SignalKind::from_raw(15), SignalKind::terminate());
/// assert_eq!(SignalKind::terminate().as_raw(), 15);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SignalKind(i32);

macro_rules! kinds {
    ($($name:ident, $signal:ident, $what:literal;)*) => {
        impl SignalKind {
            $(
                #[doc = concat!("`", stringify!($signal), "`: ", $what, ".")]
                ///
                /// # Examples
                ///
                /// ```
                #[doc = concat!("let kind = epicycle::signal::SignalKind::", stringify!($name), "();")]
                /// ```
                pub const fn $name() -> Self {
                    Self(consts::$signal)
                }
            )*
        }
    };
}

kinds! {
    alarm, SIGALRM, "a timer of the operating system has expired";
    child, SIGCHLD, "a child process has ended, stopped or gone on";
    hangup, SIGHUP, "the terminal is gone; for a daemon, read the configuration again";
    interrupt, SIGINT, "Ctrl-C";
    io, SIGIO, "a descriptor that is set up for it is ready";
    pipe, SIGPIPE, "written to a pipe that nobody reads; Rust programs ignore it from the start";
    quit, SIGQUIT, "Ctrl-\\\\";
    terminate, SIGTERM, "a request to end";
    user_defined1, SIGUSR1, "whatever the program takes it for";
    user_defined2, SIGUSR2, "whatever the program takes it for";
    window_change, SIGWINCH, "the terminal has another size";
}

impl SignalKind {
    /// The signal of that number.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::signal::SignalKind;
    ///
    /// assert_eq!(SignalKind::from_raw(SignalKind::hangup().as_raw()), SignalKind::hangup());
    /// ```
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// The number of the signal.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::signal::SignalKind::interrupt().as_raw(), 2);
    /// ```
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}
