//! What is left to do, derived from the state alone: what a new leader starts from.

use polybolos_model::{JobId, TaskId};

use crate::ClusterState;

/// Work that the state calls for. Running attempts are not known here; see [`crate::Dispatcher`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    /// Tasks that are not completed and whose inputs are, in the order of jobs, stages and partitions.
    pub runnable: Vec<Runnable>,
    /// Jobs whose outputs must not be kept any more, in the order of submission: tell every executor.
    pub release: Vec<JobId>,
    /// Jobs whose files wait for their final names, and those that have left some behind. Ascending by job.
    pub publish: Vec<JobId>,
    pub sweep: Vec<JobId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Runnable {
    pub task: TaskId,
    /// Of the task's stage.
    pub epoch: u32,
}

impl ClusterState {
    /// Scans the active jobs' tasks and the released jobs: for a new leader, not for the hot path.
    pub fn pending(&self) -> Pending {
        let mut runnable = Vec::new();
        for job in self.active_jobs().filter(|job| !self.is_publishing(job.id)) {
            for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
                if job.is_ready(stage) {
                    runnable.extend(run.open.iter().map(|&partition| Runnable {
                        task: TaskId { job: job.id, stage: stage.id, partition },
                        epoch: run.epoch,
                    }));
                }
            }
        }
        let unsettled = self.unsettled_writes().map(|(job, _)| job);
        let (publish, sweep) = unsettled.partition(|job| self.is_publishing(*job));
        Pending { runnable, release: self.released_jobs().map(|job| job.id).collect(), publish, sweep }
    }
}
