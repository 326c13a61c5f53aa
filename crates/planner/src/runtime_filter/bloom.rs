//! The keys of a build side: what is sent of them, and the filter that is made of it.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch},
        buffer::BooleanBuffer,
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    common::{
        ScalarValue,
        hash_utils::{RandomState, create_hashes},
        internal_datafusion_err,
    },
    error::Result,
    parquet::bloom_filter::Sbbf,
};

/// Most keys of a filter, 32 MiB of hashes that each of its readers reads; with more of them all rows pass.
pub(crate) const MAX_KEYS: usize = 1 << 22;
/// Hashes in one row of a summary, 64 KiB.
const HASHES_IN_ROW: usize = 8 * 1_024;
/// Of the Bloom filter, for each key: one row in several hundred passes by mistake.
const BYTES_PER_KEY: usize = 2;
/// Any will do that is the same on each node.
const SEED: u64 = 0x706f_6c79_626f_6c6f;

/// A value that is longer is no bound of a range: that key has none then.
const MAX_BOUND_BYTES: usize = 256;

/// The schema of a summary: hashes of keys, eight bytes each, none if there are too many; and the least and the greatest value
/// of each key, the same in all rows of a task, null if they are not told.
pub(crate) fn summary_schema(keys: &[DataType]) -> SchemaRef {
    let mut fields = vec![Field::new("hashes", DataType::Binary, true)];
    for (number, kind) in keys.iter().enumerate() {
        fields.push(Field::new(format!("min{number}"), kind.clone(), true));
        fields.push(Field::new(format!("max{number}"), kind.clone(), true));
    }
    Arc::new(Schema::new(fields))
}

/// One hash a row over all of `keys`; meaningless where one of them is null.
pub(crate) fn hash_rows(keys: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0; rows];
    create_hashes(keys, &RandomState::with_seed(SEED), &mut hashes)?;
    Ok(hashes)
}

/// The rows of which no key is null; `None` if that is all of them.
pub(crate) fn without_nulls(keys: &[ArrayRef], rows: usize) -> Option<BooleanArray> {
    if keys.iter().all(|key| key.logical_null_count() == 0) {
        return None;
    }
    let nulls: Vec<_> = keys.iter().filter_map(|key| key.logical_nulls()).collect();
    let complete = BooleanBuffer::collect_bool(rows, |row| nulls.iter().all(|nulls| nulls.is_valid(row)));
    Some(BooleanArray::new(complete, None))
}

