//! TPC-H clients that compare every answer with DataFusion's.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::{
    array::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::future::join_all;
use polybolos::Client;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{fleet::Fleet, support::run};

/// Smaller data would make one task of each query.
const SCALE: &str = "0.1";
const TABLES: [&str; 8] =
    ["lineitem", "orders", "partsupp", "part", "customer", "supplier", "nation", "region"];

/// A query and its rows, in order.
struct Question {
    number: u32,
    sql: &'static str,
    rows: Vec<String>,
}

/// Data, and all 22 queries with their answers.
pub(crate) struct Tpch {
    folder: TempDir,
    questions: Vec<Question>,
}

impl Tpch {
    pub(crate) async fn make() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        run(&["tpch", "generate", "--scale", SCALE, "--out", data.to_str().unwrap()]).exits(0);
        let mut tpch = Self { folder, questions: Vec::new() };
        let (one, two) = (tpch.datafusion(1).await, tpch.datafusion(2).await);
        for number in 1..=22 {
            let sql = polybolos_planner::tpch_query(number).unwrap();
            let rows = answer(&one, sql).await;
            // Rows that tie in the query's order would come in any.
            assert_eq!(rows, answer(&two, sql).await, "query {number} has more than one answer");
            tpch.questions.push(Question { number, sql, rows });
        }
        Arc::new(tpch)
    }

    fn statements(&self) -> impl Iterator<Item = String> {
        TABLES.iter().map(|table| {
            let location = self.folder.path().join("data").join(table);
            format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{}/'", location.display())
        })
    }

    async fn datafusion(&self, partitions: usize) -> SessionContext {
        let context =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
        for statement in self.statements() {
            context.sql(&statement).await.unwrap().collect().await.unwrap();
        }
        context
    }

    pub(crate) async fn register(&self, client: &Client) {
        for statement in self.statements() {
            client.query(statement).await.unwrap();
        }
    }
}

async fn answer(context: &SessionContext, sql: &str) -> Vec<String> {
    rows(&context.sql(sql).await.unwrap().collect().await.unwrap())
}

/// Each row as text, in order.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(cells.join(" | "));
        }
    }
    rows
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Right answers, and how long each took.
    pub(crate) answers: Vec<Duration>,
    pub(crate) failures: Vec<String>,
}

/// Clients that run the queries over and over until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Each client has connections of its own and begins with another query.
    pub(crate) fn start(fleet: &Fleet, tpch: &Arc<Tpch>, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|number| {
            let first = number * tpch.questions.len() / clients;
            tokio::spawn(ask(fleet.client(), Arc::clone(tpch), first, Arc::clone(&stop)))
        });
        Self { clients: clients.collect(), stop }
    }

    /// Lets each client finish its query.
    pub(crate) async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for seen in join_all(self.clients).await {
            let seen = seen.unwrap();
            all.answers.extend(seen.answers);
            all.failures.extend(seen.failures);
        }
        all
    }
}

async fn ask(client: Client, tpch: Arc<Tpch>, first: usize, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    for question in tpch.questions.iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (started, number) = (Instant::now(), question.number);
        match client.query(question.sql).await {
            Ok(result) if rows(&result.batches) == question.rows => seen.answers.push(started.elapsed()),
            Ok(result) => {
                let (expected, got) = (&question.rows, rows(&result.batches));
                seen.failures.push(format!("query {number}: expected {expected:#?}, got {got:#?}"));
            }
            Err(error) => {
                seen.failures.push(format!("query {number}, after {:?}: {error}", started.elapsed()));
            }
        }
    }
    client.settle().await;
    seen
}

/// A table `n` of the numbers below `count`, and a query of one task that multiplies it by itself twice, with its answer.
pub(crate) fn slow_query(fleet: &Fleet, count: u64) -> (&'static str, String) {
    let path: &Path = fleet.folder.path();
    let numbers: String = (0..count).map(|n| format!("{n}\n")).collect();
    let file = crate::support::write(&path.join("n.csv"), format!("n\n{numbers}"));
    let create = format!(
        "CREATE EXTERNAL TABLE n STORED AS CSV LOCATION '{file}' OPTIONS ('format.has_header' 'true')"
    );
    fleet.sql(&create).exits(0);
    let sql = "SELECT count(*) AS c FROM n a, n b, n c WHERE (a.n * b.n + c.n) % 7 = 3";
    // By the remainders alone: a product of 7 x 7 x 7 classes.
    let of = |r: u64| (0..count).filter(|n| n % 7 == r).count() as u64;
    let classes = (0..7_u64).flat_map(|a| (0..7).map(move |b| (a, b, (3 + 49 - a * b) % 7)));
    let answer: u64 = classes.map(|(a, b, c)| of(a) * of(b) * of(c)).sum();
    (sql, answer.to_string())
}
