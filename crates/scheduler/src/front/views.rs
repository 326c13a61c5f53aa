//! `CREATE VIEW`: a view is its statement, planned again for each version of the catalogue.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use datafusion::{
    config::ConfigOptions,
    datasource::{TableProvider, ViewTable},
    execution::SessionState,
    logical_expr::{DdlStatement, LogicalPlan},
    optimizer::{Analyzer, analyzer::type_coercion::TypeCoercion},
};
use polybolos_state::Relation;

use super::{
    catalogue::{MAX_VIEW_DEPTH, Snapshot, View, bare_state},
    session::{Options, Sessions},
};
use crate::error::PlanningError;

/// The provider of a view in the catalogue: its planned query.
///
/// # Errors
/// What the query reads is gone or changed, or the view reads itself.
pub(crate) async fn open(
    name: &str,
    sql: &str,
    seen_by: &View,
) -> Result<Arc<dyn TableProvider>, PlanningError> {
    if seen_by.depth >= MAX_VIEW_DEPTH {
        return Err(PlanningError::Cycle {
            name: name.to_owned(),
            path: format!("{MAX_VIEW_DEPTH} other views"),
        });
    }
    let sessions = &seen_by.catalogue.sessions;
    let state = sessions.state(1, &Options::new(), seen_by.deeper().catalogs())?;
    let LogicalPlan::Ddl(DdlStatement::CreateView(command)) = state.create_logical_plan(sql).await? else {
        return Err(PlanningError::Stored {
            name: name.to_owned(),
            reason: "it is no CREATE VIEW".to_owned(),
        });
    };
    let query = coerce(Arc::unwrap_or_clone(command.input))?;
    Ok(Arc::new(ViewTable::new(query, Some(sql.to_owned()))))
}

/// Refuses a query that could not be read as a view.
///
/// # Errors
/// A type error, or two columns of one name.
pub(crate) fn check(query: LogicalPlan) -> Result<(), PlanningError> {
    let query = coerce(query)?;
    let mut seen = BTreeSet::new();
    for field in query.schema().fields() {
        if !seen.insert(field.name()) {
            let name = field.name();
            return Err(PlanningError::DataFusion(format!(
                "the view has two columns named '{name}': rename one"
            )));
        }
    }
    Ok(())
}

/// Gives the query the types that it will have when it runs, so that the view's schema is right.
fn coerce(query: LogicalPlan) -> datafusion::error::Result<LogicalPlan> {
    let rules = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]);
    rules.execute_and_check(query, &ConfigOptions::default(), |_, _| {})
}

/// Refuses a view that reads itself through other views. (Two such statements at once can still make a cycle, which
/// [`open`] then refuses to follow.)
///
/// # Errors
/// [`PlanningError::Cycle`] names the view that leads back.
pub(crate) fn refuse_cycle(
    name: &str,
    sql: &str,
    snapshot: &Snapshot,
    sessions: &Sessions,
) -> Result<(), PlanningError> {
    let state = bare_state(sessions, &Options::new())?;
    let mut seen = BTreeSet::new();
    let mut open = VecDeque::from([(name.to_owned(), sql.to_owned())]);
    while let Some((reader, sql)) = open.pop_front() {
        for read in reads(&sql, &state)? {
            if read == name {
                return Err(PlanningError::Cycle { name: name.to_owned(), path: reader });
            }
            if let Some(relation) = snapshot.relation(&read)
                && let Relation::View { sql } = &**relation
                && seen.insert(read.clone())
            {
                open.push_back((read, sql.clone()));
            }
        }
    }
    Ok(())
}

fn reads(sql: &str, state: &SessionState) -> Result<Vec<String>, PlanningError> {
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect)?;
    let references = state.resolve_table_references(&statement)?;
    Ok(references.into_iter().map(|reference| reference.table().to_owned()).collect())
}
