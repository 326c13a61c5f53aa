//! `COPY`, `INSERT` and `CREATE TABLE AS`.

use polybolos_model::{ReplicaId, WriteTarget};
use polybolos_state::NewTable;

use super::*;

impl Fixture {
    /// With a warehouse, in a cluster that writes, and with a table `t` of two rows.
    async fn that_writes() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Url::from_directory_path(folder.path().join("house")).unwrap();
        let env = Env::production(2).unwrap();
        let deadline = Duration::from_secs(30);
        let front = Front::new(Extensions::default(), env, deadline, Some(warehouse)).unwrap();
        let mut fixture = Self { front, folder, ..Self::with_table().await };
        let path = fixture.write("t.csv", "a,b\n1,x\n2,y\n");
        fixture.run(&format!("CREATE OR REPLACE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'")).await;
        fixture.raise_version();
        fixture
    }

    pub(super) fn raise_version(&mut self) {
        let (replica, folder, version) = (ReplicaId(1), 1, 3);
        self.apply(Command::RegisterReplica { replica, folder, version }).unwrap();
        self.apply(Command::RaiseVersion { to: version }).unwrap();
    }

    async fn destination(&self, sql: &str) -> Destination {
        self.job(sql).await.write.unwrap_or_else(|| panic!("'{sql}' writes nothing"))
    }

    /// Where a statement writes to, below the fixture's folder.
    async fn target(&self, sql: &str) -> WriteTarget {
        let target = self.destination(sql).await.target;
        let root = Url::from_directory_path(self.folder.path()).unwrap().to_string();
        WriteTarget { url: target.url.replacen(&root, "", 1), ..target }
    }
}

fn target(url: &str, extension: &str, single_file: bool) -> WriteTarget {
    WriteTarget { url: url.to_owned(), extension: extension.to_owned(), single_file }
}

#[tokio::test]
async fn copies_go_to_a_file_or_a_folder() {
    let fixture = Fixture::that_writes().await;
    let path = |name: &str| fixture.path(name);
    let copy = format!("COPY t TO '{}'", path("out.csv"));
    assert_eq!(fixture.target(&copy).await, target("out.csv", ".csv", true));
    let copy = format!("COPY (SELECT a FROM t) TO '{}/' STORED AS PARQUET", path("out"));
    assert_eq!(fixture.target(&copy).await, target("out/", ".parquet", false));
    let copy = format!("COPY t TO '{}/' STORED AS JSON PARTITIONED BY (b)", path("parts"));
    assert_eq!(fixture.target(&copy).await, target("parts/", ".json", false));
    let job = fixture.job(&copy).await;
    assert_eq!(ipc::decode_schema(&job.schema).unwrap().field(0).name(), "count");
    assert_eq!((job.sql, job.ordered, job.explain_analyze), (copy, false, None));
}

#[tokio::test]
async fn inserts_go_to_the_folder_of_their_table() {
    let mut fixture = Fixture::that_writes().await;
    let folder = fixture.path("rows");
    fixture
        .run(&format!("CREATE EXTERNAL TABLE r (a BIGINT, b VARCHAR) STORED AS CSV LOCATION '{folder}/'"))
        .await;
    let insert = "INSERT INTO r SELECT * FROM t";
    assert_eq!(fixture.target(insert).await, target("rows/", ".csv", false));
    for (sql, part) in [
        ("INSERT OVERWRITE r SELECT * FROM t", "verwrit"),
        ("INSERT INTO t SELECT * FROM t", "single file"),
        ("INSERT INTO nowhere VALUES (1)", "nowhere"),
        ("DELETE FROM r", "DELETE is not supported"),
        ("UPDATE r SET a = 1", "UPDATE is not supported"),
    ] {
        let error = fixture.error(sql).await;
        assert!(error.contains(part), "{sql}: {error}");
    }
}

#[tokio::test]
async fn tables_are_made_in_the_warehouse() {
    let mut fixture = Fixture::that_writes().await;
    let sql = "CREATE TABLE \"my copy\" AS SELECT a + 1 AS a, b FROM t";
    let Destination { target, table, .. } = fixture.destination(sql).await;
    let NewTable { name, table } = table.unwrap();
    assert_eq!(name.to_string(), "public.my copy");
    let house = Url::from_directory_path(fixture.path("house")).unwrap();
    let folder = target.url.strip_prefix(house.as_str()).unwrap();
    assert!(folder.starts_with("my%20copy/") && folder.ends_with('/'), "{folder}");
    assert_eq!((target.extension.as_str(), target.single_file), (".parquet", false));
    assert_ne!(target, fixture.destination(sql).await.target, "each try has a folder of its own");

    let create = |or_replace| Command::CreateTable {
        name: name.clone(),
        table: table.clone(),
        or_replace,
        if_not_exists: false,
    };
    fixture.apply(create(false)).unwrap();
    // It is empty, and its columns are known.
    let shown = fixture.rows("DESCRIBE \"my copy\"").await;
    assert!(shown.contains("| a           | Int64"), "{shown}");
    let again = "CREATE TABLE IF NOT EXISTS \"my copy\" AS SELECT 1 AS one";
    assert!(matches!(fixture.sql(again).await.unwrap(), Planned::Inline(_)));
    assert_eq!(fixture.target("INSERT INTO \"my copy\" SELECT * FROM t").await.extension, ".parquet");
}

