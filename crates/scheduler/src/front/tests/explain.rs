//! `EXPLAIN` in its forms.

use super::*;

#[tokio::test]
async fn explain_faults_tells_a_stage_a_row_what_runs_again() {
    let mut fixture = Fixture::with_table().await;
    for option in ["target_partitions = 3", "batch_size = 1"] {
        fixture.run(&format!("SET datafusion.execution.{option}")).await;
    }
    let told = fixture.rows("explain faults SELECT b, count(*) FROM t GROUP BY b").await;
    assert!(told.contains("run_again") && told.contains("1 of stage 1"), "{told}");
    let error = fixture.error("EXPLAIN FAULTS DROP TABLE t").await;
    assert!(error.contains("no query"), "{error}");
}

#[tokio::test]
async fn explain_faults_knows_of_durable_outputs_once_they_count() {
    let mut fixture = Fixture::with_table().await;
    let query = "EXPLAIN FAULTS SELECT b, count(*) FROM t GROUP BY b";
    for option in ["target_partitions = 3", "batch_size = 1"] {
        fixture.run(&format!("SET datafusion.execution.{option}")).await;
    }
    for (mode, part) in [("before", "nothing: all that is done"), ("background", "at most: what is in")] {
        for id in ["executor-1", "executor-2"] {
            let mut command = register(id, 2);
            if let Command::RegisterExecutor { labels, .. } = &mut command {
                for (label, value) in [(SHUFFLE_DURABLE_LABEL, "x"), (SHUFFLE_DURABLE_MODE_LABEL, mode)] {
                    labels.insert(label.to_owned(), value.to_owned());
                }
            }
            fixture.apply(command).unwrap();
        }
        let older = fixture.state.version() < 3;
        assert_eq!(fixture.rows(query).await.contains(part), !older);
        fixture.raise_version();
        let told = fixture.rows(query).await;
        assert!(told.contains(part), "{told}");
        assert_eq!(told.contains("1 of stage"), mode == "background", "{told}");
    }
}

#[tokio::test]
async fn explain_shows_both_plans_and_the_stages() {
    let fixture = Fixture::with_table().await;
    let rows = fixture.rows("EXPLAIN SELECT b FROM t WHERE a > 1").await;
    for part in ["logical_plan", "physical_plan", "stage_graph", "Stage 0: 1 task, result"] {
        assert!(rows.contains(part), "{part} is missing in {rows}");
    }
    let verbose = fixture.rows("EXPLAIN VERBOSE SELECT b FROM t WHERE a > 1").await;
    assert!(verbose.contains("initial_logical_plan") && verbose.contains("stage_graph"), "{verbose}");
    let local = fixture.rows("EXPLAIN SELECT * FROM information_schema.tables").await;
    assert!(local.contains("runs in the scheduler"), "{local}");
    let Planned::Job(job) = fixture.sql("EXPLAIN ANALYZE SELECT b FROM t").await.unwrap() else {
        panic!("no job")
    };
    let shown = batches(&profile(job.explain_analyze.as_deref().unwrap(), "Stage 0 …", "+1 s …").unwrap());
    let shown = pretty_format_batches(&shown).unwrap().to_string();
    assert!(
        shown.contains("TableScan: t") && shown.contains("DataSourceExec") && shown.contains("Stage 0 …"),
        "{shown}"
    );
}
