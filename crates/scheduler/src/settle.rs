//! What becomes of those who wait for an entry, and what its outcome makes the leader do.
//!
//! ```text
//!   committed ─────▶ answers, acknowledgements, effects, launches
//!   not committed ─▶ refusals: whoever asked asks again, executors report again over a new stream
//!   unknown ───────▶ "unknown" to whoever asked; the leader begins anew
//! ```
//!
//! Deliberately absent: memory of what an entry of unknown outcome would have changed. The state has it, if it is
//! committed.

use polybolos_consensus::{Committed, ProposeError};
use polybolos_model::{AttemptId, ErrorClass, ExecutorId, TaskError, TaskId, limits::MAX_ENDED_JOBS};
use polybolos_proto::v1::{
    CancelTasks, DeleteOutputs, Refused, Registered, ReportsCommitted, SchedulerMessage,
    scheduler_message::Message,
};
use polybolos_state::{Applied, Change, ClusterState, Command, JobError, Rejection};

use crate::{
    error::RequestError,
    executors::{Stream, StreamId},
    input::{Origin, Refusal, RegistrationOrigin},
    leader::Leader,
    run_loop::refuse,
    shared::Shared,
};

type Outcome = Result<Change, Rejection>;

impl Leader {
    /// `added` are the commands that the policy put behind those of `origins`.
    pub(crate) fn settle(
        &mut self,
        origins: Vec<Origin>,
        added: &[Command],
        outcome: Result<Committed, ProposeError>,
    ) {
        match outcome {
            Ok(committed) => {
                if std::mem::take(&mut self.unresolved) {
                    self.listen_anew();
                }
                self.committed(origins, added, committed.applied);
                self.dispatch();
            }
            Err(error) if error.may_be_committed() => {
                polybolos_model::sometimes!("the outcome of an entry was unknown");
                tracing::warn!(%error, requests = origins.len(), "an entry's outcome is unknown");
                refuse_origins(origins, || RequestError::Unknown);
                self.begin_anew();
            }
            Err(error) => self.not_committed(origins, &error),
        }
    }

    fn committed(&mut self, origins: Vec<Origin>, added: &[Command], applied: Applied) {
        let mut outcomes = applied.outcomes.into_iter();
        for origin in origins {
            let outcome = outcomes
                .next()
                .unwrap_or(Err(Rejection::StaleTerm { entry: self.term(), current: self.term() }));
            count_fenced(&self.shared, &origin, &outcome);
            if let Ok(change) = &outcome {
                self.carry_out(change);
            }
            match origin {
                Origin::Client(answer) => {
                    // The caller may have gone away.
                    let _ = answer.send(outcome.map_err(Refusal::Rejected));
                }
                Origin::Registration(registration) => self.register(*registration, outcome),
                Origin::Report { executor, stream, sequence, task, attempt, class } => {
                    let report = Settled { executor, stream, sequence, task, attempt };
                    if let (Some(class), Ok(Change::TaskFailed { .. })) = (class, &outcome) {
                        self.note_failure(&report, class);
                    }
                    self.reported(report, outcome.err());
                }
                Origin::Housekeeping => {}
            }
        }
        for (outcome, command) in outcomes.zip(added) {
            match outcome {
                Ok(change) => self.carry_out(&change),
                Err(rejection) => {
                    tracing::debug!(?command, %rejection, "the leader's own command was rejected")
                }
            }
        }
        self.tell_moves();
        self.acknowledge();
    }

    /// Nothing has happened: clients may ask again, executors report again over a new stream. What the leader itself
    /// wanted comes up again by itself, at the latest with the next tick.
    fn not_committed(&mut self, origins: Vec<Origin>, error: &ProposeError) {
        polybolos_model::sometimes!("an entry was not committed");
        tracing::warn!(%error, requests = origins.len(), "an entry was not committed");
        for origin in &origins {
            if let Origin::Report { executor, stream, .. } = origin
                && self.is_current(executor, *stream)
            {
                self.drop_stream(executor);
            }
        }
        refuse_origins(origins, || unserved(&self.shared, error));
        // Executors may have been told of inputs that the entry held, and of others by the time that a stage is sent again.
        self.stages.forget_all();
        self.streams.forget_all();
    }

