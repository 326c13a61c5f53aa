//! Runs a stage graph in this process, task by task, each from the stage's bytes.

use std::sync::Arc;

use datafusion::{
    arrow::{datatypes::SchemaRef, record_batch::RecordBatch},
    common::tree_node::{Transformed, TransformedResult, TreeNode},
    execution::{SessionState, TaskContext, runtime_env::RuntimeEnv},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, collect, metrics::Time, repartition::BatchPartitioner,
    },
    prelude::{SessionConfig, SessionContext},
};
use polybolos_model::{Exchange, OperatorMetrics, ReadMode, Share, Split, Stage, StageGraph, TaskMetrics};
use polybolos_planner::{
    Extensions, PlanError, RuntimeFilters, SharedBuilds, StageBuilds, StageInputExec, StageTemplate,
    TaskOutput, TaskPlan, cluster_config, decode_stage, sharing_task_plan, spilling_share_plan, stage_graph,
    task_metrics,
};

use crate::{data, reader::MemoryReader};

/// `[stage][task][output partition]`
pub(crate) type Outputs = Vec<Vec<Vec<Vec<RecordBatch>>>>;

pub(crate) struct Run {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) graph: StageGraph,
    /// `[stage][task]`
    pub(crate) metrics: Vec<Vec<TaskMetrics>>,
    /// Of the stages that were adapted.
    pub(crate) shares: Vec<Vec<Share>>,
}

/// A scheduler and its executors, as far as planning is concerned.
pub(crate) struct Cluster {
    pub(crate) state: SessionState,
    pub(crate) extensions: Extensions,
    /// Each task runs as one that ran out of memory.
    pub(crate) spills: bool,
    /// Tasks read two partitions each, and parts of one, wherever they may.
    pub(crate) adapts: bool,
    pub(crate) filters: RuntimeFilters,
    /// Its tasks run on one executor.
    pub(crate) builds: Arc<SharedBuilds>,
}

impl Cluster {
    pub(crate) async fn new(config: SessionConfig, dir: &std::path::Path) -> Self {
        Self::with_extensions(config, dir, Extensions::default()).await
    }

    pub(crate) async fn with_extensions(
        config: SessionConfig,
        dir: &std::path::Path,
        extensions: Extensions,
    ) -> Self {
        let state = extensions.session_state(config, Arc::new(RuntimeEnv::default()));
        let ctx = SessionContext::new_with_state(state);
        data::register(&ctx, dir).await;
        let (filters, builds) = (RuntimeFilters::default(), Arc::default());
        Self { state: ctx.state(), extensions, spills: false, adapts: false, filters, builds }
    }

