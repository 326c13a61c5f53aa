//! Statements against a state without a log, an executor or a network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod export;

use std::{fs, path::Path};

use arrow::{array::RecordBatch, util::pretty::pretty_format_batches};
use arrow_ipc::reader::StreamReader;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};
use polybolos_model::{SHUFFLE_DURABLE_LABEL, SHUFFLE_DURABLE_MODE_LABEL, Term};
use polybolos_state::{Change, Entry, Rejection};
use tempfile::TempDir;

use super::*;

mod writes;

struct Fixture {
    front: Front,
    state: ClusterState,
    folder: TempDir,
    session: SessionId,
}

impl Fixture {
    fn new() -> Self {
        let env = Env::production(2).unwrap();
        let front = Front::new(Extensions::default(), env, Duration::from_secs(30), None).unwrap();
        let mut fixture = Self {
            front,
            state: ClusterState::new("test"),
            folder: tempfile::tempdir().unwrap(),
            session: SessionId::new("s").unwrap(),
        };
        fixture.apply(register("executor-1", 2)).unwrap();
        fixture.apply(register("executor-2", 2)).unwrap();
        fixture
    }

    fn apply(&mut self, command: Command) -> Result<Change, Rejection> {
        let applied = self.state.apply(&Entry::new(self.state.version(), Term(1), 1, vec![command]));
        applied.outcomes.into_iter().next().unwrap()
    }

    async fn plan(&self, statement: Statement) -> Result<Planned, PlanningError> {
        let around = self.front.surroundings(&self.state, Some(&self.session));
        let request = Request { statement, session: Some(self.session.clone()), options: Options::new() };
        self.front.plan(request, around).await
    }

    async fn sql(&self, sql: &str) -> Result<Planned, PlanningError> {
        self.plan(Statement::Sql(sql.to_owned())).await
    }

    /// Plans and commits a statement that changes something.
    async fn run(&mut self, sql: &str) {
        match self.sql(sql).await.unwrap() {
            Planned::Commit(command) => self.apply(command).map(|_| ()).unwrap(),
            Planned::Inline(_) => {}
            Planned::Job(_) => panic!("'{sql}' became a job"),
        }
    }

    async fn job(&self, sql: &str) -> JobPlan {
        match self.sql(sql).await.unwrap() {
            Planned::Job(job) => *job,
            Planned::Inline(_) | Planned::Commit(_) => panic!("'{sql}' became no job"),
        }
    }

    /// The rows of a statement that is answered at once, as a table.
    async fn rows(&self, sql: &str) -> String {
        match self.sql(sql).await.unwrap() {
            Planned::Inline(stream) => pretty_format_batches(&batches(&stream)).unwrap().to_string(),
            Planned::Job(_) | Planned::Commit(_) => panic!("'{sql}' was not answered at once"),
        }
    }

