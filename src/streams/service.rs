//! [`Service`]: what a server, the tasks that accept for it and its clients share.
//!
//! *Invariant.* It goes from bound to serving to closed, and never back. A listening socket is owned here and only borrowed
//! by the task that accepts from it, so that closing closes it at once. A client is one from its accepting until its
//! connection is over or dropped.
//!
//! *Threads.* Any. *Ordering.* The lock's. Connections, tasks and handlers are dropped outside of it.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use slab::Slab;

use super::connection::{Connection, Marks};
use super::home::Home;
use super::monitor::Monitor;
use super::{Incoming, Socket, StreamReader, StreamWriter};
use crate::net::{TcpListener, UnixListener};
use crate::scheduler::{report_error, yield_now};
use crate::task::Task;
use crate::time::sleep;

/// How many connections a listener accepts before other tasks get a turn.
const BATCH: usize = 16;

/// How long accepting pauses after an error that the listener has no remedy for; asyncio's `ACCEPT_RETRY_DELAY`.
const PAUSE: Duration = Duration::from_secs(1);

/// Hands a client to its handler's task.
pub(super) type Serve = dyn Fn(StreamReader, StreamWriter) + Send + Sync;

pub(super) struct Service {
    state: Monitor<State>,
    home: Home,
    limit: usize,
    marks: Marks,
    backlog: i32,
    per_loop: bool,
}

struct State {
    phase: Phase,
    doors: Vec<Door>,
    file: Option<SocketFile>,
    serve: Option<Arc<Serve>>,
    /// The tasks that accept, and how many of them have not ended.
    tasks: Vec<Task<()>>,
    acceptors: usize,
    clients: Slab<Weak<Connection>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Bound,
    Serving,
    Closed,
}

/// A socket to accept from.
enum Door {
    /// Not yet registered with a loop.
    Bound(socket2::Socket),
    /// Being registered.
    Taken,
    Open(Arc<Listener>),
}

/// A connection, and its peer if that has an address.
type Accepted = (Socket, Option<SocketAddr>);

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn register(socket: socket2::Socket) -> io::Result<Self> {
        Ok(match socket.local_addr()?.is_unix() {
            true => Self::Unix(UnixListener::from_std(socket.into())?),
            false => Self::Tcp(TcpListener::from_std(socket.into())?),
        })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        Poll::Ready(Ok(match self {
            Self::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                (stream.into(), Some(peer))
            }
            Self::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                (stream.into(), None)
            }
        }))
    }
}

/// A socket's name in the file system, removed when dropped, if it is still that socket's.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: inode(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// What a service is made of.
pub(super) struct Parts {
    pub(super) home: Home,
    pub(super) sockets: Vec<socket2::Socket>,
    pub(super) file: Option<SocketFile>,
    pub(super) serve: Arc<Serve>,
    pub(super) limit: usize,
    pub(super) marks: Marks,
    pub(super) backlog: i32,
    /// The sockets go to the loops in turn.
    pub(super) per_loop: bool,
}

impl Service {
    pub(super) fn new(parts: Parts) -> Arc<Self> {
        let Parts { home, sockets, file, serve, limit, marks, backlog, per_loop } = parts;
        let state = State {
            phase: Phase::Bound,
            doors: sockets.into_iter().map(Door::Bound).collect(),
            file,
            serve: Some(serve),
            tasks: Vec::new(),
            acceptors: 0,
            clients: Slab::new(),
        };
        Arc::new(Self { state: Monitor::new("server", state), home, limit, marks, backlog, per_loop })
    }

    /// Listens, and begins to accept; does nothing if that was done before.
    #[track_caller]
    pub(super) fn start(self: &Arc<Self>) -> io::Result<()> {
        let doors = self.state.with(|state| match state.phase {
            Phase::Closed => Err(io::Error::new(io::ErrorKind::NotConnected, "the server is closed")),
            Phase::Serving => Ok(0),
            Phase::Bound => {
                self.listen(&state.doors)?;
                state.phase = Phase::Serving;
                state.acceptors = state.doors.len();
                Ok(state.acceptors)
            }
        })?;
        let tasks: Vec<_> = (0..doors).map(|door| self.spawn_acceptor(door)).collect();
        let refused = self.state.with(|state| match state.phase {
            Phase::Closed => tasks,
            _ => {
                state.tasks.extend(tasks);
                Vec::new()
            }
        });
        cancel_all(&refused);
        Ok(())
    }

    /// Of several sockets on one address, the first listens without `SO_REUSEPORT`: that is granted to one server only. Then it is
    /// given the option, so that the others may join it.
    fn listen(&self, doors: &[Door]) -> io::Result<()> {
        let mut claimed = None;
        for door in doors {
            let Door::Bound(socket) = door else { continue };
            let addr = self.per_loop.then(|| socket.local_addr()).transpose()?;
            let joins = addr.is_some() && addr == claimed;
            if joins {
                socket.set_reuse_port(true)?;
            }
            socket.listen(self.backlog)?;
            if addr.is_some() && !joins {
                socket.set_reuse_port(true)?;
            }
            claimed = addr;
        }
        Ok(())
    }

