//! `bench recovery`: what the loss of an executor costs a query.
//!
//! ```text
//!   each query: without a kill ─▶ untimed, then --repeat times: the middle one counts
//!               with one ─▶ SIGKILL (or --fault) at 10, 50, 90 % of that ─▶ answer compared ─▶ the executor comes back
//!   logs of the processes ─▶ when it was noticed (schedulers), what ran for nothing (executors)
//!   the cluster's log of the job ─▶ done tasks that ran again
//! ```

mod fault;
mod report;
mod summary;
mod work;

use std::{cell::Cell, time::Duration};

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use polybolos_client::{Answer as Submitted, Client, ClientError, QueryResult, SubmitOptions};
use polybolos_env::Env;
use polybolos_model::JobId;
use tokio::time::sleep;

use self::{
    report::{Kill, Outcome, Row},
    work::Work,
};
use super::super::{
    args::{ListFormat, ParquetCompression, RecoveryArgs, RecoveryFault},
    error::CliError,
    local, output,
    processes::{Fleet, Shape, unless_interrupted},
    tpch::{Answer, Baseline, Times, Writing, difference, register_statements, write_tables},
};

/// What the processes log: [`work`] and [`work::lost_at_ms`] read it.
const EXECUTORS_LOG: &str = "info,polybolos_executor::task=debug";
const SCHEDULERS_LOG: &str = "info,openraft=off";
/// How often a kill is tried that came after the end of its query.
const TRIES: u32 = 3;
/// Longest time until a killed executor is lost.
const NOTICE_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

pub(crate) async fn recovery(args: RecoveryArgs) -> Result<(), CliError> {
    unless_interrupted(measure(args)).await
}

async fn measure(args: RecoveryArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let shape = Shape { schedulers: args.schedulers, executors: args.executors, slots: args.slots };
    let mut fleet = Fleet::plan(&env, args.dir.as_deref(), shape).await?;
    fleet.schedulers.iter_mut().for_each(|node| node.filter = Some(SCHEDULERS_LOG));
    fleet.executors.iter_mut().for_each(|node| node.filter = Some(EXECUTORS_LOG));
    let _disks = fault::prepare(&mut fleet, args.fault).await?;
    if args.durable {
        let url = format!("file://{}", fleet.folder().join("durable").display());
        let copies = ["--shuffle-durable", &url, "--shuffle-durable-mode", "before"];
        fleet.executors.iter_mut().for_each(|node| node.add_args(&copies));
    }
    let data = fleet.folder().join("data");
    eprintln!("making TPC-H data at scale {}", args.scale);
    let writing = Writing { scale: args.scale, files: None, compression: ParquetCompression::Snappy };
    write_tables(&data, writing, |_| {}).await?;
    fleet.launch().await?;
    let (client, statements) = (fleet.client()?, register_statements(&data)?);
    for statement in &statements {
        client.query(statement.as_str()).await?;
    }
    let slots = args.executors as usize * args.slots as usize;
    let baseline = Baseline::open(slots, &statements).await?;
    let mut bench = Bench { fleet, client, env, baseline, fault: args.fault, kills: 0 };
    let queries: Vec<u32> = if args.queries.is_empty() { (1..=22).collect() } else { args.queries.clone() };
    let as_table = args.format == ListFormat::Table;
    if as_table {
        output::print(&report::header())?;
    }
    let mut rows = Vec::with_capacity(queries.len());
    for query in queries {
        let in_query = |source| CliError::Query { query, source: Box::new(source) };
        let row = bench.run(query, args.repeat, &args.kill_at).await.map_err(in_query)?;
        if as_table {
            output::print(&row.lines())?;
        }
        rows.push(row);
    }
    bench.client.settle().await;
    output::print(&match args.format {
        ListFormat::Table => report::summary(&rows),
        ListFormat::Json => format!("{:#}\n", report::json(&rows)),
    })?;
    report::verdict(&rows)
}

struct Bench {
    fleet: Fleet,
    client: Client,
    env: Env,
    baseline: Baseline,
    fault: RecoveryFault,
    /// So far: each hits another executor.
    kills: usize,
}

/// A query and what it must answer.
struct Question {
    sql: &'static str,
    expected: Answer,
    sort_columns: Vec<usize>,
}

impl Question {
    fn difference(&self, actual: &QueryResult) -> Result<Option<String>, CliError> {
        difference(&self.expected, actual, &self.sort_columns)
    }
}

/// One run of a query.
struct Ran {
    elapsed: Duration,
    /// If it was accepted, and is one.
    job: Option<JobId>,
    result: Result<QueryResult, ClientError>,
}

impl Bench {
    async fn run(&mut self, query: u32, repeat: u32, kill_at: &[u32]) -> Result<Row, CliError> {
        let sql = polybolos_planner::tpch_query(query).ok_or(CliError::NoSuchQuery(query))?;
        let sort_columns = self.baseline.sort_columns(query, sql).await?;
        let question = Question { sql, expected: self.baseline.run(query, sql).await?, sort_columns };
        let (mut without, mut difference) = (Times::default(), None);
        for round in 0..=repeat {
            let ran = timed(&self.client, &self.env, sql).await;
            difference = difference.or(question.difference(&ran.result?)?);
            if round > 0 {
                without.add(ran.elapsed);
            }
        }
        let without_ms = without.median_ms();
        let mut row = Row { query, without_ms, difference, kills: Vec::new() };
        for &percent in kill_at {
            let after = Duration::from_secs_f64(without_ms / 1_000.0 * f64::from(percent) / 100.0);
            row.kills.push(self.with_kill(&question, percent, after).await?);
        }
        Ok(row)
    }

