//! `jobs timeline`: what went wrong while a query was under way, and what it cost.

use polybolos_client::{JobDetail, StoryLine, StoryToll};
use polybolos_state::{Row, Timeline, Toll};
use serde_json::{Value, json};

use super::{super::text, job::summary_json};

fn timeline(job: &JobDetail) -> Timeline {
    let summary = job.summary.clone().unwrap_or_default();
    let after = |at_ms: u64| at_ms.saturating_sub(summary.submitted_at_ms);
    let row = |line: &StoryLine| Row {
        after_ms: after(line.at_ms),
        kind: line.kind.clone(),
        text: line.text.clone(),
        tasks: line.tasks,
        elapsed_us: line.elapsed_us,
        bytes: line.bytes,
        done: line.done,
    };
    let state = super::state_name(summary.state).to_owned();
    Timeline {
        rows: job.story.iter().map(row).collect(),
        left_out: job.story_left_out,
        toll: toll(job),
        ended: (summary.ended_at_ms > 0).then(|| (after(summary.ended_at_ms), state)),
        submitted: format!("at {}", text::utc(summary.submitted_at_ms)),
        tasks: summary.tasks,
    }
}

fn toll(job: &JobDetail) -> Toll {
    let StoryToll {
        executors_lost,
        executors_left,
        elections,
        failed_attempts,
        refused_reports,
        lost_tasks,
        lost_us,
        lost_bytes,
    } = job.toll.unwrap_or_default();
    Toll {
        executors_lost,
        executors_left,
        elections,
        failed_attempts,
        refused_reports,
        lost_tasks,
        lost_us,
        lost_bytes,
    }
}

pub(super) fn timeline_table(job: &JobDetail) -> String {
    let summary = job.summary.clone().unwrap_or_default();
    format!("query {}: {}\n{}", summary.job_id, super::state_name(summary.state), timeline(job))
}

pub(super) fn timeline_json(job: &JobDetail) -> Value {
    let mut value = summary_json(&job.summary.clone().unwrap_or_default());
    let toll = toll(job);
    value["timeline"] = job.story.iter().map(line_json).collect();
    value["left_out"] = json!(job.story_left_out);
    value["lost"] = json!({"tasks": toll.lost_tasks, "elapsed_us": toll.lost_us, "bytes": toll.lost_bytes});
    value["executors_lost"] = json!(toll.executors_lost);
    value["executors_left"] = json!(toll.executors_left);
    value["elections"] = json!(toll.elections);
    value["failed_attempts"] = json!(toll.failed_attempts);
    value["refused_reports"] = json!(toll.refused_reports);
    value
}

fn line_json(line: &StoryLine) -> Value {
    let mut value = json!({"at_ms": line.at_ms, "kind": line.kind, "text": line.text, "done": line.done});
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
        // Of more than the lines that are kept.
        let toll = (!story.is_empty()).then(|| StoryToll {
            executors_lost: 3,
            lost_tasks: 7,
            lost_us: 4_500_000,
            lost_bytes: 9_500,
            ..StoryToll::default()
        });
        JobDetail {
            toll,
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
            done: 5,
        };
        let shown = timeline_table(&job(vec![line.clone()]));
        assert!(shown.contains("+0.250 s"), "{shown}");
        assert!(shown.contains("7 finished tasks ran again: 4.5"), "{shown}");
        assert!(shown.contains("succeeded"), "{shown}");
        let json = timeline_json(&job(vec![line]));
        assert_eq!(json["timeline"][0]["kind"], "work-lost");
        assert_eq!((&json["lost"]["elapsed_us"], &json["executors_lost"]), (&json!(4_500_000), &json!(3)));
        assert_eq!(json["timeline"][0]["lost"]["elapsed_us"], 1_500_000);
    }

    #[test]
    fn nothing_went_wrong() {
        let shown = timeline_table(&job(Vec::new()));
        assert!(shown.ends_with("no finished work was lost\n"), "{shown}");
    }
}
