//! What the loss of an executor would cost: a job now, or a query that has not run.
//!
//! Both ask the very code that repairs a loss.

use std::collections::BTreeMap;

use polybolos_model::{
    AttemptId, ExecutorId, Incarnation, JobId, PartitionStats, StageGraph, StageId, TaskId, TaskMetrics, Term,
};

use super::{loss::is_lost, rollback::Undoing};
use crate::{Change, ClusterState, Command, ENTRY_VERSION, Entry, LostWork, TaskDone};

/// What would run again of an active job if the executor were lost now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossCost {
    pub executor: ExecutorId,
    /// Completed tasks that would run again. Ascending by task.
    pub work: Vec<LostWork>,
    /// Why the job would fail, if it would.
    pub fails: Option<String>,
}

/// What the worst loss of one executor costs while the outputs of `stage` are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageRisk {
    pub stage: StageId,
    /// Completed tasks of the whole query at that time.
    pub done: u32,
    /// Tasks that run again, by stage, ascending.
    pub reruns: Vec<(StageId, u32)>,
}

impl ClusterState {
    /// For each present executor, ascending; empty unless the job is active.
    pub fn loss_costs(&self, id: JobId) -> Vec<LossCost> {
        let Some(job) = self.running_job(id) else { return Vec::new() };
        let durable = self.extension.v3.durable.get(&id);
        let results = self.results_at(id);
        let cost = |executor: &ExecutorId, incarnation: Incarnation| {
            let gone = Some((executor, incarnation));
            let lost = |done: &TaskDone| is_lost(&self.executors, durable, gone, done);
            let undoing = Undoing::of(job, self.version, results, lost);
            let tasks = undoing.tasks.iter().flat_map(|(stage, ps)| ps.iter().map(|p| (*stage, *p)));
            let work = tasks.filter_map(|(stage, partition)| {
                let done = job.task(stage, partition)?.completed.as_ref()?;
                Some(LostWork::of(TaskId { job: id, stage, partition }, done))
            });
            let fails = undoing
                .beyond_repair(job, self.version, &format!("with executor {executor}"))
                .map(|error| error.error.message);
            LossCost { executor: executor.clone(), work: work.collect(), fails }
        };
        self.executors().filter(|e| e.is_present()).map(|e| cost(&e.id, e.incarnation)).collect()
    }
}

/// Plays a query on `executors` executors, tasks dealt out in turn, up to the time when each stage is complete and half of
/// each stage that reads it is done. Ascending by stage.
pub fn loss_preview(graph: &StageGraph, executors: u32) -> Vec<StageRisk> {
    let mut play = Play::begin(graph, executors.max(1));
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
}

const JOB: JobId = JobId(1);

impl<'a> Play<'a> {
    fn begin(graph: &'a StageGraph, count: u32) -> Self {
        let executors: Vec<ExecutorId> =
            (1..=count).filter_map(|n| ExecutorId::new(format!("executor-{n}")).ok()).collect();
        let state = ClusterState { version: ENTRY_VERSION, ..ClusterState::default() };
        let mut play = Self { state, graph, executors, attempts: 0 };
        let register = |(n, executor): (u64, &ExecutorId)| Command::RegisterExecutor {
            executor: executor.clone(),
            address: format!("{executor}:1"),
            slots: 1,
            memory_bytes: 1,
            labels: BTreeMap::new(),
            process_id: n,
        };
        let mut commands: Vec<Command> = (1..).zip(&play.executors).map(register).collect();
        let mut shape = graph.clone();
        for stage in &mut shape.stages {
            (stage.plan, stage.display) = (Vec::new(), String::new());
        }
        commands.push(Command::SubmitJob {
            job: JOB,
            key: None,
            session: None,
            sql: String::new(),
            graph: shape,
            options: BTreeMap::new(),
            explain_analyze: None,
            ordered: false,
            schema: Vec::new(),
            cancel_when_unwatched_ms: 0,
        });
        play.apply(commands);
        play
    }

    fn apply(&mut self, commands: Vec<Command>) -> Vec<Change> {
        let entry = Entry::new(ENTRY_VERSION, Term(1), 1, commands);
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
            commands.push(Command::CompleteTask {
                executor: executor.clone(),
                incarnation: Incarnation(at as u64 + 1),
                task: TaskId { job: JOB, stage, partition },
                attempt: AttemptId { term: Term(1), counter: self.attempts },
                outputs: vec![PartitionStats::default(); outputs],
                metrics: TaskMetrics::default(),
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
        StageRisk { stage, done, reruns: reruns.into_iter().collect() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::transcript::{Lab, graph};

    fn shown(shape: &str, executors: u32) -> Vec<String> {
        let risk = |risk: StageRisk| {
            let reruns: Vec<String> =
                risk.reruns.iter().map(|(stage, n)| format!("{n} of {stage}")).collect();
            format!("{}: {} done, again {}", risk.stage, risk.done, reruns.join(" "))
        };
        loss_preview(&graph(shape), executors).into_iter().map(risk).collect()
    }

    #[test]
    fn a_loss_costs_the_share_of_one_executor() {
        // Of the readers that are done, too, the lost executor held one.
        assert_eq!(
            shown("chain(4,4,4)", 4),
            ["0: 6 done, again 1 of 0 1 of 1", "1: 10 done, again 1 of 0 1 of 1 1 of 2"]
        );
        assert_eq!(shown("one", 4), Vec::<String>::new());
    }

    #[test]
    fn readers_of_an_indeterminate_stage_are_rolled_back() {
        assert_eq!(shown("chain!(4,4,4)", 4)[0], "0: 6 done, again 1 of 0 2 of 1");
    }

    #[test]
    fn a_job_that_runs_is_asked_for_each_executor() {
        let mut lab = Lab::new();
        lab.run_all(&["register a", "register b", "submit 1 hash(2,2)", "complete a 1/0/0 1"]);
        let costs = lab.state.loss_costs(JobId(1));
        let counts: Vec<(&str, usize)> =
            costs.iter().map(|cost| (cost.executor.as_str(), cost.work.len())).collect();
        assert_eq!(counts, [("a", 1), ("b", 0)]);
        lab.run("cancel 1 enough");
        assert!(lab.state.loss_costs(JobId(1)).is_empty());
    }
}
