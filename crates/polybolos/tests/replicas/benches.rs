//! The benches that start clusters of their own.

use std::time::Duration;

use serde_json::Value;

use crate::{alone, support::run};

#[track_caller]
fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no {key} in {value:#}"))
}

#[test]
fn the_pause_of_a_fail_over_is_measured() {
    alone(Duration::from_secs(100), async {
        let pause = run(&["bench", "failover", "--rounds", "2", "--format", "json"]).exits(0).json();
        assert_eq!(number(&pause, "rounds"), 2.0, "{pause:#}");
        let [p50, p99, max] = ["p50_ms", "p99_ms", "max_ms"].map(|key| number(&pause, key));
        // Nobody campaigns before the lease is over; the aim of a second is for an idle machine.
        assert!(50.0 < p50 && p50 <= p99 && p99 <= max && max < 20_000.0, "{pause:#}");
    });
}

#[test]
fn the_log_is_measured_beside_the_disk() {
    alone(Duration::from_secs(100), async {
        let log = run(&["bench", "log", "--seconds", "1", "--format", "json"]).exits(0).json();
        for key in
            ["entries_per_second", "completions_per_second", "commit_p50_ms", "commit_p99_ms", "fsync_p50_ms"]
        {
            assert!(number(&log, key) > 0.0, "{key}: {log:#}");
        }
        assert!(number(&log, "commit_p50_ms") <= number(&log, "commit_p99_ms"), "{log:#}");
    });
}

#[test]
fn the_cost_of_a_task_is_measured() {
    alone(Duration::from_secs(100), async {
        let shape = ["--executors", "2,20", "--slots", "100", "--tasks", "50", "--stages", "3"];
        let what = ["--total", "500", "--format", "json"];
        let found = run(&[&["bench", "scheduler"], &shape[..], &what[..]].concat()).exits(0).json();
        let lines = found["lines"].as_array().unwrap();
        assert_eq!(lines.len(), 4, "{found:#}");
        for line in lines {
            assert!(number(line, "tasks") >= 450.0 && number(line, "tasks_per_second") > 0.0, "{found:#}");
        }
        assert!(found["growth"]["executors"].is_number(), "{found:#}");
    });
}

#[test]
fn the_cost_of_a_lost_executor_is_measured() {
    alone(Duration::from_secs(200), async {
        let sizes = ["--scale", "0.1", "--schedulers", "1", "--executors", "2", "--repeat", "1"];
        let what = ["--query", "9", "--kill-at", "20", "--format", "json"];
        let found = run(&[&["bench", "recovery"], &sizes[..], &what[..]].concat()).exits(0).json();
        let kill = &found["queries"][0]["kills"][0];
        // A machine that was busy only without the kill may be done before it.
        if kill["result"] != "over before the kill" {
            assert_eq!(kill["result"], "equal", "{found:#}");
            let detection = number(kill, "detection_ms");
            assert!(detection < 3_500.0 && number(kill, "useful_task_ms") > 0.0, "{found:#}");
        }
    });
}

#[test]
fn joins_are_measured_by_the_exchanges_that_they_should_have() {
    alone(Duration::from_secs(120), async {
        let sizes = ["--rows", "1000000", "--repeat", "1", "--schedulers", "1", "--format", "json"];
        let found = run(&[&["bench", "joins"], &sizes[..]].concat()).exits(0).json();
        let lines = found["lines"].as_array().unwrap();
        assert_eq!(lines.len(), 7, "{found:#}");
        for (at, line) in lines.iter().enumerate() {
            let exchanges = line["exchanges"].as_array().unwrap();
            let broadcast = exchanges.iter().any(|exchange| exchange == "broadcast");
            assert!(number(line, "median_ms") > 0.0 && broadcast == (at == 0), "{found:#}");
        }
        let ratios = found["ratios"].as_array().unwrap();
        assert!(ratios.iter().all(|ratio| number(&ratio["ratio"], "median") > 0.0), "{found:#}");
    });
    run(&["bench", "joins", "--rows", "1000"]).exits(2).says("1000000..=");
    run(&["bench", "joins", "--executors", "1"]).exits(2).says("--executors").says("without an exchange");
}

#[test]
fn the_memory_of_each_process_is_measured_and_every_row_checked() {
    alone(Duration::from_secs(240), async {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("tpch").to_str().unwrap().to_owned();
        run(&["tpch", "generate", "--scale", "0.01", "--out", &data]).exits(0);
        let sizes = ["--rows", "400000", "--memory", "128MiB", "--schedulers", "1"];
        let what = ["--data", &data, "--format", "json"];
        let found = run(&[&["bench", "memory"], &sizes[..], &what[..]].concat()).exits(0).json();
        let sides = found["sort"]["sides"].as_array().unwrap();
        assert!(sides.len() == 2 && sides.iter().all(|side| side["trouble"].is_null()), "{found:#}");
        assert!(number(&sides[0], "shuffled_bytes") > 1e6, "{found:#}");
        // A scheduler, two executors, the client and DataFusion.
        let processes = found["sort"]["processes"].as_array().unwrap();
        assert_eq!(processes.len(), 5, "{found:#}");
        assert!(processes.iter().all(|process| number(process, "peak_bytes") > 1e6), "{found:#}");
        assert_eq!(found["tpch"]["report"]["queries"].as_array().unwrap().len(), 22, "{found:#}");
        assert_eq!(found["tpch"]["processes"].as_array().unwrap().len(), 3, "{found:#}");
    });
}
