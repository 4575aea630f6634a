//! Which public types and futures are `Send`, `Sync`, `Unpin`, `Clone`, `Copy`: checked by the compiler, nothing runs.
//!
//! Positive facts are bounds. A negative one is an ambiguity that exists only if the trait is implemented: the type then
//! has two candidate implementations of `Ambiguous`, and inference fails.

use std::cell::Cell;
use std::fmt::{Debug, Display};
use std::rc::Rc;
use std::time::{Duration, Instant};

use epicycle::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use epicycle::runtime::{EnterGuard, LoopMetrics, Metrics, TryCurrentError};
use epicycle::task::{CancelOnDrop, Id, Outcome};
use epicycle::time::{Interval, Sleep, Timeout, TimeoutError};
use epicycle::{ErrorContext, EventLoop, Handle, JoinError, LoopHandle, Runtime, RuntimeHandle, Task, TimerHandle};

/// `Send` and not `Sync`.
type SendOnly = Cell<u8>;
/// Neither `Send` nor `Sync`.
type Neither = Rc<u8>;

macro_rules! is {
    ($($ty:ty: $($bound:path),+;)+) => {$($(
        const _: fn() = || { fn check<T: ?Sized + $bound>() {} check::<$ty>(); };
    )+)+};
}

macro_rules! is_not {
    ($($ty:ty: $($bound:path),+;)+) => {$($(
        const _: fn() = || {
            // All of it anew in each block: implementations in a function's body hold everywhere.
            #[allow(dead_code)]
            trait Ambiguous<Which> { fn check() {} }
            #[allow(dead_code)]
            struct Always;
            #[allow(dead_code)]
            struct IfImplemented;
            impl<T: ?Sized> Ambiguous<Always> for T {}
            impl<T: ?Sized + $bound> Ambiguous<IfImplemented> for T {}
            let _ = <$ty as Ambiguous<_>>::check;
        };
    )+)+};
}

is! {
    Runtime: Send, Sync, Unpin;
    RuntimeHandle: Send, Sync, Unpin, Clone;
    LoopHandle: Send, Sync, Unpin, Clone;
    epicycle::Builder: Send, Sync, Unpin;
    Handle: Send, Sync, Unpin;
    TimerHandle: Send, Sync, Unpin;
    EventLoop: Clone, Unpin;
    Task<u8>: Send, Sync, Unpin;
    Task<SendOnly>: Send, Sync, Unpin;
    Task<Neither>: Sync, Unpin;
    CancelOnDrop<u8>: Send, Sync, Unpin;
    epicycle::JoinHandle<u8>: Send, Sync;
    JoinError: Send, Sync, Unpin, Debug, Display, std::error::Error;
    TryCurrentError: Send, Sync, Debug, Display, std::error::Error;
    epicycle::Runner: Send, Unpin, Debug;
    epicycle::runtime::RunError: Send, Sync, Debug, Display, std::error::Error;
    epicycle::runtime::ShutdownExecutor: Send, Sync, Unpin, Debug;
    epicycle::context::Context: Send, Sync, Unpin, Clone, Debug, Default;
    epicycle::context::LocalKey<u8>: Send, Sync, Unpin, Debug;
    epicycle::context::AccessError: Send, Sync, Debug, Display, std::error::Error, Clone, Copy, PartialEq;
    epicycle::context::Scope<u8, std::future::Ready<SendOnly>>: Send;
    epicycle::context::InContext<std::future::Ready<SendOnly>>: Send;
    TimeoutError: Send, Sync, Unpin, Debug, Display, std::error::Error, Clone, PartialEq;
    ErrorContext: Send, Sync, Debug, Display;
    Outcome: Send, Sync, Copy, Eq, Debug;
    Id: Send, Sync, Copy, Eq, std::hash::Hash, Debug, Display;
    Metrics: Send, Sync, Clone, Debug;
    LoopMetrics: Send, Sync, Clone, Debug;
    Sleep: Send, Sync;
    Interval: Send, Sync;
    Timeout<std::future::Ready<u8>>: Send, Sync;
    TcpListener: Send, Sync, Unpin, Debug;
    TcpStream: Send, Sync, Unpin, Debug;
    UdpSocket: Send, Sync, Unpin, Debug;
    UnixListener: Send, Sync, Unpin, Debug;
    UnixStream: Send, Sync, Unpin, Debug;
    UnixDatagram: Send, Sync, Unpin, Debug;
    epicycle::net::Async<std::fs::File>: Send, Sync, Unpin;
    TcpStream: epicycle::io::AsyncRead, epicycle::io::AsyncWrite;
    UnixStream: epicycle::io::AsyncRead, epicycle::io::AsyncWrite;
}

