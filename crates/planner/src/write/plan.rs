//! From DataFusion's plan of a statement that writes to one whose tasks stage their files.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::DataType,
    datasource::{listing::ListingTableUrl, physical_plan::FileSinkConfig, sink::DataSinkExec},
    logical_expr::dml::InsertOp,
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions::Column},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, coalesce_partitions::CoalescePartitionsExec,
        sorts::sort::SortExec,
    },
};
use object_store::path::{Path, PathPart};
use polybolos_model::{JobId, WriteTarget};
use url::Url;

use super::{exec::WriteExec, partition::partition_indices, sink::Sink};
use crate::error::PlanError;

/// A statement that writes.
#[derive(Debug, Clone)]
pub struct WritePlan {
    /// For [`crate::stage_graph`]. Its tasks give no rows.
    pub plan: Arc<dyn ExecutionPlan>,
    pub target: WriteTarget,
    /// By whose values rows are spread over folders, in their order.
    pub partition_columns: Vec<String>,
}

/// Makes `plan`, DataFusion's for `COPY` or `INSERT`, one that runs on a cluster.
///
/// Tasks write side by side, unless there is to be one file or the rows have an order as a whole. Where files go by the
/// values of columns, each task sorts its rows by these: so it has one file open at a time, however many values there are.
///
/// # Errors
/// [`PlanError::Unwritable`] for what can't be written so that it is read back as it was, and for what is not written to
/// files at all.
pub fn write_plan(plan: Arc<dyn ExecutionPlan>) -> Result<WritePlan, PlanError> {
    let Some(node) = plan.downcast_ref::<DataSinkExec>() else {
        return Err(unwritable("it makes rows for its reader"));
    };
    let Some((sink, config)) = Sink::of(node.sink()) else {
        return Err(unwritable("only Parquet, CSV and JSON files are written"));
    };
    if config.insert_op != InsertOp::Append {
        return Err(unwritable("rows are added; what is there is not overwritten or replaced"));
    }
    let target = target(config, &sink).map_err(unwritable)?;
    let columns = partition_columns(config).map_err(unwritable)?;
    let input = by_partition(side_by_side(node.input(), &target), &columns);
    let input = input.map_err(PlanError::datafusion("the rows of a partitioned table"))?;
    let partition_columns = config.table_partition_cols.iter().map(|(name, _)| name.clone()).collect();
    Ok(WritePlan { plan: Arc::new(WriteExec::new(input, sink, target.clone())), target, partition_columns })
}

fn unwritable(reason: impl Into<String>) -> PlanError {
    PlanError::Unwritable { reason: reason.into() }
}

fn target(config: &FileSinkConfig, sink: &Sink) -> Result<WriteTarget, String> {
    let Some(place) = config.table_paths.first() else { return Err("it names no place".to_owned()) };
    let url = place.get_url();
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("'{url}' has a '?' or '#', which must be written as %3F and %23"));
    }
    let single_file =
        config.table_partition_cols.is_empty() && config.file_output_mode.single_file_output(place);
    let mut url = url.to_string();
    match (single_file, url.ends_with('/')) {
        (true, true) => return Err(format!("'{url}' is a folder, and no name for a single file")),
        (false, false) => url.push('/'),
        (true, false) | (false, true) => {}
    }
    let target = WriteTarget { url, extension: sink.extension(), single_file };
    if !is_seen(place, &target) {
        let name = format!("…{}", target.extension);
        return Err(format!("the table at '{place}' would not read files that are named {name}"));
    }
    Ok(target)
}

/// Whether what is published belongs to the table.
fn is_seen(place: &ListingTableUrl, target: &WriteTarget) -> bool {
    let sample = target.published(JobId(0), 0, &target.staged_name(0));
    let path = Url::parse(&sample).ok().and_then(|url| Path::from_url_path(url.path()).ok());
    path.is_some_and(|path| place.get_glob().is_none() || place.contains(&path, true))
}

/// Positions of the columns by whose values rows are spread over folders.
fn partition_columns(config: &FileSinkConfig) -> Result<Vec<usize>, String> {
    let schema = config.output_schema();
    let columns = partition_indices(config).map_err(|error| error.strip_backtrace())?;
    for &column in &columns {
        let field = schema.field(column);
        let name = field.name();
        // Readers compare the folder's name with the column's as it is.
        if name.contains('=') || PathPart::from(name.as_str()).as_ref() != name {
            return Err(format!("the name of the partition column '{name}' can't be that of a folder"));
        }
        if !has_text(field.data_type()) {
            let of = field.data_type();
            return Err(format!(
                "'{name}' is {of}; a partition column must be text, a whole or floating number, a date or true or false"
            ));
        }
    }
    if columns.len() == schema.fields().len() && !config.keep_partition_by_columns {
        return Err("all columns are partition columns, so nothing is left for the files".to_owned());
    }
    Ok(columns)
}

/// Whether a value of the type is read back from the name of a folder.
fn has_text(of: &DataType) -> bool {
    match of {
        DataType::Dictionary(_, values) => has_text(values),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Boolean
        | DataType::Date32
        | DataType::Date64 => true,
        other => other.is_integer() || other.is_floating(),
    }
}

/// DataFusion gathers all rows for its one writer; here each task is one.
fn side_by_side(input: &Arc<dyn ExecutionPlan>, target: &WriteTarget) -> Arc<dyn ExecutionPlan> {
    if target.single_file {
        let many = input.output_partitioning().partition_count() > 1;
        return if many {
            Arc::new(CoalescePartitionsExec::new(Arc::clone(input)))
        } else {
            Arc::clone(input)
        };
    }
    let gathered = input.downcast_ref::<CoalescePartitionsExec>().filter(|gather| gather.fetch().is_none());
    Arc::clone(gathered.map_or(input, CoalescePartitionsExec::input))
}

/// Sorts each partition by `columns`, and within equal values keeps the order that there is.
fn by_partition(
    input: Arc<dyn ExecutionPlan>,
    columns: &[usize],
) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let column =
        |&at: &usize| PhysicalSortExpr::new_default(Arc::new(Column::new(schema.field(at).name(), at)));
    let keys: Vec<_> = columns.iter().map(column).collect();
    let order = input.output_ordering().cloned().into_iter().flatten();
    let Some(order) = LexOrdering::new(keys.iter().cloned().chain(order)).filter(|_| !keys.is_empty()) else {
        return Ok(input);
    };
    if input.equivalence_properties().ordering_satisfy(order.iter().cloned())? {
        return Ok(input);
    }
    Ok(Arc::new(SortExec::new(order, input).with_preserve_partitioning(true)))
}
