//! A query's way to a job: optimise, plan, cut into stages. And that of a statement that writes.

use std::sync::Arc;

use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    datasource::{physical_plan::FileScanConfig, source::DataSourceExec},
    execution::{SessionState, object_store::ObjectStoreRegistry},
    logical_expr::LogicalPlan,
    physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable},
};
use polybolos_model::StageGraph;
use polybolos_planner::{
    Extensions, RuntimeFilters, Settings, is_repeatable, partitions_for_memory, plan_fits_one_task,
    stage_graph, write_plan,
};
use polybolos_state::NewTable;
use url::Url;

use super::{
    explain::PlanTexts,
    ipc,
    object_stores::ObjectStores,
    session::{Options, changed_options},
    settings::early_results,
    writes::Destination,
};
use crate::error::PlanningError;

/// One join may take this part of a slot's memory: there are others in its task, and sorts, aggregates and the output.
const JOIN_SHARE: u64 = 5;
/// Most tasks of a stage for each slot, for the sake of memory.
const MAX_WAVES: usize = 32;

/// A query that is ready to be committed.
#[derive(Clone)]
pub(crate) struct JobPlan {
    /// For people; empty for a logical plan.
    pub(crate) sql: String,
    pub(crate) graph: StageGraph,
    /// What executors must set to run the plan as it was planned.
    pub(crate) options: Options,
    /// An Arrow IPC stream without batches.
    pub(crate) schema: Vec<u8>,
    pub(crate) ordered: bool,
    /// Encoded [`PlanTexts`], for `EXPLAIN ANALYZE`.
    pub(crate) explain_analyze: Option<String>,
    /// Partitions that it was planned for, if not as many as there are slots: one, since it reads so little, or more, so that
    /// its joins fit into memory.
    pub(crate) width: Option<usize>,
    /// Where its rows go, if not to the client.
    pub(crate) write: Option<Destination>,
    texts: Option<PlanTexts>,
}

impl JobPlan {
    pub(crate) fn with_sql(self, sql: Option<String>) -> Self {
        Self { sql: sql.unwrap_or_default(), ..self }
    }

    /// About what a query's plan takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let stages = self.graph.stages.iter().map(|stage| stage.plan.len() + stage.display.len());
        let options = self.options.iter().map(|(name, value)| name.len() + value.len());
        self.sql.len() + self.schema.len() + stages.sum::<usize>() + options.sum::<usize>()
    }

    /// The files become a table.
    pub(crate) fn with_table(mut self, table: NewTable) -> Self {
        if let Some(write) = &mut self.write {
            write.table = Some(table);
        }
        self
    }

    /// Turns the query, planned with texts, into its `EXPLAIN ANALYZE`.
    pub(crate) fn analyzed(self) -> Self {
        Self { explain_analyze: self.texts.as_ref().map(PlanTexts::encode), ..self }
    }
}

/// What planning a job needs beside the query and its session.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) extensions: &'a Extensions,
    pub(crate) stores: &'a ObjectStores,
    /// The plans are also told in words.
    pub(crate) with_texts: bool,
    /// `target_partitions` was set by hand, so it is not changed behind the user's back.
    pub(crate) width_is_given: bool,
    /// What an executor has for each of its slots, the least of any; `None` without executors.
    pub(crate) slot_memory_bytes: Option<u64>,
    /// Of entries, in use.
    pub(crate) version: u16,
}

/// # Errors
/// What is wrong with the query, or a graph beyond the limits.
pub(crate) async fn plan_job(
    query: &LogicalPlan,
    state: &SessionState,
    context: Context<'_>,
) -> Result<JobPlan, PlanningError> {
    let optimized = state.optimize(query)?;
    let mut physical = state.query_planner().create_physical_plan(&optimized, state).await?;
    let width = if context.width_is_given { None } else { other_width(&physical, state, context) };
    if let Some(width) = width {
        let state = of_width(state, width);
        physical = state.query_planner().create_physical_plan(&optimized, &state).await?;
    }
    let schema = ipc::encode_schema(&physical.schema())?;
    let mut options = changed_options(state);
    options.extend(store_options(&physical, context.stores)?);
    let texts = context.with_texts.then(|| PlanTexts {
        logical: optimized.display_indent().to_string(),
        physical: displayable(physical.as_ref()).indent(false).to_string(),
    });
    let mut write = None;
    if is_write(query) {
        let staged = write_plan(physical)?;
        options.extend(target_options(&staged.target.url, context.stores)?);
        physical = staged.plan;
        let (target, partition_columns) = (staged.target, staged.partition_columns);
        write = Some(Destination { target, partition_columns, table: None });
    }
    let given = Settings::given(state.config_options());
    let is_repeatable = is_repeatable(&physical)?;
    let graph = stage_graph(physical, context.extensions, RuntimeFilters::read(&given))?;
    options.extend(early_results(&given, context.version, is_repeatable && graph.stages.len() == 1));
    let ordered = is_ordered(&optimized);
    Ok(JobPlan {
        sql: String::new(),
        graph,
        options,
        schema,
        ordered,
        explain_analyze: None,
        width,
        write,
        texts,
    })
}

/// Whether the statement writes files.
pub(crate) fn is_write(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Copy(_) | LogicalPlan::Dml(_))
}

/// The number of partitions for which the query had better be planned again.
fn other_width(plan: &Arc<dyn ExecutionPlan>, state: &SessionState, context: Context<'_>) -> Option<usize> {
    if is_divided(plan) && plan_fits_one_task(plan) {
        return Some(1);
    }
    let slots = state.config().target_partitions();
    let room = context.slot_memory_bytes? / JOIN_SHARE;
    // Whole waves of tasks.
    let waves = partitions_for_memory(plan, room).div_ceil(slots).min(MAX_WAVES);
    (waves > 1).then_some(waves * slots)
}

/// The same state, for a query of `width` partitions.
pub(crate) fn of_width(state: &SessionState, width: usize) -> SessionState {
    let mut state = state.clone();
    *state.config_mut() = state.config().clone().with_target_partitions(width);
    state
}

/// Whether any part of the plan could run in several tasks.
fn is_divided(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.output_partitioning().partition_count() > 1 || plan.children().into_iter().any(is_divided)
}

/// Whether the query says in which order its rows come.
fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(node) => is_ordered(&node.input),
        LogicalPlan::Filter(node) => is_ordered(&node.input),
        LogicalPlan::Limit(node) => is_ordered(&node.input),
        LogicalPlan::SubqueryAlias(node) => is_ordered(&node.input),
        _ => false,
    }
}

/// The options of the bucket that is written to.
///
/// # Errors
/// There is no store for the URL.
fn target_options(url: &str, stores: &ObjectStores) -> Result<Vec<(String, String)>, PlanningError> {
    let parsed = Url::parse(url)
        .map_err(|error| PlanningError::Location { location: url.to_owned(), reason: error.to_string() })?;
    stores.get_store(&parsed)?;
    Ok(stores.job_options(&parsed))
}

/// The options of every bucket that the plan reads.
fn store_options(plan: &Arc<dyn ExecutionPlan>, stores: &ObjectStores) -> Result<Options, PlanningError> {
    let mut options = Options::new();
    plan.apply(|node| {
        let scan = node.downcast_ref::<DataSourceExec>();
        if let Some(files) = scan.and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>()) {
            options.extend(stores.job_options(files.object_store_url.as_ref()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(options)
}
