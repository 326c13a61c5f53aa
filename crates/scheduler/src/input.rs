//! What reaches the run loop, and who waits for what becomes of it.

use std::time::Duration;

use bytes::Bytes;
use polybolos_model::{AttemptId, ErrorClass, ExecutorId, Incarnation, TaskId, Term};
use polybolos_state::{
    Beat, Change, Command, Rejection, Reported,
    policy::{Coming, Event},
};
use tokio::sync::oneshot;

use crate::{
    error::RequestError,
    executors::{Stream, StreamId},
    probe::Verdict,
};

/// Inputs that may wait for the run loop. Beyond it, callers wait, up to their deadlines.
pub(crate) const WAITING_INPUTS: usize = 4_096;
/// Requests that one entry takes at most; the rest goes into the next.
const BATCH_REQUESTS: usize = 1_024;
/// Plans and reports of one entry, all together, unless a single message of them is larger. Well below the log's own
/// limit of an entry.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// One number of an output's or operator's statistics, with its name, as it is logged at most.
const STATISTIC_BYTES: usize = 32;

/// See [`Batch::bears_a_wait`]. About as long as an entry takes to be committed on a disk of the slower sort.
const HOLD: Duration = Duration::from_millis(10);
/// As long as the smallest task takes; others are submitted that much later, and run meanwhile.
const SUBMIT_HOLD: Duration = Duration::from_millis(3);

/// Why a command had no effect.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The state refused it.
    Rejected(Rejection),
    /// It did not reach the state, or is not known to have.
    Unserved(RequestError),
}

pub(crate) type Answer = oneshot::Sender<Result<Change, Refusal>>;

/// A report, and the number under which its executor keeps it.
pub(crate) struct Report {
    pub(crate) sequence: u64,
    pub(crate) task: TaskId,
    pub(crate) attempt: AttemptId,
    pub(crate) command: Command,
    /// Those of a small result, as an Arrow IPC stream. They never go into the log.
    pub(crate) rows: Option<Bytes>,
}

/// What came over one stream.
pub(crate) struct Reports {
    pub(crate) executor: ExecutorId,
    pub(crate) stream: StreamId,
    pub(crate) reports: Vec<Report>,
}

/// An executor that wants to attach.
pub(crate) struct Registration {
    pub(crate) executor: ExecutorId,
    pub(crate) command: Command,
    pub(crate) running: Vec<Reported>,
    pub(crate) stream: Stream,
}

pub(crate) enum Input {
    Request {
        command: Box<Command>,
        /// The only term of a leader in which it may be committed, if what it relies on was looked at in that one.
        term: Option<Term>,
        answer: Answer,
    },
    Registration(Box<Registration>),
    Reports(Reports),
    Beat {
        stream: StreamId,
        beat: Beat,
    },
    StreamEnded {
        executor: ExecutorId,
        stream: StreamId,
    },
    /// An executor wants to leave.
    Drain {
        executor: ExecutorId,
        stream: StreamId,
        incarnation: Incarnation,
        deadline_ms: u64,
    },
    /// An executor did not fetch an output that it was told to.
    PullFailed {
        executor: ExecutorId,
        stream: StreamId,
        attempt: AttemptId,
    },
    /// What the leader of `term` had asked.
    Probed {
        term: Term,
        executor: ExecutorId,
        incarnation: Incarnation,
        verdict: Verdict,
    },
}

/// Where a request of a batch came from.
pub(crate) enum Origin {
    Client(Answer),
    Registration(Box<RegistrationOrigin>),
    Report {
        executor: ExecutorId,
        stream: StreamId,
        sequence: u64,
        task: TaskId,
        attempt: AttemptId,
        /// Of the failure that is reported.
        class: Option<ErrorClass>,
    },
    /// The leader itself.
    Housekeeping,
}

/// A [`Registration`] without its command.
pub(crate) struct RegistrationOrigin {
    pub(crate) executor: ExecutorId,
    pub(crate) running: Vec<Reported>,
    pub(crate) stream: Stream,
}

/// What goes into one entry. `origins[i]` belongs to the i-th `Event::Request`.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    pub(crate) origins: Vec<Origin>,
    /// What it submits.
    pub(crate) coming: Vec<Coming>,
    /// Roughly, of what is large.
    bytes: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The commands that are asked for.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Command> {
        self.events.iter().filter_map(|event| match event {
            Event::Request(command) => Some(command),
            _ => None,
        })
    }

    /// The commands that are asked for, unless anything else has happened that the leader decides about.
    pub(crate) fn requests_alone(&self) -> Option<impl Iterator<Item = &Command> + Clone> {
        let is_quiet = |event: &Event| {
            matches!(event, Event::Request(_) | Event::Beat(_) | Event::Silence { .. } | Event::Tick)
        };
        let requests = self.events.iter().filter_map(|event| match event {
            Event::Request(command) => Some(command),
            _ => None,
        });
        self.events.iter().all(is_quiet).then_some(requests)
    }

    /// How long it may wait for what comes next, if its one job goes on without: completions, so that a job costs few
    /// entries and its last one finds none under way; the submit of a job of one task, whose end may come into the same entry.
    /// An executor reports again what its leader takes with it.
    pub(crate) fn bears_a_wait(&self) -> Option<Duration> {
        let mut hold = HOLD;
        for event in &self.events {
            match event {
                Event::Request(
                    Command::CompleteTask { .. }
                    | Command::CompleteTaskIn { .. }
                    | Command::AdaptStage { .. },
                ) => {}
                Event::Request(Command::SubmitJob { graph, .. })
                    if graph.stages.iter().map(|stage| stage.tasks).sum::<u32>() == 1 =>
                {
                    hold = SUBMIT_HOLD;
                }
                _ => return None,
            }
        }
        (!self.events.is_empty()).then_some(hold)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.origins.len() < BATCH_REQUESTS && self.bytes < BATCH_BYTES
    }

    pub(crate) fn request(&mut self, command: Command, origin: Origin) {
        self.coming.extend(Coming::of(&command));
        if let Command::SubmitJob { graph, .. } | Command::SubmitWrite { graph, .. } = &command {
            self.bytes +=
                graph.stages.iter().map(|stage| stage.plan.len() + stage.display.len()).sum::<usize>();
        }
        if let Command::CompleteTask { outputs, metrics, .. }
        | Command::CompleteTaskIn { outputs, metrics, .. } = &command
        {
            let values: usize = metrics.operators.iter().map(|operator| operator.values.len()).sum();
            self.bytes += (outputs.len() + values) * STATISTIC_BYTES;
        }
        self.events.push(Event::Request(command));
        self.origins.push(origin);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(crate) fn registration(&mut self, registration: Registration) {
        let Registration { executor, command, running, stream } = registration;
        let origin = RegistrationOrigin { executor, running, stream };
        self.request(command, Origin::Registration(Box::new(origin)));
    }

    pub(crate) fn reports(&mut self, reports: Reports) {
        let Reports { executor, stream, reports } = reports;
        for Report { sequence, task, attempt, command, rows: _ } in reports {
            let executor = executor.clone();
            let class = match &command {
                Command::FailTask { error, .. } => Some(error.class),
                _ => None,
            };
            self.request(command, Origin::Report { executor, stream, sequence, task, attempt, class });
        }
    }
}
