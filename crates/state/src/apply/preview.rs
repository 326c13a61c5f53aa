//! What the loss of an executor would cost a query that has not run: it is played, and the very code is asked that repairs
//! a loss.

use std::collections::BTreeMap;

use polybolos_model::{
    AttemptId, ExecutorId, Incarnation, JobId, PartitionStats, SHUFFLE_DURABLE_LABEL,
    SHUFFLE_DURABLE_MODE_LABEL, StageGraph, StageId, TaskId, TaskMetrics, Term, WriteTarget,
    recorded::RecordedDurability,
};

use crate::{Change, ClusterState, Command, Entry, Executor};

/// What a preview supposes of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supposed {
    /// Those that take tasks.
    pub executors: u32,
    /// Of entries that is in use.
    pub version: u16,
    /// What all of these executors do.
    pub durability: RecordedDurability,
}

impl Supposed {
    /// That the cluster stays as it is.
    pub fn now(state: &ClusterState) -> Self {
        let takers: Vec<&Executor> = state.executors().filter(|executor| executor.takes_tasks()).collect();
        let copies = |executor: &&Executor| executor.labels.contains_key(SHUFFLE_DURABLE_LABEL);
        let copies_before = |executor: &&Executor| {
            executor.labels.get(SHUFFLE_DURABLE_MODE_LABEL).is_some_and(|mode| mode == "before")
        };
        let durability = match state.version() >= DURABLE_VERSION && takers.iter().all(copies) {
            _ if takers.is_empty() => RecordedDurability::Off,
            false => RecordedDurability::Off,
            true if takers.iter().all(copies_before) => RecordedDurability::Before,
            true => RecordedDurability::Background,
        };
        let executors = u32::try_from(takers.len()).unwrap_or(u32::MAX);
        Self { executors, version: state.version(), durability }
    }
}

/// The first version in which copies of outputs count.
const DURABLE_VERSION: u16 = 3;

/// What the worst loss of one executor costs while the outputs of `stage` are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageRisk {
    pub stage: StageId,
    /// Completed tasks of the whole query at that time.
    pub done: u32,
    /// Tasks that run again, by stage, ascending.
    pub reruns: Vec<(StageId, u32)>,
    /// It is more than the cluster can repair: the query fails.
    pub fails: bool,
}

/// Plays a query on so many executors, tasks dealt out in turn, up to the time when each stage is complete and half of
/// each stage that reads it is done. Ascending by stage. `writes` is where it writes to, if it does. Of outputs that are
/// copied in the background none is taken to be.
pub fn loss_preview(graph: &StageGraph, writes: Option<&WriteTarget>, supposed: Supposed) -> Vec<StageRisk> {
    let mut play = Play::begin(graph, writes, supposed);
    let mut risks = Vec::new();
    for stage in &graph.stages {
        play.complete(stage.id, 0..stage.tasks);
        // The result ends the job.
        if graph.readers(stage.id).next().is_none() {
            break;
        }
        let mut then = play.clone();
        for reader in graph.readers(stage.id) {
            then.complete(reader.id, 0..reader.tasks / 2);
        }
        risks.push(then.risk(stage.id));
    }
    risks
}

#[derive(Clone)]
struct Play<'a> {
    state: ClusterState,
    graph: &'a StageGraph,
    executors: Vec<ExecutorId>,
    attempts: u64,
    /// Outputs count only once they are in the durable store.
    durable: bool,
}

const JOB: JobId = JobId(1);

impl<'a> Play<'a> {
    fn begin(graph: &'a StageGraph, writes: Option<&WriteTarget>, supposed: Supposed) -> Self {
        let Supposed { executors, version, durability } = supposed;
        let durable = version >= DURABLE_VERSION && durability == RecordedDurability::Before;
        let executors: Vec<ExecutorId> =
            (1..=executors.max(1)).filter_map(|n| ExecutorId::new(format!("executor-{n}")).ok()).collect();
        let state = ClusterState { version, ..ClusterState::default() };
        let mut play = Self { state, graph, executors, attempts: 0, durable };
        let register = |(n, executor): (u64, &ExecutorId)| Command::RegisterExecutor {
            executor: executor.clone(),
            address: format!("{executor}:1"),
            slots: 1,
            memory_bytes: 1,
            labels: BTreeMap::new(),
            process_id: n,
        };
        let mut commands: Vec<Command> = (1..).zip(&play.executors).map(register).collect();
        // Sizes are not known.
        let mut shape = graph.clone().as_planned();
        for stage in &mut shape.stages {
            (stage.plan, stage.display) = (Vec::new(), String::new());
        }
        commands.push(submit(shape, writes));
        play.apply(commands);
        play
    }

    fn apply(&mut self, commands: Vec<Command>) -> Vec<Change> {
        let entry = Entry::new(self.state.version(), Term(1), 1, commands);
        self.state.apply(&entry).outcomes.into_iter().filter_map(Result::ok).collect()
    }

