//! How a job ends, and what is forgotten then.

use polybolos_model::{JobId, limits::MAX_ENDED_JOBS};

use crate::{ClusterState, Command, Job, JobError, JobStatus, limits::MAX_SPENT_KEYS, state::Jobs};

impl ClusterState {
    /// Ends an active job. The results of a success are kept for the client; all others are released at once, and so are
    /// those of a write, whose rows are in its files.
    pub(crate) fn end_job(&mut self, id: JobId, status: JobStatus, error: Option<JobError>) {
        let now_ms = self.now_ms;
        let may_reopen = status == JobStatus::Succeeded && self.version >= Command::REOPEN_VERSION;
        let Some(job) = self.jobs.by_id.get_mut(&id) else { return };
        end(job, status, error, now_ms);
        // That of `EXPLAIN ANALYZE` is in the log.
        if !may_reopen || job.explain_analyze.is_some() {
            drop_plans(job);
        }
        self.extension.v3.end_job(id);
        self.extension.v3.end_write(id, status, now_ms);
        self.jobs.active.remove(&job.number);
        self.jobs.unfetched.insert(job.number);
        if status != JobStatus::Succeeded || self.write(id).is_some() {
            self.release_job(id);
        }
    }

    /// Lets go of an ended job's outputs, and of the oldest job when there are too many.
    pub(crate) fn release_job(&mut self, id: JobId) {
        let Some(job) = self.jobs.by_id.get_mut(&id) else { return };
        job.released = true;
        job.revision += 1;
        drop_sizes(job);
        drop_plans(job);
        self.jobs.active.remove(&job.number);
        self.jobs.unfetched.remove(&job.number);
        self.jobs.history.insert(job.number);
        self.extension.v3.forget_job(id);
        self.extension.v4.forget_job(id);
        let v3 = &mut self.extension.v3;
        for forgotten in self.jobs.forget_oldest(|job| v3.is_swept(job)) {
            v3.writes.remove(&forgotten);
        }
    }
}

impl Jobs {
    /// Jobs whose results somebody may still read don't make room for others, nor do those that are not swept.
    fn forget_oldest(&mut self, may_go: impl Fn(JobId) -> bool) -> Vec<JobId> {
        let mut forgotten = Vec::new();
        while self.unfetched.len() + self.history.len() > MAX_ENDED_JOBS {
            let may_go = |number: &&u64| self.order.get(number).is_none_or(|id| may_go(*id));
            let Some(number) = self.history.iter().find(may_go).copied() else { return forgotten };
            self.history.remove(&number);
            let job = self.order.remove(&number).and_then(|id| self.by_id.remove(&id));
            forgotten.extend(job.as_ref().map(|job| job.id));
            if let Some((id, key)) = job.and_then(|job| Some((job.id, job.key?))) {
                self.keys.remove(&key);
                self.spent.insert(key.clone(), id);
                self.spent_order.push_back(key);
            }
            while self.spent_order.len() > MAX_SPENT_KEYS {
                if let Some(key) = self.spent_order.pop_front() {
                    self.spent.remove(&key);
                }
            }
        }
        forgotten
    }
}

fn end(job: &mut Job, status: JobStatus, error: Option<JobError>, now_ms: u64) {
    job.status = status;
    job.error = error;
    job.ended_at_ms = Some(now_ms);
    job.revision += 1;
}

/// Nothing of the job runs again. What `jobs show` needs stays.
fn drop_plans(job: &mut Job) {
    for stage in &mut job.graph.stages {
        stage.plan = Vec::new();
    }
}

/// Sizes of outputs that nobody reads again are the largest part of a job with wide exchanges.
fn drop_sizes(job: &mut Job) {
    let inner = job.runs.len().saturating_sub(1);
    for run in job.runs.iter_mut().take(inner) {
        for done in run.tasks.iter_mut().filter_map(|task| task.completed.as_mut()) {
            done.outputs = Vec::new();
        }
    }
}
