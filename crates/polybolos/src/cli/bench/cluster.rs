//! A cluster of processes, for one measurement.

use std::{collections::BTreeMap, path::Path};

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use futures::TryStreamExt;
use polybolos_client::{Answer as Submitted, Client, ClientError, SubmitOptions};
use polybolos_env::Env;
use polybolos_model::JobId;

use super::{
    super::{
        args::FleetArgs,
        error::CliError,
        processes::{Fleet, Node, Shape},
        tpch::Answer,
    },
    peak,
};

/// DataFusion's settings of one statement.
pub(super) type Options = BTreeMap<String, String>;

/// Schedulers and executors of one slot.
pub(super) struct Cluster {
    fleet: Fleet,
    client: Client,
    env: Env,
    /// Of each executor.
    memory_bytes: u64,
}

/// Rows, and what was done for them.
pub(super) struct Ran {
    pub(super) answer: Answer,
    /// If the engine tells.
    pub(super) moved: Option<Moved>,
}

/// What a query has moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Of all outputs that other tasks have read.
    pub(super) shuffled_bytes: u64,
    /// By operators that ran out of memory. Outputs that went to disk are not in it.
    pub(super) spilled_bytes: u64,
}

impl Moved {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            shuffled_bytes: self.shuffled_bytes.saturating_add(other.shuffled_bytes),
            spilled_bytes: self.spilled_bytes.saturating_add(other.spilled_bytes),
        }
    }
}

/// The most memory that a process has had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peak {
    pub(super) process: String,
    pub(super) bytes: u64,
    /// That it was told to keep to, if it was.
    pub(super) budget_bytes: Option<u64>,
}

impl Cluster {
    /// Starts it with a folder below `folder`; `statements` make the tables.
    pub(super) async fn start(
        env: &Env,
        folder: &Path,
        args: &FleetArgs,
        statements: &[String],
    ) -> Result<Self, CliError> {
        let shape = Shape { schedulers: args.schedulers, executors: args.executors, slots: 1 };
        let mut fleet = Fleet::plan(env, Some(folder), shape).await?;
        let memory = args.memory.bytes.to_string();
        fleet.executors.iter_mut().for_each(|node| node.set_arg("--memory", &memory));
        fleet.launch().await?;
        let client = fleet.client()?;
        for statement in statements {
            client.query(statement.as_str()).await?;
        }
        Ok(Self { fleet, client, env: env.clone(), memory_bytes: args.memory.bytes })
    }

    /// # Errors
    /// The cluster can't be asked any more. What it says of the statement is in the inner result.
    pub(super) async fn run(&self, sql: &str, options: &Options) -> Result<Result<Ran, String>, CliError> {
        let started = self.env.clock.now();
        let asked: Result<(Option<JobId>, SchemaRef, Vec<RecordBatch>), ClientError> = async {
            Ok(match self.submit(sql, options).await? {
                Submitted::Inline(result) => (None, result.schema, result.batches),
                Submitted::Job(job) => (Some(job.id()), job.schema(), job.stream().try_collect().await?),
            })
        }
        .await;
        let elapsed = self.env.clock.now() - started;
        let (job, schema, batches) = match asked {
            Ok(answered) => answered,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let moved = Some(self.moved(job).await?);
        Ok(Ok(Ran { answer: Answer { schema, batches, elapsed }, moved }))
    }

    /// Hands each batch of the rows to `see` as it comes; none is kept. The job that made them.
    ///
    /// # Errors
    /// In the inner result, what the cluster says of the statement.
    pub(super) async fn stream(
        &self,
        sql: &str,
        mut see: impl FnMut(&RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<Result<Option<JobId>, String>, CliError> {
        let (job, mut rows) = match self.submit(sql, &Options::default()).await {
            Ok(Submitted::Job(job)) => (job.id(), job.stream()),
            Ok(Submitted::Inline(result)) => {
                result.batches.iter().try_for_each(see)?;
                return Ok(Ok(None));
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
        loop {
            match rows.try_next().await {
                Ok(Some(batch)) => see(&batch)?,
                Ok(None) => return Ok(Ok(Some(job))),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
    }

    async fn submit(&self, sql: &str, options: &Options) -> Result<Submitted, ClientError> {
        let options = SubmitOptions { options: options.clone(), ..SubmitOptions::default() };
        self.client.submit(sql, options).await
    }

    /// By all tasks of the job.
    pub(super) async fn moved(&self, job: Option<JobId>) -> Result<Moved, CliError> {
        let Some(job) = job else { return Ok(Moved::default()) };
        let mut moved = Moved::default();
        for stage in self.client.job(job).await?.stages {
            let is_inner = stage.exchange != "result";
            for metrics in stage.tasks.iter().filter_map(|task| task.metrics.as_ref()) {
                moved.shuffled_bytes += if is_inner { metrics.bytes_out } else { 0 };
                moved.spilled_bytes += metrics.spilled_bytes;
            }
        }
        Ok(moved)
    }

    /// Ends it, and tells how much memory each process has had.
    pub(super) async fn end(self) -> Result<Vec<Peak>, CliError> {
        self.client.settle().await;
        let peak = |(node, budget_bytes): (&Node, Option<u64>)| {
            let processes: Vec<u32> = node.process().into_iter().collect();
            Ok(Peak { process: node.name.clone(), bytes: peak::of_all(&processes)?, budget_bytes })
        };
        let schedulers = self.fleet.schedulers.iter().map(|node| (node, None));
        let executors = self.fleet.executors.iter().map(|node| (node, Some(self.memory_bytes)));
        schedulers.chain(executors).map(peak).collect()
    }
}
