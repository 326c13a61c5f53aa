//! Ends of attempts, kept until the scheduler says that they are in its log.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{
    AttemptId, ExecutorId, Incarnation, JobId, PartitionStats, TaskError, TaskId, TaskMetrics,
};

/// What an attempt was launched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) task: TaskId,
    /// Of the stage: the attempt reads what the inputs give in this epoch or a later one.
    pub(crate) epoch: u32,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed {
        outputs: Vec<PartitionStats>,
        metrics: TaskMetrics,
        /// The output is in the durable store too.
        durable: bool,
    },
    Failed(TaskError),
    /// After a completion: its output is in the durable store too by now.
    Durable,
    /// The output of another executor's attempt is here now.
    Moved {
        from: ExecutorId,
        incarnation: Incarnation,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) sequence: u64,
    pub(crate) task: TaskId,
    pub(crate) attempt: AttemptId,
    /// In which the attempt was launched.
    pub(crate) epoch: u32,
    pub(crate) outcome: Outcome,
}

impl Report {
    pub(super) fn is_completed(&self) -> bool {
        matches!(self.outcome, Outcome::Completed { .. })
    }

    /// There is an output here.
    pub(super) fn has_output(&self) -> bool {
        matches!(self.outcome, Outcome::Completed { .. } | Outcome::Moved { .. })
    }
}

/// Reports by sequence, ascending from 1.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    last_sequence: u64,
    reports: BTreeMap<u64, Report>,
    /// Ends of attempts.
    by_attempt: BTreeMap<AttemptId, u64>,
    /// Reports of [`Outcome::Durable`].
    durable: BTreeMap<AttemptId, u64>,
    /// Reports of [`Outcome::Moved`].
    moved: BTreeMap<AttemptId, u64>,
    /// Sequences that this stream has not carried yet.
    unsent: BTreeSet<u64>,
}

impl Ledger {
    pub(super) fn add(&mut self, work: Work, attempt: AttemptId, outcome: Outcome) {
        let Work { task, epoch } = work;
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        self.index(&outcome).insert(attempt, sequence);
        self.reports.insert(sequence, Report { sequence, task, attempt, epoch, outcome });
        self.unsent.insert(sequence);
    }

    fn index(&mut self, outcome: &Outcome) -> &mut BTreeMap<AttemptId, u64> {
        match outcome {
            Outcome::Completed { .. } | Outcome::Failed(_) => &mut self.by_attempt,
            Outcome::Durable => &mut self.durable,
            Outcome::Moved { .. } => &mut self.moved,
        }
    }

    /// Whether it is to be told that the attempt's output is here now, though made elsewhere.
    pub(super) fn tells_moved(&self, attempt: AttemptId) -> bool {
        self.moved.contains_key(&attempt)
    }

    /// What the attempt's end was, while it is kept.
    pub(super) fn of(&self, attempt: AttemptId) -> Option<&Report> {
        self.reports.get(self.by_attempt.get(&attempt)?)
    }

    pub(super) fn has(&self, attempt: AttemptId) -> bool {
        self.by_attempt.contains_key(&attempt)
    }

    pub(super) fn attempts(&self) -> impl Iterator<Item = (AttemptId, Work)> {
        let ends = self.by_attempt.values().filter_map(|sequence| self.reports.get(sequence));
        ends.map(|report| (report.attempt, Work { task: report.task, epoch: report.epoch }))
    }

    pub(super) fn len(&self) -> usize {
        self.reports.len()
    }

    /// A new stream: everything must be sent again.
    pub(super) fn resend(&mut self) {
        self.unsent = self.reports.keys().copied().collect();
    }

    /// The reports that need not be kept any more.
    pub(super) fn acknowledge(&mut self, sequences: &[u64]) -> Vec<Report> {
        sequences.iter().filter_map(|sequence| self.remove(*sequence)).collect()
    }

    /// Nobody wants to know any more.
    pub(super) fn withdraw(&mut self, attempt: AttemptId) {
        let of_attempt = [&self.by_attempt, &self.durable, &self.moved].map(|of| of.get(&attempt));
        for sequence in of_attempt.into_iter().flatten().copied().collect::<Vec<_>>() {
            self.remove(sequence);
        }
    }

    pub(super) fn withdraw_job(&mut self, job: JobId) {
        let of_job = self.reports.values().filter(|report| report.task.job == job);
        for sequence in of_job.map(|report| report.sequence).collect::<Vec<_>>() {
            self.remove(sequence);
        }
    }

    /// Another cluster is owed no reports; sequences go on.
    pub(super) fn clear(&mut self) {
        let last_sequence = self.last_sequence;
        *self = Self { last_sequence, ..Self::default() };
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The oldest report that this stream has not carried yet; it counts as carried from now on.
    pub(crate) fn next_unsent(&mut self) -> Option<&Report> {
        let sequence = self.unsent.pop_first()?;
        self.reports.get(&sequence)
    }

    fn remove(&mut self, sequence: u64) -> Option<Report> {
        self.unsent.remove(&sequence);
        let report = self.reports.remove(&sequence)?;
        self.index(&report.outcome).remove(&report.attempt);
        Some(report)
    }
}
