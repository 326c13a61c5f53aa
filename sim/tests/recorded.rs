//! From an export of a production cluster to a run: the file in `sim/recorded/` was written by `polybolos jobs export`
//! for a query that lost one of its executors.

#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const SIM: &str = env!("CARGO_BIN_EXE_polybolos-sim");

fn sim(args: &[&str]) -> Output {
    Command::new(SIM).args(args).output().expect("the simulator starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn export() -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/executor-killed.json");
    path.to_str().expect("a path of UTF-8").to_owned()
}

#[test]
fn the_executor_dies_again_and_the_answer_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("a path of UTF-8").to_owned();
    let (schedule, trace) = (at("incident.toml"), at("incident.jsonl"));
    let output = sim(&["replay", &export(), "--quiet", "--schedule", &schedule, "--trace", &trace]);
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 queries answered with 7 rows, 0 ops failed"), "{told}");
    assert!(told.contains("faults: crash") && !told.contains("could not act"), "{told}");
    let trace = fs::read_to_string(&trace).expect("a trace");
    // Such a small query may be over before a suspicion has become a loss.
    assert!(trace.contains("suspect-executor executor-1"), "the executor was not missed");
    let again = sim(&["replay", &schedule, "--quiet"]);
    assert!(again.status.success() && text(&again).contains("faults: crash"), "{}", text(&again));
}

#[test]
fn the_same_export_and_seed_are_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = |name: &str, seed: &str| {
        let path = folder.path().join(name);
        let output = sim(&[
            "replay",
            &export(),
            "--quiet",
            "--seed",
            seed,
            "--trace",
            path.to_str().expect("a path of UTF-8"),
        ]);
        assert!(output.status.success(), "{}", text(&output));
        fs::read(path).expect("a trace")
    };
    let first = trace("first", "7");
    assert!(first == trace("second", "7"), "the traces differ");
    assert!(first != trace("third", "8"), "the seed changes nothing");
}
