//! The pairs that the journal's batches leave.

use std::{collections::BTreeMap, ops::Bound};

use super::super::Changes;

/// What a pair takes in a file beside its bytes.
const PAIR_BYTES: usize = 8;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Live {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What they take in a file.
    bytes: u64,
}

fn bytes_of(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len() + PAIR_BYTES) as u64
}

impl Live {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.pairs.get(key)
    }

    pub(super) fn first(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Option<(&Vec<u8>, &Vec<u8>)> {
        self.pairs.range::<[u8], _>((from, to)).next()
    }

    pub(super) fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Option<(&Vec<u8>, &Vec<u8>)> {
        self.pairs.range::<[u8], _>((from, to)).next_back()
    }

    pub(super) fn apply(&mut self, changes: &Changes) {
        for (from, to) in changes.removals.iter().filter(|(from, to)| from < to) {
            for (key, value) in self.pairs.extract_if(from.clone()..to.clone(), |_, _| true) {
                self.bytes -= bytes_of(&key, &value);
            }
        }
        for (key, value) in &changes.puts {
            self.bytes += bytes_of(key, value);
            if let Some(before) = self.pairs.insert(key.clone(), value.clone()) {
                self.bytes -= bytes_of(key, &before);
            }
        }
    }

    /// Pairs after `key`, or from the first on: about `bytes` of them.
    pub(super) fn part(&self, after: Option<&[u8]>, bytes: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut room = bytes;
        let pairs = self.pairs.range::<[u8], _>((from, Bound::Unbounded)).take_while(|(key, value)| {
            let fits = room > 0;
            room = room.saturating_sub(bytes_of(key, value));
            fits
        });
        pairs.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changes() -> impl Strategy<Value = Changes> {
        let key = || prop::collection::vec(0..4u8, 0..3);
        let removals = prop::collection::vec((key(), key()), 0..3);
        let puts = prop::collection::vec((key(), prop::collection::vec(any::<u8>(), 0..9)), 0..6);
        (removals, puts).prop_map(|(removals, puts)| Changes { removals, puts })
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_pairs_and_the_parts_are_all_of_them(
            all in prop::collection::vec(changes(), 0..9),
            bytes in 1..40u64,
        ) {
            let mut live = Live::default();
            all.iter().for_each(|changes| live.apply(changes));
            prop_assert_eq!(live.bytes, live.pairs.iter().map(|(key, value)| bytes_of(key, value)).sum::<u64>());
            let mut read = Vec::new();
            loop {
                let part = live.part(read.last().map(|(key, _): &(Vec<u8>, _)| key.as_slice()), bytes);
                if part.is_empty() {
                    break;
                }
                read.extend(part);
            }
            prop_assert_eq!(read, live.pairs.into_iter().collect::<Vec<_>>());
        }
    }
}
