//! Statements that write rows to a table, and what a scan of it finds of each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Model, bad_input, bad_output};
use crate::{HistoryError, Operation};

/// How many rows of one statement a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) rows: u64,
    pub(crate) distinct: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowsOp {
    Insert {
        statement: String,
        rows: u64,
    },
    /// None if nobody heard the answer.
    Scan(Option<BTreeMap<String, Found>>),
}

impl RowsOp {
    pub(crate) fn parse(op: &Operation) -> Result<Self, HistoryError> {
        match op.f.as_str() {
            "insert" => {
                let statement = match op.input.get("statement") {
                    Some(Value::String(text)) => Some(text.clone()),
                    Some(Value::Number(number)) => Some(number.to_string()),
                    Some(_) | None => None,
                };
                match (statement, op.input.get("rows").and_then(Value::as_u64)) {
                    (Some(statement), Some(rows)) => Ok(Self::Insert { statement, rows }),
                    _ => Err(bad_input(
                        op,
                        "an object with \"statement\", a name, and \"rows\", a number of rows",
                    )),
                }
            }
            "scan" if op.end_ns.is_none() || op.kind == crate::Kind::Fail => Ok(Self::Scan(None)),
            "scan" => found(&op.output)
                .map(|found| Self::Scan(Some(found)))
                .ok_or_else(|| bad_output(op, "an object of STATEMENT: [ROWS, DISTINCT ROWS]")),
            _ => Err(Model::Rows.unknown_function(op)),
        }
    }
}

fn found(output: &Value) -> Option<BTreeMap<String, Found>> {
    output.as_object()?.iter().map(|(statement, found)| Some((statement.clone(), pair(found)?))).collect()
}

fn pair(found: &Value) -> Option<Found> {
    match found.as_array()?.as_slice() {
        [rows, distinct] => Some(Found { rows: rows.as_u64()?, distinct: distinct.as_u64()? }),
        _ => None,
    }
}
