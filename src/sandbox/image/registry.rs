//! Images from registries: which may be used, when they are pulled, and with which credentials.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use docker::registry::{Credentials, ImageName, Trusted};
use docker::{App, Client, ProgressMessage, Pull, PullPolicy};
use parking_lot::Mutex;

use super::error::ImageError;
use super::event::{BuildEvent, BuildWatcher, PullMode, ResolvedImage};

/// The settings for registries.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    pub policy: PullPolicy,
    /// Patterns of images that may be used.
    pub trusted: Trusted,
    /// The folder of Docker's configuration, for credentials.
    pub docker_folder: Option<PathBuf>,
    /// For errors about credentials.
    pub app: &'static App,
    /// Images pulled since the daemon's start.
    pub pulled: Arc<Mutex<HashSet<String>>>,
}

/// Whether a profile's image is one of a registry and not a folder of ours: it has a slash, a tag
/// or a digest.
pub fn is_registry_name(name: &str) -> bool {
    name.contains(['/', ':', '@'])
}

impl Registries {
    /// The pull of an image, if it is trusted.
    fn pull(&self, name: &str) -> Result<Pull, ImageError> {
        let failed = |message: String| ImageError::Registry { name: name.to_owned(), message };
        let image: ImageName = name.parse().map_err(|error| failed(format!("{error}")))?;
        if !self.trusted.allows(&image) {
            let message = format!("{} is not in images.trusted; add it there if you trust it", image.canonical());
            return Err(failed(message));
        }
        let credentials = match &self.docker_folder {
            Some(folder) => Credentials::find(folder, &image, self.app).map_err(|error| failed(error.to_string()))?,
            None => None,
        };
        Ok(Pull { image, policy: self.policy, credentials })
    }

    /// Whether the image may be used.
    pub(super) fn check(&self, name: &str) -> Result<(), ImageError> {
        self.pull(name).map(drop)
    }

    /// Finds an image that the engine has. An image that is no longer trusted is not found. With
    /// the policy `always`, an image is missing until it was pulled once since the daemon's start.
    pub(super) async fn find(&self, client: &Client, name: &str) -> Result<ResolvedImage, ImageError> {
        let pull = self.pull(name)?;
        let missing = || ImageError::Missing { name: name.to_owned(), tag: pull.image.to_string() };
        if pull.policy == PullPolicy::Always && !self.pulled.lock().contains(name) {
            return Err(missing());
        }
        match resolve(client, name, &Pull { policy: PullPolicy::Never, ..pull.clone() }, &mut |_| {}).await {
            Err(ImageError::Registry { .. }) if pull.policy != PullPolicy::Never => Err(missing()),
            other => other,
        }
    }

    /// Finds or pulls an image.
    pub(super) async fn ensure(
        &self,
        client: &Client,
        name: &str,
        mode: PullMode,
        watch: BuildWatcher<'_>,
    ) -> Result<ResolvedImage, ImageError> {
        let mut pull = self.pull(name)?;
        if mode == PullMode::Always {
            pull.policy = PullPolicy::Always;
        }
        let found = resolve(client, name, &pull, watch).await?;
        self.pulled.lock().insert(name.to_owned());
        Ok(found)
    }

    /// The pull of the image that the base is made of, if a registry may be asked for it.
    pub(super) fn base(&self, name: &str) -> Option<Pull> {
        self.pull(name).ok().filter(|pull| pull.policy != PullPolicy::Never)
    }
}

async fn resolve(
    client: &Client,
    name: &str,
    pull: &Pull,
    watch: BuildWatcher<'_>,
) -> Result<ResolvedImage, ImageError> {
    let begun = Instant::now();
    let mut pulled = false;
    let mut follow = |progress: ProgressMessage| {
        pulled = true;
        let layer = progress.id.as_deref().map(|id| format!("{id}: ")).unwrap_or_default();
        let Some(status) = progress.status else { return };
        watch(BuildEvent::new(name, "pulling", Some(format!("{layer}{status}"))));
    };
    match client.ensure_image(pull, &mut follow).await {
        Ok(found) => {
            Ok(ResolvedImage { id: found.id, tag: pull.image.to_string(), built: pulled, took: begun.elapsed() })
        }
        Err(error) if error.is_not_found() => Err(ImageError::Registry {
            name: name.to_owned(),
            message: match pull.policy {
                PullPolicy::Never => format!("it is not on the engine; pull it: docker pull {name}"),
                _ => error.to_string(),
            },
        }),
        // the engine is well, and what it asked is not
        Err(error @ (docker::Error::Status { .. } | docker::Error::Reported { .. })) => {
            Err(ImageError::Pull { name: name.to_owned(), source: error })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_name_is_not_a_registry_name() {
        assert!(!is_registry_name("python") && !is_registry_name("c"));
        assert!(is_registry_name("python:3.12") && is_registry_name("r.io/a") && is_registry_name("me/tool"));
    }

    #[test]
    fn an_untrusted_image_is_refused_without_asking_a_registry() {
        let registries = Registries { trusted: Trusted::new(["r.io/team/*"]), ..Registries::default() };
        assert!(registries.pull("r.io/team/python:1").is_ok());
        let error = registries.pull("r.io/other/python:1").unwrap_err().to_string();
        assert!(error.contains("r.io/other/python") && error.contains("images.trusted"), "{error}");
        assert!(registries.base("debian:trixie-slim").is_none());
    }
}
