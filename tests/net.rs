//! Sockets and other descriptors (`epicycle::net`).
//!
//! Peers are tasks of the same runtime, or sockets of the standard library where a test needs one that this crate does not
//! touch. Threads: the test's own is inside `block_on`; others are named where they are started.

mod common;

use std::collections::HashSet;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{Flavour, Reports, eventually_async};
use epicycle::io::{AsyncReadExt, AsyncWriteExt};
use epicycle::net::{
    Async, Interest, OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener,
    UnixStream, lookup_host,
};
use epicycle::time::{sleep, timeout};
use epicycle::{Runtime, RuntimeHandle, spawn};
use futures_lite::future::{block_on, poll_once};

const MS: Duration = Duration::from_millis(1);
const LOCAL: &str = "127.0.0.1:0";

/// A connection by way of a listener of its own.
async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

/// Where nobody listens, and nobody else can as long as the socket is there.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&LOCAL.parse::<SocketAddr>().unwrap().into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// A path for a socket, removed when dropped.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new() -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let name = format!("epicycle-test-{}-{}", std::process::id(), LAST.fetch_add(1, SeqCst));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn sources(rt: &RuntimeHandle) -> usize {
    rt.metrics().loops.iter().map(|each| each.sources).sum()
}

/// Writes until nothing more fits; returns how much did.
fn fill(stream: &TcpStream) -> usize {
    let mut written = 0;
    loop {
        match stream.try_write(&[7; 65536]) {
            Ok(n) => written += n,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return written;
            }
        }
    }
}

#[test]
fn everything_is_send_and_sync() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<(TcpStream, TcpListener, UdpSocket, UnixStream, UnixListener, UnixDatagram)>();
    check::<Async<std::fs::File>>();
    check::<(OwnedReadHalf, OwnedWriteHalf, OwnedReadHalf<UnixStream>, OwnedWriteHalf<UnixStream>)>();
    fn check_future<T: Send>(_: T) {}
    check_future(TcpStream::connect("localhost:1"));
    check_future(TcpListener::bind(LOCAL));
    check_future(UdpSocket::bind(LOCAL));
    check_future(UnixStream::connect("/nowhere"));
}

