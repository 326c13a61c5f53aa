//! Sums up which keys its rows have.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        compute::filter,
        datatypes::{DataType, SchemaRef},
    },
    common::{internal_datafusion_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    functions_aggregate::min_max::{MaxAccumulator, MinAccumulator},
    logical_expr::Accumulator,
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
        PlanProperties, ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream};

use super::bloom::{MAX_KEYS, hash_rows, summary_schema, without_nulls, write_summary};

/// The keys of its input's rows, each partition for itself. See [`super::bloom::summary_schema`] for its rows.
#[derive(Debug, Clone)]
pub(crate) struct KeySummaryExec {
    input: Arc<dyn ExecutionPlan>,
    columns: Vec<usize>,
    properties: Arc<PlanProperties>,
}

impl KeySummaryExec {
    /// # Errors
    /// The input has no such column.
    pub(crate) fn try_new(input: Arc<dyn ExecutionPlan>, columns: Vec<usize>) -> Result<Self> {
        let kinds = key_types(&input.schema(), &columns)?;
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(summary_schema(&kinds)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self { input, columns, properties: Arc::new(properties) })
    }

    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }
}

impl DisplayAs for KeySummaryExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySummaryExec: keys=[{}]", names(&self.input.schema(), &self.columns))
    }
}

/// # Errors
/// There is no such column.
pub(super) fn key_types(schema: &SchemaRef, columns: &[usize]) -> Result<Vec<DataType>> {
    let kind = |&at: &usize| {
        let field = schema.fields().get(at);
        let no_column = || internal_datafusion_err!("there is no column {at} to be a key");
        Ok(field.ok_or_else(no_column)?.data_type().clone())
    };
    columns.iter().map(kind).collect()
}

pub(super) fn names(schema: &SchemaRef, columns: &[usize]) -> String {
    let name = |&at: &usize| {
        let field = schema.fields().get(at);
        format!("{}@{at}", field.map_or("?", |field| field.name()))
    };
    columns.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl ExecutionPlan for KeySummaryExec {
    fn name(&self) -> &'static str {
        "KeySummaryExec"
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
        let input =
            children.pop().ok_or_else(|| internal_datafusion_err!("KeySummaryExec needs one child"))?;
        Ok(Arc::new(Self::try_new(input, self.columns.clone())?))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let memory = MemoryConsumer::new("KeySummaryExec").register(context.memory_pool());
        let mut rows = self.input.execute(partition, context)?;
        let schema = self.schema();
        let mut summary = Summary::new(&self.input.schema(), &self.columns, memory)?;
        let columns = self.columns.clone();
        let summed_up = stream::once(async move {
            while let Some(batch) = rows.next().await.transpose()? {
                let keys: Vec<_> = columns.iter().map(|&at| Arc::clone(batch.column(at))).collect();
                summary.add(&keys, batch.num_rows())?;
            }
            summary.finish(schema)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), summed_up)))
    }
}

/// What is known of the keys so far.
struct Summary {
    /// `None` once there are too many.
    hashes: Option<Vec<u64>>,
    /// Doublets are sought when there are so many hashes.
    next_sort: usize,
    ranges: Vec<(MinAccumulator, MaxAccumulator)>,
    memory: MemoryReservation,
}

impl Summary {
    fn new(schema: &SchemaRef, columns: &[usize], memory: MemoryReservation) -> Result<Self> {
        let range = |&at: &usize| {
            let kind = schema.field(at).data_type();
            Ok((MinAccumulator::try_new(kind)?, MaxAccumulator::try_new(kind)?))
        };
        let ranges = columns.iter().map(range).collect::<Result<_>>()?;
        Ok(Self { hashes: Some(Vec::new()), next_sort: 64 * 1_024, ranges, memory })
    }

    fn add(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        if self.hashes.is_none() {
            return Ok(());
        }
        let (mut keys, mut rows) = (keys.to_vec(), rows);
        if let Some(complete) = without_nulls(&keys, rows) {
            keys = keys.iter().map(|key| filter(key, &complete)).collect::<Result<_, _>>()?;
            rows = complete.true_count();
        }
        for ((min, max), key) in self.ranges.iter_mut().zip(&keys) {
            min.update_batch(std::slice::from_ref(key))?;
            max.update_batch(std::slice::from_ref(key))?;
        }
        let bytes = rows * size_of::<u64>();
        let Some(hashes) = &mut self.hashes else { return Ok(()) };
        // Without room for them the join must do without a filter; it needs the memory more.
        if self.memory.try_grow(bytes).is_err() {
            self.give_up();
            return Ok(());
        }
        hashes.extend(hash_rows(&keys, rows)?);
        if hashes.len() >= self.next_sort {
            distinct(hashes);
            self.next_sort = (2 * hashes.len()).max(self.next_sort);
            self.memory.try_resize(hashes.len() * size_of::<u64>())?;
            if hashes.len() > MAX_KEYS {
                self.give_up();
            }
        }
        Ok(())
    }

    fn give_up(&mut self) {
        self.hashes = None;
        self.memory.free();
    }

    fn finish(mut self, schema: SchemaRef) -> Result<RecordBatch> {
        if let Some(hashes) = &mut self.hashes {
            distinct(hashes);
        }
        let hashes = self.hashes.as_deref().filter(|hashes| hashes.len() <= MAX_KEYS);
        let hashes = match hashes {
            Some([_, some @ ..]) if polybolos_model::mutant!("runtime-filter-forgets-a-key") => Some(some),
            other => other,
        };
        let range =
            |(min, max): &mut (MinAccumulator, MaxAccumulator)| Ok((min.evaluate()?, max.evaluate()?));
        let ranges: Vec<_> = self.ranges.iter_mut().map(range).collect::<Result<_>>()?;
        write_summary(schema, hashes, &ranges)
    }
}

/// In order, each once.
fn distinct(hashes: &mut Vec<u64>) {
    hashes.sort_unstable();
    hashes.dedup();
}
