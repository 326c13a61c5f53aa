//! Compares two results value by value.
//!
//! Rows are compared as multisets, since SQL promises no order, and then the sort columns row by row, since there it
//! does; rows with equal keys may stand in any order. Floats may differ by a relative [`TOLERANCE`], because sums
//! depend on the order of their parts; everything else is exact.

use std::{cmp::Ordering, fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, Float64Array, NullArray, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
    row::{RowConverter, Rows, SortField},
    util::display::ArrayFormatter,
};

use super::super::output::CELLS;

/// Relative, for floats.
pub(crate) const TOLERANCE: f64 = 1e-9;

/// The first way in which a result is not what it should be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Difference {
    Columns {
        expected: Vec<String>,
        actual: Vec<String>,
    },
    Count {
        expected: usize,
        actual: usize,
    },
    /// A row of one side that has no partner on the other; the sides are sorted for the comparison.
    Row {
        expected: Option<String>,
        actual: Option<String>,
    },
    /// The rows are right but their order is not.
    Order {
        row: usize,
        expected: String,
        actual: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |row: &Option<String>| row.clone().unwrap_or_else(|| "no such row".to_owned());
        match self {
            Self::Columns { expected, actual } => {
                write!(f, "columns: expected ({}), got ({})", expected.join(", "), actual.join(", "))
            }
            Self::Count { expected, actual } => write!(f, "expected {expected} rows, got {actual}"),
            Self::Row { expected, actual } => {
                write!(f, "first differing row: expected {}, got {}", or_none(expected), or_none(actual))
            }
            Self::Order { row, expected, actual } => {
                write!(f, "order: expected {expected} in row {row}, got {actual}")
            }
        }
    }
}

/// `None` if `actual` holds what `expected` holds. `sort_columns` are those of [`super::baseline`].
///
/// # Errors
/// Arrow can't join or compare the batches.
pub(crate) fn difference(
    expected: (&SchemaRef, &[RecordBatch]),
    actual: (&SchemaRef, &[RecordBatch]),
    sort_columns: &[usize],
) -> Result<Option<Difference>, ArrowError> {
    difference_within(TOLERANCE, expected, actual, sort_columns)
}

/// The same with floats that may differ relatively by `tolerance`.
pub(crate) fn difference_within(
    tolerance: f64,
    expected: (&SchemaRef, &[RecordBatch]),
    actual: (&SchemaRef, &[RecordBatch]),
    sort_columns: &[usize],
) -> Result<Option<Difference>, ArrowError> {
    let side = |side: (&SchemaRef, &[RecordBatch])| Side::new(side.0, side.1, tolerance);
    let (expected, actual) = (side(expected)?, side(actual)?);
    if expected.columns != actual.columns {
        return Ok(Some(Difference::Columns { expected: expected.columns, actual: actual.columns }));
    }
    let rows = (expected.batch.num_rows(), actual.batch.num_rows());
    let found = match by_value(&expected, &actual) {
        None if rows.0 != rows.1 => Some(Difference::Count { expected: rows.0, actual: rows.1 }),
        None => by_order(&expected, &actual, sort_columns)?,
        Some((left, right)) => Some(Difference::Row {
            expected: left.map(|row| expected.show(row)).transpose()?,
            actual: right.map(|row| actual.show(row)).transpose()?,
        }),
    };
    Ok(found)
}

/// One result, in a form that compares.
struct Side {
    batch: RecordBatch,
    /// Name and type.
    columns: Vec<String>,
    /// All columns that are not floats, as bytes.
    exact: Rows,
    floats: Vec<Float64Array>,
    /// Row numbers, ascending by `exact` and then by `floats`.
    sorted: Vec<usize>,
    tolerance: f64,
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
}

fn to_floats(column: &ArrayRef) -> Result<Float64Array, ArrowError> {
    Ok(Float64Array::from(cast(column, &DataType::Float64)?.to_data()))
}

