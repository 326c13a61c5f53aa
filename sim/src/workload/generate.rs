//! Random tables and ops for a schedule.

use std::collections::BTreeMap;

use rand::{Rng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::{
    limits::random_limits,
    mix::Mix,
    progress::{created_view, mentions},
    sql::{Relation, query_over, view_over, weighted},
    writes,
};
use crate::schedule::{Action, Column, ColumnKind, Op, Table};

/// Ops that come at once now and then.
const MAX_BURST: u32 = 5;
/// A repeated submit comes within so long after the first.
const REPEAT_WITHIN_MS: u64 = 1_500;
/// A cancel comes within so long after the acknowledgement.
const CANCEL_WITHIN_MS: u64 = 400;
/// A client that is late comes to read within so long.
const READ_WITHIN_MS: u64 = 5_000;
const ABANDON_WITHIN_BATCHES: u32 = 4;

/// How much data a run has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// At most 60 rows a table.
    Tiny,
    /// At most 800.
    #[default]
    Small,
    /// At most 3,000.
    Medium,
    /// At most 3,000, and one table of 20,000 to 30,000.
    Large,
}

impl Size {
    fn max_rows(self) -> u64 {
        match self {
            Self::Tiny => 60,
            Self::Small => 800,
            Self::Medium | Self::Large => 3_000,
        }
    }
}

/// Two to four tables named `t1` …, now and then one of them empty.
pub fn random_tables(random: &mut StdRng, size: Size) -> Vec<Table> {
    let count = random.random_range(2..=4);
    let mut tables: Vec<Table> = (1..=count).map(|number| random_table(random, number, size)).collect();
    if size == Size::Large
        && let Some(last) = tables.last_mut()
    {
        last.rows = random.random_range(20_000..30_000);
    }
    tables
}

fn random_table(random: &mut StdRng, number: u32, size: Size) -> Table {
    // The first is never empty, so that most queries have rows.
    let rows = match random.random_range(0..10) {
        0 if number > 1 => 0,
        1 | 2 => random.random_range(1..30.min(size.max_rows())),
        _ => random.random_range(size.max_rows() / 4..=size.max_rows()),
    };
    let mut columns = vec![column("id", ColumnKind::Serial, 0)];
    let mut add = |name: String, kind, random: &mut StdRng| {
        let nulls_percent = [0, 0, 5, 20, 60][random.random_range(0..5)];
        columns.push(column(&name, kind, nulls_percent));
    };
    let is_wide = random.random_range(0..6) == 0;
    let more = if is_wide { 3 } else { 1 };
    for n in 1..=random.random_range(1..=2) * more {
        let distinct = [3, 12, 50, 200][random.random_range(0..4)];
        add(format!("k{n}"), ColumnKind::Uniform { distinct }, random);
    }
    if random.random_bool(0.6) {
        let distinct = [20, 100, 1_000][random.random_range(0..3)];
        add("s1".to_owned(), ColumnKind::Skewed { distinct }, random);
    }
    for n in 1..=random.random_range(0..=1) * more {
        add(format!("a{n}"), ColumnKind::Amount, random);
    }
    for n in 1..=random.random_range(0..=1) * more {
        let (distinct, max_bytes) = [(5, 8), (40, 24), (300, 24), (300, 200)][random.random_range(0..4)];
        add(format!("n{n}"), ColumnKind::Text { distinct, max_bytes }, random);
    }
    if random.random_bool(0.4) {
        add("d1".to_owned(), ColumnKind::Date, random);
    }
    Table { name: format!("t{number}"), rows, files: random.random_range(1..=5), columns }
}

fn column(name: &str, kind: ColumnKind, nulls_percent: u8) -> Column {
    Column { name: name.to_owned(), kind, nulls_percent, cast: None }
}

/// `count` ops of `clients` clients within `until_ms`, ids from 1, in order of time.
pub fn random_ops(
    random: &mut StdRng,
    tables: &[Table],
    mix: &Mix,
    clients: u32,
    count: u32,
    until_ms: u64,
) -> Vec<Op> {
    let times = random_times(random, count, until_ms);
    let mut ops = Ops {
        mix,
        clients: clients.max(1),
        tables: tables.iter().map(Relation::from).collect(),
        views: BTreeMap::new(),
        made: Vec::new(),
    };
    for (id, at_ms) in (1..).zip(times) {
        let op = ops.next(random, id, at_ms);
        ops.made.push(op);
    }
    let mut made = ops.made;
    made.sort_by_key(|op| (op.at_ms, op.id));
    made
}

