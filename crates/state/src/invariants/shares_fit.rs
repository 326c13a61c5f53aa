//! A stage that still asks how it reads its inputs has no completed task; one for which shares were decided has as many tasks
//! as shares, and these read each partition once; and nothing is known of shares of jobs that are released.
//! From: "adaptive decisions at stage boundaries are logged".

use polybolos_model::ReadMode;

use super::{Check, ensure};
use crate::ClusterState;

pub(super) fn check(state: &ClusterState) -> Check {
    let adapted = &state.extension.v4.adapted;
    for ((id, stage_id), of) in adapted {
        let name = || format!("stage {stage_id} of job {id}");
        let job = state.job(*id).filter(|job| !job.released);
        let Some((job, (stage, _))) = job.and_then(|job| Some((job, job.stage(*stage_id)?))) else {
            return Err(format!("shares are kept of {}, which is over", name()));
        };
        ensure(!stage.is_undecided(), || format!("{} is decided and asks", name()))?;
        if of.shares.is_empty() {
            ensure(stage.tasks == of.partitions, || format!("{} is not as planned", name()))?;
            continue;
        }
        // As it was when the decision was made.
        let mut undecided = stage.clone();
        undecided.tasks = of.partitions;
        for input in undecided.inputs.iter_mut().filter(|input| input.read == ReadMode::Shares) {
            input.read = ReadMode::Adaptive { splits: true };
        }
        let checked = job.graph.check_shares(&undecided, &of.shares);
        checked.map_err(|error| format!("{}: {error}", name()))?;
        ensure(stage.tasks as usize == of.shares.len(), || format!("{} has {} tasks", name(), stage.tasks))?;
    }
    for job in state.jobs() {
        for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
            let name = || format!("stage {} of job {}", stage.id, job.id);
            ensure(stage.tasks as usize == run.tasks.len(), || format!("{} has other tasks", name()))?;
            ensure(!stage.is_undecided() || run.done() == 0, || format!("{} is done undecided", name()))?;
            let is_by_shares = stage.inputs.iter().any(|input| input.read == ReadMode::Shares);
            let is_known = adapted.contains_key(&(job.id, stage.id));
            ensure(!is_by_shares || is_known || job.released, || format!("{} lacks its shares", name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use polybolos_model::{AttemptId, ReadMode, Share, StageId};

    use super::super::fixture::*;
    use crate::apply::adapt::Adapted;

    #[test]
    fn shares_that_do_not_fit_are_found() {
        let mut state = sound();
        assert_eq!(super::check(&state), Ok(()));
        job(&mut state).graph.stages[1].inputs[0].read = ReadMode::Shares;
        assert!(super::check(&state).unwrap_err().contains("lacks its shares"));
        let one_each = vec![Share::one(0), Share::one(1)];
        for (shares, is_sound) in [
            (one_each.clone(), true),
            (vec![Share { first: 0, end: 2, split: None }], false),
            (vec![Share::one(0), Share::one(2)], false),
        ] {
            let adapted = Adapted { after: AttemptId::default(), partitions: 2, shares };
            state.extension.v4.adapted.insert((JOB, StageId(1)), adapted);
            assert_eq!(super::check(&state).is_ok(), is_sound);
        }
        let adapted = Adapted { after: AttemptId::default(), partitions: 2, shares: one_each };
        state.extension.v4.adapted.insert((JOB, StageId(1)), adapted);
        job(&mut state).released = true;
        assert!(super::check(&state).unwrap_err().contains("is over"));
    }

    #[test]
    fn a_stage_that_is_done_undecided_is_found() {
        let mut state = sound();
        job(&mut state).graph.stages[1].inputs[0].read = ReadMode::Adaptive { splits: false };
        assert!(super::check(&state).unwrap_err().contains("is done undecided"));
        run(&mut state, 1).tasks[0].completed = None;
        run(&mut state, 1).open.insert(0);
        assert_eq!(super::check(&state), Ok(()));
    }
}
