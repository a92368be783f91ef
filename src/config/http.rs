//! The HTTP listeners, and who may use the API on them. Nothing of it is on by default.
//!
//! Health checks and metrics need no token, so HTTP listens on loopback or on a Unix socket. Any
//! other address is refused unless `allow_remote` is set. The same holds for a socket that the
//! service manager opened.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::callbacks::CallbackRules;
use super::http_host::AllowedHost;
use super::http_token::HttpToken;

/// HTTP: health checks, metrics, and the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// `"127.0.0.1:9464"` or `"unix:/run/assay/http.sock"`; no listener if absent.
    pub listen: Option<String>,
    /// Whether the addresses may be such that other machines can reach.
    pub allow_remote: bool,
    /// Another address for `/metrics`, which `listen` then does not have.
    pub metrics_listen: Option<String>,
    /// Whether the API is served (docs/SECURITY.md says to whom).
    pub api: bool,
    /// The names that requests may be for, with any port or with one; `https://NAME` behind a
    /// reverse proxy with TLS.
    pub hosts: Vec<String>,
    /// The uids that need no token on a Unix socket: the kernel vouches for them. Never the uid of
    /// a reverse proxy, whose callers would all be that uid.
    pub peer_uids: Vec<u32>,
    /// Whether callers without a token may run programs, each browser by itself, on a loopback
    /// address and not through a reverse proxy.
    pub anonymous: bool,
    /// Whether they may on any address.
    pub anonymous_remote: bool,
    /// Whether the first step of the shipped lesson is the suite of `/api/run-code`; otherwise the
    /// program just runs.
    pub run_code_suite: bool,
    /// Receivers of callbacks: `"hooks.example"` (https), `"hooks.example:8443"`, or in full, as in
    /// `"http://10.1.2.3:8080"`.
    pub callbacks: Vec<String>,
    /// Networks that a receiver's name may resolve to although they are not public, such as
    /// `"10.1.2.0/24"`.
    pub callback_networks: Vec<String>,
    /// The socket of assay-egress, which delivers callbacks.
    #[schemars(extend("x-path" = true))]
    pub egress_socket: PathBuf,
    /// Tokens beside those of `assay token add`.
    pub tokens: Vec<HttpToken>,
}

