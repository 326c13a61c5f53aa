//! What goes out over the stream.

use polybolos_proto::v1::{ExecutorMessage, Heartbeat, TaskReports, executor_message::Message};
use prost::Message as _;
use tokio::{sync::mpsc, time::Interval};

use super::Node;
use crate::wire;

/// One message carries at most this many bytes of reports, and at least one report.
const MAX_REPORTS_BYTES: usize = 4 * 1024 * 1024;

impl Node {
    pub(super) fn send_heartbeat(&mut self) {
        let (Some(session), Some(incarnation)) = (&self.session, self.core.incarnation()) else { return };
        let beat = Heartbeat {
            incarnation: incarnation.0,
            memory_used_bytes: self.tools.runtime.memory_used_bytes(),
            shuffle_bytes: self.tools.store.bytes(),
            running_tasks: u32::try_from(self.core.busy_slots()).unwrap_or(u32::MAX),
            refused_commands: self.core.refused_commands(),
        };
        if session.outbox.try_send(ExecutorMessage { message: Some(Message::Heartbeat(beat)) }).is_err() {
            tracing::warn!("a heartbeat was left out: the scheduler does not read its stream");
        }
    }

    /// Sends what fits one message; the rest follows when there is room again.
    pub(super) fn send_reports(&mut self) {
        let (Some(session), Some(incarnation)) = (&self.session, self.core.incarnation()) else { return };
        let Ok(permit) = session.outbox.try_reserve() else { return };
        let mut reports = Vec::new();
        let mut bytes = 0;
        while bytes < MAX_REPORTS_BYTES
            && let Some(report) = self.core.ledger().next_unsent()
        {
            let report = wire::report(report);
            bytes += report.encoded_len();
            reports.push(report);
        }
        let reports = TaskReports { incarnation: incarnation.0, reports };
        let message = ExecutorMessage { message: Some(Message::Reports(reports)) };
        let again = polybolos_model::buggify!("executor.report_twice").then(|| message.clone());
        permit.send(message);
        if let Some(message) = again {
            // Without room it comes once.
            let _ = session.outbox.try_send(message);
        }
    }
}

pub(super) async fn beat(heartbeat: Option<&mut Interval>) {
    match heartbeat {
        Some(interval) => {
            interval.tick().await;
        }
        None => futures::future::pending().await,
    }
}

/// Waits for room in the outbox. Without a stream, or once it has broken (the link will tell), for ever.
pub(super) async fn room(outbox: Option<&mpsc::Sender<ExecutorMessage>>) {
    if let Some(outbox) = outbox
        && outbox.reserve().await.is_ok()
    {
        return;
    }
    futures::future::pending().await
}
