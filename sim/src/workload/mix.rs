//! How often each kind of op and each shape of query is drawn.

use serde::{Deserialize, Serialize};

/// Weights, not percents: 0 switches a thing off, and what all are 0 of is drawn as the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mix {
    // Kinds of op.
    pub query: u32,
    pub ddl: u32,
    pub status: u32,
    /// Percent of the catalogue changes that drop a view again.
    pub drop_percent: u8,
    /// Percent of the queries that repeat the key of an earlier one.
    pub repeat_percent: u8,
    /// Percent of the queries that have a key of their own.
    pub key_percent: u8,
    pub cancel_percent: u8,
    pub abandon_percent: u8,
    /// Percent of the queries whose client comes to read them only some time later.
    pub late_percent: u8,
    /// Percent of the queries that read a view, if the client has made one.
    pub view_percent: u8,
    /// Percent of the queries whose rows go to files.
    pub write_percent: u8,
    /// Percent of the queries that set limits of their own.
    pub limit_percent: u8,
    // Shapes of query.
    pub scan: u32,
    pub join: u32,
    pub outer_join: u32,
    pub semi_join: u32,
    pub aggregate: u32,
    pub distinct: u32,
    pub rollup: u32,
    pub window: u32,
    pub sort: u32,
    pub limit: u32,
    pub union: u32,
    pub set: u32,
    pub subquery: u32,
    pub cte: u32,
    pub series: u32,
    /// Results of many rows in small batches.
    pub large: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            query: 20,
            ddl: 2,
            status: 3,
            drop_percent: 15,
            repeat_percent: 10,
            key_percent: 50,
            cancel_percent: 6,
            abandon_percent: 6,
            late_percent: 0,
            view_percent: 30,
            write_percent: 0,
            limit_percent: 0,
            scan: 2,
            join: 4,
            outer_join: 3,
            semi_join: 2,
            aggregate: 4,
            distinct: 2,
            rollup: 1,
            window: 3,
            sort: 2,
            limit: 2,
            union: 2,
            set: 1,
            subquery: 2,
            cte: 2,
            series: 1,
            large: 1,
        }
    }
}
