//! Tasks that ran on executors when these died: after a few such runs a task is kept apart, and then given up.
//!
//! ```text
//!   TasksDied {a, [t, u]} · LoseExecutor a     t: a        u: a
//!   TasksDied {b, [t, v]} · LoseExecutor b     t: a b      runs alone: no other task can be to blame, or suffer
//!   TasksDied {c, [t]}    · LoseExecutor c     t: a b c    its job fails
//! ```
//!
//! A neighbour of such a task is suspected with it, until it has run alone and completed. An executor that comes back
//! as the same process did not die, and what was counted for it is taken back.

use polybolos_model::{AttemptId, ErrorClass, ExecutorId, Incarnation, TaskError, TaskId};

use crate::{Change, ClusterState, Effects, JobError, extension::ExtensionV3, limits::ALONE_AFTER_DEATHS};

impl ClusterState {
    /// Whether the task has an executor to itself when it runs: an attempt of it ran out of memory or another
    /// resource, or executors died under it.
    pub fn runs_alone(&self, task: TaskId) -> bool {
        let v3 = &self.extension.v3;
        v3.starved.contains(&task) || v3.deaths.get(&task).is_some_and(|of| is_suspect(of.len()))
    }

    /// Tasks of active jobs that [`ClusterState::runs_alone`], done or not. Ascending.
    pub fn alone_tasks(&self) -> impl Iterator<Item = TaskId> {
        let v3 = &self.extension.v3;
        let suspects =
            v3.deaths.iter().filter(|(task, of)| is_suspect(of.len()) && !v3.starved.contains(task));
        let mut all: Vec<TaskId> =
            v3.starved.iter().copied().chain(suspects.map(|(task, _)| *task)).collect();
        all.sort_unstable();
        all.into_iter()
    }

    /// Whether an attempt of the task ran out of memory or another resource.
    pub fn is_starved(&self, task: TaskId) -> bool {
        self.extension.v3.starved.contains(&task)
    }

    /// The lives of executors that ended while they ran the task, oldest first.
    pub fn deaths(&self, task: TaskId) -> &[(ExecutorId, Incarnation)] {
        self.extension.v3.deaths.get(&task).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn tasks_died(
        &mut self,
        executor: &ExecutorId,
        incarnation: Incarnation,
        tasks: &[(TaskId, AttemptId)],
    ) -> Change {
        let mut effects = Effects::default();
        let mut counted = 0;
        for &(task, attempt) in tasks {
            if !self.count_death(executor, incarnation, task, attempt) {
                continue;
            }
            counted += 1;
            if let Some(error) = self.given_up(executor, task, attempt)
                && !polybolos_model::mutant!("poison-never-fails")
            {
                let of_job = self.fail_active(task.job, error);
                effects.failed.extend(of_job.failed);
                effects.results_lost.extend(of_job.results_lost);
            }
        }
        effects.failed.sort_unstable();
        effects.results_lost.sort_unstable();
        if counted == 0 { Change::Unchanged } else { Change::DeathsCounted { tasks: counted, effects } }
    }

    /// Whether it is a death that counts, and is not counted yet.
    fn count_death(
        &mut self,
        executor: &ExecutorId,
        incarnation: Incarnation,
        task: TaskId,
        attempt: AttemptId,
    ) -> bool {
        let Some(job) = self.running_job(task.job) else { return false };
        let Some(run) = job.task(task.stage, task.partition) else { return false };
        if run.completed.is_some() || run.is_past(attempt) || self.is_of_no_decision(task, attempt) {
            return false;
        }
        let of = self.extension.v3.deaths.entry(task).or_default();
        let life = (executor.clone(), incarnation);
        if of.contains(&life) {
            return false;
        }
        of.push(life);
        true
    }

    /// Why the task's job fails, if executors have died under the task as often as allowed.
    fn given_up(&self, executor: &ExecutorId, task: TaskId, attempt: AttemptId) -> Option<JobError> {
        let job = self.job(task.job)?;
        let most = self.settings(job).max_task_deaths as usize;
        let of = self.deaths(task);
        if of.len() < most {
            return None;
        }
        let died: Vec<&str> = of.iter().map(|(executor, _)| executor.as_str()).collect();
        let is_starved = self.extension.v3.starved.contains(&task);
        let class = if is_starved { ErrorClass::Resources } else { ErrorClass::Internal };
        let message = format!(
            "gave up after {} executors died while they ran task {task} ({}), so that it takes down no more: their \
             logs or the system's say why (out of memory, a crash); give executors more memory, or raise \
             polybolos.max_task_deaths if they were stopped for another reason",
            of.len(),
            died.join(", "),
        );
        Some(JobError {
            error: TaskError::new(class, message),
            stage: Some(task.stage),
            partition: Some(task.partition),
            attempt: Some(attempt),
            executor: Some(executor.clone()),
        })
    }
}

fn is_suspect(deaths: usize) -> bool {
    deaths >= ALONE_AFTER_DEATHS
}

impl ExtensionV3 {
    /// That life did not end, it was only not heard of.
    pub(crate) fn not_dead(&mut self, executor: &ExecutorId, incarnation: Incarnation) {
        self.deaths.retain(|_, of| {
            of.retain(|(id, life)| id != executor || *life != incarnation);
            !of.is_empty()
        });
    }

    /// The job has ended: none of its tasks runs again.
    pub(crate) fn end_job(&mut self, job: polybolos_model::JobId) {
        self.deaths.retain(|task, _| task.job != job);
        self.starved.retain(|task| task.job != job);
    }
}
