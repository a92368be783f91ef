//! Tokens of the HTTP interface, as the socket's methods `token.*` and `session.code` speak of
//! them. A token itself is in one place only: the reply to `token.add`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// Length of a token's name.
pub const MAX_TOKEN_NAME_BYTES: usize = 64;

/// Whether a text can be the name of a token: it is a part of `token:NAME`, of logs and of lists.
pub fn is_token_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_TOKEN_NAME_BYTES).contains(&text.len())
        && text.bytes().all(is_plain)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// What the bearer of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TokenRole {
    /// Submit, and see what it handed in itself.
    #[default]
    Submit,
    /// See everything, and administer.
    Admin,
}

impl TokenRole {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Parameters of `token.add`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenAddParams {
    /// The token's name, which names its owner in history: 1 to 64 letters, digits, `.`, `_` and
    /// `-`.
    pub name: String,
    /// The tenant that it acts for, and no other. With `replace` it may be absent: it stays.
    pub tenant: Option<String>,
    /// What its bearer may do. If absent, `submit`; with `replace` it stays.
    pub role: Option<TokenRole>,
    /// When it ends, in milliseconds since 1970; never if absent.
    pub expires_ms: Option<i64>,
    /// Whether the name may be one that has or had a token: the earlier one is revoked, and what it
    /// handed in belongs to the new one.
    #[serde(default)]
    pub replace: bool,
}

/// Parameters of `token.revoke`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenNameParams {
    /// The token's name.
    pub name: String,
}

/// Result of `token.add`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TokenAdded {
    /// The token. It is shown this once; the daemon keeps its SHA-256.
    pub token: String,
    /// The key that signs its callbacks, for their receivers. It is not shown again either.
    pub callback_key: String,
    /// Whether the API is served (`http.api`), so that the token can be used.
    pub api: bool,
    /// The token's row in the list.
    pub row: TokenRow,
}

/// Result of `token.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Tokens {
    /// All tokens, by name, those that were revoked too.
    pub tokens: Vec<TokenRow>,
}

/// A token in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenRow {
    /// Its name; its principal is `token:NAME`.
    pub name: String,
    /// The tenant that it acts for.
    pub tenant: String,
    /// What its bearer may do.
    pub role: TokenRole,
    /// Whether it is accepted.
    pub state: TokenState,
    /// Where it is kept.
    pub origin: TokenOrigin,
    /// When it was made, in milliseconds since 1970; null for one of the configuration.
    pub created_ms: Option<i64>,
    /// Who made it, such as `uid:0`; null for one of the configuration.
    pub created_by: Option<String>,
    /// When it ends, in milliseconds since 1970; null if it does not.
    pub expires_ms: Option<i64>,
    /// When it was last used, to the minute; null if never, or not since the daemon started for one
    /// of the configuration.
    pub used_ms: Option<i64>,
    /// When it was revoked; null if it was not.
    pub revoked_ms: Option<i64>,
}

/// Whether a token is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// It is accepted.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked, or replaced by one of the configuration.
    Revoked,
}

/// Where a token is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenOrigin {
    /// In the store, by `token.add`.
    Store,
    /// In the configuration, `[[http.tokens]]`.
    Configuration,
}

/// Result of `session.code`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SessionCode {
    /// The code, which opens one browser session.
    pub code: String,
    /// How long it is valid, in milliseconds.
    pub valid_ms: u64,
    /// The address of the page with the code in its fragment; null if the HTTP listener is not a
    /// TCP address, or is not open.
    pub url: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_plain_word() {
        for name in ["ci", "a", "Team-7.grader_2", &"x".repeat(MAX_TOKEN_NAME_BYTES)] {
            assert!(is_token_name(name), "{name}");
        }
        for name in ["", "-a", ".a", "a b", "a:b", "a/b", "é", "a\n", &"x".repeat(MAX_TOKEN_NAME_BYTES + 1)] {
            assert!(!is_token_name(name), "{name:?}");
        }
    }
}
