//! Queries whose rows go to files: `COPY (query) TO 'place' STORED AS PARQUET`. Their answer is how many rows there are.

/// Folders and files are below it, and below those of no table.
pub const WRITTEN: &str = "out";

/// The statement that writes the rows of a query. `place` is a folder, with a `/` at its end, or a file.
pub(super) fn copy(query: &str, place: &str) -> String {
    format!("COPY ({query}) TO 'sim://tables/{WRITTEN}/{place}' STORED AS PARQUET")
}

/// The query of such a statement.
pub fn copied(sql: &str) -> Option<&str> {
    let (query, _) = sql.strip_prefix("COPY (")?.rsplit_once(") TO 'sim://")?;
    Some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_knows_its_query() {
        let query = "SELECT ')' AS c1 FROM (SELECT 1 AS c2)";
        assert_eq!(copied(&copy(query, "a/")), Some(query));
        assert_eq!(copied(query), None);
    }
}
