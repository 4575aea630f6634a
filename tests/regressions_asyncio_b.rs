//! What a review of groups, scopes, processes and signals broke, one test for each finding: the name says what was wrong.
//!
//! Each counts events; what used to hang is ended by the watchdog, what used to abort ends the process.

mod common;

use std::error::Error;
use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{DropProbe, Flag, Reports, eventually, eventually_async, panics_with};
use epicycle::cancel::{CancelScope, Ended};
use epicycle::future::{LocalGroup, StartError, TaskStatus};
use epicycle::{GroupError, JoinError, Runtime, TaskGroup, yield_now};
use futures_lite::future::poll_once;

type Nothing = Result<(), io::Error>;

fn oops(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

fn texts(error: &GroupError) -> Vec<String> {
    error.errors().iter().map(ToString::to_string).collect()
}

/// An error that cannot be shown.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("unspeakable")
    }
}

impl Error for Unspeakable {}

common::flavours! {
    // ------------------------------------------------------------------------------------------------ groups

    fn n46_a_refused_child_was_polled_before_it_was_cancelled(rt: Runtime) {
        let group = TaskGroup::new();
        group.cancel();
        let ran = Arc::new(AtomicUsize::new(0));
        // From outside, so that a loop takes it at once.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let handle = rt.handle();
                    let _entered = handle.enter();
                    for _ in 0..5000 {
                        let inner = ran.clone();
                        group.spawn(async move { inner.fetch_add(1, SeqCst); pending::<Nothing>().await });
                    }
                });
            }
        });
        assert_eq!(ran.load(SeqCst), 0);
        rt.block_on(async { group.join().await.unwrap() });
    }

    fn start_that_was_given_up_after_the_childs_error_lost_it(rt: Runtime) {
        rt.block_on(async {
            let (group, go) = (TaskGroup::new(), Flag::new());
            let wait = go.wait();
            let mut start = Box::pin(group.start(|status: TaskStatus<()>| async move {
                let _status = status;
                wait.await;
                Err::<(), _>(oops("port in use"))
            }));
            assert!(poll_once(&mut start).await.is_none());
            go.set();
            eventually_async("the child has ended", || group.is_empty()).await;
            drop(start);
            assert_eq!(texts(&group.join().await.unwrap_err()), ["port in use"]);
        });
    }

    fn n47_a_cancelled_scope_was_not_passed_on_if_the_children_ended_before_the_join(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            let end = scope.run(async |scope| {
                let group = TaskGroup::within(scope);
                group.spawn_cooperative(|scope| async move { Err::<(), _>(scope.cancelled().await) });
                scope.cancel();
                eventually_async("the child has ended", || group.is_empty()).await;
                group.join().await?;
                Ok::<_, GroupError>(())
            }).await;
            assert!(matches!(end, Ok(Ended::Cancelled(_))), "{end:?}");
        });
    }

    fn n49_a_cancel_came_out_as_an_error_of_a_body_that_awaited_a_child(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..100 {
                let end = TaskGroup::scope(async |group| {
                    let endless = group.spawn(pending::<Nothing>());
                    let handle = group.handle();
                    group.spawn(async move { yield_now().await; handle.cancel(); Ok::<_, io::Error>(()) });
                    endless.await?;
                    Ok::<_, JoinError>(())
                }).await;
                assert_eq!(end.unwrap(), None);
            }
        });
    }

    fn n49_a_cancel_came_out_as_the_error_of_a_child_that_could_not_start(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..20 {
                let end = TaskGroup::scope(async |group| {
                    let handle = group.handle();
                    group.spawn(async move { yield_now().await; handle.cancel(); Ok::<_, io::Error>(()) });
                    group.start(|status: TaskStatus<()>| async move {
                        let _status = status;
                        pending::<Nothing>().await
                    }).await?;
                    Ok::<_, StartError>(())
                }).await;
                assert_eq!(end.unwrap(), None);
            }
        });
    }

    fn n44_an_error_dragged_along_the_cancellations_that_it_had_caused(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..100 {
                let end = TaskGroup::scope(async |group| {
                    let endless = group.spawn(pending::<Nothing>());
                    group.spawn(async { yield_now().await; Err::<(), _>(oops("the one")) });
                    endless.await?;
                    Ok::<_, JoinError>(())
                }).await;
                assert_eq!(texts(&end.unwrap_err()), ["the one"]);
            }
        });
    }

    fn n47_a_scopes_cancellation_was_hidden_by_that_of_a_child_which_the_body_awaited(rt: Runtime) {
        rt.block_on(async {
            let scope = CancelScope::new();
            let end = scope.run(async |scope| {
                TaskGroup::within(scope).run(async |group| {
                    let endless = group.spawn(pending::<Nothing>());
                    scope.cancel();
                    endless.await?;
                    Ok::<_, JoinError>(())
                }).await
            }).await;
            assert!(matches!(end, Ok(Ended::Cancelled(_))), "{end:?}");
        });
    }

    fn n44_an_error_that_cannot_be_shown_made_the_drop_of_a_group_panic(_flavour: common::Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let group = TaskGroup::new();
            group.spawn(async { Err::<(), _>(Unspeakable) });
            eventually_async("it has failed", || group.is_empty()).await;
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(group)));
            assert!(dropped.is_ok());
            assert!(!reports.all().is_empty());
            // While unwinding, it was the end of the process.
            let group = TaskGroup::new();
            group.spawn(async { Err::<(), _>(Unspeakable) });
            eventually_async("it has failed", || group.is_empty()).await;
            panics_with("mine", move || {
                let _group = group;
                panic!("mine")
            });
        });
    }

    fn c02_n43_a_join_hung_whose_child_was_pinned_to_a_loop_that_was_left(rt: Runtime) {
        let group = Arc::new(TaskGroup::new());
        let inner = group.clone();
        let (child, joined) = rt.block_on(async {
            (group.spawn_local(pending::<Nothing>()), epicycle::spawn(async move { inner.join().await }))
        });
        // Nobody drives its loop any more.
        assert!(child.cancelled());
        if rt.loops().len() > 1 {
            eventually("joined", || joined.done());
            assert!(group.is_empty());
        }
        rt.block_on(joined).unwrap().unwrap();
    }

    fn c02_a_wait_hung_whose_task_was_pinned_to_a_loop_that_was_left(rt: Runtime) {
        let (waiting,) = rt.block_on(async {
            let pinned = epicycle::spawn_local(pending::<()>());
            let ended = epicycle::wait([pinned], epicycle::ReturnWhen::AllCompleted);
            let waiting = epicycle::spawn(async move { ended.await.0.len() });
            yield_now().await;
            // In a tuple: not to be awaited here.
            (waiting,)
        });
        if rt.loops().len() > 1 {
            eventually("the wait is over", || waiting.done());
        }
        assert_eq!(rt.block_on(waiting).unwrap(), 1);
    }

    fn n43_children_on_a_runtime_that_is_gone_are_over(rt: Runtime) {
        let (group, other) = (Arc::new(TaskGroup::new()), Runtime::builder().worker_threads(2).build().unwrap());
        let gone = other.loops()[1].clone();
        let probe = DropProbe::new();
        let tasks: Vec<_> = (0..10).map(|_| {
            let guard = probe.guard();
            group.spawn_on(&gone, move || async move { let _guard = guard; pending::<Nothing>().await })
        }).collect();
        let inner = group.clone();
        let joined = rt.spawn(async move { inner.join().await });
        drop(other);
        assert_eq!(probe.count(), 10);
        assert!(tasks.iter().all(|task| task.cancelled()));
        rt.block_on(joined).unwrap().unwrap();
        let group = TaskGroup::new();
        let late = group.spawn_on(&gone, pending::<Nothing>);
        rt.block_on(async { group.join().await.unwrap() });
        assert!(late.cancelled());
    }

    fn n46_a_group_dropped_inside_its_own_child(rt: Runtime) {
        rt.block_on(async {
            let group = Arc::new(TaskGroup::new());
            let handle = group.handle();
            let (probe, go) = (DropProbe::new(), Flag::new());
            let (wait, own, guard) = (go.wait(), group.clone(), probe.guard());
            let child = group.spawn(async move {
                let _guard = guard;
                wait.await;
                drop(own);
                yield_now().await;
                unreachable!("it was cancelled with its group");
                #[allow(unreachable_code)]
                Ok::<_, io::Error>(())
            });
            let sibling = group.spawn({ let guard = probe.guard(); async move { common::pending_with(guard).await; Ok::<_, io::Error>(()) } });
            drop(group);
            go.set();
            assert!(child.await.unwrap_err().is_cancelled());
            assert!(sibling.await.unwrap_err().is_cancelled());
            eventually_async("it is empty", || handle.is_empty()).await;
            assert_eq!(probe.count(), 2);
        });
    }

    // ------------------------------------------------------------------------------------------------ local groups

    fn a_local_group_was_never_empty_again_after_a_destructors_panic(rt: Runtime) {
        rt.block_on(async {
            let mut group = LocalGroup::new();
            let wait = |evil: bool| async move {
                let _evil = common::OnDrop(move || if evil { panic!("evil") });
                pending::<Result<u8, ()>>().await
            };
            group.spawn(wait(true));
            group.spawn(wait(false));
            assert!(poll_once(group.next_done()).await.is_none());
            panics_with("evil", || group.cancel());
            assert_eq!(group.len(), 0);
            assert!(group.is_empty());
            assert_eq!(group.join().await, Ok(Vec::new()));
            group.spawn(wait(false));
            assert_eq!(group.len(), 1);
        });
    }

    fn a_local_group_that_is_gone_kept_its_tasks_waker(rt: Runtime) {
        rt.block_on(async {
            let (kept, mut group) = (Flag::new(), LocalGroup::new());
            let wait = kept.wait();
            group.spawn(async move { wait.await; Ok::<_, ()>(()) });
            let (wakes, waker) = common::CountWakes::new();
            let mut cx = std::task::Context::from_waker(&waker);
            assert!(pin!(group.join()).poll(&mut cx).is_pending());
            drop(waker);
            drop(group);
            assert_eq!(Arc::strong_count(&wakes), 1);
            kept.set();
            assert_eq!(wakes.count(), 0);
        });
    }
}
