//! What the executor decides, as one synchronous value: events in, effects out.
//!
//! ```text
//!   Command (fenced by term) ─┐                ┌─▶ Effect: keep, start, stop, delete, reattach
//!   Ended (a task's end)     ─┴─▶ Core::on ────┤
//!                                              └─▶ Ledger: reports until they are acknowledged
//! ```
//!
//! Deliberately absent: plans, streams, clocks, files. The shell (`node`) carries out each effect in order and feeds
//! back how every started attempt ended, exactly once.

mod events;
mod leaving;
mod ledger;
mod stages;
#[cfg(test)]
mod transcripts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use polybolos_model::{AttemptId, ErrorClass, Incarnation, JobId, StageId, TaskError, TaskId, Term};

pub(crate) use self::{
    events::{Command, Effect, Ended, Event},
    leaving::MovedTo,
    ledger::{Ledger, Outcome, Report, Work},
    stages::StageKey,
};
use self::{leaving::Pulls, stages::Stages};

/// Launched attempts that may wait for a slot. The scheduler never exceeds the slots, but a cancelled attempt holds
/// its slot a moment longer here than there.
pub(crate) const MAX_BACKLOG: usize = 32;

/// Unacknowledged reports beyond which no further attempt starts: the scheduler's log is stalled.
pub(crate) const MAX_UNACKNOWLEDGED: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Running,
    /// It was discarded; whatever it still does is thrown away.
    Stopping,
}

#[derive(Debug)]
struct Attempt {
    work: Work,
    phase: Phase,
}

/// See the module's docs.
#[derive(Debug)]
pub(crate) struct Core {
    slots: usize,
    highest_term: Term,
    refused_commands: u64,
    member: Option<(String, Incarnation)>,
    stages: Stages,
    /// Jobs that may have outputs here.
    jobs: BTreeSet<JobId>,
    attempts: BTreeMap<AttemptId, Attempt>,
    queue: VecDeque<AttemptId>,
    ledger: Ledger,
    /// Acknowledged outputs. The log knows them as this life's.
    held: BTreeMap<AttemptId, TaskId>,
    pulls: Pulls,
}

