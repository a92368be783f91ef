//! Image names, trusted repositories and registry credentials.
//!
//! An [`ImageName`] is parsed as by the docker command (`python:3.12` is
//! `docker.io/library/python:3.12`). Credentials come from Docker's configuration file (`auths`).
//! Credential helpers (`credsStore`, `credHelpers`) are refused with an error that names them: this
//! client does not run other programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::app::App;
use super::target::{SetupError, read_file};

/// The registry of names that contain none.
const DOCKER_HUB: &str = "docker.io";

/// An image's name, with a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageName {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why an image's name is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a valid image name: {problem}")]
pub struct ImageNameError {
    given: String,
    problem: &'static str,
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<ImageName, ImageNameError> {
        let invalid = |problem| ImageNameError { given: text.chars().take(120).collect(), problem };
        if text.len() > 512 {
            return Err(invalid("at most 512 bytes"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(invalid("a digest is sha256: and 64 hexadecimal digits, in lower case"));
        }
        // a colon before a slash belongs to a port
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_tag = |tag: &str| {
            tag.len() <= 128
                && tag.bytes().next().is_some_and(alphanumeric)
                && tag.bytes().all(|b| alphanumeric(b) || b == b'.' || b == b'-')
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("a tag is letters, digits and _.- (at most 128)"));
        }
        let (registry, path) = split_registry(repository);
        let host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if registry.is_some_and(|registry| registry.is_empty() || !registry.bytes().all(host)) {
            return Err(invalid("the part before the first slash must be a registry's host and port"));
        }
        let part = |part: &str| {
            let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            part.bytes().next().is_some_and(lower)
                && part.bytes().next_back().is_some_and(lower)
                && part.bytes().all(|byte| lower(byte) || b"._-".contains(&byte))
        };
        if !path.split('/').all(part) {
            return Err(invalid("its parts are lower-case letters, digits and ._- between slashes"));
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(ImageName { repository: repository.to_owned(), tag: owned(tag), digest: owned(digest) })
    }
}

fn is_digest(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

/// Splits off the registry: the first part, if it looks like a host.
fn split_registry(repository: &str) -> (Option<&str>, &str) {
    match repository.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, repository),
    }
}

impl ImageName {
    /// The name as given, without tag and digest.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The registry's host and port; `docker.io` if the name has none.
    pub fn registry(&self) -> &str {
        match split_registry(&self.repository).0 {
            None | Some("index.docker.io") => DOCKER_HUB,
            Some(registry) => registry,
        }
    }

    /// `registry/path` in full; [`Trusted`] compares with this.
    pub fn canonical(&self) -> String {
        let (_, path) = split_registry(&self.repository);
        let registry = self.registry();
        let library = if registry == DOCKER_HUB && !path.contains('/') { "library/" } else { "" };
        format!("{registry}/{library}{path}")
    }

    /// `sha256:...`, if the name contains a digest.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The digest, else the tag, else `latest`. A pull without any would fetch all tags.
    pub fn tag_or_digest(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, tag) => write!(f, ":{}", tag.as_deref().unwrap_or("latest")),
        }
    }
}

/// The repositories that images may come from: `registry/path`, or `registry/path/*` for everything
/// below. An empty list allows none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trusted(Vec<String>);

impl Trusted {
    pub fn new<const N: usize>(patterns: [&str; N]) -> Trusted {
        Trusted(patterns.map(str::to_owned).into())
    }

    /// Whether the image's repository is in the list.
    pub fn allows(&self, image: &ImageName) -> bool {
        let name = image.canonical();
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('/') => name.starts_with(prefix),
            _ => *pattern == name,
        })
    }

    /// The first pattern that cannot match any image, so that a configuration can be refused.
    pub fn first_invalid(&self) -> Option<&str> {
        let valid = |pattern: &str| {
            let stem = pattern.strip_suffix("/*").unwrap_or(pattern);
            let name = if stem.contains('/') { stem.to_owned() } else { format!("{stem}/x") };
            name.parse::<ImageName>()
                .is_ok_and(|name| split_registry(&name.repository).0.is_some() && name.tag.is_none())
        };
        self.0.iter().map(String::as_str).find(|pattern| !valid(pattern))
    }
}

/// A login at a registry. `Debug` omits the secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: String,
    password: String,
    identity_token: String,
    registry: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials of {:?} at {}", self.username, self.registry)
    }
}

