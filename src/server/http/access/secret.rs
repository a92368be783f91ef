//! Random texts that are credentials, and the hashes by which they are known here: a memory dump or
//! a copy of the store has no text that opens anything.
//!
//! A token is `assay_` and 64 lower-case hexadecimal digits: 256 random bits, so that guessing one
//! is hopeless, and looking its hash up tells nothing by the time that it takes.

use sha2::{Digest, Sha256};

/// What every token begins with, so that secret scanners and people recognize one.
pub(super) const TOKEN_PREFIX: &str = "assay_";

/// Hexadecimal digits of 256 bits.
pub(super) const SECRET_DIGITS: usize = 64;

/// SHA-256 of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SecretHash(pub(super) [u8; 32]);

impl SecretHash {
    pub(super) fn of(text: &str) -> SecretHash {
        SecretHash(Sha256::digest(text.as_bytes()).into())
    }

    /// The first 128 bits in hexadecimal: a name for what the text opens, which does not open it.
    pub(super) fn short_name(&self) -> String {
        base16ct::lower::encode_string(&self.0[..16])
    }
}

/// 256 random bits in hexadecimal.
pub(super) fn random_secret() -> String {
    random_digits::<32>()
}

/// 128 random bits in hexadecimal.
pub(super) fn random_browser_id() -> String {
    random_digits::<16>()
}

fn random_digits<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    base16ct::lower::encode_string(&bytes)
}

/// A new token.
pub(super) fn new_token() -> String {
    format!("{TOKEN_PREFIX}{}", random_secret())
}

/// Whether a text has this many lower-case hexadecimal digits and nothing else.
pub(super) fn is_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text has the form of a token.
pub(super) fn is_token(text: &str) -> bool {
    text.strip_prefix(TOKEN_PREFIX).is_some_and(|digits| is_digits(digits, SECRET_DIGITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_form_and_is_never_the_same() {
        let [one, other] = [new_token(), new_token()];
        assert!(is_token(&one) && is_token(&other) && one != other);
        for text in ["", "assay_", &one.to_uppercase(), &one[..69], &format!("{one}0"), &one.replace("assay_", "")] {
            assert!(!is_token(text), "{text}");
        }
    }

    #[test]
    fn the_hash_is_that_of_sha256sum() {
        let hash = base16ct::lower::encode_string(&SecretHash::of("abc").0);
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(SecretHash::of("abc").short_name(), hash[..32]);
    }
}
