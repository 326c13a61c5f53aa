//! A program that embeds a cluster and brings a scalar, an aggregate and a window function and a table of its own.
//!
//! ```sh
//! cargo run -p polybolos --example custom_functions
//! ```
//!
//! Everything is given to the nodes through [`Extensions`]. In a real deployment each scheduler and executor process
//! is such a program; here they are all in this one.

#![allow(clippy::unwrap_used, reason = "an example; a test runs it")]

use std::{fmt::Write, ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef},
    util::pretty::pretty_format_batches,
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{Result, ScalarValue, exec_err, internal_err, plan_err, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{
        Accumulator, ColumnarValue, Expr, PartitionEvaluator, TableType, Volatility, create_udaf, create_udf,
        create_udwf,
    },
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
    prelude::SessionContext,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use polybolos::{EmbeddedCluster, EmbeddedConfig, Extensions};

const QUERIES: [&str; 4] = [
    "SELECT cube(n) AS cube FROM numbers WHERE n < 4 ORDER BY n",
    "SELECT n % 3 AS class, geometric_mean(square) AS mean, count(*) AS rows FROM numbers GROUP BY class ORDER BY class",
    "SELECT n, step_from_last(square) OVER (ORDER BY n) AS step FROM numbers ORDER BY n LIMIT 5",
    "SELECT count(*) AS pairs FROM numbers a JOIN numbers b ON a.n = b.square",
];

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    print!("{}", run().await?);
    Ok(())
}

/// Starts a cluster, runs each query on it, in two ways, and returns what is to be printed.
pub(crate) async fn run() -> std::result::Result<String, Box<dyn std::error::Error>> {
    let extensions = extensions();
    let cluster = EmbeddedCluster::start(EmbeddedConfig::default(), extensions.clone()).await?;
    let mut text = String::new();
    for sql in QUERIES {
        // By the client, as text that the scheduler plans …
        let remote = cluster.client().query(sql).await?;
        writeln!(text, "{sql}\n{}", pretty_format_batches(&remote.batches)?)?;
        // … and by DataFusion's own interface, as a plan.
        let session = polybolos::distribute(SessionContext::new(), cluster.client(), extensions.clone());
        let planned = session.sql(sql).await?.collect().await?;
        assert_eq!(
            pretty_format_batches(&planned)?.to_string(),
            pretty_format_batches(&remote.batches)?.to_string()
        );
    }
    cluster.shutdown().await;
    Ok(text)
}

fn extensions() -> Extensions {
    let (int, float) = (DataType::Int64, DataType::Float64);
    let cube = create_udf("cube", vec![int.clone()], int.clone(), Volatility::Immutable, Arc::new(cube));
    let mean = create_udaf(
        "geometric_mean",
        vec![float.clone()],
        Arc::new(float.clone()),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::<GeometricMean>::default())),
        Arc::new(vec![float, int.clone()]),
    );
    let step = create_udwf(
        "step_from_last",
        int.clone(),
        Arc::new(int),
        Volatility::Immutable,
        Arc::new(|| Ok(Box::new(StepFromLast))),
    );
    Extensions {
        scalar_udfs: vec![Arc::new(cube)],
        aggregate_udfs: vec![Arc::new(mean)],
        window_udfs: vec![Arc::new(step)],
        physical_codec: Some(Arc::new(NumbersCodec)),
        tables: vec![("numbers".to_owned(), Arc::new(NumbersTable { rows: 1_000, partitions: 4 }))],
        ..Default::default()
    }
}

fn cube(args: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(args)?;
    let cubes: Int64Array = arrays[0].as_primitive::<Int64Type>().unary(|n| n * n * n);
    Ok(ColumnarValue::Array(Arc::new(cubes)))
}

/// The mean of logarithms, in two parts that tasks compute and a later stage merges.
#[derive(Debug, Default)]
struct GeometricMean {
    logarithms: f64,
    count: i64,
}

