use std::{fmt, sync::atomic::AtomicBool, time::Duration};

use datafusion::{
    arrow::{
        array::{AsArray, Int64Array, RecordBatch},
        datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
    },
    common::{JoinType, NullEquality, tree_node::TreeNodeRecursion},
    datasource::memory::MemorySourceConfig,
    error::DataFusionError,
    execution::{
        SendableRecordBatchStream, TaskContext, memory_pool::MemoryPool, runtime_env::RuntimeEnvBuilder,
    },
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr, expressions::Column},
    physical_plan::{
        DisplayAs, DisplayFormatType, PlanProperties, collect, metrics::MetricsSet,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{FutureExt, StreamExt, future::join_all, stream};
use polybolos_model::StageId;
use tokio::sync::Semaphore;

use super::*;

const ROWS: i64 = 1_000;

fn schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, true)]))
}

fn batch(name: &str, rows: impl IntoIterator<Item = i64>) -> RecordBatch {
    RecordBatch::try_new(schema(name), vec![Arc::new(rows.into_iter().collect::<Int64Array>())]).unwrap()
}

/// What the outputs of the broadcast stage do when they are read.
#[derive(Debug)]
struct Outputs {
    reads: AtomicUsize,
    fails: AtomicBool,
    /// A read goes on once it has a permit.
    gate: Semaphore,
}

impl Outputs {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            reads: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
            gate: Semaphore::new(permits),
        })
    }

    fn reads(&self) -> usize {
        self.reads.load(Relaxed)
    }
}

/// Stands where a stage's input stood.
#[derive(Debug)]
struct Reader {
    outputs: Arc<Outputs>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for Reader {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl ExecutionPlan for Reader {
    fn name(&self) -> &'static str {
        "Reader"
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

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let outputs = Arc::clone(&self.outputs);
        let read = async move {
            outputs.reads.fetch_add(1, Relaxed);
            outputs.gate.acquire().await.unwrap().forget();
            match outputs.fails.load(Relaxed) {
                true => Err(DataFusionError::External("the output is lost".into())),
                false => Ok(batch("l", 0..ROWS)),
            }
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema("l"), stream::once(read).boxed())))
    }
}

/// A join of a stage's output, in so many partitions, with rows of the task.
fn join(kind: JoinType, maps: usize, rows: std::ops::Range<i64>) -> Arc<dyn ExecutionPlan> {
    let equivalences = EquivalenceProperties::new(schema("l"));
    let maps = Partitioning::UnknownPartitioning(maps);
    let input = StageInputExec::new(StageId(0), ReadMode::All, maps, equivalences);
    let left = Arc::new(CoalescePartitionsExec::new(Arc::new(input)));
    let right = MemorySourceConfig::try_new_exec(&[vec![batch("r", rows)]], schema("r"), None).unwrap();
    let column = |name: &str| Arc::new(Column::new(name, 0)) as _;
    let on = vec![(column("l"), column("r"))];
    let (mode, nulls) = (PartitionMode::CollectLeft, NullEquality::NullEqualsNothing);
    Arc::new(HashJoinExec::try_new(left, right, on, None, &kind, None, mode, nulls, false).unwrap())
}

struct Lab {
    all: Arc<SharedBuilds>,
    context: Arc<TaskContext>,
}

impl Lab {
    fn new() -> Self {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(1 << 30, 1.0).build_arc().unwrap();
        Self { all: Arc::default(), context: Arc::new(TaskContext::default().with_runtime(runtime)) }
    }

    fn pool(&self) -> &Arc<dyn MemoryPool> {
        self.context.memory_pool()
    }

    fn kept(&self) -> usize {
        self.all.lock().builds.len()
    }

    /// The rows of a task that joins with what `outputs` gives, and its plan.
    async fn run(&self, plan: Arc<dyn ExecutionPlan>) -> Result<i64> {
        let batches = collect(plan, Arc::clone(&self.context)).await?;
        Ok(batches
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .sum())
    }
}

fn bind(plan: Arc<dyn ExecutionPlan>, outputs: &Arc<Outputs>) -> Arc<dyn ExecutionPlan> {
    plan.transform_up(|node| {
        let Some(input) = node.downcast_ref::<StageInputExec>() else { return Ok(Transformed::no(node)) };
        let reader = Reader { outputs: Arc::clone(outputs), properties: Arc::clone(input.properties()) };
        Ok(Transformed::yes(Arc::new(reader) as _))
    })
    .data()
    .unwrap()
}

