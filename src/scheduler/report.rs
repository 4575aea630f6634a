//! The way to the exception handler for errors that nobody can be handed, from rooms that may be used on any thread.
//!
//! *Invariant.* Nothing is lost: where there is neither runtime nor loop, the default handler is told. *Threads.* Any.
//! *Ordering.* None.

use super::spawn::try_timer_home;
use crate::task::{ErrorContext, catch, drop_payload, report_to};

/// Tells the exception handler of the runtime, or the lone loop, that this thread is in.
pub(crate) fn report(context: &ErrorContext) {
    match try_timer_home() {
        Some(home) => home.report(context),
        None => report_to(&None, context),
    }
}

/// Runs a waker's code: its wake or its drop. Should it panic, that is reported and ends here, so that it costs nobody else
/// anything.
pub(crate) fn shield_waker(code: impl FnOnce()) {
    if let Err(payload) = catch(code) {
        report(&ErrorContext::new("Exception in a waker").with_panic(&*payload));
        drop_payload(payload);
    }
}
