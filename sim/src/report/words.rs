//! Each moment in words, with what kind of thing it is and how grave.

use std::collections::BTreeMap;

use super::chart::{Event, HostIndex, KINDS};
use crate::trace::{Line, Seen};

/// Of little interest by itself.
const FAINT: u8 = 1;
const PLAIN: u8 = 2;
const WARNING: u8 = 3;
const GRAVE: u8 = 4;

/// The events so far; each text is kept once.
#[derive(Debug, Default)]
pub(super) struct Words {
    events: Vec<Event>,
    texts: Vec<String>,
    indices: BTreeMap<String, usize>,
    last_us: u64,
    last_index: u64,
}

impl Words {
    pub(super) fn on(&mut self, line: &Line, host: HostIndex) {
        let is_first = match &line.seen {
            Seen::Applied { index, .. } => *index > self.last_index,
            _ => false,
        };
        if let Seen::Applied { index, .. } = &line.seen {
            self.last_index = self.last_index.max(*index);
        }
        let Some((kind, grade, text)) = words(&line.seen, is_first) else { return };
        let kind = KINDS.iter().position(|known| *known == kind).unwrap_or_default();
        let since = line.at_us.saturating_sub(self.last_us);
        self.last_us = self.last_us.max(line.at_us);
        let text = self.text(text);
        self.events.push(Event { since, host, kind, grade, text });
    }

    fn text(&mut self, text: String) -> usize {
        if let Some(index) = self.indices.get(&text) {
            return *index;
        }
        self.texts.push(text.clone());
        self.indices.insert(text, self.texts.len() - 1);
        self.texts.len() - 1
    }

    pub(super) fn finish(self) -> (Vec<Event>, Vec<String>) {
        (self.events, self.texts)
    }
}

/// `None` for messages, which are columns of their own, and for the end.
fn words(seen: &Seen, is_first: bool) -> Option<(&'static str, u8, String)> {
    Some(match seen {
        Seen::Net { .. } | Seen::End(_) => return None,
        Seen::Up { life } => ("life", PLAIN, format!("starts, life {life}")),
        Seen::Down { power_loss: true } => ("life", WARNING, "loses its power".into()),
        Seen::Down { power_loss: false } => ("life", WARNING, "goes down".into()),
        Seen::Exited { reason } => ("life", WARNING, format!("its process ends: {reason}")),
        Seen::Refused { reason } => ("life", WARNING, format!("refuses to run: {reason}")),
        Seen::FaultBegins { id, name, target } => {
            ("fault", WARNING, format!("fault {id} begins: {name} {target}").trim_end().into())
        }
        Seen::FaultEnds { id, name, target } => {
            ("fault", PLAIN, format!("fault {id} ends: {name} {target}").trim_end().into())
        }
        Seen::FaultSkipped { id, name, reason } => {
            ("fault", FAINT, format!("fault {id}, {name}, could not act: {reason}"))
        }
        Seen::Failpoint { point, hit, then } => {
            // The rare one of two legal ways is no news; a hold or a power cut is.
            let grade = if then == "taken" { PLAIN } else { WARNING };
            ("failpoint", grade, format!("{point}, time {hit}: {then}"))
        }
        Seen::Mark { mark } => ("mark", PLAIN, mark.clone()),
        Seen::Phase { phase } => ("phase", PLAIN, phase.clone()),
        Seen::Violation { oracle, what } => ("violation", GRAVE, format!("{oracle}: {what}")),
        Seen::Log { level, target, text } => (
            "log",
            grade(level),
            format!("{} {}: {text}", level.to_uppercase(), target.replace("polybolos_", "")),
        ),
        Seen::Elected { .. } | Seen::Opened { .. } | Seen::Applied { .. } | Seen::Installed { .. } => {
            return Some(of_log(seen, is_first));
        }
        Seen::Launched { .. }
        | Seen::Obeyed { .. }
        | Seen::Registered { .. }
        | Seen::AttemptStarted { .. }
        | Seen::AttemptEnded { .. } => return Some(of_task(seen)),
        Seen::Invoked { .. }
        | Seen::Accepted { .. }
        | Seen::Status { .. }
        | Seen::Answered { .. }
        | Seen::Done { .. }
        | Seen::Failed { .. }
        | Seen::Abandoned { .. } => return Some(of_client(seen)),
    })
}

