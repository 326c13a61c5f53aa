//! A drain is of its executor's last life: one under way of an executor that drains, one that is over of one that is gone.
//! An output counts as moved only while its task is completed.
//! From: "an executor asked to leave takes no new tasks, finishes its own, hands its outputs over, and goes".

use super::{Check, ensure};
use crate::{ClusterState, ExecutorState};

pub(super) fn check(state: &ClusterState) -> Check {
    for (id, drain) in &state.extension.v3.drains {
        let executor = state.executor(id).ok_or_else(|| format!("executor {id} drains and is not known"))?;
        ensure(executor.incarnation == drain.incarnation, || {
            format!("executor {id} drains in another life")
        })?;
        let expected = if drain.left { ExecutorState::Lost } else { ExecutorState::Draining };
        ensure(executor.state == expected, || {
            format!("executor {id} is {} with drain {drain:?}", executor.state)
        })?;
    }
    for (&id, moves) in &state.extension.v3.moves {
        let job = state.job(id).filter(|job| !job.released);
        let job = job.ok_or_else(|| format!("job {id} is over and has moved outputs"))?;
        ensure(moves.count >= moves.tasks.len() as u64, || format!("job {id} has moves {moves:?}"))?;
        for &(stage, partition) in &moves.tasks {
            let is_done = job.task(stage, partition).is_some_and(|task| task.completed.is_some());
            ensure(is_done, || format!("the output of task {id}/{stage}/{partition} moved and is gone"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use polybolos_model::{ExecutorId, Incarnation, StageId};

    use super::super::fixture::*;
    use crate::{ClusterState, Drain, ExecutorState};

    fn b() -> ExecutorId {
        ExecutorId::new("b").unwrap()
    }

    fn drained() -> ClusterState {
        let (mut state, id) = (sound(), b());
        state.executors.get_mut(&id).unwrap().state = ExecutorState::Draining;
        let incarnation = Incarnation(2);
        let drain = Drain { incarnation, since_ms: 1, until_ms: 2, moved: 0, left: false };
        state.extension.v3.drains.insert(id, drain);
        let moves = state.extension.v3.moves.entry(JOB).or_default();
        (moves.count, moves.tasks) = (1, [(StageId(0), 1)].into());
        state
    }

    fn drain(state: &mut ClusterState) -> &mut Drain {
        state.extension.v3.drains.get_mut(&b()).unwrap()
    }

    #[test]
    fn drains_of_others_and_moves_of_nothing_are_found() {
        assert_eq!(super::check(&drained()), Ok(()));
        let broken: [fn(&mut ClusterState); 6] = [
            |state| drain(state).incarnation = Incarnation(1),
            |state| drain(state).left = true,
            |state| state.executors.get_mut(&b()).unwrap().state = ExecutorState::Live,
            |state| drop(state.executors.remove(&b())),
            |state| task(state, 0, 1).completed = None,
            |state| job(state).released = true,
        ];
        for breaks in broken {
            let mut state = drained();
            breaks(&mut state);
            assert!(super::check(&state).is_err());
        }
    }
}
