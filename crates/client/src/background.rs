//! Calls whose outcome nobody waits for: releases and cancels of results that were left.

use std::{future::Future, sync::Arc};

use tokio::sync::watch;

use crate::limits::MAX_BACKGROUND_CALLS;

/// Counts what runs.
#[derive(Clone)]
pub(crate) struct Background(Arc<watch::Sender<usize>>);

impl Background {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Runs `work`, unless [`MAX_BACKGROUND_CALLS`] run already.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let started = self.0.send_if_modified(|running| {
            let room = *running < MAX_BACKGROUND_CALLS;
            *running += usize::from(room);
            room
        });
        if !started {
            tracing::warn!("too many calls in the background: a finished query waits for its expiry");
            return;
        }
        let ended = Ended(Arc::clone(&self.0));
        tokio::spawn(async move {
            let _ended = ended;
            work.await;
        });
    }

    /// Waits until nothing runs.
    pub(crate) async fn settle(&self) {
        // The sender lives in `self`, so the wait can't fail.
        let _ = self.0.subscribe().wait_for(|running| *running == 0).await;
    }
}

/// Counts down also when the work is dropped with its runtime.
struct Ended(Arc<watch::Sender<usize>>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running = running.saturating_sub(1));
    }
}
