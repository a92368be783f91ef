//! Images out of registries: which are asked, when, as whom, and only those that are trusted.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::build::{BuildEvent, BuildWatcher, ImageError, ResolvedImage};
use docker::registry::{Credentials, ImageName, Trusted};
use docker::{Client, Progress, Pull, PullPolicy};

/// Which registries are asked, and when.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// When.
    pub policy: PullPolicy,
    /// Where images may come from.
    pub trusted: Trusted,
    /// Docker's configuration, for credentials.
    pub docker_folder: Option<PathBuf>,
    /// What was pulled since the daemon's start.
    pub pulled: Arc<Mutex<HashSet<String>>>,
}

fn lock(pulled: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    pulled.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A profile's image that is a registry's rather than a folder of ours: it has a slash, a tag or a digest.
pub fn is_registry_name(name: &str) -> bool {
    name.contains(['/', ':', '@'])
}

impl Registries {
    /// The pull of an image, when it may be had at all.
    fn pull(&self, name: &str) -> Result<Pull, ImageError> {
        let bad = |message: String| ImageError::Registry { name: name.to_owned(), message };
        let image: ImageName = name.parse().map_err(|error| bad(format!("{error}")))?;
        if !self.trusted.allows(&image) {
            let message = format!("{} is not in images.trusted; add it there if you trust it", image.canonical());
            return Err(bad(message));
        }
        let credentials = match &self.docker_folder {
            Some(folder) => Credentials::find(folder, &image).map_err(|error| bad(error.to_string()))?,
            None => None,
        };
        Ok(Pull { image, policy: self.policy, credentials })
    }

    /// The image, when the engine has it. Trust is asked first: one that was pulled yesterday may no longer be trusted. One
    /// that is always to be pulled is missing until it was pulled once in this daemon's life.
    pub(super) async fn find(&self, client: &Client, name: &str) -> Result<ResolvedImage, ImageError> {
        let pull = self.pull(name)?;
        let missing = || ImageError::Missing { name: name.to_owned(), tag: pull.image.to_string() };
        if pull.policy == PullPolicy::Always && !lock(&self.pulled).contains(name) {
            return Err(missing());
        }
        match get(client, name, &Pull { policy: PullPolicy::Never, ..pull.clone() }, &mut |_| {}).await {
            Err(ImageError::Registry { .. }) if pull.policy != PullPolicy::Never => Err(missing()),
            other => other,
        }
    }

    /// The image, pulled as the policy says, or because somebody asks for it.
    pub(super) async fn ensure(
        &self,
        client: &Client,
        name: &str,
        asked: bool,
        watch: BuildWatcher<'_>,
    ) -> Result<ResolvedImage, ImageError> {
        let mut pull = self.pull(name)?;
        if asked {
            pull.policy = PullPolicy::Always;
        }
        let found = get(client, name, &pull, watch).await?;
        lock(&self.pulled).insert(name.to_owned());
        Ok(found)
    }

    /// Whether a registry may be asked for an image that the base is made of.
    pub(super) fn base(&self, name: &str) -> Option<Pull> {
        self.pull(name).ok().filter(|pull| pull.policy != PullPolicy::Never)
    }
}

async fn get(client: &Client, name: &str, pull: &Pull, watch: BuildWatcher<'_>) -> Result<ResolvedImage, ImageError> {
    let begun = Instant::now();
    let mut pulled = false;
    let mut follow = |progress: Progress| {
        pulled = true;
        let part = progress.id.as_deref().map(|id| format!("{id}: ")).unwrap_or_default();
        let Some(status) = progress.status else { return };
        let line = Some(format!("{part}{status}"));
        watch(BuildEvent { image: name.to_owned(), step: "pulling".to_owned(), done: None, total: None, line });
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
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_name_is_no_registrys() {
        assert!(!is_registry_name("python") && !is_registry_name("c"));
        assert!(is_registry_name("python:3.12") && is_registry_name("r.io/a") && is_registry_name("me/tool"));
    }

    #[test]
    fn what_is_not_trusted_is_not_asked_for() {
        let registries = Registries { trusted: Trusted::new(["r.io/team/*"]), ..Registries::default() };
        assert!(registries.pull("r.io/team/python:1").is_ok());
        let error = registries.pull("r.io/other/python:1").unwrap_err().to_string();
        assert!(error.contains("r.io/other/python") && error.contains("images.trusted"), "{error}");
        assert!(registries.base("debian:bookworm-slim").is_none());
    }
}
