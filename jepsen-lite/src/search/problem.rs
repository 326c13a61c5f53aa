//! The operations of one key as the search wants them.

use std::collections::HashMap;

use crate::{HistoryError, Kind, Operation, models::Spec};

/// One operation that an order has to contain, or may contain.
#[derive(Debug, Clone)]
pub(crate) struct Item<C> {
    /// Index in the operations that the problem was made of.
    pub(crate) op: usize,
    pub(crate) call: C,
    start_ns: u64,
}

/// Begin or end of a required operation, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    Begin(usize),
    End(usize),
}

#[derive(Debug)]
pub(crate) struct Problem<C> {
    /// Those with an answer, by their begin. Each must be in the order.
    pub(crate) required: Vec<Item<C>>,
    /// Those of which nobody heard, by their begin. Each may be in the order, anywhere after its begin.
    pub(crate) optional: Vec<Item<C>>,
    /// Begins and ends of the required ones, by time. At equal times begins come first: nobody knows who was earlier.
    pub(crate) edges: Vec<Edge>,
    /// For each optional one, the one before it that can't be told from it.
    pub(crate) twin: Vec<Option<usize>>,
    /// For each optional one, whether another optional one may need it.
    pub(crate) chained: Vec<bool>,
    /// For each edge, how many optional ones have begun before it.
    pub(crate) begun: Vec<usize>,
}

impl<C: Clone + Eq + std::hash::Hash> Problem<C> {
    /// Operations whose answer must not be used are `weak`: they may have happened, as if nobody had heard. With a `part`
    /// only what the calls say of it is looked at.
    ///
    /// # Errors
    /// An operation that the specification does not know.
    pub(crate) fn new<S: Spec<Call = C>>(
        spec: &mut S,
        ops: &[&Operation],
        weak: impl Fn(usize) -> bool,
        part: Option<u32>,
    ) -> Result<Self, HistoryError> {
        let (mut required, mut optional) = (Vec::new(), Vec::new());
        for (op, operation) in ops.iter().enumerate().filter(|(_, op)| op.kind != Kind::Fail) {
            let Some(call) = call(spec, operation, weak(op), part)? else { continue };
            let item = Item { op, call, start_ns: operation.start_ns };
            match operation.end_ns.filter(|_| !weak(op)) {
                Some(end_ns) => required.push((item, end_ns)),
                None => optional.push(item),
            }
        }
        required.sort_by_key(|(item, _)| item.start_ns);
        optional.sort_by_key(|item| item.start_ns);
        let mut timed: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * required.len());
        for (index, (item, end_ns)) in required.iter().enumerate() {
            timed.push((item.start_ns, false, index));
            timed.push((*end_ns, true, index));
        }
        timed.sort_unstable();
        let begun = timed.iter().map(|(time, ..)| optional.partition_point(|item| item.start_ns <= *time));
        let begun = begun.collect();
        let edges =
            timed.iter().map(|(_, end, index)| if *end { Edge::End(*index) } else { Edge::Begin(*index) });
        Ok(Self {
            edges: edges.collect(),
            twin: twins(&optional),
            chained: chained(spec, &optional),
            required: required.into_iter().map(|(item, _)| item).collect(),
            optional,
            begun,
        })
    }
}

/// What is known of an operation that did not fail; None if it says nothing.
pub(super) fn call<S: Spec>(
    spec: &mut S,
    op: &Operation,
    weak: bool,
    part: Option<u32>,
) -> Result<Option<S::Call>, HistoryError> {
    let call = spec.call(op, op.kind == Kind::Ok && !weak)?;
    Ok(call.and_then(|call| match part {
        Some(part) => spec.part(&call, part),
        None => Some(call),
    }))
}

/// Of very many it is not worth the time to find out.
const CHAINED: usize = 2000;

fn chained<S: Spec>(spec: &S, optional: &[Item<S::Call>]) -> Vec<bool> {
    let needed = |(index, item): (usize, &Item<S::Call>)| {
        optional.len() > CHAINED
            || optional
                .iter()
                .enumerate()
                .any(|(other, later)| other != index && spec.observes(&item.call, &later.call))
    };
    optional.iter().enumerate().map(needed).collect()
}

fn twins<C: Eq + std::hash::Hash>(optional: &[Item<C>]) -> Vec<Option<usize>> {
    let mut last: HashMap<&C, usize> = HashMap::new();
    optional.iter().enumerate().map(|(index, item)| last.insert(&item.call, index)).collect()
}
