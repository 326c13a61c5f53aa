//! Statements that fail, or are refused since what they write would not be read back.

use super::*;

#[tokio::test]
async fn what_fails_says_why_and_can_be_removed() {
    let setting = Setting::new().await;
    let place = setting.place("broken");
    let sql = format!(
        "COPY (SELECT o_orderkey, 1 / (o_orderkey - 8997) AS x FROM orders) TO '{place}/' STORED AS CSV"
    );
    let copy = statement(&setting.cluster, &sql).await.unwrap();
    let error = copy.run(&setting.cluster, 1).await.unwrap_err();
    assert!(error.to_string().contains("Divide by zero"), "{error}");
    let last = copy.graph.last().unwrap();
    for partition in 0..last.tasks {
        let (_, task, plain) = setting.cluster.task(last, polybolos_model::Share::one(partition), &vec![]);
        let context = context(plain, TaskId { job: JOB, stage: last.id, partition }, attempt(0));
        let write = task.plan.downcast_ref::<WriteExec>().unwrap();
        assert_eq!(write.written(), PartitionStats::default());
        write.staged_files(&context).unwrap().remove().await;
    }
    assert!(copy.staged().is_empty(), "{:?}", copy.staged());

    let sql = format!("COPY spread TO '{place}/' STORED AS CSV PARTITIONED BY (k)");
    let error = statement(&setting.cluster, &sql).await.unwrap().run(&setting.cluster, 1).await.unwrap_err();
    assert!(error.to_string().contains("'k' is NULL"), "{error}");

    // A file where a folder must be: what the store says is not made a text of, so that it counts as worth another try.
    std::fs::write(setting.place("file"), "x").unwrap();
    for format in ["CSV", "PARQUET", "JSON"] {
        let sql = format!("COPY nation TO '{}/t/' STORED AS {format}", setting.place("file"));
        let copy = statement(&setting.cluster, &sql).await.unwrap();
        let error = copy.run(&setting.cluster, 1).await.unwrap_err();
        assert!(matches!(error.find_root(), DataFusionError::ObjectStore(_)), "{format}: {error:?}");
        assert!(error.to_string().contains(".polybolos-staging"), "{error}");
    }
}

/// DataFusion 55.2 reads Hive's folder for NULL as a text, or fails. While it does, NULL is refused; when this test fails,
/// it may be written.
#[tokio::test]
async fn readers_do_not_take_hives_folder_for_null() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("k=__HIVE_DEFAULT_PARTITION__");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.csv"), "1\n").unwrap();
    let ctx = SessionContext::new();
    for (name, kind) in [("texts", "VARCHAR"), ("numbers", "INT")] {
        let place = dir.path().display();
        let columns = format!("(v INT, k {kind}) STORED AS CSV PARTITIONED BY (k)");
        let sql = format!(
            "CREATE EXTERNAL TABLE {name} {columns} LOCATION '{place}/' OPTIONS ('format.has_header' 'false')"
        );
        ctx.sql(&sql).await.unwrap();
    }
    let read = rows(&ctx, "SELECT v, k IS NULL AS n FROM texts").await;
    assert!(read.contains("| 1 | false |"), "{read}");
    let numbers = ctx.sql("SELECT v, k FROM numbers").await.unwrap().collect().await;
    assert!(numbers.unwrap_err().to_string().contains("__HIVE_DEFAULT_PARTITION__"));
}

#[tokio::test]
async fn what_would_not_be_read_back_is_refused() {
    let setting = Setting::new().await;
    let place = setting.place("refused");
    let ctx = SessionContext::new_with_state(setting.cluster.state.clone());
    for table in [
        "globbed (k INT) STORED AS CSV LOCATION '{}/part-*.csv'",
        "t (k INT, v INT) STORED AS CSV LOCATION '{}/'",
    ] {
        let table = table.replace("{}", &place);
        ctx.sql(&format!("CREATE EXTERNAL TABLE {table}")).await.unwrap();
    }
    let cluster = Cluster {
        state: ctx.state(),
        extensions: setting.cluster.extensions.clone(),
        spills: false,
        adapts: false,
        filters: RuntimeFilters::default(),
        builds: Arc::default(),
    };
    for (sql, reason) in [
        ("SELECT 1".to_owned(), "rows for its reader"),
        ("INSERT INTO empty VALUES (1, 'x')".to_owned(), "only Parquet, CSV and JSON"),
        (format!("COPY nation TO '{place}/' STORED AS ARROW"), "only Parquet, CSV and JSON"),
        ("INSERT INTO globbed VALUES (1)".to_owned(), "would not read files"),
        (
            format!(
                "COPY nation TO '{place}/' STORED AS CSV PARTITIONED BY (n_name, n_comment, n_nationkey, n_regionkey)"
            ),
            "nothing is left",
        ),
        (
            format!("COPY (SELECT 1 AS v, now() AS t) TO '{place}/' STORED AS CSV PARTITIONED BY (t)"),
            "a partition column must be",
        ),
        (
            format!("COPY (SELECT 1 AS v, 2 AS é) TO '{place}/' STORED AS CSV PARTITIONED BY (é)"),
            "can't be that of a folder",
        ),
    ] {
        let error = statement(&cluster, &sql).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, PlanError::Unwritable { .. }), "{sql}: {error}");
        assert!(error.to_string().contains(reason), "{sql}: {error}");
    }
    assert!(!Path::new(&place).exists());
}
