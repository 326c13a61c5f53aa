//! The client and its calls.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use polybolos_env::Env;
use polybolos_model::{
    IdempotencyKey, JobId, SessionId,
    limits::{MAX_PLAN_BYTES, MAX_SQL_BYTES},
};
use polybolos_proto::v1::{self, submit_request, submit_response};

use crate::{
    ClientError, JobHandle,
    call::{Call, Shared},
    ipc,
    limits::{REACH_DEADLINE, SUBMIT_DEADLINE},
    watch::{self, Reading},
};

/// What to execute.
#[derive(Debug, Clone)]
pub enum Statement {
    Sql(String),
    /// Encoded by datafusion-proto, with its tables inside.
    LogicalPlan(Bytes),
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        Self::Sql(sql.to_owned())
    }
}

impl From<String> for Statement {
    fn from(sql: String) -> Self {
        Self::Sql(sql)
    }
}

/// How to submit. The default has a key drawn for this submit, no session and no options.
#[derive(Debug, Clone, Default)]
pub struct SubmitOptions {
    /// A second submit with the same key gets the first one's job.
    pub key: Option<IdempotencyKey>,
    /// Whose `SET` options apply.
    pub session: Option<SessionId>,
    /// DataFusion options of this statement alone.
    pub options: BTreeMap<String, String>,
    /// Cancel the job when nobody has watched it for this long. Never if `None`.
    pub cancel_when_unwatched: Option<Duration>,
    /// For the submit with its retries; [`SUBMIT_DEADLINE`] if `None`.
    pub deadline: Option<Duration>,
    /// Let the replicas plan in turn, each as its turn comes, instead of the leader while it has time. A small query takes
    /// a little longer; many large ones at once take less.
    pub any_replica: bool,
}

/// What a submit is answered with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The statement runs as a job.
    Job(JobHandle),
    /// It needed none: DDL, `SET`, `SHOW`, `EXPLAIN`.
    Inline(QueryResult),
}

/// All the rows of a statement.
#[derive(Debug, Clone)]
pub struct QueryResult {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl QueryResult {
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// A connection to a cluster. Clones share channels and the knowledge of who leads.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("addresses", &self.shared.addresses).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the cluster of which `addresses` (`HOST:PORT`) are some scheduler replicas. Connects at the first
    /// call, not now.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] without an address.
    pub fn connect(addresses: Vec<String>, env: Env) -> Result<Self, ClientError> {
        Self::connect_within(addresses, env, REACH_DEADLINE)
    }

    /// Like [`Client::connect`], with another time after which a cluster without a leader counts as unreachable.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_within(
        addresses: Vec<String>,
        env: Env,
        reach_deadline: Duration,
    ) -> Result<Self, ClientError> {
        if addresses.is_empty() {
            return Err(ClientError::Unreachable { addresses, last: "no address was given".to_owned() });
        }
        Ok(Self { shared: Arc::new(Shared::new(addresses, env, reach_deadline)) })
    }

    /// Gives `statement` to the cluster, repeating it with the same key until it is answered.
    ///
    /// # Errors
    /// [`ClientError::Statement`] and [`ClientError::TooLarge`] for what was given, [`ClientError::Busy`],
    /// [`ClientError::Unreachable`], [`ClientError::NoQuorum`], and [`ClientError::Deadline`] when it may have been done.
    pub async fn submit(
        &self,
        statement: impl Into<Statement>,
        options: SubmitOptions,
    ) -> Result<Answer, ClientError> {
        let statement = checked(statement.into())?;
        let request = v1::SubmitRequest {
            idempotency_key: options.key.map_or_else(|| self.draw_key(), |key| key.to_string()),
            session_id: options.session.map(|id| id.to_string()).unwrap_or_default(),
            options: options.options.into_iter().collect(),
            cancel_when_unwatched_ms: options.cancel_when_unwatched.map_or(0, millis),
            statement: Some(statement),
            ..v1::SubmitRequest::default()
        };
        let deadline = options.deadline.unwrap_or(SUBMIT_DEADLINE);
        let response = self.shared.submit(request, options.any_replica, deadline).await?;
        polybolos_model::failpoint!("client.before_ack_seen");
        match response.answer {
            Some(submit_response::Answer::Job(accepted)) => {
                Ok(Answer::Job(JobHandle::new(Arc::clone(&self.shared), &accepted)?))
            }
            Some(submit_response::Answer::Inline(result)) => {
                Ok(Answer::Inline(ipc::result(&result.arrow_stream)?))
            }
            Some(submit_response::Answer::Elsewhere(_)) | None => {
                Err(ClientError::Protocol { what: "a submit was answered with nothing".to_owned() })
            }
        }
    }

