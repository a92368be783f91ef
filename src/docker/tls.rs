//! Mutual TLS: loads certificate files into a rustls configuration, and explains TLS failures.
//!
//! TLS 1.2 and 1.3, on ring. The server's certificate and name are always verified; this cannot be
//! switched off. With TLS 1.3 the engine rejects our certificate only after the handshake, in its
//! first bytes: [`TlsProblem::among`] finds that rejection in the error of the head.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::app::App;

/// The largest accepted certificate or key file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The files of mutual TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// The certificate authority that signs the engine's certificate; default: the system's list.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// The key of the client's certificate.
    pub key: Option<PathBuf>,
    /// The name in the engine's certificate; default: the endpoint's host.
    pub server_name: Option<String>,
}

/// One of the [`TlsFiles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFileKind {
    Ca,
    Cert,
    Key,
}

impl fmt::Display for TlsFileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsFileKind::Ca => "the certificate authority (ca.pem)",
            TlsFileKind::Cert => "the client's certificate (cert.pem)",
            TlsFileKind::Key => "the client's key (key.pem)",
        })
    }
}

/// Why the files cannot be used. Detected before anything is sent.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The file cannot be read.
    #[error("read {kind} {}: {source}", path.display())]
    Unreadable {
        kind: TlsFileKind,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file does not contain what it should.
    #[error("read {kind} {}: {problem}", path.display())]
    Content { kind: TlsFileKind, path: PathBuf, problem: String },
    /// A certificate without its key, or a key without its certificate.
    #[error("use TLS: {given} is given without {missing}")]
    Half { given: TlsFileKind, missing: TlsFileKind },
    /// The key does not belong to the certificate.
    #[error("use TLS: the key {} does not belong to the certificate {}", key.display(), cert.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    /// Neither a DNS name nor an IP address.
    #[error("use TLS: {0:?} is not a valid server name")]
    ServerName(String),
    /// No authority is given, and the system has no list of trusted ones.
    #[error("use TLS: no certificate authority is given, and this machine has no list of trusted ones")]
    NoRoots,
    /// Any other error of rustls.
    #[error("use TLS: {0}")]
    Other(#[from] rustls::Error),
}

impl TlsFiles {
    /// The files in a folder, under Docker's names: `ca.pem`, `cert.pem` and `key.pem`.
    pub fn in_folder(folder: &Path) -> TlsFiles {
        let file = |name| Some(folder.join(name));
        TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), server_name: None }
    }

    /// Loads the files. `host` is the server name unless [`TlsFiles::server_name`] is set.
    ///
    /// # Errors
    /// The error names the file and what is wrong with it.
    pub(super) fn load(&self, host: &str) -> Result<TlsSetup, TlsSetupError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for cert in certificates(TlsFileKind::Ca, path)? {
                    roots.add(cert).map_err(|error| content(TlsFileKind::Ca, path, error.to_string()))?;
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
            (Some(_), None) => return Err(TlsSetupError::Half { given: TlsFileKind::Cert, missing: TlsFileKind::Key }),
            (None, Some(_)) => return Err(TlsSetupError::Half { given: TlsFileKind::Key, missing: TlsFileKind::Cert }),
            (Some(cert), Some(key)) => {
                let chain = certificates(TlsFileKind::Cert, cert)?;
                builder.with_client_auth_cert(chain, private_key(key)?).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        TlsSetupError::Mismatch { cert: cert.clone(), key: key.clone() }
                    }
                    rustls::Error::InvalidCertificate(error) => content(TlsFileKind::Cert, cert, error.to_string()),
                    rustls::Error::General(error) => content(TlsFileKind::Key, key, error),
                    error => error.into(),
                })?
            }
        };
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsSetupError::ServerName(name.to_owned()))?;
        Ok(TlsSetup { config: Arc::new(config), name })
    }
}

/// A loaded configuration and the name that the server's certificate must have.
#[derive(Debug, Clone)]
pub(super) struct TlsSetup {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

fn content(kind: TlsFileKind, path: &Path, problem: String) -> TlsSetupError {
    TlsSetupError::Content { kind, path: path.to_owned(), problem }
}

fn read(kind: TlsFileKind, path: &Path) -> Result<Vec<u8>, TlsSetupError> {
    let unreadable = |source| TlsSetupError::Unreadable { kind, path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(content(kind, path, "it is a folder; give the file in it".to_owned()));
    }
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(content(kind, path, format!("not a file of at most {MAX_FILE} bytes")));
    }
    std::fs::read(path).map_err(unreadable)
}

