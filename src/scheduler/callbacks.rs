//! Callbacks: which submissions may have one, what is known of their deliveries, and whether
//! assay-egress is there to make them. [`callback_delivery`](super::callback_delivery) makes them.
//!
//! ```text
//!  submission.submit with callback_url
//!     |-- no token, not a named receiver --> Refused
//!     '-- kept with its request --report--> outbox --> delivered (2xx)
//!                                            ^  |
//!                                            |  '----> given up: 410, the last try, or too old
//!                                            '-- backoff
//! ```

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use config::HttpSettings;
use config::bounds::MAX_WAITING_CALLBACKS;
use config::callbacks::{CallbackRefusal, CallbackRules, Receiver};
use protocol::callback::{CallbackKey, CallbackSecret};
use protocol::status::{CheckKind, HealthCheck};
use protocol::{Principal, Submission};
use store::CallbackAddress;
use telemetry::metrics::{MetricsWriter, labels};

/// Knows the hashes of tokens by their names.
pub trait TokenHashes: Send + Sync {
    /// SHA-256 of the token, unless it is unknown, expired or revoked.
    fn sha256(&self, name: &str) -> Option<[u8; 32]>;
}

/// Why a submission may not have a callback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallbackDenied {
    /// It came without a token, whose key would sign it.
    #[error("callback_url: only a caller with a token may name a URL; use HTTP with one (assay token add)")]
    NoToken,
    /// Its report is not kept for it.
    #[error(
        "callback_url: goes with submission.submit (over HTTP: wait=false), whose report is kept until it is delivered"
    )]
    NotKept,
    #[error(
        "callback_url: {MAX_WAITING_CALLBACKS} callbacks of yours wait already; see why their receivers do not take them"
    )]
    TooMany,
    #[error("callback_url: {0}")]
    Url(#[from] CallbackRefusal),
}

/// A submission's callback, before there is a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PendingCallback {
    pub(super) url: String,
    receiver: String,
    pub(super) token: [u8; 32],
}

impl PendingCallback {
    /// Of a URL that was admitted.
    pub(super) fn new(url: &str, token: [u8; 32]) -> Option<PendingCallback> {
        let receiver = Receiver::of_url(url)?.to_string();
        Some(PendingCallback { url: url.to_owned(), receiver, token })
    }

    /// Where the report goes, with an id of its own.
    pub(super) fn address(&self) -> CallbackAddress {
        CallbackAddress {
            delivery: uuid::Uuid::new_v4().to_string(),
            receiver: self.receiver.clone(),
            url: self.url.clone(),
            token: self.token,
        }
    }
}

/// Counts since the daemon's start.
#[derive(Debug, Default)]
pub(super) struct CallbackCounts {
    pub(super) delivered: AtomicU64,
    /// Tries in vain.
    pub(super) failed: AtomicU64,
    pub(super) given_up: AtomicU64,
}

