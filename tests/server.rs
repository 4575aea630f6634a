//! Servers with streams (`epicycle::streams::Server`).
//!
//! Clients are tasks of the same runtime, handlers those of the server; threads are the runtime's and the test's own, which
//! is inside `block_on`.

mod common;

use std::collections::HashSet;
use std::future::pending;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use common::{DropProbe, Flag, Flavour, Reports, eventually_async, loop_index};
use epicycle::streams::{
    ReadError, Server, ServerOptions, Socket, StreamReader, StreamWriter, open_connection, open_unix_connection,
    start_server, start_unix_server,
};
use epicycle::time::timeout;
use epicycle::{EventLoop, Runtime, spawn, yield_now};
use futures_lite::future::poll_once;

const MS: Duration = Duration::from_millis(1);
const LOCAL: &str = "127.0.0.1:0";

/// Lines, until the client ends.
async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result<(), ReadError> {
    loop {
        let line = reader.readline().await?;
        if line.is_empty() {
            return Ok(());
        }
        writer.write(&line)?;
        writer.drain().await?;
    }
}

async fn connect(server: &Server) -> (StreamReader, StreamWriter) {
    match server.path() {
        Some(path) => open_unix_connection(path).await.unwrap(),
        None => open_connection(server.local_addrs()).await.unwrap(),
    }
}

/// That the server's handler answers.
async fn check_echo((reader, writer): &mut (StreamReader, StreamWriter), text: &str) {
    writer.write(format!("{text}\n").as_bytes()).unwrap();
    assert_eq!(reader.readline().await.unwrap(), format!("{text}\n").as_bytes());
}

/// A path for a socket, removed when dropped.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new() -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let name = format!("epicycle-server-{}-{}", std::process::id(), LAST.fetch_add(1, SeqCst));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One of each kind.
async fn servers(path: &SocketPath) -> [Server; 2] {
    [start_server(echo, LOCAL).await.unwrap(), start_unix_server(echo, &path.0).await.unwrap()]
}

async fn is_refused(server: &Server) -> bool {
    match server.path() {
        Some(path) => open_unix_connection(path).await.is_err(),
        None => open_connection(server.local_addrs()).await.is_err(),
    }
}

