//! What is sent by hand: bytes that are no HTTP/2, and HTTP/2 that is meant badly. And connections that ask for nothing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rand::{Rng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, WriteHalf},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

use super::{DEADLINE, Ending, IDLE, Press, SILENT, Server, Target, Tolls, message, within};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CONNECT: Duration = Duration::from_secs(5);

// Types and flags of frames: RFC 9113, 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const FRAME_HEAD: usize = 9;
/// A server may send no larger frame, as nothing else was agreed.
const MAX_FRAME: usize = 16_384;

/// Frames of a flood that are written at once.
const BURST: u32 = 64;
const RESETS: u32 = 50_000;
const CONTINUATIONS: u32 = 4_096;
const NO_END: u32 = u32::MAX;

/// What is written to one connection.
pub(crate) struct Attack {
    first: Vec<u8>,
    /// So often, with the number of the time.
    then: Option<(u32, Flood)>,
    reads: bool,
    /// A frame with this type on a stream is the server's refusal, too.
    is_refused_by: &'static [u8],
}

type Flood = Box<dyn Fn(u32) -> Vec<u8> + Send>;

/// The attack of a kind, if the kind is one of bytes and frames.
pub(crate) fn of(kind: &str, server: Server, random: &mut StdRng) -> Option<Attack> {
    let opened = || [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let plain = |first| Attack { first, then: None, reads: true, is_refused_by: &[] };
    let flood = |first, times, then: Flood| Attack { then: Some((times, then)), ..plain(first) };
    let attack = match kind {
        "random-bytes" => plain(message::bytes(random, 65_536)),
        "half-a-preface" => plain(PREFACE[..random.random_range(0..PREFACE.len())].to_vec()),
        "garbage-frames" => plain([opened(), message::bytes(random, 65_536)].concat()),
        "rapid-reset" => flood(
            opened(),
            RESETS,
            Box::new(move |number| {
                let stream = 1 + 2 * number;
                let request = frame(HEADERS, END_HEADERS, stream, &request(server));
                [request, frame(RST_STREAM, 0, stream, &CANCEL)].concat()
            }),
        ),
        "endless-headers" => flood(
            [opened(), frame(HEADERS, 0, 1, &request(server))].concat(),
            CONTINUATIONS,
            Box::new(|number| {
                let name = format!("x-{number}");
                frame(CONTINUATION, 0, 1, &header(&name, &"a".repeat(120)).repeat(120))
            }),
        ),
        "lying-length" => {
            let begun = frame(HEADERS, END_HEADERS, 1, &request(server));
            // Not compressed, of the greatest length, and then little of it.
            let body = [&[0, 0xff, 0xff, 0xff, 0xff][..], &message::bytes(random, 4_000)].concat();
            let first = [opened(), begun, frame(DATA, 0, 1, &body)].concat();
            Attack { is_refused_by: &[HEADERS, RST_STREAM], ..plain(first) }
        }
        "deaf" => {
            let ask = move |number| {
                let stream = (1 + 2 * u64::from(number)) as u32 & 0x7fff_ffff;
                let begun = frame(HEADERS, END_HEADERS, stream, &request(server));
                [begun, frame(DATA, END_STREAM, stream, &[0; 5])].concat()
            };
            Attack { reads: false, ..flood(opened(), NO_END, Box::new(ask)) }
        }
        _ => return None,
    };
    Some(attack)
}

pub(crate) async fn run(press: &Press, target: &Target, kind: &'static str, attack: Attack) {
    let ending = within(DEADLINE, fight(&target.address, attack)).await;
    press.tolls.note(kind, &ending, false, || format!("{kind} at {}", target.name));
}

async fn fight(address: &str, attack: Attack) -> Ending {
    let Attack { first, then, reads, is_refused_by } = attack;
    let (mut read, write) = match connected(address).await {
        Ok(stream) => tokio::io::split(stream),
        Err(why) => return Ending::Elsewhere(why),
    };
    let writes = write_all(write, first, then);
    if !reads {
        // It ends when the server does not take any more.
        return match writes.await {
            Err(_) => Ending::Refused("closed".to_owned()),
            Ok(_still_open) => std::future::pending().await,
        };
    }
    let mut writes = Box::pin(writes);
    let mut is_writing = true;
    let mut open = None;
    let mut heard = Heard::default();
    let mut buffer = vec![0; MAX_FRAME];
    loop {
        tokio::select! {
            biased;
            came = read.read(&mut buffer) => match came {
                Ok(0) | Err(_) => return Ending::Refused(heard.last_word.unwrap_or("closed").to_owned()),
                Ok(length) => {
                    let refusal = heard.take(&buffer[..length], is_refused_by);
                    if let Some(how) = refusal {
                        return Ending::Refused(how.to_owned());
                    }
                }
            },
            written = &mut writes, if is_writing => {
                is_writing = false;
                // Held until the end: a half that is dropped does not close the connection, but it must not be shut down.
                open = written.ok().or(open);
            }
        }
    }
}

async fn write_all(
    mut write: WriteHalf<TcpStream>,
    first: Vec<u8>,
    then: Option<(u32, Flood)>,
) -> std::io::Result<WriteHalf<TcpStream>> {
    write.write_all(&first).await?;
    if let Some((times, flood)) = then {
        let mut number = 0_u32;
        while number < times {
            let burst = (number..times.min(number.saturating_add(BURST))).flat_map(&flood);
            write.write_all(&burst.collect::<Vec<u8>>()).await?;
            number = number.saturating_add(BURST);
        }
    }
    Ok(write)
}

async fn connected(address: &str) -> Result<TcpStream, String> {
    match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("connect: {}", error.kind())),
        Err(_) => Err("connect: timed out".to_owned()),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers of a gRPC call that the server knows, each as a literal that is not indexed: RFC 7541, 6.2.2.
fn request(server: Server) -> Vec<u8> {
    let path = match server {
        Server::Scheduler => "/polybolos.v1.QueryService/ClusterStatus",
        Server::Executor => "/arrow.flight.protocol.FlightService/DoGet",
    };
    let all = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "chaos"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    all.iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// Name and value are shorter than 127 bytes, so that a length is one byte.
fn header(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// Reads the frames of a server as far as they matter.
#[derive(Default)]
struct Heard {
    rest: Vec<u8>,
    last_word: Option<&'static str>,
}

impl Heard {
    /// The server's refusal, if one of its frames is one.
    fn take(&mut self, bytes: &[u8], is_refused_by: &[u8]) -> Option<&'static str> {
        self.rest.extend_from_slice(bytes);
        while let Some((kind, _, _)) = next_frame(&mut self.rest) {
            if kind == GOAWAY {
                self.last_word = Some("goaway");
            }
            if is_refused_by.contains(&kind) {
                return Some(if kind == HEADERS { "status" } else { "stream reset" });
            }
        }
        None
    }
}

/// Type, flags and payload of the first frame, which is taken out.
fn next_frame(bytes: &mut Vec<u8>) -> Option<(u8, u8, Vec<u8>)> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let payload = rest.get(..length)?.to_vec();
    let (kind, flags) = (head[3], head[4]);
    bytes.drain(..FRAME_HEAD + length);
    Some((kind, flags, payload))
}

/// Connections that ask for nothing.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    pub(crate) held: AtomicU64,
    /// At one moment.
    pub(crate) most: AtomicU64,
}

