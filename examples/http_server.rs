//! `cargo run --release --example http_server --features hyper -- --address 127.0.0.1:8080`
//!
//! An HTTP server (hyper, HTTP/1 and HTTP/2 with prior knowledge) on all CPUs. Then, elsewhere:
//!
//! ```text
//! curl localhost:8080/                              a plain answer
//! curl localhost:8080/cpu/20                        20 ms of computing on the loop that got the request
//! curl localhost:8080/sleep/500                     half a second of waiting
//! curl --data-binary @file localhost:8080/echo      an upload, echoed as it arrives
//! curl localhost:8080/metrics                       what the runtime counts, as JSON
//! wrk -c 64 -t 2 -d 10 http://localhost:8080/
//! ```
//!
//! Each loop has a listening socket of its own (`SO_REUSEPORT`), so connections are spread over the loops as they come.
//! Each connection is one stealable task: while one loop computes, the others answer what arrived at its sockets.
//!
//! Ctrl-C (or `SIGTERM`) ends it in order: the listeners close, idle connections close, requests in progress are answered. `--grace`
//! limits that, a second Ctrl-C cuts it short. Without free descriptors the server stops accepting until there are some.
//! Whoever takes longer than `--header-timeout` to say what he wants is cut off.
//!
//! *Invariant*: whoever is counted in [`Drain`] is told when to finish and waited for. *Threads*: everything here is
//! `Send` and runs on whichever loop is free. *Ordering*: see [`Membership::poll_begun`]; the counters are only counters.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, Write as _};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use epicycle::hyper::{HyperExecutor, HyperIo, HyperTimer};
use epicycle::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use epicycle::net::{TcpListener, TcpStream};
use epicycle::signal::{self, Signal, SignalKind};
use epicycle::{Runtime, RuntimeHandle, Task, time};
use futures_lite::future;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use slab::Slab;

// ------------------------------------------------------------------------------------------------ starting and stopping

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return complain(format_args!("{error}\n\n{USAGE}"), 2),
    };
    raise_descriptor_limit();
    let mut builder = Runtime::builder();
    if let Some(workers) = options.workers {
        builder = builder.worker_threads(workers);
    }
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(format_args!("cannot start the runtime: {error}"), 1),
    };
    let ending = runtime.block_on(serve(&options, runtime.handle()));
    // Connections that did not end in time are dropped here; a handler in the midst of computing is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match ending {
        Ok(Ending::Drained) => ExitCode::SUCCESS,
        Ok(Ending::Cut { connections, code }) => complain(format_args!("cut off {connections} connections"), code),
        Err(error) => complain(error, 1),
    }
}

fn complain(what: impl Display, code: u8) -> ExitCode {
    eprintln!("http_server: {what}");
    ExitCode::from(code)
}

/// How serving came to its end.
enum Ending {
    Drained,
    Cut { connections: usize, code: u8 },
}

/// Serves until Ctrl-C, then drains.
async fn serve(options: &Options, runtime: RuntimeHandle) -> Result<Ending, String> {
    // Before anyone is told that we listen: from here on neither signal ends the process by itself.
    let mut stop = Stop::new().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let listeners = listen(&options.address, &runtime).await?;
    let address = listeners[0].local_addr().map_err(|error| error.to_string())?;
    let server = Arc::new(Server::new(options, runtime));
    let acceptors: Vec<Task<()>> =
        listeners.into_iter().map(|listener| epicycle::spawn(accept(listener, Arc::clone(&server)))).collect();
    // Whoever started this may wait for the line, so it must not stick in a buffer; if he has gone, so be it.
    let _ = writeln!(io::stdout(), "listening on http://{address} with {} event loops", acceptors.len());

    stop.asked().await;
    for acceptor in acceptors {
        acceptor.cancel();
        // Once the task has ended its listener is closed: new clients are refused instead of being left to wait.
        let _ = acceptor.await;
    }
    let grace = options.grace;
    eprintln!("http_server: draining {} connections for at most {grace:?}; Ctrl-C cuts them off", server.drain.open());
    server.drain.begin();
    let drained = async {
        server.drain.emptied().await;
        None
    };
    let interrupted = async {
        stop.asked().await;
        Some(130) // as a shell reports a process that died of Ctrl-C
    };
    let code = time::timeout(grace, future::or(drained, interrupted)).await.unwrap_or(Some(1));
    Ok(code.map_or(Ending::Drained, |code| Ending::Cut { connections: server.drain.open(), code }))
}

