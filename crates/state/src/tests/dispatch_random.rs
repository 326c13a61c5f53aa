//! A dispatcher, executors, time and faults at random: no slot is given twice, no task runs more than twice and then on
//! different executors, no job has more running than it may, who runs alone is alone, no task is forgotten, no class of jobs takes what a higher one could have,
//! who was drained takes nothing along, and once the faults end every job does.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, ErrorClass, ExecutorId, TaskId, Term, settings::Priority};
use proptest::prelude::*;

use crate::{Change, Command, Dispatcher, Effects, Launch, Pull, Reported, Running, transcript::Lab};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Complete,
    Fail,
    /// It ran out of memory.
    Starve,
    LoseInput,
    LoseExecutor,
    Restart,
    Reconnect,
    NewLeader,
    /// The fate of an entry is unknown to the leader.
    Unknown,
    Cancel,
    Drain,
    /// An output arrives where it was ordered to.
    Arrive,
    /// It does not.
    Stray,
}

struct World {
    lab: Lab,
    dispatcher: Dispatcher,
    /// What really runs.
    running: BTreeMap<AttemptId, Running>,
    /// Every attempt that there ever was.
    named: BTreeSet<AttemptId>,
    now_ms: u64,
    /// Tasks that may not be tried again before.
    not_before: BTreeMap<TaskId, u64>,
    /// Outputs on their way.
    pulls: Vec<Pull>,
}

const EXECUTORS: [&str; 3] = ["a", "b", "c"];

impl World {
    fn new(jobs: &[String]) -> Self {
        let mut lab = Lab::new();
        lab.run_all(&["replica 1 version=3", "raise 3"]);
        lab.run_all(&["register a slots=1", "register b slots=2", "register c slots=3"]);
        for (job, shape) in jobs.iter().enumerate() {
            lab.run(&format!("submit {job} {shape}"));
        }
        let dispatcher = Dispatcher::new(Term(1));
        let mut world = Self {
            lab,
            dispatcher,
            running: BTreeMap::new(),
            named: BTreeSet::new(),
            now_ms: 0,
            not_before: BTreeMap::new(),
            pulls: Vec::new(),
        };
        EXECUTORS.iter().for_each(|name| world.attach(name));
        world
    }

    fn attach(&mut self, name: &str) {
        let id = ExecutorId::new(name).unwrap();
        let Some(record) = self.lab.state.executor(&id).filter(|e| e.is_present()) else { return };
        let incarnation = record.incarnation;
        let runs = |r: &Running| r.executor == id && r.incarnation == incarnation;
        let tell = |(attempt, r): (&AttemptId, &Running)| Reported {
            task: r.task,
            attempt: *attempt,
            epoch: r.epoch,
        };
        let reported: Vec<Reported> = self.running.iter().filter(|(_, r)| runs(r)).map(tell).collect();
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
        self.now_ms += (seed as u64 % 7) * 150;
        self.lab.now_ms = 1_000 + self.now_ms;
        match fault {
            Fault::Complete | Fault::Fail | Fault::Starve | Fault::LoseInput => {
                if let Some((attempt, running)) = self.pick(seed) {
                    self.report(fault, attempt, &running);
                }
            }
            Fault::LoseExecutor => {
                let lose = self.lab.parse(&format!("lose {name}"));
                let mut commands = self.dispatcher.deaths(&self.lab.state, std::slice::from_ref(&lose));
                commands.push(lose);
                self.lab.apply(commands);
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
                self.not_before.clear();
                self.adopt();
            }
            Fault::Unknown => {
                self.dispatcher.restart();
                self.adopt();
            }
            Fault::Cancel => drop(self.lab.run(&format!("cancel {} x", seed % 8))),
            Fault::Drain => drop(self.lab.run(&format!("drain {name} {}", (seed % 5) * 400))),
            Fault::Arrive | Fault::Stray => self.end_pull(fault, seed),
        }
        self.drain();
        self.plan();
    }

    fn end_pull(&mut self, fault: Fault, seed: usize) {
        let Some(at) = seed.checked_rem(self.pulls.len()) else { return };
        let Pull { executor, task, attempt, from, from_incarnation, .. } = self.pulls.swap_remove(at);
        if fault == Fault::Stray {
            return self.dispatcher.pull_failed(attempt, &executor, self.lab.now_ms);
        }
        let Some(known) = self.lab.state.executor(&executor) else { return };
        let incarnation = known.incarnation;
        let moved = Command::OutputMoved { executor, incarnation, task, attempt, from, from_incarnation };
        self.lab.apply(vec![moved]);
        self.dispatcher.pull_ended(attempt);
    }

