//! The operator that writes: root of the plan of a statement's last stage.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, Field, Schema, SchemaRef},
    common::{internal_datafusion_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
        PlanProperties, ReplaceChildrenOptions, execute_input_stream,
        execution_plan::EmissionType,
        metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, future::BoxFuture, stream};
use polybolos_model::{AttemptId, PartitionStats, TaskId, WriteTarget};

use super::{
    files::{Written, staged_files, write_files},
    sink::Sink,
    staging::StagedFiles,
};

const ROWS: &str = "rows_written";
const BYTES: &str = "bytes_written";
const FILES: &str = "files_written";

/// Who writes: an extension of the session in which a [`WriteExec`] is executed.
pub struct Writing {
    pub task: TaskId,
    pub attempt: AttemptId,
    /// What to await after work on that many bytes of rows, if anything: in a simulation work takes its time there.
    pub charge: Charge,
}

type Charge = Box<dyn Fn(usize) -> Option<BoxFuture<'static, ()>> + Send + Sync>;

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writing({}@{})", self.task, self.attempt)
    }
}

/// Writes the rows of its input to files under the staging name of the attempt, and gives none.
///
/// Partition `p` of it writes partition `p` of its input; a task has one. When it ends without an error all files are
/// whole. When it fails or is dropped some may be there, and nobody wants them: [`WriteExec::staged_files`] are to be
/// removed.
#[derive(Debug)]
pub struct WriteExec {
    input: Arc<dyn ExecutionPlan>,
    sink: Sink,
    target: WriteTarget,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl WriteExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, sink: Sink, target: WriteTarget) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(count_schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            input.boundedness(),
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { input, sink, target, metrics, properties: Arc::new(properties) }
    }

    pub(crate) fn sink(&self) -> &Sink {
        &self.sink
    }

    pub fn target(&self) -> &WriteTarget {
        &self.target
    }

    /// The files of the attempt that runs in `context`.
    ///
    /// # Errors
    /// There is no object store for the target.
    pub fn staged_files(&self, context: &TaskContext) -> Result<StagedFiles> {
        staged_files(&self.sink, &self.target, writing(context)?.as_ref(), context)
    }

    /// Rows, and bytes in the store, that it has written; of an attempt that has not ended well, none.
    pub fn written(&self) -> PartitionStats {
        let metrics = self.metrics.clone_inner();
        let sum = |name: &str| metrics.sum_by_name(name).map_or(0, |value| value.as_usize() as u64);
        PartitionStats { rows: sum(ROWS), bytes: sum(BYTES) }
    }
}

fn writing(context: &TaskContext) -> Result<Arc<Writing>> {
    let writing = context.session_config().get_extension::<Writing>();
    writing.ok_or_else(|| internal_datafusion_err!("WriteExec runs in a task only"))
}

/// What the statement answers, once for all its tasks.
fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

fn count(metrics: &ExecutionPlanMetricsSet, partition: usize, written: Written) {
    let counts = [(ROWS, written.rows), (BYTES, written.bytes), (FILES, u64::from(written.files))];
    for (name, value) in counts {
        let counter = MetricBuilder::new(metrics).counter(name, partition);
        counter.add(usize::try_from(value).unwrap_or(usize::MAX));
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !matches!(t, DisplayFormatType::TreeRender) {
            f.write_str("WriteExec: ")?;
        }
        let what = if self.target.single_file { "file" } else { "folder" };
        write!(f, "format={}, {what}={}", self.sink.format(), self.target.url)?;
        let columns = &self.sink.config().table_partition_cols;
        if !columns.is_empty() {
            let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            write!(f, ", partition_by=[{}]", names.join(", "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &'static str {
        "WriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("WriteExec needs one child"))?;
        Ok(Arc::new(Self::new(input, self.sink.clone(), self.target.clone())))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            // Two of them would give their files the same names.
            return Err(internal_datafusion_err!("a task writes one partition, and {partition} is a second"));
        }
        let writing = writing(&context)?;
        let schema = Arc::clone(self.sink.config().output_schema());
        let rows = execute_input_stream(Arc::clone(&self.input), schema, partition, Arc::clone(&context))?;
        let work = write_files(self.sink.clone(), self.target.clone(), writing, rows, context);
        let metrics = self.metrics.clone();
        let done = stream::once(async move {
            count(&metrics, partition, work.await?);
            Ok(())
        });
        let no_rows = done.filter_map(|done: Result<()>| std::future::ready(done.err().map(Err)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), no_rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
