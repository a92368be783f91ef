//! The tokens that are accepted, in memory: the path of a request reads no disk.
//!
//! ```text
//!  [[http.tokens]] --reload-----------.
//!                                      >--> by hash: accepted until expired or taken away
//!  store --opened, token.add, .revoke-'
//! ```
//!
//! A name is in one place: a token of the store whose name the configuration has is not accepted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;

use super::secret::SecretHash;
use config::HttpToken;
use protocol::token::{TokenOrigin, TokenRole, TokenRow, TokenState};
use store::StoredToken;

/// A token that is accepted.
#[derive(Debug)]
pub(super) struct KnownToken {
    pub(super) name: Arc<str>,
    pub(super) tenant: Arc<str>,
    pub(super) role: TokenRole,
    pub(super) expires_ms: Option<i64>,
    origin: TokenOrigin,
    /// When it was last used; 0 if never.
    used_ms: AtomicI64,
    /// What of that the store has.
    kept_ms: AtomicI64,
}

impl KnownToken {
    fn is_over(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }
}

#[derive(Debug, Default)]
struct Tables {
    configured: Vec<HttpToken>,
    stored: BTreeMap<String, StoredToken>,
    by_hash: HashMap<SecretHash, Arc<KnownToken>>,
    /// Names of tokens of the store that ended since the daemon's start, for the log.
    ended: HashMap<SecretHash, String>,
}

/// How many tokens that ended are remembered.
const MAX_ENDED: usize = 1024;

impl Tables {
    fn remember_end(&mut self, name: &str) {
        let hash = self.stored.get(name).and_then(|token| token.hash);
        if let Some(hash) = hash.filter(|_| self.ended.len() < MAX_ENDED) {
            self.ended.insert(SecretHash(hash), name.to_owned());
        }
    }

    fn rebuild(&mut self) {
        let before = std::mem::take(&mut self.by_hash);
        let used = |hash: &SecretHash, kept: i64| {
            let used = before.get(hash).map_or(0, |token| token.used_ms.load(Ordering::Relaxed));
            AtomicI64::new(used.max(kept))
        };
        let names: HashSet<&str> = self.configured.iter().map(|token| token.name.as_str()).collect();
        for token in &self.configured {
            let Some(hash) = token.hash().map(SecretHash) else { continue };
            let known = KnownToken {
                name: token.name.as_str().into(),
                tenant: token.tenant.as_str().into(),
                role: token.role,
                // an end that cannot be read is over
                expires_ms: token.expires.as_ref().map(|_| token.expires_ms().unwrap_or(0)),
                origin: TokenOrigin::Configuration,
                used_ms: used(&hash, 0),
                kept_ms: AtomicI64::new(0),
            };
            self.by_hash.insert(hash, Arc::new(known));
        }
        for token in self.stored.values().filter(|token| !names.contains(token.name.as_str())) {
            let Some(hash) = token.hash.map(SecretHash) else { continue };
            let kept = token.used_ms.unwrap_or(0);
            let known = KnownToken {
                name: token.name.as_str().into(),
                tenant: token.tenant.as_str().into(),
                role: role(token),
                expires_ms: token.expires_ms,
                origin: TokenOrigin::Store,
                used_ms: used(&hash, kept),
                kept_ms: AtomicI64::new(kept),
            };
            // a token of the configuration is the same one under a name of its own
            self.by_hash.entry(hash).or_insert_with(|| Arc::new(known));
        }
    }
}

/// A word that this version does not know gives no right that it would have to know.
fn role(token: &StoredToken) -> TokenRole {
    if token.role == TokenRole::Admin.as_str() { TokenRole::Admin } else { TokenRole::Submit }
}

/// The tokens of store and configuration.
#[derive(Debug, Default)]
pub(super) struct TokenTable(RwLock<Tables>);

impl TokenTable {
    /// Replaces the tokens of the configuration.
    pub(super) fn set_configured(&self, tokens: Vec<HttpToken>) {
        let mut tables = self.0.write();
        tables.configured = tokens;
        tables.rebuild();
    }

    /// Replaces the tokens of the store.
    pub(super) fn set_stored(&self, tokens: Vec<StoredToken>) {
        let mut tables = self.0.write();
        tables.stored = tokens.into_iter().map(|token| (token.name.clone(), token)).collect();
        tables.rebuild();
    }

    /// Adds a token of the store, or replaces the one of its name.
    pub(super) fn insert(&self, token: StoredToken) {
        let mut tables = self.0.write();
        tables.remember_end(&token.name);
        tables.stored.insert(token.name.clone(), token);
        tables.rebuild();
    }

