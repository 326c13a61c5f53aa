//! The right answers: DataFusion with the planner's mends, in one process and one partition, over the same tables.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arrow::{
    array::UInt64Array,
    compute::take_record_batch,
    error::ArrowError,
    record_batch::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    common::TableReference,
    datasource::MemTable,
    error::DataFusionError,
    execution::SessionStateBuilder,
    prelude::{SessionConfig, SessionContext},
};
use polybolos_model::settings;
use polybolos_planner::physical_rules;
use tokio::sync::OnceCell;

use super::{progress::Progress, tables, writes::copied};
use crate::schedule::{Action, Schedule};

/// Differing rows that are shown.
const SHOWN_ROWS: usize = 3;

/// What every query of a schedule must answer; and, as clients share it, how far their ops are.
pub struct Answers {
    schedule: Schedule,
    context: OnceCell<SessionContext>,
    known: Mutex<BTreeMap<String, Arc<Vec<String>>>>,
    pub(super) progress: Progress,
    /// When the first client began, since the start of the simulation.
    started: Mutex<Option<Duration>>,
}

impl Answers {
    pub fn new(schedule: &Schedule) -> Self {
        Self {
            schedule: schedule.clone(),
            context: OnceCell::new(),
            known: Mutex::default(),
            progress: Progress::default(),
            started: Mutex::default(),
        }
    }

    /// The rows of `sql` as text, in the order in which DataFusion gives them. Computed once.
    ///
    /// # Errors
    /// DataFusion's own: the query is wrong.
    pub async fn rows(&self, sql: &str) -> Result<Arc<Vec<String>>, DataFusionError> {
        if let Some(rows) = lock(&self.known).get(sql) {
            return Ok(Arc::clone(rows));
        }
        let context = self.context.get_or_try_init(|| self.with_views()).await?;
        let rows = match copied(sql) {
            // Its answer is how many rows it has written.
            Some(query) => vec![context.sql(query).await?.count().await?.to_string()],
            None => rows_of(&context.sql(sql).await?.collect().await?)?,
        };
        let rows = Arc::new(rows);
        lock(&self.known).insert(sql.to_owned(), Arc::clone(&rows));
        Ok(rows)
    }

    /// Compares all rows of a finished query, and says what is wrong with them.
    ///
    /// # Errors
    /// As [`Answers::rows`].
    pub async fn compare(
        &self,
        sql: &str,
        got: &[RecordBatch],
        ordered: bool,
    ) -> Result<Option<String>, DataFusionError> {
        let Some(expected) = self.known(sql).await? else { return Ok(None) };
        Ok(difference(&expected, rows_of(got)?, ordered))
    }

    /// The same for the first rows of a query that was not read to its end.
    ///
    /// # Errors
    /// As [`Answers::rows`].
    pub async fn compare_part(
        &self,
        sql: &str,
        got: &[RecordBatch],
        ordered: bool,
    ) -> Result<Option<String>, DataFusionError> {
        let Some(expected) = self.known(sql).await? else { return Ok(None) };
        let got = rows_of(got)?;
        if ordered {
            let first = expected.iter().take(got.len()).cloned().collect::<Vec<_>>();
            return Ok(difference(&first, got, true));
        }
        let (_, surplus) = unmatched(&expected, &got);
        Ok((!surplus.is_empty())
            .then(|| format!("of {} rows these are wrong: {}", got.len(), shown(&surplus))))
    }

    /// Whether the query has one answer only: over the same rows in the opposite order, by another plan and in other
    /// batches, it gives the same ones, as a multiset.
    ///
    /// # Errors
    /// As [`Answers::rows`].
    pub async fn is_sure(&self, sql: &str) -> Result<bool, DataFusionError> {
        let expected = self.rows(sql).await?;
        let other = self.context_with_views(
            &[("datafusion.execution.target_partitions", "3"), ("datafusion.execution.batch_size", "97")],
            RowOrder::Reversed,
        );
        let other = rows_of(&other.await?.sql(sql).await?.collect().await?)?;
        Ok(difference(&expected, other, false).is_none())
    }

