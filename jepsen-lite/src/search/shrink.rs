//! Makes a contradiction small without making another one of it.
//!
//! Every step leaves out only what can't turn an explainable history into one that is not, so that what is left is true
//! evidence against the whole. Nothing after the end that no order can pass matters. What was before some moment may be
//! forgotten if the object may be in any state then. An operation may go if no other that stays can depend on it.

use super::{Answer, Effort, Problem, Stuck, problem::call, search};
use crate::{Kind, Operation, models::Spec};

/// A small set of operations that no order explains.
#[derive(Debug)]
pub(crate) struct Window<S> {
    /// Indices of the operations that are left, by their begin.
    pub(crate) ops: Vec<usize>,
    /// Whether they contradict each other whatever the object was before.
    pub(crate) anything_before: bool,
    /// How far an order of these comes.
    pub(crate) stuck: Stuck<S>,
}

/// Which operations are looked at, and how.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    /// By their begin.
    pub(super) keep: Vec<usize>,
    /// For each operation, whether its answer is left out of account.
    pub(super) weak: Vec<bool>,
    /// Whether the object may be in any state at first.
    anything: bool,
    part: Option<u32>,
}

impl Evidence {
    /// All operations that may have had an effect.
    pub(super) fn all(ops: &[&Operation]) -> Self {
        let mut keep: Vec<usize> = (0..ops.len()).filter(|op| ops[*op].kind != Kind::Fail).collect();
        keep.sort_by_key(|op| ops[*op].start_ns);
        Self { keep, weak: vec![false; ops.len()], anything: false, part: None }
    }

    /// What is left when everything before a moment is forgotten. Whoever was under way then may have been done.
    pub(super) fn from(&self, ops: &[&Operation], moment_ns: u64) -> Self {
        let mut cut = Self { anything: true, ..self.clone() };
        cut.keep.retain(|op| ops[*op].end_ns.is_none_or(|end| end >= moment_ns));
        for op in &cut.keep {
            cut.weak[*op] |= ops[*op].start_ns < moment_ns;
        }
        cut
    }

    /// What is left when nothing after a moment is looked at.
    pub(super) fn until(mut self, ops: &[&Operation], moment_ns: u64) -> Self {
        self.keep.retain(|op| ops[*op].start_ns <= moment_ns);
        for op in &self.keep {
            self.weak[*op] |= ops[*op].end_ns.is_some_and(|end| end > moment_ns);
        }
        self
    }
}

struct Shrinker<'a, S: Spec> {
    spec: &'a mut S,
    ops: &'a [&'a Operation],
    effort: Effort,
    evidence: Evidence,
    stuck: Stuck<S::State>,
}

/// `stuck` is where the search of the evidence ended.
pub(super) fn shrink<S: Spec>(
    spec: &mut S,
    ops: &[&Operation],
    evidence: Evidence,
    stuck: Stuck<S::State>,
    effort: Effort,
) -> Window<S::State> {
    let mut shrinker = Shrinker { spec, ops, effort, evidence, stuck };
    shrinker.cut_end();
    shrinker.take_a_part();
    shrinker.cut_begin();
    shrinker.drop_operations();
    let Shrinker { evidence, stuck, .. } = shrinker;
    Window { ops: evidence.keep, anything_before: evidence.anything, stuck }
}

