//! Leaving: asking a scheduler to be drained, and taking over what others leave behind.
//!
//! ```text
//!   SIGTERM ─▶ ask, with each heartbeat ─▶ told to drain ─▶ told to leave ─▶ the process ends
//!                  │ nobody answers: PATIENCE     │ the deadline and GRACE are over ─┘
//!                  ╰──────────────────────────────┴─▶ leaves by itself, as a process that dies
//! ```

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use polybolos_model::AttemptId;
use polybolos_proto::v1::{DrainRequest, ExecutorMessage, PullFailed, executor_message::Message};
use polybolos_shuffle::Handover;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};

use super::Node;
use crate::core::Event;

/// How long a scheduler may take to answer a request to be drained. A change of the leader takes less.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after the deadline a scheduler may take to tell that it may leave: outputs on their way get some time, and
/// then a leader may just have changed.
const GRACE: Duration = Duration::from_secs(15);
/// Longer deadlines are cut, so that every moment can be told.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The process is to end.
pub(super) struct Leaving {
    /// When its tasks are stopped.
    until: Instant,
    /// A scheduler knows.
    is_taken_up: bool,
    /// Then it leaves by itself.
    over: Pin<Box<Sleep>>,
}

impl Leaving {
    /// For ever while it is not asked to leave.
    pub(super) async fn over(leaving: Option<&mut Self>) {
        match leaving {
            Some(leaving) => (&mut leaving.over).await,
            None => std::future::pending().await,
        }
    }
}

impl Node {
    /// Its owner wants it to leave.
    pub(super) fn leave_within(&mut self, deadline: Duration) {
        let now = self.tools.env.clock.now();
        let until = now + deadline.min(LONGEST);
        let drains = self.leaving.as_ref().is_some_and(|leaving| leaving.is_taken_up);
        let over = if drains { until + GRACE } else { now + PATIENCE };
        self.leaving = Some(Leaving { until, is_taken_up: false, over: Box::pin(sleep_until(over)) });
        tracing::info!(?deadline, "asking to be drained");
        self.ask_to_leave();
    }

    /// A scheduler has logged that it leaves, and will tell when it may.
    pub(super) fn drain(&mut self, deadline_ms: u64) {
        tracing::info!(deadline_ms, "draining: no new tasks, and outputs go to other executors");
        let until = self.tools.env.clock.now() + Duration::from_millis(deadline_ms).min(LONGEST);
        let over = Box::pin(sleep_until(until + GRACE));
        self.leaving = Some(Leaving { until, is_taken_up: true, over });
    }

    /// The leader may be another one, or know nothing of this life: it is asked again until it has said so.
    pub(super) fn unsure_of_leaving(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            leaving.is_taken_up = false;
        }
    }

    pub(super) fn ask_to_leave(&mut self) {
        let Some(leaving) = self.leaving.as_ref().filter(|leaving| !leaving.is_taken_up) else { return };
        let (Some(session), Some(incarnation)) = (&self.session, self.core.incarnation()) else { return };
        let left = leaving.until.saturating_duration_since(self.tools.env.clock.now());
        let deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let request = DrainRequest { incarnation: incarnation.0, deadline_ms };
        // Without room it is asked with the next heartbeat.
        let _ = session.outbox.try_send(ExecutorMessage { message: Some(Message::Drain(request)) });
    }

    /// Fetches the output in the background.
    pub(super) fn pull(&mut self, attempt: AttemptId, handover: Option<Handover>) {
        let Some(handover) = handover else { return };
        let (done, pulled) = oneshot::channel();
        let (store, pool) = (Arc::clone(&self.tools.store), Arc::clone(&self.tools.pool));
        let work = async move {
            let got = store.pull(&pool, &handover).await;
            if let Err(error) = &got {
                tracing::warn!(key = %handover.key, %error, "an output could not be taken over");
            }
            // The receiver is gone only with the node.
            let _ = done.send(got.is_ok());
        };
        let work = self.tools.env.cpu.spawn(Box::pin(work));
        let ended: BoxFuture<'static, (AttemptId, bool)> = Box::pin(async move {
            let ended = work.await.is_ok();
            (attempt, ended && pulled.await.unwrap_or(false))
        });
        self.pulling.push(ended);
    }

    pub(super) fn pulled(&mut self, attempt: AttemptId, whole: bool) {
        self.feed(Event::Pulled { attempt, whole }, None, None);
    }

    pub(super) fn tell_pull_failed(&self, attempt: AttemptId) {
        let Some(session) = &self.session else { return };
        let failed = PullFailed { attempt: Some(attempt.into()) };
        // A scheduler that does not hear of it asks another executor a little later.
        let _ = session.outbox.try_send(ExecutorMessage { message: Some(Message::PullFailed(failed)) });
    }
}
