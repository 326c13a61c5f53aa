//! One `SELECT` over a source. Its columns are named `c1`, `c2` ….

use rand::Rng;

use super::{
    Generator,
    columns::{Column, Kind, of_kind},
    source::Source,
};

/// A query without an order.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) sql: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: u64,
}

/// Numbers the columns, and gives the list for after `SELECT`.
pub(super) fn named(values: Vec<Column>) -> (String, Vec<Column>) {
    let name = |(number, value): (usize, Column)| {
        let name = format!("c{number}");
        (format!("{} AS {name}", value.name), Column { name, ..value })
    };
    let (list, columns): (Vec<String>, Vec<Column>) = (1..).zip(values).map(name).unzip();
    (list.join(", "), columns)
}

impl Generator<'_> {
    pub(super) fn projection(&mut self) -> Block {
        let source = self.source();
        self.project(source)
    }

    /// Narrow mostly, now and then all columns and more.
    pub(super) fn project(&mut self, source: Source) -> Block {
        let mut values: Vec<Column> = if self.chance(15) { source.columns.clone() } else { Vec::new() };
        for _ in 0..self.random.random_range(1..=5) {
            values.push(self.expression(&source.columns));
        }
        let (list, columns) = named(values);
        Block { sql: format!("SELECT {list} {}", source.clause()), columns, rows: source.rows }
    }

    /// A projection, an aggregate or windows, by the weights of those.
    pub(super) fn some_block(&mut self, source: Source) -> Block {
        let (plain, aggregate, window) = (6, self.mix.aggregate, self.mix.window);
        let drawn = self.random.random_range(0..plain + aggregate + window);
        if drawn < plain {
            self.project(source)
        } else if drawn < plain + aggregate {
            self.aggregate_of(source)
        } else {
            self.windows_of(source)
        }
    }

    pub(super) fn aggregate(&mut self) -> Block {
        let source = self.source();
        self.aggregate_of(source)
    }

    fn aggregate_of(&mut self, source: Source) -> Block {
        let count = [0, 1, 1, 1, 2, 3][self.random.random_range(0..6)];
        let keys: Vec<Column> = (0..count).map(|_| self.key(&source.columns)).collect();
        let values = self.aggregates(&source.columns);
        let groups = keys.iter().fold(1, |all: u64, key| all.saturating_mul(key.distinct)).min(source.rows);
        let by: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        let mut tail = if by.is_empty() { String::new() } else { format!(" GROUP BY {}", by.join(", ")) };
        if self.chance(20) {
            tail += &format!(" HAVING count(*) > {}", self.random.random_range(0..4));
        }
        let (list, columns) = named(keys.iter().cloned().chain(values).collect());
        Block { sql: format!("SELECT {list} {}{tail}", source.clause()), columns, rows: groups.max(1) }
    }

    /// What rows are grouped by.
    fn key(&mut self, columns: &[Column]) -> Column {
        let exact: Vec<Column> =
            columns.iter().filter(|column| column.kind != Kind::Opaque).cloned().collect();
        if self.chance(70) {
            return self.pick(&exact).cloned().unwrap_or_else(|| Column::new("1 + 1", Kind::Int, 1));
        }
        let mut key = self.expression(&exact);
        // A constant in GROUP BY would be the number of a column.
        if key.name == "1" {
            key.name = "1 + 1".to_owned();
        }
        key
    }

    fn aggregates(&mut self, columns: &[Column]) -> Vec<Column> {
        (0..self.random.random_range(1..=4)).map(|_| self.one_aggregate(columns)).collect()
    }

    fn one_aggregate(&mut self, columns: &[Column]) -> Column {
        let column = self.pick(columns).cloned();
        let Some(column) = column.filter(|_| !self.chance(15)) else {
            return Column::skewed("count(*)", Kind::Int);
        };
        let (name, kind) = (&column.name, column.kind);
        let filter = if self.chance(12) {
            format!(" FILTER (WHERE {})", self.condition(columns))
        } else {
            String::new()
        };
        let way = self.random.random_range(0..8);
        let (call, kind) = match (way, kind) {
            (0, _) => (format!("count({name})"), Kind::Int),
            (1, Kind::Opaque) | (2, _) => (format!("max({name})"), kind),
            (1, _) => (format!("count(DISTINCT {name})"), Kind::Int),
            (3, _) => (format!("min({name})"), kind),
            (4, Kind::Int | Kind::Amount) => (format!("avg({name})"), Kind::Opaque),
            (5, Kind::Int) => (format!("sum(DISTINCT {name})"), Kind::Int),
            (_, Kind::Int) => (format!("sum({name})"), Kind::Int),
            (_, Kind::Amount) => (format!("sum({name})"), Kind::Opaque),
            (4, Kind::Text) => (format!("string_agg({name}, ',' ORDER BY {name})"), Kind::Opaque),
            (_, Kind::Text | Kind::Date | Kind::Opaque) => (format!("count({name})"), Kind::Int),
        };
        Column::skewed(format!("{call}{filter}"), kind)
    }

    /// `SELECT DISTINCT`, or several distinct counts at once.
    pub(super) fn distinct(&mut self) -> Block {
        let source = self.source();
        if self.chance(50) {
            let block = self.project(source);
            return Block { sql: block.sql.replacen("SELECT", "SELECT DISTINCT", 1), ..block };
        }
        let exact: Vec<Column> =
            source.columns.iter().filter(|column| column.kind != Kind::Opaque).cloned().collect();
        let mut values: Vec<Column> = Vec::new();
        for _ in 0..self.random.random_range(1..=3) {
            if let Some(column) = self.pick(&exact) {
                values.push(Column::skewed(format!("count(DISTINCT {})", column.name), Kind::Int));
            }
        }
        values.push(self.one_aggregate(&source.columns));
        let (list, columns) = named(values);
        Block { sql: format!("SELECT {list} {}", source.clause()), columns, rows: 1 }
    }

    /// Grouping sets: sums of sums.
    pub(super) fn rollup(&mut self) -> Block {
        let source = self.source();
        let keys: Vec<Column> = [Kind::Int, Kind::Text, Kind::Date]
            .into_iter()
            .flat_map(|kind| of_kind(&source.columns, kind))
            .filter(|column| column.distinct <= 500)
            .collect();
        let Some(first) = self.pick(&keys).cloned() else { return self.aggregate_of(source) };
        let others: Vec<Column> = keys.into_iter().filter(|key| key.name != first.name).collect();
        let Some(second) = self.pick(&others).cloned() else { return self.aggregate_of(source) };
        let (a, b) = (&first.name, &second.name);
        let sets = match self.random.random_range(0..3) {
            0 => format!("ROLLUP ({a}, {b})"),
            1 => format!("CUBE ({a}, {b})"),
            _ => format!("GROUPING SETS (({a}), ({b}), ({a}, {b}), ())"),
        };
        let mut values = vec![first.clone(), second.clone()];
        if self.chance(60) {
            values.push(Column::skewed(format!("CAST(grouping({a}) AS BIGINT)"), Kind::Int));
        }
        values.extend(self.aggregates(&source.columns));
        let (list, columns) = named(values);
        Block {
            sql: format!("SELECT {list} {} GROUP BY {sets}", source.clause()),
            columns,
            rows: source.rows,
        }
    }
}