    /// Nothing that is needed goes with an executor that was drained in time.
    fn drain(&mut self) {
        let steps = self.dispatcher.drain(&self.lab.state, self.lab.now_ms);
        for target in steps.cancel {
            assert_eq!(self.running.remove(&target.attempt).unwrap().executor, target.executor);
        }
        for pull in steps.pulls {
            assert!(self.lab.state.executor(&pull.executor).unwrap().takes_tasks(), "{pull:?}");
            assert!(self.pulls.iter().filter(|other| other.executor == pull.executor).count() < 100);
            self.pulls.push(pull);
        }
        for command in steps.leave {
            let Command::ExecutorLeft { executor, reason, .. } = &command else { panic!("{command:?}") };
            assert!(!self.running.values().any(|r| r.executor == *executor), "{command:?}");
            let applied = self.lab.apply(vec![command.clone()]);
            let Ok(Change::Left { effects, .. }) = &applied.outcomes[0] else { panic!("{applied:?}") };
            assert!(reason != "it was drained" || *effects == Effects::default(), "{effects:?}");
            self.dispatcher.executor_gone(executor);
        }
    }

    fn adopt(&mut self) {
        self.dispatcher.await_executors(&self.lab.state);
        assert!(!self.any_present() || self.dispatcher.plan(&self.lab.state, self.now_ms).is_empty());
        EXECUTORS.iter().for_each(|name| self.attach(name));
    }

    fn any_present(&self) -> bool {
        self.lab.state.executors().any(|e| e.is_present())
    }

