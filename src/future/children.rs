//! The tasks of one gather: a `Vec` of one kind, or a tuple of several.
//!
//! *Invariant.* Their order is that of the arguments. *Threads.* The gather's. *Ordering.* None.

use std::sync::Arc;

use super::tally::{Tally, Watch};
use crate::task::{JoinError, Task};

/// What a [`Gather`](super::Gather) collects from: `Vec<Task<T>>`, or a tuple of up to twelve tasks.
///
/// ```
/// use epicycle::future::{Children, Gather};
///
/// async fn sum<C: Children<Values = (u8, u8)>>(gather: Gather<C>) -> u8 {
///     let (a, b) = gather.await.unwrap();
///     a + b
/// }
/// assert_eq!(epicycle::run(async { sum(epicycle::gather!(async { 1 }, async { 2 })).await }), 3);
/// ```
pub trait Children: Sized {
    /// The values of all.
    type Values;
    /// The outcomes of all.
    type Results;

    #[doc(hidden)]
    fn count(&self) -> usize;
    /// Has all ends counted; those that have happened, at once.
    #[doc(hidden)]
    fn watch(&self, tally: &Arc<Tally>);
    #[doc(hidden)]
    fn cancel(&self);
    /// The outcomes; all have ended.
    #[doc(hidden)]
    fn results(self) -> Self::Results;
    #[doc(hidden)]
    fn values(results: Self::Results) -> Result<Self::Values, JoinError>;
    /// The error of `index`. The others are let go of, and what becomes of them is of no interest.
    #[doc(hidden)]
    fn fail(self, index: usize) -> JoinError;
}

/// The outcome of a task that has ended. (If it has not, its runtime was torn down around it.)
pub(super) fn output<T>(mut task: Task<T>) -> Result<T, JoinError> {
    task.take_output().unwrap_or_else(|| Err(JoinError::cancelled()))
}

fn watch<T>(task: &Task<T>, tally: &Arc<Tally>, index: usize) {
    match task.done() {
        true => tally.ended(index, task.outcome()),
        false => drop(Watch::watch(task, tally, index)),
    }
}

impl<T> Children for Vec<Task<T>> {
    type Values = Vec<T>;
    type Results = Vec<Result<T, JoinError>>;

    fn count(&self) -> usize {
        Vec::len(self)
    }

    fn watch(&self, tally: &Arc<Tally>) {
        for (index, task) in self.iter().enumerate() {
            watch(task, tally, index);
        }
    }

    fn cancel(&self) {
        for task in self {
            task.cancel();
        }
    }

    fn results(self) -> Self::Results {
        self.into_iter().map(output).collect()
    }

    fn values(results: Self::Results) -> Result<Self::Values, JoinError> {
        results.into_iter().collect()
    }

    fn fail(mut self, index: usize) -> JoinError {
        let error = output(self.swap_remove(index)).err().unwrap_or_else(JoinError::cancelled);
        self.into_iter().for_each(Task::detach_quietly);
        error
    }
}

macro_rules! tuples {
    ($($n:literal: $($T:ident $at:tt),*;)+) => {$(
        #[allow(unused_variables, unused_mut, clippy::unused_unit)]
        impl<$($T),*> Children for ($(Task<$T>,)*) {
            type Values = ($($T,)*);
            type Results = ($(Result<$T, JoinError>,)*);

            fn count(&self) -> usize {
                $n
            }

            fn watch(&self, tally: &Arc<Tally>) {
                $(watch(&self.$at, tally, $at);)*
            }

            fn cancel(&self) {
                $(self.$at.cancel();)*
            }

            fn results(self) -> Self::Results {
                ($(output(self.$at),)*)
            }

            fn values(results: Self::Results) -> Result<Self::Values, JoinError> {
                Ok(($(results.$at?,)*))
            }

            fn fail(self, index: usize) -> JoinError {
                let mut error = None;
                $(
                    if index == $at {
                        error = output(self.$at).err();
                    } else {
                        self.$at.detach_quietly();
                    }
                )*
                error.unwrap_or_else(JoinError::cancelled)
            }
        }
    )+};
}

tuples! {
    0: ;
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
    7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
    9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8;
    10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9;
    11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10;
    12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11;
}
