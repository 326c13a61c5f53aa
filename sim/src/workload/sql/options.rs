//! Options of a query, so that the planner takes its different ways although the data is small.

use std::collections::BTreeMap;

use polybolos_model::settings;
use rand::{Rng, rngs::StdRng};

/// Batches of a query, about, at most.
const MAX_BATCHES: u64 = 400;

/// What of a query its options must fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    /// Rows that it handles, about.
    pub(super) rows: u64,
    pub(super) is_large: bool,
    /// Rows must also fit a condition to be joined: DataFusion 55.2 panics in a sort-merge join then, now and then
    /// (`joins/sort_merge_join/filter.rs`, index out of bounds).
    pub(super) joins_by_condition: bool,
}

/// For a query of these traits.
pub(super) fn random_options(random: &mut StdRng, query: Traits) -> BTreeMap<String, String> {
    let Traits { rows, is_large, joins_by_condition } = query;
    let mut options = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        options.insert(format!("datafusion.{name}"), value);
    };
    // Without it the cluster makes one task of whatever is as small as this.
    if !random.random_bool(0.06) {
        set("execution.target_partitions", [1, 2, 2, 3, 4, 4, 6][random.random_range(0..7)].to_string());
    }
    if random.random_bool(0.5) {
        set("optimizer.enable_round_robin_repartition", random.random::<bool>().to_string());
    }
    if random.random_bool(0.3) && !joins_by_condition {
        set("optimizer.prefer_hash_join", "false".to_owned());
    }
    if random.random_bool(0.5) {
        set("optimizer.hash_join_single_partition_threshold", "0".to_owned());
        set("optimizer.hash_join_single_partition_threshold_rows", "0".to_owned());
    }
    for name in ["joins", "aggregations", "windows", "sorts"] {
        if random.random_bool(0.12) {
            set(&format!("optimizer.repartition_{name}"), "false".to_owned());
        }
    }
    // Several tasks read one file.
    if random.random_bool(0.4) {
        set("optimizer.repartition_file_min_size", "0".to_owned());
    }
    for (name, value) in [
        ("optimizer.prefer_existing_sort", "true"),
        ("optimizer.enable_dynamic_filter_pushdown", "false"),
        ("optimizer.enable_topk_aggregation", "false"),
        ("execution.parquet.pushdown_filters", "true"),
        ("execution.coalesce_batches", "false"),
    ] {
        if random.random_bool(0.1) {
            set(name, value.to_owned());
        }
    }
    let fits = |size: &u64| rows / size <= MAX_BATCHES;
    let sizes: &[u64] = if is_large { &[64, 128, 256] } else { &[8, 32, 128, 128, 512, 8_192, 8_192] };
    let size = sizes[random.random_range(0..sizes.len())];
    if let Some(size) = Some(size).filter(fits).or_else(|| sizes.iter().copied().find(fits))
        && size < 8_192
    {
        set("execution.batch_size", size.to_string());
    }
    let mut ours = |name: &str, value: &str| {
        options.insert(format!("{}{name}", settings::PREFIX), value.to_owned());
    };
    // No table here is large enough for them by itself.
    if random.random_bool(0.6) {
        ours("runtime_filter_min_rows", "0");
    }
    if random.random_bool(0.05) {
        ours("runtime_filters", "false");
    }
    // Small as the data is, one task would read all of a stage's inputs.
    match random.random_range(0..10) {
        0..=3 => ours("adaptive", "false"),
        4..=8 => {
            ours("coalesce_partition_bytes", ["1", "300", "3000", "30000"][random.random_range(0..4)]);
            ours("skew_partition_bytes", ["1", "300", "3000"][random.random_range(0..3)]);
            ours("skew_partition_factor", "1");
        }
        _ => {}
    }
    options
}
