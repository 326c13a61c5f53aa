//! What the loss of an executor would cost a job now. It asks the very code that repairs a loss.

use polybolos_model::{ExecutorId, Incarnation, JobId, TaskId};

use super::{loss::is_lost, rollback::Undoing};
use crate::{ClusterState, LostWork, TaskDone};

/// What would run again of an active job if the executor were lost now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossCost {
    pub executor: ExecutorId,
    /// Completed tasks that would run again. Ascending by task.
    pub work: Vec<LostWork>,
    /// Why the job would fail, if it would.
    pub fails: Option<String>,
}

impl ClusterState {
    /// For each present executor, ascending; empty unless the job is active.
    pub fn loss_costs(&self, id: JobId) -> Vec<LossCost> {
        let Some(job) = self.running_job(id) else { return Vec::new() };
        let durable = self.extension.v3.durable.get(&id);
        let results = self.results_at(id);
        let cost = |executor: &ExecutorId, incarnation: Incarnation| {
            let gone = Some((executor, incarnation));
            let lost = |done: &TaskDone| is_lost(&self.executors, durable, gone, done);
            let undoing = Undoing::of(job, self.version, results, lost);
            let tasks = undoing.tasks.iter().flat_map(|(stage, ps)| ps.iter().map(|p| (*stage, *p)));
            let work = tasks.filter_map(|(stage, partition)| {
                let done = job.task(stage, partition)?.completed.as_ref()?;
                Some(LostWork::of(TaskId { job: id, stage, partition }, done))
            });
            let fails = undoing
                .beyond_repair(job, self.version, &format!("with executor {executor}"))
                .map(|error| error.error.message);
            LossCost { executor: executor.clone(), work: work.collect(), fails }
        };
        self.executors().filter(|e| e.is_present()).map(|e| cost(&e.id, e.incarnation)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::transcript::Lab;

    #[test]
    fn a_job_that_runs_is_asked_for_each_executor() {
        let mut lab = Lab::new();
        lab.run_all(&["register a", "register b", "submit 1 hash(2,2)", "complete a 1/0/0 1"]);
        let costs = lab.state.loss_costs(JobId(1));
        let counts: Vec<(&str, usize)> =
            costs.iter().map(|cost| (cost.executor.as_str(), cost.work.len())).collect();
        assert_eq!(counts, [("a", 1), ("b", 0)]);
        lab.run("cancel 1 enough");
        assert!(lab.state.loss_costs(JobId(1)).is_empty());
    }
}
