//! `demo`: a cluster of processes, data, a query whose leader is killed in the middle, and an account of the pause.
//!
//! ```text
//!   run ──▶ data ──▶ Fleet (3 schedulers, 2 executors) ──▶ Show: submit ─▶ first tasks run ─▶ SIGKILL
//!                                                           │  ∥ who leads now · first new commit · the rows
//!                                                           ╰▶ compare with DataFusion ─▶ restart ─▶ state hashes
//! ```

use std::{path::Path, time::Duration};

use futures::{StreamExt, TryStreamExt};
use polybolos_client::{
    Answer, Client, ClientError, JobDetail, JobHandle, JobUpdate, QueryResult, StageProgress, SubmitOptions,
};
use polybolos_env::Env;
use tokio::time::sleep;

use super::{
    args::{DemoArgs, Format, ParquetCompression},
    error::CliError,
    local,
    output::{self, Printer},
    processes::{Fleet, Leading, Shape, leading, unless_interrupted},
    progress, status, text,
    tpch::{self, Baseline},
};

const SHAPE: Shape = Shape { schedulers: 3, executors: 2, slots: 1 };
/// Local suppliers' revenue by nation: six tables, five joins, a grouping and an order.
const QUERY: u32 = 5;
/// Runs of the query until one is caught in the middle.
const ATTEMPTS: u32 = 5;
const POLL: Duration = Duration::from_millis(5);

pub(crate) async fn run(args: DemoArgs) -> Result<(), CliError> {
    unless_interrupted(demo(args)).await
}

async fn demo(args: DemoArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let started = env.clock.now();
    let since = || text::milliseconds((env.clock.now() - started).as_secs_f64() * 1_000.0);
    let folder = tempfile::Builder::new().prefix("polybolos-demo-").tempdir();
    let making = |source| CliError::File { action: "making a folder in", path: std::env::temp_dir(), source };
    let folder = folder.map_err(making)?;

    eprintln!("1. Making TPC-H data at scale {} in {}", args.scale, folder.path().display());
    let writing = tpch::Writing { scale: args.scale, files: None, compression: ParquetCompression::Snappy };
    tpch::write_tables(folder.path(), writing, |line| eprintln!("   {line}")).await?;

    eprintln!("\n2. Starting three schedulers and two executors, each a process ({})", since());
    let fleet = Fleet::start(&env, None, SHAPE).await?;
    let mut show = Show { client: fleet.client()?, fleet, env: &env };
    let question = show.prepare(folder.path()).await?;
    show.run(&question).await?;
    eprintln!("\nDone in {}. Next: polybolos local --table NAME=FILE", since());
    Ok(())
}

/// The query, and what DataFusion in this process answers.
struct Question {
    sql: &'static str,
    expected: tpch::Answer,
    sort_columns: Vec<usize>,
}

struct Show<'a> {
    fleet: Fleet,
    client: Client,
    env: &'a Env,
}

/// What happened when, from the kill on.
struct Timeline {
    /// By the wall clock.
    killed_ms: u64,
    lines: Vec<(Duration, String)>,
}

/// A query under way.
struct Caught {
    job: JobHandle,
    /// What its tasks did last; `None` if it was not seen while they ran.
    update: Option<JobUpdate>,
}

