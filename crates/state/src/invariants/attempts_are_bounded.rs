//! Of an active job no limit is exhausted; no task remembers more attempts than the limits allow; no attempt is
//! remembered twice, and the one that completed is not among those that are over.
//! From: "retry limits survive a fail-over" and "each report is told from its repetition".

use std::collections::BTreeSet;

use polybolos_model::{AttemptId, settings::JobSettings};

use super::{Check, ensure};
use crate::{ClusterState, Job, TaskRun, limits::max_past_attempts};

pub(super) fn check(state: &ClusterState) -> Check {
    for job in state.jobs() {
        let settings = settings(job);
        for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
            let name = || format!("job {} stage {}", job.id, stage.id);
            let is_bounded = state.version >= 3 || run.reruns <= settings.max_stage_reruns;
            ensure(is_bounded, || format!("{} ran again {} times", name(), run.reruns))?;
            for task in &run.tasks {
                check_task(task, &settings).map_err(|what| format!("{}: {what}", name()))?;
                let is_exhausted = task.failures >= settings.max_task_attempts && state.is_active(job);
                ensure(!is_exhausted, || {
                    format!("{}: a task failed {} times and goes on", name(), task.failures)
                })?;
            }
        }
    }
    Ok(())
}

/// The job's own limits, or the defaults that counted before the version that knows it to have such.
fn settings(job: &Job) -> JobSettings {
    let (own, before) = (JobSettings::read(&job.options), JobSettings::default());
    JobSettings {
        max_task_attempts: own.max_task_attempts.max(before.max_task_attempts),
        max_stage_reruns: own.max_stage_reruns.max(before.max_stage_reruns),
        ..own
    }
}

fn check_task(task: &TaskRun, settings: &JobSettings) -> Check {
    let past = task.past.iter().map(|past| past.attempt);
    let all: Vec<AttemptId> = past.chain(task.completed.as_ref().map(|done| done.attempt)).collect();
    let distinct: BTreeSet<&AttemptId> = all.iter().collect();
    ensure(distinct.len() == all.len(), || format!("an attempt is remembered twice in {all:?}"))?;
    let most = max_past_attempts(settings) as usize;
    ensure(task.past.len() <= most, || format!("{} past attempts", task.past.len()))?;
    ensure(task.reruns() <= settings.max_stage_reruns, || format!("{} re-runs", task.reruns()))?;
    ensure(task.failures <= settings.max_task_attempts, || format!("{} failures", task.failures))
}

#[cfg(test)]
mod tests {
    use polybolos_model::AttemptId;

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
        state.version = 3;
        run(&mut state, 0).reruns = 5;
        assert!(super::check(&state).is_ok(), "each task has a limit of its own");
        let lost = |n: u64| PastAttempt {
            attempt: AttemptId { term: polybolos_model::Term(1), counter: 100 + n },
            executor: polybolos_model::ExecutorId::new("a").unwrap(),
            fate: Fate::OutputLost,
        };
        task(&mut state, 0, 0).past.extend((0..5).map(lost));
        assert!(super::check(&state).is_err());
        let mut state = sound();
        let task = task(&mut state, 0, 0);
        let done = task.completed.clone().unwrap();
        task.past.push(PastAttempt { attempt: done.attempt, executor: done.executor, fate: Fate::Failed });
        assert!(super::check(&state).is_err());
    }
}
