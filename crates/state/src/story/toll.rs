//! What went wrong with a job in all, whether or not there is a line for it.

use serde::{Deserialize, Serialize};

use super::StoryEvent;

/// Sums over a whole story. Also what comes over the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toll {
    pub executors_lost: u64,
    /// By request.
    pub executors_left: u64,
    pub elections: u64,
    pub failed_attempts: u64,
    pub refused_reports: u64,
    /// Completed tasks that ran again, and the microseconds and bytes of work that had gone into them.
    pub lost_tasks: u64,
    pub lost_us: u64,
    pub lost_bytes: u64,
}

impl Toll {
    pub(super) fn add(&mut self, event: &StoryEvent) {
        match event {
            StoryEvent::LeaderBegan { .. } => self.elections += 1,
            StoryEvent::ExecutorLost { .. } => self.executors_lost += 1,
            StoryEvent::ExecutorLeft { .. } => self.executors_left += 1,
            StoryEvent::TaskFailed { .. } => self.failed_attempts += 1,
            StoryEvent::ReportRefused { .. } => self.refused_reports += 1,
            StoryEvent::WorkLost { tasks, elapsed_us, bytes, .. } => {
                self.lost_tasks = self.lost_tasks.saturating_add(u64::from(*tasks));
                self.lost_us = self.lost_us.saturating_add(*elapsed_us);
                self.lost_bytes = self.lost_bytes.saturating_add(*bytes);
            }
            StoryEvent::ExecutorDied { .. }
            | StoryEvent::ResultsLost { .. }
            | StoryEvent::ExecutorCame { .. }
            | StoryEvent::DrainBegan { .. } => {}
        }
    }
}
