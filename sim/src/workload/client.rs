//! A client: works through its ops in time, and puts down what it sees.
//!
//! ```text
//!   Invoked ─▶ submit ─▶ Accepted ─▶ rows ─┬─▶ Answered (compared)        the op's end
//!                 ▲                        ├─▶ Abandoned
//!                 └── again, with a new ◀──┴─▶ Failed: the result was lost before it was read
//!                     key, MAX_AGAIN times ▶ Failed: anything else
//! ```
//!
//! So `Failed` is an op's end unless an `Accepted` of the same op follows: only a lost result is asked for again, as the
//! failure contract says that a user must. Its waits are the engine's own, and longer than any run where the promise is a
//! pause instead of an error.

mod query;
mod reads;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use polybolos_client::{Answer, Client, ClientError, SubmitOptions};
use polybolos_model::JobId;
use tokio::{task::JoinSet, time::sleep};

use super::{
    expected::Answers,
    progress::{created_view, dropped_view, makers, readers},
};
use crate::{
    moment::{ClientEvent, Outcome, What},
    schedule::{Action, Op, Schedule},
    tape,
};

/// A submit is repeated for so long: longer than any run.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(10_000);
/// A catalogue change whose outcome is unknown is tried again after so long.
const DDL_PAUSE: Duration = Duration::from_millis(500);

/// Carries out the ops of client `number`, and ends when all of them have.
///
/// A client that died and comes back leaves alone what it had begun before.
pub async fn run_client(number: u32, client: Client, schedule: Arc<Schedule>, oracle: Arc<Answers>) {
    let own: Vec<&Op> = schedule.ops.iter().filter(|op| op.client == number).collect();
    oracle.progress.restart(&own);
    let elapsed = oracle.elapsed();
    let jobs = Arc::new(Mutex::new(BTreeSet::new()));
    let mut tasks = JoinSet::new();
    for op in &own {
        let task = Task {
            client: client.clone(),
            answers: Arc::clone(&oracle),
            jobs: Arc::clone(&jobs),
            needs: makers(op, &own),
            follows: readers(op, &own),
            op: (*op).clone(),
        };
        let pause = Duration::from_millis(op.at_ms).saturating_sub(elapsed);
        tasks.spawn(async move {
            sleep(pause).await;
            task.run().await;
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a client's op ended in a panic");
        }
    }
    // Only then the results are given back.
    client.settle().await;
}

/// One op under way.
struct Task {
    client: Client,
    answers: Arc<Answers>,
    /// Jobs of this life of the client.
    jobs: Arc<Mutex<BTreeSet<JobId>>>,
    /// Ops that make what this one reads; without their effect it is not begun.
    needs: BTreeSet<u32>,
    /// Ops that must have ended before.
    follows: BTreeSet<u32>,
    op: Op,
}

impl Task {
    async fn run(self) {
        let id = self.op.id;
        let progress = &self.answers.progress;
        let can_begin = progress.wait(&self.needs).await;
        progress.wait(&self.follows).await;
        if !progress.begin(id) {
            return;
        }
        let took_effect = can_begin && self.carry_out().await;
        progress.end(id, took_effect);
    }

    async fn carry_out(&self) -> bool {
        let what = match &self.op.action {
            Action::Query { sql, .. } | Action::Ddl { sql } => sql.clone(),
            Action::Status => "status".to_owned(),
        };
        self.record(ClientEvent::Invoked { op: self.op.id, what });
        match &self.op.action {
            Action::Query { .. } => self.query().await,
            Action::Ddl { sql } => self.ddl(sql).await,
            Action::Status => self.status().await,
        }
    }

    /// Until it is known to be done, as nobody else uses the name.
    async fn ddl(&self, sql: &str) -> bool {
        loop {
            let options = SubmitOptions { deadline: Some(SUBMIT_DEADLINE), ..SubmitOptions::default() };
            match self.client.submit(sql, options).await {
                Ok(Answer::Inline(_)) => return self.done(),
                Ok(Answer::Job(job)) => {
                    return self
                        .failed(format!("a catalogue change became query {}", job.id()), Outcome::Failed);
                }
                Err(ClientError::Statement { message }) if is_done_already(sql, &message) => {
                    return self.done();
                }
                Err(error) if outcome(&error) == Outcome::Unknown || is_busy(&error) => {
                    tracing::debug!(op = self.op.id, %error, "a catalogue change is tried again");
                    sleep(DDL_PAUSE).await;
                }
                Err(error) => return self.failed(error.to_string(), outcome(&error)),
            }
        }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeSet<JobId>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, event: ClientEvent) {
        tape::record(What::Client(event));
    }

    fn done(&self) -> bool {
        self.record(ClientEvent::Done { op: self.op.id });
        true
    }

    fn failed(&self, error: String, outcome: Outcome) -> bool {
        self.record(ClientEvent::Failed { op: self.op.id, error, outcome });
        false
    }
}

/// Whether a refusal says that an earlier try, whose answer was lost, had its effect.
fn is_done_already(sql: &str, message: &str) -> bool {
    if created_view(sql).is_some() {
        return message.contains("already exists, just as this statement defines it");
    }
    dropped_view(sql).is_some() && message.contains("does not exist")
}

fn is_busy(error: &ClientError) -> bool {
    matches!(error, ClientError::Busy { .. })
}

/// What an error tells of the op's effect.
fn outcome(error: &ClientError) -> Outcome {
    match error {
        ClientError::Cancelled { .. } => Outcome::Cancelled,
        ClientError::Unreachable { .. }
        | ClientError::Deadline { .. }
        | ClientError::NoQuorum { .. }
        | ClientError::Unfollowed { .. } => Outcome::Unknown,
        ClientError::Statement { .. }
        | ClientError::JobFailed { .. }
        | ClientError::Ended { .. }
        | ClientError::NotFound { .. }
        | ClientError::TooLarge { .. }
        | ClientError::Busy { .. }
        | ClientError::Refused { .. }
        | ClientError::Fetch { .. }
        | ClientError::RolledBack { .. }
        | ClientError::Protocol { .. } => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_change_knows_its_own_trace() {
        let create = "CREATE VIEW v1 AS SELECT 1";
        let own = "view 'public.v1' already exists, just as this statement defines it (an earlier try …)";
        assert!(is_done_already(create, own));
        assert!(!is_done_already(create, "view 'public.v1' already exists"));
        assert!(is_done_already("DROP VIEW v1", "view 'public.v1' does not exist"));
        assert!(!is_done_already(create, "table 'public.t' does not exist"));
    }
}
