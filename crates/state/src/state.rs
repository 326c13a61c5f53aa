//! The one value that replicas agree on, and what may be asked of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use polybolos_model::{
    AttemptId, ExecutorId, IdempotencyKey, Incarnation, JobId, PartitionStats, ReplicaId, SessionId, StageId,
    TaskId, Term, settings::JobSettings,
};
use serde::{Deserialize, Serialize};

use crate::{
    Catalogue, Executor, FIRST_VERSION, Job, ReplicaRecord, TaskDone, extension::Extension,
    replicas::Replicas,
};

/// Everything that is replicated. It changes by [`ClusterState::apply`] only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Of entries; see [`ClusterState::version`]. First, so that it can be read of a state whose rest can't be.
    pub(crate) version: u16,
    /// Empty until the cluster is founded.
    pub(crate) cluster_id: String,
    /// Term of the last applied entry.
    pub(crate) term: Term,
    /// Time of the first applied entry of `term`.
    pub(crate) term_since_ms: u64,
    /// The latest time of any applied entry.
    pub(crate) now_ms: u64,
    /// The last one given.
    pub(crate) last_incarnation: Incarnation,
    pub(crate) executors: BTreeMap<ExecutorId, Executor>,
    pub(crate) jobs: Jobs,
    pub(crate) catalogue: Catalogue,
    pub(crate) replicas: Replicas,
    /// Restarts by hand, oldest first: when, and what happened.
    pub(crate) history: Vec<(u64, String)>,
    /// What version 1 does not know, stored in a section of its own.
    #[serde(skip)]
    pub(crate) extension: Extension,
}

/// Without a name: the first replica to lead names it.
impl Default for ClusterState {
    fn default() -> Self {
        Self {
            version: FIRST_VERSION,
            cluster_id: String::new(),
            term: Term::default(),
            term_since_ms: 0,
            now_ms: 0,
            last_incarnation: Incarnation::default(),
            executors: BTreeMap::new(),
            jobs: Jobs::default(),
            catalogue: Catalogue::default(),
            replicas: Replicas::default(),
            history: Vec::new(),
            extension: Extension::default(),
        }
    }
}

/// All jobs, with the orders in which they are looked for, so that nobody scans the ended ones for an active one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Jobs {
    pub(crate) by_id: BTreeMap<JobId, Job>,
    /// By [`Job::number`].
    pub(crate) order: BTreeMap<u64, JobId>,
    /// Numbers of the jobs of which tasks may run: they have not ended, or lost results are made again.
    pub(crate) active: BTreeSet<u64>,
    /// Numbers of the jobs that have ended and whose outputs are kept for their client, but for active ones.
    pub(crate) unfetched: BTreeSet<u64>,
    /// Numbers of the jobs that are released, kept for `jobs list`.
    pub(crate) history: BTreeSet<u64>,
    /// Keys of the jobs in `by_id`.
    pub(crate) keys: BTreeMap<IdempotencyKey, JobId>,
    /// Keys of forgotten jobs, so that a late retry does not run its job again; `spent_order` is oldest first.
    pub(crate) spent: BTreeMap<IdempotencyKey, JobId>,
    pub(crate) spent_order: VecDeque<IdempotencyKey>,
    /// The last one given.
    pub(crate) last_number: u64,
}

/// Where one partition of a result is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultLocation<'a> {
    pub partition: u32,
    pub done: &'a TaskDone,
    /// Where its executor serves it, or, of a durable one whose executor is lost, another that reads the durable store;
    /// `None` when nobody does.
    pub address: Option<&'a str>,
    /// The output is in the durable store too.
    pub durable: bool,
}

/// Where one output of an upstream task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapLocation<'a> {
    pub map_partition: u32,
    /// Empty when its executor is gone, and the output is in the durable store only.
    pub address: &'a str,
    pub done: &'a TaskDone,
}

impl ClusterState {
    pub fn new(cluster_id: impl Into<String>) -> Self {
        Self { cluster_id: cluster_id.into(), ..Self::default() }
    }

    /// Empty until the cluster is founded.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The version of entries in use: what the leader writes, and what every replica must be able to apply. It may
    /// be above [`crate::ENTRY_VERSION`]; then this program must stop.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Registered scheduler replicas, ascending by id.
    pub fn replicas(&self) -> impl ExactSizeIterator<Item = (&ReplicaId, &ReplicaRecord)> {
        self.replicas.known.iter()
    }

    /// The replica, if it is registered.
    pub fn replica(&self, id: ReplicaId) -> Option<&ReplicaRecord> {
        self.replicas.known.get(&id)
    }

    /// Whether the id belonged to a replica that has left for good.
    pub fn is_retired(&self, replica: ReplicaId) -> bool {
        self.replicas.is_retired(replica)
    }

