//! Counts by key. A key at zero is removed, so that a map of callers does not grow with those that
//! left.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A count for each key.
#[derive(Debug, Clone)]
pub struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Counts(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    pub fn increment(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// Does nothing for a key at zero.
    pub fn decrement(&mut self, key: &K) {
        match self.0.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.0.remove(key)),
        }
    }

    /// The count of one key; 0 if it is absent.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// The sum of all counts.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// The keys whose count is not zero.
    pub fn iter(&self) -> impl Iterator<Item = (&K, usize)> {
        self.0.iter().map(|(key, count)| (key, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_zero_is_removed() {
        let mut counts = Counts::default();
        counts.increment("a");
        counts.increment("a");
        counts.increment("b");
        assert_eq!((counts.get("a"), counts.get("b"), counts.get("c"), counts.total()), (2, 1, 0, 3));
        counts.decrement(&"a");
        counts.decrement(&"b");
        counts.decrement(&"c");
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(&"a", 1)]);
    }
}
