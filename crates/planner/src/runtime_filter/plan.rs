//! Which joins get a runtime filter.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::datatypes::DataType,
    common::{JoinType, NullEquality},
    physical_expr::intervals::utils::check_support,
    physical_plan::{
        ExecutionPlan,
        coalesce_partitions::CoalescePartitionsExec,
        filter::FilterExec,
        joins::HashJoinExec,
        statistics::{StatisticsArgs, StatisticsContext},
    },
};
use polybolos_model::settings;

use super::{
    bloom::MAX_KEYS,
    columns::{column_of, origin},
    landing::Landing,
};
use crate::input::StageInputExec;

/// A filter must promise to hold back most rows: so many at least for each key.
const ROWS_PER_KEY: usize = 4;
/// Where the optimizer can only guess how many keys there are, it is tried; but with more than one for so many rows, it is
/// given up: what was read of them until then is little beside the rows that move anyway.
const ROWS_PER_KEY_IN_VAIN: usize = 16;

/// Whether joins get runtime filters, as a session's settings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeFilters {
    /// Fewest rows of a scan that is worth one, by the optimizer's estimates; `None` for no filters. With 0 estimates do not
    /// count.
    min_rows: Option<u32>,
}

impl RuntimeFilters {
    pub const OFF: Self = Self { min_rows: None };

    /// As the options of a job say, by full name.
    pub fn read(options: &BTreeMap<String, String>) -> Self {
        let is_on = settings::RUNTIME_FILTERS.switch_in(options);
        Self { min_rows: is_on.then(|| settings::RUNTIME_FILTER_MIN_ROWS.count_in(options)) }
    }

    /// With how many keys at most a filter is tried for `rows` rows in `tasks` tasks, each of which reads all the keys; `None` for
    /// not at all. The optimizer expects `keys` of them, which may be a guess.
    fn limit(self, keys: Option<usize>, is_guess: bool, rows: Option<usize>, tasks: usize) -> Option<usize> {
        let min_rows = self.min_rows?;
        if min_rows == 0 {
            return Some(MAX_KEYS);
        }
        let rows = rows.filter(|&rows| rows >= min_rows as usize)?;
        let worth = |rows_per_key: usize| (rows / tasks.max(rows_per_key)).min(MAX_KEYS);
        let promised = keys.is_some_and(|keys| keys <= worth(ROWS_PER_KEY));
        match (promised, is_guess) {
            (true, _) => Some(MAX_KEYS),
            (false, true) => Some(worth(ROWS_PER_KEY_IN_VAIN)),
            (false, false) => None,
        }
    }
}

impl Default for RuntimeFilters {
    fn default() -> Self {
        Self::read(&BTreeMap::new())
    }
}

/// A filter that a join is to have.
pub(crate) struct PlannedFilter {
    /// Columns of the build side.
    pub(crate) build_keys: Vec<usize>,
    /// Most keys, of all tasks.
    limit: usize,
    /// In the probe side.
    pub(crate) landing: Landing,
}

impl PlannedFilter {
    /// What filter the probe side of `plan` should have, if it is a hash join.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>, filters: RuntimeFilters) -> Option<Self> {
        let join = plan.downcast_ref::<HashJoinExec>()?;
        let is_selective = filters.min_rows == Some(0) || drops_rows(join.left());
        if filters == RuntimeFilters::OFF || !needs_matches(join) || !is_selective {
            return None;
        }
        let keys: Vec<(usize, usize)> = join
            .on()
            .iter()
            .filter_map(|(left, right)| {
                let same = left.data_type(&join.left().schema()).ok()?
                    == right.data_type(&join.right().schema()).ok()?;
                let kind = left.data_type(&join.left().schema()).ok()?;
                (same && is_exact(&kind)).then_some((column_of(left)?, column_of(right)?))
            })
            .collect();
        let statistics = StatisticsContext::new();
        let is_guess = guesses(join.left());
        // All keys if they come from one place, and otherwise the first that is worth it by itself.
        let choices = std::iter::once(keys.clone()).chain(keys.iter().map(|&key| vec![key]));
        choices.filter(|keys| !keys.is_empty()).find_map(|keys| {
            let (build_keys, probe_keys): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
            let landing = Landing::find(join.right(), &probe_keys)?;
            let distinct = estimated_keys(join.left(), &build_keys, &statistics);
            let limit = filters.limit(distinct, is_guess, landing.rows, landing.tasks)?;
            Some(Self { build_keys, limit, landing })
        })
    }

    /// Most keys of each of `tasks` tasks: twice its share, for they never have the same number of them.
    pub(crate) fn limit_of_each(&self, tasks: usize) -> usize {
        self.limit.saturating_mul(2).div_ceil(tasks.max(1))
    }
}

