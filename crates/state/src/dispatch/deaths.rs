//! Which tasks went down with an executor: the leader alone knows what ran there, and puts it into the log.

use std::collections::BTreeMap;

use polybolos_model::{ExecutorId, Incarnation};

use super::Dispatcher;
use crate::{ClusterState, Command, Executor, ExecutorState};

impl Dispatcher {
    /// What to log of the processes that these commands take out of the cluster: behind a registration in such a
    /// process's place, before its loss. Not of one that was asked to leave, nor before version 3 is in use.
    pub fn deaths(&self, state: &ClusterState, commands: &[Command]) -> Vec<Command> {
        if state.version() < 3 {
            return Vec::new();
        }
        let mut dead: BTreeMap<ExecutorId, Incarnation> = BTreeMap::new();
        for command in commands {
            match command {
                Command::LoseExecutor { executor, incarnation, .. } => {
                    dead.extend(state.present(executor, *incarnation).map(life));
                }
                Command::RegisterExecutor { executor, address, process_id, .. } => {
                    let is_replaced = |old: &&Executor| {
                        let same_place = old.address == *address;
                        let gives_way = old.suspect_since_ms.is_some();
                        match old.id == *executor {
                            true => old.process_id != *process_id && (same_place || gives_way),
                            false => same_place && gives_way,
                        }
                    };
                    dead.extend(state.executors().filter(|e| e.is_present()).filter(is_replaced).map(life));
                }
                _ => {}
            }
        }
        let died = dead.into_iter().filter_map(|(executor, incarnation)| {
            let is_live = state.executor(&executor).is_some_and(|e| e.state == ExecutorState::Live);
            let attempts = self.by_executor.get(&executor).into_iter().flatten();
            let ran = attempts.filter_map(|attempt| Some((attempt, self.running.get(attempt)?)));
            let tasks: Vec<_> = ran
                .filter(|(_, running)| running.incarnation == incarnation)
                .map(|(attempt, running)| (running.task, *attempt))
                .collect();
            (is_live && !tasks.is_empty()).then_some(Command::TasksDied { executor, incarnation, tasks })
        });
        died.collect()
    }
}

fn life(executor: &Executor) -> (ExecutorId, Incarnation) {
    (executor.id.clone(), executor.incarnation)
}
