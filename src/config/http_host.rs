//! A name that HTTP requests may be for (`http.hosts`): what the `Host` field says must be one of
//! them. A page of another site that makes its own name lead here is refused that way (DNS
//! rebinding).

/// One entry of `http.hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    /// Whether browsers reach it by https, through a reverse proxy: cookies are `Secure` then.
    pub is_https: bool,
    /// The name or address in lower case, an IPv6 address in brackets.
    pub name: String,
    /// The only port; any if absent.
    pub port: Option<u16>,
}

/// Splits the text of a `Host` field: the name in lower case, and the port if there is one. `None`
/// if it is neither a name nor an address.
pub fn split_host(text: &str) -> Option<(String, Option<u16>)> {
    let (name, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (address, rest) = inner.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (format!("[{address}]"), rest)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_plain) {
                return None;
            }
            (name.to_ascii_lowercase(), rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        // a sign is a number to `parse`
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    Some((name, port))
}

impl AllowedHost {
    /// # Errors
    /// A message that continues the text.
    pub fn parse(text: &str) -> Result<AllowedHost, String> {
        let advice = "use a name or an address with or without a port, such as \"judge.example.org\", or \
                      \"https://judge.example.org\" behind a reverse proxy";
        let (is_https, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(format!("has another scheme than http and https; {advice}")),
            None => (false, text),
        };
        match split_host(rest) {
            Some((name, port)) => Ok(AllowedHost { is_https, name, port }),
            None => Err(format!("is not the name of a host; {advice}")),
        }
    }

    /// Whether a request's host and port are these.
    pub fn matches(&self, name: &str, port: Option<u16>) -> bool {
        let usual = if self.is_https { 443 } else { 80 };
        self.name == name && self.port.is_none_or(|own| own == port.unwrap_or(usual))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_split_into_name_and_port() {
        let is = |text: &str, name: &str, port| assert_eq!(split_host(text), Some((name.to_owned(), port)), "{text}");
        is("localhost", "localhost", None);
        is("LocalHost:80", "localhost", Some(80));
        is("127.0.0.1:9464", "127.0.0.1", Some(9464));
        is("[::1]:1", "[::1]", Some(1));
        is("[0:0:0:0:0:0:0:1]", "[::1]", None);
        for text in
            ["", ":80", "a b", "a/b", "user@localhost", "localhost:", "a:+1", "a:65536", "::1", "[::1", "[::1]x", "*"]
        {
            let found = split_host(text);
            assert!(found.is_none(), "{text}: {found:?}");
        }
    }

    #[test]
    fn an_entry_matches_its_name_with_any_port_or_with_its_own() {
        let entry = |text| AllowedHost::parse(text).unwrap();
        assert!(entry("localhost").matches("localhost", None) && entry("LOCALHOST").matches("localhost", Some(9464)));
        assert!(!entry("localhost").matches("localhost.evil.example", None));
        let own = entry("http://judge.example:8080");
        assert!(own.matches("judge.example", Some(8080)) && !own.matches("judge.example", None));
        let tls = entry("https://judge.example:443");
        assert!(tls.is_https && tls.matches("judge.example", None) && tls.matches("judge.example", Some(443)));
        for text in ["", "*", "ftp://a", "https://a/b", "a,b", "https://"] {
            let error = AllowedHost::parse(text).unwrap_err();
            assert!(error.contains("judge.example.org"), "{text}: {error}");
        }
    }
}
