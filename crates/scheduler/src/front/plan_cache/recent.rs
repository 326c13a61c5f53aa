//! A bounded map that forgets what was used longest ago.

use std::{borrow::Borrow, collections::BTreeMap, sync::Arc};

/// An entry may take this part of all room, so that it does not drive out all others.
const LARGEST_SHARE: usize = 8;

pub(super) struct Recent<K, V> {
    most_entries: usize,
    most_bytes: usize,
    entries: BTreeMap<Arc<K>, Slot<V>>,
    bytes: usize,
    /// Counts uses, to tell the older from the newer.
    uses: u64,
}

struct Slot<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Ord, V: Clone> Recent<K, V> {
    pub(super) fn new(most_entries: usize, most_bytes: usize) -> Self {
        Self { most_entries, most_bytes, entries: BTreeMap::new(), bytes: 0, uses: 0 }
    }

    /// Counts as a use.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        self.uses += 1;
        let slot = self.entries.get_mut(key)?;
        slot.used = self.uses;
        Some(slot.value.clone())
    }

    /// Replaces what has the same key. What is too large is not taken, and the old value is gone all the same.
    pub(super) fn put(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.most_bytes / LARGEST_SHARE {
            return;
        }
        self.uses += 1;
        self.bytes += bytes;
        self.entries.insert(Arc::new(key), Slot { value, bytes, used: self.uses });
        while self.entries.len() > self.most_entries || self.bytes > self.most_bytes {
            // A walk over all, which costs less than what was just planned.
            let oldest =
                self.entries.iter().min_by_key(|(_, slot)| slot.used).map(|(key, _)| Arc::clone(key));
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
    }

    fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        Arc<K>: Borrow<Q>,
    {
        if let Some(slot) = self.entries.remove(key) {
            self.bytes -= slot.bytes;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut recent = Recent::new(2, 800);
        recent.put("a", 1, 10);
        recent.put("b", 2, 10);
        assert_eq!(recent.get(&"a"), Some(1));
        recent.put("c", 3, 10);
        assert_eq!((recent.get(&"a"), recent.get(&"b"), recent.get(&"c")), (Some(1), None, Some(3)));
        assert_eq!((recent.len(), recent.bytes), (2, 20));
    }

    #[test]
    fn bytes_are_bounded_and_one_entry_does_not_take_them_all() {
        let mut recent = Recent::new(100, 800);
        for key in 0..20 {
            recent.put(key, key, 100);
            assert!(recent.bytes <= 800);
        }
        assert_eq!((recent.len(), recent.get(&11), recent.get(&12)), (8, None, Some(12)));
        recent.put(19, 0, 101);
        assert_eq!((recent.get(&19), recent.len(), recent.bytes), (None, 7, 700));
    }

    #[test]
    fn a_new_value_takes_the_place_of_the_old_one() {
        let mut recent = Recent::new(2, 800);
        recent.put("a", 1, 100);
        recent.put("a", 2, 50);
        assert_eq!((recent.get(&"a"), recent.len(), recent.bytes), (Some(2), 1, 50));
    }
}
