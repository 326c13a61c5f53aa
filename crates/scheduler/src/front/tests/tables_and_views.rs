//! Tables and views.

use super::*;

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