/// Ctrl-C, or a `SIGTERM` from whoever manages this process.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> io::Result<Stop> {
        let interrupt = signal::signal(SignalKind::interrupt())?;
        Ok(Stop { interrupt, terminate: signal::signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        let _ = future::or(self.interrupt.recv(), self.terminate.recv()).await;
    }
}

/// One listener per loop, all on `address`.
async fn listen(address: &str, runtime: &RuntimeHandle) -> Result<Vec<TcpListener>, String> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "cannot listen on {address}: the port is taken ({error}); stop who has it, or choose another with --address"
            )
        }
        _ => format!("cannot listen on {address}: {error}"),
    };
    // Listeners that share a port would share it with another server of this user's just as gladly, and each would get
    // half of the clients. A listener that shares with nobody finds that out. It also turns a name and port 0 into an
    // address.
    let alone = TcpListener::bind(address).await.map_err(explain)?;
    let resolved = alone.local_addr().map_err(explain)?;
    drop(alone);
    let mut listeners = Vec::new();
    for (part, home) in TcpListener::bind_per_loop(resolved).await.map_err(explain)?.into_iter().zip(runtime.loops()) {
        let listening = home.spawn_local(move || async move { part.listen() });
        listeners.push(listening.await.map_err(|error| error.to_string())?.map_err(explain)?);
    }
    Ok(listeners)
}

/// Allows this process as many descriptors as it may have: the usual first limit, 1024, is fewer than a server needs.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("http_server: the limit on open files stays as it is: {error}");
    }
}

// ------------------------------------------------------------------------------------------------ connections

/// What all connections share.
struct Server {
    runtime: RuntimeHandle,
    drain: Arc<Drain>,
    header_timeout: Duration,
    http1: http1::Builder,
    http2: http2::Builder<HyperExecutor>,
    accepted: AtomicU64,
    requests: AtomicU64,
    failed: AtomicU64,
}

