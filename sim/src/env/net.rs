//! turmoil's network behind [`polybolos_env::Net`], with connections that break in the middle.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use polybolos_env::{BoxIo, Listener, Net};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
};
use turmoil::net::{TcpListener, TcpStream};

use crate::{
    moment::{NetKind, What},
    tape,
};

/// What is wrong with a host's connections. Clones are the same knobs.
#[derive(Debug, Clone)]
pub struct NetKnobs(Arc<Mutex<Cuts>>);

#[derive(Debug)]
struct Cuts {
    rate: f64,
    random: StdRng,
}

impl NetKnobs {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Cuts { rate: 0.0, random: StdRng::seed_from_u64(seed) })))
    }

    /// Share of writes at which the connection breaks.
    pub fn set_cut_rate(&self, rate: f64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rate = rate.clamp(0.0, 1.0);
    }

    /// After how many of `length` bytes a connection breaks now, if it does.
    fn cut(&self, length: usize) -> Option<usize> {
        let mut cuts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = cuts.rate;
        (rate > 0.0 && cuts.random.random_bool(rate)).then(|| cuts.random.random_range(0..=length))
    }
}

/// The network as one host sees it.
pub(super) struct TurmoilNet {
    host: Arc<str>,
    knobs: NetKnobs,
}

impl TurmoilNet {
    pub(super) fn new(host: &str, knobs: NetKnobs) -> Self {
        Self { host: host.into(), knobs }
    }
}

/// `HOST` of `HOST:PORT`, by name if it is an address.
fn name_of(address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let known = host.parse::<IpAddr>().ok().and_then(turmoil::reverse_lookup);
    known.unwrap_or_else(|| host.to_owned())
}

#[async_trait]
impl Net for TurmoilNet {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port: u16 =
            port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "expected HOST:PORT"))?;
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await?;
        let ip = turmoil::lookup(&*self.host);
        Ok(Box::new(SimListener { listener, ip, host: Arc::clone(&self.host), knobs: self.knobs.clone() }))
    }

    async fn connect(&self, address: &str) -> io::Result<BoxIo> {
        let peer = name_of(address);
        let began = turmoil::sim_elapsed();
        match TcpStream::connect(address).await {
            // turmoil refuses at once what a cut link drops. A real network says nothing then; only a host refuses.
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && turmoil::sim_elapsed() == began =>
            {
                let lost = What::Net { peer, kind: NetKind::Refused, bytes: 0 };
                tape::record_of(Arc::clone(&self.host), lost);
                Err(io::Error::new(io::ErrorKind::TimedOut, error))
            }
            Ok(stream) => Ok(Box::new(SimStream::new(stream, &self.host, peer, &self.knobs))),
            Err(error) => {
                let refused = What::Net { peer, kind: NetKind::Refused, bytes: 0 };
                tape::record_of(Arc::clone(&self.host), refused);
                Err(error)
            }
        }
    }
}

struct SimListener {
    listener: TcpListener,
    ip: IpAddr,
    host: Arc<str>,
    knobs: NetKnobs,
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&mut self) -> io::Result<BoxIo> {
        let (stream, peer) = self.listener.accept().await?;
        Ok(Box::new(SimStream::new(stream, &self.host, name_of(&peer.to_string()), &self.knobs)))
    }

    /// The host's address as others reach it: a simulated listener is always bound to all interfaces.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(self.ip, self.listener.local_addr()?.port()))
    }
}

/// One side of a connection.
struct SimStream {
    /// `None` once it is broken: dropping turmoil's side tells the peer.
    stream: Option<TcpStream>,
    host: Arc<str>,
    peer: String,
    knobs: NetKnobs,
}

impl SimStream {
    fn new(stream: TcpStream, host: &Arc<str>, peer: String, knobs: &NetKnobs) -> Self {
        let new = Self { stream: Some(stream), host: Arc::clone(host), peer, knobs: knobs.clone() };
        new.record(NetKind::Connected, 0);
        new
    }

    fn record(&self, kind: NetKind, bytes: usize) {
        tape::record_of(Arc::clone(&self.host), What::Net { peer: self.peer.clone(), kind, bytes });
    }

    fn poll<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.stream {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.stream.is_some()
            && let Some(sent) = self.knobs.cut(buf.len())
        {
            // The peer gets the beginning and then the end of the stream; this side an error.
            let _ = self.poll(|stream| stream.poll_write(cx, &buf[..sent]));
            self.stream = None;
            self.record(NetKind::Closed, sent);
        }
        let written = self.poll(|stream| stream.poll_write(cx, buf));
        if let Poll::Ready(Ok(bytes)) = written {
            self.record(NetKind::Sent, bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        // Not while a host is torn down: outside of a runtime nobody knows what time it is.
        if self.stream.is_some() && Handle::try_current().is_ok() {
            self.record(NetKind::Closed, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_stream_that_is_cut_is_dead_on_both_sides() -> turmoil::Result {
        let mut sim = turmoil::Builder::new().simulation_duration(Duration::from_secs(10)).build();
        sim.client("server", async {
            let net = TurmoilNet::new("server", NetKnobs::new(1));
            let mut connection = net.listen("server:7").await?.accept().await?;
            let mut got = Vec::new();
            connection.read_to_end(&mut got).await?;
            assert!(got.starts_with(b"whole") && got.len() <= 5 + 8, "{got:?}");
            Ok(())
        });
        sim.client("client", async {
            let knobs = NetKnobs::new(2);
            let net = TurmoilNet::new("client", knobs.clone());
            let mut connection = net.connect("server:7").await?;
            connection.write_all(b"whole").await?;
            knobs.set_cut_rate(1.0);
            let cut = connection.write_all(b"not this").await.map_err(|error| error.kind());
            assert_eq!(cut, Err(io::ErrorKind::ConnectionReset));
            knobs.set_cut_rate(0.0);
            assert!(connection.write_all(b"nor this").await.is_err());
            assert!(connection.read(&mut [0]).await.is_err());
            Ok(())
        });
        sim.run()
    }
}