/// Of task `number`: every hundredth key is its own.
fn task(stage: &StageBuilds, outputs: &Arc<Outputs>, number: i64) -> Arc<dyn ExecutionPlan> {
    let plan = join(JoinType::Inner, 1, 100 * number..100 * number + 100);
    let shared = sharing(plan, stage).unwrap();
    assert!(shared.is::<SharedJoinExec>());
    bind(shared, outputs)
}

fn sum(number: i64) -> i64 {
    (100 * number..100 * number + 100).sum()
}

fn used(metrics: &MetricsSet, name: &str) -> usize {
    metrics.sum_by_name(name).map_or(0, |value| value.as_usize())
}

#[tokio::test]
async fn the_tasks_of_a_stage_share_one_table_and_count_it_once() {
    let (lab, outputs) = (Lab::new(), Outputs::new(9));
    let stage = lab.all.stage();
    let plans: Vec<_> = (0..8).map(|number| task(&stage, &outputs, number)).collect();
    let sums = join_all(plans.iter().map(|plan| lab.run(Arc::clone(plan)))).await;
    for (number, found) in (0..).zip(sums) {
        assert_eq!(found.unwrap(), sum(number), "task {number}");
    }
    assert_eq!(outputs.reads(), 1);
    let metrics: Vec<_> = plans.iter().map(|plan| plan.metrics().unwrap()).collect();
    assert!(metrics.iter().all(|own| own.output_rows() == Some(100)), "{metrics:?}");
    let built: Vec<_> = metrics.iter().map(|own| used(own, "build_mem_used")).collect();
    let shared: Vec<_> = metrics.iter().map(|own| used(own, "build_mem_shared")).collect();
    let table = built.iter().sum::<usize>();
    assert_eq!(built.iter().filter(|&&bytes| bytes > 0).count(), 1, "{built:?}");
    assert!(
        (table..2 * table).contains(&lab.pool().reserved()),
        "{table} and what DataFusion thinks it takes"
    );
    assert!(built.iter().zip(&shared).all(|(own, others)| own + others == table), "{built:?} {shared:?}");
    drop((plans, stage));
    assert_eq!((lab.pool().reserved(), lab.kept()), (0, 0));
}

#[tokio::test]
async fn a_table_stays_for_the_next_task_until_memory_is_short_or_nobody_comes() {
    let (lab, outputs) = (Lab::new(), Outputs::new(9));
    let stage = lab.all.stage();
    for number in 0..3 {
        assert_eq!(lab.run(task(&stage, &outputs, number)).await.unwrap(), sum(number));
        lab.all.drop_unused();
    }
    assert_eq!(outputs.reads(), 1);
    assert!(lab.pool().reserved() > 0 && lab.all.drop_idle());
    assert_eq!((lab.pool().reserved(), lab.kept()), (0, 0));
    assert!(!lab.all.drop_idle());

    let plan = task(&stage, &outputs, 3);
    assert_eq!(lab.run(Arc::clone(&plan)).await.unwrap(), sum(3));
    assert_eq!(outputs.reads(), 2);
    for _ in 0..9 {
        lab.all.drop_unused();
    }
    assert!(!lab.all.drop_idle() && lab.kept() == 1, "it is in use");
    drop(plan);
    for kept in [1, 1, 0] {
        lab.all.drop_unused();
        assert_eq!(lab.kept(), kept);
    }
    assert_eq!(lab.pool().reserved(), 0);
}

#[tokio::test]
async fn a_table_outlives_its_stage_only_with_its_users() {
    let (lab, outputs) = (Lab::new(), Outputs::new(9));
    let (old, new) = (lab.all.stage(), lab.all.stage());
    let plan = task(&old, &outputs, 1);
    drop(old);
    assert_eq!(lab.run(Arc::clone(&plan)).await.unwrap(), sum(1));
    let other = Outputs::new(9);
    assert_eq!(lab.run(task(&new, &other, 1)).await.unwrap(), sum(1));
    assert_eq!((outputs.reads(), other.reads()), (1, 1), "another epoch has its own");
    drop((plan, new));
    assert_eq!((lab.pool().reserved(), lab.kept()), (0, 0));
}

