//! Ends of attempts, kept until the scheduler says that they are in its log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use polybolos_model::{
    AttemptId, ExecutorId, Incarnation, JobId, PartitionStats, TaskError, TaskId, TaskMetrics,
};

/// Rows that go along with reports and wait for a stream, all together. Further reports go without: their outputs are
/// fetched.
const MAX_UNSENT_ROWS_BYTES: usize = 4 * 1024 * 1024;

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
        /// Those of a small result, as an Arrow IPC stream. See [`Ledger::next_unsent`].
        rows: Option<Bytes>,
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

impl Outcome {
    fn rows_bytes(&self) -> usize {
        match self {
            Self::Completed { rows: Some(rows), .. } => rows.len(),
            Self::Completed { rows: None, .. } | Self::Failed(_) | Self::Durable | Self::Moved { .. } => 0,
        }
    }

    fn drop_rows(&mut self) {
        if let Self::Completed { rows, .. } = self {
            *rows = None;
        }
    }
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
    /// Of rows that no stream has carried.
    rows_bytes: usize,
}

impl Ledger {
    pub(super) fn add(&mut self, work: Work, attempt: AttemptId, mut outcome: Outcome) {
        let Work { task, epoch } = work;
        if self.rows_bytes + outcome.rows_bytes() > MAX_UNSENT_ROWS_BYTES {
            outcome.drop_rows();
        }
        self.rows_bytes += outcome.rows_bytes();
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
    ///
    /// Rows go along once. A report is kept until it is in the log, and there may be thousands while that is stalled; and
    /// whoever hears it again is another leader, or one that had lost its stream: beside that pause a fetch costs nothing.
    pub(crate) fn next_unsent(&mut self) -> Option<Report> {
        let sequence = self.unsent.pop_first()?;
        let report = self.reports.get_mut(&sequence)?;
        let told = report.clone();
        self.rows_bytes -= report.outcome.rows_bytes();
        report.outcome.drop_rows();
        Some(told)
    }

    fn remove(&mut self, sequence: u64) -> Option<Report> {
        self.unsent.remove(&sequence);
        let report = self.reports.remove(&sequence)?;
        self.rows_bytes -= report.outcome.rows_bytes();
        self.index(&report.outcome).remove(&report.attempt);
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::{StageId, Term};

    use super::*;

    fn add(ledger: &mut Ledger, counter: u64, bytes: usize) {
        let task = TaskId { job: JobId(1), stage: StageId(0), partition: counter as u32 };
        let outcome = Outcome::Completed {
            outputs: vec![],
            metrics: TaskMetrics::default(),
            durable: false,
            rows: Some(Bytes::from(vec![7; bytes])),
        };
        ledger.add(Work { task, epoch: 0 }, AttemptId { term: Term(1), counter }, outcome);
    }

    fn sent(ledger: &mut Ledger) -> Vec<usize> {
        std::iter::from_fn(|| ledger.next_unsent()).map(|report| report.outcome.rows_bytes()).collect()
    }

    #[test]
    fn rows_go_along_with_the_first_telling_only() {
        let mut ledger = Ledger::default();
        add(&mut ledger, 1, 10);
        assert_eq!(sent(&mut ledger), [10]);
        add(&mut ledger, 2, 20);
        ledger.resend();
        assert_eq!(sent(&mut ledger), [0, 20]);
        assert_eq!((ledger.len(), ledger.rows_bytes), (2, 0));
    }

    #[test]
    fn rows_that_wait_for_a_stream_are_bounded_and_given_up_with_their_reports() {
        let mut ledger = Ledger::default();
        (1..=5).for_each(|counter| add(&mut ledger, counter, MAX_UNSENT_ROWS_BYTES / 4));
        assert_eq!(ledger.rows_bytes, MAX_UNSENT_ROWS_BYTES);
        ledger.withdraw(AttemptId { term: Term(1), counter: 1 });
        ledger.acknowledge(&[2]);
        assert_eq!(ledger.rows_bytes, MAX_UNSENT_ROWS_BYTES / 2);
        add(&mut ledger, 6, 1);
        let quarter = MAX_UNSENT_ROWS_BYTES / 4;
        assert_eq!(sent(&mut ledger), [quarter, quarter, 0, 1]);
        ledger.clear();
        assert_eq!(ledger.rows_bytes, 0);
    }
}
