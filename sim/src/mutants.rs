//! Bugs that are planted in the real code, to prove that the simulator finds such.
//!
//! ```text
//!   MUTANTS ─▶ Hunt: seeds of each, one process a seed, until a promise is broken ─▶ the table
//!                ▲                       │ run --seed N --mutant NAME
//!                └───────────────────────┘
//! ```
//!
//! In the code each is one `if mutant!("name") { … }` or two. Without the feature `mutants` of `polybolos-model`, which only
//! this crate switches on, all of them are constantly false. [`CANARY`] breaks a promise by itself, to show that a run
//! that fails is told as one.

mod carry_out;
mod hunt;

pub use carry_out::HuntError;
pub use hunt::{Found, Hunt, Task, Verdict};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant {
    /// By which `--mutant` switches it on.
    pub name: &'static str,
    /// What is wrong then.
    pub about: &'static str,
    /// Checks that are likely to find it; any other will do too.
    pub checks: &'static [&'static str],
    /// `swarm`, or the shipped scenario whose faults suit it.
    pub scenario: &'static str,
}

/// A run with this mutant reports a violation whatever happens.
pub const CANARY: &str = "canary";

const SWARM: &str = "swarm";

const fn mutant(
    name: &'static str,
    about: &'static str,
    checks: &'static [&'static str],
    scenario: &'static str,
) -> Mutant {
    Mutant { name, about, checks, scenario }
}

