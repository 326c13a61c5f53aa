//! One executor: runs tasks, keeps and serves their outputs, and stays registered with whoever leads.
//!
//! ```text
//!   leader ══ Attach stream ══▶ link ─▶ node ─▶ core (decides: slots, fencing, reports)
//!                                        │ effects
//!                                        ▼
//!                      task (on the CPU threads): template ─▶ one partition ─▶ shuffle store
//!                                                                                  │
//!   other executors, clients ◀══════════ Arrow Flight ═════════════════════════════╯
//! ```
//!
//! Deliberately absent: planning, and any decision about which task runs where or again. An executor never gives up
//! on its scheduler: it keeps the ends of attempts until a leader has them in its log.

mod config;
mod core;
mod dirs;
mod durable;
mod handle;
mod link;
mod memory;
mod node;
mod object_stores;
mod runtime;
mod stage;
mod staged;
mod task;
mod wire;

pub use config::{
    DEFAULT_SHUFFLE_MEMORY_FRACTION, DurableMode, ExecutorConfig, ExecutorFailure, MIN_MEMORY_BYTES,
    ShuffleDurable, Spill, StartError,
};
pub use durable::DurableError;
pub use handle::{Executor, ExecutorHandle, ExecutorStatus};
pub use object_stores::{
    LazyObjectStores, OBJECT_STORE_OPTIONS, ObjectStoreError, option_key, register_object_store,
};
