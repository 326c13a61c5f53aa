//! A leader launches nothing that is done or over as far as it has applied the log, and nothing whose inputs are not
//! complete: a fail-over runs no finished work again. It may look ahead over what executors have told and the log does not
//! have yet, but only with one job alone, and over stages that give the same rows each time.
//! From: the design, "finished work is never run again by a fail-over"; "task starts stay off the log".

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{
    AttemptId, ExecutorId, JobId, Stage, TaskId, Term,
    simulation::{AttemptEnd, Fact},
};
use polybolos_state::{Change, ClusterState, Job};

use super::{Check, Commit, Oracle, Reference, effects_of};
use crate::moment::{Moment, What};

#[derive(Debug, Default)]
pub(super) struct LaunchesAreDue {
    /// Complete tasks and ended jobs, and the entry since which they are.
    done: BTreeMap<TaskId, u64>,
    ended: BTreeMap<JobId, u64>,
    /// Tasks of which an attempt has completed, whether the log knows of it or not.
    told: BTreeSet<TaskId>,
}

impl LaunchesAreDue {
    fn launched(&self, host: &str, executor: &ExecutorId, task: TaskId, reference: &Reference) -> Check {
        let Some(applied) = reference.applied_by(host) else { return Ok(()) };
        if let Some(index) = self.done.get(&task).filter(|index| **index <= applied) {
            return Err(format!("{host} launched task {task} again, which is complete since index {index}"));
        }
        if let Some(index) = self.ended.get(&task.job).filter(|index| **index <= applied) {
            return Err(format!("{host} launched task {task} of a job that has ended at index {index}"));
        }
        // One that lags behind decides by a state that the reference does not have any more.
        if applied == reference.last_index() {
            return self
                .is_due(reference.state(), executor, task)
                .map_err(|why| format!("{host} launched task {task}, {why}"));
        }
        Ok(())
    }

    fn is_due(&self, state: &ClusterState, executor: &ExecutorId, task: TaskId) -> Check {
        match state.executor(executor) {
            Some(executor) if executor.takes_tasks() => {}
            Some(_) | None => return Err(format!("on {executor}, which takes no tasks")),
        }
        let others = state.active_jobs().any(|job| job.id != task.job);
        let Some(job) = state.job(task.job) else {
            // Its submit may be under way.
            return if others { Err("whose job is not known".to_owned()) } else { Ok(()) };
        };
        let (stage, run) = job.stage(task.stage).ok_or("whose stage is not known")?;
        // How many tasks it has may be decided by what is on the way into the log.
        let may_be_decided = stage.is_undecided() && !others;
        if !run.open.contains(&task.partition) && !may_be_decided {
            return Err("which is not open".to_owned());
        }
        if job.is_ready(stage) || (!others && self.will_be_ready(job, stage)) {
            return Ok(());
        }
        Err("whose inputs are not complete".to_owned())
    }

    /// Whether executors have told of all that the log lacks of the inputs.
    fn will_be_ready(&self, job: &Job, stage: &Stage) -> bool {
        stage.inputs.iter().filter_map(|input| job.stage(input.stage)).all(|(input, run)| {
            let told = |partition: &u32| {
                self.told.contains(&TaskId { job: job.id, stage: input.id, partition: *partition })
            };
            // Of an undecided one nobody here knows how many tasks it will have had.
            let is_told = input.is_undecided() || run.open.iter().all(told);
            run.is_complete() || (input.indeterminate.is_none() && is_told)
        })
    }
}

fn check_name(term: Term, attempt: AttemptId) -> Check {
    if attempt.term == term {
        return Ok(());
    }
    Err(format!("the leader of term {term} launched attempt {attempt} of another term"))
}

