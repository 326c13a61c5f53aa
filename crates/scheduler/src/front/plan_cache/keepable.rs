//! Which plans depend on nothing but what is kept with them. Looks at a plan before it is optimised, for the optimizer
//! writes the time into it and may take out what it has computed from it.

use datafusion::{
    catalog::cte_worktable::CteWorkTable,
    common::tree_node::{TreeNode, TreeNodeRecursion},
    datasource::{listing::ListingTable, source_as_provider},
    error::Result,
    logical_expr::{Expr, LogicalPlan, TableScan, Volatility, WindowFunctionDefinition},
};

use super::super::catalogue::Catalogue;

/// How many tables the plan reads; `None` if it depends on more than its text, its options, the fleet, the catalogue and
/// which files there are.
pub(crate) fn scans(plan: &LogicalPlan, catalogue: &Catalogue) -> Result<Option<usize>> {
    let (mut scans, mut is_keepable) = (0, true);
    plan.apply_with_subqueries(|node| {
        is_keepable &= match node {
            LogicalPlan::TableScan(scan) => {
                scans += 1;
                reads_files(scan, catalogue)
            }
            other => is_query(other),
        };
        is_keepable = is_keepable && is_immutable(node)?;
        Ok(if is_keepable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is_keepable.then_some(scans))
}

/// A table of files of the catalogue or of the plan itself. Of any other it is not known what its plan comes from.
fn reads_files(scan: &TableScan, catalogue: &Catalogue) -> bool {
    if catalogue.is_provided(scan.table_name.table()) {
        return false;
    }
    let Ok(provider) = source_as_provider(&scan.source) else { return false };
    provider.is::<ListingTable>() || provider.is::<CteWorkTable>()
}

fn is_query(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::RecursiveQuery(_) => true,
        // An extension's node may be planned by whatever there is.
        LogicalPlan::Extension(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_) => false,
    }
}

/// Whether the node's own expressions come to the same whenever they are planned.
fn is_immutable(node: &LogicalPlan) -> Result<bool> {
    let mut is_immutable = true;
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            is_immutable &= volatility(expr) == Volatility::Immutable;
            Ok(if is_immutable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })
    })?;
    Ok(is_immutable)
}

/// Of the node alone.
fn volatility(expr: &Expr) -> Volatility {
    match expr {
        Expr::ScalarFunction(call) => call.func.signature().volatility,
        Expr::AggregateFunction(call) => call.func.signature().volatility,
        Expr::HigherOrderFunction(call) => call.func.signature().volatility,
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => function.signature().volatility,
            WindowFunctionDefinition::WindowUDF(function) => function.signature().volatility,
        },
        // Their values come from elsewhere.
        Expr::ScalarVariable(..) | Expr::Placeholder(_) => Volatility::Volatile,
        _ => Volatility::Immutable,
    }
}