    async fn error(&self, sql: &str) -> String {
        self.sql(sql).await.err().unwrap_or_else(|| panic!("'{sql}' was planned")).to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A table `t` of two rows.
    async fn with_table() -> Self {
        let mut fixture = Self::new();
        let path = fixture.write("t.csv", "a,b\n1,x\n2,y\n");
        fixture.run(&format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'")).await;
        fixture
    }
}

fn batches(stream: &[u8]) -> Vec<RecordBatch> {
    StreamReader::try_new(stream, None).unwrap().collect::<Result<_, _>>().unwrap()
}

fn register(name: &str, slots: u32) -> Command {
    Command::RegisterExecutor {
        executor: polybolos_model::ExecutorId::new(name).unwrap(),
        address: format!("{name}:1"),
        slots,
        memory_bytes: 1,
        labels: std::collections::BTreeMap::new(),
        process_id: 1,
    }
}

fn displays(job: &JobPlan) -> String {
    job.graph.to_string()
}

#[tokio::test]
async fn a_query_becomes_a_job_with_its_schema_and_order() {
    let fixture = Fixture::with_table().await;
    let job = fixture.job("SELECT b, a FROM t ORDER BY a").await;
    assert!(job.ordered);
    assert_eq!(job.sql, "SELECT b, a FROM t ORDER BY a");
    let schema = ipc::decode_schema(&job.schema).unwrap();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(job.graph.stages.len(), 1, "{}", job.graph);
    assert!(!fixture.job("SELECT a FROM t").await.ordered);
}

#[tokio::test]
async fn select_1_is_a_job_of_one_task() {
    let job = Fixture::new().job("SELECT 1").await;
    assert_eq!((job.graph.stages.len(), job.graph.stages[0].tasks), (1, 1));
}

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
async fn now_is_a_constant_in_the_plan() {
    let fixture = Fixture::with_table().await;
    let job = fixture.job("SELECT a, now() FROM t").await;
    assert!(!displays(&job).contains("now()@") && !displays(&job).contains("now() as"), "{}", displays(&job));
    assert!(displays(&job).contains("as now()"), "{}", displays(&job));
}

#[tokio::test]
async fn a_schema_is_inferred_once_and_files_are_listed_each_time() {
    let mut fixture = Fixture::new();
    fixture.write("d/1.csv", "a\n1\n");
    let folder = fixture.path("d");
    fixture.run(&format!("CREATE EXTERNAL TABLE d STORED AS CSV LOCATION '{folder}/'")).await;
    let one = displays(&fixture.job("SELECT * FROM d").await);
    assert!(one.contains("1.csv") && !one.contains("2.csv"), "{one}");
    fixture.write("d/2.csv", "a\n2\n");
    let two = displays(&fixture.job("SELECT * FROM d").await);
    assert!(two.contains("1.csv") && two.contains("2.csv"), "{two}");
    fs::remove_dir_all(&folder).unwrap();
    assert!(displays(&fixture.job("SELECT a FROM d").await).contains("EmptyExec"));
}

#[tokio::test]
async fn folders_of_hive_partitions_become_columns() {
    let mut fixture = Fixture::new();
    fixture.write("h/day=1/x.csv", "a\n1\n");
    fixture.write("h/day=2/x.csv", "a\n2\n");
    let folder = fixture.path("h");
    fixture
        .run(&format!("CREATE EXTERNAL TABLE h STORED AS CSV PARTITIONED BY (day) LOCATION '{folder}/'"))
        .await;
    let pruned = displays(&fixture.job("SELECT a FROM h WHERE day = '2'").await);
    assert!(pruned.contains("day=2") && !pruned.contains("day=1"), "{pruned}");
    let described = fixture.rows("DESCRIBE h").await;
    assert!(described.contains("day"), "{described}");
}

#[tokio::test]
async fn globs_and_json_and_options_work() {
    let mut fixture = Fixture::new();
    fixture.write("g/1.txt", "1;x\n");
    fixture.write("g/2.log", "2;y\n");
    let folder = fixture.path("g");
    let options = "OPTIONS('format.has_header' 'false', 'format.delimiter' ';')";
    fixture.run(&format!("CREATE EXTERNAL TABLE g STORED AS CSV LOCATION '{folder}/*.txt' {options}")).await;
    let plan = displays(&fixture.job("SELECT * FROM g").await);
    assert!(plan.contains("1.txt") && !plan.contains("2.log") && plan.contains("column_2"), "{plan}");
    let path = fixture.write("j.json", "{\"k\": 1}\n{\"k\": 2}\n");
    fixture.run(&format!("CREATE EXTERNAL TABLE j STORED AS JSON LOCATION '{path}'")).await;
    assert!(displays(&fixture.job("SELECT k FROM j").await).contains("json"));
}

#[tokio::test]
async fn a_table_without_files_names_its_path() {
    let fixture = Fixture::new();
    let missing = fixture.path("nope.parquet");
    let error =
        fixture.error(&format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{missing}'")).await;
    assert_eq!(error, format!("no file was found at '{missing}'"));
    let cut = fixture.write("cut.parquet", "PAR1 and no more");
    let error = fixture.error(&format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{cut}'")).await;
    assert!(error.contains(&cut) && error.contains("schema"), "{error}");
    let error = fixture.error(&format!("CREATE EXTERNAL TABLE t STORED AS WORD LOCATION '{cut}'")).await;
    assert!(error.contains("WORD"), "{error}");
}

#[tokio::test]
async fn if_not_exists_looks_at_no_file() {
    let mut fixture = Fixture::with_table().await;
    fixture.run("CREATE EXTERNAL TABLE IF NOT EXISTS t STORED AS CSV LOCATION '/nowhere.csv'").await;
    let path = fixture.path("t.csv");
    let again =
        fixture.sql(&format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'")).await.unwrap();
    let Planned::Commit(command) = again else { panic!("no command") };
    assert!(matches!(fixture.apply(command), Err(Rejection::RelationExists { .. })));
    fixture.run(&format!("CREATE OR REPLACE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'")).await;
}

#[tokio::test]
async fn views_read_views_and_change_with_them() {
    let mut fixture = Fixture::with_table().await;
    fixture.run("CREATE VIEW v AS SELECT a + 1 AS c FROM t").await;
    fixture.run("CREATE VIEW w AS SELECT c * 2 AS d FROM v").await;
    assert!(displays(&fixture.job("SELECT d FROM w").await).contains("t.csv"));
    fixture.run("CREATE OR REPLACE VIEW v AS SELECT 7 AS c").await;
    assert!(!displays(&fixture.job("SELECT d FROM w").await).contains("t.csv"));
    fixture.run("DROP VIEW v").await;
    assert!(fixture.error("SELECT d FROM w").await.contains("'datafusion.public.v' not found"));
    // A view that can't be read does not break the catalogue for others.
    let tables = fixture.rows("SHOW TABLES").await;
    assert!(tables.contains("| w ") && tables.contains("| t "), "{tables}");
    let columns =
        fixture.rows("SELECT table_name FROM information_schema.columns WHERE table_schema = 'public'").await;
    assert!(columns.contains("| t "), "{columns}");
}

#[tokio::test]
async fn a_view_must_not_read_itself() {
    let mut fixture = Fixture::with_table().await;
    fixture.run("CREATE VIEW v AS SELECT a FROM t").await;
    fixture.run("CREATE VIEW w AS SELECT a FROM v").await;
    let error = fixture.error("CREATE OR REPLACE VIEW v AS SELECT a FROM w").await;
    assert_eq!(error, "view 'v' would read itself, through w");
    // Two at once can, and then a query says so.
    let name =
        |name: &str| polybolos_state::RelationName { schema: "public".to_owned(), name: name.to_owned() };
    let sql = "CREATE VIEW v AS SELECT a FROM w".to_owned();
    fixture
        .apply(Command::CreateView { name: name("v"), sql, or_replace: true, if_not_exists: false })
        .unwrap();
    assert!(fixture.error("SELECT * FROM v").await.contains("would read itself"));
    let error = fixture.error("CREATE VIEW x AS SELECT 1 AS a, 2 AS A, 3 AS a").await;
    assert!(error.contains("unique") || error.contains("two columns"), "{error}");
}

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

#[tokio::test]
async fn the_catalogue_is_answered_here_and_mixed_queries_by_the_cluster() {
    let fixture = Fixture::with_table().await;
    let shown = fixture.rows("SHOW COLUMNS FROM t").await;
    assert!(shown.contains("| a ") && shown.contains("Int64"), "{shown}");
    assert!(fixture.rows("SHOW ALL").await.contains("datafusion.execution.batch_size"));
    let mixed = "SELECT t.a FROM t JOIN information_schema.columns c ON c.column_name = t.b";
    let job = fixture.job(mixed).await;
    assert!(displays(&job).contains("t.csv"), "{}", displays(&job));
    let subquery = "SELECT a FROM t WHERE b IN (SELECT column_name FROM information_schema.columns)";
    assert!(displays(&fixture.job(subquery).await).contains("t.csv"));
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

#[tokio::test]
async fn wrong_and_unsupported_statements_say_what_is_wrong() {
    let mut fixture = Fixture::with_table().await;
    for (sql, expected) in [
        ("SELEC 1", "syntax error"),
        ("", "empty"),
        (" ; ", "empty"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELECT * FROM nowhere", "'datafusion.public.nowhere' not found"),
        ("SELECT colour FROM t", "colour"),
        ("CREATE SCHEMA s", "CREATE SCHEMA is not supported"),
        ("BEGIN", "not supported"),
        ("COMMIT", "not supported"),
        ("EXPLAIN DROP TABLE t", "not supported"),
        ("CREATE VIEW other.v AS SELECT 1", "one schema"),
    ] {
        let error = fixture.error(sql).await;
        assert!(error.contains(expected), "'{sql}': {error}");
    }
    let long = format!("SELECT 1 -- {}", "x".repeat(polybolos_model::limits::MAX_SQL_BYTES));
    assert!(matches!(fixture.sql(&long).await, Err(PlanningError::SqlTooLong { .. })));
    fixture.run("DROP TABLE t").await;
    assert!(fixture.error("SELECT * FROM t").await.contains("not found"));
    fixture.run("DROP TABLE IF EXISTS t").await;
}

#[tokio::test]
async fn a_logical_plan_brings_its_own_tables() {
    let fixture = Fixture::new();
    let path = fixture.write("own.csv", "a\n1\n");
    let context = datafusion::prelude::SessionContext::new();
    context.register_csv("own", &path, Default::default()).await.unwrap();
    let plan = context.sql("SELECT a + 1 FROM own").await.unwrap().into_unoptimized_plan();
    let bytes = datafusion_proto::bytes::logical_plan_to_bytes(&plan).unwrap();
    let Planned::Job(job) = fixture.plan(Statement::LogicalPlan(bytes)).await.unwrap() else {
        panic!("no job")
    };
    assert!(displays(&job).contains("own.csv"), "{}", displays(&job));
    let garbage = fixture.plan(Statement::LogicalPlan(Bytes::from_static(b"no plan"))).await;
    assert!(matches!(garbage, Err(PlanningError::DataFusion(_))));
}

#[tokio::test]
async fn secrets_of_a_store_are_not_shown_and_go_with_the_job() {
    let mut fixture = Fixture::new();
    let sql = "CREATE EXTERNAL TABLE s (a INT) STORED AS CSV LOCATION 's3://bucket/x/' OPTIONS('aws.region' 'eu-1', \
               'aws.access_key_id' 'me', 'aws.secret_access_key' 'hush-hush', 'aws.endpoint' 'http://127.0.0.1:1', \
               'aws.allow_http' 'true', 'format.has_header' 'false')";
    let Planned::Commit(command) = fixture.sql(sql).await.unwrap() else { panic!("no command") };
    let Command::CreateTable { table, .. } = &command else { panic!("no table") };
    assert!(table.ddl.contains("aws.region") && !table.ddl.contains("hush-hush"), "{}", table.ddl);
    assert_eq!(tables::store_options(table).unwrap().get("aws.secret_access_key").unwrap(), "hush-hush");
    fixture.apply(command).unwrap();
    // Another replica knows the store from the catalogue alone.
    let other = Fixture { state: fixture.state.clone(), ..Fixture::new() };
    assert!(other.rows("DESCRIBE s").await.contains("| a "));
    let url = url::Url::parse("s3://bucket/x/").unwrap();
    let options = other.front.catalogue.stores.job_options(&url);
    let secret = options.iter().find(|(key, _)| key.ends_with("s3://bucket/aws.secret_access_key"));
    assert_eq!(secret.map(|(_, value)| value.as_str()), Some("hush-hush"));
    let error = fixture.error("CREATE EXTERNAL TABLE g STORED AS CSV LOCATION 'gs://bucket/x/'").await;
    assert!(error.contains("gs://bucket"), "{error}");
    assert!(Path::new(&fixture.path("")).exists());
}

#[tokio::test]
async fn tables_live_in_the_stores_of_the_program_too() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store.put(&"t/1.csv".into(), "a\n1\n".into()).await.unwrap();
    let object_stores = vec![(url::Url::parse("mine://host").unwrap(), store)];
    let extensions = Extensions { object_stores, ..Extensions::default() };
    let front = Front::new(extensions, Env::production(1).unwrap(), Duration::from_secs(30), None).unwrap();
    let mut fixture = Fixture { front, ..Fixture::new() };
    fixture.run("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'mine://host/t/'").await;
    assert!(displays(&fixture.job("SELECT a FROM t").await).contains("t/1.csv"));
    let error = fixture.error("CREATE EXTERNAL TABLE u STORED AS CSV LOCATION 'mine://other/t/'").await;
    assert!(error.contains("mine://other"), "{error}");
}

#[tokio::test]
async fn provided_tables_come_first_and_stay() {
    let table =
        datafusion::datasource::MemTable::try_new(Arc::new(arrow::datatypes::Schema::empty()), vec![vec![]]);
    let extensions =
        Extensions { tables: vec![("mine".to_owned(), Arc::new(table.unwrap()))], ..Extensions::default() };
    let front = Front::new(extensions, Env::production(1).unwrap(), Duration::from_secs(30), None).unwrap();
    let fixture = Fixture { front, ..Fixture::new() };
    assert!(fixture.rows("SHOW TABLES").await.contains("| mine "));
    assert!(fixture.error("DROP TABLE mine").await.contains("provided by the program"));
    assert_eq!(fixture.front.relation_names(fixture.state.catalogue()), ["mine"]);
}
