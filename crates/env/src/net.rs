//! Connecting and listening.

use std::{io, net::SocketAddr};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub type BoxIo = Box<dyn Io>;

/// A network. Addresses are `HOST:PORT`.
#[async_trait]
pub trait Net: Send + Sync {
    /// Port 0 picks a free one; [`Listener::local_addr`] tells which.
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>>;

    /// Has no deadline of its own: the caller sets one.
    async fn connect(&self, address: &str) -> io::Result<BoxIo>;
}

/// Accepts connections until dropped.
#[async_trait]
pub trait Listener: Send {
    async fn accept(&mut self) -> io::Result<BoxIo>;

    fn local_addr(&self) -> io::Result<SocketAddr>;
}

pub(crate) struct TokioNet;

#[async_trait]
impl Net for TokioNet {
    #[allow(clippy::disallowed_methods, reason = "the production side of the seam")]
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(TokioListener(TcpListener::bind(address).await?)))
    }

    #[allow(clippy::disallowed_methods, reason = "the production side of the seam")]
    async fn connect(&self, address: &str) -> io::Result<BoxIo> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

struct TokioListener(TcpListener);

#[async_trait]
impl Listener for TokioListener {
    async fn accept(&mut self) -> io::Result<BoxIo> {
        let (stream, _) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
