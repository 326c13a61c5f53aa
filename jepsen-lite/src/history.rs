//! Events to operations: each invoke with its end.

use std::{
    collections::{BTreeMap, HashMap},
    io::BufRead,
    path::Path,
};

use serde::Serialize;
use serde_json::Value;

use crate::{Event, HistoryError, Kind, Model, ReadLimits, files, read};

/// What one client did, from its invoke to its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operation {
    /// Of the invoke.
    pub line: usize,
    /// Of the end; the invoke's for one that never ended.
    pub end_line: usize,
    pub process: u64,
    pub f: String,
    pub key: String,
    /// The invoke's value.
    pub input: Value,
    /// The end's value.
    pub output: Value,
    /// [`Kind::Ok`], [`Kind::Fail`] or [`Kind::Info`].
    pub kind: Kind,
    pub start_ns: u64,
    /// None when nobody knows whether it took effect: it may still do so at any time.
    pub end_ns: Option<u64>,
    pub error: Option<String>,
    pub node: Option<String>,
    pub model: Option<Model>,
}

impl Operation {
    /// Whether this one certainly had its effect before the other began.
    ///
    /// Equal times say nothing between two processes, since clocks tick more coarsely than clients act. Within a process
    /// the order of the lines counts.
    pub fn is_before(&self, other: &Self) -> bool {
        self.end_ns.is_some_and(|end| end < other.start_ns)
            || (self.kind == Kind::Ok && self.process == other.process && self.line < other.line)
    }

    fn begin(line: usize, event: Event) -> Self {
        Self {
            line,
            end_line: line,
            process: event.process,
            f: event.f,
            key: event.key.unwrap_or_default(),
            input: event.value,
            output: Value::Null,
            kind: Kind::Info,
            start_ns: event.time,
            end_ns: None,
            error: event.error,
            node: event.node,
            model: event.model,
        }
    }

    fn end(&mut self, line: usize, event: Event) {
        self.end_line = line;
        self.kind = event.kind;
        self.end_ns = (event.kind != Kind::Info).then_some(event.time);
        self.output = event.value;
        self.error = event.error.or(self.error.take());
        self.node = event.node.or(self.node.take());
    }
}

/// All operations, by the line of their invoke.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    operations: Vec<Operation>,
}

impl History {
    /// Reads JSON lines.
    ///
    /// # Errors
    /// The first line that is no event, that fits no operation, or that passes a limit.
    pub fn read(input: impl BufRead, limits: &ReadLimits) -> Result<Self, HistoryError> {
        Self::pair(read::events(input, limits)?)
    }

    /// As [`History::read`], from a file.
    ///
    /// # Errors
    /// As [`History::read`], or the file can't be opened.
    pub fn from_file(path: &Path, limits: &ReadLimits) -> Result<Self, HistoryError> {
        let input = files::open(path).map_err(|source| HistoryError::Open { path: path.into(), source })?;
        Self::read(input, limits)
    }

    /// The events count as lines, from 1.
    ///
    /// # Errors
    /// The first event that fits no operation.
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Result<Self, HistoryError> {
        Self::pair((1..).zip(events))
    }

    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operations that are for `model`: those that name it and those that name none.
    pub(crate) fn of(&self, model: Model) -> Vec<&Operation> {
        self.operations.iter().filter(|op| op.model.is_none_or(|of| of == model)).collect()
    }

    fn pair(events: impl IntoIterator<Item = (usize, Event)>) -> Result<Self, HistoryError> {
        let mut operations: Vec<Operation> = Vec::new();
        let mut open: HashMap<u64, usize> = HashMap::new();
        let mut clocks: HashMap<u64, u64> = HashMap::new();
        for (line, event) in events {
            let (process, time_ns) = (event.process, event.time);
            if let Some(before_ns) = clocks.insert(process, time_ns).filter(|before| *before > time_ns) {
                return Err(HistoryError::BackInTime { line, process, before_ns, time_ns });
            }
            if event.kind == Kind::Invoke {
                if let Some(before) = open.insert(process, operations.len()).and_then(|i| operations.get(i)) {
                    let (open, open_line) = (before.f.clone(), before.line);
                    return Err(HistoryError::StillOpen { line, process, f: event.f, open, open_line });
                }
                operations.push(Operation::begin(line, event));
                continue;
            }
            let Some(operation) = open.remove(&process).and_then(|index| operations.get_mut(index)) else {
                return Err(HistoryError::NotOpen { line, process, f: event.f });
            };
            if operation.f != event.f || event.key.as_ref().is_some_and(|key| *key != operation.key) {
                let (open, open_line) = (operation.f.clone(), operation.line);
                return Err(HistoryError::OtherOperation { line, process, f: event.f, open, open_line });
            }
            operation.end(line, event);
        }
        Ok(Self { operations })
    }
}

/// The operations of each key.
pub(crate) fn by_key<'a>(operations: &[&'a Operation]) -> BTreeMap<&'a str, Vec<&'a Operation>> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation);
    }
    keys
}