common::flavours! {
    // ------------------------------------------------------------------------------------------------ connections

    fn b59_each_connection_is_accepted_once(rt: Runtime) {
        const CLIENTS: usize = 60;
        rt.block_on(async {
            let listener = Arc::new(TcpListener::bind(LOCAL).await.unwrap());
            let addr = listener.local_addr().unwrap();
            let peers = Arc::new(Mutex::new(HashSet::new()));
            let acceptors: Vec<_> = (0..3)
                .map(|_| {
                    let (listener, peers) = (listener.clone(), peers.clone());
                    spawn(async move {
                        loop {
                            let (mut stream, peer) = listener.accept().await.unwrap();
                            assert!(peers.lock().unwrap().insert(peer), "accepted twice");
                            drop(spawn(async move {
                                let mut buf = [0; 4];
                                stream.read_exact(&mut buf).await.unwrap();
                                stream.write_all(&buf).await.unwrap();
                            }));
                        }
                    })
                })
                .collect();
            let clients: Vec<_> = (0..CLIENTS as u32)
                .map(|n| {
                    spawn(async move {
                        let mut stream = TcpStream::connect(addr).await.unwrap();
                        stream.write_all(&n.to_be_bytes()).await.unwrap();
                        let mut buf = Vec::new();
                        stream.read_to_end(&mut buf).await.unwrap();
                        assert_eq!(buf, n.to_be_bytes());
                        stream.local_addr().unwrap()
                    })
                })
                .collect();
            let mut addrs = HashSet::new();
            for client in clients {
                assert!(addrs.insert(client.await.unwrap()));
            }
            assert_eq!(*peers.lock().unwrap(), addrs);
            acceptors.iter().for_each(|acceptor| assert!(acceptor.cancel()));
        });
    }

    fn b59_connect_yields_an_error_when_refused(rt: Runtime) {
        rt.block_on(async {
            let (_socket, nobody) = refusing();
            let error = TcpStream::connect(nobody).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let path = SocketPath::new();
            let error = UnixStream::connect(&path.0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            drop(std::os::unix::net::UnixListener::bind(&path.0).unwrap());
            let error = UnixStream::connect(&path.0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        });
    }

    fn b59_connect_tries_all_addresses(rt: Runtime) {
        rt.block_on(async {
            let listener = TcpListener::bind(LOCAL).await.unwrap();
            let good = listener.local_addr().unwrap();
            let (_socket, nobody) = refusing();
            let stream = TcpStream::connect(&[nobody, good, nobody][..]).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
            let error = TcpStream::connect([nobody, nobody]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let none: Vec<SocketAddr> = Vec::new();
            assert_eq!(TcpStream::connect(none).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        });
    }

    fn b59_names_are_looked_up(rt: Runtime) {
        rt.block_on(async {
            let listener = TcpListener::bind("localhost:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            for text in [format!("localhost:{port}"), listener.local_addr().unwrap().to_string()] {
                TcpStream::connect(&text).await.unwrap();
                TcpStream::connect(text).await.unwrap();
            }
            TcpStream::connect(("localhost", port)).await.unwrap();
            TcpStream::connect(("localhost".to_owned(), port)).await.unwrap();
            TcpStream::connect((listener.local_addr().unwrap().ip(), port)).await.unwrap();
            assert!(lookup_host("localhost:1").await.unwrap().all(|addr| addr.port() == 1));
            for wrong in ["localhost", "localhost:", "localhost:x", ":70000"] {
                assert_eq!(TcpStream::connect(wrong).await.unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
            }
        });
    }

    fn b59_the_end_of_the_peer_is_the_end_of_reading(rt: Runtime) {
        rt.block_on(async {
            let (client, mut server) = tcp_pair().await;
            let reading = spawn(async move {
                let mut rest = Vec::new();
                server.read_to_end(&mut rest).await.map(|_| rest)
            });
            client.try_write(b"last words").unwrap();
            drop(client);
            assert_eq!(reading.await.unwrap().unwrap(), b"last words");

            let (client, mut server) = tcp_pair().await;
            client.set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            let error = server.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
    }

    fn b59_connect_with_a_prepared_socket(rt: Runtime) {
        rt.block_on(async {
            let listener = TcpListener::builder().backlog(4).reuse_port(true).bind(LOCAL).await.unwrap();
            let (socket, bound) = refusing();
            let client = TcpStream::connect_with(socket, listener.local_addr().unwrap()).await.unwrap();
            assert_eq!(client.local_addr().unwrap(), bound);
            let (_server, peer) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
            assert_eq!(peer, bound);
        });
    }

    fn b59_a_dropped_accept_loses_no_connection(rt: Runtime) {
        rt.block_on(async {
            let listener = TcpListener::bind(LOCAL).await.unwrap();
            for _ in 0..20 {
                assert!(poll_once(pin!(listener.accept())).await.is_none());
                let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let (_server, peer) = listener.accept().await.unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
            }
        });
    }

    // -------------------------------------------------------------------------------------------------- readiness

    fn b60_try_methods_never_block(rt: Runtime) {
        rt.block_on(async {
            let (client, server) = tcp_pair().await;
            let mut buf = [0; 64];
            assert_eq!(server.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(client.try_write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]).unwrap(), 4);
            server.readable().await.unwrap();
            assert_eq!(server.peek(&mut buf).await.unwrap(), 4);
            let (mut a, mut b) = ([0; 1], [0; 8]);
            let bufs = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
            assert_eq!(server.try_read_vectored(bufs).unwrap(), 4);
            assert_eq!((&a[..], &b[..3]), (&b"a"[..], &b"bcd"[..]));
            assert_eq!(server.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(server.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap().is_writable());
        });
    }

    fn b60_readable_and_writable_tell_the_truth(rt: Runtime) {
        rt.block_on(async {
            let (client, server) = tcp_pair().await;
            // Nobody has tried yet, and still it is known that there is nothing.
            assert!(timeout(5 * MS, server.readable()).await.is_err());
            let both = server.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap();
            assert!(both.is_writable() && !both.is_readable());
            client.try_write(b"1234").unwrap();
            server.readable().await.unwrap();
            // Reading a part leaves it readable; reading all behind the back of the readiness does not.
            assert_eq!(server.try_read(&mut [0; 2]).unwrap(), 2);
            server.readable().await.unwrap();
            assert_eq!(socket2::SockRef::from(&server).peek(&mut [std::mem::MaybeUninit::uninit(); 8]).unwrap(), 2);
            assert_eq!(rustix::io::read(&server, &mut [0; 8]).unwrap(), 2);
            assert!(timeout(5 * MS, server.readable()).await.is_err());
            fill(&client);
            assert!(timeout(5 * MS, client.writable()).await.is_err());
            drop(server);
            client.writable().await.unwrap();
        });
    }

    fn b60_readiness_after_a_clear_is_not_lost(rt: Runtime) {
        const ROUNDS: u32 = 2000;
        rt.block_on(async {
            let (client, server) = tcp_pair().await;
            let echo = spawn(async move {
                let mut buf = [0; 64];
                loop {
                    server.readable().await.unwrap();
                    match server.try_read(&mut buf) {
                        Ok(0) => return,
                        Ok(n) => assert_eq!(server.try_write(&buf[..n]).unwrap(), n),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                }
            });
            for round in 0..ROUNDS {
                client.try_write(&round.to_be_bytes()).unwrap();
                let mut answer = [0; 4];
                (&client).read_exact(&mut answer).await.unwrap();
                assert_eq!(answer, round.to_be_bytes());
            }
            drop(client);
            echo.await.unwrap();
        });
    }

    fn b60_a_stream_that_is_filled_goes_on_when_drained(rt: Runtime) {
        const BYTES: usize = 8 << 20;
        rt.block_on(async {
            let (mut client, mut server) = tcp_pair().await;
            let writing = spawn(async move {
                let block: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
                client.write_all(&block).await.unwrap();
                client.close().await.unwrap();
            });
            let (mut buf, mut total) = (vec![0; 100_000], 0);
            loop {
                let n = server.read(&mut buf).await.unwrap();
                if n == 0 {
                    break;
                }
                assert!(buf[..n].iter().enumerate().all(|(at, byte)| *byte == ((total + at) % 251) as u8));
                total += n;
            }
            assert_eq!(total, BYTES);
            writing.await.unwrap();
        });
    }

    fn b61_all_waiters_of_a_descriptor_are_woken(rt: Runtime) {
        rt.block_on(async {
            let socket = Arc::new(UdpSocket::bind(LOCAL).await.unwrap());
            let addr = socket.local_addr().unwrap();
            let woken = Arc::new(AtomicUsize::new(0));
            let waiting: Vec<_> = (0..8)
                .map(|_| {
                    let (socket, woken) = (socket.clone(), woken.clone());
                    spawn(async move {
                        socket.readable().await.unwrap();
                        woken.fetch_add(1, SeqCst);
                        let mut buf = [0; 8];
                        socket.recv_from(&mut buf).await.unwrap().0
                    })
                })
                .collect();
            sleep(5 * MS).await;
            let sender = UdpSocket::bind(LOCAL).await.unwrap();
            sender.send_to(b"1", addr).await.unwrap();
            sleep(5 * MS).await;
            for _ in 1..8 {
                sender.send_to(b"1", addr).await.unwrap();
            }
            for task in waiting {
                assert_eq!(task.await.unwrap(), 1);
            }
            assert_eq!(woken.load(SeqCst), 8);
        });
    }

    fn b61_reading_and_writing_wake_independently(rt: Runtime) {
        rt.block_on(async {
            let (client, server) = tcp_pair().await;
            let client = Arc::new(client);
            let filled = fill(&client);
            let writing = spawn({
                let client = client.clone();
                async move { (&*client).write_all(b"the end").await }
            });
            let reading = spawn({
                let client = client.clone();
                async move {
                    let mut buf = [0; 8];
                    let n = (&*client).read(&mut buf).await.unwrap();
                    buf[..n].to_vec()
                }
            });
            sleep(5 * MS).await;
            assert!(!writing.done() && !reading.done());
            server.try_write(b"hello").unwrap();
            assert_eq!(reading.await.unwrap(), b"hello");
            assert!(!writing.done(), "nothing has been read at the other end");

            let mut rest = vec![0; filled + 7];
            (&server).read_exact(&mut rest).await.unwrap();
            assert!(rest.ends_with(b"the end"));
            writing.await.unwrap().unwrap();
        });
    }

    fn b61_a_waiter_that_is_dropped_leaves_the_others_alone(rt: Runtime) {
        rt.block_on(async {
            let (client, server) = tcp_pair().await;
            let server = Arc::new(server);
            let waiting: Vec<_> = (0..6)
                .map(|_| {
                    let server = server.clone();
                    spawn(async move { server.readable().await })
                })
                .collect();
            sleep(3 * MS).await;
            waiting.iter().step_by(2).for_each(|task| assert!(task.cancel()));
            sleep(3 * MS).await;
            client.try_write(b"1").unwrap();
            for (n, task) in waiting.into_iter().enumerate() {
                assert_eq!(task.await.is_ok(), n % 2 == 1);
            }
        });
    }

    // -------------------------------------------------------------------------------------------- lifetime, loops

    fn b62_a_descriptor_is_deregistered_before_it_is_closed(rt: Runtime) {
        /// Looks at the number of registrations when it is dropped, which is just before the descriptor closes.
        struct Watched(StdUnixStream, RuntimeHandle, Arc<AtomicUsize>);
        impl AsFd for Watched {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        impl Drop for Watched {
            fn drop(&mut self) {
                self.2.store(sources(&self.1), SeqCst);
            }
        }
        let handle = rt.handle();
        rt.block_on(async {
            let baseline = sources(&handle);
            let (ours, _peer) = StdUnixStream::pair().unwrap();
            let seen = Arc::new(AtomicUsize::new(usize::MAX));
            let watched = Async::new(Watched(ours, handle.clone(), seen.clone())).unwrap();
            assert_eq!(sources(&handle), baseline + 1);
            drop(watched);
            assert_eq!(seen.load(SeqCst), baseline);
        });
    }

    fn b62_registrations_and_descriptors_return_to_the_baseline(rt: Runtime) {
        let handle = rt.handle();
        rt.block_on(async {
            let baseline = sources(&handle);
            for _ in 0..50 {
                let (client, server) = tcp_pair().await;
                let task = spawn(async move { (&server).read(&mut [0; 8]).await });
                client.try_write(b"1").unwrap();
                assert_eq!(task.await.unwrap().unwrap(), 1);
                // The numbers are used again at once: no event may reach a former owner.
                drop(client);
            }
            eventually_async("all are deregistered", || sources(&handle) == baseline).await;
        });
    }

    fn b62_dropping_a_stream_closes_it_while_a_task_waits_for_another(rt: Runtime) {
        rt.block_on(async {
            let (a, b) = UnixStream::pair().unwrap();
            let waiting = spawn(async move { (&b).read(&mut [0; 8]).await.unwrap() });
            sleep(2 * MS).await;
            drop(a);
            assert_eq!(waiting.await.unwrap(), 0);
        });
    }

    fn b64_a_socket_works_on_every_loop(rt: Runtime) {
        let loops = rt.loops().to_vec();
        rt.block_on(async {
            // Each pair is created here and used there.
            let mut tasks = Vec::new();
            for (reader_home, writer_home) in loops.iter().zip(loops.iter().rev()) {
                let (client, server) = tcp_pair().await;
                tasks.push(reader_home.spawn_local(move || async move {
                    let mut text = String::new();
                    (&server).read_to_string(&mut text).await.unwrap();
                    assert_eq!(text, "0123456789");
                }));
                tasks.push(writer_home.spawn_local(move || async move {
                    for digit in b'0'..=b'9' {
                        (&client).write_all(&[digit]).await.unwrap();
                        sleep(MS / 4).await;
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    fn b64_a_socket_outlives_the_block_on_that_created_it(rt: Runtime) {
        let (client, server) = rt.block_on(tcp_pair());
        let other = std::thread::spawn(move || {
            std::thread::sleep(5 * MS);
            client.try_write(b"later").unwrap();
            client
        });
        let got = rt.block_on(async {
            let mut buf = [0; 5];
            (&server).read_exact(&mut buf).await.unwrap();
            spawn(async move { server.local_addr().map(|_| buf) }).await.unwrap().unwrap()
        });
        assert_eq!(&got, b"later");
        other.join().unwrap();
    }

    fn b39_after_shutdown_waiting_fails(rt: Runtime) {
        let (client, server) = rt.block_on(tcp_pair());
        drop(rt);
        assert_eq!(server.try_read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(block_on(server.readable()).is_err());
        assert!(block_on((&server).read(&mut [0; 8])).is_err());
        client.try_write(b"1").unwrap();
        let _ = block_on(client.into_split().0.read(&mut [0; 8]));
        drop(server.into_std());
    }

    fn c11_a_reader_that_always_has_data_lets_others_run(rt: Runtime) {
        rt.block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let flooding = spawn(async move {
                loop {
                    if (&theirs).write_all(&[1; 4096]).await.is_err() {
                        return;
                    }
                }
            });
            let draining = async {
                loop {
                    (&ours).read(&mut [0; 16]).await.unwrap();
                }
            };
            assert!(timeout(20 * MS, draining).await.is_err());
            drop(ours);
            flooding.await.unwrap();
        });
    }

    fn c11_more_waiting_reads_than_the_budget_do_not_spin(rt: Runtime) {
        rt.block_on(async {
            let pairs: Vec<_> = (0..200).map(|_| UnixStream::pair().unwrap()).collect();
            let polls = Arc::new(AtomicUsize::new(0));
            let all = {
                let polls = polls.clone();
                let mut pending: Vec<_> = pairs.iter().map(|(ours, _)| Some(ours)).collect();
                poll_fn(move |cx| {
                    polls.fetch_add(1, SeqCst);
                    for slot in &mut pending {
                        let Some(mut ours) = *slot else { continue };
                        let read = epicycle::io::AsyncRead::poll_read(Pin::new(&mut ours), cx, &mut [0; 8]);
                        if read.is_ready() {
                            *slot = None;
                        }
                    }
                    if pending.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
                })
            };
            let mut all = pin!(all);
            assert!(timeout(20 * MS, all.as_mut()).await.is_err());
            assert!(polls.load(SeqCst) < 50, "polled {} times with nothing to read", polls.load(SeqCst));
            for (_, theirs) in &pairs {
                theirs.try_write(b"1").unwrap();
            }
            all.await;
        });
    }

    // ------------------------------------------------------------------------------------------------------ halves

    fn b63_borrowed_halves(rt: Runtime) {
        rt.block_on(async {
            let (mut client, mut server) = tcp_pair().await;
            let (mut client_reader, mut client_writer) = client.split();
            let (mut server_reader, mut server_writer) = server.split();
            client_writer.write_all(b"ping").await.unwrap();
            let mut buf = [0; 4];
            server_reader.read_exact(&mut buf).await.unwrap();
            server_writer.write_all(&buf).await.unwrap();
            client_reader.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"ping");
            client_writer.close().await.unwrap();
            assert_eq!(server_reader.read(&mut buf).await.unwrap(), 0);
            // The other direction is still there.
            server_writer.write_all(b"pong").await.unwrap();
            client_reader.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"pong");
        });
    }

    fn b63_owned_halves_and_shutdown_on_drop(rt: Runtime) {
        rt.block_on(async {
            let (client, mut server) = tcp_pair().await;
            let (mut reader, mut writer) = client.into_split();
            let writing = spawn(async move { writer.write_all(b"all").await.map(|()| drop(writer)) });
            let mut text = String::new();
            server.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "all");
            writing.await.unwrap().unwrap();
            server.write_all(b"answer").await.unwrap();
            server.shutdown(Shutdown::Write).unwrap();
            text.clear();
            reader.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "answer");
            // Closing after the connection has ended is no error.
            drop(server);
            let (_reader, mut writer) = tcp_pair().await.0.into_split();
            let _ = writer.as_ref().shutdown(Shutdown::Both);
            writer.close().await.unwrap();
        });
    }

    fn b63_reuniting_halves_of_different_streams_fails(rt: Runtime) {
        rt.block_on(async {
            let (a, b) = tcp_pair().await;
            let ((read_a, write_a), (read_b, write_b)) = (a.into_split(), b.into_split());
            let error = read_a.reunite(write_b).unwrap_err();
            assert_eq!(error.to_string(), "tried to reunite halves of different streams");
            let (read_a, write_b) = (error.0, error.1);
            let a = read_a.reunite(write_a).unwrap();
            let b = write_b.reunite(read_b).unwrap();
            // Nothing was shut down on the way.
            (&a).write_all(b"1").await.unwrap();
            assert_eq!((&b).read(&mut [0; 8]).await.unwrap(), 1);
            (&b).write_all(b"1").await.unwrap();
            assert_eq!((&a).read(&mut [0; 8]).await.unwrap(), 1);
        });
    }

    fn b63_shutdown_then_end_at_the_peer(rt: Runtime) {
        rt.block_on(async {
            let (a, b) = UnixStream::pair().unwrap();
            a.shutdown(Shutdown::Write).unwrap();
            assert_eq!((&b).read(&mut [0; 8]).await.unwrap(), 0);
            (&b).write_all(b"still here").await.unwrap();
            assert_eq!((&a).read(&mut [0; 16]).await.unwrap(), 10);
            let error = (&a).write(b"1").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        });
    }

    fn copying_in_both_directions_ends_with_both(rt: Runtime) {
        rt.block_on(async {
            let ((mut client, mut left), (mut right, server)) = (tcp_pair().await, tcp_pair().await);
            let proxy = spawn(async move { epicycle::io::copy_bidirectional(&mut left, &mut right).await });
            let echo = spawn(async move { epicycle::io::copy(&server, &server).await });
            let message = vec![9; 1 << 20];
            let (mut reader, mut writer) = client.split();
            let writing = async {
                writer.write_all(&message).await.unwrap();
                writer.close().await.unwrap();
            };
            let mut back = Vec::new();
            let (_, read) = futures_lite::future::zip(writing, reader.read_to_end(&mut back)).await;
            assert_eq!(read.unwrap(), 1 << 20);
            assert!(back == message);
            assert_eq!(echo.await.unwrap().unwrap(), 1 << 20);
            assert_eq!(proxy.await.unwrap().unwrap(), (1 << 20, 1 << 20));
        });
    }

    // --------------------------------------------------------------------------------------------- to and from std

    fn sockets_in_blocking_mode_are_refused(rt: Runtime) {
        fn check<T>(result: std::io::Result<T>) {
            let Err(error) = result else { panic!("a blocking socket was accepted") };
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("non-blocking"), "{error}");
        }
        rt.block_on(async {
            let listener = std::net::TcpListener::bind(LOCAL).unwrap();
            let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            check(TcpStream::from_std(stream));
            check(TcpListener::from_std(listener));
            check(UdpSocket::from_std(std::net::UdpSocket::bind(LOCAL).unwrap()));
            check(UnixStream::from_std(StdUnixStream::pair().unwrap().0));
            check(UnixDatagram::from_std(std::os::unix::net::UnixDatagram::pair().unwrap().0));
            let path = SocketPath::new();
            check(UnixListener::try_from(std::os::unix::net::UnixListener::bind(&path.0).unwrap()));
        });
    }

    fn sockets_go_to_std_and_back(rt: Runtime) {
        let handle = rt.handle();
        rt.block_on(async {
            let (client, server) = tcp_pair().await;
            let registered = sources(&handle);
            let std_client = client.into_std();
            assert_eq!(sources(&handle), registered - 1);
            let client = TcpStream::from_std(std_client).unwrap();
            (&client).write_all(b"1").await.unwrap();
            assert_eq!((&server).read(&mut [0; 8]).await.unwrap(), 1);
        });
    }

    fn options_are_set(rt: Runtime) {
        rt.block_on(async {
            let (stream, _peer) = tcp_pair().await;
            stream.set_nodelay(true).unwrap();
            stream.set_ttl(77).unwrap();
            stream.set_keepalive(Some(Duration::from_secs(30))).unwrap();
            stream.set_linger(Some(Duration::from_secs(2))).unwrap();
            assert!(stream.nodelay().unwrap() && stream.keepalive().unwrap());
            assert_eq!((stream.ttl().unwrap(), stream.linger().unwrap()), (77, Some(Duration::from_secs(2))));
            stream.set_keepalive(None).unwrap();
            stream.set_linger(None).unwrap();
            assert!(!stream.keepalive().unwrap() && stream.linger().unwrap().is_none());
            for socket in [stream.as_fd(), TcpListener::bind(LOCAL).await.unwrap().as_fd()] {
                let flags = rustix::io::fcntl_getfd(socket).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
                assert!(rustix::fs::fcntl_getfl(socket).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
            }
            assert!(stream.take_error().unwrap().is_none());
        });
    }

    // --------------------------------------------------------------------------------------------- other kinds

    fn udp_sends_and_receives(rt: Runtime) {
        rt.block_on(async {
            let (a, b) = (UdpSocket::bind(LOCAL).await.unwrap(), UdpSocket::bind(LOCAL).await.unwrap());
            let (addr_a, addr_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
            let mut buf = [0; 64];
            assert_eq!(b.try_recv_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            let receiving = spawn(async move {
                let mut buf = [0; 64];
                let received = b.recv_from(&mut buf).await.unwrap();
                (b, received)
            });
            sleep(2 * MS).await;
            assert_eq!(a.send_to(b"to", addr_b).await.unwrap(), 2);
            let (b, received) = receiving.await.unwrap();
            assert_eq!(received, (2, addr_a));

            a.connect(addr_b).await.unwrap();
            b.connect(addr_a).await.unwrap();
            assert_eq!(a.peer_addr().unwrap(), addr_b);
            a.send(b"connected").await.unwrap();
            assert_eq!(b.peek(&mut buf).await.unwrap(), 9);
            assert_eq!(b.peek_from(&mut buf).await.unwrap(), (9, addr_a));
            assert_eq!(b.recv(&mut buf[..4]).await.unwrap(), 4, "the rest is cut off");
            assert_eq!(b.try_recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            a.writable().await.unwrap();
            assert_eq!(a.try_send(b"").unwrap(), 0);
            assert_eq!(b.recv(&mut buf).await.unwrap(), 0, "an empty datagram is one, too");
        });
    }

    fn unix_datagrams(rt: Runtime) {
        rt.block_on(async {
            let (a, b) = UnixDatagram::pair().unwrap();
            let mut sent = 0u32;
            while a.try_send(&sent.to_be_bytes()).is_ok() {
                sent += 1;
            }
            // The queue is full: a send waits until something is received.
            let sending = spawn(async move { a.send(&sent.to_be_bytes()).await });
            sleep(2 * MS).await;
            assert!(!sending.done());
            let mut buf = [0; 8];
            for n in 0..=sent {
                assert_eq!(b.recv(&mut buf).await.unwrap(), 4);
                assert_eq!(buf[..4], n.to_be_bytes());
            }
            assert_eq!(sending.await.unwrap().unwrap(), 4);
        });
    }

    fn unix_listeners_and_a_full_backlog(rt: Runtime) {
        rt.block_on(async {
            let path = SocketPath::new();
            let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            socket.bind(&socket2::SockAddr::unix(&path.0).unwrap()).unwrap();
            socket.listen(1).unwrap();
            socket.set_nonblocking(true).unwrap();
            let listener = UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into()).unwrap();
            let clients: Vec<_> = (0..10u8)
                .map(|n| {
                    let path = path.0.clone();
                    spawn(async move {
                        let stream = UnixStream::connect(path).await.unwrap();
                        (&stream).write_all(&[n]).await.unwrap();
                        stream
                    })
                })
                .collect();
            sleep(5 * MS).await;
            let mut seen = HashSet::new();
            for _ in 0..10 {
                let (stream, _) = listener.accept().await.unwrap();
                let mut buf = [0];
                (&stream).read_exact(&mut buf).await.unwrap();
                assert!(seen.insert(buf[0]));
            }
            for client in clients {
                client.await.unwrap();
            }
        });
    }

    fn async_takes_any_descriptor(rt: Runtime) {
        rt.block_on(async {
            // A pipe, which is put into non-blocking mode.
            let (reader, writer) = std::io::pipe().unwrap();
            let (reader, mut writer) = (Async::new(reader).unwrap(), Async::new(writer).unwrap());
            assert!(timeout(2 * MS, reader.readable()).await.is_err());
            let mut buf = [0; 8];
            let error = reader.try_io(Interest::READABLE, |mut pipe| pipe.read(&mut buf)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let reading = spawn(async move {
                let mut reader = reader;
                let mut text = String::new();
                reader.read_to_string(&mut text).await.map(|_| (text, reader.into_inner()))
            });
            writer.write_all(b"through a pipe").await.unwrap();
            assert_eq!(writer.write_with(|mut pipe| pipe.write(b"!")).await.unwrap(), 1);
            drop(writer);
            let (text, _pipe) = reading.await.unwrap().unwrap();
            assert_eq!(text, "through a pipe!");

            // An eventfd, which is not a stream.
            let flags = rustix::event::EventfdFlags::NONBLOCK | rustix::event::EventfdFlags::CLOEXEC;
            let eventfd = Async::new_nonblocking(rustix::event::eventfd(0, flags).unwrap()).unwrap();
            assert!(timeout(2 * MS, eventfd.readable()).await.is_err());
            rustix::io::write(&eventfd, &3u64.to_ne_bytes()).unwrap();
            let mut count = [0; 8];
            let read = eventfd.read_with(|fd| Ok(rustix::io::read(fd, &mut count)?)).await.unwrap();
            assert_eq!((read, u64::from_ne_bytes(count)), (8, 3));
            assert!(timeout(2 * MS, eventfd.readable()).await.is_err());

            // A regular file is not for a selector.
            let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
            if cfg!(target_os = "linux") {
                assert!(Async::new(file).is_err());
            }
        });
    }

    fn each_loop_may_have_its_own_listener(rt: Runtime) {
        const CLIENTS: usize = 40;
        rt.block_on(async {
            let parts = TcpListener::bind_per_loop(LOCAL).await.unwrap();
            let addr = parts.local_addr();
            let runtime = RuntimeHandle::current();
            let (served, listening) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let mut tasks = Vec::new();
            for (part, home) in parts.into_iter().zip(runtime.loops()) {
                let (served, listening) = (served.clone(), listening.clone());
                tasks.push(home.spawn_local(move || async move {
                    let listener = part.listen().unwrap();
                    assert_eq!(listener.local_addr().unwrap(), addr);
                    listening.fetch_add(1, SeqCst);
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        served.fetch_add(1, SeqCst);
                        drop(epicycle::spawn_local(async move { epicycle::io::copy(&stream, &stream).await }));
                    }
                }));
            }
            assert_eq!(tasks.len(), runtime.loops().len());
            eventually_async("all loops listen", || listening.load(SeqCst) == tasks.len()).await;
            for _ in 0..CLIENTS {
                let stream = TcpStream::connect(addr).await.unwrap();
                (&stream).write_all(b"echo").await.unwrap();
                (&stream).read_exact(&mut [0; 4]).await.unwrap();
            }
            assert_eq!(served.load(SeqCst), CLIENTS);
            tasks.iter().for_each(|task| assert!(task.cancel()));
        });
    }

    fn s2_sendfile_sends_a_part_of_a_file_or_all_of_it(rt: Runtime) {
        let path = SocketPath::new();
        let content: Arc<Vec<u8>> = Arc::new((0..3_000_000u32).map(|n| (n % 251) as u8).collect());
        std::fs::write(&path.0, &*content).unwrap();
        let mut file = std::fs::File::open(&path.0).unwrap();
        rt.block_on(async {
            let cases = [(0, None), (1000, None), (17, Some(2_000_000)), (2_999_000, Some(5000)), (3_000_000, None), (9_000_000, Some(1)), (5, Some(0))];
            for (offset, count) in cases {
                let (client, mut server) = tcp_pair().await;
                let reading = spawn(async move { let mut all = Vec::new(); server.read_to_end(&mut all).await.unwrap(); all });
                let sent = client.sendfile(&file, offset, count).await.unwrap();
                drop(client);
                let from = content.len().min(offset as usize);
                let to = content.len().min(from.saturating_add(count.map_or(usize::MAX, |count| count as usize)));
                assert_eq!(sent as usize, to - from);
                assert!(reading.await.unwrap() == content[from..to]);
            }
            // Over a Unix socket; and one that is gone is an error.
            let (a, mut b) = UnixStream::pair().unwrap();
            assert_eq!(a.sendfile(&file, 3, Some(4)).await.unwrap(), 4);
            let mut four = [0; 4];
            b.read_exact(&mut four).await.unwrap();
            assert_eq!(four, content[3..7]);
            drop(b);
            assert_eq!(a.sendfile(&file, 0, None).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            // What has no positions can be sent neither way.
            let (a, _b) = UnixStream::pair().unwrap();
            let (pipe, _writer) = std::io::pipe().unwrap();
            assert!(a.sendfile(&std::os::fd::OwnedFd::from(pipe).into(), 0, None).await.is_err());
        });
        assert_eq!(std::io::Seek::stream_position(&mut file).unwrap(), 0, "the file's own position is as it was");
    }

    fn s2_sendfile_goes_on_beside_others_and_waits_for_a_slow_reader(rt: Runtime) {
        let path = SocketPath::new();
        std::fs::write(&path.0, vec![7; 8_000_000]).unwrap();
        let file = std::fs::File::open(&path.0).unwrap();
        rt.block_on(async {
            let (client, mut server) = tcp_pair().await;
            let sending = spawn(async move { client.sendfile(&file, 0, None).await.unwrap() });
            sleep(5 * MS).await;
            assert!(!sending.done(), "the buffers are full, and nobody reads");
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.unwrap();
            assert_eq!((sending.await.unwrap(), all.len()), (8_000_000, 8_000_000));
        });
    }

    fn per_loop_listeners_have_their_address_alone(rt: Runtime) {
        rt.block_on(async {
            let mine = TcpListener::bind_per_loop(LOCAL).await.unwrap();
            let addr = mine.local_addr();
            // Nobody listens yet, so both may bind; one group gets to listen.
            let rival = TcpListener::bind_per_loop(addr).await.unwrap();
            let mine: Vec<TcpListener> = mine.into_iter().map(|part| part.listen().unwrap()).collect();
            assert_eq!(mine.len(), rt.loops().len());
            for part in rival {
                assert_eq!(part.listen().unwrap_err().kind(), ErrorKind::AddrInUse);
            }
            assert_eq!(TcpListener::bind_per_loop(addr).await.unwrap_err().kind(), ErrorKind::AddrInUse);
            assert_eq!(TcpListener::bind(addr).await.unwrap_err().kind(), ErrorKind::AddrInUse);
            drop(mine);
            let _again = TcpListener::bind(addr).await.unwrap();

            let shared = TcpListener::builder().reuse_port(true).bind_per_loop(LOCAL).await.unwrap();
            let addr = shared.local_addr();
            let shared: Vec<TcpListener> = shared.into_iter().map(|part| part.listen().unwrap()).collect();
            let others = TcpListener::builder().reuse_port(true).bind_per_loop(addr).await.unwrap();
            assert!(others.into_iter().all(|part| part.listen().is_ok()));
            assert!(shared.iter().all(|listener| listener.local_addr().unwrap() == addr));
        });
    }

    fn n17_a_connection_that_was_reset_before_it_is_accepted_does_not_fail_accept(rt: Runtime) {
        rt.block_on(async {
            let listener = TcpListener::bind(LOCAL).await.unwrap();
            let addr = listener.local_addr().unwrap();
            let dead = std::net::TcpStream::connect(addr).unwrap();
            socket2::SockRef::from(&dead).set_linger(Some(Duration::ZERO)).unwrap();
            drop(dead);
            let mut alive = std::net::TcpStream::connect(addr).unwrap();
            std::io::Write::write_all(&mut alive, b"x").unwrap();
            // Linux accepts it and reading fails; other systems leave it out.
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            if let Err(error) = stream.read_exact(&mut byte).await {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                stream = listener.accept().await.unwrap().0;
                stream.read_exact(&mut byte).await.unwrap();
            }
            assert_eq!(&byte, b"x");
        });
    }

    // ---------------------------------------------------------------------------------------- out of descriptors

    /// In a process of its own, for the limit is the process's.
    fn n17_accept_pauses_when_out_of_descriptors(flavour: Flavour) {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "n17_in_a_child", "--ignored", "--nocapture", "--test-threads=1"])
            .env("EPICYCLE_N17", format!("{} {}", flavour.loops(), flavour.stealing()))
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
        assert!(child.status.success() && out.contains("1 passed"), "{out}\n{err}");
    }
}

#[cfg(feature = "getnameinfo")]
common::flavours! {
    fn addresses_have_names(rt: Runtime) {
        rt.block_on(async {
            let (host, service) = epicycle::net::getnameinfo(([127, 0, 0, 1], 80)).await.unwrap();
            assert!(!host.is_empty() && (service == "http" || service == "80"), "{host} {service}");
            let (_, service) = epicycle::net::getnameinfo("[::1]:54321".parse::<SocketAddr>().unwrap()).await.unwrap();
            assert_eq!(service, "54321");
        });
    }
}

#[test]
#[ignore = "the second half of n17_accept_pauses_when_out_of_descriptors"]
fn n17_in_a_child() {
    let Ok(flavour) = std::env::var("EPICYCLE_N17") else { return };
    let (loops, stealing) = flavour.split_once(' ').unwrap();
    let reports = Reports::new();
    let rt = Runtime::builder()
        .worker_threads(loops.parse().unwrap())
        .work_stealing(stealing.parse().unwrap())
        .exception_handler(reports.handler())
        .build()
        .unwrap();
    common::with_timeout(|| {
        rt.block_on(async {
            let listener = TcpListener::bind(LOCAL).await.unwrap();
            let addr = listener.local_addr().unwrap();
            // The kernel completes the connections whether they are accepted or not.
            let clients: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
            let accepted = Arc::new(AtomicUsize::new(0));
            let exhausted = OutOfDescriptors::now();
            let start = Instant::now();
            let accepting = spawn({
                let accepted = accepted.clone();
                async move {
                    let mut streams = Vec::new();
                    loop {
                        streams.push(listener.accept().await.unwrap());
                        accepted.fetch_add(1, SeqCst);
                    }
                }
            });
            let paused = |report: &epicycle::ErrorContext| report.message().contains("pauses for a second");
            eventually_async("it is reported", || reports.all().iter().any(paused)).await;
            assert_eq!(accepted.load(SeqCst), 0);
            // Meanwhile it neither spins nor goes on at once when it could.
            sleep(200 * MS).await;
            assert_eq!(reports.all().len(), 1, "one report for one pause");
            drop(exhausted);
            eventually_async("accepting goes on", || accepted.load(SeqCst) == clients.len()).await;
            assert!(start.elapsed() >= Duration::from_secs(1));
            assert_eq!(reports.all().len(), 1);
            accepting.cancel();
        });
    });
}

/// Takes all descriptors that the process may have, until dropped.
struct OutOfDescriptors {
    limit: Option<u64>,
    taken: Vec<std::fs::File>,
}

impl OutOfDescriptors {
    fn now() -> Self {
        let limit = set_limit(Some(200));
        let taken = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        Self { limit, taken }
    }
}

impl Drop for OutOfDescriptors {
    fn drop(&mut self) {
        self.taken.clear();
        set_limit(self.limit);
    }
}

/// Sets how many descriptors the process may have; returns the limit of before.
fn set_limit(limit: Option<u64>) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum }).unwrap();
    current
}

#[test]
fn b10_sockets_need_a_runtime() {
    common::panics_with("no epicycle runtime", || block_on(UdpSocket::bind(LOCAL)));
    common::panics_with("no epicycle runtime", || UnixStream::pair());
}

#[test]
fn b62_a_refused_second_registration_leaves_the_first_one_whole() {
    common::with_timeout(|| {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        // One loop, so that all three would go to the same selector.
        let rt = epicycle::Runtime::builder().worker_threads(1).build().unwrap();
        rt.block_on(async {
            let first = epicycle::net::Async::new(&ours).unwrap();
            let second = epicycle::net::Async::new(&ours).unwrap_err();
            assert_eq!(second.kind(), std::io::ErrorKind::AlreadyExists);
            drop(first);
            drop(epicycle::net::Async::new(&ours).expect("the first one took itself out"));
        });
    });
}
