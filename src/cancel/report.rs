//! The way to the exception handler for errors that nobody can be handed.
//!
//! *Invariant.* Nothing is lost: where there is no runtime, the default handler is told. *Threads.* Any. *Ordering.* None.

use crate::scheduler;
use crate::task::{ErrorContext, report_to};

/// Tells the exception handler of the runtime that this thread is in.
pub(crate) fn report(context: &ErrorContext) {
    match scheduler::try_timer_home() {
        Some(home) => home.report(context),
        None => report_to(&None, context),
    }
}
