//! Tokens of the HTTP interface that are in the configuration (`[[http.tokens]]`): for machines
//! whose files are written by a tool, and for daemons without a usable store. Only the hash of a
//! token is written there.

use std::time::UNIX_EPOCH;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use protocol::token::{TokenRole, is_token_name};

/// A token that callers of the HTTP interface may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpToken {
    /// The name of its owner in history, logs and quotas: 1 to 64 letters, digits, `.`, `_` and
    /// `-`.
    pub name: String,
    /// The SHA-256 of the whole token, in 64 hexadecimal digits: `printf %s "$TOKEN" | sha256sum`.
    pub sha256: String,
    /// The tenant that it acts for, and no other.
    pub tenant: String,
    /// What its bearer may do.
    pub role: TokenRole,
    /// When it ends: a date, or a time with `Z`; never if absent.
    pub expires: Option<String>,
}

/// A day, or a time with `Z`, in milliseconds since 1970.
fn time_ms(text: &str) -> Option<i64> {
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = humantime::parse_rfc3339(&full).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

impl HttpToken {
    /// The hash; `None` if it is not 64 hexadecimal digits.
    pub fn hash(&self) -> Option<[u8; 32]> {
        let digits = self.sha256.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
        }
        Some(hash)
    }

    /// When it ends, in milliseconds since 1970.
    pub fn expires_ms(&self) -> Option<i64> {
        self.expires.as_deref().and_then(time_ms)
    }

    /// What is wrong with it: a setting's name and a message.
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let HttpToken { name, sha256, tenant, role: _, expires } = self;
        let mut mistakes = Vec::new();
        if !is_token_name(name) {
            let advice = "use 1 to 64 letters, digits, dots, underscores and hyphens, with a letter or digit first";
            mistakes.push(("name", format!("{name:?} is not a valid name; {advice}")));
        }
        if sha256.starts_with("assay_") {
            // the text itself must not be in a message
            let message = "it is a token, and its hash belongs here: printf %s TOKEN | sha256sum";
            mistakes.push(("sha256", message.to_owned()));
        } else if self.hash().is_none() {
            let message = "it is not a SHA-256; use 64 hexadecimal digits: printf %s TOKEN | sha256sum";
            mistakes.push(("sha256", message.to_owned()));
        }
        let most = bounds::MAX_TENANT_BYTES;
        if tenant.is_empty() || tenant.len() > most {
            mistakes.push(("tenant", format!("{tenant:?} is not a valid tenant; use a text of 1 to {most} bytes")));
        }
        if let Some(text) = expires.as_deref().filter(|text| time_ms(text).is_none()) {
            let advice = "use a date, such as \"2027-01-31\", or a time in UTC, such as \"2027-01-31T18:00:00Z\"";
            mistakes.push(("expires", format!("{text:?} is not a time; {advice}")));
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> HttpToken {
        HttpToken { name: "ci".to_owned(), sha256: "0aF1".repeat(16), tenant: "t".to_owned(), ..HttpToken::default() }
    }

    #[test]
    fn a_hash_is_64_hexadecimal_digits() {
        assert_eq!(token().hash().unwrap()[..2], [0x0a, 0xf1]);
        for sha256 in ["", "0a", &"0g".repeat(32), &"+1".repeat(32), &"0a".repeat(33), &"é".repeat(32)] {
            assert_eq!(HttpToken { sha256: (*sha256).to_owned(), ..token() }.hash(), None, "{sha256}");
        }
    }

    #[test]
    fn an_end_is_a_date_or_a_time() {
        let at = |text: &str| HttpToken { expires: Some(text.to_owned()), ..token() }.expires_ms();
        assert_eq!(at("2027-01-31"), Some(1_801_353_600_000));
        assert_eq!(at("2027-01-31T00:00:01Z"), Some(1_801_353_601_000));
        assert_eq!([at("tomorrow"), at("2027-13-01"), at("")], [None; 3]);
        assert_eq!(token().expires_ms(), None);
    }

    #[test]
    fn every_mistake_is_named_and_a_token_in_place_of_its_hash_is_not_shown() {
        assert_eq!(token().mistakes(), []);
        let secret = format!("assay_{}", "7".repeat(64));
        let wrong = HttpToken {
            name: "a b".to_owned(),
            sha256: secret.clone(),
            tenant: String::new(),
            role: TokenRole::Submit,
            expires: Some("soon".to_owned()),
        };
        let mistakes = wrong.mistakes();
        assert_eq!(mistakes.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["name", "sha256", "tenant", "expires"]);
        assert!(!format!("{mistakes:?}").contains(&secret));
    }
}
