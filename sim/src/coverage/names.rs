//! Every name that a campaign could reach, so that it can say which it never did. Tests hold the lists to the sources.

/// Every mark in the real code.
pub const MARKS: &[&str] = &[
    "a broken fetch went on from the durable copy",
    "a busy leader had another replica plan",
    "a client followed a reopened query",
    "a broken fetch went on where the output had moved to",
    "a client left a leader that was silent",
    "a damaged durable output was found",
    "a damaged output was found",
    "a deposed leader appended",
    "a deposed leader's command was refused",
    "a drain's deadline stopped tasks",
    "a drained executor left",
    "a failed task was tried again",
    "a fetch broke between two batches",
    "a fetch ended as its executor was lost",
    "a fetch was tried again",
    "a job ended while its tasks ran",
    "a job's own limit held its tasks back",
    "a job was not submitted after all",
    "a leader got its majority back",
    "a leader was paused",
    "a leader was told of a higher vote",
    "a log was truncated by another leader's",
    "a lost result was made again",
    "a plan of another replica was committed",
    "a plan of another replica was out of date",
    "a plan was taken from the cache",
    "a probe found that an executor is gone",
    "a repeated submit found its job",
    "a replica that was behind planned again",
    "a replica was added",
    "a replica was removed",
    "a report of a lost life was refused",
    "a report was of no use",
    "a request to the durable store was repeated",
    "a result broke after some of it was read",
    "a result came with its completion",
    "a result was given up on an executor that hangs",
    "a result was larger than its job allows",
    "a result was made anew elsewhere",
    "a result was read anew after a roll-back",
    "a result went on from another copy",
    "a runtime filter held rows back",
    "a scan was left out, for a join had nothing to match it with",
    "a skewed partition was split",
    "a slow task got a second attempt",
    "a snapshot gave way to a newer one",
    "a snapshot was built",
    "a snapshot was installed",
    "a submit came back to the leader",
    "a task got the memory that it had waited for",
    "a task ran again with joins that spill",
    "a task ran alone",
    "a task used a table that another has built",
    "a task waited for memory",
    "a task was launched before the log had what it needs",
    "a vote was refused",
    "a watch broke and went on",
    "a write waited for a full disk",
    "an attempt was adopted",
    "an early reader went on with another attempt",
    "an entry was committed after its leader was deposed",
    "an entry was not committed",
    "an executor came back to a new life",
    "an executor was lost",
    "an executor was set aside",
    "an orphaned output was deleted",
    "an output became durable",
    "an output was gone when it was read",
    "an output was not in the durable store",
    "an output was read from the durable store",
    "an output was read while it was written",
    "an output was taken over",
    "an output went to a file",
    "an upload of an output was tried again",
    "attempts of a decision that was not logged were called off",
    "completed tasks ran again",
    "consent to a campaign was refused",
    "files of a failed write were deleted",
    "leadership was handed over",
    "leadership was lost with an entry under way",
    "neighbouring partitions were coalesced",
    "one of two attempts of a task won",
    "publishing was tried again",
    "readers were rolled back",
    "reports were sent again",
    "results were lost",
    "rows were handed out before the task was done",
    "the outcome of an entry was unknown",
];

/// Every failpoint in the real code, those in synchronous code included.
pub const FAILPOINTS: &[&str] = &[
    "client.answer_lost",
    "client.before_ack_seen",
    "client.mid_result",
    "consensus.snapshot_now",
    "executor.after_task_before_report",
    "executor.registered",
    "executor.report_twice",
    "executor.rows_kept_back",
    "journal.before_rename",
    "log.after_append_before_flush",
    "log.after_flush_before_ack",
    "membership.before_retired",
    "membership.learner_caught_up",
    "scheduler.after_commit_before_ack",
    "scheduler.before_published",
    "scheduler.before_swept",
    "scheduler.between_stages",
    "scheduler.command_twice",
    "scheduler.estimate_high",
    "scheduler.mid_publish",
    "scheduler.plan_elsewhere",
    "shuffle.before_published",
    "shuffle.durable_before_index",
    "shuffle.mid_fetch",
    "shuffle.mid_pull",
    "shuffle.no_memory",
    "snapshot.before_switch",
    "snapshot.installing",
    "snapshot.saved_before_purge",
    "vote.before_saved",
];

/// Every fault, by [`crate::fault::Fault::name`].
pub const FAULTS: &[&str] = &[
    "crash",
    "power-loss",
    "wipe",
    "power-cycle",
    "rolling-restart",
    "isolate",
    "isolate-in",
    "isolate-out",
    "leader-in-minority",
    "bridge",
    "flap",
    "black-hole",
    "slow-link",
    "lossy-link",
    "cut-streams",
    "disk-errors",
    "slow-disk",
    "disk-full",
    "corrupt-disk",
    "corrupt-shuffle",
    "clock-jump",
    "clock-drift",
    "pause",
    "slow-cpu",
    "memory-exhausted",
    "store-errors",
    "slow-store",
    "duplicate-delivery",
    "client-gone",
    "add-replica",
    "remove-replica",
    "transfer-leadership",
    "drain-executor",
];

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    /// Sources of all rooms, without `model`, which documents the hooks by examples.
    fn sources() -> Vec<PathBuf> {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        let mut folders: Vec<PathBuf> = entries(&crates).into_iter().map(|room| room.join("src")).collect();
        folders.retain(|folder| folder.is_dir() && !folder.ends_with("model/src"));
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            let (inner, outer): (Vec<_>, Vec<_>) =
                entries(&folder).into_iter().partition(|path| path.is_dir());
            folders.extend(inner);
            files.extend(outer.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")));
        }
        files
    }

    #[allow(clippy::disallowed_methods, reason = "a test reads the sources")]
    fn entries(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[allow(clippy::disallowed_methods, reason = "a test reads the sources")]
    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    /// The first arguments of a hook, wherever it is called.
    pub(crate) fn calls_of(hook: &str) -> BTreeSet<String> {
        let call = format!("{hook}!(\"");
        let mut found = BTreeSet::new();
        for file in sources() {
            let text = text(&file);
            let names = text.split(&call).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
        found
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        let set: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(set.len(), names.len(), "a name is listed twice");
        set
    }

    #[test]
    fn every_mark_and_failpoint_in_the_sources_is_listed_and_the_other_way_round() {
        assert_eq!(calls_of("sometimes"), set(MARKS));
        let points: BTreeSet<String> = calls_of("failpoint").into_iter().chain(calls_of("buggify")).collect();
        assert_eq!(points, set(FAILPOINTS));
    }

    #[test]
    fn every_fault_is_listed() {
        let source = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fault.rs"));
        let names = source.split("pub fn name(&self)").nth(1).unwrap();
        let names: BTreeSet<String> = names
            .split("=> \"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .map(str::to_owned)
            .collect();
        assert_eq!(names, set(FAULTS));
    }
}
