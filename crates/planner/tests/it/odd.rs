//! Queries that make unusual plans.

use polybolos_planner::{decode_stage, spilling_task_plan};

use crate::{
    cluster::{Cluster, configs},
    compare::{check, check_as, plain},
    data,
};

/// Rows of these come in no order, or sorted by the test.
const UNORDERED: &[&str] = &[
    // Windows of opposite orders, which DataFusion turns round to spare a sort.
    "select o_orderkey, first_value(o_orderkey) over (partition by o_custkey order by o_orderkey) as f, \
     lead(o_orderkey) over (partition by o_custkey order by o_orderkey desc) as n, \
     lag(o_orderkey, 2) over (partition by o_custkey order by o_orderkey desc) as p, \
     nth_value(o_orderkey, 2) over (partition by o_custkey order by o_orderkey desc) as s from orders",
    // No input at all.
    "select 1 as one, 'x' as two",
    "values (1, 'a'), (2, 'b')",
    "select count(*) from empty",
    "select a, count(*) from empty group by a",
    "select * from empty e join nation on a = n_nationkey",
    "select n_name, b from nation left join empty on a = n_nationkey",
    "select * from generate_series(1, 20) as t(x) where x % 3 = 0",
    "select count(*) from generate_series(1, 10)",
    "select count(*) from generate_series(5, 1)",
    "select n_name, 1 as one from nation cross join generate_series(1, 3)",
    "select n_name, x from nation join generate_series(1, 5) as t(x) on n_regionkey = x",
    // Unions of exchanges, of different widths.
    "select o_orderstatus as s, count(*) as c from orders group by o_orderstatus \
     union all select l_linestatus, count(*) from lineitem group by l_linestatus \
     union all select n_name, n_regionkey from nation",
    "select o_custkey from orders union select c_custkey from customer",
    "select u.k, count(*) from (select o_custkey as k from orders union all select c_custkey from customer \
     union all select n_nationkey from nation) u group by u.k",
    "select k, count(*) from (select distinct l_suppkey as k from lineitem union all \
     select distinct ps_suppkey from partsupp) t group by k",
    "select o_custkey from orders intersect select c_custkey from customer where c_acctbal > 0",
    "select c_custkey from customer except select o_custkey from orders",
    // Outer, semi, anti and cross joins.
    "select c_custkey, o_orderkey from customer left join orders on c_custkey = o_custkey and o_totalprice > 200000",
    "select c_custkey, o_orderkey from orders right join customer on c_custkey = o_custkey",
    "select n_name, s_name from nation full join supplier on n_nationkey = s_nationkey and s_acctbal > 0",
    "select s_suppkey, l_orderkey from supplier full join \
     (select * from lineitem where l_quantity > 49) l on s_suppkey = l_suppkey",
    "select n_name from nation where exists (select 1 from customer where c_nationkey = n_nationkey and c_acctbal > 9000)",
    "select n_name from nation where not exists (select 1 from customer where c_nationkey = n_nationkey)",
    "select n_name from nation where n_nationkey in (select c_nationkey from customer where c_acctbal > 9900)",
    "select n_name from nation where n_nationkey not in (select c_nationkey from customer where c_acctbal > 9900)",
    "select a from nulls where a not in (select k from spread)",
    "select a from nulls where a in (select k from spread)",
    "select k from spread where k not in (select a from nulls)",
    "select k, v from spread where k not in (select a from nulls where a is not null)",
    "select a.n_name, b.r_name from nation a cross join region b",
    "select count(*) from customer c cross join (select avg(s_acctbal) as m from supplier) x where c_acctbal > m",
    "select count(*) from customer join supplier on c_acctbal > s_acctbal and c_nationkey > s_nationkey",
    "select n_name, s_suppkey from nation left join supplier on n_nationkey > s_nationkey + 15",
    "select s_suppkey, c_custkey from supplier full join \
     (select * from customer where c_acctbal > 9900) c on s_acctbal > c_acctbal",
    "select c_custkey from customer where exists (select 1 from supplier where s_acctbal > c_acctbal + 9000)",
    "select s_suppkey from supplier where not exists (select 1 from orders where o_totalprice > s_acctbal * 40)",
    "select x.k, y.s from spread x join spread y on x.k = y.k and x.v < y.v",
    "select x.k, y.v from spread x left join nulls y2 on x.k = y2.a left join spread y on y.v = x.v",
    "select l_orderkey, p_partkey from lineitem join part on l_partkey = p_partkey where false",
    // Joins whose filter reads columns that nothing else does.
    "select c_nationkey, s_nationkey from customer join supplier on c_nationkey = s_nationkey and c_custkey < s_suppkey",
    "select c_nationkey, s_nationkey from customer left join supplier \
     on c_nationkey = s_nationkey and c_custkey < s_suppkey",
    "select c_phone, c_nationkey, s_nationkey from customer join supplier on c_nationkey = s_nationkey \
     where c_custkey < 9 or s_suppkey < 9",
    "select c_nationkey, rank() over (partition by s_nationkey order by c_nationkey) from customer \
     join supplier on c_nationkey = s_nationkey where s_suppkey < 9 or c_name is null",
    // Aggregates.
    "select count(distinct l_suppkey), count(distinct l_partkey), sum(l_quantity) from lineitem",
    "select l_returnflag, count(distinct l_suppkey) from lineitem group by l_returnflag",
    "select l_returnflag, l_linestatus, sum(l_quantity) from lineitem \
     group by grouping sets ((l_returnflag, l_linestatus), (l_returnflag), ())",
    "select o_orderstatus, o_orderpriority, count(*), grouping(o_orderpriority) from orders \
     group by rollup (o_orderstatus, o_orderpriority)",
    "select k, s, sum(v), avg(v), stddev(v), count(s) from spread group by cube (k, s)",
    "select k, min(v), max(v), median(v), approx_distinct(s) from spread group by k",
    "select sum(v) filter (where k > 3), count(*) filter (where s = 's1') from spread",
    "select max(l_orderkey), min(l_shipdate) from lineitem where l_quantity > 10",
    "select count(*) from lineitem",
    "select array_agg(distinct k order by k) from spread",
    "select s, array_agg(v order by v) from spread group by s",
    "select string_agg(s, ',' order by s) from spread",
    "select k, first_value(v order by v) from spread group by k having count(*) > 3",
    "select distinct o_orderstatus, o_orderpriority from orders",
    "select o_orderpriority from orders group by o_orderpriority having count(*) > (select count(*) / 100 from orders)",
    // Subqueries.
    "select (select max(o_totalprice) from orders) as m, (select count(*) from lineitem) as c",
    "select o_orderkey from orders where o_totalprice > (select avg(o_totalprice) * 2.5 from orders)",
    "select o_orderkey from orders where o_totalprice > (select avg(l_extendedprice) from lineitem \
     where l_orderkey > (select max(o_orderkey) / 2 from orders))",
    "select c_custkey, (select count(*) from orders where o_custkey = c_custkey) from customer",
    "select n_name from nation where n_nationkey = (select n_nationkey from nation where n_name = 'nowhere')",
    "with t as (select o_custkey as k, sum(o_totalprice) as total from orders group by o_custkey) \
     select a.k from t a join t b on a.k = b.k + 1 where a.total > b.total",
    "select x.c from (select count(*) as c from lineitem where l_tax < (select avg(l_tax) from lineitem)) x \
     join (select count(*) as c from nation where n_nationkey < (select avg(n_nationkey) from nation)) y on x.c > y.c",
    // Recursion, also between exchanges.
    "with recursive t(n) as (select 1 union all select n + 1 from t where n < 50) select n from t",
    "with recursive t(n, f) as (select 1, 'x' union all select n * 2, f from t where n < 500) select n from t",
    "with recursive r as (select n_nationkey as k from nation where n_regionkey = 1 union \
     select (k + 3) % 25 from r where k < 20) select k, count(*) from r join customer on c_nationkey = k group by k",
    "with recursive r as (select c_nationkey as k, 1 as depth from customer where c_custkey < 4 union all \
     select n_nationkey, depth + 1 from r join nation on n_regionkey = k % 5 where depth < 3) \
     select k, depth, count(*) from r group by k, depth",
    // Windows.
    "select k, v, sum(v) over (partition by k order by v) from spread",
    "select k, v, rank() over (partition by k order by v desc), count(*) over () from spread",
    "select o_custkey, o_orderkey, row_number() over (partition by o_custkey order by o_orderkey) from orders",
    "select o_custkey, o_orderkey, lag(o_orderkey) over (partition by o_custkey order by o_orderkey), \
     sum(o_totalprice) over (partition by o_orderstatus) from orders",
    "select * from (select o_custkey, o_orderkey, row_number() over (partition by o_custkey order by o_orderkey) \
     as r from orders) t where r <= 2",
    "select * from (select k, v, rank() over (partition by k order by v) as r from spread) t where r < 3",
    "select s_nationkey, avg(s_acctbal) over (order by s_suppkey rows between 2 preceding and current row) from supplier",
    // Limits that keep the same rows in any order.
    "select count(*) from (select * from lineitem limit 1000) t",
    "select count(*) from (select * from lineitem limit 10 offset 59990) t",
    "select count(*) from (select distinct l_suppkey from lineitem limit 5) t",
    "select 1 as x from orders limit 7",
    "select 1 as x from orders offset 14990",
    "select x.k, count(*) from (select k from spread order by v limit 40) x group by x.k",
    // Lists and structures.
    "select unnest([1, 2, 3]) as u, k from spread where k = 1",
    "select k, unnest(a) from (select k, array_agg(v order by v) as a from spread group by k) t",
    "select named_struct('a', k, 'b', s)['b'] as f, count(*) from spread group by 1",
    "select date_trunc('month', o_orderdate) as m, count(*) from orders group by 1",
    "select case when l_quantity > 25 then 'many' else 'few' end as c, sum(l_tax) from lineitem group by 1",
];