    /// Takes a token of the store away, at once.
    pub(super) fn revoke(&self, name: &str, now_ms: i64) {
        let mut tables = self.0.write();
        tables.remember_end(name);
        let known = tables.by_hash.values().find(|token| &*token.name == name);
        let used = known.map_or(0, |token| token.used_ms.load(Ordering::Relaxed));
        if let Some(token) = tables.stored.get_mut(name) {
            token.used_ms = token.used_ms.max(Some(used).filter(|used| *used > 0));
            token.hash = None;
            token.revoked_ms = token.revoked_ms.or(Some(now_ms));
            tables.rebuild();
        }
    }

    /// The token with this hash, if it is accepted.
    pub(super) fn find(&self, hash: SecretHash, now_ms: i64) -> Option<Arc<KnownToken>> {
        self.0.read().by_hash.get(&hash).filter(|token| !token.is_over(now_ms)).cloned()
    }

    /// The same, and it is used.
    pub(super) fn use_token(&self, hash: SecretHash, now_ms: i64) -> Option<Arc<KnownToken>> {
        let token = self.find(hash, now_ms)?;
        token.used_ms.fetch_max(now_ms, Ordering::Relaxed);
        Some(token)
    }

    /// Why a token is not accepted, for the log.
    pub(super) fn why_refused(&self, hash: SecretHash, now_ms: i64) -> String {
        let tables = self.0.read();
        match (tables.by_hash.get(&hash), tables.ended.get(&hash)) {
            (Some(token), _) if token.is_over(now_ms) => format!("the token {} has expired", token.name),
            (Some(token), _) => format!("the token {} is accepted", token.name),
            (None, Some(name)) => format!("the token {name} was revoked or replaced"),
            (None, None) => "the token is not known (any more)".to_owned(),
        }
    }

    /// The hash of the token with this name, if it is accepted. Looks at all of them: for a
    /// submission with a callback.
    pub(super) fn hash_of(&self, name: &str, now_ms: i64) -> Option<SecretHash> {
        let tables = self.0.read();
        let found = tables.by_hash.iter().find(|(_, token)| &*token.name == name && !token.is_over(now_ms));
        found.map(|(hash, _)| *hash)
    }

    /// Whether the configuration has a token of this name.
    pub(super) fn is_configured(&self, name: &str) -> bool {
        self.0.read().configured.iter().any(|token| token.name == name)
    }

    /// Names that both have: those of the store are not accepted.
    pub(super) fn shadowed(&self) -> Vec<String> {
        let tables = self.0.read();
        let both =
            |token: &&HttpToken| tables.stored.get(&token.name).is_some_and(|stored| stored.revoked_ms.is_none());
        tables.configured.iter().filter(both).map(|token| token.name.clone()).collect()
    }

    /// Tokens of the store that were used since the last call, with the time.
    pub(super) fn take_used(&self) -> Vec<(String, i64)> {
        let tables = self.0.read();
        let stored = tables.by_hash.values().filter(|token| token.origin == TokenOrigin::Store);
        let used = stored.filter_map(|token| {
            let used_ms = token.used_ms.load(Ordering::Relaxed);
            (token.kept_ms.fetch_max(used_ms, Ordering::Relaxed) < used_ms).then(|| (token.name.to_string(), used_ms))
        });
        used.collect()
    }

