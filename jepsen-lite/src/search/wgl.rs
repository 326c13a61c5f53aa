//! The search itself.

use super::{
    edges::Edges,
    problem::{Edge, Problem},
    tokens::TokenCounts,
    visited::{Bits, Visited},
};
use crate::{Budget, models::Spec};

/// What a search came to. Indices are those of the operations that the problem was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer<S> {
    Found,
    Impossible(Stuck<S>),
    /// The budget ended: why.
    Unknown(String),
}

/// Where a search came furthest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stuck<S> {
    pub(crate) order: Vec<usize>,
    /// After the order.
    pub(crate) state: S,
    /// What had to come next but could not.
    pub(crate) op: usize,
}

impl<S> Stuck<S> {
    /// With other indices.
    pub(super) fn renamed(self, names: &[usize]) -> Self {
        Self { order: self.order.into_iter().map(|op| names[op]).collect(), op: names[self.op], ..self }
    }
}

/// What searches may still use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) steps_left: u64,
    pub(crate) cached: usize,
    pub(crate) held_bytes: usize,
}

impl Effort {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self { steps_left: budget.steps, cached: budget.cached, held_bytes: HELD_BYTES }
    }
}

/// A specification may keep this much of its own, as for texts that are appended to.
const HELD_BYTES: usize = 64 << 20;

/// An operation of the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    Required(usize),
    Optional(usize),
}

/// One operation of the order, and what to try in its place.
#[derive(Debug)]
struct Frame<S> {
    pick: Pick,
    /// The state before it.
    before: S,
    /// It changed nothing, so that nothing need be tried in its place.
    forced: bool,
}

struct Search<'a, S: Spec> {
    spec: &'a mut S,
    problem: &'a Problem<S::Call>,
    edges: Edges,
    in_order: Bits,
    in_order_optional: Bits,
    visited: Visited<S::State>,
    state: S::State,
    stack: Vec<Frame<S::State>>,
    tokens: TokenCounts,
    /// Where it came furthest, and how far: the edge that it could not pass, and how many required operations it had.
    best: Option<Stuck<S::State>>,
    reach: (usize, usize),
}

/// Looks for an order, from `initial`.
pub(crate) fn search<S: Spec>(
    spec: &mut S,
    problem: &Problem<S::Call>,
    initial: S::State,
    effort: &mut Effort,
) -> Answer<S::State> {
    Search {
        tokens: TokenCounts::new(spec, problem),
        spec,
        edges: Edges::new(problem),
        problem,
        in_order: Bits::default(),
        in_order_optional: Bits::default(),
        visited: Visited::new(),
        state: initial,
        stack: Vec::new(),
        best: None,
        reach: (0, 0),
    }
    .run(effort)
}

