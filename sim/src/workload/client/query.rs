//! A query: submitted, read, compared, and asked for again if its result was lost.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use futures::StreamExt;
use polybolos_client::{Answer, ClientError, JobHandle, SubmitOptions};
use polybolos_model::{ErrorClass, IdempotencyKey};
use tokio::time::sleep;

use super::{SUBMIT_DEADLINE, Task, outcome};
use crate::{
    moment::{ClientEvent, Outcome},
    schedule::Action,
    workload::expected::says_planning_bug,
};

/// How often a query whose result was lost is submitted again.
const MAX_AGAIN: u32 = 5;
/// How the engine says that it is the user who must run a query again.
const RUN_AGAIN: [&str; 2] = ["run the query again", "submit the query again"];

/// How the engine says that a cluster that has just begun does not know settings yet, and how often and how long a client
/// waits until it does.
const TOO_EARLY: &str = "while a scheduler of an older version is in the cluster";
const MAX_WAITS: u32 = 200;
const WAIT: Duration = Duration::from_millis(100);

/// How the reading of a result ended.
enum End {
    Complete,
    Abandoned,
    Broken(ClientError),
}

impl Task {
    pub(super) async fn query(&self) -> bool {
        for again in 0..=MAX_AGAIN {
            let Some(job) = self.submit(again).await else { return false };
            let (batches, end) = self.read(&job, again).await;
            match end {
                End::Complete => return self.answered(&job, &batches).await,
                End::Abandoned => return self.part_is_right(&job, &batches).await && self.abandoned(&job),
                End::Broken(error) => {
                    if !self.part_is_right(&job, &batches).await {
                        return false;
                    }
                    self.failed(error.to_string(), outcome(&error));
                    if !is_lost(&error) {
                        return false;
                    }
                }
            }
        }
        false
    }

    async fn submit(&self, again: u32) -> Option<JobHandle> {
        let Action::Query { sql, key, options, .. } = &self.op.action else { return None };
        // The first one's job is as lost to a repeated submit.
        let key = key.as_ref().map(|key| {
            if again == 0 { key.clone() } else { format!("{key}-op-{}-again-{again}", self.op.id) }
        });
        let submit = SubmitOptions {
            key: key.as_ref().and_then(|key| IdempotencyKey::new(key.clone()).ok()),
            options: options.clone(),
            deadline: Some(SUBMIT_DEADLINE),
            ..SubmitOptions::default()
        };
        match self.submit_in_time(sql, submit).await {
            Ok(Answer::Job(job)) => {
                self.jobs().insert(job.id());
                self.record(ClientEvent::Accepted { op: self.op.id, job: job.id(), key });
                Some(job)
            }
            Ok(Answer::Inline(_)) => {
                self.failed("a query was answered without a job".to_owned(), Outcome::Failed);
                None
            }
            Err(ClientError::Statement { message }) if says_planning_bug(&message) => {
                self.done();
                None
            }
            // What it reads may have been taken out of the schedule.
            Err(ClientError::Statement { .. }) if self.answers.rows(sql).await.is_err() => {
                self.done();
                None
            }
            Err(error) => {
                self.failed(error.to_string(), outcome(&error));
                None
            }
        }
    }

    async fn submit_in_time(&self, sql: &str, submit: SubmitOptions) -> Result<Answer, ClientError> {
        for _ in 0..MAX_WAITS {
            match self.client.submit(sql, submit.clone()).await {
                Err(ClientError::Statement { message }) if message.contains(TOO_EARLY) => sleep(WAIT).await,
                answer => return answer,
            }
        }
        self.client.submit(sql, submit).await
    }

    /// All batches, or those before the op or the stream ends; the first job is cancelled in the meantime if the op
    /// says so.
    async fn read(&self, job: &JobHandle, again: u32) -> (Vec<RecordBatch>, End) {
        let Action::Query { abandon_after, cancel_after_ms, read_after_ms, .. } = &self.op.action else {
            return (Vec::new(), End::Complete);
        };
        let is_first = again == 0;
        let abandon_after = abandon_after.filter(|_| is_first);
        let cancel_after_ms = cancel_after_ms.filter(|_| is_first);
        let reading = async {
            let mut batches = Vec::new();
            if let Some(ms) = read_after_ms {
                sleep(Duration::from_millis(*ms)).await;
            }
            let mut stream = job.stream();
            loop {
                if abandon_after.is_some_and(|limit| batches.len() >= limit as usize) {
                    return (batches, End::Abandoned);
                }
                match stream.next().await {
                    Some(Ok(batch)) => batches.push(batch),
                    Some(Err(error)) => return (batches, End::Broken(error)),
                    None => return (batches, End::Complete),
                }
            }
        };
        let Some(after_ms) = cancel_after_ms else { return reading.await };
        let cancelling = async {
            sleep(Duration::from_millis(after_ms)).await;
            if let Err(error) = job.cancel("its client asked").await {
                tracing::debug!(op = self.op.id, %error, "a query was not cancelled");
            }
        };
        tokio::pin!(reading);
        tokio::select! {
            biased;
            read = &mut reading => return read,
            () = cancelling => {}
        }
        reading.await
    }

    async fn answered(&self, job: &JobHandle, batches: &[RecordBatch]) -> bool {
        let Action::Query { sql, ordered, .. } = &self.op.action else { return false };
        let judged = self.answers.compare(sql, batches, *ordered).await;
        let mismatch = judged.unwrap_or_else(|error| Some(unknown(&error)));
        self.answer(job, batches, mismatch)
    }

    /// Records rows that should not be there, as the answer that they are.
    async fn part_is_right(&self, job: &JobHandle, batches: &[RecordBatch]) -> bool {
        let Action::Query { sql, ordered, .. } = &self.op.action else { return false };
        if batches.is_empty() {
            return true;
        }
        let judged = self.answers.compare_part(sql, batches, *ordered).await;
        let Some(mismatch) = judged.unwrap_or_else(|error| Some(unknown(&error))) else { return true };
        self.answer(job, batches, Some(mismatch));
        false
    }

    fn answer(&self, job: &JobHandle, batches: &[RecordBatch], mismatch: Option<String>) -> bool {
        let is_right = mismatch.is_none();
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        self.record(ClientEvent::Answered { op: self.op.id, job: job.id(), rows, mismatch });
        is_right
    }

    fn abandoned(&self, job: &JobHandle) -> bool {
        self.record(ClientEvent::Abandoned { op: self.op.id, job: job.id() });
        true
    }
}

fn unknown(error: &DataFusionError) -> String {
    format!("plain DataFusion has no answer: {}", error.strip_backtrace())
}

/// A result, or outputs that can't be made again, went with their executor: the failure contract has the user submit
/// the query again.
fn is_lost(error: &ClientError) -> bool {
    match error {
        ClientError::Fetch { .. } | ClientError::RolledBack { .. } => true,
        ClientError::JobFailed { error, .. } => {
            error.class == ErrorClass::Retryable && RUN_AGAIN.iter().any(|says| error.message.contains(says))
        }
        ClientError::Unreachable { .. }
        | ClientError::Statement { .. }
        | ClientError::Cancelled { .. }
        | ClientError::Ended { .. }
        | ClientError::NotFound { .. }
        | ClientError::TooLarge { .. }
        | ClientError::Busy { .. }
        | ClientError::Deadline { .. }
        | ClientError::NoQuorum { .. }
        | ClientError::Unfollowed { .. }
        | ClientError::Refused { .. }
        | ClientError::Protocol { .. } => false,
    }
}
