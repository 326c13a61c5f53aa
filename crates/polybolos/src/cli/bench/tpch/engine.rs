//! The engines: a cluster of processes, and DataFusion in one of its own.

use std::{path::Path, sync::Arc, time::Duration};

use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::writer::StreamWriter,
};
use polybolos_env::Env;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::super::{
    super::{
        args::{BenchTpchArgs, EngineArgs, EngineKind},
        error::CliError,
        files, output,
        tpch::{Answer, Baseline, Limit, register_statements},
    },
    cluster::{Cluster, Options, Ran},
    data::create_statements,
    driver::{self, Driver, Request, Start},
    memory::Digest,
};

/// One that runs.
pub(super) enum Engine {
    Cluster(Box<Cluster>),
    Driver(Box<Driver>),
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
            EngineKind::Datafusion => driver::DATAFUSION,
            EngineKind::Duckdb => "duckdb",
            EngineKind::Spark => "spark",
            EngineKind::Ballista => "ballista",
            EngineKind::BallistaDefault => "ballista-default",
        };
        let (data, cores) = (self.data.to_string_lossy(), self.args.fleet.executors.to_string());
        let started = match kind {
            EngineKind::Datafusion => {
                Driver::datafusion(&["--data", &data, "--cores", &cores], self.folder).await?
            }
            _ => {
                let args = ["-c", driver::SCRIPT, name, &data, &cores];
                Driver::start(name, &self.args.python, &args, self.folder).await?
            }
        };
        Ok(match started {
            Start::Ready(driver) => Start::Ready(Engine::Driver(Box::new(driver))),
            Start::Missing { name, why } => Start::Missing { name, why },
        })
    }

    async fn cluster(&self) -> Result<Engine, CliError> {
        let statements = register_statements(self.data)?;
        let cluster = Cluster::start(self.env, self.folder, &self.args.fleet, &statements).await?;
        Ok(Engine::Cluster(Box::new(cluster)))
    }
}

impl Engine {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Cluster(_) => "polybolos",
            Self::Driver(driver) => &driver.name,
        }
    }

    /// # Errors
    /// The engine can't be asked any more. What it says of the statement is in the inner result.
    pub(super) async fn run(&mut self, sql: &str) -> Result<Result<Ran, String>, CliError> {
        match self {
            Self::Cluster(cluster) => cluster.run(sql, &Options::default()).await,
            Self::Driver(driver) => {
                let answer = driver.run(sql).await?;
                Ok(answer.map(|answer| Ran { answer, moved: None }))
            }
        }
    }

    /// Ends it. The most memory that each of its processes has had, in bytes, in all.
    pub(super) async fn end(self) -> Result<u64, CliError> {
        match self {
            Self::Cluster(cluster) => Ok(cluster.end().await?.iter().map(|peak| peak.bytes).sum()),
            Self::Driver(driver) => driver.end().await,
        }
    }
}

/// Answers lines of standard input with DataFusion, as engines/driver.py does with other engines.
pub(crate) async fn serve(args: EngineArgs) -> Result<(), CliError> {
    let mut statements = args.data.as_deref().map_or_else(|| Ok(Vec::new()), register_statements)?;
    statements.extend(create_statements(&args.tables)?);
    let limit =
        args.memory.zip(args.spill).map(|(memory, spill)| Limit { memory_bytes: memory.bytes, spill });
    let baseline = Baseline::open_within(limit, args.cores as usize, &statements).await?;
    output::print(&format!("{}\n", json!({"version": datafusion::DATAFUSION_VERSION})))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let reading = |source| CliError::File { action: "reading", path: "standard input".into(), source };
    while let Some(line) = lines.next_line().await.map_err(reading)? {
        let request: Request = serde_json::from_str(&line).map_err(|error| reading(error.into()))?;
        let said = match request.answer {
            Some(path) => match baseline.run(0, &request.sql).await {
                Ok(answer) => {
                    write(&answer, &path)?;
                    json!({"ms": millis(answer.elapsed)})
                }
                Err(error) => json!({"error": error.to_string()}),
            },
            None => match baseline.fold(0, &request.sql, Digest::default(), Digest::add).await {
                Ok((digest, elapsed)) => json!({"digest": {"digest": digest, "ms": millis(elapsed)}}),
                Err(error) => json!({"error": error.to_string()}),
            },
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
