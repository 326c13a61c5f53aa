//! Of a job that runs, every completed output that an unfinished reader (or, of the result, the client) still needs is
//! on an executor that is present in the very incarnation that made it, or in the durable store.
//! From: "lost shuffle output re-runs only the map partitions that made it, recursively upstream".

use super::{Check, ensure};
use crate::ClusterState;

pub(super) fn check(state: &ClusterState) -> Check {
    for job in state.active_jobs().filter(|job| !state.is_publishing(job.id)) {
        for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
            let is_read =
                job.graph.readers(stage.id).any(|r| job.run(r.id).is_some_and(|run| !run.is_complete()));
            let is_result = stage.id == job.result_stage() && state.write(job.id).is_none();
            if !is_read && !is_result {
                continue;
            }
            for (partition, done) in run.completed() {
                let is_there = state.present(&done.executor, done.incarnation).is_some();
                ensure(is_there || state.is_durable(job.id, done.attempt), || {
                    let (job, stage, executor) = (job.id, stage.id, &done.executor);
                    format!(
                        "output of task {job}/{stage}/{partition} on executor {executor} is gone and still needed"
                    )
                })?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use polybolos_model::{ExecutorId, Incarnation};

    use super::super::fixture::*;
    use crate::ExecutorState;

    #[test]
    fn an_output_on_a_lost_executor_is_found() {
        let mut state = sound();
        state.executors.get_mut(&ExecutorId::new("b").unwrap()).unwrap().state = ExecutorState::Lost;
        assert!(super::check(&state).is_err());
        let mut state = sound();
        state.executors.get_mut(&ExecutorId::new("a").unwrap()).unwrap().incarnation = Incarnation(99);
        assert!(super::check(&state).is_err());
    }
}
