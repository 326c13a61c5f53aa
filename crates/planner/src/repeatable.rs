//! Whether each run of a query's tasks gives the same rows in the same order.
//!
//! Whoever has some rows of one attempt at such a task can go on with the rest of another one, so that its rows may be
//! handed out while it runs. A scan of files reads them one after the other; what takes rows one by one keeps their order. All
//! else is left out, also where it might hold: rows of an exchange come in any order, and a hash table gives its
//! groups in another one in each process.

use std::sync::Arc;

use datafusion::{
    datasource::{physical_plan::FileScanConfig, source::DataSourceExec},
    error::Result,
    physical_plan::{
        ExecutionPlan,
        coop::CooperativeExec,
        filter::FilterExec,
        limit::{GlobalLimitExec, LocalLimitExec},
        projection::ProjectionExec,
        union::UnionExec,
    },
};

use crate::prepare::any_expression;

/// Formats whose readers give the rows of a file from its start to its end.
const IN_ORDER: &[&str] = &["parquet", "csv", "json"];

/// Whether each partition of `plan`, which [`crate::stage_graph`] leaves in one stage, has the same rows in the same order in
/// each run, as long as its files are the same.
///
/// # Errors
/// DataFusion can't tell the expressions of an operator.
pub fn is_repeatable(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    Ok(is_in_order(plan) && !any_expression(plan, &mut |expr| expr.is_volatile_node())?)
}

fn is_in_order(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        let files = scan.data_source().downcast_ref::<FileScanConfig>();
        return files.is_some_and(|files| IN_ORDER.contains(&files.file_source.file_type()));
    }
    let keeps_order = plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<GlobalLimitExec>()
        // Each of its partitions is one of an input.
        || plan.is::<UnionExec>();
    keeps_order && plan.children().into_iter().all(is_in_order)
}