    /// Restores and forced recoveries, oldest first: when, in ms since the Unix epoch, and what happened.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &(u64, String)> + ExactSizeIterator {
        self.history.iter()
    }

    /// Term of the last applied entry.
    pub fn term(&self) -> Term {
        self.term
    }

    /// When the present term's first entry was committed, in ms since the Unix epoch.
    pub fn term_since_ms(&self) -> u64 {
        self.term_since_ms
    }

    /// The latest time of any applied entry, in ms since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.by_id.get(&id)
    }

    /// The job that was submitted with this key, if it is still known.
    pub fn job_by_key(&self, key: &IdempotencyKey) -> Option<&Job> {
        self.job(*self.jobs.keys.get(key)?)
    }

    /// All known jobs in the order of submission; `.rev()` for the newest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.order.values().filter_map(|id| self.job(*id))
    }

    /// Jobs that have not ended, and those whose lost results are made again, in the order of submission.
    pub fn active_jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.numbered(&self.jobs.active)
    }

    pub fn active_job_count(&self) -> usize {
        self.jobs.active.len()
    }

    /// Jobs that have ended and whose outputs are kept for their client, but for active ones, in the order of
    /// submission.
    pub fn unfetched_jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.numbered(&self.jobs.unfetched)
    }

    /// Jobs that have ended and whose outputs may be deleted, in the order of submission.
    pub fn released_jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.numbered(&self.jobs.history)
    }

    /// Its executors and drains, without anything else: to try on it what commands do to them.
    pub(crate) fn fleet_alone(&self) -> Self {
        let mut alone = Self {
            version: self.version,
            term: self.term,
            now_ms: self.now_ms,
            last_incarnation: self.last_incarnation,
            executors: self.executors.clone(),
            ..Self::default()
        };
        alone.extension.v3.drains = self.extension.v3.drains.clone();
        alone
    }

    pub fn executor(&self, id: &ExecutorId) -> Option<&Executor> {
        self.executors.get(id)
    }

    /// All known executors, also lost ones, ascending by id.
    pub fn executors(&self) -> impl Iterator<Item = &Executor> {
        self.executors.values()
    }

    /// The executor, if it is present (live or draining) in just this incarnation.
    pub fn present(&self, id: &ExecutorId, incarnation: Incarnation) -> Option<&Executor> {
        self.executor(id).filter(|executor| executor.is_present() && executor.incarnation == incarnation)
    }

    /// Commands of deposed leaders that the executor's process refused, as far as the log knows. 0 while version 1 is
    /// in use.
    pub fn refused_commands(&self, executor: &ExecutorId) -> u64 {
        self.extension.refused_commands.get(executor).copied().unwrap_or(0)
    }

    /// The settings of a job. While an older version is in use, the defaults.
    pub fn settings(&self, job: &Job) -> JobSettings {
        crate::extension::settings(job, self.version)
    }

    /// Whether an attempt of the task that was launched in `epoch` of its stage may have read rows that are gone: it
    /// can't complete the task any more. Of one whose epoch nobody knows that is assumed once its stage was rolled back.
    pub fn is_void(&self, task: TaskId, attempt: AttemptId, epoch: Option<u32>) -> bool {
        if self.is_of_no_decision(task, attempt) {
            return true;
        }
        let from = self.extension.v3.valid_from.get(&(task.job, task.stage)).copied().unwrap_or(0);
        epoch.unwrap_or(0) < from && !polybolos_model::mutant!("stale-epoch-accepted")
    }

    /// Raised when completed partitions of the result are rolled back, since rows of before and after can't be mixed. A
    /// partition that is lost alone and made anew does not raise it.
    pub fn result_generation(&self, job: &Job) -> u32 {
        self.extension.v3.valid_from.get(&(job.id, job.result_stage())).copied().unwrap_or(0)
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Options that the session set, by full name.
    pub fn session_options(&self, session: &SessionId) -> Option<&BTreeMap<String, String>> {
        self.catalogue.session_options(session)
    }

    /// Completed result partitions of a job and where they are, ascending; empty for an unknown job, and for one that
    /// writes files.
    pub fn results(&self, job: JobId) -> impl Iterator<Item = ResultLocation<'_>> {
        self.job(job).filter(|job| self.write(job.id).is_none()).into_iter().flat_map(Job::results).map(
            move |(partition, done)| {
                let durable = self.is_durable(job, done.attempt);
                let stand_in = || self.stand_in(partition).filter(|_| durable);
                let served_by = self.present(&done.executor, done.incarnation).or_else(stand_in);
                ResultLocation { partition, done, address: served_by.map(|e| e.address.as_str()), durable }
            },
        )
    }

    /// Where the outputs of a complete stage are, ascending by map partition: what the readers of the stage are
    /// told. `None` when the stage is unknown, not complete, or one of its outputs is gone.
    pub fn map_outputs(&self, job: JobId, stage: StageId) -> Option<Vec<MapLocation<'_>>> {
        let run = self.job(job)?.run(stage)?;
        if !run.is_complete() {
            return None;
        }
        run.completed()
            .map(|(map_partition, done)| {
                let address = match self.present(&done.executor, done.incarnation) {
                    Some(executor) => executor.address.as_str(),
                    None if self.is_durable(job, done.attempt) => "",
                    None => return None,
                };
                Some(MapLocation { map_partition, address, done })
            })
            .collect()
    }

    /// Sizes of a completed task's output partitions.
    pub fn outputs(&self, task: TaskId) -> Option<&[PartitionStats]> {
        let run = self.job(task.job)?.task(task.stage, task.partition)?;
        run.completed.as_ref().map(|done| done.outputs.as_slice())
    }
}

impl Jobs {
    pub(crate) fn numbered<'a>(
        &'a self,
        numbers: &'a BTreeSet<u64>,
    ) -> impl DoubleEndedIterator<Item = &'a Job> {
        numbers.iter().filter_map(|number| self.by_id.get(self.order.get(number)?))
    }
}
