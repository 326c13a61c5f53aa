//! A sound state to break by hand.

use polybolos_model::JobId;

use crate::{ClusterState, Job, StageRun, TaskRun, transcript::Lab};

pub(super) const JOB: JobId = JobId(1);

/// Replicas 1 and 2, and 3 that has left; executors `a` and `b`; job 1 with stage 0 (two tasks) complete on both and stage 1 (two tasks) half done.
pub(super) fn sound() -> ClusterState {
    let mut lab = Lab::new();
    lab.run_all(&[
        "replica 1",
        "replica 2",
        "retire 3",
        "register a",
        "register b",
        "submit 1 hash(2,2)",
        "complete a 1/0/0 1",
        "complete b 1/0/1 2",
    ]);
    lab.run_all(&["complete a 1/1/0 3"]);
    super::check(&lab.state).unwrap();
    lab.state
}

pub(super) fn job(state: &mut ClusterState) -> &mut Job {
    state.jobs.by_id.get_mut(&JOB).unwrap()
}

pub(super) fn run(state: &mut ClusterState, stage: usize) -> &mut StageRun {
    &mut job(state).runs[stage]
}

pub(super) fn task(state: &mut ClusterState, stage: usize, partition: usize) -> &mut TaskRun {
    &mut run(state, stage).tasks[partition]
}
