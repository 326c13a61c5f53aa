//! Why a history can't be judged, with the line and what to do.

use std::{io, path::PathBuf};

use crate::{Kind, Model};

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{}: {source}; name a file of JSON lines, or `-` for the standard input", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("line {line}: can't be read: {source}")]
    Read { line: usize, source: io::Error },
    #[error("line {line} has more than {limit_bytes} bytes; write a digest of a large value, not the value")]
    LineTooLong { line: usize, limit_bytes: usize },
    #[error("the history has more than {limit} events; split it by key or by time, or raise --max-events")]
    TooManyEvents { limit: usize },
    #[error(
        "the history has more than {limit_bytes} bytes; split it by key or by time, or raise --max-bytes"
    )]
    TooLarge { limit_bytes: u64 },
    #[error("line {line} is no event: {source}; each line is an object like {EXAMPLE}")]
    NotAnEvent { line: usize, source: serde_json::Error },
    #[error(
        "line {line}: process {process} invokes `{f}` while its `{open}` of line {open_line} has no end; a process does \
         one operation at a time: end that one with ok, fail or info first, or use another process"
    )]
    StillOpen { line: usize, process: u64, f: String, open: String, open_line: usize },
    #[error(
        "line {line}: process {process} ends `{f}`, which it did not begin; write the invoke before the end"
    )]
    NotOpen { line: usize, process: u64, f: String },
    #[error(
        "line {line}: process {process} ends `{f}`, but its open operation is `{open}` of line {open_line}; repeat the \
         function and the key of the invoke"
    )]
    OtherOperation { line: usize, process: u64, f: String, open: String, open_line: usize },
    #[error(
        "line {line}: process {process} goes back in time, from {before_ns} to {time_ns} ns; use one monotonic clock for \
         all processes"
    )]
    BackInTime { line: usize, process: u64, before_ns: u64, time_ns: u64 },
    #[error(
        "line {line}: the model {model} has no function `{f}`, it has {}; choose another --model, or give the events of \
         other workloads a field \"model\"", model.functions().join(", ")
    )]
    UnknownFunction { line: usize, model: Model, f: String },
    #[error("line {line}: the value of this {} of `{f}` is {found}, but it must be {expected}", show(*kind))]
    Shape { line: usize, kind: Kind, f: String, found: String, expected: &'static str },
    #[error(
        "line {line}: statement {statement} was written before, in line {first}; give each statement a name of its own"
    )]
    StatementTwice { line: usize, statement: String, first: usize },
}

const EXAMPLE: &str = r#"{"type":"invoke","process":0,"time":12,"f":"read","key":"x"}"#;

fn show(kind: Kind) -> &'static str {
    match kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    }
}