is_not! {
    EventLoop: Send, Sync;
    Task<Neither>: Send;
    CancelOnDrop<Neither>: Send;
    Timeout<std::future::Ready<Neither>>: Send;
    EnterGuard: Send;
}

/// The future that `f` makes is `Send`, as it must be for `spawn`.
fn future_is_send<F: Future + Send>(_: impl FnOnce() -> F) {}

/// Never called: that it compiles is the test.
#[allow(dead_code)]
fn futures_that_may_be_spawned(
    stream: &'static mut TcpStream,
    listener: &'static TcpListener,
    ticks: &'static mut Interval,
) {
    use epicycle::io::{AsyncReadExt, AsyncWriteExt};
    future_is_send(epicycle::yield_now);
    future_is_send(|| epicycle::time::sleep(Duration::ZERO));
    future_is_send(|| epicycle::time::sleep_until(Instant::now()));
    future_is_send(|| epicycle::timeout(Duration::ZERO, async {}));
    future_is_send(|| epicycle::timeout_at(Instant::now(), async {}));
    future_is_send(|| epicycle::wait_for(epicycle::spawn(async { 1 }), Duration::ZERO));
    future_is_send(|| epicycle::spawn(async {}));
    future_is_send(|| epicycle::run_in_executor(|| 1));
    future_is_send(|| listener.accept());
    future_is_send(|| ticks.tick());
    future_is_send(|| async move {
        let mut buf = [0; 1];
        stream.read_exact(&mut buf).await?;
        stream.write_all(&buf).await
    });
    future_is_send(|| TcpStream::connect(std::net::SocketAddr::from(([127, 0, 0, 1], 1))));
    future_is_send(|| TcpListener::bind("127.0.0.1:0"));
}

/// Never called: the bounds of DESIGN's public names, from the side of a caller who has no more than they ask for.
#[allow(dead_code)]
fn bounds_of_the_public_functions(rt: &Runtime, event_loop: &EventLoop, other: &LoopHandle) -> std::io::Result<()> {
    let (not_send, mut local) = (Rc::new(1), 0);
    // block_on: neither Send nor 'static, in or out.
    let out: Rc<i32> = rt.block_on(async {
        local += 1;
        not_send.clone()
    });
    let _: Rc<i32> = rt.handle().block_on(async { out.clone() });
    let _: Rc<i32> = epicycle::run(async { out.clone() });
    let _task: Task<Rc<i32>> = epicycle::spawn_local(async move { out });
    let _task: Task<Rc<u8>> = event_loop.spawn_local(async { Rc::new(1) });
    let _task: Task<Cell<u8>> = epicycle::spawn(async { Cell::new(1) });
    let _task: Task<Cell<u8>> = rt.spawn(async { Cell::new(1) });
    let _task: Task<Cell<u8>> = rt.handle().spawn(async { Cell::new(1) });
    // LoopHandle::spawn_local: the maker is Send, its future need not be.
    let _task: Task<u8> = other.spawn_local(|| {
        let local = Rc::new(1);
        async move { *local }
    });
    let _: Handle = other.call_soon_threadsafe(|| ());
    let _: Handle = rt.call_soon_threadsafe(|| ());
    let shared = Rc::new(());
    let (a, b, c, d) = (shared.clone(), shared.clone(), shared.clone(), shared);
    let _: Handle = event_loop.call_soon(move || drop(a));
    let _: TimerHandle = event_loop.call_later(Duration::ZERO, move || drop(b));
    let _: TimerHandle = event_loop.call_at(Instant::now(), move || drop(c));
    let mut calls = 0;
    event_loop.add_reader(std::io::stdin(), move || {
        let _d = &d;
        calls += 1;
        let _ = calls;
    })?;
    let _: bool = event_loop.remove_reader(std::io::stdin());
    event_loop.add_writer(std::io::stdout(), || ())?;
    let _: bool = event_loop.remove_writer(std::io::stdout());
    let task = epicycle::spawn(async { 1 });
    task.add_done_callback(|outcome: Outcome| {
        let (_a, _b) = (outcome, outcome);
    });
    let (_, _, _, _): (bool, bool, bool, Id) = (task.cancel(), task.done(), task.cancelled(), task.id());
    let _: &[LoopHandle] = rt.loops();
    let _: Instant = event_loop.time();
    Ok(())
}

/// So that the harness has something to count; the facts were checked when this was compiled.
#[test]
fn c04_the_bounds_hold() {}