/// Rows come in this very order.
const ORDERED: &[&str] = &[
    "select n_name from nation order by n_name",
    "select l_orderkey, l_linenumber from lineitem order by l_orderkey desc, l_linenumber limit 20",
    "select l_orderkey, l_linenumber from lineitem order by l_orderkey, l_linenumber limit 20 offset 40",
    "select o_orderkey from orders order by o_orderkey offset 14980",
    "select k, v from spread order by v desc nulls last, k limit 10",
    "select c_custkey, count(o_orderkey) as c from customer left join orders on c_custkey = o_custkey \
     group by c_custkey order by c desc, c_custkey limit 15",
    "(select o_orderkey as k from orders order by o_totalprice desc limit 5) union all \
     (select c_custkey from customer order by c_acctbal desc limit 5) order by k",
    "select k, v, row_number() over (order by v, k) as r from spread where v is not null order by r",
    "select o_custkey, sum(o_totalprice) over (partition by o_custkey order by o_orderkey) from orders \
     order by o_custkey, o_orderkey limit 50",
    "select * from (select l_orderkey, sum(l_quantity) as q from lineitem group by l_orderkey) t \
     order by q desc, l_orderkey limit 8",
    "with recursive t(n) as (select 1 union all select n + 1 from t where n < 50) select n from t order by n desc",
    "select n_name, c from nation join (select c_nationkey, count(*) as c from customer group by c_nationkey) t \
     on n_nationkey = c_nationkey order by n_name",
    "select o_orderkey from orders where o_totalprice = (select max(o_totalprice) from orders) order by o_orderkey",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_queries_in_every_configuration() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    for (name, config) in configs() {
        let cluster = Cluster::new(config, dir.path()).await;
        for (queries, ordered) in [(UNORDERED, false), (ORDERED, true)] {
            for sql in queries {
                println!("{name}: {sql}");
                check(&cluster, &plain, sql, ordered).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_queries_with_tasks_that_read_several_partitions_or_parts_of_one() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    for (name, config) in configs().into_iter().take(3) {
        let cluster = Cluster { adapts: true, ..Cluster::new(config, dir.path()).await };
        for (queries, ordered) in [(UNORDERED, false), (ORDERED, true), (NESTED_LOOPS, false)] {
            for sql in queries {
                println!("{name}: {sql}");
                check(&cluster, &plain, sql, ordered).await;
            }
        }
    }
}

/// Grouping sets that plain DataFusion may get wrong, as what it knows of the input is not true of the output; and the
/// same without grouping sets.
const GROUPING_SETS: &[(&str, &str)] = &[
    // A constant column.
    (
        "select l_suppkey, l_linenumber, count(*) as c from lineitem where l_linenumber = 3 \
         group by rollup (l_suppkey, l_linenumber) order by l_linenumber, l_suppkey",
        "select l_suppkey, l_linenumber, c from ( \
         select l_suppkey, l_linenumber, count(*) as c from lineitem where l_linenumber = 3 group by 1, 2 union all \
         select l_suppkey, null, count(*) from lineitem where l_linenumber = 3 group by 1 union all \
         select null, null, count(*) from lineitem where l_linenumber = 3) t order by l_linenumber, l_suppkey",
    ),
    // Equal columns, hashed by a key of the sets.
    (
        "select o_custkey, c_custkey, count(*) as c from orders join customer on o_custkey = c_custkey \
         group by grouping sets ((o_custkey), (c_custkey), ()) order by o_custkey, c_custkey",
        "select o, c, n from ( \
         select o_custkey as o, null as c, count(*) as n from orders join customer on o_custkey = c_custkey \
         group by o_custkey union all \
         select null, c_custkey, count(*) from orders join customer on o_custkey = c_custkey \
         group by c_custkey union all \
         select null, null, count(*) from orders join customer on o_custkey = c_custkey) t order by o, c",
    ),
];

/// Outer joins whose missing side has a constant column, which is none in the output; and the same without such joins.
const OUTER_JOINS: &[(&str, &str)] = &[
    (
        "select o_orderkey, k from orders left join \
         (select c_custkey, c_nationkey as k from customer where c_nationkey = 3) c on o_custkey = c_custkey \
         order by k, o_orderkey",
        "select o_orderkey, k from ( \
         select o_orderkey, c_nationkey as k from orders, customer where o_custkey = c_custkey and c_nationkey = 3 \
         union all select o_orderkey, null from orders \
         where o_custkey not in (select c_custkey from customer where c_nationkey = 3)) t order by k, o_orderkey",
    ),
    (
        "select x, n_nationkey from (select 1 as x, r_regionkey from region where r_regionkey < 2) r \
         right join nation on r_regionkey = n_regionkey order by x desc nulls last, n_nationkey",
        "select case when n_regionkey < 2 then 1 end as x, n_nationkey from nation \
         order by x desc nulls last, n_nationkey",
    ),
    (
        "select x, y, r_regionkey from (select 1 as x, r_regionkey as r from region where r_regionkey < 2) a \
         full join (select 2 as y, r_regionkey from region) b on r = r_regionkey and r_regionkey > 0 \
         order by y, x, r_regionkey",
        "select * from (select case when r_regionkey = 1 then 1 end as x, 2 as y, r_regionkey from region union all \
         select 1, null, null) t order by y, x, r_regionkey",
    ),
];

/// A filter above a projection with two columns of one name; and the same without either.
const SAME_NAMES: &[(&str, &str)] = &[(
    "select l.id as a, r.id as b from (select o_custkey as k, o_orderkey as id from orders) l \
     right join (select c_custkey as id, c_nationkey from customer) r \
     on l.k = r.id and r.c_nationkey between 3 and 9 where l.id is null",
    "select arrow_cast(null, 'Int64') as a, c_custkey as b from customer \
     where not exists (select 1 from orders where o_custkey = c_custkey and c_nationkey between 3 and 9)",
)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_stay_with_their_side_of_a_join() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    for (name, config) in configs() {
        let cluster = Cluster::new(config, dir.path()).await;
        for (sql, same) in SAME_NAMES {
            println!("{name}: {sql}");
            assert!(check_as(&cluster, &plain, sql, same, false).await > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grouping_sets_know_nothing_of_their_input() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    for (name, config) in configs() {
        let cluster = Cluster::new(config, dir.path()).await;
        for (sql, same) in GROUPING_SETS {
            println!("{name}: {sql}");
            check_as(&cluster, &plain, sql, same, true).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_outer_join_leaves_out_is_not_constant() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    for (name, config) in configs() {
        let cluster = Cluster::new(config, dir.path()).await;
        for (sql, same) in OUTER_JOINS {
            println!("{name}: {sql}");
            assert!(check_as(&cluster, &plain, sql, same, true).await > 0);
        }
    }
}

/// Joins on no equality.
const NESTED_LOOPS: &[&str] = &[
    "select n_name, r_name from region right join nation on n_regionkey > r_regionkey + 1",
    "select n_name from region right semi join nation on n_regionkey > r_regionkey + 1",
    "select n_name from region right anti join nation on n_regionkey > r_regionkey + 1",
    "select n_name from nation where n_name < 'B' or exists (select 1 from region where n_regionkey > r_regionkey + 1)",
    "select n_name, r_name from region left join nation on n_regionkey > r_regionkey + 1",
    "select n_name, r_name from region full join nation on n_regionkey > r_regionkey + 1",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_loop_joins_that_are_turned_round_give_the_same_rows() {
    let dir = data::generate();
    let plain = plain(dir.path()).await;
    for (name, config) in configs() {
        let cluster = Cluster { spills: true, ..Cluster::new(config, dir.path()).await };
        let mut turned = 0;
        for sql in NESTED_LOOPS {
            println!("{name}: {sql}");
            assert!(check(&cluster, &plain, sql, false).await > 0);
            for stage in cluster.graph(sql).await.unwrap().stages {
                let template = decode_stage(&stage.plan, &cluster.state, &cluster.extensions).unwrap();
                turned += usize::from(spilling_task_plan(&template, 0).unwrap().is_some());
            }
        }
        assert!(turned > 2, "{name}: {turned}");
    }
}

#[tokio::test]
async fn a_failing_query_fails_alike() {
    let dir = data::generate();
    let cluster = Cluster::new(crate::cluster::configs().remove(0).1, dir.path()).await;
    let sql = "select n_name from nation where n_nationkey = (select c_nationkey from customer)";
    let failed = tokio::spawn(async move { cluster.run(sql).await.batches.len() }).await;
    let message = failed.unwrap_err().into_panic().downcast::<String>().unwrap();
    assert!(message.contains("more than one row"), "{message}");
}