impl Core {
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            slots: slots.max(1) as usize,
            highest_term: Term::default(),
            refused_commands: 0,
            member: None,
            stages: Stages::default(),
            jobs: BTreeSet::new(),
            attempts: BTreeMap::new(),
            queue: VecDeque::new(),
            ledger: Ledger::default(),
            held: BTreeMap::new(),
            pulls: Pulls::default(),
        }
    }

    /// Takes one event in and answers with what must be done.
    pub(crate) fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Command { term, command } => self.command(term, command, &mut effects),
            Event::Ended { attempt, ended } => self.ended(attempt, ended, &mut effects),
            Event::Durable { attempt, task } => self.durable(attempt, task),
            Event::Pulled { attempt, whole } => self.pulled(attempt, whole, &mut effects),
        }
        self.start_queued(&mut effects);
        effects
    }

    /// The life that reports and heartbeats must name; `None` before the first registration.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.member.as_ref().map(|(_, incarnation)| *incarnation)
    }

    pub(crate) fn refused_commands(&self) -> u64 {
        self.refused_commands
    }

    /// Attempts that hold a slot.
    pub(crate) fn busy_slots(&self) -> usize {
        self.attempts.values().filter(|attempt| attempt.phase != Phase::Queued).count()
    }

    /// What a new leader must not launch again, ascending: attempts under way, and those that have ended and whose reports
    /// are not acknowledged. (If such a report is in the log already the leader calls the attempt off, which changes
    /// nothing here.)
    pub(crate) fn adoptable(&self) -> BTreeMap<AttemptId, Work> {
        let live = self.attempts.iter().filter(|(_, attempt)| attempt.phase != Phase::Stopping);
        live.map(|(id, attempt)| (*id, attempt.work)).chain(self.ledger.attempts()).collect()
    }

    /// What an attempt that is under way runs.
    pub(crate) fn task(&self, attempt: AttemptId) -> Option<TaskId> {
        self.attempts.get(&attempt).map(|attempt| attempt.work.task)
    }

    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    fn command(&mut self, term: Term, command: Command, effects: &mut Vec<Effect>) {
        if let Command::Registered { cluster, .. } = &command
            && self.member.as_ref().is_some_and(|(known, _)| known != cluster)
        {
            // Terms of different clusters don't compare.
            self.highest_term = Term::default();
        }
        if term < self.highest_term {
            self.refused_commands += 1;
            effects.push(Effect::RefusedTerm { term, highest: self.highest_term });
            return;
        }
        self.highest_term = term;
        match command {
            Command::Registered { cluster, incarnation } => self.registered(cluster, incarnation, effects),
            Command::Prepare { stage, epoch, bytes } => self.prepare(stage, epoch, bytes, effects),
            Command::Launch { stage, epoch, tasks } => self.launch(stage, epoch, &tasks, effects),
            Command::Cancel { attempts } => {
                for attempt in attempts {
                    self.stop(attempt, effects);
                }
            }
            Command::DeleteOutputs { attempts } => {
                for attempt in attempts {
                    self.delete(attempt, effects);
                }
            }
            Command::Release { job } => self.release(job, effects),
            Command::Committed { sequences } => {
                let outputs = self.ledger.acknowledge(&sequences).into_iter().filter(Report::has_output);
                self.held.extend(outputs.map(|report| (report.attempt, report.task)));
            }
            Command::Drain { deadline_ms } => effects.push(Effect::Drain { deadline_ms }),
            Command::Pull { task, attempt, from, incarnation } => {
                self.pull(task, attempt, (from, incarnation), effects);
            }
            Command::Moved { outputs } => effects.push(Effect::NoteMoved(outputs)),
            Command::Lost { address } => effects.push(Effect::StopReading(address)),
            Command::Leave => effects.push(Effect::Leave),
        }
    }

    /// A new life keeps its attempts and reports, since the leader adopts the ones and takes the others. The outputs
    /// that were in the log went with the last life.
    fn registered(&mut self, cluster: String, incarnation: Incarnation, effects: &mut Vec<Effect>) {
        let incarnation = match &self.member {
            Some((_, known)) if polybolos_model::mutant!("stale-incarnation") => *known,
            Some(_) | None => incarnation,
        };
        match self.member.replace((cluster.clone(), incarnation)) {
            Some((known, _)) if known != cluster => {
                for job in self.jobs.clone() {
                    self.release(job, effects);
                }
                self.ledger.clear();
            }
            Some((_, known)) if known != incarnation => {
                polybolos_model::sometimes!("an executor came back to a new life");
                let held = std::mem::take(&mut self.held);
                effects.extend(held.into_keys().map(Effect::ForgetOutput));
            }
            Some(_) | None => {}
        }
        if polybolos_model::mutant!("reports-not-resent") {
            return;
        }
        polybolos_model::sometimes!("reports were sent again", self.ledger.len() > 0);
        self.ledger.resend();
    }

    fn prepare(&mut self, stage: StageKey, epoch: u32, bytes: usize, effects: &mut Vec<Effect>) {
        if self.stages.epoch(stage).is_some_and(|known| known > epoch) {
            return;
        }
        self.jobs.insert(stage.job);
        self.stages.insert(stage, epoch, bytes);
        effects.push(Effect::KeepStage(stage));
        let in_use: BTreeSet<StageKey> =
            self.attempts.values().map(|attempt| StageKey::of(attempt.work.task)).collect();
        effects.extend(self.stages.evict(stage, &in_use).into_iter().map(Effect::ForgetStage));
    }

    fn launch(&mut self, stage: StageKey, epoch: u32, tasks: &[(u32, AttemptId)], effects: &mut Vec<Effect>) {
        let prepared = self.stages.touch(stage).is_some_and(|known| known >= epoch);
        for &(partition, attempt) in tasks {
            let task = TaskId { job: stage.job, stage: stage.stage, partition };
            let work = Work { task, epoch };
            if self.attempts.contains_key(&attempt) || self.ledger.has(attempt) {
                continue;
            }
            if !prepared {
                let why =
                    format!("stage {} of job {} is not prepared in epoch {epoch}", stage.stage, stage.job);
                self.refuse(work, attempt, ErrorClass::Retryable, why);
                if self.stages.was_evicted(stage) {
                    // A stage is sent once a stream.
                    push_once(effects, Effect::Reattach("a launched stage was forgotten for want of room"));
                }
            } else if self.ledger.len() >= 2 * MAX_UNACKNOWLEDGED {
                push_once(effects, Effect::Reattach("too many reports are unacknowledged"));
            } else if self.attempts.len() >= self.slots + MAX_BACKLOG {
                let slots = self.slots;
                let why =
                    format!("the executor's {slots} slots are busy and {MAX_BACKLOG} attempts wait already");
                self.refuse(work, attempt, ErrorClass::Resources, why);
            } else {
                self.attempts.insert(attempt, Attempt { work, phase: Phase::Queued });
                self.queue.push_back(attempt);
            }
        }
    }

    fn refuse(&mut self, work: Work, attempt: AttemptId, class: ErrorClass, why: String) {
        self.ledger.add(work, attempt, Outcome::Failed(TaskError::new(class, why)));
    }

    /// Whether the attempt was under way.
    fn stop(&mut self, id: AttemptId, effects: &mut Vec<Effect>) -> bool {
        let Some(attempt) = self.attempts.get_mut(&id) else { return false };
        match attempt.phase {
            Phase::Queued => {
                self.attempts.remove(&id);
                self.queue.retain(|queued| *queued != id);
            }
            Phase::Running => {
                attempt.phase = Phase::Stopping;
                effects.push(Effect::Stop(id));
            }
            Phase::Stopping => {}
        }
        true
    }

    fn delete(&mut self, id: AttemptId, effects: &mut Vec<Effect>) {
        self.ledger.withdraw(id);
        self.held.remove(&id);
        self.pulls.forget(id);
        if !self.stop(id, effects) {
            effects.push(Effect::DeleteOutput(id));
        }
    }

    fn release(&mut self, job: JobId, effects: &mut Vec<Effect>) {
        let of_job = self.attempts.iter().filter(|(_, attempt)| attempt.work.task.job == job);
        for attempt in of_job.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.stop(attempt, effects);
        }
        self.ledger.withdraw_job(job);
        self.held.retain(|_, task| task.job != job);
        self.pulls.forget_job(job);
        effects.extend(self.stages.remove_job(job).into_iter().map(Effect::ForgetStage));
        self.jobs.remove(&job);
        effects.push(Effect::DeleteJob(job));
    }

    fn ended(&mut self, id: AttemptId, ended: Ended, effects: &mut Vec<Effect>) {
        if ended == Ended::Stopped && polybolos_model::mutant!("slot-leak") {
            return;
        }
        let Some(attempt) = self.attempts.remove(&id) else { return };
        match (attempt.phase, ended) {
            (Phase::Stopping, _) => effects.push(Effect::DeleteOutput(id)),
            (Phase::Running | Phase::Queued, Ended::Finished(outcome)) => {
                if let Outcome::Failed(_) = outcome {
                    effects.push(Effect::DeleteOutput(id));
                }
                self.ledger.add(attempt.work, id, outcome);
            }
            (Phase::Running | Phase::Queued, Ended::Stopped) => {
                effects.push(Effect::DeleteOutput(id));
                self.refuse(
                    attempt.work,
                    id,
                    ErrorClass::Retryable,
                    "the executor stopped the task".to_owned(),
                );
            }
        }
    }

    /// The task whose output the attempt made, while this executor is to keep it.
    pub(crate) fn keeps(&self, attempt: AttemptId) -> Option<TaskId> {
        let unacknowledged = self.ledger.of(attempt).filter(|report| report.is_completed());
        unacknowledged.map(|report| report.task).or_else(|| self.held.get(&attempt).copied())
    }

    /// An output that is not wanted any more is deleted there too, so that nobody wants to know.
    fn durable(&mut self, attempt: AttemptId, task: TaskId) {
        if self.keeps(attempt).is_some() {
            // The epoch counted with the completion.
            self.ledger.add(Work { task, epoch: 0 }, attempt, Outcome::Durable);
        }
    }

    fn start_queued(&mut self, effects: &mut Vec<Effect>) {
        let slots = self.slots + usize::from(polybolos_model::mutant!("one-slot-too-many"));
        while self.busy_slots() < slots && self.ledger.len() < MAX_UNACKNOWLEDGED {
            let Some(id) = self.queue.pop_front() else { return };
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.phase = Phase::Running;
                effects.push(Effect::Start { attempt: id, task: attempt.work.task });
            }
        }
    }
}

fn push_once(effects: &mut Vec<Effect>, effect: Effect) {
    if !effects.contains(&effect) {
        effects.push(effect);
    }
}

impl StageKey {
    pub(crate) fn of(task: TaskId) -> Self {
        Self { job: task.job, stage: task.stage }
    }

    pub(crate) fn new(job: JobId, stage: StageId) -> Self {
        Self { job, stage }
    }
}
