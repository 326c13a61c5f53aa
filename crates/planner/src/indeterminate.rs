//! Which stages might send other rows, or send them elsewhere, when one of their tasks runs again.
//!
//! Between two runs the rows of an exchange arrive in another order, and a hash table gives its groups in another one.
//! So whatever depends on the order of rows counts, unless they come straight from a scan. A mark costs only when an
//! output is lost, so this errs towards marking: by operator and type, not by column.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    arrow::datatypes::Schema,
    common::tree_node::{TreeNode, TreeNodeRecursion},
    error::Result,
    logical_expr::WindowFrameUnits,
    physical_expr::{
        PhysicalExpr,
        aggregate::AggregateFunctionExpr,
        window::{PlainAggregateWindowExpr, SlidingAggregateWindowExpr, StandardWindowExpr, WindowExpr},
    },
    physical_plan::{
        ExecutionPlan,
        aggregates::AggregateExec,
        coop::CooperativeExec,
        filter::FilterExec,
        joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec},
        limit::{GlobalLimitExec, LocalLimitExec},
        projection::ProjectionExec,
        sorts::partitioned_topk::PartitionedTopKExec,
        windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr},
    },
};
use polybolos_model::{Exchange, StageId};

use crate::{cut::Cut, prepare::any_expression, runtime_filter::KeySummaryExec};

/// Aggregates that give the same value for the same rows in any order, if their values are exact.
const ORDER_FREE: &[&str] = &[
    "count",
    "min",
    "max",
    "sum",
    "avg",
    "median",
    "percentile_cont",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "grouping",
    "approx_distinct",
    "var",
    "var_pop",
    "stddev",
    "stddev_pop",
    "covar_samp",
    "covar_pop",
    "corr",
    "regr_slope",
    "regr_intercept",
    "regr_count",
    "regr_r2",
    "regr_avgx",
    "regr_avgy",
    "regr_sxx",
    "regr_syy",
    "regr_sxy",
];
/// Of these, the ones that add nothing up, so that they are exact for floats too.
const EXACT: &[&str] =
    &["count", "min", "max", "bool_and", "bool_or", "grouping", "approx_distinct", "median"];
/// Window functions that give tied rows the same value.
const TIE_FREE: &[&str] = &["rank", "dense_rank", "percent_rank", "cume_dist"];

const FLOAT_REASON: &str = "float sums, whose last digits depend on the order of rows, decide something";

/// Judges the stages of one query, inputs first.
#[derive(Default)]
pub(crate) struct Indeterminism {
    /// Stages with values that come from adding floats.
    inexact: BTreeSet<StageId>,
}

impl Indeterminism {
    /// Why a second run of a task of `cut` may differ, or `None` if it can't.
    pub(crate) fn of(&mut self, cut: &Cut) -> Result<Option<String>> {
        let plan = cut.root.input();
        // Floats are no keys of a runtime filter.
        let keys_only = plan.is::<KeySummaryExec>();
        let reads_inexact = cut.inputs.keys().any(|input| self.inexact.contains(input));
        let inexact = !keys_only && (reads_inexact || adds_floats(plan)?);
        if inexact {
            self.inexact.insert(cut.root.stage());
        }
        if let Some(reason) = volatile(plan)? {
            return Ok(Some(reason));
        }
        if cut.root.output().exchange == Exchange::RoundRobin && !is_fixed_order(plan) {
            return Ok(Some("round-robin over rows in no fixed order".to_owned()));
        }
        if let Some(reason) = order_dependent(plan)? {
            return Ok(Some(reason));
        }
        let schema = plan.schema();
        let float_key = cut.root.output().hash.iter().any(|key| is_float(key, &schema));
        if inexact && (float_key || floats_decide(plan)?) {
            return Ok(Some(FLOAT_REASON.to_owned()));
        }
        Ok(None)
    }
}

