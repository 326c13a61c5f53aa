//! One attempt, from its template to its output and metrics. Runs on the CPU threads.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use datafusion::{
    execution::TaskContext,
    physical_plan::{ExecutionPlan, metrics::MetricsSet},
};
use polybolos_env::Env;
use polybolos_model::{
    AttemptId, ErrorClass, ExecutorId, PartitionStats, TaskError, TaskId, TaskMetrics,
    limits::MAX_INLINE_ROWS_BYTES,
};
use polybolos_planner::{TaskPlan, WriteExec, Writing, sharing_task_plan, spilling_share_plan, task_metrics};
use polybolos_shuffle::{
    FlightPool, OutputKey, ShuffleStore, bind_inputs, small_rows, task_error, write_output,
};

use crate::{
    config::DurableMode,
    core::Outcome,
    dirs::Dirs,
    runtime::Runtime,
    stage::{Decoded, PreparedStage, plan_error},
    staged::Staged,
};

/// What every task works with.
pub(crate) struct Tools {
    pub(crate) env: Env,
    pub(crate) runtime: Runtime,
    pub(crate) store: Arc<ShuffleStore>,
    pub(crate) pool: Arc<FlightPool>,
    pub(crate) dirs: Arc<Dirs>,
    pub(crate) me: ExecutorId,
    pub(crate) staged: Staged,
    /// When outputs are copied to where they outlive this executor, if they are.
    pub(crate) durable: Option<DurableMode>,
}

pub(crate) async fn run(tools: &Tools, stage: &PreparedStage, task: TaskId, attempt: AttemptId) -> Outcome {
    let started = tools.env.clock.now();
    tracing::debug!("started");
    let done = attempt_task(tools, stage, task, attempt).await;
    let elapsed = tools.env.clock.now().saturating_duration_since(started);
    match done {
        Ok(Done { outputs, mut metrics, durable, rows }) => {
            metrics.elapsed_us = micros(elapsed);
            tracing::debug!(rows = metrics.rows_out, bytes = metrics.bytes_out, ?elapsed, "completed");
            Outcome::Completed { outputs, metrics, durable, rows }
        }
        Err(error) => {
            tracing::warn!(%error, ?elapsed, "failed");
            Outcome::Failed(error)
        }
    }
}

/// What an attempt made.
struct Done {
    outputs: Vec<PartitionStats>,
    metrics: TaskMetrics,
    /// The output is in the durable store too.
    durable: bool,
    /// All of them, if the scheduler wants them and they are few.
    rows: Option<Bytes>,
}

async fn attempt_task(
    tools: &Tools,
    stage: &PreparedStage,
    task: TaskId,
    attempt: AttemptId,
) -> Result<Done, TaskError> {
    let decoded = stage.decoded(&tools.runtime, task.job).await?;
    let key = OutputKey { task, attempt };
    let share = decoded.share(task)?;
    let plan = sharing_task_plan(&decoded.template, share, &decoded.builds).map_err(plan_error)?;
    let is_write = plan.plan.is::<WriteExec>();
    let (executed, outputs) = match execute(tools, decoded, key, plan).await {
        // What a write has staged so far would stay beside what it stages then.
        Err(error) if error.class == ErrorClass::Resources && !is_write => {
            let spilling = spilling_share_plan(&decoded.template, share).map_err(plan_error)?;
            let Some(spilling) = spilling else { return Err(error) };
            tracing::info!(%error, "out of memory: its joins are such that go to disk from here on");
            polybolos_model::sometimes!("a task ran again with joins that spill");
            execute(tools, decoded, key, spilling).await?
        }
        done => done?,
    };
    let metrics = collect_metrics(decoded, &executed, &outputs);
    let durable = made_durable(tools, key).await?;
    let rows = if is_write { None } else { rows_along(tools, stage, key).await };
    Ok(Done { outputs, metrics, durable, rows })
}

/// The rows that go along with the report. Without them the output is fetched, so that nothing here is an error.
async fn rows_along(tools: &Tools, stage: &PreparedStage, key: OutputKey) -> Option<Bytes> {
    let max_bytes = (stage.message.max_inline_bytes as usize).min(MAX_INLINE_ROWS_BYTES);
    if max_bytes == 0 || polybolos_model::buggify!("executor.rows_kept_back") {
        return None;
    }
    match small_rows(&tools.store, key, max_bytes).await {
        Ok(rows) => rows.map(Bytes::from),
        Err(error) => {
            tracing::debug!(%error, "the rows don't go along with the report");
            None
        }
    }
}

