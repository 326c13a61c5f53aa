//! Statements that are nested deeply, or chained without end, as SQL and as plans that are encoded already.

use std::collections::BTreeMap;

use bytes::Bytes;
use polybolos_client::{Client, ClientError, Statement, SubmitOptions};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{Ending, Press, STATEMENT_DEADLINE, message, within};

const DEPTH: usize = 10_000;
/// Of chains whose parts stand side by side in the text: a plan may be made of them, and is as deep.
const LINKS: usize = 10_000;
/// With it the parser does not count any more.
const NO_LIMIT: (&str, &str) = ("datafusion.sql_parser.recursion_limit", "1000000");
const UNLIMITED_PERCENT: u32 = 30;

/// A statement and what is said of it.
pub(crate) struct Shape {
    name: String,
    statement: Statement,
    options: BTreeMap<String, String>,
    /// A chain is no wrong statement.
    may_be_answered: bool,
}

/// What is put around something again and again: name, begin, then before, within and after, end.
const NESTED: [[&str; 6]; 14] = [
    ["parentheses", "SELECT ", "(", "1", ")", ""],
    ["NOT", "SELECT ", "NOT ", "true", "", ""],
    ["minus", "SELECT ", "- ", "1", "", ""],
    ["CASE", "SELECT ", "CASE WHEN true THEN ", "1", " END", ""],
    ["functions", "SELECT ", "abs(", "1", ")", ""],
    ["CAST", "SELECT ", "CAST(", "1", " AS INT)", ""],
    ["arrays", "SELECT ", "[", "1", "]", ""],
    ["subqueries", "", "SELECT * FROM (", "SELECT 1 AS a", ") AS t", ""],
    ["scalar subqueries", "SELECT ", "(SELECT ", "1", ")", ""],
    ["EXISTS", "SELECT 1 WHERE ", "EXISTS (SELECT 1 WHERE ", "true", ")", ""],
    ["joins", "SELECT * FROM ", "(", "(SELECT 1) AS t", ")", ""],
    ["EXPLAIN", "", "EXPLAIN ", "SELECT 1", "", ""],
    ["types", "SELECT CAST(NULL AS ", "ARRAY<", "INT", ">", ")"],
    ["structs", "SELECT CAST(NULL AS ", "STRUCT<a ", "INT", ">", ")"],
];

/// What stands side by side: name, begin, link, end.
const CHAINED: [(&str, &str, &str, &str); 6] = [
    ("sum", "SELECT n", " + n", " FROM generate_series(1, 3) AS t(n)"),
    ("OR", "SELECT n FROM generate_series(1, 3) AS t(n) WHERE n = 0", " OR n = 1", ""),
    ("concatenation", "SELECT 'a'", " || 'a'", ""),
    ("UNION", "SELECT 1", " UNION ALL SELECT 1", ""),
    ("casts", "SELECT 1", "::INT", ""),
    ("indices", "SELECT [1]", "[1]", ""),
];

pub(crate) fn sql(random: &mut StdRng) -> Shape {
    let mut options = BTreeMap::new();
    if random.random_range(0..100) < UNLIMITED_PERCENT {
        options.insert(NO_LIMIT.0.to_owned(), NO_LIMIT.1.to_owned());
    }
    let (name, text, may_be_answered) = match random.random_range(0..21) {
        0..14 => match NESTED.choose(random) {
            Some(shape) => (format!("{DEPTH} {}", shape[0]), nested(*shape), false),
            None => (String::new(), String::new(), false),
        },
        14..19 => match CHAINED.choose(random) {
            Some((name, begin, link, end)) => {
                (format!("{LINKS} of {name}"), format!("{begin}{}{end}", link.repeat(LINKS)), true)
            }
            None => (String::new(), String::new(), false),
        },
        19 => (format!("{LINKS} common table expressions"), tables(), true),
        _ => ("a text that is too long".to_owned(), format!("SELECT '{}'", "x".repeat(1_000_001)), false),
    };
    let name = if options.is_empty() { name } else { format!("{name}, without the parser's limit") };
    Shape { name, statement: Statement::Sql(text), options, may_be_answered }
}

fn nested([_, begin, before, within, after, end]: [&str; 6]) -> String {
    format!("{begin}{}{within}{}{end}", before.repeat(DEPTH), after.repeat(DEPTH))
}

/// Each reads the one before, so that the plan is deep and the text is not.
fn tables() -> String {
    let one = |n: usize| format!("t{n} AS (SELECT x + 1 AS x FROM t{})", n - 1);
    let all: Vec<String> = (1..LINKS).map(one).collect();
    format!("WITH t0 AS (SELECT 1 AS x), {} SELECT x FROM t{}", all.join(", "), LINKS - 1)
}

