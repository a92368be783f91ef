//! Mutual TLS: certificates from files to a rustls configuration, and distrust as a sentence.
//!
//! TLS 1.2 and 1.3, on ring. The server's certificate is always verified, its name too: there is no switch against it.
//! With TLS 1.3 the engine refuses our certificate only after the handshake, in its first bytes: [`TlsProblem::among`] finds
//! that in whatever error the head then ends with.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

/// The most a certificate or key file may have, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The files of mutual TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// Whom we trust to vouch for the engine; the machine's own list when absent.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The name that the engine's certificate must bear; the endpoint's host when absent.
    pub server_name: Option<String>,
}

/// A file's part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The certificate authority.
    Ca,
    /// Our certificate.
    Cert,
    /// Our key.
    Key,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Ca => "the certificate authority (ca.pem)",
            Part::Cert => "the client's certificate (cert.pem)",
            Part::Key => "the client's key (key.pem)",
        })
    }
}

/// Why the files are no good. Found before anything is sent.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// It cannot be read.
    #[error("read {part} {}: {source}", path.display())]
    Unreadable {
        /// Which.
        part: Part,
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is nothing of the kind in it.
    #[error("read {part} {}: {problem}", path.display())]
    Content {
        /// Which.
        part: Part,
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// One of the two is missing.
    #[error("use TLS: {given} is given without {missing}")]
    Half {
        /// What is there.
        given: Part,
        /// What is not.
        missing: Part,
    },
    /// They are not a pair.
    #[error("use TLS: the key {} does not belong to the certificate {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// A name that no certificate can bear.
    #[error("use TLS: {0:?} is not a server's name")]
    ServerName(String),
    /// The machine has no list of its own.
    #[error("use TLS: no certificate authority is given, and the machine has no list of trusted ones")]
    NoRoots,
    /// Anything else.
    #[error("use TLS: {0}")]
    Other(#[from] rustls::Error),
}

impl TlsFiles {
    /// Docker's three files in a folder.
    pub fn in_folder(folder: &Path) -> TlsFiles {
        let file = |name| Some(folder.join(name));
        TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), server_name: None }
    }

    /// What rustls needs.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(super) fn load(&self, host: &str) -> Result<Tls, TlsSetupError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for cert in certificates(Part::Ca, path)? {
                    roots.add(cert).map_err(|error| content(Part::Ca, path, error.to_string()))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsSetupError::NoRoots);
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match (&self.cert, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(_), None) => return Err(TlsSetupError::Half { given: Part::Cert, missing: Part::Key }),
            (None, Some(_)) => return Err(TlsSetupError::Half { given: Part::Key, missing: Part::Cert }),
            (Some(cert), Some(key)) => {
                let chain = certificates(Part::Cert, cert)?;
                builder.with_client_auth_cert(chain, private_key(key)?).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        TlsSetupError::Mismatch { cert: cert.clone(), key: key.clone() }
                    }
                    rustls::Error::InvalidCertificate(error) => content(Part::Cert, cert, error.to_string()),
                    rustls::Error::General(error) => content(Part::Key, key, error),
                    error => error.into(),
                })?
            }
        };
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsSetupError::ServerName(name.to_owned()))?;
        Ok(Tls { config: Arc::new(config), name })
    }
}

/// A configuration and the name that the other side must bear.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

fn content(part: Part, path: &Path, problem: String) -> TlsSetupError {
    TlsSetupError::Content { part, path: path.to_owned(), problem }
}

fn read(part: Part, path: &Path) -> Result<Vec<u8>, TlsSetupError> {
    let unreadable = |source| TlsSetupError::Unreadable { part, path: path.to_owned(), source };
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if about.is_dir() {
        return Err(content(part, path, "it is a folder; give the file in it".to_owned()));
    }
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(content(part, path, format!("not a file of at most {MAX_FILE} bytes")));
    }
    std::fs::read(path).map_err(unreadable)
}

