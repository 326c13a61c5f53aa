//! Whatever has read a stage has read the same rows of it, and those are the rows that it has now.
//! From: the design, "the readers that saw the old attempt are rolled back too".
//!
//! What an attempt gives is a number here, made from its task and from what its inputs gave in the epoch in which it was
//! launched; where its stage is indeterminate each attempt gives something of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use polybolos_model::{AttemptId, JobId, StageId, TaskId};
use polybolos_state::{Change, Command, Job, JobStatus};

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
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            match (command, outcome) {
                (_, Ok(Change::Submitted { job })) if commit.entry.version >= 3 => {
                    self.jobs.insert(*job, Known::default());
                }
                (Command::CompleteTaskIn { task, attempt, epoch, .. }, Ok(Change::TaskCompleted { .. })) => {
                    let job = commit.after.job(task.job);
                    if let (Some(job), Some(known)) = (job, self.jobs.get_mut(&task.job)) {
                        known.completed(job, *task, *attempt, *epoch);
                    }
                }
                _ => {}
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
        let reads = self.inputs.get(&(task.stage, epoch)).cloned().unwrap_or_default();
        let is_its_own = job.graph.stage(task.stage).is_some_and(|stage| stage.indeterminate.is_some());
        let mut hasher = DefaultHasher::new();
        (task, &reads, is_its_own.then_some(attempt)).hash(&mut hasher);
        self.done.insert(attempt, (reads, hasher.finish()));
    }

    /// Stages that can run now will be told where their inputs are now.
    fn look(&mut self, job: &Job) {
        for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
            let key = (stage.id, run.epoch);
            if self.inputs.contains_key(&key) || !job.is_ready(stage) {
                continue;
            }
            let reads = stage.inputs.iter().map(|input| {
                let maps = job.run(input.stage).into_iter().flat_map(|run| run.completed());
                (input.stage, maps.map(|(_, done)| self.gives(done.attempt)).collect())
            });
            let reads: Reads = reads.collect();
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
