//! What a moment is in a trace: every kind of it, in owned texts and numbers.

use polybolos_model::simulation::{AttemptEnd, Fact};

use super::{Seen, commands};
use crate::moment::{ClientEvent, NetKind, Outcome, What};

pub(super) fn of(what: &What) -> Seen {
    match what {
        What::Up { life } => Seen::Up { life: *life },
        What::Down { power_loss } => Seen::Down { power_loss: *power_loss },
        What::Exited { reason } => Seen::Exited { reason: reason.clone() },
        What::Refused { reason } => Seen::Refused { reason: reason.clone() },
        What::FaultBegins { id, name, target } => {
            Seen::FaultBegins { id: *id, name: (*name).to_owned(), target: target.clone() }
        }
        What::FaultEnds { id, name, target } => {
            Seen::FaultEnds { id: *id, name: (*name).to_owned(), target: target.clone() }
        }
        What::FaultSkipped { id, name, reason } => {
            Seen::FaultSkipped { id: *id, name: (*name).to_owned(), reason: reason.clone() }
        }
        What::Failpoint { point, hit, then } => {
            Seen::Failpoint { point: (*point).to_owned(), hit: *hit, then: then.clone() }
        }
        What::Mark(mark) => Seen::Mark { mark: (*mark).to_owned() },
        What::Fact(fact) => of_fact(fact),
        What::Client(event) => of_client(event),
        What::Phase(phase) => Seen::Phase { phase: (*phase).to_owned() },
        What::Log { level, target, text } => {
            Seen::Log { level: (*level).to_owned(), target: target.clone(), text: text.clone() }
        }
        What::Net { peer, kind, bytes } => {
            let net = match kind {
                NetKind::Connected => "connected",
                NetKind::Refused => "refused",
                NetKind::Sent => "sent",
                NetKind::Closed => "closed",
            };
            Seen::Net { peer: peer.clone(), net: net.to_owned(), bytes: *bytes }
        }
    }
}

fn of_fact(fact: &Fact) -> Seen {
    match fact {
        Fact::Elected { term, last_term, last_index } => {
            Seen::Elected { term: term.0, last_term: last_term.0, last_index: *last_index }
        }
        Fact::Opened { last_term, last_index } => {
            Seen::Opened { last_term: last_term.0, last_index: *last_index }
        }
        Fact::Applied { index, term, entry, state_hash } => Seen::Applied {
            index: *index,
            term: term.0,
            bytes: entry.len(),
            commands: commands::of(entry),
            state_hash: format!("{state_hash:016x}"),
        },
        Fact::Installed { index, term, state_hash } => {
            Seen::Installed { index: *index, term: term.0, state_hash: format!("{state_hash:016x}") }
        }
        Fact::Launched { term, executor, task, attempt } => Seen::Launched {
            term: term.0,
            executor: executor.to_string(),
            task: task.to_string(),
            attempt: attempt.to_string(),
        },
        Fact::Obeyed { executor, term } => Seen::Obeyed { executor: executor.to_string(), term: term.0 },
        Fact::Registered { executor, term, incarnation } => {
            Seen::Registered { executor: executor.to_string(), term: term.0, incarnation: incarnation.0 }
        }
        Fact::AttemptStarted { executor, task, attempt, busy, slots } => Seen::AttemptStarted {
            executor: executor.to_string(),
            task: task.to_string(),
            attempt: attempt.to_string(),
            busy: *busy,
            slots: *slots,
        },
        Fact::AttemptEnded { executor, task, attempt, end } => Seen::AttemptEnded {
            executor: executor.to_string(),
            task: task.to_string(),
            attempt: attempt.to_string(),
            end: match end {
                AttemptEnd::Completed => "completed",
                AttemptEnd::Failed => "failed",
                AttemptEnd::Stopped => "stopped",
            }
            .to_owned(),
        },
    }
}

fn of_client(event: &ClientEvent) -> Seen {
    match event {
        ClientEvent::Invoked { op, what } => Seen::Invoked { op: *op, what: what.clone() },
        ClientEvent::Accepted { op, job, key } => {
            Seen::Accepted { op: *op, job: job.to_string(), key: key.clone() }
        }
        ClientEvent::Status { op, job, status, is_terminal } => {
            Seen::Status { op: *op, job: job.to_string(), status: status.clone(), is_terminal: *is_terminal }
        }
        ClientEvent::Answered { op, job, rows, mismatch } => {
            Seen::Answered { op: *op, job: job.to_string(), rows: *rows, mismatch: mismatch.clone() }
        }
        ClientEvent::Done { op } => Seen::Done { op: *op },
        ClientEvent::Failed { op, error, outcome } => {
            let outcome = match outcome {
                Outcome::Cancelled => "cancelled",
                Outcome::Failed => "failed",
                Outcome::Unknown => "unknown",
            };
            Seen::Failed { op: *op, error: error.clone(), outcome: outcome.to_owned() }
        }
        ClientEvent::Abandoned { op, job } => Seen::Abandoned { op: *op, job: job.to_string() },
    }
}
