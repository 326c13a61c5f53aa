//! What is done with bytes that may be anything, one function for each decoder: cargo-fuzz calls them, and so does
//! `crates/polybolos/tests/decoders.rs`, which takes the two files of this folder as its own.
//!
//! A target fails by a panic: the decoder's own, or an assertion about what it gave.

#[cfg(feature = "datafusion")]
pub mod queries;
pub mod state;
