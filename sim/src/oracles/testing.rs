//! Histories by hand: entries that are applied for real, and moments around them, fed to one oracle as the judge does.

use std::{collections::BTreeMap, sync::Arc};

use polybolos_model::{
    AttemptId, ErrorClass, Exchange, ExecutorId, IdempotencyKey, Incarnation, JobId, PartitionStats,
    ReadMode, Stage, StageGraph, StageId, StageInput, TaskError, TaskId, TaskMetrics, Term, simulation::Fact,
};
use polybolos_state::{ClusterState, Command, Entry, LoggedBeat, RelationName};

use super::{Check, Oracle, Reference, Rest};
use crate::{
    moment::{ClientEvent, Moment, What},
    schedule::Schedule,
};

pub(super) const JOB: JobId = JobId(1);
pub(super) const LEADER: &str = "scheduler-1";

pub(super) struct Lab<O> {
    pub(super) oracle: O,
    pub(super) reference: Reference,
    pub(super) state: ClusterState,
    pub(super) index: u64,
    pub(super) term: Term,
    pub(super) now_us: u64,
}

impl<O: Oracle> Lab<O> {
    pub(super) fn new(oracle: O) -> Self {
        let (reference, state) = (Reference::default(), ClusterState::default());
        Self { oracle, reference, state, index: 0, term: Term(1), now_us: 0 }
    }

    /// Executors `executor-1` and `executor-2`, and [`JOB`]: stage 0 of two tasks, read by stage 1 of two.
    pub(super) fn with_job(oracle: O) -> Self {
        let mut lab = Self::new(oracle);
        lab.commit(vec![register(1, 1), register(2, 2), submit(JOB, None)]).unwrap();
        lab
    }

    /// As [`super::Judge::on`].
    pub(super) fn happens(&mut self, host: &str, what: What) -> Check {
        self.now_us += 1_000;
        let moment = Moment { at_us: self.now_us, host: host.into(), what };
        if let Some(commit) = self.reference.on(&moment)? {
            self.oracle.on_commit(&commit)?;
        }
        self.oracle.on_moment(&moment, &self.reference)
    }

    pub(super) fn fact(&mut self, host: &str, fact: Fact) -> Check {
        self.happens(host, What::Fact(fact))
    }

    pub(super) fn client(&mut self, event: ClientEvent) -> Check {
        self.happens("client-1", What::Client(event))
    }

    pub(super) fn fault(&mut self, id: u32, name: &'static str, target: &str) -> Check {
        self.happens("world", What::FaultBegins { id, name, target: target.to_owned() })
    }

    /// [`LEADER`] applies the next entry.
    pub(super) fn commit(&mut self, commands: Vec<Command>) -> Check {
        let entry = Entry::new(self.state.version(), self.term, self.now_us / 1_000, commands);
        self.state.apply(&entry);
        self.index += 1;
        let fact = Fact::Applied {
            index: self.index,
            term: self.term,
            entry: entry.encode().unwrap(),
            state_hash: self.state.hash(),
        };
        self.fact(LEADER, fact)
    }

    pub(super) fn at_rest(&mut self, rest: &Rest) -> Check {
        self.oracle.at_rest(rest, &self.reference)
    }
}

pub(super) fn executor(number: u64) -> ExecutorId {
    ExecutorId::new(format!("executor-{number}")).unwrap()
}

/// With two slots; `process` is the number of its process.
pub(super) fn register(number: u64, process: u64) -> Command {
    Command::RegisterExecutor {
        executor: executor(number),
        address: format!("executor-{number}:7711"),
        slots: 2,
        memory_bytes: 1,
        labels: BTreeMap::new(),
        process_id: process,
    }
}

pub(super) fn lose(number: u64, incarnation: u64) -> Command {
    Command::LoseExecutor {
        executor: executor(number),
        incarnation: Incarnation(incarnation),
        reason: "silent".to_owned(),
    }
}

pub(super) fn beat(number: u64, incarnation: u64, running_tasks: u32, shuffle_bytes: u64) -> Command {
    let (executor, incarnation) = (executor(number), Incarnation(incarnation));
    let beat = LoggedBeat { executor, incarnation, memory_used_bytes: 0, shuffle_bytes, running_tasks };
    Command::Heartbeats { beats: vec![beat] }
}

