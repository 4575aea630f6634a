//! monoio's echo server: one thread, nothing shared, on epoll as everybody here.
//!
//! monoio has no workers and spawns nothing from elsewhere, so it is no [`Rt`](super::Rt): like the bare loop it takes
//! part in the rows of one worker only. Owner-only: it runs on the thread that calls it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{LegacyDriver, RuntimeBuilder};

/// Serves echo connections for ever, after telling its address.
pub fn serve(tell: impl FnOnce(SocketAddr)) -> io::Result<()> {
    RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        tell(listener.local_addr()?);
        loop {
            let (conn, _) = listener.accept().await?;
            conn.set_nodelay(true)?;
            monoio::spawn(echo(conn));
        }
    })
}

async fn echo(mut conn: TcpStream) {
    let mut buf = Vec::with_capacity(1024);
    loop {
        let (len, received) = conn.read(buf).await;
        if !matches!(len, Ok(1..)) {
            break;
        }
        let (sent, rest) = conn.write_all(received).await;
        if sent.is_err() {
            break;
        }
        buf = rest;
    }
}
