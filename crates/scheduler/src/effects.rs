//! What executors are told of a committed change.

use std::collections::BTreeMap;

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, StageId, TaskId};
use polybolos_proto::v1::{DeleteOutputs, ExecutorLost, ReleaseJob, scheduler_message::Message};
use polybolos_state::{Change, ClusterState, Effects};

use crate::leader::Leader;

/// Stop the job's attempts, forget its stages, delete its outputs.
pub(crate) fn release(job: JobId) -> Message {
    Message::Release(ReleaseJob { job_id: job.to_string() })
}

/// Whether a stage has its inputs, and it is not decided how it reads them.
fn has_undecided(state: &ClusterState, job: JobId) -> bool {
    let job = state.job(job);
    job.is_some_and(|job| job.graph.stages.iter().any(|stage| stage.is_undecided() && job.has_inputs(stage)))
}

impl Leader {
    pub(crate) fn carry_out(&mut self, change: &Change) {
        match change {
            Change::JobEnded { job, .. } | Change::Released { job } => {
                let runs = self.shared.dispatcher().running_of(*job).next().is_some();
                polybolos_model::sometimes!("a job ended while its tasks ran", runs);
                self.release(*job);
            }
            Change::Expired { jobs } => {
                for &job in jobs {
                    self.release(job);
                }
            }
            Change::TaskCompleted { task, stage_complete, job_ended } => {
                self.completed(*task, *stage_complete, *job_ended);
            }
            Change::TaskFailed { effects, .. } => {
                polybolos_model::sometimes!("a failed task was tried again", effects.failed.is_empty());
                self.follow(effects);
            }
            Change::Registered { replaced, effects, .. } => {
                if let Some((executor, incarnation)) = replaced {
                    self.gone(executor, *incarnation);
                }
                self.follow(effects);
            }
            Change::Lost { executor, incarnation, effects } => {
                self.lost(executor, *incarnation);
                self.follow(effects);
            }
            Change::Left { executor, incarnation, effects } => {
                self.let_go(executor, *incarnation);
                self.tell_locations_again();
                self.follow(effects);
            }
            Change::Draining { executor } => self.tell_draining(executor),
            Change::StageAdapted { job, stage, after, .. } => self.adapted(*job, *stage, *after),
            Change::OutputMoved { task } => self.drains.note_moved(*task),
            Change::Beats { stale, .. } => {
                self.shared.count_refused(stale.len() as u64);
                for executor in stale {
                    self.drop_stream(executor);
                }
            }
            Change::DeathsCounted { effects, .. } => {
                polybolos_model::sometimes!(
                    "a job was given up for its task's deaths",
                    !effects.failed.is_empty()
                );
                self.follow(effects);
            }
            Change::ClusterRestarted { effects } | Change::Reopened { effects, .. } => self.follow(effects),
            Change::Unchanged
            | Change::Submitted { .. }
            | Change::Duplicate { .. }
            | Change::Suspected { .. }
            | Change::Created
            | Change::Replaced
            | Change::Dropped
            | Change::SessionSet
            | Change::SessionClosed
            | Change::ClusterFounded
            | Change::ReplicaRegistered { .. }
            | Change::ReplicaRetired { .. }
            | Change::VersionRaised { .. }
            | Change::RefusedCommandsCounted { .. }
            | Change::MadeDurable { .. }
            | Change::Swept { .. }
            | Change::JobsStarted { .. } => {}
        }
    }

    /// Attempts that were launched by a decision that was never logged are of no use.
    fn adapted(&mut self, job: JobId, stage: StageId, after: AttemptId) {
        let outdated = self.shared.dispatcher().has_up_to(job, stage, after);
        polybolos_model::sometimes!("attempts of a decision that was not logged were called off", outdated);
        self.check_running |= outdated;
    }

    fn completed(&mut self, task: TaskId, stage_complete: bool, job_ended: bool) {
        // Whichever of two attempts came second is of no use.
        let rivals = self.shared.dispatcher().attempts_of(task).count() > 1;
        polybolos_model::sometimes!("one of two attempts of a task won", rivals);
        self.check_running |= rivals;
        if stage_complete && !job_ended && self.shared.read(|state| state.is_publishing(task.job)) {
            // What else of it runs is of no use.
            (self.check_running, self.check_writes) = (true, true);
        }
        if stage_complete && !job_ended && self.shared.read(|state| has_undecided(state, task.job)) {
            self.adaptable.insert(task.job);
        }
        if job_ended {
            // Its outputs stay until they are fetched.
            self.stages.forget_job(task.job);
            self.streams.forget_job(task.job);
            self.check_running = true;
        }
    }

    fn lost(&mut self, executor: &ExecutorId, incarnation: Incarnation) {
        let (reason, address) = self.shared.read(|state| {
            let known = state.executor(executor);
            let loss = known.and_then(|known| known.lost.as_ref());
            let reason = loss.map(|loss| loss.reason.clone()).unwrap_or_default();
            (reason, known.map(|known| known.address.clone()))
        });
        tracing::warn!(%executor, %incarnation, reason, "executor lost");
        polybolos_model::sometimes!("an executor was lost");
        self.gone(executor, incarnation);
        // It may hang, and keep those waiting that read from it.
        if let Some(address) = address {
            self.streams.send_to_all(&Message::Lost(ExecutorLost { address }));
        }
    }

    /// Nothing runs there any more, and nobody reads there.
    fn gone(&mut self, executor: &ExecutorId, incarnation: Incarnation) {
        self.shared.dispatcher().executor_gone(executor);
        self.streams.detach(executor, incarnation);
        self.tell_locations_again();
    }

    fn release(&mut self, job: JobId) {
        self.stages.forget_job(job);
        self.streams.forget_job(job);
        self.shared.rows().forget_job(job);
        if !polybolos_model::mutant!("release-not-sent") {
            self.streams.send_to_all(&release(job));
        }
        (self.check_running, self.check_writes) = (true, true);
    }

    /// Durable outputs of a lost executor are read elsewhere now, though their readers' epoch is the same: readers that
    /// run find them by themselves, and those that are launched from now on should not look at the lost one first.
    fn tell_locations_again(&mut self) {
        if self.shared.read(ClusterState::has_durable_outputs) {
            self.stages.forget_all();
            self.streams.forget_all();
        }
    }

    fn follow(&mut self, effects: &Effects) {
        if *effects == Effects::default() {
            return;
        }
        polybolos_model::sometimes!("completed tasks ran again", !effects.rerun.is_empty());
        polybolos_model::sometimes!("results were lost", !effects.results_lost.is_empty());
        polybolos_model::sometimes!("an orphaned output was deleted", !effects.orphaned.is_empty());
        for &job in &effects.failed {
            self.release(job);
        }
        let mut orphaned: BTreeMap<&ExecutorId, Vec<AttemptId>> = BTreeMap::new();
        for (executor, attempt) in &effects.orphaned {
            orphaned.entry(executor).or_default().push(*attempt);
        }
        for (executor, attempts) in orphaned {
            let attempts = attempts.into_iter().map(Into::into).collect();
            self.streams.send(executor, Message::DeleteOutputs(DeleteOutputs { attempts }));
        }
        self.check_running = true;
    }
}
