//! `jobs timeline`: what went wrong while a query was under way, and what it cost.

use polybolos_client::{JobDetail, StoryLine};
use serde_json::{Value, json};

use super::{super::text, job::summary_json};

/// Longest text of a line in a table; JSON has all of it.
const TEXT_WIDTH: usize = 200;

/// Work that was done, and lost.
#[derive(Default)]
struct Lost {
    tasks: u64,
    elapsed_us: u64,
    bytes: u64,
}

impl Lost {
    fn of(story: &[StoryLine]) -> Self {
        story.iter().fold(Self::default(), |sum, line| Self {
            tasks: sum.tasks + u64::from(line.tasks),
            elapsed_us: sum.elapsed_us.saturating_add(line.elapsed_us),
            bytes: sum.bytes.saturating_add(line.bytes),
        })
    }
}

pub(super) fn timeline_table(job: &JobDetail) -> String {
    let summary = job.summary.clone().unwrap_or_default();
    let state = super::state_name(summary.state);
    let begin = summary.submitted_at_ms;
    let after = |at_ms: u64| format!("+{}", text::milliseconds(at_ms.saturating_sub(begin) as f64));
    let mut rows = vec![vec![after(begin), format!("submitted at {}", text::utc(begin))]];
    rows.extend(job.story.iter().map(|line| vec![after(line.at_ms), text::one_line(&line.text, TEXT_WIDTH)]));
    if job.story_left_out > 0 {
        rows.push(vec![String::new(), format!("and {} more", job.story_left_out)]);
    }
    if summary.ended_at_ms > 0 {
        rows.push(vec![after(summary.ended_at_ms), state.to_owned()]);
    }
    let mut shown = format!("query {}: {state}\n", summary.job_id);
    shown.push_str(&text::columns(&["after", "what"], &rows));
    let lost = Lost::of(&job.story);
    let time = text::milliseconds(lost.elapsed_us as f64 / 1_000.0);
    shown.push_str(&match lost.tasks {
        0 => "no finished work was lost\n".to_owned(),
        tasks => {
            format!("{tasks} finished tasks ran again: {time} and {} of work lost\n", text::bytes(lost.bytes))
        }
    });
    shown
}

pub(super) fn timeline_json(job: &JobDetail) -> Value {
    let mut value = summary_json(&job.summary.clone().unwrap_or_default());
    let lost = Lost::of(&job.story);
    value["timeline"] = job.story.iter().map(line_json).collect();
    value["left_out"] = json!(job.story_left_out);
    value["lost"] = json!({"tasks": lost.tasks, "elapsed_us": lost.elapsed_us, "bytes": lost.bytes});
    value
}

fn line_json(line: &StoryLine) -> Value {
    let mut value = json!({"at_ms": line.at_ms, "kind": line.kind, "text": line.text});
    if line.tasks > 0 {
        value["lost"] = json!({"tasks": line.tasks, "elapsed_us": line.elapsed_us, "bytes": line.bytes});
    }
    value
}

#[cfg(test)]
mod tests {
    use polybolos_client::{JobState, JobSummary};

    use super::*;

    fn job(story: Vec<StoryLine>) -> JobDetail {
        JobDetail {
            summary: Some(JobSummary {
                job_id: "00000000000000a1".into(),
                state: JobState::Succeeded.into(),
                submitted_at_ms: 1_000,
                ended_at_ms: 3_500,
                ..JobSummary::default()
            }),
            story,
            ..JobDetail::default()
        }
    }

    #[test]
    fn a_line_says_when_after_the_submit_and_the_end_what_it_cost() {
        let line = StoryLine {
            at_ms: 1_250,
            kind: "work-lost".into(),
            text: "2 tasks of stage 1 run again: executor e1 is lost".into(),
            tasks: 2,
            elapsed_us: 1_500_000,
            bytes: 2_500,
        };
        let shown = timeline_table(&job(vec![line.clone()]));
        assert!(shown.contains("+250"), "{shown}");
        assert!(shown.contains("2 finished tasks ran again: 1.5"), "{shown}");
        assert!(shown.contains("succeeded"), "{shown}");
        let json = timeline_json(&job(vec![line]));
        assert_eq!(json["timeline"][0]["kind"], "work-lost");
        assert_eq!(json["lost"]["elapsed_us"], 1_500_000);
    }

    #[test]
    fn nothing_went_wrong() {
        let shown = timeline_table(&job(Vec::new()));
        assert!(shown.ends_with("no finished work was lost\n"), "{shown}");
    }
}
