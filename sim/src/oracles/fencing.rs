//! Nobody of the past takes effect: an executor obeys no lower term than it has obeyed in its life, a report of a life of
//! an executor that is given up changes nothing, and an entry of an older term than the state's is refused as a whole.
//! From: the design, "fencing and exactly-once visible results".

use std::{collections::BTreeMap, sync::Arc};

use polybolos_model::{ExecutorId, Incarnation, Term, simulation::Fact};
use polybolos_state::{Applied, Change, ClusterState, Command, Entry};

use super::{Check, Commit, Oracle, Reference};
use crate::moment::{Moment, What};

#[derive(Debug, Default)]
pub(super) struct Fencing {
    /// The highest term that each executor has obeyed in this life.
    obeyed: BTreeMap<Arc<str>, Term>,
}

impl Oracle for Fencing {
    fn name(&self) -> &'static str {
        "fencing"
    }

    fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
        match &moment.what {
            What::Up { .. } | What::Down { .. } | What::Exited { .. } => {
                self.obeyed.remove(&moment.host);
                Ok(())
            }
            What::Fact(Fact::Obeyed { executor, term }) => {
                let highest = self.obeyed.entry(Arc::clone(&moment.host)).or_default();
                if term < highest {
                    return Err(format!("{executor} obeyed term {term} after {highest}"));
                }
                *highest = *term;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        check_term(commit)?;
        check_reports(commit.before, commit.entry, commit.applied)
            .map_err(|what| format!("index {}: {what}", commit.index))
    }
}

fn check_term(commit: &Commit<'_>) -> Check {
    let (own, current) = (commit.entry.term, commit.before.term());
    if own >= current || (commit.applied.outcomes.iter().all(Result::is_err) && commit.before == commit.after)
    {
        return Ok(());
    }
    Err(format!("index {} was decided in term {own} and took effect in term {current}", commit.index))
}

/// Follows who is present through the entry, as one entry may lose and register many.
fn check_reports(before: &ClusterState, entry: &Entry, applied: &Applied) -> Check {
    let present = before.executors().filter(|executor| executor.is_present());
    let mut present: BTreeMap<ExecutorId, Incarnation> =
        present.map(|executor| (executor.id.clone(), executor.incarnation)).collect();
    for (command, outcome) in entry.commands.iter().zip(&applied.outcomes) {
        let Ok(change) = outcome else { continue };
        check_report(&present, command, change)?;
        match change {
            Change::Registered { executor, incarnation, replaced, .. } => {
                if let Some((other, _)) = replaced {
                    present.remove(other);
                }
                present.insert(executor.clone(), *incarnation);
            }
            Change::Lost { executor, .. } | Change::Left { executor, .. } => {
                present.remove(executor);
            }
            Change::ClusterRestarted { .. } => present.clear(),
            _ => {}
        }
    }
    Ok(())
}

fn check_report(present: &BTreeMap<ExecutorId, Incarnation>, command: &Command, change: &Change) -> Check {
    let is_present =
        |executor: &ExecutorId, incarnation: &Incarnation| present.get(executor) == Some(incarnation);
    match (command, change) {
        (Command::CompleteTask { executor, incarnation, task, .. }, Change::TaskCompleted { .. })
        | (Command::CompleteTaskIn { executor, incarnation, task, .. }, Change::TaskCompleted { .. })
        | (Command::FailTask { executor, incarnation, task, .. }, Change::TaskFailed { .. })
        | (Command::OutputDurable { executor, incarnation, task, .. }, Change::MadeDurable { .. })
            if !is_present(executor, incarnation) =>
        {
            Err(format!(
                "a report on task {task} of {executor}'s life {incarnation} took effect, which is given up"
            ))
        }
        (Command::LoseExecutor { executor, incarnation, .. }, Change::Lost { .. })
        | (Command::ExecutorLeft { executor, incarnation, .. }, Change::Left { .. })
        | (Command::OutputMoved { executor, incarnation, .. }, Change::OutputMoved { .. })
        | (Command::SuspectExecutor { executor, incarnation }, Change::Suspected { .. })
            if !is_present(executor, incarnation) =>
        {
            Err(format!("{executor} was given up for its life {incarnation}, which was over"))
        }
        (Command::Heartbeats { beats }, Change::Beats { accepted, .. }) => {
            let of_present =
                beats.iter().filter(|beat| is_present(&beat.executor, &beat.incarnation)).count();
            if *accepted as usize <= of_present {
                return Ok(());
            }
            Err(format!("{accepted} beats counted, of which {of_present} are of lives that are present"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::StageId;

    use super::{super::testing::*, *};

    fn obeyed(term: u64) -> Fact {
        Fact::Obeyed { executor: executor(1), term: Term(term) }
    }

    #[test]
    fn an_executor_that_obeys_the_past_is_found() {
        let mut lab = Lab::new(Fencing::default());
        lab.fact("executor-1", obeyed(2)).unwrap();
        lab.fact("executor-2", obeyed(1)).unwrap();
        lab.fact("executor-1", obeyed(2)).unwrap();
        assert!(lab.fact("executor-1", obeyed(1)).is_err());
        // A new process knows nothing.
        lab.happens("executor-1", What::Down { power_loss: false }).unwrap();
        lab.fact("executor-1", obeyed(1)).unwrap();
    }

    #[test]
    fn a_report_of_a_life_that_is_over_is_found() {
        let mut lab = Lab::with_job(Fencing::default());
        lab.commit(vec![lose(1, 1), complete(1, task(0, 0), 1), register(1, 9)]).unwrap();
        lab.commit(vec![complete(1, task(0, 0), 1), beat(1, 1, 0, 0)]).unwrap();

        let entry = Entry::new(1, Term(1), 0, vec![complete(1, task(0, 0), 1)]);
        let done = Change::TaskCompleted { task: task(0, 0), stage_complete: false, job_ended: false };
        let forged = Applied { outcomes: vec![Ok(done)] };
        assert!(check_reports(&lab.state, &entry, &forged).is_err());
        let entry = Entry::new(1, Term(1), 0, vec![beat(1, 1, 0, 0)]);
        let forged = Applied { outcomes: vec![Ok(Change::Beats { accepted: 1, stale: vec![] })] };
        assert!(check_reports(&lab.state, &entry, &forged).is_err());
    }

    #[test]
    fn an_entry_of_a_past_term_that_takes_effect_is_found() {
        let mut lab = Lab::with_job(Fencing::default());
        lab.term = Term(5);
        lab.commit(vec![]).unwrap();
        let before = lab.state.clone();
        // Refused, as it must be.
        lab.term = Term(2);
        lab.commit(vec![complete(1, task(0, 0), 1)]).unwrap();
        assert!(before.job(JOB).unwrap().run(StageId(0)).unwrap().open.contains(&0));

        lab.term = Term(5);
        lab.commit(vec![complete(1, task(0, 0), 1)]).unwrap();
        let entry = Entry::new(1, Term(2), 0, vec![]);
        let (applied, after) = (Applied::default(), &lab.state);
        let (host, index, term) = (host(LEADER), 9, Term(5));
        let forged =
            Commit { at_us: 0, host, index, term, entry: &entry, applied: &applied, before: &before, after };
        assert!(lab.oracle.on_commit(&forged).is_err());
    }
}