impl Oracle for LaunchesAreDue {
    fn name(&self) -> &'static str {
        "launches-are-due"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        for outcome in commit.applied.outcomes.iter().flatten() {
            if let Change::TaskCompleted { task, .. } = outcome {
                self.done.insert(*task, commit.index);
            }
            for task in effects_of(outcome).into_iter().flat_map(|effects| &effects.rerun) {
                self.done.remove(task);
            }
            // A lost result is made again.
            if let Change::Reopened { job, .. } = outcome {
                self.ended.remove(job);
            }
        }
        let active = commit.before.active_jobs().map(|job| job.id);
        let is_over = |job: &Job| !commit.after.is_active(job);
        let ended = active.filter(|id| commit.after.job(*id).is_none_or(is_over));
        self.ended.extend(ended.map(|id| (id, commit.index)));
        Ok(())
    }

    fn on_moment(&mut self, moment: &Moment, reference: &Reference) -> Check {
        if let What::Fact(Fact::AttemptEnded { task, end: AttemptEnd::Completed, .. }) = &moment.what {
            self.told.insert(*task);
        }
        let What::Fact(Fact::Launched { term, executor, task, attempt }) = &moment.what else {
            return Ok(());
        };
        check_name(*term, *attempt)?;
        self.launched(&moment.host, executor, *task, reference)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn launched(number: u64, task: TaskId) -> Fact {
        Fact::Launched { term: Term(1), executor: executor(number), task, attempt: attempt(77) }
    }

    #[test]
    fn a_second_run_of_finished_work_is_found() {
        let mut lab = Lab::with_job(LaunchesAreDue::default());
        lab.fact(LEADER, launched(1, task(0, 0))).unwrap();
        lab.commit(vec![complete(1, task(0, 0), 1)]).unwrap();
        assert!(lab.fact(LEADER, launched(2, task(0, 0))).is_err());
        // A replica that has not applied the completion can't know.
        lab.fact("scheduler-2", launched(2, task(0, 0))).unwrap();
        lab.commit(vec![lose(1, 1)]).unwrap();
        lab.fact(LEADER, launched(2, task(0, 0))).unwrap();
        assert!(lab.fact(LEADER, launched(1, task(0, 0))).is_err(), "the executor is lost");
    }

    #[test]
    fn a_launch_without_its_inputs_or_after_the_end_is_found() {
        let mut lab = Lab::with_job(LaunchesAreDue::default());
        assert!(lab.fact(LEADER, launched(1, task(1, 0))).is_err());
        lab.commit(vec![complete(1, task(0, 0), 1), complete(1, task(0, 1), 2)]).unwrap();
        lab.fact(LEADER, launched(1, task(1, 0))).unwrap();
        let cancel = polybolos_state::Command::CancelJob { job: JOB, reason: "asked".to_owned() };
        lab.commit(vec![cancel]).unwrap();
        assert!(lab.fact(LEADER, launched(1, task(1, 0))).is_err());
    }

    #[test]
    fn a_look_ahead_is_over_what_executors_have_told_and_by_one_job_alone() {
        let mut lab = Lab::with_job(LaunchesAreDue::default());
        let told = |partition: u32| Fact::AttemptEnded {
            executor: executor(1),
            task: task(0, partition),
            attempt: attempt(u64::from(partition)),
            end: AttemptEnd::Completed,
        };
        lab.fact(LEADER, told(0)).unwrap();
        assert!(lab.fact(LEADER, launched(1, task(1, 0))).is_err());
        lab.fact(LEADER, told(1)).unwrap();
        lab.fact(LEADER, launched(1, task(1, 0))).unwrap();
        let unknown = TaskId { job: JobId(77), ..task(0, 0) };
        assert!(lab.fact(LEADER, launched(1, unknown)).is_err(), "another job is active");
    }

    #[test]
    fn an_attempt_of_another_term_is_found() {
        let mut lab = Lab::with_job(LaunchesAreDue::default());
        let (executor, task, attempt) = (executor(1), task(0, 0), attempt(1));
        assert!(lab.fact(LEADER, Fact::Launched { term: Term(2), executor, task, attempt }).is_err());
    }
}