fn certificates(kind: TlsFileKind, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let bytes = read(kind, path)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| content(kind, path, format!("not a PEM file ({error})")))?;
    match found.is_empty() {
        true => Err(content(kind, path, "no certificate in it".to_owned())),
        false => Ok(found),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    let bytes = read(TlsFileKind::Key, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let encrypted = String::from_utf8_lossy(&bytes).contains("ENCRYPTED");
        let problem = match error {
            _ if encrypted => "it is encrypted; a daemon needs one without a passphrase".to_owned(),
            PemError::NoItemsFound => "no private key in it".to_owned(),
            error => format!("not a PEM file ({error})"),
        };
        content(TlsFileKind::Key, path, problem)
    })
}

/// Why the TLS connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsProblem {
    /// The peer does not speak TLS.
    NotTls,
    /// The engine's certificate has expired.
    Expired,
    /// The engine's certificate is not valid yet.
    NotYetValid,
    /// The engine's certificate is for other names; the text lists them.
    WrongName(String),
    /// The engine's certificate is not signed by a trusted authority.
    Untrusted,
    /// The engine requires a client certificate, or rejected ours. The text is the TLS alert.
    ClientRejected(String),
    /// The peer did not answer the handshake, or closed the connection.
    Silent,
    /// Any other error of rustls.
    Other(String),
}

impl TlsProblem {
    /// The problem behind a failed handshake.
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

    /// The TLS error among an error's causes, if there is one.
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
        use CertificateError as Cert;
        match error {
            rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => TlsProblem::NotTls,
            rustls::Error::InvalidCertificate(reason) => match reason {
                Cert::Expired | Cert::ExpiredContext { .. } => TlsProblem::Expired,
                Cert::NotValidYet | Cert::NotValidYetContext { .. } => TlsProblem::NotYetValid,
                Cert::NotValidForName | Cert::NotValidForNameContext { .. } => {
                    TlsProblem::WrongName(reason.to_string())
                }
                Cert::UnknownIssuer | Cert::BadSignature => TlsProblem::Untrusted,
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
                | AlertDescription::AccessDenied => TlsProblem::ClientRejected(format!("{alert:?}")),
                other => TlsProblem::Other(format!("the peer ended the connection: {other:?}")),
            },
            other => TlsProblem::Other(other.to_string()),
        }
    }

    /// Whether a later attempt may succeed without any change of configuration.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, TlsProblem::Silent | TlsProblem::NotYetValid)
    }

    pub(super) fn remedy(&self, app: &App) -> Option<String> {
        Some(match self {
            TlsProblem::NotTls => "this port does not speak TLS: give the engine's TLS port (2376), or start the engine with --tlsverify".to_owned(),
            TlsProblem::Expired => {
                let guide = app.certificate_guide.map(|guide| format!(" ({guide} says how)")).unwrap_or_default();
                format!("renew the engine's certificate{guide}, and check both clocks")
            }
            TlsProblem::NotYetValid => "check the clocks of both machines".to_owned(),
            TlsProblem::WrongName(_) => format!("use a host name from the engine's certificate, set {}, or make a certificate with this name as subjectAltName", app.settings.tls_server_name),
            TlsProblem::Untrusted => "give the certificate authority that signed the engine's certificate (ca.pem)".to_owned(),
            TlsProblem::ClientRejected(_) => "give a client certificate and key (cert.pem, key.pem) signed by the authority that the engine trusts (its --tlscacert)".to_owned(),
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
            TlsProblem::NotYetValid => f.write_str("its certificate is not valid yet"),
            TlsProblem::WrongName(names) => write!(f, "its certificate is for another name ({names})"),
            TlsProblem::Untrusted => f.write_str("its certificate is not signed by the authority that was given"),
            TlsProblem::ClientRejected(alert) => write!(f, "it does not accept our certificate ({alert})"),
            TlsProblem::Silent => f.write_str("no answer to the TLS handshake"),
            TlsProblem::Other(text) => write!(f, "TLS failed: {text}"),
        }
    }
}