    /// All tokens as rows of a list, by name.
    pub(super) fn rows(&self, now_ms: i64) -> Vec<TokenRow> {
        let tables = self.0.read();
        let used = |hash: Option<[u8; 32]>| {
            let token = hash.and_then(|hash| tables.by_hash.get(&SecretHash(hash)));
            token.map(|token| token.used_ms.load(Ordering::Relaxed)).filter(|used_ms| *used_ms > 0)
        };
        let state = |expires_ms: Option<i64>, is_revoked: bool| match expires_ms {
            _ if is_revoked => TokenState::Revoked,
            Some(at) if at <= now_ms => TokenState::Expired,
            _ => TokenState::Active,
        };
        let configured = tables.configured.iter().map(|token| {
            let expires_ms = token.expires_ms();
            TokenRow {
                name: token.name.clone(),
                tenant: token.tenant.clone(),
                role: token.role,
                state: state(expires_ms, false),
                origin: TokenOrigin::Configuration,
                created_ms: None,
                created_by: None,
                expires_ms,
                used_ms: used(token.hash()),
                revoked_ms: None,
            }
        });
        let is_shadowed = |name: &str| tables.configured.iter().any(|token| token.name == name);
        let stored = tables.stored.values().map(|token| TokenRow {
            name: token.name.clone(),
            tenant: token.tenant.clone(),
            role: role(token),
            state: state(token.expires_ms, token.revoked_ms.is_some() || is_shadowed(&token.name)),
            origin: TokenOrigin::Store,
            created_ms: Some(token.created_ms),
            created_by: Some(token.created_by.clone()),
            expires_ms: token.expires_ms,
            used_ms: used(token.hash).or(token.used_ms),
            revoked_ms: token.revoked_ms,
        });
        let mut rows: Vec<TokenRow> = configured.chain(stored).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(name: &str, hash: u8) -> StoredToken {
        StoredToken {
            name: name.to_owned(),
            hash: Some([hash; 32]),
            tenant: "acme".to_owned(),
            role: "admin".to_owned(),
            created_ms: 1,
            created_by: "uid:0".to_owned(),
            expires_ms: Some(1000),
            used_ms: None,
            revoked_ms: None,
        }
    }

    fn configured(name: &str, hash: u8) -> HttpToken {
        let sha256 = base16ct::lower::encode_string(&[hash; 32]);
        HttpToken { name: name.to_owned(), sha256, tenant: "t".to_owned(), ..HttpToken::default() }
    }

    fn hash(byte: u8) -> SecretHash {
        SecretHash([byte; 32])
    }

    #[test]
    fn a_token_is_accepted_until_its_end_and_not_after_it_was_revoked_or_replaced() {
        let table = TokenTable::default();
        table.set_stored(vec![stored("a", 1), stored("b", 2)]);
        assert_eq!(table.find(hash(1), 999).unwrap().role, TokenRole::Admin);
        assert!(table.find(hash(1), 1000).is_none() && table.find(hash(9), 0).is_none());
        assert_eq!((table.hash_of("a", 999), table.hash_of("a", 1000)), (Some(hash(1)), None));
        assert_eq!(table.hash_of("c", 0), None);
        table.revoke("a", 5);
        assert!(table.find(hash(1), 6).is_none() && table.hash_of("a", 6).is_none());
        table.insert(StoredToken { hash: Some([3; 32]), ..stored("b", 2) });
        assert!(table.find(hash(2), 6).is_none() && table.find(hash(3), 6).is_some());
        let states: Vec<_> = table.rows(1000).into_iter().map(|row| (row.name, row.state, row.revoked_ms)).collect();
        let expected = [("a", TokenState::Revoked, Some(5)), ("b", TokenState::Expired, None)];
        assert_eq!(states, expected.map(|(name, state, at)| (name.to_owned(), state, at)));
    }

    #[test]
    fn a_name_of_the_configuration_is_that_of_no_token_of_the_store() {
        let table = TokenTable::default();
        table.set_stored(vec![stored("a", 1), stored("b", 2)]);
        table.set_configured(vec![configured("a", 5)]);
        assert!(table.find(hash(1), 0).is_none() && table.find(hash(5), 0).is_some());
        assert!(table.find(hash(2), 0).is_some() && table.is_configured("a") && !table.is_configured("b"));
        assert_eq!(table.shadowed(), ["a"]);
        let rows = table.rows(0);
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().any(|row| row.origin == TokenOrigin::Store && row.state == TokenState::Revoked));
        table.set_configured(Vec::new());
        assert!(table.find(hash(1), 0).is_some() && table.find(hash(5), 0).is_none());
    }

    #[test]
    fn an_end_of_the_configuration_that_cannot_be_read_is_over() {
        let table = TokenTable::default();
        table.set_configured(vec![HttpToken { expires: Some("soon".to_owned()), ..configured("a", 5) }]);
        assert!(table.find(hash(5), 1).is_none());
    }

    #[test]
    fn what_was_used_is_told_once_and_outlives_changes_of_the_table() {
        let table = TokenTable::default();
        table.set_stored(vec![stored("a", 1), StoredToken { used_ms: Some(900), ..stored("b", 2) }]);
        assert!(table.take_used().is_empty());
        table.use_token(hash(1), 10).unwrap();
        table.use_token(hash(1), 9).unwrap();
        table.use_token(hash(2), 20).unwrap();
        table.insert(stored("c", 3));
        assert_eq!(table.take_used(), [("a".to_owned(), 10)]);
        assert!(table.take_used().is_empty());
        let used: Vec<_> = table.rows(0).into_iter().map(|row| row.used_ms).collect();
        assert_eq!(used, [Some(10), Some(900), None]);
    }
}
