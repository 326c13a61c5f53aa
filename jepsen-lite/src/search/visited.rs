//! Configurations that were met before: which operations are in the order, and the state that they leave.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Which of a row of things are in the order.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    pub(super) fn has(&self, index: usize) -> bool {
        self.words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    pub(super) fn set(&mut self, index: usize) {
        if self.words.len() <= index / 64 {
            self.words.resize(index / 64 + 1, 0);
        }
        if let Some(word) = self.words.get_mut(index / 64)
            && *word >> (index % 64) & 1 == 0
        {
            *word |= 1 << (index % 64);
            self.count += 1;
        }
    }

    pub(super) fn unset(&mut self, index: usize) {
        if let Some(word) = self.words.get_mut(index / 64)
            && *word >> (index % 64) & 1 == 1
        {
            *word &= !(1 << (index % 64));
            self.count -= 1;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The words from that of `index` on, as far as any bit is set. All bits before `index` are known to be set.
    fn from(&self, index: usize) -> impl Iterator<Item = u64> {
        let first = index / 64;
        let mut left = self.count.saturating_sub(first * 64);
        self.words.iter().skip(first).copied().take_while(move |word| {
            let more = left > 0;
            left = left.saturating_sub(word.count_ones() as usize);
            more
        })
    }
}

/// What a configuration costs, in words: a key of this many is one of the budget's.
const WORDS_A_CONFIGURATION: usize = 32;

#[derive(Debug)]
pub(super) struct Visited<S> {
    states: HashMap<S, u64>,
    seen: HashSet<Box<[u64]>>,
    key: Vec<u64>,
    cost: usize,
}

impl<S: Clone + Eq + Hash> Visited<S> {
    pub(super) fn new() -> Self {
        Self { states: HashMap::new(), seen: HashSet::new(), key: Vec::new(), cost: 0 }
    }

    /// Whether this one is new. `first` is the first required operation that is not in the order.
    pub(super) fn insert(&mut self, first: usize, required: &Bits, optional: &Bits, state: &S) -> bool {
        let number = match self.states.get(state) {
            Some(number) => *number,
            None => {
                let number = self.states.len() as u64;
                self.states.insert(state.clone(), number);
                self.cost += 1;
                number
            }
        };
        self.key.clear();
        // The length of the first row of words tells them from the second's.
        let words = required.from(first).count() as u64;
        self.key.extend([first as u64, number, words]);
        self.key.extend(required.from(first));
        self.key.extend(optional.from(0));
        if self.seen.contains(self.key.as_slice()) {
            return false;
        }
        self.cost += self.key.len().div_ceil(WORDS_A_CONFIGURATION);
        self.seen.insert(self.key.as_slice().into())
    }

    /// In configurations of the budget.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}
