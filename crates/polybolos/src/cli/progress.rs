//! The live line of a running query, on standard error and only when that is a terminal.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use polybolos_client::JobUpdate;

use super::{status, text};

/// A query that is done before then shows no line.
pub(crate) const QUIET: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_millis(120);

/// Hidden until [`Progress::show`]; cleared when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    stdout_is_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self { bar, stdout_is_terminal: std::io::stdout().is_terminal() }
    }

    pub(crate) fn show(&self) {
        if !std::io::stderr().is_terminal() || self.bar.is_finished() {
            return;
        }
        // The template is fixed, and indicatif's default stands in for one that it can't read.
        let style = ProgressStyle::with_template("{spinner} {elapsed:>3} {wide_msg}");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(TICK);
    }

    pub(crate) fn update(&self, update: &JobUpdate) {
        self.bar.set_message(line(update));
    }

    /// Rows follow on standard output: a terminal has no room for both.
    pub(crate) fn make_way(&self) {
        if self.stdout_is_terminal {
            self.bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Stages, tasks, rows and bytes of one update.
pub(crate) fn line(update: &JobUpdate) -> String {
    if update.waits_since_ms > 0 {
        return status::waits(update.waits_since_ms);
    }
    let stages_done = update.stages.iter().filter(|stage| stage.done == stage.tasks).count();
    let sum = |of: fn(&polybolos_client::StageProgress) -> u32| update.stages.iter().map(of).sum::<u32>();
    let (tasks, running, done) = (sum(|s| s.tasks), sum(|s| s.running), sum(|s| s.done));
    let left = tasks.saturating_sub(running + done);
    let rows = update.stages.iter().map(|stage| stage.rows_out).sum();
    let bytes = update.stages.iter().map(|stage| stage.bytes_out).sum();
    format!(
        "{stages_done}/{} stages · tasks {done} done, {running} running, {left} left · {} rows, {}",
        update.stages.len(),
        text::count(rows),
        text::bytes(bytes),
    )
}

#[cfg(test)]
mod tests {
    use polybolos_client::StageProgress;

    use super::*;

    #[test]
    fn a_line_sums_the_stages() {
        let stage = |tasks, running, done, rows_out| StageProgress {
            stage_id: 0,
            tasks,
            running,
            done,
            rows_out,
            bytes_out: rows_out * 10,
        };
        let stages = vec![stage(4, 0, 4, 1_000), stage(4, 2, 1, 500), stage(1, 0, 0, 0)];
        let update = JobUpdate { stages, ..JobUpdate::default() };
        assert_eq!(line(&update), "1/3 stages · tasks 5 done, 2 running, 2 left · 1.5k rows, 15 kB");
        let waiting = JobUpdate { waits_since_ms: 1_000, ..update };
        assert!(line(&waiting).starts_with("waits for an executor since 1970-01-01"), "{}", line(&waiting));
    }
}
