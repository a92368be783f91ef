//! Resolves which engine to use and how: from settings, the environment and Docker's contexts.
//!
//! The order is that of the docker command; the first source that is set decides:
//!
//! ```text
//!   1. an address in the settings       Settings::host
//!   2. a context in the settings        Settings::context
//!   3. DOCKER_HOST
//!   4. DOCKER_CONTEXT
//!   5. currentContext in $DOCKER_CONFIG/config.json (default: ~/.docker)
//!   6. unix:///var/run/docker.sock
//! ```
//!
//! TLS files come from the same source as the address: a context has its own files; for an address
//! they come from the settings, else from `DOCKER_TLS_VERIFY` or `DOCKER_CERT_PATH`. A TCP address
//! without TLS is refused unless the settings allow plaintext: access to that port means root on
//! the engine's machine.
//!
//! The environment is a value ([`Environment`]), so tests do not touch the process's environment.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::app::App;
use super::endpoint::{Endpoint, EndpointError};
use super::tls::{TlsFiles, TlsSetupError};

/// The largest accepted file of Docker's configuration, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// An engine, and how to reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineTarget {
    pub endpoint: Endpoint,
    /// TLS files, for TCP.
    pub tls: Option<TlsFiles>,
    /// Whether TCP without TLS is allowed.
    pub allow_plaintext: bool,
    /// Not serialized; [`App::DEFAULT`] after deserialization.
    #[serde(skip)]
    pub app: &'static App,
}

impl From<Endpoint> for EngineTarget {
    fn from(endpoint: Endpoint) -> EngineTarget {
        EngineTarget { endpoint, ..EngineTarget::default() }
    }
}

impl EngineTarget {
    /// Whether traffic can be read and modified on the network.
    pub fn is_plaintext(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { .. }) && self.tls.is_none()
    }
}

/// An engine as an application's configuration describes it. Every field is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// An address: `unix:///path` or `tcp://host:port`.
    pub host: Option<String>,
    /// The name of a Docker context, instead of an address.
    pub context: Option<String>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub tls_dir: Option<PathBuf>,
    /// The certificate authority; overrides the one in `tls_dir`.
    pub tls_ca: Option<PathBuf>,
    /// The client's certificate; overrides the one in `tls_dir`.
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key; overrides the one in `tls_dir`.
    pub tls_key: Option<PathBuf>,
    /// The name in the engine's certificate, if it differs from the address's host.
    pub tls_server_name: Option<String>,
    /// Whether TCP without TLS is allowed.
    pub allow_plaintext: bool,
    /// The names of the application and of these settings, for error texts.
    pub app: &'static App,
}

/// Why no engine can be resolved, or no client opened. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The address is not valid.
    #[error("{problem} ({from})")]
    Address {
        /// The setting or variable that contains it.
        from: String,
        #[source]
        problem: EndpointError,
    },
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// TCP without TLS is not allowed.
    #[error(
        "use {endpoint} without TLS: access to that port means root there. Give certificates ({}, or DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH), or set {} = true",
        app.settings.tls_dir, app.settings.allow_plaintext
    )]
    Plaintext { endpoint: Endpoint, app: &'static App },
    /// Docker's configuration cannot be read.
    #[error("read Docker's configuration {}: {problem}", path.display())]
    Configuration { path: PathBuf, problem: String },
    /// The named context does not exist.
    #[error("use the Docker context {name:?} ({from}): it does not exist in {}; docker context ls shows those that do", folder.display())]
    NoContext {
        name: String,
        /// The setting or variable that names it.
        from: String,
        /// Where contexts are stored.
        folder: PathBuf,
    },
    /// The context is incomplete or unsafe.
    #[error("use the Docker context {name:?}: {problem}")]
    Context { name: String, problem: String },
    /// Both an address and a context are set.
    #[error("use {} and {}: give one of them, not both", app.settings.host, app.settings.context)]
    Both { app: &'static App },
}

/// The process's environment variables, as a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl From<BTreeMap<String, String>> for Environment {
    fn from(variables: BTreeMap<String, String>) -> Environment {
        Environment(variables)
    }
}

