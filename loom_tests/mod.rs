//! The loom models: one file per crossing, each with the property, the threads, the bound, and the bug that it is shown to
//! catch by `seeded.py`. `run.sh` runs them all, `run.sh NAME` one.
//!
//! They use the engine's own parts (state word and cell, parker, inbox, idle set, injector, readiness, timers, tenancy).
//! What those parts are composed to by code that makes system calls is transcribed, step by step, in `fleet.rs` and in the
//! models; each such function names the one that it transcribes and changes with it.
//!
//! *Threads.* At most four a model. *Ordering.* As in the engine: the models add none but what they stand for (the kernel's
//! wake-up, the join at the end).

mod fleet;
mod support;

mod biased_arc;
mod biased_mutex;
mod eaten_edge;
mod guest;
mod inject_sleep;
mod join;
mod live;
mod loop0;
mod one_shot;
mod park;
mod readiness;
mod shutdown;
mod steal;
mod task_wake;
mod timer;
mod watcher;
