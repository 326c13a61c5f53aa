//! How many bytes rows take, however their buffers are shared with other batches.

use arrow::{
    array::{Array, AsArray, GenericListArray, OffsetSizeTrait, RecordBatch},
    datatypes::DataType,
};

/// Bytes of a string or binary view itself; shorter values live inside it.
const VIEW_BYTES: usize = 16;

/// What `batch` would take if it shared nothing: the sum over its columns, headers not counted.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| array_bytes(column.as_ref())).sum()
}

/// A slice of an array counts as its own rows. A dictionary counts by the share of its values that the rows can name.
pub(crate) fn array_bytes(array: &dyn Array) -> usize {
    let validity = if array.nulls().is_some() { array.len().div_ceil(8) } else { 0 };
    match array.data_type() {
        DataType::Utf8View => {
            validity + array.len() * VIEW_BYTES + array.as_string_view().total_buffer_bytes_used()
        }
        DataType::BinaryView => {
            validity + array.len() * VIEW_BYTES + array.as_binary_view().total_buffer_bytes_used()
        }
        DataType::List(_) => validity + list_bytes::<i32>(array.as_list()),
        DataType::LargeList(_) => validity + list_bytes::<i64>(array.as_list()),
        DataType::Map(..) => {
            let map = array.as_map();
            let (first, last) = (map.offsets().first(), map.offsets().last());
            let (Some(first), Some(last)) = (first, last) else { return validity };
            let entries = map.entries().slice(*first as usize, (last - first) as usize);
            validity + (array.len() + 1) * size_of::<i32>() + array_bytes(&entries)
        }
        DataType::FixedSizeList(..) => validity + array_bytes(array.as_fixed_size_list().values().as_ref()),
        DataType::Struct(_) => {
            validity
                + array.as_struct().columns().iter().map(|child| array_bytes(child.as_ref())).sum::<usize>()
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values();
            let all = array_bytes(values.as_ref());
            let share = if values.len() > array.len() { all / values.len() * array.len() } else { all };
            validity + array_bytes(dictionary.keys()) + share
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size()),
    }
}

fn list_bytes<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> usize {
    let offsets = list.value_offsets();
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return 0 };
    let values = list.values().slice(first.as_usize(), last.as_usize() - first.as_usize());
    size_of_val(offsets) + array_bytes(values.as_ref())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Int64Array, ListArray, StringArray, StringViewArray, StructArray},
        datatypes::{Field, Int32Type, Int64Type},
    };

    use super::*;

    #[test]
    fn a_slice_counts_as_its_own_rows() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        assert_eq!(array_bytes(&numbers.slice(10, 100)), 800);
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|_| "x".repeat(50))));
        assert_eq!(array_bytes(&texts.slice(10, 100)), 101 * 4 + 100 * 50);
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..100).map(|_| Some(vec![Some(1); 8])),
        ));
        let ten = array_bytes(&lists.slice(5, 10));
        assert!((11 * 4 + 10 * 64..11 * 4 + 10 * 64 + 16).contains(&ten), "{ten}");
    }

    #[test]
    fn views_count_what_they_name() {
        let long = StringViewArray::from_iter_values((0..1000).map(|_| "y".repeat(100)));
        assert_eq!(array_bytes(&long.slice(0, 10)), 10 * 116);
        let short: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..10).map(|_| "abc")));
        assert_eq!(array_bytes(&short), 160);
        let field = Arc::new(Field::new("a", DataType::Utf8View, false));
        let nested = StructArray::new(vec![field].into(), vec![Arc::new(long.slice(0, 10))], None);
        assert_eq!(array_bytes(&nested), 10 * 116);
    }

    #[test]
    fn a_dictionary_counts_by_share() {
        let values: Vec<String> = (0..1000).map(|n| format!("{n:0100}")).collect();
        let dictionary: arrow::array::DictionaryArray<Int32Type> =
            values.iter().map(String::as_str).collect();
        let ten = array_bytes(&dictionary.slice(0, 10));
        assert!(ten < 10 * 120, "{ten}");
    }
}