impl Environment {
    pub fn with<const N: usize>(variables: [(&str, &str); N]) -> Environment {
        Environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// A variable's value. An empty value counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The folder of Docker's configuration: `DOCKER_CONFIG`, or `.docker` in `HOME`.
    pub fn docker_folder(&self) -> Option<PathBuf> {
        let named = self.get("DOCKER_CONFIG").map(PathBuf::from);
        named.or_else(|| Some(Path::new(self.get("HOME")?).join(".docker")))
    }

    /// TLS files if `DOCKER_TLS_VERIFY` or `DOCKER_CERT_PATH` is set. Verification is always on.
    fn tls(&self) -> Option<TlsFiles> {
        let path = self.get("DOCKER_CERT_PATH").map(PathBuf::from);
        let requested = path.is_some() || self.get("DOCKER_TLS_VERIFY").is_some();
        requested.then(|| path.or_else(|| self.docker_folder())).flatten().map(|folder| TlsFiles::in_folder(&folder))
    }
}

impl Settings {
    fn tls(&self) -> Option<TlsFiles> {
        let folder = self.tls_dir.as_deref().map(TlsFiles::in_folder).unwrap_or_default();
        let files = TlsFiles {
            ca: self.tls_ca.clone().or(folder.ca),
            cert: self.tls_cert.clone().or(folder.cert),
            key: self.tls_key.clone().or(folder.key),
            server_name: None,
        };
        (files != TlsFiles::default()).then_some(files)
    }

    /// Resolves the engine. Reads Docker's configuration if neither the settings nor `DOCKER_HOST`
    /// give an address.
    ///
    /// # Errors
    /// The error names what is wrong, the setting or variable it comes from, and what to write
    /// instead.
    pub fn target(&self, environment: &Environment) -> Result<EngineTarget, SetupError> {
        if self.host.is_some() && self.context.is_some() {
            return Err(SetupError::Both { app: self.app });
        }
        let mut target = EngineTarget {
            allow_plaintext: self.allow_plaintext,
            app: self.app,
            ..self.address_and_context_tls(environment)?
        };
        if matches!(target.endpoint, Endpoint::Tcp { .. }) {
            target.tls = self.tls().or(target.tls).or_else(|| environment.tls());
            if let (Some(tls), Some(name)) = (&mut target.tls, &self.tls_server_name) {
                tls.server_name = Some(name.clone());
            }
            if target.tls.is_none() && !target.allow_plaintext {
                return Err(SetupError::Plaintext { endpoint: target.endpoint, app: self.app });
            }
        }
        Ok(target)
    }

    fn address_and_context_tls(&self, environment: &Environment) -> Result<EngineTarget, SetupError> {
        let parse = |text: &str, from: &str| {
            Endpoint::parse(text)
                .map(EngineTarget::from)
                .map_err(|problem| SetupError::Address { from: from.to_owned(), problem })
        };
        let names = &self.app.settings;
        let folder = environment.docker_folder();
        let folder = folder.as_deref();
        if let Some(text) = &self.host {
            parse(text, names.host)
        } else if let Some(name) = &self.context {
            read_context(folder, name, names.context)
        } else if let Some(text) = environment.get("DOCKER_HOST") {
            parse(text, "DOCKER_HOST")
        } else if let Some(name) = environment.get("DOCKER_CONTEXT") {
            read_context(folder, name, "DOCKER_CONTEXT")
        } else if let Some(name) = folder.map(current_context).transpose()?.flatten() {
            read_context(folder, &name, "currentContext in config.json")
        } else {
            Ok(EngineTarget::default())
        }
    }
}

/// Reads a file of Docker's configuration; `None` if it does not exist.
pub(super) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, SetupError> {
    let failed = |problem: String| SetupError::Configuration { path: path.to_owned(), problem };
    match std::fs::metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
        Ok(metadata) if !metadata.is_file() || metadata.len() > MAX_FILE => {
            return Err(failed(format!("not a file of at most {MAX_FILE} bytes")));
        }
        Ok(_) => {}
    }
    std::fs::read(path).map(Some).map_err(|error| failed(error.to_string()))
}

/// The context selected in Docker's configuration. `default` counts as none: it means the default
/// socket.
fn current_context(folder: &Path) -> Result<Option<String>, SetupError> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Config {
        current_context: Option<String>,
    }
    let path = folder.join("config.json");
    let Some(bytes) = read_file(&path)? else { return Ok(None) };
    let config: Config = serde_json::from_slice(&bytes)
        .map_err(|error| SetupError::Configuration { path, problem: error.to_string() })?;
    Ok(config.current_context.filter(|name| !name.is_empty() && name != "default"))
}