    /// Those that are not complete yet.
    fn complete(&mut self, stage: StageId, partitions: std::ops::Range<u32>) {
        let outputs = self.graph.stage(stage).map_or(0, |stage| stage.output_partitions as usize);
        let mut commands = Vec::new();
        for partition in partitions {
            self.attempts += 1;
            let at = (partition as usize + stage.0 as usize) % self.executors.len().max(1);
            let Some(executor) = self.executors.get(at) else { return };
            let (executor, incarnation) = (executor.clone(), Incarnation(at as u64 + 1));
            let task = TaskId { job: JOB, stage, partition };
            let attempt = AttemptId { term: Term(1), counter: self.attempts };
            let outputs = vec![PartitionStats::default(); outputs];
            let (metrics, durable) = (TaskMetrics::default(), true);
            commands.push(match self.durable {
                true => Command::CompleteTaskIn {
                    executor,
                    incarnation,
                    task,
                    attempt,
                    epoch: 0,
                    durable,
                    outputs,
                    metrics,
                },
                false => Command::CompleteTask { executor, incarnation, task, attempt, outputs, metrics },
            });
        }
        self.apply(commands);
    }

    fn risk(&self, stage: StageId) -> StageRisk {
        let done = self.state.job(JOB).map_or(0, |job| u32::try_from(job.tasks_done()).unwrap_or(u32::MAX));
        let costs = self.state.loss_costs(JOB);
        let worst = costs.iter().max_by_key(|cost| cost.work.len());
        let mut reruns: BTreeMap<StageId, u32> = BTreeMap::new();
        for work in worst.into_iter().flat_map(|cost| &cost.work) {
            *reruns.entry(work.task.stage).or_default() += 1;
        }
        let fails = worst.is_some_and(|cost| cost.fails.is_some());
        StageRisk { stage, done, reruns: reruns.into_iter().collect(), fails }
    }
}

fn submit(graph: StageGraph, writes: Option<&WriteTarget>) -> Command {
    let (key, session, sql, options, schema) = (None, None, String::new(), BTreeMap::new(), Vec::new());
    let (job, cancel_when_unwatched_ms) = (JOB, 0);
    match writes.cloned() {
        Some(target) => Command::SubmitWrite {
            job,
            key,
            session,
            sql,
            graph,
            options,
            schema,
            cancel_when_unwatched_ms,
            target,
            table: None,
        },
        None => Command::SubmitJob {
            job,
            key,
            session,
            sql,
            graph,
            options,
            explain_analyze: None,
            ordered: false,
            schema,
            cancel_when_unwatched_ms,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::{Lab, graph};

    const FOUR: Supposed = Supposed { executors: 4, version: 3, durability: RecordedDurability::Off };

    fn shown(shape: &str, writes: Option<&WriteTarget>, supposed: Supposed) -> Vec<String> {
        let risk = |risk: StageRisk| {
            let reruns: Vec<String> =
                risk.reruns.iter().map(|(stage, n)| format!("{n} of {stage}")).collect();
            let fails = if risk.fails { ", fails" } else { "" };
            format!("{}: {} done, again {}{fails}", risk.stage, risk.done, reruns.join(" "))
        };
        loss_preview(&graph(shape), writes, supposed).into_iter().map(risk).collect()
    }

    #[test]
    fn a_loss_costs_the_share_of_one_executor() {
        // Of the readers that are done, too, the lost executor held one.
        assert_eq!(
            shown("chain(4,4,4)", None, FOUR),
            ["0: 6 done, again 1 of 0 1 of 1", "1: 10 done, again 1 of 0 1 of 1 1 of 2"]
        );
        assert_eq!(shown("one", None, FOUR), Vec::<String>::new());
    }

    #[test]
    fn readers_of_an_indeterminate_stage_are_rolled_back() {
        assert_eq!(shown("chain!(4,4,4)", None, FOUR)[0], "0: 6 done, again 1 of 0 2 of 1");
        // Before version 3 they are not: the query fails.
        let old = Supposed { version: 2, ..FOUR };
        assert_eq!(shown("chain!(4,4,4)", None, old)[0], "0: 6 done, again 1 of 0 1 of 1, fails");
    }

    #[test]
    fn what_is_durable_before_it_counts_never_runs_again() {
        let durable = Supposed { durability: RecordedDurability::Before, ..FOUR };
        assert_eq!(shown("chain!(4,4,4)", None, durable), ["0: 6 done, again ", "1: 10 done, again "]);
        let background = Supposed { durability: RecordedDurability::Background, ..FOUR };
        assert_eq!(shown("chain!(4,4,4)", None, background), shown("chain!(4,4,4)", None, FOUR));
    }

    #[test]
    fn files_that_are_staged_stay() {
        let target = WriteTarget { url: "file:///t/".into(), extension: ".csv".into(), single_file: false };
        // The tasks that have written are not among them.
        assert_eq!(
            shown("chain(4,4,4)", Some(&target), FOUR),
            ["0: 6 done, again 1 of 0 1 of 1", "1: 10 done, again 1 of 0 1 of 1"]
        );
    }

    #[test]
    fn a_cluster_is_supposed_to_stay_as_it_is() {
        let mut lab = Lab::new();
        lab.run_all(&["replica 1 version=3", "raise 3", "register a", "register b", "drain b 1000"]);
        assert_eq!(Supposed::now(&lab.state), Supposed { executors: 1, ..FOUR });
    }
}
