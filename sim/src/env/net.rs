//! turmoil's network behind [`polybolos_env::Net`].

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use async_trait::async_trait;
use polybolos_env::{BoxIo, Listener, Net};
use turmoil::net::{TcpListener, TcpStream};

/// The network as one host sees it.
pub(super) struct TurmoilNet {
    host: String,
}

impl TurmoilNet {
    pub(super) fn new(host: &str) -> Self {
        Self { host: host.to_owned() }
    }
}

#[async_trait]
impl Net for TurmoilNet {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port: u16 =
            port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "expected HOST:PORT"))?;
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await?;
        Ok(Box::new(SimListener { listener, ip: turmoil::lookup(self.host.as_str()) }))
    }

    async fn connect(&self, address: &str) -> io::Result<BoxIo> {
        Ok(Box::new(TcpStream::connect(address).await?))
    }
}

struct SimListener {
    listener: TcpListener,
    ip: IpAddr,
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&mut self) -> io::Result<BoxIo> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Box::new(stream))
    }

    /// The host's address as others reach it: a simulated listener is always bound to all interfaces.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(self.ip, self.listener.local_addr()?.port()))
    }
}
