//! What the operators of a task measured, and how `EXPLAIN` shows it.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::Arc,
    time::Duration,
};

use datafusion::{
    common::JoinType,
    logical_expr::LogicalPlan,
    physical_plan::{
        ExecutionPlan,
        coop::CooperativeExec,
        displayable,
        joins::NestedLoopJoinExec,
        metrics::{MetricValue, MetricsSet},
    },
};
use polybolos_model::{OperatorMetrics, Stage, StageGraph, TaskMetrics};

use crate::{
    input::StageInputExec, output::TaskPlan, pick::PickExec, resume::ResumeExec, task::StageTemplate,
};

/// The metrics of a task that has ended, by operator of `template`.
///
/// `executed.plan` must be the very plan that ran, with its inputs bound ([`TaskPlan::with_plan`]). `node` counts
/// the operators of the stage in depth-first preorder from its root, so it is the line of [`Stage::display`]. An
/// operator that the task had in another place or not at all is left out; the reader of a stage's output counts as
/// its input.
pub fn task_metrics(template: &StageTemplate, executed: &TaskPlan) -> Vec<OperatorMetrics> {
    let mut found = vec![];
    let mut next = 1;
    collect(template.shape(), Some(&executed.plan), &mut next, &mut found);
    found
}

/// What is to be known of a stage's operators when its tasks have ended; these themselves are with the tasks.
#[derive(Debug)]
pub(crate) struct Shape {
    name: String,
    reads_stage: bool,
    is_cooperative: bool,
    /// Of a nested loop join, whose sides may be turned round.
    join: Option<JoinType>,
    children: Vec<Shape>,
}

impl Shape {
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        Self {
            name: plan.name().to_owned(),
            reads_stage: plan.is::<StageInputExec>(),
            is_cooperative: plan.is::<CooperativeExec>(),
            join: nested_loop(plan),
            children: plan.children().into_iter().map(Self::of).collect(),
        }
    }
}

fn nested_loop(plan: &Arc<dyn ExecutionPlan>) -> Option<JoinType> {
    plan.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type())
}

fn collect(
    template: &Shape,
    executed: Option<&Arc<dyn ExecutionPlan>>,
    next: &mut u32,
    found: &mut Vec<OperatorMetrics>,
) {
    let node = *next;
    *next += 1;
    let executed = executed.and_then(|executed| counterpart(template, executed));
    if let Some(metrics) = executed.and_then(|executed| executed.metrics()) {
        let values = values(metrics);
        if !values.is_empty() {
            found.push(OperatorMetrics { node, values });
        }
    }
    let below = executed.map(|executed| executed.children()).unwrap_or_default();
    for (position, child) in template.children.iter().enumerate() {
        collect(child, below.get(position).copied(), next, found);
    }
}

/// The operator of a task that does the work of `template`: `executed`, or what it picks from, resumes or makes yield.
fn counterpart<'a>(
    template: &Shape,
    executed: &'a Arc<dyn ExecutionPlan>,
) -> Option<&'a Arc<dyn ExecutionPlan>> {
    if let Some(pick) = executed.downcast_ref::<PickExec>() {
        return counterpart(template, pick.input());
    }
    if let Some(resume) = executed.downcast_ref::<ResumeExec>() {
        return counterpart(template, resume.input());
    }
    if let Some(coop) = executed.downcast_ref::<CooperativeExec>().filter(|_| !template.is_cooperative) {
        return counterpart(template, coop.input());
    }
    let reads_stage = template.reads_stage && executed.children().is_empty();
    // The sides of one that was turned round are in each other's place.
    let same = template.name == executed.name()
        && template.children.len() == executed.children().len()
        && template.join == nested_loop(executed);
    (reads_stage || same).then_some(executed)
}

