//! `CREATE EXTERNAL TABLE`: what is kept of it in the log, and the provider that is made of that again.
//!
//! Files are looked at once, when the table is created: the schema that they had is part of the definition, so
//! planning never infers it again and all replicas agree on it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::{TableProvider, TableProviderFactory},
    datasource::{
        listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl},
        listing_table_factory::ListingTableFactory,
    },
    execution::SessionState,
    logical_expr::{CreateExternalTable, DdlStatement, LogicalPlan},
};
use futures::StreamExt;
use polybolos_state::TableDef;
use serde::{Deserialize, Serialize};

use super::{
    catalogue::bare_state,
    ipc,
    object_stores::{ObjectStores, is_secret, take_store_options},
    session::{Options, Sessions},
};
use crate::error::{PlanningError, describe};

/// Version of [`StoredTable`].
const STORED_VERSION: u16 = 1;

/// The content of [`TableDef::provider`]. The rest is in the statement, [`TableDef::ddl`].
#[derive(Debug, Serialize, Deserialize)]
struct StoredTable {
    version: u16,
    /// Of the session that created the table: some are defaults of the file format.
    options: Options,
    /// Of the object store; not in the statement that is shown, as they may hold secrets.
    store_options: Options,
    /// Each location's URL and glob.
    locations: Vec<(String, Option<String>)>,
    file_extension: String,
    /// Columns in the files, and columns in the paths: Arrow IPC streams without batches.
    file_schema: Vec<u8>,
    partition_schema: Vec<u8>,
}

/// Looks at the files of a new table.
///
/// # Errors
/// No files, unreadable files, options that the format or the store doesn't have.
pub(crate) async fn define(
    mut command: CreateExternalTable,
    sql: &str,
    state: &SessionState,
    options: &Options,
    stores: &ObjectStores,
) -> Result<TableDef, PlanningError> {
    for (given, what) in [(command.unbounded, "UNBOUNDED"), (command.temporary, "TEMPORARY")] {
        if given {
            return Err(PlanningError::Unsupported { what: format!("CREATE {what} EXTERNAL TABLE") });
        }
    }
    let store_options = take_store_options(&mut command.options)?;
    let urls = parse_locations(&command)?;
    let replaced: Vec<_> = urls.iter().map(|url| stores.configure(url.get_url(), &store_options)).collect();
    let inspected = inspect(&command, &urls, state).await;
    if inspected.is_err() {
        // The options may be what was wrong, and other tables may live in the same bucket.
        for (url, before) in urls.iter().zip(replaced).rev() {
            stores.restore(url.get_url(), before);
        }
    }
    let table = inspected?;
    let (file_schema, partition_schema) = split_schema(&table.schema(), table.options());
    let location = |url: &ListingTableUrl| {
        (url.get_url().to_string(), url.get_glob().as_ref().map(|glob| glob.as_str().to_owned()))
    };
    let stored = StoredTable {
        version: STORED_VERSION,
        options: options.clone(),
        locations: table.table_paths().iter().map(location).collect(),
        file_extension: table.options().file_extension.clone(),
        file_schema: ipc::encode_schema(&file_schema)?,
        partition_schema: ipc::encode_schema(&partition_schema)?,
        store_options,
    };
    let provider = encode(&command.name.to_string(), &stored)?;
    Ok(TableDef { ddl: redact(sql, &stored.store_options), provider })
}

/// A table of Parquet files that a statement is about to write to `folder`, a URL that ends in `/`. There is nothing to
/// look at yet.
///
/// # Errors
/// A type that the log can't hold.
pub(crate) fn define_written(
    name: &str,
    folder: &str,
    schema: &SchemaRef,
    options: &Options,
) -> Result<TableDef, PlanningError> {
    let (quoted, location) = (name.replace('"', "\"\""), folder.replace('\'', "''"));
    let stored = StoredTable {
        version: STORED_VERSION,
        options: options.clone(),
        store_options: Options::new(),
        locations: vec![(folder.to_owned(), None)],
        file_extension: ".parquet".to_owned(),
        file_schema: ipc::encode_schema(schema)?,
        partition_schema: ipc::encode_schema(&Schema::empty())?,
    };
    let ddl = format!("CREATE EXTERNAL TABLE \"{quoted}\" STORED AS PARQUET LOCATION '{location}'");
    Ok(TableDef { ddl, provider: encode(name, &stored)? })
}

fn encode(name: &str, stored: &StoredTable) -> Result<Vec<u8>, PlanningError> {
    let unstorable =
        |error: postcard::Error| PlanningError::Stored { name: name.to_owned(), reason: error.to_string() };
    postcard::to_allocvec(stored).map_err(unstorable)
}

fn parse_locations(command: &CreateExternalTable) -> Result<Vec<ListingTableUrl>, PlanningError> {
    let parse =
        |location: &String| Ok(ListingTableUrl::parse(location)?.with_table_ref(command.name.clone()));
    command.locations.iter().map(parse).collect()
}

