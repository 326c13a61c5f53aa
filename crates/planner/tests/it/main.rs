//! Plans of real queries, cut, sent through their bytes, narrowed, run task by task, and compared with plain
//! DataFusion.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod cluster;
mod compare;
mod data;
mod extensions;
mod limits;
mod odd;
mod profile;
mod reader;
mod refusals;
mod repeatable;
mod runtime_filters;
mod snapshots;
mod tpch;
mod writes;
