//! Servers that do what a script says and note what they were asked.

mod executor;
mod replicas;

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow::{
    array::{ArrayRef, Int32Array},
    datatypes::SchemaRef,
    record_batch::RecordBatch,
};
use arrow_ipc::writer::StreamWriter;
pub(in crate::tests) use executor::{Executor, OnFetch};
use futures::{Stream, StreamExt, stream};
use polybolos_env::{Env, grpc};
use polybolos_proto::{
    status_with,
    v1::{
        self, JobState,
        cluster_service_server::ClusterServiceServer,
        error_detail::Reason,
        query_service_server::{QueryService, QueryServiceServer},
    },
};
pub(in crate::tests) use replicas::BACKUP;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, async_trait};

use crate::Client;

pub(in crate::tests) const JOB: &str = "0000000000000007";

pub(in crate::tests) fn env() -> Env {
    Env::production(1).unwrap()
}

pub(in crate::tests) fn client(addresses: &[&str]) -> Client {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    Client::connect_within(addresses, env(), Duration::from_millis(400)).unwrap()
}

/// An address where nobody listens.
pub(in crate::tests) async fn nowhere() -> String {
    let listener = env().net.listen("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Where connections are taken, and nothing is ever said, while the listener lives.
pub(in crate::tests) async fn hangs() -> (impl Sized, String) {
    let listener = env().net.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

pub(in crate::tests) fn rows(values: &[i32]) -> RecordBatch {
    RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(values.to_vec())) as ArrayRef)]).unwrap()
}

fn schema() -> SchemaRef {
    rows(&[]).schema()
}