/// The table as DataFusion makes it.
async fn inspect(
    command: &CreateExternalTable,
    urls: &[ListingTableUrl],
    state: &SessionState,
) -> Result<ListingTable, PlanningError> {
    for (location, url) in command.locations.iter().zip(urls) {
        // A folder may be filled later if the statement says which columns its files will have.
        let may_be_empty = !command.schema.fields().is_empty() && url.is_collection();
        if !may_be_empty && !has_files(url, state).await.map_err(|error| unreadable(location, &error))? {
            return Err(PlanningError::NoFiles { location: location.clone() });
        }
    }
    let location = command.locations.join("', '");
    let made = ListingTableFactory::new().create(state, command).await;
    let provider = made.map_err(|error| unreadable(&location, &error))?;
    let Some(table) = provider.downcast_ref::<ListingTable>() else {
        return Err(PlanningError::Unsupported { what: format!("STORED AS {}", command.file_type) });
    };
    Ok(table.clone())
}

async fn has_files(url: &ListingTableUrl, state: &SessionState) -> datafusion::error::Result<bool> {
    let store = state.runtime_env().object_store(url)?;
    let mut files = url.list_all_files(state, store.as_ref(), "").await?;
    Ok(files.next().await.transpose()?.is_some())
}

fn unreadable(location: &str, error: &datafusion::error::DataFusionError) -> PlanningError {
    PlanningError::Schemaless { location: location.to_owned(), reason: describe(error) }
}

/// A listing table's schema is that of its files and then the columns of its paths.
fn split_schema(whole: &Schema, options: &ListingOptions) -> (SchemaRef, SchemaRef) {
    let in_files = whole.fields().len().saturating_sub(options.table_partition_cols.len());
    let (files, paths) = whole.fields().split_at(in_files);
    let file_schema = Schema::new_with_metadata(files.to_vec(), whole.metadata().clone());
    (Arc::new(file_schema), Arc::new(Schema::new(paths.to_vec())))
}

/// The statement without the secrets in it.
fn redact(sql: &str, store_options: &Options) -> String {
    let secrets = store_options.iter().filter(|(key, value)| is_secret(key) && !value.is_empty());
    secrets.fold(sql.trim().to_owned(), |text, (_, value)| text.replace(value.as_str(), "***"))
}

/// The provider of a table in the catalogue. Looks at no file.
///
/// # Errors
/// The definition can't be read, for example because a newer version wrote it.
pub(crate) async fn open(
    name: &str,
    definition: &TableDef,
    sessions: &Sessions,
    stores: &ObjectStores,
) -> Result<Arc<dyn TableProvider>, PlanningError> {
    let unreadable = |reason: String| PlanningError::Stored { name: name.to_owned(), reason };
    let stored: StoredTable =
        postcard::from_bytes(&definition.provider).map_err(|error| unreadable(error.to_string()))?;
    if stored.version != STORED_VERSION {
        return Err(unreadable(format!("it has version {}, expected {STORED_VERSION}", stored.version)));
    }
    let state = bare_state(sessions, &stored.options)?;
    let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(mut command)) =
        state.create_logical_plan(&definition.ddl).await?
    else {
        return Err(unreadable("it is no CREATE EXTERNAL TABLE".to_owned()));
    };
    take_store_options(&mut command.options)?;
    let config = listing_config(&stored, &command, &state, stores)?;
    let statistics = state.runtime_env().cache_manager.get_file_statistic_cache();
    let table = ListingTable::try_new(config)?
        .with_cache(statistics)
        .with_definition(Some(definition.ddl.clone()))
        .with_constraints(command.constraints.clone())
        .with_column_defaults(command.column_defaults.clone());
    Ok(Arc::new(table))
}

fn listing_config(
    stored: &StoredTable,
    command: &CreateExternalTable,
    state: &SessionState,
    stores: &ObjectStores,
) -> Result<ListingTableConfig, PlanningError> {
    let Some(factory) = state.get_file_format_factory(&command.file_type) else {
        return Err(PlanningError::Unsupported { what: format!("STORED AS {}", command.file_type) });
    };
    let format = factory.create(state, &command.options)?;
    let partition_schema = ipc::decode_schema(&stored.partition_schema)?;
    let column =
        |field: &Arc<Field>| -> (String, DataType) { (field.name().clone(), field.data_type().clone()) };
    let options = ListingOptions::new(format)
        .with_file_extension(&stored.file_extension)
        .with_table_partition_cols(partition_schema.fields().iter().map(column).collect())
        .with_file_sort_order(command.order_exprs.clone());
    let mut urls = Vec::with_capacity(stored.locations.len());
    for (url, glob) in &stored.locations {
        let url = url::Url::parse(url)
            .map_err(|error| datafusion::error::DataFusionError::External(Box::new(error)))?;
        stores.configure(&url, &stored.store_options);
        let url = ListingTableUrl::try_new(url, None)?.with_table_ref(command.name.clone());
        urls.push(match glob {
            Some(glob) => url.with_glob(glob)?,
            None => url,
        });
    }
    Ok(ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(options)
        .with_schema(ipc::decode_schema(&stored.file_schema)?))
}

/// Options of the object stores that `definition` names; `None` if it can't be read.
pub(crate) fn store_options(definition: &TableDef) -> Option<Options> {
    Some(postcard::from_bytes::<StoredTable>(&definition.provider).ok()?.store_options)
}
