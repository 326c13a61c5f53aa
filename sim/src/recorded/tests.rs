//! Made-up exports, and the schedules that come of them. That one runs is shown by `sim/tests/recorded.rs`.

use polybolos_model::recorded::{
    Noticed, RECORDED_FORMAT, RecordedColumn, RecordedEvent as Event, RecordedExecutor, RecordedLine,
    RecordedStage, RecordedTable, RecordedView,
};

use super::*;
use crate::{
    fault::{Fault, Target},
    schedule::{ColumnKind, Planned, When},
};

const SQL: &str = "SELECT a.k, count(*) AS c FROM t a JOIN t b ON a.id = b.id GROUP BY a.k";

fn column(name: &str, arrow_type: &str) -> RecordedColumn {
    RecordedColumn { name: name.to_owned(), arrow_type: arrow_type.to_owned(), nullable: true }
}

/// Three executors, one table, one query.
fn export(sql: &str) -> Recorded {
    let mut recorded = Recorded { polybolos_recorded: RECORDED_FORMAT, ..Recorded::default() };
    recorded.job.id = "00000000000000a1".to_owned();
    recorded.job.sql = sql.to_owned();
    let partitions = ("datafusion.execution.target_partitions".to_owned(), "4".to_owned());
    recorded.job.options.extend([partitions]);
    recorded.cluster.schedulers = vec![1, 2, 3];
    for (incarnation, name) in (1..).zip(["e1", "e2", "e3"]) {
        recorded.cluster.executors.push(RecordedExecutor {
            executor: name.to_owned(),
            incarnation,
            slots: 2,
            memory_bytes: 512 << 20,
        });
    }
    recorded.tables.push(RecordedTable {
        name: "t".to_owned(),
        format: "csv".to_owned(),
        columns: vec![
            column("id", "Int64"),
            column("k", "Int32"),
            column("price", "Float64"),
            column("at", "Timestamp(ns)"),
            column("tag", "LargeUtf8"),
        ],
        files: Some(4),
        bytes: Some(1 << 30),
        rows: Some(1_000_000),
    });
    recorded
}

/// With the stages that the query gets here.
async fn with_stages(mut recorded: Recorded) -> Recorded {
    let Replayed { schedule, .. } = schedule(&recorded, 1).await.unwrap();
    let Some(Op { action: Action::Query { sql, options, .. }, .. }) = schedule.ops.last() else { panic!() };
    let Ok(Planning { graph, .. }) = Planner::new(&schedule).await.plan(sql, options.clone()).await else {
        panic!("no plan")
    };
    recorded.stages = graph
        .stages
        .iter()
        .map(|stage| RecordedStage {
            id: stage.id.0,
            tasks: stage.tasks,
            inputs: stage
                .inputs
                .iter()
                .map(|input| polybolos_model::recorded::RecordedInput { stage: input.stage.0, all: false })
                .collect(),
            exchange: stage.exchange.to_string(),
            output_partitions: stage.output_partitions,
            ..RecordedStage::default()
        })
        .collect();
    recorded
}

fn line(at_ms: u64, done: &[u32], event: Event) -> RecordedLine {
    RecordedLine { at_ms, done: done.to_vec(), text: format!("{event:?}"), event }
}

fn lost(executor: &str, incarnation: u64, noticed: Noticed) -> Event {
    Event::ExecutorLost {
        executor: executor.to_owned(),
        incarnation,
        noticed,
        silent_ms: 40,
        broken_ms: None,
    }
}

fn came(executor: &str, same_process: bool) -> Event {
    let executor = executor.to_owned();
    Event::ExecutorCame { executor, incarnation: 9, slots: 2, memory_bytes: 512 << 20, same_process }
}

fn when(done: &[u32], losses: u32, runs_on: Option<&str>) -> Option<When> {
    Some(When { op: 1, done: done.to_vec(), total: 0, losses, runs_on: runs_on.map(str::to_owned) })
}

fn crash(host: &str, power_loss: bool) -> Fault {
    Fault::Crash { target: Target::new(host), power_loss, wipe: false }
}

#[tokio::test]
async fn losses_come_at_the_recorded_progress_and_last_as_long() {
    let mut recorded = with_stages(export(SQL)).await;
    assert!(recorded.stages.len() > 1, "{:?}", recorded.stages);
    let died =
        Event::ExecutorDied { executor: "e2".to_owned(), incarnation: 2, tasks: 1, which: vec![(0, 1)] };
    recorded.story = vec![
        line(500, &[2], died),
        line(500, &[2], lost("e2", 2, Noticed::Connection)),
        line(900, &[3], came("e2", false)),
        line(2_000, &[4, 1], lost("e1", 1, Noticed::Silence)),
        line(9_000, &[4, 2], came("e1", true)),
        line(9_500, &[4, 2], lost("e3", 3, Noticed::Silence)),
    ];
    let Replayed { schedule, notes } = schedule(&recorded, 1).await.unwrap();
    let fault = |id, for_ms, fault, when, until| Planned { id, at_ms: 0, for_ms, fault, when, until };
    let pause = Fault::Pause { target: Target::new("executor-1") };
    assert_eq!(
        schedule.faults,
        [
            fault(
                1,
                Some(400),
                crash("executor-2", false),
                when(&[2], 0, Some("executor-2")),
                when(&[3], 1, None)
            ),
            fault(2, Some(4_000), pause, when(&[4, 1], 1, None), when(&[4, 2], 2, None)),
            fault(3, None, crash("executor-3", true), when(&[4, 2], 2, None), None),
        ],
        "{notes:?}"
    );
}

