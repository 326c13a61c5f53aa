//! How far below a join its probe side can be filtered.

use std::sync::Arc;

use datafusion::{
    datasource::source::DataSourceExec,
    error::Result,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        coalesce_partitions::CoalescePartitionsExec,
        coop::CooperativeExec,
        execution_plan::replace_children_if_necessary,
        filter::FilterExec,
        repartition::RepartitionExec,
        sorts::sort_preserving_merge::SortPreservingMergeExec,
        statistics::{StatisticsArgs, StatisticsContext},
    },
};

use super::{RuntimeFilterExec, columns::below};

/// A place below an exchange at which rows can be filtered.
pub(crate) struct Landing {
    /// From the root: which child, at each operator.
    path: Vec<usize>,
    /// The keys there.
    pub(super) columns: Vec<usize>,
    /// Estimated, of all partitions.
    pub(super) rows: Option<usize>,
    pub(super) tasks: usize,
}

impl Landing {
    /// The lowest place below `plan` for its rows to be filtered by `columns`; `None` if no rows move on the way there.
    pub(super) fn find(plan: &Arc<dyn ExecutionPlan>, columns: &[usize]) -> Option<Self> {
        let (mut at, mut columns) = (Arc::clone(plan), columns.to_vec());
        let mut path = vec![];
        let mut moved = false;
        while let Some((child, child_columns)) = below(&at, &columns).filter(|_| !is_filtered_scan(&at)) {
            moved |= moves_rows(&at);
            let next = at.children().get(child).map(|&next| Arc::clone(next))?;
            path.push(child);
            (at, columns) = (next, child_columns);
        }
        if !moved {
            return None;
        }
        let statistics = StatisticsContext::new().compute(at.as_ref(), &StatisticsArgs::new()).ok();
        let rows = statistics.and_then(|known| known.num_rows.get_value().copied());
        Some(Self { path, columns, rows, tasks: at.output_partitioning().partition_count() })
    }

    /// `plan`, in which the place was found, with its rows filtered there by what `keys` tells.
    pub(crate) fn plant(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        keys: &Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.plant_at(plan, keys, &self.path)
    }

    fn plant_at(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        keys: &Arc<dyn ExecutionPlan>,
        path: &[usize],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some((&child, path)) = path.split_first() else {
            let filter =
                RuntimeFilterExec::try_new(Arc::clone(plan), Arc::clone(keys), self.columns.clone())?;
            return Ok(Arc::new(filter));
        };
        let mut children: Vec<_> = plan.children().into_iter().cloned().collect();
        if let Some(child) = children.get_mut(child) {
            *child = self.plant_at(child, keys, path)?;
        }
        replace_children_if_necessary(Arc::clone(plan), children)
    }
}

/// What the scan's own condition, which is cheaper, has let through is filtered.
fn is_filtered_scan(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let Some(filter) = plan.downcast_ref::<FilterExec>() else { return false };
    let input = filter.input();
    let input = input.downcast_ref::<CooperativeExec>().map_or(input, CooperativeExec::input);
    input.is::<DataSourceExec>()
}

/// Whether a stage ends below the operator.
fn moves_rows(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let gathers = plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>();
    let partitions = |plan: &Arc<dyn ExecutionPlan>| plan.output_partitioning().partition_count();
    let below = plan.children().into_iter().map(partitions).max().unwrap_or(1);
    (gathers && below > 1) || (plan.is::<RepartitionExec>() && (below > 1 || partitions(plan) > 1))
}
