//! Jobs that write files: what their statement makes, and how far that is.
//!
//! ```text
//!   Staging ──all tasks done──▶ Publishing ──Published──▶ Sweeping ──Swept──▶ Over
//!      │                            │                        ▲
//!      └─ failed, cancelled ────────┼────────────────────────┤
//!                                   └─ AbandonWrite ─────────┘  published files go too
//! ```
//!
//! The job runs on while it is publishing, and nothing of it runs again. It has ended before it is swept.

use std::fmt;

use polybolos_model::{JobId, WriteTarget};
use serde::{Deserialize, Serialize};

use crate::{ClusterState, Job, RelationName, TableDef};

/// The table that a `CREATE TABLE AS` makes of the files once they are published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTable {
    pub name: RelationName,
    pub table: TableDef,
}

/// What a statement writes, and how far that is. Known for as long as its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    pub target: WriteTarget,
    /// Taken out when the job ends.
    pub table: Option<NewTable>,
    pub phase: WritePhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WritePhase {
    /// Tasks write files under staging names.
    Staging,
    /// All files of the tasks that won are there, and get their final names.
    Publishing,
    /// The job has ended, and what is staged is deleted.
    Sweeping {
        /// When the job ended.
        since_ms: u64,
        /// The job had begun to publish, and has failed: what has a final name already is deleted too.
        unpublish: bool,
    },
    /// Nothing is left over.
    Over,
}

/// For people.
impl fmt::Display for WritePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Staging => "staging",
            Self::Publishing => "publishing",
            Self::Sweeping { .. } => "sweeping",
            Self::Over => "over",
        })
    }
}

impl ClusterState {
    /// What the job writes, if it does.
    pub fn write(&self, job: JobId) -> Option<&Write> {
        self.extension.v3.writes.get(&job)
    }

    /// All its files are staged: it can't be cancelled and does not fail of its tasks any more, and nothing of it runs.
    pub fn is_publishing(&self, job: JobId) -> bool {
        self.write(job).is_some_and(|write| write.phase == WritePhase::Publishing)
    }

    /// Writes that wait for the leader: to publish them, or to delete what they have left behind. Ascending by job.
    pub fn unsettled_writes(&self) -> impl Iterator<Item = (JobId, &Write)> {
        let is_unsettled = |write: &Write| match write.phase {
            WritePhase::Publishing | WritePhase::Sweeping { .. } => true,
            WritePhase::Staging | WritePhase::Over => false,
        };
        let writes = self.extension.v3.writes.iter().map(|(job, write)| (*job, write));
        writes.filter(move |(_, write)| is_unsettled(write))
    }

    /// The job, if tasks of it may still run.
    pub fn running_job(&self, job: JobId) -> Option<&Job> {
        self.job(job).filter(|job| self.is_active(job) && !self.is_publishing(job.id))
    }

    /// Rows that a job has written which has all its files: as counted by the tasks that won.
    pub fn rows_written(&self, job: JobId) -> Option<u64> {
        self.write(job)?;
        let run = self.job(job)?.runs.last().filter(|run| run.is_complete())?;
        Some(run.completed().flat_map(|(_, done)| &done.outputs).map(|output| output.rows).sum())
    }
}