#[tokio::test]
async fn drains_come_at_the_recorded_progress_with_their_deadline() {
    let mut recorded = with_stages(export(SQL)).await;
    let began = Event::DrainBegan { executor: "e2".to_owned(), incarnation: 2, deadline_ms: 750 };
    let left = Event::ExecutorLeft { executor: "e2".to_owned(), incarnation: 2, moved: 3 };
    recorded.story = vec![
        line(500, &[2], began),
        line(900, &[3], left),
        line(950, &[3], came("e2", false)),
        line(1_000, &[4], lost("e1", 1, Noticed::Connection)),
    ];
    let Replayed { schedule, notes } = schedule(&recorded, 1).await.unwrap();
    let drain =
        Fault::DrainExecutor { target: Target::new("executor-2"), deadline_ms: 750, by_signal: false };
    let planned = |id, fault, done: &[u32]| Planned {
        id,
        at_ms: 0,
        for_ms: None,
        fault,
        when: when(done, 0, None),
        until: None,
    };
    // One that left is not one that was lost.
    let expected = [planned(1, drain, &[2]), planned(2, crash("executor-1", false), &[4])];
    assert_eq!(schedule.faults, expected, "{notes:?}");
}

#[tokio::test]
async fn other_stages_are_met_at_the_same_share() {
    let mut recorded = export(SQL);
    let stage = |id, exchange: &str| RecordedStage {
        id,
        tasks: 50,
        exchange: exchange.to_owned(),
        ..RecordedStage::default()
    };
    recorded.stages = vec![stage(0, "round-robin"), stage(1, "result")];
    recorded.story = vec![line(500, &[50, 0], lost("e2", 2, Noticed::Connection))];
    let Replayed { schedule, notes } = schedule(&recorded, 1).await.unwrap();
    let when = schedule.faults[0].when.clone().unwrap();
    assert!(when.done.is_empty() && when.total > 0, "{when:?}");
    assert!(notes.iter().any(|note| note.contains("same share")), "{notes:?}");
}

#[tokio::test]
async fn elections_and_failures_have_their_faults_and_the_rest_is_said() {
    let mut recorded = with_stages(export(SQL)).await;
    let failed = |executor: &str, class: &str, from: Option<&str>| Event::TaskFailed {
        stage: 0,
        partition: 1,
        executor: executor.to_owned(),
        attempt: "1.1".to_owned(),
        class: class.to_owned(),
        fetch_from: from.map(str::to_owned),
    };
    recorded.story = vec![
        line(100, &[1], Event::LeaderBegan { term: 2, pause_ms: 500, more: 0 }),
        line(200, &[1], Event::LeaderBegan { term: 3, pause_ms: 2_500, more: 4 }),
        line(300, &[1], failed("e1", "resources", None)),
        line(310, &[1], failed("e1", "resources", None)),
        line(400, &[1], failed("e1", "retryable", Some("e2"))),
        line(500, &[1], failed("e1", "retryable", None)),
        line(600, &[1], failed("e1", "user", None)),
        line(700, &[1], Event::ResultsLost),
        line(800, &[1], Event::Other),
    ];
    let Replayed { schedule, notes } = schedule(&recorded, 1).await.unwrap();
    let names: Vec<(&str, String)> = schedule
        .faults
        .iter()
        .map(|planned| {
            let target = planned.fault.target().map(ToString::to_string).unwrap_or_default();
            (planned.fault.name(), target)
        })
        .collect();
    let expected = [
        ("crash", "leader"),
        ("pause", "leader"),
        ("memory-exhausted", "executor-1"),
        ("cut-streams", "executor-2"),
        ("store-errors", ""),
    ];
    assert_eq!(names, expected.map(|(name, target)| (name, target.to_owned())));
    let said = notes.join("\n");
    for part in [
        "depends on the real rows: +0.600 s",
        "does not know of it: +0.800 s",
        "2 lines of the story",
        "4 elections are not repeated",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn tables_have_the_recorded_types_and_fewer_rows() {
    let mut recorded =
        export("SELECT count(*) AS c, sum(price) AS p, max(at) AS m, max(tag) AS g FROM t WHERE k < 9");
    recorded.tables[0].columns.push(column("odd", "Struct(\"a\": Int64)"));
    let Replayed { schedule, notes } = schedule(&recorded, 1).await.unwrap();
    let [table] = schedule.tables.as_slice() else { panic!() };
    assert_eq!((table.rows, table.files), (tables::MAX_ROWS, 4));
    let kinds: Vec<(&str, bool, Option<&str>)> = table
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.kind == ColumnKind::Serial, column.cast.as_deref()))
        .collect();
    let cast = [
        ("id", true, None),
        ("k", false, Some("Int32")),
        ("price", false, Some("Float64")),
        ("at", false, Some("Timestamp(ns)")),
        ("tag", false, Some("LargeUtf8")),
    ];
    assert_eq!(kinds, cast);
    let said = notes.join("\n");
    assert!(said.contains("1000000 rows; here it has 5000") && said.contains("'odd'"), "{said}");
    assert!(schedule.judge.is_empty(), "sums of whole numbers are the same in any order: {said}");
}

