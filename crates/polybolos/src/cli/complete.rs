//! Completion at the prompt: keywords, tables and commands.

use std::sync::{Arc, Mutex, PoisonError};

use rustyline::{Context, Helper, Highlighter, Hinter, Validator, completion::Completer};

const COMMANDS: [&str; 4] = ["\\d", "\\q", "\\timing", "\\?"];

const KEYWORDS: [&str; 78] = [
    "ALL",
    "ANALYZE",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COALESCE",
    "COUNT",
    "CREATE",
    "CROSS",
    "CSV",
    "CURRENT_DATE",
    "DATE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IF",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "JSON",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OPTIONS",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARQUET",
    "PARTITION",
    "PARTITIONED",
    "REPLACE",
    "RESET",
    "RIGHT",
    "SELECT",
    "SET",
    "SHOW",
    "STORED",
    "SUM",
    "TABLE",
    "TABLES",
    "THEN",
    "TRUE",
    "UNION",
    "VALUES",
    "VIEW",
    "WHERE",
];

/// Shares the list of tables with the prompt, which refreshes it.
#[derive(Helper, Hinter, Highlighter, Validator)]
pub(crate) struct SqlHelper {
    names: Arc<Mutex<Vec<String>>>,
}

impl SqlHelper {
    pub(crate) fn new(names: Arc<Mutex<Vec<String>>>) -> Self {
        Self { names }
    }
}

impl Completer for SqlHelper {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(candidates(line.get(..at).unwrap_or_default(), &names))
    }
}

/// Where the word under the cursor starts, and what it may become. Keywords follow the case of its first letter.
fn candidates(before: &str, names: &[String]) -> (usize, Vec<String>) {
    let is_word = |c: char| c.is_alphanumeric() || "_.\\?".contains(c);
    let start = before
        .rfind(|c| !is_word(c))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let word = before.get(start..).unwrap_or_default();
    let lower = word.to_lowercase();
    if word.starts_with('\\') {
        let commands = COMMANDS.iter().filter(|command| command.starts_with(word));
        return (start, commands.map(|command| (*command).to_owned()).collect());
    }
    let mut found: Vec<String> =
        names.iter().filter(|name| name.to_lowercase().starts_with(&lower)).cloned().collect();
    if !word.is_empty() && !before.trim_start().starts_with('\\') {
        let keywords = KEYWORDS.iter().filter(|keyword| keyword.to_lowercase().starts_with(&lower));
        let in_lower_case = word.starts_with(char::is_lowercase);
        found.extend(
            keywords.map(|word| if in_lower_case { word.to_lowercase() } else { (*word).to_owned() }),
        );
    }
    (start, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_first_and_keywords_keep_their_case() {
        let names = ["orders".to_owned(), "lineitem".to_owned()];
        assert_eq!(
            candidates("select * from or", &names),
            (14, vec!["orders".into(), "or".into(), "order".into()])
        );
        assert_eq!(candidates("SEL", &names), (0, vec!["SELECT".into()]));
        assert_eq!(candidates("select a,lin", &names), (9, vec!["lineitem".into()]));
        assert_eq!(candidates("\\d l", &names), (3, vec!["lineitem".into()]));
        assert_eq!(candidates("\\t", &names), (0, vec!["\\timing".into()]));
        assert_eq!(candidates("select 'é", &names).0, 8);
    }
}
