//! The 22 queries give the same rows as plain DataFusion, however they are planned.

use crate::{
    cluster::{Cluster, configs},
    compare::{check, plain},
    data,
};

/// Without an `ORDER BY` at their end.
const UNORDERED: [u32; 4] = [6, 14, 17, 19];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_queries_in_every_configuration() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    for (name, config) in configs() {
        let cluster = Cluster::new(config, dir.path()).await;
        let mut rows = 0;
        for query in 1..=22 {
            let sql = polybolos_planner::tpch_query(query).unwrap();
            println!("{name}: query {query}");
            rows += check(&cluster, &plain, sql, !UNORDERED.contains(&query)).await;
        }
        assert!(rows > 300, "{name}: {rows} rows of all queries prove nothing");
    }
}

#[test]
fn there_are_22_queries() {
    let known: Vec<u32> = (0..30).filter(|&n| polybolos_planner::tpch_query(n).is_some()).collect();
    assert_eq!(known, (1..=22).collect::<Vec<_>>());
}