/// Ascending by name.
pub const MUTANTS: &[Mutant] = &[
    mutant(
        "ack-before-commit",
        "a leader answers a submit before it is in the log",
        &["acknowledged-survives"],
        "leader-in-minority",
    ),
    mutant(
        "ahead-of-indeterminate",
        "readers start over outputs that the log does not have yet and that come out differently the next time",
        &["launches-are-due"],
        "indeterminate-outputs",
    ),
    mutant(
        "append-unflushed",
        "log entries count as durable before they are synced",
        &["durable-log"],
        "torn-writes",
    ),
    mutant(
        "broadcast-tables-mixed-up",
        "a task joins with the table of another stage's broadcast",
        &["answers", "no-panic"],
        SWARM,
    ),
    mutant(
        "broadcast-tables-stay",
        "the tables of broadcast joins are kept when nobody needs them any more",
        &["leftovers"],
        SWARM,
    ),
    mutant(
        "cancel-after-end",
        "a cancel ends a job that has ended already",
        &["status-forward", "state-invariants"],
        "cancels",
    ),
    mutant(
        "coalesced-partition-forgotten",
        "a task that reads several partitions leaves out the last of them",
        &["answers"],
        SWARM,
    ),
    mutant(
        "drain-drops-outputs",
        "a drained executor is let go with outputs that nobody else has",
        &["drains-lose-nothing"],
        "drains",
    ),
    mutant(
        "duplicate-answered-anew",
        "a submit that lost the race with its repetition is told of a job that does not exist",
        &["acknowledged-survives", "one-job-a-key"],
        "shared-key",
    ),
    mutant(
        "durable-never-deleted",
        "durable copies of released jobs stay",
        &["leftovers"],
        "durable-shuffle",
    ),
    mutant(
        "durable-outlives-undo",
        "an output that was undone still counts as durable",
        &["state-invariants"],
        "durable-shuffle",
    ),
    mutant(
        "durable-outputs-rerun",
        "durable outputs count as lost with their executor",
        &["durable-stays"],
        "durable-shuffle",
    ),
    mutant(
        "durable-resume-repeats",
        "a reader that goes on from a durable copy repeats rows",
        &["answers"],
        "durable-shuffle",
    ),
    mutant(
        "durable-too-early",
        "an output is told to be durable before it is uploaded",
        &["durable-stays", "answers", "leftovers"],
        "durable-shuffle",
    ),
    mutant(
        "early-reader-begins-anew",
        "a reader of a result that goes on with another attempt begins again with its first row",
        &["answers"],
        "long-results",
    ),
    mutant(
        "executor-never-lost",
        "an executor that is silent for ever is waited for",
        &["liveness"],
        "executor-lost",
    ),
    mutant(
        "failure-counted-twice",
        "a report of a failure that comes twice counts twice",
        &["retry-limit", "state-invariants"],
        "duplicate-delivery",
    ),
    mutant(
        "fetch-cut-short",
        "a fetch that breaks between two batches is taken for complete",
        &["answers"],
        "fetch-cut",
    ),
    mutant(
        "fetch-repeated",
        "a fetch that breaks between two batches starts again from the first",
        &["answers"],
        "fetch-cut",
    ),
    mutant(
        "forget-keys",
        "a repeated submit makes another job",
        &["one-job-a-key", "state-invariants"],
        "shared-key",
    ),
    mutant("forget-upstream", "a reader leaves out one of its upstream partitions", &["answers"], SWARM),
    mutant(
        "generations-mixed",
        "a client goes on with rows of before and after a roll-back",
        &["answers"],
        "indeterminate-outputs",
    ),
    mutant(
        "hash-keys-reordered",
        "every other task hashes the keys of an exchange in another order",
        &["answers"],
        SWARM,
    ),
    mutant(
        "ignore-term",
        "a replica takes appends of a deposed leader for those of the present one",
        &["replicas-equal", "no-panic"],
        "leader-in-minority",
    ),
    mutant(
        "job-ends-early",
        "a job succeeds when all partitions of its result but one are there",
        &["state-invariants"],
        SWARM,
    ),
    mutant(
        "lost-outputs-not-rerun",
        "what a lost executor held is not made again",
        &["state-invariants", "liveness"],
        "executor-lost",
    ),
    mutant("merge-unsorted", "sorted runs are gathered as they come", &["answers"], SWARM),
    mutant(
        "never-catches-up",
        "a replica that is behind answers by what it knows, whatever was acknowledged since",
        &["answers"],
        "catalogue-changes",
    ),
    mutant(
        "no-resign",
        "a leader that restarts carries on in its old term and counts attempts from zero",
        &["attempt-ids-unique", "election-safety"],
        "single-scheduler",
    ),
    mutant(
        "no-rollback",
        "of an indeterminate stage only what is lost runs again, and its readers keep what they read",
        &["readers-agree", "answers"],
        "indeterminate-outputs",
    ),
    mutant("no-sweep", "what statements that write have staged is never deleted", &["writes"], "writes"),
    mutant("one-slot-too-many", "an executor runs one attempt more than it has slots", &["slots"], "cancels"),
    mutant(
        "parallel-limit-ignored",
        "a job gets as many slots as there are, whatever it allows",
        &["parallel-tasks"],
        "limits",
    ),
    mutant(
        "poison-never-fails",
        "a task under which executor after executor dies is tried again for ever",
        &["state-invariants", "deaths"],
        "executor-restart-storm",
    ),
    mutant("publish-loser", "files of attempts that have lost are published too", &["writes"], "writes"),
    mutant("publish-twice", "whoever publishes again gives the files other names", &["writes"], "writes"),
    mutant(
        "purge-before-snapshot",
        "the log is purged before the snapshot that holds its entries is durable",
        &["durable-log", "liveness"],
        "snapshot-interrupted",
    ),
    mutant("release-not-sent", "executors are not told that a job's outputs may go", &["leftovers"], SWARM),
    mutant(
        "reopened-result-repeats",
        "a client that waits for lost partitions of a result reads once more what it has read",
        &["answers"],
        "lost-results",
    ),
    mutant(
        "reports-not-resent",
        "an executor forgets what it has not been told to be committed when its leader changes",
        &["liveness"],
        "transfer-storm",
    ),
    mutant(
        "rerun-not-recursive",
        "lost inputs of tasks that run again are not made again",
        &["state-invariants"],
        "executor-lost",
    ),
    mutant(
        "result-cut-short",
        "a result that breaks in the middle is taken for complete",
        &["answers"],
        "long-results",
    ),
    mutant("result-limit-ignored", "a result may be as large as it likes", &["results-fit"], "limits"),
    mutant(
        "result-repeated",
        "a result that breaks in the middle is read again from its first row",
        &["answers"],
        "fetch-cut",
    ),
    mutant(
        "retry-limit-off-by-one",
        "a task may fail once more than allowed",
        &["retry-limit", "state-invariants"],
        "store-errors",
    ),
    mutant(
        "retry-without-backoff",
        "a task that failed is tried again at once",
        &["retries-wait"],
        "store-errors",
    ),
    mutant(
        "running-from-memory",
        "a job is called running by what only the leader's memory holds",
        &["status-forward"],
        "executor-lost",
    ),
    mutant(
        "runtime-filter-forgets-a-key",
        "the keys by which a scan is filtered lack one",
        &["answers"],
        SWARM,
    ),
    mutant(
        "second-completion-wins",
        "a later completion of a task takes the place of the first",
        &["one-visible-completion", "state-invariants"],
        "paused-executor",
    ),
    mutant("skip-flush", "nothing that a replica writes is synced", &["durable-log"], "torn-writes"),
    mutant("slot-leak", "an attempt that was stopped keeps its slot", &["leftovers", "liveness"], "cancels"),
    mutant(
        "snapshot-without-catalogue",
        "snapshots lack tables and views",
        &["replicas-equal"],
        "snapshot-catch-up",
    ),
    mutant(
        "snapshot-without-keys",
        "snapshots lack the keys of submits",
        &["replicas-equal"],
        "snapshot-catch-up",
    ),
    mutant(
        "speculation-same-executor",
        "a slow task gets its second attempt where the first one runs",
        &["copies-elsewhere"],
        "slow-executor",
    ),
    mutant(
        "spill-loses-last",
        "an output that goes to a file lacks its last, short batches",
        &["answers"],
        "duplicate-delivery",
    ),
    mutant(
        "spilled-files-kept",
        "files of outputs that nobody needs stay",
        &["leftovers"],
        "duplicate-delivery",
    ),
    mutant(
        "stale-epoch-accepted",
        "an attempt that has read rows which are gone may still complete its task",
        &["readers-agree", "answers"],
        "indeterminate-outputs",
    ),
    mutant(
        "stale-incarnation",
        "an executor goes on in a life that was declared lost, and its completions count",
        &["fencing", "state-invariants"],
        "paused-executor",
    ),
    mutant(
        "stale-reads",
        "any replica answers reads from what it has applied",
        &["acknowledged-survives", "status-forward", "answers"],
        "leader-killed-during-submit",
    ),
    mutant(
        "status-goes-back",
        "a job whose outputs were lost is queued again",
        &["status-forward"],
        "executor-lost",
    ),
    mutant(
        "vote-ignores-log",
        "replicas vote for a candidate that lacks committed entries",
        &["leader-completeness", "replicas-equal"],
        "torn-writes",
    ),
    mutant(
        "vote-not-saved",
        "a vote is forgotten by a restart",
        &["election-safety", "liveness"],
        "power-cycle",
    ),
];