    pub(crate) async fn physical(&self, sql: &str) -> Arc<dyn ExecutionPlan> {
        // As a session does for each query: the same time and the same generated names.
        let mut state = self.state.clone();
        state.mark_start_execution();
        let logical = state.create_logical_plan(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        state.create_physical_plan(&logical).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub(crate) async fn graph(&self, sql: &str) -> Result<StageGraph, PlanError> {
        stage_graph(self.physical(sql).await, &self.extensions, self.filters)
    }

    pub(crate) async fn run(&self, sql: &str) -> Run {
        let schema = self.physical(sql).await.schema();
        let graph = self.graph(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let (mut outputs, mut metrics, mut adapted): (Outputs, _, _) = (vec![], vec![], vec![]);
        let mut graph = graph;
        for at in 0..graph.stages.len() {
            let mut shares: Vec<Share> = (0..graph.stages[at].tasks).map(Share::one).collect();
            if self.adapts && graph.stages[at].is_undecided() {
                shares = divided(&graph, &graph.stages[at]);
                graph.check_shares(&graph.stages[at], &shares).unwrap();
                graph.stages[at].decide(&shares);
                adapted.push(shares.clone());
            }
            let stage = &graph.stages[at];
            let (mut written, mut measured) = (vec![], vec![]);
            let builds = self.builds.stage();
            for (partition, share) in (0..stage.tasks).zip(&shares) {
                let (template, task, context) = self.task_with(stage, *share, &outputs, &builds);
                let batches = collect(Arc::clone(&task.plan), Arc::new(context))
                    .await
                    .unwrap_or_else(|e| panic!("{sql}\n{graph}\nstage {} task {partition}: {e}", stage.id));
                measured.push(measure(&batches, task_metrics(&template, &task)));
                written.push(spread(&task.output, partition, stage.tasks, batches));
            }
            outputs.push(written);
            metrics.push(measured);
        }
        assert_eq!(self.state.runtime_env().memory_pool.reserved(), 0, "{sql}\n{graph}");
        let batches = outputs.pop().unwrap().into_iter().flatten().flatten().collect();
        Run { schema, batches, graph, metrics, shares: adapted }
    }

    /// The task of a share on an executor, its inputs bound: the stage's plan, its own, and where it runs.
    pub(crate) fn task(
        &self,
        stage: &Stage,
        share: Share,
        outputs: &Outputs,
    ) -> (StageTemplate, TaskPlan, TaskContext) {
        self.task_with(stage, share, outputs, &self.builds.stage())
    }

    fn task_with(
        &self,
        stage: &Stage,
        share: Share,
        outputs: &Outputs,
        builds: &StageBuilds,
    ) -> (StageTemplate, TaskPlan, TaskContext) {
        // An executor has a session of its own, without the tables.
        let config = self.state.config().clone();
        let executor = self.extensions.session_state(config, Arc::clone(self.state.runtime_env()));
        let template = decode_stage(&stage.plan, &executor, &self.extensions);
        let template = template.unwrap_or_else(|e| panic!("stage {}: {e}\n{}", stage.id, stage.display));
        let spilling = self.spills.then(|| spilling_share_plan(&template, share));
        let spilling = spilling.transpose().unwrap_or_else(|e| panic!("{e}\n{}", stage.display)).flatten();
        let task = spilling.map_or_else(|| sharing_task_plan(&template, share, builds), Ok);
        let task = task.unwrap_or_else(|e| panic!("{e}\n{}", stage.display));
        assert_eq!(task.plan.output_partitioning().partition_count(), 1, "{}", stage.display);
        (template, bind(task, outputs), TaskContext::from(&executor))
    }
}

/// The first partition by single tasks of an input that may be split, if there is one; the others by two.
fn divided(graph: &StageGraph, stage: &Stage) -> Vec<Share> {
    let may_split = !matches!(stage.exchange, Exchange::Merge | Exchange::Result);
    let splits = |read| read == ReadMode::Adaptive { splits: true };
    // The largest stage, so that there is something to divide.
    let inputs = stage.inputs.iter().filter(|input| may_split && splits(input.read));
    let input = inputs.map(|input| graph.stage(input.stage).unwrap()).max_by_key(|input| input.tasks);
    let mut shares: Vec<Share> = vec![];
    if let Some(input) = input.filter(|input| input.tasks > 1) {
        let split = |map| Split { input: input.id, first_map: map, end_map: map + 1 };
        shares.extend((0..input.tasks).map(|map| Share { split: Some(split(map)), ..Share::one(0) }));
    }
    let first = u32::from(!shares.is_empty());
    let pairs = (first..stage.tasks).step_by(2);
    shares.extend(pairs.map(|first| Share { first, end: stage.tasks.min(first + 2), split: None }));
    shares
}

fn measure(batches: &[RecordBatch], operators: Vec<OperatorMetrics>) -> TaskMetrics {
    let rows_out = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    TaskMetrics { rows_out, operators, ..Default::default() }
}

/// Puts readers in place of the stage inputs. Later tasks' rows come first, for no order is promised.
fn bind(task: TaskPlan, outputs: &Outputs) -> TaskPlan {
    let plan = Arc::clone(&task.plan)
        .transform_up(|node| {
            let Some(input) = node.downcast_ref::<StageInputExec>() else { return Ok(Transformed::no(node)) };
            let upstream = &outputs[input.stage().0 as usize];
            let read = |partition| {
                let reads = input.reads(partition);
                let maps = upstream.iter().enumerate().rev();
                let maps = maps.filter(|(map, _)| reads.maps.contain(u32::try_from(*map).unwrap()));
                maps.flat_map(|(_, map)| {
                    let outputs = reads.outputs.start as usize..reads.outputs.end as usize;
                    map[outputs].concat()
                })
                .collect()
            };
            let partitions = (0..input.partitions()).map(read).collect();
            let reader = MemoryReader::new(Arc::clone(input.properties()), partitions);
            Ok(Transformed::yes(Arc::new(reader) as Arc<dyn ExecutionPlan>))
        })
        .data()
        .unwrap();
    task.with_plan(plan)
}

/// The rows of a task by output partition.
pub(crate) fn spread(
    output: &TaskOutput,
    task: u32,
    tasks: u32,
    batches: Vec<RecordBatch>,
) -> Vec<Vec<RecordBatch>> {
    let count = output.partitions as usize;
    let mut partitioner = match output.exchange {
        Exchange::Hash => {
            BatchPartitioner::new_hash_partitioner(output.hash.clone(), count, Time::new()).unwrap()
        }
        Exchange::RoundRobin => {
            BatchPartitioner::new_round_robin_partitioner(count, Time::new(), task as usize, tasks as usize)
        }
        Exchange::Single | Exchange::Merge | Exchange::Broadcast | Exchange::Result => return vec![batches],
    };
    let mut partitions = vec![vec![]; count];
    for batch in batches {
        partitioner
            .partition(batch, |partition, batch| {
                partitions[partition].push(batch);
                Ok(())
            })
            .unwrap();
    }
    partitions
}

/// Ways to plan that together make every kind of exchange and join.
pub(crate) fn configs() -> Vec<(&'static str, SessionConfig)> {
    let base = || {
        let mut config = cluster_config(3).with_batch_size(512);
        // Small batches and files, so that there is something to spread.

        config.options_mut().optimizer.repartition_file_min_size = 0;
        config
    };
    let with = |change: fn(&mut datafusion::config::ConfigOptions)| {
        let mut config = base();
        change(config.options_mut());
        config
    };
    vec![
        ("defaults", base()),
        (
            "broadcast",
            with(|o| {
                o.optimizer.hash_join_single_partition_threshold = 1 << 40;
                o.optimizer.hash_join_single_partition_threshold_rows = 1 << 40;
            }),
        ),
        (
            "partitioned",
            with(|o| {
                o.optimizer.hash_join_single_partition_threshold = 0;
                o.optimizer.hash_join_single_partition_threshold_rows = 0;
            }),
        ),
        ("sort-merge join", with(|o| o.optimizer.prefer_hash_join = false)),
        (
            "keep orders",
            with(|o| {
                o.optimizer.prefer_existing_sort = true;
                o.optimizer.enable_window_topn = true;
            }),
        ),
        ("round-robin", with(|o| o.optimizer.enable_round_robin_repartition = true)),
        ("subqueries as joins", with(|o| o.optimizer.enable_physical_uncorrelated_scalar_subquery = false)),
        ("no dynamic filters", with(|o| o.optimizer.enable_dynamic_filter_pushdown = false)),
        ("push filters into scans", with(|o| o.execution.parquet.pushdown_filters = true)),
        ("one task", base().with_target_partitions(1)),
    ]
}
