//! Options of sessions and settings of jobs.

use super::*;

#[tokio::test]
async fn options_of_a_session_change_plans_and_are_checked() {
    let mut fixture = Fixture::with_table().await;
    let grouped = "SELECT b, count(*) FROM t GROUP BY b";
    assert_eq!(fixture.job(grouped).await.graph.stages.len(), 1, "a small query is one task");
    fixture.run("SET datafusion.execution.target_partitions = 3").await;
    let job = fixture.job(grouped).await;
    assert_eq!(job.graph.stages.last().unwrap().tasks, 3, "{}", job.graph);
    assert!(fixture.rows("SHOW datafusion.execution.target_partitions").await.contains("| 3 "));
    fixture.run("SET datafusion.execution.batch_size = 77").await;
    let options = fixture.job("SELECT 1").await.options;
    assert_eq!(options.get("datafusion.execution.batch_size").map(String::as_str), Some("77"));
    fixture.run("RESET datafusion.execution.target_partitions").await;
    assert_eq!(fixture.job(grouped).await.graph.stages.len(), 1);
    let error = fixture.error("SET datafusion.execution.colour = red").await;
    assert!(error.contains("datafusion.execution.colour"), "{error}");
    let error = fixture.error("SET datafusion.execution.batch_size = many").await;
    assert!(error.contains("batch_size") && error.contains("many"), "{error}");
    assert!(fixture.error("SET datafusion.runtime.memory_limit = '1G'").await.contains("executor"));
    assert!(fixture.error("RESET datafusion.execution.colour").await.contains("colour"));
    let around = fixture.front.surroundings(&fixture.state, None);
    let statement = Statement::Sql("SET datafusion.execution.batch_size = 1".to_owned());
    let request = Request { statement, session: None, options: Options::new() };
    assert!(matches!(fixture.front.plan(request, around).await, Err(PlanningError::NoSession { .. })));
}

#[tokio::test]
async fn settings_that_come_with_a_statement_need_their_version_too() {
    let mut fixture = Fixture::with_table().await;
    let options = Options::from([("polybolos.speculation".to_owned(), "false".to_owned())]);
    let request = || Request {
        statement: Statement::Sql("SELECT a FROM t".to_owned()),
        session: None,
        options: options.clone(),
    };
    let around = fixture.front.surroundings(&fixture.state, None);
    let Err(error) = fixture.front.plan(request(), around).await else { panic!("it was not refused") };
    assert!(error.to_string().contains("older version"), "{error}");
    fixture.raise_version();
    let around = fixture.front.surroundings(&fixture.state, None);
    let Planned::Job(job) = fixture.front.plan(request(), around).await.unwrap() else { panic!("no job") };
    assert_eq!(job.options.get("polybolos.speculation").map(String::as_str), Some("false"));
}

#[tokio::test]
async fn settings_of_a_job_are_checked_shown_and_kept_with_it() {
    let mut fixture = Fixture::with_table().await;
    let kept = |options: &Options| -> Vec<String> {
        let ours = options.iter().filter(|(key, _)| key.starts_with("polybolos."));
        ours.map(|(key, value)| format!("{key}={value}")).collect()
    };
    assert_eq!(kept(&fixture.job("SELECT 1").await.options), [""; 0]);
    assert!(fixture.rows("SHOW polybolos.max_task_attempts").await.contains("| 4 "));
    let error = fixture.error("SET polybolos.max_task_attempts = 6").await;
    assert!(
        error.contains("'polybolos.max_task_attempts', while a scheduler of an older version"),
        "{error}"
    );
    fixture.raise_version();
    fixture.run("SET polybolos.max_task_attempts = 6").await;
    assert!(fixture.rows("SHOW polybolos.max_task_attempts").await.contains("| 6 "));
    assert_eq!(kept(&fixture.job("SELECT 1").await.options), ["polybolos.max_task_attempts=6"]);
    let shown = fixture.rows("SELECT * FROM information_schema.df_settings WHERE name LIKE 'poly%'").await;
    assert!(shown.contains("polybolos.max_stage_reruns"), "{shown}");
    let error = fixture.error("SET polybolos.max_task_attempts = 17").await;
    assert!(error.contains("a number from 1 to 16"), "{error}");
    let error = fixture.error("SET polybolos.max_tasks = 1").await;
    assert!(error.contains("no setting 'polybolos.max_tasks'"), "{error}");
    assert!(fixture.error("RESET polybolos.max_tasks").await.contains("no setting"));
    fixture.run("RESET polybolos.max_task_attempts").await;
    assert_eq!(kept(&fixture.job("SELECT 1").await.options), [""; 0]);
}
