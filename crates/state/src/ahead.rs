//! What the state will be once what is under way is committed. By it a leader launches what comes next, so that nothing
//! waits for the log between two stages, nor between a submit and its first tasks.
//!
//! ```text
//!   state ─▶ fleet and one job ─apply─▶ commands in flight ─apply─▶ commands that wait ─▶ Ahead ─▶ Dispatcher::plan_ahead
//! ```
//!
//! Task starts are off the log as it is, and whoever is outside sees nothing before its entry is committed. If that never
//! happens the attempts have run for nothing: nobody knows their job, or their completions are taken like any others.
//!
//! - **One job only.** With others a slot that is free would not be this job's alone; and under load entries hold many
//!   completions, so that there is little to gain.
//! - **Only over stages that give the same rows each time.** An output that is lost before it was logged is made again, and
//!   nothing in the log says that somebody has read the first one: nobody would be rolled back.
//! - **Only while nothing else happens** to executors, or to the job.

use std::collections::BTreeSet;

use polybolos_model::{AttemptId, JobId, StageGraph, Term};

use crate::{ClusterState, Command, Entry, Job, StageRun, apply::Submission, policy::adaptations};

/// Sizes of outputs that are copied each time, over all tasks of the job: 1 MiB.
const MAX_OUTPUTS: usize = 65_536;

/// The fleet, and the only job that is active.
#[derive(Debug, Clone)]
pub struct Ahead {
    pub(crate) state: ClusterState,
    pub(crate) job: JobId,
    /// Its submit is among what is under way.
    pub(crate) is_coming: bool,
}

impl Ahead {
    /// For looking up what launches need.
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// Decides how the stages read their inputs that have all of them by then. To be logged behind what this was foreseen
    /// from; it is foreseen from now on. `after` is the last attempt that the leader has named.
    pub fn adapt(&mut self, after: AttemptId) -> Vec<Command> {
        let commands = adaptations(&self.state, std::iter::empty(), std::iter::once(self.job), after);
        if !commands.is_empty() {
            let (version, term, now_ms) = (self.state.version, self.state.term, self.state.now_ms);
            self.state.apply(&Entry::new(version, term, now_ms, commands.clone()));
        }
        commands
    }

    /// Some of the job is still to be done.
    pub fn goes_on(&self) -> bool {
        self.state.running_job(self.job).is_some()
    }
}

/// What a command that is under way means for a look ahead.
enum Bearing {
    Submits(JobId),
    Completes,
    Adapts,
    Nothing,
    /// It may change what runs, or where.
    Disturbs,
}

impl Bearing {
    fn of(command: &Command) -> Self {
        match command {
            Command::SubmitJob { job, .. } => Self::Submits(*job),
            Command::CompleteTask { .. } | Command::CompleteTaskIn { .. } => Self::Completes,
            Command::AdaptStage { .. } => Self::Adapts,
            Command::Heartbeats { .. }
            | Command::RefusedCommands { .. }
            | Command::JobsStarted { .. }
            | Command::OutputDurable { .. }
            // Of a job that has ended.
            | Command::ReleaseJob { .. }
            | Command::ExpireJobs
            | Command::Swept { .. }
            | Command::CreateTable { .. }
            | Command::CreateView { .. }
            | Command::DropRelation { .. }
            | Command::SetSession { .. }
            | Command::ResetSession { .. }
            | Command::CloseSession { .. } => Self::Nothing,
            Command::CancelJob { .. }
            | Command::FailJob { .. }
            | Command::FailTask { .. }
            | Command::RegisterExecutor { .. }
            | Command::DrainExecutor { .. }
            | Command::LoseExecutor { .. }
            | Command::SuspectExecutor { .. }
            | Command::FoundCluster { .. }
            | Command::RegisterReplica { .. }
            | Command::RetireReplica { .. }
            | Command::RaiseVersion { .. }
            | Command::RestartCluster { .. }
            | Command::TasksDied { .. }
            | Command::ReopenJob { .. }
            | Command::BeginDrain { .. }
            | Command::OutputMoved { .. }
            | Command::ExecutorLeft { .. }
            | Command::SubmitWrite { .. }
            | Command::Published { .. }
            | Command::AbandonWrite { .. } => Self::Disturbs,
        }
    }
}

/// Whether one may look ahead over these commands, if only one job is active; see [`ClusterState::ahead`].
pub fn is_foreseeable(commands: &[Command]) -> bool {
    !commands.iter().any(|command| matches!(Bearing::of(command), Bearing::Disturbs))
}