fn volatile(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<String>> {
    let mut name = None;
    any_expression(plan, &mut |expr| {
        if expr.is_volatile_node() {
            name = Some(format!("{expr} gives other values"));
        }
        name.is_some()
    })?;
    Ok(name)
}

/// Scans, and what handles their rows one by one, give them in the same order each time.
fn is_fixed_order(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let rowwise = plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<GlobalLimitExec>();
    let children = plan.children();
    let leaf = children.is_empty() && plan.name() != "StageInputExec";
    leaf || (rowwise && children.into_iter().all(is_fixed_order))
}

fn order_dependent(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<String>> {
    let mut reason = None;
    plan.apply(|node| {
        reason = order_dependent_node(node);
        Ok(if reason.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(reason)
}

fn order_dependent_node(node: &Arc<dyn ExecutionPlan>) -> Option<String> {
    let children = node.children();
    let limits = node.fetch().is_some()
        || node.is::<LocalLimitExec>()
        || node.is::<GlobalLimitExec>()
        || node.is::<PartitionedTopKExec>()
        || node.downcast_ref::<AggregateExec>().is_some_and(|aggregate| aggregate.limit_options().is_some());
    if limits && !children.iter().all(|child| is_fixed_order(child)) {
        return Some("a limit may keep other rows".to_owned());
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let sensitive = aggregate.aggr_expr().iter().find(|aggr| !ORDER_FREE.contains(&aggr.fun().name()));
        return sensitive.map(|aggr| format!("{} depends on the order of rows", aggr.fun().name()));
    }
    let sensitive = window_exprs(node).iter().find(|window| !is_tie_free(window));
    sensitive.map(|window| format!("{} depends on the order of tied rows", window.name()))
}

fn window_exprs(node: &Arc<dyn ExecutionPlan>) -> &[Arc<dyn WindowExpr>] {
    if let Some(window) = node.downcast_ref::<WindowAggExec>() {
        return window.window_expr();
    }
    node.downcast_ref::<BoundedWindowAggExec>().map_or(&[], BoundedWindowAggExec::window_expr)
}

fn is_tie_free(window: &Arc<dyn WindowExpr>) -> bool {
    if let Some(standard) = window.as_any().downcast_ref::<StandardWindowExpr>() {
        let function = standard.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>();
        return function.is_some_and(|function| TIE_FREE.contains(&function.fun().name()));
    }
    let frame = window.get_window_frame();
    let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    let by_value = matches!(frame.units, WindowFrameUnits::Range | WindowFrameUnits::Groups);
    let order_free = window_aggregate(window).is_some_and(|aggr| ORDER_FREE.contains(&aggr.fun().name()));
    order_free && (whole || by_value)
}

fn window_aggregate(window: &Arc<dyn WindowExpr>) -> Option<&AggregateFunctionExpr> {
    let any = window.as_any();
    if let Some(plain) = any.downcast_ref::<PlainAggregateWindowExpr>() {
        return Some(plain.get_aggregate_expr());
    }
    any.downcast_ref::<SlidingAggregateWindowExpr>().map(SlidingAggregateWindowExpr::get_aggregate_expr)
}

/// Whether values in `plan` are sums of floats, or made of them.
fn adds_floats(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| {
        let adds = |aggr: &AggregateFunctionExpr| {
            !EXACT.contains(&aggr.fun().name()) && aggr.field().data_type().is_floating()
        };
        let grouped =
            node.downcast_ref::<AggregateExec>().is_some_and(|node| node.aggr_expr().iter().any(|a| adds(a)));
        Ok(grouped || window_exprs(node).iter().filter_map(window_aggregate).any(adds))
    })
}

/// Whether a float in `plan` turns into something that is none, or is a key of a join or of groups.
fn floats_decide(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| {
        let children = node.children();
        let [first, rest @ ..] = children.as_slice() else { return Ok(false) };
        let schema = first.schema();
        if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            let key = aggregate.group_expr().expr().iter().any(|(key, _)| is_float(key, &schema));
            return Ok(key || escapes(node, &schema)?);
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            let key = join.on().iter().any(|(key, _)| is_float(key, &schema));
            return Ok(
                key || join.filter().is_some_and(|filter| decides(filter.expression(), filter.schema()))
            );
        }
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            return Ok(join.filter().is_some_and(|filter| decides(filter.expression(), filter.schema())));
        }
        if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
            let key = join.on().iter().any(|(key, _)| is_float(key, &schema));
            return Ok(key || join.filter().as_ref().is_some_and(|f| decides(f.expression(), f.schema())));
        }
        Ok(rest.is_empty() && escapes(node, &schema)?)
    })
}

fn escapes(node: &Arc<dyn ExecutionPlan>, schema: &Schema) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(&mut |root| {
        found = found || decides(root, schema);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether a part of `expr` takes a float and gives something else.
fn decides(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let found = expr.exists(|part| {
        let takes = part.children().into_iter().any(|child| is_float(child, schema));
        Ok(takes && !is_float(part, schema))
    });
    found.unwrap_or(true)
}

/// True also when the type can't be told.
fn is_float(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    expr.data_type(schema).map_or(true, |kind| kind.is_floating())
}
