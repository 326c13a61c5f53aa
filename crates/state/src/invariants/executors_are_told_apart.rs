//! Incarnations are unique and were given; present executors have addresses of their own; one is lost exactly when
//! its record says so; and neither kind outgrows its limit.
//! From: "a report from an incarnation declared lost is refused".

use std::collections::BTreeSet;

use super::{Check, ensure};
use crate::{
    ClusterState,
    limits::{MAX_EXECUTORS, MAX_LOST_EXECUTORS},
};

pub(super) fn check(state: &ClusterState) -> Check {
    let mut incarnations = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for (id, executor) in &state.executors {
        ensure(*id == executor.id, || format!("executor {} is kept as {id}", executor.id))?;
        let given = (1..=state.last_incarnation.0).contains(&executor.incarnation.0);
        ensure(given, || format!("executor {id}: incarnation {} was never given", executor.incarnation))?;
        let is_new = incarnations.insert(executor.incarnation);
        ensure(is_new, || format!("executor {id} shares incarnation {}", executor.incarnation))?;
        let is_own = !executor.is_present() || addresses.insert(&executor.address);
        ensure(is_own, || format!("executor {id} shares address {}", executor.address))?;
        let agrees = executor.is_present() == executor.lost.is_none();
        ensure(agrees, || format!("executor {id} is {} with loss {:?}", executor.state, executor.lost))?;
    }
    let lost = state.executors.len() - addresses.len();
    ensure(lost <= MAX_LOST_EXECUTORS, || format!("{lost} lost executors are kept"))?;
    ensure(addresses.len() <= MAX_EXECUTORS, || format!("{} executors are present", addresses.len()))
}

#[cfg(test)]
mod tests {
    use polybolos_model::{ExecutorId, Incarnation};

    use super::super::fixture::*;
    use crate::{ClusterState, Executor, ExecutorState};

    fn b(state: &mut ClusterState) -> &mut Executor {
        state.executors.get_mut(&ExecutorId::new("b").unwrap()).unwrap()
    }

    #[test]
    fn doubles_are_found() {
        let broken: [fn(&mut ClusterState); 4] = [
            |state| b(state).incarnation = Incarnation(1),
            |state| b(state).incarnation = Incarnation(7),
            |state| b(state).address = "a:1".into(),
            |state| b(state).state = ExecutorState::Lost,
        ];
        for breaks in broken {
            let mut state = sound();
            assert_eq!(super::check(&state), Ok(()));
            breaks(&mut state);
            assert!(super::check(&state).is_err());
        }
    }
}
