//! Which host a request is for, and whether a page of that host made it.
//!
//! A browser sends a cookie along, and reaches a loopback address, whichever page asks it to. What
//! a page cannot choose are `Host`, `Origin` and `Sec-Fetch-Site`: these decide. A page whose name
//! was made to lead here (DNS rebinding) has its own name in `Host`.

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};

use super::error::AccessError;
use config::{AllowedHost, split_host};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The host that a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestedHost {
    /// In lower case.
    name: String,
    port: Option<u16>,
    /// Whether browsers reach it by https.
    pub(super) is_https: bool,
}

/// The one value of a header; `None` without it.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => field.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

impl RequestedHost {
    /// The host of a request, which must be one of those that are allowed.
    pub(super) fn of(parts: &Parts, allowed: &[AllowedHost]) -> Result<RequestedHost, AccessError> {
        let invalid = AccessError::InvalidHost;
        let header = single(&parts.headers, &HOST).map_err(|()| invalid)?.ok_or(invalid)?;
        let (name, port) = split_host(header).ok_or(invalid)?;
        // the host of a URL in absolute form is the same one
        if let Some(authority) = parts.uri.authority()
            && split_host(authority.as_str()) != Some((name.clone(), port))
        {
            return Err(invalid);
        }
        let found = allowed.iter().find(|allowed| allowed.matches(&name, port)).ok_or(AccessError::ForeignHost)?;
        Ok(RequestedHost { name, port, is_https: found.is_https })
    }

    /// Whether an `Origin` is that of this host's pages.
    fn is_origin(&self, origin: &str) -> bool {
        let Some((scheme, rest)) = origin.split_once("://") else { return false };
        let usual = match scheme {
            "https" => 443,
            // a page that came without TLS is another origin
            "http" if !self.is_https => 80,
            _ => return false,
        };
        split_host(rest)
            .is_some_and(|(name, port)| name == self.name && port.unwrap_or(usual) == self.port.unwrap_or(usual))
    }
}

/// What a request's head says of the page that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageEvidence {
    /// A page of this server.
    Own,
    /// The user, who opened a URL that changes nothing.
    Navigation,
    /// Nothing: not a browser, or one that is too old.
    Absent,
    /// A page of another origin, or one that must not be told apart from it.
    Foreign,
}

impl PageEvidence {
    pub(super) fn of(parts: &Parts, host: &RequestedHost) -> PageEvidence {
        let headers = &parts.headers;
        let (Ok(origin), Ok(site)) = (single(headers, &ORIGIN), single(headers, &SEC_FETCH_SITE)) else {
            return PageEvidence::Foreign;
        };
        let is_navigation = matches!(parts.method, Method::GET | Method::HEAD)
            && single(headers, &SEC_FETCH_MODE) == Ok(Some("navigate"));
        let by_site = match site {
            None => PageEvidence::Absent,
            Some("same-origin") => PageEvidence::Own,
            Some("none") if is_navigation => PageEvidence::Navigation,
            Some(_) => PageEvidence::Foreign,
        };
        match origin {
            None => by_site,
            Some(origin) if host.is_origin(origin) && by_site == PageEvidence::Absent => PageEvidence::Own,
            Some(origin) if host.is_origin(origin) => by_site,
            Some(_) => PageEvidence::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn allowed() -> Vec<AllowedHost> {
        let entries = ["localhost", "[::1]", "http://lan.example:8080", "https://judge.example"];
        entries.map(|text| AllowedHost::parse(text).unwrap()).into()
    }

    fn host(text: &str) -> Result<RequestedHost, AccessError> {
        RequestedHost::of(&head("GET", "/", &[("host", text)]), &allowed())
    }

    #[test]
    fn a_request_is_for_one_of_the_allowed_hosts_or_refused() {
        for text in ["localhost", "LOCALHOST:9464", "[::1]:1", "lan.example:8080", "judge.example:8443"] {
            assert!(host(text).is_ok(), "{text}");
        }
        for text in ["evil.example", "localhost.evil.example", "lan.example", "127.0.0.1", "localhost."] {
            assert_eq!(host(text), Err(AccessError::ForeignHost), "{text}");
        }
        for text in ["", "a b", "localhost:x", "user@localhost", "localhost/", "localhost,localhost"] {
            assert_eq!(host(text), Err(AccessError::InvalidHost), "{text}");
        }
        let of = |uri: &str, fields: &[(&str, &str)]| RequestedHost::of(&head("GET", uri, fields), &allowed());
        assert_eq!(of("/", &[]), Err(AccessError::InvalidHost));
        assert_eq!(of("/", &[("host", "localhost"), ("host", "localhost")]), Err(AccessError::InvalidHost));
        assert!(of("http://localhost/", &[("host", "localhost")]).is_ok());
        assert_eq!(of("http://evil.example/", &[("host", "localhost")]), Err(AccessError::InvalidHost));
        assert_eq!(of("http://localhost:1/", &[("host", "localhost")]), Err(AccessError::InvalidHost));
    }

    #[test]
    fn a_page_is_told_by_its_origin_and_by_what_the_browser_says() {
        use PageEvidence::{Absent, Foreign, Navigation, Own};
        let local = host("localhost:9464").unwrap();
        let tls = host("judge.example").unwrap();
        let of = |host: &RequestedHost, method: &str, fields: &[(&str, &str)]| {
            PageEvidence::of(&head(method, "/", fields), host)
        };
        let (origin, site, mode) = ("origin", "sec-fetch-site", "sec-fetch-mode");
        for (fields, expected) in [
            (&[] as &[(&str, &str)], Absent),
            (&[(origin, "http://localhost:9464")], Own),
            (&[(site, "same-origin")], Own),
            (&[(origin, "http://localhost:9464"), (site, "same-origin")], Own),
            (&[(origin, "http://localhost:9464"), (site, "cross-site")], Foreign),
            (&[(origin, "http://evil.example"), (site, "same-origin")], Foreign),
            (&[(origin, "http://localhost")], Foreign),
            (&[(origin, "http://localhost:9465")], Foreign),
            (&[(origin, "null")], Foreign),
            (&[(origin, "")], Foreign),
            (&[(origin, "file://")], Foreign),
            (&[(origin, "http://localhost:9464"), (origin, "http://localhost:9464")], Foreign),
            (&[(site, "same-site")], Foreign),
            (&[(site, "cross-site")], Foreign),
            (&[(site, "Same-Origin")], Foreign),
            (&[(site, "none")], Foreign),
            (&[(site, "none"), (mode, "navigate")], Foreign),
        ] {
            assert_eq!(of(&local, "POST", fields), expected, "{fields:?}");
        }
        assert_eq!(of(&local, "GET", &[(site, "none"), (mode, "navigate")]), Navigation);
        assert_eq!(of(&local, "GET", &[(site, "none"), (mode, "cors")]), Foreign);
        assert_eq!(of(&local, "GET", &[(site, "cross-site"), (mode, "navigate")]), Foreign);
        assert_eq!(of(&tls, "POST", &[(origin, "https://judge.example")]), Own);
        assert_eq!(of(&tls, "POST", &[(origin, "https://judge.example:443")]), Own);
        assert_eq!(of(&tls, "POST", &[(origin, "http://judge.example")]), Foreign);
    }
}
