//! Jobs, their stages and the attempts of their tasks.
//!
//! The log's commands say when a job came and when its tasks were complete. That a job succeeded follows from the last
//! completion; which one that was, the trace says only through a client that got the rows, or released or read the job.

use std::collections::BTreeMap;

use super::chart::{Attempt, AttemptEnd, HostIndex, Job, JobEnd, Stage};
use crate::trace::{Line, Seen};

#[derive(Debug, Default)]
pub(super) struct Work {
    jobs: Vec<Job>,
    by_id: BTreeMap<String, usize>,
    /// When the last task of a job was complete.
    completed_us: BTreeMap<usize, u64>,
    stages: BTreeMap<(usize, u32), Stage>,
    attempts: Vec<Attempt>,
    /// Index of an attempt that runs, by host, task and attempt.
    running: BTreeMap<(HostIndex, String, String), usize>,
    launched_us: BTreeMap<(String, String), u64>,
    last_index: u64,
}

/// `JOB/STAGE/PARTITION`.
fn parts(task: &str) -> Option<(&str, u32, u32)> {
    let mut parts = task.split('/');
    let job = parts.next()?;
    Some((job, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Work {
    pub(super) fn on(&mut self, line: &Line, host: HostIndex) {
        let at = line.at_us;
        match &line.seen {
            // Each replica applies each entry; the first one tells.
            Seen::Applied { index, commands, .. } if *index > self.last_index => {
                self.last_index = *index;
                for command in commands {
                    self.command(at, &command.split(' ').collect::<Vec<_>>());
                }
            }
            Seen::Launched { task, attempt, .. } => {
                self.launched_us.insert((task.clone(), attempt.clone()), at);
                self.stage(task, at);
            }
            Seen::AttemptStarted { task, attempt, .. } => self.start(host, at, task, attempt),
            Seen::AttemptEnded { task, attempt, end, .. } => {
                let end = match end.as_str() {
                    "completed" => AttemptEnd::Completed,
                    "failed" => AttemptEnd::Failed,
                    _ => AttemptEnd::Stopped,
                };
                self.end_attempt(&(host, task.clone(), attempt.clone()), at, end);
            }
            Seen::Answered { job, .. } => self.end_job(job, at, JobEnd::Succeeded, ""),
            Seen::Status { job, status, is_terminal: true, .. } => {
                let end = match status.as_str() {
                    "failed" => JobEnd::Failed,
                    "cancelled" => JobEnd::Cancelled,
                    _ => JobEnd::Succeeded,
                };
                self.end_job(job, at, end, "as a status read said");
            }
            Seen::Down { .. } | Seen::Exited { .. } | Seen::Refused { .. } => self.lose(host, at),
            _ => {}
        }
    }

    fn command(&mut self, at: u64, words: &[&str]) {
        match words {
            ["submit-job", job, ..] => {
                let index = self.job(job, at);
                self.jobs[index].from = self.jobs[index].from.min(at);
            }
            ["cancel-job", job] => self.end_job(job, at, JobEnd::Cancelled, "by command"),
            ["fail-job", job] => self.end_job(job, at, JobEnd::Failed, "by the leader"),
            ["release-job", job] => self.end_job(job, at, JobEnd::Succeeded, ""),
            ["complete-task", task, ..] => {
                let Some(index) = self.stage(task, at) else { return };
                self.completed_us.insert(index.0, at);
                if let Some(stage) = self.stages.get_mut(&index) {
                    stage.completed += 1;
                }
            }
            _ => {}
        }
    }

    /// Index of a job, which is new if nobody spoke of it before.
    fn job(&mut self, id: &str, at: u64) -> usize {
        if let Some(index) = self.by_id.get(id) {
            return *index;
        }
        let end = JobEnd::Open as u8;
        self.jobs.push(Job {
            id: id.to_owned(),
            from: at,
            to: at,
            end,
            what: String::new(),
            why: String::new(),
        });
        self.by_id.insert(id.to_owned(), self.jobs.len() - 1);
        self.jobs.len() - 1
    }

    /// Index of the job that an op was accepted as; the first such op says what the job is.
    pub(super) fn job_of_op(&mut self, id: &str, at: u64, what: &str) -> i32 {
        let index = self.job(id, at);
        let job = &mut self.jobs[index];
        if job.what.is_empty() {
            what.clone_into(&mut job.what);
        }
        i32::try_from(index).unwrap_or(-1)
    }

    /// The error of an op tells why its job failed, unless the log did.
    pub(super) fn op_failed(&mut self, job: i32, at: u64, outcome: &str, error: &str) {
        let end = match outcome {
            "failed" => JobEnd::Failed,
            "cancelled" => JobEnd::Cancelled,
            _ => return,
        };
        let Some(id) = usize::try_from(job).ok().and_then(|job| self.jobs.get(job)).map(|job| job.id.clone())
        else {
            return;
        };
        self.end_job(&id, at, end, error);
    }

    fn end_job(&mut self, id: &str, at: u64, end: JobEnd, why: &str) {
        let index = self.job(id, at);
        let completed = self.completed_us.get(&index).copied();
        let job = &mut self.jobs[index];
        // A cancel that came too late changes nothing, which only shows when the rows arrive.
        if job.end == JobEnd::Open as u8 || (job.end == JobEnd::Cancelled as u8 && end == JobEnd::Succeeded) {
            job.end = end as u8;
            job.to = if end == JobEnd::Succeeded { completed.unwrap_or(at) } else { at };
            why.clone_into(&mut job.why);
        }
    }

    /// Something happened to a task's stage.
    fn stage(&mut self, task: &str, at: u64) -> Option<(usize, u32)> {
        let (job, stage, _) = parts(task)?;
        let job = self.job(job, at);
        let row = i32::try_from(job).ok()?;
        let new = Stage { job: row, stage, from: at, to: at, attempts: 0, completed: 0, failed: 0 };
        self.stages.entry((job, stage)).or_insert(new).to = at;
        Some((job, stage))
    }

    fn start(&mut self, host: HostIndex, at: u64, task: &str, attempt: &str) {
        let Some((_, stage, partition)) = parts(task) else { return };
        let Some(index) = self.stage(task, at) else { return };
        if let Some(stage) = self.stages.get_mut(&index) {
            stage.attempts += 1;
        }
        let key = (task.to_owned(), attempt.to_owned());
        let launched = self.launched_us.get(&key).and_then(|at| i64::try_from(*at).ok()).unwrap_or(-1);
        self.running.insert((host, key.0, key.1), self.attempts.len());
        self.attempts.push(Attempt {
            host,
            from: at,
            to: at,
            end: AttemptEnd::Open as u8,
            job: i32::try_from(index.0).unwrap_or(-1),
            stage,
            partition,
            attempt: attempt.to_owned(),
            launched,
        });
    }

    fn end_attempt(&mut self, key: &(HostIndex, String, String), at: u64, end: AttemptEnd) {
        let Some(index) = self.running.remove(key) else { return };
        self.attempts[index].to = at;
        self.attempts[index].end = end as u8;
        let Some(stage) = self.stage(&key.1, at) else { return };
        if let Some(stage) = self.stages.get_mut(&stage)
            && end == AttemptEnd::Failed
        {
            stage.failed += 1;
        }
    }

    fn lose(&mut self, host: HostIndex, at: u64) {
        let of_host = self.running.keys().filter(|key| key.0 == host).cloned();
        for key in of_host.collect::<Vec<_>>() {
            self.end_attempt(&key, at, AttemptEnd::LostWithHost);
        }
    }

    /// What is still open goes on until the end.
    pub(super) fn finish(mut self, end: u64) -> (Vec<Job>, Vec<Stage>, Vec<Attempt>) {
        for index in self.running.values() {
            self.attempts[*index].to = end;
        }
        for job in self.jobs.iter_mut().filter(|job| job.end == JobEnd::Open as u8) {
            job.to = end;
        }
        (self.jobs, self.stages.into_values().collect(), self.attempts)
    }
}
