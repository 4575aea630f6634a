//! `cargo run --release --example pinned -- README.md`
//!
//! Counts the words of a file in a table that is split over the loops. Each loop keeps its part in an `Rc<RefCell<_>>`: no
//! lock, no atomic, and no part is ever touched by two threads. The lines are read by ordinary, stealable tasks on all
//! loops; whoever meets a word calls the loop that keeps it, by building a future *there* with `LoopHandle::spawn_local`,
//! and awaits the answer here.
//!
//! *Invariant*: a [`Part`] never leaves its loop's thread; words and counts do. *Threads*: [`count`] may run on any loop,
//! what it builds runs on the owner. *Ordering*: the engine's, from the spawn to the join.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use epicycle::{EventLoop, JoinError, LoopHandle, Runtime, Task};

/// The part of the table that one loop keeps.
#[derive(Default)]
struct Part {
    counts: RefCell<HashMap<String, u64>>,
}

thread_local! {
    /// This loop's part. Pinned tasks run on one thread for life, so each finds the same one whenever it looks.
    static PART: Rc<Part> = Rc::default();
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "README.md".into());
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let runtime = Runtime::new();
    runtime.block_on(count_text(&text, runtime.loops().into()))?;
    Ok(())
}

/// Counts all words, then lets each loop report. Runs on loop 0: in `block_on`, and all of it in one call, for what is
/// pinned to loop 0 ends with the call that brought it there.
async fn count_text(text: &str, loops: Arc<[LoopHandle]>) -> Result<(), JoinError> {
    let lines: Vec<Task<_>> =
        text.lines().map(|line| epicycle::spawn(count_line(line.to_lowercase(), Arc::clone(&loops)))).collect();
    for line in lines {
        line.await??;
    }
    for owner in loops.iter() {
        owner.spawn_local(report).await?;
    }
    Ok(())
}

/// Counts each word of a line where it is kept. Runs on any loop.
async fn count_line(line: String, loops: Arc<[LoopHandle]>) -> Result<(), JoinError> {
    for word in line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        count(word, &loops).await?;
    }
    Ok(())
}

/// One more of `word`. How many there are now.
async fn count(word: &str, loops: &[LoopHandle]) -> Result<u64, JoinError> {
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    let owner = &loops[hasher.finish() as usize % loops.len()];
    let word = word.to_owned();
    // The closure travels to the owner, so it must be `Send`. The future that it builds does not travel: it may hold the
    // `Rc` across an await.
    let counted = owner.spawn_local(move || async move {
        let part = PART.with(Rc::clone);
        epicycle::yield_now().await;
        let mut counts = part.counts.borrow_mut();
        let count = counts.entry(word).or_default();
        *count += 1;
        *count
    });
    counted.await
}

/// Says what this loop's part holds.
async fn report() {
    let part = PART.with(Rc::clone);
    let counts = part.counts.borrow();
    let mut words: Vec<_> = counts.iter().map(|(word, count)| (*count, word.as_str())).collect();
    words.sort_by(|one, other| other.cmp(one));
    words.truncate(5);
    println!("loop {}: {} words, most often {words:?}", EventLoop::current().index(), counts.len());
}
