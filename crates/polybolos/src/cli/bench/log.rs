//! `bench log`: what a commit costs on three scheduler processes, beside an fsync of the disk that they use.
//!
//! ```text
//!   fsync ─▶ 1 client: SET after SET ─▶ many clients ─▶ fake executor: completions ─▶ fsync again
//!                  commit latency          entries/s        completions/s
//! ```
//!
//! A commit is timed at the client, so that it holds the way there and back, which is shown apart.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use polybolos_client::{Answer, Client, SubmitOptions};
use polybolos_env::{Env, grpc};
use polybolos_model::{JobId, SessionId};
use polybolos_proto::v1::{LeaderRequest, query_service_client::QueryServiceClient};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use super::{
    super::{
        args::{ListFormat, LogArgs},
        error::CliError,
        local, output,
        processes::{Fleet, Shape, unless_interrupted},
        text,
        tpch::Times,
    },
    as_many,
    fake_executor::{FakeExecutor, Progress, Widths, check_done},
    fsync,
};

/// The executor is ours.
const SHAPE: Shape = Shape { schedulers: 3, executors: 0, slots: 0 };
/// The disk is measured this long before, and as long after.
const FSYNC_LASTING: Duration = Duration::from_secs(1);
/// Jobs under way at once, so that tasks are at hand while one of them is planned.
const JOBS: u64 = 4;
/// The measurement of completions ends at so many: what comes after is the cost of snapshots of a state of that size,
/// as ended jobs are remembered.
const MAX_COMPLETIONS: u64 = 200_000;
const POLL: Duration = Duration::from_millis(5);
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) async fn log(args: LogArgs) -> Result<(), CliError> {
    unless_interrupted(measure(args)).await
}

/// What was committed in a time.
#[derive(Debug, Default)]
struct Commits {
    /// Each as its client saw it.
    times: Times,
    count: u64,
    entries: u64,
    elapsed: Duration,
}

impl Commits {
    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn json(&self) -> Value {
        let [p50, p99] = [0.5, 0.99].map(|share| self.times.quantile_ms(share));
        json!({"count": self.count, "per_second": self.per_second(self.count), "p50_ms": p50, "p99_ms": p99,
               "entries": self.entries, "entries_per_second": self.per_second(self.entries)})
    }

    fn line(&self, what: &str) -> String {
        let [p50, p99] = [0.5, 0.99].map(|share| text::milliseconds(self.times.quantile_ms(share)));
        format!(
            "{what}: {:.0} a second in {:.0} entries a second, p50 {p50}, p99 {p99}\n",
            self.per_second(self.count),
            self.per_second(self.entries)
        )
    }
}

async fn measure(args: LogArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let lasting = Duration::from_secs(u64::from(args.seconds));
    let mut fleet = Fleet::start(&env, args.dir.as_deref(), SHAPE).await?;
    let mut bench = Bench { client: fleet.client()?, leader: String::new(), env };
    let mut fsyncs = Times::default();
    fsync::measure(&bench.env, fleet.folder(), FSYNC_LASTING, &mut fsyncs).await?;
    let leading = fleet.leader().await?;
    bench.leader.clone_from(&fleet.schedulers[leading.at].address);
    bench.statements(1, WARM_UP).await?;
    let empty = bench.empty_calls(FSYNC_LASTING).await?;
    let alone = bench.statements(1, lasting).await?;
    let many = bench.statements(args.clients, lasting).await?;
    let completions = bench.completions(args.tasks, lasting).await?;
    fsync::measure(&bench.env, fleet.folder(), FSYNC_LASTING, &mut fsyncs).await?;
    if fleet.leader().await? != leading {
        eprintln!("the leader changed meanwhile, so that the numbers are of little use");
    }
    let folder = fleet.folder().parent().map(PathBuf::from).unwrap_or_default();
    let report = Report { args: &args, folder, fsyncs, empty, alone, many, completions };
    output::print(&match args.format {
        ListFormat::Table => report.text(),
        ListFormat::Json => format!("{:#}\n", report.json()),
    })
}

struct Bench {
    client: Client,
    /// Its address.
    leader: String,
    env: Env,
}

