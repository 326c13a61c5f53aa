//! Addresses of servers that have to be known before the servers start.

use std::io;

use polybolos_env::Env;

/// Ports that are nobody's by custom, and below those from which Linux gives outgoing connections theirs (32,768 on): one of
/// those may be taken again before a server comes to it.
const FIRST_PORT: u64 = 10_000;
const PORTS: u64 = 22_000;
/// Ports that are tried for one address.
const TRIES: u32 = 1_000;

/// So many addresses of loopback, free now. That another process takes one before its server does is unlikely, and shows.
///
/// # Errors
/// The machine gives none.
pub async fn free_addresses(env: &Env, count: u64) -> io::Result<Vec<String>> {
    // All are held until the last is found, so that none is found twice.
    let mut held = Vec::new();
    for _ in 0..count {
        let mut tries = 0;
        let listener = loop {
            let port = FIRST_PORT + env.random.below(PORTS);
            match env.net.listen(&format!("127.0.0.1:{port}")).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < TRIES => tries += 1,
                listener => break listener?,
            }
        };
        held.push(listener);
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}
