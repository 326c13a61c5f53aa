//! Queries and what ran where, as tables or JSON.

use polybolos_client::{JobDetail, JobState, JobSummary, LiveAttempt, StageDetail, TaskDetail};
use polybolos_model::AttemptId;
use serde_json::{Value, json};

use super::{super::text, freshness_json};

/// Longest statement in a list.
const SQL_WIDTH: usize = 60;
/// Longest line of a plan in a table; JSON has all of it.
const PLAN_WIDTH: usize = 160;

pub(crate) fn state_name(state: i32) -> &'static str {
    match JobState::try_from(state) {
        Ok(JobState::Queued) => "queued",
        Ok(JobState::Running) => "running",
        Ok(JobState::Succeeded) => "succeeded",
        Ok(JobState::Failed) => "failed",
        Ok(JobState::Cancelled) => "cancelled",
        Ok(JobState::Unspecified) | Err(_) => "unknown",
    }
}

/// From submit to end; `None` while the job runs.
fn elapsed_ms(job: &JobSummary) -> Option<u64> {
    (job.ended_at_ms > 0).then(|| job.ended_at_ms.saturating_sub(job.submitted_at_ms))
}

pub(super) fn jobs_table(jobs: &[JobSummary]) -> String {
    let row = |job: &JobSummary| {
        vec![
            job.job_id.clone(),
            state_name(job.state).to_owned(),
            format!("{}/{}", job.tasks_done, job.tasks),
            text::utc(job.submitted_at_ms),
            elapsed_ms(job).map(|ms| text::milliseconds(ms as f64)).unwrap_or_default(),
            text::one_line(&job.sql, SQL_WIDTH),
        ]
    };
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    text::columns(&["id", "state", "tasks", "submitted", "time", "statement"], &rows)
}

pub(super) fn summary_json(job: &JobSummary) -> Value {
    json!({
        "job_id": job.job_id, "state": state_name(job.state), "sql": job.sql, "session_id": job.session_id,
        "submitted_at_ms": job.submitted_at_ms, "ended_at_ms": job.ended_at_ms, "elapsed_ms": elapsed_ms(job),
        "tasks": job.tasks, "tasks_done": job.tasks_done,
    })
}

fn attempt_text(attempt: Option<polybolos_proto::v1::AttemptId>) -> String {
    attempt.map(|attempt| AttemptId::from(attempt).to_string()).unwrap_or_default()
}

/// Also the demo's account of its query.
pub(crate) fn job_table(job: &JobDetail) -> String {
    let summary = job.summary.clone().unwrap_or_default();
    let mut shown = format!("query {}: {}", summary.job_id, state_name(summary.state));
    if let Some(ms) = elapsed_ms(&summary) {
        shown.push_str(&format!(" in {}", text::milliseconds(ms as f64)));
    }
    shown.push_str(&format!(", {} of {} tasks done\n", summary.tasks_done, summary.tasks));
    if job.waits_since_ms > 0 {
        shown.push_str(&format!("{} (start one by `polybolos executor`)\n", waits(job.waits_since_ms)));
    }
    if let Some(write) = &job.write {
        shown.push_str(&format!("writes to {}: {}\n", write.url, write.phase));
    }
    if let Some(error) = &job.error {
        shown.push_str(&format!("error: {}\n", error_text(error)));
    }
    for stage in &job.stages {
        shown.push_str(&stage_table(stage));
    }
    shown
}

/// What keeps a job whose tasks nobody takes.
pub(crate) fn waits(since_ms: u64) -> String {
    format!("waits for an executor since {}: none takes tasks", text::utc(since_ms))
}

fn error_text(error: &polybolos_proto::v1::JobError) -> String {
    polybolos_client::JobFailure::from(error.clone()).to_string()
}

fn stage_table(stage: &StageDetail) -> String {
    let inputs: Vec<String> = stage.inputs.iter().map(u32::to_string).collect();
    let reads =
        if inputs.is_empty() { String::new() } else { format!(", reads stage {}", inputs.join(", ")) };
    let spread =
        if stage.output_partitions > 1 { format!(" to {}", stage.output_partitions) } else { String::new() };
    let shares = if stage.shares.is_empty() { String::new() } else { format!(": {}", stage.shares) };
    let mut shown =
        format!("\nstage {} ({} exchange{spread}{reads}){shares}\n", stage.stage_id, stage.exchange);
    for line in stage.plan.lines() {
        shown.push_str(&format!("  {}\n", text::cut(line, PLAN_WIDTH)));
    }
    let rows: Vec<Vec<String>> = stage.tasks.iter().flat_map(task_rows).collect();
    let waits = stage.tasks.iter().any(|task| !task.waits_for.is_empty());
    let shown_columns = if waits { TASK_COLUMNS.len() } else { TASK_COLUMNS.len() - 1 };
    shown + &text::columns(TASK_COLUMNS.get(..shown_columns).unwrap_or_default(), &rows)
}

