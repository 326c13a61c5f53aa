//! Whatever has read a stage has read the same rows of it, and those are the rows that it has now.
//! From: the design, "the readers that saw the old attempt are rolled back too".
//!
//! What an attempt gives is a number here, made from its task and from what its inputs gave in the epoch in which it was
//! launched; where its stage is indeterminate each attempt gives something of its own. A leader may launch over inputs that
//! the log does not have yet, but only of stages that give the same each time: what those will give is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use polybolos_model::{AttemptId, JobId, Stage, StageId, TaskId};
use polybolos_state::{Change, Command, Job, JobStatus, TaskRun};

use super::{Check, Commit, Oracle};

/// By stage, what each of its tasks gives.
type Reads = BTreeMap<StageId, Vec<u64>>;

#[derive(Debug, Default)]
pub(super) struct ReadersAgree {
    /// Jobs that were submitted when completions told their epoch, and of which something may run, now or again.
    jobs: BTreeMap<JobId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What the inputs of a stage gave when it could first run in an epoch.
    inputs: BTreeMap<(StageId, u32), Reads>,
    /// Of each attempt that completed.
    done: BTreeMap<AttemptId, (Reads, u64)>,
}

impl Oracle for ReadersAgree {
    fn name(&self) -> &'static str {
        "readers-agree"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        let mut done = Vec::new();
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            match (command, outcome) {
                (_, Ok(Change::Submitted { job })) if commit.entry.version >= 3 => {
                    self.jobs.insert(*job, Known::default());
                }
                (Command::CompleteTaskIn { task, attempt, epoch, .. }, Ok(Change::TaskCompleted { .. })) => {
                    done.push((*task, *attempt, *epoch));
                }
                _ => {}
            }
        }
        // What one gives is made from what those of earlier stages give, which may come behind it.
        done.sort_unstable();
        for (task, attempt, epoch) in done {
            if let (Some(job), Some(known)) = (commit.after.job(task.job), self.jobs.get_mut(&task.job)) {
                known.completed(job, task, attempt, epoch);
            }
        }
        let mut over = BTreeSet::new();
        for (id, known) in &mut self.jobs {
            let Some(job) = commit.after.job(*id) else {
                over.insert(*id);
                continue;
            };
            known.look(job);
            if !job.status.is_ended() || job.status == JobStatus::Succeeded {
                known.check(job).map_err(|what| format!("index {}: job {id}: {what}", commit.index))?;
            }
            let may_run = job.status == JobStatus::Succeeded && !job.released;
            if job.status.is_ended() && !may_run {
                over.insert(*id);
            }
        }
        self.jobs.retain(|id, _| !over.contains(id));
        Ok(())
    }
}

impl Known {
    fn completed(&mut self, job: &Job, task: TaskId, attempt: AttemptId, epoch: u32) {
        let Some(stage) = job.graph.stage(task.stage) else { return };
        let reads = self.inputs.get(&(task.stage, epoch)).cloned();
        let reads = reads.unwrap_or_else(|| self.reads(job, stage));
        let gives = made(task, &reads, stage.indeterminate.as_ref().map(|_| attempt));
        self.done.insert(attempt, (reads, gives));
    }

    /// What the inputs of a stage give, or will once they are complete.
    fn reads(&self, job: &Job, stage: &Stage) -> Reads {
        let inputs = stage.inputs.iter().filter_map(|input| job.stage(input.stage));
        let reads = inputs.map(|(input, run)| {
            let gives = |(partition, task): (u32, &TaskRun)| match &task.completed {
                Some(done) => self.gives(done.attempt),
                None => {
                    let reads = self.inputs.get(&(input.id, run.epoch)).cloned();
                    let reads = reads.unwrap_or_else(|| self.reads(job, input));
                    made(TaskId { job: job.id, stage: input.id, partition }, &reads, None)
                }
            };
            (input.id, (0..).zip(&run.tasks).map(gives).collect())
        });
        reads.collect()
    }