    fn restart(&mut self, name: &str, process: usize) {
        self.running.retain(|_, r| r.executor.as_str() != name);
        let slots = EXECUTORS.iter().position(|n| *n == name).unwrap() + 1;
        let register = self.lab.parse(&format!("register {name} slots={slots} process={}", process + 2));
        let deaths = self.dispatcher.deaths(&self.lab.state, std::slice::from_ref(&register));
        assert!(deaths.len() <= 1 && deaths.iter().all(|c| matches!(c, Command::TasksDied { .. })));
        self.lab.apply([vec![register], deaths].concat());
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
            (Fault::Starve, _) => format!("fail {at} resources"),
            (Fault::LoseInput, Some(input)) => format!("fail {at} retryable {input}"),
            _ => format!("complete {at} epoch={}", running.epoch.unwrap()),
        };
        let said = self.lab.run(&line);
        let class = if fault == Fault::Starve { ErrorClass::Resources } else { ErrorClass::Retryable };
        if said.contains("failed ") {
            self.dispatcher.failed(&self.lab.state, task, attempt, class, self.now_ms);
            let run = self.lab.state.job(task.job).unwrap().task(task.stage, task.partition).unwrap();
            if fault != Fault::LoseInput {
                let wait_ms = [0, 100, 200, 400, 800][run.failures as usize];
                self.not_before.insert(task, self.now_ms + wait_ms);
            }
        }
        self.dispatcher.ended(attempt);
    }

    fn plan(&mut self) {
        for target in self.dispatcher.cancel_targets(&self.lab.state) {
            assert_eq!(self.running.remove(&target.attempt).unwrap().executor, target.executor);
        }
        let runnable: BTreeMap<TaskId, u32> =
            self.lab.state.pending().runnable.iter().map(|r| (r.task, r.epoch)).collect();
        let before = self.running.clone();
        let alone: BTreeSet<ExecutorId> = self.kept_for_one();
        let launches = self.dispatcher.plan(&self.lab.state, self.now_ms);
        for launch in launches.clone() {
            assert_eq!(runnable.get(&launch.task), Some(&launch.epoch), "{launch:?}");
            let executor = self.lab.state.present(&launch.executor, launch.incarnation).unwrap();
            assert!(executor.takes_tasks());
            assert!(!alone.contains(&launch.executor), "{launch:?} joins one that runs alone");
            let waits = self.not_before.get(&launch.task).is_some_and(|at| *at > self.now_ms);
            assert!(!waits, "{launch:?} must wait");
            let beside: Vec<_> = self.running.values().filter(|r| r.task == launch.task).collect();
            let is_copy = !beside.is_empty();
            assert!(beside.len() < 2 && beside.iter().all(|r| r.executor != launch.executor), "{launch:?}");
            assert!(beside.iter().all(|r| self.now_ms >= r.since_ms + 1_000), "{launch:?} is too early");
            let runs_alone = self.lab.state.runs_alone(launch.task);
            assert!(!is_copy || !runs_alone, "{launch:?} copies a task that runs alone");
            assert_eq!(self.dispatcher.running(launch.attempt).unwrap().alone, runs_alone);
            let Launch { task, executor, incarnation, .. } = launch;
            let running = self.dispatcher.running(launch.attempt).unwrap().clone();
            assert_eq!(
                (task, &executor, incarnation),
                (running.task, &running.executor, running.incarnation)
            );
            assert_eq!(running.epoch, Some(launch.epoch));
            assert!(self.named.insert(launch.attempt), "an attempt id was given twice");
            self.running.insert(launch.attempt, running);
        }
        self.check_alone(&before);
        self.check_parallel();
        let runnable = runnable.into_keys().collect();
        self.check_slots(&runnable);
        self.check_classes(&before, &launches, &runnable);
    }

    fn kept_for_one(&self) -> BTreeSet<ExecutorId> {
        let alone = self.running.keys().filter_map(|attempt| self.dispatcher.running(*attempt));
        alone.filter(|running| running.alone).map(|running| running.executor.clone()).collect()
    }

    /// Whoever began to run alone in this plan found the executor empty, and has it for itself.
    fn check_alone(&self, before: &BTreeMap<AttemptId, Running>) {
        let new = self.running.iter().filter(|(attempt, _)| !before.contains_key(attempt));
        for (attempt, running) in new.filter(|(_, running)| running.alone) {
            let there = self.running.values().filter(|r| r.executor == running.executor).count();
            assert_eq!(there, 1, "{attempt} does not run alone on {}", running.executor);
        }
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
            let kept = self.dispatcher.is_kept_for_one(&executor.id);
            let is_free =
                is_free && !kept && !self.dispatcher.is_set_aside(&executor.id, executor.incarnation);
            for task in idle.iter().filter(|task| self.may_run_more(***task)) {
                let waits = self.not_before.get(task).is_some_and(|at| *at > self.now_ms);
                if waits || self.lab.state.runs_alone(**task) {
                    continue;
                }
                let run = self.lab.state.job(task.job).unwrap().task(task.stage, task.partition).unwrap();
                assert!(!is_free || run.failed_on(&executor.id), "{task} could run on {}", executor.id);
            }
        }
    }

    /// Whether its job's own limit allows for one more.
    fn may_run_more(&self, task: TaskId) -> bool {
        let most = self.lab.state.settings(self.lab.state.job(task.job).unwrap()).max_parallel_tasks;
        most == 0 || self.dispatcher.busy_with(task.job) < most
    }

    /// No job has more running than it may; what the dispatcher counts is what runs.
    fn check_parallel(&self) {
        for job in self.lab.state.jobs() {
            let most = self.lab.state.settings(job).max_parallel_tasks as usize;
            let busy = self.running.values().filter(|running| running.task.job == job.id).count();
            assert!(most == 0 || busy <= most, "{busy} attempts of job {} run", job.id);
            assert_eq!(busy, self.dispatcher.busy_with(job.id) as usize, "job {}", job.id);
        }
    }

    /// Nothing was launched where a task of a higher class could have been, also one that runs alone, if it was empty.
    fn check_classes(
        &self,
        before: &BTreeMap<AttemptId, Running>,
        launches: &[Launch],
        runnable: &BTreeSet<TaskId>,
    ) {
        let state = &self.lab.state;
        let class = |task: TaskId| Priority::read(&state.job(task.job).unwrap().options);
        let running: BTreeSet<TaskId> = self.running.values().map(|r| r.task).collect();
        let waits = |task: &TaskId| self.not_before.get(task).is_some_and(|at| *at > self.now_ms);
        for task in runnable.difference(&running).filter(|task| !waits(task) && self.may_run_more(**task)) {
            let run = state.job(task.job).unwrap().task(task.stage, task.partition).unwrap();
            for launch in launches.iter().filter(|launch| class(launch.task) < class(*task)) {
                let here = |of: &ExecutorId| *of == launch.executor;
                let came_first = |other: &Launch| here(&other.executor) && class(other.task) >= class(*task);
                let is_taken = before.values().any(|r| here(&r.executor)) || launches.iter().any(came_first);
                let must_wait = state.runs_alone(*task) && is_taken;
                assert!(must_wait || run.failed_on(&launch.executor), "{task} could have had {launch:?}");
            }
        }
    }

    /// No more faults: everything that runs completes.
    fn finish(&mut self) {
        EXECUTORS.iter().for_each(|name| self.restart(name, 1_000_000));
        for _ in 0..10_000 {
            self.now_ms += 400;
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
        1 => Just(Fault::Starve),
        2 => Just(Fault::LoseInput),
        1 => Just(Fault::LoseExecutor),
        2 => Just(Fault::Restart),
        2 => Just(Fault::Reconnect),
        1 => Just(Fault::NewLeader),
        1 => Just(Fault::Unknown),
        1 => Just(Fault::Cancel),
        2 => Just(Fault::Drain),
        6 => Just(Fault::Arrive),
        1 => Just(Fault::Stray),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_once_the_faults_do(
        classes in proptest::collection::vec(0..3usize, 7),
        limits in proptest::collection::vec(0..4u32, 7),
        faults in proptest::collection::vec((fault(), any::<usize>()), 1..100),
    ) {
        let jobs = ["chain(4,3,2)", "one", "hash(6,2)", "join(3,2,4)", "one", "hash!(2,2)", "chain(1,1,1,1)"];
        let class = |class: usize| ["low", "normal", "high"][class];
        let submit = |((job, of), most): ((&&str, &usize), &u32)| {
            format!("{job} priority={} max_parallel={most}", class(*of))
        };
        let jobs: Vec<String> = jobs.iter().zip(&classes).zip(&limits).map(submit).collect();
        let mut world = World::new(&jobs);
        world.plan();
        for (fault, seed) in faults {
            world.step(fault, seed % 1_000);
        }
        world.finish();
    }
}
