//! Who calls: the owner of submissions, blobs and history, and whose quotas they count in.
//!
//! ```text
//!  Unix socket --- uid of the peer ------> uid:1000
//!  HTTP ---------- token ----------------> token:ci        its tenant is fixed
//!               '- browser without one --> anon:3f2a...    all of them share one account
//! ```
//!
//! The text form is what the store, logs and replies show.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The owner of what a caller hands in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Principal {
    /// The uid of the process at the other end of a Unix socket.
    Uid(u32),
    /// A token, by its name.
    Token(Arc<str>),
    /// A browser without a token, by the random id in its cookie.
    Anonymous(Arc<str>),
}

/// Whose bounds a principal counts in: queue, rate, bytes, connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    Uid(u32),
    Token(Arc<str>),
    /// All anonymous callers together.
    Anonymous,
}

impl Principal {
    pub fn account(&self) -> Account {
        match self {
            Principal::Uid(uid) => Account::Uid(*uid),
            Principal::Token(name) => Account::Token(name.clone()),
            Principal::Anonymous(_) => Account::Anonymous,
        }
    }

    /// The uid of a caller on a Unix socket.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Principal::Uid(uid) => Some(*uid),
            Principal::Token(_) | Principal::Anonymous(_) => None,
        }
    }
}

impl Principal {
    /// The text of a principal that is not a uid. Logs have the field `uid` or `principal`.
    pub fn named(&self) -> Option<String> {
        match self {
            Principal::Uid(_) => None,
            Principal::Token(_) | Principal::Anonymous(_) => Some(self.to_string()),
        }
    }
}

impl Default for Principal {
    fn default() -> Self {
        Principal::Uid(0)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Uid(uid) => write!(f, "uid:{uid}"),
            Principal::Token(name) => write!(f, "token:{name}"),
            Principal::Anonymous(id) => write!(f, "anon:{id}"),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Uid(uid) => write!(f, "uid:{uid}"),
            Account::Token(name) => write!(f, "token:{name}"),
            Account::Anonymous => f.write_str("anon"),
        }
    }
}

/// A text that names no principal of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a principal; use uid:N, token:NAME or anon:ID")]
pub struct UnknownPrincipal(String);

impl FromStr for Principal {
    type Err = UnknownPrincipal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownPrincipal(text.chars().take(64).collect());
        match text.split_once(':').filter(|(_, name)| !name.is_empty()) {
            Some(("uid", uid)) => uid.parse().map(Principal::Uid).map_err(|_| unknown()),
            Some(("token", name)) => Ok(Principal::Token(name.into())),
            Some(("anon", id)) => Ok(Principal::Anonymous(id.into())),
            _ => Err(unknown()),
        }
    }
}

impl Serialize for Principal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_principal_leads_back_to_it() {
        for principal in [
            Principal::Uid(0),
            Principal::Uid(u32::MAX),
            Principal::Token("a:b".into()),
            Principal::Anonymous("0f".into()),
        ] {
            assert_eq!(principal.to_string().parse(), Ok(principal));
        }
        for text in ["", "uid", "uid:", "uid:-1", "uid:x", "token:", "anon:", "queue:a", "7"] {
            assert!(text.parse::<Principal>().is_err(), "{text}");
        }
    }

    #[test]
    fn anonymous_callers_share_one_account_and_nothing_else() {
        let [one, other] = ["1", "2"].map(|id| Principal::Anonymous(id.into()));
        assert_ne!(one, other);
        assert_eq!(one.account(), other.account());
        assert_ne!(Principal::Token("1".into()).account(), Principal::Uid(1).account());
    }
}
