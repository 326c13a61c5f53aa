//! A completion is replaced by none other: it goes only by being given up, and then stays among the past attempts.
//! What an ended job has completed stays as it is, unless its lost result is made again.
//! From: "the first completion that commits for `(stage, partition)` wins".

use super::{Check, ensure};
use crate::{ClusterState, TaskRun};

pub(super) fn check(before: &ClusterState, after: &ClusterState) -> Check {
    for old in before.jobs() {
        let Some(new) = after.job(old.id).filter(|new| new.number == old.number) else { continue };
        // Whoever released it meanwhile may have asked for it before.
        let may_reopen = after.extension.v3.reopened.contains_key(&old.id)
            || (before.can_reopen(old) && new.released)
            || before.is_reopened(old.id);
        for (stage, (old_run, new_run)) in old.runs.iter().zip(&new.runs).enumerate() {
            for (partition, (old_task, new_task)) in old_run.tasks.iter().zip(&new_run.tasks).enumerate() {
                let name = || format!("task {}/{stage}/{partition}", old.id);
                check_task(old_task, new_task).map_err(|what| format!("{}: {what}", name()))?;
                let is_same = winner(old_task) == winner(new_task);
                ensure(is_same || !old.status.is_ended() || may_reopen, || {
                    format!("{} changed after its job's end", name())
                })?;
            }
        }
    }
    Ok(())
}

fn check_task(old: &TaskRun, new: &TaskRun) -> Check {
    let kept = old.past.iter().all(|past| new.past.contains(past));
    ensure(kept, || "a past attempt is forgotten".into())?;
    match winner(old) {
        Some(attempt) if winner(new) != Some(attempt) => {
            ensure(new.is_past(attempt), || format!("the completion of attempt {attempt} was replaced"))
        }
        Some(_) | None => Ok(()),
    }
}

fn winner(task: &TaskRun) -> Option<polybolos_model::AttemptId> {
    task.completed.as_ref().map(|done| done.attempt)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;

    #[test]
    fn a_second_winner_is_found() {
        let before = sound();
        let mut after = before.clone();
        assert_eq!(super::check(&before, &after), Ok(()));
        task(&mut after, 0, 0).completed.as_mut().unwrap().attempt.counter = 77;
        assert!(super::check(&before, &after).is_err());
        let mut after = before.clone();
        task(&mut after, 0, 0).completed = None;
        assert!(super::check(&before, &after).is_err());
    }
}
