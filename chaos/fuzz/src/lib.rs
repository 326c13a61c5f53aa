//! What is done with bytes that may be anything, one function for each decoder: cargo-fuzz calls them, and so does
//! `crates/polybolos/tests/decoders.rs`, which takes `queries.rs` and `state.rs` as its own.
//!
//! A target fails by a panic: the decoder's own, or an assertion about what it gave.

mod contained;
#[cfg(feature = "datafusion")]
pub mod queries;
pub mod state;

pub use contained::contained;
