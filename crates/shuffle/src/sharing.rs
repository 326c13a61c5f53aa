//! Batches that hold on to much more memory than their rows use, and their cure.
//!
//! A filtered or split array of string views still owns every buffer of the array that it came from, and Arrow IPC
//! writes all of them. The same holds for a dictionary's values. So such arrays are rebuilt before they are kept or sent.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, FixedSizeListArray, GenericByteViewArray,
        GenericListArray, MapArray, OffsetSizeTrait, RecordBatch, RecordBatchOptions, StructArray,
    },
    buffer::{OffsetBuffer, ScalarBuffer},
    compute::filter,
    datatypes::{ArrowDictionaryKeyType, ArrowNativeType, ByteViewType, DataType},
    downcast_dictionary_array,
    error::ArrowError,
};

/// Waste below this many bytes an array is left alone: copying costs more than it frees.
const TOLERATED_WASTE_BYTES: usize = 16 * 1024;

/// How much unused memory an array may hold on to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slack {
    /// As much as it uses. For batches that stay in memory, where siblings share the rest.
    Kept,
    /// Half of what it uses. For batches that are encoded.
    Encoded,
}

impl Slack {
    fn exceeded(self, used: usize, held: usize) -> bool {
        let allowed = match self {
            Self::Kept => used * 2,
            Self::Encoded => used + used / 2,
        };
        held > allowed + TOLERATED_WASTE_BYTES
    }
}

/// `batch` with its wasteful columns rebuilt; the others are shared.
///
/// # Errors
/// Only for arrays that are inconsistent in themselves.
pub(crate) fn compact(batch: RecordBatch, slack: Slack) -> Result<RecordBatch, ArrowError> {
    let rebuilt: Vec<Option<ArrayRef>> =
        batch.columns().iter().map(|column| rebuild(column, slack)).collect::<Result<_, _>>()?;
    if rebuilt.iter().all(Option::is_none) {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let (schema, columns, _) = batch.into_parts();
    let columns = columns.into_iter().zip(rebuilt).map(|(old, new)| new.unwrap_or(old)).collect();
    RecordBatch::try_new_with_options(schema, columns, &options)
}

/// `None` when the array is fine as it is.
fn rebuild(array: &ArrayRef, slack: Slack) -> Result<Option<ArrayRef>, ArrowError> {
    match array.data_type() {
        DataType::Utf8View => Ok(view(array.as_string_view(), slack)),
        DataType::BinaryView => Ok(view(array.as_binary_view(), slack)),
        DataType::Dictionary(..) => dictionary(array),
        DataType::Struct(fields) if fields.iter().any(|f| shares(f.data_type())) => structs(array, slack),
        DataType::List(field) if shares(field.data_type()) => list::<i32>(array.as_list(), slack),
        DataType::LargeList(field) if shares(field.data_type()) => list::<i64>(array.as_list(), slack),
        DataType::Map(field, _) if shares(field.data_type()) => map(array.as_map(), slack),
        DataType::FixedSizeList(field, size) if shares(field.data_type()) => {
            let lists = array.as_fixed_size_list();
            let Some(values) = rebuild(lists.values(), slack)? else { return Ok(None) };
            let rebuilt =
                FixedSizeListArray::try_new(Arc::clone(field), *size, values, lists.nulls().cloned())?;
            Ok(Some(Arc::new(rebuilt)))
        }
        _ => Ok(None),
    }
}

/// Whether a slice of such an array may own more than its rows, after Arrow has cut its plain buffers.
fn shares(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView | DataType::Dictionary(..) => true,
        DataType::Struct(fields) => fields.iter().any(|f| shares(f.data_type())),
        DataType::List(f) | DataType::LargeList(f) | DataType::Map(f, _) | DataType::FixedSizeList(f, _) => {
            shares(f.data_type())
        }
        _ => false,
    }
}

fn view<T: ByteViewType>(array: &GenericByteViewArray<T>, slack: Slack) -> Option<ArrayRef> {
    let held: usize = array.data_buffers().iter().map(|buffer| buffer.len()).sum();
    if held <= TOLERATED_WASTE_BYTES || !slack.exceeded(array.total_buffer_bytes_used(), held) {
        return None;
    }
    Some(Arc::new(array.gc()))
}

fn dictionary(array: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    let values = array.as_any_dictionary().values();
    if values.len() <= array.len().saturating_mul(2)
        || values.get_buffer_memory_size() <= TOLERATED_WASTE_BYTES
    {
        return Ok(None);
    }
    let array = array.as_ref();
    downcast_dictionary_array!(
        array => only_named(array).map(Some),
        _ => Ok(None)
    )
}

