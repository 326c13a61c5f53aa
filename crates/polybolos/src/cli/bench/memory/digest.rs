//! What rows were, without keeping them.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Int64Type,
    error::ArrowError,
};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use serde::{Deserialize, Serialize};

/// Rows that went by: how many, which in any order, and whether their first column, of integers, ascends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Digest {
    pub(super) rows: u64,
    /// The sum of a hash of each row.
    hashes: u64,
    /// The first row that is less than the one before it, from 0.
    pub(super) disorder: Option<u64>,
    last: Option<i64>,
}

impl Digest {
    /// # Errors
    /// The first column is not of integers, or another one can't be hashed.
    pub(in super::super) fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let keys = batch.columns().first().and_then(|column| column.as_primitive_opt::<Int64Type>());
        let Some(keys) = keys.filter(|keys| keys.null_count() == 0) else {
            return Err(ArrowError::InvalidArgumentError("the first column has no integers".to_owned()));
        };
        self.follow(keys.values());
        let mut hashes = vec![0; batch.num_rows()];
        // The same in each process of this program.
        create_hashes(batch.columns(), &RandomState::with_seed(0), &mut hashes)?;
        self.hashes = hashes.iter().fold(self.hashes, |sum, hash| sum.wrapping_add(*hash));
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn follow(&mut self, keys: &[i64]) {
        let before = self.last.into_iter().chain(keys.iter().copied());
        let begins = usize::from(self.last.is_none());
        let at = before.zip(keys.iter().skip(begins)).position(|(before, key)| before > *key);
        self.disorder = self.disorder.or(at.map(|at| self.rows + (at + begins) as u64));
        self.last = keys.last().copied().or(self.last);
    }

    /// As many as in both.
    pub(super) fn and(&mut self, other: &Self) {
        self.rows += other.rows;
        self.hashes = self.hashes.wrapping_add(other.hashes);
    }

    /// What is wrong with rows that should be these ones, in order.
    pub(super) fn difference(&self, actual: &Self) -> Option<String> {
        if actual.rows != self.rows {
            return Some(format!("{} rows instead of {}", actual.rows, self.rows));
        }
        if actual.hashes != self.hashes {
            return Some("other rows".to_owned());
        }
        actual.disorder.map(|row| format!("row {row} does not belong behind the one before it"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringViewArray};

    use super::*;

    fn batch(rows: &[(i64, &str)]) -> RecordBatch {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| row.1)));
        RecordBatch::try_from_iter([("key", keys), ("text", texts)]).unwrap()
    }

    fn of(batches: &[&[(i64, &str)]]) -> Digest {
        let mut digest = Digest::default();
        batches.iter().for_each(|rows| digest.add(&batch(rows)).unwrap());
        digest
    }

    const LONG: &str = "a text that is not within its view";

    #[test]
    fn the_same_rows_in_order_are_right() {
        let made = of(&[&[(3, "c"), (1, LONG)], &[(2, "b")]]);
        assert_eq!(made.disorder, Some(1));
        assert_eq!(made.difference(&of(&[&[(1, LONG), (2, "b"), (3, "c")]])), None);
        assert_eq!(made.difference(&of(&[&[(1, LONG)], &[], &[(2, "b")], &[(3, "c")]])), None);
        let mut sum = Digest::default();
        [[(3, "c")], [(2, "b")], [(1, LONG)]].iter().for_each(|rows| sum.and(&of(&[rows])));
        assert_eq!(sum.difference(&of(&[&[(1, LONG), (2, "b"), (3, "c")]])), None);
    }

    #[test]
    fn other_rows_and_other_orders_are_found() {
        let made = of(&[&[(1, "a"), (2, "b"), (3, "c")]]);
        let wrong = |batches: &[&[(i64, &str)]]| made.difference(&of(batches)).unwrap();
        assert_eq!(wrong(&[&[(1, "a"), (2, "b")]]), "2 rows instead of 3");
        assert_eq!(wrong(&[&[(1, "a"), (2, "b")], &[(2, "b")]]), "other rows");
        assert_eq!(wrong(&[&[(1, "b"), (2, "a"), (3, "c")]]), "other rows");
        assert_eq!(
            wrong(&[&[(1, "a"), (3, "c"), (2, "b")]]),
            "row 2 does not belong behind the one before it"
        );
        assert_eq!(
            wrong(&[&[(2, "b")], &[(1, "a")], &[(3, "c")]]),
            "row 1 does not belong behind the one before it"
        );
    }

    #[test]
    fn it_travels_as_json() {
        let digest = of(&[&[(-1, "x"), (i64::MAX, "y")]]);
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
    }
}
