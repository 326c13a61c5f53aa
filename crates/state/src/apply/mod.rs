//! The only way in which the state changes.
//!
//! Each command checks first and changes after, so that a [`Rejection`] leaves no trace.

pub(crate) mod adapt;
mod catalogue;
mod cluster;
mod deaths;
mod drain;
mod durable;
mod ending;
mod executors;
mod foresight;
mod jobs;
mod loss;
mod preview;
pub(crate) mod reopen;
mod rollback;
mod tasks;
mod writes;

use executors::Registration;
pub use foresight::LossCost;
pub(crate) use jobs::Submission;
pub use preview::{StageRisk, Supposed, loss_preview};

use crate::{
    Applied, Change, ClusterState, Command, ENTRY_VERSION, Entry, Rejection, Relation, ReplicaRecord,
};

pub(crate) type Outcome = Result<Change, Rejection>;

impl ClusterState {
    /// Applies every command of the entry, each alone and in order. An entry of an older term, of an unknown version
    /// or of one that is not in use yet is refused as a whole.
    pub fn apply(&mut self, entry: &Entry) -> Applied {
        if let Some(rejection) = self.refusal(entry) {
            return Applied { outcomes: vec![Err(rejection); entry.commands.len()] };
        }
        let last_ms = self.now_ms;
        self.now_ms = last_ms.max(entry.at_ms);
        if entry.term > self.term {
            self.term = entry.term;
            self.term_since_ms = self.now_ms;
            self.tell_of_term(entry.term, self.now_ms.saturating_sub(last_ms));
        }
        let apply = |command: &Command| {
            let needs = command.needs_version();
            if needs > entry.version {
                return Err(Rejection::NeedsVersion { needs, entry: entry.version });
            }
            let before = self.before(command);
            let outcome = self.apply_command(command);
            self.tell_of(command, &outcome, &before);
            outcome
        };
        Applied { outcomes: entry.commands.iter().map(apply).collect() }
    }

    fn refusal(&self, entry: &Entry) -> Option<Rejection> {
        if entry.version > ENTRY_VERSION {
            return Some(Rejection::UnknownVersion { version: entry.version });
        }
        if entry.version > self.version {
            return Some(Rejection::VersionNotInUse { entry: entry.version, in_use: self.version });
        }
        (entry.term < self.term).then_some(Rejection::StaleTerm { entry: entry.term, current: self.term })
    }

    fn apply_command(&mut self, command: &Command) -> Outcome {
        match command {
            Command::SubmitJob { .. } | Command::SubmitWrite { .. } => self.submit_command(command),
            Command::CancelJob { job, reason } => self.cancel(*job, reason),
            Command::FailJob { job, error } => self.fail(*job, error),
            Command::ReleaseJob { job } => self.release(*job),
            Command::ExpireJobs => Ok(self.expire()),
            Command::CompleteTask { .. }
            | Command::CompleteTaskIn { .. }
            | Command::OutputDurable { .. }
            | Command::OutputMoved { .. }
            | Command::FailTask { .. } => self.report(command),
            Command::RegisterExecutor { executor, address, slots, memory_bytes, labels, process_id } => self
                .register(Registration {
                    executor,
                    address,
                    slots: *slots,
                    memory_bytes: *memory_bytes,
                    labels,
                    process_id: *process_id,
                }),
            Command::DrainExecutor { executor } => self.drain(executor),
            Command::LoseExecutor { executor, incarnation, reason } => {
                self.lose(executor, *incarnation, reason)
            }
            Command::Heartbeats { beats } => Ok(self.beats(beats)),
            Command::SuspectExecutor { executor, incarnation } => self.suspect(executor, *incarnation),
            Command::CreateTable { name, table, or_replace, if_not_exists } => {
                self.catalogue.create(name, Relation::Table(table.clone()), *or_replace, *if_not_exists)
            }
            Command::CreateView { name, sql, or_replace, if_not_exists } => {
                self.catalogue.create(name, Relation::View { sql: sql.clone() }, *or_replace, *if_not_exists)
            }
            Command::DropRelation { name, if_exists, kind } => self.catalogue.drop(name, *if_exists, *kind),
            Command::SetSession { session, key, value } => self.catalogue.set(session, key, value),
            Command::ResetSession { session, key } => Ok(self.catalogue.reset(session, key)),
            Command::CloseSession { session } => Ok(self.catalogue.close(session)),
            Command::FoundCluster { cluster_id } => self.found(cluster_id),
            Command::RegisterReplica { replica, folder, version } => {
                self.register_replica(*replica, ReplicaRecord { folder: *folder, version: *version })
            }
            Command::RetireReplica { replica } => Ok(self.retire_replica(*replica)),
            Command::RaiseVersion { to } => self.raise_version(*to),
            Command::RestartCluster { cluster_id, replica, note } => {
                self.restart(cluster_id.as_deref(), *replica, note)
            }
            Command::RefusedCommands { counts } => Ok(self.count_refused(counts)),
            Command::TasksDied { executor, incarnation, tasks } => {
                Ok(self.tasks_died(executor, *incarnation, tasks))
            }
            Command::ReopenJob { job, unreadable } => self.reopen(*job, unreadable),
            Command::BeginDrain { executor, incarnation, deadline_ms } => {
                self.begin_drain(executor, *incarnation, *deadline_ms)
            }
            Command::ExecutorLeft { executor, incarnation, reason } => {
                self.executor_left(executor, *incarnation, reason)
            }
            Command::Published { job } => self.published(*job),
            Command::AbandonWrite { job, error } => self.abandon_write(*job, error),
            Command::Swept { job } => self.swept(*job),
            Command::JobsStarted { jobs } => Ok(self.jobs_started(jobs)),
            Command::AdaptStage { job, stage, shares, after } => self.adapt(*job, *stage, shares, *after),
        }
    }
}
