//! An executor is killed in the middle of a query, and the query is exported: the file tells what happened, and neither
//! where the data is nor what is in it.

use std::{fs, time::Duration};

use polybolos_model::recorded::{Noticed, RECORDED_FORMAT, Recorded, RecordedEvent};

use crate::{
    alone,
    executor_lost::{SQL, Work, in_the_middle},
    fleet::Fleet,
};

const LIMIT: Duration = Duration::from_secs(120);

/// The export of a job, as the command writes it.
fn export(fleet: &Fleet, id: &str, name: &str) -> (Recorded, String) {
    let out = fleet.folder.path().join(name);
    let path = out.to_str().unwrap();
    let exported = fleet.run(&["jobs", "export", id, "--out", path]).exits(0);
    assert!(exported.stdout.contains("polybolos-sim replay"), "{}", exported.stdout);
    let text = fs::read_to_string(&out).unwrap();
    let recorded: Recorded = serde_json::from_str(&text).unwrap();
    recorded.check_format().unwrap();
    (recorded, text)
}

fn done_of(recorded: &Recorded) -> usize {
    recorded.stages.iter().map(|stage| stage.completed.len()).sum()
}

async fn killed() {
    let mut fleet = Fleet::start(1, 3).await;
    let (work, job) = in_the_middle(&fleet).await;
    let id = job.id().to_string();
    let (before, _) = export(&fleet, &id, "before.json");
    assert_eq!(before.job.state, "running");
    assert!(before.stages.iter().any(|stage| !stage.running.is_empty()), "{before:#?}");
    fleet.executors[0].kill();
    work.ends_well(job).await;
    work.client.settle().await;
    let (recorded, text) = export(&fleet, &id, "after.json");
    check_query(&recorded, &text, &fleet);
    check_loss(&recorded);
    check_told(&fleet, &id);
    analyzed(&work).await;
}

fn check_query(recorded: &Recorded, text: &str, fleet: &Fleet) {
    assert_eq!((recorded.polybolos_recorded, recorded.job.sql.as_str()), (RECORDED_FORMAT, SQL));
    assert_eq!(recorded.job.state, "succeeded");
    assert_eq!(recorded.job.options.get("datafusion.execution.target_partitions").unwrap(), "6");
    let [table] = recorded.tables.as_slice() else { panic!("{:?}", recorded.tables) };
    assert_eq!((table.name.as_str(), table.format.as_str(), table.files), ("n", "csv", Some(6)));
    assert_eq!(table.columns.len(), 1, "{table:?}");
    assert!(table.bytes.is_some_and(|bytes| bytes > 100_000), "{table:?}");
    let fleets: Vec<(&str, u32)> =
        recorded.cluster.executors.iter().map(|e| (e.executor.as_str(), e.slots)).collect();
    assert_eq!(fleets, [("e1", 1), ("e2", 1), ("e3", 1)]);
    assert_eq!(
        (recorded.cluster.schedulers.as_slice(), recorded.cluster.executor_timeout_ms),
        (&[1][..], 3_000)
    );
    assert!(recorded.stages.len() >= 3, "{:?}", recorded.stages);
    let tasks: usize = recorded.stages.iter().map(|stage| stage.tasks as usize).sum();
    assert_eq!(done_of(recorded), tasks);
    let mut completed = recorded.stages.iter().flat_map(|stage| &stage.completed);
    assert!(completed.any(|task| task.elapsed_us > 0 && task.rows_out > 0 && task.bytes_out > 0));
    // Of where data is, only the name of the table.
    assert!(!text.contains(fleet.folder.path().to_str().unwrap()), "{text}");
}

fn check_loss(recorded: &Recorded) {
    let lost = recorded.story.iter().find(|line| matches!(line.event, RecordedEvent::ExecutorLost { .. }));
    let lost = lost.unwrap_or_else(|| panic!("{:#?}", recorded.story));
    let RecordedEvent::ExecutorLost { executor, noticed, silent_ms, .. } = &lost.event else { panic!() };
    assert_eq!((executor.as_str(), *noticed), ("e1", Noticed::Connection), "{lost:?}");
    assert!(*silent_ms < 3_000 && lost.at_ms <= recorded.job.elapsed_ms, "{lost:?}");
    let done: u32 = lost.done.iter().sum();
    assert!(done > 0 && lost.done.len() == recorded.stages.len(), "{lost:?}");
    let is_of_e1 = |event: &RecordedEvent| {
        matches!(event, RecordedEvent::ExecutorDied { executor, tasks: 1, which, .. }
            if executor == "e1" && which.len() == 1)
    };
    assert!(recorded.story.iter().any(|line| is_of_e1(&line.event)), "{:#?}", recorded.story);
    let again = recorded.story.iter().filter_map(|line| match &line.event {
        RecordedEvent::WorkLost { tasks, partitions, .. } => Some((*tasks as usize, partitions.len())),
        _ => None,
    });
    let again: Vec<(usize, usize)> = again.collect();
    assert!(!again.is_empty() && again.iter().all(|(tasks, named)| tasks == named), "{again:?}");
    assert!(recorded.stages.iter().any(|stage| stage.reruns > 0));
    assert!(recorded.stages.iter().flat_map(|stage| &stage.past).any(|past| past.fate == "output-lost"));
}

/// `jobs timeline` says the same to people.
fn check_told(fleet: &Fleet, id: &str) {
    let told = fleet.run(&["jobs", "timeline", id]).exits(0);
    for part in [
        "executor e1 (incarnation",
        "is lost,",
        "nothing listens",
        "died while it ran",
        "1 executor was lost",
        "of work lost",
    ] {
        assert!(told.stdout.contains(part), "{part}: {}", told.stdout);
    }
}

/// `EXPLAIN ANALYZE` ends with the story of its own run.
async fn analyzed(work: &Work) {
    let rows = work.client.query(format!("EXPLAIN ANALYZE {SQL}")).await.unwrap();
    let shown = crate::load::rows(&rows.batches).join("\n");
    assert!(shown.contains("timeline |") && shown.contains("no finished work was lost"), "{shown}");
}

#[test]
fn a_killed_executor_is_in_the_export_of_its_query() {
    alone(LIMIT, killed());
}
