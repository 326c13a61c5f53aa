//! The ops of a run: the views that a query reads, and the query.

use polybolos_model::recorded::Recorded;

use crate::{
    schedule::{Action, Op},
    workload::mentions,
};

/// The statement without the words that ask for its profile.
pub(super) fn query(sql: &str) -> String {
    let mut rest = sql.trim();
    if let Some(after) = after(rest, "EXPLAIN").and_then(|rest| after_word(rest, "ANALYZE")) {
        rest = after_word(after, "VERBOSE").unwrap_or(after);
    }
    rest.trim().trim_end_matches(';').trim_end().to_owned()
}

fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (begin, rest) = text.split_at_checked(word.len())?;
    (begin.eq_ignore_ascii_case(word) && rest.starts_with(char::is_whitespace)).then_some(rest)
}

fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    after(text.trim_start(), word)
}

/// Views, each after those that it reads, then the query, and its id. Ids are from 1.
pub(super) fn ops(recorded: &Recorded, sql: String) -> (Vec<Op>, u32) {
    let mut views: Vec<(&str, String)> =
        recorded.views.iter().filter_map(|view| Some((view.name.as_str(), created(&view.sql)?))).collect();
    let mut ordered: Vec<String> = Vec::new();
    while !views.is_empty() {
        let reads_other =
            |own: &str, sql: &str| views.iter().any(|(name, _)| *name != own && mentions(sql, name));
        // Views that read each other, which the cluster refuses anyway, come as they are.
        let next = views.iter().position(|(name, sql)| !reads_other(name, sql)).unwrap_or(0);
        ordered.push(views.remove(next).1);
    }
    let mut ops = Vec::new();
    for (id, sql) in (1..).zip(ordered) {
        ops.push(Op { id, at_ms: 0, client: 1, action: Action::Ddl { sql } });
    }
    let id = u32::try_from(ops.len() + 1).unwrap_or(u32::MAX);
    let action = Action::Query {
        sql,
        ordered: false,
        key: None,
        options: Default::default(),
        abandon_after: None,
        cancel_after_ms: None,
        read_after_ms: None,
    };
    ops.push(Op { id, at_ms: 0, client: 1, action });
    (ops, id)
}

/// `CREATE VIEW …` of whatever form the statement had.
fn created(sql: &str) -> Option<String> {
    let rest = after(sql.trim(), "CREATE")?;
    let rest = after_word(rest, "OR").and_then(|rest| after_word(rest, "REPLACE")).unwrap_or(rest);
    let rest = after_word(rest, "VIEW")?;
    let exists = |rest| after_word(after_word(after_word(rest, "IF")?, "NOT")?, "EXISTS");
    Some(format!("CREATE VIEW {}", exists(rest).unwrap_or(rest).trim()))
}
