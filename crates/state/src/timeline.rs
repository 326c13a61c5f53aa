//! The story of a job as people read it: `jobs timeline` and the last row of `EXPLAIN ANALYZE` are this text.

use std::fmt;

use crate::Toll;

/// One line of it. Also what comes over the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Since the job was submitted.
    pub after_ms: u64,
    /// [`crate::StoryEvent::kind`].
    pub kind: String,
    pub text: String,
    /// Completed tasks that run again of it, and what they had cost.
    pub tasks: u32,
    pub elapsed_us: u64,
    pub bytes: u64,
    /// Tasks of the whole job that were done just before.
    pub done: u32,
}

/// All of it, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    pub rows: Vec<Row>,
    /// Lines that are not kept.
    pub left_out: u64,
    /// Of all lines, also those that are not kept.
    pub toll: Toll,
    /// How the job ended, and how long after its submit; `None` while it runs.
    pub ended: Option<(u64, String)>,
    /// When it was submitted, in words.
    pub submitted: String,
    /// Tasks of the job.
    pub tasks: u32,
}

/// Times are seconds after the submit.
impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = |ms: u64| format!("+{:.3} s", ms as f64 / 1e3);
        let progress = |done: u32| format!("{done}/{}", self.tasks);
        let mut lines =
            vec![(after(0), String::new(), format!("submitted {}", self.submitted).trim_end().to_owned())];
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let rows = self.rows.iter();
        lines.extend(rows.map(|row| (after(row.after_ms), progress(row.done), one_line(&row.text))));
        if self.left_out > 0 {
            lines.push((String::new(), String::new(), format!("and {} more lines", self.left_out)));
        }
        if let Some((ms, state)) = &self.ended {
            lines.push((after(*ms), String::new(), state.clone()));
        }
        let width = |cell: &dyn Fn(&(String, String, String)) -> usize, header: usize| {
            lines.iter().map(cell).max().unwrap_or(0).max(header)
        };
        let (first, second) =
            (width(&|line| line.0.len(), "after".len()), width(&|line| line.1.len(), "done".len()));
        writeln!(f, "{:>first$}  {:>second$}  what", "after", "done")?;
        for (after, done, what) in &lines {
            writeln!(f, "{after:>first$}  {done:>second$}  {what}")?;
        }
        self.toll.fmt(f)
    }
}

/// A line for each sum that is not zero.
impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, one, more) in [
            (self.executors_lost, "executor was lost", "executors were lost"),
            (self.executors_left, "executor left", "executors left"),
            (self.elections, "new leader", "new leaders"),
            (self.failed_attempts, "attempt failed", "attempts failed"),
            (self.refused_reports, "report was refused", "reports were refused"),
        ] {
            match count {
                0 => {}
                1 => writeln!(f, "1 {one}")?,
                count => writeln!(f, "{count} {more}")?,
            }
        }
        let (tasks, bytes) = (self.lost_tasks, self.lost_bytes);
        if tasks == 0 {
            return writeln!(f, "no finished work was lost");
        }
        let (s, seconds) = (if tasks == 1 { "" } else { "s" }, self.lost_us as f64 / 1e6);
        writeln!(f, "{tasks} finished task{s} ran again: {seconds:.3} s and {bytes} bytes of work lost")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_told_with_its_toll() {
        let row = |after_ms, kind: &str, text: &str, tasks| Row {
            after_ms,
            kind: kind.to_owned(),
            text: text.to_owned(),
            tasks,
            elapsed_us: u64::from(tasks) * 750_000,
            bytes: u64::from(tasks) * 1_250,
            done: 7,
        };
        let timeline = Timeline {
            rows: vec![
                row(250, "executor-lost", "executor e1 is lost", 0),
                row(250, "work-lost", "tasks 0 and 1 of stage 1 run again", 2),
                row(12_300, "report-refused", "a report was refused", 0),
                row(12_300, "report-refused", "a report was refused", 0),
            ],
            left_out: 3,
            toll: Toll {
                executors_lost: 1,
                refused_reports: 5,
                lost_tasks: 2,
                lost_us: 1_500_000,
                lost_bytes: 2_500,
                ..Toll::default()
            },
            ended: Some((15_000, "succeeded".to_owned())),
            submitted: "at noon".to_owned(),
            tasks: 12,
        };
        let shown = timeline.to_string();
        for part in [
            " +0.250 s  7/12  executor e1 is lost\n",
            "+12.300 s  7/12  a report was refused\n",
            "and 3 more lines\n",
            "+15.000 s        succeeded\n1 executor was lost\n5 reports were refused\n2 finished tasks ran again: \
             1.500 s and 2500 bytes of work lost\n",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(Timeline::default().to_string().ends_with("no finished work was lost\n"));
    }
}
