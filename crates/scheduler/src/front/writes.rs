//! Statements that write: `COPY`, `INSERT` and `CREATE TABLE AS` become jobs whose tasks write files.
//!
//! ```text
//!   COPY (query) TO 'url' ───────┐
//!   INSERT INTO table query ─────┼─▶ DataFusion's plan ─▶ write_plan ─▶ stage graph ─▶ JobPlan with a Destination
//!   CREATE TABLE name AS query ──┘        (a COPY to a folder of its own in the warehouse)
//! ```

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{RecordBatch, UInt64Array},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    datasource::{file_format::format_as_file_type, listing::ListingTableUrl},
    execution::SessionState,
    logical_expr::{CreateMemoryTable, LogicalPlan, dml::CopyTo},
};
use polybolos_model::WriteTarget;
use polybolos_state::{NewTable, RelationName};
use url::Url;

use super::{
    ipc,
    object_stores::{ObjectStores, take_store_options},
    session::Options,
    tables,
};
use crate::error::PlanningError;

/// The first version in which statements write.
const WRITE_VERSION: u16 = 3;

/// Where the rows of a statement go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) target: WriteTarget,
    /// By whose values rows are spread over folders.
    pub(crate) partition_columns: Vec<String>,
    /// What is made of the files.
    pub(crate) table: Option<NewTable>,
}

/// Where `CREATE TABLE AS` makes the folders of its tables.
#[derive(Debug, Clone)]
pub(crate) struct Warehouse {
    pub(crate) url: Url,
    /// Drawn anew for each statement, so that no table meets the files of one that was dropped.
    pub(crate) draw: u64,
}

impl Warehouse {
    /// # Errors
    /// The warehouse's URL can't have folders below it.
    fn folder(&self, name: &str) -> Result<String, PlanningError> {
        let mut url = self.url.clone();
        let draw = format!("{:016x}", self.draw);
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend([name, draw.as_str(), ""]),
            Err(()) => return Err(unsupported(&format!("a warehouse at '{}'", self.url))),
        };
        Ok(url.to_string())
    }
}

/// # Errors
/// An older version is in use.
pub(super) fn check_version(version: u16) -> Result<(), PlanningError> {
    match version < WRITE_VERSION {
        true => Err(unsupported("writing, while a scheduler of an older version is in the cluster,")),
        false => Ok(()),
    }
}

fn unsupported(what: &str) -> PlanningError {
    PlanningError::Unsupported { what: what.to_owned() }
}

/// Takes the options of the store out of a `COPY`'s, and sets them.
///
/// # Errors
/// The URL can't be read, or an option that stores don't have.
pub(super) fn configure_copy(mut copy: CopyTo, stores: &ObjectStores) -> Result<LogicalPlan, PlanningError> {
    let options = take_store_options(&mut copy.options)?;
    if !options.is_empty() {
        stores.configure(ListingTableUrl::parse(&copy.output_url)?.get_url(), &options);
    }
    Ok(LogicalPlan::Copy(copy))
}

/// The `COPY` that writes the files of a new table, and the table.
///
/// # Errors
/// Parts of the statement that are left out here, or columns that no table can have.
pub(super) fn create_table_as(
    command: CreateMemoryTable,
    name: RelationName,
    warehouse: Option<&Warehouse>,
    state: &SessionState,
    options: &Options,
) -> Result<(LogicalPlan, NewTable), PlanningError> {
    let has_constraints = command.constraints.iter().next().is_some() || !command.column_defaults.is_empty();
    for (given, what) in [
        (command.temporary, "CREATE TEMPORARY TABLE"),
        (command.or_replace, "CREATE OR REPLACE TABLE AS (drop the table first)"),
        (has_constraints, "CREATE TABLE AS with constraints or defaults"),
    ] {
        if given {
            return Err(unsupported(what));
        }
    }
    let Some(warehouse) = warehouse else {
        return Err(unsupported(
            "CREATE TABLE without a warehouse (start the schedulers with --warehouse URL, or use CREATE EXTERNAL TABLE \
             and INSERT INTO)",
        ));
    };
    let query = state.optimize(&command.input)?;
    let schema = Arc::clone(query.schema().inner());
    check_names(&schema)?;
    let folder = warehouse.folder(&name.name)?;
    let Some(parquet) = state.get_file_format_factory("parquet") else {
        return Err(unsupported("CREATE TABLE AS in a program without Parquet"));
    };
    let table = tables::define_written(&name.name, &folder, &schema, options)?;
    let file_type = format_as_file_type(parquet);
    let copy = CopyTo::new(Arc::new(query), folder, Vec::new(), file_type, Default::default());
    Ok((LogicalPlan::Copy(copy), NewTable { name, table }))
}

fn check_names(schema: &Schema) -> Result<(), PlanningError> {
    let mut seen = BTreeSet::new();
    for field in schema.fields() {
        if !seen.insert(field.name()) {
            let name = field.name();
            return Err(PlanningError::DataFusion(format!(
                "the table would have two columns named '{name}': rename one"
            )));
        }
    }
    Ok(())
}

/// The answer of a statement that has written so many rows.
///
/// # Errors
/// Memory runs out.
pub(crate) fn count_answer(rows: u64) -> Result<Vec<u8>, PlanningError> {
    let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]));
    let counts = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(UInt64Array::from(vec![rows]))]);
    ipc::encode_answer(&schema, &[counts.map_err(datafusion::error::DataFusionError::from)?])
}
