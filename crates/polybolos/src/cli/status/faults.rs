//! `jobs faults`: what the loss of each executor would cost a query now.

use polybolos_client::{JobDetail, LossCost, StageLoss};
use serde_json::{Value, json};

use super::{super::text, job::summary_json, state_name};

pub(super) fn faults_table(job: &JobDetail) -> String {
    let summary = job.summary.clone().unwrap_or_default();
    let mut shown = format!("query {}: {}\n", summary.job_id, state_name(summary.state));
    if job.loss_costs.is_empty() {
        shown.push_str("nothing of it would run again\n");
        return shown;
    }
    let rows: Vec<Vec<String>> = job.loss_costs.iter().flat_map(rows).collect();
    shown.push_str(&text::columns(&["executor", "stage", "tasks", "time", "bytes"], &rows));
    for cost in job.loss_costs.iter().filter(|cost| !cost.fails.is_empty()) {
        shown.push_str(&format!("without {} it would fail: {}\n", cost.executor_id, cost.fails));
    }
    shown
}

fn rows(cost: &LossCost) -> Vec<Vec<String>> {
    if cost.stages.is_empty() {
        return vec![vec![cost.executor_id.clone(), "none".into(), "0".into(), String::new(), String::new()]];
    }
    let row = |stage: &StageLoss| {
        let time = text::milliseconds(stage.elapsed_us as f64 / 1_000.0);
        let (id, tasks) = (stage.stage_id.to_string(), stage.tasks.to_string());
        vec![cost.executor_id.clone(), id, tasks, time, text::bytes(stage.bytes)]
    };
    cost.stages.iter().map(row).collect()
}

pub(super) fn faults_json(job: &JobDetail) -> Value {
    let mut value = summary_json(&job.summary.clone().unwrap_or_default());
    let stage = |stage: &StageLoss| {
        json!({
            "stage_id": stage.stage_id, "tasks": stage.tasks, "elapsed_us": stage.elapsed_us, "bytes": stage.bytes,
        })
    };
    let cost = |cost: &LossCost| {
        let fails = if cost.fails.is_empty() { Value::Null } else { json!(cost.fails) };
        json!({
            "executor_id": cost.executor_id, "fails": fails,
            "stages": cost.stages.iter().map(stage).collect::<Value>(),
        })
    };
    value["loss_costs"] = job.loss_costs.iter().map(cost).collect();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_executor_has_its_stages_and_one_that_holds_nothing_says_so() {
        let stage = StageLoss { stage_id: 2, tasks: 3, elapsed_us: 1_500_000, bytes: 2_500 };
        let holder = LossCost { executor_id: "e1".into(), stages: vec![stage], fails: "no more".into() };
        let other = LossCost { executor_id: "e2".into(), ..LossCost::default() };
        let job = JobDetail { loss_costs: vec![holder, other], ..JobDetail::default() };
        let shown = faults_table(&job);
        assert!(shown.contains("e1") && shown.contains("e2"), "{shown}");
        assert!(shown.contains("without e1 it would fail: no more"), "{shown}");
        assert_eq!(faults_json(&job)["loss_costs"][0]["stages"][0]["tasks"], 3);
        assert!(faults_table(&JobDetail::default()).contains("nothing of it would run again"));
    }
}
