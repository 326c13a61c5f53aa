//! What becomes of files: staged, published by one entry, or given up and swept. See [`crate::WritePhase`].

use polybolos_model::{ErrorClass, JobId, TaskError, WriteTarget, limits::MAX_PLAN_BYTES};

use super::{Outcome, jobs::Submission};
use crate::{
    Change, ClusterState, JobError, JobStatus, NewTable, Rejection, Relation, Write, WritePhase,
    extension::ExtensionV3,
    limits::{MAX_TARGET_BYTES, MAX_WRITES},
};

impl ClusterState {
    pub(crate) fn submit_write(
        &mut self,
        new: Submission<'_>,
        target: &WriteTarget,
        table: Option<&NewTable>,
    ) -> Outcome {
        let job = new.job;
        let outcome = match self.known_submit(&new) {
            Some(duplicate) => return Ok(duplicate),
            None => self.check_write(job, target, table).and_then(|()| self.submit(new))?,
        };
        let (target, table) = (target.clone(), table.cloned());
        self.extension.v3.writes.insert(job, Write { target, table, phase: WritePhase::Staging });
        Ok(outcome)
    }

    fn check_write(
        &self,
        job: JobId,
        target: &WriteTarget,
        table: Option<&NewTable>,
    ) -> Result<(), Rejection> {
        let bytes = target.url.len() + target.extension.len();
        if bytes > MAX_TARGET_BYTES {
            return Err(Rejection::TargetTooLong { job, bytes });
        }
        if self.extension.v3.writes.values().filter(|write| write.phase != WritePhase::Over).count()
            >= MAX_WRITES
        {
            return Err(Rejection::TooManyWrites);
        }
        let Some(NewTable { name, table }) = table else { return Ok(()) };
        if let Some(there) = self.catalogue.relation(name) {
            return Err(Rejection::RelationExists { name: name.clone(), kind: there.kind() });
        }
        let bytes = table.ddl.len() + table.provider.len();
        if bytes > MAX_PLAN_BYTES {
            let kind = crate::RelationKind::Table;
            return Err(Rejection::DefinitionTooLarge { name: name.clone(), kind, bytes });
        }
        Ok(())
    }

    /// The last task of the job is done: from now on its files are published, whatever happens to its executors.
    pub(crate) fn begin_publishing(&mut self, job: JobId) -> bool {
        let Some(write) = self.extension.v3.writes.get_mut(&job) else { return false };
        write.phase = WritePhase::Publishing;
        true
    }

    /// All files have their final names: the statement has succeeded, and its table is there.
    pub(crate) fn published(&mut self, job: JobId) -> Outcome {
        self.check_publishing(job)?;
        let table = self.write(job).and_then(|write| write.table.clone());
        let created = table.map(|NewTable { name, table }| {
            self.catalogue.create(&name, Relation::Table(table), false, false)
        });
        match created {
            Some(Err(rejection)) => {
                let message = format!("{rejection} (it was not so when this statement began)");
                let error = JobError::of_job(TaskError::new(ErrorClass::User, message));
                Ok(self.give_up_publishing(job, error))
            }
            Some(Ok(_)) | None => {
                self.end_job(job, JobStatus::Succeeded, None);
                Ok(Change::JobEnded { job, status: JobStatus::Succeeded })
            }
        }
    }

    /// The files can't be published.
    pub(crate) fn abandon_write(&mut self, job: JobId, error: &JobError) -> Outcome {
        self.check_publishing(job)?;
        Ok(self.give_up_publishing(job, error.clone()))
    }

    fn give_up_publishing(&mut self, job: JobId, error: JobError) -> Change {
        self.end_job(job, JobStatus::Failed, Some(error));
        Change::JobEnded { job, status: JobStatus::Failed }
    }

    /// Nothing that the job had staged is left.
    pub(crate) fn swept(&mut self, job: JobId) -> Outcome {
        let write = self.extension.v3.writes.get_mut(&job).ok_or(Rejection::NoWrite { job })?;
        match write.phase {
            WritePhase::Sweeping { .. } => {
                write.phase = WritePhase::Over;
                Ok(Change::Swept { job })
            }
            WritePhase::Over => Ok(Change::Unchanged),
            WritePhase::Staging | WritePhase::Publishing => {
                Err(Rejection::WriteUnderWay { job, phase: write.phase })
            }
        }
    }

    fn check_publishing(&self, job: JobId) -> Result<(), Rejection> {
        let write = self.write(job).ok_or(Rejection::NoWrite { job })?;
        match (write.phase, self.job(job).map(|job| job.status)) {
            (WritePhase::Publishing, Some(_)) => Ok(()),
            (WritePhase::Staging, _) => Err(Rejection::WriteUnderWay { job, phase: write.phase }),
            (_, Some(status)) => Err(Rejection::JobEnded { job, status }),
            (_, None) => Err(Rejection::JobNotFound { job }),
        }
    }

    /// The state goes on as another cluster: what writes have staged and published may be in use by the one that the
    /// backup is of, so nothing is published or deleted any more.
    pub(crate) fn let_go_of_writes(&mut self) {
        let unsettled: Vec<JobId> = self.extension.v3.writes.keys().copied().collect();
        for id in unsettled {
            if self.job(id).is_some_and(|job| !job.status.is_ended()) {
                let message = "the cluster was restored from a backup while the statement wrote: look at its target \
                               before it is run again";
                let error = JobError::of_job(TaskError::new(ErrorClass::Retryable, message));
                self.end_job(id, JobStatus::Failed, Some(error));
            }
            if let Some(write) = self.extension.v3.writes.get_mut(&id) {
                write.phase = WritePhase::Over;
            }
        }
    }
}

impl ExtensionV3 {
    /// The job has ended: what it has left behind is swept.
    pub(crate) fn end_write(&mut self, job: JobId, status: JobStatus, now_ms: u64) {
        let Some(write) = self.writes.get_mut(&job) else { return };
        let unpublish = write.phase == WritePhase::Publishing && status != JobStatus::Succeeded;
        write.phase = WritePhase::Sweeping { since_ms: now_ms, unpublish };
        write.table = None;
    }

    /// Whether the record of the job is needed to find what it has left behind.
    pub(crate) fn is_swept(&self, job: JobId) -> bool {
        self.writes.get(&job).is_none_or(|write| write.phase == WritePhase::Over)
    }
}
