//! Random queries, each with one right answer.
//!
//! ```text
//!   relations ─▶ source ─▶ block ─────────▶ compose ──────────▶ finish
//!   tables,      joins     SELECT … of it   UNION, WITH, …      ORDER BY all columns [LIMIT]
//!   views, (…)             columns c1, c2 …
//! ```
//!
//! One right answer means: whole numbers and decimals, whose sums don't depend on the order of rows; a `LIMIT` or a
//! frame only under an order of *all* columns, so that rows that tie are equal; nothing random, no `now()`. Averages of
//! whole numbers are floats, but exact ones, and nothing is computed from them.

mod blocks;
mod columns;
mod compose;
mod options;
mod source;
mod windows;

use std::collections::BTreeMap;

use rand::{Rng, rngs::StdRng};

pub(super) use self::columns::Relation;
use self::{
    blocks::Block,
    options::{Traits, random_options},
};
use super::mix::Mix;
use crate::schedule::Table;

/// A query as an op has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    pub sql: String,
    /// Its rows have one order.
    pub ordered: bool,
    pub options: BTreeMap<String, String>,
}

/// A query over `tables`.
pub fn random_query(random: &mut StdRng, tables: &[Table], mix: &Mix) -> Generated {
    let relations: Vec<Relation> = tables.iter().map(Relation::from).collect();
    query_over(random, &relations, None, mix)
}

/// A query over `relations`, that reads the one named `favourite` if its shape allows.
pub(super) fn query_over(
    random: &mut StdRng,
    relations: &[Relation],
    favourite: Option<&Relation>,
    mix: &Mix,
) -> Generated {
    let mut generator = Generator::new(random, relations, favourite, mix);
    let shape = generator.shape();
    let block = generator.block_of(shape);
    let (sql, ordered) = generator.finish(&block, shape);
    let traits = Traits {
        rows: block.rows.max(generator.read_rows),
        is_large: shape == Shape::Large,
        joins_by_condition: generator.joins_by_condition,
    };
    Generated { sql, ordered, options: random_options(generator.random, traits) }
}

/// The query of a view, and what the view is to queries.
pub(super) fn view_over(
    random: &mut StdRng,
    name: &str,
    relations: &[Relation],
    mix: &Mix,
) -> (String, Relation) {
    let mut generator = Generator::new(random, relations, None, mix);
    let block = match generator.random.random_range(0..4) {
        0 => generator.projection(),
        1 => generator.windows(),
        2 => generator.union(),
        _ => generator.aggregate(),
    };
    let joins_by_condition = generator.joins_by_condition;
    let view = Relation { joins_by_condition, ..Relation::new(name, block.columns, block.rows) };
    (block.sql, view)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Scan,
    Join,
    OuterJoin,
    SemiJoin,
    Aggregate,
    Distinct,
    Rollup,
    Window,
    Sort,
    Limit,
    Union,
    Set,
    Subquery,
    Cte,
    Series,
    Large,
}

struct Generator<'a> {
    random: &'a mut StdRng,
    relations: &'a [Relation],
    favourite: Option<&'a Relation>,
    mix: &'a Mix,
    /// Aliases given so far.
    aliases: u32,
    /// Rows of the largest relation that was taken.
    read_rows: u64,
    joins_by_condition: bool,
    /// Queries around the present one.
    depth: u32,
}

impl<'a> Generator<'a> {
    fn new(
        random: &'a mut StdRng,
        relations: &'a [Relation],
        favourite: Option<&'a Relation>,
        mix: &'a Mix,
    ) -> Self {
        Self {
            random,
            relations,
            favourite,
            mix,
            aliases: 0,
            read_rows: 0,
            joins_by_condition: false,
            depth: 0,
        }
    }

    fn shape(&mut self) -> Shape {
        let mix = self.mix;
        let weights = [
            (Shape::Scan, mix.scan),
            (Shape::Join, mix.join),
            (Shape::OuterJoin, mix.outer_join),
            (Shape::SemiJoin, mix.semi_join),
            (Shape::Aggregate, mix.aggregate),
            (Shape::Distinct, mix.distinct),
            (Shape::Rollup, mix.rollup),
            (Shape::Window, mix.window),
            (Shape::Sort, mix.sort),
            (Shape::Limit, mix.limit),
            (Shape::Union, mix.union),
            (Shape::Set, mix.set),
            (Shape::Subquery, mix.subquery),
            (Shape::Cte, mix.cte),
            (Shape::Series, mix.series),
            (Shape::Large, mix.large),
        ];
        weighted(self.random, &weights)
    }

    fn block_of(&mut self, shape: Shape) -> Block {
        match shape {
            Shape::Scan => {
                let source = self.one_relation();
                self.project(source)
            }
            Shape::Join => {
                let source = self.inner_join();
                self.some_block(source)
            }
            Shape::OuterJoin => {
                let source = self.outer_join();
                self.some_block(source)
            }
            Shape::SemiJoin => self.semi_join(),
            Shape::Aggregate => self.aggregate(),
            Shape::Distinct => self.distinct(),
            Shape::Rollup => self.rollup(),
            Shape::Window => self.windows(),
            Shape::Sort | Shape::Limit => {
                let source = self.source();
                self.some_block(source)
            }
            Shape::Union => self.union(),
            Shape::Set => self.set(),
            Shape::Subquery => self.subquery(),
            Shape::Cte => self.cte(),
            Shape::Series => self.series(),
            Shape::Large => self.large(),
        }
    }

    /// Adds an order, and whether it is one of all columns.
    fn finish(&mut self, block: &Block, shape: Shape) -> (String, bool) {
        let (sorts, limits) = match shape {
            Shape::Sort => (true, false),
            Shape::Limit => (true, true),
            _ => {
                let sorts = self.mix.sort + self.mix.limit > 0 && self.chance(30);
                (sorts, sorts && self.mix.limit > 0 && self.chance(40))
            }
        };
        if !sorts {
            return (block.sql.clone(), false);
        }
        let mut keys: Vec<String> = block.columns.iter().map(|column| column.name.clone()).collect();
        for at in (1..keys.len()).rev() {
            keys.swap(at, self.random.random_range(0..=at));
        }
        let is_total = limits || self.chance(80);
        if !is_total {
            keys.truncate(1);
        }
        let keys: Vec<String> = keys.into_iter().map(|key| self.direction(key)).collect();
        let mut sql = format!("{} ORDER BY {}", block.sql, keys.join(", "));
        if limits {
            let limit = [0, 1, 7, 50, 500][self.random.random_range(0..5)];
            sql += &format!(" LIMIT {limit}");
            if self.chance(40) {
                sql += &format!(" OFFSET {}", self.random.random_range(0..60));
            }
        }
        (sql, is_total)
    }

    fn direction(&mut self, key: String) -> String {
        let direction = ["", " DESC", " NULLS FIRST", " DESC NULLS LAST"][self.random.random_range(0..4)];
        key + direction
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn pick<'b, T>(&mut self, from: &'b [T]) -> Option<&'b T> {
        if from.is_empty() { None } else { from.get(self.random.random_range(0..from.len())) }
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }
}

/// One of `from` by weight; the first if all weights are 0.
pub(super) fn weighted<T: Copy, const N: usize>(random: &mut StdRng, from: &[(T, u32); N]) -> T {
    let total: u32 = from.iter().map(|(_, weight)| weight).sum();
    let mut left = random.random_range(0..total.max(1));
    for (choice, weight) in from {
        if left < *weight {
            return *choice;
        }
        left -= weight;
    }
    from[0].0
}

#[cfg(test)]
mod tests;
