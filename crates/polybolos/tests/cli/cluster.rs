//! A scheduler and executors as processes of their own, and the commands that talk to them.
#![allow(clippy::disallowed_methods, reason = "times real processes")]

use std::time::Duration;

use serde_json::Value;

use crate::support::{Cluster, STOP_DEADLINE, command, run, start, write};

#[test]
fn queries_run_on_the_executors_and_the_account_says_where() {
    let cluster = Cluster::start(2);
    let files = tempfile::tempdir().unwrap();
    for (name, rows) in [("a.csv", "k,v\nx,1\ny,2\n"), ("b.csv", "k,v\nx,10\nz,30\n")] {
        write(&files.path().join(name), rows);
    }
    let location = files.path().display();
    let create = format!(
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{location}/' OPTIONS ('format.has_header' 'true')"
    );
    cluster.sql(&create).exits(0);
    let sql = "SELECT k, sum(v) AS s FROM t GROUP BY k ORDER BY k";
    // A query this small would be one task, unless the session says how wide it is to be.
    let wide = format!("SET datafusion.execution.target_partitions = 4; {sql}");
    assert_eq!(cluster.sql(&wide).exits(0).stdout, "k,s\nx,11\ny,2\nz,30\n");

    let status = cluster.run(&["status", "--format", "json"]).exits(0).json();
    assert_eq!(status["executors"].as_array().unwrap().len(), 2, "{status:#}");
    assert_eq!(
        (&status["replicas"][0]["leader"], &status["relations"]),
        (&Value::Bool(true), &Value::from(1))
    );
    assert!(cluster.run(&["status"]).exits(0).stdout.contains("e2"));

    let jobs = cluster.run(&["jobs", "list", "--format", "json"]).exits(0).json();
    let job = jobs.as_array().unwrap().iter().find(|job| job["sql"] == sql).unwrap();
    assert_eq!(job["state"], "succeeded");
    let id = job["job_id"].as_str().unwrap();
    let shown = cluster.run(&["jobs", "show", id, "--format", "json"]).exits(0).json();
    let stages = shown["stages"].as_array().unwrap();
    let tasks: Vec<&Value> = stages.iter().flat_map(|stage| stage["tasks"].as_array().unwrap()).collect();
    assert!(tasks.len() > 1, "{shown:#}");
    for task in &tasks {
        assert_eq!(task["state"], "done", "{shown:#}");
        assert!(["e1", "e2"].contains(&task["executor_id"].as_str().unwrap()), "{shown:#}");
        assert!(task["metrics"]["elapsed_us"].as_u64().unwrap() > 0, "{shown:#}");
    }
    let last = stages.last().unwrap()["tasks"].as_array().unwrap();
    let rows: u64 = last.iter().map(|task| task["metrics"]["rows_out"].as_u64().unwrap()).sum();
    assert_eq!(rows, 3, "{shown:#}");
    let table = cluster.run(&["jobs", "show", id]).exits(0).stdout;
    assert!(table.contains("stage 0") && table.contains("rows out"), "{table}");
    assert!(cluster.run(&["jobs", "list"]).exits(0).stdout.contains(id));

    let explained = cluster.sql(&format!("EXPLAIN ANALYZE {sql}")).exits(0).stdout;
    assert!(explained.contains("output_rows="), "{explained}");
    let explained = cluster.sql(&format!("EXPLAIN {sql}")).exits(0).stdout;
    assert!(explained.contains("Stage 0"), "{explained}");
}

#[test]
fn no_scheduler_is_an_exit_code_of_its_own() {
    // A free port might be taken by a server of another test; this one never is.
    let address = "127.0.0.1:1";
    run(&["sql", "--schedulers", address, "-c", "SELECT 1"])
        .exits(3)
        .says("no scheduler could be reached")
        .says(address);
}