fn to_rows(columns: &[ArrayRef], rows: usize) -> Result<Rows, ArrowError> {
    if columns.is_empty() {
        // The converter learns the number of rows from a column.
        return to_rows(&[Arc::new(NullArray::new(rows))], rows);
    }
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    RowConverter::new(fields)?.convert_columns(columns)
}

impl Side {
    fn new(schema: &SchemaRef, batches: &[RecordBatch], tolerance: f64) -> Result<Self, ArrowError> {
        let schema = batches.first().map_or_else(|| SchemaRef::clone(schema), RecordBatch::schema);
        let batch = concat_batches(&schema, batches)?;
        let columns =
            schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        let (floats, exact): (Vec<ArrayRef>, Vec<ArrayRef>) =
            batch.columns().iter().cloned().partition(|column| is_float(column.data_type()));
        let floats = floats.iter().map(to_floats).collect::<Result<Vec<_>, _>>()?;
        let exact = to_rows(&exact, batch.num_rows())?;
        let mut side = Self { columns, exact, floats, sorted: Vec::new(), batch, tolerance };
        let mut sorted: Vec<usize> = (0..side.batch.num_rows()).collect();
        sorted.sort_by(|a, b| {
            side.exact.row(*a).cmp(&side.exact.row(*b)).then_with(|| side.cmp_floats(*a, *b))
        });
        side.sorted = sorted;
        Ok(side)
    }

    fn cmp_floats(&self, a: usize, b: usize) -> Ordering {
        let orders = self.floats.iter().map(|column| match (float(column, a), float(column, b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        });
        orders.fold(Ordering::Equal, Ordering::then)
    }

    fn show(&self, row: usize) -> Result<String, ArrowError> {
        show(self.batch.columns(), row)
    }
}

fn show(columns: &[ArrayRef], row: usize) -> Result<String, ArrowError> {
    let cell = |column: &ArrayRef| Ok(ArrayFormatter::try_new(column, &CELLS)?.value(row).to_string());
    let cells = columns.iter().map(cell).collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(format!("({})", cells.join(", ")))
}

/// Negative zero is zero, and there is one NaN.
fn float(column: &Float64Array, row: usize) -> Option<f64> {
    let value = column.is_valid(row).then(|| column.value(row))?;
    Some(if value.is_nan() { f64::NAN } else { value + 0.0 })
}

fn close(a: Option<f64>, b: Option<f64>, tolerance: f64) -> bool {
    match (a, b) {
        (Some(a), Some(b)) if a.is_nan() || b.is_nan() => a.is_nan() && b.is_nan(),
        (Some(a), Some(b)) => {
            a == b || ((a - b).abs() <= tolerance * a.abs().max(b.abs()) && (a - b).is_finite())
        }
        (None, None) => true,
        _ => false,
    }
}

/// The first rows, in sorted order, without a partner; `None` if all have one.
fn by_value(expected: &Side, actual: &Side) -> Option<(Option<usize>, Option<usize>)> {
    let (mut left, mut right) = (expected.sorted.as_slice(), actual.sorted.as_slice());
    loop {
        let (first, other) = match (left.first(), right.first()) {
            (None, None) => return None,
            (first, other) => (first.copied(), other.copied()),
        };
        let (Some(a), Some(b)) = (first, other) else { return Some((first, other)) };
        // A row that only one side has is shown as such.
        match expected.exact.row(a).cmp(&actual.exact.row(b)) {
            Ordering::Less => return Some((Some(a), None)),
            Ordering::Greater => return Some((None, Some(b))),
            Ordering::Equal => {}
        }
        let (group, rest) = split_group(expected, left);
        let (other_group, other_rest) = split_group(actual, right);
        if let Some(found) = unmatched(expected, group, actual, other_group) {
            return Some(found);
        }
        (left, right) = (rest, other_rest);
    }
}

/// The leading rows whose exact columns are equal, and the others.
fn split_group<'a>(side: &Side, sorted: &'a [usize]) -> (&'a [usize], &'a [usize]) {
    let Some(first) = sorted.first() else { return (&[], &[]) };
    let same = |row: &usize| side.exact.row(*row) == side.exact.row(*first);
    sorted.split_at(sorted.iter().take_while(|row| same(row)).count())
}