impl<S: Spec> Search<'_, S> {
    fn run(mut self, effort: &mut Effort) -> Answer<S::State> {
        let mut tried = None;
        while self.in_order.count() < self.problem.required.len() {
            if let Some(reason) = self.exhausted(effort) {
                return Answer::Unknown(reason);
            }
            let is_new = match self.next_pick(tried, effort) {
                Some((pick, after, forced)) => {
                    let before = std::mem::replace(&mut self.state, after);
                    self.stack.push(Frame { pick, before, forced });
                    self.enter(pick);
                    self.is_new()
                }
                None => {
                    self.remember_best();
                    false
                }
            };
            tried = None;
            if !is_new {
                tried = self.back();
                if tried.is_none() {
                    return self.impossible();
                }
            }
        }
        Answer::Found
    }

    fn impossible(self) -> Answer<S::State> {
        match self.best {
            Some(stuck) => Answer::Impossible(stuck),
            // The search ends only at a place where nothing can come next, and that one is remembered.
            None => Answer::Unknown("the search ended without a place where it was stuck".to_owned()),
        }
    }

    fn exhausted(&self, effort: &Effort) -> Option<String> {
        if effort.steps_left == 0 {
            return Some("the search used up its steps; --steps allows more".to_owned());
        }
        if self.visited.cost() > effort.cached {
            return Some(format!("the search would keep more than {} configurations", effort.cached));
        }
        (self.spec.held_bytes() > effort.held_bytes)
            .then(|| format!("the search would keep more than {} bytes of values", effort.held_bytes))
    }

    /// What to try next, where `tried` was tried last: first whatever only looks, which needs no alternative;
    /// then the operation that is due, so that nothing happens before it must; then the others with an answer; then those
    /// that may never have happened.
    fn next_pick(&mut self, tried: Option<Pick>, effort: &mut Effort) -> Option<(Pick, S::State, bool)> {
        let (_, due) = self.first_end()?;
        if tried.is_none() {
            if let Some((pick, after)) = self.pick_unchanging(effort) {
                return Some((pick, after, true));
            }
            if let Some(after) = self.try_required(due, effort) {
                return Some((Pick::Required(due), after, false));
            }
        }
        let from = match tried {
            None => Some(0),
            Some(Pick::Required(op)) if op == due => Some(0),
            Some(Pick::Required(op)) => Some(self.edges.places[op][0]),
            Some(Pick::Optional(_)) => None,
        };
        if let Some(mut place) = from {
            while let Some(op) = self.candidate_after(&mut place) {
                if op != due
                    && let Some(after) = self.try_required(op, effort)
                {
                    return Some((Pick::Required(op), after, false));
                }
            }
        }
        let from = match tried {
            Some(Pick::Optional(index)) => index + 1,
            Some(Pick::Required(_)) | None => 0,
        };
        self.pick_optional(from, effort).map(|(pick, after)| (pick, after, false))
    }

    /// The next operation behind `place` that has begun when the due one ends. Only these can be next.
    fn candidate_after(&self, place: &mut usize) -> Option<usize> {
        *place = self.edges.next[*place];
        match self.edge(*place)? {
            Edge::Begin(op) => Some(op),
            Edge::End(_) => None,
        }
    }

    fn candidates(&self) -> impl Iterator<Item = usize> {
        let mut place = 0;
        std::iter::from_fn(move || self.candidate_after(&mut place))
    }

    /// An operation that only looks, and sees what is there. It can always be taken first: elsewhere nothing needs it.
    fn pick_unchanging(&mut self, effort: &mut Effort) -> Option<(Pick, S::State)> {
        let mut place = 0;
        while let Some(op) = self.candidate_after(&mut place) {
            effort.steps_left = effort.steps_left.saturating_sub(1);
            let call = &self.problem.required[op].call;
            if !self.spec.only_looks(call) {
                continue;
            }
            if let Some(after) = self.spec.step(&self.state, call).filter(|after| *after == self.state) {
                return Some((Pick::Required(op), after));
            }
        }
        None
    }

    /// The state after it, if it can be next.
    fn try_required(&mut self, op: usize, effort: &mut Effort) -> Option<S::State> {
        effort.steps_left = effort.steps_left.saturating_sub(1);
        let call = &self.problem.required[op].call;
        let after = self.spec.step(&self.state, call)?;
        let needed = self.optional_before_are_needed(call);
        (needed && !self.is_dead_end(&after, Pick::Required(op))).then_some(after)
    }

    fn pick_optional(&mut self, from: usize, effort: &mut Effort) -> Option<(Pick, S::State)> {
        let (first_end, _) = self.first_end()?;
        for index in from..self.problem.begun[first_end] {
            // Of those that can't be told apart the first is taken first.
            let twin = self.problem.twin[index];
            if self.in_order_optional.has(index) || twin.is_some_and(|twin| !self.in_order_optional.has(twin))
            {
                continue;
            }
            effort.steps_left = effort.steps_left.saturating_sub(1);
            let call = &self.problem.optional[index].call;
            if !self.is_wanted(index) {
                continue;
            }
            let Some(after) = self.spec.step(&self.state, call) else { continue };
            // It need not have happened: where it changes nothing, leave it for later.
            if after != self.state
                && !self.makes_void(call, &after)
                && !self.is_dead_end(&after, Pick::Optional(index))
            {
                return Some((Pick::Optional(index), after));
            }
        }
        None
    }

    /// Whether something that can come right after it needs it. Nothing is lost by waiting for that.
    fn is_wanted(&mut self, index: usize) -> bool {
        let call = &self.problem.optional[index].call;
        if !S::ONLY_GROWS {
            let mut next = self.candidates();
            return self.problem.chained[index]
                || next.any(|op| self.spec.observes(call, &self.problem.required[op].call));
        }
        let next: Vec<usize> = self.candidates().collect();
        next.into_iter().any(|op| {
            let next = &self.problem.required[op].call;
            self.spec.observes(call, next) && !(0..index).any(|earlier| self.comes_first(earlier, next))
        })
    }

    /// Whether `next` needs this one, too: of those that it needs the first is taken first.
    fn comes_first(&mut self, index: usize, next: &S::Call) -> bool {
        let call = &self.problem.optional[index].call;
        !self.in_order_optional.has(index)
            && self.spec.observes(call, next)
            && self.spec.step(&self.state, call).is_some_and(|after| after != self.state)
    }

    /// Whether the operation before may never have happened, and this one comes out the same without it.
    fn makes_void(&mut self, call: &S::Call, after: &S::State) -> bool {
        match self.stack.last() {
            Some(Frame { pick: Pick::Optional(_), before, .. }) => {
                self.spec.step(before, call).is_some_and(|other| other == *after)
            }
            Some(_) | None => false,
        }
    }

    /// Whether each of the operations just before, which may never have happened, is needed by `call` or by one between.
    /// Otherwise the same can be had without it, or with it later.
    fn optional_before_are_needed(&self, call: &S::Call) -> bool {
        let mut later = vec![call];
        for frame in self.stack.iter().rev() {
            let Pick::Optional(index) = frame.pick else { return true };
            let earlier = &self.problem.optional[index].call;
            if !later.iter().any(|later| self.spec.observes(earlier, later)) {
                return false;
            }
            later.push(earlier);
        }
        true
    }

    /// Whether something can't be explained any more once `pick` has led to `after`.
    fn is_dead_end(&self, after: &S::State, pick: Pick) -> bool {
        if let Some(token) = self.spec.token(&self.state)
            && self.spec.token(after) != Some(token)
            && self.tokens.is_last(token, pick)
        {
            return true;
        }
        let mut left = self.candidates().filter(|op| pick != Pick::Required(*op));
        if left.any(|op| self.spec.is_spoiled(after, &self.problem.required[op].call)) {
            return true;
        }
        let Some((edge, due)) = self.first_end().filter(|(_, due)| pick != Pick::Required(*due)) else {
            return false;
        };
        let required = self.candidates().filter(|op| pick != Pick::Required(*op) && *op != due);
        let optional = (0..self.problem.begun[edge])
            .filter(|index| pick != Pick::Optional(*index) && !self.in_order_optional.has(*index));
        let pending = required
            .map(|op| &self.problem.required[op].call)
            .chain(optional.map(|index| &self.problem.optional[index].call));
        self.spec.is_late(after, &self.problem.required[due].call, pending)
    }

    fn edge(&self, place: usize) -> Option<Edge> {
        self.problem.edges.get(place.wrapping_sub(1)).copied()
    }

    /// The first end of an operation that is not in the order: the index of the edge, and the operation.
    fn first_end(&self) -> Option<(usize, usize)> {
        let mut place = self.edges.next[0];
        loop {
            match self.edge(place)? {
                Edge::End(op) => return Some((place - 1, op)),
                Edge::Begin(_) => place = self.edges.next[place],
            }
        }
    }

    fn enter(&mut self, pick: Pick) {
        self.tokens.take(pick);
        match pick {
            Pick::Required(op) => {
                self.edges.take(op);
                self.in_order.set(op);
            }
            Pick::Optional(index) => self.in_order_optional.set(index),
        }
    }

    fn is_new(&mut self) -> bool {
        let first = match self.edge(self.edges.next[0]) {
            Some(Edge::Begin(op) | Edge::End(op)) => op,
            None => self.problem.required.len(),
        };
        self.visited.insert(first, &self.in_order, &self.in_order_optional, &self.state)
    }

    /// Takes operations back, down to one in whose place another can be tried.
    fn back(&mut self) -> Option<Pick> {
        while let Some(Frame { pick, before, forced }) = self.stack.pop() {
            self.state = before;
            self.tokens.put_back(pick);
            match pick {
                Pick::Required(op) => {
                    self.edges.put_back(op);
                    self.in_order.unset(op);
                }
                Pick::Optional(index) => self.in_order_optional.unset(index),
            }
            if !forced {
                return Some(pick);
            }
        }
        None
    }

    /// Keeps the order that came furthest, for whoever wants to know why there is none.
    fn remember_best(&mut self) {
        let Some((edge, due)) = self.first_end() else { return };
        let reach = (edge, self.in_order.count());
        if self.best.is_some() && reach <= self.reach {
            return;
        }
        let op = |pick: Pick| match pick {
            Pick::Required(op) => self.problem.required[op].op,
            Pick::Optional(index) => self.problem.optional[index].op,
        };
        let order = self.stack.iter().map(|frame| op(frame.pick)).collect();
        self.best = Some(Stuck { order, state: self.state.clone(), op: op(Pick::Required(due)) });
        self.reach = reach;
    }
}