#[tokio::test]
async fn what_is_left_out_is_refused_by_name() {
    let fixture = Fixture::that_writes().await;
    for (sql, part) in [
        ("CREATE OR REPLACE TABLE c AS SELECT 1 AS one", "drop the table first"),
        ("CREATE TEMPORARY TABLE c AS SELECT 1 AS one", "emporary"),
        ("CREATE TABLE c AS SELECT 1 AS one, 2 AS one", "one"),
        ("CREATE TABLE elsewhere.c AS SELECT 1 AS one", "can't be created"),
        ("COPY t TO 'gopher://x/y.csv'", "gopher"),
        ("COPY t TO 'x.unknown'", "unknown"),
        ("EXPLAIN ANALYZE COPY t TO 'x.csv'", "no query"),
    ] {
        let error = fixture.error(sql).await;
        assert!(error.contains(part), "{sql}: {error}");
    }
}

#[tokio::test]
async fn nothing_is_written_without_a_warehouse_or_at_an_older_version() {
    let mut fixture = Fixture::with_table().await;
    let older = "while a scheduler of an older version is in the cluster";
    for sql in ["COPY t TO 'x.csv'", "INSERT INTO t VALUES (1, 'x')", "EXPLAIN COPY t TO 'x.csv'"] {
        let error = fixture.error(sql).await;
        assert!(error.contains(older), "{sql}: {error}");
    }
    fixture.raise_version();
    let error = fixture.error("CREATE TABLE c AS SELECT 1 AS one").await;
    assert!(error.contains("--warehouse"), "{error}");
}

#[tokio::test]
async fn explain_tells_the_stages_of_a_write_and_where_its_files_are() {
    let mut fixture = Fixture::that_writes().await;
    let folder = fixture.path("out");
    let copy = format!("COPY (SELECT a, b FROM t) TO '{folder}/' STORED AS PARQUET PARTITIONED BY (b)");
    let told = fixture.rows(&format!("EXPLAIN {copy}")).await;
    let staged = format!("staged below file://{folder}/.polybolos-staging/JOB/PARTITION-ATTEMPT/");
    let published = format!("published as file://{folder}/b=VALUE/JOB-PARTITION-NUMBER.parquet");
    for part in ["logical_plan", "CopyTo", "DataSinkExec", "Stage 0", "WriteExec", "partition_by=[b]"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(told.contains(&staged) && told.contains(&published), "{told}");
    assert!(!Path::new(&folder).exists(), "nothing is written");
    let rows = fixture.path("rows");
    fixture
        .run(&format!("CREATE EXTERNAL TABLE r (a BIGINT, b VARCHAR) STORED AS CSV LOCATION '{rows}/'"))
        .await;
    let told = fixture.rows("EXPLAIN INSERT INTO r SELECT * FROM t").await;
    assert!(told.contains(&format!("published as file://{rows}/JOB-PARTITION-NUMBER.csv")), "{told}");
    let told = fixture.rows("EXPLAIN FAULTS INSERT INTO r SELECT a, b FROM t ORDER BY a").await;
    assert!(told.contains("run_again"), "{told}");
}

#[tokio::test]
async fn explain_does_not_tell_the_secrets_of_a_copy() {
    let fixture = Fixture::that_writes().await;
    let sql = "EXPLAIN VERBOSE COPY t TO 's3://bucket/out/' STORED AS PARQUET OPTIONS ('aws.region' 'eu-1', \
               'aws.access_key_id' 'me', 'aws.secret_access_key' 'hush')";
    let told = fixture.rows(sql).await;
    assert!(told.contains("s3://bucket/out/JOB-PARTITION-NUMBER.parquet"), "{told}");
    assert!(!told.contains("hush"), "{told}");
}

#[tokio::test]
async fn the_options_of_a_bucket_go_with_the_job() {
    let fixture = Fixture::that_writes().await;
    let sql =
        "COPY t TO 's3://bucket/out/' STORED AS PARQUET OPTIONS ('aws.region' 'eu-1', 'compression' 'zstd')";
    let job = fixture.job(sql).await;
    let key = "polybolos.object_store.s3://bucket/aws.region";
    assert_eq!(job.options.get(key).map(String::as_str), Some("eu-1"));
    assert_eq!(job.write.unwrap().target, target("s3://bucket/out/", ".parquet", false));
}

#[test]
fn the_answer_is_one_row() {
    let shown = pretty_format_batches(&batches(&count_answer(7).unwrap())).unwrap().to_string();
    assert!(shown.contains("count") && shown.contains("| 7     |"), "{shown}");
}
