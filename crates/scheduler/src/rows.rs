//! Rows of small results that came with the completions of their tasks, so that clients need not fetch them.
//!
//! ```text
//!   report ─▶ keep ─▶ its entry is committed ─▶ watchers: of(the attempt that the state holds)
//!               └──▶ refused, released, too many, leadership lost: forgotten, and clients fetch
//! ```
//!
//! In the leader's memory only: the log has sizes and places, and the executors have the rows. Deliberately absent: which
//! attempt counts. Whoever asks has looked into the state, and gets that attempt's rows or none.

use std::collections::BTreeMap;

use bytes::Bytes;
use polybolos_model::{AttemptId, JobId, TaskId, limits::MAX_INLINE_ROWS_OF_JOB_BYTES};

/// All rows that are held at once; the oldest give way. As much as four thousand results of the largest size that comes.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an entry takes beside its rows, about.
const ENTRY_BYTES: usize = 256;

/// See the module's docs.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    by_job: BTreeMap<JobId, OfJob>,
    /// By age.
    order: BTreeMap<u64, (JobId, AttemptId)>,
    last_number: u64,
    bytes: usize,
}

#[derive(Debug, Default)]
struct OfJob {
    by_attempt: BTreeMap<AttemptId, Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    number: u64,
    task: TaskId,
    rows: Bytes,
}

impl Held {
    fn bytes(&self) -> usize {
        self.rows.len() + ENTRY_BYTES
    }
}

impl Rows {
    /// Holds what an attempt at `task` has reported, unless the job has too much here.
    pub(crate) fn keep(&mut self, task: TaskId, attempt: AttemptId, rows: Bytes) {
        self.forget(task.job, attempt);
        self.last_number += 1;
        let held = Held { number: self.last_number, task, rows };
        let (number, bytes) = (held.number, held.bytes());
        let of_job = self.by_job.get(&task.job).map_or(0, |of_job| of_job.bytes);
        if of_job + bytes > MAX_INLINE_ROWS_OF_JOB_BYTES {
            return;
        }
        while self.bytes + bytes > MAX_BYTES
            && let Some((_, (job, oldest))) = self.order.pop_first()
        {
            self.forget(job, oldest);
        }
        let of_job = self.by_job.entry(task.job).or_default();
        of_job.bytes += bytes;
        of_job.by_attempt.insert(attempt, held);
        self.order.insert(number, (task.job, attempt));
        self.bytes += bytes;
    }

    /// The rows that `attempt` made of `task`.
    pub(crate) fn of(&self, task: TaskId, attempt: AttemptId) -> Option<Bytes> {
        let held = self.by_job.get(&task.job)?.by_attempt.get(&attempt)?;
        (held.task == task).then(|| held.rows.clone())
    }

    pub(crate) fn has(&self, job: JobId, attempt: AttemptId) -> bool {
        self.by_job.get(&job).is_some_and(|of_job| of_job.by_attempt.contains_key(&attempt))
    }

    pub(crate) fn forget(&mut self, job: JobId, attempt: AttemptId) {
        let Some(of_job) = self.by_job.get_mut(&job) else { return };
        let Some(held) = of_job.by_attempt.remove(&attempt) else { return };
        of_job.bytes -= held.bytes();
        self.bytes -= held.bytes();
        self.order.remove(&held.number);
        if of_job.by_attempt.is_empty() {
            self.by_job.remove(&job);
        }
    }

    pub(crate) fn forget_job(&mut self, job: JobId) {
        let Some(of_job) = self.by_job.remove(&job) else { return };
        self.bytes -= of_job.bytes;
        for held in of_job.by_attempt.values() {
            self.order.remove(&held.number);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::{StageId, Term, limits::MAX_INLINE_ROWS_BYTES};

    use super::*;

    fn task(job: u64, partition: u32) -> TaskId {
        TaskId { job: JobId(job), stage: StageId(1), partition }
    }

    fn attempt(counter: u64) -> AttemptId {
        AttemptId { term: Term(1), counter }
    }

    fn large() -> Bytes {
        Bytes::from(vec![7; MAX_INLINE_ROWS_BYTES])
    }

    #[test]
    fn only_the_attempt_that_made_them_has_rows() {
        let mut rows = Rows::default();
        rows.keep(task(1, 0), attempt(1), "first".into());
        rows.keep(task(1, 0), attempt(2), "second".into());
        assert_eq!(rows.of(task(1, 0), attempt(1)), Some("first".into()));
        assert_eq!(rows.of(task(1, 0), attempt(2)), Some("second".into()));
        assert_eq!(rows.of(task(1, 0), attempt(3)), None);
        assert_eq!(rows.of(task(1, 1), attempt(1)), None, "of another partition");
        rows.forget(JobId(1), attempt(1));
        assert_eq!(rows.of(task(1, 0), attempt(1)), None);
        assert!(rows.has(JobId(1), attempt(2)));
        // What comes twice is held once.
        rows.keep(task(1, 0), attempt(2), "second".into());
        assert_eq!(rows.bytes, "second".len() + ENTRY_BYTES);
    }

    #[test]
    fn nothing_stays_of_a_job_that_is_given_back_nor_of_a_leadership_that_is_over() {
        let mut rows = Rows::default();
        for job in 1..=3 {
            rows.keep(task(job, 0), attempt(10 * job), large());
            rows.keep(task(job, 1), attempt(10 * job + 1), large());
        }
        rows.forget_job(JobId(2));
        assert!(!rows.has(JobId(2), attempt(20)) && rows.has(JobId(3), attempt(31)));
        assert_eq!((rows.by_job.len(), rows.order.len()), (2, 4));
        assert_eq!(rows.bytes, 4 * (MAX_INLINE_ROWS_BYTES + ENTRY_BYTES));
        rows.clear();
        assert_eq!((rows.by_job.len(), rows.order.len(), rows.bytes), (0, 0, 0));
    }

    #[test]
    fn one_job_does_not_take_the_room_of_all() {
        let mut rows = Rows::default();
        (0..1_000).for_each(|n| rows.keep(task(1, n), attempt(u64::from(n)), large()));
        assert!(rows.bytes <= MAX_INLINE_ROWS_OF_JOB_BYTES && rows.order.len() > 50);
        assert!(rows.has(JobId(1), attempt(0)), "those that came first are read first");
        rows.keep(task(2, 0), attempt(5_000), large());
        assert!(rows.has(JobId(2), attempt(5_000)));
    }

    #[test]
    fn the_oldest_give_way() {
        let mut rows = Rows::default();
        let jobs = (MAX_BYTES / MAX_INLINE_ROWS_BYTES + 10) as u64;
        (1..=jobs).for_each(|job| rows.keep(task(job, 0), attempt(job), large()));
        assert!(rows.bytes <= MAX_BYTES && rows.bytes > MAX_BYTES - 2 * MAX_INLINE_ROWS_BYTES);
        assert!(!rows.has(JobId(1), attempt(1)) && !rows.has(JobId(10), attempt(10)));
        assert!(rows.has(JobId(jobs), attempt(jobs)));
        assert_eq!(rows.by_job.len(), rows.order.len());
    }
}