#[tokio::test]
async fn what_fails_fails_those_that_wait_and_the_next_task_builds_anew() {
    let (lab, outputs) = (Lab::new(), Outputs::new(0));
    outputs.fails.store(true, Relaxed);
    let stage = lab.all.stage();
    let plans = [0, 1].map(|number| task(&stage, &outputs, number));
    let mut waiting = Box::pin(join_all(plans.clone().map(|plan| lab.run(plan))));
    assert!((&mut waiting).now_or_never().is_none());
    outputs.gate.add_permits(1);
    for failed in waiting.await {
        assert_eq!(failed.unwrap_err().find_root().to_string(), "External error: the output is lost");
    }
    assert_eq!((outputs.reads(), lab.pool().reserved()), (1, 0));
    outputs.fails.store(false, Relaxed);
    outputs.gate.add_permits(9);
    // Also while those that failed have not let go.
    assert_eq!(lab.run(task(&stage, &outputs, 2)).await.unwrap(), sum(2));
    drop(plans);
    assert_eq!(lab.run(task(&stage, &outputs, 3)).await.unwrap(), sum(3));
    assert_eq!(outputs.reads(), 2);
}

#[tokio::test]
async fn a_task_that_is_stopped_while_it_builds_stops_no_other() {
    let (lab, outputs) = (Lab::new(), Outputs::new(0));
    let stage = lab.all.stage();
    let [mut builder, mut waiting] = [0, 1].map(|number| Box::pin(lab.run(task(&stage, &outputs, number))));
    assert!((&mut builder).now_or_never().is_none() && (&mut waiting).now_or_never().is_none());
    drop(builder);
    outputs.gate.add_permits(1);
    let found = tokio::time::timeout(Duration::from_secs(9), waiting).await;
    assert_eq!(found.expect("it was woken").unwrap(), sum(1));
    assert_eq!((outputs.reads(), lab.kept()), (1, 1));
}

#[tokio::test]
async fn nothing_half_built_stays() {
    let (lab, outputs) = (Lab::new(), Outputs::new(0));
    let stage = lab.all.stage();
    let mut builder = Box::pin(lab.run(task(&stage, &outputs, 0)));
    assert!((&mut builder).now_or_never().is_none());
    assert_eq!(lab.kept(), 1);
    drop(builder);
    assert_eq!((lab.kept(), Arc::strong_count(&outputs)), (0, 1), "its reader is gone");
    outputs.gate.add_permits(1);
    assert_eq!(lab.run(task(&stage, &outputs, 1)).await.unwrap(), sum(1));
    assert_eq!(outputs.reads(), 2);
}

#[tokio::test]
async fn a_table_has_so_many_users_and_then_there_is_another() {
    let (lab, outputs) = (Lab::new(), Outputs::new(9));
    let stage = lab.all.stage();
    for _ in 0..=MAX_USES {
        lab.run(task(&stage, &outputs, 1)).await.unwrap();
    }
    assert_eq!((outputs.reads(), lab.kept()), (2, 1));
}

#[test]
fn only_joins_are_shared_that_give_no_row_of_their_left_side_alone() {
    let lab = Lab::new();
    for (kind, shared) in [
        (JoinType::Inner, true),
        (JoinType::Right, true),
        (JoinType::RightSemi, true),
        (JoinType::RightAnti, true),
        (JoinType::RightMark, true),
        (JoinType::Left, false),
        (JoinType::LeftSemi, false),
        (JoinType::LeftAnti, false),
        (JoinType::LeftMark, false),
        (JoinType::Full, false),
    ] {
        for maps in [1, 3] {
            let plan = sharing(join(kind, maps, 0..9), &lab.all.stage()).unwrap();
            assert_eq!(plan.is::<SharedJoinExec>(), shared, "{kind}");
        }
    }
    let read = |plan: Arc<dyn ExecutionPlan>| bind(plan, &Outputs::new(0));
    let plan = sharing(read(join(JoinType::Inner, 1, 0..9)), &lab.all.stage()).unwrap();
    assert!(!plan.is::<SharedJoinExec>(), "its left side is no stage's output");
}

#[test]
fn another_join_at_its_place_has_a_table_of_its_own() {
    let lab = Lab::new();
    let stage = lab.all.stage();
    let first = sharing(join(JoinType::Inner, 1, 0..9), &stage).unwrap();
    let other = sharing(join(JoinType::Right, 1, 0..9), &stage).unwrap();
    assert!(first.is::<SharedJoinExec>() && other.is::<HashJoinExec>());
}
