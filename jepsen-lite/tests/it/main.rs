//! One program for all tests, since linking takes longer than they do.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by a panic, and sets its scene on the real machine"
)]

mod brute;
mod checks;
mod command;
mod common;
mod correct;
mod format;
mod known;
mod pictures;
