//! The engines: a cluster of processes, and DataFusion in one of its own.

use std::{path::Path, sync::Arc, time::Duration};

use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::writer::StreamWriter,
};
use futures::TryStreamExt;
use polybolos_client::{Answer as Submitted, Client, ClientError, SubmitOptions};
use polybolos_env::Env;
use polybolos_model::JobId;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{
    super::super::{
        args::{BenchTpchArgs, EngineArgs, EngineKind},
        error::CliError,
        files, output,
        processes::{Fleet, Shape},
        tpch::{Answer, Baseline, register_statements},
    },
    driver::{self, Driver, Request, Start},
    memory,
};

/// One that runs.
pub(super) enum Engine {
    Cluster(Box<Fleet>, Client, Env),
    Driver(Box<Driver>),
}

/// Rows, and what moved between tasks for them.
pub(super) struct Ran {
    pub(super) answer: Answer,
    /// If the engine tells.
    pub(super) shuffled_bytes: Option<u64>,
}

/// What the engines have to run with.
pub(super) struct Machine<'a> {
    pub(super) args: &'a BenchTpchArgs,
    pub(super) env: &'a Env,
    pub(super) data: &'a Path,
    /// For logs and answers.
    pub(super) folder: &'a Path,
}

impl Machine<'_> {
    pub(super) async fn start(&self, kind: EngineKind) -> Result<Start<Engine>, CliError> {
        let name = match kind {
            EngineKind::Polybolos => return self.cluster().await.map(Start::Ready),
            EngineKind::Datafusion => "datafusion",
            EngineKind::Duckdb => "duckdb",
            EngineKind::Spark => "spark",
            EngineKind::Ballista => "ballista",
            EngineKind::BallistaDefault => "ballista-default",
        };
        let (data, cores) = (self.data.to_string_lossy(), self.args.executors.to_string());
        let program = match kind {
            EngineKind::Datafusion => {
                let this = std::env::current_exe();
                this.map_err(|source| CliError::File { action: "starting", path: name.into(), source })?
            }
            _ => self.args.python.clone(),
        };
        let args: Vec<&str> = match kind {
            EngineKind::Datafusion => vec!["bench", "engine", "--data", &data, "--cores", &cores],
            _ => vec!["-c", driver::SCRIPT, name, &data, &cores],
        };
        Ok(match Driver::start(name, &program, &args, self.folder).await? {
            Start::Ready(driver) => Start::Ready(Engine::Driver(Box::new(driver))),
            Start::Missing { name, why } => Start::Missing { name, why },
        })
    }

    async fn cluster(&self) -> Result<Engine, CliError> {
        let shape = Shape { schedulers: self.args.schedulers, executors: self.args.executors, slots: 1 };
        let mut fleet = Fleet::plan(self.env, Some(self.folder), shape).await?;
        let memory = self.args.memory.bytes.to_string();
        fleet.executors.iter_mut().for_each(|node| node.set_arg("--memory", &memory));
        fleet.launch().await?;
        let client = fleet.client()?;
        for statement in register_statements(self.data)? {
            client.query(statement).await?;
        }
        Ok(Engine::Cluster(Box::new(fleet), client, self.env.clone()))
    }
}

impl Engine {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Cluster(..) => "polybolos",
            Self::Driver(driver) => &driver.name,
        }
    }

    /// # Errors
    /// The engine can't be asked any more. What it says of the statement is in the inner result.
    pub(super) async fn run(&mut self, sql: &str) -> Result<Result<Ran, String>, CliError> {
        match self {
            Self::Cluster(_, client, env) => on_cluster(client, env, sql).await,
            Self::Driver(driver) => {
                let answer = driver.run(sql).await?;
                Ok(answer.map(|answer| Ran { answer, shuffled_bytes: None }))
            }
        }
    }

    /// Ends it. The most memory that each of its processes has had, in bytes, in all.
    pub(super) async fn end(self) -> Result<u64, CliError> {
        match self {
            Self::Cluster(fleet, client, _) => {
                client.settle().await;
                let nodes = fleet.schedulers.iter().chain(&fleet.executors);
                memory::peak(&nodes.filter_map(|node| node.process()).collect::<Vec<_>>())
            }
            Self::Driver(driver) => driver.end().await,
        }
    }
}

async fn on_cluster(client: &Client, env: &Env, sql: &str) -> Result<Result<Ran, String>, CliError> {
    let started = env.clock.now();
    let asked: Result<(Option<JobId>, SchemaRef, Vec<RecordBatch>), ClientError> = async {
        Ok(match client.submit(sql, SubmitOptions::default()).await? {
            Submitted::Inline(result) => (None, result.schema, result.batches),
            Submitted::Job(job) => (Some(job.id()), job.schema(), job.stream().try_collect().await?),
        })
    }
    .await;
    let elapsed = env.clock.now() - started;
    let (job, schema, batches) = match asked {
        Ok(answered) => answered,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let shuffled_bytes = match job {
        Some(job) => shuffled(client, job).await?,
        None => 0,
    };
    let answer = Answer { schema, batches, elapsed };
    Ok(Ok(Ran { answer, shuffled_bytes: Some(shuffled_bytes) }))
}

/// Bytes of all outputs that other tasks have read.
async fn shuffled(client: &Client, job: JobId) -> Result<u64, CliError> {
    let stages = client.job(job).await?.stages;
    let inner = stages.iter().filter(|stage| stage.exchange != "result");
    let tasks = inner.flat_map(|stage| &stage.tasks);
    Ok(tasks.filter_map(|task| task.metrics.as_ref()).map(|metrics| metrics.bytes_out).sum())
}

/// Answers lines of standard input with DataFusion, as engines/driver.py does with other engines.
pub(crate) async fn serve(args: EngineArgs) -> Result<(), CliError> {
    let baseline = Baseline::open(args.cores as usize, &register_statements(&args.data)?).await?;
    output::print(&format!("{}\n", json!({"version": datafusion::DATAFUSION_VERSION})))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let reading = |source| CliError::File { action: "reading", path: "standard input".into(), source };
    while let Some(line) = lines.next_line().await.map_err(reading)? {
        let request: Request = serde_json::from_str(&line).map_err(|error| reading(error.into()))?;
        let said = match baseline.run(0, &request.sql).await {
            Ok(answer) => {
                write(&answer, &request.answer)?;
                json!({"ms": millis(answer.elapsed)})
            }
            Err(error) => json!({"error": error.to_string()}),
        };
        output::print(&format!("{said}\n"))?;
    }
    Ok(())
}

fn millis(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1_000.0
}

fn write(answer: &Answer, path: &Path) -> Result<(), CliError> {
    let schema = answer.batches.first().map_or_else(|| SchemaRef::clone(&answer.schema), RecordBatch::schema);
    let mut bytes = StreamWriter::try_new(Vec::new(), &schema)?;
    for batch in &answer.batches {
        bytes.write(batch)?;
    }
    let bytes = bytes.into_inner()?;
    let writing = |source| CliError::File { action: "writing", path: path.to_owned(), source };
    files::write_durably(path, &bytes).map_err(writing)
}

/// `schema` with floats for decimals.
pub(super) fn comparable(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            decimal if decimal.is_decimal() => DataType::Float64,
            other => other.clone(),
        };
        Field::new(field.name(), data_type, true)
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The same columns, by their positions, with the names and types of `schema`.
pub(super) fn conform(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, ArrowError> {
    let conform = |batch: &RecordBatch| {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        RecordBatch::try_new(SchemaRef::clone(schema), columns.collect::<Result<_, _>>()?)
    };
    batches.iter().map(conform).collect()
}