    async fn with_kill(
        &mut self,
        question: &Question,
        percent: u32,
        after: Duration,
    ) -> Result<Kill, CliError> {
        for _ in 0..TRIES {
            let victim = self.kills % self.fleet.executors.len();
            let begins = self.log_lengths()?;
            let (ran, killed_ms) = self.kill_during(question.sql, victim, after).await?;
            let Some(killed_ms) = killed_ms else { continue };
            self.kills += 1;
            let lost_ms = match fault::is_noticed(self.fault) {
                true => Some(self.noticed(victim, &begins.schedulers).await?),
                false => None,
            };
            let work = self.work(victim, killed_ms, &begins.executors)?;
            fault::heal(&mut self.fleet, victim, self.fault).await?;
            let redone = self.redone(ran.job).await?;
            let outcome = match ran.result {
                Ok(result) => Outcome::Answered {
                    ms: ran.elapsed.as_secs_f64() * 1_000.0,
                    difference: question.difference(&result)?,
                },
                Err(error) => Outcome::Failed(error.to_string()),
            };
            let detection_ms = lost_ms.map(|lost_ms| (lost_ms - killed_ms).max(0.0));
            return Ok(Kill { percent, outcome, detection_ms, work, redone });
        }
        let work = Work::default();
        Ok(Kill { percent, outcome: Outcome::Missed, detection_ms: None, work, redone: 0 })
    }

    /// Runs the query, and the fault strikes so long after its begin. When, in ms since the Unix epoch, or `None` if
    /// the query had ended before.
    async fn kill_during(
        &mut self,
        sql: &str,
        victim: usize,
        after: Duration,
    ) -> Result<(Ran, Option<f64>), CliError> {
        let (client, env, nodes, fault) = (&self.client, &self.env, &mut self.fleet.executors, self.fault);
        let ended = Cell::new(false);
        let query = async {
            let ran = timed(client, env, sql).await;
            ended.set(true);
            ran
        };
        let kill = async {
            sleep(after).await;
            if ended.get() {
                return Ok(None);
            }
            fault::strike(nodes, victim, fault, env).await.map(Some)
        };
        let (ran, killed) = tokio::join!(query, kill);
        Ok((ran, killed?))
    }

    /// When a scheduler logged that the executor is lost.
    async fn noticed(&self, victim: usize, begins: &[u64]) -> Result<f64, CliError> {
        let name = &self.fleet.executors[victim].name;
        let started = self.env.clock.now();
        while self.env.clock.now() - started < NOTICE_DEADLINE {
            for (node, &begin) in self.fleet.schedulers.iter().zip(begins) {
                if let Some(lost_ms) = work::lost_at_ms(&node.logged(begin)?, name) {
                    return Ok(lost_ms);
                }
            }
            sleep(POLL).await;
        }
        Err(CliError::NotInTime {
            what: format!("the loss of {name} was not noticed"),
            waited: NOTICE_DEADLINE,
        })
    }

    /// Done tasks of the job that ran again, by the cluster's log.
    async fn redone(&self, job: Option<JobId>) -> Result<u64, CliError> {
        let Some(job) = job else { return Ok(0) };
        Ok(self.client.job(job).await?.toll.map_or(0, |toll| toll.lost_tasks))
    }

    fn work(&self, victim: usize, killed_ms: f64, begins: &[u64]) -> Result<Work, CliError> {
        let mut logs = Vec::with_capacity(begins.len());
        for (node, &begin) in self.fleet.executors.iter().zip(begins) {
            logs.push(node.logged(begin)?);
        }
        let is_dead = |node| match self.fault {
            RecoveryFault::KillAll => true,
            RecoveryFault::Kill => node == victim,
            RecoveryFault::Stop | RecoveryFault::DeleteFiles | RecoveryFault::FullDisk => false,
        };
        Ok(Work::of(&logs, is_dead, killed_ms))
    }

    fn log_lengths(&self) -> Result<Begins, CliError> {
        Ok(Begins {
            schedulers: self
                .fleet
                .schedulers
                .iter()
                .map(|node| node.log_length())
                .collect::<Result<_, _>>()?,
            executors: self.fleet.executors.iter().map(|node| node.log_length()).collect::<Result<_, _>>()?,
        })
    }
}

/// How long each log was before a run.
struct Begins {
    schedulers: Vec<u64>,
    executors: Vec<u64>,
}

async fn timed(client: &Client, env: &Env, sql: &str) -> Ran {
    let started = env.clock.now();
    let (job, result) = match client.submit(sql, SubmitOptions::default()).await {
        Ok(Submitted::Inline(result)) => (None, Ok(result)),
        Ok(Submitted::Job(job)) => {
            let batches: Result<Vec<RecordBatch>, _> = job.stream().try_collect().await;
            (Some(job.id()), batches.map(|batches| QueryResult { schema: job.schema(), batches }))
        }
        Err(error) => (None, Err(error)),
    };
    Ran { elapsed: env.clock.now() - started, job, result }
}
