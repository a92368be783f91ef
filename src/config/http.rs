//! The address of the HTTP listener; none by default.
//!
//! HTTP has no authentication, so it listens on loopback or on a Unix socket. Any other address is
//! refused unless `allow_remote` is set. The same holds for a socket that the service manager
//! opened.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The HTTP listener for health checks and scrapers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// `"127.0.0.1:9464"` or `"unix:/run/assay/http.sock"`; no listener if absent.
    pub listen: Option<String>,
    /// Whether the address may be one that other machines can reach.
    pub allow_remote: bool,
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
        let Some(text) = self.listen.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
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

    /// Checks an address, also that of a passed socket.
    ///
    /// # Errors
    /// A message: other machines can reach the address, and `allow_remote` is not set.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), String> {
        match address.ip().to_canonical().is_loopback() || self.allow_remote {
            true => Ok(()),
            false => Err(format!(
                "\"{address}\": other machines can reach that address, and HTTP has no authentication; use 127.0.0.1 or a Unix socket, \
                 or set http.allow_remote = true if a firewall protects it"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(listen: &str, allow_remote: bool) -> Result<Option<Listen>, String> {
        let http = HttpSettings { listen: Some(listen.to_owned()), allow_remote };
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
}
