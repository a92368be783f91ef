//! Why a request was refused, for the operator's log: what the answer does not tell its caller.
//! Never a credential.

use http::header::HOST;
use http::request::Parts;

use super::credentials::{self, GivenCookie};
use super::{AccessControl, AccessError, PeerAddress};
use telemetry::text::clean;

/// How much of a header the log has.
const MAX_CHARS: usize = 80;

fn header(parts: &Parts, name: &http::HeaderName) -> String {
    let text = parts.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    text.map_or("none".to_owned(), |text| clean(&text).chars().take(MAX_CHARS).collect())
}

impl AccessControl {
    /// The reason of a refusal.
    pub fn refusal(&self, error: AccessError, parts: &Parts, from: &PeerAddress) -> String {
        match error {
            AccessError::Unauthenticated => self.why_unauthenticated(parts, from),
            AccessError::ForeignHost => format!("Host {:?} is not in http.hosts", header(parts, &HOST)),
            AccessError::CrossOrigin => {
                let (origin, host) = (header(parts, &http::header::ORIGIN), header(parts, &HOST));
                format!("a page of another origin: Origin {origin:?}, Host {host:?}")
            }
            other => other.to_string(),
        }
    }

    fn why_unauthenticated(&self, parts: &Parts, from: &PeerAddress) -> String {
        match credentials::token(&parts.headers) {
            Ok(Some(hash)) => return self.tokens.why_refused(hash, super::now_ms()),
            Err(_) => return "Authorization has no token: it must be \"Bearer assay_...\"".to_owned(),
            Ok(None) => {}
        }
        let cookie = [true, false].map(credentials::cookie_name);
        match cookie.iter().find_map(|name| credentials::cookie(&parts.headers, name)) {
            Some(GivenCookie::Session(_)) => "the browser session is over".to_owned(),
            Some(GivenCookie::Browser(_)) => "anonymous browsers are not allowed here".to_owned(),
            Some(GivenCookie::Invalid) => "the cookie is not one of ours".to_owned(),
            None => {
                let forwarded = if credentials::is_forwarded(&parts.headers) { ", through a proxy" } else { "" };
                format!("no token, and {from}{forwarded} needs one")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::calls::peer::Roles;
    use crate::calls::state::{Live, LiveSettings};
    use config::{HttpSettings, SocketSettings};

    fn reason(headers: &[(&str, &str)]) -> String {
        let settings = LiveSettings {
            profiles: Arc::default(),
            roles: Arc::new(Roles::new(&SocketSettings::default()).unwrap()),
            reuse: protocol::ReusePolicy::Always,
        };
        let access = AccessControl::new(&HttpSettings::default(), Arc::new(Live::new(settings)));
        let mut request = http::Request::get("/api/v1/profiles").header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let from = PeerAddress::Tcp { from: "192.0.2.1:1".parse().unwrap(), is_loopback_listener: false };
        let error = access.identify(&parts, &from).unwrap_err();
        access.refusal(error, &parts, &from)
    }

    #[test]
    fn the_log_says_what_the_answer_does_not() {
        let token = format!("Bearer assay_{}", "0".repeat(64));
        for (headers, expected) in [
            (vec![], "no token, and 192.0.2.1 needs one"),
            (vec![("x-forwarded-for", "198.51.100.1")], "no token, and 192.0.2.1, through a proxy needs one"),
            (vec![("authorization", "Basic eDp5")], "Authorization has no token"),
            (vec![("authorization", token.as_str())], "the token is not known"),
            (vec![("cookie", "assay_session=x")], "the cookie is not one of ours"),
        ] {
            let reason = reason(&headers);
            assert!(reason.starts_with(expected), "{headers:?}: {reason}");
            assert!(!reason.contains("00000000"), "{reason}");
        }
    }
}
