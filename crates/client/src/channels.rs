//! Connections, opened at first use and kept: a query then costs no handshake.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use polybolos_env::{
    Env,
    grpc::{self, CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
};
use tokio::sync::OnceCell;
use tonic::transport::Channel;

use crate::limits::MAX_CHANNELS;

/// Streams that share a connection: as many as its window has room for. A stream whose reader waits fills its own
/// window, and one more than these would starve all others on the connection.
const STREAMS_PER_CONNECTION: usize = (CONNECTION_WINDOW_BYTES / STREAM_WINDOW_BYTES) as usize;

/// Connections by address. A channel connects anew by itself after a break.
pub(crate) struct Channels {
    env: Env,
    by_address: Mutex<BTreeMap<String, Vec<Arc<Connection>>>>,
}

#[derive(Default)]
struct Connection {
    channel: OnceCell<Channel>,
    streams: AtomicUsize,
    failed: AtomicBool,
}

/// The place of a stream, or of short calls, on a connection.
pub(crate) struct Lease(Arc<Connection>);

impl Lease {
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

impl Channels {
    pub(crate) fn new(env: Env) -> Self {
        Self { env, by_address: Mutex::default() }
    }

    /// For short calls, which share one connection. The error is a text: what failed is the connection to `address`,
    /// and the caller says what it was for.
    pub(crate) async fn get(&self, address: &str) -> Result<Channel, String> {
        let connection = self.connection(address, usize::MAX);
        self.connected(&connection, address).await
    }

    /// For a stream that its reader may let wait. The place is free again when the lease is dropped.
    pub(crate) async fn lease(&self, address: &str) -> Result<(Channel, Lease), String> {
        let lease = self.connection(address, STREAMS_PER_CONNECTION);
        let channel = self.connected(&lease, address).await?;
        Ok((channel, lease))
    }

    /// The next use connects anew.
    pub(crate) fn forget(&self, address: &str) {
        self.lock().remove(address);
    }

    async fn connected(&self, lease: &Lease, address: &str) -> Result<Channel, String> {
        let connected = lease.0.channel.get_or_try_init(|| grpc::connect(&self.env.net, address)).await;
        connected.cloned().map_err(|error| describe(&error))
    }

    fn connection(&self, address: &str, most_streams: usize) -> Lease {
        let mut by_address = self.lock();
        let total: usize = by_address.values().map(Vec::len).sum();
        if total >= MAX_CHANNELS {
            by_address.retain(|_, connections| {
                connections.retain(|connection| connection.streams.load(Ordering::Acquire) > 0);
                !connections.is_empty()
            });
        }
        let connections = by_address.entry(address.to_owned()).or_default();
        connections.retain(|connection| !connection.failed.load(Ordering::Acquire));
        let free = connections.iter().find(|one| one.streams.load(Ordering::Acquire) < most_streams);
        let connection = free.cloned().unwrap_or_else(|| {
            let connection = Arc::<Connection>::default();
            connections.push(Arc::clone(&connection));
            connection
        });
        // Under the lock, so that no two take the same place.
        connection.streams.fetch_add(1, Ordering::AcqRel);
        Lease(connection)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Arc<Connection>>>> {
        // The map is whole at every unlock.
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes: tonic's own text is only "transport error".
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
