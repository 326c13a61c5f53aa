//! A stage's open set names just the tasks without a completion, and the runs fit the graph.
//! From: "First completion wins" needs one answer to "is it done" (`StageRun::open`).

use super::{Check, ensure};
use crate::ClusterState;

pub(super) fn check(state: &ClusterState) -> Check {
    for job in state.jobs() {
        ensure(job.runs.len() == job.graph.stages.len(), || {
            format!("job {} has a run too many or too few", job.id)
        })?;
        for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
            let name = || format!("job {} stage {}", job.id, stage.id);
            ensure(run.tasks.len() == stage.tasks as usize, || {
                format!("{} has {} tasks", name(), run.tasks.len())
            })?;
            let undone =
                (0u32..).zip(&run.tasks).filter(|(_, task)| task.completed.is_none()).map(|(p, _)| p);
            ensure(undone.eq(run.open.iter().copied()), || format!("{}: open is {:?}", name(), run.open))?;
            ensure(run.was_complete || !run.is_complete(), || {
                format!("{} is complete and never was", name())
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;

    #[test]
    fn a_completed_task_in_the_open_set_is_found() {
        let mut state = sound();
        run(&mut state, 0).open.insert(0);
        assert!(super::check(&state).is_err());
        let mut state = sound();
        run(&mut state, 1).open.clear();
        assert!(super::check(&state).is_err());
        let mut state = sound();
        run(&mut state, 0).was_complete = false;
        assert!(super::check(&state).is_err());
    }
}
