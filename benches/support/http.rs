//! hyper's HTTP/1.1 over any runtime's stream, through one adapter for all of them.
//!
//! The point is the runtime under hyper, so nobody's own integration is used. Owner-only: one connection is one task.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::Rt;

/// What a load generator sends.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct HyperIo<R: Rt>(R::Stream);

impl<R: Rt> Read for HyperIo<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut received = [0; 1024];
        let wanted = buf.remaining().min(received.len());
        let len = ready!(R::poll_read(&mut self.0, cx, &mut received[..wanted]))?;
        buf.put_slice(&received[..len]);
        Poll::Ready(Ok(()))
    }
}

impl<R: Rt> Write for HyperIo<R> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        R::poll_write(&mut self.0, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The stream is dropped next, which shuts it down.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub async fn serve<R: Rt>(conn: R::Conn) {
    let stream = R::open(conn).await.expect("cannot open the connection");
    // It ends with an error when the load generator hangs up in the middle of a request; that is no news.
    let _ = http1::Builder::new().serve_connection(HyperIo::<R>(stream), service_fn(answer)).await;
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"Hello, world!\n"))))
}
