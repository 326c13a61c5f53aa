//! Who still needs a state that only one more operation can leave.

use std::collections::HashMap;

use super::{
    problem::{Item, Problem},
    wgl::Pick,
};
use crate::models::{Spec, Tokens};

/// How many operations that are not in the order leave a state with a token, and how many need one.
#[derive(Debug)]
pub(super) struct TokenCounts {
    required: Vec<Tokens>,
    optional: Vec<Tokens>,
    given: HashMap<u32, usize>,
    needed: HashMap<u32, usize>,
}

impl TokenCounts {
    pub(super) fn new<S: Spec>(spec: &S, problem: &Problem<S::Call>) -> Self {
        let of = |items: &[Item<S::Call>]| items.iter().map(|item| spec.tokens(&item.call)).collect();
        let (required, optional): (Vec<Tokens>, Vec<Tokens>) = (of(&problem.required), of(&problem.optional));
        let (mut given, mut needed) = (HashMap::new(), HashMap::new());
        for token in required.iter().chain(&optional).filter_map(|tokens| tokens.gives) {
            *given.entry(token).or_default() += 1;
        }
        for token in required.iter().filter_map(|tokens| tokens.needs) {
            *needed.entry(token).or_default() += 1;
        }
        Self { required, optional, given, needed }
    }

    /// What it gives, and what it needs if it must be in the order.
    fn of(&self, pick: Pick) -> Tokens {
        match pick {
            Pick::Required(op) => self.required[op],
            Pick::Optional(index) => Tokens { needs: None, ..self.optional[index] },
        }
    }

    pub(super) fn take(&mut self, pick: Pick) {
        let Tokens { gives, needs } = self.of(pick);
        for (counts, token) in [(&mut self.given, gives), (&mut self.needed, needs)] {
            if let Some(count) = token.and_then(|token| counts.get_mut(&token)) {
                *count -= 1;
            }
        }
    }

    pub(super) fn put_back(&mut self, pick: Pick) {
        let Tokens { gives, needs } = self.of(pick);
        for (counts, token) in [(&mut self.given, gives), (&mut self.needed, needs)] {
            if let Some(count) = token.and_then(|token| counts.get_mut(&token)) {
                *count += 1;
            }
        }
    }

    /// Whether, once `pick` has led away from the token's state, something still needs it and nothing leads back.
    pub(super) fn is_last(&self, token: u32, pick: Pick) -> bool {
        let Tokens { gives, needs } = self.of(pick);
        let count = |counts: &HashMap<u32, usize>, own: Option<u32>| {
            counts.get(&token).copied().unwrap_or(0) - usize::from(own == Some(token))
        };
        count(&self.needed, needs) > 0 && count(&self.given, gives) == 0
    }
}
