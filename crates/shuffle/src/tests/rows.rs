//! Random rows of many types, for property tests.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Int64Array, ListBuilder, NullArray,
        RecordBatch, StringArray, StringViewArray, StringViewBuilder, StructArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit},
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(super) struct Row {
    number: Option<i64>,
    text: Option<String>,
    code: Option<u8>,
    list: Option<Vec<Option<String>>>,
}

fn row() -> impl Strategy<Value = Row> {
    let text = prop_oneof!["[a-c]{0,3}", "[a-zü]{10,40}"];
    let list = prop::collection::vec(prop::option::of(text.clone()), 0..4);
    (prop::option::of(-3..3i64), prop::option::of(text), prop::option::of(0..5u8), prop::option::of(list))
        .prop_map(|(number, text, code, list)| Row { number, text, code, list })
}

/// Batches of 0 to 39 rows; some are slices of larger ones.
pub(super) fn batches() -> impl Strategy<Value = Vec<RecordBatch>> {
    let batch = (prop::collection::vec(row(), 0..40), 0..20usize).prop_map(|(rows, skipped)| {
        let skipped = skipped.min(rows.len());
        let batch = batch(&rows);
        batch.slice(skipped, rows.len() - skipped)
    });
    prop::collection::vec(batch, 0..6)
}

pub(super) fn schema() -> SchemaRef {
    batch(&[]).schema()
}

fn batch(rows: &[Row]) -> RecordBatch {
    let texts = || rows.iter().map(|row| row.text.as_deref());
    let codes: DictionaryArray<Int32Type> = rows
        .iter()
        .map(|row| row.code.map(|code| ["red", "green", "blue", "", "grey"][code as usize]))
        .collect();
    let mut lists = ListBuilder::new(StringViewBuilder::new());
    for row in rows {
        match &row.list {
            Some(list) => lists.append_value(list.clone()),
            None => lists.append_null(),
        }
    }
    let numbers = Int64Array::from_iter(rows.iter().map(|row| row.number));
    let views: ArrayRef = Arc::new(StringViewArray::from_iter(texts()));
    let flags: ArrayRef =
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.code.map(|code| code > 2))));
    let money = Decimal128Array::from_iter(rows.iter().map(|row| row.number.map(i128::from)));
    let times =
        TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.number)).with_timezone("+02:00");
    let fields = vec![
        Field::new("number", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("view", DataType::Utf8View, true),
        Field::new_dictionary("code", DataType::Int32, DataType::Utf8, true),
        Field::new_list("list", Field::new_list_field(DataType::Utf8View, true), true),
        Field::new_struct(
            "pair",
            vec![Field::new("v", DataType::Utf8View, true), Field::new("f", DataType::Boolean, true)],
            true,
        ),
        Field::new("money", DataType::Decimal128(12, 2), true),
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("+02:00".into())), true),
        Field::new("nothing", DataType::Null, true),
    ];
    let DataType::Struct(pair) = fields[5].data_type().clone() else { panic!("pair is a struct") };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(numbers),
        Arc::new(StringArray::from_iter(texts())),
        Arc::clone(&views),
        Arc::new(codes),
        Arc::new(lists.finish()),
        Arc::new(StructArray::try_new_with_length(pair, vec![views, flags], None, rows.len()).unwrap()),
        Arc::new(money.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(times),
        Arc::new(NullArray::new(rows.len())),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Batches as text, a row a line: equal for equal rows, whatever the batches' limits.
pub(super) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string();
    text.lines().filter(|line| line.starts_with("| ")).skip(1).map(str::to_owned).collect()
}

/// Pretty printing pads to the widest cell; this does not depend on the other rows.
pub(super) fn sorted_rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows: Vec<String> = lines(batches).iter().map(|line| line.replace(' ', "")).collect();
    rows.sort();
    rows
}
