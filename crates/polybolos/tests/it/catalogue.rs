//! Tables of files, views, and what tells about them.

use std::path::Path;

use polybolos::Client;
use polybolos_client::ClientError;

use crate::support::{cluster, column, failure, orders, rows, value, write, write_parquet};

async fn create(client: &Client, name: &str, format: &str, location: &Path, rest: &str) {
    let location = location.display();
    let sql = format!("CREATE EXTERNAL TABLE {name} STORED AS {format} LOCATION '{location}' {rest}");
    client.query(sql.as_str()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_folders_globs_and_hive_partitions_of_each_format() {
    let cluster = cluster().await;
    let client = cluster.client();
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    write(&at("csv/a.csv"), "a,b\n1,x\n2,y\n");
    write(&at("csv/b.csv"), "a,b\n3,z\n");
    write(&at("csv/note.txt"), "not a table\n");
    write(&at("json/a.json"), "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":null}\n");
    for year in [2001, 2002] {
        write_parquet(&at(&format!("hive/year={year}/part.parquet")), &orders(year..year + 10));
    }

    create(&client, "file", "CSV", &at("csv/a.csv"), "OPTIONS ('format.has_header' 'true')").await;
    assert_eq!(value(&client, "SELECT sum(a) FROM file").await, "3");
    create(&client, "glob", "CSV", &at("csv/*.csv"), "OPTIONS ('format.has_header' 'true')").await;
    assert_eq!(value(&client, "SELECT sum(a) FROM glob").await, "6");
    create(&client, "objects", "JSON", &at("json/"), "").await;
    assert_eq!(value(&client, "SELECT count(b) FROM objects").await, "1");
    create(&client, "hive", "PARQUET", &at("hive/"), "PARTITIONED BY (year)").await;
    assert_eq!(value(&client, "SELECT count(*) FROM hive WHERE year = '2002'").await, "10");
    assert_eq!(value(&client, "SELECT min(id) FROM hive WHERE year = '2002'").await, "2002");
    create(&client, "one", "PARQUET", &at("hive/year=2001/part.parquet"), "").await;
    assert_eq!(value(&client, "SELECT max(id) FROM one").await, "2010");

    let columns = client.query("DESCRIBE file").await.unwrap();
    assert_eq!(column(&columns.batches, "column_name"), ["a", "b"]);
    let tables = client.query("SHOW TABLES").await.unwrap();
    let names = column(&tables.batches, "table_name");
    for name in ["file", "glob", "hive", "objects", "one"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    assert_eq!(client.relations().await.unwrap(), ["file", "glob", "hive", "objects", "one"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_drops_and_information_schema() {
    let cluster = cluster().await;
    let client = cluster.client();
    let folder = tempfile::tempdir().unwrap();
    write_parquet(&folder.path().join("t.parquet"), &orders(0..100));
    create(&client, "t", "PARQUET", &folder.path().join("t.parquet"), "").await;

    client.query("CREATE VIEW small AS SELECT id, amount FROM t WHERE id < 10").await.unwrap();
    client.query("CREATE VIEW smaller AS SELECT id FROM small WHERE id < 5").await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) FROM smaller").await, "5");
    client.query("CREATE OR REPLACE VIEW small AS SELECT id FROM t WHERE id < 3").await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) FROM smaller").await, "3");
    let types = "SELECT table_name, table_type FROM information_schema.tables \
                 WHERE table_schema = 'public' ORDER BY table_name";
    let types = rows(&client, types).await;
    assert!(types.contains("| small") && types.contains("VIEW") && types.contains("BASE TABLE"), "{types}");
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 't'";
    let columns = client.query(columns).await.unwrap();
    assert_eq!(column(&columns.batches, "column_name"), ["amount", "customer", "id", "note"]);

    // Twice is an error, unless it is asked for.
    let again = format!("STORED AS PARQUET LOCATION '{}/t.parquet'", folder.path().display());
    let error = failure(&client, &format!("CREATE EXTERNAL TABLE t {again}")).await;
    assert!(
        matches!(&error, ClientError::Statement { message } if message.contains("already exists")),
        "{error}"
    );
    client.query(format!("CREATE EXTERNAL TABLE IF NOT EXISTS t {again}")).await.unwrap();

    client.query("DROP VIEW smaller").await.unwrap();
    client.query("DROP TABLE t").await.unwrap();
    assert!(matches!(failure(&client, "SELECT * FROM t").await, ClientError::Statement { .. }));
    assert!(matches!(failure(&client, "DROP TABLE t").await, ClientError::Statement { .. }));
    client.query("DROP TABLE IF EXISTS t").await.unwrap();
    assert_eq!(client.relations().await.unwrap(), ["small"]);
    cluster.shutdown().await;
}
