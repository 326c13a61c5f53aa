//! Queries made of several: unions, sets, subqueries, common table expressions, and long results.

use rand::Rng;

use super::{
    Generator,
    blocks::{Block, named},
    columns::{Column, Kind, Relation, of_kind},
    source::{Source, series},
};

/// Rows of a long result.
const LARGE_ROWS: std::ops::Range<u64> = 20_000..30_000;

impl Generator<'_> {
    pub(super) fn union(&mut self) -> Block {
        let all = if self.chance(50) { " ALL" } else { "" };
        let parts = self.random.random_range(2..=3);
        self.combined(&format!("UNION{all}"), parts)
    }

    pub(super) fn set(&mut self) -> Block {
        let operator = if self.chance(50) { "INTERSECT" } else { "EXCEPT" };
        self.combined(operator, 2)
    }

    /// Queries whose columns have the same kinds.
    fn combined(&mut self, operator: &str, parts: usize) -> Block {
        let all = [Kind::Int, Kind::Int, Kind::Text, Kind::Date, Kind::Amount];
        let wanted = self.random.random_range(1..=3);
        let kinds: Vec<Kind> = (0..wanted).filter_map(|_| self.pick(&all).copied()).collect();
        let mut blocks: Vec<Block> = Vec::new();
        for _ in 0..parts {
            blocks.push(self.part(&kinds));
        }
        let rows = blocks.iter().map(|block| block.rows).sum();
        let columns = blocks.first().map(|block| block.columns.clone()).unwrap_or_default();
        let sqls: Vec<String> = blocks.into_iter().map(|block| block.sql).collect();
        Block { sql: sqls.join(&format!(" {operator} ")), columns, rows }
    }

    fn part(&mut self, kinds: &[Kind]) -> Block {
        let source = self.source();
        let value = |kind: &Kind, generator: &mut Self| {
            let fitting = of_kind(&source.columns, *kind);
            generator.pick(&fitting).cloned().unwrap_or_else(|| Column::skewed(constant(*kind), *kind))
        };
        let values = kinds.iter().map(|kind| value(kind, self)).collect();
        let (list, columns) = named(values);
        Block { sql: format!("SELECT {list} {}", source.clause()), columns, rows: source.rows }
    }

    /// Rows for which there are, or are not, others.
    pub(super) fn semi_join(&mut self) -> Block {
        let mut source = self.source();
        let condition = self.membership(&source);
        source.conditions.push(condition);
        self.some_block(source)
    }

    fn membership(&mut self, source: &Source) -> String {
        let other = self.relation();
        let mut inner = self.from(&other);
        let kind = if self.chance(80) { Kind::Int } else { Kind::Text };
        let (outers, inners) = (of_kind(&source.columns, kind), of_kind(&inner.columns, kind));
        let (Some(a), Some(b)) = (self.pick(&outers).cloned(), self.pick(&inners).cloned()) else {
            return self.condition(&source.columns);
        };
        if self.chance(60) {
            let condition = self.condition(&inner.columns);
            inner.conditions.push(condition);
        }
        let not = if self.chance(45) { "NOT " } else { "" };
        if self.chance(50) {
            return format!("{} {not}IN (SELECT {} {})", a.name, b.name, inner.clause());
        }
        inner.conditions.push(format!("{} = {}", b.name, a.name));
        format!("{not}EXISTS (SELECT 1 {})", inner.clause())
    }

    /// A projection with a scalar subquery in its list or its condition.
    pub(super) fn subquery(&mut self) -> Block {
        let mut source = self.one_relation();
        let other = self.relation();
        let mut inner = self.from(&other);
        let (outers, inners) = (of_kind(&source.columns, Kind::Int), of_kind(&inner.columns, Kind::Int));
        let (Some(a), Some(b)) = (self.pick(&outers).cloned(), self.pick(&inners).cloned()) else {
            return self.project(source);
        };
        if self.chance(50) {
            let condition = self.condition(&inner.columns);
            inner.conditions.push(condition);
        }
        let is_correlated = self.chance(50);
        if is_correlated {
            inner.conditions.push(format!("{} = {}", b.name, a.name));
        }
        let of = self.pick(&inners).map_or_else(|| b.name.clone(), |column| column.name.clone());
        let function = ["max", "min", "sum", "count"][self.random.random_range(0..4)];
        let scalar = format!("(SELECT {function}({of}) {})", inner.clause());
        if !is_correlated && self.chance(50) {
            let compare = ["<", ">=", "<>"][self.random.random_range(0..3)];
            source.conditions.push(format!("{} {compare} {scalar}", a.name));
            return self.some_block(source);
        }
        let mut values = vec![a, Column::skewed(scalar, Kind::Int)];
        for _ in 0..self.random.random_range(0..3) {
            values.push(self.expression(&source.columns));
        }
        let (list, columns) = named(values);
        Block { sql: format!("SELECT {list} {}", source.clause()), columns, rows: source.rows }
    }

    /// `WITH x AS (…), y AS (…)`, where each is read once or twice.
    pub(super) fn cte(&mut self) -> Block {
        if self.mix.series > 0 && self.chance(15) {
            return self.recursive();
        }
        self.depth += 1;
        let first =
            if self.mix.aggregate > 0 && self.chance(60) { self.aggregate() } else { self.projection() };
        let x = Relation::new("x", first.columns, first.rows);
        let read = self.from(&x);
        let second = self.some_block(read);
        let y = Relation::new("y", second.columns, second.rows);
        let left = self.from(&x);
        let source = if self.mix.join > 0 { self.join_with(left, &y, "JOIN") } else { self.from(&y) };
        let block = self.some_block(source);
        self.depth -= 1;
        let sql = format!("WITH x AS ({}), y AS ({}) {}", first.sql, second.sql, block.sql);
        Block { sql, ..block }
    }

    fn recursive(&mut self) -> Block {
        let steps = self.random.random_range(1..40);
        let x = Relation::new("x", vec![Column::new("n", Kind::Int, steps)], steps);
        let left = self.from(&x);
        let other = self.relation();
        let source = if self.mix.join > 0 { self.join_with(left, &other, "JOIN") } else { left };
        let block = self.some_block(source);
        let sql = format!(
            "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x WHERE n < {steps}) {}",
            block.sql
        );
        Block { sql, ..block }
    }

    /// Numbers, joined with a relation by equality or by comparison.
    pub(super) fn series(&mut self) -> Block {
        let numbers = series(self.random.random_range(1..60));
        if self.chance(40) {
            let relation = self.relation();
            let left = self.from(&relation);
            let kind = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"][self.random.random_range(0..4)];
            let source = self.compared_join(left, kind);
            return self.some_block(source);
        }
        let relation = self.relation();
        let left = self.from(&numbers);
        let source = self.join_with(left, &relation, "LEFT JOIN");
        self.some_block(source)
    }

    /// A result of tens of thousands of rows.
    pub(super) fn large(&mut self) -> Block {
        let long = self.relations.iter().find(|relation| relation.rows >= LARGE_ROWS.start).cloned();
        if let Some(relation) = long.filter(|_| self.random.random_bool(0.6)) {
            self.read_rows = relation.rows;
            let source = self.from(&relation);
            return self.project(source);
        }
        let rows = self.random.random_range(LARGE_ROWS);
        let numbers = self.from(&series(rows));
        let Some(value) = numbers.columns.first().map(|column| column.name.clone()) else {
            return self.project(numbers);
        };
        let relation = self.relation();
        let other = self.from(&relation);
        let ints: Vec<Column> =
            of_kind(&other.columns, Kind::Int).into_iter().filter(|key| key.distinct >= other.rows).collect();
        let Some(key) = self.pick(&ints).cloned() else { return self.project(numbers) };
        let source = Source {
            from: format!(
                "{} LEFT JOIN {} ON {} = {value} % {}",
                numbers.from,
                other.from,
                key.name,
                relation.rows.max(1)
            ),
            conditions: Vec::new(),
            columns: numbers.columns.iter().chain(&other.columns).cloned().collect(),
            rows,
        };
        self.project(source)
    }
}

fn constant(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "CAST(3 AS BIGINT)",
        Kind::Amount => "CAST(3 AS DECIMAL(12, 2))",
        Kind::Text => "'3b'",
        Kind::Date => "DATE '1999-03-01'",
        Kind::Opaque => "NULL",
    }
}