fn grade(level: &str) -> u8 {
    match level.to_uppercase().as_str() {
        "ERROR" => GRAVE,
        "WARN" => WARNING,
        "INFO" => PLAIN,
        _ => FAINT,
    }
}

fn of_log(seen: &Seen, is_first: bool) -> (&'static str, u8, String) {
    match seen {
        Seen::Elected { term, last_term, last_index } => {
            let log = format!("its log ends at index {last_index} of term {last_term}");
            ("election", PLAIN, format!("elected in term {term}; {log}"))
        }
        Seen::Opened { last_term, last_index } => (
            "log entry",
            FAINT,
            format!("opened its store: the log ends at index {last_index} of term {last_term}"),
        ),
        Seen::Applied { index, term, commands, .. } if is_first && !commands.is_empty() => {
            ("log entry", PLAIN, format!("commits {index}, term {term}: {}", commands.join("; ")))
        }
        Seen::Applied { index, term, .. } => ("log entry", FAINT, format!("applies {index}, term {term}")),
        Seen::Installed { index, term, .. } => {
            ("log entry", PLAIN, format!("installs a snapshot of index {index}, term {term}"))
        }
        _ => ("log", FAINT, format!("{seen:?}")),
    }
}

fn of_task(seen: &Seen) -> (&'static str, u8, String) {
    match seen {
        Seen::Launched { term, executor, task, attempt } => {
            ("task", PLAIN, format!("launches {task} attempt {attempt} on {executor}, term {term}"))
        }
        Seen::Obeyed { term, .. } => ("task", FAINT, format!("obeys a command of term {term}")),
        Seen::Registered { term, incarnation, .. } => {
            ("life", PLAIN, format!("is registered as incarnation {incarnation}, term {term}"))
        }
        Seen::AttemptStarted { task, attempt, busy, slots, .. } => {
            ("task", PLAIN, format!("starts {task} attempt {attempt}; {busy} of {slots} slots busy"))
        }
        Seen::AttemptEnded { task, attempt, end, .. } => {
            let grade = if end == "failed" { WARNING } else { PLAIN };
            ("task", grade, format!("{end}: {task} attempt {attempt}"))
        }
        _ => ("log", FAINT, format!("{seen:?}")),
    }
}

fn of_client(seen: &Seen) -> (&'static str, u8, String) {
    match seen {
        Seen::Invoked { op, what } => ("client", PLAIN, format!("op {op} asks: {what}")),
        Seen::Accepted { op, job, key } => {
            let key = key.as_ref().map(|key| format!(", key {key}")).unwrap_or_default();
            ("job", PLAIN, format!("op {op} is accepted as job {job}{key}"))
        }
        Seen::Status { op, job, status, .. } => {
            ("client", FAINT, format!("op {op} reads: job {job} is {status}"))
        }
        Seen::Answered { op, job, mismatch: Some(mismatch), .. } => {
            ("job", GRAVE, format!("op {op}, job {job}: WRONG ANSWER: {mismatch}"))
        }
        Seen::Answered { op, job, rows, mismatch: None } => {
            ("job", PLAIN, format!("op {op}, job {job}: answered with {rows} rows, which are right"))
        }
        Seen::Done { op } => ("client", PLAIN, format!("op {op} is done")),
        Seen::Failed { op, error, outcome } => {
            ("client", WARNING, format!("op {op} fails ({outcome}): {error}"))
        }
        Seen::Abandoned { op, job } => {
            ("client", PLAIN, format!("op {op} leaves job {job} alone, on purpose"))
        }
        _ => ("log", FAINT, format!("{seen:?}")),
    }
}
