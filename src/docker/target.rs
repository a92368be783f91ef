//! Which engine, and how it is reached: from a configuration's words, the environment and Docker's own contexts.
//!
//! In order, as the docker command does it; the first that says something decides:
//!
//! ```text
//!   1. an address in the settings       engine.host, --engine
//!   2. a context in the settings        engine.context
//!   3. DOCKER_HOST
//!   4. DOCKER_CONTEXT
//!   5. currentContext in $DOCKER_CONFIG/config.json (else ~/.docker)
//!   6. unix:///var/run/docker.sock
//! ```
//!
//! TLS comes from where the address came from: a context brings its own files; for an address, the settings' files, else
//! `DOCKER_TLS_VERIFY` or `DOCKER_CERT_PATH`. A TCP address without TLS is refused unless plaintext is allowed in the
//! settings: whoever reaches that port is root on the engine's machine.
//!
//! The environment is a value ([`Environment`]), so a test never touches the process's.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::endpoint::{Endpoint, EndpointError};
use super::tls::{TlsFiles, TlsSetupError};

/// The most a file of Docker's configuration may have, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// An engine, and how it is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// TLS, for TCP.
    pub tls: Option<TlsFiles>,
    /// Whether TCP without TLS may be spoken.
    pub allow_plaintext: bool,
}

impl From<Endpoint> for Target {
    fn from(endpoint: Endpoint) -> Target {
        Target { endpoint, ..Target::default() }
    }
}

impl Target {
    /// Whether everything said to the engine can be read, and changed, on the way.
    pub fn is_plaintext(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { .. }) && self.tls.is_none()
    }
}

/// What a configuration says of an engine. Everything may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its address: `unix:///path` or `tcp://host:port`.
    pub host: Option<String>,
    /// A Docker context's name, instead of an address.
    pub context: Option<String>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub tls_dir: Option<PathBuf>,
    /// The certificate authority; instead of the folder's.
    pub tls_ca: Option<PathBuf>,
    /// Our certificate; instead of the folder's.
    pub tls_cert: Option<PathBuf>,
    /// Its key; instead of the folder's.
    pub tls_key: Option<PathBuf>,
    /// The name that the engine's certificate must bear, where it is not the address's.
    pub tls_server_name: Option<String>,
    /// Whether TCP without TLS may be spoken.
    pub allow_plaintext: bool,
}

/// Why no engine could be settled on, or a client of it not be made. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The address is none.
    #[error("{problem} ({from})")]
    Address {
        /// Where it stands.
        from: String,
        /// What is wrong with it.
        #[source]
        problem: EndpointError,
    },
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// TCP without TLS.
    #[error(
        "use {0} without TLS: whoever reaches that port is root there. Give certificates (engine.tls_dir, or DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH), or set engine.allow_plaintext = true"
    )]
    Plaintext(Endpoint),
    /// Docker's configuration cannot be read.
    #[error("read Docker's configuration {}: {problem}", path.display())]
    Configuration {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such context.
    #[error("use the Docker context {name:?} ({from}): there is none in {}; docker context ls shows them", folder.display())]
    NoContext {
        /// Its name.
        name: String,
        /// Who names it.
        from: String,
        /// Where it should be.
        folder: PathBuf,
    },
    /// A context without what is needed.
    #[error("use the Docker context {name:?}: {problem}")]
    Context {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Both an address and a context.
    #[error("use engine.host and engine.context: give one of them, not both")]
    Both,
}

/// The process's environment, as a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl From<BTreeMap<String, String>> for Environment {
    fn from(variables: BTreeMap<String, String>) -> Environment {
        Environment(variables)
    }
}

