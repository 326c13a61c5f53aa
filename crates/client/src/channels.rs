//! Connections, opened at first use and kept: a query then costs no handshake.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use polybolos_env::{Env, grpc};
use tokio::sync::OnceCell;
use tonic::transport::Channel;

use crate::limits::MAX_CHANNELS;

type Slots = BTreeMap<String, Arc<OnceCell<Channel>>>;

/// One channel an address. A channel connects anew by itself after a break.
pub(crate) struct Channels {
    env: Env,
    slots: Mutex<Slots>,
}

impl Channels {
    pub(crate) fn new(env: Env) -> Self {
        Self { env, slots: Mutex::default() }
    }

    /// The error is a text: what failed is the connection to `address`, and the caller says what it was for.
    pub(crate) async fn get(&self, address: &str) -> Result<Channel, String> {
        let slot = self.slot(address);
        let connected = slot.get_or_try_init(|| grpc::connect(&self.env.net, address)).await;
        connected.cloned().map_err(|error| describe(&error))
    }

    /// The next use connects anew.
    pub(crate) fn forget(&self, address: &str) {
        self.lock().remove(address);
    }

    fn slot(&self, address: &str) -> Arc<OnceCell<Channel>> {
        let mut slots = self.lock();
        if slots.len() >= MAX_CHANNELS && !slots.contains_key(address) {
            // Whoever uses a channel holds a clone of it, which stays open.
            slots.clear();
        }
        Arc::clone(slots.entry(address.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // The map is whole at every unlock.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
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
