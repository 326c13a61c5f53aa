//! Connections to other executors, shared by all readers of a process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow_flight::flight_service_client::FlightServiceClient;
use polybolos_env::{
    Env, Net, Random,
    grpc::{self, CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
};
use polybolos_model::limits::MAX_MESSAGE_BYTES;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};
use tonic::transport::Channel;

use crate::{FetchError, locked};

/// Streams that share a connection: as many as its window has room for, so that streams whose readers pause can fill
/// their own windows and never starve another. (Readers of one join wait for each other: that would be a deadlock.)
const STREAMS_PER_CONNECTION: usize = (CONNECTION_WINDOW_BYTES / STREAM_WINDOW_BYTES) as usize;
/// Connections kept while nobody uses them, over all addresses.
const MAX_IDLE_CONNECTIONS: usize = 256;
/// Fetches of a pool that wait for a connection or their first message. Only those: a stream that is open may wait for
/// its reader, and must not keep the reader of another from opening.
const MAX_OPENING: usize = 64;
/// Connecting, with the handshake of HTTP/2.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Deadlines and retries of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// From the request to the first message.
    pub first_message: Duration,
    /// From one message to the next, while the reader waits.
    pub next_message: Duration,
    /// Tries at a source before its first batch was handed on.
    pub attempts: u32,
    /// Before the second try; doubled for each later one, and drawn from the upper half.
    pub back_off: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            first_message: Duration::from_secs(15),
            next_message: Duration::from_secs(15),
            attempts: 3,
            back_off: Duration::from_millis(50),
        }
    }
}

struct Connection {
    client: FlightServiceClient<Channel>,
    streams: AtomicUsize,
    failed: AtomicBool,
}

impl Connection {
    fn idle(&self) -> bool {
        self.streams.load(Ordering::Acquire) == 0
    }
}

/// The connections to one address, while the same executor is there.
#[derive(Default)]
pub(crate) struct Peer {
    lost: watch::Sender<bool>,
    /// One at a time connects; the others then find its connection.
    connecting: tokio::sync::Mutex<()>,
    connections: Mutex<Vec<Arc<Connection>>>,
}

impl Peer {
    /// Waits until the cluster has lost the executor; maybe for ever.
    pub(crate) async fn is_lost(&self) {
        // The sender lives as long as `self`.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }

    /// A place on a connection that has one.
    fn lease(&self) -> Option<Lease> {
        let mut connections = locked(&self.connections);
        connections.retain(|connection| !connection.failed.load(Ordering::Acquire));
        let free = connections
            .iter()
            .find(|connection| connection.streams.load(Ordering::Acquire) < STREAMS_PER_CONNECTION)?;
        Some(Lease::new(free))
    }
}

/// The place of one stream on a connection.
pub(crate) struct Lease(Arc<Connection>);

impl Lease {
    // Called under the lock of the peer's connections, so that no two take the same place.
    fn new(connection: &Arc<Connection>) -> Self {
        connection.streams.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(connection))
    }

    pub(crate) fn client(&self) -> FlightServiceClient<Channel> {
        self.0.client.clone()
    }

    /// Nobody else gets a place on this connection.
    pub(crate) fn give_up_connection(&self) {
        self.0.failed.store(true, Ordering::Release);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Reads outputs of other executors.
pub struct FlightPool {
    net: Arc<dyn Net>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) limits: FetchLimits,
    /// Where connections are driven: the runtime that made the pool, not the one that executes plans.
    runtime: Option<Handle>,
    pub(crate) opening: Semaphore,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
}

impl std::fmt::Debug for FlightPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlightPool").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl FlightPool {
    /// Call it inside the runtime that should drive the connections: the network's, not that of CPU work.
    pub fn new(env: &Env, limits: FetchLimits) -> Arc<Self> {
        Arc::new(Self {
            net: Arc::clone(&env.net),
            random: Arc::clone(&env.random),
            limits,
            runtime: Handle::try_current().ok(),
            opening: Semaphore::new(MAX_OPENING),
            peers: Mutex::default(),
        })
    }

    pub(crate) fn peer(&self, address: &str) -> Arc<Peer> {
        Arc::clone(locked(&self.peers).entry(address.to_owned()).or_default())
    }

    /// Ends what is being fetched from there. An executor that is lost because it hangs would keep its readers waiting
    /// until a time-out. Whoever fetches from the same address later connects anew.
    pub fn lose(&self, address: &str) {
        if let Some(peer) = locked(&self.peers).remove(address) {
            peer.lost.send_replace(true);
        }
    }

    /// A place on a connection to `peer`; connects when all are full.
    pub(crate) async fn lease(&self, peer: &Peer, address: &str) -> Result<Lease, FetchError> {
        if let Some(lease) = peer.lease() {
            return Ok(lease);
        }
        let _turn = peer.connecting.lock().await;
        if let Some(lease) = peer.lease() {
            return Ok(lease);
        }
        let client = self.connect(address).await?;
        let connection =
            Arc::new(Connection { client, streams: AtomicUsize::new(0), failed: AtomicBool::new(false) });
        let lease = {
            let mut connections = locked(&peer.connections);
            connections.push(Arc::clone(&connection));
            Lease::new(&connection)
        };
        self.drop_idle();
        Ok(lease)
    }

    async fn connect(&self, address: &str) -> Result<FlightServiceClient<Channel>, FetchError> {
        let stopping = || FetchError::Stopping { address: address.to_owned() };
        let runtime = match &self.runtime {
            Some(runtime) => runtime.clone(),
            None => Handle::try_current().map_err(|_| stopping())?,
        };
        let (net, target) = (Arc::clone(&self.net), address.to_owned());
        let connecting = runtime
            .spawn(async move { tokio::time::timeout(CONNECT_DEADLINE, grpc::connect(&net, &target)).await });
        match connecting.await {
            Ok(Ok(Ok(channel))) => Ok(FlightServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES)),
            Ok(Ok(Err(source))) => Err(FetchError::Connect { address: address.to_owned(), source }),
            Ok(Err(_)) => {
                Err(FetchError::ConnectTimeout { address: address.to_owned(), deadline: CONNECT_DEADLINE })
            }
            Err(_) => Err(stopping()),
        }
    }

    /// Keeps the number of connections bounded: when there are too many, those that nobody uses go.
    fn drop_idle(&self) {
        let mut peers = locked(&self.peers);
        let total: usize = peers.values().map(|peer| locked(&peer.connections).len()).sum();
        if total <= MAX_IDLE_CONNECTIONS {
            return;
        }
        peers.retain(|_, peer| {
            let mut connections = locked(&peer.connections);
            connections.retain(|connection| !connection.idle());
            !connections.is_empty() || peer.connecting.try_lock().is_err()
        });
    }
}
