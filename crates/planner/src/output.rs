//! The root of a stage's plan: where its rows go.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{internal_datafusion_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        ReplaceChildrenOptions, apply_expression_roots,
    },
};
use polybolos_model::{Exchange, StageId};

/// How a task's rows are spread over its output partitions.
#[derive(Debug, Clone)]
pub struct TaskOutput {
    pub exchange: Exchange,
    /// The keys of a hash exchange, over the schema of the stage's plan; empty for the other exchanges. A row goes
    /// where DataFusion's `RepartitionExec` (its `BatchPartitioner`) would send it.
    pub hash: Vec<Arc<dyn PhysicalExpr>>,
    /// 1 unless the exchange is hash or round-robin.
    pub partitions: u32,
}

/// One task's share of a stage.
#[derive(Debug, Clone)]
pub struct TaskPlan {
    /// Exactly one partition, to be executed as partition 0 and once. Nothing in it is shared with another task but tables
    /// of broadcast joins, if that was asked for ([`crate::sharing_task_plan`]).
    pub plan: Arc<dyn ExecutionPlan>,
    pub output: TaskOutput,
}

impl TaskPlan {
    /// The same task over another plan: the one whose inputs are bound.
    #[must_use]
    pub fn with_plan(self, plan: Arc<dyn ExecutionPlan>) -> Self {
        Self { plan, ..self }
    }
}

/// Root of every stage's plan. Executing it is an error: `shuffle` runs the plan below and spreads its rows.
#[derive(Debug, Clone)]
pub struct StageOutputExec {
    stage: StageId,
    output: TaskOutput,
    input: Arc<dyn ExecutionPlan>,
}

impl StageOutputExec {
    pub fn new(stage: StageId, output: TaskOutput, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { stage, output, input }
    }

    pub fn stage(&self) -> StageId {
        self.stage
    }

    pub fn output(&self) -> &TaskOutput {
        &self.output
    }

    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

impl DisplayAs for StageOutputExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !matches!(t, DisplayFormatType::TreeRender) {
            f.write_str("StageOutputExec: ")?;
        }
        write!(f, "{}", self.output.exchange)?;
        if !self.output.hash.is_empty() {
            let keys: Vec<String> = self.output.hash.iter().map(ToString::to_string).collect();
            write!(f, "([{}], {})", keys.join(", "), self.output.partitions)?;
        }
        Ok(())
    }
}

impl ExecutionPlan for StageOutputExec {
    fn name(&self) -> &'static str {
        "StageOutputExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.output.hash, f)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input =
            children.pop().ok_or_else(|| internal_datafusion_err!("StageOutputExec needs one child"))?;
        Ok(Arc::new(Self { input, ..Self::clone(&self) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Err(internal_datafusion_err!(
            "the output of stage {} is written by the shuffle, not executed",
            self.stage
        ))
    }
}
