//! Functions, tables and operators of an embedding program go through stages like the engine's own.

use std::{any::Any, fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{Array, AsArray, Int64Array},
        datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
        record_batch::RecordBatch,
    },
    catalog::{Session, TableProvider},
    common::tree_node::TreeNodeRecursion,
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{ColumnarValue, Expr, TableType, Volatility, create_udaf, create_udf},
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        memory::MemoryStream,
    },
    prelude::SessionContext,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use polybolos_planner::{Extensions, cluster_config};

use crate::{cluster::Cluster, compare::check, data};

/// Partition `p` of it counts from `100 p` to `100 p + 99`.
#[derive(Debug)]
struct CountExec(Arc<PlanProperties>);

impl CountExec {
    fn new(partitions: usize) -> Self {
        let equivalences = EquivalenceProperties::new(count_schema());
        let partitioning = Partitioning::UnknownPartitioning(partitions);
        let (emission, bounded) = (EmissionType::Incremental, Boundedness::Bounded);
        Self(Arc::new(PlanProperties::new(equivalences, partitioning, emission, bounded)))
    }
}

fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

impl DisplayAs for CountExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountExec")
    }
}

impl ExecutionPlan for CountExec {
    fn name(&self) -> &'static str {
        "CountExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.0
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

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let first = partition as i64 * 100;
        let numbers = Arc::new(Int64Array::from_iter_values(first..first + 100));
        let batch = RecordBatch::try_new(count_schema(), vec![numbers])?;
        Ok(Box::pin(MemoryStream::try_new(vec![batch], count_schema(), None)?))
    }
}

/// Writes the number of partitions.
#[derive(Debug)]
struct CountCodec;

impl PhysicalExtensionCodec for CountCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        _inputs: &[Arc<dyn ExecutionPlan>],
        _ctx: &TaskContext,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(CountExec::new(usize::from(buf[0]))))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let count = node
            .downcast_ref::<CountExec>()
            .ok_or_else(|| DataFusionError::NotImplemented(node.name().to_owned()))?;
        buf.push(count.0.partitioning.partition_count() as u8);
        Ok(())
    }
}

#[derive(Debug)]
struct CountTable;

#[async_trait]
impl TableProvider for CountTable {
    fn schema(&self) -> SchemaRef {
        count_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(CountExec::new(3)))
    }
}

/// `twice(n)` and `total(n)`.
fn extensions() -> Extensions {
    let twice = create_udf(
        "twice",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Immutable,
        Arc::new(|args: &[ColumnarValue]| {
            let numbers = ColumnarValue::values_to_arrays(args)?;
            let doubled: Int64Array = numbers[0].as_primitive::<Int64Type>().unary(|n| n * 2);
            Ok(ColumnarValue::Array(Arc::new(doubled)))
        }),
    );
    let total = create_udaf(
        "total",
        vec![DataType::Int64],
        Arc::new(DataType::Int64),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::new(Total(0)))),
        Arc::new(vec![DataType::Int64]),
    );
    Extensions {
        scalar_udfs: vec![Arc::new(twice)],
        aggregate_udfs: vec![Arc::new(total)],
        physical_codec: Some(Arc::new(CountCodec)),
        tables: vec![("counts".to_owned(), Arc::new(CountTable))],
        ..Default::default()
    }
}

#[derive(Debug)]
struct Total(i64);

impl datafusion::logical_expr::Accumulator for Total {
    fn update_batch(&mut self, values: &[Arc<dyn Array>]) -> Result<()> {
        self.0 += values[0].as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        Ok(())
    }

    fn evaluate(&mut self) -> Result<datafusion::common::ScalarValue> {
        Ok(self.0.into())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<datafusion::common::ScalarValue>> {
        Ok(vec![self.0.into()])
    }

    fn merge_batch(&mut self, states: &[Arc<dyn Array>]) -> Result<()> {
        self.update_batch(states)
    }
}

#[tokio::test]
async fn a_program_brings_its_own_functions_tables_and_operators() {
    let dir = data::generate();
    let cluster = Cluster::with_extensions(cluster_config(3), dir.path(), extensions()).await;
    let plain = SessionContext::new_with_state(
        extensions().session_state(Default::default(), Arc::new(Default::default())),
    );
    for sql in [
        "select n from counts",
        "select n % 7 as m, total(twice(n)) from counts group by n % 7",
        "select twice(n) from counts where n > 250 union all select n from counts where n < 10",
        "select a.n from counts a join counts b on a.n = twice(b.n)",
    ] {
        let rows = check(&cluster, &plain, sql, false).await;
        assert!(rows > 6, "{sql}: {rows} rows");
    }
    let graph = cluster.graph("select n from counts").await.unwrap();
    assert_eq!(graph.stages[0].tasks, 3, "{graph}");
    let marked = cluster.graph("select total(n) from counts").await.unwrap();
    assert!(marked.stages[0].indeterminate.is_some(), "an unknown aggregate may depend on order\n{marked}");
    let _: &dyn Any = &CountTable;
}

#[tokio::test]
async fn a_node_without_the_function_says_so() {
    let dir = data::generate();
    let cluster = Cluster::with_extensions(cluster_config(3), dir.path(), extensions()).await;
    let graph = cluster.graph("select twice(n) from counts").await.unwrap();
    let codec_only = Extensions { scalar_udfs: vec![], ..extensions() };
    let executor = codec_only.session_state(cluster_config(3), Arc::new(Default::default()));
    let error = polybolos_planner::decode_stage(&graph.stages[0].plan, &executor, &codec_only).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}
