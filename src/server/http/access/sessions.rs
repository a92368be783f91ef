//! Browser sessions, and the one-use codes that open one.
//!
//! ```text
//!  token ---------------------------.
//!  session.code --> code, 60 s ------>--> session, 12 h --> over
//!                    '-- used, too old: over         '-- closed, token revoked, roles changed
//! ```
//!
//! Both are in memory only: a restart ends them. Their ids are known by their hashes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::secret::{SecretHash, random_secret};
use crate::calls::peer::{Peer, Roles};
use config::bounds;

/// Who a session acts for.
#[derive(Debug, Clone)]
pub(super) enum SessionOwner {
    /// The bearer of a token, as long as that is accepted.
    Token(SecretHash),
    /// A caller of the socket who asked for a code, as long as the roles stay as they were.
    Caller { peer: Peer, roles: Arc<Roles> },
}

impl SessionOwner {
    fn is_same(&self, other: &SessionOwner) -> bool {
        match (self, other) {
            (SessionOwner::Token(one), SessionOwner::Token(other)) => one == other,
            (SessionOwner::Caller { peer: one, .. }, SessionOwner::Caller { peer: other, .. }) => {
                one.principal == other.principal
            }
            _ => false,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct BrowserSession {
    pub(super) owner: SessionOwner,
    pub(super) expires_ms: i64,
}

/// The bound on sessions is reached.
#[derive(Debug)]
pub(super) struct SessionsFull;

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<SecretHash, BrowserSession>>);

impl Sessions {
    /// Opens a session. An owner that has the most that one may have loses its oldest.
    pub(super) fn open(&self, owner: SessionOwner, now_ms: i64) -> Result<(String, BrowserSession), SessionsFull> {
        let mut sessions = self.0.lock();
        sessions.retain(|_, session| session.expires_ms > now_ms);
        let own = || sessions.iter().filter(|(_, session)| session.owner.is_same(&owner));
        if own().count() >= bounds::MAX_HTTP_SESSIONS_PER_OWNER {
            let oldest = own().min_by_key(|(_, session)| session.expires_ms).map(|(id, _)| *id);
            oldest.map(|id| sessions.remove(&id));
        }
        if sessions.len() >= bounds::MAX_HTTP_SESSIONS {
            return Err(SessionsFull);
        }
        let id = random_secret();
        let expires_ms = now_ms.saturating_add(bounds::HTTP_SESSION_TIME.as_millis() as i64);
        let session = BrowserSession { owner, expires_ms };
        sessions.insert(SecretHash::of(&id), session.clone());
        Ok((id, session))
    }

    pub(super) fn find(&self, id: SecretHash, now_ms: i64) -> Option<BrowserSession> {
        self.0.lock().get(&id).filter(|session| session.expires_ms > now_ms).cloned()
    }

    pub(super) fn close(&self, id: SecretHash) {
        self.0.lock().remove(&id);
    }
}

#[derive(Debug)]
struct LoginCode {
    hash: SecretHash,
    owner: SessionOwner,
    expires_ms: i64,
}

/// The codes that were made and not used.
#[derive(Debug, Default)]
pub(super) struct LoginCodes(Mutex<VecDeque<LoginCode>>);

impl LoginCodes {
    /// Makes a code. The oldest one is not valid any more when there are too many.
    pub(super) fn add(&self, owner: SessionOwner, now_ms: i64) -> String {
        let code = random_secret();
        let mut codes = self.0.lock();
        codes.retain(|code| code.expires_ms > now_ms);
        if codes.len() >= bounds::MAX_LOGIN_CODES {
            codes.pop_front();
        }
        let expires_ms = now_ms.saturating_add(bounds::LOGIN_CODE_TIME.as_millis() as i64);
        codes.push_back(LoginCode { hash: SecretHash::of(&code), owner, expires_ms });
        code
    }

    /// Uses a code.
    pub(super) fn take(&self, code: &str, now_ms: i64) -> Option<SessionOwner> {
        let hash = SecretHash::of(code);
        let mut codes = self.0.lock();
        let at = codes.iter().position(|code| code.hash == hash)?;
        let code = codes.remove(at)?;
        (code.expires_ms > now_ms).then_some(code.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn owner(byte: u8) -> SessionOwner {
        SessionOwner::Token(SecretHash([byte; 32]))
    }

    #[test]
    fn a_session_lasts_twelve_hours_or_until_it_is_closed() {
        let sessions = Sessions::default();
        let (id, session) = sessions.open(owner(1), 0).unwrap();
        assert_eq!(session.expires_ms, 12 * HOUR_MS);
        let hash = SecretHash::of(&id);
        assert!(sessions.find(hash, 12 * HOUR_MS - 1).is_some() && sessions.find(hash, 12 * HOUR_MS).is_none());
        assert!(sessions.find(SecretHash::of("other"), 0).is_none());
        sessions.close(hash);
        assert!(sessions.find(hash, 0).is_none());
    }

    #[test]
    fn an_owner_loses_its_oldest_session_and_all_together_are_bounded() {
        let sessions = Sessions::default();
        let first = SecretHash::of(&sessions.open(owner(1), 0).unwrap().0);
        let other = SecretHash::of(&sessions.open(owner(2), 0).unwrap().0);
        for at in 1..=bounds::MAX_HTTP_SESSIONS_PER_OWNER as i64 {
            sessions.open(owner(1), at).unwrap();
        }
        assert!(sessions.find(first, 5).is_none() && sessions.find(other, 5).is_some());
        let opened = (3..=255).flat_map(|byte| std::iter::repeat_n(byte, bounds::MAX_HTTP_SESSIONS_PER_OWNER));
        let refused = opened.filter(|byte| sessions.open(owner(*byte), 5).is_err()).count();
        assert!(refused > 0);
        assert_eq!(sessions.0.lock().len(), bounds::MAX_HTTP_SESSIONS);
        assert!(sessions.open(owner(9), 13 * HOUR_MS).is_ok(), "those that are over make room");
    }

    #[test]
    fn a_code_opens_one_session_within_a_minute() {
        let codes = LoginCodes::default();
        let [one, other, late] = [1, 2, 3].map(|byte| codes.add(owner(byte), 0));
        assert!(codes.take(&one, 59_999).is_some_and(|found| found.is_same(&owner(1))));
        assert!(codes.take(&one, 59_999).is_none());
        assert!(codes.take(&other, 60_000).is_none() && codes.take("", 0).is_none());
        for _ in 0..bounds::MAX_LOGIN_CODES {
            codes.add(owner(4), 0);
        }
        assert!(codes.take(&late, 1).is_none(), "the oldest made room");
    }
}
