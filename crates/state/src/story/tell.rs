//! What of a command goes into which story.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, StageId, TaskId, Term};

use super::{FleetMember, StoryEvent, StoryLine};
use crate::{
    Change, ClusterState, Command, Effects, Executor, ExecutorState, Job, Rejection, StageRun,
    change::LostWork,
    limits::{MAX_STORY_STAGES, MAX_STORY_TASKS, MAX_STORY_TEXT_BYTES},
    policy::REPLACED,
};

impl ClusterState {
    pub(crate) fn tell_of_term(&mut self, term: Term, pause_ms: u64) {
        let before = Before::default();
        let active: Vec<JobId> = self.active_jobs().map(|job| job.id).collect();
        for job in active {
            let began = StoryEvent::LeaderBegan { term, pause_ms, more: 0, last_term: term };
            self.tell(job, began, &before);
        }
    }

    /// What the story of a command needs to know of the time before it.
    pub(crate) fn before(&self, command: &Command) -> Before {
        let executor = match command {
            _ if self.version < 3 => return Before::default(),
            Command::LoseExecutor { executor, .. }
            | Command::RegisterExecutor { executor, .. }
            | Command::BeginDrain { executor, .. }
            | Command::ExecutorLeft { executor, .. } => self.executor(executor).cloned(),
            Command::RestartCluster { .. } => None,
            Command::FailTask { task, .. } => {
                let done = self.job(task.job).map(|job| (job.id, done_of(job)));
                return Before { done: done.into_iter().collect(), ..Before::default() };
            }
            _ => return Before::default(),
        };
        Before {
            fleet: Some(self.fleet()),
            done: self.active_jobs().map(|job| (job.id, done_of(job))).collect(),
            executor,
            executors: self.executors().filter(|executor| executor.is_present()).cloned().collect(),
        }
    }

    /// Writes down what the command did to jobs.
    pub(crate) fn tell_of(
        &mut self,
        command: &Command,
        outcome: &Result<Change, Rejection>,
        before: &Before,
    ) {
        match (command, outcome) {
            (
                Command::FailTask { executor, task, attempt, error, .. },
                Ok(Change::TaskFailed { effects, .. }),
            ) => {
                let (executor, class, reason) = (executor.clone(), error.class, cut(&error.message));
                let fetch_from = error.fetch.as_ref().map(|fetch| fetch.executor.clone());
                let (task, attempt) = (*task, *attempt);
                let failed = StoryEvent::TaskFailed { task, attempt, executor, class, fetch_from, reason };
                self.tell(task.job, failed, before);
                self.tell_of_effects(effects, &error.message, before);
            }
            (
                Command::CompleteTask { executor, task, attempt, .. }
                | Command::CompleteTaskIn { executor, task, attempt, .. }
                | Command::FailTask { executor, task, attempt, .. },
                Err(rejection),
            ) => {
                let (reason, executor) = (cut(&rejection.to_string()), executor.clone());
                let (task, attempt) = (*task, *attempt);
                self.tell(task.job, StoryEvent::ReportRefused { task, attempt, executor, reason }, before);
            }
            (Command::TasksDied { executor, incarnation, tasks }, Ok(Change::DeathsCounted { .. })) => {
                self.tell_of_deaths(executor, *incarnation, tasks, before);
            }
            (Command::LoseExecutor { reason, .. }, Ok(Change::Lost { executor, effects, .. })) => {
                if let Some(lost) = &before.executor {
                    self.tell_of_loss(lost, reason, before);
                }
                self.tell_of_effects(effects, &format!("executor {executor} is lost: {reason}"), before);
            }
            (Command::BeginDrain { executor, incarnation, deadline_ms }, Ok(Change::Draining { .. })) => {
                let (executor, incarnation) = (executor.clone(), *incarnation);
                let began = StoryEvent::DrainBegan { executor, incarnation, deadline_ms: *deadline_ms };
                // Asked again, it only gets another deadline.
                if before.executor.as_ref().is_some_and(|known| known.state == ExecutorState::Live) {
                    self.tell_all(&began, before);
                }
            }
            (Command::ExecutorLeft { executor, incarnation, reason }, Ok(Change::Left { effects, .. })) => {
                let moved = self.drain_of(executor).map_or(0, |drain| drain.moved);
                let (id, incarnation) = (executor.clone(), *incarnation);
                let left = StoryEvent::ExecutorLeft { executor: id, incarnation, moved, reason: cut(reason) };
                self.tell_all(&left, before);
                self.tell_of_effects(effects, &format!("executor {executor} has left: {reason}"), before);
            }
            (_, Ok(Change::Registered { executor, incarnation, replaced, effects })) => {
                self.tell_of_registration(executor, *incarnation, replaced.as_ref(), before);
                if let Some((lost, _)) = replaced {
                    let reason = format!("another process took the place of executor {lost}");
                    self.tell_of_effects(effects, &reason, before);
                }
            }
            (Command::ReopenJob { .. } | Command::FailJob { .. }, Ok(Change::Reopened { effects, .. })) => {
                self.tell_of_effects(effects, "its client asked for results that were lost", before);
            }
            (Command::RestartCluster { .. }, Ok(Change::ClusterRestarted { effects })) => {
                for lost in &before.executors {
                    let loss = self.executor(&lost.id).and_then(|known| known.lost.clone());
                    loss.into_iter().for_each(|loss| self.tell_of_loss(lost, &loss.reason, before));
                }
                self.tell_of_effects(effects, "the cluster was restarted", before);
            }
            _ => {}
        }
    }