#[tokio::test]
async fn views_come_first_and_a_profile_is_asked_for_its_rows() {
    let mut recorded = export("explain  analyze verbose SELECT * FROM b_view;");
    let view = |name: &str, sql: &str| RecordedView { name: name.to_owned(), sql: sql.to_owned() };
    recorded.views = vec![
        view("a_view", "CREATE OR REPLACE VIEW a_view AS SELECT k, id FROM c_view"),
        view("b_view", "create view b_view as SELECT k FROM a_view WHERE id < 10"),
        view("c_view", "CREATE VIEW IF NOT EXISTS c_view AS SELECT k, id FROM t"),
    ];
    let Replayed { schedule, .. } = schedule(&recorded, 1).await.unwrap();
    let ops: Vec<&str> = schedule
        .ops
        .iter()
        .map(|op| match &op.action {
            Action::Query { sql, .. } | Action::Ddl { sql } => sql.as_str(),
            Action::Status => "status",
        })
        .collect();
    assert_eq!(
        ops,
        [
            "CREATE VIEW c_view AS SELECT k, id FROM t",
            "CREATE VIEW a_view AS SELECT k, id FROM c_view",
            "CREATE VIEW b_view as SELECT k FROM a_view WHERE id < 10",
            "SELECT * FROM b_view",
        ]
    );
}

#[tokio::test]
async fn what_can_not_be_run_says_why() {
    let error = async |recorded: Recorded| schedule(&recorded, 1).await.unwrap_err().to_string();
    let missing = error(export("SELECT * FROM t JOIN gone ON t.id = gone.id")).await;
    assert!(missing.contains("gone") && missing.contains("can't be planned"), "{missing}");
    let mut noted = export("SELECT odd FROM t");
    noted.tables[0].columns.push(column("odd", "Struct(\"a\": Int64)"));
    let noted = error(noted).await;
    assert!(noted.contains("column 'odd' of 't' is left out"), "{noted}");
    assert!(error(export("")).await.contains("logical plan"));
    assert!(error(export("COPY t TO 'x.csv'")).await.contains("only queries"));
}

#[tokio::test]
async fn a_query_with_several_answers_is_not_judged_by_one() {
    let recorded = export("SELECT id FROM t LIMIT 10");
    let Replayed { schedule, notes } = schedule(&recorded, 1).await.unwrap();
    assert!(notes.iter().any(|note| note.contains("several right answers")), "{notes:?}");
    assert!(!schedule.judge.is_empty() && !schedule.judge.iter().any(|promise| promise == "answers"));
}

#[tokio::test]
async fn the_same_export_and_seed_give_the_same_schedule_and_it_is_a_file() {
    let mut recorded = with_stages(export(SQL)).await;
    recorded.story = vec![line(500, &[2], lost("e2", 2, Noticed::Connection))];
    let (first, second) = (schedule(&recorded, 7).await.unwrap(), schedule(&recorded, 7).await.unwrap());
    let text = first.schedule.to_toml().unwrap();
    assert_eq!((second.schedule.to_toml().unwrap(), second.notes), (text.clone(), first.notes));
    assert_eq!(Schedule::parse(&text).unwrap(), first.schedule, "{text}");
    let json = serde_json::to_string_pretty(&recorded).unwrap();
    assert!(is_recorded(json.as_bytes()) && !is_recorded(text.as_bytes()));
    assert_eq!(parse(&json).unwrap(), recorded);
    let newer = json.replacen("\"polybolos_recorded\": 1", "\"polybolos_recorded\": 2", 1);
    assert!(parse(&newer).unwrap_err().to_string().contains("format 2"));
    assert!(is_recorded(br#"{"polybolos_recorded":1,"program":"#));
}

#[tokio::test]
async fn executors_that_came_later_are_down_until_then() {
    let mut recorded = with_stages(export(SQL)).await;
    recorded.story = vec![line(500, &[2], came("e9", false))];
    let Replayed { schedule, .. } = schedule(&recorded, 1).await.unwrap();
    assert_eq!(schedule.cluster.slots.len(), 4);
    let [late] = schedule.faults.as_slice() else { panic!("{:?}", schedule.faults) };
    assert_eq!((&late.fault, &late.until), (&crash("executor-4", false), &when(&[2], 0, None)));
    assert_eq!(late.when, None);
}
