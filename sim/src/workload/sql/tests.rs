//! Each generated query has one right answer: plans of different shapes give the same rows.

use std::sync::Arc;

use datafusion::{error::DataFusionError, execution::runtime_env::RuntimeEnv, prelude::SessionContext};
use object_store::{ObjectStoreExt, memory::InMemory};
use polybolos_model::settings;
use polybolos_planner::{Extensions, RuntimeFilters, cluster_config, stage_graph};
use rand::SeedableRng;
use url::Url;

use super::{
    columns::{Column, Kind},
    *,
};
use crate::{
    schedule::Schedule,
    workload::{
        create_statements,
        expected::{context, difference, rows_of, says_planning_bug},
        generate::{Size, random_tables},
        testing::schedule_of,
        write_tables,
    },
};

/// Seeds, and queries of each.
const SEEDS: u64 = 15;
const QUERIES: usize = 20;

async fn run(context: &SessionContext, sql: &str) -> Result<Vec<String>, String> {
    let answer = async {
        let batches = context.sql(sql).await?.collect().await?;
        rows_of(&batches).map_err(DataFusionError::from)
    };
    answer.await.map_err(|error| error.strip_backtrace())
}

/// What went wrong, and how many queries had what.
#[derive(Debug, Default)]
struct Tally {
    wrong: Vec<String>,
    answered: usize,
    nonempty: usize,
    large: usize,
    divided: usize,
}

impl Tally {
    /// Two plans of other shapes give the rows that the plainest one gives.
    async fn judge(&mut self, random: &mut StdRng, schedule: &Schedule, query: &Generated) {
        let plain = options(&[("target_partitions", "1")]);
        let expected = match run(&context(schedule, &plain).await.unwrap(), &query.sql).await {
            Ok(rows) => rows,
            Err(error) if says_planning_bug(&error) => return,
            Err(error) => return self.wrong.push(format!("{error}\n  {}", query.sql)),
        };
        self.answered += 1;
        self.nonempty += usize::from(!expected.is_empty());
        self.large += usize::from(expected.len() >= 20_000);
        let is_hash = !query.options.contains_key("datafusion.optimizer.prefer_hash_join");
        let traits = Traits { rows: schedule.tables[0].rows, is_large: false, joins_by_condition: is_hash };
        let other = random_options(random, traits);
        for options in [&other, &query.options] {
            let got = run(&context(schedule, options).await.unwrap(), &query.sql).await;
            let mismatch = match got {
                Ok(got) => difference(&expected, got, query.ordered),
                Err(error) => Some(error).filter(|error| !says_planning_bug(error)),
            };
            if let Some(mismatch) = mismatch {
                self.wrong.push(format!("{mismatch}\n  {options:?}\n  {}", query.sql));
            }
        }
    }

    /// The cluster's own planner takes it, over the files.
    async fn plan(&mut self, context: &SessionContext, query: &Generated) {
        let mut state = context.state();
        for (name, value) in query.options.iter().filter(|(name, _)| !settings::is_ours(name)) {
            state.config_mut().options_mut().set(name, value).unwrap();
        }
        let graph = async {
            let plan = state.create_logical_plan(&query.sql).await?;
            let plan = state.create_physical_plan(&plan).await?;
            stage_graph(plan, &Extensions::default(), RuntimeFilters::read(&query.options))
                .map_err(|error| DataFusionError::External(Box::new(error)))
        };
        match graph.await {
            Ok(graph) => self.divided += usize::from(graph.stages.len() > 1),
            Err(error) if says_planning_bug(&error.to_string()) => {}
            Err(error) => self.wrong.push(format!("{error}\n  {:?}\n  {}", query.options, query.sql)),
        }
    }
}

fn options(execution: &[(&str, &str)]) -> BTreeMap<String, String> {
    let full = |(name, value): &(&str, &str)| (format!("datafusion.execution.{name}"), (*value).to_owned());
    execution.iter().map(full).collect()
}

/// As a scheduler plans for eight slots.
async fn planning(schedule: &Schedule) -> SessionContext {
    let store = InMemory::new();
    for (path, bytes) in write_tables(schedule) {
        store.put(&path.into(), bytes.into()).await.unwrap();
    }
    let runtime = Arc::new(RuntimeEnv::default());
    runtime.register_object_store(&Url::parse("sim://tables").unwrap(), Arc::new(store));
    let state = Extensions::default().session_state(cluster_config(8), runtime);
    let context = SessionContext::new_with_state(state);
    for sql in create_statements(schedule) {
        context.sql(&sql).await.unwrap();
    }
    context
}

