//! The same queries by plain DataFusion in this process, with as many threads as the cluster has slots.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use datafusion::{
    error::DataFusionError,
    execution::{memory_pool::FairSpillPool, runtime_env::RuntimeEnvBuilder},
    logical_expr::{Expr, LogicalPlan},
    prelude::{SessionConfig, SessionContext},
};
use futures::TryStreamExt;
use polybolos_env::Env;
use tokio::sync::oneshot;

use super::super::error::CliError;

/// Rows of one run and how long they took.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) elapsed: Duration,
}

/// Memory of its operators, and where they keep what does not fit.
pub(crate) struct Limit {
    pub(crate) memory_bytes: u64,
    pub(crate) spill: PathBuf,
}

pub(crate) struct Baseline {
    context: SessionContext,
    env: Env,
}

impl Baseline {
    /// `statements` make the tables.
    pub(crate) async fn open(slots: usize, statements: &[String]) -> Result<Self, CliError> {
        Self::open_within(None, slots, statements).await
    }

    /// The same with a limit of memory, if there is one.
    pub(crate) async fn open_within(
        limit: Option<Limit>,
        slots: usize,
        statements: &[String],
    ) -> Result<Self, CliError> {
        let failed = |error| CliError::BaselineSetup(Box::new(error));
        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(limit) = limit {
            let bytes = usize::try_from(limit.memory_bytes).unwrap_or(usize::MAX);
            // Shared as executors share theirs.
            runtime = runtime.with_memory_pool(Arc::new(FairSpillPool::new(bytes)));
            runtime = runtime.with_temp_file_path(limit.spill);
        }
        let config = SessionConfig::new().with_target_partitions(slots);
        let context = SessionContext::new_with_config_rt(config, runtime.build_arc().map_err(failed)?);
        for statement in statements {
            let made = async { context.sql(statement).await?.collect().await };
            made.await.map_err(failed)?;
        }
        Ok(Self { context, env: Env::production(slots).map_err(CliError::Threads)? })
    }

    pub(crate) async fn run(&self, query: u32, sql: &str) -> Result<Answer, CliError> {
        let sql = sql.to_owned();
        let rows = |context: SessionContext| async move {
            let frame = context.sql(&sql).await?;
            let schema = SchemaRef::clone(frame.schema().inner());
            Ok((schema, frame.collect().await?))
        };
        let ((schema, batches), elapsed) = self.timed(query, rows).await?;
        Ok(Answer { schema, batches, elapsed })
    }

    /// Hands each batch of the rows to `add` as it comes; none is kept. What became of `into`, and how long it took.
    pub(crate) async fn fold<T: Send + 'static>(
        &self,
        query: u32,
        sql: &str,
        mut into: T,
        add: fn(&mut T, &RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<(T, Duration), CliError> {
        let sql = sql.to_owned();
        let rows = |context: SessionContext| async move {
            let mut rows = context.sql(&sql).await?.execute_stream().await?;
            while let Some(batch) = rows.try_next().await? {
                add(&mut into, &batch)?;
            }
            Ok(into)
        };
        self.timed(query, rows).await
    }

    /// Does `work` on the threads for it.
    async fn timed<T, F>(
        &self,
        query: u32,
        work: impl FnOnce(SessionContext) -> F,
    ) -> Result<(T, Duration), CliError>
    where
        F: Future<Output = Result<T, DataFusionError>> + Send + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let (work, clock) = (work(self.context.clone()), Arc::clone(&self.env.clock));
        let task = self.env.cpu.spawn(Box::pin(async move {
            let started = clock.now();
            let done = work.await;
            // The receiver lives as long as this task.
            let _heard = sender.send((done, clock.now() - started));
        }));
        let (done, elapsed) = receiver.await.map_err(|_| CliError::Stopped)?;
        drop(task);
        let done = done.map_err(|source| CliError::Baseline { query, source: Box::new(source) })?;
        Ok((done, elapsed))
    }

    /// Columns of the result by which the outermost `ORDER BY` sorts, most significant first.
    ///
    /// A key that is not a column of the result ends the list: from there on nothing can be checked.
    pub(crate) async fn sort_columns(&self, query: u32, sql: &str) -> Result<Vec<usize>, CliError> {
        let plan = self.context.state().create_logical_plan(sql).await;
        let plan = plan.map_err(|source| CliError::Baseline { query, source: Box::new(source) })?;
        Ok(sort_columns(&plan))
    }
}

fn sort_columns(plan: &LogicalPlan) -> Vec<usize> {
    match plan {
        LogicalPlan::Limit(limit) => sort_columns(&limit.input),
        LogicalPlan::SubqueryAlias(alias) => sort_columns(&alias.input),
        LogicalPlan::Sort(sort) => {
            let position = |expr: &Expr| match expr {
                Expr::Column(column) => sort.input.schema().maybe_index_of_column(column),
                _ => None,
            };
            sort.expr.iter().map_while(|key| position(&key.expr)).collect()
        }
        // Columns that only the order needs are sorted by and then left out.
        LogicalPlan::Projection(projection) => {
            let shown = |inner: usize| {
                let (qualifier, field) = projection.input.schema().qualified_field(inner);
                projection.expr.iter().position(|expr| match expr {
                    Expr::Column(column) => {
                        column.name == *field.name() && column.relation.as_ref() == qualifier
                    }
                    _ => false,
                })
            };
            sort_columns(&projection.input).into_iter().map_while(shown).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn columns(sql: &str) -> Vec<usize> {
        let made = ["CREATE TABLE t (a INT, b INT, c INT) AS VALUES (1, 2, 3)".to_owned()];
        Baseline::open(1, &made).await.unwrap().sort_columns(1, sql).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_outermost_order_is_found() {
        assert_eq!(columns("SELECT a, b FROM t").await, Vec::<usize>::new());
        assert_eq!(columns("SELECT a, b FROM t ORDER BY b DESC, a LIMIT 3").await, [1, 0]);
        assert_eq!(columns("SELECT a, sum(b) AS s FROM t GROUP BY a ORDER BY s, 1").await, [1, 0]);
        assert_eq!(columns("SELECT a FROM (SELECT a, b FROM t ORDER BY b) ORDER BY a").await, [0]);
        // `c` is not in the result: only what stands before it can be checked.
        assert_eq!(columns("SELECT b, a FROM t ORDER BY a, c, b").await, [1]);
        assert_eq!(columns("SELECT a FROM t ORDER BY a % 2").await, Vec::<usize>::new());
    }
}
