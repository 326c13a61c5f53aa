//! When a plan is taken from the cache, and when it must not be.

use super::*;

impl Fixture {
    /// Whether the query's plan was taken from the cache.
    async fn hits(&self, sql: &str) -> bool {
        let before = self.front.plans.hits();
        self.job(sql).await;
        self.front.plans.hits() > before
    }

    /// Plans it once, and checks that it is taken from the cache from then on.
    async fn keep(&self, sql: &str) {
        assert!(!self.hits(sql).await, "'{sql}' was there already");
        assert!(self.hits(sql).await, "'{sql}' was not kept");
    }

    async fn with_options(&self, sql: &str, options: &[(&str, &str)]) -> JobPlan {
        let around = self.front.surroundings(&self.state, Some(&self.session));
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let statement = Statement::Sql(sql.to_owned());
        let request = Request { statement, session: None, options: options.collect() };
        let Planned::Job(job) = self.front.plan(request, around).await.unwrap() else { panic!("no job") };
        *job
    }
}

/// A front with a table `t` of one file in a store of the program's own.
async fn over_own_store(extensions: Extensions) -> (Fixture, Arc<dyn ObjectStore>) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store.put(&"t/1.csv".into(), "a\n1\n".into()).await.unwrap();
    let object_stores = vec![(url::Url::parse("mine://host").unwrap(), Arc::clone(&store))];
    let extensions = Extensions { object_stores, ..extensions };
    let front = Front::new(extensions, Env::production(1).unwrap(), Duration::from_secs(30), None).unwrap();
    let mut fixture = Fixture { front, ..Fixture::new() };
    fixture.run("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'mine://host/t/'").await;
    (fixture, store)
}

#[tokio::test]
async fn a_repeated_query_is_not_planned_again() {
    let fixture = Fixture::with_table().await;
    for sql in [
        "SELECT b, count(*) AS n FROM t GROUP BY b ORDER BY b",
        "SELECT 1",
        "WITH RECURSIVE x AS (SELECT a FROM t UNION ALL SELECT a + 1 FROM x WHERE a < 9) SELECT * FROM x",
        "SELECT a, row_number() OVER (ORDER BY a) FROM t WHERE b IN (SELECT b FROM t)",
        "SELECT a FROM t LIMIT 1",
    ] {
        let first = fixture.job(sql).await;
        assert!(fixture.hits(sql).await, "'{sql}' was not kept");
        let second = fixture.job(sql).await;
        assert_eq!((&first.sql, &first.graph), (&second.sql, &second.graph));
        assert_eq!((&first.options, &first.schema), (&second.options, &second.schema));
        assert_eq!((first.ordered, first.width), (second.ordered, second.width));
    }
    assert!(!fixture.hits("SELECT  1").await, "another text is another statement");
    // Planning that is noted is planning as ever.
    let sql = "SELECT b FROM t WHERE a > 1";
    let noted = fixture.job(sql).await;
    let analyzed = fixture.job(&format!("EXPLAIN ANALYZE {sql}")).await;
    assert_eq!((noted.graph, noted.options), (analyzed.graph, analyzed.options));
}