impl Environment {
    /// One with these variables.
    pub fn with<const N: usize>(variables: [(&str, &str); N]) -> Environment {
        Environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// A variable's value; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The folder of Docker's own configuration, when there can be one.
    pub fn docker_folder(&self) -> Option<PathBuf> {
        let named = self.get("DOCKER_CONFIG").map(PathBuf::from);
        named.or_else(|| Some(Path::new(self.get("HOME")?).join(".docker")))
    }

    /// TLS as `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` ask for it. Either asks; verification is never off.
    fn tls(&self) -> Option<TlsFiles> {
        let path = self.get("DOCKER_CERT_PATH").map(PathBuf::from);
        let asked = path.is_some() || self.get("DOCKER_TLS_VERIFY").is_some();
        asked.then(|| path.or_else(|| self.docker_folder())).flatten().map(|folder| TlsFiles::in_folder(&folder))
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

    /// Settles on an engine. Reads Docker's configuration when a context is named.
    ///
    /// # Errors
    /// What is wrong, where it stands, and what to write instead.
    pub fn target(&self, environment: &Environment) -> Result<Target, SetupError> {
        if self.host.is_some() && self.context.is_some() {
            return Err(SetupError::Both);
        }
        let address = |text: &str, from: &str| {
            Endpoint::parse(text).map_err(|problem| SetupError::Address { from: from.to_owned(), problem })
        };
        let folder = environment.docker_folder();
        let mut target = if let Some(text) = &self.host {
            Target::from(address(text, "engine.host")?)
        } else if let Some(name) = &self.context {
            context(folder.as_deref(), name, "engine.context")?
        } else if let Some(text) = environment.get("DOCKER_HOST") {
            Target::from(address(text, "DOCKER_HOST")?)
        } else if let Some(name) = environment.get("DOCKER_CONTEXT") {
            context(folder.as_deref(), name, "DOCKER_CONTEXT")?
        } else if let Some(name) = folder.as_deref().map(current_context).transpose()?.flatten() {
            context(folder.as_deref(), &name, "currentContext in config.json")?
        } else {
            Target::default()
        };
        target.allow_plaintext = self.allow_plaintext;
        if matches!(target.endpoint, Endpoint::Tcp { .. }) {
            target.tls = self.tls().or(target.tls).or_else(|| environment.tls());
            if let (Some(tls), Some(name)) = (&mut target.tls, &self.tls_server_name) {
                tls.server_name = Some(name.clone());
            }
            if target.tls.is_none() && !target.allow_plaintext {
                return Err(SetupError::Plaintext(target.endpoint));
            }
        }
        Ok(target)
    }
}

/// Reads a file of Docker's configuration; `None` when it is not there.
pub(super) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, SetupError> {
    let wrong = |problem: String| SetupError::Configuration { path: path.to_owned(), problem };
    match std::fs::metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(wrong(error.to_string())),
        Ok(about) if !about.is_file() || about.len() > MAX_FILE => {
            return Err(wrong(format!("not a file of at most {MAX_FILE} bytes")));
        }
        Ok(_) => {}
    }
    std::fs::read(path).map(Some).map_err(|error| wrong(error.to_string()))
}

/// The context that Docker's configuration makes the usual one. `default` is none: it is the default socket.
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

/// A context, from the files in which the docker command keeps it: named by the digest of its name.
fn context(folder: Option<&Path>, name: &str, from: &str) -> Result<Target, SetupError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Meta {
        #[serde(default)]
        endpoints: BTreeMap<String, Docker>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Docker {
        host: Option<String>,
        #[serde(default, rename = "SkipTLSVerify")]
        skip_tls_verify: bool,
    }
    if name == "default" {
        return Ok(Target::default());
    }
    let contexts = folder.map(|folder| folder.join("contexts")).unwrap_or_default();
    let digest = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let path = contexts.join("meta").join(&digest).join("meta.json");
    let Some(bytes) = read_file(&path)? else {
        let folder = contexts.join("meta");
        return Err(SetupError::NoContext { name: name.to_owned(), from: from.to_owned(), folder });
    };
    let meta: Meta = serde_json::from_slice(&bytes)
        .map_err(|error| SetupError::Configuration { path, problem: error.to_string() })?;
    let wrong = |problem: &str| SetupError::Context { name: name.to_owned(), problem: problem.to_owned() };
    let docker = meta.endpoints.get("docker").ok_or_else(|| wrong("it names no Docker endpoint"))?;
    let host = docker.host.as_deref().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| wrong("its Docker endpoint has no host"))?;
    let endpoint = Endpoint::parse(host)
        .map_err(|problem| SetupError::Address { from: format!("the Docker context {name:?}"), problem })?;
    if docker.skip_tls_verify {
        return Err(wrong("it skips TLS verification, which is never done here; make it again with its ca"));
    }
    let folder = contexts.join("tls").join(&digest).join("docker");
    let file = |name| Some(folder.join(name)).filter(|path| path.exists());
    let files = TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), server_name: None };
    let tls = (files != TlsFiles::default()).then_some(files);
    Ok(Target { endpoint, tls, allow_plaintext: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(settings: &Settings, environment: &Environment) -> Result<Target, SetupError> {
        settings.target(environment)
    }

    fn host(host: &str) -> Settings {
        Settings { host: Some(host.to_owned()), ..Settings::default() }
    }

    /// Writes a context as the docker command does.
    fn make_context(folder: &Path, name: &str, meta: &str, tls: bool) {
        let digest = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
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
    fn nothing_said_is_dockers_own_socket() {
        assert_eq!(settle(&Settings::default(), &Environment::default()).unwrap(), Target::default());
    }

    #[test]
    fn the_settings_go_before_the_environment() {
        let environment = Environment::with([("DOCKER_HOST", "unix:///run/env.sock")]);
        let found = settle(&Settings::default(), &environment).unwrap();
        assert_eq!(found.endpoint.to_string(), "unix:///run/env.sock");
        assert_eq!(
            settle(&host("/run/mine.sock"), &environment).unwrap().endpoint.to_string(),
            "unix:///run/mine.sock"
        );
    }

    #[test]
    fn an_address_that_is_none_says_where_it_stands() {
        let error = settle(&Settings::default(), &Environment::with([("DOCKER_HOST", "tcp://h:99999")])).unwrap_err();
        assert!(error.to_string().contains("99999") && error.to_string().contains("DOCKER_HOST"), "{error}");
        let error = settle(&host("nonsense"), &Environment::default()).unwrap_err();
        assert!(error.to_string().contains("engine.host"), "{error}");
    }

    #[test]
    fn tcp_without_tls_wants_a_word() {
        let error = settle(&host("tcp://far:2375"), &Environment::default()).unwrap_err();
        assert!(error.to_string().contains("allow_plaintext = true"), "{error}");
        let allowed = Settings { allow_plaintext: true, ..host("tcp://far:2375") };
        assert!(settle(&allowed, &Environment::default()).unwrap().is_plaintext());
    }

    #[test]
    fn tls_comes_from_the_settings_then_from_the_environment() {
        let environment = Environment::with([("DOCKER_CERT_PATH", "/env"), ("DOCKER_TLS_VERIFY", "1")]);
        let found = settle(&host("tcp://far:2376"), &environment).unwrap();
        assert_eq!(found.tls.unwrap().ca.unwrap(), Path::new("/env/ca.pem"));
        let mut settings = host("tcp://far:2376");
        settings.tls_dir = Some("/mine".into());
        settings.tls_key = Some("/run/credentials/key".into());
        settings.tls_server_name = Some("engine".to_owned());
        let tls = settle(&settings, &environment).unwrap().tls.unwrap();
        assert_eq!(tls.cert.unwrap(), Path::new("/mine/cert.pem"));
        assert_eq!(tls.key.unwrap(), Path::new("/run/credentials/key"));
        assert_eq!(tls.server_name.as_deref(), Some("engine"));
        // verify alone: the files are where the docker command looks for them
        let verify = Environment::with([("DOCKER_TLS_VERIFY", "1"), ("HOME", "/home/x")]);
        let tls = settle(&host("tcp://far:2376"), &verify).unwrap().tls.unwrap();
        assert_eq!(tls.cert.unwrap(), Path::new("/home/x/.docker/cert.pem"));
        // and a Unix socket needs none
        assert_eq!(settle(&host("/run/a.sock"), &environment).unwrap().tls, None);
    }

    #[test]
    fn a_context_brings_its_address_and_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let meta =
            r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":false}}}"#;
        make_context(folder.path(), "far", meta, true);
        std::fs::write(folder.path().join("config.json"), r#"{"auths":{},"currentContext":"far"}"#).unwrap();
        let config = folder.path().to_str().unwrap();
        let found = settle(&Settings::default(), &Environment::with([("DOCKER_CONFIG", config)])).unwrap();
        assert_eq!(found.endpoint.to_string(), "tcp://far:2376");
        assert!(found.tls.unwrap().key.unwrap().ends_with("docker/key.pem"));
        // DOCKER_HOST goes before it, and so does a context in the settings
        let both = Environment::with([("DOCKER_CONFIG", config), ("DOCKER_HOST", "unix:///a")]);
        assert_eq!(settle(&Settings::default(), &both).unwrap().endpoint.to_string(), "unix:///a");
        let named = Settings { context: Some("far".to_owned()), ..Settings::default() };
        assert_eq!(settle(&named, &both).unwrap().endpoint.to_string(), "tcp://far:2376");
        let default = Settings { context: Some("default".to_owned()), ..Settings::default() };
        assert_eq!(settle(&default, &both).unwrap(), Target::default());
    }

    #[test]
    fn a_context_that_is_missing_or_unsafe_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let environment =
            Environment::with([("DOCKER_CONFIG", folder.path().to_str().unwrap()), ("DOCKER_CONTEXT", "c")]);
        let settle = || settle(&Settings::default(), &environment).unwrap_err().to_string();
        assert!(settle().contains("\"c\" (DOCKER_CONTEXT)") && settle().contains("docker context ls"), "{}", settle());
        make_context(folder.path(), "c", r#"{"Endpoints":{}}"#, false);
        assert!(settle().contains("no Docker endpoint"), "{}", settle());
        make_context(
            folder.path(),
            "c",
            r#"{"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":true}}}"#,
            false,
        );
        assert!(settle().contains("skips TLS verification"), "{}", settle());
        make_context(folder.path(), "c", r#"{"Endpoints":{"docker":{"Host":"ssh://far"}}}"#, false);
        assert!(settle().contains("ssh -L"), "{}", settle());
        make_context(folder.path(), "c", "{", false);
        assert!(settle().contains("meta.json"), "{}", settle());
    }
}
