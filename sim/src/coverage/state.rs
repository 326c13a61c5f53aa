//! What a cluster is about when a fault begins, told from the moments before: a small pure state machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use polybolos_model::{
    AttemptId, JobId, StageId, TaskId,
    simulation::{AttemptEnd, Fact},
};
use polybolos_state::{Command, Entry};

use crate::{
    moment::{ClientEvent, Moment, What},
    schedule::Schedule,
};

/// Several may hold at once. The first only when no other does.
pub const STATES: &[&str] = &[
    "idle",
    "job running",
    "between stages",
    "result streaming",
    "electing",
    "replica catching up",
    "executor missing",
    "another fault",
];

/// A replica that lacks so many entries is catching up.
const BEHIND_ENTRIES: u64 = 16;

/// How far a job got, as its executors see it.
#[derive(Debug, Default)]
struct Progress {
    result_stage: Option<StageId>,
    /// An attempt of it completed.
    begun: bool,
    /// One of the result stage did.
    has_results: bool,
}

#[derive(Debug)]
pub(super) struct State {
    executors: usize,
    up: BTreeSet<Arc<str>>,
    leader: Option<Arc<str>>,
    /// By scheduler that is up.
    applied: BTreeMap<Arc<str>, u64>,
    last_index: u64,
    jobs: BTreeMap<JobId, Progress>,
    /// Jobs that clients wait for, by op.
    waiting: BTreeMap<u32, JobId>,
    running: BTreeMap<(Arc<str>, AttemptId), TaskId>,
    faults: BTreeSet<u32>,
}

impl State {
    pub(super) fn new(schedule: &Schedule) -> Self {
        Self {
            executors: schedule.cluster.slots.len(),
            up: BTreeSet::new(),
            leader: None,
            applied: BTreeMap::new(),
            last_index: 0,
            jobs: BTreeMap::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            faults: BTreeSet::new(),
        }
    }

