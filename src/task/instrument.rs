//! The hook that sees what the runtime does.
//!
//! *Invariant.* Off, it costs one predictable branch per event; on, it is called outside all locks, and a panic of it is caught.
//! *Threads.* Whichever the event happens on. *Ordering.* Events of one thread come in their order; nothing is said of two.

use std::sync::Arc;

use super::{Id, Outcome, catch};

/// Sees every event of a runtime: for tracing, statistics, tests. See
/// [`Builder::instrument`](crate::Builder::instrument).
///
/// It is called on the loop's own thread in the midst of its work, so it should be quick. A panic of it is dropped.
///
/// Counterparts: trio's `Instrument`, Tokio's unstable hooks.
///
/// ```
/// use epicycle::{Event, Instrument, Runtime};
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
///
/// struct Spawns(Arc<AtomicUsize>);
/// impl Instrument for Spawns {
///     fn event(&self, event: &Event) {
///         if let Event::TaskSpawned { .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let spawns = Arc::new(AtomicUsize::new(0));
/// let rt = Runtime::builder().instrument(Spawns(spawns.clone())).build().unwrap();
/// rt.block_on(async {
///     for _ in 0..3 {
///         epicycle::spawn(async {}).await.unwrap();
///     }
/// });
/// assert_eq!(spawns.load(Ordering::Relaxed), 3);
/// ```
pub trait Instrument: Send + Sync + 'static {
    /// Something happened.
    fn event(&self, event: &Event);
}

/// What an [`Instrument`] is told. A loop is named by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A task was spawned, and queued unless its loop is elsewhere.
    TaskSpawned {
        /// The task.
        task: Id,
    },
    /// A task's future is gone and its output is there.
    TaskEnded {
        /// The task.
        task: Id,
        /// How.
        outcome: Outcome,
    },
    /// A loop begins a poll, or a callback if there is no task.
    HandleStarted {
        /// The loop.
        on: usize,
        /// The task, if it is one.
        task: Option<Id>,
    },
    /// The same ends.
    HandleEnded {
        /// The loop.
        on: usize,
        /// The task, if it is one.
        task: Option<Id>,
    },
    /// A loop with peers goes to sleep in its selector.
    Parked {
        /// The loop.
        on: usize,
    },
    /// It is awake again.
    Woke {
        /// The loop.
        on: usize,
    },
    /// A loop took handles from another.
    Stole {
        /// The thief.
        on: usize,
        /// The victim.
        from: usize,
        /// How many.
        handles: usize,
    },
}

/// An optional instrument.
#[derive(Clone, Default)]
pub(crate) struct Observer(pub(crate) Option<Arc<dyn Instrument>>);

impl Observer {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells the instrument, if there is one; `event` is made only then.
    #[inline]
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(instrument) = &self.0 {
            tell(&**instrument, &event());
        }
    }
}

#[cold]
fn tell(instrument: &dyn Instrument, event: &Event) {
    if let Err(payload) = catch(|| instrument.event(event)) {
        // To report it would be an event's worth of trouble each time; the panic hook has printed it.
        std::mem::forget(payload);
    }
}
