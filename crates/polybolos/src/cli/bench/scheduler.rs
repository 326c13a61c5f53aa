//! `bench scheduler`: what a task costs three scheduler processes, and whether that grows with executors, tasks or stages.
//!
//! ```text
//!   jobs submitted ─▶ fake executors attach, and hold what they get ─▶ all at once: run until every task is committed
//! ```
//!
//! Each line has a cluster of its own. The cost is the time that the three processes have spent on the CPU, by the kernel's
//! account: the executors, which share the machine with them, are not in it.

mod cost;
mod report;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use polybolos_client::{Answer, Client, SubmitOptions};
use polybolos_env::Env;
use polybolos_model::limits::MAX_ENDED_JOBS;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::{
    super::{
        args::{ListFormat, SchedulerBenchArgs},
        error::CliError,
        local, output,
        processes::{Fleet, Shape, unless_interrupted},
        tpch::Times,
    },
    as_many,
    fake_executor::{FakeExecutor, Progress, Widths, check_done},
};
use cost::cpu_time;
use report::{Report, Varied};

/// The executors are ours.
const SHAPE: Shape = Shape { schedulers: 3, executors: 0, slots: 0 };
/// Executors that share a connection.
const ON_A_CONNECTION: u32 = 100;
/// Registrations, and submits, under way at once.
const AT_ONCE: usize = 32;
const POLL: Duration = Duration::from_millis(5);
/// Longest wait for a task to be committed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured: as many jobs as have about `total` tasks in all.
#[derive(Debug, Clone, Copy)]
struct Load {
    executors: u32,
    /// Of all executors.
    slots: u32,
    /// Of a job, beside the one that reads.
    stages: u32,
    /// Of a stage.
    tasks: u32,
    total: u32,
}

impl Load {
    fn jobs(self) -> u32 {
        (self.total / (self.stages * self.tasks)).max(1)
    }

    /// Grouping over grouping, on nearly no rows: a stage each, over one that reads.
    fn sql(self) -> String {
        let read = "SELECT k, count(*) AS c FROM (VALUES (1), (2)) AS t(k) GROUP BY k".to_owned();
        (1..self.stages)
            .fold(read, |below, _| format!("SELECT c AS k, count(*) AS c FROM ({below}) AS t GROUP BY c"))
    }
}

/// What it took.
#[derive(Debug, Default)]
struct Cost {
    tasks: u64,
    elapsed: Duration,
    /// Of the three schedulers.
    cpu: Duration,
    /// From a report to its commitment.
    commits: Times,
}

impl Cost {
    fn per_second(&self) -> f64 {
        self.tasks as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / (self.tasks as f64).max(1.0)
    }
}

pub(crate) async fn scheduler(args: SchedulerBenchArgs) -> Result<(), CliError> {
    unless_interrupted(measure(args)).await
}

async fn measure(args: SchedulerBenchArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let [executors, tasks] = [&args.executors, &args.tasks].map(|counts| fewest(counts));
    // One of the three grows, and the others stay small: each executor that runs a task of a stage is told where all
    // outputs are that the stage reads, so that a product of both would measure these messages.
    let base = Load { executors, slots: args.slots, stages: 1, tasks, total: args.total };
    let by_executors = args.executors.iter().map(|&executors| Load { executors, ..base });
    let by_tasks = args.tasks.iter().map(|&tasks| Load { tasks, ..base });
    let by_stages = args.stages.iter().map(|&stages| Load { stages, ..base });
    let mut report = Report::default();
    let loads = by_executors
        .map(|load| (Varied::Executors, load))
        .chain(by_tasks.map(|load| (Varied::Tasks, load)))
        .chain(by_stages.map(|load| (Varied::Stages, load)));
    for (varied, load) in loads {
        let fleet = Fleet::start(&env, args.dir.as_deref(), SHAPE).await?;
        let cost = Run::new(&env, fleet, load)?.cost().await?;
        if args.format == ListFormat::Table {
            eprintln!("{}", report::progress(load, &cost));
        }
        report.add(varied, load, &cost);
    }
    output::print(&match args.format {
        ListFormat::Table => report.text(),
        ListFormat::Json => format!("{:#}\n", report.json()),
    })
}

fn fewest(counts: &[u32]) -> u32 {
    counts.iter().copied().min().unwrap_or(1)
}

struct Run {
    env: Env,
    fleet: Fleet,
    client: Client,
    load: Load,
}

impl Run {
    fn new(env: &Env, fleet: Fleet, load: Load) -> Result<Self, CliError> {
        let client = fleet.client()?;
        Ok(Self { env: env.clone(), fleet, client, load })
    }

