//! `EXPLAIN` and the rows of `EXPLAIN ANALYZE`.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    compute::concat_batches,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    error::DataFusionError,
    execution::SessionState,
    logical_expr::{Explain, LogicalPlan},
};

use super::{ipc, local, query};
use crate::error::PlanningError;

/// Between the parts of an encoded [`PlanTexts`]: ASCII's own separator of records, which no plan shows.
const SEPARATOR: char = '\u{1e}';

/// A query's plans in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanTexts {
    pub(crate) logical: String,
    pub(crate) physical: String,
}

impl PlanTexts {
    pub(crate) fn encode(&self) -> String {
        let clean = |text: &str| text.replace(SEPARATOR, " ");
        format!("{}{SEPARATOR}{}", clean(&self.logical), clean(&self.physical))
    }

    fn decode(text: &str) -> Self {
        let (logical, physical) = text.split_once(SEPARATOR).unwrap_or((text, ""));
        Self { logical: logical.to_owned(), physical: physical.to_owned() }
    }
}

/// DataFusion's rows, and one more with the stage graph.
///
/// # Errors
/// The query can't be planned.
pub(crate) async fn explain(
    statement: Explain,
    state: &SessionState,
    context: query::Context<'_>,
) -> Result<Vec<u8>, PlanningError> {
    let stays = local::reads_only_local(&statement.plan)?;
    let query = Arc::unwrap_or_clone(statement.plan);
    let query = if stays { query } else { local::materialize(query, state).await? };
    let (graph, state) = if stays {
        ("runs in the scheduler, in no stage".to_owned(), state.clone())
    } else {
        let job = query::plan_job(&query, state, context).await?;
        let state = if job.single_task { query::for_one_task(state) } else { state.clone() };
        (job.graph.to_string(), state)
    };
    let explained = LogicalPlan::Explain(Explain { plan: Arc::new(query), ..statement });
    let (schema, mut batches) = local::run(&explained, &state).await?;
    batches.push(rows(&schema, &[("stage_graph", &graph)])?);
    let one = concat_batches(&schema, &batches).map_err(DataFusionError::from)?;
    ipc::encode_answer(&schema, &[one])
}

/// The rows of an `EXPLAIN ANALYZE`: the plans as they were committed, and `analyzed`, the stages with their metrics.
///
/// # Errors
/// The rows don't fit a message.
pub(crate) fn profile(texts: &str, analyzed: &str) -> Result<Vec<u8>, PlanningError> {
    let PlanTexts { logical, physical } = PlanTexts::decode(texts);
    let column = |name| Field::new(name, DataType::Utf8, false);
    let schema = Arc::new(Schema::new(vec![column("plan_type"), column("plan")]));
    let plans =
        [("logical_plan", logical.as_str()), ("physical_plan", &physical), ("stages_with_metrics", analyzed)];
    ipc::encode_answer(&schema, &[rows(&schema, &plans)?])
}

fn rows(schema: &SchemaRef, rows: &[(&str, &str)]) -> Result<RecordBatch, DataFusionError> {
    let names: ArrayRef = Arc::new(rows.iter().map(|(name, _)| Some(*name)).collect::<StringArray>());
    let texts: ArrayRef = Arc::new(rows.iter().map(|(_, text)| Some(*text)).collect::<StringArray>());
    Ok(RecordBatch::try_new(Arc::clone(schema), vec![names, texts])?)
}
