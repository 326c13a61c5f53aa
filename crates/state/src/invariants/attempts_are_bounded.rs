//! Of an active job no limit is exhausted; no task remembers more attempts than the limits allow; no attempt is
//! remembered twice, and the one that completed is not among those that are over.
//! From: "retry limits survive a fail-over" and "each report is told from its repetition".

use std::collections::BTreeSet;

use polybolos_model::{AttemptId, limits::MAX_TASK_ATTEMPTS};

use super::{Check, ensure};
use crate::{
    ClusterState, TaskRun,
    limits::{MAX_PAST_ATTEMPTS, MAX_STAGE_RERUNS},
};

pub(super) fn check(state: &ClusterState) -> Check {
    for job in state.jobs() {
        for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
            let name = || format!("job {} stage {}", job.id, stage.id);
            ensure(run.reruns <= MAX_STAGE_RERUNS, || format!("{} ran again {} times", name(), run.reruns))?;
            for task in &run.tasks {
                check_task(task).map_err(|what| format!("{}: {what}", name()))?;
                let is_exhausted = task.failures >= MAX_TASK_ATTEMPTS && !job.status.is_ended();
                ensure(!is_exhausted, || {
                    format!("{}: a task failed {} times and goes on", name(), task.failures)
                })?;
            }
        }
    }
    Ok(())
}

fn check_task(task: &TaskRun) -> Check {
    let past = task.past.iter().map(|past| past.attempt);
    let all: Vec<AttemptId> = past.chain(task.completed.as_ref().map(|done| done.attempt)).collect();
    let distinct: BTreeSet<&AttemptId> = all.iter().collect();
    ensure(distinct.len() == all.len(), || format!("an attempt is remembered twice in {all:?}"))?;
    ensure(task.past.len() <= MAX_PAST_ATTEMPTS as usize, || format!("{} past attempts", task.past.len()))?;
    ensure(task.failures <= MAX_TASK_ATTEMPTS, || format!("{} failures", task.failures))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use crate::{Fate, PastAttempt};

    #[test]
    fn exhausted_limits_and_repeated_attempts_are_found() {
        let mut state = sound();
        task(&mut state, 1, 1).failures = 4;
        assert!(super::check(&state).is_err());
        let mut state = sound();
        run(&mut state, 0).reruns = 5;
        assert!(super::check(&state).is_err());
        let mut state = sound();
        let task = task(&mut state, 0, 0);
        let done = task.completed.clone().unwrap();
        task.past.push(PastAttempt { attempt: done.attempt, executor: done.executor, fate: Fate::Failed });
        assert!(super::check(&state).is_err());
    }
}
