//! tonic over the [`Net`] seam: channels that connect through it, servers that listen through it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::{Channel, Endpoint, Error, Uri, server::Connected};
use tower::service_fn;

use crate::{BoxIo, Listener, Net};

/// How long a TCP connect may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection without an answer to an HTTP/2 ping for this long is closed.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an idle connection is pinged.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// HTTP/2 window of a stream and of a connection: large enough that bulk data over loopback isn't window-bound.
pub const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
pub const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Largest HTTP/2 frame that this side accepts: the protocol's default of 16 KiB halves the speed of bulk data.
pub const MAX_FRAME_BYTES: u32 = 256 * 1024;

/// Connections that a server holds at once; one beyond it is closed at once. Each may cost a descriptor and some KiB.
pub const MAX_CONNECTIONS: usize = 8_192;
/// Within this time a client has to send HTTP/2's preface: only then pings find out whether it is there.
pub const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection whose other end takes nothing for so long is closed. It may go on to send, and then no ping finds it out.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that one connection may have under way, with those whose answers it has not taken yet.
pub const MAX_CALLS_PER_CONNECTION: u32 = 4_096;
/// Length of that preface: RFC 9113, 3.4.
const PREFACE_BYTES: usize = 24;

/// Connects to `HOST:PORT`.
///
/// # Errors
/// The address is malformed, refused, or silent for [`CONNECT_TIMEOUT`].
pub async fn connect(net: &Arc<dyn Net>, address: &str) -> Result<Channel, Error> {
    let net = Arc::clone(net);
    let target = address.to_owned();
    let connector = service_fn(move |_: Uri| {
        let (net, target) = (Arc::clone(&net), target.clone());
        async move { net.connect(&target).await.map(TokioIo::new) }
    });
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .connect_with_connector(connector)
        .await
}

/// A server with the same windows and keep-alives as [`connect`], for [`incoming`] connections.
pub fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(Some(MAX_FRAME_BYTES))
        // tonic would take any number.
        .max_concurrent_streams(MAX_CALLS_PER_CONNECTION)
}

/// The connections of `listener`, for tonic's `serve_with_incoming`. Ends when accepting fails for good. At most
/// [`MAX_CONNECTIONS`] are open, and each that is silent from the start for [`PREFACE_TIMEOUT`] ends in an error.
pub fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<ServerIo>> {
    let open = Arc::new(AtomicUsize::new(0));
    futures::stream::unfold((listener, open), |(mut listener, open)| async move {
        loop {
            match listener.accept().await {
                Ok(io) => match Open::admit(&open) {
                    Some(one) => return Some((Ok(ServerIo::new(io, one)), (listener, open))),
                    // Its end tells the other side. No warning, as a flood of them would fill the disk.
                    None => tracing::debug!("{MAX_CONNECTIONS} connections are open: one more is closed"),
                },
                // One connection was lost before it was accepted, or descriptors ran out: others may still come.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    })
}

/// One of [`MAX_CONNECTIONS`].
struct Open(Arc<AtomicUsize>);

impl Open {
    fn admit(open: &Arc<AtomicUsize>) -> Option<Self> {
        let others = open.fetch_add(1, Ordering::Relaxed);
        let one = Self(Arc::clone(open));
        (others < MAX_CONNECTIONS).then_some(one)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An accepted connection.
pub struct ServerIo {
    io: BoxIo,
    /// Until the preface has come: how much of it is missing, and when it is too late.
    silent: Option<(usize, Pin<Box<Sleep>>)>,
    /// While the other end takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
    _open: Open,
}

impl ServerIo {
    fn new(io: BoxIo, open: Open) -> Self {
        let silent = Some((PREFACE_BYTES, Box::pin(sleep(PREFACE_TIMEOUT))));
        Self { io, silent, stuck: None, _open: open }
    }

    /// Reads, and counts what of the preface has come.
    fn poll_preface(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let Some((missing, deadline)) = &mut self.silent else { return read };
        if read.is_pending() {
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no HTTP/2 preface came in time",
            )));
        }
        *missing = missing.saturating_sub(buf.filled().len() - before);
        if *missing == 0 {
            self.silent = None;
        }
        read
    }

    /// What came of writing, or an error when nothing could be written for [`WRITE_TIMEOUT`].
    fn watched<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let deadline = self.stuck.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other end takes nothing")))
    }
}

impl Connected for ServerIo {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.silent.is_some() {
            self.poll_preface(cx, buf)
        } else {
            Pin::new(&mut self.io).poll_read(cx, buf)
        }
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watched(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.io).poll_flush(cx);
        self.watched(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn accepted() -> (ServerIo, tokio::io::DuplexStream) {
        let (ours, theirs) = duplex(1_024);
        (ServerIo::new(Box::new(ours), Open::admit(&Arc::default()).unwrap()), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_preface_ends_and_one_with_it_stays() {
        let mut buffer = [0; 64];
        let (mut server, mut client) = accepted();
        client.write_all(b"PRI * HTTP").await.unwrap();
        assert_eq!(server.read(&mut buffer).await.unwrap(), 10);
        assert_eq!(server.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);

        let (mut server, mut client) = accepted();
        client.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        assert_eq!(server.read(&mut buffer).await.unwrap(), PREFACE_BYTES);
        let silence = tokio::time::timeout(PREFACE_TIMEOUT * 10, server.read(&mut buffer)).await;
        assert!(silence.is_err(), "pings look after it from here on");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (mut server, mut client) = accepted();
        let slow = tokio::spawn(async move {
            let mut taken = 0;
            while taken < 4_096 {
                tokio::time::sleep(WRITE_TIMEOUT / 2).await;
                taken += client.read(&mut [0; 512]).await.unwrap();
            }
            client
        });
        server.write_all(&[1; 4_096]).await.unwrap();
        let _client = slow.await.unwrap();
        server.write_all(&[1; 1_024]).await.unwrap();
        assert_eq!(server.write_all(&[1]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_connection_gives_its_place_back() {
        let open = Arc::default();
        let held: Vec<Open> = (0..MAX_CONNECTIONS).map_while(|_| Open::admit(&open)).collect();
        assert_eq!(held.len(), MAX_CONNECTIONS);
        assert!(Open::admit(&open).is_none());
        drop(held);
        assert!(Open::admit(&open).is_some());
    }
}
