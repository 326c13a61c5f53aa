//! TPC-H by the command line: data, queries, verification, the demo; and the shuffle's bench.

use std::path::Path;

use crate::support::{Cluster, entries, run, write};

fn generate(folder: &Path, scale: &str) -> String {
    let out = folder.join("tpch").to_str().unwrap().to_owned();
    run(&["tpch", "generate", "--scale", scale, "--out", &out]).exits(0).says("lineitem: ");
    out
}

#[test]
fn data_is_written_once_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let out = generate(folder.path(), "0.01");
    for (table, files) in
        [("lineitem", 2), ("orders", 2), ("partsupp", 2), ("customer", 2), ("part", 2), ("region", 1)]
    {
        assert_eq!(entries(&folder.path().join("tpch").join(table)).len(), files, "{table}");
    }
    // Nothing is left of the folder aside.
    assert_eq!(entries(folder.path()).len(), 1);
    run(&["tpch", "generate", "--scale", "0.01", "--out", &out])
        .exits(2)
        .says("--out")
        .says("holds something");
    run(&["tpch", "generate", "--scale", "0", "--out", "x"]).exits(2).says("expected a scale");
    run(&["tpch", "run", "--data", folder.path().to_str().unwrap()])
        .exits(2)
        .says("lineitem is no folder with files");
}

#[test]
fn every_query_gives_the_answer_of_datafusion() {
    let folder = tempfile::tempdir().unwrap();
    // Smaller data would make one task of each query.
    let out = generate(folder.path(), "0.1");
    let cluster = Cluster::start(2);
    let report =
        cluster.run(&["tpch", "run", "--data", &out, "--verify", "--format", "json"]).exits(0).json();
    let queries = report["queries"].as_array().unwrap();
    assert_eq!(queries.len(), 22, "{report:#}");
    assert!(queries.iter().all(|query| query["equal"] == true), "{report:#}");
    assert_eq!(report["slots"], 2);
    assert!(report["geometric_mean_ratio"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_few_queries_on_an_embedded_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let out = generate(folder.path(), "0.01");
    let ended =
        run(&["tpch", "run", "--data", &out, "--query", "1", "--query", "6", "--repeat", "2", "--verify"])
            .exits(0);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{ended:?}");
    assert!(lines[1].contains("equal") && lines[3].contains("geometric mean"), "{ended:?}");
    run(&["tpch", "run", "--data", &out, "--query", "23"]).exits(2);
}

#[test]
fn rows_get_through_a_shuffle_on_each_way() {
    let found =
        run(&["bench", "shuffle", "--size", "2MB", "--partitions", "3", "--repeat", "1", "--format", "json"])
            .exits(0)
            .json();
    let lines = found["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 16, "{found:#}");
    assert!(lines.iter().all(|line| line["gb_per_second"].as_f64().unwrap() > 0.0), "{found:#}");
}

#[test]
fn a_wrong_file_in_the_data_is_told_with_its_query() {
    let folder = tempfile::tempdir().unwrap();
    let out = generate(folder.path(), "0.001");
    let file = entries(&folder.path().join("tpch/nation"))[0].clone();
    write(&file, "not a parquet file");
    run(&["tpch", "run", "--data", &out, "--query", "5"]).exits(1).says("error:");
}

#[test]
fn the_demo_kills_the_leader_and_shows_the_pause_and_what_ran_where() {
    let ended = run(&["demo", "--scale", "0.01"]).exits(0).says("executor-1");
    // So little data is one short task, which may end before the kill gets there; the demo says which it was.
    let outcomes = ["were started by the leader that died", "The query had ended before the kill"];
    assert_eq!(outcomes.iter().filter(|told| ended.stderr.contains(**told)).count(), 1, "{ended:#?}");
    for part in ["is killed with SIGKILL", "leads, in term", "as DataFusion gives it", "all three have state"]
    {
        assert!(ended.stderr.contains(part), "'{part}' is not in {ended:#?}");
    }
    assert!(ended.stdout.contains("n_name") && ended.stdout.contains("stage 0"), "{ended:?}");
}
