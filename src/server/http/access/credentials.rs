//! What a request says of its caller, as it stands in its head. Pure; nothing is looked up here.

use http::header::{AUTHORIZATION, COOKIE, FORWARDED};
use http::request::Parts;
use http::{HeaderMap, Uri};

use super::error::AccessError;
use super::secret::{SECRET_DIGITS, SecretHash, TOKEN_PREFIX, is_digits, is_token};

/// Hexadecimal digits of an anonymous browser's id.
const BROWSER_DIGITS: usize = 32;

/// Names of query parameters in which clients of other services send tokens.
const TOKEN_PARAMETERS: [&str; 4] = ["token", "access_token", "api_key", "authorization"];

/// The name of the cookie: behind https one that no other host of the site can set.
pub(super) fn cookie_name(is_https: bool) -> &'static str {
    if is_https { "__Host-assay_session" } else { "assay_session" }
}

/// What a cookie of ours says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GivenCookie {
    /// The id of a session, hashed.
    Session(SecretHash),
    /// The id of an anonymous browser, hashed.
    Browser(SecretHash),
    /// It is there, and has neither form, or is there twice.
    Invalid,
}

/// The value of a session's cookie.
pub(super) fn session_cookie(id: &str) -> String {
    format!("s{id}")
}

/// The value of an anonymous browser's cookie.
pub(super) fn browser_cookie(id: &str) -> String {
    format!("a{id}")
}

impl GivenCookie {
    fn parse(value: &str) -> GivenCookie {
        match value.split_at_checked(1) {
            Some(("s", id)) if is_digits(id, SECRET_DIGITS) => GivenCookie::Session(SecretHash::of(id)),
            Some(("a", id)) if is_digits(id, BROWSER_DIGITS) => GivenCookie::Browser(SecretHash::of(id)),
            _ => GivenCookie::Invalid,
        }
    }
}

/// The cookie of that name, if there is one.
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<GivenCookie> {
    let mut found = None;
    for field in headers.get_all(COOKIE) {
        // bytes that are not text are not ours, and hide no cookie of ours
        for pair in field.as_bytes().split(|byte| *byte == b';') {
            let Ok(pair) = std::str::from_utf8(pair) else { continue };
            let Some((_, value)) = pair.trim().split_once('=').filter(|(other, _)| *other == name) else { continue };
            found = match found {
                None => Some(GivenCookie::parse(value)),
                Some(_) => Some(GivenCookie::Invalid),
            };
        }
    }
    found
}

/// The token in the header, hashed; `None` without the header.
///
/// # Errors
/// There are several, or it is not a token.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<SecretHash>, AccessError> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(AccessError::SeveralCredentials);
    }
    let text = field.to_str().map_err(|_| AccessError::Unauthenticated)?;
    let (scheme, rest) = text.split_once(' ').ok_or(AccessError::Unauthenticated)?;
    let token = rest.trim_start_matches(' ');
    match scheme.eq_ignore_ascii_case("bearer") && is_token(token) {
        true => Ok(Some(SecretHash::of(token))),
        false => Err(AccessError::Unauthenticated),
    }
}

/// Whether a proxy says that it forwards the request of another machine.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    let is_proxys = |name: &str| {
        name == FORWARDED || name.starts_with("x-forwarded-") || ["x-real-ip", "x-original-host", "via"].contains(&name)
    };
    headers.keys().any(|name| is_proxys(name.as_str()))
}

/// Whether the URL has a token in it. It would be in logs, in the browser's history and in
/// `Referer`.
pub(super) fn is_token_in_url(uri: &Uri) -> bool {
    let path = decoded(uri.path());
    let query = uri.query().unwrap_or_default();
    let in_query = query.split(['&', ';']).any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name).to_ascii_lowercase(), decoded(value));
        let is_named = TOKEN_PARAMETERS.contains(&name.as_str());
        is_named || value.trim_start().starts_with(TOKEN_PREFIX) || name.trim_start().starts_with(TOKEN_PREFIX)
    });
    in_query || has_token(&path) || has_token(&decoded(query))
}

fn has_token(text: &str) -> bool {
    text.match_indices(TOKEN_PREFIX).any(|(at, prefix)| {
        let end = at + prefix.len() + SECRET_DIGITS;
        text.get(at..end).is_some_and(|part| is_token(&part.to_ascii_lowercase()))
    })
}

