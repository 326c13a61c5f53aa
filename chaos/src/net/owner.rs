//! Which process is at the other end of a connection on loopback, by `/proc`.

use std::{fs, net::SocketAddr};

/// The one of `processes` that holds the socket bound to `local` and connected to `remote`.
pub(super) fn owner(local: SocketAddr, remote: SocketAddr, processes: &[(usize, u32)]) -> Option<usize> {
    let socket = format!("socket:[{}]", inode(&fs::read_to_string("/proc/net/tcp").ok()?, local, remote)?);
    let holds = |process: u32| {
        let folder = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        folder.into_iter().any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == socket.as_str())
        })
    };
    processes.iter().find(|(_, process)| holds(*process)).map(|(host, _)| *host)
}

/// The socket's number in a table like `/proc/net/tcp`.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (hex(local)?, hex(remote)?);
    let line = table.lines().find(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(&local) && words.next() == Some(&remote)
    })?;
    line.split_whitespace().nth(9)?.parse().ok()
}

/// As the table writes an address: its bytes as a number of this machine, little-endian here.
fn hex(address: SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V4(v4) => {
            let number = u32::from_ne_bytes(v4.ip().octets());
            Some(format!("{number:08X}:{:04X}", v4.port()))
        }
        SocketAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        let processes = [(7, 1), (3, std::process::id())];
        assert_eq!(owner(peer, stream.peer_addr().unwrap(), &processes), Some(3));
        assert_eq!(owner(peer, "127.0.0.1:1".parse().unwrap(), &processes), None);
    }
}
