//! A dispatcher, executors and faults at random: no slot is given twice, no task runs twice, none is forgotten, and
//! once the faults end every job does.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, ExecutorId, TaskId, Term};
use proptest::prelude::*;

use crate::{Dispatcher, Running, transcript::Lab};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Complete,
    Fail,
    LoseInput,
    LoseExecutor,
    Restart,
    Reconnect,
    NewLeader,
    /// The fate of an entry is unknown to the leader.
    Unknown,
    Cancel,
}

struct World {
    lab: Lab,
    dispatcher: Dispatcher,
    /// What really runs.
    running: BTreeMap<AttemptId, Running>,
    /// Every attempt that there ever was.
    named: BTreeSet<AttemptId>,
}

const EXECUTORS: [&str; 3] = ["a", "b", "c"];

impl World {
    fn new(jobs: &[&str]) -> Self {
        let mut lab = Lab::new();
        lab.run_all(&["register a slots=1", "register b slots=2", "register c slots=3"]);
        for (job, shape) in jobs.iter().enumerate() {
            lab.run(&format!("submit {job} {shape}"));
        }
        let dispatcher = Dispatcher::new(Term(1));
        let mut world = Self { lab, dispatcher, running: BTreeMap::new(), named: BTreeSet::new() };
        EXECUTORS.iter().for_each(|name| world.attach(name));
        world
    }

    fn attach(&mut self, name: &str) {
        let id = ExecutorId::new(name).unwrap();
        let Some(record) = self.lab.state.executor(&id).filter(|e| e.is_present()) else { return };
        let incarnation = record.incarnation;
        let runs = |r: &Running| r.executor == id && r.incarnation == incarnation;
        let reported: Vec<(TaskId, AttemptId)> =
            self.running.iter().filter(|(_, r)| runs(r)).map(|(attempt, r)| (r.task, *attempt)).collect();
        let adoption = self.dispatcher.attach(&self.lab.state, &id, incarnation, &reported);
        for attempt in adoption.cancel {
            self.running.remove(&attempt);
        }
    }

    fn pick(&self, seed: usize) -> Option<(AttemptId, Running)> {
        let at = seed.checked_rem(self.running.len())?;
        self.running.iter().nth(at).map(|(attempt, running)| (*attempt, running.clone()))
    }

    fn step(&mut self, fault: Fault, seed: usize) {
        let name = EXECUTORS[seed % EXECUTORS.len()];
        match fault {
            Fault::Complete | Fault::Fail | Fault::LoseInput => {
                if let Some((attempt, running)) = self.pick(seed) {
                    self.report(fault, attempt, &running);
                }
            }
            Fault::LoseExecutor => {
                self.lab.run(&format!("lose {name}"));
                self.running.retain(|_, r| r.executor.as_str() != name);
                self.dispatcher.executor_gone(&ExecutorId::new(name).unwrap());
            }
            Fault::Restart => self.restart(name, seed),
            Fault::Reconnect => {
                self.dispatcher.detach(&ExecutorId::new(name).unwrap());
                self.attach(name);
            }
            Fault::NewLeader => {
                self.lab.term.0 += 1;
                self.dispatcher = Dispatcher::new(self.lab.term);
                self.adopt();
            }
            Fault::Unknown => {
                self.dispatcher.restart();
                self.adopt();
            }
            Fault::Cancel => drop(self.lab.run(&format!("cancel {} x", seed % 8))),
        }
        self.plan();
    }

    fn adopt(&mut self) {
        self.dispatcher.await_executors(&self.lab.state);
        assert!(!self.any_present() || self.dispatcher.plan(&self.lab.state).is_empty());
        EXECUTORS.iter().for_each(|name| self.attach(name));
    }

    fn any_present(&self) -> bool {
        self.lab.state.executors().any(|e| e.is_present())
    }

    fn restart(&mut self, name: &str, process: usize) {
        self.running.retain(|_, r| r.executor.as_str() != name);
        let slots = EXECUTORS.iter().position(|n| *n == name).unwrap() + 1;
        self.lab.run(&format!("register {name} slots={slots} process={}", process + 2));
        self.attach(name);
    }