/// The last one only where a task waits.
const TASK_COLUMNS: [&str; 12] = [
    "task",
    "state",
    "executor",
    "attempt",
    "failures",
    "rows in",
    "rows out",
    "bytes in",
    "bytes out",
    "spilled",
    "time",
    "waits",
];

/// One, and one more for a second attempt.
fn task_rows(task: &TaskDetail) -> Vec<Vec<String>> {
    let row = |state: &str, executor: &str, attempt, figures: [String; 6], waits: &str| {
        let mut cells = vec![task.partition.to_string(), state.to_owned(), executor.to_owned()];
        cells.extend([attempt_text(attempt), task.failures.to_string()]);
        cells.extend(figures);
        cells.push(waits.to_owned());
        cells
    };
    let running = |(number, live): (usize, &LiveAttempt)| {
        let state = if number == 0 { "running" } else { "copy runs" };
        let mut figures = [const { String::new() }; 6];
        figures[5] = text::milliseconds(live.running_ms as f64);
        row(state, &live.executor_id, live.attempt, figures, "")
    };
    if !task.attempts.is_empty() {
        return task.attempts.iter().enumerate().map(running).collect();
    }
    let figures = task.metrics.as_ref().map(|metrics| {
        [
            metrics.rows_in.to_string(),
            metrics.rows_out.to_string(),
            text::bytes(metrics.bytes_in),
            text::bytes(metrics.bytes_out),
            text::bytes(metrics.spilled_bytes),
            text::milliseconds(metrics.elapsed_us as f64 / 1_000.0),
        ]
    });
    vec![row(&task.state, &task.executor_id, task.attempt, figures.unwrap_or_default(), &task.waits_for)]
}

pub(super) fn job_json(job: &JobDetail) -> Value {
    let mut value = summary_json(&job.summary.clone().unwrap_or_default());
    value["error"] = job.error.as_ref().map_or(Value::Null, |error| {
        json!({
            "message": error.message, "stage_id": error.stage_id, "partition": error.partition,
            "executor_id": error.executor_id, "text": error_text(error),
        })
    });
    value["stages"] = job.stages.iter().map(stage_json).collect();
    value["waits_since_ms"] = if job.waits_since_ms > 0 { json!(job.waits_since_ms) } else { Value::Null };
    value["write"] =
        job.write.as_ref().map_or(Value::Null, |write| json!({"url": write.url, "phase": write.phase}));
    value["freshness"] = freshness_json(job.freshness.as_ref());
    value
}

fn stage_json(stage: &StageDetail) -> Value {
    json!({
        "stage_id": stage.stage_id, "exchange": stage.exchange, "inputs": stage.inputs,
        "output_partitions": stage.output_partitions, "plan": stage.plan,
        "shares": (!stage.shares.is_empty()).then_some(&stage.shares),
        "tasks": stage.tasks.iter().map(task_json).collect::<Value>(),
    })
}

fn task_json(task: &TaskDetail) -> Value {
    let metrics = task.metrics.as_ref().map(|metrics| {
        json!({
            "rows_in": metrics.rows_in, "bytes_in": metrics.bytes_in, "rows_out": metrics.rows_out,
            "bytes_out": metrics.bytes_out, "spilled_bytes": metrics.spilled_bytes,
            "elapsed_us": metrics.elapsed_us,
        })
    });
    let attempt = |live: &LiveAttempt| {
        json!({
            "executor_id": live.executor_id, "attempt": attempt_text(live.attempt),
            "running_ms": live.running_ms, "alone": live.alone,
        })
    };
    let waits_for = (!task.waits_for.is_empty()).then_some(&task.waits_for);
    json!({
        "partition": task.partition, "state": task.state, "executor_id": task.executor_id,
        "attempt": attempt_text(task.attempt), "failures": task.failures, "metrics": metrics,
        "attempts": task.attempts.iter().map(attempt).collect::<Value>(), "waits_for": waits_for,
    })
}

#[cfg(test)]
mod tests {
    use polybolos_proto::v1::{AttemptId, JobError, TaskMetrics};

