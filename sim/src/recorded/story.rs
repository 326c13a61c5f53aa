//! The recorded story as faults, each at the progress that the query had made.
//!
//! | in the story | here |
//! | --- | --- |
//! | an executor lost because nothing listened at its address | its process crashes |
//! | lost by silence, and it came back as the same process | it is paused |
//! | lost by silence or a broken stream otherwise | its machine loses its power; or it is in a black hole, if it came back |
//! | another process took its place | a crash, and a quick start |
//! | a new leader | the leader crashes, or is paused if the change took long |
//! | an executor was asked to leave | the operator drains it, with the same deadline; here it always comes back |
//! | a task failed: out of resources, a fetch, another error that is tried again | no memory on its executor, cut streams of whom it read, errors of the tables' store |
//! | tasks that ran again, refused reports, results that were lost | nothing: they follow from the rest |

use polybolos_model::{
    StageGraph,
    recorded::{Noticed, Recorded, RecordedEvent, RecordedLine},
};

use super::fleet::Fleet;
use crate::{
    fault::{Fault, Target},
    schedule::{Planned, When},
};

/// A pause must be noticed by silence, which takes three seconds.
const PAUSE_MS: u64 = 4_000;
/// A process is away for so long at least.
const AWAY_MS: u64 = 200;
const MOST_AWAY_MS: u64 = 1_000;
/// A leader that hangs is noticed later than one that is dead.
const HANGS_MS: u64 = 1_500;
/// How long whatever makes tasks fail lasts.
const FAILING_MS: u64 = 300;
/// Failures of one kind within so long have one cause; a failed fetch within so long of a loss is its consequence.
const SAME_MS: u64 = 5_000;

pub(super) struct Story<'a> {
    recorded: &'a Recorded,
    fleet: &'a Fleet,
    /// Tasks of each stage there, and here.
    tasks: Vec<(u32, u32)>,
    /// The stages are the recorded ones, but for the number of their tasks.
    is_same: bool,
    op: u32,
    faults: Vec<Planned>,
    consequences: u32,
    /// Elections that have no line.
    elections_left_out: u64,
    /// Kind and time of the failures that have a fault.
    failures: Vec<(String, u64)>,
}

impl<'a> Story<'a> {
    pub(super) fn new(recorded: &'a Recorded, fleet: &'a Fleet, graph: &StageGraph, op: u32) -> Self {
        let pairs = recorded.stages.iter().zip(&graph.stages);
        let is_same = recorded.stages.len() == graph.stages.len()
            && pairs.clone().all(|(there, here)| {
                let inputs = here.inputs.iter().map(|input| input.stage.0);
                there.exchange == here.exchange.to_string()
                    && there.inputs.iter().map(|input| input.stage).eq(inputs)
            });
        let tasks = match is_same {
            true => pairs.map(|(there, here)| (there.tasks, here.tasks)).collect(),
            false => {
                let sum = |tasks: &mut dyn Iterator<Item = u32>| tasks.fold(0, u32::saturating_add);
                let there = sum(&mut recorded.stages.iter().map(|stage| stage.tasks));
                vec![(there, sum(&mut graph.stages.iter().map(|stage| stage.tasks)))]
            }
        };
        Self {
            recorded,
            fleet,
            tasks,
            is_same,
            op,
            faults: Vec::new(),
            consequences: 0,
            elections_left_out: 0,
            failures: Vec::new(),
        }
    }

    /// Ids are from 1, in the order of the story.
    pub(super) fn faults(mut self, notes: &mut Vec<String>) -> Vec<Planned> {
        if !self.is_same && !self.recorded.story.is_empty() {
            notes.push(
                "the query is planned into other stages here: faults come at the same share of its tasks"
                    .to_owned(),
            );
        }
        self.late_comers();
        for (number, line) in self.recorded.story.iter().enumerate() {
            if let Err(reason) = self.tell(number, line) {
                notes.push(format!(
                    "not repeated, as {reason}: +{:.3} s {}",
                    line.at_ms as f64 / 1e3,
                    line.text
                ));
            }
        }
        if self.recorded.story_left_out > 0 {
            notes.push(format!("{} lines of the story were not kept", self.recorded.story_left_out));
        }
        if self.elections_left_out > 0 {
            notes.push(format!(
                "{} elections are not repeated, as the story does not tell when they were",
                self.elections_left_out
            ));
        }
        if self.consequences > 0 {
            notes.push(format!(
                "{} lines of the story are left to follow from the others: tasks that ran again, refused reports",
                self.consequences
            ));
        }
        self.faults
    }

