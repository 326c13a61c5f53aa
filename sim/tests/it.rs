//! The simulator's command, as CI and users run it.

#![allow(clippy::expect_used, reason = "a test")]

use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polybolos-sim")).args(args).output().expect("the simulator starts")
}

#[test]
fn some_seeds_keep_every_promise() {
    let output = sim(&["explore", "--seeds", "1..5"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_wrong_range_is_wrong_usage() {
    assert_eq!(sim(&["explore", "--seeds", "5..1"]).status.code(), Some(2));
}