impl Credentials {
    /// `password` may be an access token.
    pub fn new(registry: &str, username: &str, password: &str) -> Credentials {
        Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
            identity_token: String::new(),
            registry: registry.to_owned(),
        }
    }

    /// The value of `X-Registry-Auth`: JSON in base64url, with padding.
    pub(super) fn header(&self) -> HeaderValue {
        let json = match self.identity_token.is_empty() {
            true => {
                serde_json::json!({ "username": self.username, "password": self.password, "serveraddress": self.registry })
            }
            false => serde_json::json!({ "identitytoken": self.identity_token, "serveraddress": self.registry }),
        };
        let mut value =
            HeaderValue::try_from(URL_SAFE.encode(json.to_string())).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// The login for an image's registry in Docker's configuration `folder`; `None` if it has none.
    ///
    /// # Errors
    /// The file is not valid, or the credentials are stored by a helper.
    pub fn find(folder: &Path, image: &ImageName, app: &App) -> Result<Option<Credentials>, SetupError> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Config {
            auths: BTreeMap<String, Auth>,
            creds_store: Option<String>,
            cred_helpers: BTreeMap<String, String>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Auth {
            auth: String,
            username: String,
            password: String,
            identitytoken: String,
        }
        let path = folder.join("config.json");
        let invalid = |problem: String| SetupError::Configuration { path: path.clone(), problem };
        let Some(bytes) = read_file(&path)? else { return Ok(None) };
        let config: Config = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        let registry = image.registry();
        let refused = |helper: &str| {
            invalid(format!(
                "the credentials for {registry} are with the helper {helper:?}, which {} does not run; \
                 put them into \"auths\" (docker login with a DOCKER_CONFIG folder of the daemon's own)",
                app.name
            ))
        };
        if let Some((_, helper)) = config.cred_helpers.iter().find(|(key, _)| host_of(key) == registry) {
            return Err(refused(helper));
        }
        let Some((_, found)) = config.auths.iter().find(|(key, _)| host_of(key) == registry) else { return Ok(None) };
        let mut credentials = Credentials::new(registry, &found.username, &found.password);
        credentials.identity_token.clone_from(&found.identitytoken);
        if !found.auth.is_empty() {
            let malformed = || invalid(format!("the auth of {registry} is not user:password in base64"));
            let text = STANDARD.decode(&found.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(malformed)?;
            let (username, password) = text.split_once(':').ok_or_else(malformed)?;
            credentials.username = username.to_owned();
            credentials.password = password.trim_end_matches('\0').to_owned();
        }
        if credentials.username.is_empty() && credentials.identity_token.is_empty() {
            return match &config.creds_store {
                Some(store) => Err(refused(store)),
                None => Ok(None),
            };
        }
        Ok(Some(credentials))
    }
}

/// The host in a key of `auths`: some keys are URLs, and Docker Hub's has a path.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match rest.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ImageName {
        text.parse().unwrap()
    }

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_name_is_parsed_as_by_the_docker_command() {
        for (text, canonical, shown) in [
            ("python", "docker.io/library/python", "python:latest"),
            ("python:3.12-slim", "docker.io/library/python", "python:3.12-slim"),
            ("me/tool", "docker.io/me/tool", "me/tool:latest"),
            ("localhost/a", "localhost/a", "localhost/a:latest"),
            ("r.io:5000/a/b:1", "r.io:5000/a/b", "r.io:5000/a/b:1"),
            ("index.docker.io/a/b", "docker.io/a/b", "index.docker.io/a/b:latest"),
        ] {
            assert_eq!((name(text).canonical().as_str(), name(text).to_string().as_str()), (canonical, shown));
        }
        let pinned = name(&format!("r.io/a:1@{DIGEST}"));
        assert_eq!((pinned.digest(), pinned.tag_or_digest()), (Some(DIGEST), DIGEST));
        assert_eq!(pinned.to_string(), format!("r.io/a@{DIGEST}"));
    }

    #[test]
    fn an_invalid_name_is_refused_with_a_reason() {
        for text in [
            "",
            "A",
            "a:",
            "a:-x",
            "a//b",
            "/a",
            "a/",
            "r.io:5/",
            "a@sha256:12",
            "a@md5:1",
            "a b",
            "-a",
            "a?b",
            "http://a/b",
        ] {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
        let upper = format!("a@{}", DIGEST.to_uppercase());
        assert!(upper.parse::<ImageName>().unwrap_err().to_string().contains("digest"));
    }

    #[test]
    fn only_listed_repositories_are_trusted() {
        let list = Trusted::new(["docker.io/library/*", "r.io:5000/team/python"]);
        assert!(list.allows(&name("python:3")) && list.allows(&name("r.io:5000/team/python")));
        for other in ["me/python", "r.io:5000/team/python2", "r.io/team/python", "docker.io.evil.com/library/python"] {
            assert!(!list.allows(&name(other)), "{other}");
        }
        assert!(!Trusted::default().allows(&name("python")));
        assert_eq!(list.first_invalid(), None);
        for pattern in ["*", "python", "docker.io/library/p*", "r.io/a:1"] {
            assert_eq!(Trusted::new([pattern]).first_invalid(), Some(pattern));
        }
        assert_eq!(Trusted::new(["registry.example/*"]).first_invalid(), None);
    }

    fn find(config: &str, image: &str) -> Result<Option<Credentials>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        Credentials::find(folder.path(), &name(image), &App::DEFAULT).map_err(|error| error.to_string())
    }

    #[test]
    fn credentials_are_found_by_the_registrys_host() {
        let config =
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6cGE6c3M="},"r.io:5000":{"identitytoken":"t"}}}"#;
        let hub = find(config, "python").unwrap().unwrap();
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("me", "pa:ss"));
        assert_eq!(find(config, "r.io:5000/a").unwrap().unwrap().identity_token, "t");
        assert_eq!(find(config, "other.io/a").unwrap(), None);
        assert!(!format!("{hub:?}").contains("pa:ss"));
        let nowhere = tempfile::tempdir().unwrap();
        assert_eq!(Credentials::find(nowhere.path(), &name("a"), &App::DEFAULT).unwrap(), None);
    }

    #[test]
    fn a_credential_helper_is_refused_and_named() {
        let error = find(r#"{"credHelpers":{"r.io":"ecr-login"}}"#, "r.io/a").unwrap_err();
        assert!(error.contains("ecr-login") && error.contains("auths"), "{error}");
        let error = find(r#"{"auths":{"r.io":{}},"credsStore":"desktop"}"#, "r.io/a").unwrap_err();
        assert!(error.contains("desktop"), "{error}");
        assert_eq!(find(r#"{"auths":{},"credsStore":"desktop"}"#, "r.io/a").unwrap(), None);
    }

    #[test]
    fn an_error_in_the_configuration_names_its_file() {
        assert!(find("{", "a").unwrap_err().contains("config.json"));
        assert!(find(r#"{"auths":{"docker.io":{"auth":"!"}}}"#, "a").unwrap_err().contains("base64"));
    }
}
