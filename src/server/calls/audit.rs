//! The audit log: one line for each thing that an admin does, and for each browser session that is
//! opened. Who, what, on what, from where, with which result; never a credential.
//!
//! The lines are in the daemon's log with the target `audit`, which a level of `warn` does not turn
//! off. In the journal: `journalctl -u assayd ASSAY_AUDIT=token.add`.

use serde_json::Value;

use protocol::Principal;
use protocol::code::Code;
use protocol::method::{Method, Role};
use telemetry::text::clean;
use telemetry::throttle::LogThrottle;

/// Parameters that say what is acted on. None of them is a secret.
const SUBJECTS: [&str; 9] =
    ["name", "tenant", "role", "expires_ms", "replace", "host", "profile", "principal", "dry_run"];

/// The longest value that is written, in characters.
const MAX_VALUE: usize = 128;

/// Methods for admins that change nothing.
fn only_looks(method: Method) -> bool {
    matches!(method, Method::TokenList | Method::StoreCheck)
}

/// An action on its way: what has to be known before its parameters are taken apart.
#[derive(Debug)]
pub(crate) struct AuditedAction {
    action: &'static str,
    subject: String,
}

impl AuditedAction {
    /// `None` if the method is not for admins, or changes nothing. A pause of a daemon that is
    /// paused is such a one: a command that waits asks again and again.
    pub(crate) fn of(method: Method, params: &Value, is_paused: bool) -> Option<AuditedAction> {
        let is_repeated = match method {
            Method::DaemonPause => is_paused,
            Method::DaemonResume => !is_paused,
            _ => false,
        };
        if method.role() != Role::Admin || only_looks(method) || is_repeated {
            return None;
        }
        Some(AuditedAction { action: method.name(), subject: subject(params) })
    }

    /// Writes the line. `from` is the door, with the address where there is one.
    pub(crate) fn record(self, principal: &Principal, from: &str, result: Result<(), Code>) {
        match result {
            // a caller that is not an admin must not fill the log
            Err(Code::Forbidden) => write_throttled(self.action, principal, from, result),
            _ => write(self.action, &self.subject, principal, from, result),
        }
    }
}

fn subject(params: &Value) -> String {
    let value = |name: &&str| {
        let text = match &params[*name] {
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
            Value::String(text) => text.chars().take(MAX_VALUE).collect(),
            other => other.to_string(),
        };
        Some(format!("{name}={}", clean(&text)))
    };
    SUBJECTS.iter().filter_map(value).collect::<Vec<_>>().join(" ")
}

static THROTTLE: LogThrottle = LogThrottle::new();

/// Writes a line for what any caller can do as often as it likes.
pub(crate) fn write_throttled(action: &str, principal: &Principal, from: &str, result: Result<(), Code>) {
    if let Some(suppressed) = THROTTLE.allow() {
        let subject = if suppressed > 0 { format!("suppressed={suppressed}") } else { String::new() };
        write(action, &subject, principal, from, result);
    }
}

/// Writes a line.
pub(crate) fn write(action: &str, subject: &str, principal: &Principal, from: &str, result: Result<(), Code>) {
    let result = result.err().map_or("ok", Code::as_str);
    tracing::info!(target: "audit", audit = %action, %principal, %from, %subject, %result, "admin action");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_an_admin_changes_is_written_and_what_is_only_looked_at_is_not() {
        let of = |method, is_paused| AuditedAction::of(method, &json!({}), is_paused).map(|action| action.action);
        for method in Method::ALL {
            let is_written = of(*method, false).is_some();
            let is_action = method.role() == Role::Admin
                && !matches!(method, Method::TokenList | Method::StoreCheck | Method::DaemonResume);
            assert_eq!(is_written, is_action, "{method:?}");
        }
        assert_eq!(of(Method::DaemonPause, true), None);
        assert_eq!(of(Method::DaemonResume, true), Some("daemon.resume"));
    }

    #[test]
    fn a_line_says_what_is_acted_on_and_nothing_that_it_does_not_know() {
        let params = json!({ "name": "ci\nname=x", "tenant": "T", "replace": true, "token": "assay_1", "files": [1],
            "host": "x".repeat(500), "expires_ms": null });
        let text = subject(&params);
        assert!(text.starts_with("name=ci") && text.contains(" tenant=T replace=true host=xxx"), "{text}");
        assert!(!text.contains("assay_1") && !text.contains('\n') && text.len() < 200, "{text}");
    }
}