pub(in crate::tests) fn ipc(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(vec![], &schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}

pub(in crate::tests) fn accepted(ordered: bool) -> v1::SubmitResponse {
    let job = v1::JobAccepted {
        job_id: JOB.to_owned(),
        schema: ipc(&[]).into(),
        explain_analyze: false,
        ordered,
        ended: None,
    };
    v1::SubmitResponse { answer: Some(v1::submit_response::Answer::Job(job)), ..Default::default() }
}

/// From a leader that has too much to plan.
pub(in crate::tests) fn elsewhere() -> v1::SubmitResponse {
    let elsewhere = v1::submit_response::Answer::Elsewhere(v1::PlanElsewhere {});
    v1::SubmitResponse { answer: Some(elsewhere), ..Default::default() }
}

pub(in crate::tests) fn refusal(reason: Reason, leader: &str) -> Status {
    let detail = v1::ErrorDetail { reason: reason.into(), job_id: JOB.to_owned(), leader: leader.to_owned() };
    status_with(Code::FailedPrecondition, format!("{reason:?}"), &detail)
}

pub(in crate::tests) fn update(state: JobState, results: Vec<v1::ResultPartition>) -> v1::JobUpdate {
    v1::JobUpdate { job_id: JOB.to_owned(), state: state.into(), results, ..Default::default() }
}

/// What the scheduler does when it is asked to submit.
#[allow(clippy::large_enum_variant, reason = "a few of a test's script")]
pub(in crate::tests) enum OnSubmit {
    Answer(v1::SubmitResponse),
    Refuse(Status),
    /// Accepts, and loses its answer.
    Silence,
    /// Accepts, and answers never: it is paused, or cut off.
    Hang,
}

/// What happens on a watch.
pub(in crate::tests) enum OnWatch {
    Update(v1::JobUpdate),
    Break,
    /// Goes on when [`Scheduler::go`] was called this many times.
    Until(u32),
}

#[derive(Default)]
struct Script {
    submits: VecDeque<OnSubmit>,
    watches: VecDeque<Vec<OnWatch>>,
    /// The answer to all further watches.
    no_watch: Option<Status>,
    /// Answers of the services for operators; the last is for all further calls.
    operations: VecDeque<Result<(), Status>>,
    /// Who leads after each transfer; whoever was named, when they are used up.
    elected: VecDeque<u64>,
    /// What it says of who leads; nothing if it is `None`, as one that is paused.
    leader: Option<v1::LeaderResponse>,
    log: Vec<String>,
}

#[derive(Clone)]
pub(in crate::tests) struct Scheduler {
    script: Arc<Mutex<Script>>,
    gate: Arc<watch::Sender<u32>>,
    pub(in crate::tests) address: String,
}

impl Scheduler {
    pub(in crate::tests) async fn start() -> Self {
        let listener = env().net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let scheduler = Self { script: Arc::default(), gate: Arc::new(watch::Sender::new(0)), address };
        let server = grpc::server()
            .add_service(QueryServiceServer::new(scheduler.clone()))
            .add_service(ClusterServiceServer::new(scheduler.clone()));
        tokio::spawn(server.serve_with_incoming(grpc::incoming(listener)));
        scheduler
    }

    pub(in crate::tests) fn on_submit(&self, what: OnSubmit) -> &Self {
        self.script.lock().unwrap().submits.push_back(what);
        self
    }

    pub(in crate::tests) fn on_watch(&self, what: Vec<OnWatch>) -> &Self {
        self.script.lock().unwrap().watches.push_back(what);
        self
    }

    /// After those that it was told of.
    pub(in crate::tests) fn refuses_watches(&self, status: Status) {
        self.script.lock().unwrap().no_watch = Some(status);
    }

    pub(in crate::tests) fn on_operation(&self, what: Result<(), Status>) -> &Self {
        self.script.lock().unwrap().operations.push_back(what);
        self
    }

    /// The next transfer makes this replica lead, whoever was named.
    pub(in crate::tests) fn on_transfer(&self, elected: u64) -> &Self {
        self.script.lock().unwrap().elected.push_back(elected);
        self
    }

    /// From now on it says that `leader` leads, in `term`.
    pub(in crate::tests) fn says_leader(&self, leader: &str, term: u64) {
        let is_self = leader == self.address;
        let leader = v1::LeaderResponse { leader: leader.to_owned(), term, is_self };
        self.script.lock().unwrap().leader = Some(leader);
    }

    pub(in crate::tests) fn go(&self) {
        self.gate.send_modify(|opened| *opened += 1);
    }

    pub(in crate::tests) fn log(&self) -> Vec<String> {
        self.script.lock().unwrap().log.clone()
    }

    fn note(&self, what: String) {
        self.script.lock().unwrap().log.push(what);
    }

    /// Waits until the log has a line that starts with `what`.
    pub(in crate::tests) async fn noted(&self, what: &str) {
        for _ in 0..500 {
            if self.log().iter().any(|line| line.starts_with(what)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("'{what}' never came: {:?}", self.log());
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl QueryService for Scheduler {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let request = request.into_inner();
        let next = self.script.lock().unwrap().submits.pop_front();
        let plan_at = match request.plan_at() {
            v1::PlanAt::Leader => " at the leader",
            v1::PlanAt::LeaderUnlessBusy => "",
            v1::PlanAt::Any => " at any",
        };
        self.note(format!("submit {}{plan_at}", request.idempotency_key));
        match next {
            Some(OnSubmit::Answer(answer)) => Ok(Response::new(answer)),
            Some(OnSubmit::Refuse(status)) => Err(status),
            Some(OnSubmit::Silence) => Err(Status::unavailable("the connection was reset")),
            Some(OnSubmit::Hang) => std::future::pending().await,
            None => Err(Status::unimplemented("the script has ended")),
        }
    }

    type WatchStream = Boxed<v1::JobUpdate>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let v1::WatchRequest { reads_result, unreadable, .. } = request.into_inner();
        let tickets: Vec<_> = unreadable.iter().map(|ticket| String::from_utf8_lossy(ticket)).collect();
        let reads = if reads_result { " to read" } else { "" };
        let lacks =
            if tickets.is_empty() { String::new() } else { format!(" without {}", tickets.join(", ")) };
        self.note(format!("watch{reads}{lacks}"));
        let Some(steps) = self.script.lock().unwrap().watches.pop_front() else {
            let refused = self.script.lock().unwrap().no_watch.clone();
            return Err(refused.unwrap_or_else(|| refusal(Reason::JobNotFound, "")));
        };
        let gate = self.gate.subscribe();
        let updates = stream::iter(steps).filter_map(move |step| {
            let mut gate = gate.clone();
            async move {
                match step {
                    OnWatch::Update(update) => Some(Ok(update)),
                    OnWatch::Break => Some(Err(Status::unavailable("the connection was reset"))),
                    OnWatch::Until(times) => {
                        gate.wait_for(|opened| *opened >= times).await.unwrap();
                        None
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(updates)))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        self.note(format!("cancel: {}", request.into_inner().reason));
        Ok(Response::new(v1::CancelResponse {}))
    }

    async fn release(&self, _: Request<v1::ReleaseRequest>) -> Result<Response<v1::ReleaseResponse>, Status> {
        self.note("release".to_owned());
        Ok(Response::new(v1::ReleaseResponse {}))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let stale = request.into_inner().stale;
        self.note(format!("list jobs, stale: {stale}"));
        let job = v1::JobSummary { job_id: JOB.to_owned(), ..Default::default() };
        let freshness = v1::Freshness { linearizable: !stale, age_ms: 70 * u64::from(stale), replica: 1 };
        Ok(Response::new(v1::ListJobsResponse { jobs: vec![job], freshness: Some(freshness) }))
    }

    async fn leader(&self, _: Request<v1::LeaderRequest>) -> Result<Response<v1::LeaderResponse>, Status> {
        self.note("leader".to_owned());
        let leader = self.script.lock().unwrap().leader.clone();
        match leader {
            Some(leader) => Ok(Response::new(leader)),
            None => std::future::pending().await,
        }
    }

    async fn get_job(&self, _: Request<v1::GetJobRequest>) -> Result<Response<v1::JobDetail>, Status> {
        Err(refusal(Reason::JobNotFound, ""))
    }

    async fn profile(&self, _: Request<v1::ProfileRequest>) -> Result<Response<v1::InlineResult>, Status> {
        self.note("profile".to_owned());
        Ok(Response::new(v1::InlineResult { arrow_stream: ipc(&[rows(&[99])]).into() }))
    }

    async fn cluster_status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        Ok(Response::new(v1::ClusterStatusResponse { cluster_id: "fake".to_owned(), ..Default::default() }))
    }

    async fn list_relations(
        &self,
        _: Request<v1::ListRelationsRequest>,
    ) -> Result<Response<v1::ListRelationsResponse>, Status> {
        Ok(Response::new(v1::ListRelationsResponse { names: vec!["t".to_owned()] }))
    }

    async fn export_job(
        &self,
        request: Request<v1::ExportJobRequest>,
    ) -> Result<Response<v1::ExportJobResponse>, Status> {
        let v1::ExportJobRequest { job_id, stale } = request.into_inner();
        self.note(format!("export {job_id}, stale: {stale}"));
        Ok(Response::new(v1::ExportJobResponse { recorded: "{}".into() }))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        self.note(format!("close {}", request.into_inner().session_id));
        Ok(Response::new(v1::CloseSessionResponse {}))
    }
}
