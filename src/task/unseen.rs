//! Panics that are dropped unseen: inside an output that nobody asked for.
//!
//! A task that awaits another one and returns what it got has been handed that one's panic; if nobody then takes its own output,
//! the panic would be lost. So while such an output is dropped, the `JoinError`s in it hand over their payloads.
//!
//! *Invariant.* Each payload is reported once: by the innermost output that is being dropped. *Threads.* The thread's own; one
//! that is ending collects nothing. *Ordering.* None.

use std::any::Any;
use std::cell::Cell;

type Payloads = Vec<Box<dyn Any + Send>>;

thread_local! {
    /// `None`: no output is being dropped.
    static UNSEEN: Cell<Option<Payloads>> = const { Cell::new(None) };
}

/// Drops an output, and returns the panics in it that nobody has seen. Should the dropping panic, that is what `Err` says.
pub(super) fn drop_output(output: impl Sized) -> (Result<(), Box<dyn Any + Send>>, Payloads) {
    let before = UNSEEN.try_with(|unseen| unseen.replace(Some(Vec::new())));
    let dropped = super::catch(|| drop(output));
    let unseen = before.ok().and_then(|before| UNSEEN.try_with(|unseen| unseen.replace(before)).ok().flatten());
    (dropped, unseen.unwrap_or_default())
}

/// The error of a panic is dropped. Gives the payload back if no output is being dropped.
pub(super) fn hand_over(payload: Box<dyn Any + Send>) -> Option<Box<dyn Any + Send>> {
    let mut payload = Some(payload);
    let _ = UNSEEN.try_with(|unseen| {
        if let Some(mut payloads) = unseen.take() {
            payloads.extend(payload.take());
            unseen.set(Some(payloads));
        }
    });
    payload
}