    /// The rows of `sql`, unless DataFusion's own planner stands in the way.
    async fn known(&self, sql: &str) -> Result<Option<Arc<Vec<String>>>, DataFusionError> {
        match self.rows(sql).await {
            Err(error) if is_planning_bug(&error) => Ok(None),
            rows => rows.map(Some),
        }
    }

    /// How long ago the first client began.
    pub(super) fn elapsed(&self) -> Duration {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        now.saturating_sub(*lock(&self.started).get_or_insert(now))
    }

    /// Views are there from the start: their names are unique, and clients wait for their own.
    async fn with_views(&self) -> Result<SessionContext, DataFusionError> {
        self.context_with_views(&[("datafusion.execution.target_partitions", "1")], RowOrder::Given).await
    }

    async fn context_with_views(
        &self,
        options: &[(&str, &str)],
        order: RowOrder,
    ) -> Result<SessionContext, DataFusionError> {
        let options = options.iter().chain(&[("datafusion.execution.planning_concurrency", "1")]);
        let options = options.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let context = context_in(&self.schedule, &options, order).await?;
        for op in &self.schedule.ops {
            if let Action::Ddl { sql } = &op.action
                && sql.starts_with("CREATE VIEW")
                && let Err(error) = create(&context, sql).await
            {
                // What it reads may have been taken out of the schedule. The cluster refuses it too then.
                tracing::debug!(sql, %error, "a view can't be made");
            }
        }
        Ok(context)
    }
}

/// Whether DataFusion 55.2 refused its own plan: it drops a sort by what is constant, and forgets later that it is.
/// Nobody knows the answer then.
pub(super) fn is_planning_bug(error: &DataFusionError) -> bool {
    says_planning_bug(&error.to_string())
}

/// The same of an error's text.
pub(super) fn says_planning_bug(text: &str) -> bool {
    text.contains("SanityCheckPlan")
}

async fn create(context: &SessionContext, sql: &str) -> Result<(), DataFusionError> {
    context.sql(sql).await?.collect().await?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In which order tables have their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowOrder {
    Given,
    Reversed,
}

/// The tables of a schedule in DataFusion.
#[cfg(test)]
pub(super) async fn context(
    schedule: &Schedule,
    options: &BTreeMap<String, String>,
) -> Result<SessionContext, DataFusionError> {
    context_in(schedule, options, RowOrder::Given).await
}

async fn context_in(
    schedule: &Schedule,
    options: &BTreeMap<String, String>,
    order: RowOrder,
) -> Result<SessionContext, DataFusionError> {
    let mut config = SessionConfig::new();
    for (name, value) in options.iter().filter(|(name, _)| !settings::is_ours(name)) {
        config.options_mut().set(name, value)?;
    }
    let state = SessionStateBuilder::new_with_default_features()
        .with_config(config)
        // DataFusion answers some queries wrong by its own.
        .with_physical_optimizer_rules(physical_rules())
        .build();
    let context = SessionContext::new_with_state(state);
    for table in &schedule.tables {
        let mut files = tables::batches(schedule, table)?;
        if order == RowOrder::Reversed {
            files = files.iter().rev().map(reversed).collect::<Result<_, _>>()?;
        }
        // A partition a file, so that options which divide work have something to divide.
        let partitions = files.into_iter().map(|batch| vec![batch]).collect();
        let memory = MemTable::try_new(tables::schema(table), partitions)?;
        context.register_table(TableReference::bare(table.name.as_str()), Arc::new(memory))?;
    }
    Ok(context)
}

fn reversed(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let last_first: UInt64Array = (0..batch.num_rows() as u64).rev().collect::<Vec<_>>().into();
    take_record_batch(batch, &last_first)
}

/// Rows as text, in their order.
///
/// # Errors
/// A type that has no text.
pub(crate) fn rows_of(batches: &[RecordBatch]) -> Result<Vec<String>, ArrowError> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(cells.join("|"));
        }
    }
    Ok(rows)
}

