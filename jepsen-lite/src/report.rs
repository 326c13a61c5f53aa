//! What the checks found.

use std::{io, path::Path};

use serde::Serialize;

use crate::{Check, Model, Operation, Verdict, files, show};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub model: Model,
    /// The worst of all checks; unknown if there was nothing to judge.
    pub verdict: Verdict,
    pub operations: usize,
    pub processes: usize,
    pub keys: usize,
    /// Operations of which nobody knows whether they took effect.
    pub indeterminate: usize,
    pub failed: usize,
    pub checks: Vec<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub check: Check,
    pub verdict: Verdict,
    /// How many operations it looked at.
    pub judged: usize,
    /// Why the verdict is unknown.
    pub reasons: Vec<String>,
    /// At most [`Outcome::KEPT`].
    pub violations: Vec<Violation>,
    pub violation_count: usize,
}

/// A small set of operations that contradict each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Violation {
    pub key: String,
    /// One sentence.
    pub what: String,
    /// By their begin.
    pub window: Vec<Operation>,
    /// Indices in the window: the order that came furthest, with what it leads to in `state`.
    pub linearized: Vec<usize>,
    /// Indices in the window: what contradicts.
    pub stuck: Vec<usize>,
    /// The object after `linearized`; only of linearizability.
    pub state: Option<String>,
    /// Whether the window contradicts itself whatever was before it.
    pub anything_before: bool,
}

impl Outcome {
    pub const KEPT: usize = 10;

    pub(crate) fn new(check: Check) -> Self {
        Self {
            check,
            verdict: Verdict::Valid,
            judged: 0,
            reasons: Vec::new(),
            violations: Vec::new(),
            violation_count: 0,
        }
    }

    pub(crate) fn violated(&mut self, violation: Violation) {
        self.verdict = Verdict::Invalid;
        self.violation_count += 1;
        if self.violations.len() < Self::KEPT {
            self.violations.push(violation);
        }
    }

    pub(crate) fn unknown(&mut self, reason: String) {
        self.verdict = self.verdict.max(Verdict::Unknown);
        if self.reasons.len() < Self::KEPT {
            self.reasons.push(reason);
        }
    }
}

impl Violation {
    /// Operations that contradict each other as they are.
    pub(crate) fn of(what: String, ops: &[&Operation]) -> Self {
        let mut window: Vec<Operation> = ops.iter().map(|op| (*op).clone()).collect();
        window.sort_by_key(|op| (op.start_ns, op.line));
        window.dedup_by_key(|op| op.line);
        let key = window.first().map(|op| op.key.clone()).unwrap_or_default();
        let stuck = (0..window.len()).collect();
        Self { key, what, window, linearized: Vec::new(), stuck, state: None, anything_before: false }
    }
}

impl Report {
    /// For a terminal.
    pub fn text(&self) -> String {
        show::text::report(self)
    }

    /// One page that needs nothing else.
    pub fn html(&self) -> String {
        show::page::page(self)
    }

    /// Writes [`Report::html`] to a file.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save_html(&self, path: &Path) -> io::Result<()> {
        files::write(path, &self.html())
    }

    /// 0 valid, 1 invalid, 3 unknown. (2 is for a history that can't be read.)
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Valid => 0,
            Verdict::Invalid => 1,
            Verdict::Unknown => 3,
        }
    }
}