    #[track_caller]
    fn spawn_acceptor(self: &Arc<Self>, door: usize) -> Task<()> {
        let acceptor = Acceptor { service: self.clone(), door };
        if !self.per_loop {
            return self.home.spawn(acceptor.run());
        }
        if self.home.is_here(door) {
            // At once: the task may begin elsewhere.
            acceptor.is_open();
        }
        self.home.spawn_on(door, acceptor.run())
    }

    /// Stops accepting.
    pub(super) fn close(&self) {
        let (file, doors, tasks, serve) = self.state.change(|state| {
            let first = state.phase != Phase::Closed;
            state.phase = Phase::Closed;
            let tasks = std::mem::take(&mut state.tasks);
            (first, (state.file.take(), std::mem::take(&mut state.doors), tasks, state.serve.take()))
        });
        // The file first: as long as the socket is there, nobody else can have been given its inode.
        drop(file);
        drop(doors);
        cancel_all(&tasks);
        drop(serve);
    }

    pub(super) fn is_serving(&self) -> bool {
        self.state.with(|state| state.phase == Phase::Serving)
    }

    pub(super) async fn until_closed(&self) {
        self.state.until(|state| (state.phase == Phase::Closed).then_some(())).await;
    }

    /// Closed, its sockets, too, and without clients.
    pub(super) async fn until_over(&self) {
        let over = |state: &mut State| state.phase == Phase::Closed && state.acceptors == 0 && state.clients.is_empty();
        self.state.until(|state| over(state).then_some(())).await;
    }

    pub(super) fn client_count(&self) -> usize {
        self.state.with(|state| state.clients.len())
    }

    pub(super) fn clients(&self) -> Vec<Arc<Connection>> {
        // Kept until after the lock: dropping the last reference takes it.
        self.state.with(|state| state.clients.iter().filter_map(|(_, client)| client.upgrade()).collect())
    }

    fn welcome(self: &Arc<Self>, socket: Socket, peer: Option<SocketAddr>) {
        let connection = Connection::new(socket.without_delay(), peer, self.marks);
        let entered = self.state.with(|state| {
            let serve = state.serve.clone()?;
            Some((state.clients.insert(Arc::downgrade(&connection)), serve))
        });
        // Closed in this moment: as if it had not been accepted any more.
        let Some((key, serve)) = entered else { return };
        connection.join(Membership { service: self.clone(), key });
        let reader = StreamReader::with_limit(self.limit, Incoming::new(connection.clone()));
        serve(reader, StreamWriter::new(connection));
    }
}

fn cancel_all(tasks: &[Task<()>]) {
    for task in tasks {
        task.cancel();
    }
}

/// Of a client: while it exists, the server waits for it.
pub(super) struct Membership {
    service: Arc<Service>,
    key: usize,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.service.state.change(|state| {
            state.clients.remove(self.key);
            (state.clients.is_empty(), ())
        });
    }
}

/// A task that accepts from one door.
struct Acceptor {
    service: Arc<Service>,
    door: usize,
}

impl Acceptor {
    async fn run(self) {
        if !self.is_open() {
            return;
        }
        let mut batch = 0;
        while let Some(accepted) = poll_fn(|cx| self.poll_accept(cx)).await {
            match accepted {
                Ok((socket, peer)) => self.service.welcome(socket, peer),
                Err(error) => {
                    report_error("accept() failed; the server pauses for a second", error);
                    sleep(PAUSE).await;
                }
            }
            batch += 1;
            if batch % BATCH == 0 {
                yield_now().await;
            }
        }
    }

    fn is_open(&self) -> bool {
        let opened = self.open();
        opened.map_err(|error| report_error("A server cannot accept on one of its sockets", error)).is_ok()
    }

    /// Registers the socket with this loop, if it is not with any.
    fn open(&self) -> io::Result<()> {
        let door = self.service.state.with(|state| match state.doors.get_mut(self.door)? {
            door @ Door::Bound(_) => Some(std::mem::replace(door, Door::Taken)),
            _ => None,
        });
        // None: open or closed already.
        let Some(Door::Bound(socket)) = door else { return Ok(()) };
        let mut open = Some(Door::Open(Arc::new(Listener::register(socket)?)));
        self.service.state.with(|state| {
            if let Some(door) = state.doors.get_mut(self.door) {
                *door = open.take().expect("it is put there once");
            }
        });
        Ok(())
    }

    /// None when the server is closed.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Accepted>>> {
        let listener = self.service.state.with(|state| match state.doors.get(self.door) {
            Some(Door::Open(listener)) => Some(listener.clone()),
            _ => None,
        });
        match listener {
            Some(listener) => listener.poll_accept(cx).map(Some),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let (door, last) = self.service.state.change(|state| {
            state.acceptors -= 1;
            // Not closed, it ends with the runtime: nobody is to connect and wait for an answer for ever.
            let door = state.doors.get_mut(self.door).map(|door| std::mem::replace(door, Door::Taken));
            (true, (door, state.acceptors == 0))
        });
        drop(door);
        if last {
            self.service.close();
        }
    }
}
