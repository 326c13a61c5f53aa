//! The leaf that stands for the output of another stage.

use std::{fmt, ops::Range, sync::Arc};

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
use polybolos_model::{ReadMode, Share, StageId};

/// What one partition of a [`StageInputExec`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    pub maps: Maps,
    /// Which output partitions of each.
    pub outputs: Range<u32>,
}

/// Upstream tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maps {
    /// In any order.
    All,
    /// In any order.
    Between(Range<u32>),
    /// Every `step`-th from `first` on: the one, where there are as many as were planned.
    Every { first: u32, step: u32 },
}

impl Maps {
    pub fn contain(&self, map: u32) -> bool {
        match self {
            Self::All => true,
            Self::Between(range) => range.contains(&map),
            Self::Every { first, step } => map % (*step).max(1) == *first,
        }
    }
}

/// Placeholder for the rows of another stage; `shuffle` puts a reader with the same [`PlanProperties`] in its place.
///
/// - `ReadMode::Partition`, in a template: partition `p` reads output partition `p` of every upstream task.
/// - `ReadMode::Partition`, narrowed to a share: its only partition reads those output partitions of every upstream
///   task, or of some.
/// - `ReadMode::All`: partition `m` reads output partition 0 of upstream task `m`, in the order in which it was
///   written. If the upstream stage has fewer tasks than were planned some partitions are empty; if it has more the others
///   follow in turn, in no order.
///
/// Executing it is an error.
#[derive(Debug, Clone)]
pub struct StageInputExec {
    stage: StageId,
    read: ReadMode,
    /// Set when narrowed: what partition 0 reads.
    narrowed: Option<Share>,
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

    /// Partitions of this operator; for [`ReadMode::All`] also the number of upstream tasks that were planned.
    pub fn partitions(&self) -> usize {
        self.properties.partitioning.partition_count()
    }

    /// What `partition` of this operator reads.
    pub fn reads(&self, partition: usize) -> Reads {
        let partition = u32::try_from(partition).unwrap_or(u32::MAX);
        let one = partition..partition.saturating_add(1);
        match (self.read, self.narrowed) {
            (ReadMode::Partition, Some(share)) => {
                let maps = share.maps_of(self.stage).map_or(Maps::All, Maps::Between);
                Reads { maps, outputs: share.first..share.end }
            }
            (ReadMode::Partition, None) => Reads { maps: Maps::All, outputs: one },
            (_, _) => {
                let step = u32::try_from(self.partitions()).unwrap_or(u32::MAX);
                Reads { maps: Maps::Every { first: partition, step }, outputs: 0..1 }
            }
        }
    }

    /// The same input, with the output partitions of `share` as its only one. For [`ReadMode::Partition`] only.
    pub(crate) fn narrow(&self, share: Share) -> Self {
        let partitioning = match &self.properties.partitioning {
            Partitioning::Hash(keys, _) => Partitioning::Hash(keys.clone(), 1),
            _ => Partitioning::UnknownPartitioning(1),
        };
        let properties = PlanProperties::clone(&self.properties).with_partitioning(partitioning);
        Self { narrowed: Some(share), properties: Arc::new(properties), ..self.clone() }
    }
}

impl DisplayAs for StageInputExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = if self.read == ReadMode::All { "all" } else { "partition" };
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
