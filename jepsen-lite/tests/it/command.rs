//! The command, by its exit codes and what it prints.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const VALID: &str = r#"{"type":"invoke","process":0,"time":1,"f":"write","key":"x","value":1}
{"type":"ok","process":0,"time":2,"f":"write"}
"#;
const STALE: &str = r#"{"type":"invoke","process":0,"time":3,"f":"read","key":"x"}
{"type":"ok","process":0,"time":4,"f":"read"}
"#;

fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_jepsen-lite"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn exit_codes_say_the_verdict() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("valid", VALID);
    write("invalid", &format!("{VALID}{STALE}"));
    write("empty", "");
    write("broken", "{}\n");
    let check = |args: &[&str]| run(folder.path(), &[&["check"], args].concat());
    let (code, out, _) = check(&["valid", "--model", "register"]);
    assert_eq!(
        (code, out.lines().next()),
        (0, Some("valid: 1 operation of 1 process on 1 key, 0 without a known end, 0 failed"))
    );
    assert_eq!(check(&["invalid", "--model", "register"]).0, 1);
    assert_eq!(check(&["empty", "--model", "register"]).0, 3);
    assert_eq!(check(&["valid", "--model", "register", "--steps", "0"]).0, 3);
    let (code, _, error) = check(&["broken", "--model", "register"]);
    assert_eq!(code, 2);
    assert!(error.starts_with("jepsen-lite: broken: line 1 is no event: missing field `type`"), "{error}");
    let (code, _, error) = check(&["missing", "--model", "register"]);
    assert_eq!(code, 2);
    assert!(error.starts_with("jepsen-lite: missing: "), "{error}");
    let (code, _, error) = check(&["valid", "--model", "register", "--check", "answers"]);
    assert_eq!((code, error.contains("the model register has no check `answers`")), (2, true));
    assert_eq!(check(&["valid", "--model", "tree"]).0, 2);
    assert_eq!(check(&["valid", "--model", "register", "--max-events", "1"]).0, 2);
    assert_eq!(run(folder.path(), &[]).0, 2);
}

#[test]
fn a_report_is_written_as_json_and_as_a_page() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("h"), format!("{VALID}{STALE}")).expect("written");
    let args =
        ["check", "h", "--model", "register", "--json", "--html", "page.html", "--check", "linearizable"];
    let (code, out, _) = run(folder.path(), &args);
    assert_eq!(code, 1);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["verdict"], "invalid");
    assert_eq!(report["checks"][0]["check"], "linearizable");
    assert_eq!(report["checks"][0]["violations"][0]["window"][1]["f"], "read");
    let page = fs::read_to_string(folder.path().join("page.html")).expect("a page");
    assert!(page.starts_with("<!doctype html>") && page.contains("</svg>"));
    assert_eq!(run(folder.path(), &["check", "h", "--model", "register", "--html", "no/page.html"]).0, 2);
}

#[test]
fn what_is_generated_is_valid_and_the_same_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for model in ["register", "set", "mutex", "job", "rows"] {
        let args = ["generate", "--model", model, "--operations", "300", "--keys", "3", "--seed", "5"];
        let (code, history, _) = run(folder.path(), &args);
        assert_eq!((code, &history), (0, &run(folder.path(), &args).1), "{model}");
        fs::write(folder.path().join(model), history).expect("written");
        let (code, out, _) = run(folder.path(), &["check", model, "--model", model]);
        assert_eq!(code, 0, "{out}");
    }
}

/// The example of docs/jepsen-lite.md: what its history gives is what stands below it.
#[test]
fn the_guide_shows_what_is_printed() {
    let guide = include_str!("../../../docs/jepsen-lite.md");
    let block = |begin: &str, end: &str| {
        let (_, rest) = guide.split_once(begin).expect("the block begins");
        rest.split_once(end).expect("the block ends").0.to_owned()
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("h"), block("<<'END'\n", "END\n")).expect("written");
    let (code, out, _) = run(folder.path(), &["check", "h", "--model", "register"]);
    assert_eq!(code, 1);
    assert!(out.contains(&block("```text\n", "```")), "{out}");
}
