//! Statements that write: tasks stage their files, the test publishes those of one attempt each, and what is read back
//! is what plain DataFusion would have written.

mod refusals;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::{
    arrow::util::pretty::pretty_format_batches,
    error::DataFusionError,
    execution::TaskContext,
    physical_plan::collect,
    prelude::{SessionConfig, SessionContext},
};
use polybolos_model::{
    AttemptId, JobId, PartitionStats, STAGED_SUFFIX, StageGraph, TaskId, Term, WriteTarget,
};
use polybolos_planner::{
    PlanError, RuntimeFilters, WriteExec, Writing, cluster_config, stage_graph, write_plan,
};
use tempfile::TempDir;
use url::Url;

use crate::{
    cluster::{Cluster, Outputs, spread},
    compare::plain,
    data,
};

const JOB: JobId = JobId(0xab);

struct Statement {
    graph: StageGraph,
    target: WriteTarget,
}

/// Several files and tasks for each large table.
fn config() -> SessionConfig {
    let mut config = cluster_config(3).with_batch_size(512);
    config.options_mut().optimizer.repartition_file_min_size = 0;
    config
}

async fn statement(cluster: &Cluster, sql: &str) -> Result<Statement, PlanError> {
    let written = write_plan(cluster.physical(sql).await)?;
    let graph = stage_graph(written.plan, &cluster.extensions, RuntimeFilters::default())?;
    Ok(Statement { graph, target: written.target })
}

fn attempt(counter: u64) -> AttemptId {
    AttemptId { term: Term(1), counter }
}

fn context(context: TaskContext, task: TaskId, attempt: AttemptId) -> Arc<TaskContext> {
    let writing = Writing { task, attempt, charge: Box::new(|_| None) };
    let config = context.session_config().clone().with_extension(Arc::new(writing));
    Arc::new(context.with_session_config(config))
}

impl Statement {
    /// Runs all its tasks; those of the last stage `attempts` times each, with attempts 0, 1, … What the last attempt of
    /// each wrote, by its own account.
    async fn run(&self, cluster: &Cluster, attempts: u64) -> Result<Vec<PartitionStats>, DataFusionError> {
        let mut outputs: Outputs = vec![];
        let mut stats = vec![];
        let (last, inputs) = self.graph.stages.split_last().unwrap();
        for stage in inputs {
            let mut written = vec![];
            for partition in 0..stage.tasks {
                let (_, task, context) =
                    cluster.task(stage, polybolos_model::Share::one(partition), &outputs);
                let batches = collect(Arc::clone(&task.plan), Arc::new(context)).await?;
                written.push(spread(&task.output, partition, stage.tasks, batches));
            }
            outputs.push(written);
        }
        for partition in 0..last.tasks {
            for counter in 0..attempts {
                let (_, task, plain) = cluster.task(last, polybolos_model::Share::one(partition), &outputs);
                let id = TaskId { job: JOB, stage: last.id, partition };
                let context = context(plain, id, attempt(counter));
                let rows = collect(Arc::clone(&task.plan), Arc::clone(&context)).await?;
                assert!(rows.iter().all(|batch| batch.num_rows() == 0), "a task that writes gives no rows");
                let write = task.plan.downcast_ref::<WriteExec>().expect("the root writes");
                if counter + 1 == attempts {
                    stats.push(write.written());
                } else if counter % 2 == 1 {
                    write.staged_files(&context)?.remove().await;
                }
            }
        }
        Ok(stats)
    }

    /// Gives the files of attempt `counter` of each task their final names, and removes the others.
    fn publish(&self, counter: u64) {
        for partition in 0..self.graph.stages.last().unwrap().tasks {
            let folder = path(&self.target.staged_by(JOB, partition, attempt(counter)));
            for file in files(&folder) {
                assert!(file.ends_with(STAGED_SUFFIX), "{file}");
                let to = path(&self.target.published(JOB, partition, &file));
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::rename(folder.join(&file), to).unwrap();
            }
        }
        let staging = path(&self.target.staging(JOB));
        if staging.exists() {
            std::fs::remove_dir_all(staging.parent().unwrap()).unwrap();
        }
    }

    fn staged(&self) -> Vec<String> {
        files(&path(&self.target.staging(JOB)))
    }
}

fn path(url: &str) -> PathBuf {
    Url::parse(url).unwrap().to_file_path().unwrap()
}

