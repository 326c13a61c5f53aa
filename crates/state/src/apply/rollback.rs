//! What must run again when outputs are lost: they themselves, and whoever has read rows that a second run might not
//! repeat.
//!
//! ```text
//!   T (indeterminate)     X               Result       lost: t0
//!     t0 ✗ t1 ✓  ───▶  x0 ✓ x1 ↻  ───▶  r0 ✓ r1 -    run again: t0, x0, r0; the running x1 is void
//! ```
//!
//! Tasks of a stage don't depend on each other, so any output that a task of T may give will do, as long as all that
//! read it, and all that read what came of it, have read the same one. So readers are rolled back as whole stages, from
//! a stage whose rows change down to the result. A determinate stage gives other rows too once it reads others.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{ErrorClass, StageId, TaskError};

use crate::{Job, JobError, StageRun, TaskDone, extension::settings};

/// The first version in which readers are rolled back. Before it, their job fails.
const ROLL_BACK_VERSION: u16 = 3;

/// Where the outputs of a job's last stage are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Results {
    /// Until the client has read them.
    OnExecutors,
    /// In the store that the statement writes to: no executor takes them along.
    InFiles,
}

/// What goes back to not done.
#[derive(Debug, Default)]
pub(super) struct Undoing {
    /// Completed partitions, ascending.
    pub(super) tasks: BTreeMap<StageId, Vec<u32>>,
    /// Stages whose attempts so far may have read rows that are gone, and of which stage those were.
    pub(super) rolled_back: BTreeMap<StageId, StageId>,
}

impl Undoing {
    /// The least that repairs the job. `version` is in use.
    pub(super) fn of(job: &Job, version: u16, results: Results, is_lost: impl Fn(&TaskDone) -> bool) -> Self {
        let mut rolled_back = BTreeMap::new();
        // Each round but the last adds a stage.
        loop {
            let tasks = needed_and_lost(job, results, &is_lost, &rolled_back);
            if version < ROLL_BACK_VERSION || polybolos_model::mutant!("no-rollback") {
                return Self { tasks, rolled_back };
            }
            let known = rolled_back.len();
            add_readers(job, &tasks, &mut rolled_back);
            if rolled_back.len() == known {
                return Self { tasks, rolled_back };
            }
        }
    }

    /// Why the job can't go on without those outputs, if it can't.
    pub(super) fn beyond_repair(&self, job: &Job, version: u16, why: &str) -> Option<JobError> {
        let most = settings(job, version).max_stage_reruns;
        for (&stage, partitions) in &self.tasks {
            let (plan, run) = job.stage(stage)?;
            let what = match self.rolled_back.get(&stage) {
                Some(of) => format!(
                    "tasks of stage {stage} must run again, as they have read outputs of stage {of} that were lost \
                     ({why}) and may come out differently"
                ),
                None => format!("outputs of stage {stage} were lost ({why})"),
            };
            let message = match &plan.indeterminate {
                Some(reason) if version < ROLL_BACK_VERSION && is_read(job, stage, run) => format!(
                    "{what}, and a second run might not give the same rows: {reason}; submit the query again"
                ),
                Some(_) | None => match worn_out(run, version, partitions, most) {
                    Some(partition) => format!("{what} after {most} re-runs of its task {partition}"),
                    None => continue,
                },
            };
            let partition = partitions.first().copied();
            let lost = partition.and_then(|p| job.task(stage, p)?.completed.as_ref());
            return Some(JobError {
                error: TaskError::new(ErrorClass::Retryable, message),
                stage: Some(stage),
                partition,
                attempt: lost.map(|done| done.attempt),
                executor: lost.map(|done| done.executor.clone()),
            });
        }
        None
    }
}

/// The first of `partitions` that may not run again. Each task has a limit of its own, since executors that are lost
/// together are one loss each. Before version 3 the stage had one.
fn worn_out(run: &StageRun, version: u16, partitions: &[u32], most: u32) -> Option<u32> {
    let is_worn_out = |partition: &u32| match run.tasks.get(*partition as usize) {
        Some(task) if version >= ROLL_BACK_VERSION => task.reruns() >= most,
        Some(_) | None => run.reruns >= most,
    };
    partitions.iter().copied().find(is_worn_out)
}

/// Whether other stages may have read something of it.
fn is_read(job: &Job, stage: StageId, run: &StageRun) -> bool {
    run.was_complete && stage != job.result_stage()
}

/// From the result backwards: a stage's outputs are needed when a task that reads them has not finished, or must
/// run again itself. The client's need for the results ends with the job.
fn needed_and_lost(
    job: &Job,
    results: Results,
    is_lost: impl Fn(&TaskDone) -> bool,
    rolled_back: &BTreeMap<StageId, StageId>,
) -> BTreeMap<StageId, Vec<u32>> {
    let mut needed = match results {
        Results::OnExecutors => BTreeSet::from([job.result_stage()]),
        Results::InFiles => BTreeSet::new(),
    };
    let mut undone = BTreeMap::new();
    for (stage, run) in job.graph.stages.iter().zip(&job.runs).rev() {
        let all = rolled_back.contains_key(&stage.id);
        let is_needed = needed.contains(&stage.id);
        let goes = |done: &TaskDone| all || (is_needed && is_lost(done));
        let tasks: Vec<u32> = run.completed().filter(|(_, done)| goes(done)).map(|(p, _)| p).collect();
        if !tasks.is_empty() {
            undone.insert(stage.id, tasks);
        }
        let runs_again = undone.contains_key(&stage.id) && !polybolos_model::mutant!("rerun-not-recursive");
        if !run.is_complete() || runs_again {
            needed.extend(stage.inputs.iter().map(|input| input.stage));
        }
    }
    undone
}

/// From the sources forwards: adds the stages that may have read rows which change.
fn add_readers(
    job: &Job,
    undone: &BTreeMap<StageId, Vec<u32>>,
    rolled_back: &mut BTreeMap<StageId, StageId>,
) {
    let mut changed = BTreeSet::new();
    for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
        if let Some(input) = stage.inputs.iter().find(|input| changed.contains(&input.stage)) {
            rolled_back.entry(stage.id).or_insert(input.stage);
        }
        let repeats = stage.indeterminate.is_none() || !undone.contains_key(&stage.id);
        // What was never complete nobody has read.
        if is_read(job, stage.id, run) && (!repeats || rolled_back.contains_key(&stage.id)) {
            changed.insert(stage.id);
        }
    }
}
