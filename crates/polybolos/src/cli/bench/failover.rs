//! `bench failover`: the pause that a client sees when the leader is killed.
//!
//! ```text
//!   Pulse: one client, one small statement after the other ──▶ 3 scheduler processes
//!   round: SIGKILL the leader ─▶ first acknowledgement of a statement begun after it ─▶ restart ─▶ caught up
//! ```

use std::time::Duration;

use polybolos_client::{Client, SubmitOptions};
use polybolos_env::Env;
use polybolos_model::{IdempotencyKey, SessionId};
use serde_json::json;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::super::{
    args::{FailoverArgs, ListFormat},
    error::CliError,
    local, output,
    processes::{Fleet, Shape, unless_interrupted},
    text::milliseconds,
    tpch::Times,
};

/// The executor has nothing to do but its heartbeats, which are entries of the log like the statements.
const SHAPE: Shape = Shape { schedulers: 3, executors: 1, slots: 1 };
/// Longest pause that is waited for.
const PAUSE_DEADLINE: Duration = Duration::from_secs(60);
/// Each kill comes at a moment drawn from this time, this long after all have caught up.
const BEFORE_KILL: Duration = Duration::from_millis(200);
const KILL_WINDOW: Duration = Duration::from_millis(300);

pub(crate) async fn failover(args: FailoverArgs) -> Result<(), CliError> {
    unless_interrupted(measure(args)).await
}

async fn measure(args: FailoverArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let mut fleet = Fleet::start(&env, args.dir.as_deref(), SHAPE).await?;
    let mut pulse = Pulse::start(fleet.client()?, &env);
    let mut times = Times::default();
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        fleet.agree().await?;
        let window_ms = u64::try_from(KILL_WINDOW.as_millis()).unwrap_or(u64::MAX);
        sleep(BEFORE_KILL + Duration::from_millis(env.random.below(window_ms))).await;
        let old = fleet.leader().await?;
        pulse.forget();
        // Before the signal is sent: the pause is never shown shorter than it was.
        let killed = env.clock.now();
        fleet.schedulers[old.at].kill().await?;
        let pause = pulse.acknowledged_after(killed).await?;
        let new = fleet.leader().await?;
        times.add(pause);
        let pause_ms = pause.as_secs_f64() * 1_000.0;
        if args.format == ListFormat::Table {
            let (was, is) = (&fleet.schedulers[old.at].name, &fleet.schedulers[new.at].name);
            eprintln!(
                "{number:>4}  {was} killed, {is} leads in term {}: {}",
                new.term,
                milliseconds(pause_ms)
            );
        }
        rounds.push(json!({"round": number, "pause_ms": pause_ms, "term": new.term}));
        fleet.schedulers[old.at].start()?;
    }
    fleet.agree().await?;
    let acknowledged = pulse.stop().await?;
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| times.quantile_ms(share));
    output::print(&match args.format {
        ListFormat::Table => format!(
            "{} kills of the leader: the pause until the next committed statement is p50 {}, p99 {}, max {}; \
             {acknowledged} statements, none failed\n",
            args.rounds,
            milliseconds(p50),
            milliseconds(p99),
            milliseconds(max)
        ),
        ListFormat::Json => format!(
            "{:#}\n",
            json!({"rounds": args.rounds, "p50_ms": p50, "p99_ms": p99, "max_ms": max,
                   "acknowledged": acknowledged, "failed": 0, "pauses": rounds})
        ),
    })
}

/// Acknowledgements that are kept while nobody looks.
const KEPT: usize = 1_024;

/// When a statement was begun and acknowledged.
type Acknowledged = (Instant, Instant);

/// A client that submits small statements, one after the other, until nobody listens.
struct Pulse {
    acknowledged: mpsc::Receiver<Acknowledged>,
    /// Ends with the number of all that were acknowledged.
    task: JoinHandle<Result<u64, CliError>>,
}

impl Pulse {
    fn start(client: Client, env: &Env) -> Self {
        let (sender, acknowledged) = mpsc::channel(KEPT);
        Self { acknowledged, task: tokio::spawn(submit_on(client, env.clone(), sender)) }
    }

    /// Makes room for what comes next.
    fn forget(&mut self) {
        while self.acknowledged.try_recv().is_ok() {}
    }

    /// From `moment` to the first acknowledgement of a statement that was begun after it.
    async fn acknowledged_after(&mut self, moment: Instant) -> Result<Duration, CliError> {
        let first = async {
            while let Some((begun, acknowledged)) = self.acknowledged.recv().await {
                if begun >= moment {
                    return Some(acknowledged - moment);
                }
            }
            None
        };
        match timeout(PAUSE_DEADLINE, first).await {
            Ok(Some(pause)) => Ok(pause),
            // A statement has failed.
            Ok(None) => Err(ended(&mut self.task).await.err().unwrap_or(CliError::Stopped)),
            Err(_) => {
                let what = "no statement was committed after the kill".to_owned();
                Err(CliError::NotInTime { what, waited: PAUSE_DEADLINE })
            }
        }
    }

    async fn stop(mut self) -> Result<u64, CliError> {
        self.acknowledged.close();
        ended(&mut self.task).await
    }
}

async fn ended(task: &mut JoinHandle<Result<u64, CliError>>) -> Result<u64, CliError> {
    task.await.map_err(|_| CliError::Stopped)?
}

async fn submit_on(client: Client, env: Env, sender: mpsc::Sender<Acknowledged>) -> Result<u64, CliError> {
    let run = env.random.next_u64();
    let session = SessionId::new(format!("failover-{run:016x}")).ok();
    let mut number = 0_u64;
    while !sender.is_closed() {
        let options = SubmitOptions {
            key: IdempotencyKey::new(format!("failover-{run:016x}-{number}")).ok(),
            session: session.clone(),
            ..SubmitOptions::default()
        };
        let begun = env.clock.now();
        let sql = format!("SET datafusion.execution.batch_size = {}", 1_000 + number % 1_000);
        client.submit(sql, options).await?;
        number += 1;
        // Between the kills there is no room for all, and no need of them.
        let _kept = sender.try_send((begun, env.clock.now()));
    }
    Ok(number)
}
