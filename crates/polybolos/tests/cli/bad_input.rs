//! What can be wrong with a query and its data: a clear error, exit code 1, and the cluster goes on serving.

use crate::support::{Cluster, Ended, entries, read, run, write};

struct Bad {
    cluster: Cluster,
}

impl Bad {
    /// Runs what must fail, and then something that must work.
    #[track_caller]
    fn fails(&self, sql: &str) -> Ended {
        let ended = self.cluster.sql(sql).exits(1);
        assert_eq!(self.cluster.sql("SELECT 1 AS a").exits(0).stdout, "a\n1\n");
        ended
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        write(&self.cluster.folder.path().join(name), content)
    }
}

const CSV: &str = "OPTIONS ('format.has_header' 'true')";

#[test]
fn bad_statements_and_bad_data_fail_alone() {
    let bad = Bad { cluster: Cluster::start(2) };
    bad.fails("SELEC 1").says("SELEC");
    bad.fails("SELECT * FROM nowhere").says("nowhere");
    bad.fails("SELECT no_such_function(1)").says("no_such_function");

    let gone = bad.cluster.folder.path().join("gone.parquet");
    let gone = gone.to_str().unwrap();
    let create = format!("CREATE EXTERNAL TABLE gone STORED AS PARQUET LOCATION '{gone}'");
    bad.fails(&format!("{create}; SELECT * FROM gone")).says("gone");

    let short = bad.file("short.csv", "a,b\n1,2\n3\n");
    bad.cluster
        .sql(&format!("CREATE EXTERNAL TABLE short (a INT, b INT) STORED AS CSV LOCATION '{short}' {CSV}"))
        .exits(0);
    bad.fails("SELECT sum(b) FROM short").says("query");

    for part in 0..4 {
        let rows: String =
            (0..100).map(|n| format!("{}\n", if part == 2 && n == 50 { 0 } else { n + 1 })).collect();
        bad.file(&format!("div-{part}.csv"), format!("d\n{rows}"));
    }
    let folder = bad.cluster.folder.path().display().to_string();
    let create = format!("CREATE EXTERNAL TABLE d (d INT) STORED AS CSV LOCATION '{folder}/div-*.csv' {CSV}");
    bad.cluster.sql(&create).exits(0);
    bad.fails("SELECT sum(100 / d) FROM d").says("ivide by zero").says("stage");
}

#[test]
fn a_parquet_file_cut_short_is_told() {
    let bad = Bad { cluster: Cluster::start(1) };
    let data = bad.cluster.folder.path().join("tpch");
    run(&["tpch", "generate", "--scale", "0.001", "--out", data.to_str().unwrap()]).exits(0);
    let whole = read(&entries(&data.join("nation"))[0]);
    let cut = bad.file("cut.parquet", &whole[..whole.len() / 2]);
    let create = format!("CREATE EXTERNAL TABLE cut STORED AS PARQUET LOCATION '{cut}'");
    bad.fails(&format!("{create}; SELECT * FROM cut")).says("arquet");
}

#[test]
fn oversized_and_unknown_things_are_refused() {
    let bad = Bad { cluster: Cluster::start(1) };
    let huge = format!("SELECT '{}'", "x".repeat(10_000_000));
    let path = bad.file("huge.sql", &huge);
    bad.cluster.run(&["sql", "-f", &path]).exits(1).says("at most 1000000 are allowed");
    bad.cluster.run(&["jobs", "show", "00000000000000ff"]).exits(1).says("00000000000000ff is not known");
    bad.cluster.run(&["jobs", "cancel", "00000000000000ff"]).exits(1).says("is not known");
    assert_eq!(bad.cluster.sql("SELECT 1 AS a").exits(0).stdout, "a\n1\n");
}
