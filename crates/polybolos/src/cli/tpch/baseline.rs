//! The same queries by plain DataFusion in this process, with as many threads as the cluster has slots.

use std::{sync::Arc, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    error::DataFusionError,
    logical_expr::{Expr, LogicalPlan},
    prelude::{SessionConfig, SessionContext},
};
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

pub(crate) struct Baseline {
    context: SessionContext,
    env: Env,
}

impl Baseline {
    /// `statements` make the tables.
    pub(crate) async fn open(slots: usize, statements: &[String]) -> Result<Self, CliError> {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(slots));
        for statement in statements {
            let made = async { context.sql(statement).await?.collect().await };
            made.await.map_err(|error| CliError::BaselineSetup(Box::new(error)))?;
        }
        Ok(Self { context, env: Env::production(slots).map_err(CliError::Threads)? })
    }

    pub(crate) async fn run(&self, query: u32, sql: &str) -> Result<Answer, CliError> {
        let (sender, receiver) = oneshot::channel();
        let (context, sql, clock) = (self.context.clone(), sql.to_owned(), Arc::clone(&self.env.clock));
        let task = self.env.cpu.spawn(Box::pin(async move {
            let started = clock.now();
            let answer: Result<Answer, DataFusionError> = async {
                let frame = context.sql(&sql).await?;
                let schema = SchemaRef::clone(frame.schema().inner());
                let batches = frame.collect().await?;
                Ok(Answer { schema, batches, elapsed: clock.now() - started })
            }
            .await;
            // The receiver lives as long as this task.
            let _heard = sender.send(answer);
        }));
        let answer = receiver.await.map_err(|_| CliError::Stopped)?;
        drop(task);
        answer.map_err(|source| CliError::Baseline { query, source: Box::new(source) })
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
