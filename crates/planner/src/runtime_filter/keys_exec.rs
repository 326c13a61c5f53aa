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
    /// A partition with more keys than that tells none.
    limit: usize,
    properties: Arc<PlanProperties>,
}

impl KeySummaryExec {
    /// Of partitions with at most `limit` keys, and at most [`MAX_KEYS`].
    ///
    /// # Errors
    /// The input has no such column.
    pub(crate) fn try_new(input: Arc<dyn ExecutionPlan>, columns: Vec<usize>, limit: usize) -> Result<Self> {
        let kinds = key_types(&input.schema(), &columns)?;
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(summary_schema(&kinds)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self { input, columns, limit: limit.min(MAX_KEYS), properties: Arc::new(properties) })
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
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
        Ok(Arc::new(Self::try_new(input, self.columns.clone(), self.limit)?))
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
        let mut summary = Summary::new(&self.input.schema(), &self.columns, self.limit, memory)?;
        let columns = self.columns.clone();
        let summed_up = stream::once(async move {
            // The rest can't change that all rows have to pass.
            while summary.hashes.is_some()
                && let Some(batch) = rows.next().await.transpose()?
            {
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
    limit: usize,
    /// Doublets are sought when there are so many hashes.
    next_sort: usize,
    ranges: Vec<(MinAccumulator, MaxAccumulator)>,
    memory: MemoryReservation,
}

impl Summary {
    fn new(schema: &SchemaRef, columns: &[usize], limit: usize, memory: MemoryReservation) -> Result<Self> {
        let range = |&at: &usize| {
            let kind = schema.field(at).data_type();
            Ok((MinAccumulator::try_new(kind)?, MaxAccumulator::try_new(kind)?))
        };
        let ranges = columns.iter().map(range).collect::<Result<_>>()?;
        Ok(Self { hashes: Some(Vec::new()), limit, next_sort: 64 * 1_024, ranges, memory })
    }

    fn add(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
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
            if hashes.len() > self.limit {
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
        let hashes = self.hashes.as_deref().filter(|hashes| hashes.len() <= self.limit);
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

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::{
            array::{Array, AsArray, Int64Array},
            datatypes::{Field, Schema},
        },
        datasource::memory::MemorySourceConfig,
        physical_plan::collect,
    };

    use super::*;

    /// The first row that is told of the keys of `batches` by a summary that tells at most `limit`: bytes of hashes.
    async fn told(limit: usize, batches: &[std::ops::Range<i64>]) -> Option<usize> {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
        let batch = |keys: &std::ops::Range<i64>| {
            let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys.clone()));
            RecordBatch::try_new(Arc::clone(&schema), vec![keys]).unwrap()
        };
        let rows = vec![batches.iter().map(batch).collect()];
        let input = MemorySourceConfig::try_new_exec(&rows, Arc::clone(&schema), None).unwrap();
        let summary = KeySummaryExec::try_new(input, vec![0], limit).unwrap();
        let told = collect(Arc::new(summary), Arc::new(TaskContext::default())).await.unwrap();
        let hashes = told[0].column(0).as_binary::<i32>();
        hashes.is_valid(0).then(|| hashes.value(0).len())
    }

    #[tokio::test]
    async fn with_more_keys_than_its_limit_a_partition_tells_none() {
        assert_eq!(told(10, &[0..5, 5..10, 0..10]).await, Some(80));
        assert_eq!(told(10, &[0..5, 5..11]).await, None);
        // So many that they are counted on the way, and the rest is not read.
        assert_eq!(told(10, &[0..50_000, 50_000..100_000, 100_000..150_000]).await, None);
    }
}
