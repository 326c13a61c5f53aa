//! A replica while it leads: the streams of its executors, the attempts that run, and the effects of what is committed.

use std::{collections::BTreeMap, sync::Arc};

use polybolos_consensus::ProposeError;
use polybolos_model::{ErrorClass, ExecutorId, Incarnation, TaskError, Term, limits::MAX_ENDED_JOBS};
use polybolos_proto::v1::{
    CancelTasks, DeleteOutputs, Refused, Registered, ReportsCommitted, SchedulerMessage,
    scheduler_message::Message,
};
use polybolos_state::{
    Applied, Change, Command, Dispatcher, Rejection, limits::EXECUTOR_TIMEOUT_MS, policy::Event,
};
use tokio::time::{Duration, Instant};

use crate::{
    error::RequestError,
    executors::{Stream, StreamId, Streams},
    input::{Batch, Origin, Refusal, RegistrationOrigin},
    launch::StageCache,
    run_loop::refuse,
    shared::Shared,
};

/// How long a new leader waits for the executors to tell what they run, before it launches anything.
const ADOPTION_WAIT: Duration = Duration::from_millis(EXECUTOR_TIMEOUT_MS);

pub(crate) struct Leader {
    pub(crate) shared: Arc<Shared>,
    term: Term,
    since: Instant,
    pub(crate) streams: Streams,
    pub(crate) stages: StageCache,
    /// Reports to acknowledge at the end of the round.
    acks: BTreeMap<ExecutorId, Vec<u64>>,
    /// Some running attempts may be of no use any more.
    pub(crate) check_running: bool,
    /// What this round calls for in the next entry.
    follow_ups: Vec<Command>,
}

