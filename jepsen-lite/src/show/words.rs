//! Operations and times in words.

use serde_json::Value;

use crate::{Kind, Operation};

/// Longer ones are cut.
const LONGEST: usize = 48;

pub(crate) fn key(key: &str) -> String {
    if key.is_empty() { "the object".to_owned() } else { format!("key {key}") }
}

/// `write 1 by process 0`.
pub(crate) fn operation(op: &Operation) -> String {
    format!("{} by process {}", call(op), op.process)
}

/// `write 1`, `read → 1`, `cas 1 2 → ?`.
pub(crate) fn call(op: &Operation) -> String {
    let mut words = op.f.clone();
    // What a statement was asked is said again in its answer, where there is one.
    if !(op.input.is_null() || op.f == "contains" && op.kind == Kind::Ok) {
        words = format!("{words} {}", value(&op.input));
    }
    match op.kind {
        Kind::Ok if op.output.is_null() && op.f != "read" => {}
        Kind::Ok => {
            let answer = value(&op.output);
            let same = format!("{} ", op.f);
            words = format!("{words} → {}", answer.strip_prefix(&same).unwrap_or(&answer));
        }
        Kind::Fail => words.push_str(" → failed"),
        Kind::Info | Kind::Invoke => words.push_str(" → ?"),
    }
    words
}

/// JSON without the marks that people don't need.
pub(crate) fn value(value: &Value) -> String {
    let words = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name} {}", plain(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => plain(value),
    };
    shorten(&words, LONGEST)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => text.clone(),
        other => other.to_string(),
    }
}

pub(crate) fn shorten(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// In the unit that fits.
pub(crate) fn duration(ns: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with four digits")]
    let of = |unit: u64| ns as f64 / unit as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", of(1_000)),
        1_000_000..1_000_000_000 => format!("{:.1} ms", of(1_000_000)),
        _ => format!("{:.2} s", of(1_000_000_000)),
    }
}

pub(crate) fn count(number: usize, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{ending}")
}
