//! Indeterminate stages, delays and losses at random, from version 3 on: whatever has read a stage has read the same rows
//! of it, and those are the rows that it has now.
//!
//! What an attempt gives is modelled by a number: its task and what it read, and, where it is indeterminate, itself.
//!
//! The result is asked for, again and again, after it was lost: partitions of one generation of it belong together, whenever
//! a client has read which.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use polybolos_model::{
    AttemptId, ErrorClass, ExecutorId, FetchFailure, Incarnation, PartitionStats, StageId, TaskId,
};
use proptest::prelude::*;

use crate::{Change, ClusterState, Command, JobStatus, TaskDone, policy::adaptations, transcript::Lab};

const EXECUTORS: [&str; 3] = ["a", "b", "c"];
const SHAPES: [&str; 9] = [
    "hash!~(2,4)",
    "chain~(3,4,5)",
    "join!~(3,2,4)",
    "hash!(2,2)",
    "chain!(2,2,2)",
    "chain!(1,2,1,2)",
    "diamond!(2,2,2,2)",
    "join!(2,2,2)",
    "chain(2,2,2)",
];

#[derive(Debug, Clone, Copy)]
enum Step {
    Launch,
    Complete,
    /// It can't read one of its inputs.
    Miss,
    Lose,
    /// A client wants the result.
    Reopen,
}

struct Attempt {
    executor: ExecutorId,
    incarnation: Incarnation,
    task: TaskId,
    epoch: u32,
    /// What the tasks of each input gave.
    reads: BTreeMap<StageId, Vec<u64>>,
    /// One input's present place.
    input: Option<FetchFailure>,
}

struct World {
    lab: Lab,
    counter: u64,
    running: BTreeMap<AttemptId, Attempt>,
    /// Of each attempt that completed: what it read and what it gives.
    done: BTreeMap<AttemptId, (BTreeMap<StageId, Vec<u64>>, u64)>,
    /// By the result's generation, what its partitions have read of each input.
    handed_out: BTreeMap<(u32, StageId), Vec<u64>>,
}

impl World {
    fn new(shape: &str) -> Self {
        let mut lab = Lab::new();
        let version = if shape.contains('~') { 4 } else { 3 };
        let lines = [format!("replica 1 version={version}"), format!("raise {version}")];
        lines.iter().for_each(|line| drop(lab.run(line)));
        lab.run(&format!("submit 1 {shape} reruns=100 coalesce=3000000 skew=1000000"));
        EXECUTORS.iter().for_each(|name| drop(lab.run(&format!("register {name}"))));
        Self { lab, counter: 0, running: BTreeMap::new(), done: BTreeMap::new(), handed_out: BTreeMap::new() }
    }

    fn step(&mut self, step: Step, seed: usize) {
        match step {
            Step::Launch => self.launch(seed),
            Step::Complete | Step::Miss => {
                let Some(at) = seed.checked_rem(self.running.len()) else { return };
                let Some((&id, _)) = self.running.iter().nth(at) else { return };
                let attempt = self.running.remove(&id).unwrap();
                self.end(id, attempt, matches!(step, Step::Miss));
            }
            Step::Lose => {
                let name = EXECUTORS[seed % EXECUTORS.len()];
                self.lab.run(&format!("lose {name} ; register {name}"));
                self.running.retain(|_, attempt| attempt.executor.as_str() != name);
            }
            Step::Reopen => drop(self.lab.run("reopen 1")),
        }
        self.check();
    }

    /// The leader decides what can be decided.
    fn adapt(&mut self) {
        let after = AttemptId { term: self.lab.term, counter: self.counter };
        let jobs: Vec<_> = self.lab.state.active_jobs().map(|job| job.id).collect();
        let decisions = adaptations(&self.lab.state, std::iter::empty(), jobs.into_iter(), after);
        let count = decisions.len();
        let applied = self.lab.apply(decisions);
        assert_eq!(applied.outcomes.iter().flatten().count(), count, "{applied:?}");
    }

    fn launch(&mut self, seed: usize) {
        self.adapt();
        let runnable = self.lab.state.pending().runnable;
        let Some(at) = seed.checked_rem(runnable.len()) else { return };
        let (task, epoch) = (runnable[at].task, runnable[at].epoch);
        let executor = ExecutorId::new(EXECUTORS[seed / 7 % EXECUTORS.len()]).unwrap();
        let state = &self.lab.state;
        let incarnation = state.executor(&executor).unwrap().incarnation;
        let (mut reads, mut places) = (BTreeMap::new(), Vec::new());
        for input in &state.job(task.job).unwrap().graph.stage(task.stage).unwrap().inputs {
            let maps = state.map_outputs(task.job, input.stage).unwrap();
            reads.insert(input.stage, maps.iter().map(|at| self.done[&at.done.attempt].1).collect());
            places.extend(maps.iter().map(|at| FetchFailure {
                executor: at.done.executor.clone(),
                stage: input.stage,
                map_partition: at.map_partition,
                attempt: at.done.attempt,
            }));
        }
        let input = seed.checked_rem(places.len()).map(|at| places.swap_remove(at));
        self.counter += 1;
        let id = AttemptId { term: self.lab.term, counter: self.counter };
        self.running.insert(id, Attempt { executor, incarnation, task, epoch, reads, input });
    }