/// The same rows over only the values that they name.
fn only_named<K: ArrowDictionaryKeyType>(array: &DictionaryArray<K>) -> Result<ArrayRef, ArrowError> {
    let named = array.occupancy();
    let mut moved = vec![K::Native::default(); array.values().len()];
    for (new, old) in named.set_indices().enumerate() {
        if let (Some(slot), Some(key)) = (moved.get_mut(old), K::Native::from_usize(new)) {
            *slot = key;
        }
    }
    // The key below a null may be anything.
    let keys = array.keys().unary::<_, K>(|key| moved.get(key.as_usize()).copied().unwrap_or_default());
    let values = filter(array.values(), &BooleanArray::new(named, None))?;
    Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
}

fn structs(array: &ArrayRef, slack: Slack) -> Result<Option<ArrayRef>, ArrowError> {
    let array = array.as_struct();
    let rebuilt: Vec<_> =
        array.columns().iter().map(|child| rebuild(child, slack)).collect::<Result<_, _>>()?;
    if rebuilt.iter().all(Option::is_none) {
        return Ok(None);
    }
    let columns =
        array.columns().iter().zip(rebuilt).map(|(old, new)| new.unwrap_or_else(|| Arc::clone(old)));
    Ok(Some(Arc::new(StructArray::try_new(
        array.fields().clone(),
        columns.collect(),
        array.nulls().cloned(),
    )?)))
}

/// Offsets that start at zero, with the range of children that they had named.
fn rebased<O: OffsetSizeTrait>(offsets: &[O]) -> (OffsetBuffer<O>, usize, usize) {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
        return (OffsetBuffer::new_empty(), 0, 0);
    };
    let moved: ScalarBuffer<O> = offsets.iter().map(|&offset| offset - first).collect();
    (OffsetBuffer::new(moved), first.as_usize(), (last - first).as_usize())
}

fn list<O: OffsetSizeTrait>(
    array: &GenericListArray<O>,
    slack: Slack,
) -> Result<Option<ArrayRef>, ArrowError> {
    let (DataType::List(field) | DataType::LargeList(field)) = array.data_type() else { return Ok(None) };
    let (offsets, first, length) = rebased(array.value_offsets());
    let Some(values) = rebuild(&array.values().slice(first, length), slack)? else { return Ok(None) };
    let rebuilt = GenericListArray::<O>::try_new(Arc::clone(field), offsets, values, array.nulls().cloned())?;
    Ok(Some(Arc::new(rebuilt)))
}

fn map(array: &MapArray, slack: Slack) -> Result<Option<ArrayRef>, ArrowError> {
    let DataType::Map(field, ordered) = array.data_type() else { return Ok(None) };
    let (offsets, first, length) = rebased(array.value_offsets());
    let entries: ArrayRef = Arc::new(array.entries().slice(first, length));
    let Some(entries) = structs(&entries, slack)? else { return Ok(None) };
    let entries = entries.as_struct().clone();
    let rebuilt = MapArray::try_new(Arc::clone(field), offsets, entries, array.nulls().cloned(), *ordered)?;
    Ok(Some(Arc::new(rebuilt)))
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ListBuilder, StringViewArray, StringViewBuilder},
        datatypes::{Field, Int32Type, Schema},
    };

    use super::*;

    fn batch(column: ArrayRef) -> RecordBatch {
        let field = Field::new("c", column.data_type().clone(), true);
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap()
    }

    fn held(batch: &RecordBatch) -> usize {
        batch.column(0).get_buffer_memory_size()
    }

    fn texts(rows: usize) -> impl Iterator<Item = String> {
        (0..rows).map(|n| format!("{n:0200}"))
    }

    #[track_caller]
    fn shrinks(column: ArrayRef) {
        let sparse = batch(column.slice(column.len() / 2, 5));
        let small = compact(sparse.clone(), Slack::Kept).unwrap();
        assert_eq!(small, sparse);
        assert!(held(&small) * 10 < held(&sparse), "{} of {}", held(&small), held(&sparse));
        let whole = batch(column);
        assert_eq!(held(&compact(whole.clone(), Slack::Encoded).unwrap()), held(&whole));
    }

    #[test]
    fn sparse_arrays_shrink_and_dense_ones_are_left_alone() {
        shrinks(Arc::new(StringViewArray::from_iter_values(texts(5_000))));
        let names: Vec<String> = texts(5_000).collect();
        let coded: DictionaryArray<Int32Type> =
            names.iter().enumerate().map(|(n, name)| (n % 3 != 0).then_some(name.as_str())).collect();
        shrinks(Arc::new(coded));
        let mut lists = ListBuilder::new(StringViewBuilder::new());
        for text in texts(5_000) {
            lists.append_value([Some(text), None]);
        }
        let lists: ArrayRef = Arc::new(lists.finish());
        shrinks(Arc::clone(&lists));
        let field = Arc::new(Field::new("l", lists.data_type().clone(), true));
        shrinks(Arc::new(StructArray::new(vec![field].into(), vec![lists], None)));
    }
}