/// Reads a context from the docker command's files, whose names are the digest of the context's
/// name.
fn read_context(folder: Option<&Path>, name: &str, from: &str) -> Result<EngineTarget, SetupError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Meta {
        #[serde(default)]
        endpoints: BTreeMap<String, DockerEndpoint>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct DockerEndpoint {
        host: Option<String>,
        #[serde(default, rename = "SkipTLSVerify")]
        skip_tls_verify: bool,
    }
    if name == "default" {
        return Ok(EngineTarget::default());
    }
    let contexts = folder.map(|folder| folder.join("contexts")).unwrap_or_default();
    let digest = folder_name(name);
    let path = contexts.join("meta").join(&digest).join("meta.json");
    let Some(bytes) = read_file(&path)? else {
        let folder = contexts.join("meta");
        return Err(SetupError::NoContext { name: name.to_owned(), from: from.to_owned(), folder });
    };
    let meta: Meta = serde_json::from_slice(&bytes)
        .map_err(|error| SetupError::Configuration { path, problem: error.to_string() })?;
    let invalid = |problem: &str| SetupError::Context { name: name.to_owned(), problem: problem.to_owned() };
    let docker = meta.endpoints.get("docker").ok_or_else(|| invalid("it has no Docker endpoint"))?;
    let host = docker.host.as_deref().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| invalid("its Docker endpoint has no host"))?;
    let endpoint = Endpoint::parse(host)
        .map_err(|problem| SetupError::Address { from: format!("the Docker context {name:?}"), problem })?;
    if docker.skip_tls_verify {
        return Err(invalid("it skips TLS verification, which is not supported; create it again with its ca"));
    }
    let folder = contexts.join("tls").join(&digest).join("docker");
    let file = |name| Some(folder.join(name)).filter(|path| path.exists());
    let files = TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), server_name: None };
    let tls = (files != TlsFiles::default()).then_some(files);
    Ok(EngineTarget { endpoint, tls, ..EngineTarget::default() })
}