/// The plan that gives all rows of a build side to a stage of their keys, if `build` reads them from another stage; it has as
/// many partitions as that stage should have tasks.
pub(crate) fn keys_of(build: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    let gathered = build.downcast_ref::<CoalescePartitionsExec>();
    // A limit may keep other rows for the keys than for the join.
    let all = gathered.is_none_or(|gather| gather.fetch().is_none());
    let read = gathered.map_or(build, CoalescePartitionsExec::input);
    (all && read.is::<StageInputExec>()).then_some(build)
}

/// Whether a row of the probe side without a match leaves no trace.
fn needs_matches(join: &HashJoinExec) -> bool {
    let drops = match join.join_type() {
        JoinType::Inner
        | JoinType::Left
        | JoinType::LeftSemi
        | JoinType::LeftAnti
        | JoinType::LeftMark
        | JoinType::RightSemi => true,
        JoinType::Right | JoinType::Full | JoinType::RightAnti | JoinType::RightMark => false,
    };
    drops && !join.null_aware && join.null_equality() == NullEquality::NullEqualsNothing
}

/// Whether equal values of the type always have equal hashes and ranges that hold them.
fn is_exact(kind: &DataType) -> bool {
    kind.is_integer()
        || (kind.is_temporal() && !matches!(kind, DataType::Interval(_)))
        || kind.is_decimal()
        || kind.is_string()
        || matches!(kind, DataType::Boolean | DataType::Binary | DataType::BinaryView)
}

/// Whether anything in `plan` leaves rows out on purpose.
fn drops_rows(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let drops = plan.is::<FilterExec>() || plan.fetch().is_some();
    drops || plan.children().into_iter().any(drops_rows)
}

/// Whether the optimizer does not know what share of its rows a condition in `plan` lets through: it assumes a fifth then.
fn guesses(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let unknown = plan
        .downcast_ref::<FilterExec>()
        .is_some_and(|filter| !check_support(filter.predicate(), &filter.input().schema()));
    unknown || plan.children().into_iter().any(guesses)
}

/// At most as many keys as there are rows, where they are joined or where any of them comes from: a join that multiplies its
/// rows, as its estimate may say, makes no new keys.
fn estimated_keys(
    plan: &Arc<dyn ExecutionPlan>,
    columns: &[usize],
    statistics: &StatisticsContext,
) -> Option<usize> {
    let known = statistics.compute(plan.as_ref(), &StatisticsArgs::new()).ok();
    let rows = known.and_then(|known| known.num_rows.get_value().copied());
    let below = origin(plan, columns).and_then(|(child, columns)| {
        estimated_keys(plan.children().get(child).copied()?, &columns, statistics)
    });
    rows.into_iter().chain(below).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_tried_where_it_holds_back_most_rows_or_may_and_costs_little() {
        let filters = RuntimeFilters::default();
        let million = Some(1_000_000);
        assert_eq!(filters.limit(Some(200_000), false, million, 2), Some(MAX_KEYS));
        assert_eq!(filters.limit(Some(300_000), false, million, 2), None);
        assert_eq!(filters.limit(Some(300_000), true, million, 2), Some(62_500));
        assert_eq!(filters.limit(None, true, million, 100), Some(10_000));
        // Each of many tasks reads all the keys.
        assert_eq!(filters.limit(Some(200_000), false, million, 100), None);
        // The scan is short, or of nobody knows what length.
        assert_eq!(filters.limit(Some(1), true, Some(1_000), 2), None);
        assert_eq!(filters.limit(Some(1), true, None, 2), None);
        assert_eq!(RuntimeFilters::OFF.limit(Some(1), true, million, 2), None);
    }
}
