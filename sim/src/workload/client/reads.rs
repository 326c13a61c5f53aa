//! Status reads: of the cluster, and of the jobs that this client has had acknowledged.

use polybolos_client::{ClientError, JobState};
use polybolos_model::JobId;

use super::{Task, outcome};
use crate::moment::{ClientEvent, Outcome};

impl Task {
    /// Every second read asks for the list instead of each job.
    pub(super) async fn status(&self) -> bool {
        // Acknowledged before the read begins, so known to it.
        let jobs: Vec<JobId> = self.jobs().iter().copied().collect();
        let read = if self.op.id.is_multiple_of(2) { self.list(&jobs).await } else { self.each(&jobs).await };
        match read {
            Ok(true) => self.done(),
            // Is recorded.
            Ok(false) => false,
            Err(error) => self.failed(error.to_string(), outcome(&error)),
        }
    }

    async fn list(&self, jobs: &[JobId]) -> Result<bool, ClientError> {
        self.client.status().await?;
        let listed = self.client.jobs().await?;
        for &job in jobs {
            let text = job.to_string();
            match listed.iter().find(|listed| listed.job_id == text) {
                Some(summary) => self.saw(job, summary.state()),
                None => {
                    let error = format!("query {job} is not among the {} that are listed", listed.len());
                    return Ok(self.failed(error, Outcome::Failed));
                }
            }
        }
        Ok(true)
    }

    async fn each(&self, jobs: &[JobId]) -> Result<bool, ClientError> {
        self.client.status().await?;
        for &job in jobs {
            let detail = self.client.job(job).await?;
            if let Some(summary) = detail.summary {
                self.saw(job, summary.state());
            }
        }
        Ok(true)
    }

    fn saw(&self, job: JobId, state: JobState) {
        let (status, is_terminal) = match state {
            JobState::Unspecified => ("unspecified", false),
            JobState::Queued => ("queued", false),
            JobState::Running => ("running", false),
            JobState::Succeeded => ("succeeded", true),
            JobState::Failed => ("failed", true),
            JobState::Cancelled => ("cancelled", true),
        };
        self.record(ClientEvent::Status { op: self.op.id, job, status: status.to_owned(), is_terminal });
    }
}