impl Bench {
    /// Calls that reach the leader and commit nothing.
    async fn empty_calls(&self, lasting: Duration) -> Result<Times, CliError> {
        let failed = |what: String| CliError::Node { name: self.leader.clone(), what, log: String::new() };
        let channel = grpc::connect(&self.env.net, &self.leader).await;
        let mut query = QueryServiceClient::new(channel.map_err(|error| failed(error.to_string()))?);
        let (mut times, started) = (Times::default(), self.env.clock.now());
        loop {
            let begun = self.env.clock.now();
            if begun - started >= lasting {
                return Ok(times);
            }
            query.leader(LeaderRequest {}).await.map_err(|status| failed(status.to_string()))?;
            times.add(self.env.clock.now() - begun);
        }
    }

    /// `clients` that each set an option, over and over.
    async fn statements(&self, clients: u32, lasting: Duration) -> Result<Commits, CliError> {
        let (before, started) = (self.committed_index().await?, self.env.clock.now());
        let one = |_| self.statements_of_one(started, lasting);
        let clients = clients as usize;
        let all: Vec<Vec<Duration>> =
            stream::iter(0..clients).map(one).buffer_unordered(clients).try_collect().await?;
        let elapsed = self.env.clock.now() - started;
        let mut commits =
            Commits { elapsed, entries: self.committed_index().await? - before, ..Commits::default() };
        for time in all.into_iter().flatten() {
            commits.times.add(time);
            commits.count += 1;
        }
        Ok(commits)
    }

    async fn statements_of_one(
        &self,
        started: tokio::time::Instant,
        lasting: Duration,
    ) -> Result<Vec<Duration>, CliError> {
        let session = SessionId::new(format!("bench-{:016x}", self.env.random.next_u64())).ok();
        let mut times = Vec::new();
        for number in 0_u64.. {
            let begun = self.env.clock.now();
            if begun - started >= lasting {
                break;
            }
            let options = SubmitOptions { session: session.clone(), ..SubmitOptions::default() };
            let sql = format!("SET datafusion.execution.batch_size = {}", 1_000 + number % 1_000);
            self.client.submit(sql, options).await?;
            times.push(self.env.clock.now() - begun);
        }
        Ok(times)
    }

    /// A fake executor with room for all tasks of some jobs, and what it got committed.
    async fn completions(&self, tasks: u32, lasting: Duration) -> Result<Commits, CliError> {
        let (widths, shape) = watch::channel(Widths::new());
        let slots = tasks.saturating_mul(u32::try_from(JOBS).unwrap_or(1));
        let leader = FakeExecutor::connect(&self.env, &self.leader).await?;
        let executor = FakeExecutor::attach(&self.env, leader, 0, slots, shape).await?;
        let progress = executor.progress();
        let running = tokio::spawn(executor.run());
        let measured = self.count_completions(tasks, lasting, &widths, &progress);
        tokio::select! {
            biased;
            measured = measured => measured,
            ended = running => Err(ended.map_err(|_| CliError::Stopped).and_then(|ended| ended).err().unwrap_or(CliError::Stopped)),
        }
    }

    async fn count_completions(
        &self,
        tasks: u32,
        lasting: Duration,
        widths: &watch::Sender<Widths>,
        progress: &Mutex<Progress>,
    ) -> Result<Commits, CliError> {
        // Each change is a whole one.
        let progress = || progress.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.submit_wide(tasks).await?;
        let total = self.learn(first, widths).await?;
        let mut under_way = vec![first.to_string()];
        let began = self.env.clock.now();
        let mut counted_from = None;
        loop {
            let now = self.env.clock.now();
            match counted_from {
                None if now - began >= WARM_UP => {
                    let index = self.committed_index().await?;
                    progress().take();
                    counted_from = Some((self.env.clock.now(), index));
                }
                Some((started, index))
                    if now - started >= lasting || progress().committed >= MAX_COMPLETIONS =>
                {
                    let (times, count) = progress().take();
                    let entries = self.committed_index().await? - index;
                    let all = progress().by_job.values().sum();
                    check_done(&self.client, all).await?;
                    return Ok(Commits { times, count, entries, elapsed: now - started });
                }
                None | Some(_) => {}
            }
            {
                let progress = progress();
                under_way.retain(|job| progress.by_job.get(job).is_none_or(|done| *done < total));
            }
            if (under_way.len() as u64) < JOBS {
                under_way.push(self.submit_wide(tasks).await?.to_string());
            } else {
                sleep(POLL).await;
            }
        }
    }

