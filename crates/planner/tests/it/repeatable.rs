//! Which queries give the same rows in the same order in each run.

use polybolos_planner::{cluster_config, is_repeatable};

use crate::{cluster::Cluster, data};

/// Whether the rows of the query may be handed out while its tasks run: its plan says so, and it is one stage.
async fn early(cluster: &Cluster, sql: &str) -> bool {
    let plan = cluster.physical(sql).await;
    is_repeatable(&plan).unwrap() && cluster.graph(sql).await.unwrap().stages.len() == 1
}

#[tokio::test]
async fn scans_of_files_and_what_takes_their_rows_one_by_one() {
    let dir = data::generate();
    let mut config = cluster_config(3);
    config.options_mut().optimizer.repartition_file_min_size = 0;
    let cluster = Cluster::new(config, dir.path()).await;
    for sql in [
        "select * from lineitem",
        "select l_orderkey + 1, upper(l_comment), now() from lineitem where l_tax > 0.02 and l_comment like '%fox%'",
        "select * from (select l_orderkey k, l_tax t from lineitem) where k % 3 = 1",
        "select n_nationkey from nation union all select l_suppkey from lineitem where l_tax > 0",
    ] {
        assert!(early(&cluster, sql).await, "{sql}\n{}", cluster.graph(sql).await.unwrap());
    }
    let config = cluster_config(1);
    let cluster = Cluster::new(config, dir.path()).await;
    let sql = "select l_orderkey from lineitem where l_tax > 0.01 limit 100 offset 7";
    assert!(early(&cluster, sql).await, "{sql}\n{}", cluster.graph(sql).await.unwrap());
}

#[tokio::test]
async fn nothing_that_may_come_in_another_order_or_with_other_values() {
    let dir = data::generate();
    for partitions in [1, 3] {
        let cluster = Cluster::new(cluster_config(partitions), dir.path()).await;
        for sql in [
            "select l_suppkey, count(*) from lineitem group by l_suppkey",
            "select distinct l_suppkey from lineitem",
            "select l_orderkey, random() from lineitem",
            "select l_orderkey from lineitem where random() < 0.5",
            "select uuid() from nation",
            "select l_orderkey from lineitem order by l_tax",
            "select l_orderkey from lineitem order by l_tax limit 10",
            "select n_name from nation join region on n_regionkey = r_regionkey",
            "select n_name from nation, region",
            "select n_name from nation where n_regionkey in (select r_regionkey from region)",
            "select n_name from nation where n_regionkey > (select min(r_regionkey) from region)",
            "select l_orderkey, row_number() over (order by l_tax) from lineitem",
            "select n_nationkey from nation union select l_suppkey from lineitem",
            // Of what is in memory the scan is not looked at.
            "select k from spread",
        ] {
            assert!(!early(&cluster, sql).await, "{sql}\n{}", cluster.graph(sql).await.unwrap());
        }
    }
    // One reader takes the rows of several scans as they come.
    let cluster = Cluster::new(cluster_config(3), dir.path()).await;
    assert!(!early(&cluster, "select l_orderkey from lineitem limit 100000").await);
}

/// Each time from the bytes of the stage, as on another executor.
#[tokio::test]
async fn a_second_run_gives_the_same_rows_in_the_same_order() {
    let dir = data::generate();
    let mut config = cluster_config(3).with_batch_size(512);
    config.options_mut().optimizer.repartition_file_min_size = 0;
    let cluster = Cluster::new(config, dir.path()).await;
    let sql = "select l_orderkey, l_linenumber, l_comment from lineitem where l_tax > 0.02 union all \
               select n_nationkey, 0, n_comment from nation";
    assert!(early(&cluster, sql).await);
    let (first, second) = (cluster.run(sql).await, cluster.run(sql).await);
    assert!(first.graph.stages[0].tasks > 2, "{}", first.graph);
    assert_eq!(first.batches, second.batches);
}
