//! Where callbacks may go: `[http] callbacks` and `callback_networks`, and the decision about a
//! URL. Pure; addresses are checked by assay-egress, when it has resolved the name.
//!
//! ```text
//!   "hooks.example"            https://hooks.example/...         port 443
//!   "hooks.example:8443"       https://hooks.example:8443/...
//!   "http://10.1.2.3:8080"     http://10.1.2.3:8080/...          this address, without TLS
//! ```
//!
//! A host that is an address is allowed because it is named. A name must resolve to addresses that
//! are public or in one of the networks.
//!
//! A URL is taken in its normal form only (`url`, WHATWG): what two parsers could read differently
//! is refused, with the form that is meant.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use url::{Host, Url};

use super::bounds::{MAX_CALLBACK_RECEIVERS, MAX_CALLBACK_URL_BYTES};

/// A block of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    pub const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Network {
        Network { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }

    /// The first four groups are given; the others are 0.
    pub const fn v6(a: u16, b: u16, c: u16, d: u16, prefix: u8) -> Network {
        Network { base: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), prefix }
    }

    /// IPv4 addresses that are written as IPv6 ones (`::ffff:0:0/96`).
    pub const MAPPED: Network = Network { base: IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), prefix: 96 };

    /// Whether the address is in it. One of the other family is not, however it is written.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                base.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                base.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let wrong = || format!("{text:?} is not a network; use one such as \"10.1.2.0/24\" or \"fd00:1::/64\"");
        let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| digits && *prefix <= most).ok_or_else(wrong)?;
        let network = Network { base, prefix };
        let first = match base {
            IpAddr::V4(base) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() & mask))
            }
            IpAddr::V6(base) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() & mask))
            }
        };
        match first == base {
            true => Ok(network),
            false => Err(format!("{text:?} has bits beyond its prefix; use \"{first}/{prefix}\"")),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// What callbacks connect to: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receiver {
    pub is_https: bool,
    pub host: Host<String>,
    pub port: u16,
}

impl Receiver {
    /// The address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// Of a URL that was admitted before.
    pub fn of_url(text: &str) -> Option<Receiver> {
        Receiver::of(&Url::parse(text).ok()?)
    }

    fn of(url: &Url) -> Option<Receiver> {
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = url.host()?.to_owned();
        Some(Receiver { is_https, host, port: url.port_or_known_default()? })
    }
}

/// As in `[http] callbacks`, in full.
impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for Receiver {
    type Err = String;

    fn from_str(text: &str) -> Result<Receiver, String> {
        let wrong = |why: &str| {
            format!("{text:?} {why}; use \"hooks.example\", \"hooks.example:8443\" or \"http://10.1.2.3:8080\"")
        };
        let in_full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&in_full).map_err(|_| wrong("is not a host"))?;
        let receiver = Receiver::of(&url).ok_or_else(|| wrong("is neither https nor http"))?;
        let (_, authority) = in_full.split_once("://").unwrap_or_default();
        if authority.contains(['/', '?', '#', '@', '\\']) {
            return Err(wrong("has more than a host and a port"));
        }
        if authority.contains('*') {
            return Err(wrong("is a pattern: name each host"));
        }
        // the default port may be written
        let known = if receiver.is_https { ":443" } else { ":80" };
        let host = receiver.host.to_string();
        if ![host.clone(), format!("{host}{known}"), format!("{host}:{}", receiver.port)]
            .contains(&authority.to_owned())
            || (authority == host && receiver.port != url.port_or_known_default().unwrap_or(0))
        {
            return Err(wrong(&format!("is not in its normal form, {:?}", receiver.to_string())));
        }
        if host.ends_with('.') || receiver.port == 0 {
            return Err(wrong("is not a host that can be connected to"));
        }
        Ok(receiver)
    }
}

/// Why a URL is refused. Says nothing of the URL but its receiver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallbackRefusal {
    #[error("is longer than {MAX_CALLBACK_URL_BYTES} bytes")]
    TooLong,
    #[error("is not an absolute URL: {0}")]
    NotAUrl(&'static str),
    #[error("has a user name or password; the signature in the headers says who calls")]
    UserInfo,
    #[error("has a fragment, which is not sent; remove it")]
    Fragment,
    /// Another parser might read it differently.
    #[error("is not in its normal form; write it as {0:?}")]
    NotNormal(String),
    #[error("{0} is not a receiver of callbacks here; an operator names it in http.callbacks")]
    NotNamed(Receiver),
}

/// The settings, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallbackRules {
    receivers: Vec<Receiver>,
    networks: Vec<Network>,
}

impl CallbackRules {
    /// Parses both settings. A value that is none is left out: [`mistakes`] reports it.
    pub fn new(callbacks: &[String], networks: &[String]) -> CallbackRules {
        CallbackRules {
            receivers: callbacks.iter().filter_map(|text| text.parse().ok()).take(MAX_CALLBACK_RECEIVERS).collect(),
            networks: networks.iter().filter_map(|text| text.parse().ok()).collect(),
        }
    }