impl Accumulator for GeometricMean {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let positive = values[0].as_primitive::<Float64Type>().iter().flatten().filter(|value| *value > 0.0);
        for value in positive {
            self.logarithms += value.ln();
            self.count += 1;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mean = (self.count > 0).then(|| (self.logarithms / self.count as f64).exp());
        // Parts arrive in any order, which moves the last bits.
        Ok(ScalarValue::Float64(mean.map(|mean| (mean * 1e6).round() / 1e6)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::from(self.logarithms), ScalarValue::from(self.count)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.logarithms += states[0].as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
        self.count += states[1].as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        Ok(())
    }
}

/// The difference to the row before.
#[derive(Debug)]
struct StepFromLast;

impl PartitionEvaluator for StepFromLast {
    fn evaluate_all(&mut self, values: &[ArrayRef], _: usize) -> Result<ArrayRef> {
        let values = values[0].as_primitive::<Int64Type>();
        let step = |row: usize| (row > 0).then(|| values.value(row) - values.value(row - 1));
        Ok(Arc::new((0..values.len()).map(step).collect::<Int64Array>()))
    }
}

/// Natural numbers and their squares, computed where they are read.
#[derive(Debug)]
struct NumbersTable {
    rows: u64,
    partitions: u32,
}

fn numbers_schema() -> SchemaRef {
    let column = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![column("n"), column("square")]))
}

#[async_trait]
impl TableProvider for NumbersTable {
    fn schema(&self) -> SchemaRef {
        numbers_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| vec![0, 1]);
        Ok(Arc::new(NumbersExec::new(self.rows, self.partitions, columns)?))
    }
}

#[derive(Debug)]
struct NumbersExec {
    rows: u64,
    partitions: u32,
    columns: Vec<usize>,
    properties: Arc<PlanProperties>,
}

impl NumbersExec {
    fn new(rows: u64, partitions: u32, columns: Vec<usize>) -> Result<Self> {
        let schema = Arc::new(numbers_schema().project(&columns)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions as usize),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { rows, partitions, columns, properties: Arc::new(properties) })
    }

    fn numbers(&self, partition: usize) -> Range<i64> {
        let bound = |p: usize| (self.rows * p as u64 / u64::from(self.partitions)) as i64;
        bound(partition)..bound(partition + 1)
    }
}

impl DisplayAs for NumbersExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NumbersExec: rows={}", self.rows)
    }
}

impl ExecutionPlan for NumbersExec {
    fn name(&self) -> &str {
        "NumbersExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("NumbersExec has no children") }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition >= self.partitions as usize {
            return exec_err!("there is no partition {partition}");
        }
        let numbers = self.numbers(partition);
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.clone().count()));
        let column = |index: &usize| -> ArrayRef {
            let power = if *index == 0 { 1 } else { 2 };
            Arc::new(numbers.clone().map(|n| n.pow(power)).collect::<Int64Array>())
        };
        let columns = self.columns.iter().map(column).collect();
        let batch = RecordBatch::try_new_with_options(self.schema(), columns, &options)?;
        let rows = futures::stream::iter([Ok(batch)]);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// Takes [`NumbersExec`] to the executors: rows (8 bytes), partitions (4 bytes), a byte for each column.
#[derive(Debug)]
struct NumbersCodec;

impl PhysicalExtensionCodec for NumbersCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(rows), Some(partitions), Some(columns)) =
            (buf.first_chunk(), buf.get(8..).and_then(<[u8]>::first_chunk), buf.get(12..))
        else {
            return plan_err!("a NumbersExec of {} bytes is cut short", buf.len());
        };
        let columns = columns.iter().map(|index| usize::from(*index)).collect();
        Ok(Arc::new(NumbersExec::new(u64::from_le_bytes(*rows), u32::from_le_bytes(*partitions), columns)?))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(numbers) = node.downcast_ref::<NumbersExec>() else {
            return plan_err!("{} can't be sent to executors", node.name());
        };
        buf.extend(numbers.rows.to_le_bytes());
        buf.extend(numbers.partitions.to_le_bytes());
        buf.extend(numbers.columns.iter().map(|index| *index as u8));
        Ok(())
    }
}
