//! The façade that embedding programs depend on, and the library behind the `polybolos` binary.
//!
//! ```text
//!   EmbeddedCluster ──▶ scheduler + executors (one process) ◀── Client
//!   distribute(SessionContext) ─────────────────────────────────▲
//! ```
//!
//! `examples/custom_functions.rs` shows both. Deliberately absent: anything that a room below does itself.

mod addresses;
mod distribute;
mod embedded;

pub use addresses::free_addresses;
pub use distribute::{MAX_MEMORY_TABLE_BYTES, RemoteQueryExec, TableCodec, distribute, with_table_codec};
pub use embedded::{EmbeddedCluster, EmbeddedConfig, REGISTRATION_DEADLINE, SETTLE_DEADLINE, StartError};
pub use polybolos_client as client;
pub use polybolos_client::Client;
pub use polybolos_env::Env;
pub use polybolos_executor::{DurableMode, ShuffleDurable};
pub use polybolos_planner::{Extensions, Settings};
pub use polybolos_scheduler::{FairShare, Job, Rank, SchedulingPolicy};
