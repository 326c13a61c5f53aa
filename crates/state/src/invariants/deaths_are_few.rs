//! Deaths and starved tasks are remembered of active jobs only, each life once, and no job goes on once one of its tasks
//! has seen as many executors die as the job allows.
//! From: "a poison task fails its job instead of eating the fleet".

use std::collections::BTreeSet;

use polybolos_model::{TaskId, settings::JobSettings};

use super::{Check, ensure};
use crate::ClusterState;

pub(super) fn check(state: &ClusterState) -> Check {
    let v3 = &state.extension.v3;
    for (&task, of) in &v3.deaths {
        let most = of_active(state, task)?;
        ensure(!of.is_empty() && of.len() < most, || {
            format!("task {task} goes on after {} executors died under it", of.len())
        })?;
        let distinct: BTreeSet<_> = of.iter().collect();
        ensure(distinct.len() == of.len(), || format!("a death counts twice for task {task}: {of:?}"))?;
    }
    v3.starved.iter().try_for_each(|task| of_active(state, *task).map(|_| ()))
}

/// How many deaths its job allows.
fn of_active(state: &ClusterState, task: TaskId) -> Result<usize, String> {
    let job = state.job(task.job).filter(|job| state.is_active(job));
    let known = job.filter(|job| job.task(task.stage, task.partition).is_some());
    let job = known.ok_or_else(|| format!("task {task} is remembered, and is of no active job"))?;
    Ok(JobSettings::read(&job.options).max_task_deaths as usize)
}

#[cfg(test)]
mod tests {
    use polybolos_model::{ExecutorId, Incarnation, JobId, StageId, TaskId};

    use super::super::fixture::*;

    #[test]
    fn too_many_deaths_and_strangers_are_found() {
        let task = |job| TaskId { job: JobId(job), stage: StageId(0), partition: 0 };
        let life = |n| (ExecutorId::new("a").unwrap(), Incarnation(n));
        let mut state = sound();
        state.version = 3;
        let active = state.active_jobs().next().unwrap().id.0;
        state.extension.v3.deaths.insert(task(active), vec![life(1), life(2)]);
        state.extension.v3.starved.insert(task(active));
        assert_eq!(super::check(&state), Ok(()));
        for wrong in [vec![], vec![life(1), life(1)], vec![life(1), life(2), life(3)]] {
            let mut state = state.clone();
            state.extension.v3.deaths.insert(task(active), wrong);
            assert!(super::check(&state).is_err());
        }
        state.extension.v3.starved.insert(task(999));
        assert!(super::check(&state).is_err());
    }
}
