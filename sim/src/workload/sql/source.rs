//! What comes after `FROM`: one relation, or a join of some that does not explode.

use rand::Rng;

use super::{
    Generator,
    columns::{Column, Kind, Relation, of_kind},
};

/// A join that has about more rows than this is not made.
const MAX_JOINED_ROWS: u64 = 15_000;
/// The same for pairs that a join without keys compares.
const MAX_PAIRS: u64 = 60_000;
/// How often a pair of keys is drawn before a join is given up.
const KEY_TRIES: usize = 6;

/// The part of a query from `FROM` up to `WHERE`.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) from: String,
    pub(super) conditions: Vec<String>,
    pub(super) columns: Vec<Column>,
    pub(super) rows: u64,
}

/// By which two sources are joined.
struct Keys {
    on: String,
    /// About what comes of it.
    rows: u64,
    /// How many rows of each side find one of the other, about.
    left_rows: u64,
    right_rows: u64,
}

impl Source {
    /// With its conditions.
    pub(super) fn clause(&self) -> String {
        if self.conditions.is_empty() {
            return format!("FROM {}", self.from);
        }
        format!("FROM {} WHERE {}", self.from, self.conditions.join(" AND "))
    }
}

impl Generator<'_> {
    /// One relation or a join, by the weights of those.
    pub(super) fn source(&mut self) -> Source {
        let (one, inner, outer) = (self.mix.scan + 2, self.mix.join, self.mix.outer_join);
        let drawn = self.random.random_range(0..one + inner + outer);
        if drawn < one {
            self.one_relation()
        } else if drawn < one + inner {
            self.inner_join()
        } else {
            self.outer_join()
        }
    }

    pub(super) fn one_relation(&mut self) -> Source {
        let relation = self.relation();
        let mut source = self.from(&relation);
        if self.chance(50) {
            let condition = self.condition(&source.columns);
            source.conditions.push(condition);
        }
        source
    }

    pub(super) fn inner_join(&mut self) -> Source {
        let mut source = self.join("JOIN");
        if self.chance(25) {
            let third = self.relation();
            source = self.join_with(source, &third, "JOIN");
        }
        self.filter(source)
    }

    pub(super) fn outer_join(&mut self) -> Source {
        let kind = ["LEFT JOIN", "RIGHT JOIN", "FULL JOIN"][self.random.random_range(0..3)];
        let source = self.join(kind);
        self.filter(source)
    }

    fn filter(&mut self, mut source: Source) -> Source {
        if self.chance(40) {
            let condition = self.condition(&source.columns);
            source.conditions.push(condition);
        }
        source
    }

    fn join(&mut self, kind: &str) -> Source {
        let (left, right) = (self.relation(), self.relation());
        let left = self.from(&left);
        self.join_with(left, &right, kind)
    }

    /// Joins by a key, now and then with one more condition. Without a fitting key: by a comparison with a few rows.
    pub(super) fn join_with(&mut self, left: Source, right: &Relation, kind: &str) -> Source {
        let right = self.from(right);
        let Some(Keys { on, rows, left_rows, right_rows }) = self.keys(&left, &right) else {
            return self.compared_join(left, kind);
        };
        let is_skewed = |columns: &[Column]| columns.iter().any(|c| c.is_skewed && on.contains(&c.name));
        let (lefts, rights) = (is_skewed(&left.columns), is_skewed(&right.columns));
        // What a frequent key finds comes as often, and what finds nothing is gone.
        let mark = |columns: Vec<Column>, marked: bool, rows: u64| {
            columns.into_iter().map(move |c| Column {
                is_skewed: c.is_skewed || marked,
                distinct: c.distinct.min(rows),
                ..c
            })
        };
        let lefts_of = mark(left.columns, rights, left_rows);
        let both: Vec<Column> = lefts_of.chain(mark(right.columns, lefts, right_rows)).collect();
        let extra = if self.chance(20) {
            self.joins_by_condition = true;
            format!(" AND {}", self.condition(&both))
        } else {
            String::new()
        };
        Source {
            from: format!("{} {kind} {} ON {on}{extra}", left.from, right.from),
            conditions: left.conditions,
            columns: both,
            rows: rows.max(left.rows).max(right.rows),
        }
    }

    fn keys(&mut self, left: &Source, right: &Source) -> Option<Keys> {
        for kind in [Kind::Int, Kind::Int, Kind::Int, Kind::Text, Kind::Date] {
            let (lefts, rights) = (of_kind(&left.columns, kind), of_kind(&right.columns, kind));
            for _ in 0..KEY_TRIES {
                let (Some(a), Some(b)) = (self.pick(&lefts), self.pick(&rights)) else { break };
                let pairs = left.rows.saturating_mul(right.rows);
                let spread = match (a.is_skewed, b.is_skewed) {
                    (true, true) => 1,
                    (true, false) => b.distinct,
                    (false, true) => a.distinct,
                    (false, false) => a.distinct.max(b.distinct),
                };
                let rows = pairs / spread.max(1);
                if rows <= MAX_JOINED_ROWS {
                    let common = a.distinct.min(b.distinct).max(1);
                    let matched = |rows: u64, key: &Column| {
                        rows.saturating_mul(common).div_ceil(key.distinct.max(1)).max(1)
                    };
                    return Some(Keys {
                        on: format!("{} = {}", a.name, b.name),
                        rows,
                        left_rows: matched(left.rows, a),
                        right_rows: matched(right.rows, b),
                    });
                }
            }
        }
        None
    }

    /// A join without equal keys.
    pub(super) fn compared_join(&mut self, left: Source, kind: &str) -> Source {
        let ints = of_kind(&left.columns, Kind::Int);
        let Some(key) = self.pick(&ints).cloned() else { return left };
        let most = (MAX_PAIRS / left.rows.max(1)).clamp(1, 8);
        let few = self.random.random_range(1..=most);
        let alias = self.alias();
        let compare = ["<", ">", "<="][self.random.random_range(0..3)];
        let step = (key.distinct / few).max(1);
        let mut columns = left.columns;
        columns.push(Column::new(format!("{alias}.value"), Kind::Int, few));
        Source {
            from: format!(
                "{} {kind} generate_series(0, {}) AS {alias} ON {} {compare} {alias}.value * {step}",
                left.from,
                few - 1,
                key.name
            ),
            conditions: left.conditions,
            columns,
            rows: left.rows.saturating_mul(few),
        }
    }

    /// One of the relations, or a query over one.
    pub(super) fn relation(&mut self) -> Relation {
        if self.depth == 0 && self.mix.subquery > 0 && self.chance(12) {
            self.depth += 1;
            let block =
                if self.mix.aggregate > 0 && self.chance(50) { self.aggregate() } else { self.projection() };
            self.depth -= 1;
            return Relation::new(format!("({})", block.sql), block.columns, block.rows);
        }
        let favourite = self.favourite.filter(|_| self.random.random_bool(0.6));
        let relations = self.relations;
        let relation = favourite.or_else(|| self.pick(relations)).cloned().unwrap_or_else(|| series(100));
        self.read_rows = self.read_rows.max(relation.rows);
        self.joins_by_condition |= relation.joins_by_condition;
        relation
    }

    /// `relation` under an alias of its own.
    pub(super) fn from(&mut self, relation: &Relation) -> Source {
        let alias = self.alias();
        let column = |column: &Column| Column { name: format!("{alias}.{}", column.name), ..column.clone() };
        Source {
            from: format!("{} AS {alias}", relation.name),
            conditions: Vec::new(),
            columns: relation.columns.iter().map(column).collect(),
            rows: relation.rows,
        }
    }
}

/// The numbers from 0 on.
pub(super) fn series(rows: u64) -> Relation {
    let name = format!("generate_series(0, {})", rows.max(1) - 1);
    Relation::new(name, vec![Column::new("value", Kind::Int, rows)], rows)
}
