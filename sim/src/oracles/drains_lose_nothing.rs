//! An executor that is let go before its deadline takes nothing along: no completed task runs again for it, no result is
//! lost, and no job fails.
//! From: issue 5, "a rolling restart of all executors under load loses no work".

use polybolos_state::{Change, Command, Effects};

use super::{Check, Commit, Oracle};

#[derive(Debug)]
pub(super) struct DrainsLoseNothing;

impl Oracle for DrainsLoseNothing {
    fn name(&self) -> &'static str {
        "drains-lose-nothing"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            let (Command::ExecutorLeft { executor, .. }, Ok(Change::Left { effects, .. })) =
                (command, outcome)
            else {
                continue;
            };
            // Of the entry's start: who was asked anew in the same entry has its last deadline.
            let drain = commit.before.drain_of(executor);
            let until_ms = drain.map_or(u64::MAX, |drain| drain.until_ms);
            if commit.entry.at_ms < until_ms && *effects != Effects::default() {
                return Err(format!(
                    "index {}: {executor} was let go {} ms before its deadline, and with it: {effects:?}",
                    commit.index,
                    until_ms.saturating_sub(commit.entry.at_ms)
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::{Incarnation, ReplicaId};

    use super::{super::testing::*, *};

    fn lab() -> Lab<DrainsLoseNothing> {
        let mut lab = Lab::new(DrainsLoseNothing);
        let replica = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: 3 };
        lab.commit(vec![replica, Command::RaiseVersion { to: 3 }]).unwrap();
        lab.commit(vec![register(1, 1), register(2, 2), submit(JOB, None)]).unwrap();
        lab.commit(vec![complete(1, task(0, 0), 1)]).unwrap();
        lab
    }

    fn drain(deadline_ms: u64) -> Command {
        Command::BeginDrain { executor: executor(1), incarnation: Incarnation(1), deadline_ms }
    }

    fn left() -> Command {
        let (executor, incarnation) = (executor(1), Incarnation(1));
        Command::ExecutorLeft { executor, incarnation, reason: "it was drained".to_owned() }
    }

    #[test]
    fn an_executor_that_leaves_with_what_is_needed_is_found() {
        let mut lab = lab();
        lab.commit(vec![drain(1_000)]).unwrap();
        assert!(lab.commit(vec![left()]).is_err());
    }

    #[test]
    fn one_that_handed_over_or_whose_time_is_over_may_leave() {
        let mut one = lab();
        one.commit(vec![drain(1_000)]).unwrap();
        let moved = Command::OutputMoved {
            executor: executor(2),
            incarnation: Incarnation(2),
            task: task(0, 0),
            attempt: attempt(1),
            from: executor(1),
            from_incarnation: Incarnation(1),
        };
        one.commit(vec![moved, left()]).unwrap();
        let mut other = lab();
        other.commit(vec![drain(0)]).unwrap();
        other.commit(vec![left()]).unwrap();
    }
}