impl<S: Spec> Shrinker<'_, S> {
    /// Takes over `evidence` if nothing explains it either.
    fn accept(&mut self, evidence: Evidence) -> bool {
        let ops: Vec<&Operation> = evidence.keep.iter().map(|op| self.ops[*op]).collect();
        let weak = |index: usize| evidence.weak[evidence.keep[index]];
        // Each operation was understood before.
        let Ok(problem) = Problem::new(self.spec, &ops, weak, evidence.part) else { return false };
        self.effort.steps_left = self.effort.steps_left.saturating_sub(ops.len() as u64);
        let anything = evidence.anything.then(|| self.spec.anything()).flatten();
        let initial = anything.unwrap_or_else(|| self.spec.initial());
        match search(self.spec, &problem, initial, &mut self.effort) {
            Answer::Found | Answer::Unknown(_) => false,
            Answer::Impossible(stuck) => {
                self.stuck = stuck.renamed(&evidence.keep);
                self.evidence = evidence;
                true
            }
        }
    }

    /// Drops what begins after the end that no order can pass, and the answers that came after it.
    fn cut_end(&mut self) {
        let Some(end_ns) = self.ops[self.stuck.op].end_ns else { return };
        let mut with_answers = self.evidence.clone();
        with_answers.keep.retain(|op| self.ops[*op].start_ns <= end_ns);
        let cut = self.evidence.clone().until(self.ops, end_ns);
        let _ = self.accept(cut) || self.accept(with_answers);
    }

    /// Looks at one element alone, if that is enough.
    fn take_a_part(&mut self) {
        let Ok(Some(call)) = self.spec.call(self.ops[self.stuck.op], true) else { return };
        for part in self.spec.suspects(&self.stuck.state.clone(), &call) {
            if self.accept(Evidence { part: Some(part), ..self.evidence.clone() }) {
                return;
            }
        }
    }

    /// Forgets what was before the latest moment from which on there still is a contradiction.
    fn cut_begin(&mut self) {
        if self.spec.anything().is_none() {
            return;
        }
        let mut moments: Vec<u64> = self.evidence.keep.iter().map(|op| self.ops[*op].start_ns).collect();
        moments.dedup();
        let whole = self.evidence.clone();
        // The later the moment, the less is left to contradict: so the latest can be found by halving.
        let (mut good, mut bad) = (0, moments.len());
        while good + 1 < bad {
            let middle = usize::midpoint(good, bad);
            if self.accept(whole.from(self.ops, moments[middle])) { good = middle } else { bad = middle }
        }
    }

    /// Drops operations, many at a time and then fewer.
    fn drop_operations(&mut self) {
        let mut chunk = self.evidence.keep.len().div_ceil(2).max(1);
        loop {
            let mut dropped = false;
            let mut end = self.evidence.keep.len();
            while end > 0 && self.effort.steps_left > 0 {
                let begin = end.saturating_sub(chunk);
                dropped |= self.drop_range(begin, end);
                end = begin.min(self.evidence.keep.len());
            }
            if self.effort.steps_left == 0 || (chunk == 1 && !dropped) {
                return;
            }
            chunk = if dropped && chunk == 1 { 1 } else { (chunk / 2).max(1) };
        }
    }

    fn drop_range(&mut self, begin: usize, end: usize) -> bool {
        let Some(droppable) = self.droppable(begin, end) else { return false };
        let mut evidence = self.evidence.clone();
        evidence.keep.retain(|op| !droppable.contains(op));
        !droppable.is_empty() && self.accept(evidence)
    }

    /// Those in the range that nothing which stays can depend on.
    fn droppable(&mut self, begin: usize, end: usize) -> Option<Vec<usize>> {
        let keep = self.evidence.keep.clone();
        let mut calls = Vec::with_capacity(keep.len());
        for op in &keep {
            calls.push(call(self.spec, self.ops[*op], self.evidence.weak[*op], self.evidence.part).ok()?);
        }
        let mut goes: Vec<bool> = (0..keep.len()).map(|index| (begin..end).contains(&index)).collect();
        loop {
            let mut changed = false;
            for index in begin..end {
                let Some(call) = calls[index].as_ref().filter(|_| goes[index]) else { continue };
                let needed = (0..keep.len()).any(|other| {
                    other != index
                        && !goes[other]
                        && calls[other].as_ref().is_some_and(|other| self.spec.observes(call, other))
                });
                if needed {
                    goes[index] = false;
                    changed = true;
                }
            }
            self.effort.steps_left = self.effort.steps_left.saturating_sub(keep.len() as u64);
            if !changed {
                return Some((begin..end).filter(|index| goes[*index]).map(|index| keep[index]).collect());
            }
        }
    }
}
