//! What clients did and saw, as `history.jsonl` in the run's folder: the format of jepsen-lite.

use std::{
    fs::File,
    future::Future,
    io::{BufWriter, Write},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use jepsen_lite::{Event, Model};
use polybolos_client::ClientError;
use serde_json::Value;

use crate::os::{Clock, OsError};

/// How an operation ended, as its client knows it.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// It took effect, and this was the answer.
    Ok(Value),
    /// It took no effect and never will, or told nothing if it only asks.
    Fail(String),
    /// Nobody knows.
    Info(String),
}

impl End {
    /// By what the client's error promises of a call that changes something.
    pub fn of_change(error: &ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::Unreachable { .. }
            | ClientError::Statement { .. }
            | ClientError::TooLarge { .. }
            | ClientError::Busy { .. }
            | ClientError::Refused { .. }
            | ClientError::NoQuorum { may_be_done: false, .. } => Self::Fail(text),
            ClientError::NoQuorum { may_be_done: true, .. }
            | ClientError::Deadline { .. }
            | ClientError::Unfollowed { .. }
            | ClientError::JobFailed { .. }
            | ClientError::Cancelled { .. }
            | ClientError::Ended { .. }
            | ClientError::NotFound { .. }
            | ClientError::Fetch { .. }
            | ClientError::RolledBack { .. }
            | ClientError::Protocol { .. } => Self::Info(text),
        }
    }

    /// Of a call that only asks: it had no effect whatever happened.
    pub fn of_question(error: &ClientError) -> Self {
        Self::Fail(error.to_string())
    }
}

/// A class of errors, for the table of a run.
pub fn class(error: &str) -> &'static str {
    const CLASSES: &[(&str, &str)] = &[
        ("no scheduler could be reached", "unreachable"),
        ("found no quorum", "no quorum"),
        ("got no answer within", "deadline"),
        ("was cancelled", "cancelled"),
        ("is busy", "busy"),
        ("can't be finished", "rolled back"),
        ("could not be read from", "fetch"),
        ("unexpected answer", "protocol"),
        ("has ended", "ended"),
        ("is not known", "not found"),
        ("failed", "failed"),
    ];
    CLASSES.iter().find(|(text, _)| error.contains(text)).map_or("other", |(_, class)| class)
}

pub struct Recorder {
    file: Mutex<BufWriter<File>>,
    clock: Clock,
    processes: AtomicU64,
    is_torn: AtomicBool,
}

impl Recorder {
    /// # Errors
    /// The file can't be made.
    pub fn open(path: &Path, clock: Clock) -> Result<Arc<Self>, OsError> {
        let file = File::create(path).map_err(OsError::file("making", path))?;
        Ok(Arc::new(Self {
            file: Mutex::new(BufWriter::new(file)),
            clock,
            processes: AtomicU64::new(0),
            is_torn: AtomicBool::new(false),
        }))
    }

    /// A logical client: it has one operation at a time.
    pub fn process(self: &Arc<Self>) -> Process {
        Process { recorder: Arc::clone(self), id: self.processes.fetch_add(1, Ordering::Relaxed) }
    }

    fn write(&self, event: impl FnOnce(u64) -> Event) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Stamped within the lock, so that the lines are in the order of time.
        let event = event(self.clock.us() * 1_000);
        if writeln!(file, "{event}").is_err() {
            self.is_torn.store(true, Ordering::Relaxed);
        }
    }

    /// All of it is in the file then. False if something could not be written: then it proves nothing.
    pub fn finish(&self) -> bool {
        let flushed = self.file.lock().unwrap_or_else(PoisonError::into_inner).flush();
        flushed.is_ok() && !self.is_torn.load(Ordering::Relaxed)
    }
}

pub struct Process {
    recorder: Arc<Recorder>,
    id: u64,
}

/// What an operation is.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a> {
    pub model: Model,
    pub f: &'static str,
    pub key: &'a str,
}

impl<'a> Op<'a> {
    pub fn job(f: &'static str, key: &'a str) -> Self {
        Self { model: Model::Job, f, key }
    }
}

impl Process {
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Records an operation from before its call to after its answer.
    pub async fn op<T>(&self, op: Op<'_>, input: Value, call: impl Future<Output = (End, T)>) -> T {
        let Op { model, f, key } = op;
        self.recorder.write(|at| Event::invoke(self.id, at, f).on(key).with(input).of(model));
        let (end, value) = call.await;
        self.recorder.write(|at| match end {
            End::Ok(answer) => Event::ok(self.id, at, f).on(key).with(answer).of(model),
            End::Fail(error) => Event::fail(self.id, at, f).on(key).because(error).of(model),
            End::Info(error) => Event::info(self.id, at, f).on(key).because(error).of(model),
        });
        value
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use polybolos_model::JobId;

    use super::*;

    #[test]
    fn a_time_out_is_never_a_failure() {
        let late =
            ClientError::Deadline { what: "the submit", waited: Duration::from_secs(1), last: String::new() };
        assert!(matches!(End::of_change(&late), End::Info(_)));
        let quorum = |may_be_done| ClientError::NoQuorum {
            what: "the submit",
            waited: Duration::from_secs(1),
            states: String::new(),
            may_be_done,
        };
        assert!(matches!(End::of_change(&quorum(true)), End::Info(_)));
        assert!(matches!(End::of_change(&quorum(false)), End::Fail(_)));
        // What it was told while it followed the query says nothing of the query.
        let unfollowed = ClientError::Unfollowed { job: JobId(7), source: Box::new(quorum(false)) };
        assert!(matches!(End::of_change(&unfollowed), End::Info(_)));
        assert_eq!(class(&unfollowed.to_string()), "no quorum");
        assert_eq!((class(&late.to_string()), class(&quorum(true).to_string())), ("deadline", "no quorum"));
    }
}
