//! The parts of the state that came after its first stored format, each from the version on that brought it.
//!
//! A replica that knows only version 1 must be able to read every snapshot until the cluster has moved on. So what is
//! newer stands behind the body, in a section of its own, and is empty until its version is in use.
//!
//! ```text
//!   ClusterState (version 1) · Extension (version 2) · ExtensionV3 · ExtensionV4
//! ```

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, StageId, TaskId, settings::JobSettings};
use serde::{Deserialize, Serialize};

use crate::{
    Job, Write,
    apply::{adapt::Adapted, reopen::Reopening},
    drain::{Drains, Moves},
    story::Stories,
};

/// What version 2 added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extension {
    /// By executors in the state; no zeros.
    pub(crate) refused_commands: BTreeMap<ExecutorId, u64>,
    /// Stored in a section of its own.
    #[serde(skip)]
    pub(crate) v3: ExtensionV3,
    /// Stored in a section of its own.
    #[serde(skip)]
    pub(crate) v4: ExtensionV4,
}

/// What version 3 added. What belongs to a job goes with [`ExtensionV3::forget_job`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExtensionV3 {
    /// From which epoch on an attempt of a stage has read what its inputs give now. A stage that is not here was never
    /// rolled back, and any of its attempts will do.
    pub(crate) valid_from: BTreeMap<(JobId, StageId), u32>,
    /// The lives of executors that ended while they ran a task of an active job, oldest first.
    pub(crate) deaths: BTreeMap<TaskId, Vec<(ExecutorId, Incarnation)>>,
    /// What went wrong, for people.
    pub(crate) stories: Stories,
    /// Tasks of active jobs of which an attempt ran out of memory or another resource.
    pub(crate) starved: BTreeSet<TaskId>,
    /// Completed attempts of jobs that are not released whose outputs are in the durable store too. No empty sets.
    pub(crate) durable: BTreeMap<JobId, BTreeSet<AttemptId>>,
    /// Jobs that are not released whose result was lost, and asked for again.
    pub(crate) reopened: BTreeMap<JobId, Reopening>,
    /// Of executors in the state that leave or have left, each in its last life.
    pub(crate) drains: Drains,
    /// Of jobs that are not released of which an output has moved.
    pub(crate) moves: BTreeMap<JobId, Moves>,
    /// Of all known jobs that write files.
    pub(crate) writes: BTreeMap<JobId, Write>,
}

impl ExtensionV3 {
    /// The job is released: nothing of it runs or is read any more.
    pub(crate) fn forget_job(&mut self, job: JobId) {
        self.valid_from.retain(|(of, _), _| *of != job);
        self.durable.remove(&job);
        if self.reopened.remove(&job).is_some() {
            self.end_job(job);
        }
        self.moves.remove(&job);
    }
}

/// What version 4 added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExtensionV4 {
    /// Of jobs that are not released.
    pub(crate) adapted: BTreeMap<(JobId, StageId), Adapted>,
}

impl ExtensionV4 {
    /// The job is released: nothing of it runs or is read any more.
    pub(crate) fn forget_job(&mut self, job: JobId) {
        self.adapted.retain(|(of, _), _| *of != job);
    }
}

/// The first version in which jobs have settings.
pub(crate) const SETTINGS_VERSION: u16 = 3;

/// The job's settings while `version` is in use. Programs that know only older versions take the defaults, and all must
/// come to the same state.
pub(crate) fn settings(job: &Job, version: u16) -> JobSettings {
    if version < SETTINGS_VERSION { JobSettings::default() } else { JobSettings::read(&job.options) }
}
