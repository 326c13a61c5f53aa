//! Which build sides each task had better read for itself.

use std::sync::Arc;

use datafusion::{
    datasource::source::DataSourceExec,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        coop::CooperativeExec,
        empty::EmptyExec,
        filter::FilterExec,
        joins::{CrossJoinExec, HashJoinExec},
        placeholder_row::PlaceholderRowExec,
        projection::ProjectionExec,
    },
};

use crate::{config::scanned_bytes, error::PlanError, prepare::any_expression};

/// Reading that many bytes of files again in every task costs less than a stage of its own.
const CHEAP_BUILD_BYTES: u64 = 4 * 1024 * 1024;

/// Whether `plan` is one partition of small scans, filters, projections and joins, that gives the same rows each time.
pub(crate) fn is_cheap_build(plan: &Arc<dyn ExecutionPlan>) -> Result<bool, PlanError> {
    if !is_plain(plan) || scanned_bytes(plan).is_none_or(|bytes| bytes > CHEAP_BUILD_BYTES) {
        return Ok(false);
    }
    let volatile = any_expression(plan, &mut |expr| expr.is_volatile_node());
    Ok(!volatile.map_err(PlanError::datafusion("a build side"))?)
}

fn is_plain(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let known = plan.is::<DataSourceExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<CrossJoinExec>()
        || plan.is::<PlaceholderRowExec>()
        || plan.is::<EmptyExec>();
    known && plan.output_partitioning().partition_count() == 1 && plan.children().into_iter().all(is_plain)
}
