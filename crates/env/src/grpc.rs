//! tonic over the [`Net`] seam: channels that connect through it, servers that listen through it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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

/// A server with the same windows and keep-alives as [`connect`].
pub fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(Some(MAX_FRAME_BYTES))
}

/// The connections of `listener`, for tonic's `serve_with_incoming`. Ends when accepting fails for good.
pub fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<ServerIo>> {
    futures::stream::unfold(listener, |mut listener| async move {
        loop {
            match listener.accept().await {
                Ok(io) => return Some((Ok(ServerIo(io)), listener)),
                // One connection was lost before it was accepted, or descriptors ran out: others may still come.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    })
}

/// An accepted connection.
pub struct ServerIo(BoxIo);

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
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
