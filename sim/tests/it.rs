//! The simulator's command, as CI and users run it.

#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const SIM: &str = env!("CARGO_BIN_EXE_polybolos-sim");
/// Small and quick.
const SCENARIO: &str = "baseline";

fn sim(args: &[&str]) -> Output {
    Command::new(SIM).args(args).output().expect("the simulator starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// As the shell does: the path that the command printed after `replay`.
fn replayed(text: &str) -> PathBuf {
    let (_, rest) = text.split_once(" replay /").expect("a line to paste");
    PathBuf::from(format!("/{}", rest.split_whitespace().next().unwrap_or_default()))
}

#[test]
fn some_seeds_keep_every_promise() {
    let output = sim(&["explore", "--seeds", "1..5"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("5 seeds, 0 violations"), "{}", text(&output));
}

#[test]
fn what_is_wrong_usage_ends_with_2() {
    for wrong in [
        &["explore", "--seeds", "5..1"][..],
        &["run", "--seed", "1", "--scenario", "no-such"],
        &["run", "--seed", "1", "--mutant", "no-such"],
        &["replay", "/no/such/file.toml"],
    ] {
        let output = sim(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", text(&output));
        assert!(!output.stderr.is_empty(), "{wrong:?}");
    }
}

/// From two folders, with other environments, by two paths of one program, and looked at differently.
#[test]
fn a_seed_has_one_trace_wherever_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("a-folder-with-a-long-name-that-moves-whatever-depends-on-it").join("deep");
    fs::create_dir_all(&deep).expect("a folder");
    let copy = deep.join("another-name-of-the-simulator");
    fs::hard_link(SIM, &copy).or_else(|_| fs::copy(SIM, &copy).map(drop)).expect("another path");
    let trace = |program: &Path, from: &Path, name: &str, environment: &str| {
        let mut command = Command::new(program);
        command.current_dir(from).env("SOME_VARIABLE", environment).args(["run", "--seed", "1"]);
        command.args(["--scenario", SCENARIO, "--verbose", "--trace", name]);
        let output = command.output().expect("the simulator starts");
        assert_ne!(output.status.code(), Some(2), "{}", text(&output));
        fs::read(from.join(name)).expect("a trace")
    };
    let first = trace(Path::new(SIM), folder.path(), "t", "");
    let second = trace(&copy, &deep, "a-longer-name.jsonl", &"x".repeat(10_000));
    assert!(first.split(|byte| *byte == b'\n').count() > 100, "a trace of nothing compares nothing");
    assert!(first == second, "the traces differ");
}

#[test]
fn the_determinism_check_passes() {
    let output = sim(&["verify-determinism", "--seeds", "1..2", "--scenario", "swarm"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("2 runs of 1 scenarios were the same"), "{}", text(&output));
}

/// What has no bug but this one shows that a bug is told as one, and that what is told replays it.
#[test]
fn the_canary_is_told_written_and_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("a path of UTF-8");
    let first = sim(&["run", "--seed", "1", "--scenario", SCENARIO, "--canary", "--out", out]);
    assert_eq!(first.status.code(), Some(1), "{}", text(&first));
    let path = replayed(&text(&first));
    assert!(path.starts_with(folder.path()), "{}", path.display());
    let path = path.to_str().expect("a path of UTF-8");
    let told = |output: &Output| {
        let text = text(output);
        text.lines().find(|line| line.contains("canary: ")).map(str::to_owned).unwrap_or_default()
    };
    assert!(!told(&first).is_empty(), "{}", text(&first));
    let again = sim(&["replay", path, "--quiet", "--mutant", "canary", "--out", out]);
    assert_eq!((again.status.code(), told(&again)), (Some(1), told(&first)), "{}", text(&again));
    let explored = sim(&[
        "explore",
        "--seeds",
        "1..2",
        "--scenario",
        SCENARIO,
        "--canary",
        "--keep-going",
        "--out",
        out,
    ]);
    assert_eq!(explored.status.code(), Some(1), "{}", text(&explored));
    assert!(text(&explored).contains("2 seeds, 2 violations"), "{}", text(&explored));
}

#[test]
fn scenarios_are_listed_with_a_sentence() {
    let output = sim(&["scenarios"]);
    let text = text(&output);
    assert!(text.lines().count() >= 30 && text.lines().all(|line| line.trim_end().ends_with('.')), "{text}");
}
