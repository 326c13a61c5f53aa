//! When an output is given up that may come out differently in a second run, so is all that has read it or what came of
//! it: the completed readers in the same step, and their running attempts by their epoch. So no two completed readers
//! of a stage have read different attempts of such an output. From version 3 on.
//! From: "the readers that saw the old attempt are rolled back too".

use std::collections::BTreeSet;

use super::{Check, ensure};
use crate::{ClusterState, Job, JobStatus, StageRun, TaskRun};

pub(super) fn check(before: &ClusterState, after: &ClusterState) -> Check {
    if before.version < 3 {
        return Ok(());
    }
    for old in before.jobs() {
        let same = after.job(old.id).filter(|new| new.number == old.number);
        let may_change = |new: &&Job| before.is_active(old) || after.is_active(new);
        let same = same.filter(may_change);
        let Some(new) = same.filter(|new| !new.status.is_ended() || new.status == JobStatus::Succeeded)
        else {
            continue;
        };
        check_job(old, new, after)?;
    }
    Ok(())
}

fn check_job(old: &Job, new: &Job, after: &ClusterState) -> Check {
    let mut changed = BTreeSet::new();
    for (stage, (old_run, new_run)) in old.graph.stages.iter().zip(old.runs.iter().zip(&new.runs)) {
        let name = || format!("stage {} of job {}", stage.id, old.id);
        let reads_changed = stage.inputs.iter().any(|input| changed.contains(&input.stage));
        if reads_changed {
            let kept =
                pairs(old_run, new_run).position(|(old, new)| winner(old).is_some() && !is_undone(old, new));
            ensure(kept.is_none(), || format!("task {kept:?} of {} kept what it had read", name()))?;
            let from = after.extension.v3.valid_from.get(&(old.id, stage.id)).copied().unwrap_or(0);
            ensure(new.released || from > old_run.epoch, || {
                format!("{} takes attempts from epoch {from} on, and was in {}", name(), old_run.epoch)
            })?;
        }
        let differs =
            stage.indeterminate.is_some() && pairs(old_run, new_run).any(|(old, new)| is_undone(old, new));
        if old_run.was_complete && (differs || reads_changed) {
            changed.insert(stage.id);
        }
    }
    Ok(())
}

fn pairs<'a>(old: &'a StageRun, new: &'a StageRun) -> impl Iterator<Item = (&'a TaskRun, &'a TaskRun)> {
    old.tasks.iter().zip(&new.tasks)
}

fn is_undone(old: &TaskRun, new: &TaskRun) -> bool {
    winner(old).is_some() && winner(old) != winner(new)
}

fn winner(task: &TaskRun) -> Option<polybolos_model::AttemptId> {
    task.completed.as_ref().map(|done| done.attempt)
}

#[cfg(test)]
mod tests {
    use polybolos_model::StageId;

    use super::super::fixture::*;

    #[test]
    fn a_reader_that_keeps_what_it_read_is_found() {
        let mut before = sound();
        before.version = 3;
        job(&mut before).graph.stages[0].indeterminate = Some("it calls random()".into());
        let mut after = before.clone();
        task(&mut after, 0, 0).completed = None;
        assert!(super::check(&before, &after).unwrap_err().contains("kept what it had read"));
        task(&mut after, 1, 0).completed = None;
        assert!(super::check(&before, &after).unwrap_err().contains("from epoch 0 on"));
        after.extension.v3.valid_from.insert((JOB, StageId(1)), 1);
        assert_eq!(super::check(&before, &after), Ok(()));
        before.version = 2;
        assert_eq!(super::check(&before, &before.clone()), Ok(()));
    }

    #[test]
    fn determinate_outputs_come_and_go() {
        let mut before = sound();
        before.version = 3;
        let mut after = before.clone();
        task(&mut after, 0, 0).completed = None;
        assert_eq!(super::check(&before, &after), Ok(()));
    }
}
