//! The command, as users and CI call it. What it does to a cluster: `polybolos-chaos run --suite ci`.

#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test")]

#[path = "it/shim.rs"]
mod shim;

use std::process::{Command, Output};

const CHAOS: &str = env!("CARGO_BIN_EXE_polybolos-chaos");

fn chaos(args: &[&str]) -> Output {
    Command::new(CHAOS).args(args).output().expect("the program starts")
}

#[test]
fn scenarios_are_listed_with_a_sentence() {
    let output = chaos(&["list"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().any(|line| line.starts_with("leader-hunted ") && line.ends_with('.')), "{text}");
}

#[test]
fn what_is_wrong_usage_ends_with_2() {
    let taken = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    for wrong in [
        &["run"][..],
        &["run", "--scenario", "no-such", "--binary", CHAOS],
        &["run", "--scenario", "quiet", "--minutes", "-1", "--binary", CHAOS],
        &["run", "--scenario", "quiet", "--binary", "/no/such/program"],
        &["run", "--scenario", "quiet", "--binary", CHAOS, "--out", taken, "--links", "proxies"],
        &["run", "--scenario", "quiet", "--stop-command", "true"],
    ] {
        let output = chaos(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stderr.is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_folder_that_is_none_of_a_run_is_no_pass() {
    let output = chaos(&["report", env!("CARGO_MANIFEST_DIR")]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("run.json can't be read"));
}
