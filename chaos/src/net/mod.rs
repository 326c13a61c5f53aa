//! The network between the processes, and how it is broken.
//!
//! ```text
//!   active faults ──▶ Matrix (who can't send what to whom: pure) ──▶ Namespaces: a namespace a node, veth, bridge, tc
//!                                                              └──▶ Proxies: TCP relays on loopback
//! ```
//!
//! Hosts are numbers: [`CLIENTS`] is this process, the nodes follow. Deliberately absent: any knowledge of what a host is.

mod bpf;
mod matrix;
mod namespaces;
mod owner;
mod proxies;

pub use matrix::{CLIENTS, LinkFault, Matrix, Rule, matrix};
pub use namespaces::Namespaces;
pub use proxies::Proxies;

use crate::os::OsError;

/// One of the two ways.
pub enum Network {
    Namespaces(Namespaces),
    Proxies(Proxies),
}

/// What the network did to messages so far. It only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Toll {
    /// Packets dropped, or bytes that a proxy held back.
    pub dropped: u64,
    /// Packets that were delayed or had to wait for the bandwidth, or bytes of a proxy.
    pub shaped: u64,
    /// Connections that were broken.
    pub cut: u64,
}

impl Network {
    /// Where a node listens, for itself.
    pub fn listen_address(&self, host: usize) -> String {
        match self {
            Self::Namespaces(net) => net.address(host),
            Self::Proxies(net) => net.real_address(host),
        }
    }

    /// Where others reach it.
    pub fn address(&self, host: usize) -> String {
        match self {
            Self::Namespaces(net) => net.address(host),
            Self::Proxies(net) => net.address(host),
        }
    }

    /// The network namespace that a node runs in.
    pub fn namespace(&self, host: usize) -> Option<String> {
        match self {
            Self::Namespaces(net) => Some(net.name(host)),
            Self::Proxies(_) => None,
        }
    }

    /// Adds a host, for a node that joins later. Its number is the next one.
    ///
    /// # Errors
    /// The machine refuses.
    pub async fn add_host(&mut self) -> Result<usize, OsError> {
        match self {
            Self::Namespaces(net) => net.add_host().await,
            Self::Proxies(net) => net.add_host().await,
        }
    }

    /// Whose connections a proxy has to tell apart.
    pub fn is_process(&self, host: usize, process: u32) {
        if let Self::Proxies(net) = self {
            net.is_process(host, process);
        }
    }

    /// From now on messages go as the matrix says.
    ///
    /// # Errors
    /// The machine refuses; the network may be in between then.
    pub async fn apply(&mut self, matrix: &Matrix) -> Result<(), OsError> {
        match self {
            Self::Namespaces(net) => net.apply(matrix).await,
            Self::Proxies(net) => {
                net.apply(matrix);
                Ok(())
            }
        }
    }

    /// The processes have ended: nothing of it is left then.
    pub fn take_down(&mut self) {
        if let Self::Namespaces(net) = self {
            net.take_down();
        }
    }

    /// # Errors
    /// The machine does not tell.
    pub async fn toll(&self) -> Result<Toll, OsError> {
        match self {
            Self::Namespaces(net) => net.toll().await,
            Self::Proxies(net) => Ok(net.toll()),
        }
    }
}