    fn report(&mut self, fault: Fault, attempt: AttemptId, running: &Running) {
        self.running.remove(&attempt);
        let (task, state) = (running.task, &self.lab.state);
        let at = format!("{} {}/{}/{} {attempt}", running.executor, task.job.0, task.stage, task.partition);
        let input = state.job(task.job).and_then(|job| {
            let input = job.graph.stage(task.stage)?.inputs.first()?.stage;
            let (map, done) = job.run(input)?.completed().next()?;
            Some(format!("lost={}/{input}/{map}/{}", done.executor, done.attempt))
        });
        let line = match (fault, input) {
            (Fault::Fail, _) => format!("fail {at} retryable"),
            (Fault::LoseInput, Some(input)) => format!("fail {at} retryable {input}"),
            _ => format!("complete {at}"),
        };
        self.lab.run(&line);
        self.dispatcher.ended(attempt);
    }

    fn plan(&mut self) {
        for target in self.dispatcher.cancel_targets(&self.lab.state) {
            assert_eq!(self.running.remove(&target.attempt).unwrap().executor, target.executor);
        }
        let runnable: BTreeMap<TaskId, u32> =
            self.lab.state.pending().runnable.iter().map(|r| (r.task, r.epoch)).collect();
        for launch in self.dispatcher.plan(&self.lab.state) {
            assert_eq!(runnable.get(&launch.task), Some(&launch.epoch), "{launch:?}");
            let executor = self.lab.state.present(&launch.executor, launch.incarnation).unwrap();
            assert!(executor.takes_tasks());
            assert!(!self.running.values().any(|r| r.task == launch.task), "{launch:?} runs already");
            let running =
                Running { task: launch.task, executor: launch.executor, incarnation: launch.incarnation };
            assert!(self.named.insert(launch.attempt), "an attempt id was given twice");
            self.running.insert(launch.attempt, running);
        }
        self.check_slots(&runnable.into_keys().collect());
    }

    /// Slots are kept, and none is free while something could use it.
    fn check_slots(&self, runnable: &BTreeSet<TaskId>) {
        let running: BTreeSet<TaskId> = self.running.values().map(|r| r.task).collect();
        let idle: Vec<&TaskId> = runnable.difference(&running).collect();
        for executor in self.lab.state.executors().filter(|e| e.takes_tasks()) {
            let busy = self.running.values().filter(|r| r.executor == executor.id).count();
            assert!(busy <= executor.slots as usize, "{} runs {busy}", executor.id);
            assert_eq!(busy, self.dispatcher.busy_slots(&executor.id));
            let is_free = busy < executor.slots as usize && self.dispatcher.is_attached(&executor.id);
            for task in &idle {
                let run = self.lab.state.job(task.job).unwrap().task(task.stage, task.partition).unwrap();
                assert!(!is_free || run.failed_on(&executor.id), "{task} could run on {}", executor.id);
            }
        }
    }

    /// No more faults: everything that runs completes.
    fn finish(&mut self) {
        EXECUTORS.iter().for_each(|name| self.restart(name, 1_000_000));
        for _ in 0..10_000 {
            if self.lab.state.active_job_count() == 0 {
                break;
            }
            self.step(Fault::Complete, 0);
        }
        let stuck: Vec<u64> = self.lab.state.active_jobs().map(|job| job.id.0).collect();
        assert!(stuck.is_empty(), "jobs {stuck:?} never end");
        self.plan();
        assert!(self.running.is_empty(), "attempts of ended jobs run on");
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        20 => Just(Fault::Complete),
        2 => Just(Fault::Fail),
        2 => Just(Fault::LoseInput),
        1 => Just(Fault::LoseExecutor),
        2 => Just(Fault::Restart),
        2 => Just(Fault::Reconnect),
        1 => Just(Fault::NewLeader),
        1 => Just(Fault::Unknown),
        1 => Just(Fault::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_once_the_faults_do(faults in proptest::collection::vec((fault(), any::<usize>()), 1..100)) {
        let jobs = ["chain(4,3,2)", "one", "hash(6,2)", "join(3,2,4)", "one", "hash!(2,2)", "chain(1,1,1,1)"];
        let mut world = World::new(&jobs);
        world.plan();
        for (fault, seed) in faults {
            world.step(fault, seed % 1_000);
        }
        world.finish();
    }
}
