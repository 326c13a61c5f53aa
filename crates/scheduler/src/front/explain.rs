//! `EXPLAIN`, `EXPLAIN FAULTS` and the rows of `EXPLAIN ANALYZE`.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, UInt32Array},
    compute::concat_batches,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    error::DataFusionError,
    execution::SessionState,
    logical_expr::{Explain, LogicalPlan},
};

use polybolos_model::{StageGraph, recorded::RecordedDurability};
use polybolos_state::{StageRisk, Supposed, loss_preview};

use super::{ipc, local, query, writes::Destination};
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

/// DataFusion's rows, and one more with the stage graph; and one with the places of files, of a statement that writes.
///
/// # Errors
/// The query can't be planned.
pub(crate) async fn explain(
    statement: Explain,
    state: &SessionState,
    context: query::Context<'_>,
) -> Result<Vec<u8>, PlanningError> {
    let stays = !query::is_write(&statement.plan) && local::reads_only_local(&statement.plan)?;
    let query = Arc::unwrap_or_clone(statement.plan);
    let query = if stays { query } else { local::materialize(query, state).await? };
    let (more, state) = if stays {
        (vec![("stage_graph", "runs in the scheduler, in no stage".to_owned())], state.clone())
    } else {
        let job = query::plan_job(&query, state, context).await?;
        let state = job.width.map_or_else(|| state.clone(), |width| query::of_width(state, width));
        let files = job.write.as_ref().map(|write| ("files", places(write)));
        ([("stage_graph", job.graph.to_string())].into_iter().chain(files).collect(), state)
    };
    let explained = LogicalPlan::Explain(Explain { plan: Arc::new(query), ..statement });
    let (schema, mut batches) = local::run(&explained, &state).await?;
    let more: Vec<(&str, &str)> = more.iter().map(|(name, text)| (*name, text.as_str())).collect();
    batches.push(rows(&schema, &more)?);
    let one = concat_batches(&schema, &batches).map_err(DataFusionError::from)?;
    ipc::encode_answer(&schema, &[one])
}

/// `EXPLAIN ANALYZE` takes queries only, and `EXPLAIN` what writes files too.
///
/// # Errors
/// The statement is another one.
pub(crate) fn refuse_non_query(plan: &LogicalPlan) -> Result<(), PlanningError> {
    match plan {
        LogicalPlan::Ddl(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::DescribeTable(_) => {
            Err(PlanningError::Unsupported { what: "EXPLAIN of a statement that is no query".to_owned() })
        }
        _ => Ok(()),
    }
}

fn places(write: &Destination) -> String {
    let (staged, published) = write.target.places(&write.partition_columns);
    format!("staged below {staged}\npublished as {published}")
}

/// The query of an `EXPLAIN FAULTS query`, which no parser knows.
pub(crate) fn query_of_faults(sql: &str) -> Option<&str> {
    let after = |text: &'_ str, word: &str| -> Option<usize> {
        let start = text.len() - text.trim_start().len();
        let end = start + word.len();
        let is_word = text.get(start..end)?.eq_ignore_ascii_case(word)
            && text.get(end..)?.starts_with(char::is_whitespace);
        is_word.then_some(end)
    };
    let faults = sql.get(after(sql, "EXPLAIN")?..)?;
    faults.get(after(faults, "FAULTS")?..)
}

/// What the loss of one executor would cost the query, a row a stage: while the stage's outputs are read, half of its
/// readers being done.
///
/// # Errors
/// The query can't be planned.
pub(crate) async fn faults(
    query: LogicalPlan,
    state: &SessionState,
    context: query::Context<'_>,
    supposed: Supposed,
) -> Result<Vec<u8>, PlanningError> {
    let column = |name, kind| Field::new(name, kind, false);
    let schema = Arc::new(Schema::new(vec![
        column("while_stage_is_read", DataType::UInt32),
        column("finished_tasks", DataType::UInt32),
        column("run_again", DataType::UInt32),
        column("which", DataType::Utf8),
    ]));
    let (graph, write) = if !query::is_write(&query) && local::reads_only_local(&query)? {
        (StageGraph::default(), None)
    } else {
        let query = local::materialize(query, state).await?;
        let job = query::plan_job(&query, state, context).await?;
        (job.graph, job.write)
    };
    let risks = loss_preview(&graph, write.as_ref().map(|write| &write.target), supposed);
    let copied = match supposed.durability {
        RecordedDurability::Off => None,
        RecordedDurability::Background => Some("at most: what is in the durable store by then does not"),
        RecordedDurability::Before => Some("nothing: all that is done is in the durable store"),
    };
    let which = |risk: &StageRisk| {
        let mut words: Vec<String> =
            risk.reruns.iter().map(|(stage, tasks)| format!("{tasks} of stage {stage}")).collect();
        let reason = graph.stage(risk.stage).and_then(|stage| stage.indeterminate.as_ref());
        if !risk.reruns.is_empty() {
            words.extend(reason.map(|reason| match risk.fails {
                true => format!("and the query fails, as its rows may differ: {reason}"),
                false => format!("its readers too, as its rows may differ: {reason}"),
            }));
        }
        words.extend(copied.map(str::to_owned));
        words.join(", ")
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(risks.iter().map(|risk| Some(risk.stage.0)).collect::<UInt32Array>()),
        Arc::new(risks.iter().map(|risk| Some(risk.done)).collect::<UInt32Array>()),
        Arc::new(
            risks.iter().map(|risk| Some(risk.reruns.iter().map(|(_, n)| n).sum())).collect::<UInt32Array>(),
        ),
        Arc::new(risks.iter().map(|risk| Some(which(risk))).collect::<StringArray>()),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(DataFusionError::from)?;
    ipc::encode_answer(&schema, &[batch])
}

/// The rows of an `EXPLAIN ANALYZE`: the plans as they were committed, `analyzed`, the stages with their metrics, and
/// `timeline`, what went wrong meanwhile.
///
/// # Errors
/// The rows don't fit a message.
pub(crate) fn profile(texts: &str, analyzed: &str, timeline: &str) -> Result<Vec<u8>, PlanningError> {
    let PlanTexts { logical, physical } = PlanTexts::decode(texts);
    let column = |name| Field::new(name, DataType::Utf8, false);
    let schema = Arc::new(Schema::new(vec![column("plan_type"), column("plan")]));
    let plans = [
        ("logical_plan", logical.as_str()),
        ("physical_plan", &physical),
        ("stages_with_metrics", analyzed),
        ("timeline", timeline),
    ];
    ipc::encode_answer(&schema, &[rows(&schema, &plans)?])
}

fn rows(schema: &SchemaRef, rows: &[(&str, &str)]) -> Result<RecordBatch, DataFusionError> {
    let names: ArrayRef = Arc::new(rows.iter().map(|(name, _)| Some(*name)).collect::<StringArray>());
    let texts: ArrayRef = Arc::new(rows.iter().map(|(_, text)| Some(*text)).collect::<StringArray>());
    Ok(RecordBatch::try_new(Arc::clone(schema), vec![names, texts])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explain_faults_is_told_from_other_statements() {
        assert_eq!(query_of_faults(" explain  Faults\nSELECT 1"), Some("\nSELECT 1"));
        for other in
            ["EXPLAIN SELECT 1", "EXPLAIN FAULTSELECT 1", "EXPLAINFAULTS SELECT 1", "", "explain é faults x"]
        {
            assert_eq!(query_of_faults(other), None, "{other}");
        }
    }
}
