//! asyncio's streams: a [`StreamReader`] and a [`StreamWriter`] for each connection, and servers with a task per client.
//!
//! | asyncio | here |
//! |---|---|
//! | `open_connection`, `open_unix_connection` | [`open_connection`], [`open_unix_connection`], [`OpenOptions`] |
//! | `open_connection(sock=..)` | [`split`] |
//! | `happy_eyeballs_delay`, `interleave` | [`OpenOptions::happy_eyeballs_delay`], on by default |
//! | `start_server`, `start_unix_server` | [`start_server`], [`start_unix_server`], [`ServerOptions`] |
//! | `Server` | [`Server`], with all of its methods; `sockets` is [`Server::local_addrs`] |
//! | `reader.read(n)`, `read(-1)` | [`StreamReader::read`], [`StreamReader::read_to_end`] |
//! | `readline`, `readexactly`, `readuntil`, `at_eof` | the same |
//! | `async for line in reader` | [`StreamReader::each_line`] |
//! | `feed_data`, `feed_eof` | [`StreamReader::new`], of anything to read from |
//! | `writer.write`, `writelines`, `drain`, `write_eof`, `close`, `wait_closed`, `is_closing` | the same |
//! | `transport.abort`, `get_write_buffer_size`, `set_write_buffer_limits` | the same, on [`StreamWriter`] |
//! | `get_extra_info` | [`StreamWriter::peer_addr`], [`local_addr`](StreamWriter::local_addr), [`socket`](StreamWriter::socket) |
//! | `start_tls` | [`StreamWriter::reunite`], and a TLS crate |
//! | `IncompleteReadError`, `LimitOverrunError` | the same, in a [`ReadError`] |
//! | `getaddrinfo` | [`net::lookup_host`](crate::net::lookup_host) |
//! | `create_datagram_endpoint(local_addr, remote_addr)` | [`net::UdpSocket::bind`](crate::net::UdpSocket::bind), [`connect`](crate::net::UdpSocket::connect) |
//!
//! *Plain sockets or streams?* A [`net::TcpStream`](crate::net::TcpStream) is the bare socket: it writes what fits and waits
//! for the rest. Streams put lines and limits on the reading side, and on the writing side a buffer that is filled without
//! waiting, by any number of tasks. They cost a buffer and two allocations a connection; a read or write is one system call,
//! as there.
//!
//! *Invariant*: [`crate::net`]'s public items do all of the work with sockets. *Threads*: any.
//! *Ordering*: that of each file's lock.

#![forbid(unsafe_code)]

mod monitor;

mod buffer;
mod error;
mod socket;

mod home;

mod connection;

mod lines;
mod reader;
mod writer;

mod handler;
mod open;
mod race;
mod server;
mod service;

pub use buffer::Separators;
pub use connection::Incoming;
pub use error::{IncompleteReadError, LimitOverrunError, ReadError};
pub use handler::HandlerOutput;
pub use lines::Lines;
pub use open::{OpenOptions, open_connection, open_unix_connection, split};
pub use reader::StreamReader;
pub use server::{Server, ServerOptions, start_server, start_unix_server};
pub use socket::Socket;
pub use writer::StreamWriter;
