//! From a production incident to a run: an exported job becomes a schedule.
//!
//! ```text
//!   export (JSON) ─▶ Recorded ─┬─▶ tables: made-up rows under the recorded schemas, fewer of them
//!                              ├─▶ planning: the same SQL over them, and whether its stages are the recorded ones
//!                              └─▶ story: losses, elections, failures ─▶ faults that wait for the query's progress
//! ```
//!
//! What can't be had again is said in the notes. The same export and seed give the same schedule. Deliberately absent:
//! other queries that ran at the same time, and the real rows; an export has neither.

mod fleet;
mod options;
mod planning;
mod story;
mod tables;
#[cfg(test)]
mod tests;
mod views;

use polybolos_model::recorded::{FormatError, RECORDED_KEY, Recorded, RecordedDurability};

use self::{
    fleet::Fleet,
    planning::{Planner, Planning},
    story::Story,
};
use crate::{
    oracles::Judge,
    schedule::{Action, Cluster, DurableShuffle, Op, Phases, Schedule, fork},
    workload::Answers,
};

/// The key of an export is within so many bytes.
const KEY_WITHIN: usize = 64;
const HEAL_AT_MS: u64 = 120_000;
const LIVENESS_MS: u64 = 120_000;
/// CPU cost of a batch: high enough that a query lasts long enough for things to happen in it.
const BATCH_COST_US: u64 = 1_000;

/// The promise that can't be judged of a query with several right answers.
const ANSWERS: &str = "answers";

/// Why an export can't be run.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    #[error("it is no export of a job: {0}")]
    Parse(#[from] serde_json::Error),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("the job came as a logical plan, without SQL text that could be submitted in a simulation")]
    NoSql,
    #[error("only queries can be run again; this is: {sql}")]
    NoQuery { sql: String },
    #[error("the SQL can't be planned over the recorded tables: {reason}{}", without(notes))]
    Plan { reason: String, notes: Vec<String> },
    #[error("the SQL can't be run over made-up rows: {reason}{}", without(notes))]
    Run { reason: String, notes: Vec<String> },
}

fn without(notes: &[String]) -> String {
    notes.iter().map(|note| format!("\n  {note}")).collect()
}

/// What came of an export.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    pub schedule: Schedule,
    /// What is different from the recorded run, for people.
    pub notes: Vec<String>,
}

/// Whether a file is an export, by its beginning.
pub fn is_recorded(bytes: &[u8]) -> bool {
    let head = String::from_utf8_lossy(bytes.get(..KEY_WITHIN.min(bytes.len())).unwrap_or_default());
    head.trim_start().starts_with('{') && head.contains(&format!("\"{RECORDED_KEY}\""))
}

/// Reads an export.
///
/// # Errors
/// It is none, or a newer program's.
pub fn parse(text: &str) -> Result<Recorded, RecordedError> {
    let recorded: Recorded = serde_json::from_str(text)?;
    recorded.check_format()?;
    Ok(recorded)
}

/// What is not drawn by any seed is the same for the same export.
pub fn own_seed(recorded: &Recorded) -> u64 {
    // As TOML has signed numbers only.
    fork(0, &recorded.job.id) >> 1
}

/// The schedule that does what the export tells of.
///
/// # Errors
/// The query can't be run over made-up tables, and why.
pub async fn schedule(recorded: &Recorded, seed: u64) -> Result<Replayed, RecordedError> {
    let sql = views::query(&recorded.job.sql);
    if sql.is_empty() {
        return Err(RecordedError::NoSql);
    }
    let mut notes: Vec<String> =
        recorded.notes.iter().map(|note| format!("the export says: {note}")).collect();
    let fleet = Fleet::of(recorded, &mut notes);
    let made = tables::made_up(recorded, &mut notes);
    let (mut ops, query) = views::ops(recorded, sql.clone());
    let mut schedule = Schedule {
        seed,
        scenario: format!("recorded-{}", recorded.job.id),
        judge: Vec::new(),
        cluster: cluster(recorded, &fleet, &mut notes),
        phases: Phases { heal_at_ms: HEAL_AT_MS, liveness_ms: LIVENESS_MS },
        tables: made.tables,
        ops: ops.clone(),
        faults: Vec::new(),
        failpoints: Vec::new(),
    };
    let given = options::given(recorded, made.factor, fleet.slots().iter().sum());
    let planned = Planner::new(&schedule).await.plan(&sql, given).await;
    let Planning { graph, options, .. } = planned.map_err(|error| error.explained(&notes))?;
    if let Some(Op { action: Action::Query { options: of_query, .. }, .. }) =
        ops.iter_mut().find(|op| op.id == query)
    {
        *of_query = options;
    }
    schedule.ops = ops;
    let run = |error: datafusion::error::DataFusionError| RecordedError::Run {
        reason: error.strip_backtrace(),
        notes: notes.clone(),
    };
    if !Answers::new(&schedule).is_sure(&sql).await.map_err(run)? {
        notes.push("the query has several right answers, so its rows are not judged".to_owned());
        schedule.judge = Judge::new(&schedule).names().into_iter().map(str::to_owned).collect();
        schedule.judge.retain(|promise| promise != ANSWERS);
    }
    schedule.faults = Story::new(recorded, &fleet, &graph, query).faults(&mut notes);
    Ok(Replayed { schedule, notes })
}

fn cluster(recorded: &Recorded, fleet: &Fleet, notes: &mut Vec<String>) -> Cluster {
    let recorded = &recorded.cluster;
    let defaults = polybolos_state::policy::Patience::default();
    let times = (recorded.executor_timeout_ms, recorded.stream_grace_ms);
    if times != (defaults.executor_timeout_ms, defaults.stream_grace_ms) {
        notes.push(format!(
            "executors were lost after {} ms of silence and {} ms without a stream; here after {} and {}",
            times.0, times.1, defaults.executor_timeout_ms, defaults.stream_grace_ms
        ));
    }
    Cluster {
        schedulers: (recorded.schedulers.len() as u64).clamp(1, 5),
        slots: fleet.slots(),
        memory_mib: fleet.memory_mib(),
        clients: 1,
        min_latency_us: 100,
        max_latency_us: 1_000,
        tcp_capacity: 65_536,
        clock_offset_ms: 50,
        disk_latency_us: 200,
        batch_cost_us: BATCH_COST_US,
        snapshot_every: 2_000,
        durable_shuffle: match recorded.durable_shuffle {
            RecordedDurability::Off => DurableShuffle::Off,
            RecordedDurability::Background => DurableShuffle::Background,
            RecordedDurability::Before => DurableShuffle::Before,
        },
    }
}