async fn check(seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let tables = random_tables(&mut random, Size::Medium);
        let schedule = schedule_of(tables.clone());
        let planning = planning(&schedule).await;
        for _ in 0..QUERIES {
            let query = random_query(&mut random, &tables, &Mix::default());
            tally.plan(&planning, &query).await;
            tally.judge(&mut random, &schedule, &query).await;
        }
    }
    tally
}

#[tokio::test]
async fn every_query_has_one_right_answer() {
    let tally = check(0..SEEDS).await;
    let Tally { wrong, answered, nonempty, large, divided } = &tally;
    assert!(wrong.is_empty(), "{} of {answered}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(nonempty * 2 > *answered, "{nonempty} of {answered} have rows");
    assert!(divided * 2 > *answered, "{divided} of {answered} have several stages");
    assert!(*large > 0, "none is large");
}

#[tokio::test]
#[ignore = "minutes long: for whoever changes the generator"]
async fn many_queries_have_one_right_answer() {
    let tally = check(1_000..1_300).await;
    let Tally { wrong, answered, nonempty, large, divided } = &tally;
    println!("{answered} answered, {nonempty} with rows, {large} large, {divided} divided");
    assert!(wrong.is_empty(), "{} of {answered}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
#[ignore = "prints some queries"]
fn samples() {
    let mut random = StdRng::seed_from_u64(1);
    let tables = random_tables(&mut random, Size::Small);
    for _ in 0..40 {
        let query = random_query(&mut random, &tables, &Mix::default());
        println!("{}\n  {:?}", query.sql, query.options);
    }
}

#[test]
fn a_shape_that_is_switched_off_is_not_drawn() {
    let off = Mix { union: 0, window: 0, join: 0, outer_join: 0, limit: 0, ..Mix::default() };
    let only = Mix { union: 1, ..zero() };
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let tables = random_tables(&mut random, Size::Small);
        let sql = random_query(&mut random, &tables, &off).sql;
        assert!(!sql.contains("UNION SELECT") && !sql.contains("OVER (") && !sql.contains("LIMIT"), "{sql}");
        let sql = random_query(&mut random, &tables, &only).sql;
        assert!(sql.contains("UNION"), "{sql}");
    }
}

fn zero() -> Mix {
    Mix {
        scan: 0,
        join: 0,
        outer_join: 0,
        semi_join: 0,
        aggregate: 0,
        distinct: 0,
        rollup: 0,
        window: 0,
        sort: 0,
        limit: 0,
        union: 0,
        set: 0,
        subquery: 0,
        cte: 0,
        series: 0,
        large: 0,
        ..Mix::default()
    }
}

#[test]
fn the_same_seed_gives_the_same_query() {
    let query = || {
        let mut random = StdRng::seed_from_u64(11);
        let tables = random_tables(&mut random, Size::Small);
        random_query(&mut random, &tables, &Mix::default())
    };
    assert_eq!(query(), query());
    let mut random = StdRng::seed_from_u64(1);
    assert!(!random_query(&mut random, &[], &Mix::default()).sql.is_empty());
}

/// The second table has a row for each id, but after a join with few keys only those of few ids are left.
#[test]
fn what_a_join_leaves_of_a_key_counts_for_the_next_join() {
    let few = |name: &str| Relation::new(name, vec![Column::new("k", Kind::Int, 3)], 2_000);
    let ids = Relation::new("ids", vec![Column::new("id", Kind::Int, 2_600)], 2_600);
    for seed in 0..50 {
        let mut random = StdRng::seed_from_u64(seed);
        let mix = Mix::default();
        let mut generator = Generator::new(&mut random, &[], None, &mix);
        let left = generator.from(&few("a"));
        let two = generator.join_with(left, &ids, "JOIN");
        assert_eq!((two.rows, two.columns.iter().map(|c| c.distinct).max()), (2_600, Some(3)), "{two:?}");
        // 2,000 x 2,000 / 3 rows.
        let three = generator.join_with(two, &few("b"), "JOIN");
        assert!(three.from.contains("generate_series"), "seed {seed}: {three:?}");
    }
}