/// Holds a connection until it is to stop, and opens another when the server closes it. One that `speaks` answers pings, the
/// others never say a word.
pub(crate) async fn hold(
    idle: &Idle,
    tolls: &Tolls,
    address: &str,
    speaks: bool,
    mut stop: watch::Receiver<bool>,
) {
    let kind = if speaks { IDLE } else { SILENT };
    loop {
        let ending = match connected(address).await {
            Err(why) => Ending::Elsewhere(why),
            Ok(stream) => {
                let held = idle.held.fetch_add(1, Ordering::Relaxed) + 1;
                idle.most.fetch_max(held, Ordering::Relaxed);
                let ending = tokio::select! {
                    () = quiet(stream, speaks) => Ending::Refused("closed".to_owned()),
                    // The sender outlives the clients.
                    _ = stop.wait_for(|stop| *stop) => Ending::Answered,
                };
                idle.held.fetch_sub(1, Ordering::Relaxed);
                ending
            }
        };
        tolls.note(kind, &ending, true, String::new);
        if *stop.borrow() {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Returns when the server closes the connection.
async fn quiet(mut stream: TcpStream, speaks: bool) {
    let opened = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    if speaks && stream.write_all(&opened).await.is_err() {
        return;
    }
    let (mut heard, mut buffer) = (Vec::new(), [0; 1_024]);
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => heard.extend_from_slice(&buffer[..length]),
        }
        while let Some((kind, flags, payload)) = next_frame(&mut heard) {
            let answer = match kind {
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(PING, ACK, 0, &payload),
                _ => continue,
            };
            if speaks && stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn frames_are_taken_apart_as_they_were_put_together() {
        let sent = [frame(SETTINGS, ACK, 0, &[]), frame(PING, 0, 0, b"12345678")].concat();
        let mut seen = sent[..sent.len() - 1].to_vec();
        assert_eq!(next_frame(&mut seen), Some((SETTINGS, ACK, vec![])));
        assert_eq!(next_frame(&mut seen), None, "one byte is still to come");
        seen.push(b'8');
        assert_eq!(next_frame(&mut seen), Some((PING, 0, b"12345678".to_vec())));
    }

    /// A server that never says anything makes a try hang, and one that closes ends it.
    #[tokio::test]
    async fn a_try_ends_when_the_server_closes_and_else_at_its_deadline() {
        let mut random = StdRng::seed_from_u64(1);
        for closes in [true, false] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let server = tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let held = (!closes).then_some(stream);
                sleep(Duration::from_secs(2)).await;
                drop(held);
            });
            let attack = of("half-a-preface", Server::Scheduler, &mut random).unwrap();
            let ending = within(Duration::from_millis(300), fight(&address, attack)).await;
            let wanted = if closes { Ending::Refused("closed".to_owned()) } else { Ending::Hung };
            assert_eq!(ending, wanted);
            server.abort();
        }
        let attack = of("random-bytes", Server::Scheduler, &mut random).unwrap();
        assert!(matches!(fight("127.0.0.1:1", attack).await, Ending::Elsewhere(_)));
    }
}
