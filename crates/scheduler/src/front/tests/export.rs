//! What an export knows of the tables and views that a statement reads.

use super::*;
use crate::front::{Options, Relations};

async fn relations(fixture: &Fixture, sql: &str) -> Relations {
    let around = fixture.front.surroundings(&fixture.state, None);
    fixture.front.relations(sql.to_owned(), Options::new(), around).await.unwrap()
}

#[tokio::test]
async fn schemas_and_sizes_are_told_through_views_and_locations_are_not() {
    let mut fixture = Fixture::with_table().await;
    fixture.run("CREATE VIEW inner_view AS SELECT a, b FROM t").await;
    fixture.run("CREATE VIEW outer_view AS SELECT a FROM inner_view").await;
    let sql =
        "EXPLAIN ANALYZE SELECT count(*) FROM outer_view, generate_series(1, 3) WHERE a IN (SELECT a FROM t)";
    let found = relations(&fixture, sql).await;
    let [table] = found.tables.as_slice() else { panic!("{found:?}") };
    let columns: Vec<(&str, &str)> =
        table.columns.iter().map(|column| (column.name.as_str(), column.arrow_type.as_str())).collect();
    assert_eq!((table.name.as_str(), table.format.as_str(), table.files), ("t", "csv", Some(1)));
    assert_eq!(columns, [("a", "Int64"), ("b", "Utf8")]);
    assert!(table.bytes.is_some_and(|bytes| bytes > 0), "{table:?}");
    let views: Vec<&str> = found.views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(views, ["inner_view", "outer_view"]);
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    assert!(!serde_json::to_string(&found.tables).unwrap().contains(fixture.path("").as_str()));
}

#[tokio::test]
async fn a_table_that_is_gone_is_said_to_be() {
    let fixture = Fixture::with_table().await;
    let found = relations(&fixture, "SELECT 1 FROM t, gone").await;
    assert_eq!(found.tables.len(), 1);
    assert!(matches!(found.notes.as_slice(), [note] if note.contains("'gone'")), "{:?}", found.notes);
}

#[tokio::test]
async fn secrets_of_stores_are_known_to_be_hidden() {
    let mut fixture = Fixture::new();
    let table = "CREATE EXTERNAL TABLE s (a INT) STORED AS CSV LOCATION 's3://bucket/x/' OPTIONS('aws.region' 'eu-1', \
                 'aws.access_key_id' 'me', 'aws.secret_access_key' 'hush-hush', 'aws.endpoint' 'http://127.0.0.1:1', \
                 'aws.allow_http' 'true', 'format.has_header' 'false')";
    fixture.run(table).await;
    let found = relations(&fixture, "SELECT a FROM s WHERE a = 1").await;
    assert_eq!(found.secrets.clean("the key hush-hush was refused"), "the key *** was refused");
    let [table] = found.tables.as_slice() else { panic!("{found:?}") };
    assert_eq!((table.name.as_str(), table.columns.len()), ("s", 1));
    let text = format!("{:?} {:?} {:?}", found.tables, found.views, found.notes);
    assert!(!text.contains("hush-hush") && !text.contains("bucket"), "{text}");
    let job_options = Options::from([(
        "polybolos.object_store.s3://b/aws.session_token".to_owned(),
        "token-of-the-job".to_owned(),
    )]);
    let none = fixture.front.no_relations(&job_options);
    assert_eq!(none.secrets.clean("token-of-the-job"), "***");
}
