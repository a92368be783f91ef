//! Tokens of the HTTP interface: their hashes, whom they act for, and their ends.
//!
//! ```text
//!  AddToken --> active --RevokeToken--> revoked: its hash is gone, its name stays taken
//!                 ^                        |
//!                 '--- AddToken, replace --'
//! ```
//!
//! What a token handed in is in history under its name, so a name that was revoked is given to
//! another token only when that is asked for, and only for the same tenant.
//! [`Forget`](crate::Forget) of a tenant frees the revoked names that acted for it.

use rusqlite::{OptionalExtension, Row, params};

use crate::change::{Change, Need, Rows};

/// Tokens that the store keeps, revoked ones too. All of them are in the daemon's memory.
pub const MAX_TOKENS: i64 = 10_000;

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    pub name: String,
    /// SHA-256 of the token; `None` once it is revoked.
    pub hash: Option<[u8; 32]>,
    /// The tenant that it acts for.
    pub tenant: String,
    /// The word of its role.
    pub role: String,
    /// When it was made, in milliseconds since 1970, as all times here.
    pub created_ms: i64,
    /// Who made it.
    pub created_by: String,
    pub expires_ms: Option<i64>,
    pub used_ms: Option<i64>,
    pub revoked_ms: Option<i64>,
}

const COLUMNS: &str = "name, hash, tenant, role, created_ms, created_by, expires_ms, used_ms, revoked_ms";

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredToken> {
    Ok(StoredToken {
        name: row.get(0)?,
        hash: row.get(1)?,
        tenant: row.get(2)?,
        role: row.get(3)?,
        created_ms: row.get(4)?,
        created_by: row.get(5)?,
        expires_ms: row.get(6)?,
        used_ms: row.get(7)?,
        revoked_ms: row.get(8)?,
    })
}

fn find(rows: &Rows<'_>, name: &str) -> rusqlite::Result<Option<StoredToken>> {
    let select = format!("SELECT {COLUMNS} FROM token WHERE name = ?1");
    rows.connection.prepare_cached(&select)?.query_row([name], stored).optional()
}

/// All tokens, by name.
pub(crate) fn all(connection: &rusqlite::Connection) -> rusqlite::Result<Vec<StoredToken>> {
    let mut select = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM token ORDER BY name"))?;
    select.query_map([], stored)?.collect()
}

/// Removes the names that a forgotten tenant's revoked tokens have.
pub(crate) fn forget_revoked(rows: &Rows<'_>, tenant: &str, principal: Option<&str>) -> rusqlite::Result<()> {
    let mut delete = rows.connection.prepare_cached(
        "DELETE FROM token WHERE tenant = ?1 AND revoked_ms IS NOT NULL AND (?2 IS NULL OR 'token:' || name = ?2)",
    )?;
    delete.execute(params![tenant, principal]).map(drop)
}

/// A new token. Fsynced.
#[derive(Debug, Clone)]
pub struct AddToken {
    pub name: String,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// `None` for that of the token which is replaced.
    pub tenant: Option<String>,
    /// `None` for that of the token which is replaced, else `submit`.
    pub role: Option<String>,
    pub expires_ms: Option<i64>,
    /// Who makes it.
    pub created_by: String,
    /// Whether it may take the place of an earlier token of its name.
    pub replace: bool,
}

/// What became of a new token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddTokenResult {
    /// It is in the store.
    Added(StoredToken),
    /// The name has, or had, another token.
    Taken { is_revoked: bool },
    /// It replaces one that acts for another tenant, whose history it would see.
    OtherTenant { tenant: String },
    /// It states no tenant, and replaces no token.
    NoTenant,
    /// The store has [`MAX_TOKENS`].
    TooMany,
}

impl Change for AddToken {
    type Output = AddTokenResult;
    const NEED: Need = Need::Synced;
    const SPARES_RESERVE: bool = true;

    fn bytes(&self) -> usize {
        self.name.len() + self.tenant.as_ref().map_or(0, String::len) + self.created_by.len() + 64
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<AddTokenResult> {
        let before = find(rows, &self.name)?;
        if let Some(before) = &before
            && !self.replace
        {
            return Ok(AddTokenResult::Taken { is_revoked: before.revoked_ms.is_some() });
        }
        let kept = |of: fn(&StoredToken) -> &String| before.as_ref().map(|before| of(before).clone());
        let Some(tenant) = self.tenant.clone().or_else(|| kept(|before| &before.tenant)) else {
            return Ok(AddTokenResult::NoTenant);
        };
        if let Some(before) = before.as_ref().filter(|before| before.tenant != tenant) {
            return Ok(AddTokenResult::OtherTenant { tenant: before.tenant.clone() });
        }
        let role = self.role.clone().or_else(|| kept(|before| &before.role)).unwrap_or_else(|| "submit".to_owned());
        let count: i64 = rows.connection.query_row("SELECT count(*) FROM token", [], |row| row.get(0))?;
        if before.is_none() && count >= MAX_TOKENS {
            return Ok(AddTokenResult::TooMany);
        }
        let mut insert = rows.connection.prepare_cached(
            "INSERT OR REPLACE INTO token (name, hash, tenant, role, created_ms, created_by, expires_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let now = rows.now.wall_ms;
        insert.execute(params![self.name, self.hash, tenant, role, now, self.created_by, self.expires_ms])?;
        drop(insert);
        let added = find(rows, &self.name)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Ok(AddTokenResult::Added(added))
    }
}

/// Ends a token. Fsynced.
#[derive(Debug, Clone)]
pub struct RevokeToken {
    pub name: String,
}

/// What became of a token that was to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokeResult {
    /// It is revoked.
    Revoked,
    /// It was revoked before.
    Before,
    /// The store has no token of this name.
    Unknown,
}

impl Change for RevokeToken {
    type Output = RevokeResult;
    const NEED: Need = Need::Synced;

