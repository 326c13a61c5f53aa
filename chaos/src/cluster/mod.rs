//! A cluster of real processes, which a run starts, breaks and takes away.
//!
//! ```text
//!   Fleet ──▶ Node (one process in its network, logs of all its lives in one file) ◀── Watchdog: who ended by itself?
//!     │         ├── Disk: a small tmpfs      └── Group: a control group with a memory limit
//!     └── Network
//! ```
//!
//! What is made is taken away when its owner is dropped; what a killed run left behind, by the next run's [`sweep`].

mod disk;
mod fleet;
mod group;
mod node;
mod sweep;

pub use disk::Disk;
pub use fleet::{Fleet, FleetError, Plan};
pub use group::Group;
pub use node::{Node, Role};
pub use sweep::{prefix, sweep};
