//! Every command that README.md and docs/ show runs, each `sh` block as one script in an empty folder.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a test sets the scene on the real machine"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

/// Stands in for cargo: runs what `cargo test` has built already.
const SHIM: &str = r#"#!/bin/sh
case "$1 $2 $3" in
    "build --quiet "* | "build --release "*) exit 0 ;;
    "run --quiet --") shift 3; exec "$POLYBOLOS" "$@" ;;
    "run --quiet --example") shift 3; name=$1; shift; [ "$1" = "--" ] && shift; exec "$BUILT/examples/$name" "$@" ;;
    "run --quiet -p" | "run --release -p") shift 3; name=$1; shift; [ "$1" = "--" ] && shift; exec "$BUILT/$name" "$@" ;;
    *) echo "the docs test does not know: cargo $*" >&2; exit 97 ;;
esac
"#;

/// Longer than any block needs on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The `sh` blocks of a page, each with the number of its first line.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in page.lines().enumerate() {
        match (inside, line) {
            (false, "```sh") => {
                inside = true;
                found.push((number + 2, String::new()));
            }
            (true, "```") => inside = false,
            (true, line) => {
                let (_, block) = found.last_mut().expect("a block was opened");
                block.push_str(line);
                block.push('\n');
            }
            (false, _) => {}
        }
    }
    found
}

fn run(script: &str, binary: &Path, folder: &Path) -> Output {
    let built = binary.parent().expect("a binary stands in a folder");
    let shim = folder.join("bin");
    fs::create_dir(&shim).expect("an empty folder");
    fs::write(shim.join("cargo"), SHIM).expect("write");
    fs::set_permissions(shim.join("cargo"), fs::Permissions::from_mode(0o755)).expect("chmod");
    symlink(binary, shim.join("polybolos")).expect("symlink");
    let work = folder.join("work");
    fs::create_dir(&work).expect("an empty folder");
    let path = format!("{}:{}", shim.display(), std::env::var("PATH").unwrap_or_default());
    Command::new("timeout")
        .arg(DEADLINE.as_secs().to_string())
        .args(["bash", "-euo", "pipefail", "-c", script])
        .current_dir(&work)
        .env("PATH", path)
        .env("POLYBOLOS", binary)
        .env("BUILT", built)
        .stdin(Stdio::null())
        .output()
        .expect("bash runs")
}

fn check(page: &str) {
    let text = fs::read_to_string(root().join(page)).expect("the page exists");
    for (line, script) in blocks(&text) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = run(&script, Path::new(env!("CARGO_BIN_EXE_polybolos")), folder.path());
        assert!(
            output.status.success(),
            "{page}:{line}: {}\n{script}\n--- stdout\n{}\n--- stderr\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
    }
}

#[test]
fn a_failing_block_is_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let binary = Path::new(env!("CARGO_BIN_EXE_polybolos"));
    assert!(!run("cargo run --quiet -- no-such-command", binary, folder.path()).status.success());
    assert_eq!(blocks("a\n```sh\nb\nc\n```\n```bash\nd\n```\n"), vec![(3, "b\nc\n".to_owned())]);
}

#[test]
fn readme() {
    check("README.md");
}

#[test]
fn docs() {
    let mut pages: Vec<PathBuf> =
        fs::read_dir(root().join("docs")).expect("docs/").map(|entry| entry.expect("docs/").path()).collect();
    pages.sort();
    assert!(!pages.is_empty());
    for page in pages {
        check(page.strip_prefix(root()).unwrap_or(&page).to_str().expect("a UTF-8 path"));
    }
}

/// What the last column of a row of the failure contract names: `file::test` or, for the simulator, a scenario or a file.
fn names(row: &str) -> Vec<&str> {
    let cell = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
    cell.split('`').skip(1).step_by(2).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn exists(name: &str, sources: &[PathBuf]) -> bool {
    let Some((room, test)) = name.split_once("::") else {
        return root().join(name).is_file() || root().join(format!("sim/scenarios/{name}.toml")).is_file();
    };
    let function = format!("fn {test}(");
    sources
        .iter()
        .filter(|path| path.with_extension("").components().any(|part| part.as_os_str() == room))
        .any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&function)))
}

#[test]
fn the_failure_contract_names_tests_that_exist() {
    let mut found = Vec::new();
    for folder in ["crates", "sim"] {
        sources(&root().join(folder), &mut found);
    }
    let page = fs::read_to_string(root().join("docs/failure-contract.md")).expect("the page exists");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() > 20, "the table has {} rows", rows.len());
    for row in rows {
        assert!(!names(row).is_empty(), "no test is named: {row}");
        for name in names(row) {
            assert!(exists(name, &found), "{name} is not there: {row}");
        }
    }
    assert!(!exists("docs::a_test_that_was_never_written", &found) && !exists("no-such-scenario", &found));
}
