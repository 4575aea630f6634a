//! What programs broke that were written by the documentation alone, one test for each finding: `rNN` is its number.

mod common;

use std::future::pending;
use std::panic::Location;

use epicycle::streams::{ServerOptions, open_connection, open_unix_connection, start_server, start_unix_server};
use epicycle::{
    EventLoop, JoinError, Promise, PromiseError, Runtime, RuntimeHandle, TaskGroup, spawn, task, yield_now,
};
use futures_lite::future::poll_once;

/// The tasks other than those of `streams` itself, which accept: where each was made.
fn places() -> Vec<&'static Location<'static>> {
    let tasks = RuntimeHandle::current().all_tasks();
    tasks.iter().map(|task| task.location).filter(|place| !place.file().contains("streams/service")).collect()
}

fn are_here(places: &[&'static Location<'static>]) {
    for place in places {
        assert_eq!(place.file(), file!(), "a task bears the place {place}");
    }
}

common::flavours! {
    fn s1_09_r43_children_of_a_group_bear_the_place_of_their_spawn(rt: Runtime) {
        rt.block_on(async {
            type Never = Result<(), String>;
            let group = TaskGroup::new();
            let here = EventLoop::current().handle();
            group.spawn(pending::<Never>());
            group.spawn_with(task::Builder::new().name("named"), pending::<Never>());
            group.spawn_local(pending::<Never>());
            group.spawn_on(&here, pending::<Never>);
            group.spawn_cooperative(|scope| async move {
                scope.cancelled().await;
                Ok::<_, String>(())
            });
            let start = group.start(|status| async move {
                status.started(());
                pending::<Never>().await
            });
            let ((), _started) = start.await.unwrap();
            let places = places();
            assert_eq!(places.len(), 7); // with the root
            are_here(&places);
            group.cancel();
            group.join().await.unwrap();
        });
    }

    fn s4_08_r44_all_who_share_a_promise_are_told_when_nobody_can_set_it_any_more(rt: Runtime) {
        rt.block_on(async {
            let cancelled = |result: Result<Result<u8, PromiseError>, JoinError>| result.unwrap().unwrap_err().is_cancelled();
            let promise = Promise::<u8>::new();
            let prototype = promise.clone().shared();
            let before: Vec<_> = (0..3).map(|_| spawn(prototype.clone())).collect();
            for _ in 0..3 {
                yield_now().await;
            }
            // Who was to set it fails.
            drop(promise);
            for task in before {
                assert!(cancelled(task.await));
            }
            assert!(prototype.clone().await.unwrap_err().is_cancelled());
            // One who can set it is enough, also if it has waited itself.
            let mut setter = Promise::new();
            let sharing = setter.clone().shared();
            let waiting = spawn(sharing.clone());
            assert!(poll_once(&mut setter).await.is_none());
            drop(sharing);
            setter.set_result(1).unwrap();
            assert_eq!(waiting.await.unwrap().unwrap(), 1);
            // The last that could becomes one that cannot, while it is awaited.
            let mut last = Promise::<u8>::new();
            let waiting = spawn(last.clone().shared());
            assert!(poll_once(&mut last).await.is_none());
            let last = last.shared();
            assert!(cancelled(waiting.await));
            assert!(last.await.unwrap_err().is_cancelled());
        });
    }

    fn s1_09_r43_a_servers_clients_bear_the_place_where_it_was_started(rt: Runtime) {
        rt.block_on(async {
            let path = std::env::temp_dir().join(format!("epicycle-r43-{}-{:?}", std::process::id(), common::flavour()));
            let ended = async |_, _| pending::<()>().await;
            let tcp = start_server(ended, "127.0.0.1:0").await.unwrap();
            let other = ServerOptions::new().start(ended, "127.0.0.1:0").await.unwrap();
            let unix = start_unix_server(ended, &path).await.unwrap();
            let _one = open_connection(tcp.local_addrs()[0]).await.unwrap();
            let _two = open_connection(other.local_addrs()[0]).await.unwrap();
            let _three = open_unix_connection(&path).await.unwrap();
            common::eventually_async("each client has a task, as has the root", || places().len() == 4).await;
            are_here(&places());
            drop(unix);
        });
    }
}