fn certificates(part: Part, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let bytes = read(part, path)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| content(part, path, format!("not a PEM file ({error})")))?;
    match found.is_empty() {
        true => Err(content(part, path, "there is no certificate in it".to_owned())),
        false => Ok(found),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    let bytes = read(Part::Key, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let encrypted = String::from_utf8_lossy(&bytes).contains("ENCRYPTED");
        let problem = match error {
            _ if encrypted => "it is encrypted; a daemon needs one without a passphrase".to_owned(),
            PemError::NoItemsFound => "there is no private key in it".to_owned(),
            error => format!("not a PEM file ({error})"),
        };
        content(Part::Key, path, problem)
    })
}

/// Why two sides do not come together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsProblem {
    /// The other side does not speak TLS.
    NotTls,
    /// The engine's certificate has expired.
    Expired,
    /// The engine's certificate is not valid yet.
    NotYet,
    /// The engine's certificate bears other names.
    WrongName(String),
    /// Nobody whom we trust vouches for the engine's certificate.
    Untrusted,
    /// The engine wants a certificate of ours, or does not accept the one it got.
    Unwelcome(String),
    /// The other side said nothing, or closed.
    Silent,
    /// Anything else.
    Other(String),
}

impl TlsProblem {
    /// From what the handshake ended with.
    pub(super) fn of(error: &io::Error) -> TlsProblem {
        match TlsProblem::among(error) {
            Some(problem) => problem,
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut => {
                    TlsProblem::Silent
                }
                _ => TlsProblem::Other(error.to_string()),
            },
        }
    }

    /// The distrust among an error's causes, if there is one.
    pub(super) fn among(error: &(dyn StdError + 'static)) -> Option<TlsProblem> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<rustls::Error>() {
                return Some(TlsProblem::from_rustls(found));
            }
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    fn from_rustls(error: &rustls::Error) -> TlsProblem {
        use CertificateError as Bad;
        match error {
            rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => TlsProblem::NotTls,
            rustls::Error::InvalidCertificate(bad) => match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => TlsProblem::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => TlsProblem::NotYet,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => TlsProblem::WrongName(bad.to_string()),
                Bad::UnknownIssuer | Bad::BadSignature => TlsProblem::Untrusted,
                other => TlsProblem::Other(other.to_string()),
            },
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied => TlsProblem::Unwelcome(format!("{alert:?}")),
                other => TlsProblem::Other(format!("the other side ended it: {other:?}")),
            },
            other => TlsProblem::Other(other.to_string()),
        }
    }

    /// Whether it may pass without anybody's doing.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, TlsProblem::Silent | TlsProblem::NotYet)
    }

    /// What a person can do about it.
    pub(super) fn remedy(&self) -> Option<String> {
        Some(match self {
            TlsProblem::NotTls => "this port does not speak TLS: give the engine's TLS port (2376), or start the engine with --tlsverify".to_owned(),
            TlsProblem::Expired => "renew the engine's certificate (docs/DOCKER.md says how), and check both clocks".to_owned(),
            TlsProblem::NotYet => "check the clocks of both machines".to_owned(),
            TlsProblem::WrongName(_) => "use a host name that stands in the engine's certificate, set engine.tls_server_name, or make a certificate with this name as subjectAltName".to_owned(),
            TlsProblem::Untrusted => "give the certificate authority that signed the engine's certificate (ca.pem)".to_owned(),
            TlsProblem::Unwelcome(_) => "give a client certificate and key (cert.pem, key.pem) signed by the authority that the engine trusts (its --tlscacert)".to_owned(),
            TlsProblem::Silent => "the port accepts connections but does not answer a TLS handshake: is it the engine's?".to_owned(),
            TlsProblem::Other(_) => return None,
        })
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsProblem::NotTls => f.write_str("what answers there does not speak TLS"),
            TlsProblem::Expired => f.write_str("its certificate has expired"),
            TlsProblem::NotYet => f.write_str("its certificate is not valid yet"),
            TlsProblem::WrongName(names) => write!(f, "its certificate is for another name ({names})"),
            TlsProblem::Untrusted => f.write_str("its certificate is not signed by the authority that was given"),
            TlsProblem::Unwelcome(alert) => write!(f, "it does not accept our certificate ({alert})"),
            TlsProblem::Silent => f.write_str("no answer to the TLS handshake"),
            TlsProblem::Other(text) => write!(f, "TLS failed: {text}"),
        }
    }
}
