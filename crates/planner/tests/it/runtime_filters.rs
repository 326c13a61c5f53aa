//! Joins whose probe sides are filtered by the keys of their build sides, below the exchange.

use std::collections::BTreeMap;

use polybolos_model::StageGraph;
use polybolos_planner::{RuntimeFilters, cluster_config};

use crate::{
    cluster::{Cluster, configs},
    compare::{check, plain},
    data,
};

/// However little they read.
fn always() -> RuntimeFilters {
    let setting = ("polybolos.runtime_filter_min_rows".to_owned(), "0".to_owned());
    RuntimeFilters::read(&BTreeMap::from([setting]))
}

fn filters(graph: &StageGraph) -> usize {
    graph.stages.iter().map(|stage| stage.display.matches("RuntimeFilterExec").count()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tpch_queries_give_the_same_rows() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    let mut planted = 0;
    for (name, config) in configs() {
        let cluster = Cluster { filters: always(), ..Cluster::new(config, dir.path()).await };
        for query in 1..=22 {
            println!("{name}: query {query}");
            let sql = polybolos_planner::tpch_query(query).unwrap();
            planted += filters(&cluster.graph(sql).await.unwrap());
            check(&cluster, &plain, sql, ![6, 14, 17, 19].contains(&query)).await;
        }
    }
    assert!(planted > 60, "{planted} filters in all plans prove little");
}

/// Joined by hash, however small.
async fn partitioned(dir: &std::path::Path) -> Cluster {
    let mut config = cluster_config(3);
    let optimizer = &mut config.options_mut().optimizer;
    optimizer.hash_join_single_partition_threshold = 0;
    optimizer.hash_join_single_partition_threshold_rows = 0;
    optimizer.repartition_file_min_size = 0;
    Cluster { filters: always(), ..Cluster::new(config, dir).await }
}

#[tokio::test]
async fn joins_of_all_kinds_are_filtered_only_where_a_row_without_a_match_leaves_no_trace() {
    let dir = data::generate();
    let (cluster, plain) = (partitioned(dir.path()).await, plain(dir.path()).await);
    let few = "(select * from orders where o_orderkey % 50 = 1)";
    for (sql, filtered) in [
        (format!("select l_orderkey, o_orderdate from lineitem join {few} on l_orderkey = o_orderkey"), true),
        (format!("select l_orderkey, o_orderdate from {few} left join lineitem on l_orderkey = o_orderkey"), true),
        (format!("select l_orderkey, o_orderdate from lineitem left join {few} on l_orderkey = o_orderkey"), false),
        (format!("select l_orderkey, o_orderdate from lineitem full join {few} on l_orderkey = o_orderkey"), false),
        (format!("select l_orderkey from lineitem where l_orderkey in (select o_orderkey from {few})"), true),
        (format!("select l_orderkey from lineitem where l_orderkey not in (select o_orderkey from {few})"), false),
        (format!("select o_orderkey from {few} where not exists (select 1 from lineitem where l_orderkey = o_orderkey)"), true),
        (format!("select k, n from (select l_orderkey as k, count(*) as n from lineitem group by l_orderkey) join {few} on k = o_orderkey"), true),
        ("select l_orderkey, o_orderkey from lineitem join (select * from orders where o_orderkey < 0) on l_orderkey = o_orderkey".to_owned(), true),
        ("select n_name from nation join (select r_regionkey from region where r_name > 'B' limit 2) on n_regionkey = r_regionkey where n_regionkey < 0".to_owned(), true),
    ] {
        let graph = cluster.graph(&sql).await.unwrap();
        assert_eq!(filters(&graph) > 0, filtered, "{sql}\n{graph}");
        check(&cluster, &plain, &sql, false).await;
    }
}

#[tokio::test]
async fn without_estimates_that_promise_something_or_by_setting_there_are_none() {
    let dir = data::generate();
    let sql = "select count(*) from lineitem join orders on l_orderkey = o_orderkey where o_clerk < 'Clerk#000000010'";
    let cluster = partitioned(dir.path()).await;
    assert!(filters(&cluster.graph(sql).await.unwrap()) > 0);
    for filters_of in [RuntimeFilters::OFF, RuntimeFilters::default()] {
        let cluster = Cluster { filters: filters_of, ..partitioned(dir.path()).await };
        assert_eq!(filters(&cluster.graph(sql).await.unwrap()), 0);
    }
    // All keys match: nothing would be held back.
    let setting = ("polybolos.runtime_filter_min_rows".to_owned(), "1".to_owned());
    let by_estimates = RuntimeFilters::read(&BTreeMap::from([setting]));
    let cluster = Cluster { filters: by_estimates, ..partitioned(dir.path()).await };
    let all = "select count(*) from lineitem join orders on l_orderkey = o_orderkey";
    assert_eq!(filters(&cluster.graph(all).await.unwrap()), 0);
    assert!(filters(&cluster.graph(sql).await.unwrap()) > 0);
    // A join that multiplies rows makes no new keys.
    let q17 = polybolos_planner::tpch_query(17).unwrap();
    assert!(filters(&cluster.graph(q17).await.unwrap()) > 0);
}