/// Ascending, with bursts.
fn random_times(random: &mut StdRng, count: u32, until_ms: u64) -> Vec<u64> {
    let mut times: Vec<u64> = Vec::new();
    while times.len() < count as usize {
        let at_ms = random.random_range(0..until_ms.max(1));
        let burst = if random.random_bool(0.15) { random.random_range(2..=MAX_BURST) } else { 1 };
        times.extend((0..burst).map(|_| at_ms));
    }
    times.truncate(count as usize);
    times.sort_unstable();
    times
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Query,
    Ddl,
    Status,
}

struct Ops<'a> {
    mix: &'a Mix,
    clients: u32,
    tables: Vec<Relation>,
    /// Views that a client has made and not dropped.
    views: BTreeMap<u32, Vec<Relation>>,
    made: Vec<Op>,
}

impl Ops<'_> {
    fn next(&mut self, random: &mut StdRng, id: u32, at_ms: u64) -> Op {
        let client = random.random_range(1..=self.clients);
        let mix = self.mix;
        let kinds = [(Kind::Query, mix.query), (Kind::Ddl, mix.ddl), (Kind::Status, mix.status)];
        match weighted(random, &kinds) {
            Kind::Query if percent(random, mix.repeat_percent) => {
                self.repeat(random, id, at_ms).unwrap_or_else(|| self.query(random, id, at_ms, client))
            }
            Kind::Query => self.query(random, id, at_ms, client),
            Kind::Ddl => self.ddl(random, id, at_ms, client),
            Kind::Status => Op { id, at_ms, client, action: Action::Status },
        }
    }

    fn query(&self, random: &mut StdRng, id: u32, at_ms: u64, client: u32) -> Op {
        let views = self.views.get(&client).map(Vec::as_slice).unwrap_or_default();
        let uses = !views.is_empty() && percent(random, self.mix.view_percent);
        let favourite = uses.then(|| &views[random.random_range(0..views.len())]);
        let query = query_over(random, &self.tables, favourite, self.mix);
        let mut abandon_after = None;
        let mut cancel_after_ms = None;
        if percent(random, self.mix.abandon_percent) {
            abandon_after = Some(random.random_range(0..ABANDON_WITHIN_BATCHES));
        } else if percent(random, self.mix.cancel_percent) {
            cancel_after_ms = Some(random.random_range(0..CANCEL_WITHIN_MS));
        }
        // Nothing is drawn where nobody is late, so that known seeds stay what they are.
        let is_late = self.mix.late_percent > 0 && percent(random, self.mix.late_percent);
        let read_after_ms = is_late.then(|| random.random_range(0..READ_WITHIN_MS));
        // Nothing is drawn for it where there are none, so that old seeds stay what they are.
        let writes = self.mix.write_percent > 0 && percent(random, self.mix.write_percent);
        let sql = if writes { written(random, id, &query.sql) } else { query.sql };
        // The same for limits.
        let mut options = query.options;
        if self.mix.limit_percent > 0 && percent(random, self.mix.limit_percent) {
            options.extend(random_limits(random));
        }
        let action = Action::Query {
            sql,
            ordered: query.ordered,
            key: percent(random, self.mix.key_percent).then(|| format!("key-{id}")),
            options,
            abandon_after,
            cancel_after_ms,
            read_after_ms,
        };
        Op { id, at_ms, client, action }
    }

    /// A query that was asked for before, under its key, by the same client or another one.
    fn repeat(&self, random: &mut StdRng, id: u32, at_ms: u64) -> Option<Op> {
        let keyed = |op: &&Op| matches!(&op.action, Action::Query { key: Some(_), .. });
        let known: Vec<&Op> = self.made.iter().filter(keyed).collect();
        // A late one rather than an early one, since those are under way.
        let first = known.iter().rev().nth(random.random_range(0..known.len().clamp(1, 4)))?;
        let mut action = first.action.clone();
        let Action::Query { sql, abandon_after, cancel_after_ms, .. } = &mut action else { return None };
        (*abandon_after, *cancel_after_ms) = (None, None);
        // A client knows of its own views only.
        let is_private = self.made.iter().any(|op| is_made_by(sql, op));
        let client = if is_private { first.client } else { random.random_range(1..=self.clients) };
        let at_ms = if random.random_bool(0.7) {
            first.at_ms + random.random_range(0..REPEAT_WITHIN_MS)
        } else {
            at_ms.max(first.at_ms)
        };
        Some(Op { id, at_ms, client, action })
    }

    fn ddl(&mut self, random: &mut StdRng, id: u32, at_ms: u64, client: u32) -> Op {
        let views = self.views.entry(client).or_default();
        if !views.is_empty() && percent(random, self.mix.drop_percent) {
            let view = views.remove(random.random_range(0..views.len()));
            return Op { id, at_ms, client, action: Action::Ddl { sql: format!("DROP VIEW {}", view.name) } };
        }
        let name = format!("v{id}");
        let (query, view) = view_over(random, &name, &self.tables, self.mix);
        self.views.entry(client).or_default().push(view);
        Op { id, at_ms, client, action: Action::Ddl { sql: format!("CREATE VIEW {name} AS {query}") } }
    }
}