    async fn cost(mut self) -> Result<Cost, CliError> {
        let leading = self.fleet.leader().await?;
        self.fleet.settled().await?;
        let (widths, total) = self.submit().await?;
        let (shape, shape_of) = watch::channel(Widths::new());
        let address = self.fleet.running().into_iter().find(|(at, _)| *at == leading.at).map(|(_, it)| it);
        let mut running = JoinSet::new();
        let progress = self.attach(&address.unwrap_or_default(), &shape_of, &mut running).await?;
        let before = self.cpu()?;
        let started = self.env.clock.now();
        shape.send_replace(widths);
        let all_done = tokio::select! {
            biased;
            done = self.committed(&progress, total) => done,
            Some(ended) = running.join_next() => ended.map_err(|_| CliError::Stopped).and_then(|ended| ended),
        };
        all_done?;
        let elapsed = self.env.clock.now() - started;
        let cpu = self.cpu()?.saturating_sub(before);
        // Those of more are not remembered.
        if self.load.jobs() as usize <= MAX_ENDED_JOBS {
            check_done(&self.client, total).await?;
        }
        if self.fleet.leader().await? != leading {
            eprintln!("the leader changed meanwhile, so that the numbers are of little use");
        }
        let mut commits = Times::default();
        for one in &progress {
            let (times, _) = one.lock().unwrap_or_else(PoisonError::into_inner).take();
            commits.append(times);
        }
        Ok(Cost { tasks: total, elapsed, cpu, commits })
    }

    /// Submits the jobs, and tells the shape of each and how many tasks all have.
    async fn submit(&self) -> Result<(Widths, u64), CliError> {
        let submit = |_| async {
            let width = ("datafusion.execution.target_partitions".to_owned(), self.load.tasks.to_string());
            let options = SubmitOptions { options: [width, as_many()].into(), ..SubmitOptions::default() };
            match self.client.submit(self.load.sql(), options).await? {
                Answer::Job(job) => Ok(job.id()),
                Answer::Inline(_) => Err(CliError::Stopped),
            }
        };
        let jobs: Vec<_> =
            stream::iter(0..self.load.jobs()).map(submit).buffer_unordered(AT_ONCE).try_collect().await?;
        let Some(first) = jobs.first() else { return Err(CliError::Stopped) };
        let stages = self.client.job(*first).await?.stages;
        let tasks: usize = stages.iter().map(|stage| stage.tasks.len()).sum();
        let widths = stages.iter().map(|stage| (stage.stage_id, stage.output_partitions as usize));
        Ok((widths.collect(), (tasks * jobs.len()) as u64))
    }

    async fn attach(
        &self,
        leader: &str,
        shape: &watch::Receiver<Widths>,
        running: &mut JoinSet<Result<(), CliError>>,
    ) -> Result<Vec<Arc<Mutex<Progress>>>, CliError> {
        let Load { executors, slots, .. } = self.load;
        let mut channels = Vec::new();
        for _ in 0..executors.div_ceil(ON_A_CONNECTION) {
            channels.push(FakeExecutor::connect(&self.env, leader).await?);
        }
        let each = (slots / executors).max(1);
        let seats = (0..executors).zip(channels.iter().cycle());
        let attach = |(number, channel): (u32, &tonic::transport::Channel)| {
            FakeExecutor::attach(&self.env, channel.clone(), number, each, shape.clone())
        };
        let mut attached = stream::iter(seats).map(attach).buffer_unordered(AT_ONCE);
        let mut progress = Vec::new();
        // Each beats from now on.
        while let Some(executor) = attached.try_next().await? {
            progress.push(executor.progress());
            running.spawn(executor.run());
        }
        Ok(progress)
    }

    async fn committed(&self, progress: &[Arc<Mutex<Progress>>], total: u64) -> Result<(), CliError> {
        let (mut last, mut moved) = (0, self.env.clock.now());
        loop {
            let one =
                |one: &Arc<Mutex<Progress>>| one.lock().unwrap_or_else(PoisonError::into_inner).committed;
            let done: u64 = progress.iter().map(one).sum();
            let now = self.env.clock.now();
            if done >= total {
                return Ok(());
            }
            if done > last {
                (last, moved) = (done, now);
            } else if now - moved > PATIENCE {
                let what = format!("no task was committed after {done} of {total}");
                return Err(CliError::NotInTime { what, waited: PATIENCE });
            }
            sleep(POLL).await;
        }
    }

    fn cpu(&self) -> Result<Duration, CliError> {
        let processes: Vec<u32> = self.fleet.schedulers.iter().filter_map(|node| node.process()).collect();
        cpu_time(&processes)
    }
}