    /// All rows of `statement`, with the default options.
    ///
    /// # Errors
    /// Those of [`Client::submit`] and of the job.
    pub async fn query(&self, statement: impl Into<Statement>) -> Result<QueryResult, ClientError> {
        self.query_with(statement, SubmitOptions::default()).await
    }

    /// All rows of `statement`: of a job, of a statement without one, or of `EXPLAIN ANALYZE`.
    ///
    /// # Errors
    /// Those of [`Client::submit`] and of the job.
    pub async fn query_with(
        &self,
        statement: impl Into<Statement>,
        options: SubmitOptions,
    ) -> Result<QueryResult, ClientError> {
        match self.submit(statement, options).await? {
            Answer::Inline(result) => Ok(result),
            Answer::Job(job) => {
                let batches: Vec<RecordBatch> = job.stream().try_collect().await?;
                // The rows of `EXPLAIN ANALYZE` bring a schema of their own.
                let schema = batches.first().map_or_else(|| job.schema(), RecordBatch::schema);
                Ok(QueryResult { schema, batches })
            }
        }
    }

    /// The progress of any job; see [`JobHandle::watch`].
    pub fn watch(&self, id: JobId) -> BoxStream<'static, Result<v1::JobUpdate, ClientError>> {
        watch::watch(Arc::clone(&self.shared), id, Reading::default()).boxed()
    }

    /// Ends a job. Nothing happens if it has ended.
    ///
    /// # Errors
    /// [`ClientError::NotFound`], [`ClientError::Unreachable`], [`ClientError::Deadline`].
    pub async fn cancel(&self, id: JobId, reason: impl Into<String>) -> Result<(), ClientError> {
        self.shared.cancel(id, reason.into()).await
    }

    /// Forgets a session's options.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::Deadline`].
    pub async fn close_session(&self, session: &SessionId) -> Result<(), ClientError> {
        self.shared
            .call(Call::change("closing the session"), |mut query| {
                let request = v1::CloseSessionRequest { session_id: session.to_string() };
                async move { query.close_session(request).await }
            })
            .await
            .map(|_| ())
    }

    /// Waits for releases and cancels that run in the background. A program that ends right after its last row calls
    /// this first, or the cluster keeps the rows until they expire.
    pub async fn settle(&self) {
        self.shared.background.settle().await;
    }

    fn draw_key(&self) -> String {
        let random = &self.shared.env.random;
        format!("{:016x}{:016x}", random.next_u64(), random.next_u64())
    }
}

impl Shared {
    pub(crate) async fn cancel(&self, id: JobId, reason: String) -> Result<(), ClientError> {
        self.call(Call::change("the cancel"), |mut query| {
            let request = v1::CancelRequest { job_id: id.to_string(), reason: reason.clone() };
            async move { query.cancel(request).await }
        })
        .await
        .map(|_| ())
    }

    pub(crate) async fn release(&self, id: JobId) -> Result<(), ClientError> {
        self.call(Call::change("the release"), |mut query| async move {
            query.release(v1::ReleaseRequest { job_id: id.to_string() }).await
        })
        .await
        .map(|_| ())
    }

    pub(crate) async fn profile(&self, id: JobId) -> Result<QueryResult, ClientError> {
        let answer = self.call(Call::read("the profile"), |mut query| async move {
            query.profile(v1::ProfileRequest { job_id: id.to_string() }).await
        });
        ipc::result(&answer.await?.arrow_stream)
    }
}

fn checked(statement: Statement) -> Result<submit_request::Statement, ClientError> {
    match statement {
        Statement::Sql(sql) if sql.len() > MAX_SQL_BYTES => Err(ClientError::TooLarge {
            message: format!("the statement is {} bytes; at most {MAX_SQL_BYTES} are allowed", sql.len()),
        }),
        Statement::LogicalPlan(plan) if plan.len() > MAX_PLAN_BYTES => Err(ClientError::TooLarge {
            message: format!(
                "the plan is {} bytes; at most {MAX_PLAN_BYTES} are allowed (fewer files, columns or literals help)",
                plan.len()
            ),
        }),
        Statement::Sql(sql) => Ok(submit_request::Statement::Sql(sql)),
        Statement::LogicalPlan(plan) => Ok(submit_request::Statement::LogicalPlan(plan)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