/// Pairs rows whose floats are close. Sorted as they are, a row's partner is nearly always the next one.
fn unmatched(
    expected: &Side,
    group: &[usize],
    actual: &Side,
    other: &[usize],
) -> Option<(Option<usize>, Option<usize>)> {
    let mut free: Vec<usize> = other.to_vec();
    for row in group {
        let is_partner = |candidate: &usize| {
            let mut pairs = expected.floats.iter().zip(&actual.floats);
            pairs.all(|(a, b)| close(float(a, *row), float(b, *candidate), expected.tolerance))
        };
        match free.iter().position(is_partner) {
            Some(at) => drop(free.remove(at)),
            None => return Some((Some(*row), free.first().copied())),
        }
    }
    free.first().map(|row| (None, Some(*row)))
}

/// Both sides hold the same rows, so that they are in the same order if their keys agree row by row.
fn by_order(
    expected: &Side,
    actual: &Side,
    sort_columns: &[usize],
) -> Result<Option<Difference>, ArrowError> {
    let pick = |side: &Side| {
        sort_columns.iter().map(|at| ArrayRef::clone(side.batch.column(*at))).collect::<Vec<_>>()
    };
    let (keys, other_keys) = (pick(expected), pick(actual));
    let mut wrong: Option<usize> = None;
    for (key, other) in keys.iter().zip(&other_keys) {
        let rows = 0..expected.batch.num_rows();
        let first = if is_float(key.data_type()) {
            let (a, b) = (to_floats(key)?, to_floats(other)?);
            rows.into_iter().find(|row| !close(float(&a, *row), float(&b, *row), expected.tolerance))
        } else {
            let (a, b) = (
                to_rows(&[ArrayRef::clone(key)], rows.len())?,
                to_rows(&[ArrayRef::clone(other)], rows.len())?,
            );
            rows.into_iter().find(|row| a.row(*row) != b.row(*row))
        };
        wrong = wrong.into_iter().chain(first).min();
    }
    let Some(row) = wrong else { return Ok(None) };
    Ok(Some(Difference::Order { row: row + 1, expected: show(&keys, row)?, actual: show(&other_keys, row)? }))
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    type Row = (Option<i64>, &'static str, Option<f64>);

    fn batch(rows: &[Row]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
        let names: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>());
        let values: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>());
        RecordBatch::try_from_iter_with_nullable([
            ("id", ids, true),
            ("name", names, true),
            ("v", values, true),
        ])
        .unwrap()
    }

    fn compare(expected: &[Row], actual: &[Row], keys: &[usize]) -> Option<Difference> {
        let (expected, actual) = (batch(expected), batch(actual));
        // Split, because results come in several batches.
        let half = actual.num_rows() / 2;
        let parts = [actual.slice(0, half), actual.slice(half, actual.num_rows() - half)];
        difference((&expected.schema(), from_ref(&expected)), (&actual.schema(), &parts), keys).unwrap()
    }

    const ROWS: [Row; 4] = [
        (Some(1), "a", Some(0.1)),
        (Some(1), "b", None),
        (Some(2), "b", Some(-3.5)),
        (None, "c", Some(1e300)),
    ];

    #[test]
    fn the_same_rows_in_any_order_are_equal() {
        let mut turned = ROWS;
        turned.reverse();
        assert_eq!(compare(&ROWS, &ROWS, &[]), None);
        assert_eq!(compare(&ROWS, &turned, &[]), None);
        assert_eq!(compare(&[], &[], &[0]), None);
    }

    #[test]
    fn one_wrong_value_is_found_and_shown() {
        let mut wrong = ROWS;
        wrong[1].1 = "x";
        let found = compare(&ROWS, &wrong, &[]).unwrap().to_string();
        assert!(found.contains("(1, b, NULL)"), "{found}");
        let mut wrong = ROWS;
        wrong[2].2 = Some(-3.500_001);
        let found = compare(&ROWS, &wrong, &[]).unwrap().to_string();
        assert!(found.contains("expected (2, b, -3.5), got (2, b, -3.500001)"), "{found}");
        let mut wrong = ROWS;
        wrong[1].2 = Some(0.0);
        assert!(matches!(compare(&ROWS, &wrong, &[]), Some(Difference::Row { .. })));
        let mut wrong = ROWS;
        wrong[0].0 = None;
        assert!(matches!(compare(&ROWS, &wrong, &[]), Some(Difference::Row { .. })));
    }

    #[test]
    fn missing_and_repeated_rows_are_found() {
        assert!(
            compare(&ROWS, &ROWS[1..], &[])
                .unwrap()
                .to_string()
                .contains("expected (1, a, 0.1), got no such row")
        );
        let twice = [ROWS[0], ROWS[0], ROWS[1], ROWS[2]];
        assert!(compare(&ROWS, &twice, &[]).is_some());
        assert!(compare(&twice, &ROWS, &[]).is_some());
        assert!(
            compare(&ROWS[..2], &[ROWS[0], ROWS[1], ROWS[1]], &[])
                .unwrap()
                .to_string()
                .contains("no such row")
        );
    }

    #[test]
    fn floats_may_differ_in_their_last_bits_only() {
        let rows = |v: f64| [(Some(1), "a", Some(v))];
        assert_eq!(compare(&rows(0.1 + 0.2), &rows(0.3), &[]), None);
        assert_eq!(compare(&rows(0.0), &rows(-0.0), &[]), None);
        assert_eq!(compare(&rows(f64::NAN), &rows(-f64::NAN), &[]), None);
        assert_eq!(compare(&rows(1e9), &rows(1e9 + 0.5), &[]), None);
        for (a, b) in
            [(1.0, 1.000_000_01), (0.0, 1e-12), (f64::INFINITY, 1e308), (f64::NAN, 1.0), (1.0, -1.0)]
        {
            assert!(compare(&rows(a), &rows(b), &[]).is_some(), "{a} {b}");
        }
    }

    #[test]
    fn close_floats_pair_up_whatever_their_sorted_order() {
        let tiny = 1.0 + 1e-12;
        let ids = |rows: [(f64, f64); 2]| {
            let first: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.map(|row| row.0)));
            let second: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.map(|row| row.1)));
            RecordBatch::try_from_iter([("x", first), ("y", second)]).unwrap()
        };
        let (a, b) = (ids([(1.0, 5.0), (tiny, 3.0)]), ids([(1.0, 3.0), (1.0, 5.0)]));
        assert_eq!(difference((&a.schema(), from_ref(&a)), (&b.schema(), from_ref(&b)), &[]).unwrap(), None);
    }

    #[test]
    fn order_matters_only_where_it_is_asked_for() {
        let swapped = [ROWS[1], ROWS[0], ROWS[2], ROWS[3]];
        // Rows 1 and 2 tie on the first column.
        assert_eq!(compare(&ROWS, &swapped, &[0]), None);
        assert!(matches!(compare(&ROWS, &swapped, &[0, 1]), Some(Difference::Order { row: 1, .. })));
        let late = [ROWS[0], ROWS[2], ROWS[1], ROWS[3]];
        let found = compare(&ROWS, &late, &[0]).unwrap();
        assert_eq!(found.to_string(), "order: expected (1) in row 2, got (2)");
    }

    #[test]
    fn columns_must_agree_in_name_and_type() {
        let a = batch(&ROWS);
        let b = a.project(&[0, 1]).unwrap();
        let found = difference((&a.schema(), from_ref(&a)), (&b.schema(), from_ref(&b)), &[]).unwrap();
        assert!(matches!(found, Some(Difference::Columns { .. })));
    }
}