common::flavours! {
    // ---------------------------------------------------------------------------------------------------- serving

    fn each_client_has_a_task(rt: Runtime) {
        const CLIENTS: usize = 50;
        rt.block_on(async {
            let path = SocketPath::new();
            for server in servers(&path).await {
                let server = Arc::new(server);
                let clients: Vec<_> = (0..CLIENTS)
                    .map(|n| {
                        let server = server.clone();
                        spawn(async move {
                            let mut client = connect(&server).await;
                            for round in 0..10 {
                                check_echo(&mut client, &format!("{n} {round}")).await;
                            }
                        })
                    })
                    .collect();
                for client in clients {
                    client.await.unwrap();
                }
                eventually_async("all have left", || server.client_count() == 0).await;
            }
        });
    }

    fn n17_a_burst_of_connections_is_accepted(rt: Runtime) {
        const CLIENTS: usize = 150;
        rt.block_on(async {
            let server = ServerOptions::new().start_serving(false).backlog(512).start(echo, LOCAL).await.unwrap();
            server.start_serving().unwrap();
            // In the backlog before anybody accepts: this loop is busy connecting, without a pause.
            let sockets: Vec<_> = (0..CLIENTS)
                .map(|_| std::net::TcpStream::connect(server.local_addrs()[0]).unwrap())
                .collect();
            // Others have their turns between the batches.
            for socket in sockets {
                socket.set_nonblocking(true).unwrap();
                let stream = epicycle::net::TcpStream::from_std(socket).unwrap();
                check_echo(&mut epicycle::streams::split(stream), "hello").await;
            }
        });
    }

    fn n17_connections_that_were_reset_before_they_are_accepted_do_not_stop_the_server(rt: Runtime) {
        rt.block_on(async {
            let server = ServerOptions::new().start_serving(false).start(echo, LOCAL).await.unwrap();
            server.start_serving().unwrap();
            // This loop has not accepted yet, or another does meanwhile: the kernel hands them out all the same, dead.
            for round in 0..20 {
                let socket = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
                socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
                drop(socket);
                if round % 10 == 9 { check_echo(&mut connect(&server).await, "still here").await }
            }
            eventually_async("the dead have left", || server.client_count() == 0).await;
            check_echo(&mut connect(&server).await, "still here").await;
        });
    }

    fn n79_a_second_server_on_an_address_is_refused_also_with_a_socket_for_each_loop(rt: Runtime) {
        rt.block_on(async {
            let per_loop = || ServerOptions::new().per_loop(true);
            let refused = async |options: ServerOptions, addr: SocketAddr| {
                assert_eq!(options.start(echo, addr).await.unwrap_err().kind(), ErrorKind::AddrInUse);
            };
            let server = per_loop().start(echo, LOCAL).await.unwrap();
            let addr = server.local_addrs()[0];
            refused(per_loop(), addr).await;
            refused(ServerOptions::new(), addr).await;
            check_echo(&mut connect(&server).await, "not disturbed").await;
            server.close();
            server.wait_closed().await;
            // And once it is gone the address is free at once.
            let server = per_loop().start(echo, addr).await.unwrap();
            check_echo(&mut connect(&server).await, "again").await;
            drop(server);

            // Both bound before either serves: the one that serves first has it.
            let first = per_loop().start_serving(false).start(echo, LOCAL).await.unwrap();
            let addr = first.local_addrs()[0];
            let second = per_loop().start_serving(false).start(echo, addr).await.unwrap();
            second.start_serving().unwrap();
            assert_eq!(first.start_serving().unwrap_err().kind(), ErrorKind::AddrInUse);
            check_echo(&mut connect(&second).await, "the second").await;
            drop((first, second));

            // On purpose they may share it.
            let server = per_loop().reuse_port(true).start(echo, LOCAL).await.unwrap();
            let other = per_loop().reuse_port(true).start(echo, server.local_addrs()[0]).await.unwrap();
            check_echo(&mut connect(&server).await, "one of the two").await;
            assert_eq!(server.local_addrs(), other.local_addrs());
        });
    }

    fn handlers_are_spread_over_the_loops(flavour: Flavour) {
        if flavour != Flavour::FourLoops {
            return;
        }
        let rt = common::builder!().build().unwrap();
        rt.block_on(async {
            // Each of two handlers blocks its thread until the other one does, too.
            let barrier = Arc::new(Barrier::new(2));
            let handler = move |mut reader: StreamReader, writer: StreamWriter| {
                let barrier = barrier.clone();
                async move {
                    reader.readline().await?;
                    barrier.wait();
                    writer.write(b"met\n")
                }
            };
            let server = start_server(handler, LOCAL).await.unwrap();
            let clients = [connect(&server).await, connect(&server).await];
            for (_, writer) in &clients {
                writer.write(b"go\n").unwrap();
            }
            for (mut reader, _) in clients {
                assert_eq!(reader.readline().await.unwrap(), b"met\n");
            }
        });
    }

    fn each_loop_may_have_a_listener(flavour: Flavour) {
        const CLIENTS: usize = 80;
        let rt = common::builder!().build().unwrap();
        rt.block_on(async {
            let seen = Arc::new(Mutex::new(HashSet::new()));
            let noting = seen.clone();
            let handler = move |reader, writer| {
                noting.lock().unwrap().insert(loop_index().unwrap());
                echo(reader, writer)
            };
            let server = ServerOptions::new().per_loop(true).start(handler, LOCAL).await.unwrap();
            assert_eq!(server.local_addrs().len(), 1);
            for n in 0..CLIENTS {
                check_echo(&mut connect(&server).await, &n.to_string()).await;
            }
            // The kernel spreads them by hash: not evenly, but hardly all to one.
            assert!(seen.lock().unwrap().len() > 1 || flavour.loops() == 1, "{seen:?}");
            server.close();
            timeout(common::PATIENCE, server.wait_closed()).await.unwrap();
            assert!(is_refused(&server).await);
        });
    }

    fn panics_and_errors_of_handlers_are_reported(flavour: Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        let _ = flavour;
        rt.block_on(async {
            let handler = async |mut reader: StreamReader, writer: StreamWriter| {
                let line = reader.readline().await?;
                assert_ne!(line, b"panic\n", "as asked");
                if line == b"fail\n" {
                    return Err(std::io::Error::other("failed as asked"));
                }
                writer.write(&line)
            };
            let server = start_server(handler, LOCAL).await.unwrap();
            for text in ["panic\n", "fail\n"] {
                let (mut reader, writer) = connect(&server).await;
                writer.write(text.as_bytes()).unwrap();
                assert_eq!(reader.readline().await.unwrap(), b"", "the connection ends");
            }
            check_echo(&mut connect(&server).await, "and the server lives on").await;
            eventually_async("both are reported", || reports.all().len() == 2).await;
            let texts: Vec<String> = reports.all().iter().map(ToString::to_string).collect();
            assert!(texts.iter().any(|text| text.contains("never retrieved") && text.contains("as asked")), "{texts:?}");
            let failed = "Unhandled exception in client_connected_cb: failed as asked";
            assert!(texts.iter().any(|text| text == failed), "{texts:?}");
            eventually_async("all have left", || server.client_count() == 0).await;
        });
        drop(rt);
        assert_eq!(reports.all().len(), 2);
    }

    fn options_reach_the_clients(rt: Runtime) {
        rt.block_on(async {
            let handler = async |reader: StreamReader, writer: StreamWriter| {
                let Socket::Tcp(stream) = writer.socket() else { panic!() };
                let (high, low) = writer.write_buffer_limits();
                let text = format!("{} {high} {low} {}\n", reader.limit(), stream.nodelay()?);
                writer.write(text.as_bytes())
            };
            let options = ServerOptions::new().limit(123).write_buffer_limits(456, 45).reuse_port(true);
            let server = options.start(handler, LOCAL).await.unwrap();
            // With reuse_port, a second one may have the same address.
            let second = options.start(handler, server.local_addrs()[0]).await.unwrap();
            assert_eq!(second.local_addrs(), server.local_addrs());
            assert_eq!(connect(&server).await.0.readline().await.unwrap(), b"123 456 45 true\n");
            let error = start_server(handler, server.local_addrs()[0]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
        });
    }

    fn a_name_stands_for_all_of_its_addresses(rt: Runtime) {
        rt.block_on(async {
            let wanted = ["127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
            let server = start_server(echo, wanted).await.unwrap();
            let addrs = server.local_addrs();
            assert_eq!(addrs.len(), 2, "the one that was named twice is one");
            assert_eq!(addrs[0].port(), addrs[1].port());
            for addr in addrs {
                check_echo(&mut open_connection(addr).await.unwrap(), "hello").await;
            }
            // An address of another machine's is passed over, unless it is the only one.
            let absent = "192.0.2.1:0".parse().unwrap();
            let server = start_server(echo, [absent, wanted[0]]).await.unwrap();
            assert_eq!(server.local_addrs().len(), 1);
            assert_eq!(start_server(echo, absent).await.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
            // Names are looked up.
            let server = start_server(echo, "localhost:0").await.unwrap();
            let port = server.local_addrs()[0].port();
            check_echo(&mut open_connection(("localhost", port)).await.unwrap(), "hello").await;
        });
    }

    // ----------------------------------------------------------------------------------------------------- ending

    fn n79_close_stops_accepting_only(rt: Runtime) {
        rt.block_on(async {
            let path = SocketPath::new();
            for server in servers(&path).await {
                let mut client = connect(&server).await;
                check_echo(&mut client, "before").await;
                assert!(server.is_serving());
                server.close();
                assert!(!server.is_serving());
                assert!(is_refused(&server).await);
                check_echo(&mut client, "after").await;
                assert_eq!(server.client_count(), 1);
                server.close();
                assert_eq!(server.start_serving().unwrap_err().kind(), ErrorKind::NotConnected);
                assert_eq!(server.serve_forever().await.unwrap_err().kind(), ErrorKind::NotConnected);
            }
        });
    }

    fn n79_wait_closed_waits_for_closed_and_no_clients(rt: Runtime) {
        rt.block_on(async {
            let path = SocketPath::new();
            for server in servers(&path).await {
                // No clients, but not closed.
                assert!(timeout(5 * MS, server.wait_closed()).await.is_err());
                let mut client = connect(&server).await;
                check_echo(&mut client, "hello").await;
                server.close();
                // Closed, but not without clients.
                assert!(timeout(20 * MS, server.wait_closed()).await.is_err());
                let server = Arc::new(server);
                let waiting: Vec<_> = (0..3)
                    .map(|_| {
                        let server = server.clone();
                        spawn(async move { server.wait_closed().await })
                    })
                    .collect();
                check_echo(&mut client, "still here").await;
                drop(client);
                for wait in waiting {
                    wait.await.unwrap();
                }
                server.wait_closed().await;
            }
        });
    }

    fn n79_after_wait_closed_the_address_is_free(rt: Runtime) {
        rt.block_on(async {
            let mut addr = LOCAL.parse().unwrap();
            for _ in 0..30 {
                let server = start_server(echo, addr).await.unwrap();
                addr = server.local_addrs()[0];
                server.close();
                server.wait_closed().await;
                // Without SO_REUSEADDR this works only if no socket has it.
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.bind(&addr.into()).unwrap();
            }
        });
    }

    fn n79_close_clients_flushes_first(rt: Runtime) {
        const BYTES: usize = 8 << 20;
        rt.block_on(async {
            let ended = DropProbe::new();
            let probe = ended.clone();
            let handler = move |mut reader: StreamReader, writer: StreamWriter| {
                let guard = probe.guard();
                async move {
                    writer.write(&vec![5; BYTES]).unwrap();
                    assert_eq!(reader.read_to_end().await.unwrap(), b"");
                    drop((writer, guard));
                }
            };
            let server = start_server(handler, LOCAL).await.unwrap();
            let (mut first, _writer) = connect(&server).await;
            let (mut second, _other_writer) = connect(&server).await;
            first.readexactly(1).await.unwrap();
            second.readexactly(1).await.unwrap();
            server.close_clients();
            assert!(server.is_serving());
            assert_eq!(server.client_count(), 2, "there is still something to be sent");
            assert_eq!(first.read_to_end().await.unwrap().len(), BYTES - 1);
            assert_eq!(second.read_to_end().await.unwrap().len(), BYTES - 1);
            eventually_async("both have left", || server.client_count() == 0).await;
            server.close();
            server.wait_closed().await;
            eventually_async("the handlers have ended", || ended.count() == 2).await;
        });
    }

    fn n79_abort_clients_does_not(rt: Runtime) {
        rt.block_on(async {
            let handler = async |_reader: StreamReader, writer: StreamWriter| {
                writer.write(&vec![5; 8 << 20]).unwrap();
                // This one does not care about the connection at all.
                pending::<()>().await;
            };
            let server = start_server(handler, LOCAL).await.unwrap();
            let (mut reader, _writer) = connect(&server).await;
            reader.readexactly(1).await.unwrap();
            server.close();
            assert!(timeout(20 * MS, server.wait_closed()).await.is_err());
            server.abort_clients();
            server.wait_closed().await;
            let error = reader.read_to_end().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
    }

    fn n79_dropping_serve_forever_closes(rt: Runtime) {
        rt.block_on(async {
            let server = ServerOptions::new().start_serving(false).start(echo, LOCAL).await.unwrap();
            assert!(!server.is_serving() && is_refused(&server).await);
            {
                let mut serving = pin!(server.serve_forever());
                assert!(poll_once(serving.as_mut()).await.is_none());
                assert!(server.is_serving());
                check_echo(&mut connect(&server).await, "hello").await;
            }
            assert!(!server.is_serving() && is_refused(&server).await);

            // Cancelling the task it runs in does the same; closing ends it.
            let later = ServerOptions::new().start_serving(false);
            let server = Arc::new(later.start(echo, LOCAL).await.unwrap());
            let serving = server.clone();
            let task = spawn(async move { serving.serve_forever().await });
            eventually_async("it has begun", || server.is_serving()).await;
            check_echo(&mut connect(&server).await, "hello").await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
            eventually_async("it is closed", || !server.is_serving()).await;
            let server = Arc::new(start_server(echo, LOCAL).await.unwrap());
            let serving = server.clone();
            let task = spawn(async move { serving.serve_forever().await });
            yield_now().await;
            server.close();
            let _ = task.await.unwrap();
        });
    }

    fn n79_dropping_a_server_closes_it(rt: Runtime) {
        rt.block_on(async {
            let path = SocketPath::new();
            for server in servers(&path).await {
                let (addrs, unix) = (server.local_addrs().to_vec(), server.path().is_some());
                let mut client = connect(&server).await;
                check_echo(&mut client, "before").await;
                drop(server);
                match unix {
                    true => assert!(open_unix_connection(&path.0).await.is_err() && !path.0.exists()),
                    false => assert!(open_connection(&addrs[..]).await.is_err()),
                }
                check_echo(&mut client, "after").await;
            }
        });
    }

    fn n79_a_unix_socket_is_removed_only_if_it_is_still_ours(rt: Runtime) {
        rt.block_on(async {
            let path = SocketPath::new();
            let server = start_unix_server(echo, &path.0).await.unwrap();
            assert!(path.0.exists());
            server.close();
            assert!(!path.0.exists());

            // Replaced by another server: that one's stays.
            let first = start_unix_server(echo, &path.0).await.unwrap();
            let second = start_unix_server(echo, &path.0).await.unwrap();
            first.close();
            first.wait_closed().await;
            assert!(path.0.exists());
            check_echo(&mut connect(&second).await, "the second").await;
            // Replaced by a file.
            std::fs::remove_file(&path.0).unwrap();
            std::fs::write(&path.0, "precious").unwrap();
            drop(second);
            assert_eq!(std::fs::read(&path.0).unwrap(), b"precious");
            // Which no server replaces.
            let error = start_unix_server(echo, &path.0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert_eq!(std::fs::read(&path.0).unwrap(), b"precious");
            std::fs::remove_file(&path.0).unwrap();
            // What a server left that was killed is.
            drop(StdUnixListener::bind(&path.0).unwrap());
            let server = start_unix_server(echo, &path.0).await.unwrap();
            check_echo(&mut connect(&server).await, "a new one").await;
            // Removed by others: nothing to do.
            std::fs::remove_file(&path.0).unwrap();
            server.close();
        });
    }

    fn closing_before_serving_and_twice_is_fine(rt: Runtime) {
        rt.block_on(async {
            let server = ServerOptions::new().start_serving(false).start(echo, LOCAL).await.unwrap();
            server.close();
            server.wait_closed().await;
            server.close();
            server.wait_closed().await;
            assert!(is_refused(&server).await);
            // Closed before the task that accepts has had its first turn.
            let server = start_server(echo, LOCAL).await.unwrap();
            server.close();
            server.wait_closed().await;
            assert!(is_refused(&server).await);
        });
    }

    fn the_end_of_the_runtime_is_the_end_of_its_servers(flavour: Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        let _ = flavour;
        let (path, probe, begun) = (SocketPath::new(), DropProbe::new(), Flag::new());
        let (noting, beginning) = (probe.clone(), begun.clone());
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            let guard = noting.guard();
            beginning.set();
            async move {
                writer.write(&vec![0; 4 << 20]).unwrap();
                pending::<()>().await;
                drop((reader, writer, guard));
            }
        };
        let (server, _client) = rt.block_on(async {
            let server = start_unix_server(handler, &path.0).await.unwrap();
            let client = connect(&server).await;
            begun.wait().await;
            (server, client)
        });
        drop(rt);
        assert_eq!(probe.count(), 1);
        server.close();
        assert!(!path.0.exists());
        let other = Runtime::builder().worker_threads(1).build().unwrap();
        other.block_on(timeout(common::PATIENCE, server.wait_closed())).unwrap();
        assert!(reports.all().is_empty(), "{:?}", reports.all());
    }
}

#[test]
fn a_loop_without_a_runtime_serves() {
    common::with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let done = event_loop.run_until_complete(async {
            let server = ServerOptions::new().per_loop(true).start(echo, LOCAL).await.unwrap();
            check_echo(&mut connect(&server).await, "alone").await;
            server.close();
            server.wait_closed().await;
        });
        assert!(done.is_ok());
    });
}