impl Show<'_> {
    async fn prepare(&self, data: &Path) -> Result<Question, CliError> {
        let statements = tpch::register_statements(data)?;
        for statement in &statements {
            self.client.query(statement.as_str()).await?;
        }
        let sql = polybolos_planner::tpch_query(QUERY).ok_or(CliError::NoSuchQuery(QUERY))?;
        let baseline = Baseline::open(SHAPE.executors as usize, &statements).await?;
        let expected = baseline.run(QUERY, sql).await?;
        let sort_columns = baseline.sort_columns(QUERY, sql).await?;
        Ok(Question { sql, expected, sort_columns })
    }

    async fn run(&mut self, question: &Question) -> Result<(), CliError> {
        let old = self.fleet.leader().await?;
        for node in &self.fleet.schedulers {
            let role = if node.name == self.fleet.schedulers[old.at].name { ", the leader" } else { "" };
            eprintln!("   {} at {}{role}", node.name, node.address);
        }
        for executor in self.client.status().await?.executors {
            eprintln!("   {} at {}, {} slot", executor.executor_id, executor.address, executor.slots);
        }
        eprintln!(
            "\n3. Running TPC-H query {QUERY}, and killing the leader in the middle\n{}\n",
            question.sql.trim()
        );
        let caught = self.catch(question).await?;
        let (timeline, result) = self.lose(old, &caught).await?;
        let detail = self.client.job(caught.job.id()).await?;
        tell(&timeline, &caught, &detail, old);

        eprintln!("\n4. The answer");
        let mut printer = Printer::new(Format::Table, result.schema.clone(), std::io::stdout());
        result.batches.iter().try_for_each(|batch| printer.write(batch))?;
        printer.finish()?;
        if let Some(difference) = tpch::difference(&question.expected, &result, &question.sort_columns)? {
            eprintln!("   {difference}");
            return Err(CliError::Mismatch { count: 1, queries: QUERY.to_string() });
        }
        eprintln!("   {} rows, each value as DataFusion gives it in one process", result.num_rows());
        output::print(&format!("\n{}", status::job_table(&detail)))?;

        eprintln!("\n5. Starting {} again", self.fleet.schedulers[old.at].name);
        let started = self.env.clock.now();
        self.fleet.schedulers[old.at].start()?;
        let agreed = self.fleet.agree().await?;
        eprintln!(
            "   it has caught up after {}: all three have state {:016x} at entry {}",
            text::milliseconds((self.env.clock.now() - started).as_secs_f64() * 1_000.0),
            agreed.state_hash,
            agreed.applied_index
        );
        Ok(())
    }

    /// Submits the query until one of its runs is seen with work behind it and before it.
    async fn catch(&self, question: &Question) -> Result<Caught, CliError> {
        for _ in 1..ATTEMPTS {
            let job = self.submit(question.sql).await?;
            let mut updates = job.watch();
            while let Some(update) = updates.next().await {
                let update = update?;
                if is_in_the_middle(&update) {
                    return Ok(Caught { job, update: Some(update) });
                }
            }
            // It was over too soon. Its rows are given back.
            job.stream().try_collect::<Vec<_>>().await?;
        }
        Ok(Caught { job: self.submit(question.sql).await?, update: None })
    }

    async fn submit(&self, sql: &str) -> Result<JobHandle, CliError> {
        match self.client.submit(sql, SubmitOptions::default()).await? {
            Answer::Job(job) => Ok(job),
            Answer::Inline(_) => {
                let what = "a query was answered without a job".to_owned();
                Err(ClientError::Protocol { what }.into())
            }
        }
    }

    /// Kills the leader and notes what comes next.
    async fn lose(&mut self, old: Leading, caught: &Caught) -> Result<(Timeline, QueryResult), CliError> {
        let rows = caught.job.stream();
        let (killed, killed_ms) = (self.env.clock.now(), self.env.clock.wall_ms());
        self.fleet.schedulers[old.at].kill().await?;
        let since = || self.env.clock.now() - killed;
        let survivors = self.fleet.running();
        let led = async {
            loop {
                if let Some(new) = leading(self.env, &survivors).await {
                    return Ok::<_, CliError>((since(), new));
                }
                sleep(POLL).await;
            }
        };
        // Another program, so to speak: it has never heard of the leader that is gone.
        let other = self.fleet.client()?;
        let committed = async {
            other.query("CREATE OR REPLACE VIEW demo_after_the_kill AS SELECT 1 AS one").await?;
            Ok(since())
        };
        let finished = async {
            let batches: Vec<_> = rows.try_collect().await?;
            Ok((since(), QueryResult { schema: caught.job.schema(), batches }))
        };
        let ((led_at, new), committed_at, (done_at, result)) = tokio::try_join!(led, committed, finished)?;
        let name = |leading: Leading| self.fleet.schedulers[leading.at].name.as_str();
        let lines = vec![
            (Duration::ZERO, format!("{}, leader of term {}, is killed with SIGKILL", name(old), old.term)),
            (led_at, format!("{} leads, in term {}", name(new), new.term)),
            (committed_at, "the first new statement is committed and acknowledged".to_owned()),
            (done_at, format!("the query is done: {} rows", result.num_rows())),
        ];
        Ok((Timeline { killed_ms, lines }, result))
    }
}

fn is_in_the_middle(update: &JobUpdate) -> bool {
    let any = |is: fn(&StageProgress) -> bool| update.stages.iter().any(is);
    any(|stage| stage.done > 0) && any(|stage| stage.done < stage.tasks)
}

/// The timeline, and what became of the tasks.
fn tell(timeline: &Timeline, caught: &Caught, detail: &JobDetail, old: Leading) {
    let mut lines = timeline.lines.clone();
    lines.sort_by_key(|(at, _)| *at);
    for (at, line) in lines {
        eprintln!("   {:>8}  {line}", text::milliseconds(at.as_secs_f64() * 1_000.0));
    }
    let ended_ms = detail.summary.as_ref().map_or(0, |summary| summary.ended_at_ms);
    if ended_ms < timeline.killed_ms {
        eprintln!("   The query had ended before the kill, which hit nothing: try a larger --scale.");
        return;
    }
    match &caught.update {
        Some(update) => eprintln!("   At the kill: {}.", progress::line(update)),
        None => eprintln!(
            "   The kill came at once after the submit, as the query is too short: try a larger --scale."
        ),
    }
    let tasks = || detail.stages.iter().flat_map(|stage| &stage.tasks);
    let kept = tasks().filter(|task| task.attempt.is_some_and(|attempt| attempt.term <= old.term)).count();
    eprintln!(
        "   {kept} of {} tasks were started by the leader that died, and were not run again.",
        tasks().count()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_waits_for_work_behind_and_before_it() {
        let stage = |tasks, done| StageProgress { tasks, done, ..StageProgress::default() };
        let caught = |stages: &[StageProgress]| {
            is_in_the_middle(&JobUpdate { stages: stages.to_vec(), ..JobUpdate::default() })
        };
        assert!(caught(&[stage(2, 1), stage(1, 0)]) && caught(&[stage(2, 2), stage(1, 0)]));
        assert!(!caught(&[stage(2, 0), stage(1, 0)]) && !caught(&[stage(2, 2), stage(1, 1)]) && !caught(&[]));
    }
}