    use super::*;

    fn job() -> JobDetail {
        let metrics = TaskMetrics {
            rows_in: 100,
            rows_out: 7,
            bytes_out: 2_500,
            elapsed_us: 1_500,
            ..Default::default()
        };
        let done = TaskDetail {
            partition: 0,
            state: "done".into(),
            executor_id: "e1".into(),
            attempt: Some(AttemptId { term: 2, counter: 9 }),
            failures: 1,
            metrics: Some(metrics),
            ..TaskDetail::default()
        };
        let waiting = TaskDetail { partition: 1, state: "waiting".into(), ..TaskDetail::default() };
        JobDetail {
            summary: Some(JobSummary {
                job_id: "00000000000000a1".into(),
                state: JobState::Failed.into(),
                submitted_at_ms: 1_000,
                ended_at_ms: 3_500,
                ..JobSummary::default()
            }),
            error: Some(JobError { message: "boom".into(), executor_id: "e1".into(), ..JobError::default() }),
            stages: vec![StageDetail {
                stage_id: 1,
                exchange: "hash".into(),
                inputs: vec![0],
                output_partitions: 4,
                plan: "A\n  B".into(),
                tasks: vec![done, waiting],
                shares: "8 partitions read by 2 tasks: 8 coalesced".into(),
            }],
            ..JobDetail::default()
        }
    }

    #[test]
    fn a_job_that_waits_for_an_executor_says_since_when() {
        let waiting = JobDetail { waits_since_ms: 1_000, ..job() };
        let shown = job_table(&waiting);
        assert!(shown.contains("waits for an executor since 1970-01-01T00:00:01Z"), "{shown}");
        assert_eq!(job_json(&waiting)["waits_since_ms"], 1_000);
        assert!(!job_table(&job()).contains("waits") && job_json(&job())["waits_since_ms"].is_null());
    }

    #[test]
    fn a_job_tells_what_ran_where() {
        let shown = job_table(&job());
        for part in [
            "failed in 2.50 s",
            "boom",
            "stage 1 (hash exchange to 4, reads stage 0): 8 partitions read by 2 tasks: 8 coalesced\n",
            "  A\n    B\n",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let task = shown.lines().find(|line| line.contains("e1") && line.contains("done")).unwrap();
        for part in ["2.9", "100", "7", "2.5 kB", "1.5 ms"] {
            assert!(task.contains(part), "{part}: {task}");
        }
    }

    #[test]
    fn both_attempts_of_a_slow_task_and_why_another_waits_are_shown() {
        let mut job = job();
        let attempt = |executor_id: &str, counter| LiveAttempt {
            executor_id: executor_id.into(),
            attempt: Some(AttemptId { term: 2, counter }),
            running_ms: 1_000 * counter,
            alone: false,
        };
        let slow = TaskDetail {
            partition: 2,
            state: "running".into(),
            executor_id: "e1".into(),
            attempts: vec![attempt("e1", 9), attempt("e2", 11)],
            ..TaskDetail::default()
        };
        assert!(!job_table(&job).contains("waits"));
        job.stages[0].tasks.push(slow);
        job.stages[0].tasks[1].waits_for = "no slot is free".into();
        let shown = job_table(&job);
        let line = |part: &str| shown.lines().find(|line| line.contains(part)).unwrap().to_owned();
        assert!(line("2.11").contains("copy runs") && line("2.11").contains("e2"), "{shown}");
        let (first, time) = (line("running"), "9.00 s");
        assert!(first.contains("e1") && first.trim_end().ends_with(time), "{shown}");
        assert!(line("waiting").ends_with("no slot is free"), "{shown}");
        let json = job_json(&job);
        let tasks = &json["stages"][0]["tasks"];
        assert_eq!(tasks[1]["waits_for"], "no slot is free");
        assert_eq!(
            (&tasks[2]["attempts"][1]["executor_id"], &tasks[2]["waits_for"]),
            (&json!("e2"), &Value::Null)
        );
    }

    #[test]
    fn a_job_as_json_has_the_same() {
        let value = job_json(&job());
        assert_eq!(value["stages"][0]["tasks"][0]["metrics"]["rows_out"], 7);
        assert_eq!(value["stages"][0]["tasks"][0]["attempt"], "2.9");
        assert_eq!(value["stages"][0]["tasks"][1]["metrics"], Value::Null);
        assert_eq!((&value["elapsed_ms"], &value["state"]), (&json!(2_500), &json!("failed")));
    }
}
