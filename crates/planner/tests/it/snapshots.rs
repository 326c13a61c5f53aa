//! The stage graphs of the 22 queries, as `EXPLAIN` shows them. `UPDATE_EXPECT=1` rewrites them.

use expect_test::{ExpectFile, expect_file};

use crate::{cluster::Cluster, data};

/// Files lie in another folder in each run: only their number is shown. What a scan derives from its predicate is left
/// out, for it lists sets in the order of their hashes.
fn normalise(graph: &str) -> String {
    let mut text = String::new();
    for line in graph.lines() {
        let line = line.split_once(", pruning_predicate=").map_or(line, |(before, _)| before);
        match line.split_once("file_groups={") {
            Some((before, after)) => {
                let (groups, rest) = after.split_once(':').unwrap();
                let rest = rest.split_once("]]}").unwrap().1;
                text.push_str(&format!("{before}files={groups}{rest}\n"));
            }
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

fn snapshot(query: u32) -> ExpectFile {
    macro_rules! files {
        ($($n:literal)*) => {
            match query {
                $($n => expect_file![concat!("snapshots/q", $n, ".txt")],)*
                _ => panic!("no query {query}"),
            }
        };
    }
    files!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22)
}

#[tokio::test]
async fn stage_graphs_of_tpch() {
    let dir = data::generate();
    let mut config = polybolos_planner::cluster_config(2);
    // Tiny tables; otherwise every join would be a broadcast.
    config.options_mut().optimizer.hash_join_single_partition_threshold = 64 * 1024;
    config.options_mut().optimizer.hash_join_single_partition_threshold_rows = 2_000;
    let cluster = Cluster::new(config, dir.path()).await;
    for query in 1..=22 {
        let sql = polybolos_planner::tpch_query(query).unwrap();
        let graph = cluster.graph(sql).await.unwrap();
        let again = cluster.graph(sql).await.unwrap();
        assert_eq!(graph.to_string(), again.to_string(), "query {query} is planned in two ways");
        let text = normalise(&graph.to_string());
        assert!(!text.contains("/tmp"), "{text}");
        snapshot(query).assert_eq(&text);
    }
}

#[tokio::test]
async fn small_queries_are_one_task() {
    let dir = data::generate();
    let config = polybolos_planner::cluster_config(4);
    let cluster = Cluster::new(config.clone(), dir.path()).await;
    let single = Cluster::new(polybolos_planner::single_task_config(&config), dir.path()).await;
    let queries = (1..=22).filter_map(polybolos_planner::tpch_query);
    for sql in queries.chain(["select 1", "select * from spread", "select * from generate_series(1, 3)"]) {
        let plan = cluster.physical(sql).await;
        assert!(polybolos_planner::plan_fits_one_task(&plan), "{sql}");
        let plan = single.physical(sql).await;
        let graph = polybolos_planner::single_task_graph(plan, &single.extensions).unwrap();
        assert_eq!((graph.stages.len(), graph.stages[0].tasks), (1, 1), "{sql}\n{graph}");
    }
}