    fn tell_of_deaths(
        &mut self,
        executor: &ExecutorId,
        incarnation: Incarnation,
        tasks: &[(TaskId, AttemptId)],
        before: &Before,
    ) {
        let mut by_job: BTreeMap<JobId, Vec<(StageId, u32)>> = BTreeMap::new();
        for (task, _) in tasks {
            by_job.entry(task.job).or_default().push((task.stage, task.partition));
        }
        for (job, mut which) in by_job {
            let (executor, tasks) = (executor.clone(), u32::try_from(which.len()).unwrap_or(u32::MAX));
            which.truncate(MAX_STORY_TASKS);
            self.tell(job, StoryEvent::ExecutorDied { executor, incarnation, tasks, which }, before);
        }
    }

    /// Every job that was under way is told, since its tasks have one executor less.
    fn tell_of_loss(&mut self, lost: &Executor, reason: &str, before: &Before) {
        let silent_ms = self.now_ms.saturating_sub(lost.last_beat_ms);
        let broken_ms = lost.suspect_since_ms.map(|since_ms| self.now_ms.saturating_sub(since_ms));
        let (executor, incarnation, reason) = (lost.id.clone(), lost.incarnation, cut(reason));
        let lost = StoryEvent::ExecutorLost { executor, incarnation, silent_ms, broken_ms, reason };
        self.tell_all(&lost, before);
    }

    /// Every job that was active.
    fn tell_all(&mut self, event: &StoryEvent, before: &Before) {
        for job in before.done.keys() {
            self.tell(*job, event.clone(), before);
        }
    }

    fn tell_of_registration(
        &mut self,
        executor: &ExecutorId,
        incarnation: Incarnation,
        replaced: Option<&(ExecutorId, Incarnation)>,
        before: &Before,
    ) {
        if let Some((_, lost)) = replaced
            && let Some(lost) = before.executors.iter().find(|known| known.incarnation == *lost)
        {
            self.tell_of_loss(lost, REPLACED, before);
        }
        let known = before.executor.as_ref();
        let Some(new) = self.executor(executor) else { return };
        if known.is_some_and(|known| known.is_present() && known.incarnation == incarnation) {
            return;
        }
        let (slots, memory_bytes) = (new.slots, new.memory_bytes);
        let same_process = known.is_some_and(|known| known.process_id == new.process_id);
        let executor = executor.clone();
        let came = StoryEvent::ExecutorCame { executor, incarnation, slots, memory_bytes, same_process };
        self.tell_all(&came, before);
    }

    fn tell_of_effects(&mut self, effects: &Effects, reason: &str, before: &Before) {
        let mut stages: BTreeMap<(JobId, StageId), (Vec<u32>, u64, u64)> = BTreeMap::new();
        for LostWork { task, elapsed_us, bytes } in &effects.lost_work {
            let (partitions, of_us, of_bytes) = stages.entry((task.job, task.stage)).or_default();
            partitions.push(task.partition);
            *of_us = of_us.saturating_add(*elapsed_us);
            *of_bytes = of_bytes.saturating_add(*bytes);
        }
        for ((job, stage), (mut partitions, elapsed_us, bytes)) in stages {
            let (reason, tasks) = (cut(reason), u32::try_from(partitions.len()).unwrap_or(u32::MAX));
            partitions.truncate(MAX_STORY_TASKS);
            let lost = StoryEvent::WorkLost { stage, tasks, partitions, elapsed_us, bytes, reason };
            self.tell(job, lost, before);
        }
        let results: BTreeSet<JobId> = effects.results_lost.iter().copied().collect();
        for job in results {
            self.tell(job, StoryEvent::ResultsLost { reason: cut(reason) }, before);
        }
    }

    fn tell(&mut self, id: JobId, event: StoryEvent, before: &Before) {
        let Some(job) = self.job(id).filter(|_| self.version >= 3) else { return };
        let done = before.done.get(&id).cloned().unwrap_or_else(|| done_of(job));
        let line = StoryLine { at_ms: self.now_ms, done, event };
        if !self.extension.v3.stories.by_job.contains_key(&id) {
            let fleet = before.fleet.clone().unwrap_or_else(|| self.fleet());
            self.extension.v3.stories.begin(id, fleet);
        }
        let stories = &mut self.extension.v3.stories;
        stories.add(id, line);
        // Jobs are forgotten in other places; their stories go when there are too many.
        stories.forget_surplus();
    }
}

/// How things stood before a command that takes executors away, or brings some.
#[derive(Default)]
pub(crate) struct Before {
    fleet: Option<Vec<FleetMember>>,
    /// Of each active job; absent of what the command can't change.
    done: BTreeMap<JobId, Vec<u32>>,
    /// The executor that the command names.
    executor: Option<Executor>,
    /// Those that were present.
    executors: Vec<Executor>,
}

fn done_of(job: &Job) -> Vec<u32> {
    let done = |run: &StageRun| u32::try_from(run.done()).unwrap_or(u32::MAX);
    job.runs.iter().take(MAX_STORY_STAGES).map(done).collect()
}

fn cut(text: &str) -> String {
    let end = (0..=MAX_STORY_TEXT_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
