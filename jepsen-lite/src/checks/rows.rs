//! Rows once: an acknowledged statement's rows are there exactly once, an indeterminate one's at most once, no others.

use std::collections::BTreeMap;

use super::Case;
use crate::{
    HistoryError, Kind, Operation, Outcome, Violation,
    models::rows::{Found, RowsOp},
};

struct Table<'a> {
    /// Statement → who wrote it, and how many rows.
    inserts: BTreeMap<String, (&'a Operation, u64)>,
    /// By their begin.
    scans: Vec<(&'a Operation, BTreeMap<String, Found>)>,
}

pub(super) fn check(case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    for (key, ops) in case.keys {
        let table = Table::of(ops)?;
        outcome.judged += table.scans.len() + table.inserts.len();
        if table.scans.is_empty() {
            outcome.unknown(format!("nobody has scanned table {key}"));
        }
        for (scan, found) in &table.scans {
            for violation in contradictions(&table, scan, found) {
                outcome.violated(violation);
            }
        }
        for violation in vanished(&table) {
            outcome.violated(violation);
        }
    }
    Ok(())
}

impl<'a> Table<'a> {
    fn of(ops: &[&'a Operation]) -> Result<Self, HistoryError> {
        let (mut inserts, mut scans) = (BTreeMap::new(), Vec::new());
        for op in ops.iter().copied() {
            match RowsOp::parse(op)? {
                RowsOp::Insert { statement, rows } => {
                    if let Some((first, _)) = inserts.insert(statement.clone(), (op, rows)) {
                        let first: &Operation = first;
                        return Err(HistoryError::StatementTwice {
                            line: op.line,
                            statement,
                            first: first.line,
                        });
                    }
                }
                RowsOp::Scan(Some(found)) => scans.push((op, found)),
                RowsOp::Scan(None) => {}
            }
        }
        scans.sort_by_key(|(op, _)| op.start_ns);
        Ok(Self { inserts, scans })
    }
}

/// What one scan found that can't be.
fn contradictions(table: &Table<'_>, scan: &Operation, found: &BTreeMap<String, Found>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (statement, (insert, rows)) in &table.inserts {
        let seen = found.get(statement).copied().unwrap_or(Found { rows: 0, distinct: 0 });
        let what = if seen.rows > seen.distinct {
            Some(format!("{} rows of statement {statement} are there twice", seen.rows - seen.distinct))
        } else if seen.rows > *rows {
            Some(format!("statement {statement} wrote {rows} rows, and {} are there", seen.rows))
        } else if insert.kind == Kind::Ok && insert.is_before(scan) && seen.rows < *rows {
            Some(format!(
                "statement {statement} was acknowledged with {rows} rows, and {} are there",
                seen.rows
            ))
        } else if insert.kind == Kind::Fail && seen.rows > 0 {
            Some(format!("statement {statement} failed, and {} of its rows are there", seen.rows))
        } else if scan.is_before(insert) && seen.rows > 0 {
            Some(format!("{} rows of statement {statement} are there before it was written", seen.rows))
        } else {
            None
        };
        violations.extend(what.map(|what| Violation::of(what, &[insert, scan])));
    }
    for (statement, seen) in found {
        if !table.inserts.contains_key(statement) && seen.rows > 0 {
            let what = format!("{} rows are there of {statement}, which nobody wrote", seen.rows);
            violations.push(Violation::of(what, &[scan]));
        }
    }
    violations
}

/// Rows that a scan found and a later one did not.
fn vanished(table: &Table<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (statement, (insert, rows)) in &table.inserts {
        let mut most: Option<(&Operation, u64)> = None;
        let mut ended: Vec<(&Operation, u64)> = table
            .scans
            .iter()
            .map(|(scan, found)| (*scan, found.get(statement).map_or(0, |found| found.rows)))
            .collect();
        let begun = ended.clone();
        ended.sort_by_key(|(scan, _)| scan.end_ns);
        let mut ended = ended.into_iter().peekable();
        for (scan, seen) in begun {
            while let Some(before) = ended.next_if(|(before, _)| before.is_before(scan)) {
                most = most.filter(|(_, most)| *most >= before.1).or(Some(before));
            }
            let Some((before, more)) = most.filter(|(_, more)| seen < *more) else { continue };
            // That one is told as a gap already.
            if insert.kind == Kind::Ok && insert.is_before(scan) && seen < *rows {
                continue;
            }
            let what = format!("{more} rows of statement {statement} were there, and later only {seen}");
            violations.push(Violation::of(what, &[insert, before, scan]));
        }
    }
    violations
}
