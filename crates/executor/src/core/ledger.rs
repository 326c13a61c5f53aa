//! Ends of attempts, kept until the scheduler says that they are in its log.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, JobId, PartitionStats, TaskError, TaskId, TaskMetrics};

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed { outputs: Vec<PartitionStats>, metrics: TaskMetrics },
    Failed(TaskError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) sequence: u64,
    pub(crate) task: TaskId,
    pub(crate) attempt: AttemptId,
    pub(crate) outcome: Outcome,
}

impl Report {
    pub(super) fn is_completed(&self) -> bool {
        matches!(self.outcome, Outcome::Completed { .. })
    }
}

/// Reports by sequence, ascending from 1.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    last_sequence: u64,
    reports: BTreeMap<u64, Report>,
    by_attempt: BTreeMap<AttemptId, u64>,
    /// Sequences that this stream has not carried yet.
    unsent: BTreeSet<u64>,
}

impl Ledger {
    pub(super) fn add(&mut self, task: TaskId, attempt: AttemptId, outcome: Outcome) {
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        self.reports.insert(sequence, Report { sequence, task, attempt, outcome });
        self.by_attempt.insert(attempt, sequence);
        self.unsent.insert(sequence);
    }

    pub(super) fn has(&self, attempt: AttemptId) -> bool {
        self.by_attempt.contains_key(&attempt)
    }

    pub(super) fn attempts(&self) -> impl Iterator<Item = (AttemptId, TaskId)> {
        self.reports.values().map(|report| (report.attempt, report.task))
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
        if let Some(sequence) = self.by_attempt.get(&attempt).copied() {
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
        self.by_attempt.remove(&report.attempt);
        Some(report)
    }
}