/// Three thousand rows, cubed: hours of work.
fn endless(cluster: &Cluster) -> &'static str {
    let rows: String = (0..3_000).map(|n| format!("{n}\n")).collect();
    let path = write(&cluster.folder.path().join("n.csv"), format!("n\n{rows}"));
    let create = format!(
        "CREATE EXTERNAL TABLE n STORED AS CSV LOCATION '{path}' OPTIONS ('format.has_header' 'true')"
    );
    cluster.sql(&create).exits(0);
    "SELECT count(*) FROM n a, n b, n c WHERE (a.n * b.n + c.n) % 7 = 3"
}

fn job_of<'a>(jobs: &'a Value, sql: &str) -> Option<&'a Value> {
    jobs.as_array().unwrap().iter().find(|job| job["sql"] == sql)
}

/// The running job's id.
fn wait_until_running(cluster: &Cluster, sql: &str) -> String {
    for _ in 0..500 {
        let jobs = cluster.run(&["jobs", "list", "--format", "json"]).exits(0).json();
        if let Some(job) = job_of(&jobs, sql).filter(|job| job["state"] == "running") {
            return job["job_id"].as_str().unwrap().to_owned();
        }
    }
    panic!("the query does not run");
}

fn wait_until_free(cluster: &Cluster) {
    let mut status = Value::Null;
    for _ in 0..500 {
        status = cluster.run(&["status", "--format", "json"]).exits(0).json();
        let busy = |executor: &Value| executor["busy_slots"].as_u64().unwrap();
        if status["executors"].as_array().unwrap().iter().map(busy).sum::<u64>() == 0 {
            return;
        }
    }
    panic!("slots are still busy: {status:#}");
}

#[test]
fn ctrl_c_and_jobs_cancel_stop_a_query_on_the_executors() {
    let cluster = Cluster::start(2);
    let sql = endless(&cluster);
    let args = ["sql", "--schedulers", &cluster.address, "-c", sql];
    let query = start(command(&args), true);
    let id = wait_until_running(&cluster, sql);
    query.signal("INT");
    query.wait(STOP_DEADLINE).exits(1).says(&format!("query {id} is cancelled"));
    let job = cluster.run(&["jobs", "show", &id, "--format", "json"]).exits(0).json();
    assert_eq!(job["state"], "cancelled", "{job:#}");
    wait_until_free(&cluster);

    let other = format!("{sql} AND a.n > 0");
    let query = start(command(&["sql", "--schedulers", &cluster.address, "-c", &other]), true);
    let id = wait_until_running(&cluster, &other);
    assert!(cluster.run(&["jobs", "cancel", &id]).exits(0).stdout.contains("cancelled"));
    query.wait(STOP_DEADLINE).exits(1).says("was cancelled");
    wait_until_free(&cluster);
    // Takes a slot of each executor: work that goes on in secret would hold it up.
    let both = "SET datafusion.execution.target_partitions = 2; SELECT n % 2 AS k, count(*) AS c FROM n GROUP BY k ORDER BY k";
    let started = std::time::Instant::now();
    assert_eq!(cluster.sql(both).exits(0).stdout, "k,c\n0,1500\n1,1500\n");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn small_queries_are_quick_and_right_also_many_at_once() {
    let cluster = Cluster::start(2);
    let timed = cluster.run(&["bench", "latency", "--count", "20", "--format", "json"]).exits(0).json();
    let queries = timed["queries"].as_array().unwrap();
    assert_eq!(queries.len(), 2, "{timed:#}");
    assert!(queries.iter().all(|query| query["p50_ms"].as_f64().unwrap() > 0.0), "{timed:#}");
    let many = cluster.run(&["bench", "concurrent", "--clients", "100", "--format", "json"]).exits(0).json();
    assert_eq!((&many["queries"], &many["wrong_answers"]), (&Value::from(100), &Value::from(0)), "{many:#}");
}

#[test]
fn a_server_stops_when_it_is_told_to() {
    let mut cluster = Cluster::start(1);
    let executor = cluster.executors.remove(0);
    executor.signal("TERM");
    executor.wait(STOP_DEADLINE).exits(0).says("stopping");
    cluster.scheduler.signal("INT");
    let Cluster { scheduler, .. } = cluster;
    scheduler.wait(Duration::from_secs(15)).exits(0).says("stopping");
}
