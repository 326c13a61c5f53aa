//! A replica and a client.

use std::fs;

use arrow::{array::RecordBatch, util::pretty::pretty_format_batches};
use arrow_ipc::reader::StreamReader;
use polybolos_env::{Env, grpc};
use polybolos_model::{ReplicaId, limits::MAX_MESSAGE_BYTES};
use polybolos_planner::Extensions;
use polybolos_proto::{
    detail_of,
    v1::{
        CloseSessionRequest, JobAccepted, JobState, JobUpdate, SubmitRequest, WatchRequest,
        error_detail::Reason, query_service_client::QueryServiceClient, submit_request::Statement,
        submit_response::Answer,
    },
};
use polybolos_scheduler::{LogKind, Scheduler, SchedulerConfig, SchedulerHandle, StartError};
use tempfile::TempDir;
use tonic::{Status, Streaming, transport::Channel};

pub(crate) type Query = QueryServiceClient<Channel>;

const SESSION: &str = "session-1";

/// Where a replica is reached.
pub(crate) trait Place {
    fn env(&self) -> &Env;
    fn address(&self) -> &str;
}

impl Place for Harness {
    fn env(&self) -> &Env {
        &self.env
    }

    fn address(&self) -> &str {
        &self.address
    }
}

pub(crate) struct Harness {
    pub(crate) env: Env,
    pub(crate) address: String,
    pub(crate) query: Query,
    folder: TempDir,
    handle: SchedulerHandle,
}

pub(crate) async fn start_at(address: &str) -> Result<SchedulerHandle, StartError> {
    let config = SchedulerConfig::new(ReplicaId(1), address, LogKind::InMemory);
    Scheduler::start(config, Env::production(2).unwrap(), Extensions::default()).await
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::start_as(|_| {}).await
    }

    /// Of another configuration than the default one.
    pub(crate) async fn start_as(change: impl FnOnce(&mut SchedulerConfig)) -> Self {
        let env = Env::production(2).unwrap();
        let mut config = SchedulerConfig::new(ReplicaId(1), "127.0.0.1:0", LogKind::InMemory);
        change(&mut config);
        let handle =
            Scheduler::start(config, Env::production(2).unwrap(), Extensions::default()).await.unwrap();
        let address = handle.address();
        let query = query(&env, &address).await;
        Self { env, address, query, folder: tempfile::tempdir().unwrap(), handle }
    }

    pub(crate) async fn stop(self) {
        self.handle.shutdown().await;
    }

    pub(crate) async fn submit_job(&mut self, request: SubmitRequest) -> JobAccepted {
        match self.query.submit(request).await.unwrap().into_inner().answer {
            Some(Answer::Job(job)) => job,
            other => panic!("no job but {other:?}"),
        }
    }

    pub(crate) async fn job(&mut self, statement: &str) -> JobAccepted {
        self.submit_job(sql(statement)).await
    }

    pub(crate) async fn session_job(&mut self, statement: &str) -> JobAccepted {
        self.submit_job(in_session(statement)).await
    }

    /// Submits in the session, and shows the rows.
    pub(crate) async fn inline(&mut self, statement: &str) -> String {
        match self.query.submit(in_session(statement)).await.unwrap().into_inner().answer {
            Some(Answer::Inline(result)) => table(&result.arrow_stream),
            other => panic!("no rows but {other:?}"),
        }
    }

    pub(crate) async fn close_session(&mut self) {
        self.query.close_session(CloseSessionRequest { session_id: SESSION.to_owned() }).await.unwrap();
    }

    /// A table of as many files as `partitions`, which the session reads with as many tasks.
    pub(crate) async fn partitioned_table(&mut self, name: &str, partitions: usize) -> String {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..partitions {
            fs::write(folder.join(format!("{number}.csv")), format!("a\n{number}\n")).unwrap();
        }
        let location = folder.display();
        self.inline(&format!("CREATE EXTERNAL TABLE {name} STORED AS CSV LOCATION '{location}/'")).await;
        self.inline(&format!("SET datafusion.execution.target_partitions = {partitions}")).await;
        // So little data would be one task's.
        self.inline("SET polybolos.adaptive = false").await;
        name.to_owned()
    }

    pub(crate) async fn watch(&mut self, job_id: &str) -> Streaming<JobUpdate> {
        self.query
            .watch(WatchRequest { job_id: job_id.to_owned(), ..WatchRequest::default() })
            .await
            .unwrap()
            .into_inner()
    }
}

pub(crate) async fn query(env: &Env, address: &str) -> Query {
    let channel = grpc::connect(&env.net, address).await.unwrap();
    // Larger than the server takes, to see what it says.
    QueryServiceClient::new(channel).max_encoding_message_size(2 * MAX_MESSAGE_BYTES)
}

/// The id of the job that the statement becomes.
pub(crate) async fn job_of(query: &mut Query, statement: &str) -> String {
    match query.submit(sql(statement)).await.unwrap().into_inner().answer {
        Some(Answer::Job(job)) => job.job_id,
        other => panic!("no job but {other:?}"),
    }
}

pub(crate) fn sql(text: &str) -> SubmitRequest {
    SubmitRequest { statement: Some(Statement::Sql(text.to_owned())), ..SubmitRequest::default() }
}

fn in_session(text: &str) -> SubmitRequest {
    SubmitRequest { session_id: SESSION.to_owned(), ..sql(text) }
}

pub(crate) fn reason(status: &Status) -> Reason {
    detail_of(status).unwrap_or_else(|| panic!("no detail in {status:?}")).reason()
}

/// The last update of a job that ends; the stream must end after it.
pub(crate) async fn last(watch: &mut Streaming<JobUpdate>) -> JobUpdate {
    loop {
        let update = watch.message().await.unwrap().expect("an update that says that the job has ended");
        if !matches!(update.state(), JobState::Queued | JobState::Running) {
            assert_eq!(watch.message().await.unwrap(), None);
            return update;
        }
    }
}

pub(crate) fn table(stream: &[u8]) -> String {
    let batches: Result<Vec<RecordBatch>, _> = StreamReader::try_new(stream, None).unwrap().collect();
    pretty_format_batches(&batches.unwrap()).unwrap().to_string()
}