/// Callbacks of all submissions.
pub struct Callbacks {
    rules: RwLock<CallbackRules>,
    pub(super) socket: PathBuf,
    secret: CallbackSecret,
    tokens: OnceLock<Arc<dyn TokenHashes>>,
    pub(super) counts: CallbackCounts,
    /// There is something new to deliver, or room for it.
    pub(super) changed: Notify,
    /// Why assay-egress could not be asked the last time.
    pub(super) unreachable: Mutex<Option<String>>,
    /// Deliveries under way: the keys of their reports by receiver.
    pub(super) under_way: Mutex<HashMap<String, Vec<i64>>>,
    /// The daemon ends.
    pub(super) is_ending: AtomicBool,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Callbacks {
    pub fn new(http: &HttpSettings, secret: CallbackSecret) -> Callbacks {
        Callbacks {
            rules: RwLock::new(http.callback_rules()),
            socket: http.egress_socket.clone(),
            secret,
            tokens: OnceLock::new(),
            counts: CallbackCounts::default(),
            changed: Notify::new(),
            unreachable: Mutex::default(),
            under_way: Mutex::default(),
            is_ending: AtomicBool::new(false),
        }
    }

    /// Says who knows the tokens. Without it, no submission may have a callback.
    pub fn set_tokens(&self, tokens: Arc<dyn TokenHashes>) {
        let _ = self.tokens.set(tokens);
    }

    /// Replaces the rules. The socket needs a restart.
    pub fn set_settings(&self, http: &HttpSettings) {
        *self.rules.write() = http.callback_rules();
        self.changed.notify_one();
    }

    /// The key that signs the callbacks of the token with this hash.
    pub fn key(&self, token_sha256: &[u8; 32]) -> CallbackKey {
        self.secret.key(token_sha256)
    }

    pub(super) fn are_configured(&self) -> bool {
        !self.rules.read().is_empty()
    }

    /// Decides about the callback of a submission, if it asks for one; `waiting` counts those of
    /// its principal that are not delivered yet.
    ///
    /// # Errors
    /// See [`CallbackDenied`].
    pub(super) fn admit(
        &self,
        submission: &Submission,
        principal: &Principal,
        is_kept: bool,
        waiting: impl FnOnce() -> u64,
    ) -> Result<Option<PendingCallback>, CallbackDenied> {
        let Some(url) = &submission.callback_url else { return Ok(None) };
        let Principal::Token(name) = principal else { return Err(CallbackDenied::NoToken) };
        let token = self.tokens.get().and_then(|tokens| tokens.sha256(name)).ok_or(CallbackDenied::NoToken)?;
        if !is_kept {
            return Err(CallbackDenied::NotKept);
        }
        let (url, receiver) = self.rules.read().admit(url)?;
        if waiting() >= MAX_WAITING_CALLBACKS {
            return Err(CallbackDenied::TooMany);
        }
        Ok(Some(PendingCallback { url: url.into(), receiver: receiver.to_string(), token }))
    }

    /// The row of health; none where no callbacks are configured and none wait.
    pub(super) fn check(&self, waiting: u64) -> Option<HealthCheck> {
        if !self.are_configured() && waiting == 0 {
            return None;
        }
        let unreachable = self.unreachable.lock().clone();
        let (message, remedy) = match &unreachable {
            None => (format!("{waiting} waiting"), None),
            Some(error) => (
                format!("assay-egress does not answer at {}: {error}; {waiting} waiting", self.socket.display()),
                Some(
                    "systemctl enable --now assay-egress.socket; without systemd, run assay-egress --config FILE beside \
                     assayd"
                        .to_owned(),
                ),
            ),
        };
        let ok = unreachable.is_none();
        Some(HealthCheck { kind: CheckKind::Callbacks, name: "callbacks".to_owned(), ok, message, remedy })
    }

    /// Writes the counts.
    ///
    /// # Errors
    /// The writer failed.
    pub(super) fn write_metrics(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let CallbackCounts { delivered, failed, given_up } = &self.counts;
        let results = [("delivered", delivered), ("failed", failed), ("given_up", given_up)];
        let rows = results.map(|(result, counter)| (labels!(result = result), of(counter)));
        let help = "Tries to deliver callbacks, by result; the last one of a callback that is given up counts twice.";
        writer.counters("assay_callbacks", help, None, rows)?;
        let is_reachable = self.unreachable.lock().is_none();
        let help = "Whether assay-egress answered the last time it was asked, or was not asked.";
        writer.gauge("assay_egress_up", help, None, f64::from(u8::from(is_reachable)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) struct OneToken;

    impl TokenHashes for OneToken {
        fn sha256(&self, name: &str) -> Option<[u8; 32]> {
            (name == "ci").then_some([7; 32])
        }
    }

    pub(crate) fn callbacks(receivers: &[String], socket: &std::path::Path) -> Callbacks {
        let http =
            HttpSettings { callbacks: receivers.to_vec(), egress_socket: socket.to_owned(), ..HttpSettings::default() };
        let callbacks = Callbacks::new(&http, CallbackSecret::from_text(&"0f".repeat(32)).unwrap());
        callbacks.set_tokens(Arc::new(OneToken));
        callbacks
    }

    #[test]
    fn only_a_token_may_name_a_url_and_only_one_of_a_named_receiver() {
        let callbacks = callbacks(&["hooks.example".to_owned()], "/nonexistent".as_ref());
        let token = |name: &str| Principal::Token(name.into());
        let admit = |url: &str, principal, is_kept| {
            let submission = Submission { callback_url: Some(url.to_owned()), ..Submission::default() };
            callbacks.admit(&submission, &principal, is_kept, || 0)
        };
        let good = "https://hooks.example/a";
        let pending = admit(good, token("ci"), true).unwrap().unwrap();
        assert_eq!((pending.url.as_str(), pending.receiver.as_str()), (good, "https://hooks.example:443"));
        assert_eq!(pending, PendingCallback::new(good, [7; 32]).unwrap());
        assert_ne!(pending.address().delivery, pending.address().delivery);
        for principal in [Principal::Uid(0), Principal::Anonymous("a".into()), token("unknown")] {
            for url in [good, "https://evil.example/"] {
                assert_eq!(admit(url, principal.clone(), true), Err(CallbackDenied::NoToken), "{principal} {url}");
            }
        }
        assert_eq!(admit(good, token("ci"), false), Err(CallbackDenied::NotKept));
        let refused = admit("https://evil.example/a?key=secret", token("ci"), true).unwrap_err();
        assert!(matches!(refused, CallbackDenied::Url(CallbackRefusal::NotNamed(_))), "{refused}");
        let message = refused.to_string();
        assert!(message.starts_with("callback_url: https://evil.example:443") && message.contains("http.callbacks"));
        assert_eq!(callbacks.admit(&Submission::default(), &Principal::Uid(0), false, || u64::MAX), Ok(None));
        let submission = Submission { callback_url: Some(good.to_owned()), ..Submission::default() };
        for (waiting, is_admitted) in [(MAX_WAITING_CALLBACKS - 1, true), (MAX_WAITING_CALLBACKS, false)] {
            let decided = callbacks.admit(&submission, &token("ci"), true, || waiting);
            assert_eq!(decided.is_ok(), is_admitted, "{waiting}");
            assert!(is_admitted || decided == Err(CallbackDenied::TooMany));
        }
    }

    #[test]
    fn health_has_a_row_where_callbacks_are_configured_or_wait() {
        let none = callbacks(&[], "/nonexistent".as_ref());
        assert!(none.check(0).is_none() && none.check(1).is_some());
        let some = callbacks(&["hooks.example".to_owned()], "/run/e.sock".as_ref());
        assert!(some.check(0).is_some_and(|row| row.ok));
        *some.unreachable.lock() = Some("no such file".to_owned());
        let row = some.check(3).unwrap();
        assert_eq!(row.message, "assay-egress does not answer at /run/e.sock: no such file; 3 waiting");
        assert!(!row.ok && row.remedy.unwrap().contains("assay-egress --config"));
    }
}
