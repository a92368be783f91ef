//! Signed statements: a DSSE envelope (Dead Simple Signing Envelope, version 1) with an ed25519
//! signature, and the key that signs it.
//!
//! ```text
//!  statement --JSON--> payload --"DSSEv1" LENGTH TYPE LENGTH PAYLOAD--> signature
//!                         '----------- base64 ----> envelope <--base64------'
//! ```
//!
//! What is signed is the payload as it stands, so a reader checks the signature before it parses
//! anything. The public half of a key is known by its id: the SHA-256 of its DER form
//! (SubjectPublicKeyInfo), which is also what its PEM form holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{self, SHA256};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::receipt::{InputKind, PREDICATE_TYPE, ReceiptInput, STATEMENT_TYPE, Statement};

/// The type of a payload that is an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// An ed25519 public key in DER: a fixed head (RFC 8410), and 32 bytes.
const PUBLIC_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What the key of the HMACs is derived for. Another purpose needs another text.
const SECRET_INPUTS: &[u8] = b"assay receipt: secret inputs, version 1";

const PUBLIC_LABEL: &str = "PUBLIC KEY";
const PRIVATE_LABEL: &str = "PRIVATE KEY";

/// The SHA-256 of some bytes, in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&SHA256, bytes).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of an input that comes in parts.
pub struct InputDigest(DigestKind);

enum DigestKind {
    Plain(Box<digest::Context>),
    Keyed(Box<hmac::Context>),
}

impl std::fmt::Debug for InputDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InputDigest").field("is_secret", &self.is_secret()).finish_non_exhaustive()
    }
}

impl InputDigest {
    /// A digest with SHA-256.
    pub fn plain() -> InputDigest {
        InputDigest(DigestKind::Plain(Box::new(digest::Context::new(&SHA256))))
    }

    fn is_secret(&self) -> bool {
        matches!(self.0, DigestKind::Keyed(_))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            DigestKind::Plain(context) => context.update(bytes),
            DigestKind::Keyed(context) => context.update(bytes),
        }
    }

    /// Adds a part with its length before it (8 bytes, big-endian), so that what is moved from one
    /// part to the next changes the digest.
    pub fn part(&mut self, bytes: &[u8]) {
        self.update(&(bytes.len() as u64).to_be_bytes());
        self.update(bytes);
    }

    /// The input that it is the digest of.
    pub fn input(self, kind: InputKind, name: &str) -> ReceiptInput {
        let (sha256, hmac_sha256) = match self.0 {
            DigestKind::Plain(context) => (Some(hex(context.finish().as_ref())), None),
            DigestKind::Keyed(context) => (None, Some(hex(context.sign().as_ref()))),
        };
        ReceiptInput { kind, name: name.to_owned(), sha256, hmac_sha256 }
    }
}

/// A signed payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The statement's JSON, in base64.
    pub payload: String,
    /// The type of in-toto statements: `application/vnd.in-toto+json`.
    pub payload_type: String,
    /// One signature, by the instance.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature of a payload and its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvelopeSignature {
    /// SHA-256 of the public key in DER, in hexadecimal.
    pub keyid: String,
    /// An ed25519 signature, in base64.
    pub sig: String,
}

/// Why an envelope is not a receipt that can be trusted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("its payload type is {0:?} instead of {PAYLOAD_TYPE:?}")]
    PayloadType(String),
    #[error("its payload is not base64")]
    Payload,
    #[error("it has no signature")]
    Unsigned,
    #[error("it is signed with another key: {0}")]
    OtherKey(String),
    #[error("its signature is not base64")]
    SignatureText,
    #[error("its signature does not match: it was changed after it was signed")]
    Signature,
    #[error("its payload is not a statement: {0}")]
    Statement(String),
    #[error("its statement has the type {0:?} instead of {STATEMENT_TYPE:?}")]
    StatementType(String),
    #[error("its predicate has the type {0:?} instead of {PREDICATE_TYPE:?}")]
    PredicateType(String),
}

