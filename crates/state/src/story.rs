//! What went wrong while a job was under way, as `jobs timeline` tells it: written by `apply` from what commands did.
//!
//! Part of the state, so that a new leader and a restart know it. Kept since version 3, and bounded: of a job the first
//! lines, of all jobs together the newest. Sums count what has no line too.

mod event;
mod tell;
mod toll;

use std::collections::BTreeMap;

pub use event::StoryEvent;
use polybolos_model::{ExecutorId, Incarnation, JobId};
use serde::{Deserialize, Serialize};
pub use toll::Toll;

use crate::{
    ClusterState, Executor,
    limits::{MAX_STORIES, MAX_STORY_ELECTIONS, MAX_STORY_FLEET, MAX_STORY_LINES},
};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryLine {
    pub at_ms: u64,
    /// How many tasks of each stage were done just before; of the first [`crate::limits::MAX_STORY_STAGES`].
    pub done: Vec<u32>,
    pub event: StoryEvent,
}

/// An executor at the beginning of a story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetMember {
    pub executor: ExecutorId,
    pub incarnation: Incarnation,
    pub slots: u32,
    pub memory_bytes: u64,
}

/// The stories of all jobs that have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stories {
    by_job: BTreeMap<JobId, Story>,
    /// Raised by each new story.
    last_number: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Story {
    /// Ascending with the first line of each.
    number: u64,
    /// The executors just before the first line, at most [`MAX_STORY_FLEET`]; and how many more there were.
    fleet: Vec<FleetMember>,
    fleet_left_out: u32,
    lines: Vec<StoryLine>,
    /// Lines that came when there were enough.
    left_out: u64,
    /// Of all that was told.
    toll: Toll,
}

impl ClusterState {
    /// What went wrong so far while the job was under way, oldest first, and how many more lines there were.
    pub fn story(&self, job: JobId) -> (&[StoryLine], u64) {
        let story = self.extension.v3.stories.by_job.get(&job);
        story.map_or((&[], 0), |story| (&story.lines, story.left_out))
    }

    /// The sums of the job's story, of lines that are not kept too.
    pub fn toll(&self, job: JobId) -> Toll {
        self.extension.v3.stories.by_job.get(&job).map_or_else(Toll::default, |story| story.toll)
    }

    /// The executors just before the first line of the job's story, and how many more there were; `None` of a job
    /// that has no story.
    pub fn story_fleet(&self, job: JobId) -> Option<(&[FleetMember], u32)> {
        let story = self.extension.v3.stories.by_job.get(&job)?;
        Some((&story.fleet, story.fleet_left_out))
    }

    /// Executors that are present, ascending.
    pub fn fleet(&self) -> Vec<FleetMember> {
        let member = |executor: &Executor| FleetMember {
            executor: executor.id.clone(),
            incarnation: executor.incarnation,
            slots: executor.slots,
            memory_bytes: executor.memory_bytes,
        };
        self.executors().filter(|executor| executor.is_present()).map(member).collect()
    }
}

impl Stories {
    fn begin(&mut self, job: JobId, mut fleet: Vec<FleetMember>) {
        self.last_number += 1;
        let left_out = fleet.len().saturating_sub(MAX_STORY_FLEET);
        fleet.truncate(MAX_STORY_FLEET);
        let fleet_left_out = u32::try_from(left_out).unwrap_or(u32::MAX);
        let story = Story { number: self.last_number, fleet, fleet_left_out, ..Story::default() };
        self.by_job.insert(job, story);
    }

    fn add(&mut self, job: JobId, line: StoryLine) {
        let Some(story) = self.by_job.get_mut(&job) else { return };
        story.toll.add(&line.event);
        if story.folds_election(&line.event) {
            return;
        }
        if story.lines.len() < MAX_STORY_LINES {
            story.lines.push(line);
        } else {
            story.left_out += 1;
        }
    }

    fn forget_surplus(&mut self) {
        while self.by_job.len() > MAX_STORIES {
            let oldest = self.by_job.iter().min_by_key(|(_, story)| story.number).map(|(job, _)| *job);
            let Some(oldest) = oldest else { return };
            self.by_job.remove(&oldest);
        }
    }
}

impl Story {
    /// Whether it is an election beyond [`MAX_STORY_ELECTIONS`], which the last line of one counts from now on.
    fn folds_election(&mut self, event: &StoryEvent) -> bool {
        let StoryEvent::LeaderBegan { term, .. } = event else { return false };
        if self.toll.elections <= MAX_STORY_ELECTIONS as u64 {
            return false;
        }
        let last = self.lines.iter_mut().rev().find_map(|line| match &mut line.event {
            StoryEvent::LeaderBegan { more, last_term, .. } => Some((more, last_term)),
            _ => None,
        });
        let Some((more, last_term)) = last else { return false };
        *more = more.saturating_add(1);
        *last_term = *term;
        true
    }
}
