//! What the compile cache holds, and which entry goes next. Pure: no clock, no IO.
//!
//! The account with the most bytes loses its least recently used entry. So one that fills the cache
//! evicts its own entries, and others keep at least an equal share.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

use protocol::Account;

/// Whose entry it is; `None` for a file that no release of ours named.
type EntryOwner = Option<Account>;

/// The entries of one account, by their last use.
#[derive(Debug, Default)]
struct Share {
    bytes: u64,
    by_use: BTreeMap<u64, (OsString, u64)>,
}

/// The entries of the cache.
#[derive(Debug, Default)]
pub(super) struct CacheIndex {
    shares: BTreeMap<EntryOwner, Share>,
    /// Owner and last use of each entry.
    entries: HashMap<OsString, (EntryOwner, u64)>,
    uses: u64,
    bytes: u64,
}

impl CacheIndex {
    /// Adds an entry, or replaces it. It is the one that was used last.
    pub(super) fn insert(&mut self, owner: EntryOwner, name: OsString, bytes: u64) {
        self.remove(&name);
        self.uses += 1;
        self.bytes += bytes;
        let share = self.shares.entry(owner.clone()).or_default();
        share.bytes += bytes;
        share.by_use.insert(self.uses, (name.clone(), bytes));
        self.entries.insert(name, (owner, self.uses));
    }

    /// An entry was used.
    pub(super) fn touch(&mut self, name: &OsStr) {
        if let Some((owner, bytes)) = self.remove(name) {
            self.insert(owner, name.to_owned(), bytes);
        }
    }

    /// Removes an entry; returns its owner and size.
    pub(super) fn remove(&mut self, name: &OsStr) -> Option<(EntryOwner, u64)> {
        let (owner, last_use) = self.entries.remove(name)?;
        let share = self.shares.get_mut(&owner)?;
        let (_, bytes) = share.by_use.remove(&last_use)?;
        share.bytes -= bytes;
        self.bytes -= bytes;
        if share.by_use.is_empty() {
            self.shares.remove(&owner);
        }
        Some((owner, bytes))
    }

    /// Removes entries until the rest is within the bound; returns their names.
    pub(super) fn trim(&mut self, max_bytes: u64) -> Vec<OsString> {
        let mut evicted = Vec::new();
        while self.bytes > max_bytes {
            let largest = self.shares.values().max_by_key(|share| share.bytes);
            let Some((name, _)) = largest.and_then(|share| share.by_use.values().next()).cloned() else { break };
            self.remove(&name);
            evicted.push(name);
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(index: &mut CacheIndex, uid: u32, count: u64, bytes: u64) {
        (0..count).for_each(|at| index.insert(Some(Account::Uid(uid)), format!("{uid}-{at}").into(), bytes));
    }

    fn left(index: &CacheIndex, uid: u32) -> (u64, usize) {
        index.shares.get(&Some(Account::Uid(uid))).map_or((0, 0), |share| (share.bytes, share.by_use.len()))
    }

    #[test]
    fn a_uid_that_fills_the_cache_evicts_its_own_entries() {
        let mut index = CacheIndex::default();
        fill(&mut index, 1, 3, 100);
        for at in 0..1000 {
            index.insert(Some(Account::Uid(2)), format!("flood-{at}").into(), 50);
            index.trim(1000);
        }
        assert_eq!((left(&index, 1), left(&index, 2)), ((300, 3), (700, 14)));
        // an equal share is what the others leave at least
        fill(&mut index, 3, 40, 25);
        index.trim(1000);
        assert_eq!(left(&index, 1), (300, 3));
        assert!(left(&index, 2).0 >= 300 && left(&index, 3).0 >= 300, "{index:?}");
    }

    #[test]
    fn the_least_recently_used_entry_of_the_largest_uid_goes_first() {
        let mut index = CacheIndex::default();
        fill(&mut index, 1, 3, 100);
        index.touch(OsStr::new("1-0"));
        index.insert(None, "foreign".into(), 50);
        assert_eq!(index.trim(250), ["1-1"]);
        assert_eq!(index.trim(0), ["1-2", "1-0", "foreign"]);
        assert_eq!((index.bytes, index.entries.len()), (0, 0));
    }

    #[test]
    fn an_entry_that_is_made_again_counts_once() {
        let mut index = CacheIndex::default();
        index.insert(Some(Account::Uid(1)), "a".into(), 100);
        index.insert(Some(Account::Uid(1)), "a".into(), 30);
        assert_eq!((index.bytes, left(&index, 1)), (30, (30, 1)));
        index.touch(OsStr::new("unknown"));
        assert_eq!(index.remove(OsStr::new("unknown")), None);
    }
}
