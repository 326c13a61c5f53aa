//! TPC-H queries, compared with the answers that DataFusion gives in one process.

use std::{
    fs,
    path::{Path, PathBuf},
};

use polybolos_client::{Client, ClientError};
use rand::{Rng, seq::IndexedRandom};
use serde::Deserialize;
use serde_json::json;

use super::{Worker, digest, jobs::options, texts};
use crate::{
    history::{End, Op},
    os::{OsError, run as program},
};

/// The smallest at which queries have several stages of several tasks.
const SCALE: &str = "0.01";
const PARTITIONS: u32 = 4;

/// A query and the digest of its answer.
#[derive(Debug, Clone)]
struct Question {
    number: u32,
    sql: String,
    digest: String,
}

/// Data with questions and answers.
#[derive(Debug, Clone)]
pub struct Answers {
    data: PathBuf,
    questions: Vec<Question>,
}

/// A line of `polybolos tpch answers`.
#[derive(Deserialize)]
struct Line {
    query: u32,
    sql: String,
    rows: Vec<String>,
}

impl Answers {
    /// Generates data in `shared` and has DataFusion answer all queries over it, by the program `binary`.
    ///
    /// # Errors
    /// The program fails.
    pub async fn make(binary: &Path, shared: &Path) -> Result<Self, OsError> {
        let (data, binary) = (shared.join("tpch"), binary.to_string_lossy());
        let path = data.to_string_lossy();
        program(&binary, &["tpch", "generate", "--scale", SCALE, "--out", &path]).await?;
        let told = program(&binary, &["tpch", "answers", "--data", &path]).await?;
        let question = |line: &str| {
            let Line { query, sql, rows } = serde_json::from_str(line).map_err(|error| OsError::Failed {
                command: "polybolos tpch answers".to_owned(),
                stderr: error.to_string(),
            })?;
            Ok(Question { number: query, sql, digest: digest(rows) })
        };
        let questions = told.lines().map(question).collect::<Result<_, OsError>>()?;
        Ok(Self { questions, data })
    }

    /// Makes the tables.
    ///
    /// # Errors
    /// The cluster refuses.
    pub(super) async fn register(&self, client: &Client) -> Result<(), ClientError> {
        for entry in fs::read_dir(&self.data).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let (name, path) = (name.to_string_lossy(), path.display());
            client
                .query(format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{path}/'"))
                .await?;
        }
        Ok(())
    }
}

pub(super) async fn run(mut worker: Worker, answers: std::sync::Arc<Answers>) {
    let mut number = 0;
    while worker.goes_on().await {
        let Some(question) = answers.questions.choose(&mut worker.random) else { return };
        number += 1;
        let key = format!("{:x}-q{}-{}-{number}", worker.scene.seed, question.number, worker.process.id());
        let partitions = worker.random.random_range(1..=PARTITIONS);
        let call = async {
            let end = match worker.client.query_with(question.sql.as_str(), options(&key, partitions)).await {
                Ok(result) => match texts(&result.batches) {
                    Ok(rows) => {
                        let count = rows.len();
                        End::Ok(json!({"digest": digest(rows), "rows": count}))
                    }
                    Err(error) => End::Info(error.to_string()),
                },
                Err(error) => ended(&error),
            };
            (end, ())
        };
        worker.process.op(Op::job("query", &key), json!({"expect": question.digest}), call).await;
    }
    worker.client.settle().await;
}

/// A job that failed or was cancelled is there all the same.
fn ended(error: &ClientError) -> End {
    match error {
        ClientError::JobFailed { job, .. } => End::Ok(json!({"job": job.to_string(), "status": "failed"})),
        ClientError::Cancelled { job, .. } => End::Ok(json!({"job": job.to_string(), "status": "cancelled"})),
        error => End::of_change(error),
    }
}
