//! A prepared stage: its message, and what is made of it once for all its tasks.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{error::DataFusionError, execution::SessionState};
use polybolos_model::{ErrorClass, JobId, Share, StageId, TaskError, TaskId};
use polybolos_planner::{PlanError, StageBuilds, StageTemplate, decode_stage};
use polybolos_proto::v1;
use polybolos_shuffle::{StageInputs, task_error};
use tokio::sync::OnceCell;

use crate::runtime::Runtime;

/// What the scheduler sent, and what is decoded from it at its first use.
pub(crate) struct PreparedStage {
    pub(crate) message: v1::PrepareStage,
    /// A failure is kept too: the bytes won't get better.
    decoded: OnceCell<Result<Decoded, TaskError>>,
}

/// What the tasks of a stage share.
pub(crate) struct Decoded {
    pub(crate) template: StageTemplate,
    pub(crate) state: Arc<SessionState>,
    pub(crate) inputs: Arc<StageInputs>,
    /// Made of `inputs`: another epoch has its own.
    pub(crate) builds: StageBuilds,
    /// Empty if task `p` reads partition `p`.
    shares: Vec<Share>,
}

impl Decoded {
    /// What the task reads of its partitioned inputs.
    ///
    /// # Errors
    /// The scheduler has told of other tasks.
    pub(crate) fn share(&self, task: TaskId) -> Result<Share, TaskError> {
        if self.shares.is_empty() {
            return Ok(Share::one(task.partition));
        }
        let share = self.shares.get(task.partition as usize).copied();
        if let Some(share) = share.filter(|share| share.width() > 1)
            && polybolos_model::mutant!("coalesced-partition-forgotten")
        {
            return Ok(Share { end: share.end - 1, ..share });
        }
        share.ok_or_else(|| {
            let count = self.shares.len();
            TaskError::new(
                ErrorClass::Internal,
                format!("task {task} is none of {count} that share the inputs"),
            )
        })
    }
}

impl PreparedStage {
    pub(crate) fn new(message: v1::PrepareStage) -> Self {
        Self { message, decoded: OnceCell::new() }
    }

    /// Decodes the plan on the first call; tasks that start together wait for one of them.
    ///
    /// # Errors
    /// Why the plan, its options or its inputs can't be used.
    pub(crate) async fn decoded(&self, runtime: &Runtime, job: JobId) -> Result<&Decoded, TaskError> {
        let decoded = self.decoded.get_or_init(|| async { self.decode(runtime, job) }).await;
        decoded.as_ref().map_err(TaskError::clone)
    }

    fn decode(&self, runtime: &Runtime, job: JobId) -> Result<Decoded, TaskError> {
        let options: BTreeMap<String, String> =
            self.message.options.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let state = runtime.session_state(&options).map_err(task_error)?;
        let shares: Vec<Share> = self.message.shares.iter().copied().map(Into::into).collect();
        let plan = if shares.is_empty() { &self.message.plan } else { &self.message.shared_plan };
        let template = decode_stage(plan, &state, runtime.extensions()).map_err(plan_error)?;
        let inputs = StageInputs::from_proto(job, self.message.inputs.clone()).map_err(|error| {
            let stage = StageId(self.message.stage_id);
            TaskError::new(
                ErrorClass::Internal,
                format!("the inputs of stage {stage} make no sense: {error}"),
            )
        })?;
        let builds = runtime.builds().stage();
        Ok(Decoded { template, state, inputs: Arc::new(inputs), builds, shares })
    }
}

/// What a plan that can't be used means for the query.
pub(crate) fn plan_error(error: PlanError) -> TaskError {
    match error {
        PlanError::DataFusion { context, source } => {
            let mut error = task_error(DataFusionError::Shared(source));
            error.message = format!("{context}: {}", error.message);
            error
        }
        other => TaskError::new(ErrorClass::Internal, other.to_string()),
    }
}
