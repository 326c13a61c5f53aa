//! Which tasks went down with an executor: the leader alone knows what ran there, and puts it into the log.

use std::collections::BTreeMap;

use polybolos_model::{ExecutorId, Incarnation};

use super::Dispatcher;
use crate::{Change, ClusterState, Command, Entry, ExecutorState};

impl Dispatcher {
    /// What to log of the processes that these commands take out of the cluster: behind a registration in such a
    /// process's place, before its loss. Not of one that was asked to leave, nor before version 3 is in use.
    ///
    /// Who gives way to whom the state decides, and nobody else: the commands are tried on a copy of the fleet. A
    /// registration that is refused there takes nobody's place.
    pub fn deaths(&self, state: &ClusterState, commands: &[Command]) -> Vec<Command> {
        if state.version() < 3 || !commands.iter().any(may_end_a_life) {
            return Vec::new();
        }
        let mut fleet = state.fleet_alone();
        let mut dead: BTreeMap<ExecutorId, Incarnation> = BTreeMap::new();
        for command in commands.iter().filter(|command| is_of_executors(command)) {
            let before: Vec<_> = lives(&fleet).collect();
            let entry = Entry::new(fleet.version(), fleet.term(), fleet.now_ms(), vec![command.clone()]);
            let outcomes = fleet.apply(&entry).outcomes;
            let is_death =
                outcomes.iter().any(|o| matches!(o, Ok(Change::Lost { .. } | Change::Registered { .. })));
            for (executor, incarnation) in before {
                if is_death && fleet.present(&executor, incarnation).is_none() {
                    dead.entry(executor).or_insert(incarnation);
                }
            }
        }
        let died = dead.into_iter().filter_map(|(executor, incarnation)| {
            let is_live = state.executor(&executor).is_some_and(|e| e.state == ExecutorState::Live);
            let attempts = self.by_executor.get(&executor).into_iter().flatten();
            let ran = attempts.filter_map(|attempt| Some((attempt, self.running.get(attempt)?)));
            let tasks: Vec<_> = ran
                .filter(|(attempt, running)| {
                    running.incarnation == incarnation && !self.reported.contains(attempt)
                })
                .map(|(attempt, running)| (running.task, *attempt))
                .collect();
            (is_live && !tasks.is_empty()).then_some(Command::TasksDied { executor, incarnation, tasks })
        });
        died.collect()
    }
}

fn lives(fleet: &ClusterState) -> impl Iterator<Item = (ExecutorId, Incarnation)> {
    fleet.executors().filter(|executor| executor.is_present()).map(|e| (e.id.clone(), e.incarnation))
}

fn may_end_a_life(command: &Command) -> bool {
    matches!(command, Command::LoseExecutor { .. } | Command::RegisterExecutor { .. })
}

/// Whether it may change who is there, or who gives way.
fn is_of_executors(command: &Command) -> bool {
    let changes_who_gives_way = matches!(
        command,
        Command::SuspectExecutor { .. } | Command::Heartbeats { .. } | Command::ExecutorLeft { .. }
    );
    may_end_a_life(command) || changes_who_gives_way
}
