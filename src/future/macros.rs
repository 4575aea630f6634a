//! [`join!`](crate::join!), [`try_join!`](crate::try_join!), [`select!`](crate::select!).
//!
//! *Invariant.* They poll their futures where they are, in the task that awaits: nothing is spawned, so the futures may borrow and
//! need not be `Send`. *Threads.* The caller's. *Ordering.* None.

/// Awaits several futures at once, in this task, and gives a tuple of their outputs.
///
/// It stands in an async block or function and awaits by itself. All run on this task, one at a time: to have them run in parallel, spawn
/// them, or use [`gather!`](crate::gather!).
///
/// *Cancel safety.* Dropped, it drops the futures that have not completed and the outputs of those that have.
///
/// Counterparts: Tokio's `join!`; nearest to it in asyncio is `gather`, which spawns.
///
/// ```
/// use epicycle::{join, yield_now};
///
/// epicycle::run(async {
///     let text = String::from("borrowed");
///     let (length, first, ()) = join!(async { text.len() }, async { text.chars().next() }, yield_now());
///     assert_eq!((length, first), (8, Some('b')));
/// });
/// ```
#[macro_export]
macro_rules! join {
    ($($future:expr),* $(,)?) => {
        match $crate::try_join!(@start [unfailing] $($future),*) {
            ::core::result::Result::<_, ::core::convert::Infallible>::Ok(values) => values,
            ::core::result::Result::Err(never) => match never {},
        }
    };
}

/// Awaits several futures at once, in this task, until all have returned `Ok` or one an `Err`: gives a tuple of the values, or that
/// error. The error types are the same.
///
/// In all else as [`join!`](crate::join!). When one fails, the others are dropped where they stand.
///
/// ```
/// epicycle::run(async {
///     let both = epicycle::try_join!(async { Ok::<_, &str>(1) }, async { Ok("two") });
///     assert_eq!(both, Ok((1, "two")));
///     let failed: Result<(u8, ()), _> = epicycle::try_join!(async { Err("no") }, std::future::pending());
///     assert_eq!(failed, Err("no"));
/// });
/// ```
#[macro_export]
macro_rules! try_join {
    (@start [$kind:ident] $($future:expr),*) => {{
        let list = $crate::future::__private::join($crate::try_join!(@list [$kind] $($future),*)).await;
        ::core::result::Result::map(list, |list| $crate::try_join!(@values list [] $($future),*))
    }};
    (@list [$kind:ident]) => {
        $crate::future::__private::Nil
    };
    (@list [$kind:ident] $head:expr $(, $tail:expr)*) => {
        $crate::future::__private::Cons(
            $crate::future::__private::Joined::new(::core::pin::pin!($crate::try_join!(@future [$kind] $head))),
            $crate::try_join!(@list [$kind] $($tail),*),
        )
    };
    (@future [unfailing] $future:expr) => {
        $crate::future::__private::Unfailing::new(::core::future::IntoFuture::into_future($future))
    };
    (@future [fallible] $future:expr) => {
        ::core::future::IntoFuture::into_future($future)
    };
    // From a list to a tuple: each value gets a name of its own.
    (@values $list:ident [$($value:ident)*]) => {{
        let $crate::future::__private::Nil = $list;
        ($($value,)*)
    }};
    (@values $list:ident [$($value:ident)*] $head:expr $(, $tail:expr)*) => {
        match $list {
            $crate::future::__private::Cons(value, rest) => {
                $crate::try_join!(@values rest [$($value)* value] $($tail),*)
            }
        }
    };
    ($($future:expr),* $(,)?) => {
        $crate::try_join!(@start [fallible] $($future),*)
    };
}

