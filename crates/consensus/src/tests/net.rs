//! A network in memory whose links can be cut, one direction at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use polybolos_env::{BoxIo, Listener, Net};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{mpsc, watch},
};

const PIPE_BYTES: usize = 256 * 1024;

/// From one address to another.
type Direction = (String, String);

/// All hosts, and what is between them. A cut link holds what was sent until it is mended.
pub(super) struct TestNet {
    hosts: Mutex<BTreeMap<String, mpsc::UnboundedSender<BoxIo>>>,
    cut: watch::Sender<BTreeSet<Direction>>,
    /// Raised by each death of a host: ends its connections.
    lives: watch::Sender<BTreeMap<String, u64>>,
}

impl TestNet {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            hosts: Mutex::default(),
            cut: watch::Sender::default(),
            lives: watch::Sender::default(),
        })
    }

    /// The network as the host at `address` sees it.
    pub(super) fn host(self: &Arc<Self>, address: &str) -> Arc<dyn Net> {
        Arc::new(Host { net: Arc::clone(self), me: address.to_owned() })
    }

    /// Cuts what `from` sends to `to`.
    pub(super) fn cut(&self, from: &str, to: &str) {
        self.cut.send_modify(|cut| {
            cut.insert((from.to_owned(), to.to_owned()));
        });
    }

    pub(super) fn mend(&self) {
        self.cut.send_modify(BTreeSet::clear);
    }

    /// Both directions between `host` and all `others`.
    pub(super) fn isolate(&self, host: &str, others: &[&str]) {
        for other in others {
            self.cut(host, other);
            self.cut(other, host);
        }
    }

    /// The host is gone: its connections close and new ones are refused, until it listens again.
    pub(super) fn kill(&self, host: &str) {
        self.hosts.lock().unwrap().remove(host);
        self.lives.send_modify(|lives| *lives.entry(host.to_owned()).or_default() += 1);
    }
}

struct Host {
    net: Arc<TestNet>,
    me: String,
}

#[async_trait]
impl Net for Host {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let (sender, incoming) = mpsc::unbounded_channel();
        self.net.hosts.lock().unwrap().insert(address.to_owned(), sender);
        Ok(Box::new(TestListener(incoming)))
    }

    async fn connect(&self, address: &str) -> io::Result<BoxIo> {
        let there = (self.me.clone(), address.to_owned());
        let back = (address.to_owned(), self.me.clone());
        let mut cut = self.net.cut.subscribe();
        // A handshake needs both directions.
        cut.wait_for(|cut| !cut.contains(&there) && !cut.contains(&back)).await.unwrap();
        let host = self.net.hosts.lock().unwrap().get(address).cloned();
        let host = host.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (mine, near) = tokio::io::duplex(PIPE_BYTES);
        let (theirs, far) = tokio::io::duplex(PIPE_BYTES);
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        let lives = self.net.lives.subscribe();
        let pump = |from, to, direction: Direction| {
            tokio::spawn(pump(from, to, direction, cut.clone(), lives.clone()));
        };
        pump(near_read, far_write, there);
        pump(far_read, near_write, back);
        host.send(Box::new(theirs)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(mine))
    }
}

type Pipe = tokio::io::DuplexStream;

async fn pump(
    mut from: ReadHalf<Pipe>,
    mut to: WriteHalf<Pipe>,
    direction: Direction,
    mut cut: watch::Receiver<BTreeSet<Direction>>,
    mut lives: watch::Receiver<BTreeMap<String, u64>>,
) {
    let of = |lives: &BTreeMap<String, u64>| {
        [&direction.0, &direction.1].map(|host| lives.get(host).copied().unwrap_or_default())
    };
    let born = of(&lives.borrow_and_update());
    let carry = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
            if cut.wait_for(|cut| !cut.contains(&direction)).await.is_err() {
                break;
            }
            if to.write_all(&buffer[..bytes]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = carry => {}
        _ = lives.wait_for(|lives| of(lives) != born) => {}
    }
    // The other side sees the end of the stream.
    let _closed = to.shutdown().await;
}

struct TestListener(mpsc::UnboundedReceiver<BoxIo>);

#[async_trait]
impl Listener for TestListener {
    async fn accept(&mut self) -> io::Result<BoxIo> {
        match self.0.recv().await {
            Some(io) => Ok(io),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
