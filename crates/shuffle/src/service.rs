//! Serves this executor's outputs over Arrow Flight.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::{array::RecordBatch, datatypes::Schema};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
    encode::{DictionaryHandling, FlightDataEncoderBuilder},
    error::FlightError,
    flight_service_server::{FlightService, FlightServiceServer},
};
use arrow_ipc::writer::IpcWriteOptions;
use async_trait::async_trait;
use futures::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use polybolos_model::limits::MAX_MESSAGE_BYTES;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    OutputTicket, ShuffleError, ShuffleStore, decode_ticket,
    host_file::{self, HOST},
    output_rows::OutputRows,
    size::batch_bytes,
    wire::pieces,
};

/// Streams served at once. Paused ones hold little, so this is high; beyond it a caller is told to try again.
const MAX_STREAMS: usize = 4_096;
/// The largest request: a ticket is well below it.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// `DoGet` by shuffle ticket, uncompressed; every other method is unimplemented.
pub fn flight_service(store: Arc<ShuffleStore>) -> FlightServiceServer<impl FlightService> {
    let options = IpcWriteOptions::default();
    FlightServiceServer::new(FlightShuffle { store, options, streams: Arc::default() })
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The service behind [`flight_service`].
struct FlightShuffle {
    store: Arc<ShuffleStore>,
    options: IpcWriteOptions,
    streams: Arc<AtomicUsize>,
}

/// One of [`MAX_STREAMS`].
struct Served(Arc<AtomicUsize>);

impl Served {
    fn admit(streams: &Arc<AtomicUsize>) -> Result<Self, Status> {
        let others = streams.fetch_add(1, Ordering::Relaxed);
        let served = Self(Arc::clone(streams));
        if others < MAX_STREAMS {
            return Ok(served);
        }
        Err(Status::unavailable(format!("{MAX_STREAMS} shuffle streams are open here; try again")))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Not found and damaged outputs must be made again; a disk may work at the next try.
fn status(error: &ShuffleError) -> Status {
    let message = error.to_string();
    match error {
        ShuffleError::NotFound { .. }
        | ShuffleError::NoSuchPartition { .. }
        | ShuffleError::NotDurable { .. }
        | ShuffleError::NoDurableStore { .. }
        | ShuffleError::Deleted { .. } => Status::not_found(message),
        ShuffleError::Corrupt { .. } | ShuffleError::Codec { .. } => Status::data_loss(message),
        // Its file was deleted.
        ShuffleError::Disk { source, .. } if source.kind() == ErrorKind::NotFound => {
            Status::not_found(message)
        }
        ShuffleError::RowTooLarge { .. } => Status::out_of_range(message),
        ShuffleError::Disk { .. }
        | ShuffleError::Store { .. }
        | ShuffleError::StoreDeadline { .. }
        | ShuffleError::NoCluster { .. } => Status::unavailable(message),
        ShuffleError::DeletedWhileWritten { .. }
        | ShuffleError::Duplicate { .. }
        | ShuffleError::PartitionCount { .. } => Status::internal(message),
    }
}

/// An output that is here, or else in the durable store. One that is not whole yet, or in the store, only if the ticket says so.
async fn open(store: &Arc<ShuffleStore>, ticket: OutputTicket) -> Result<OutputRows, ShuffleError> {
    let OutputTicket { key, partitions, durable, follow } = ticket;
    // In this order, since it may become whole in between.
    if follow && let Ok(follower) = store.follow(key) {
        return Ok(OutputRows::Followed(follower));
    }
    match (store.read_range(key, &partitions), store.durable()) {
        (Ok(reader), _) => Ok(OutputRows::Held(reader)),
        (Err(ShuffleError::NotFound { .. }), Some(copies)) if durable => {
            copies.read(key, &partitions).await.map(OutputRows::Durable)
        }
        (Err(ShuffleError::NotFound { .. }), None) if durable => Err(ShuffleError::NoDurableStore { key }),
        (Err(error), _) => Err(error),
    }
}

/// The batches of an output partition, divided for the wire.
fn batches(
    reader: OutputRows,
    served: Served,
    store: Arc<ShuffleStore>,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> {
    let divided = stream::try_unfold((reader, served, store), |(mut reader, served, store)| async move {
        let failed = |error: ShuffleError| FlightError::from(status(&error));
        let Some(batch) = reader.next().await.map_err(failed)? else { return Ok(None) };
        if let Some(work) = store.charge(batch_bytes(&batch)) {
            work.await;
        }
        let pieces = pieces(reader.key(), batch).map_err(failed)?;
        Ok::<_, FlightError>(Some((stream::iter(pieces.into_iter().map(Ok)), (reader, served, store))))
    });
    divided.try_flatten()
}

#[async_trait]
impl FlightService for FlightShuffle {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let (metadata, _, ticket) = request.into_parts();
        let ticket =
            decode_ticket(&ticket.ticket).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let served = Served::admit(&self.streams)?;
        let reader = open(&self.store, ticket).await.map_err(|error| status(&error))?;
        let host = metadata.get(HOST).and_then(|host| host.to_str().ok());
        if let OutputRows::Held(reader) = &reader
            && let Some(file) = host_file::answer(&self.store, reader, host).await
        {
            return Ok(Response::new(stream::once(async { Ok(file) }).boxed()));
        }
        // Without rows nobody needs to know their columns.
        let schema = reader.schema().unwrap_or_else(|| Arc::new(Schema::empty()));
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_options(self.options.clone())
            // Readers expect the schema that was planned, and get each dictionary once.
            .with_dictionary_handling(DictionaryHandling::Resend)
            // `pieces` divides, and counts slices and views rightly.
            .with_max_flight_data_size(usize::MAX)
            .build(batches(reader, served, Arc::clone(&self.store)))
            .map_err(Status::from);
        Ok(Response::new(encoded.boxed()))
    }

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(only_do_get())
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(only_do_get())
    }

    async fn get_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(only_do_get())
    }

    async fn poll_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(only_do_get())
    }

    async fn get_schema(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        Err(only_do_get())
    }

    async fn do_put(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        Err(only_do_get())
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(only_do_get())
    }

    async fn do_action(&self, _request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(only_do_get())
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(only_do_get())
    }
}

fn only_do_get() -> Status {
    Status::unimplemented(
        "an executor serves DoGet by shuffle ticket and nothing else; queries go to a scheduler",
    )
}
