//! Engine addresses: Unix sockets and TCP, as `DOCKER_HOST` spells them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The socket that Docker uses by default.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Docker's default port with TLS.
pub const TLS_PORT: u16 = 2376;
/// Docker's default port without TLS.
pub const PLAIN_PORT: u16 = 2375;

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Endpoint {
    Unix(PathBuf),
    /// A TCP port. [`EngineTarget`](super::EngineTarget) says whether it uses TLS.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// Default: 2376 with TLS, 2375 without.
        port: Option<u16>,
    },
    /// A [`Connector`](super::Connector) of the caller, by its name.
    Custom(String),
}

/// Why an address is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A scheme that Docker knows and this client does not support.
    #[error("use {given:?}: {scheme}:// is not supported; {instead}")]
    Unsupported {
        given: String,
        scheme: &'static str,
        /// What to write instead.
        instead: &'static str,
    },
    /// A port that is not a number from 1 to 65535.
    #[error("use {given:?}: {port:?} is not a port; write a number from 1 to 65535")]
    Port { given: String, port: String },
    /// More than a host and a port.
    #[error("use {given:?}: it must contain only a host and a port, not {extra:?}")]
    Extra { given: String, extra: String },
    /// A socket path that is not absolute.
    #[error("use {0:?}: the socket's path must be absolute, as in unix:///var/run/docker.sock")]
    Relative(String),
    /// Not an address of any known form.
    #[error("use {0:?}: not an engine's address; write unix:///path/to/docker.sock or tcp://host:2376")]
    Unknown(String),
}

impl Endpoint {
    /// Parses an address as in `DOCKER_HOST`: `unix:///path`, `/path`, `tcp://host:port`,
    /// `https://host:port`.
    ///
    /// # Errors
    /// The error names the wrong part and shows a valid address.
    pub fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        let given = || text.to_owned();
        if let Some(path) = text.strip_prefix("unix://") {
            let absolute = path.len() > 1 && path.starts_with('/');
            return if absolute { Ok(Endpoint::Unix(path.into())) } else { Err(EndpointError::Relative(given())) };
        }
        if text.len() > 1 && text.starts_with('/') {
            return Ok(Endpoint::Unix(text.into()));
        }
        for scheme in ["tcp://", "https://", "http://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return tcp(text, rest);
            }
        }
        let unsupported = [
            ("ssh", "forward the socket (ssh -L /run/far.sock:/var/run/docker.sock HOST) and use unix:///run/far.sock"),
            ("npipe", "Windows engines are not supported"),
            ("fd", "give the socket's path, unix:///var/run/docker.sock"),
        ];
        for (scheme, instead) in unsupported {
            if text.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")) {
                return Err(EndpointError::Unsupported { given: given(), scheme, instead });
            }
        }
        Err(EndpointError::Unknown(given()))
    }
}

fn tcp(given: &str, rest: &str) -> Result<Endpoint, EndpointError> {
    let unknown = || EndpointError::Unknown(given.to_owned());
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(at) = rest.find(['/', '?', '#', '@']) {
        let extra = if rest.as_bytes()[at] == b'@' { &rest[..=at] } else { &rest[at..] };
        return Err(EndpointError::Extra { given: given.to_owned(), extra: extra.to_owned() });
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']').ok_or_else(unknown)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| unknown())?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(unknown()),
            }
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
        return Err(unknown());
    }
    let parse_port = |port: &str| {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| port.parse().ok()).flatten().filter(|port| *port > 0);
        number.ok_or_else(|| EndpointError::Port { given: given.to_owned(), port: port.to_owned() })
    };
    Ok(Endpoint::Tcp { host: host.to_owned(), port: port.map(parse_port).transpose()? })
}

impl Default for Endpoint {
    /// The socket that Docker uses by default.
    fn default() -> Self {
        Endpoint::Unix(DEFAULT_SOCKET.into())
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(&text)
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Custom(name) => write!(f, "{name}"),
            Endpoint::Tcp { host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                match port {
                    Some(port) => write!(f, "tcp://{host}:{port}"),
                    None => write!(f, "tcp://{host}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_parsed_and_displayed_the_same() {
        for text in ["unix:///var/run/docker.sock", "tcp://build-1.example:2376", "tcp://10.0.0.1", "tcp://[::1]:2376"]
        {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Endpoint::parse("/var/run/docker.sock").unwrap(), Endpoint::default());
        assert_eq!(Endpoint::parse("https://far:1/").unwrap().to_string(), "tcp://far:1");
    }

    #[test]
    fn a_port_out_of_range_is_named_in_the_error() {
        for (text, bad) in [("tcp://h:0", "0"), ("tcp://h:65536", "65536"), ("tcp://h:", ""), ("tcp://h:-1", "-1")] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(matches!(&error, EndpointError::Port { port, .. } if port == bad), "{text}: {error}");
            assert!(error.to_string().contains("from 1 to 65535"));
        }
    }

    #[test]
    fn a_host_with_a_path_or_a_user_is_refused_and_the_error_quotes_it() {
        let error = Endpoint::parse("tcp://h:2376/v1.41").unwrap_err();
        assert!(error.to_string().contains("\"/v1.41\""), "{error}");
        let error = Endpoint::parse("tcp://me@h:2376").unwrap_err();
        assert!(error.to_string().contains("\"me@\""), "{error}");
    }

    #[test]
    fn an_unsupported_address_is_refused_with_a_supported_form() {
        assert!(Endpoint::parse("ssh://me@far").unwrap_err().to_string().contains("ssh -L"));
        for text in ["unix://", "unix:///", "unix://relative"] {
            assert!(matches!(Endpoint::parse(text), Err(EndpointError::Relative(_))), "{text}");
        }
        for text in
            ["", "/", "docker.sock", "tcp://", "tcp://:2376", "tcp://a b:1", "tcp://[::1", "tcp://[x]:1", "file:///x"]
        {
            assert!(matches!(Endpoint::parse(text), Err(EndpointError::Unknown(_))), "{text}");
        }
    }
}