/// Whether the command may change how the job stands.
pub(crate) fn bears_on(command: &Command, job: JobId) -> bool {
    match (Bearing::of(command), command) {
        (Bearing::Submits(submitted), _) => submitted == job,
        (Bearing::Completes, Command::CompleteTask { task, .. } | Command::CompleteTaskIn { task, .. }) => {
            task.job == job
        }
        (Bearing::Adapts, Command::AdaptStage { job: adapted, .. }) => *adapted == job,
        (Bearing::Completes | Bearing::Adapts | Bearing::Disturbs, _) => true,
        (Bearing::Nothing, _) => false,
    }
}

/// The jobs that the commands submit.
pub fn submitted(commands: &[Command]) -> impl Iterator<Item = JobId> {
    commands.iter().filter_map(|command| match Bearing::of(command) {
        Bearing::Submits(job) => Some(job),
        _ => None,
    })
}

impl ClusterState {
    /// As the leader of `term` will have it when the commands that are `under_way` are applied, in this order. `None`
    /// where that can't be told, or must not be used.
    pub fn ahead<'a>(
        &self,
        under_way: impl Iterator<Item = &'a Command> + Clone,
        term: Term,
    ) -> Option<Ahead> {
        let mut jobs: BTreeSet<JobId> = self.active_jobs().take(2).map(|job| job.id).collect();
        if jobs.len() > 1 {
            return None;
        }
        let mut commands = Vec::new();
        for command in under_way {
            match Bearing::of(command) {
                Bearing::Disturbs => return None,
                Bearing::Nothing => continue,
                Bearing::Submits(job) => {
                    // One whose key is known submits nothing.
                    if Submission::of(command).is_none_or(|new| self.known_submit(&new).is_some()) {
                        return None;
                    }
                    jobs.insert(job);
                }
                Bearing::Completes | Bearing::Adapts => {}
            }
            commands.push(command);
        }
        let id = *jobs.first()?;
        let known = self.job(id);
        if jobs.len() > 1 || commands.is_empty() || !known.is_none_or(|job| self.may_go_ahead(job)) {
            return None;
        }
        let commands = commands.into_iter().cloned().collect();
        let mut state = self.with_job_alone(known);
        state.apply(&Entry::new(self.version, term.max(self.term), self.now_ms, commands));
        let job = state.job(id).filter(|job| outputs(&job.graph) <= MAX_OUTPUTS)?;
        let was_complete =
            |at: usize| known.is_some_and(|job| job.runs.get(at).is_some_and(StageRun::is_complete));
        let mut stages = job.graph.stages.iter().zip(&job.runs).enumerate();
        let is_sound = stages.all(|(at, (stage, run))| {
            !run.is_complete()
                || was_complete(at)
                || stage.indeterminate.is_none()
                || polybolos_model::mutant!("ahead-of-indeterminate")
        });
        is_sound.then_some(Ahead { state, job: id, is_coming: known.is_none() })
    }

    fn may_go_ahead(&self, job: &Job) -> bool {
        !job.status.is_ended() && !self.is_publishing(job.id) && outputs(&job.graph) <= MAX_OUTPUTS
    }

    /// The fleet, with everything that is known of one job.
    pub(crate) fn with_job_alone(&self, job: Option<&Job>) -> Self {
        let mut alone = self.fleet_alone();
        alone.jobs.last_number = self.jobs.last_number;
        let Some(job) = job else { return alone };
        alone.jobs.order.insert(job.number, job.id);
        alone.jobs.active.insert(job.number);
        alone.jobs.by_id.insert(job.id, job.clone());
        let (all, own) = (&self.extension.v3, &mut alone.extension.v3);
        let valid_from = all.valid_from.iter().filter(|((of, _), _)| *of == job.id);
        own.valid_from = valid_from.map(|(stage, epoch)| (*stage, *epoch)).collect();
        let deaths = all.deaths.iter().filter(|(task, _)| task.job == job.id);
        own.deaths = deaths.map(|(task, lives)| (*task, lives.clone())).collect();
        own.starved = all.starved.iter().filter(|task| task.job == job.id).copied().collect();
        if let Some(durable) = all.durable.get(&job.id) {
            own.durable.insert(job.id, durable.clone());
        }
        let adapted = self.extension.v4.adapted.iter().filter(|((of, _), _)| *of == job.id);
        alone.extension.v4.adapted = adapted.map(|(stage, of)| (*stage, of.clone())).collect();
        if let Some(moves) = all.moves.get(&job.id) {
            own.moves.insert(job.id, moves.clone());
        }
        alone
    }
}

fn outputs(graph: &StageGraph) -> usize {
    graph.stages.iter().map(|stage| stage.tasks as usize * (stage.output_partitions as usize).max(1)).sum()
}
