//! What `join!`, `try_join!` and `select!` expand to: a list of pinned futures that are polled in turn, each round from another one
//! on.
//!
//! *Invariant.* A future that has completed is not polled again. *Threads.* The caller's. *Ordering.* None.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// The first of a list, and the rest.
#[derive(Debug)]
pub struct Cons<H, T>(pub H, pub T);

/// The empty list.
#[derive(Debug)]
pub struct Nil;

// ---- join! and try_join! ---------------------------------------------------------------------------------------------

pin_project! {
    /// A future that cannot fail, for a list of those that may.
    #[derive(Debug)]
    pub struct Unfailing<F> {
        #[pin]
        future: F,
    }
}

impl<F> Unfailing<F> {
    /// Around `future`.
    pub fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F: Future> Future for Unfailing<F> {
    type Output = Result<F::Output, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(Ok)
    }
}

/// A future to be joined, and then its value.
pub struct Joined<'a, F, T> {
    future: Pin<&'a mut F>,
    value: Option<T>,
}

impl<'a, F, T> Joined<'a, F, T> {
    /// Not done.
    pub fn new(future: Pin<&'a mut F>) -> Self {
        Self { future, value: None }
    }
}

impl<F, T> fmt::Debug for Joined<'_, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").field("done", &self.value.is_some()).finish_non_exhaustive()
    }
}

/// A list of [`Joined`].
pub trait Join<E> {
    /// A list of the values.
    type Values;
    /// How many there are.
    const COUNT: usize;
    /// Polls the one at `at`: whether it has its value.
    fn poll_one(&mut self, at: usize, cx: &mut Context<'_>) -> Result<bool, E>;
    /// Once all have theirs.
    fn values(&mut self) -> Self::Values;
}

impl<E> Join<E> for Nil {
    type Values = Nil;
    const COUNT: usize = 0;

    fn poll_one(&mut self, _: usize, _: &mut Context<'_>) -> Result<bool, E> {
        Ok(true)
    }

    fn values(&mut self) -> Nil {
        Nil
    }
}

impl<T, E, F: Future<Output = Result<T, E>>, R: Join<E>> Join<E> for Cons<Joined<'_, F, T>, R> {
    type Values = Cons<T, R::Values>;
    const COUNT: usize = 1 + R::COUNT;

    fn poll_one(&mut self, at: usize, cx: &mut Context<'_>) -> Result<bool, E> {
        let Cons(joined, rest) = self;
        if at > 0 {
            return rest.poll_one(at - 1, cx);
        }
        if joined.value.is_none()
            && let Poll::Ready(result) = joined.future.as_mut().poll(cx)
        {
            joined.value = Some(result?);
        }
        Ok(joined.value.is_some())
    }

    fn values(&mut self) -> Self::Values {
        Cons(self.0.value.take().expect("all are done"), self.1.values())
    }
}

/// Polls all until all have their values, or one fails.
pub async fn join<E, L: Join<E>>(mut list: L) -> Result<L::Values, E> {
    // Each round begins with another, so that the first cannot use up the task's budget for ever.
    let mut first = 0;
    poll_fn(move |cx| {
        let mut all = true;
        for n in 0..L::COUNT {
            match list.poll_one((first + n) % L::COUNT, cx) {
                Ok(done) => all &= done,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        first = (first + 1) % L::COUNT.max(1);
        if all { Poll::Ready(Ok(list.values())) } else { Poll::Pending }
    })
    .await
}

// ---- select! ---------------------------------------------------------------------------------------------------------

/// The output of one of a list of futures: the first's, or one of the rest's.
#[derive(Debug)]
pub enum Either<L, R> {
    /// The first's.
    Left(L),
    /// One of the rest's.
    Right(R),
}

/// All branches are off.
#[derive(Debug)]
pub struct Else;

/// A branch of `select!`: it is off if there is no future.
pub struct Branch<'a, F, A> {
    future: Option<Pin<&'a mut F>>,
    accepts: A,
}

impl<'a, F: Future, A: Fn(&F::Output) -> bool> Branch<'a, F, A> {
    /// `accepts`: whether the branch's pattern matches.
    pub fn new(future: Pin<&'a mut F>, on: bool, accepts: A) -> Self {
        Self { future: on.then_some(future), accepts }
    }
}

impl<F, A> fmt::Debug for Branch<'_, F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").field("on", &self.future.is_some()).finish_non_exhaustive()
    }
}

/// What came of polling a branch.
#[derive(Debug)]
pub enum Offer<T> {
    /// It has won.
    Won(T),
    /// It has not.
    Pending,
    /// It does not take part, or no longer.
    Off,
}

/// A list of [`Branch`]es.
pub trait Select {
    /// The output of the one that wins.
    type Output;
    /// How many there are.
    const COUNT: usize;
    /// Polls the one at `at`.
    fn poll_one(&mut self, at: usize, cx: &mut Context<'_>) -> Offer<Self::Output>;
    /// What to say when all are off.
    fn nothing() -> Self::Output;
}

impl Select for Nil {
    type Output = Else;
    const COUNT: usize = 0;

    fn poll_one(&mut self, _: usize, _: &mut Context<'_>) -> Offer<Else> {
        Offer::Off
    }

    fn nothing() -> Else {
        Else
    }
}

impl<F: Future, A: Fn(&F::Output) -> bool, R: Select> Select for Cons<Branch<'_, F, A>, R> {
    type Output = Either<F::Output, R::Output>;
    const COUNT: usize = 1 + R::COUNT;

    fn poll_one(&mut self, at: usize, cx: &mut Context<'_>) -> Offer<Self::Output> {
        let Cons(branch, rest) = self;
        if at > 0 {
            return match rest.poll_one(at - 1, cx) {
                Offer::Won(output) => Offer::Won(Either::Right(output)),
                Offer::Pending => Offer::Pending,
                Offer::Off => Offer::Off,
            };
        }
        let Some(future) = &mut branch.future else { return Offer::Off };
        let Poll::Ready(output) = future.as_mut().poll(cx) else { return Offer::Pending };
        branch.future = None;
        if (branch.accepts)(&output) { Offer::Won(Either::Left(output)) } else { Offer::Off }
    }

    fn nothing() -> Self::Output {
        Either::Right(R::nothing())
    }
}

/// Polls all until one wins or all are off; `biased`: in the order in which they are written.
pub async fn select<L: Select>(biased: bool, mut list: L) -> L::Output {
    poll_fn(move |cx| {
        let first = if biased { 0 } else { random() as usize % L::COUNT.max(1) };
        let mut pending = false;
        for n in 0..L::COUNT {
            match list.poll_one((first + n) % L::COUNT, cx) {
                Offer::Won(output) => return Poll::Ready(output),
                Offer::Pending => pending = true,
                Offer::Off => {}
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(L::nothing()) }
    })
    .await
}

/// Good enough to be fair: Marsaglia's xorshift. The same in each run, for a thread.
fn random() -> u32 {
    thread_local! {
        static LAST: Cell<u32> = const { Cell::new(0x9e37_79b9) };
    }
    let mut x = LAST.get();
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    LAST.set(x);
    x
}