// Fields of DataFusion's LogicalPlanNode and LogicalExprNode: datafusion-proto 55, `datafusion.proto`.
const SELECTION: u32 = 4;
const LIMIT: u32 = 5;
const EMPTY_RELATION: u32 = 10;
const UNION: u32 = 19;
const DISTINCT: u32 = 23;
const NOT_EXPR: u32 = 8;
const NEGATIVE: u32 = 13;

pub(crate) fn plan(random: &mut StdRng) -> Shape {
    let mut one_row = Vec::new();
    message::put_number(&mut one_row, 1, 1);
    let mut leaf = Vec::new();
    message::put(&mut leaf, EMPTY_RELATION, &one_row);
    let (name, bytes) = match random.random_range(0..6) {
        0 => ("DISTINCT", within_each_other(&[DISTINCT, 1], leaf)),
        1 => ("LIMIT", within_each_other(&[LIMIT, 1], leaf)),
        2 => ("NOT in a filter", filtered(&leaf, NOT_EXPR)),
        3 => ("minus in a filter", filtered(&leaf, NEGATIVE)),
        4 => ("inputs of a union, side by side", {
            let mut plan = Vec::new();
            message::put(&mut plan, UNION, &message::huge(&[1], 8 * 1024 * 1024));
            plan
        }),
        _ => ("garbage", [vec![0x0a], message::bytes(random, 100_000)].concat()),
    };
    let statement = Statement::LogicalPlan(Bytes::from(bytes));
    Shape {
        name: format!("a plan: {DEPTH} {name}"),
        statement,
        options: BTreeMap::new(),
        may_be_answered: false,
    }
}

fn filtered(input: &[u8], expression: u32) -> Vec<u8> {
    let mut selection = Vec::new();
    message::put(&mut selection, 1, input);
    // A column without a name, within all of them.
    message::put(&mut selection, 2, &within_each_other(&[expression, 1], vec![0x0a, 0x00]));
    let mut plan = Vec::new();
    message::put(&mut plan, SELECTION, &selection);
    plan
}

/// `innermost` within [`DEPTH`] messages, the fields of which are `way`, again and again.
fn within_each_other(way: &[u32], innermost: Vec<u8>) -> Vec<u8> {
    // From its end to its begin, so that nothing is moved.
    let mut reversed = innermost;
    reversed.reverse();
    for _ in 0..DEPTH {
        for number in way.iter().rev() {
            let mut head = Vec::new();
            message::put_varint(&mut head, u64::from(*number) << 3 | 2);
            message::put_varint(&mut head, reversed.len() as u64);
            reversed.extend(head.into_iter().rev());
        }
    }
    reversed.reverse();
    reversed
}

pub(crate) async fn run(press: &Press, client: &Client, kind: &'static str, shape: Shape) {
    let Shape { name, statement, options, may_be_answered } = shape;
    let deadline = Some(STATEMENT_DEADLINE);
    let options = SubmitOptions { options, deadline, ..SubmitOptions::default() };
    let ending = within(STATEMENT_DEADLINE * 2, async {
        match client.query_with(statement, options).await {
            Ok(_) => Ending::Answered,
            Err(error) => ended(&error),
        }
    });
    press.tolls.note(kind, &ending.await, may_be_answered, || name);
}

fn ended(error: &ClientError) -> Ending {
    let refused = |how: &str| Ending::Refused(how.to_owned());
    match error {
        ClientError::Statement { .. } => refused("statement"),
        ClientError::TooLarge { .. } => refused("too large"),
        ClientError::Refused { .. } => refused("refused"),
        ClientError::JobFailed { .. } => refused("failed"),
        ClientError::Busy { .. } => Ending::Elsewhere("busy".to_owned()),
        ClientError::Deadline { .. } => Ending::Hung,
        other => Ending::Elsewhere(crate::history::class(&other.to_string()).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn statements_are_nested_as_they_say() {
        let text = |name: &str| nested(*NESTED.iter().find(|shape| shape[0] == name).unwrap());
        let cast = text("types");
        assert!(cast.starts_with("SELECT CAST(NULL AS ARRAY<ARRAY<") && cast.ends_with(">>)"));
        let explain = text("EXPLAIN");
        assert!(explain.starts_with("EXPLAIN EXPLAIN ") && explain.ends_with(" EXPLAIN SELECT 1"));
        assert!(text("subqueries").starts_with("SELECT * FROM (SELECT * FROM ("));
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..200 {
            let shape = sql(&mut random);
            let Statement::Sql(text) = shape.statement else { panic!("it is SQL") };
            assert!(text.len() > DEPTH, "{}", shape.name);
        }
    }

    #[test]
    fn plans_are_nested_as_they_say() {
        let plan = within_each_other(&[DISTINCT, 1], vec![7; 3]);
        // The innermost has one byte of length, and its two tags are of two bytes and of one.
        assert!(plan.ends_with(&[0xba, 0x01, 0x05, 0x0a, 0x03, 7, 7, 7]));
        assert!(plan.len() > DEPTH * 5);
    }
}
