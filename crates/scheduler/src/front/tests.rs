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

mod explain;
mod nesting;
mod plan_cache;
mod settings;
mod tables_and_views;
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
        memory_bytes: 1 << 30,
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
async fn a_front_is_busy_when_the_next_statement_would_wait() {
    let fixture = Fixture::new();
    assert!(!fixture.front.is_busy());
    let permits = u32::try_from(MAX_CONCURRENT_PLANNING).unwrap();
    let all = fixture.front.permits.acquire_many(permits).await.unwrap();
    assert!(fixture.front.is_busy());
    drop(all);
    assert!(!fixture.front.is_busy());
}

#[tokio::test]
async fn two_fronts_that_know_the_same_plan_against_the_same() {
    let (mut one, mut other) = (Fixture::new(), Fixture::new());
    let facts = |of: &Fixture| of.front.surroundings(&of.state, Some(&of.session)).facts();
    assert_eq!(facts(&one), facts(&other));
    one.run("SET datafusion.execution.batch_size = 10").await;
    assert_ne!(facts(&one), facts(&other));
    other.run("SET datafusion.execution.batch_size = 10").await;
    assert_eq!(facts(&one), facts(&other));
    one.run("CREATE VIEW v AS SELECT 1").await;
    assert_ne!(facts(&one), facts(&other));
    other.run("CREATE VIEW v AS SELECT 1").await;
    assert_eq!(facts(&one), facts(&other));
    one.apply(register("executor-3", 1)).unwrap();
    assert_ne!(facts(&one), facts(&other));
}

#[test]
fn queries_and_logical_plans_are_planned_anywhere() {
    let sql = |text: &str| Statement::Sql(text.to_owned()).is_planned_anywhere();
    assert!(sql("-- why\nselect 1") && sql("WITH a AS (SELECT 1) SELECT * FROM a"));
    for of_the_leader in [
        "-- select\nSET a = 1",
        "/* select */ -- select\nDROP TABLE t",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "COPY t TO 'x'",
        "INSERT INTO t VALUES (1)",
    ] {
        assert!(!sql(of_the_leader), "{of_the_leader}");
    }
    assert!(Statement::LogicalPlan(Bytes::new()).is_planned_anywhere());
}

#[tokio::test]
async fn select_1_is_a_job_of_one_task() {
    let job = Fixture::new().job("SELECT 1").await;
    assert_eq!((job.graph.stages.len(), job.graph.stages[0].tasks), (1, 1));
}

#[tokio::test]
async fn now_is_a_constant_in_the_plan() {
    let fixture = Fixture::with_table().await;
    let job = fixture.job("SELECT a, now() FROM t").await;
    assert!(!displays(&job).contains("now()@") && !displays(&job).contains("now() as"), "{}", displays(&job));
    assert!(displays(&job).contains("as now()"), "{}", displays(&job));
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
