//! Metrics of tasks, dynamic filters inside tasks, and marks of stages that may give other rows.

use std::sync::Arc;

use datafusion::{
    physical_expr::Partitioning,
    physical_plan::{displayable, repartition::RepartitionExec},
};
use polybolos_model::Exchange;
use polybolos_planner::{
    RuntimeFilters, StageProfile, cluster_config, decode_stage, explain, explain_analyze, stage_graph,
    task_plan,
};

use crate::{cluster::Cluster, data};

#[tokio::test]
async fn explain_analyze_counts_the_rows_of_all_tasks() {
    let dir = data::generate();
    let cluster = Cluster::new(cluster_config(3), dir.path()).await;
    let run = cluster
        .run(
            "select l_suppkey, count(*) from lineitem group by l_suppkey union all \
                           select n_nationkey, 1 from nation",
        )
        .await;
    let profiles: Vec<_> = run
        .graph
        .stages
        .iter()
        .zip(&run.metrics)
        .map(|(stage, tasks)| StageProfile { stage, tasks: tasks.iter().collect(), shares: None })
        .collect();
    let text = explain_analyze("the plans", &profiles);
    assert!(text.starts_with("the plans\nStage 1: result exchange, tasks=4/4, rows=125, "), "{text}");
    for (operator, rows) in [
        ("DataSourceExec: file_groups={3 groups", 60175),
        ("StageInputExec: stage=0", 300),
        ("mode=FinalPartitioned", 100),
        ("DataSourceExec: file_groups={1 group", 25),
    ] {
        let line =
            text.lines().find(|line| line.contains(operator)).unwrap_or_else(|| panic!("{operator}\n{text}"));
        assert!(line.contains(&format!("output_rows={rows}")), "{operator} {rows}\n{line}\n{text}");
    }
}

#[tokio::test]
async fn explain_shows_three_plans() {
    let dir = data::generate();
    let cluster = Cluster::new(cluster_config(3), dir.path()).await;
    let sql = "select count(*) from lineitem where l_tax > 0";
    let logical = cluster.state.create_logical_plan(sql).await.unwrap();
    let rows = explain(&logical, &cluster.physical(sql).await, &cluster.graph(sql).await.unwrap());
    let [logical, physical, stages] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(logical.0 == "logical_plan" && logical.1.contains("TableScan: lineitem"), "{logical:?}");
    assert!(physical.0 == "physical_plan" && physical.1.contains("CoalescePartitionsExec"), "{physical:?}");
    assert!(stages.0 == "stages" && stages.1.contains("Stage 1: 1 task, result"), "{stages:?}");
}

async fn task_texts(cluster: &Cluster, sql: &str) -> Vec<String> {
    let graph = cluster.graph(sql).await.unwrap();
    let plans = graph.stages.iter().map(|stage| {
        let template = decode_stage(&stage.plan, &cluster.state, &cluster.extensions).unwrap();
        let plan = task_plan(&template, 0).unwrap().plan;
        displayable(plan.as_ref()).indent(false).to_string()
    });
    plans.collect()
}

#[tokio::test]
async fn dynamic_filters_are_planted_inside_tasks_only() {
    let dir = data::generate();
    let mut config = cluster_config(3);
    let join = "select count(*) from supplier join lineitem on s_suppkey = l_suppkey where s_acctbal > 9000";
    let top = "select l_orderkey from lineitem order by l_orderkey limit 5";
    let cluster = Cluster::new(config.clone(), dir.path()).await;
    for sql in [join, top] {
        let graph = cluster.graph(sql).await.unwrap();
        assert!(!graph.to_string().contains("DynamicFilter"), "{graph}");
        let tasks = task_texts(&cluster, sql).await;
        assert!(tasks.iter().any(|plan| plan.contains("DynamicFilter")), "{tasks:#?}");
    }
    config.options_mut().optimizer.enable_dynamic_filter_pushdown = false;
    config.options_mut().optimizer.enable_join_dynamic_filter_pushdown = false;
    let cluster = Cluster::new(config, dir.path()).await;
    let tasks = task_texts(&cluster, join).await;
    assert!(!tasks.iter().any(|plan| plan.contains("DynamicFilter")), "{tasks:#?}");
}