/// Paths of all files below `folder`, sorted. None if there is no folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Sorted, as text.
async fn rows(ctx: &SessionContext, sql: &str) -> String {
    let batches = ctx.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

struct Setting {
    cluster: Cluster,
    plain: SessionContext,
    dir: TempDir,
}

impl Setting {
    async fn new() -> Self {
        let dir = data::generate();
        Self { cluster: Cluster::new(config(), dir.path()).await, plain: plain(dir.path()).await, dir }
    }

    fn place(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Runs `COPY (query) TO place rest` here and in plain DataFusion, and compares what `table` reads of both places.
    async fn copy(&self, name: &str, query: &str, rest: &str, table: &str) -> Statement {
        let sql = |place: &str| format!("COPY ({query}) TO '{place}' {rest}");
        let (ours, theirs) = (self.place(&format!("ours/{name}")), self.place(&format!("theirs/{name}")));
        let statement = statement(&self.cluster, &sql(&ours)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        let stats = statement.run(&self.cluster, 2).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        statement.publish(1);
        self.plain.sql(&sql(&theirs)).await.unwrap().collect().await.unwrap();
        let ctx = SessionContext::new();
        for (name, place) in [("ours", &ours), ("theirs", &theirs)] {
            let sql = format!("CREATE EXTERNAL TABLE {name} {table} LOCATION '{place}'");
            ctx.sql(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).collect().await.unwrap();
        }
        let (left, right) =
            (rows(&ctx, "SELECT * FROM ours").await, rows(&ctx, "SELECT * FROM theirs").await);
        let differs = left.lines().zip(right.lines()).find(|(left, right)| left != right);
        assert!(left == right, "{name}: read otherwise than what DataFusion wrote: {differs:?}");
        let total: u64 = stats.iter().map(|stats| stats.rows).sum();
        assert_eq!(total, left.lines().count() as u64 - 4, "{name}");
        self.sizes_are_as_told(&statement, &ours, &stats);
        statement
    }

    fn sizes_are_as_told(&self, statement: &Statement, place: &str, stats: &[PartitionStats]) {
        let folder = Path::new(place);
        if statement.target.single_file {
            assert_eq!(std::fs::metadata(folder).unwrap().len(), stats[0].bytes);
            return;
        }
        let mut sizes = BTreeMap::<u32, u64>::new();
        for file in files(folder) {
            let name = file.rsplit('/').next().unwrap();
            assert!(name.starts_with(&statement.target.published_prefix(JOB)), "{file}");
            let partition: u32 = name.split('-').nth(1).unwrap().parse().unwrap();
            *sizes.entry(partition).or_default() += std::fs::metadata(folder.join(&file)).unwrap().len();
        }
        for (partition, stats) in (0..).zip(stats) {
            assert_eq!(sizes.get(&partition).copied().unwrap_or(0), stats.bytes, "{place} {partition}");
        }
    }
}

const QUERY: &str =
    "SELECT l_orderkey, l_linenumber, l_quantity, l_shipdate, l_returnflag, l_comment FROM lineitem";

#[tokio::test]
async fn every_format_is_read_back_as_if_datafusion_had_written_it() {
    let setting = Setting::new().await;
    let formats = [
        ("a.parquet", "STORED AS PARQUET", "STORED AS PARQUET"),
        ("z.parquet", "STORED AS PARQUET OPTIONS ('format.compression' 'zstd(3)')", "STORED AS PARQUET"),
        (
            "a.csv",
            "STORED AS CSV OPTIONS ('format.has_header' 'true', 'format.delimiter' ';')",
            "STORED AS CSV OPTIONS ('format.has_header' 'true', 'format.delimiter' ';')",
        ),
        (
            "g.csv.gz",
            "STORED AS CSV OPTIONS ('format.compression' 'gzip', 'format.has_header' 'false')",
            "STORED AS CSV OPTIONS ('format.compression' 'gzip', 'format.has_header' 'false')",
        ),
        ("a.json", "STORED AS JSON", "STORED AS JSON"),
        (
            "g.json.gz",
            "STORED AS JSON OPTIONS ('format.compression' 'gzip')",
            "STORED AS JSON OPTIONS ('format.compression' 'gzip')",
        ),
    ];
    for (name, rest, table) in formats {
        let extension = name.split_once('.').unwrap().1;
        let one = setting.copy(name, QUERY, rest, table).await;
        assert!(one.target.single_file && one.target.url.ends_with(name), "{:?}", one.target);
        assert_eq!(one.graph.last().unwrap().tasks, 1, "{}", one.graph);
        let folder = name.replace('.', "_") + "/";
        let many = setting.copy(&folder, QUERY, rest, table).await;
        assert_eq!(many.target.extension, format!(".{extension}"));
        assert_eq!(many.graph.last().unwrap().tasks, 3, "{}", many.graph);
    }
}

#[tokio::test]
async fn rows_go_to_folders_by_the_values_of_columns() {
    let setting = Setting::new().await;
    let by_day = "SELECT l_comment, l_quantity, l_orderkey % 3 = 0 AS third, l_shipdate AS day FROM lineitem \
                  WHERE l_orderkey < 3000";
    let rest = "STORED AS PARQUET PARTITIONED BY (third, day)";
    let table = "STORED AS PARQUET PARTITIONED BY (third, day)";
    let written = setting.copy("days/", by_day, rest, table).await;
    let found = files(Path::new(&setting.place("ours/days")));
    assert!(found.len() > 1_000, "{}", found.len());
    assert!(
        found
            .iter()
            .all(|file| file.starts_with("third=true/day=19") || file.starts_with("third=false/day=19"))
    );
    // One file a task and value: that is what sorting is for.
    let mut by_task: Vec<_> = found.iter().map(|file| file.rsplit_once('-').unwrap().0.to_owned()).collect();
    by_task.dedup();
    assert_eq!(by_task.len(), found.len());
    assert!(
        written.graph.to_string().contains("SortExec: expr=[third@2 ASC, day@3 ASC]"),
        "{}",
        written.graph
    );

    // Values that a path can't hold as they are, an empty one, and numbers.
    let odd = "SELECT v, CASE k % 4 WHEN 0 THEN '' WHEN 1 THEN 'a/b%c=d' WHEN 2 THEN 'é ü' ELSE '..' END AS s, \
               arrow_cast(k - 3, 'Int16') AS n, arrow_cast(k / 2.0, 'Float32') AS f \
               FROM spread WHERE k IS NOT NULL";
    let table = "(v DOUBLE, s VARCHAR, n SMALLINT, f REAL) STORED AS CSV PARTITIONED BY (s, n, f) \
                 OPTIONS ('format.has_header' 'true')";
    let rest = "STORED AS CSV PARTITIONED BY (s, n, f) OPTIONS ('format.has_header' 'true')";
    setting.copy("odd/", odd, rest, table).await;
    // The columns stay in the files too, if wished.
    let rest =
        "STORED AS JSON PARTITIONED BY (n_regionkey) OPTIONS ('execution.keep_partition_by_columns' 'true')";
    let query = "SELECT n_name, n_regionkey FROM nation";
    setting.copy("kept/", query, rest, "(n_name VARCHAR, n_regionkey BIGINT) STORED AS JSON").await;
}

#[tokio::test]
async fn rows_are_added_to_a_table() {
    let setting = Setting::new().await;
    let place = setting.place("t");
    let table = format!(
        "CREATE EXTERNAL TABLE t (k INT, n BIGINT, s VARCHAR) STORED AS CSV PARTITIONED BY (s) LOCATION '{place}/' \
         OPTIONS ('format.compression' 'gzip', 'format.has_header' 'true')"
    );
    let ours = SessionContext::new_with_state(setting.cluster.state.clone());
    ours.sql(&table).await.unwrap();
    let cluster = Cluster {
        state: ours.state(),
        extensions: setting.cluster.extensions.clone(),
        spills: false,
        adapts: false,
        filters: RuntimeFilters::default(),
        builds: Arc::default(),
    };
    for (first, counter) in [(0, 0), (1, 1)] {
        let sql = format!(
            "INSERT INTO t (n, s) SELECT count(*) AS c, o_orderpriority FROM orders WHERE o_orderkey % 2 = {first} \
             GROUP BY o_orderpriority"
        );
        let insert = statement(&cluster, &sql).await.unwrap();
        assert_eq!(insert.target.extension, ".csv.gz", "as the table reads them");
        assert!(insert.graph.stages.len() > 1, "{}", insert.graph);
        let stats = insert.run(&cluster, counter + 1).await.unwrap();
        assert_eq!(stats.iter().map(|stats| stats.rows).sum::<u64>(), 5);
        insert.publish(counter);
        // Another job would have other names.
        if first == 0 {
            for file in files(Path::new(&place)) {
                let kept = file.replace(&JOB.to_string(), "first");
                std::fs::rename(Path::new(&place).join(&file), Path::new(&place).join(kept)).unwrap();
            }
        }
    }
    let read = "SELECT s, sum(n) FROM t WHERE k IS NULL GROUP BY s";
    let expected =
        "SELECT o_orderpriority AS s, count(*) AS \"sum(t.n)\" FROM orders GROUP BY o_orderpriority";
    assert_eq!(rows(&ours, read).await, rows(&setting.plain, expected).await);
}

#[tokio::test]
async fn one_file_keeps_the_order_of_the_rows() {
    let setting = Setting::new().await;
    let place = setting.place("sorted.csv");
    let query = "SELECT o_totalprice, o_orderkey FROM orders ORDER BY o_totalprice DESC, o_orderkey";
    let sql = format!("COPY ({query}) TO '{place}' STORED AS CSV OPTIONS ('format.has_header' 'true')");
    let copy = statement(&setting.cluster, &sql).await.unwrap();
    copy.run(&setting.cluster, 1).await.unwrap();
    copy.publish(0);
    let text = std::fs::read_to_string(&place).unwrap();
    let expected = setting.plain.sql(query).await.unwrap().collect().await.unwrap();
    let mut keys = vec![];
    for batch in &expected {
        use datafusion::arrow::{array::AsArray, datatypes::Int64Type};
        keys.extend(batch.column(1).as_primitive::<Int64Type>().values().iter().copied());
    }
    let written: Vec<i64> =
        text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(written, keys);
    assert!(text.starts_with("o_totalprice,o_orderkey\n"));
}

#[tokio::test]
async fn without_rows_there_is_a_file_only_if_one_was_named() {
    let setting = Setting::new().await;
    let query = "SELECT a, b FROM empty";
    for (name, rest) in [("e.csv", "STORED AS CSV"), ("e.parquet", ""), ("e.json", "")] {
        let sql = format!("COPY ({query}) TO '{}' {rest}", setting.place(name));
        let copy = statement(&setting.cluster, &sql).await.unwrap();
        let stats = copy.run(&setting.cluster, 1).await.unwrap();
        copy.publish(0);
        let size = std::fs::metadata(setting.place(name)).unwrap().len();
        assert_eq!(stats, [PartitionStats { rows: 0, bytes: size }], "{name}");
    }
    let ctx = SessionContext::new();
    let sql = format!("SELECT a, b FROM '{}'", setting.place("e.parquet"));
    let enabled = ctx.enable_url_table();
    assert!(enabled.sql(&sql).await.unwrap().collect().await.unwrap().iter().all(|b| b.num_rows() == 0));
    let sql = format!("COPY ({query}) TO '{}/' STORED AS PARQUET", setting.place("e"));
    let copy = statement(&setting.cluster, &sql).await.unwrap();
    assert_eq!(copy.run(&setting.cluster, 1).await.unwrap(), [PartitionStats::default()]);
    assert!(copy.staged().is_empty());
}

#[tokio::test]
async fn large_outputs_are_several_files() {
    let setting = Setting::new().await;
    let mut state = setting.cluster.state.clone();
    let options = state.config_mut().options_mut();
    options.set("datafusion.execution.soft_max_rows_per_output_file", "3000").unwrap();
    // Parts of a multipart upload, as large files are written.
    options.set("datafusion.execution.objectstore_writer_buffer_size", "4096").unwrap();
    let cluster = Cluster {
        state,
        extensions: setting.cluster.extensions.clone(),
        spills: false,
        adapts: false,
        filters: RuntimeFilters::default(),
        builds: Arc::default(),
    };
    let place = setting.place("many");
    let sql = format!("COPY (SELECT o_orderkey, o_comment FROM orders) TO '{place}/' STORED AS CSV");
    let copy = statement(&cluster, &sql).await.unwrap();
    let stats = copy.run(&cluster, 1).await.unwrap();
    copy.publish(0);
    let found = files(Path::new(&place));
    assert_eq!(found.len(), 6, "15,000 rows in three tasks: {found:?}");
    setting.sizes_are_as_told(&copy, &place, &stats);
}
