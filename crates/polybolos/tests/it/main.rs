//! Whole clusters, in this process, through their real services.
//!
//! ```text
//!   test ──▶ Client / distribute() ──▶ EmbeddedCluster (scheduler, two executors, loopback)
//!     └────▶ plain DataFusion: the oracle
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests run on the real machine")]

mod adaptive;
mod bad_input;
mod cancelling;
mod catalogue;
mod durable;
mod early;
mod example;
mod explain;
mod extension;
mod limits;
mod queries;
mod s3;
mod s3_writes;
mod support;
mod writes;
