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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_queries_as_tasks_that_ran_out_of_memory() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    for (name, config) in configs().into_iter().take(3) {
        let cluster = Cluster { spills: true, ..Cluster::new(config, dir.path()).await };
        for query in 1..=22 {
            let sql = polybolos_planner::tpch_query(query).unwrap();
            println!("{name}: query {query}");
            check(&cluster, &plain, sql, !UNORDERED.contains(&query)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_queries_with_tasks_that_read_several_partitions_or_parts_of_one() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    let (mut coalesced, mut split) = (0, 0);
    for (name, config) in configs().into_iter().take(3) {
        let cluster = Cluster { adapts: true, ..Cluster::new(config, dir.path()).await };
        for query in 1..=22 {
            let sql = polybolos_planner::tpch_query(query).unwrap();
            println!("{name}: query {query}");
            check(&cluster, &plain, sql, !UNORDERED.contains(&query)).await;
            let shares = cluster.run(sql).await.shares.concat();
            coalesced += shares.iter().filter(|share| share.width() > 1).count();
            split += shares.iter().filter(|share| share.split.is_some()).count();
        }
    }
    assert!(coalesced > 100 && split > 50, "{coalesced} coalesced and {split} split shares prove nothing");
}

#[tokio::test]
async fn joins_that_would_not_fit_into_memory_want_more_partitions() {
    let dir = data::generate();
    let (_, partitioned) = configs().swap_remove(2);
    let cluster = Cluster::new(partitioned, dir.path()).await;
    let wanted = async |query, room| {
        let plan = cluster.physical(polybolos_planner::tpch_query(query).unwrap()).await;
        polybolos_planner::partitions_for_memory(&plan, room)
    };
    assert_eq!(wanted(9, 1 << 40).await, 1);
    let (some, more) = (wanted(9, 100_000).await, wanted(9, 10_000).await);
    assert!(some > 1 && more.abs_diff(some * 10) < 10, "{some} and {more}");
    // Without a join nothing has to fit.
    assert_eq!(wanted(1, 1).await, 1);
}

#[test]
fn there_are_22_queries() {
    let known: Vec<u32> = (0..30).filter(|&n| polybolos_planner::tpch_query(n).is_some()).collect();
    assert_eq!(known, (1..=22).collect::<Vec<_>>());
}