    /// Those that hold now.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let executors = self.up.iter().filter(|host| host.starts_with("executor-")).count();
        let waited: BTreeSet<&JobId> = self.waiting.values().collect();
        let runs = |job: &JobId| self.running.values().any(|task| task.job == *job);
        let progress = |job: &JobId| self.jobs.get(job);
        let streams = |job: &&JobId| progress(job).is_some_and(|job| job.has_results);
        let pauses =
            |job: &&JobId| progress(job).is_some_and(|job| job.begun && !job.has_results) && !runs(job);
        let behind = |index: &u64| index.saturating_add(BEHIND_ENTRIES) < self.last_index;
        let holds = [
            (STATES[1], waited.iter().any(|job| runs(job))),
            (STATES[2], waited.iter().any(pauses)),
            (STATES[3], waited.iter().any(streams)),
            (STATES[4], self.leader.is_none()),
            (STATES[5], self.applied.values().any(behind)),
            (STATES[6], executors < self.executors),
            (STATES[7], !self.faults.is_empty()),
        ];
        let names: Vec<_> = holds.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name).collect();
        if names.is_empty() { vec![STATES[0]] } else { names }
    }

    pub(super) fn on(&mut self, moment: &Moment) {
        let host = &moment.host;
        match &moment.what {
            What::Up { .. } => {
                self.up.insert(Arc::clone(host));
                if host.starts_with("scheduler-") {
                    self.applied.insert(Arc::clone(host), 0);
                }
            }
            What::Down { .. } | What::Exited { .. } | What::Refused { .. } => {
                self.up.remove(host);
                self.applied.remove(host);
                self.running.retain(|(on, _), _| on != host);
                self.leader = self.leader.take().filter(|leader| leader != host);
            }
            What::FaultBegins { id, .. } => {
                self.faults.insert(*id);
            }
            What::FaultEnds { id, .. } => {
                self.faults.remove(id);
            }
            What::Fact(fact) => self.fact(host, fact),
            What::Client(event) => self.client(event),
            What::FaultSkipped { .. }
            | What::Failpoint { .. }
            | What::Mark(_)
            | What::Phase(_)
            | What::Log { .. }
            | What::Net { .. } => {}
        }
    }

    fn fact(&mut self, host: &Arc<str>, fact: &Fact) {
        match fact {
            Fact::Elected { .. } => self.leader = Some(Arc::clone(host)),
            Fact::Applied { index, entry, .. } => {
                self.applied.insert(Arc::clone(host), *index);
                if *index > self.last_index {
                    self.last_index = *index;
                    self.committed(entry);
                }
            }
            Fact::Installed { index, .. } => {
                self.applied.insert(Arc::clone(host), *index);
            }
            Fact::AttemptStarted { task, attempt, .. } => {
                self.running.insert((Arc::clone(host), *attempt), *task);
            }
            Fact::AttemptEnded { task, attempt, end, .. } => {
                self.running.remove(&(Arc::clone(host), *attempt));
                if *end == AttemptEnd::Completed {
                    let job = self.jobs.entry(task.job).or_default();
                    job.begun = true;
                    job.has_results |= job.result_stage == Some(task.stage);
                }
            }
            Fact::Opened { .. } | Fact::Launched { .. } | Fact::Obeyed { .. } | Fact::Registered { .. } => {}
        }
    }

    fn committed(&mut self, entry: &[u8]) {
        // openraft's own entries are empty.
        let Ok(entry) = Entry::decode(entry) else { return };
        for command in entry.commands {
            if let Command::SubmitJob { job, graph, .. } | Command::SubmitWrite { job, graph, .. } = command {
                self.jobs.entry(job).or_default().result_stage = graph.last().map(|stage| stage.id);
            }
        }
    }

    fn client(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::Accepted { op, job, .. } => {
                self.waiting.insert(*op, *job);
            }
            ClientEvent::Answered { op, .. }
            | ClientEvent::Done { op }
            | ClientEvent::Failed { op, .. }
            | ClientEvent::Abandoned { op, .. } => {
                self.waiting.remove(op);
            }
            ClientEvent::Invoked { .. } | ClientEvent::Status { .. } => {}
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use polybolos_model::{ExecutorId, Term};

    use super::*;

    pub(in crate::coverage) fn schedule(executors: usize) -> Schedule {
        let text = "seed = 1\n[cluster]\nschedulers = 3\nslots = []\nsnapshot_every = 100\nmemory_mib = 64\nclients = 1\nmin_latency_us = 0\n\
                    max_latency_us = 0\ntcp_capacity = 64\nclock_offset_ms = 0\ndisk_latency_us = 0\nbatch_cost_us = 0\n\
                    [phases]\nheal_at_ms = 1\nliveness_ms = 1\n";
        let mut schedule = Schedule::parse(text).unwrap();
        schedule.cluster.slots = vec![1; executors];
        schedule
    }

    pub(in crate::coverage) fn moment(host: &str, what: What) -> Moment {
        Moment { at_us: 0, host: host.into(), what }
    }

    pub(in crate::coverage) fn up(host: &str) -> Moment {
        moment(host, What::Up { life: 1 })
    }

    pub(in crate::coverage) fn elected(host: &str, term: u64) -> Moment {
        moment(host, What::Fact(Fact::Elected { term: Term(term), last_term: Term(0), last_index: 0 }))
    }

    pub(in crate::coverage) fn fault_begins(id: u32, name: &'static str) -> Moment {
        moment("world", What::FaultBegins { id, name, target: String::new() })
    }

    fn applied(host: &str, index: u64) -> Moment {
        let fact = Fact::Applied { index, term: Term(1), entry: Vec::new(), state_hash: 0 };
        moment(host, What::Fact(fact))
    }

    fn attempt(end: Option<AttemptEnd>) -> Moment {
        let executor = ExecutorId::new("executor-1").unwrap();
        let task = TaskId { job: JobId(7), stage: StageId(0), partition: 0 };
        let attempt = AttemptId { term: Term(1), counter: 1 };
        moment(
            "executor-1",
            What::Fact(match end {
                Some(end) => Fact::AttemptEnded { executor, task, attempt, end },
                None => Fact::AttemptStarted { executor, task, attempt, busy: 1, slots: 1 },
            }),
        )
    }

    #[test]
    fn each_state_is_told_from_the_moments() {
        let mut state = State::new(&schedule(1));
        assert_eq!(state.names(), ["electing", "executor missing"]);
        let mut see = |moment: Moment| {
            state.on(&moment);
            state.names()
        };
        see(up("scheduler-1"));
        see(up("executor-1"));
        assert_eq!(see(elected("scheduler-1", 1)), ["idle"]);
        let accepted = ClientEvent::Accepted { op: 1, job: JobId(7), key: None };
        assert_eq!(see(moment("client-1", What::Client(accepted))), ["idle"]);
        assert_eq!(see(attempt(None)), ["job running"]);
        assert_eq!(see(attempt(Some(AttemptEnd::Completed))), ["between stages"]);
        see(applied("scheduler-1", 100));
        see(up("scheduler-2"));
        assert_eq!(see(applied("scheduler-2", 9)), ["between stages", "replica catching up"]);
        assert_eq!(see(applied("scheduler-2", 99)), ["between stages"]);
        see(moment("client-1", What::Client(ClientEvent::Done { op: 1 })));
        assert_eq!(see(fault_begins(1, "crash")), ["another fault"]);
        let down = moment("scheduler-1", What::Down { power_loss: false });
        assert_eq!(see(down), ["electing", "another fault"]);
    }

    #[test]
    fn a_completed_task_of_the_last_stage_is_a_result_that_streams() {
        let mut state = State::new(&schedule(0));
        state.on(&elected("scheduler-1", 1));
        state.jobs.entry(JobId(7)).or_default().result_stage = Some(StageId(0));
        state.waiting.insert(1, JobId(7));
        state.on(&attempt(Some(AttemptEnd::Completed)));
        assert_eq!(state.names(), ["result streaming"]);
    }
}
