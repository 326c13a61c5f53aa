//! Connections to the other replicas, and when each was last heard.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use polybolos_env::{Env, grpc};
use polybolos_model::ReplicaId;
use polybolos_proto::v1::replica_service_client::ReplicaServiceClient;
use tokio::time::{Instant, timeout};
use tonic::{Status, transport::Channel};

use crate::MAX_ENTRY_BYTES;

/// Largest message between replicas: one largest entry with what is around it.
pub(crate) const MAX_REPLICA_MESSAGE_BYTES: usize = MAX_ENTRY_BYTES + 16 * 1024 * 1024;

pub(crate) type PeerClient = ReplicaServiceClient<Channel>;

/// A call to a replica had no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("no connection to replica {id} at {address}: {reason}")]
    Connect { id: ReplicaId, address: String, reason: String },
    #[error("no answer from replica {id} at {address} within {waited_ms} ms")]
    Deadline { id: ReplicaId, address: String, waited_ms: u64 },
    #[error("replica {id} at {address} answered {}", .status.message())]
    Status { id: ReplicaId, address: String, status: Box<Status> },
}

/// What is known of a replica from talking to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contact {
    pub(crate) answered: Option<Instant>,
    /// Of the last call, if it failed.
    pub(crate) error: Option<String>,
}

/// One connection to each address, made at first use.
pub(crate) struct Peers {
    env: Env,
    channels: Mutex<BTreeMap<String, Channel>>,
    contacts: Mutex<BTreeMap<ReplicaId, Contact>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peers {
    pub(crate) fn new(env: &Env) -> Arc<Self> {
        Arc::new(Self { env: env.clone(), channels: Mutex::default(), contacts: Mutex::default() })
    }

    /// Calls a replica, connection and answer within `deadline`. A connection that did not answer is not used again: it
    /// may be stuck for good although its peer is well.
    pub(crate) async fn call<R, F, S>(
        &self,
        (id, address): (ReplicaId, &str),
        deadline: Duration,
        send: S,
    ) -> Result<R, PeerError>
    where
        S: FnOnce(PeerClient) -> F,
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let called = timeout(deadline, async {
            let channel = self.channel(id, address).await?;
            let client = ReplicaServiceClient::new(channel)
                .max_decoding_message_size(MAX_REPLICA_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_REPLICA_MESSAGE_BYTES);
            let status =
                |status| PeerError::Status { id, address: address.to_owned(), status: Box::new(status) };
            send(client).await.map(tonic::Response::into_inner).map_err(status)
        });
        let waited_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let deadline = PeerError::Deadline { id, address: address.to_owned(), waited_ms };
        let outcome = called.await.unwrap_or(Err(deadline));
        match &outcome {
            Err(PeerError::Deadline { .. }) => drop(lock(&self.channels).remove(address)),
            Ok(_) | Err(PeerError::Connect { .. } | PeerError::Status { .. }) => {}
        }
        self.note(id, outcome.as_ref().err());
        outcome
    }

    async fn channel(&self, id: ReplicaId, address: &str) -> Result<Channel, PeerError> {
        if let Some(channel) = lock(&self.channels).get(address) {
            return Ok(channel.clone());
        }
        let connected = grpc::connect(&self.env.net, address).await;
        let channel = connected.map_err(|error| PeerError::Connect {
            id,
            address: address.to_owned(),
            reason: with_causes(&error),
        })?;
        lock(&self.channels).insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    fn note(&self, id: ReplicaId, error: Option<&PeerError>) {
        let mut contacts = lock(&self.contacts);
        let contact = contacts.entry(id).or_default();
        match error {
            None => *contact = Contact { answered: Some(self.env.clock.now()), error: None },
            Some(error) => contact.error = Some(error.to_string()),
        }
    }

    pub(crate) fn contact(&self, id: ReplicaId) -> Contact {
        lock(&self.contacts).get(&id).cloned().unwrap_or_default()
    }
}

/// tonic's own text is only "transport error".
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
