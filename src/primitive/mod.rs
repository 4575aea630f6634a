//! The only place that knows std from loom.
//!
//! *Invariant.* Everything whose order between threads matters (atomics, fences, locks around shared state, the cells
//! that hold a task) is imported from here, so that `--cfg epicycle_loom` puts the same protocols under the model
//! checker. A cfg of our own keeps the dependencies as they are.
//!
//! *Threads.* Any. *Ordering.* None of its own.

#[cfg(not(epicycle_loom))]
mod asymmetric;
#[cfg(not(epicycle_loom))]
mod real;
#[cfg(not(epicycle_loom))]
pub(crate) use real::{MODELLED, Mutex, MutexGuard, UnsafeCell, atomic, deque, give_way, thread_local, thread_token};

#[cfg(epicycle_loom)]
mod model;
#[cfg(epicycle_loom)]
pub(crate) use model::{
    MODELLED, Mutex, MutexGuard, UnsafeCell, asymmetric, atomic, deque, give_way, thread_local, thread_token,
};

mod owner;

mod biased_arc;
pub(crate) use biased_arc::{Bias, BiasedArc};

mod biased_mutex;
pub(crate) use biased_mutex::BiasedMutex;

mod exclusive;
pub(crate) use exclusive::{Exclusive, Hold};

pub(crate) use crossbeam_utils::CachePadded;
