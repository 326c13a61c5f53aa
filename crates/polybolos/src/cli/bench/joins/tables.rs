//! The tables that are joined.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringViewArray},
    error::ArrowError,
};

use super::super::data::{Table, integers, scattered};

/// Rows of `sales` for one of `items`: small enough to be broadcast.
const SALES_OF_AN_ITEM: u64 = 100;
/// Rows of `sales` for one of `parts`.
const SALES_OF_A_PART: u64 = 4;
/// The part that half of the sales have by `skewed_part`.
const FAVOURITE: u64 = 7;
const CATEGORIES: u64 = 25;
const GRADES: u64 = 100;
const CUSTOMERS: u64 = 1_000_000;

/// `sales` with so many rows, and what it is joined with.
pub(super) fn tables(rows: u64) -> Vec<Table> {
    let (items, parts) = (rows.div_ceil(SALES_OF_AN_ITEM), rows.div_ceil(SALES_OF_A_PART));
    vec![
        Table { name: "sales", rows, make: Arc::new(move |numbers| sales(numbers, items, parts)) },
        Table { name: "items", rows: items, make: Arc::new(of_items) },
        Table { name: "parts", rows: parts, make: Arc::new(of_parts) },
    ]
}

/// Each column is drawn for itself.
fn drawn(numbers: &Range<u64>, column: u64, below: u64) -> impl Iterator<Item = u64> + use<> {
    numbers.clone().map(move |number| scattered(number ^ (column << 56)) % below)
}

fn sales(numbers: Range<u64>, items: u64, parts: u64) -> Result<RecordBatch, ArrowError> {
    let part = || drawn(&numbers, 1, parts);
    let skewed =
        part().zip(drawn(&numbers, 2, 2)).map(|(part, side)| if side == 0 { FAVOURITE } else { part });
    let columns: [(&str, ArrayRef); 6] = [
        ("item", integers(drawn(&numbers, 0, items))),
        ("part", integers(part())),
        ("skewed_part", integers(skewed)),
        ("customer", integers(drawn(&numbers, 3, CUSTOMERS))),
        ("quantity", integers(drawn(&numbers, 4, 50))),
        ("cents", integers(drawn(&numbers, 5, 100_000))),
    ];
    RecordBatch::try_from_iter(columns)
}

fn of_items(numbers: Range<u64>) -> Result<RecordBatch, ArrowError> {
    let names = numbers.clone().map(|number| format!("the item with number {number}"));
    let columns: [(&str, ArrayRef); 3] = [
        ("item", integers(numbers.clone())),
        ("category", integers(drawn(&numbers, 6, CATEGORIES))),
        ("name", Arc::new(StringViewArray::from_iter_values(names))),
    ];
    RecordBatch::try_from_iter(columns)
}

fn of_parts(numbers: Range<u64>) -> Result<RecordBatch, ArrowError> {
    let columns: [(&str, ArrayRef); 3] = [
        ("part", integers(numbers.clone())),
        ("grade", integers(drawn(&numbers, 7, GRADES))),
        ("stock", integers(drawn(&numbers, 8, 10_000))),
    ];
    RecordBatch::try_from_iter(columns)
}

#[cfg(test)]
mod tests {
    use arrow::{array::AsArray, datatypes::Int64Type};

    use super::*;

    #[test]
    fn half_of_the_sales_have_the_favourite_by_their_skewed_part_only() {
        let batch = sales(0..8_192, 100, 2_048).unwrap();
        let favourites = |column: &str| {
            let parts = batch.column_by_name(column).unwrap().as_primitive::<Int64Type>();
            assert!(parts.values().iter().all(|part| (0..2_048).contains(part)));
            parts.values().iter().filter(|part| **part == FAVOURITE.cast_signed()).count()
        };
        assert!(favourites("part") < 20);
        assert!((3_900..4_300).contains(&favourites("skewed_part")), "{}", favourites("skewed_part"));
        assert_eq!(batch, sales(0..8_192, 100, 2_048).unwrap());
    }

    #[test]
    fn each_sale_has_an_item_and_a_part() {
        let rows: Vec<(&str, u64)> = tables(500_001).iter().map(|table| (table.name, table.rows)).collect();
        assert_eq!(rows, [("sales", 500_001), ("items", 5_001), ("parts", 125_001)]);
        let items = of_items(0..3).unwrap();
        assert_eq!(items.column(0).as_primitive::<Int64Type>().values().as_ref(), [0, 1, 2]);
        assert_eq!(of_parts(3..3).unwrap().num_rows(), 0);
    }
}
