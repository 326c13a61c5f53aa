//! Limits that a query sets itself. None changes its answer; one may leave it without any.

use std::collections::BTreeMap;

use polybolos_model::settings::{PARALLEL_TASKS, RESULT_BYTES};
use rand::{Rng, rngs::StdRng};

/// Names and values, perhaps of none.
pub(super) fn random_limits(random: &mut StdRng) -> BTreeMap<String, String> {
    let mut limits = BTreeMap::new();
    if random.random_bool(0.8) {
        limits.insert(PARALLEL_TASKS.name.to_owned(), random.random_range(1..=3).to_string());
    }
    // From less than most results have to more than any.
    if random.random_bool(0.4) {
        let bytes: u64 = 1 << random.random_range(6..=22);
        limits.insert(RESULT_BYTES.name.to_owned(), bytes.to_string());
    }
    limits
}
