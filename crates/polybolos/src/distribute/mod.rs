//! A plain [`SessionContext`] becomes distributed.
//!
//! ```text
//!   SessionContext ──▶ optimised logical plan ──▶ Planner ──▶ RemoteQueryExec ──▶ Client ──▶ cluster
//!      (tables, functions: here)                     │
//!                                                    └─▶ writes, information_schema: here, over remote rows
//! ```
//!
//! Plans travel with their tables inside: files by their URLs (the cluster must reach them), in-memory tables by
//! value, tables of [`Extensions`] by name, others by the program's codec. Deliberately absent: any guess. What can't
//! travel is an error that names it, never a silent local run.

mod codec;
mod exec;
mod options;
mod planner;

use std::sync::Arc;

use datafusion::{execution::SessionStateBuilder, prelude::SessionContext};
use polybolos_client::Client;
use polybolos_planner::{Extensions, Settings};

pub use codec::{MAX_MEMORY_TABLE_BYTES, TableCodec, with_table_codec};
pub use exec::RemoteQueryExec;

/// The same session, whose queries run on the cluster of `client`. Tables and views that one of them gets, the other
/// sees too; statements about the session (`CREATE`, `DROP`, `SET`) stay here, and so do `INSERT` and `COPY`, which
/// write here what the cluster computes. `SET` also takes the cluster's settings (`polybolos.…`), which go along with each
/// query; `RESET` does not: set the default.
///
/// `extensions` are those of the cluster's nodes. Its functions and tables are registered in the session; its rules
/// run on the nodes.
pub fn distribute(ctx: SessionContext, client: Client, extensions: Extensions) -> SessionContext {
    let extensions = with_table_codec(extensions);
    let planner = planner::RemotePlanner::new(client, extensions.logical_codec());
    let mut state =
        SessionStateBuilder::new_from_existing(ctx.state()).with_query_planner(Arc::new(planner)).build();
    let options = state.config_mut().options_mut();
    if options.extensions.get::<Settings>().is_none() {
        options.extensions.insert(Settings::default());
    }
    let ctx = SessionContext::new_with_state(state);
    for function in extensions.scalar_udfs {
        ctx.register_udf(Arc::unwrap_or_clone(function));
    }
    for function in extensions.aggregate_udfs {
        ctx.register_udaf(Arc::unwrap_or_clone(function));
    }
    for function in extensions.window_udfs {
        ctx.register_udwf(Arc::unwrap_or_clone(function));
    }
    for (name, table) in extensions.tables {
        // A name that is taken keeps the session's own table.
        if let Err(error) = ctx.register_table(&name, table) {
            tracing::debug!(table = name, %error, "the table of an extension was not registered");
        }
    }
    ctx
}
