//! What queries read: relations with columns of known kinds, and expressions and conditions over them.

use rand::Rng;

use super::Generator;
use crate::schedule::{ColumnKind, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::workload) enum Kind {
    /// `BIGINT`
    Int,
    /// `DECIMAL(12, 2)`
    Amount,
    Text,
    Date,
    /// A result that is too wide or inexact to compute with: an average, a sum of decimals.
    Opaque,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::workload) struct Column {
    /// As written in SQL, with its relation's alias.
    pub(in crate::workload) name: String,
    pub(in crate::workload) kind: Kind,
    /// About how many values it has.
    pub(in crate::workload) distinct: u64,
    /// Half of its rows, or more, have one value.
    pub(in crate::workload) is_skewed: bool,
}

/// Something after `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::workload) struct Relation {
    /// A name, a query in parentheses or a call of a function.
    pub(in crate::workload) name: String,
    pub(in crate::workload) columns: Vec<Column>,
    /// About how many rows it has.
    pub(in crate::workload) rows: u64,
    /// It is a view whose query joins by more than keys.
    pub(in crate::workload) joins_by_condition: bool,
}

impl Relation {
    pub(super) fn new(name: impl Into<String>, columns: Vec<Column>, rows: u64) -> Self {
        Self { name: name.into(), columns, rows, joins_by_condition: false }
    }
}

impl From<&Table> for Relation {
    fn from(table: &Table) -> Self {
        let column = |column: &crate::schedule::Column| {
            let (kind, distinct) = match column.kind {
                ColumnKind::Serial => (Kind::Int, table.rows),
                ColumnKind::Uniform { distinct } | ColumnKind::Skewed { distinct } => (Kind::Int, distinct),
                ColumnKind::Amount => (Kind::Amount, table.rows),
                ColumnKind::Text { distinct, .. } => (Kind::Text, distinct),
                ColumnKind::Date => (Kind::Date, 3_652),
            };
            let is_skewed = matches!(column.kind, ColumnKind::Skewed { .. });
            Column { name: column.name.clone(), kind, distinct: distinct.min(table.rows).max(1), is_skewed }
        };
        Self::new(&table.name, table.columns.iter().map(column).collect(), table.rows)
    }
}

impl Column {
    pub(super) fn new(name: impl Into<String>, kind: Kind, distinct: u64) -> Self {
        Self { name: name.into(), kind, distinct: distinct.max(1), is_skewed: false }
    }

    /// One of which many rows may have the same value.
    pub(super) fn skewed(name: impl Into<String>, kind: Kind) -> Self {
        Self { is_skewed: true, ..Self::new(name, kind, 1) }
    }
}

/// Columns of one kind.
pub(super) fn of_kind(columns: &[Column], kind: Kind) -> Vec<Column> {
    columns.iter().filter(|column| column.kind == kind).cloned().collect()
}

impl Generator<'_> {
    /// A value computed from one row.
    pub(super) fn expression(&mut self, columns: &[Column]) -> Column {
        let Some(column) = self.pick(columns).cloned() else { return Column::new("1", Kind::Int, 1) };
        if self.chance(55) {
            return column;
        }
        let name = &column.name;
        // As often the same as the column itself.
        let like = |name: String, kind| Column { name, kind, ..column.clone() };
        let n = self.random.random_range(2..30);
        let way = self.random.random_range(0..6);
        match column.kind {
            Kind::Int => match way {
                0 => like(format!("{name} + {n}"), Kind::Int),
                1 => Column { distinct: n, ..like(format!("{name} % {n}"), Kind::Int) },
                2 => Column::skewed(format!("coalesce({name}, -{n})"), Kind::Int),
                3 => like(format!("nullif({name}, {n})"), Kind::Int),
                4 => like(format!("abs({name} - {n})"), Kind::Int),
                _ => {
                    let condition = self.condition(columns);
                    Column::skewed(format!("CASE WHEN {condition} THEN {name} ELSE -{n} END"), Kind::Int)
                }
            },
            Kind::Amount => match way {
                0 => like(format!("{name} * {n}"), Kind::Opaque),
                1 => Column::skewed(format!("coalesce({name}, {})", amount(-7)), Kind::Amount),
                _ => like(format!("-{name}"), Kind::Amount),
            },
            Kind::Text => match way {
                0 => like(format!("upper({name})"), Kind::Text),
                1 => Column::skewed(format!("substr({name}, 1, 2)"), Kind::Text),
                2 => like(format!("{name} || '-{n}'"), Kind::Text),
                3 => Column::skewed(format!("coalesce({name}, '?')"), Kind::Text),
                _ => Column::skewed(format!("CAST(character_length({name}) AS BIGINT)"), Kind::Int),
            },
            Kind::Date => match way {
                0..3 => Column {
                    distinct: 10,
                    ..like(format!("CAST(date_part('year', {name}) AS BIGINT)"), Kind::Int)
                },
                _ => {
                    let month = format!("CAST(date_trunc('month', {name}) AS DATE)");
                    Column { distinct: 120.min(column.distinct), ..like(month, Kind::Date) }
                }
            },
            Kind::Opaque => column,
        }
    }

    /// A boolean over one row.
    pub(super) fn condition(&mut self, columns: &[Column]) -> String {
        match self.random.random_range(0..10) {
            0 => format!("({} OR {})", self.comparison(columns), self.comparison(columns)),
            1 => format!("({} AND {})", self.comparison(columns), self.comparison(columns)),
            2 => format!("NOT ({})", self.comparison(columns)),
            _ => self.comparison(columns),
        }
    }

    fn comparison(&mut self, columns: &[Column]) -> String {
        let Some(column) = self.pick(columns).cloned() else { return "true".to_owned() };
        let name = &column.name;
        if self.chance(10) {
            return format!("{name} IS {}NULL", if self.chance(60) { "NOT " } else { "" });
        }
        let compare = ["<", ">=", "<>", "="][self.random.random_range(0..4)];
        match column.kind {
            Kind::Int => {
                let (low, high) = (self.value(column.distinct), self.value(column.distinct));
                match self.random.random_range(0..5) {
                    0 => format!("{name} BETWEEN {} AND {}", low.min(high), low.max(high)),
                    1 => format!("{name} IN ({low}, {high}, {})", low + 1),
                    2 => format!("{name} % {} = {}", 2 + low % 5, high % 2),
                    // Almost or quite nothing.
                    3 if self.chance(20) => format!("{name} < 0"),
                    _ => format!("{name} {compare} {low}"),
                }
            }
            Kind::Amount => {
                let value = self.random.random_range(-50_000..50_000);
                format!("{name} {} {}", if compare == "=" { ">" } else { compare }, amount(value))
            }
            Kind::Text => match self.random.random_range(0..3) {
                0 => format!("{name} LIKE '{}%'", self.random.random_range(0..10)),
                1 => format!("{name} LIKE '%a%'"),
                _ => format!("{name} {compare} '{}'", self.value(column.distinct)),
            },
            Kind::Date => {
                let (year, month) = (self.random.random_range(1994..2004), self.random.random_range(1..=12));
                format!("{name} {compare} DATE '{year}-{month:02}-01'")
            }
            Kind::Opaque => format!("{name} IS NOT NULL"),
        }
    }

    fn value(&mut self, distinct: u64) -> u64 {
        self.random.random_range(0..distinct.max(1))
    }
}

fn amount(value: i64) -> String {
    format!("CAST({value} AS DECIMAL(12, 2))")
}
