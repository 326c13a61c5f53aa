//! Limits stay above what needs all rows. Compared with DataFusion without the rules that move limits into aggregates, and
//! with nothing to merge.

use datafusion::prelude::{SessionConfig, SessionContext};

use crate::{
    cluster::{Cluster, configs},
    compare::{check, check_as},
    data,
};

/// The first rows of something that is made of groups, but not of the first groups only.
const FIRST_ROWS: &[&str] = &[
    // Windows over groups.
    "select o_custkey, count(*) over () as n from orders group by o_custkey order by o_custkey limit 2",
    "select o_custkey, lead(o_custkey) over (order by o_custkey) as next from orders group by o_custkey \
     order by o_custkey limit 2",
    "select c, count(*) over () as n from (select o_orderdate as c from orders union select l_shipdate from lineitem) t \
     order by c limit 2",
    // Windows over sorted partitions.
    "select c, max(c) over (partition by c order by c rows 1 preceding) as m, count(*) over () as n \
     from (select o_orderdate as c from orders union select l_shipdate from lineitem) t order by c limit 2",
    "select o_custkey, n from (select o_custkey, row_number() over (partition by o_custkey order by o_orderkey) as r, \
     count(*) over () as n from orders) t where r % 2 = 0 order by o_custkey limit 3",
    "select k, sum(v) over (partition by k order by v), count(*) over () from spread order by k, v limit 4 offset 2",
    // Joins of sorted rows, of which many have no partner.
    "select * from nation join (select c_nationkey + 20 as k, count(*) as c from customer group by c_nationkey) t \
     on n_nationkey = k order by n_nationkey limit 2",
    "select * from (select l_suppkey as s, count(*) as c from lineitem group by l_suppkey) a \
     join (select ps_suppkey + 90 as t, count(*) as d from partsupp group by ps_suppkey) b on s = t order by s limit 3",
    // A computed column with the name of its group.
    "select -k as k from spread group by k order by k nulls last limit 3",
    "select -k as k, m from (select k, min(v) as m from spread group by k) t order by k nulls last limit 3",
    // Columns that change their names with each other.
    "select k as m, m as k from (select l_partkey as k, min(l_suppkey) as m from lineitem group by l_partkey) t \
     order by m desc, k limit 3",
    // The inputs of a union.
    "select o_custkey as c from orders group by o_custkey union all select -o_custkey from orders group by o_custkey \
     order by c limit 3",
    // Groups of groups.
    "select distinct m from (select min(l_suppkey) as m from lineitem group by l_partkey) t order by m limit 4",
    "select m from (select max(l_suppkey) as m from lineitem group by l_partkey) t group by m order by m desc limit 4",
    // A limit of each.
    "select c, count(*) over () as n from (select o_custkey as c from orders group by o_custkey order by c limit 9) t \
     order by c limit 2",
];

/// Limits without an order that keep all rows; and the same without.
const DISTINCT: &[(&str, &str)] = &[
    (
        "select distinct k, count(*) over (partition by k) as n from spread limit 30",
        "select distinct k, count(*) over (partition by k) as n from spread",
    ),
    (
        "select distinct n_nationkey from nation join customer on n_nationkey = c_nationkey limit 100",
        "select distinct c_nationkey from customer",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_stay_above_what_needs_all_rows() {
    let dir = data::generate();
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .set_bool("datafusion.optimizer.enable_topk_aggregation", false)
        .set_bool("datafusion.optimizer.enable_distinct_aggregation_soft_limit", false);
    let exact = SessionContext::new_with_config(config);
    data::register(&exact, dir.path()).await;
    for (name, config) in configs() {
        let cluster = Cluster::new(config, dir.path()).await;
        for sql in FIRST_ROWS {
            println!("{name}: {sql}");
            check(&cluster, &exact, sql, true).await;
        }
        for (sql, same) in DISTINCT {
            println!("{name}: {sql}");
            assert!(check_as(&cluster, &exact, sql, same, false).await > 0);
        }
    }
}

/// Where the first groups are all that is needed, no others are kept.
#[tokio::test]
async fn aggregates_still_take_the_limits_that_are_theirs() {
    let dir = data::generate();
    let cluster = Cluster::new(configs().remove(0).1, dir.path()).await;
    for (sql, limit) in [
        ("select distinct o_custkey from orders order by o_custkey limit 3", "lim=[3]"),
        (
            "select o_custkey as c, max(o_orderkey) as m from orders group by 1 order by m desc limit 4",
            "lim=[4]",
        ),
        ("select distinct o_custkey from orders limit 5", "lim=[5]"),
    ] {
        let graph = cluster.graph(sql).await.unwrap().to_string();
        assert!(graph.contains(limit), "{sql}\n{graph}");
    }
}