/// What is wrong with `got`, if anything: as sequences, or as multisets.
pub(super) fn difference(expected: &[String], got: Vec<String>, ordered: bool) -> Option<String> {
    if ordered {
        let at = expected.iter().zip(&got).position(|(expected, got)| expected != got);
        return match at {
            Some(at) => Some(format!("row {at} of {} is {}, expected {}", got.len(), got[at], expected[at])),
            None if expected.len() == got.len() => None,
            None => Some(format!("{} rows, expected {}", got.len(), expected.len())),
        };
    }
    let (missing, surplus) = unmatched(expected, &got);
    let same = missing.is_empty() && surplus.is_empty();
    (!same).then(|| {
        let (rows, wanted) = (got.len(), expected.len());
        format!("{rows} rows, expected {wanted}; missing {}; surplus {}", shown(&missing), shown(&surplus))
    })
}

/// What only the one or the other multiset has.
fn unmatched<'a>(expected: &'a [String], got: &'a [String]) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for row in expected {
        *counts.entry(row).or_default() += 1;
    }
    for row in got {
        *counts.entry(row).or_default() -= 1;
    }
    let missing = counts.iter().filter(|(_, count)| **count > 0).map(|(row, _)| *row).collect();
    let surplus = counts.iter().filter(|(_, count)| **count < 0).map(|(row, _)| *row).collect();
    (missing, surplus)
}

fn shown(rows: &[&str]) -> String {
    if rows.is_empty() {
        return "none".to_owned();
    }
    let first: Vec<&str> = rows.iter().take(SHOWN_ROWS).copied().collect();
    format!("{} such as [{}]", rows.len(), first.join("], ["))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        schedule::Op,
        workload::testing::{schedule_of, table},
    };

    fn texts(rows: &[&str]) -> Vec<String> {
        rows.iter().map(|row| (*row).to_owned()).collect()
    }

    #[test]
    fn rows_are_compared_as_multisets_or_in_order() {
        let expected = texts(&["a", "b", "b"]);
        assert_eq!(difference(&expected, texts(&["b", "a", "b"]), false), None);
        assert_eq!(difference(&expected, texts(&["a", "b", "b"]), true), None);
        assert_eq!(
            difference(&expected, texts(&["b", "a", "b"]), true).unwrap(),
            "row 0 of 3 is b, expected a"
        );
        assert_eq!(
            difference(&expected, texts(&["a", "a", "b"]), false).unwrap(),
            "3 rows, expected 3; missing 1 such as [b]; surplus 1 such as [a]"
        );
        assert_eq!(difference(&expected, texts(&["a", "b"]), true).unwrap(), "2 rows, expected 3");
    }

    #[tokio::test]
    async fn views_of_the_schedule_are_known_and_parts_are_judged() {
        let mut schedule = schedule_of(vec![table("t", 50, 2)]);
        let view =
            |id, sql: &str| Op { id, at_ms: 0, client: 1, action: Action::Ddl { sql: sql.to_owned() } };
        schedule.ops.push(view(4, "CREATE VIEW v4 AS SELECT id AS c1 FROM t WHERE id < 3"));
        schedule.ops.push(view(5, "CREATE VIEW v5 AS SELECT * FROM gone"));
        let answers = Answers::new(&schedule);
        let sql = "SELECT c1 FROM v4 ORDER BY c1";
        assert_eq!(*answers.rows(sql).await.unwrap(), texts(&["0", "1", "2"]));
        assert!(answers.rows("SELECT * FROM v5").await.is_err());

        let context = context(&schedule, &BTreeMap::new()).await.unwrap();
        let got = context.sql("SELECT id FROM t WHERE id = 1").await.unwrap().collect().await.unwrap();
        assert_eq!(answers.compare_part(sql, &got, false).await.unwrap(), None);
        assert!(answers.compare_part(sql, &got, true).await.unwrap().is_some());
        assert!(answers.compare(sql, &got, false).await.unwrap().is_some());
    }
}