impl Leader {
    /// Everything that is volatile starts empty; executors tell the rest.
    pub(crate) fn begin(shared: Arc<Shared>, term: Term) -> Self {
        let mut fresh = Dispatcher::new(term);
        shared.read(|state| fresh.await_executors(state));
        *shared.dispatcher() = fresh;
        let since = shared.env.clock.now();
        Self {
            shared,
            term,
            since,
            streams: Streams::new(term),
            stages: StageCache::default(),
            acks: BTreeMap::new(),
            check_running: false,
            follow_ups: Vec::new(),
        }
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn is_current(&self, executor: &ExecutorId, stream: StreamId) -> bool {
        self.streams.is_current(executor, stream)
    }

    /// The stream ended by itself. Says of which incarnation it was, if it was the executor's present one.
    pub(crate) fn stream_ended(&mut self, executor: &ExecutorId, stream: StreamId) -> Option<Incarnation> {
        let incarnation = self.streams.remove(executor, stream)?;
        self.shared.dispatcher().detach(executor);
        Some(incarnation)
    }

    /// Adds what is due by time.
    pub(crate) fn tick(&mut self, batch: &mut Batch) {
        if self.shared.env.clock.now() - self.since >= ADOPTION_WAIT {
            self.shared.dispatcher().stop_waiting();
        }
        for (job, limit_ms) in self.shared.unwatched() {
            let reason = format!("nobody watched it for {limit_ms} ms");
            batch.request(Command::CancelJob { job, reason }, Origin::Housekeeping);
        }
    }

    /// Puts a command of the leader's own into the next entry.
    pub(crate) fn follow_up(&mut self, command: Command) {
        self.follow_ups.push(command);
    }

    pub(crate) fn has_follow_ups(&self) -> bool {
        !self.follow_ups.is_empty() || self.streams.has_broken()
    }

    pub(crate) fn take_follow_ups(&mut self, batch: &mut Batch) {
        for command in std::mem::take(&mut self.follow_ups) {
            batch.request(command, Origin::Housekeeping);
        }
        for (executor, incarnation) in self.streams.take_broken() {
            self.shared.dispatcher().detach(&executor);
            batch.event(Event::StreamBroken { executor, incarnation });
        }
    }

    /// Answers everybody who waits for an entry that is applied, and carries out what it changed. `added` are the
    /// commands that the policy put behind those of `origins`.
    pub(crate) fn settle(&mut self, origins: Vec<Origin>, added: &[Command], applied: Applied) {
        let mut outcomes = applied.outcomes.into_iter();
        for origin in origins {
            let outcome =
                outcomes.next().unwrap_or(Err(Rejection::StaleTerm { entry: self.term, current: self.term }));
            if let Ok(change) = &outcome {
                self.carry_out(change);
            }
            match origin {
                Origin::Client(answer) => {
                    // The caller may have gone away.
                    let _ = answer.send(outcome.map_err(Refusal::Rejected));
                }
                Origin::Registration(registration) => self.register(*registration, outcome),
                Origin::Report { executor, stream, sequence, task, attempt } => {
                    let report = Settled { executor, stream, sequence, task, attempt };
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
        self.acknowledge();
    }

    /// Nothing is known to have happened: clients may ask again, executors report again over a new stream.
    pub(crate) fn not_committed(&mut self, origins: Vec<Origin>, error: &ProposeError) {
        tracing::warn!(%error, requests = origins.len(), "an entry was not committed");
        for origin in origins {
            match origin {
                Origin::Client(answer) => refuse(answer, self.unserved(error)),
                Origin::Registration(registration) => {
                    refuse_registration(registration.stream, &self.unserved(error), true);
                }
                Origin::Report { executor, .. } => self.drop_stream(&executor),
                Origin::Housekeeping => {}
            }
        }
    }

    fn unserved(&self, error: &ProposeError) -> RequestError {
        match error {
            ProposeError::NotLeader { .. } => self.shared.not_leader(),
            ProposeError::TooLarge { bytes } => RequestError::TooLarge { bytes: *bytes },
            ProposeError::Refused { .. } | ProposeError::Unknown { .. } | ProposeError::Stopped { .. } => {
                RequestError::Unknown
            }
        }
    }

    fn drop_stream(&mut self, executor: &ExecutorId) {
        self.streams.drop_stream(executor);
        self.shared.dispatcher().detach(executor);
    }

    fn register(&mut self, registration: RegistrationOrigin, outcome: Result<Change, Rejection>) {
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
                return refuse_registration(
                    stream,
                    &RequestError::Refused { reason: rejection.to_string() },
                    retry,
                );
            }
        };
        tracing::info!(%executor, %incarnation, running = running.len(), "executor attached");
        self.streams.attach(executor.clone(), incarnation, stream);
        let heartbeat = self.shared.config.heartbeat_interval.as_millis();
        let (cluster_id, adoption, released) = self.shared.read(|state| {
            let adoption = self.shared.dispatcher().attach(state, &executor, incarnation, &running);
            let released: Vec<_> =
                state.released_jobs().rev().take(MAX_ENDED_JOBS).map(|job| job.id).collect();
            (state.cluster_id().to_owned(), adoption, released)
        });
        let registered = Registered {
            incarnation: incarnation.0,
            cluster_id,
            heartbeat_interval_ms: u64::try_from(heartbeat).unwrap_or(u64::MAX),
        };
        self.streams.send(&executor, Message::Registered(registered));
        if !adoption.cancel.is_empty() {
            let attempts = adoption.cancel.into_iter().map(Into::into).collect();
            self.streams.send(&executor, Message::Cancel(CancelTasks { attempts }));
        }
        // It may have been away when they were released.
        for job in released {
            self.streams.send(&executor, crate::effects::release(job));
        }
    }

    fn reported(&mut self, report: Settled, rejection: Option<Rejection>) {
        self.shared.dispatcher().ended(report.attempt);
        let Some(rejection) = rejection else { return self.ack(report) };
        match rejection {
            // This life of the executor is over for the cluster: it registers anew and reports again.
            Rejection::StaleIncarnation { .. }
            | Rejection::ExecutorNotFound { .. }
            | Rejection::StaleTerm { .. }
            | Rejection::UnknownVersion { .. } => {
                if self.streams.is_current(&report.executor, report.stream) {
                    self.drop_stream(&report.executor);
                }
            }
            Rejection::OutputCount { .. } => {
                let error = TaskError::new(ErrorClass::Internal, rejection.to_string());
                let error = polybolos_state::JobError::of_job(error);
                self.follow_up(Command::FailJob { job: report.task.job, error });
                self.discard(report);
            }
            other => {
                tracing::debug!(task = %report.task, rejection = %other, "a report is of no use");
                self.discard(report);
            }
        }
    }

    /// The attempt's output, if it made any, is not wanted.
    fn discard(&mut self, report: Settled) {
        let delete = DeleteOutputs { attempts: vec![report.attempt.into()] };
        self.streams.send(&report.executor, Message::DeleteOutputs(delete));
        self.ack(report);
    }

    fn ack(&mut self, report: Settled) {
        if self.streams.is_current(&report.executor, report.stream) {
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
    task: polybolos_model::TaskId,
    attempt: polybolos_model::AttemptId,
}

/// Tells the executor why, and closes its stream.
pub(crate) fn refuse_registration(stream: Stream, why: &RequestError, retry: bool) {
    let leader = match why {
        RequestError::NotLeader { leader } => leader.clone(),
        _ => String::new(),
    };
    let refused = Refused { reason: why.to_string(), leader, retry };
    let message = SchedulerMessage { term: 0, message: Some(Message::Refused(refused)) };
    // A new stream's channel has room, unless its executor is gone.
    let _ = stream.outgoing.try_send(Ok(message));
}