fn stage(id: u32, inputs: Vec<StageInput>, exchange: Exchange, output_partitions: u32) -> Stage {
    Stage {
        id: StageId(id),
        plan: vec![1],
        tasks: 2,
        inputs,
        exchange,
        output_partitions,
        display: String::new(),
        indeterminate: None,
    }
}

pub(super) fn submit(job: JobId, key: Option<&str>) -> Command {
    let input = StageInput { stage: StageId(0), read: ReadMode::Partition };
    Command::SubmitJob {
        job,
        key: key.map(|key| IdempotencyKey::new(key).unwrap()),
        session: None,
        sql: "SELECT 1".to_owned(),
        graph: StageGraph {
            stages: vec![stage(0, vec![], Exchange::Hash, 2), stage(1, vec![input], Exchange::Result, 1)],
        },
        options: BTreeMap::new(),
        explain_analyze: None,
        ordered: false,
        schema: vec![],
        cancel_when_unwatched_ms: 0,
    }
}

pub(super) fn task(stage: u32, partition: u32) -> TaskId {
    TaskId { job: JOB, stage: StageId(stage), partition }
}

pub(super) fn attempt(counter: u64) -> AttemptId {
    AttemptId { term: Term(1), counter }
}

/// By the executor's first incarnation, which has its number.
pub(super) fn complete(number: u64, task: TaskId, counter: u64) -> Command {
    let outputs = if task.stage.0 == 0 { 2 } else { 1 };
    Command::CompleteTask {
        executor: executor(number),
        incarnation: Incarnation(number),
        task,
        attempt: attempt(counter),
        outputs: vec![PartitionStats::default(); outputs],
        metrics: TaskMetrics::default(),
    }
}

pub(super) fn fail(number: u64, task: TaskId, counter: u64, class: ErrorClass) -> Command {
    Command::FailTask {
        executor: executor(number),
        incarnation: Incarnation(number),
        task,
        attempt: attempt(counter),
        error: TaskError::new(class, "broken"),
    }
}

/// Every task of [`JOB`], by `executor-1`.
pub(super) fn complete_all() -> Vec<Command> {
    let tasks = [task(0, 0), task(0, 1), task(1, 0), task(1, 1)];
    tasks.into_iter().zip(1..).map(|(task, counter)| complete(1, task, counter)).collect()
}

pub(super) fn view(name: &str) -> Command {
    Command::CreateView {
        name: RelationName { schema: "public".to_owned(), name: name.to_owned() },
        sql: "SELECT 1".to_owned(),
        or_replace: false,
        if_not_exists: false,
    }
}

pub(super) fn invoked(op: u32) -> ClientEvent {
    ClientEvent::Invoked { op, what: String::new() }
}

pub(super) fn accepted(op: u32, job: JobId, key: Option<&str>) -> ClientEvent {
    ClientEvent::Accepted { op, job, key: key.map(str::to_owned) }
}

pub(super) fn applied(index: u64, term: u64, entry: &[u8], state_hash: u64) -> Fact {
    Fact::Applied { index, term: Term(term), entry: entry.to_vec(), state_hash }
}

pub(super) fn host(name: &str) -> Arc<str> {
    name.into()
}

/// Two queries, the second one cancelled; one of a view, and the view.
pub(super) fn schedule() -> Schedule {
    Schedule::parse(
        "seed = 1\n\
         [cluster]\nschedulers = 1\nslots = [1]\nmemory_mib = 64\nclients = 1\nmin_latency_us = 1\nmax_latency_us = 2\n\
         tcp_capacity = 1\nclock_offset_ms = 0\ndisk_latency_us = 0\nbatch_cost_us = 0\nsnapshot_every = 100\n\
         [phases]\nheal_at_ms = 1\nliveness_ms = 1\n\
         [[op]]\nid = 1\nat_ms = 0\nclient = 1\ndo = \"query\"\nsql = \"SELECT 1\"\n\
         [[op]]\nid = 2\nat_ms = 0\nclient = 1\ndo = \"query\"\nsql = \"SELECT 1\"\ncancel_after_ms = 5\n\
         [[op]]\nid = 3\nat_ms = 0\nclient = 1\ndo = \"query\"\nsql = \"SELECT * FROM seen\"\n\
         [[op]]\nid = 4\nat_ms = 0\nclient = 1\ndo = \"ddl\"\nsql = \"CREATE VIEW seen AS SELECT 1\"\n",
    )
    .unwrap()
}