    /// A query of a stage of `tasks` tasks below one task that reads nearly nothing.
    async fn submit_wide(&self, tasks: u32) -> Result<JobId, CliError> {
        let width = ("datafusion.execution.target_partitions".to_owned(), tasks.to_string());
        let options = SubmitOptions { options: [width, as_many()].into(), ..SubmitOptions::default() };
        let sql = "SELECT k, count(*) AS c FROM (VALUES (1), (2)) AS t(k) GROUP BY k";
        match self.client.submit(sql, options).await? {
            Answer::Job(job) => Ok(job.id()),
            Answer::Inline(_) => Err(CliError::Stopped),
        }
    }

    /// Tells the executor the shape of the jobs, and returns the tasks of each.
    async fn learn(&self, job: JobId, widths: &watch::Sender<Widths>) -> Result<u64, CliError> {
        let stages = self.client.job(job).await?.stages;
        let width =
            |stage: &polybolos_client::StageDetail| (stage.stage_id, stage.output_partitions as usize);
        widths.send_replace(stages.iter().map(width).collect());
        Ok(stages.iter().map(|stage| stage.tasks.len() as u64).sum())
    }

    async fn committed_index(&self) -> Result<u64, CliError> {
        let replicas = self.client.status().await?.replicas;
        Ok(replicas.iter().map(|replica| replica.committed_index).max().unwrap_or(0))
    }
}

struct Report<'a> {
    args: &'a LogArgs,
    folder: PathBuf,
    fsyncs: Times,
    empty: Times,
    alone: Commits,
    many: Commits,
    completions: Commits,
}

impl Report<'_> {
    fn ratio(&self) -> f64 {
        self.alone.times.quantile_ms(0.99) / self.fsyncs.quantile_ms(0.99).max(f64::MIN_POSITIVE)
    }

    fn text(&self) -> String {
        let quantiles = |times: &Times| {
            let [p50, p99] = [0.5, 0.99].map(|share| times.quantile_ms(share));
            format!("p50 {p50:.3} ms, p99 {p99:.3} ms")
        };
        let mut text = format!("fsync of 4 KiB in {}: {}\n", self.folder.display(), quantiles(&self.fsyncs));
        text.push_str(&format!("a call that commits nothing: {}\n", quantiles(&self.empty)));
        text.push_str(&self.alone.line("commits of 1 client"));
        text.push_str(&format!("their p99 is {:.1} times the p99 of an fsync\n", self.ratio()));
        text.push_str(&self.many.line(&format!("commits of {} clients", self.args.clients)));
        text.push_str(&self.completions.line(&format!("task completions, {} a job", self.args.tasks)));
        text
    }

    fn json(&self) -> Value {
        let [p50, p99] = [0.5, 0.99].map(|share| self.alone.times.quantile_ms(share));
        let entries = self.many.per_second(self.many.entries);
        json!({
            "folder": self.folder.display().to_string(), "seconds": self.args.seconds,
            "fsync_p50_ms": self.fsyncs.quantile_ms(0.5), "fsync_p99_ms": self.fsyncs.quantile_ms(0.99),
            "empty_call_p50_ms": self.empty.quantile_ms(0.5), "empty_call_p99_ms": self.empty.quantile_ms(0.99),
            "commit_p50_ms": p50, "commit_p99_ms": p99, "commit_p99_over_fsync_p99": self.ratio(),
            "entries_per_second": entries,
            "completions_per_second": self.completions.per_second(self.completions.count),
            "one_client": self.alone.json(),
            "many_clients": {"clients": self.args.clients, "commits": self.many.json()},
            "completions": {"tasks_per_job": self.args.tasks, "reports": self.completions.json()},
        })
    }
}