/// Sums over partitions, also of peaks of memory, as a task runs one of them. What joins hold (`build_mem_used`) corrects the
/// leader's estimates. Points in time, and values that are no single number, have no sum.
fn values(metrics: MetricsSet) -> Vec<(String, u64)> {
    let mut values = BTreeMap::new();
    for metric in metrics.aggregate_by_name().iter() {
        let summable = matches!(
            metric.value(),
            MetricValue::OutputRows(_)
                | MetricValue::ElapsedCompute(_)
                | MetricValue::SpillCount(_)
                | MetricValue::SpilledBytes(_)
                | MetricValue::SpilledRows(_)
                | MetricValue::OutputBytes(_)
                | MetricValue::OutputBatches(_)
                | MetricValue::CurrentMemoryUsage(_)
                | MetricValue::PeakMemoryUsage { .. }
                | MetricValue::Count { .. }
                | MetricValue::Gauge { .. }
                | MetricValue::Time { .. }
        );
        let value = metric.value().as_usize() as u64;
        if summable && value > 0 {
            *values.entry(metric.value().name().to_owned()).or_insert(0u64) += value;
        }
    }
    values.into_iter().collect()
}

/// A stage that ran, with the metrics of its tasks.
#[derive(Debug, Clone)]
pub struct StageProfile<'a> {
    pub stage: &'a Stage,
    /// Of the attempt that counted, in any order; tasks that did not run are missing.
    pub tasks: Vec<&'a TaskMetrics>,
    /// How the tasks divide the inputs among them, if not as planned.
    pub shares: Option<String>,
}

/// The `(plan_type, plan)` rows of `EXPLAIN`.
pub fn explain(
    logical: &LogicalPlan,
    physical: &Arc<dyn ExecutionPlan>,
    graph: &StageGraph,
) -> Vec<(String, String)> {
    vec![
        ("logical_plan".to_owned(), logical.display_indent().to_string()),
        ("physical_plan".to_owned(), displayable(physical.as_ref()).indent(false).to_string()),
        ("stages".to_owned(), graph.to_string()),
    ]
}

/// The text of `EXPLAIN ANALYZE`: `plans`, then every stage with what its tasks measured, the result stage first.
///
/// Numbers of an operator are sums over its tasks; `elapsed` of a stage is that of its slowest task.
pub fn explain_analyze(plans: &str, stages: &[StageProfile<'_>]) -> String {
    let mut text = String::from(plans);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for profile in stages.iter().rev() {
        // Writing to a string can't fail.
        let _ = write_stage(&mut text, profile);
    }
    text
}

fn write_stage(text: &mut String, profile: &StageProfile<'_>) -> fmt::Result {
    let StageProfile { stage, tasks, shares } = profile;
    let sum = |of: fn(&TaskMetrics) -> u64| tasks.iter().map(|task| of(task)).sum::<u64>();
    write!(text, "Stage {}: {} exchange, tasks={}/{}", stage.id, stage.exchange, tasks.len(), stage.tasks)?;
    write!(text, ", rows={}, bytes={}", sum(|task| task.rows_out), sum(|task| task.bytes_out))?;
    if sum(|task| task.spilled_bytes) > 0 {
        write!(text, ", spilled_bytes={}", sum(|task| task.spilled_bytes))?;
    }
    if let Some(shares) = shares {
        write!(text, ", {shares}")?;
    }
    let slowest = tasks.iter().map(|task| task.elapsed_us).max().unwrap_or(0);
    writeln!(text, ", elapsed={:?}", Duration::from_micros(slowest))?;
    let mut by_node: BTreeMap<u32, BTreeMap<&str, u64>> = BTreeMap::new();
    for operator in tasks.iter().flat_map(|task| &task.operators) {
        let values = by_node.entry(operator.node).or_default();
        for (name, value) in &operator.values {
            let sum = values.entry(name).or_insert(0);
            *sum = sum.saturating_add(*value);
        }
    }
    for (node, line) in (0u32..).zip(stage.display.lines()) {
        write!(text, "  {line}")?;
        if let Some(values) = by_node.get(&node) {
            let values: Vec<String> = values.iter().map(|(name, value)| show(name, *value)).collect();
            write!(text, ", metrics=[{}]", values.join(", "))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

/// DataFusion names its times alike, in nanoseconds.
fn show(name: &str, value: u64) -> String {
    if name == "elapsed_compute" || name.contains("time") {
        return format!("{name}={:?}", Duration::from_nanos(value));
    }
    format!("{name}={value}")
}