    fn bytes(&self) -> usize {
        self.name.len()
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<RevokeResult> {
        let result = match find(rows, &self.name)? {
            None => return Ok(RevokeResult::Unknown),
            Some(found) if found.revoked_ms.is_some() => return Ok(RevokeResult::Before),
            Some(_) => RevokeResult::Revoked,
        };
        let mut update =
            rows.connection.prepare_cached("UPDATE token SET hash = NULL, revoked_ms = ?2 WHERE name = ?1")?;
        update.execute(params![self.name, rows.now.wall_ms])?;
        Ok(result)
    }
}

/// When tokens were last used: names, and milliseconds since 1970. Not waited for.
#[derive(Debug, Clone, Default)]
pub struct UseTokens(pub Vec<(String, i64)>);

impl Change for UseTokens {
    type Output = ();
    const NEED: Need = Need::Later;

    fn bytes(&self) -> usize {
        self.0.iter().map(|(name, _)| name.len() + 16).sum()
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<()> {
        let mut update = rows.connection.prepare_cached(
            "UPDATE token SET used_ms = max(coalesce(used_ms, 0), ?2) WHERE name = ?1 AND revoked_ms IS NULL",
        )?;
        self.0.iter().try_for_each(|(name, used_ms)| update.execute(params![name, used_ms]).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{TestTime, open};
    use crate::{Forget, Store};

    fn token(name: &str, hash: u8) -> AddToken {
        AddToken {
            name: name.to_owned(),
            hash: [hash; 32],
            tenant: Some("acme".to_owned()),
            role: None,
            expires_ms: Some(5),
            created_by: "uid:0".to_owned(),
            replace: false,
        }
    }

    fn add(store: &Store, token: AddToken) -> AddTokenResult {
        store.add_token(token).wait().unwrap()
    }

    #[test]
    fn a_token_is_kept_over_a_restart_and_revoked_once() {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let store = open(folder.path(), &time);
        let AddTokenResult::Added(added) = add(&store, token("ci", 1)) else { panic!("not added") };
        assert_eq!((added.role.as_str(), added.created_ms, added.expires_ms), ("submit", 1_700_000_000_000, Some(5)));
        assert!(store.use_tokens(UseTokens(vec![("ci".to_owned(), 7), ("other".to_owned(), 8)])));
        drop(store);
        let store = open(folder.path(), &time);
        let kept = store.tokens().unwrap();
        assert_eq!(kept, [StoredToken { used_ms: Some(7), ..added }]);
        let revoke = |name: &str| store.revoke_token(RevokeToken { name: name.to_owned() }).wait().unwrap();
        assert_eq!(
            ["ci", "ci", "cj"].map(revoke),
            [RevokeResult::Revoked, RevokeResult::Before, RevokeResult::Unknown]
        );
        let [revoked] = store.tokens().unwrap().try_into().unwrap();
        assert_eq!((revoked.hash, revoked.revoked_ms), (None, Some(1_700_000_000_000)));
    }

    #[test]
    fn a_name_is_given_to_another_token_only_when_that_is_asked_for() {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let store = open(folder.path(), &time);
        let rootless = AddToken { tenant: None, replace: true, ..token("ci", 1) };
        assert_eq!(add(&store, rootless.clone()), AddTokenResult::NoTenant);
        add(&store, AddToken { role: Some("admin".to_owned()), ..token("ci", 1) });
        assert_eq!(add(&store, token("ci", 2)), AddTokenResult::Taken { is_revoked: false });
        store.revoke_token(RevokeToken { name: "ci".to_owned() }).wait().unwrap();
        assert_eq!(add(&store, token("ci", 2)), AddTokenResult::Taken { is_revoked: true });
        let other = AddToken { tenant: Some("other".to_owned()), ..rootless.clone() };
        assert_eq!(add(&store, other), AddTokenResult::OtherTenant { tenant: "acme".to_owned() });
        let replaced = add(&store, AddToken { hash: [3; 32], expires_ms: None, ..rootless });
        let AddTokenResult::Added(added) = replaced else { panic!("{replaced:?}") };
        assert_eq!((added.tenant.as_str(), added.role.as_str(), added.hash), ("acme", "admin", Some([3; 32])));
        assert_eq!((added.expires_ms, added.revoked_ms), (None, None));
    }

    #[test]
    fn a_tenant_that_is_forgotten_frees_its_revoked_names_and_no_live_one() {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let store = open(folder.path(), &time);
        for name in ["live", "old", "older"] {
            add(&store, token(name, name.len() as u8));
        }
        add(&store, AddToken { tenant: Some("other".to_owned()), ..token("theirs", 9) });
        for name in ["old", "older", "theirs"] {
            store.revoke_token(RevokeToken { name: name.to_owned() }).wait().unwrap();
        }
        let names = || store.tokens().unwrap().into_iter().map(|token| token.name).collect::<Vec<_>>();
        let forget = |principal: Option<&str>| {
            let forget = Forget { tenant: "acme".to_owned(), principal: principal.map(str::to_owned) };
            store.forget(forget).wait().unwrap();
        };
        forget(Some("token:old"));
        assert_eq!(names(), ["live", "older", "theirs"]);
        forget(None);
        assert_eq!(names(), ["live", "theirs"]);
    }
}
