//! The options of a recorded query, for smaller tables.

use std::collections::BTreeMap;

use polybolos_model::{
    recorded::{Recorded, RecordedStage},
    settings::is_ours,
};
use polybolos_planner::cluster_config;

use super::tables::Factor;

/// Parts of a query at most.
const MAX_PARTITIONS: u64 = 16;
/// Rows of a batch at least.
const MIN_BATCH_SIZE: u64 = 64;

const TARGET_PARTITIONS: &str = "datafusion.execution.target_partitions";
const BATCH_SIZE: &str = "datafusion.execution.batch_size";
/// Limits in rows or bytes by which the optimizer chooses.
const SCALED: [&str; 3] = [
    "datafusion.optimizer.hash_join_single_partition_threshold",
    "datafusion.optimizer.hash_join_single_partition_threshold_rows",
    "datafusion.optimizer.repartition_file_min_size",
];
/// What matters to the shape of a plan.
const TAKEN: [&str; 2] = ["datafusion.optimizer.", "datafusion.sql_parser."];

/// Of a query over tables of `factor` times the rows, on so many slots.
pub(super) fn given(recorded: &Recorded, factor: Factor, slots: u32) -> BTreeMap<String, String> {
    let options = &recorded.job.options;
    let is_taken = |name: &str| is_ours(name) || TAKEN.iter().any(|prefix| name.starts_with(prefix));
    let mut given: BTreeMap<String, String> = options
        .iter()
        .filter(|(name, _)| is_taken(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let is_one_task = matches!(recorded.stages.as_slice(), [only] if only.tasks == 1);
    if !is_one_task {
        let defaults = cluster_config(slots.max(1) as usize);
        let defaults: BTreeMap<String, String> = defaults
            .options()
            .entries()
            .into_iter()
            .filter_map(|entry| Some((entry.key, entry.value?)))
            .collect();
        let number =
            |name: &str| -> Option<u64> { options.get(name).or_else(|| defaults.get(name))?.parse().ok() };
        // Tasks may be fewer than the partitions that they read.
        let width = |stage: &RecordedStage| u64::from(stage.tasks.max(stage.output_partitions));
        let widest = recorded.stages.iter().map(width).max().unwrap_or(1);
        let partitions = options.get(TARGET_PARTITIONS).and_then(|text| text.parse().ok()).unwrap_or(widest);
        given.insert(TARGET_PARTITIONS.to_owned(), partitions.clamp(1, MAX_PARTITIONS).to_string());
        for name in SCALED {
            if let Some(limit) = number(name) {
                given.insert(name.to_owned(), factor.of(limit).to_string());
            }
        }
        let rows = number(BATCH_SIZE).unwrap_or(8_192);
        given.insert(BATCH_SIZE.to_owned(), factor.of(rows).max(MIN_BATCH_SIZE).to_string());
    }
    given
}