/// The bytes that are signed for a payload.
fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// The statement, if this key signed it.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn open(&self, key: &PublicKey) -> Result<Statement, EnvelopeError> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType(self.payload_type.clone()));
        }
        let payload = BASE64.decode(&self.payload).map_err(|_| EnvelopeError::Payload)?;
        let id = key.id();
        let ours = self.signatures.iter().find(|signature| signature.keyid == id);
        let signature = match (ours, self.signatures.first()) {
            (Some(signature), _) => signature,
            (None, Some(other)) => return Err(EnvelopeError::OtherKey(other.keyid.clone())),
            (None, None) => return Err(EnvelopeError::Unsigned),
        };
        let bytes = BASE64.decode(&signature.sig).map_err(|_| EnvelopeError::SignatureText)?;
        UnparsedPublicKey::new(&ED25519, &key.0)
            .verify(&signed_bytes(PAYLOAD_TYPE, &payload), &bytes)
            .map_err(|_| EnvelopeError::Signature)?;
        let statement: Statement =
            serde_json::from_slice(&payload).map_err(|error| EnvelopeError::Statement(error.to_string()))?;
        if statement.statement_type != STATEMENT_TYPE {
            return Err(EnvelopeError::StatementType(statement.statement_type));
        }
        if statement.predicate_type != PREDICATE_TYPE {
            return Err(EnvelopeError::PredicateType(statement.predicate_type));
        }
        Ok(statement)
    }
}

/// The public half of a [`ReceiptKey`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A text that is not an ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not an ed25519 public key in PEM form")]
pub struct NotAPublicKey;

impl PublicKey {
    fn der(&self) -> Vec<u8> {
        [PUBLIC_HEAD.as_slice(), &self.0].concat()
    }

    /// The key's id: the SHA-256 of its DER form, in hexadecimal.
    pub fn id(&self) -> String {
        sha256_hex(&self.der())
    }

    /// The key in PEM form, as OpenSSL reads it.
    pub fn pem(&self) -> String {
        to_pem(PUBLIC_LABEL, &self.der())
    }

    /// Reads the PEM form.
    ///
    /// # Errors
    /// The text is something else.
    pub fn from_pem(text: &str) -> Result<PublicKey, NotAPublicKey> {
        let der = from_pem(PUBLIC_LABEL, text).ok_or(NotAPublicKey)?;
        let bytes = der.strip_prefix(PUBLIC_HEAD.as_slice()).ok_or(NotAPublicKey)?;
        Ok(PublicKey(bytes.try_into().map_err(|_| NotAPublicKey)?))
    }
}

/// Signs the receipts of an instance, and makes the HMACs of their secret inputs.
pub struct ReceiptKey {
    pair: Ed25519KeyPair,
    secret_inputs: hmac::Key,
    public: PublicKey,
}

impl std::fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiptKey").field("public", &self.public.id()).finish_non_exhaustive()
    }
}

/// What can go wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptKeyError {
    #[error("make a key: the system has no random bytes")]
    NoRandomness,
    #[error("read the key: it is not an ed25519 private key in PEM form")]
    NotAKey,
}

impl ReceiptKey {
    /// A new key, in PEM form (PKCS#8).
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn generate() -> Result<String, ReceiptKeyError> {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| ReceiptKeyError::NoRandomness)?;
        Ok(to_pem(PRIVATE_LABEL, der.as_ref()))
    }

    /// Reads the PEM form.
    ///
    /// # Errors
    /// The text is something else.
    pub fn from_pem(text: &str) -> Result<ReceiptKey, ReceiptKeyError> {
        let der = from_pem(PRIVATE_LABEL, text).ok_or(ReceiptKeyError::NotAKey)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| ReceiptKeyError::NotAKey)?;
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| ReceiptKeyError::NotAKey)?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &der), SECRET_INPUTS);
        Ok(ReceiptKey {
            pair,
            secret_inputs: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
            public: PublicKey(bytes),
        })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a statement.
    pub fn sign(&self, statement: &Statement) -> Envelope {
        // a statement consists of strings and numbers, which always have a text
        let payload = serde_json::to_vec(statement).unwrap_or_default();
        let signature = self.pair.sign(&signed_bytes(PAYLOAD_TYPE, &payload));
        Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: BASE64.encode(payload),
            signatures: vec![EnvelopeSignature { keyid: self.public.id(), sig: BASE64.encode(signature) }],
        }
    }

    /// The digest of a secret input: HMAC-SHA256 under a key of this instance, so that no likely
    /// input can be tried against it.
    pub fn secret_digest(&self) -> InputDigest {
        InputDigest(DigestKind::Keyed(Box::new(hmac::Context::with_key(&self.secret_inputs))))
    }
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + &format!("-----END {label}-----\n")
}

