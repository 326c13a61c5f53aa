//! Window functions, each over an order of all columns of its source, so that rows that tie are equal.
//!
//! Equal rows still get different numbers, and two windows may number them in different orders. So only the functions
//! of the first window of a block may tell equal rows apart.

use rand::Rng;

use super::{
    Generator,
    blocks::{Block, named},
    columns::{Column, Kind},
    source::Source,
};

/// How many functions there are, and how many of them, the first, give equal rows equal values.
const FUNCTIONS: u32 = 11;
const EQUAL_FOR_EQUAL_ROWS: u32 = 5;

impl Generator<'_> {
    pub(super) fn windows(&mut self) -> Block {
        let source = self.source();
        self.windows_of(source)
    }

    pub(super) fn windows_of(&mut self, source: Source) -> Block {
        let mut values: Vec<Column> = Vec::new();
        for _ in 0..self.random.random_range(1..=3) {
            values.push(self.expression(&source.columns));
        }
        let over = self.over(&source.columns);
        for _ in 0..self.random.random_range(1..=3) {
            // Several functions of one window are one operator.
            let value = if self.chance(60) {
                self.window(&source.columns, &over, FUNCTIONS)
            } else {
                let other = self.over(&source.columns);
                self.window(&source.columns, &other, EQUAL_FOR_EQUAL_ROWS)
            };
            values.push(value);
        }
        let (list, columns) = named(values);
        Block { sql: format!("SELECT {list} {}", source.clause()), columns, rows: source.rows }
    }

    fn over(&mut self, columns: &[Column]) -> Over {
        let exact: Vec<Column> =
            columns.iter().filter(|column| column.kind != Kind::Opaque).cloned().collect();
        let partition = self.pick(&exact).filter(|_| self.random.random_bool(0.75));
        let partition = partition.map(|column| format!("PARTITION BY {} ", column.name)).unwrap_or_default();
        let first = self.pick(&exact).map(|column| column.name.clone());
        let mut keys: Vec<String> = Vec::new();
        if let Some(first) = &first {
            keys.push(self.direction(first.clone()));
        }
        let rest = columns.iter().filter(|column| Some(&column.name) != first.as_ref());
        keys.extend(rest.map(|column| column.name.clone()));
        Over { partition, first, order: keys.join(", ") }
    }

    /// One of the first `functions`.
    fn window(&mut self, columns: &[Column], over: &Over, functions: u32) -> Column {
        let Over { partition, first, order } = over;
        let total = format!("OVER ({partition}ORDER BY {order})");
        let ties =
            first.as_ref().map_or_else(|| total.clone(), |key| format!("OVER ({partition}ORDER BY {key})"));
        let Some(column) = self.pick(columns).cloned() else {
            return Column::new(format!("rank() {ties}"), Kind::Opaque, 1);
        };
        let (name, kind) = (&column.name, column.kind);
        let n = self.random.random_range(1..5);
        let sums = kind == Kind::Int || kind == Kind::Amount;
        let sum = if sums { format!("sum({name})") } else { format!("count({name})") };
        let summed = if kind == Kind::Amount { Kind::Opaque } else { Kind::Int };
        let frame = format!("ROWS BETWEEN {n} PRECEDING AND {} FOLLOWING", n - 1);
        let (call, kind) = match self.random.random_range(0..functions) {
            0 => (format!("rank() {ties}"), Kind::Opaque),
            1 => (format!("dense_rank() {ties}"), Kind::Opaque),
            2 => (format!("{sum} {ties}"), summed),
            3 => (format!("{sum} OVER ({partition})"), summed),
            4 => (format!("first_value({name}) {total}"), kind),
            5 => (format!("{sum} OVER ({partition}ORDER BY {order} {frame})"), summed),
            6 => (format!("max({name}) OVER ({partition}ORDER BY {order} {frame})"), kind),
            7 => (format!("lag({name}, {n}) {total}"), kind),
            8 => (format!("lead({name}) {total}"), kind),
            9 => (format!("ntile({n}) {total}"), Kind::Opaque),
            _ => (format!("CAST(row_number() {total} AS BIGINT)"), Kind::Int),
        };
        Column::skewed(call, kind)
    }
}

/// A window's partition, its first key, and its whole order.
#[derive(Debug, Clone)]
struct Over {
    partition: String,
    first: Option<String>,
    order: String,
}