/// A query whose rows go to a folder that others write to as well, or to a file of their own.
fn written(random: &mut StdRng, id: u32, query: &str) -> String {
    let folder = ["a/", "b/"][random.random_range(0..2)];
    if random.random_bool(0.3) {
        writes::copy(query, &format!("{id}.parquet"))
    } else {
        writes::copy(query, folder)
    }
}

/// Whether a query reads the view that `op` makes.
fn is_made_by(sql: &str, op: &Op) -> bool {
    let Action::Ddl { sql: made } = &op.action else { return false };
    created_view(made).is_some_and(|view| mentions(sql, view))
}

fn percent(random: &mut StdRng, percent: u8) -> bool {
    random.random_range(0..100) < percent
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;
    use crate::workload::{Answers, expected::is_planning_bug, testing::schedule_of};

    fn ops(seed: u64, count: u32) -> (Vec<Table>, Vec<Op>) {
        let mut random = StdRng::seed_from_u64(seed);
        let tables = random_tables(&mut random, Size::Small);
        let ops = random_ops(&mut random, &tables, &Mix::default(), 3, count, 10_000);
        (tables, ops)
    }

    #[test]
    fn ops_have_ids_times_and_clients_of_their_own() {
        let (_, ops) = ops(3, 200);
        let ids: BTreeSet<u32> = ops.iter().map(|op| op.id).collect();
        assert_eq!(ids, (1..=200).collect());
        assert!(ops.is_sorted_by_key(|op| op.at_ms));
        assert!(ops.iter().all(|op| (1..=3).contains(&op.client)));
    }

    #[test]
    fn a_key_always_has_the_same_statement() {
        let (mut repeats, mut views) = (0, 0);
        for seed in 0..20 {
            let mut known: BTreeMap<String, (String, BTreeMap<String, String>)> = BTreeMap::new();
            for op in ops(seed, 60).1 {
                let Action::Query { sql, key: Some(key), options, .. } = op.action else { continue };
                views += u32::from(sql.contains("FROM v"));
                let first = known.entry(key).or_insert_with(|| (sql.clone(), options.clone()));
                repeats += u32::from(first.0 == sql);
                assert_eq!(*first, (sql, options));
            }
        }
        assert!(repeats > 20 && views > 5, "{repeats} {views}");
    }

    #[tokio::test]
    async fn queries_over_views_can_be_answered() {
        let mut asked = 0;
        for seed in 0..6 {
            let (tables, ops) = ops(seed, 60);
            let schedule = crate::schedule::Schedule { ops, ..schedule_of(tables) };
            let answers = Answers::new(&schedule);
            for op in &schedule.ops {
                let Action::Query { sql, .. } = &op.action else { continue };
                if sql.contains("v") {
                    if let Err(error) = answers.rows(sql).await {
                        assert!(is_planning_bug(&error), "seed {seed}: {error}\n{sql}");
                    }
                    asked += 1;
                }
            }
        }
        assert!(asked > 50, "{asked}");
    }

    #[test]
    fn a_schedule_with_ops_survives_its_text() {
        let (tables, ops) = ops(5, 40);
        let schedule = crate::schedule::Schedule { ops, ..schedule_of(tables) };
        let text = schedule.to_toml().unwrap();
        assert_eq!(crate::schedule::Schedule::parse(&text).unwrap(), schedule);
    }
}