/// The rows of a summary.
///
/// `hashes` is `None` if there were too many; `ranges` has the least and the greatest value of each key.
pub(crate) fn write_summary(
    schema: SchemaRef,
    hashes: Option<&[u64]>,
    ranges: &[(ScalarValue, ScalarValue)],
) -> Result<RecordBatch> {
    let rows: Vec<Option<Vec<u8>>> = match hashes {
        Some(hashes) => {
            let bytes = |part: &[u64]| Some(part.iter().flat_map(|hash| hash.to_le_bytes()).collect());
            hashes.chunks(HASHES_IN_ROW).map(bytes).collect()
        }
        None => vec![None],
    };
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(rows.iter().map(Option::as_deref).collect::<BinaryArray>())];
    for (min, max) in ranges {
        let known = is_short(min) && is_short(max);
        for bound in [min, max] {
            let unknown = ScalarValue::try_new_null(&bound.data_type())?;
            columns.push(if known { bound } else { &unknown }.to_array_of_size(rows.len())?);
        }
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn is_short(bound: &ScalarValue) -> bool {
    bound.size() <= size_of::<ScalarValue>() + MAX_BOUND_BYTES
}

/// What the summaries of all tasks of a stage say together.
pub(crate) struct Keys {
    hashes: Vec<u64>,
    /// Of one of them it is not known.
    incomplete: bool,
    ranges: Vec<Range>,
}

/// What holds all values of a key.
#[derive(Clone, PartialEq, Debug)]
enum Range {
    Empty,
    Within(ScalarValue, ScalarValue),
    /// A task had values and did not tell their bounds.
    Unknown,
}

impl Keys {
    pub(crate) fn new(keys: usize) -> Self {
        Self { hashes: Vec::new(), incomplete: false, ranges: vec![Range::Empty; keys] }
    }

    /// Adds rows of a summary.
    ///
    /// # Errors
    /// They are none.
    pub(crate) fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let hashes = rows.column(0).as_binary_opt::<i32>();
        let hashes =
            hashes.ok_or_else(|| internal_datafusion_err!("a summary of keys without its hashes"))?;
        for hashes in hashes {
            let Some(hashes) = hashes else {
                self.incomplete = true;
                continue;
            };
            let (hashes, _) = hashes.as_chunks();
            self.hashes.extend(hashes.iter().map(|hash| u64::from_le_bytes(*hash)));
        }
        for row in 0..rows.num_rows() {
            for (number, range) in self.ranges.iter_mut().enumerate() {
                let min = ScalarValue::try_from_array(rows.column(1 + 2 * number), row)?;
                let max = ScalarValue::try_from_array(rows.column(2 + 2 * number), row)?;
                range.widen(min, max);
            }
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// More will not help: all rows must pass.
    pub(crate) fn are_too_many(&self) -> bool {
        self.incomplete || self.hashes.len() > MAX_KEYS
    }

    /// `None` if nothing is known that could hold a row back.
    pub(crate) fn into_filter(self) -> Option<KeyFilter> {
        if self.are_too_many() {
            return None;
        }
        let mut bloom = Sbbf::new_with_num_of_bytes(Self::filter_bytes(self.hashes.len()));
        self.hashes.iter().for_each(|hash| bloom.insert(hash));
        let ranges = self.ranges.into_iter().map(Range::known).collect();
        Some(KeyFilter { bloom, is_empty: self.hashes.is_empty(), ranges })
    }

    /// Of the filter over so many keys.
    pub(crate) fn filter_bytes(keys: usize) -> usize {
        // As `Sbbf` rounds it.
        (keys * BYTES_PER_KEY).next_power_of_two().max(32)
    }
}

impl Range {
    /// By the bounds in a row of a summary. A row has hashes, and so its task had values.
    fn widen(&mut self, min: ScalarValue, max: ScalarValue) {
        *self = match std::mem::replace(self, Self::Unknown) {
            Self::Unknown => return,
            _ if min.is_null() || max.is_null() => return,
            Self::Empty => Self::Within(min, max),
            Self::Within(least, greatest) => {
                let least = if min < least { min } else { least };
                Self::Within(least, if max > greatest { max } else { greatest })
            }
        };
    }

    fn known(self) -> Option<(ScalarValue, ScalarValue)> {
        match self {
            Self::Within(min, max) => Some((min, max)),
            Self::Empty | Self::Unknown => None,
        }
    }
}

/// Tells rows that may have a match from those that have none.
pub(crate) struct KeyFilter {
    bloom: Sbbf,
    is_empty: bool,
    ranges: Vec<Option<(ScalarValue, ScalarValue)>>,
}

impl KeyFilter {
    /// There are no keys: nothing passes.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The least and the greatest value of each key of which they are known.
    pub(crate) fn ranges(&self) -> &[Option<(ScalarValue, ScalarValue)>] {
        &self.ranges
    }

    pub(crate) fn passes(&self, keys: &[ArrayRef], rows: usize) -> Result<BooleanArray> {
        let hashes = hash_rows(keys, rows)?;
        let mut passes = BooleanBuffer::collect_bool(rows, |row| self.bloom.check(&hashes[row]));
        if let Some(complete) = without_nulls(keys, rows) {
            passes = &passes & complete.values();
        }
        Ok(BooleanArray::new(passes, None))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;

    fn columns(numbers: &[Option<i64>], words: &[Option<&str>]) -> Vec<ArrayRef> {
        vec![Arc::new(Int64Array::from(numbers.to_vec())), Arc::new(StringArray::from(words.to_vec()))]
    }

    fn summary(keys: &[ArrayRef]) -> RecordBatch {
        let kinds: Vec<_> = keys.iter().map(|key| key.data_type().clone()).collect();
        let hashes = hash_rows(keys, keys[0].len()).unwrap();
        let range = |key: &ArrayRef| {
            let value = |row| ScalarValue::try_from_array(key, row).unwrap();
            (value(0), value(key.len() - 1))
        };
        let ranges: Vec<_> = keys.iter().map(range).collect();
        write_summary(summary_schema(&kinds), Some(&hashes), &ranges).unwrap()
    }

    #[test]
    fn what_is_among_the_keys_of_any_task_passes_and_hardly_anything_else() {
        let few = columns(&[Some(1), Some(2)], &[Some("a"), Some("b")]);
        let numbers: Vec<_> = (10..30_000).map(Some).collect();
        let many = columns(&numbers, &vec![Some("x"); numbers.len()]);
        let mut keys = Keys::new(2);
        keys.add(&summary(&few)).unwrap();
        keys.add(&summary(&many)).unwrap();
        assert!(!keys.are_too_many());
        assert_eq!(keys.len(), 2 + numbers.len());
        let filter = keys.into_filter().unwrap();
        assert_eq!(filter.passes(&few, 2).unwrap().true_count(), 2);
        assert_eq!(filter.passes(&many, numbers.len()).unwrap().true_count(), numbers.len());
        let strangers: Vec<_> = (100_000..110_000).map(Some).collect();
        let strangers = columns(&strangers, &vec![Some("x"); 10_000]);
        let passed = filter.passes(&strangers, 10_000).unwrap().true_count();
        assert!(passed < 100, "{passed} of 10,000");
        let range = filter.ranges()[0].clone().unwrap();
        assert_eq!(range, (ScalarValue::from(1i64), ScalarValue::from(29_999i64)));
    }

    #[test]
    fn a_null_has_no_match() {
        let keys_of_build = columns(&[None, Some(2)], &[Some("a"), Some("b")]);
        let mut keys = Keys::new(2);
        keys.add(&summary(&keys_of_build)).unwrap();
        let filter = keys.into_filter().unwrap();
        let passes = filter.passes(&keys_of_build, 2).unwrap();
        assert_eq!(passes, BooleanArray::from(vec![false, true]));
    }

    #[test]
    fn a_key_of_which_one_task_has_very_long_values_has_no_range() {
        let long = "z".repeat(1_000);
        let (few, one) = (columns(&[Some(1)], &[Some("a")]), columns(&[Some(2)], &[Some(&long)]));
        for tasks in [[&few, &one], [&one, &few]] {
            let mut keys = Keys::new(2);
            for task in tasks {
                keys.add(&summary(task)).unwrap();
            }
            let filter = keys.into_filter().unwrap();
            assert!(filter.ranges()[0].is_some());
            assert_eq!(filter.ranges()[1], None);
            assert_eq!(filter.passes(&one, 1).unwrap().true_count(), 1);
        }
    }

    #[test]
    fn one_task_with_too_many_keys_lets_all_pass_and_no_key_at_all_none() {
        let kinds = [DataType::Int64];
        let nothing = ScalarValue::Int64(None);
        let too_many =
            write_summary(summary_schema(&kinds), None, &[(nothing.clone(), nothing.clone())]).unwrap();
        let mut keys = Keys::new(1);
        keys.add(&too_many).unwrap();
        assert!(keys.are_too_many());
        assert!(keys.into_filter().is_none());
        let none = write_summary(summary_schema(&kinds), Some(&[]), &[(nothing.clone(), nothing)]).unwrap();
        assert_eq!(none.num_rows(), 0);
        let mut keys = Keys::new(1);
        keys.add(&none).unwrap();
        let filter = keys.into_filter().unwrap();
        assert!(filter.is_empty());
        assert_eq!(filter.ranges(), [None]);
        let some: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![7]))];
        assert_eq!(filter.passes(&some, 1).unwrap().true_count(), 0);
    }
}
