//! Running a task where it is spawned, up to its first suspension.
//!
//! *Invariant.* Eager tasks that spawn eager tasks nest on the stack, so only so deep; from there on they are queued.
//! *Threads.* One that may run the handle: a loop of the task's runtime, its own if it is pinned. *Ordering.* None.

use std::cell::Cell;

use super::{ReadyHandle, budget};

/// How deep eager tasks nest. A thread's stack is 2 MiB: that leaves each of them, with all that it awaits, 128 KiB.
const MAX_DEPTH: u8 = 16;

thread_local! {
    static DEPTH: Cell<u8> = const { Cell::new(0) };
}

struct Level;

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Runs the handle here and now. Gives it back if the stack is deep: then it is to be queued.
pub(crate) fn try_run(handle: ReadyHandle) -> Result<(), ReadyHandle> {
    let depth = DEPTH.get();
    if depth == MAX_DEPTH {
        return Err(handle);
    }
    DEPTH.set(depth + 1);
    let _level = Level;
    // Each is bounded by its own, and who spawns them pays for awaiting them: so that a tree of them runs in one go.
    let _budget = budget::fresh();
    handle.run();
    Ok(())
}