/// Awaits several futures at once, in this task, until one has an output that its pattern matches; the others are dropped, then its
/// handler runs.
///
/// ```text
/// select! {
///     pattern = future => handler,
///     pattern = future, if condition => { handler }
///     else => handler,
/// }
/// ```
///
/// A branch whose condition is false, or whose pattern does not match the output, is off. When all are off, `else` runs; without one, that is
/// a panic. Handlers may be anything, `.await`, `?`, `break` and `return` included, and may use what the futures borrowed.
///
/// Each round of polls begins with a branch chosen at random, so that one that is always ready does not starve the rest. With `biased;` in
/// front they are polled in the order in which they are written.
///
/// A pattern is first tried on a reference to the output: below its outermost level it can have no `mut`, `ref` or `&`.
///
/// *Cancel safety.* The futures that did not win are dropped with what they had done: in a loop, use such as lose nothing by that, or
/// make them outside and give `&mut future`.
///
/// Counterparts: Tokio's `select!`; nearest to it in asyncio is `wait(..., FIRST_COMPLETED)`.
///
/// # Panics
/// If all branches are off and there is no `else`.
///
/// ```
/// use epicycle::{select, time::sleep};
/// use std::time::Duration;
///
/// epicycle::run(async {
///     let mut ticks = 0;
///     let mut limit = sleep(Duration::from_millis(20));
///     loop {
///         select! {
///             () = &mut limit => break,
///             () = sleep(Duration::from_millis(1)), if ticks < 3 => ticks += 1,
///         }
///     }
///     assert!(ticks <= 3);
///
///     let first = select! {
///         biased;
///         Some(number) = async { None::<u8> } => number,
///         else => 0,
///     };
///     assert_eq!(first, 0);
/// });
/// ```
#[macro_export]
macro_rules! select {
    // Branches, one by one, into a list of [pattern] [future] [condition] [handler].
    // `else` comes first: as a pattern it would be an error.
    (@parse $biased:literal [$($branches:tt)*] else => $handler:expr $(,)?) => {
        $crate::select!(@run $biased [$($branches)*] [$handler])
    };
    (@parse $biased:literal [$($branches:tt)*] $pattern:pat = $future:expr, if $condition:expr => $handler:block, $($rest:tt)*) => {
        $crate::select!(@parse $biased [$($branches)* {[$pattern] [$future] [$condition] [$handler]}] $($rest)*)
    };
    (@parse $biased:literal [$($branches:tt)*] $pattern:pat = $future:expr, if $condition:expr => $handler:block $($rest:tt)*) => {
        $crate::select!(@parse $biased [$($branches)* {[$pattern] [$future] [$condition] [$handler]}] $($rest)*)
    };
    (@parse $biased:literal [$($branches:tt)*] $pattern:pat = $future:expr, if $condition:expr => $handler:expr $(, $($rest:tt)*)?) => {
        $crate::select!(@parse $biased [$($branches)* {[$pattern] [$future] [$condition] [$handler]}] $($($rest)*)?)
    };
    (@parse $biased:literal [$($branches:tt)*] $pattern:pat = $future:expr => $handler:block, $($rest:tt)*) => {
        $crate::select!(@parse $biased [$($branches)* {[$pattern] [$future] [true] [$handler]}] $($rest)*)
    };
    (@parse $biased:literal [$($branches:tt)*] $pattern:pat = $future:expr => $handler:block $($rest:tt)*) => {
        $crate::select!(@parse $biased [$($branches)* {[$pattern] [$future] [true] [$handler]}] $($rest)*)
    };
    (@parse $biased:literal [$($branches:tt)*] $pattern:pat = $future:expr => $handler:expr $(, $($rest:tt)*)?) => {
        $crate::select!(@parse $biased [$($branches)* {[$pattern] [$future] [true] [$handler]}] $($($rest)*)?)
    };
    (@parse $biased:literal [$($branches:tt)*]) => {
        $crate::select!(@run $biased [$($branches)*] [
            ::core::panic!("all branches of this select! are off; give it an `else => ...` branch")
        ])
    };
    // The futures are dropped at the end of the first statement, before a handler runs.
    (@run $biased:literal [$($branches:tt)*] [$else:expr]) => {{
        let output = $crate::future::__private::select($biased, $crate::select!(@list $($branches)*)).await;
        $crate::select!(@handle output [$($branches)*] [$else])
    }};
    (@list) => {
        $crate::future::__private::Nil
    };
    (@list {[$pattern:pat] [$future:expr] [$condition:expr] [$handler:expr]} $($rest:tt)*) => {
        $crate::future::__private::Cons(
            $crate::future::__private::Branch::new(
                ::core::pin::pin!(::core::future::IntoFuture::into_future($future)),
                $condition,
                |output| {
                    #[allow(unused_variables, unused_mut, unreachable_patterns)]
                    let accepts = match output {
                        $pattern => true,
                        _ => false,
                    };
                    accepts
                },
            ),
            $crate::select!(@list $($rest)*),
        )
    };
    (@handle $output:ident [] [$else:expr]) => {
        match $output {
            $crate::future::__private::Else => $else,
        }
    };
    (@handle $output:ident [{[$pattern:pat] [$future:expr] [$condition:expr] [$handler:expr]} $($rest:tt)*] [$else:expr]) => {
        match $output {
            $crate::future::__private::Either::Left($pattern) => $handler,
            $crate::future::__private::Either::Right(rest) => $crate::select!(@handle rest [$($rest)*] [$else]),
            #[allow(unreachable_patterns)]
            _ => ::core::unreachable!("the pattern did match"),
        }
    };
    (biased; $($branches:tt)*) => {
        $crate::select!(@parse true [] $($branches)*)
    };
    ($($branches:tt)*) => {
        $crate::select!(@parse false [] $($branches)*)
    };
}