    fn register(&mut self, registration: RegistrationOrigin, outcome: Outcome) {
        let RegistrationOrigin { executor, running, stream } = registration;
        let incarnation = match outcome {
            Ok(Change::Registered { incarnation, .. }) => incarnation,
            Ok(_) => return,
            Err(rejection) => {
                // A name or address in use is free again once the process that had it counts as lost.
                let retry = !matches!(
                    rejection,
                    Rejection::NoSlots { .. }
                        | Rejection::BadAddress { .. }
                        | Rejection::LabelsTooLarge { .. }
                );
                let why = RequestError::Refused { reason: rejection.to_string() };
                return refuse_registration(&stream, &why, retry);
            }
        };
        tracing::info!(%executor, %incarnation, running = running.len(), "executor attached");
        let now = self.shared.env.clock.now();
        self.streams.attach(executor.clone(), incarnation, stream, now);
        let heartbeat = self.shared.config.heartbeat_interval.as_millis();
        let (cluster_id, adoption, released) = self.shared.read(|state| {
            let adoption = self.shared.dispatcher().attach(state, &executor, incarnation, &running);
            let released: Vec<_> =
                state.released_jobs().rev().take(MAX_ENDED_JOBS).map(|job| job.id).collect();
            (state.cluster_id().to_owned(), adoption, released)
        });
        polybolos_model::sometimes!("an attempt was adopted", !adoption.adopted.is_empty());
        polybolos_model::sometimes!(
            "an attempt was called off when its executor came",
            !adoption.cancel.is_empty()
        );
        let registered = Registered {
            incarnation: incarnation.0,
            cluster_id,
            heartbeat_interval_ms: u64::try_from(heartbeat).unwrap_or(u64::MAX),
        };
        self.streams.send(&executor, Message::Registered(registered));
        self.tell_draining(&executor);
        self.tell_all_moves(&executor);
        if !adoption.cancel.is_empty() {
            let attempts = adoption.cancel.into_iter().map(Into::into).collect();
            self.streams.send(&executor, Message::Cancel(CancelTasks { attempts }));
        }
        // It may have been away when they were released.
        for job in released {
            self.streams.send(&executor, crate::effects::release(job));
        }
    }

    /// Its task waits before it is tried again, and its executor may be set aside.
    fn note_failure(&self, report: &Settled, class: ErrorClass) {
        let (task, attempt, now_ms) = (report.task, report.attempt, self.led_ms());
        self.shared.read(|state| self.shared.dispatcher().failed(state, task, attempt, class, now_ms));
    }

    fn reported(&mut self, report: Settled, rejection: Option<Rejection>) {
        {
            let mut dispatcher = self.shared.dispatcher();
            dispatcher.ended(report.attempt);
            dispatcher.pull_ended(report.attempt);
        }
        self.look_at_rows(&report, rejection.is_none());
        let Some(rejection) = rejection else { return self.ack(report) };
        match rejection {
            // This life of the executor is over for the cluster: it registers anew and reports again.
            Rejection::StaleIncarnation { .. }
            | Rejection::ExecutorNotFound { .. }
            | Rejection::StaleTerm { .. }
            | Rejection::UnknownVersion { .. }
            | Rejection::VersionNotInUse { .. } => {
                polybolos_model::sometimes!("a report of a lost life was refused");
                if self.is_current(&report.executor, report.stream) {
                    self.drop_stream(&report.executor);
                }
            }
            Rejection::OutputCount { .. } => {
                let error = JobError::of_job(TaskError::new(ErrorClass::Internal, rejection.to_string()));
                self.follow_up(Command::FailJob { job: report.task.job, error });
                self.discard(report);
            }
            // While an older version is in use nobody knows of it; that costs a run of the task if its executor is lost.
            Rejection::NeedsVersion { .. } => self.ack(report),
            other => {
                polybolos_model::sometimes!("a report was of no use");
                tracing::debug!(task = %report.task, rejection = %other, "a report is of no use");
                self.discard(report);
            }
        }
    }

    /// Forgets what came along with a report that was refused, or came once more for a job that is given back.
    fn look_at_rows(&self, report: &Settled, is_taken: bool) {
        let (job, attempt) = (report.task.job, report.attempt);
        if !self.shared.rows().has(job, attempt) {
            return;
        }
        let is_read = |state: &ClusterState| state.job(job).is_some_and(|job| !job.released);
        if !is_taken || !self.shared.read(is_read) {
            self.shared.rows().forget(job, attempt);
        }
    }

    /// The attempt's output, if it made any, is not wanted.
    fn discard(&mut self, report: Settled) {
        let delete = DeleteOutputs { attempts: vec![report.attempt.into()] };
        self.streams.send(&report.executor, Message::DeleteOutputs(delete));
        self.ack(report);
    }

