//! Lines of a trace for people.

use serde_json::Value;

use crate::trace::{Line, Seen};

/// What is of interest only to who looks closely.
pub(super) fn is_noise(line: &Line) -> bool {
    match &line.seen {
        Seen::Log { level, .. } => level == "DEBUG",
        Seen::Applied { commands, .. } => commands.iter().all(|command| command.starts_with("heartbeats")),
        Seen::Net { .. } | Seen::Obeyed { .. } => true,
        _ => false,
    }
}

/// `   4.120345 scheduler-1  elected term=2 last_term=1 last_index=40`.
pub(super) fn line(line: &Line) -> String {
    let at_s = line.at_us as f64 / 1e6;
    let (mut kind, mut rest) = (String::new(), String::new());
    if let Ok(Value::Object(fields)) = serde_json::to_value(&line.seen) {
        for (name, value) in fields {
            match value {
                Value::String(text) if name == "kind" => kind = text,
                Value::Null => {}
                Value::String(text) => rest.push_str(&format!(" {name}={text}")),
                Value::Array(items) => {
                    let items = items.iter().map(|item| item.as_str().unwrap_or_default());
                    rest.push_str(&format!(" {name}=[{}]", items.collect::<Vec<_>>().join(", ")));
                }
                other => rest.push_str(&format!(" {name}={other}")),
            }
        }
    }
    format!("{at_s:>12.6} {:<12} {kind}{rest}", line.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_a_sentence_of_facts() {
        let seen = Seen::Elected { term: 2, last_term: 1, last_index: 40 };
        let text = line(&Line { at_us: 4_120_345, host: "scheduler-1".to_owned(), seen });
        assert!(text.starts_with("    4.120345 scheduler-1  elected "), "{text}");
        assert!(text.contains(" term=2") && text.contains(" last_index=40"), "{text}");
    }

    #[test]
    fn heartbeats_are_noise_and_submits_are_not() {
        let applied = |command: &str| {
            let commands = vec![command.to_owned()];
            let seen = Seen::Applied { index: 1, term: 1, bytes: 9, commands, state_hash: String::new() };
            Line { at_us: 0, host: String::new(), seen }
        };
        assert!(is_noise(&applied("heartbeats executor-1")));
        assert!(!is_noise(&applied("submit-job 00000000000000a1")));
    }
}