/// The folder in which the docker command stores the context `name`.
fn folder_name(name: &str) -> String {
    base16ct::lower::encode_string(&Sha256::digest(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::SettingNames;

    static APP: App = App {
        settings: SettingNames { host: "engine.host", context: "engine.context", ..App::DEFAULT.settings },
        ..App::DEFAULT
    };

    fn host(host: &str) -> Settings {
        Settings { host: Some(host.to_owned()), app: &APP, ..Settings::default() }
    }

    /// Writes a context in the docker command's format.
    fn make_context(folder: &Path, name: &str, meta: &str, tls: bool) {
        let digest = folder_name(name);
        let place = folder.join("contexts/meta").join(&digest);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("meta.json"), meta).unwrap();
        if tls {
            let place = folder.join("contexts/tls").join(&digest).join("docker");
            std::fs::create_dir_all(&place).unwrap();
            for file in ["ca.pem", "cert.pem", "key.pem"] {
                std::fs::write(place.join(file), "").unwrap();
            }
        }
    }

    #[test]
    fn without_any_setting_the_default_socket_is_used() {
        assert_eq!(Settings::default().target(&Environment::default()).unwrap(), EngineTarget::default());
    }

    #[test]
    fn the_settings_take_precedence_over_the_environment() {
        let environment = Environment::with([("DOCKER_HOST", "unix:///run/env.sock")]);
        let found = Settings::default().target(&environment).unwrap();
        assert_eq!(found.endpoint.to_string(), "unix:///run/env.sock");
        assert_eq!(host("/run/mine.sock").target(&environment).unwrap().endpoint.to_string(), "unix:///run/mine.sock");
    }

    #[test]
    fn an_invalid_address_is_reported_with_its_setting_or_variable() {
        let error = Settings::default().target(&Environment::with([("DOCKER_HOST", "tcp://h:99999")])).unwrap_err();
        assert!(error.to_string().contains("99999") && error.to_string().contains("DOCKER_HOST"), "{error}");
        let error = host("nonsense").target(&Environment::default()).unwrap_err();
        assert!(error.to_string().contains("engine.host"), "{error}");
        let both = Settings { context: Some("far".to_owned()), ..host("/a") }.target(&Environment::default());
        assert!(both.unwrap_err().to_string().contains("engine.host and engine.context"));
    }

    #[test]
    fn tcp_without_tls_must_be_allowed_in_the_settings() {
        let error = host("tcp://far:2375").target(&Environment::default()).unwrap_err();
        assert!(error.to_string().contains("allow_plaintext = true"), "{error}");
        let allowed = Settings { allow_plaintext: true, ..host("tcp://far:2375") };
        assert!(allowed.target(&Environment::default()).unwrap().is_plaintext());
    }

    #[test]
    fn tls_comes_from_the_settings_then_from_the_environment() {
        let environment = Environment::with([("DOCKER_CERT_PATH", "/env"), ("DOCKER_TLS_VERIFY", "1")]);
        let found = host("tcp://far:2376").target(&environment).unwrap();
        assert_eq!(found.tls.unwrap().ca.unwrap(), Path::new("/env/ca.pem"));
        let mut settings = host("tcp://far:2376");
        settings.tls_dir = Some("/mine".into());
        settings.tls_key = Some("/run/credentials/key".into());
        settings.tls_server_name = Some("engine".to_owned());
        let tls = settings.target(&environment).unwrap().tls.unwrap();
        assert_eq!(tls.cert.unwrap(), Path::new("/mine/cert.pem"));
        assert_eq!(tls.key.unwrap(), Path::new("/run/credentials/key"));
        assert_eq!(tls.server_name.as_deref(), Some("engine"));
        // DOCKER_TLS_VERIFY alone: the files are where the docker command looks for them
        let verify = Environment::with([("DOCKER_TLS_VERIFY", "1"), ("HOME", "/home/x")]);
        let tls = host("tcp://far:2376").target(&verify).unwrap().tls.unwrap();
        assert_eq!(tls.cert.unwrap(), Path::new("/home/x/.docker/cert.pem"));
        // a Unix socket needs no TLS
        assert_eq!(host("/run/a.sock").target(&environment).unwrap().tls, None);
    }

    #[test]
    fn a_context_gives_its_address_and_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let meta =
            r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":false}}}"#;
        make_context(folder.path(), "far", meta, true);
        std::fs::write(folder.path().join("config.json"), r#"{"auths":{},"currentContext":"far"}"#).unwrap();
        let config = folder.path().to_str().unwrap();
        let found = Settings::default().target(&Environment::with([("DOCKER_CONFIG", config)])).unwrap();
        assert_eq!(found.endpoint.to_string(), "tcp://far:2376");
        assert!(found.tls.unwrap().key.unwrap().ends_with("docker/key.pem"));
        // DOCKER_HOST takes precedence over it, and so does a context in the settings
        let both = Environment::with([("DOCKER_CONFIG", config), ("DOCKER_HOST", "unix:///a")]);
        assert_eq!(Settings::default().target(&both).unwrap().endpoint.to_string(), "unix:///a");
        let named = Settings { context: Some("far".to_owned()), ..Settings::default() };
        assert_eq!(named.target(&both).unwrap().endpoint.to_string(), "tcp://far:2376");
        let default = Settings { context: Some("default".to_owned()), ..Settings::default() };
        assert_eq!(default.target(&both).unwrap(), EngineTarget::default());
    }

    #[test]
    fn a_missing_or_unsafe_context_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let environment =
            Environment::with([("DOCKER_CONFIG", folder.path().to_str().unwrap()), ("DOCKER_CONTEXT", "c")]);
        let error = || Settings::default().target(&environment).unwrap_err().to_string();
        assert!(error().contains("\"c\" (DOCKER_CONTEXT)") && error().contains("docker context ls"), "{}", error());
        make_context(folder.path(), "c", r#"{"Endpoints":{}}"#, false);
        assert!(error().contains("no Docker endpoint"), "{}", error());
        make_context(
            folder.path(),
            "c",
            r#"{"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":true}}}"#,
            false,
        );
        assert!(error().contains("skips TLS verification"), "{}", error());
        make_context(folder.path(), "c", r#"{"Endpoints":{"docker":{"Host":"ssh://far"}}}"#, false);
        assert!(error().contains("ssh -L"), "{}", error());
        make_context(folder.path(), "c", "{", false);
        assert!(error().contains("meta.json"), "{}", error());
    }
}
