//! What a statement reads, for an export: schemas and sizes of tables, statements of views. No rows, and no locations.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use datafusion::{
    catalog::TableProvider,
    common::{
        TableReference,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::{physical_plan::FileScanConfig, source::DataSourceExec},
    execution::SessionState,
};
use polybolos_model::recorded::{RecordedColumn, RecordedTable, RecordedView};
use polybolos_state::Relation;

use super::{
    Surroundings,
    catalogue::{Catalogue, View},
    local,
    object_stores::is_secret,
    secrets::Secrets,
    session::Options,
    tables,
};
use crate::error::{PlanningError, describe};

/// Tables and views that are looked at; a statement that reads more is recorded in part.
const MAX_RELATIONS: usize = 200;

/// What the statement of a job reads, as the catalogue knows it now.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// Ascending by name.
    pub(crate) tables: Vec<RecordedTable>,
    /// Ascending by name.
    pub(crate) views: Vec<RecordedView>,
    /// What could not be told, and why.
    pub(crate) notes: Vec<String>,
    /// Values that no text of the export may hold.
    pub(crate) secrets: Secrets,
}

/// # Errors
/// The statement can't be parsed, which a job's can.
pub(crate) async fn relations_of(
    sql: &str,
    job_options: &Options,
    catalogue: &Arc<Catalogue>,
    around: &Surroundings,
) -> Result<Relations, PlanningError> {
    let view = View::new(Arc::clone(catalogue), Arc::clone(&around.snapshot));
    let state = catalogue.sessions.state(around.slots, &Options::new(), view.catalogs())?;
    let mut found = Relations::default();
    found.secrets.add(job_options.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value));
    let mut open: VecDeque<TableReference> = reads(sql, &state)?.into();
    let mut seen = BTreeSet::new();
    while let Some(reference) = open.pop_front() {
        let name = reference.table().to_owned();
        let is_function = state.table_functions().contains_key(&name);
        if is_function || local::is_local(&reference) || !seen.insert(name.clone()) {
            continue;
        }
        if seen.len() > MAX_RELATIONS {
            found.notes.push(format!("only {MAX_RELATIONS} of the tables and views are recorded"));
            break;
        }
        match around.snapshot.relation(&name).map(|relation| (**relation).clone()) {
            Some(Relation::View { sql }) if !catalogue.is_provided(&name) => {
                open.extend(reads(&sql, &state)?);
                found.views.push(RecordedView { name, sql });
            }
            relation => {
                if let Some(Relation::Table(definition)) = relation {
                    let options = tables::store_options(&definition).unwrap_or_default();
                    found.secrets.add(options.iter().filter(|(name, _)| is_secret(name)).map(|(_, v)| v));
                }
                match table(&name, reference, &state).await {
                    Ok(table) => found.tables.push(table),
                    Err(reason) => found.notes.push(format!("table '{name}': {reason}")),
                }
            }
        }
    }
    found.tables.sort_by(|a, b| a.name.cmp(&b.name));
    found.views.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn reads(sql: &str, state: &SessionState) -> Result<Vec<TableReference>, PlanningError> {
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect)?;
    Ok(state.resolve_table_references(&statement)?)
}

/// In words why it can't be told, if it can't.
async fn table(name: &str, reference: TableReference, state: &SessionState) -> Result<RecordedTable, String> {
    let schema = state.schema_for_ref(reference).map_err(|error| describe(&error))?;
    let provider = schema.table(name).await.map_err(|error| describe(&error))?;
    let provider = provider.ok_or_else(|| "it is not in the catalogue any more".to_owned())?;
    let column = |field: &Arc<arrow::datatypes::Field>| RecordedColumn {
        name: field.name().clone(),
        arrow_type: field.data_type().to_string(),
        nullable: field.is_nullable(),
    };
    let columns = provider.schema().fields().iter().map(column).collect();
    let plain = RecordedTable { name: name.to_owned(), columns, ..RecordedTable::default() };
    // The sizes are worth less than the rest.
    Ok(measured(&plain, provider.as_ref(), state).await.unwrap_or(plain))
}

/// With the sizes that a scan would find.
async fn measured(
    plain: &RecordedTable,
    provider: &dyn TableProvider,
    state: &SessionState,
) -> Option<RecordedTable> {
    let scan = provider.scan(state, None, &[], None).await.ok()?;
    let mut measured = plain.clone();
    let (mut files, mut bytes, mut has_files) = (0, 0, false);
    let mut rows = Some(0);
    let looked = scan.apply(|node| {
        let Some(source) = node.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source) else {
            return Ok(TreeNodeRecursion::Continue);
        };
        let known = source.partition_statistics(None)?.num_rows.get_value().copied();
        rows = rows.zip(known).map(|(sum, more)| sum + more as u64);
        if let Some(scan) = source.downcast_ref::<FileScanConfig>() {
            let all = scan.file_groups.iter().flat_map(|group| group.files());
            let (count, size) = all.fold((0, 0), |(count, size), file| {
                // A file that is read in parts is one file.
                let begins = file.range.as_ref().is_none_or(|range| range.start == 0);
                let whole = if begins { file.object_meta.size } else { 0 };
                (count + u64::from(begins), size + whole)
            });
            (files, bytes, has_files) = (files + count, bytes + size, true);
            measured.format = scan.file_source.file_type().to_owned();
        }
        Ok(TreeNodeRecursion::Continue)
    });
    looked.ok()?;
    (measured.files, measured.bytes) = (has_files.then_some(files), has_files.then_some(bytes));
    measured.rows = rows;
    Some(measured)
}