    fn ack(&mut self, report: Settled) {
        if self.is_current(&report.executor, report.stream) {
            self.acks.entry(report.executor).or_default().push(report.sequence);
        }
    }

    fn acknowledge(&mut self) {
        for (executor, sequences) in std::mem::take(&mut self.acks) {
            self.streams.send(&executor, Message::Committed(ReportsCommitted { sequences }));
        }
    }
}

/// A report whose fate is known.
struct Settled {
    executor: ExecutorId,
    stream: StreamId,
    sequence: u64,
    task: TaskId,
    attempt: AttemptId,
}

/// An entry of a term in which this replica led and no longer does. What it changed the next leader carries out, but
/// whoever asked here is told. Executors have lost their streams, and report to the next leader.
pub(crate) fn of_the_past(shared: &Shared, origins: Vec<Origin>, outcome: Result<Committed, ProposeError>) {
    let committed = match outcome {
        Ok(committed) => committed,
        Err(error) if error.may_be_committed() => return refuse_origins(origins, || RequestError::Unknown),
        Err(error) => return refuse_origins(origins, || unserved(shared, &error)),
    };
    polybolos_model::sometimes!("an entry was committed after its leader was deposed");
    let mut rest = Vec::new();
    for (origin, outcome) in origins.into_iter().zip(committed.applied.outcomes) {
        count_fenced(shared, &origin, &outcome);
        match origin {
            Origin::Client(answer) => {
                // The caller may have gone away.
                let _ = answer.send(outcome.map_err(Refusal::Rejected));
            }
            origin @ (Origin::Registration(_) | Origin::Report { .. } | Origin::Housekeeping) => {
                rest.push(origin)
            }
        }
    }
    refuse_origins(rest, || shared.not_serving());
}

/// The planted bug `ack-before-commit`: a submit is answered before it is in the log.
pub(crate) fn answer_submits(origins: &mut [Origin], commands: &[Command]) {
    for (origin, command) in origins.iter_mut().zip(commands) {
        if let Command::SubmitJob { job, .. } = command
            && let Origin::Client(answer) = std::mem::replace(origin, Origin::Housekeeping)
        {
            // The caller may have gone away.
            let _ = answer.send(Ok(Change::Submitted { job: *job }));
        }
    }
}

/// Reports need no answer: they are kept until one comes.
pub(crate) fn refuse_origins(origins: Vec<Origin>, why: impl Fn() -> RequestError) {
    for origin in origins {
        match origin {
            Origin::Client(answer) => refuse(answer, why()),
            Origin::Registration(registration) => refuse_registration(&registration.stream, &why(), true),
            Origin::Report { .. } | Origin::Housekeeping => {}
        }
    }
}

/// Tells the executor why. Its stream ends when it is dropped.
pub(crate) fn refuse_registration(stream: &Stream, why: &RequestError, retry: bool) {
    let leader = match why {
        RequestError::NotLeader { leader } => leader.clone(),
        _ => String::new(),
    };
    let refused = Refused { reason: why.to_string(), leader, retry };
    let message = SchedulerMessage { term: 0, message: Some(Message::Refused(refused)) };
    // A new stream's channel has room, unless its executor is gone.
    let _ = stream.outgoing.try_send(Ok(message));
}

/// Why an entry that is known not to be committed had no effect.
fn unserved(shared: &Shared, error: &ProposeError) -> RequestError {
    match error {
        ProposeError::NotLeader { leader: Some((_, leader)) } => {
            RequestError::NotLeader { leader: leader.clone() }
        }
        ProposeError::NotLeader { leader: None } => shared.not_serving(),
        ProposeError::TooLarge { bytes } => RequestError::TooLarge { bytes: *bytes },
        ProposeError::Refused { reason } => RequestError::NotCommitted { reason: reason.clone() },
        ProposeError::Unknown { .. } | ProposeError::Stopped { .. } => RequestError::Unknown,
    }
}

/// Counts what was refused because its term or its executor's life is over.
fn count_fenced(shared: &Shared, origin: &Origin, outcome: &Outcome) {
    let Err(rejection) = outcome else { return };
    let is_report = matches!(origin, Origin::Report { .. });
    if rejection.is_fencing() && (is_report || matches!(rejection, Rejection::StaleTerm { .. })) {
        shared.count_refused(1);
    }
}
