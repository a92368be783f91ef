//! How many of each. What is at zero is not there, so a map of callers does not grow with those who left.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Counts by key.
#[derive(Debug, Clone)]
pub struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Counts(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    /// One more.
    pub fn increment(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// One less.
    pub fn decrement(&mut self, key: &K) {
        match self.0.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.0.remove(key)),
        }
    }

    /// How many of this one.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// How many of all.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Each that there is, and how many of it.
    pub fn iter(&self) -> impl Iterator<Item = (&K, usize)> {
        self.0.iter().map(|(key, count)| (key, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_zero_is_gone() {
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