    /// Stages that can run now will be told where their inputs are now.
    fn look(&mut self, job: &Job) {
        for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
            let key = (stage.id, run.epoch);
            if self.inputs.contains_key(&key) || !job.is_ready(stage) {
                continue;
            }
            let reads = self.reads(job, stage);
            self.inputs.insert(key, reads);
        }
    }

    fn gives(&self, attempt: AttemptId) -> u64 {
        self.done.get(&attempt).map_or(0, |(_, gives)| *gives)
    }

    fn check(&self, job: &Job) -> Check {
        for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
            for (partition, done) in run.completed() {
                let Some((reads, _)) = self.done.get(&done.attempt) else { continue };
                for (input, read) in reads {
                    let Some(maps) = job.run(*input) else { continue };
                    for (map, now) in maps.completed() {
                        if read.get(map as usize) != Some(&self.gives(now.attempt)) {
                            return Err(format!(
                                "task {}/{partition} (attempt {}) has read other rows of {input}/{map} than attempt {} \
                                 has, which is indeterminate",
                                stage.id, done.attempt, now.attempt
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The number for what an attempt of `task` gives; `attempt` where it is one of an indeterminate stage.
fn made(task: TaskId, reads: &Reads, attempt: Option<AttemptId>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (task, reads, attempt).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use polybolos_model::{Incarnation, PartitionStats, ReplicaId};

    use super::{super::testing::*, *};

    fn complete_in(number: u64, task: TaskId, counter: u64, epoch: u32) -> Command {
        Command::CompleteTaskIn {
            executor: executor(number),
            incarnation: Incarnation(number),
            task,
            attempt: attempt(counter),
            epoch,
            durable: false,
            outputs: vec![PartitionStats::default(); if task.stage.0 == 0 { 2 } else { 1 }],
            metrics: Default::default(),
        }
    }

    /// Both tasks of stage 0 are done by different executors, and one that reads them by the second.
    fn half_done(indeterminate: bool) -> Lab<ReadersAgree> {
        let mut lab = Lab::new(ReadersAgree::default());
        let replica = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: 3 };
        lab.commit(vec![replica, Command::RaiseVersion { to: 3 }]).unwrap();
        let mut job = submit(JOB, None);
        if let Command::SubmitJob { graph, .. } = &mut job {
            graph.stages[0].indeterminate = indeterminate.then(|| "it calls random()".to_owned());
        }
        lab.commit(vec![register(1, 1), register(2, 2), job]).unwrap();
        lab.commit(vec![complete_in(1, task(0, 0), 1, 0), complete_in(2, task(0, 1), 2, 0)]).unwrap();
        lab.commit(vec![complete_in(2, task(1, 0), 3, 0)]).unwrap();
        lab
    }

    #[test]
    fn true_histories_pass() {
        for indeterminate in [false, true] {
            let mut lab = half_done(indeterminate);
            lab.commit(vec![lose(1, 1)]).unwrap();
            lab.commit(vec![complete_in(2, task(0, 0), 4, 0)]).unwrap();
            // Of the attempt that is void the completion is refused.
            lab.commit(vec![complete_in(2, task(1, 1), 5, 0), complete_in(2, task(1, 0), 6, 1)]).unwrap();
            lab.commit(vec![complete_in(2, task(1, 1), 7, 1)]).unwrap();
            assert!(lab.state.active_jobs().next().is_none());
        }
    }

    #[test]
    fn readers_may_complete_with_their_inputs_or_before_them() {
        for together in [true, false] {
            let mut lab = half_done(false);
            lab.commit(vec![lose(1, 1)]).unwrap();
            let (input, reader) = (complete_in(2, task(0, 0), 4, 0), complete_in(2, task(1, 1), 5, 0));
            if together {
                lab.commit(vec![input, reader]).unwrap();
            } else {
                lab.commit(vec![reader]).unwrap();
            }
            assert!(lab.state.active_jobs().next().is_none());
        }
    }

    #[test]
    fn a_reader_that_keeps_other_rows_is_found() {
        let mut lab = half_done(true);
        let job = lab.state.job(JOB).unwrap().clone();
        let known = lab.oracle.jobs.get_mut(&JOB).unwrap();
        assert_eq!(known.check(&job), Ok(()));
        known.completed(&job, task(0, 0), attempt(1), 0);
        assert_eq!(known.check(&job), Ok(()), "the same attempt gives the same");
        known.done.get_mut(&attempt(1)).unwrap().1 += 1;
        assert!(known.check(&job).unwrap_err().contains("has read other rows of 0/0"));
    }
}