fn from_pem(label: &str, text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::tests::statement;

    fn key() -> ReceiptKey {
        ReceiptKey::from_pem(&ReceiptKey::generate().unwrap()).unwrap()
    }

    #[test]
    fn what_is_signed_is_the_payload_with_its_type_and_their_lengths() {
        // the example of the DSSE specification
        let bytes = signed_bytes("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn a_receipt_opens_with_the_public_half_of_its_key() {
        let key = key();
        let envelope = key.sign(&statement());
        assert_eq!(envelope.open(key.public()).unwrap(), statement());
        let read = PublicKey::from_pem(&key.public().pem()).unwrap();
        assert_eq!((&read, read.id()), (key.public(), envelope.signatures[0].keyid.clone()));
    }

    #[test]
    fn every_change_of_a_receipt_is_found() {
        let key = key();
        let envelope = key.sign(&statement());
        let changed = |change: fn(&mut Envelope)| {
            let mut envelope = envelope.clone();
            change(&mut envelope);
            envelope.open(key.public()).unwrap_err()
        };
        let payload = |change: fn(&mut Statement)| {
            let mut statement = statement();
            change(&mut statement);
            let envelope =
                Envelope { payload: BASE64.encode(serde_json::to_vec(&statement).unwrap()), ..envelope.clone() };
            envelope.open(key.public()).unwrap_err()
        };
        assert_eq!(
            payload(|statement| statement.predicate.verdict = crate::Verdict::WrongAnswer),
            EnvelopeError::Signature
        );
        assert_eq!(payload(|statement| statement.subject.clear()), EnvelopeError::Signature);
        assert_eq!(changed(|e| e.payload_type = "text/plain".into()), EnvelopeError::PayloadType("text/plain".into()));
        assert_eq!(changed(|e| e.payload.insert(0, '!')), EnvelopeError::Payload);
        assert_eq!(changed(|e| e.signatures.clear()), EnvelopeError::Unsigned);
        assert_eq!(changed(|e| e.signatures[0].sig.insert(0, '!')), EnvelopeError::SignatureText);
        assert_eq!(changed(|e| e.signatures[0].sig = BASE64.encode([0; 64])), EnvelopeError::Signature);
        assert_eq!(changed(|e| e.signatures[0].keyid = "k".into()), EnvelopeError::OtherKey("k".into()));
        let other = self::key();
        let id = key.public().id();
        assert_eq!(envelope.open(other.public()).unwrap_err(), EnvelopeError::OtherKey(id));
    }

    #[test]
    fn a_signed_text_that_is_no_receipt_is_refused() {
        let key = key();
        let of = |change: fn(&mut Statement)| {
            let mut statement = statement();
            change(&mut statement);
            key.sign(&statement).open(key.public()).unwrap_err()
        };
        assert_eq!(of(|statement| statement.statement_type = "x".into()), EnvelopeError::StatementType("x".into()));
        assert_eq!(of(|statement| statement.predicate_type = "x".into()), EnvelopeError::PredicateType("x".into()));
        let payload = b"{}";
        let signature = key.pair.sign(&signed_bytes(PAYLOAD_TYPE, payload));
        let envelope = Envelope {
            payload: BASE64.encode(payload),
            signatures: vec![EnvelopeSignature { keyid: key.public().id(), sig: BASE64.encode(signature) }],
            payload_type: PAYLOAD_TYPE.to_owned(),
        };
        assert!(matches!(envelope.open(key.public()), Err(EnvelopeError::Statement(_))));
    }

    #[test]
    fn keys_are_read_from_their_pem_form_only() {
        let pem = ReceiptKey::generate().unwrap();
        let key = ReceiptKey::from_pem(&pem).unwrap();
        for text in ["", "key", &pem[..pem.len() / 2], &key.public().pem()] {
            assert_eq!(ReceiptKey::from_pem(text).unwrap_err(), ReceiptKeyError::NotAKey);
        }
        for text in ["", &pem, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert_eq!(PublicKey::from_pem(text), Err(NotAPublicKey));
        }
        assert!(!format!("{key:?}").contains(&pem[30..60]));
    }

    #[test]
    fn a_secret_input_has_a_digest_that_only_its_instance_can_make() {
        let (one, other) = (key(), key());
        let of = |mut digest: InputDigest, bytes: &[u8]| {
            digest.update(bytes);
            let ReceiptInput { sha256, hmac_sha256, .. } = digest.input(InputKind::Expect, "1");
            assert!(sha256.is_some() != hmac_sha256.is_some());
            sha256.or(hmac_sha256).unwrap()
        };
        assert_eq!(of(one.secret_digest(), b"42"), of(one.secret_digest(), b"42"));
        assert_ne!(of(one.secret_digest(), b"42"), of(one.secret_digest(), b"43"));
        assert_ne!(of(one.secret_digest(), b"42"), of(other.secret_digest(), b"42"));
        assert_eq!(of(InputDigest::plain(), b"42"), sha256_hex(b"42"));
    }

    #[test]
    fn parts_are_apart() {
        let of = |parts: &[&[u8]]| {
            let mut digest = InputDigest::plain();
            parts.iter().for_each(|part| digest.part(part));
            digest.input(InputKind::Test, "").sha256
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"a", b""]), of(&[b"a"]));
    }
}
