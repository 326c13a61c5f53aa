//! The cluster and DataFusion, asked for the same rows.

use std::time::Duration;

use arrow::{array::RecordBatch, util::display::ArrayFormatter};
use polybolos_client::QueryResult;

use super::{
    super::{
        super::{
            error::CliError,
            output::CELLS,
            tpch::{Answer, Baseline, difference},
        },
        cluster::Cluster,
    },
    Join, Way,
};

/// Both, and the answers that all must give.
pub(super) struct Sides {
    pub(super) cluster: Cluster,
    baseline: Baseline,
    expected: Vec<(Join, Answer, Vec<usize>)>,
}

impl Sides {
    pub(super) async fn new(cluster: Cluster, baseline: Baseline) -> Result<Self, CliError> {
        let mut expected = Vec::with_capacity(Join::ALL.len());
        for join in Join::ALL {
            let sql = join.sql();
            expected.push((join, baseline.run(0, &sql).await?, baseline.sort_columns(0, &sql).await?));
        }
        Ok(Self { cluster, baseline, expected })
    }

    /// # Errors
    /// A wrong answer, or none.
    pub(super) async fn run(&self, join: Join, way: Way) -> Result<Duration, CliError> {
        let sql = join.sql();
        let wrong =
            |got| CliError::WrongAnswer { sql: sql.clone(), expected: "DataFusion's answer".to_owned(), got };
        let answer = match way {
            Way::DataFusion => self.baseline.run(0, &sql).await?,
            Way::AsPlanned | Way::WithoutBroadcast => {
                self.cluster.run(&sql, &way.options()).await?.map_err(wrong)?.answer
            }
        };
        let actual = QueryResult { schema: answer.schema, batches: answer.batches };
        for (_, expected, keys) in self.expected.iter().filter(|expected| expected.0 == join) {
            if let Some(found) = difference(expected, &actual, keys)? {
                return Err(wrong(found));
            }
        }
        Ok(answer.elapsed)
    }

    /// The exchanges between the stages of the join, the first stage's first; none in one process.
    ///
    /// # Errors
    /// They are not those that are to be measured.
    pub(super) async fn exchanges(&self, join: Join, way: Way) -> Result<Vec<String>, CliError> {
        if way == Way::DataFusion {
            return Ok(Vec::new());
        }
        let sql = format!("EXPLAIN {}", join.sql());
        let wrong = |expected: &str, got| CliError::WrongAnswer {
            sql: sql.clone(),
            expected: expected.to_owned(),
            got,
        };
        let expected = match way {
            Way::AsPlanned => "a broadcast exchange",
            Way::WithoutBroadcast | Way::DataFusion => "hash exchanges of both tables",
        };
        let ran = self.cluster.run(&sql, &way.options()).await?;
        let plan = stage_graph(&ran.map_err(|error| wrong(expected, error))?.answer.batches)?;
        let exchanges = exchanges(&plan);
        let broadcasts = exchanges.iter().filter(|exchange| *exchange == "broadcast").count();
        let hashes = exchanges.iter().filter(|exchange| *exchange == "hash").count();
        let is_right = match way {
            Way::AsPlanned => broadcasts > 0,
            Way::WithoutBroadcast | Way::DataFusion => broadcasts == 0 && hashes >= 2,
        };
        if is_right { Ok(exchanges) } else { Err(wrong(expected, plan)) }
    }
}

/// Of an `EXPLAIN`.
fn stage_graph(batches: &[RecordBatch]) -> Result<String, CliError> {
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &CELLS));
        if let [kind, plan] = columns.collect::<Result<Vec<_>, _>>()?.as_slice() {
            let at = (0..batch.num_rows()).find(|row| kind.value(*row).to_string() == "stage_graph");
            if let Some(row) = at {
                return Ok(plan.value(row).to_string());
            }
        }
    }
    Ok(String::new())
}

fn exchanges(stage_graph: &str) -> Vec<String> {
    let heads = stage_graph.lines().filter(|line| line.starts_with("Stage "));
    let exchange = |head: &str| Some(head.split_once(" exchange")?.0.rsplit(' ').next()?.to_owned());
    let mut found: Vec<String> = heads.filter_map(exchange).collect();
    // The graph begins with the result.
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchanges_are_those_of_the_stage_graph() {
        let graph = "Stage 2: 1 task, result\n  SortPreservingMergeExec: [k]\n    Stage 9 exchange\n\
                     Stage 1: 2 tasks, hash exchange to 2 partitions\n  HashJoinExec\n\
                     Stage 0: 1 task, broadcast exchange, indeterminate: now exchange\n";
        assert_eq!(exchanges(graph), ["broadcast", "hash"]);
        assert_eq!(exchanges("Stage 0: 1 task, result\n"), Vec::<String>::new());
    }

    #[test]
    fn only_one_way_switches_broadcast_off() {
        assert_eq!(Way::WithoutBroadcast.options().len(), 2);
        assert!(Way::AsPlanned.options().is_empty() && Join::SkewedKeys.sql().contains("skewed_part"));
    }
}
