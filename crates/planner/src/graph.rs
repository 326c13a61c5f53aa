//! A physical plan as a stage graph.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion_proto::{
    physical_plan::{AsExecutionPlan, DeduplicatingProtoConverter, PhysicalProtoConverterExtension},
    protobuf::PhysicalPlanNode,
};
use polybolos_model::{Stage, StageGraph, StageId, StageInput, limits::MAX_PLAN_BYTES};
use prost::Message;

use crate::{
    adaptive::reads,
    codec::PlannerCodec,
    cut::{Cut, cut, whole},
    error::PlanError,
    extensions::Extensions,
    indeterminate::Indeterminism,
    prepare::{prepare, prepare_whole},
    runtime_filter::RuntimeFilters,
};

/// Cuts `plan` into stages and encodes each. It must come from a session of [`Extensions::session_state`].
///
/// # Errors
/// A plan that a cluster can't run, whose operators nobody can encode, or that is over a limit; each says which.
pub fn stage_graph(
    plan: Arc<dyn ExecutionPlan>,
    extensions: &Extensions,
    filters: RuntimeFilters,
) -> Result<StageGraph, PlanError> {
    encode_all(cut(prepare(plan)?, filters)?, extensions)
}

/// The graph of a query that is one task: one stage with all of `plan`, which [`crate::single_task_config`] planned.
///
/// Sources that have several partitions all the same (tables in memory) are read side by side in that task.
///
/// # Errors
/// As for [`stage_graph`].
pub fn single_task_graph(
    plan: Arc<dyn ExecutionPlan>,
    extensions: &Extensions,
) -> Result<StageGraph, PlanError> {
    encode_all(whole(prepare_whole(plan)?)?, extensions)
}

fn encode_all(cuts: Vec<Cut>, extensions: &Extensions) -> Result<StageGraph, PlanError> {
    let codec = PlannerCodec::new(extensions.physical_codec.clone());
    let mut indeterminism = Indeterminism::default();
    let stages = cuts.into_iter().map(|cut| {
        let indeterminate = indeterminism.of(&cut).map_err(PlanError::datafusion("a stage"))?;
        encode(cut, indeterminate, &codec)
    });
    let graph = StageGraph { stages: stages.collect::<Result<_, _>>()? };
    graph.validate()?;
    Ok(graph)
}

fn encode(cut: Cut, indeterminate: Option<String>, codec: &PlannerCodec) -> Result<Stage, PlanError> {
    let inputs = reads(&cut).map_err(PlanError::datafusion("a stage"))?;
    let Cut { root, tasks, inputs: _ } = cut;
    let id = root.stage();
    let (exchange, output_partitions) = (root.output().exchange, root.output().partitions);
    let root: Arc<dyn ExecutionPlan> = Arc::new(root);
    let plan = DeduplicatingProtoConverter {}.execution_plan_to_proto(&root, codec).map_err(|error| {
        let (operator, reason) =
            codec.take_refused().unwrap_or_else(|| ("(unknown)".to_owned(), error.strip_backtrace()));
        PlanError::NotEncodable { operator, reason }
    })?;
    let plan = plan.encode_to_vec();
    if plan.len() > MAX_PLAN_BYTES {
        return Err(PlanError::TooLarge { stage: id, bytes: plan.len() });
    }
    // Readers refuse what nests too deeply; better here than in every task.
    PhysicalPlanNode::try_decode(&plan)
        .map_err(|error| PlanError::TooDeep { stage: id, reason: error.strip_backtrace() })?;
    Ok(Stage {
        id,
        plan,
        tasks: u32::try_from(tasks).unwrap_or(u32::MAX),
        inputs: stage_inputs(&inputs),
        exchange,
        output_partitions,
        display: displayable(root.as_ref()).indent(false).to_string(),
        indeterminate,
    })
}

fn stage_inputs(inputs: &BTreeMap<StageId, polybolos_model::ReadMode>) -> Vec<StageInput> {
    inputs.iter().map(|(&stage, &read)| StageInput { stage, read }).collect()
}