#[tokio::test]
async fn a_file_that_comes_goes_or_changes_is_seen() {
    let mut fixture = Fixture::new();
    fixture.write("d/1.csv", "a\n1\n");
    let folder = fixture.path("d");
    fixture.run(&format!("CREATE EXTERNAL TABLE d STORED AS CSV LOCATION '{folder}/'")).await;
    let file = fixture.path("d/1.csv");
    fixture.run(&format!("CREATE EXTERNAL TABLE f STORED AS CSV LOCATION '{file}'")).await;
    let (of_folder, of_file) = ("SELECT a FROM d", "SELECT a FROM f");
    fixture.keep(of_folder).await;
    fixture.keep(of_file).await;
    fixture.write("d/2.csv", "a\n2\n");
    assert!(displays(&fixture.job(of_folder).await).contains("2.csv"));
    assert!(fixture.hits(of_folder).await && fixture.hits(of_file).await);
    // Appended, and replaced by a file of the same size.
    fixture.write("d/1.csv", "a\n1\n3\n");
    assert!(!fixture.hits(of_folder).await && !fixture.hits(of_file).await);
    assert!(fixture.hits(of_folder).await && fixture.hits(of_file).await);
    fixture.write("new.csv", "a\n1\n4\n");
    fs::rename(fixture.path("new.csv"), &file).unwrap();
    assert!(!fixture.hits(of_folder).await && !fixture.hits(of_file).await);
    assert!(fixture.hits(of_folder).await && fixture.hits(of_file).await);
    fs::remove_file(&file).unwrap();
    let left = displays(&fixture.job(of_folder).await);
    assert!(left.contains("2.csv") && !left.contains("1.csv"), "{left}");
    assert!(!displays(&fixture.job(of_file).await).contains("1.csv"));
    // A file may come in the place of a folder, which a list does not tell of: without files nothing is kept.
    fs::remove_dir_all(&folder).unwrap();
    assert!(!fixture.hits(of_folder).await && !fixture.hits(of_folder).await);
}

#[tokio::test]
async fn other_options_and_another_fleet_make_another_plan() {
    let mut fixture = Fixture::with_table().await;
    let sql = "SELECT b, count(*) FROM t GROUP BY b";
    fixture.keep(sql).await;
    fixture.run("SET datafusion.execution.target_partitions = 3").await;
    let job = fixture.job(sql).await;
    assert_eq!(job.graph.stages.last().unwrap().tasks, 3, "{}", job.graph);
    assert!(fixture.hits(sql).await);
    fixture.run("RESET datafusion.execution.target_partitions").await;
    assert_eq!(fixture.job(sql).await.graph.stages.len(), 1, "the plan of before is kept beside the other");
    let before = fixture.front.plans.hits();
    let job = fixture.with_options(sql, &[("datafusion.execution.batch_size", "77")]).await;
    assert_eq!(job.options.get("datafusion.execution.batch_size").map(String::as_str), Some("77"));
    assert_eq!(fixture.front.plans.hits(), before);
    fixture.apply(register("executor-3", 4)).unwrap();
    assert!(!fixture.hits(sql).await, "there are more slots, of less memory each");
    assert!(fixture.hits(sql).await);
}

#[tokio::test]
async fn a_session_can_do_without() {
    let mut fixture = Fixture::with_table().await;
    fixture.raise_version();
    fixture.keep("SELECT a FROM t").await;
    fixture.run("SET polybolos.plan_cache = false").await;
    assert!(!fixture.hits("SELECT a FROM t").await && !fixture.hits("SELECT a FROM t").await);
    assert_eq!(fixture.front.plans.len(), 1);
    fixture.run("RESET polybolos.plan_cache").await;
    assert!(fixture.hits("SELECT a FROM t").await);
}

#[tokio::test]
async fn another_table_or_view_makes_another_plan() {
    let mut fixture = Fixture::with_table().await;
    fixture.run("CREATE VIEW v AS SELECT a FROM t").await;
    fixture.run("CREATE VIEW w AS SELECT a FROM v").await;
    let sql = "SELECT a FROM w";
    fixture.keep(sql).await;
    fixture.run("CREATE OR REPLACE VIEW v AS SELECT 7 AS a").await;
    assert!(!displays(&fixture.job(sql).await).contains("t.csv"));
    fixture.keep("SELECT a FROM t").await;
    let path = fixture.write("u.csv", "a\n1\n");
    fixture.run(&format!("CREATE OR REPLACE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'")).await;
    assert!(displays(&fixture.job("SELECT a FROM t").await).contains("u.csv"));
    fixture.run("DROP TABLE t").await;
    assert!(fixture.error("SELECT a FROM t").await.contains("not found"));
}

