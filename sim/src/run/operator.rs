//! Who makes the tables before the clients begin, and changes the set of replicas and drains executors when a fault asks
//! for it.

use std::{sync::atomic::Ordering, time::Duration};

use polybolos_client::{Client, ClientError};
use polybolos_model::{ExecutorId, ReplicaId};

use super::hosts::Signals;
use crate::{
    faults::{AdminCall, Operator},
    moment::What,
    schedule::Schedule,
    tape, workload,
};

const RETRY: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(10);

pub(super) async fn work(
    client: &Client,
    schedule: &Schedule,
    operator: &Operator,
    signals: &Signals,
) -> Result<(), Box<dyn std::error::Error>> {
    for sql in workload::create_statements(schedule) {
        // A time-out says nothing: the statement is given again, and may be there by then.
        while let Err(error) = client.query(sql.as_str()).await {
            if error.to_string().contains("already exists") {
                break;
            }
            tracing::info!(%error, "a table is not there yet");
            tokio::time::sleep(RETRY).await;
        }
    }
    signals.ready.store(true, Ordering::Relaxed);
    tape::record_of(tape::WORLD, What::Phase("tables are there"));
    loop {
        match operator.next() {
            Some(call) => carry_out(client, call).await,
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Repeats a change while its outcome is unknown, as the errors say one may.
async fn carry_out(client: &Client, call: AdminCall) {
    for _ in 0..20 {
        let done = match &call {
            AdminCall::Add { id, address } => client.add_replica(ReplicaId(*id), address.clone()).await,
            AdminCall::Remove { id } => client.remove_replica(ReplicaId(*id)).await,
            AdminCall::Transfer => client.transfer_leadership(None).await.map(drop),
            AdminCall::Drain { executor, deadline_ms } => drain(client, executor, *deadline_ms).await,
        };
        match done {
            Ok(()) => return tape::record(What::Phase("the operator was obeyed")),
            Err(error) => tracing::info!(%error, ?call, "the operator was not obeyed yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn drain(client: &Client, executor: &str, deadline_ms: u64) -> Result<(), ClientError> {
    let Ok(executor) = ExecutorId::new(executor) else { return Ok(()) };
    client.drain_executor(&executor, Duration::from_millis(deadline_ms)).await.map(drop)
}
