//! A fake executor: Flight streams that do what a script says.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_server::{FlightService, FlightServiceServer},
};
use futures::{StreamExt, TryStreamExt, stream};
use polybolos_env::grpc;
use polybolos_proto::v1;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Boxed, env, rows, schema};

/// What a partition's stream does.
#[derive(Clone)]
pub(in crate::tests) enum OnFetch {
    Rows(Vec<i32>),
    Break,
    /// Many batches of one row, as long as they are read.
    Endless,
    /// Goes on when [`Executor::go`] was called this many times.
    Until(u32),
}

#[derive(Clone)]
pub(in crate::tests) struct Executor {
    /// For each ticket, what each read of it gets. The last is for all further ones.
    scripts: Arc<Mutex<BTreeMap<String, VecDeque<Vec<OnFetch>>>>>,
    pub(in crate::tests) reads: Arc<Mutex<Vec<String>>>,
    pub(in crate::tests) sent: Arc<Mutex<usize>>,
    gate: Arc<watch::Sender<u32>>,
    address: String,
}

impl Executor {
    pub(in crate::tests) async fn start() -> Self {
        let listener = env().net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let gate = Arc::new(watch::Sender::new(0));
        let executor =
            Self { scripts: Arc::default(), reads: Arc::default(), sent: Arc::default(), gate, address };
        let service = FlightServiceServer::new(executor.clone());
        tokio::spawn(grpc::server().add_service(service).serve_with_incoming(grpc::incoming(listener)));
        executor
    }

    /// A partition whose reads get `scripts`, one after the other.
    pub(in crate::tests) fn holds(&self, partition: u32, scripts: Vec<Vec<OnFetch>>) -> v1::ResultPartition {
        let ticket = format!("p{partition}");
        self.scripts.lock().unwrap().insert(ticket.clone(), scripts.into());
        let address = self.address.clone();
        v1::ResultPartition {
            partition,
            address,
            ticket: ticket.into(),
            rows: 1,
            bytes: 1,
            ..Default::default()
        }
    }

    pub(in crate::tests) fn holds_rows(&self, partition: u32, values: &[i32]) -> v1::ResultPartition {
        self.holds(partition, vec![vec![OnFetch::Rows(values.to_vec())]])
    }

    pub(in crate::tests) fn go(&self) {
        self.gate.send_modify(|opened| *opened += 1);
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
        let gate = self.gate.subscribe();
        let batches = stream::iter(steps).filter_map(move |step| {
            *sent.lock().unwrap() += 1;
            let mut gate = gate.clone();
            async move {
                match step {
                    OnFetch::Rows(values) => Some(Ok(rows(&values))),
                    OnFetch::Break | OnFetch::Endless => {
                        Some(Err(FlightError::from(Status::unavailable("reset"))))
                    }
                    OnFetch::Until(times) => {
                        gate.wait_for(|opened| *opened >= times).await.unwrap();
                        None
                    }
                }
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
