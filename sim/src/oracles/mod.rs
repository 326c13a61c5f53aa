//! What must be true of every run. One promise a file, each with where it comes from and a hand-made violation as test.
//!
//! ```text
//!   moments ──▶ Judge ──┬─▶ Reference: applies each log entry once, when any replica first does
//!                       └─▶ oracles: on each moment, on each commit, at rest
//! ```
//!
//! Deliberately absent: anything that changes the run. An oracle only looks.

mod acknowledged_survives;
mod answers;
mod attempt_ids;
mod canary;
mod catalogue;
mod catching_up;
mod copies_elsewhere;
mod deaths;
mod disruptions;
mod drains_lose_nothing;
mod durable_log;
mod durable_stays;
mod election_safety;
mod fencing;
mod launches_are_due;
mod leader_completeness;
mod leftovers;
mod losses;
mod one_job_a_key;
mod one_visible_completion;
mod parallel;
mod pending;
mod readers_agree;
mod reference;
mod results_fit;
mod retries_wait;
mod retry_limit;
mod slots;
mod state_invariants;
mod status_forward;
#[cfg(test)]
mod testing;
mod writes;

use bytes::Bytes;
use polybolos_state::{Change, Effects};

use self::pending::Pending;
pub use self::reference::{Commit, Reference};
use crate::{moment::Moment, schedule::Schedule};

/// The promise that the run loop judges itself, with what [`Judge::pending`] says.
pub const LIVENESS: &str = "liveness";
/// The promise that [`Reference`] judges.
const REPLICAS_EQUAL: &str = "replicas-equal";

/// A promise was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{oracle}: {what}")]
pub struct Violation {
    /// Which promise: the oracle's name.
    pub oracle: &'static str,
    pub what: String,
}

pub type Check = Result<(), String>;

/// The hosts as the simulator knows them once nothing is pending any more.
#[derive(Debug, Clone, Default)]
pub struct Rest {
    /// Schedulers and executors that run and can reach each other, by host name.
    pub healthy: Vec<String>,
    /// Files on the disks of healthy executors, as `host: path`.
    pub executor_files: Vec<String>,
    /// Objects with durable copies of shuffle outputs: `shuffle/CLUSTER/JOB/STAGE/PARTITION/ATTEMPT/NAME`.
    pub durable_outputs: Vec<String>,
    /// Files of statements that write, staged ones included: paths in the store, and what they hold.
    pub written: Vec<(String, Bytes)>,
}

/// One promise.
pub trait Oracle {
    fn name(&self) -> &'static str;

    /// Something happened.
    ///
    /// # Errors
    /// What is broken.
    fn on_moment(&mut self, _moment: &Moment, _reference: &Reference) -> Check {
        Ok(())
    }

    /// An entry was applied for the first time by any replica.
    ///
    /// # Errors
    /// What is broken.
    fn on_commit(&mut self, _commit: &Commit<'_>) -> Check {
        Ok(())
    }

    /// Everything pending has ended and the healthy hosts had time to clean up.
    ///
    /// # Errors
    /// What is left over.
    fn at_rest(&mut self, _rest: &Rest, _reference: &Reference) -> Check {
        Ok(())
    }
}

/// All oracles of a run.
pub struct Judge {
    reference: Reference,
    pending: Pending,
    losses: losses::Losses,
    oracles: Vec<Box<dyn Oracle>>,
}

impl Judge {
    pub fn new(schedule: &Schedule) -> Self {
        let mut oracles: Vec<Box<dyn Oracle>> = vec![
            Box::new(election_safety::ElectionSafety::default()),
            Box::new(leader_completeness::LeaderCompleteness),
            Box::new(durable_log::DurableLog::default()),
            Box::new(durable_stays::DurableStays::new(schedule)),
            Box::new(one_visible_completion::OneVisibleCompletion::default()),
            Box::new(readers_agree::ReadersAgree::default()),
            Box::new(fencing::Fencing::default()),
            Box::new(launches_are_due::LaunchesAreDue::default()),
            Box::new(attempt_ids::AttemptIds::default()),
            Box::new(slots::Slots::default()),
            Box::new(parallel::Parallel::default()),
            Box::new(results_fit::ResultsFit),
            Box::new(copies_elsewhere::CopiesElsewhere::default()),
            Box::new(retry_limit::RetryLimit::default()),
            Box::new(retries_wait::RetriesWait::default()),
            Box::new(deaths::Deaths::default()),
            Box::new(drains_lose_nothing::DrainsLoseNothing),
            Box::new(acknowledged_survives::AcknowledgedSurvives::default()),
            Box::new(one_job_a_key::OneJobAKey::default()),
            Box::new(status_forward::StatusForward::default()),
            Box::new(canary::Canary),
            Box::new(catalogue::Catalogue::new(schedule)),
            Box::new(state_invariants::StateInvariants),
            Box::new(answers::Answers::new(schedule)),
            Box::new(leftovers::Leftovers::default()),
            Box::new(catching_up::CatchingUp::new(schedule)),
            Box::new(writes::Writes::new(schedule)),
        ];
        if !schedule.judge.is_empty() {
            oracles.retain(|oracle| schedule.judge.iter().any(|name| name == oracle.name()));
        }
        Self {
            reference: Reference::default(),
            pending: Pending::new(schedule),
            losses: losses::Losses::default(),
            oracles,
        }
    }

