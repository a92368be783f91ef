//! The signature of a callback, and the keys that make it.
//!
//! ```text
//!  secret of the instance --HMAC(hash of the token)--> key of the token
//!  key --HMAC("SECONDS.BODY")--> Assay-Signature: t=SECONDS,v1=HEX
//! ```
//!
//! HMAC-SHA256 in both places. The key is used as the text that it is shown as, so that
//! `openssl dgst -sha256 -hmac KEY` checks a signature. The secret never leaves the state folder:
//! a token alone does not give its key. `assay token add` shows the key.

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::envelope::hex;

/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "assay-signature";

/// The header with the id of the delivery, the same at each try.
pub const DELIVERY_HEADER: &str = "assay-delivery";

/// What keys of tokens are derived for. Another purpose needs another text.
const PURPOSE: &[u8] = b"assay callback: key of a token, version 1\0";

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;

/// The secret of an instance from which the keys of its tokens follow.
#[derive(Clone)]
pub struct CallbackSecret(hmac::Key);

impl std::fmt::Debug for CallbackSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallbackSecret")
    }
}

/// What can go wrong with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallbackSecretError {
    #[error("make a secret: the system has no random bytes")]
    NoRandomness,
    #[error("read the secret: it is not 64 hexadecimal digits")]
    NotASecret,
}

impl CallbackSecret {
    /// A new secret, as its file has it.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn generate() -> Result<String, CallbackSecretError> {
        let mut bytes = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| CallbackSecretError::NoRandomness)?;
        Ok(format!("{}\n", hex(&bytes)))
    }

    /// Reads what [`CallbackSecret::generate`] made.
    ///
    /// # Errors
    /// The text is something else.
    pub fn from_text(text: &str) -> Result<CallbackSecret, CallbackSecretError> {
        let digits = text.trim_ascii_end().as_bytes();
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let byte = |pair: &[u8]| Some(value(pair[0])? << 4 | value(pair[1])?);
        let bytes: Option<Vec<u8>> = digits.chunks_exact(2).map(byte).collect();
        match bytes {
            Some(bytes) if digits.len() == 2 * SECRET_BYTES => {
                Ok(CallbackSecret(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
            }
            _ => Err(CallbackSecretError::NotASecret),
        }
    }

    /// The key of the token with this hash (SHA-256, as the store keeps it).
    pub fn key(&self, token_sha256: &[u8; 32]) -> CallbackKey {
        let tag = hmac::sign(&self.0, &[PURPOSE, token_sha256].concat());
        CallbackKey(hex(tag.as_ref()))
    }
}

/// The key that signs the callbacks of a token, in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackKey(String);

impl std::fmt::Debug for CallbackKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallbackKey")
    }
}

impl CallbackKey {
    /// The key, to be shown to the one who made the token.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the header `Assay-Signature` for a body that is sent now.
    pub fn signature(&self, unix_seconds: u64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{unix_seconds}.").as_bytes());
        context.update(body);
        format!("t={unix_seconds},v1={}", hex(context.sign().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn secret() -> CallbackSecret {
        CallbackSecret::from_text(&"0f".repeat(32)).unwrap()
    }

    #[test]
    fn openssl_computes_the_same_key_and_the_same_signature() {
        let openssl = |arguments: &[&str], input: &[u8]| {
            let mut command = Command::new("openssl");
            command.args(["dgst", "-sha256", "-r"]).args(arguments);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(input).unwrap();
            let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            output.split_ascii_whitespace().next().unwrap().to_owned()
        };
        let key = secret().key(&[7; 32]);
        let of_key = [PURPOSE, [7; 32].as_slice()].concat();
        let option = format!("hexkey:{}", "0f".repeat(32));
        assert_eq!(openssl(&["-mac", "HMAC", "-macopt", &option], &of_key), key.as_str());
        let signature = key.signature(1_700_000_000, b"{\"id\":\"a\"}");
        let expected = openssl(&["-hmac", key.as_str()], b"1700000000.{\"id\":\"a\"}");
        assert_eq!(signature, format!("t=1700000000,v1={expected}"));
    }

    #[test]
    fn another_token_instance_time_or_body_has_another_signature() {
        let other = CallbackSecret::from_text(&CallbackSecret::generate().unwrap()).unwrap();
        let all = [
            secret().key(&[7; 32]).signature(1, b"a"),
            secret().key(&[8; 32]).signature(1, b"a"),
            other.key(&[7; 32]).signature(1, b"a"),
            secret().key(&[7; 32]).signature(2, b"a"),
            secret().key(&[7; 32]).signature(1, b"b"),
        ];
        let signed: std::collections::BTreeSet<&str> =
            all.iter().map(|value| value.split_once("v1=").unwrap().1).collect();
        assert_eq!(signed.len(), all.len());
    }

    #[test]
    fn only_64_digits_are_a_secret_and_it_is_not_printed() {
        for text in ["", "0f", &"0f".repeat(31), &"0f".repeat(33), &"0g".repeat(32), &"+f".repeat(32)] {
            assert_eq!(CallbackSecret::from_text(text).unwrap_err(), CallbackSecretError::NotASecret, "{text}");
        }
        let printed = format!("{:?} {:?}", secret(), secret().key(&[7; 32]));
        assert_eq!(printed, "CallbackSecret CallbackKey");
    }
}