/// Runs a task's plan, over its inputs, to its output.
async fn execute(
    tools: &Tools,
    decoded: &Decoded,
    key: OutputKey,
    plan: TaskPlan,
) -> Result<(TaskPlan, Vec<PartitionStats>), TaskError> {
    let OutputKey { task, attempt } = key;
    let bound = bind_inputs(
        Arc::clone(&plan.plan),
        Arc::clone(&decoded.inputs),
        Arc::clone(&tools.store),
        Arc::clone(&tools.pool),
        &tools.me,
    );
    let executed = plan.with_plan(bound.map_err(task_error)?);
    let context = Arc::new(context(tools, decoded, task, attempt));
    let write = executed.plan.downcast_ref::<WriteExec>();
    if let Some(write) = write {
        tools.staged.begin(attempt, task.job, write.staged_files(&context).map_err(task_error)?);
    }
    let written = write_output(&executed, Arc::clone(&executed.plan), context, &tools.store, key).await;
    let mut outputs = written.map_err(TaskError::from)?;
    if let Some(write) = write {
        // Its rows are in files; it gave none.
        outputs = vec![write.written()];
    }
    Ok((executed, outputs))
}

/// Copies the output if it must not count before.
async fn made_durable(tools: &Tools, key: OutputKey) -> Result<bool, TaskError> {
    if tools.durable != Some(DurableMode::Before) {
        return Ok(false);
    }
    if polybolos_model::mutant!("durable-too-early") {
        let store = Arc::clone(&tools.store);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            store.make_durable(key).await
        });
        return Ok(true);
    }
    let copied = tools.store.make_durable(key).await;
    copied.map(|()| true).map_err(|error| {
        let why = format!("its output could not be copied to the durable store: {error}");
        TaskError::new(ErrorClass::Retryable, why)
    })
}

/// The session of the stage, with the task's and the attempt's name.
fn context(tools: &Tools, decoded: &Decoded, task: TaskId, attempt: AttemptId) -> TaskContext {
    let cpu = Arc::clone(&tools.env.cpu);
    let writing = Writing { task, attempt, charge: Box::new(move |bytes| cpu.charge(bytes)) };
    let config = decoded.state.config().clone().with_extension(Arc::new(writing));
    TaskContext::from(decoded.state.as_ref())
        .with_session_config(config)
        .with_task_id(format!("{task}@{attempt}"))
}

fn collect_metrics(decoded: &Decoded, executed: &TaskPlan, outputs: &[PartitionStats]) -> TaskMetrics {
    let mut metrics = TaskMetrics {
        rows_out: outputs.iter().map(|output| output.rows).sum(),
        bytes_out: outputs.iter().map(|output| output.bytes).sum(),
        operators: task_metrics(&decoded.template, executed),
        ..TaskMetrics::default()
    };
    add_inputs_and_spills(executed.plan.as_ref(), &mut metrics);
    metrics
}

/// Rows and bytes of the leaves (scans and shuffle readers, as far as they count), spills of all operators.
fn add_inputs_and_spills(plan: &dyn ExecutionPlan, total: &mut TaskMetrics) {
    if let Some(own) = plan.metrics() {
        total.spilled_bytes += own.spilled_bytes().unwrap_or_default() as u64;
        if plan.children().is_empty() {
            total.rows_in += own.output_rows().unwrap_or_default() as u64;
            total.bytes_in += BYTES_READ.iter().map(|name| sum(&own, name)).sum::<u64>();
        }
    }
    for child in plan.children() {
        add_inputs_and_spills(child.as_ref(), total);
    }
}

/// Metrics in which leaves count what they read: file scans, and shuffle readers.
const BYTES_READ: [&str; 3] = ["bytes_scanned", "local_bytes", "fetched_bytes"];

fn sum(metrics: &MetricsSet, name: &str) -> u64 {
    metrics.sum_by_name(name).map_or(0, |value| value.as_usize() as u64)
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