    /// The names of all promises.
    pub fn names(&self) -> Vec<&'static str> {
        let judged = self.oracles.iter().map(|oracle| oracle.name());
        [REPLICAS_EQUAL, LIVENESS].into_iter().chain(judged).collect()
    }

    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Ops without an end whose client lives, and jobs that are active, in words; empty when nothing is pending.
    pub fn pending(&self) -> String {
        self.pending.describe(&self.reference)
    }

    /// Jobs that were submitted, and those of them that lost an executor before they ended.
    pub fn jobs_and_hit(&self) -> (u64, u64) {
        self.losses.counts()
    }

    /// Feeds what has happened.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn on(&mut self, moment: &Moment) -> Result<(), Violation> {
        let broken = |oracle: &'static str| move |what| Violation { oracle, what };
        self.pending.on(moment);
        self.losses.on(moment);
        if let Some(commit) = self.reference.on(moment).map_err(broken(REPLICAS_EQUAL))? {
            self.losses.on_commit(&commit);
            for oracle in &mut self.oracles {
                oracle.on_commit(&commit).map_err(broken(oracle.name()))?;
            }
        }
        for oracle in &mut self.oracles {
            oracle.on_moment(moment, &self.reference).map_err(broken(oracle.name()))?;
        }
        Ok(())
    }

    /// At the end.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn at_rest(&mut self, rest: &Rest) -> Result<(), Violation> {
        for oracle in &mut self.oracles {
            let name = oracle.name();
            oracle.at_rest(rest, &self.reference).map_err(|what| Violation { oracle: name, what })?;
        }
        Ok(())
    }
}

/// What else followed from a change.
fn effects_of(change: &Change) -> Option<&Effects> {
    match change {
        Change::TaskFailed { effects, .. }
        | Change::Registered { effects, .. }
        | Change::Lost { effects, .. }
        | Change::Left { effects, .. }
        | Change::DeathsCounted { effects, .. }
        | Change::Reopened { effects, .. }
        | Change::ClusterRestarted { effects } => Some(effects),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::{Term, simulation::Fact};

    use super::{testing::*, *};
    use crate::moment::What;

    /// Passes what it sees on to a judge.
    struct Judged(Judge);

    impl Oracle for Judged {
        fn name(&self) -> &'static str {
            "judged"
        }

        fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
            self.0.on(moment).map_err(|violation| violation.to_string())
        }
    }

    #[test]
    fn a_correct_history_pleases_every_oracle() {
        let mut lab = Lab::with_job(Judged(Judge::new(&schedule())));
        lab.client(invoked(1)).unwrap();
        lab.client(accepted(1, JOB, None)).unwrap();
        assert!(
            lab.oracle
                .0
                .pending()
                .starts_with("job 0000000000000001 is queued, 0 of 4 tasks are done; op 1 ")
        );
        lab.commit(complete_all()).unwrap();
        let release = polybolos_state::Command::ReleaseJob { job: JOB };
        lab.commit(vec![release, beat(1, 1, 0, 0), beat(2, 2, 0, 0)]).unwrap();
        let rest = Rest { healthy: vec!["executor-1".to_owned()], ..Rest::default() };
        lab.oracle.0.at_rest(&rest).unwrap();
    }

    #[test]
    fn a_violation_names_its_oracle() {
        let mut judge = Judge::new(&schedule());
        let elected = What::Fact(Fact::Elected { term: Term(1), last_term: Term(0), last_index: 0 });
        let moment = |host: &str| Moment { at_us: 0, host: host.into(), what: elected.clone() };
        judge.on(&moment("scheduler-1")).unwrap();
        let violation = judge.on(&moment("scheduler-2")).unwrap_err();
        assert_eq!(violation.oracle, "election-safety");
        let names: std::collections::BTreeSet<_> = judge.names().into_iter().collect();
        assert_eq!(names.len(), judge.names().len());
    }
}
