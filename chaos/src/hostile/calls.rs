//! gRPC calls of every method, with bodies that are wrong, strange, empty or too large.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures::{StreamExt, stream};
use polybolos_env::grpc;
use polybolos_model::limits::MAX_MESSAGE_BYTES;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use super::{
    DEADLINE, Ending, Press, Server, Target,
    message::{self, huge, malformed, repeated},
    wire::Method,
    within,
};

const CONNECT: Duration = Duration::from_secs(5);
/// Largest request that an executor takes.
const MAX_TICKET_BYTES: usize = 64 * 1024;
/// Of replicas, to each other: the largest entry and what is around it.
const MAX_REPLICA_MESSAGE_BYTES: usize = 3 * MAX_MESSAGE_BYTES;
/// Messages of an answer that are read.
const MAX_ANSWERS: usize = 64;
/// Of an answer's message; a backup comes in such pieces.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The rest of a message beside its repeated field.
const ROOM_BYTES: usize = 1_024;

/// Methods that a message without any field asks for something that is there, or that answer "no" in a message of theirs.
const ANSWER_EMPTY: [&str; 9] = [
    "ListJobs",
    "ClusterStatus",
    "ListRelations",
    "CloseSession",
    "Leader",
    "Backup",
    "Describe",
    "Admit",
    "Attach",
];
/// An empty or strange message to it is a right request of an operator.
const OBEYED: [&str; 1] = ["TransferLeadership"];

pub(crate) async fn run(press: &Press, target: &Target, kind: &'static str, random: &mut StdRng) {
    let methods: Vec<&Method> = press.wire.of(target.server()).collect();
    let Some(method) = methods.choose(random) else { return };
    let Some((body, may_be_answered)) = body(press, kind, method, random) else { return };
    let path = if kind == "foreign-ticket" { DO_GET } else { method.path.as_str() };
    let ending = within(DEADLINE, ask(press, &target.address, path, body)).await;
    press.tolls.note(kind, &ending, may_be_answered, || format!("{kind} to {path} at {}", target.name));
}

const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";

/// What is sent to a method, and whether an answer is right. `None` if the kind has nothing for it.
fn body(press: &Press, kind: &str, method: &Method, random: &mut StdRng) -> Option<(Bytes, bool)> {
    let (wire, input, name) = (&press.wire, &method.input, method.name.as_str());
    let limit = limit(method);
    let answers = ANSWER_EMPTY.contains(&name);
    let of = |bytes: Vec<u8>, may_be_answered| Some((Bytes::from(bytes), may_be_answered));
    match kind {
        "malformed" => of(malformed(wire, input, random), false),
        "empty" if OBEYED.contains(&name) => None,
        "empty" => of(Vec::new(), answers),
        "random-fields" if OBEYED.contains(&name) => None,
        "random-fields" => of(message::random(wire, input, random), answers),
        "huge-repeated" => {
            let ways = repeated(wire, input);
            let way = ways.choose(random)?;
            of(huge(way, limit - ROOM_BYTES), answers)
        }
        "oversized" => {
            let mut bytes = Vec::new();
            message::put(&mut bytes, 1, &vec![b'x'; limit + random.random_range(1..ROOM_BYTES)]);
            of(bytes, false)
        }
        "foreign-ticket" => of(ticket(random), false),
        _ => None,
    }
}

fn limit(method: &Method) -> usize {
    match method.server {
        Server::Executor => MAX_TICKET_BYTES,
        Server::Scheduler if method.path.contains("ReplicaService") => MAX_REPLICA_MESSAGE_BYTES,
        Server::Scheduler => MAX_MESSAGE_BYTES,
    }
}

/// Of no output that is there: garbage, or one like those of a scheduler.
fn ticket(random: &mut StdRng) -> Vec<u8> {
    let mut inner = message::bytes(random, 200);
    if random.random_bool(0.7) {
        inner.clear();
        message::put(&mut inner, 1, format!("{:016x}", random.random::<u64>()).as_bytes());
        for field in [2, 3, 5, 6] {
            message::put_number(&mut inner, field, random.random_range(0..2));
        }
        let mut attempt = Vec::new();
        message::put_number(&mut attempt, 1, random.random_range(1..9));
        message::put_number(&mut attempt, 2, random.random_range(1..99));
        message::put(&mut inner, 4, &attempt);
    }
    let mut ticket = Vec::new();
    message::put(&mut ticket, 1, &inner);
    ticket
}

/// Sends one message, and reads what is answered.
async fn ask(press: &Press, address: &str, path: &str, body: Bytes) -> Ending {
    let channel = match timeout(CONNECT, grpc::connect(&press.scene.env.net, address)).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(_)) => return Ending::Elsewhere("connect: failed".to_owned()),
        Err(_) => return Ending::Elsewhere("connect: timed out".to_owned()),
    };
    match call(channel, path, body).await {
        Ok(0) => Ending::Refused("ended".to_owned()),
        Ok(_) => Ending::Answered,
        Err(status) => ended(&status),
    }
}

/// A follower and a replica that is just elected are not the ones to ask.
fn ended(status: &Status) -> Ending {
    let is_local = std::error::Error::source(status).is_some();
    match status.code() {
        _ if is_local => Ending::Refused("connection broken".to_owned()),
        Code::Unavailable => Ending::Elsewhere("Unavailable".to_owned()),
        code => Ending::Refused(format!("{code:?}")),
    }
}

/// How many messages came.
async fn call(channel: Channel, path: &str, body: Bytes) -> Result<usize, Status> {
    let path: PathAndQuery =
        path.parse().map_err(|error| Status::invalid_argument(format!("{path}: {error}")))?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let request = Request::new(stream::iter([body]));
    let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
    let mut count = 0;
    while count < MAX_ANSWERS
        && let Some(answer) = answers.next().await
    {
        answer?;
        count += 1;
    }
    Ok(count)
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