    fn end(&mut self, id: AttemptId, attempt: Attempt, misses: bool) {
        let Attempt { executor, incarnation, task, epoch, reads, input } = attempt;
        if misses && input.is_none() {
            return;
        }
        let command = if misses {
            let error = polybolos_model::TaskError::new(ErrorClass::Retryable, "it is gone");
            let error = polybolos_model::TaskError { fetch: input, ..error };
            Command::FailTask { executor, incarnation, task, attempt: id, error }
        } else {
            let stage = self.lab.state.job(task.job).unwrap().graph.stage(task.stage).unwrap();
            let own = stage.indeterminate.is_some().then_some(id);
            let mut hasher = DefaultHasher::new();
            (task, &reads, own).hash(&mut hasher);
            self.done.insert(id, (reads, hasher.finish()));
            let size =
                |at: u32| PartitionStats { rows: 1, bytes: (u64::from(at * 5 + task.partition) % 7) << 20 };
            let outputs = (0..stage.output_partitions).map(size).collect();
            let metrics = Default::default();
            Command::CompleteTaskIn {
                executor,
                incarnation,
                task,
                attempt: id,
                epoch,
                durable: false,
                outputs,
                metrics,
            }
        };
        let applied = self.lab.apply(vec![command]);
        let _: Vec<Result<Change, _>> = applied.outcomes;
    }

    /// The properties themselves.
    fn check(&mut self) {
        self.check_readers();
        self.check_generation();
    }

    fn check_generation(&mut self) {
        let Some(job) = self.lab.state.jobs().next() else { return };
        let generation = self.lab.state.result_generation(job);
        for (partition, done) in job.results() {
            for (input, rows) in &self.done[&done.attempt].0 {
                let first = self.handed_out.entry((generation, *input)).or_insert_with(|| rows.clone());
                assert_eq!(
                    first, rows,
                    "result {partition} is of another run than its generation {generation}"
                );
            }
        }
    }

    fn check_readers(&self) {
        let Some(job) = self.lab.state.jobs().next() else { return };
        let completed = |stage: StageId| job.run(stage).unwrap().completed();
        for stage in &job.graph.stages {
            for (partition, done) in completed(stage.id) {
                for (input, read) in &self.done[&done.attempt].0 {
                    for (map, now) in completed(*input) {
                        let (read, now) = (read[map as usize], self.done[&now.attempt].1);
                        assert_eq!(
                            read, now,
                            "{}/{partition} has read other rows of {input}/{map}",
                            stage.id
                        );
                    }
                }
            }
        }
        let all: Vec<(StageId, &TaskDone)> = job
            .graph
            .stages
            .iter()
            .flat_map(|stage| completed(stage.id).map(|(_, done)| (stage.id, done)))
            .collect();
        let mut read: BTreeMap<StageId, &Vec<u64>> = BTreeMap::new();
        for (stage, done) in all {
            for (input, rows) in &self.done[&done.attempt].0 {
                let first = *read.entry(*input).or_insert(rows);
                assert_eq!(
                    first, rows,
                    "two tasks, one of them of stage {stage}, have read other rows of {input}"
                );
            }
        }
    }

    fn finish(&mut self) -> JobStatus {
        let status = |state: &ClusterState| state.jobs().next().unwrap().status;
        for seed in 0..500 {
            if self.lab.state.active_jobs().next().is_none() {
                break;
            }
            self.step(Step::Launch, seed);
            self.step(Step::Complete, 0);
        }
        status(&self.lab.state)
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Launch),
        8 => Just(Step::Complete),
        1 => Just(Step::Miss),
        2 => Just(Step::Lose),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_readers_have_read_the_same_rows(
        shape in proptest::sample::select(&SHAPES[..]),
        steps in proptest::collection::vec((step(), any::<usize>()), 1..120),
    ) {
        let mut world = World::new(shape);
        for (step, seed) in steps {
            world.step(step, seed);
        }
        prop_assert_eq!(world.finish(), JobStatus::Succeeded);
        for seed in 0..EXECUTORS.len() {
            world.step(Step::Lose, seed);
            world.step(Step::Reopen, 0);
            prop_assert_eq!(world.finish(), JobStatus::Succeeded);
            let job = world.lab.state.jobs().next().unwrap();
            prop_assert!(job.runs.last().unwrap().is_complete() && job.results_lost.is_empty());
        }
    }
}