#[tokio::test]
async fn tasks_of_one_template_share_nothing() {
    let dir = data::generate();
    let cluster = Cluster::new(cluster_config(3), dir.path()).await;
    let graph = cluster.graph("select * from lineitem where l_tax > 0").await.unwrap();
    let template = decode_stage(&graph.stages[0].plan, &cluster.state, &cluster.extensions).unwrap();
    let mut rows = 0;
    for partition in [0, 1, 2, 0] {
        let task = task_plan(&template, partition).unwrap();
        let batches =
            datafusion::physical_plan::collect(Arc::clone(&task.plan), cluster.state.task_ctx()).await;
        let own: usize = batches.unwrap().iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(task.plan.metrics().and_then(|metrics| metrics.output_rows()), Some(own));
        rows += own;
    }
    assert!(rows > 60175 && rows < 2 * 60175, "three tasks and one again: {rows}");
}

#[tokio::test]
async fn stages_that_may_give_other_rows_are_marked() {
    let dir = data::generate();
    let cluster = Cluster::new(cluster_config(3), dir.path()).await;
    let marks = async |cluster: &Cluster, sql: &str| {
        let graph = cluster.graph(sql).await.unwrap();
        graph.stages.iter().filter_map(|stage| stage.indeterminate.clone()).collect::<Vec<_>>().join("; ")
    };
    for (sql, expected) in [
        ("select l_suppkey, sum(l_quantity) from lineitem group by l_suppkey", ""),
        ("select l_suppkey, random() from lineitem", "random() gives other values"),
        ("select uuid(), count(*) from lineitem group by 1", "uuid() gives other values"),
        (
            "select l_tax, array_agg(l_suppkey) from lineitem group by l_tax",
            "array_agg depends on the order of rows",
        ),
        (
            "select l_tax, first_value(l_suppkey) from lineitem group by l_tax",
            "first_value depends on the order of rows",
        ),
        ("select * from (select distinct l_suppkey from lineitem) t limit 4", "a limit may keep other rows"),
        ("select s, sum(v) from spread group by s", ""),
        (
            "select t.m, count(*) from (select s, sum(v) as m from spread group by s) t group by t.m",
            "float sums",
        ),
        ("select s, sum(v) from spread group by s having sum(v) > 100", "float sums"),
        ("select c_custkey, rank() over (partition by c_nationkey order by c_acctbal) from customer", ""),
        (
            "select c_custkey, row_number() over (partition by c_nationkey order by c_acctbal) from customer",
            "depends on the order of tied rows",
        ),
    ] {
        let found = marks(&cluster, sql).await;
        assert!(found.contains(expected) && expected.is_empty() == found.is_empty(), "{sql}: '{found}'");
    }
}

#[tokio::test]
async fn round_robin_is_marked_unless_it_spreads_a_scan() {
    let dir = data::generate();
    let cluster = Cluster::new(cluster_config(3), dir.path()).await;
    for (sql, marked) in [
        ("select distinct l_suppkey from lineitem", true),
        ("select l_suppkey from lineitem where l_tax > 0", false),
    ] {
        let spread =
            RepartitionExec::try_new(cluster.physical(sql).await, Partitioning::RoundRobinBatch(4)).unwrap();
        let graph = stage_graph(Arc::new(spread), &cluster.extensions, RuntimeFilters::OFF).unwrap();
        let [.., spreading, _] = graph.stages.as_slice() else { panic!("{graph}") };
        assert_eq!(spreading.exchange, Exchange::RoundRobin, "{graph}");
        assert_eq!(spreading.indeterminate.is_some(), marked, "{graph}");
    }
}
