//! Statements that would take the process down with their depth, and those that are as deep as is allowed.

use super::{super::nesting as limits, *};

/// Deeper than any stack, in as few bytes as can be.
const DEPTH: usize = 50_000;

/// Name, begin, then before, within and after, end.
const NESTED: [[&str; 6]; 12] = [
    ["parentheses", "SELECT ", "(", "1", ")", ""],
    ["NOT", "SELECT ", "NOT ", "true", "", ""],
    ["minus", "SELECT ", "- ", "1", "", ""],
    ["CASE", "SELECT ", "CASE WHEN 1 THEN ", "1", " END", ""],
    ["functions", "SELECT ", "abs(", "1", ")", ""],
    ["subqueries", "", "SELECT * FROM (", "SELECT 1", ")", ""],
    ["EXPLAIN", "", "EXPLAIN ", "SELECT 1", "", ""],
    ["types", "SELECT CAST(NULL AS ", "ARRAY<", "INT", ">", ")"],
    ["structs", "SELECT CAST(NULL AS ", "STRUCT<a INT, b ", "INT", ">", ")"],
    ["a sum", "SELECT 1", " + n", " FROM generate_series(1, 3) AS t(n)", "", ""],
    ["unions", "SELECT 1", " UNION ALL SELECT 1", "", "", ""],
    ["indices", "SELECT [1]", "[1]", "", "", ""],
];

fn nested([_, begin, before, within, after, end]: [&str; 6], depth: usize) -> String {
    format!("{begin}{}{within}{}{end}", before.repeat(depth), after.repeat(depth))
}

#[tokio::test]
async fn what_is_too_deep_is_refused_whatever_the_session_says() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        for shape in NESTED {
            let sql = nested(shape, DEPTH.min(900_000 / (shape[2].len() + shape[4].len())));
            let error = fixture.error(&sql).await;
            assert!(error.contains("too deep") || error.contains("ecursion"), "{}: {error}", shape[0]);
        }
        fixture.run("SET datafusion.sql_parser.recursion_limit = 200").await;
    }
    let error = fixture.error("SET datafusion.sql_parser.recursion_limit = 201").await;
    assert!(error.contains("the most is 200"), "{error}");
}

#[tokio::test]
async fn tables_that_read_each_other_are_bounded() {
    let fixture = Fixture::new();
    let chain = |length: usize| {
        let one = |n: usize| format!(", t{n} AS (SELECT x + 1 AS x FROM t{})", n - 1);
        let all: String = (1..length).map(one).collect();
        format!("WITH t0 AS (SELECT 1 AS x){all} SELECT x FROM t{}", length - 1)
    };
    let error = fixture.error(&chain(10_000)).await;
    assert!(error.contains("too deep"), "{error}");
    // As many as are allowed have an answer, or an error of another kind, within the time of a statement.
    let _planned_or_refused = fixture.sql(&chain(limits::MAX_QUERIES - 1)).await;
}

#[tokio::test]
async fn as_deep_as_is_allowed_is_planned_or_refused_in_words() {
    let mut fixture = Fixture::new();
    fixture.run("SET datafusion.sql_parser.recursion_limit = 200").await;
    for shape in NESTED {
        for depth in [190, limits::MAX_DEPTH - 10] {
            if let Err(error) = fixture.sql(&nested(shape, depth)).await {
                assert!(!matches!(error, PlanningError::Lost), "{} of {depth}: {error}", shape[0]);
            }
        }
    }
    let ors = format!("SELECT n FROM generate_series(1, 3) AS t(n) WHERE n = 0{}", " OR n = 1".repeat(2_000));
    fixture.job(&ors).await;
}

#[tokio::test]
async fn an_encoded_plan_that_is_too_deep_is_refused() {
    let fixture = Fixture::new();
    // LogicalPlanNode { distinct: DistinctNode { input: … } }, from its end to its begin.
    let mut reversed = Vec::new();
    for _ in 0..DEPTH {
        for tag in [&[0x0a][..], &[0xba, 0x01]] {
            let mut head = tag.to_vec();
            prost::encoding::encode_varint(reversed.len() as u64, &mut head);
            reversed.extend(head.into_iter().rev());
        }
    }
    reversed.reverse();
    let refused = fixture.plan(Statement::LogicalPlan(Bytes::from(reversed))).await;
    assert!(matches!(refused, Err(PlanningError::DataFusion(_))));
}