/// Default path of the socket of assay-egress.
const DEFAULT_EGRESS_SOCKET: &str = "/run/assay-egress/egress.sock";

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            listen: None,
            allow_remote: false,
            metrics_listen: None,
            api: false,
            hosts: ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into(),
            peer_uids: Vec::new(),
            anonymous: false,
            anonymous_remote: false,
            run_code_suite: false,
            callbacks: Vec::new(),
            tokens: Vec::new(),
            callback_networks: Vec::new(),
            egress_socket: PathBuf::from(DEFAULT_EGRESS_SOCKET),
        }
    }
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "http://{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl HttpSettings {
    /// The address to listen on, if any.
    ///
    /// # Errors
    /// A message: the address is invalid, or other machines can reach it.
    pub fn address(&self) -> Result<Option<Listen>, String> {
        self.parse_address(self.listen.as_deref())
    }

    /// The address of the metrics, if it is another one.
    ///
    /// # Errors
    /// As [`HttpSettings::address`].
    pub fn metrics_address(&self) -> Result<Option<Listen>, String> {
        self.parse_address(self.metrics_listen.as_deref())
    }

    fn parse_address(&self, text: Option<&str>) -> Result<Option<Listen>, String> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
        let wrong = |message: String| Err(message);
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return match path.is_absolute() {
                true => Ok(Some(Listen::Unix(path))),
                false => {
                    wrong(format!("{text:?}: the socket's path must be absolute, as in \"unix:/run/assay/http.sock\""))
                }
            };
        }
        let Ok(address) = text.parse::<SocketAddr>() else {
            return wrong(format!(
                "{text:?}: use an address and a port (\"127.0.0.1:9464\") or \"unix:/run/assay/http.sock\""
            ));
        };
        self.check_address(address)?;
        Ok(Some(Listen::Tcp(address)))
    }

    /// The names that requests may be for. An entry that is not valid allows nothing.
    pub fn allowed_hosts(&self) -> Vec<AllowedHost> {
        self.hosts.iter().filter_map(|text| AllowedHost::parse(text).ok()).collect()
    }

    /// Whether every name that requests may be for is one of this machine's own.
    pub(super) fn has_only_loopback_names(&self) -> bool {
        let is_loopback = |host: AllowedHost| {
            let address = host.name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
            host.name == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
        };
        self.allowed_hosts().into_iter().all(is_loopback)
    }

    /// Mistakes besides those of the addresses: each with its key.
    pub(super) fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut report = |key: String, message: String| mistakes.push((format!("http.{key}"), message));
        if self.hosts.is_empty() {
            report("hosts".to_owned(), "it allows no request; use a name, such as [\"localhost\"]".to_owned());
        }
        for text in &self.hosts {
            if let Err(message) = AllowedHost::parse(text) {
                report("hosts".to_owned(), format!("{text:?} {message}"));
            }
        }
        // the kernel reports 65534 for a uid that it cannot express here, and -1 for none
        if let Some(uid) = self.peer_uids.iter().find(|uid| [65_534, u32::MAX].contains(uid)) {
            let message = format!("{uid} is the uid of a caller that is not known, which is always refused; remove it");
            report("peer_uids".to_owned(), message);
        }
        let mut hashes = std::collections::BTreeMap::new();
        for token in &self.tokens {
            let name = &token.name;
            for (key, message) in token.mistakes() {
                report(format!("tokens.{name}.{key}"), message);
            }
            if let Some(other) = token.hash().and_then(|hash| hashes.insert(hash, name)) {
                let message = format!("it is the token of {other} as well; give each a token of its own");
                report(format!("tokens.{name}.sha256"), message);
            }
        }
        mistakes
    }

    /// Where callbacks may go.
    pub fn callback_rules(&self) -> CallbackRules {
        CallbackRules::new(&self.callbacks, &self.callback_networks)
    }

    /// Checks an address, also that of a passed socket.
    ///
    /// # Errors
    /// A message: other machines can reach the address, and `allow_remote` is not set.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), String> {
        match address.ip().to_canonical().is_loopback() || self.allow_remote {
            true => Ok(()),
            false => Err(format!(
                "\"{address}\": other machines can reach that address, and HTTP has no TLS, and no authentication for \
                 metrics; use 127.0.0.1 or a Unix socket, or set http.allow_remote = true if a firewall protects it"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(listen: &str, allow_remote: bool) -> Result<Option<Listen>, String> {
        let http = HttpSettings { listen: Some(listen.to_owned()), allow_remote, ..HttpSettings::default() };
        http.address()
    }

    #[test]
    fn loopback_and_unix_sockets_are_allowed() {
        assert_eq!(HttpSettings::default().address().unwrap(), None);
        for listen in ["127.0.0.1:9464", "127.8.8.8:1", "[::1]:9464", "[::ffff:127.0.0.1]:1"] {
            assert!(matches!(address(listen, false), Ok(Some(Listen::Tcp(_)))), "{listen}");
        }
        for listen in ["unix:/run/assay/http.sock", "unix:///run/assay/http.sock"] {
            assert_eq!(address(listen, false), Ok(Some(Listen::Unix("/run/assay/http.sock".into()))));
        }
    }

    #[test]
    fn public_addresses_are_refused_without_allow_remote() {
        for listen in ["0.0.0.0:9464", "[::]:9464", "192.0.2.7:80", "[::ffff:192.0.2.7]:80"] {
            let error = address(listen, false).unwrap_err();
            assert!(error.contains("allow_remote"), "{error}");
            assert!(address(listen, true).is_ok(), "{listen}");
        }
    }

    #[test]
    fn an_invalid_address_is_an_error_with_a_valid_one() {
        for listen in ["9464", "localhost", "127.0.0.1", "unix:http.sock", "http://127.0.0.1:1"] {
            assert!(address(listen, true).unwrap_err().contains("/run/assay/http.sock"), "{listen}");
        }
    }

    #[test]
    fn every_mistake_of_the_api_has_its_key() {
        assert_eq!(HttpSettings::default().mistakes(), []);
        let token = |name: &str| HttpToken {
            name: name.to_owned(),
            sha256: "0".repeat(64),
            tenant: "t".to_owned(),
            ..HttpToken::default()
        };
        let http = HttpSettings {
            hosts: vec!["localhost".to_owned(), "*".to_owned()],
            peer_uids: vec![1000, 65_534],
            tokens: vec![token("a"), token("b"), HttpToken { sha256: "x".to_owned(), ..token("c") }],
            ..HttpSettings::default()
        };
        let keys: Vec<String> = http.mistakes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["http.hosts", "http.peer_uids", "http.tokens.b.sha256", "http.tokens.c.sha256"]);
        assert_eq!(HttpSettings { hosts: Vec::new(), ..HttpSettings::default() }.mistakes().len(), 1);
    }

    #[test]
    fn the_names_of_this_machine_are_told_from_others() {
        assert!(HttpSettings::default().has_only_loopback_names());
        let http = HttpSettings { hosts: vec!["judge.example".to_owned()], ..HttpSettings::default() };
        assert!(!http.has_only_loopback_names());
    }
}