impl Server {
    fn new(options: &Options, runtime: RuntimeHandle) -> Server {
        let mut http1 = http1::Builder::new();
        http1.timer(HyperTimer).header_read_timeout(options.header_timeout);
        let mut http2 = http2::Builder::new(HyperExecutor);
        // A peer that is gone without a word answers no ping.
        http2.timer(HyperTimer).keep_alive_interval(options.header_timeout);
        Server {
            runtime,
            drain: Arc::default(),
            header_timeout: options.header_timeout,
            http1,
            http2,
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

/// Accepts for ever; cancelled when the server drains.
async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                server.accepted.fetch_add(1, Ordering::Relaxed);
                let member = server.drain.join();
                epicycle::spawn(connection(stream, Arc::clone(&server), member));
            }
            // Not for want of descriptors: then `accept` itself reports it, and waits. But whatever it is, trying again at
            // once would be to try for ever and at full speed.
            Err(error) => {
                eprintln!("http_server: accepting pauses for a second: {error}");
                time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Serves one connection to its end. A failure concerns its client alone, and is counted.
async fn connection(stream: TcpStream, server: Arc<Server>, mut member: Membership) {
    // Answers are written whole, so there is nothing to wait for. If it fails, so will the first write.
    let _ = stream.set_nodelay(true);
    let sniffed = time::timeout(server.header_timeout, future::or(Sniffed::new(stream), member.begun())).await;
    let stream = match sniffed {
        Ok(Ok(Some(stream))) => stream,
        Ok(Ok(None)) => return, // nobody asked anything
        Ok(Err(_)) | Err(_) => {
            server.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    let is_http2 = stream.is_http2();
    let io = HyperIo::new(stream);
    let service = service_fn({
        let server = Arc::clone(&server);
        move |request| answer(request, Arc::clone(&server))
    });
    let result = if is_http2 {
        drive(server.http2.serve_connection(io, service), |http2| http2.graceful_shutdown(), &mut member).await
    } else {
        drive(server.http1.serve_connection(io, service), |http1| http1.graceful_shutdown(), &mut member).await
    };
    if result.is_err() {
        server.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `connection` to its end, and calls `finish` on it once the drain begins.
async fn drive<C: Future>(connection: C, finish: impl Fn(Pin<&mut C>), member: &mut Membership) -> C::Output {
    let mut connection = pin!(connection);
    let mut told = false;
    poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        if polled.is_ready() || told || member.poll_begun(cx).is_pending() {
            return polled;
        }
        // Only now: what had arrived before the drain began is answered.
        told = true;
        finish(connection.as_mut());
        connection.as_mut().poll(cx)
    })
    .await
}

/// A stream of which the first bytes have been read to learn its protocol, and are yet to be read by that.
struct Sniffed {
    head: Bytes,
    stream: TcpStream,
}

impl Sniffed {
    /// With these a client opens that speaks HTTP/2 from the start. HTTP/1 has no such request.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// Reads until the protocol is certain. `None`: the client closed without a word.
    async fn new(mut stream: TcpStream) -> io::Result<Option<Sniffed>> {
        let mut buffer = [0; 1024];
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).await?;
            filled += read;
            let head = &buffer[..filled];
            let undecided = head.len() < Self::PREFACE.len() && Self::PREFACE.starts_with(head);
            match (read, undecided) {
                (0, _) if filled == 0 => return Ok(None),
                (1.., true) => {}
                _ => return Ok(Some(Sniffed { head: Bytes::copy_from_slice(head), stream })),
            }
        }
    }

    fn is_http2(&self) -> bool {
        self.head.starts_with(Self::PREFACE)
    }
}

impl AsyncRead for Sniffed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = buf.len().min(self.head.len());
        buf[..length].copy_from_slice(&self.head.split_to(length));
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Sniffed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

// ------------------------------------------------------------------------------------------------ routes

/// Answers with something we made, or with the request's own body.
type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// The longest that `/cpu` and `/sleep` will take, in milliseconds.
const LONGEST: u64 = 60_000;

async fn answer(request: Request<Incoming>, server: Arc<Server>) -> Result<Answer, Infallible> {
    server.requests.fetch_add(1, Ordering::Relaxed);
    let path = request.uri().path();
    let allowed = if path == "/echo" { &[Method::POST, Method::PUT][..] } else { &[Method::GET, Method::HEAD] };
    let known = path == "/" || path == "/echo" || path == "/metrics" || timed(path).is_some();
    if known && !allowed.contains(request.method()) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {allowed:?}\n"));
        let methods = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        answer.headers_mut().insert(ALLOW, HeaderValue::try_from(methods).expect("methods are plain text"));
        return Ok(answer);
    }
    Ok(match path {
        "/" => text(StatusCode::OK, "Hello from epicycle\n"),
        "/echo" => Response::new(Either::Right(request.into_body())),
        "/metrics" => metrics(&server),
        _ => match timed(path) {
            Some(("cpu", Ok(time))) => {
                // On the loop, where it stands in nobody's way but that of requests this loop has not yet begun, and the
                // other loops take those. Work that blocks or never ends belongs in `run_in_executor`.
                compute(time);
                text(StatusCode::OK, format!("computed for {time:?}\n"))
            }
            Some((_, Ok(time))) => {
                time::sleep(time).await;
                text(StatusCode::OK, format!("slept for {time:?}\n"))
            }
            Some((_, Err(problem))) => text(StatusCode::BAD_REQUEST, problem),
            None => text(StatusCode::NOT_FOUND, "there are /, /cpu/{ms}, /sleep/{ms}, POST /echo and /metrics\n"),
        },
    })
}

/// `/cpu/{ms}` and `/sleep/{ms}`: which, and for how long.
fn timed(path: &str) -> Option<(&str, Result<Duration, String>)> {
    let (what, time) = path.strip_prefix('/')?.split_once('/').filter(|(what, _)| matches!(*what, "cpu" | "sleep"))?;
    let time = match time.parse() {
        Ok(ms) if ms <= LONGEST => Ok(Duration::from_millis(ms)),
        _ => Err(format!("/{what}/{{ms}} takes a whole number of milliseconds, {LONGEST} at most\n")),
    };
    Some((what, time))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Keeps this thread busy for `time`, as a handler does that has something to compute.
fn compute(time: Duration) {
    let end = Instant::now() + time;
    let mut number = 1_u64;
    while Instant::now() < end {
        for _ in 0..1000 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// `/metrics`: the server's own counters and the runtime's, times in microseconds.
fn metrics(server: &Server) -> Answer {
    let runtime = server.runtime.metrics();
    let loops: Vec<_> = runtime
        .loops
        .iter()
        .map(|one| {
            serde_json::json!({
                "handles_run": one.handles_run,
                "turns": one.turns,
                "selects": one.selects,
                "events": one.events,
                "parks": one.parks,
                "unparks_sent": one.unparks_sent,
                "unparks_received": one.unparks_received,
                "steals_tried": one.steals_tried,
                "steals_won": one.steals_won,
                "handles_stolen_from": one.handles_stolen_from,
                "injector_pulls": one.injector_pulls,
                "inbox_pulls": one.inbox_pulls,
                "timers_armed": one.timers_armed,
                "timers_fired": one.timers_fired,
                "timers_cancelled": one.timers_cancelled,
                "adoptions": one.adoptions,
                "longest_handle_us": u64::try_from(one.longest_handle.as_micros()).unwrap_or(u64::MAX),
                "ready_depth": one.ready_depth,
                "inbox_depth": one.inbox_depth,
                "timers_pending": one.timers_pending,
                "sources": one.sources,
            })
        })
        .collect();
    let all = serde_json::json!({
        "server": {
            "accepted": server.accepted.load(Ordering::Relaxed),
            "open": server.drain.open(),
            "requests": server.requests.load(Ordering::Relaxed),
            "failed": server.failed.load(Ordering::Relaxed),
        },
        "alive_tasks": runtime.alive_tasks,
        "injector_depth": runtime.injector_depth,
        "executor_threads": runtime.executor_threads,
        "executor_idle_threads": runtime.executor_idle_threads,
        "executor_queue_depth": runtime.executor_queue_depth,
        "loops": loops,
    });
    let mut answer = text(StatusCode::OK, format!("{all:#}\n"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

// ------------------------------------------------------------------------------------------------ draining

/// Tells every connection when to finish, and knows when the last one has.
#[derive(Default)]
struct Drain {
    begun: AtomicBool,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    /// One entry per open connection: whom to wake when the drain begins.
    open: Slab<Option<Waker>>,
    /// Whom to wake when the last of them closes.
    waiting: Option<Waker>,
}

impl Drain {
    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>) -> Membership {
        let key = self.members().open.insert(None);
        Membership { drain: Arc::clone(self), key, registered: None }
    }

    fn open(&self) -> usize {
        self.members().open.len()
    }

    fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        let wakers: Vec<Waker> = self.members().open.iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until no connection is open.
    async fn emptied(&self) {
        poll_fn(|cx| {
            let mut members = self.members();
            if members.open.is_empty() {
                return Poll::Ready(());
            }
            members.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A connection's place in the [`Drain`], given up when dropped.
struct Membership {
    drain: Arc<Drain>,
    key: usize,
    registered: Option<Waker>,
}

impl Membership {
    /// Ready once the connection ought to finish.
    ///
    /// The lock orders it: either `begin` finds the waker that we left under it, or we find the flag, set before `begin`
    /// took it. A task's waker hardly ever changes, so in the long run this is a load.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.registered = Some(cx.waker().clone());
            self.drain.members().open[self.key] = Some(cx.waker().clone());
        }
        if self.drain.begun.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The same as a future that ends a wait for the first request.
    async fn begun(&mut self) -> io::Result<Option<Sniffed>> {
        poll_fn(|cx| self.poll_begun(cx)).await;
        Ok(None)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = self.drain.members();
        members.open.remove(self.key);
        let waiting = if members.open.is_empty() { members.waiting.take() } else { None };
        drop(members);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

// ------------------------------------------------------------------------------------------------ options

const USAGE: &str = "\
An HTTP server on all CPUs.

Usage: http_server [options]

  -a, --address HOST:PORT   where to listen [127.0.0.1:8080]
  -w, --workers N           how many event loops [one per CPU, at least 2]
      --header-timeout SEC  how long a client may take over the head of a request [10]
      --grace SEC           how long to wait for open connections after Ctrl-C [10]
  -h, --help                print this
";

struct Options {
    address: String,
    workers: Option<usize>,
    header_timeout: Duration,
    grace: Duration,
}

impl Options {
    /// The command line's options; `None` if it asks for help.
    fn parse() -> Result<Option<Options>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Options {
            address: "127.0.0.1:8080".into(),
            workers: None,
            header_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(10),
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('a') | Long("address") => options.address = arguments.value()?.string()?,
                Short('w') | Long("workers") => {
                    options.workers = Some(arguments.value()?.parse()?);
                    if options.workers == Some(0) {
                        return Err("--workers must be at least 1".into());
                    }
                }
                Long("header-timeout") => options.header_timeout = seconds(&mut arguments)?,
                Long("grace") => options.grace = seconds(&mut arguments)?,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

/// A time in seconds, fractions allowed.
fn seconds(arguments: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    use lexopt::ValueExt as _;
    arguments.value()?.parse_with(|value| {
        let seconds: f64 = value.parse().map_err(|_| "not a number of seconds")?;
        Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds that makes sense")
    })
}
