//! Servers that do what a script says and note what they were asked.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow::{
    array::{ArrayRef, Int32Array},
    datatypes::SchemaRef,
    record_batch::RecordBatch,
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_server::{FlightService, FlightServiceServer},
};
use arrow_ipc::writer::StreamWriter;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use polybolos_env::{Env, grpc};
use polybolos_proto::{
    status_with,
    v1::{
        self, JobState,
        error_detail::Reason,
        query_service_server::{QueryService, QueryServiceServer},
    },
};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use crate::Client;

pub(super) const JOB: &str = "0000000000000007";

pub(super) fn env() -> Env {
    Env::production(1).unwrap()
}

pub(super) fn client(addresses: &[&str]) -> Client {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    Client::connect_within(addresses, env(), Duration::from_millis(400)).unwrap()
}

/// An address where nobody listens.
pub(super) async fn nowhere() -> String {
    let listener = env().net.listen("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

pub(super) fn rows(values: &[i32]) -> RecordBatch {
    RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(values.to_vec())) as ArrayRef)]).unwrap()
}

fn schema() -> SchemaRef {
    rows(&[]).schema()
}

pub(super) fn ipc(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(vec![], &schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}

pub(super) fn accepted(ordered: bool) -> v1::SubmitResponse {
    let job =
        v1::JobAccepted { job_id: JOB.to_owned(), schema: ipc(&[]).into(), explain_analyze: false, ordered };
    v1::SubmitResponse { answer: Some(v1::submit_response::Answer::Job(job)) }
}

pub(super) fn refusal(reason: Reason, leader: &str) -> Status {
    let detail = v1::ErrorDetail { reason: reason.into(), job_id: JOB.to_owned(), leader: leader.to_owned() };
    status_with(Code::FailedPrecondition, format!("{reason:?}"), &detail)
}

pub(super) fn update(state: JobState, results: Vec<v1::ResultPartition>) -> v1::JobUpdate {
    v1::JobUpdate { job_id: JOB.to_owned(), state: state.into(), results, ..Default::default() }
}

/// What the scheduler does when it is asked to submit.
pub(super) enum OnSubmit {
    Answer(v1::SubmitResponse),
    Refuse(Status),
    /// Accepts, and loses its answer.
    Silence,
}

/// What happens on a watch.
pub(super) enum OnWatch {
    Update(v1::JobUpdate),
    Break,
    /// Goes on when [`Scheduler::go`] was called this many times.
    Until(u32),
}

#[derive(Default)]
struct Script {
    submits: VecDeque<OnSubmit>,
    watches: VecDeque<Vec<OnWatch>>,
    log: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Scheduler {
    script: Arc<Mutex<Script>>,
    gate: Arc<watch::Sender<u32>>,
    pub(super) address: String,
}

impl Scheduler {
    pub(super) async fn start() -> Self {
        let listener = env().net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let scheduler = Self { script: Arc::default(), gate: Arc::new(watch::Sender::new(0)), address };
        let service = QueryServiceServer::new(scheduler.clone());
        tokio::spawn(grpc::server().add_service(service).serve_with_incoming(grpc::incoming(listener)));
        scheduler
    }

    pub(super) fn on_submit(&self, what: OnSubmit) -> &Self {
        self.script.lock().unwrap().submits.push_back(what);
        self
    }

    pub(super) fn on_watch(&self, what: Vec<OnWatch>) -> &Self {
        self.script.lock().unwrap().watches.push_back(what);
        self
    }

    pub(super) fn go(&self) {
        self.gate.send_modify(|opened| *opened += 1);
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.script.lock().unwrap().log.clone()
    }

    fn note(&self, what: String) {
        self.script.lock().unwrap().log.push(what);
    }

    /// Waits until the log has a line that starts with `what`.
    pub(super) async fn noted(&self, what: &str) {
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
        self.note(format!("submit {}", request.idempotency_key));
        match next {
            Some(OnSubmit::Answer(answer)) => Ok(Response::new(answer)),
            Some(OnSubmit::Refuse(status)) => Err(status),
            Some(OnSubmit::Silence) => Err(Status::unavailable("the connection was reset")),
            None => Err(Status::unimplemented("the script has ended")),
        }
    }

    type WatchStream = Boxed<v1::JobUpdate>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.note("watch".to_owned());
        let Some(steps) = self.script.lock().unwrap().watches.pop_front() else {
            return Err(refusal(Reason::JobNotFound, ""));
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
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let job = v1::JobSummary { job_id: JOB.to_owned(), ..Default::default() };
        Ok(Response::new(v1::ListJobsResponse { jobs: vec![job] }))
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

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        self.note(format!("close {}", request.into_inner().session_id));
        Ok(Response::new(v1::CloseSessionResponse {}))
    }
}

/// What a partition's stream does.
#[derive(Clone)]
pub(super) enum OnFetch {
    Rows(Vec<i32>),
    Break,
    /// Many batches of one row, as long as they are read.
    Endless,
}

#[derive(Clone)]
pub(super) struct Executor {
    /// For each ticket, what each read of it gets. The last is for all further ones.
    scripts: Arc<Mutex<BTreeMap<String, VecDeque<Vec<OnFetch>>>>>,
    pub(super) reads: Arc<Mutex<Vec<String>>>,
    pub(super) sent: Arc<Mutex<usize>>,
    address: String,
}

impl Executor {
    pub(super) async fn start() -> Self {
        let listener = env().net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let executor = Self { scripts: Arc::default(), reads: Arc::default(), sent: Arc::default(), address };
        let service = FlightServiceServer::new(executor.clone());
        tokio::spawn(grpc::server().add_service(service).serve_with_incoming(grpc::incoming(listener)));
        executor
    }

    /// A partition whose reads get `scripts`, one after the other.
    pub(super) fn holds(&self, partition: u32, scripts: Vec<Vec<OnFetch>>) -> v1::ResultPartition {
        let ticket = format!("p{partition}");
        self.scripts.lock().unwrap().insert(ticket.clone(), scripts.into());
        let address = self.address.clone();
        v1::ResultPartition { partition, address, ticket: ticket.into(), rows: 1, bytes: 1 }
    }

    pub(super) fn holds_rows(&self, partition: u32, values: &[i32]) -> v1::ResultPartition {
        self.holds(partition, vec![vec![OnFetch::Rows(values.to_vec())]])
    }

    fn script(&self, ticket: &str) -> Result<Vec<OnFetch>, Status> {
        let mut scripts = self.scripts.lock().unwrap();
        let script = scripts.get_mut(ticket).ok_or_else(|| Status::not_found("no such output"))?;
        let next = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
        next.ok_or_else(|| Status::not_found("no such output"))
    }
}

#[async_trait]
impl FlightService for Executor {
    type HandshakeStream = Boxed<HandshakeResponse>;
    type ListFlightsStream = Boxed<FlightInfo>;
    type DoGetStream = Boxed<FlightData>;
    type DoPutStream = Boxed<PutResult>;
    type DoExchangeStream = Boxed<FlightData>;
    type DoActionStream = Boxed<arrow_flight::Result>;
    type ListActionsStream = Boxed<ActionType>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = String::from_utf8(request.into_inner().ticket.to_vec()).unwrap();
        self.reads.lock().unwrap().push(ticket.clone());
        let sent = Arc::clone(&self.sent);
        let steps =
            self.script(&ticket)?.into_iter().flat_map(|step| -> Box<dyn Iterator<Item = OnFetch> + Send> {
                match step {
                    OnFetch::Endless => Box::new((0..1_000_000).map(|n| OnFetch::Rows(vec![n; 10_000]))),
                    other => Box::new(std::iter::once(other)),
                }
            });
        let batches = stream::iter(steps).map(move |step| {
            *sent.lock().unwrap() += 1;
            match step {
                OnFetch::Rows(values) => Ok(rows(&values)),
                OnFetch::Break | OnFetch::Endless => Err(FlightError::from(Status::unavailable("reset"))),
            }
        });
        let data = FlightDataEncoderBuilder::new().with_schema(schema()).build(batches).map_err(Status::from);
        Ok(Response::new(Box::pin(data)))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented(""))
    }
}