#[tokio::test]
async fn what_comes_out_differently_each_time_is_not_kept() {
    let mut fixture = Fixture::with_table().await;
    fixture.run("CREATE VIEW v AS SELECT a, now() AS n FROM t").await;
    for sql in [
        "SELECT now()",
        "SELECT current_date, a FROM t",
        "SELECT current_time",
        "SELECT current_timestamp, a FROM t",
        "SELECT random() FROM t",
        "SELECT uuid() FROM t",
        "SELECT n FROM v",
        "SELECT a FROM v",
        "SELECT a FROM t WHERE now() IS NOT NULL",
        "SELECT a FROM t WHERE b IN (SELECT b FROM t WHERE random() < 2)",
        "SELECT a, (SELECT max(n) FROM v) FROM t",
        "SELECT a FROM t ORDER BY random()",
        "SELECT sum(a + random()) OVER (PARTITION BY b) FROM t",
        "SELECT t.a FROM t JOIN t AS u ON t.a = u.a AND u.a < random() * 9",
        "WITH x AS (SELECT now() AS n) SELECT a FROM t, x",
        "SELECT value FROM generate_series(1, 3)",
        "SELECT t.a FROM t JOIN information_schema.columns c ON c.column_name = t.b",
        "EXPLAIN ANALYZE SELECT a FROM t",
    ] {
        assert!(!fixture.hits(sql).await && !fixture.hits(sql).await, "'{sql}' was kept");
    }
    assert_eq!(fixture.front.plans.len(), 0);
}

#[tokio::test]
async fn a_submitted_plan_is_kept_by_its_bytes() {
    let fixture = Fixture::new();
    let path = fixture.write("own.csv", "a\n1\n");
    let context = datafusion::prelude::SessionContext::new();
    context.register_csv("own", &path, Default::default()).await.unwrap();
    let plan = context.sql("SELECT a + 1 FROM own").await.unwrap().into_unoptimized_plan();
    let bytes = datafusion_proto::bytes::logical_plan_to_bytes(&plan).unwrap();
    let submit = || fixture.plan(Statement::LogicalPlan(bytes.clone()));
    for expected in [0, 1] {
        submit().await.unwrap();
        assert_eq!(fixture.front.plans.hits(), expected);
    }
    fixture.write("own.csv", "a\n1\n2\n");
    submit().await.unwrap();
    assert_eq!(fixture.front.plans.hits(), 1);
}

#[tokio::test]
async fn stores_are_asked_again_and_reached_as_before() {
    let (fixture, store) = over_own_store(Extensions::default()).await;
    let sql = "SELECT a FROM t";
    fixture.keep(sql).await;
    store.put(&"t/1.csv".into(), "a\n2\n".into()).await.unwrap();
    assert!(!fixture.hits(sql).await, "the file has another tag");
    assert!(fixture.hits(sql).await);
    let before = fixture.front.plans.hits();
    let region = ("polybolos.object_store.mine://host/aws.region", "eu-1");
    let job = fixture.with_options(sql, &[region]).await;
    assert_eq!(
        (job.options.get(region.0).map(String::as_str), fixture.front.plans.hits()),
        (Some("eu-1"), before)
    );
    let job = fixture.with_options(sql, &[region]).await;
    assert_eq!(
        (job.options.get(region.0).map(String::as_str), fixture.front.plans.hits()),
        (Some("eu-1"), before + 1)
    );
}

#[tokio::test]
async fn a_program_s_own_rules_and_tables_are_asked_each_time() {
    let rule = Arc::new(datafusion::optimizer::eliminate_limit::EliminateLimit::new());
    let extensions = Extensions { optimizer_rules: vec![rule], ..Extensions::default() };
    let (fixture, _store) = over_own_store(extensions).await;
    assert!(!fixture.hits("SELECT a FROM t").await && !fixture.hits("SELECT a FROM t").await);
    let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
        "a",
        arrow::datatypes::DataType::Int64,
        true,
    )]);
    let table = datafusion::datasource::MemTable::try_new(Arc::new(schema), vec![vec![]]).unwrap();
    let extensions =
        Extensions { tables: vec![("mine".to_owned(), Arc::new(table))], ..Extensions::default() };
    let (fixture, _store) = over_own_store(extensions).await;
    assert!(!fixture.hits("SELECT a FROM mine").await && !fixture.hits("SELECT a FROM mine").await);
    fixture.keep("SELECT a FROM t").await;
}