/// Percent-encoding and `+` resolved, once.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let escaped = escaped.and_then(|pair| Some((hex(pair[0])?, hex(pair[1])?)));
        match escaped {
            Some((high, low)) => {
                plain.push(high * 16 + low);
                at += 3;
            }
            None => {
                plain.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Whether a request says that it has a body of a kind that a page of another site cannot send
/// without being asked: JSON, or with PUT plain bytes. One without a body has none.
pub(super) fn has_no_form(parts: &Parts) -> bool {
    let headers = &parts.headers;
    let length = headers.get(http::header::CONTENT_LENGTH);
    let has_body =
        headers.contains_key(http::header::TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0");
    let mut kinds = headers.get_all(http::header::CONTENT_TYPE).iter();
    let kind = match (kinds.next(), kinds.next()) {
        (None, _) => return !has_body,
        (Some(kind), None) => kind.to_str().unwrap_or_default(),
        (Some(_), Some(_)) => return false,
    };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind == "application/octet-stream" && parts.method == http::Method::PUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::access::secret::{new_token, random_browser_id, random_secret};
    use http::{HeaderName, HeaderValue, Method, Request};

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn one_bearer_token_of_the_right_form_is_taken_and_everything_else_is_refused() {
        let secret = new_token();
        let of =
            |values: &[&str]| token(&headers(&values.iter().map(|value| (AUTHORIZATION, *value)).collect::<Vec<_>>()));
        let hash = SecretHash::of(&secret);
        assert_eq!(of(&[]), Ok(None));
        for scheme in ["Bearer ", "bearer ", "BEARER   "] {
            assert_eq!(of(&[&format!("{scheme}{secret}")]), Ok(Some(hash)), "{scheme}");
        }
        for value in [
            "",
            "Bearer",
            "Bearer ",
            &secret,
            &format!("Bearer{secret}"),
            &format!("Basic {secret}"),
            "Basic dXNlcjpwYXNz",
            &format!("Bearer {secret} "),
            &format!("Bearer {secret},{secret}"),
            &format!("Bearer \"{secret}\""),
            &format!("Bearer {}", secret.to_uppercase()),
            &format!("Bearer token={secret}"),
            &format!("Token {secret}"),
        ] {
            assert_eq!(of(&[value]), Err(AccessError::Unauthenticated), "{value}");
        }
        let twice = format!("Bearer {secret}");
        assert_eq!(of(&[&twice, &twice]), Err(AccessError::SeveralCredentials));
        let bytes = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").unwrap())]);
        assert_eq!(token(&bytes), Err(AccessError::Unauthenticated));
    }

    #[test]
    fn a_cookie_is_found_among_others_and_not_taken_when_it_is_there_twice() {
        let (session, browser) = (random_secret(), random_browser_id());
        let of = |values: &[&str]| {
            let fields = values.iter().map(|value| (COOKIE, *value)).collect::<Vec<_>>();
            cookie(&headers(&fields), "assay_session")
        };
        let is_session = Some(GivenCookie::Session(SecretHash::of(&session)));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["theme=dark; other=1", "assay_sessions=1"]), None);
        assert_eq!(of(&[&format!("theme=dark;assay_session=s{session}; a=b")]), is_session);
        assert_eq!(of(&["theme=dark", &format!("assay_session=s{session}")]), is_session);
        assert_eq!(of(&[&format!("assay_session=a{browser}")]), Some(GivenCookie::Browser(SecretHash::of(&browser))));
        for invalid in [
            "assay_session=".to_owned(),
            "assay_session=s".to_owned(),
            format!("assay_session={session}"),
            format!("assay_session=\"s{session}\""),
            format!("assay_session=s{browser}"),
            format!("assay_session=a{session}"),
            format!("assay_session=s{session}; assay_session=s{session}"),
            "assay_session=é".to_owned(),
        ] {
            assert_eq!(of(&[&invalid]), Some(GivenCookie::Invalid), "{invalid}");
        }
    }

    #[test]
    fn a_token_in_a_url_is_found_however_it_is_written() {
        let secret = new_token();
        let encoded = secret.replace("assay_", "%61ssay%5f");
        for found in [
            "/api/v1/status?token=x".to_owned(),
            "/api/v1/status?a=b&ACCESS_TOKEN=".to_owned(),
            "/?api%5Fkey=1".to_owned(),
            format!("/?q={secret}"),
            format!("/?{secret}"),
            format!("/?q={encoded}"),
            format!("/?q=Bearer+{secret}"),
            "/?q=assay_abc".to_owned(),
            format!("/api/v1/submissions/{secret}"),
            format!("/{encoded}/x"),
        ] {
            assert!(is_token_in_url(&found.parse().unwrap()), "{found}");
        }
        for other in
            ["/", "/api/v1/submissions/assay_1?wait_ms=5", "/?cursor=1-2&tokens=3", "/?q=my_assay_file", "/?%", "/?%zz"]
        {
            assert!(!is_token_in_url(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn every_header_of_a_proxy_is_recognized() {
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"] {
            assert!(is_forwarded(&headers(&[(HeaderName::from_static(name), "")])), "{name}");
        }
        assert!(!is_forwarded(&headers(&[(HeaderName::from_static("x-forward"), "1")])));
    }

    #[test]
    fn a_body_that_a_form_can_send_is_recognized() {
        let of = |method: Method, fields: &[(&str, &str)]| {
            let mut request = Request::builder().method(method).uri("/");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            has_no_form(&request.body(()).unwrap().into_parts().0)
        };
        let (kind, length) = ("content-type", ("content-length", "7"));
        assert!(of(Method::POST, &[(kind, "application/json"), length]));
        assert!(of(Method::POST, &[(kind, "Application/JSON; charset=utf-8"), length]));
        assert!(of(Method::PUT, &[(kind, "application/octet-stream"), length]));
        assert!(of(Method::GET, &[]) && of(Method::DELETE, &[]) && of(Method::POST, &[("content-length", "0")]));
        for bad in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonx"] {
            assert!(!of(Method::POST, &[(kind, bad), length]), "{bad}");
            assert!(!of(Method::PUT, &[(kind, bad), length]), "{bad}");
        }
        assert!(!of(Method::POST, &[(kind, "application/octet-stream"), length]));
        assert!(!of(Method::POST, &[length]) && !of(Method::POST, &[("transfer-encoding", "chunked")]));
        assert!(!of(Method::POST, &[(kind, "application/json"), (kind, "text/plain"), length]));
    }
}