pub fn all() -> &'static [Mutant] {
    MUTANTS
}

/// The planted bug of this name.
pub fn find(name: &str) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|mutant| mutant.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{coverage::calls_of, oracles::Judge, scenario};

    #[test]
    fn each_hunts_in_a_scenario_that_is_shipped() {
        for mutant in MUTANTS {
            let shipped = scenario::all().iter().any(|shipped| shipped.name == mutant.scenario);
            assert!(shipped, "{} hunts in '{}'", mutant.name, mutant.scenario);
        }
    }

    #[test]
    fn each_names_checks_that_exist() {
        let known = Judge::new(&scenario::expand(SWARM, 1).unwrap()).names();
        for mutant in MUTANTS {
            for check in mutant.checks {
                // A panic is seen by the run itself.
                assert!(*check == "no-panic" || known.contains(check), "{}: {check}", mutant.name);
            }
        }
    }

    #[test]
    fn every_planted_bug_is_in_the_sources_and_the_other_way_round() {
        let listed: Vec<String> = MUTANTS.iter().map(|mutant| mutant.name.to_owned()).collect();
        assert!(listed.is_sorted(), "ascending by name");
        let found: BTreeSet<String> = calls_of("mutant");
        assert_eq!(found, listed.into_iter().collect());
        assert!(find("skip-flush").is_some() && find(CANARY).is_none());
    }
}
