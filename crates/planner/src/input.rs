//! The leaf that stands for the output of another stage.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{internal_datafusion_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
    },
};
use polybolos_model::{ReadMode, StageId};

/// What one partition of a [`StageInputExec`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// The one upstream task, or every upstream task, in any order.
    pub map: Option<u32>,
    /// Which output partition of it.
    pub output: u32,
}

/// Placeholder for the rows of another stage; `shuffle` puts a reader with the same [`PlanProperties`] in its place.
///
/// - `ReadMode::Partition`, in a template: partition `p` reads output partition `p` of every upstream task.
/// - `ReadMode::Partition`, narrowed to task `p`: its only partition reads output partition `p` of every upstream
///   task.
/// - `ReadMode::All`: partition `m` reads output partition 0 of upstream task `m`, in the order in which it was
///   written.
///
/// Executing it is an error.
#[derive(Debug, Clone)]
pub struct StageInputExec {
    stage: StageId,
    read: ReadMode,
    /// Set when narrowed: the output partition that partition 0 reads.
    narrowed: Option<u32>,
    properties: Arc<PlanProperties>,
}

impl StageInputExec {
    /// `partitioning` and `equivalences` are those of the operator whose place it takes.
    pub fn new(
        stage: StageId,
        read: ReadMode,
        partitioning: Partitioning,
        equivalences: EquivalenceProperties,
    ) -> Self {
        let properties =
            PlanProperties::new(equivalences, partitioning, EmissionType::Incremental, Boundedness::Bounded);
        Self { stage, read, narrowed: None, properties: Arc::new(properties) }
    }

    /// The upstream stage.
    pub fn stage(&self) -> StageId {
        self.stage
    }

    pub fn read(&self) -> ReadMode {
        self.read
    }

    /// Partitions of this operator; for [`ReadMode::All`] also the number of upstream tasks.
    pub fn partitions(&self) -> usize {
        self.properties.partitioning.partition_count()
    }

    /// What `partition` of this operator reads.
    pub fn reads(&self, partition: usize) -> Reads {
        let partition = u32::try_from(partition).unwrap_or(u32::MAX);
        match (self.read, self.narrowed) {
            (ReadMode::All, _) => Reads { map: Some(partition), output: 0 },
            (ReadMode::Partition, Some(output)) => Reads { map: None, output },
            (ReadMode::Partition, None) => Reads { map: None, output: partition },
        }
    }

    /// The same input, with output partition `partition` as its only one. For [`ReadMode::Partition`] only.
    pub(crate) fn narrow(&self, partition: u32) -> Self {
        let partitioning = match &self.properties.partitioning {
            Partitioning::Hash(keys, _) => Partitioning::Hash(keys.clone(), 1),
            _ => Partitioning::UnknownPartitioning(1),
        };
        let properties = PlanProperties::clone(&self.properties).with_partitioning(partitioning);
        Self { narrowed: Some(partition), properties: Arc::new(properties), ..self.clone() }
    }
}

impl DisplayAs for StageInputExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = match self.read {
            ReadMode::Partition => "partition",
            ReadMode::All => "all",
        };
        match t {
            DisplayFormatType::TreeRender => write!(f, "stage={}, read={read}", self.stage),
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "StageInputExec: stage={}, read={read}, partitions={}",
                    self.stage,
                    self.partitions()
                )?;
                if let Some(ordering) = self.properties.output_ordering() {
                    write!(f, ", ordering=[{ordering}]")?;
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for StageInputExec {
    fn name(&self) -> &'static str {
        "StageInputExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Err(internal_datafusion_err!("the input from stage {} was not bound to its outputs", self.stage))
    }
}
