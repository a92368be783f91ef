//! Where the HTTP door listens: nowhere unless it is said.
//!
//! It answers whoever can connect, so it stands on loopback or on a Unix socket. Another address is refused unless
//! `allow_remote` says that something in front of it keeps strangers out. The same holds for a socket that the service manager
//! opened.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The door for health checks and scrapers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// `"127.0.0.1:9464"` or `"unix:/run/assay/http.sock"`; nowhere when absent.
    pub listen: Option<String>,
    /// Whether it may be an address that other machines reach.
    pub allow_remote: bool,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
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
    /// Where to listen; none for nowhere.
    ///
    /// # Errors
    /// It is no address, or one that others reach.
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

    /// Whether it may listen there, whoever opened the socket.
    ///
    /// # Errors
    /// Others reach that address, and nobody said that they may.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), String> {
        match address.ip().to_canonical().is_loopback() || self.allow_remote {
            true => Ok(()),
            false => Err(format!(
                "\"{address}\": whoever reaches that address is answered; listen on 127.0.0.1 or on a Unix socket, or set \
                 http.allow_remote = true where something else keeps strangers out"
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
    fn loopback_and_unix_sockets_need_no_leave() {
        assert_eq!(HttpSettings::default().address().unwrap(), None);
        for listen in ["127.0.0.1:9464", "127.8.8.8:1", "[::1]:9464", "[::ffff:127.0.0.1]:1"] {
            assert!(matches!(address(listen, false), Ok(Some(Listen::Tcp(_)))), "{listen}");
        }
        for listen in ["unix:/run/assay/http.sock", "unix:///run/assay/http.sock"] {
            assert_eq!(address(listen, false), Ok(Some(Listen::Unix("/run/assay/http.sock".into()))));
        }
    }

    #[test]
    fn what_others_reach_is_refused_unless_it_is_allowed() {
        for listen in ["0.0.0.0:9464", "[::]:9464", "192.0.2.7:80", "[::ffff:192.0.2.7]:80"] {
            let error = address(listen, false).unwrap_err();
            assert!(error.contains("allow_remote"), "{error}");
            assert!(address(listen, true).is_ok(), "{listen}");
        }
    }

    #[test]
    fn what_is_no_address_is_said_with_one_that_is() {
        for listen in ["9464", "localhost", "127.0.0.1", "unix:http.sock", "http://127.0.0.1:1"] {
            assert!(address(listen, true).unwrap_err().contains("/run/assay/http.sock"), "{listen}");
        }
    }
}