    /// Executors that came when the query had begun are down until then.
    fn late_comers(&mut self) {
        for (name, member) in self.fleet.iter().filter(|(_, member)| member.came_later) {
            let came = self.recorded.story.iter().position(|line| {
                matches!(&line.event, RecordedEvent::ExecutorCame { executor, .. } if executor == name)
            });
            let until = came.map(|number| self.when(number, None));
            let fault = crash(&member.host, false);
            let id = self.next_id();
            self.faults.push(Planned { id, at_ms: 0, for_ms: None, fault, when: None, until });
        }
    }

    /// Why there is no fault for what happened, if there should be one.
    fn tell(&mut self, number: usize, line: &RecordedLine) -> Result<(), &'static str> {
        match &line.event {
            RecordedEvent::ExecutorLost { executor, incarnation, noticed, .. } => {
                self.loss(number, executor, *incarnation, *noticed)?;
            }
            RecordedEvent::LeaderBegan { pause_ms, more, .. } => {
                self.election(number, *pause_ms);
                self.elections_left_out += u64::from(*more);
            }
            RecordedEvent::TaskFailed { executor, class, fetch_from, .. } => {
                self.failure(number, line.at_ms, executor, class, fetch_from.as_deref())?;
            }
            RecordedEvent::ExecutorDied { .. }
            | RecordedEvent::WorkLost { .. }
            | RecordedEvent::ReportRefused { .. }
            | RecordedEvent::ResultsLost => self.consequences += 1,
            // Part of the loss or the drain, or of the beginning.
            RecordedEvent::ExecutorCame { .. } | RecordedEvent::ExecutorLeft { .. } => {}
            RecordedEvent::DrainBegan { executor, deadline_ms, .. } => {
                self.drain(number, executor, *deadline_ms)?;
            }
            RecordedEvent::Other => return Err("this version does not know of it"),
        }
        Ok(())
    }

    fn loss(
        &mut self,
        number: usize,
        executor: &str,
        incarnation: u64,
        noticed: Noticed,
    ) -> Result<(), &'static str> {
        let member = self.fleet.get(executor).ok_or("that executor is not simulated")?;
        let host = member.host.clone();
        let story = &self.recorded.story;
        let back = story.iter().enumerate().skip(number + 1).find_map(|(number, line)| match &line.event {
            RecordedEvent::ExecutorCame { executor: other, same_process, .. } if other == executor => {
                Some((number, line.at_ms, *same_process))
            }
            _ => None,
        });
        let at_ms = story.get(number).map_or(0, |line| line.at_ms);
        let away_ms = back.map(|(_, back_ms, _)| back_ms.saturating_sub(at_ms).clamp(AWAY_MS, MOST_AWAY_MS));
        let survived = back.is_some_and(|(_, _, same_process)| same_process);
        let (fault, for_ms) = match noticed {
            Noticed::Connection | Noticed::Other => (crash(&host, false), away_ms),
            Noticed::Replaced => (crash(&host, false), Some(AWAY_MS)),
            Noticed::Silence if survived => {
                (Fault::Pause { target: Target::new(host.clone()) }, Some(PAUSE_MS))
            }
            Noticed::Absence if survived => {
                (Fault::BlackHole { target: Target::new(host.clone()) }, Some(PAUSE_MS))
            }
            Noticed::Silence | Noticed::Absence => (crash(&host, true), away_ms.map(|_| PAUSE_MS)),
        };
        let ran = story.iter().take(number).any(|line| {
            matches!(&line.event, RecordedEvent::ExecutorDied { executor: other, incarnation: life, .. }
                if other == executor && *life == incarnation)
        });
        let when = Some(self.when(number, ran.then_some(host)));
        let until = match noticed {
            Noticed::Replaced => None,
            _ => back.map(|(number, ..)| self.when(number, None)),
        };
        let id = self.next_id();
        self.faults.push(Planned { id, at_ms: 0, for_ms, fault, when, until });
        Ok(())
    }

    fn drain(&mut self, number: usize, executor: &str, deadline_ms: u64) -> Result<(), &'static str> {
        let member = self.fleet.get(executor).ok_or("that executor is not simulated")?;
        let fault =
            Fault::DrainExecutor { target: Target::new(member.host.clone()), deadline_ms, by_signal: false };
        let (id, when) = (self.next_id(), Some(self.when(number, None)));
        self.faults.push(Planned { id, at_ms: 0, for_ms: None, fault, when, until: None });
        Ok(())
    }

    fn election(&mut self, number: usize, pause_ms: u64) {
        let is_single = self.recorded.cluster.schedulers.len() < 2;
        let target = Target::new(if is_single { "scheduler-1" } else { "leader" });
        let fault = match pause_ms >= HANGS_MS && !is_single {
            true => Fault::Pause { target },
            false => Fault::Crash { target, power_loss: false, wipe: false },
        };
        let for_ms = Some(pause_ms.clamp(MOST_AWAY_MS, PAUSE_MS));
        let (id, when) = (self.next_id(), Some(self.when(number, None)));
        self.faults.push(Planned { id, at_ms: 0, for_ms, fault, when, until: None });
    }

    fn failure(
        &mut self,
        number: usize,
        at_ms: u64,
        executor: &str,
        class: &str,
        fetch_from: Option<&str>,
    ) -> Result<(), &'static str> {
        let follows = |from: &str| {
            self.recorded.story.iter().any(|line| {
                let is_near = line.at_ms.abs_diff(at_ms) <= SAME_MS;
                is_near
                    && matches!(&line.event, RecordedEvent::ExecutorLost { executor, .. } if executor == from)
            })
        };
        if fetch_from.is_some_and(follows) {
            self.consequences += 1;
            return Ok(());
        }
        let host = self.fleet.get(executor).ok_or("that executor is not simulated")?.host.clone();
        let kind = format!("{class} {executor} {}", fetch_from.unwrap_or_default());
        if self.failures.iter().any(|(known, at)| *known == kind && at_ms.abs_diff(*at) <= SAME_MS) {
            self.consequences += 1;
            return Ok(());
        }
        let fault = match (class, fetch_from) {
            ("resources", _) => Fault::MemoryExhausted { target: Target::new(host.clone()) },
            ("retryable", Some(from)) => {
                let from = self.fleet.get(from).ok_or("the executor it read from is not simulated")?;
                Fault::CutStreams { target: Target::new(from.host.clone()), rate: 0.3 }
            }
            ("retryable", None) => Fault::StoreErrors { rate: 0.5 },
            ("user", _) => return Err("it depends on the real rows"),
            _ => return Err("there is no fault of this kind"),
        };
        self.failures.push((kind, at_ms));
        let (id, when) = (self.next_id(), Some(self.when(number, Some(host))));
        self.faults.push(Planned { id, at_ms: 0, for_ms: Some(FAILING_MS), fault, when, until: None });
        Ok(())
    }

    fn next_id(&self) -> u32 {
        u32::try_from(self.faults.len() + 1).unwrap_or(u32::MAX)
    }

    /// The progress at a line of the story.
    fn when(&self, number: usize, runs_on: Option<String>) -> When {
        let story = &self.recorded.story;
        let before = story.iter().take(number);
        let losses = before.filter(|line| match &line.event {
            RecordedEvent::ExecutorLost { executor, .. } => self.fleet.get(executor).is_some(),
            _ => false,
        });
        let losses = u32::try_from(losses.count()).unwrap_or(u32::MAX);
        let done = story.get(number).map(|line| line.done.as_slice()).unwrap_or_default();
        let plain = When { op: self.op, done: Vec::new(), total: 0, losses, runs_on };
        if self.is_same {
            let mut done: Vec<u32> =
                done.iter().zip(&self.tasks).map(|(done, tasks)| scaled(*done, *tasks)).collect();
            while done.last() == Some(&0) {
                done.pop();
            }
            return When { done, ..plain };
        }
        let sum = done.iter().fold(0_u32, |sum, done| sum.saturating_add(*done));
        let total = self.tasks.first().map_or(0, |tasks| scaled(sum, *tasks));
        When { total, ..plain }
    }
}

/// So many done of `there` as a number of `here`: all only if all were done. 0 if nobody knows how many there were.
fn scaled(done: u32, (there, here): (u32, u32)) -> u32 {
    if there == 0 {
        return done.min(here.saturating_sub(1));
    }
    if done >= there {
        return here;
    }
    let share = (u64::from(done) * u64::from(here)).div_ceil(u64::from(there));
    u32::try_from(share).unwrap_or(u32::MAX).min(here.saturating_sub(1))
}

fn crash(host: &str, power_loss: bool) -> Fault {
    Fault::Crash { target: Target::new(host), power_loss, wipe: false }
}