    /// Whether no receiver is named.
    pub fn is_empty(&self) -> bool {
        self.receivers.is_empty()
    }

    /// Whether an address that is not public is in one of the networks that callbacks may reach.
    pub fn names_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Decides about the URL of a callback.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit(&self, text: &str) -> Result<(Url, Receiver), CallbackRefusal> {
        if text.len() > MAX_CALLBACK_URL_BYTES {
            return Err(CallbackRefusal::TooLong);
        }
        let url = Url::parse(text).map_err(|error| {
            CallbackRefusal::NotAUrl(match error {
                url::ParseError::RelativeUrlWithoutBase => "it has no scheme, such as https",
                url::ParseError::EmptyHost => "it has no host",
                url::ParseError::InvalidPort => "its port is not a number up to 65535",
                url::ParseError::InvalidIpv4Address | url::ParseError::InvalidIpv6Address => {
                    "its host is an address that is not valid"
                }
                _ => "its host is not valid",
            })
        })?;
        let receiver = Receiver::of(&url).ok_or(CallbackRefusal::NotAUrl("it is neither https nor http"))?;
        if !url.username().is_empty() || url.password().is_some() || has_at_sign(text) {
            return Err(CallbackRefusal::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(CallbackRefusal::Fragment);
        }
        // without a path, the normal form has a slash more
        if url.as_str() != text && url.as_str().strip_suffix('/') != Some(text) {
            return Err(CallbackRefusal::NotNormal(url.into()));
        }
        match self.receivers.contains(&receiver) {
            true => Ok((url, receiver)),
            false => Err(CallbackRefusal::NotNamed(receiver)),
        }
    }
}

/// Whether there is an `@` before the path: also an empty user name is one too many.
fn has_at_sign(text: &str) -> bool {
    let (_, rest) = text.split_once(':').unwrap_or_default();
    let rest = rest.trim_start_matches(['/', '\\']);
    rest.split(['/', '\\', '?', '#']).next().unwrap_or_default().contains('@')
}

/// Mistakes in the two settings: the key and a message each.
pub(super) fn mistakes(callbacks: &[String], networks: &[String]) -> Vec<(&'static str, String)> {
    let mut mistakes = Vec::new();
    for text in callbacks {
        if let Err(message) = text.parse::<Receiver>() {
            mistakes.push(("http.callbacks", message));
        }
    }
    if callbacks.len() > MAX_CALLBACK_RECEIVERS {
        let message = format!("{} receivers are too many; use at most {MAX_CALLBACK_RECEIVERS}", callbacks.len());
        mistakes.push(("http.callbacks", message));
    }
    for text in networks {
        if let Err(message) = text.parse::<Network>() {
            mistakes.push(("http.callback_networks", message));
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> CallbackRules {
        let callbacks =
            ["hooks.example", "hooks.example:8443", "http://10.1.2.3:8080", "https://[2001:db8::7]", "a.b:80"];
        assert_eq!(mistakes(&callbacks.map(str::to_owned), &[]), []);
        CallbackRules::new(&callbacks.map(str::to_owned), &["10.1.0.0/16".to_owned()])
    }

    #[test]
    fn what_is_named_is_admitted_with_its_scheme_and_port() {
        for (text, receiver) in [
            ("https://hooks.example/", "https://hooks.example:443"),
            ("https://hooks.example", "https://hooks.example:443"),
            ("https://hooks.example/a/b?c=d&e=%20f", "https://hooks.example:443"),
            ("https://hooks.example:8443/x", "https://hooks.example:8443"),
            ("http://10.1.2.3:8080/x", "http://10.1.2.3:8080"),
            ("https://[2001:db8::7]/x", "https://[2001:db8::7]:443"),
            ("https://a.b:80/", "https://a.b:80"),
        ] {
            let (url, found) = rules().admit(text).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
            assert_eq!(found.to_string(), receiver, "{text}");
            assert!(url.as_str().starts_with(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_named_is_refused() {
        for text in [
            "http://hooks.example/",
            "https://hooks.example:444/",
            "https://hooks.example./",
            "https://hooks.example.evil/",
            "https://evil.hooks.example/",
            "https://10.1.2.3:8080/",
            "http://10.1.2.3/",
            "http://a.b/",
            "https://[2001:db8::8]/",
            "https://127.0.0.1/",
            "https://localhost/",
        ] {
            assert!(matches!(rules().admit(text), Err(CallbackRefusal::NotNamed(_))), "{text}");
        }
    }

    #[test]
    fn odd_spellings_are_refused_before_anybody_reads_them_differently() {
        use CallbackRefusal::{Fragment, NotAUrl, NotNormal, TooLong, UserInfo};
        let refused = |text: &str| rules().admit(text).unwrap_err();
        for text in [
            "http://167838211:8080/",
            "http://0xa010203:8080/",
            "http://012.1.2.3:8080/",
            "http://10.1.515:8080/",
            "http://10.1.2.3.:8080/",
            "http://10.1.2.0x3:8080/",
            "https://HOOKS.example/",
            "https://hooks.example:443/",
            "https://hooks.example:08443/",
            "https://hooks%2eexample/",
            "https://hooks\u{3002}example/",
            "https://hooks.ex\u{ad}ample/",
            "https://hooks\t.example/",
            "https://hooks.example/\n",
            " https://hooks.example/",
            "https:hooks.example/",
            "https:/hooks.example/",
            "https:///hooks.example/",
            "https:\\\\hooks.example\\",
            "https://hooks.example\\@evil/",
            "https://hooks.example/a/../b",
            "https://hooks.example/a b",
            "https://hooks.example/\u{e4}",
            "HTTPS://hooks.example/",
            "https://[2001:db8:0::7]/",
            "https://[2001:DB8::7]/",
        ] {
            assert!(matches!(refused(text), NotNormal(_)), "{text:?}: {:?}", refused(text));
        }
        for text in [
            "https://a@hooks.example/",
            "https://a:b@hooks.example/",
            "https://@hooks.example/",
            "https://hooks.example@evil/",
        ] {
            assert_eq!(refused(text), UserInfo, "{text}");
        }
        for text in ["https://hooks.example/#a", "https://hooks.example/#"] {
            assert_eq!(refused(text), Fragment, "{text}");
        }
        for text in [
            "",
            "hooks.example",
            "//hooks.example/",
            "/x",
            "ftp://hooks.example/",
            "file:///etc/passwd",
            "gopher://hooks.example/",
            "javascript:1",
            "data:,a",
            "unix:/run/docker.sock",
            "https://",
            "https://:443/",
            "https://hooks.example:99999/",
            "https://999.1.1.1/",
            "https://[::1%25lo]/",
            "https://[fe80::1%lo]/",
            "https://hooks example/",
            "https://hooks.example:-1/",
            "http://0x100000000/",
        ] {
            assert!(matches!(refused(text), NotAUrl(_)), "{text:?}: {:?}", refused(text));
        }
        assert_eq!(refused(&format!("https://hooks.example/{}", "a".repeat(2048))), TooLong);
    }

    #[test]
    fn a_refusal_does_not_repeat_the_query() {
        let refusal = rules().admit("https://evil.example/a?token=secret").unwrap_err();
        assert!(!refusal.to_string().contains("secret"), "{refusal}");
    }

    #[test]
    fn an_invalid_receiver_is_a_mistake_with_a_valid_one() {
        for text in [
            "",
            "*",
            "*.example",
            "hooks.example/",
            "hooks.example/x",
            "https://hooks.example/",
            "a@b",
            "ftp://a",
            "HOOKS.example",
            "hooks.example.",
            "10.1.2",
            "hooks.example:0",
            "hooks.example:99999",
            "unix:/x",
            "a b",
            "a?b",
            "a#b",
            "https://",
            "hooks.example:08443",
        ] {
            let [(key, message)] = &mistakes(&[text.to_owned()], &[])[..] else { panic!("{text:?} is taken") };
            assert!(*key == "http.callbacks" && message.contains("10.1.2.3:8080"), "{text:?}: {message}");
        }
        for text in ["hooks.example:443", "https://hooks.example:443", "http://hooks.example:80", "[::1]:8443"] {
            assert_eq!(mistakes(&[text.to_owned()], &[]), [], "{text}");
        }
        assert_eq!(mistakes(&vec!["a".to_owned(); 257], &[]).len(), 1);
    }

    #[test]
    fn a_network_is_its_base_and_its_prefix() {
        for (text, inside, outside) in [
            ("10.1.2.0/24", "10.1.2.255", "10.1.3.0"),
            ("0.0.0.0/0", "255.255.255.255", "::ffff:1.2.3.4"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
            ("fd00:1::/64", "fd00:1::ffff", "fd00:1:0:1::"),
            ("::/0", "ffff::", "1.2.3.4"),
        ] {
            let network: Network = text.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()) && !network.contains(outside.parse().unwrap()), "{text}");
            assert_eq!(network.to_string(), text);
        }
        for text in ["10.1.2.3", "10.1.2.3/24", "10.0.0.0/33", "10.0.0.0/+8", "fd00::1/64", "a/8", "/8", "10.0.0.0/"] {
            assert_eq!(mistakes(&[], &[text.to_owned()])[0].0, "http.callback_networks", "{text}");
        }
        assert!("10.1.2.3/24".parse::<Network>().unwrap_err().contains("use \"10.1.2.0/24\""));
        let rules = rules();
        assert!(rules.names_address("10.1.9.9".parse().unwrap()) && !rules.names_address("10.2.0.0".parse().unwrap()));
    }
}
