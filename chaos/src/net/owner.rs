//! Which process is at the other end of a connection on loopback, by `/proc`.
//!
//! The tables there have all connections of the machine, and reading them takes milliseconds. So whoever asks waits for
//! its turn, all that wait are answered by one reading, and it is done on a thread of its own: a storm of new connections
//! must not hold up what the relays carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Connections that wait to be looked up; those beyond wait for a place.
const WAITING: usize = 1024;

/// Process ids, by host.
pub(super) type Processes = Arc<Mutex<BTreeMap<usize, u32>>>;

/// Where the socket is bound, and what it is connected to.
type Ends = (SocketAddr, SocketAddr);

struct Question {
    ends: Ends,
    answer: oneshot::Sender<Option<usize>>,
}

/// Answers until it is dropped.
pub(super) struct Owners {
    questions: mpsc::Sender<Question>,
    answering: JoinHandle<()>,
}

impl Owners {
    pub(super) fn new(processes: Processes) -> Self {
        let (questions, waiting) = mpsc::channel(WAITING);
        Self { questions, answering: tokio::spawn(answer(waiting, processes)) }
    }

    /// The host of the process that holds the socket bound to `local` and connected to `remote`.
    pub(super) async fn of(&self, local: SocketAddr, remote: SocketAddr) -> Option<usize> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { ends: (local, remote), answer }).await.ok()?;
        answered.await.ok().flatten()
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn answer(mut waiting: mpsc::Receiver<Question>, processes: Processes) {
    let mut questions = Vec::new();
    while waiting.recv_many(&mut questions, WAITING).await > 0 {
        let ends: Vec<Ends> = questions.iter().map(|question| question.ends).collect();
        let known = processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = tokio::task::spawn_blocking(move || owners(&ends, &known)).await.unwrap_or_default();
        for question in questions.drain(..) {
            // Who asked may have gone.
            let _heard = question.answer.send(found.get(&question.ends).copied());
        }
    }
}

/// The hosts that hold sockets with these ends.
fn owners(ends: &[Ends], processes: &BTreeMap<usize, u32>) -> BTreeMap<Ends, usize> {
    let Ok(table) = fs::read_to_string("/proc/net/tcp") else { return BTreeMap::new() };
    let sockets = sockets(&table, &ends.iter().copied().collect());
    let mut found = BTreeMap::new();
    for (host, process) in processes {
        for entry in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let socket = target.to_str().and_then(|target| sockets.get(target));
            found.extend(socket.map(|ends| (*ends, *host)));
        }
    }
    found
}

/// By the name that a process knows it by, the sockets of a table like `/proc/net/tcp` that have ends among `wanted`.
fn sockets(table: &str, wanted: &BTreeSet<Ends>) -> BTreeMap<String, Ends> {
    let socket = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let ends = (address(words.next()?)?, address(words.next()?)?);
        // One that is no process's any more has none.
        let inode: u64 = words.nth(6)?.parse().ok().filter(|inode| *inode > 0)?;
        wanted.contains(&ends).then(|| (format!("socket:[{inode}]"), ends))
    };
    table.lines().filter_map(socket).collect()
}

/// As the table writes one: its bytes as a number of this machine, little-endian here.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    Some((ip, u16::from_str_radix(port, 16).ok()?).into())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn lines_of_the_table_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 0100007F:A2C4 01 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   \
                     1: 0100007F:1F90 0100007F:A2C5 06 00000000:00000000 03:00001770 00000000     0        0 0 3\n";
        let ends = |port| ("127.0.0.1:8080".parse().unwrap(), SocketAddr::from(([127, 0, 0, 1], port)));
        let wanted = [ends(0xA2C4), ends(0xA2C5)].into_iter().collect();
        assert_eq!(sockets(table, &wanted), [("socket:[4711]".to_owned(), ends(0xA2C4))].into());
    }

    #[tokio::test]
    async fn this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let streams: Vec<_> =
            (0..3).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        let remote = listener.local_addr().unwrap();
        let owners = Owners::new(Arc::new(Mutex::new([(7, 1), (3, std::process::id())].into())));
        let asked = streams.iter().map(|stream| owners.of(stream.local_addr().unwrap(), remote));
        assert_eq!(futures::future::join_all(asked).await, [Some(3); 3]);
        assert_eq!(owners.of(remote, "127.0.0.1:1".parse().unwrap()).await, None);
    }
}
