//! The images of one host: found, built if the configuration allows it, layered with the init, and
//! cached.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use docker::{Client, Error as EngineError, Filters};
use parking_lot::Mutex;
use protocol::Profile;
use protocol::results::PrunedImage;
use protocol::rows::ImageRow;

use super::options::HostOptions;
use crate::image::catalog::NAME_LABEL;
use crate::image::prune::{self, NeededImages, SurplusImage};
use crate::image::{BuildEvent, BuildWatcher, Builder, ImageError, ImageUnavailable, PullMode, ResolvedImage, layer};

/// The step of a build that has reported none yet.
const FIRST_STEP: &str = "begun";

/// An image that sandboxes can be created from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayeredImage {
    /// The id of the profile's image.
    pub id: String,
    /// The tag of the profile's image.
    pub tag: String,
    /// The id of the same image with the init added.
    pub layered: String,
}

/// The pause before a build that failed for a passing reason, such as the network, is started
/// again; doubled each time.
const REBUILD_FIRST: Duration = Duration::from_secs(60);
const REBUILD_MAX: Duration = Duration::from_secs(30 * 60);

/// A build that was started for waiting submissions and failed.
#[derive(Debug)]
struct FailedBuild {
    error: Arc<ImageError>,
    /// Builds that failed one after the other.
    count: u32,
    /// When it may be started again; `None` if only an operator can do something about it.
    again: Option<Instant>,
}

impl FailedBuild {
    fn new(error: Arc<ImageError>, before: u32) -> FailedBuild {
        let pause = REBUILD_FIRST.saturating_mul(1 << before.min(8)).min(REBUILD_MAX);
        let again = error.is_retryable().then(|| Instant::now() + pause);
        FailedBuild { error, count: before + 1, again }
    }
}

/// By name, except `layering`.
#[derive(Debug, Default)]
struct ImageCache {
    ready: HashMap<String, LayeredImage>,
    /// The current step of each build in progress.
    building: HashMap<String, String>,
    failed: HashMap<String, FailedBuild>,
    /// By the id of the image below the layer, so that each layer is built once.
    layering: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
}

/// A host's images. Clones share the cache.
#[derive(Debug, Clone)]
pub struct Images {
    client: Client,
    builder: Builder,
    host: String,
    build_missing: bool,
    /// A profile of each image that has one.
    profiles: Arc<HashMap<String, String>>,
    init: Arc<Vec<u8>>,
    cache: Arc<Mutex<ImageCache>>,
}

impl Images {
    pub(super) fn new(client: Client, options: &HostOptions) -> Images {
        let (definitions, logs) = (options.images_dir.clone(), options.logs_dir.clone());
        Images {
            builder: Builder::new(client.clone(), definitions, logs, options.registries.clone()),
            client,
            host: options.name.clone(),
            build_missing: options.build_missing,
            profiles: Arc::new(options.profiles.iter().map(|it| (it.image.clone(), it.name.clone())).collect()),
            init: Arc::new(options.init.clone()),
            cache: Arc::default(),
        }
    }

    /// The image, if sandboxes can be created from it now. A missing one may be built after this
    /// call.
    pub(super) async fn ready(&self, name: &str) -> Result<LayeredImage, ImageUnavailable> {
        if let Some(image) = self.cache.lock().ready.get(name) {
            return Ok(image.clone());
        }
        match self.builder.find(name).await {
            Ok(found) => Ok(self.add_layer(name, found).await?),
            Err(ImageError::Missing { .. }) if self.build_missing => Err(self.start_build(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the image can be had: it is there, or may be built or pulled. Starts nothing, and
    /// asks the engine only if nothing may be built.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(super) async fn check(&self, name: &str) -> Result<(), ImageUnavailable> {
        if self.build_missing {
            return Ok(self.builder.check(name)?);
        }
        self.builder.find(name).await.map(drop).map_err(ImageUnavailable::from)
    }

    /// A profile that has the image, for advice to the operator.
    fn profile_of<'a>(&'a self, image: &'a str) -> &'a str {
        self.profiles.get(image).map_or(image, String::as_str)
    }

    /// Forgets an image, since the engine says that it does not exist any more.
    pub(super) fn forget_one(&self, name: &str) {
        self.cache.lock().ready.remove(name);
    }

    /// Forgets all images, since another engine may answer now.
    pub(super) fn forget(&self) {
        let mut cache = self.cache.lock();
        cache.ready.clear();
        cache.failed.clear();
    }

    async fn add_layer(&self, name: &str, found: ResolvedImage) -> Result<LayeredImage, ImageError> {
        let lock = self.cache.lock().layering.entry(found.id.clone()).or_default().clone();
        let guard = lock.lock().await;
        let layered = layer::ensure(&self.client, &found.id, &self.init).await?;
        drop(guard);
        let image = LayeredImage { id: found.id, tag: found.tag, layered };
        self.cache.lock().ready.insert(name.to_owned(), image.clone());
        Ok(image)
    }

    /// Starts a build in the background, unless one is in progress or has failed.
    fn start_build(&self, name: &str) -> ImageUnavailable {
        let mut cache = self.cache.lock();
        if let Some(step) = cache.building.get(name) {
            return ImageUnavailable::Building { name: name.to_owned(), step: step.clone() };
        }
        if let Some(failed) = cache.failed.get(name)
            && failed.again.is_none_or(|at| at > Instant::now())
        {
            return ImageUnavailable::Failed(failed.error.clone());
        }
        let before = cache.failed.get(name).map_or(0, |failed| failed.count);
        cache.building.insert(name.to_owned(), FIRST_STEP.to_owned());
        drop(cache);
        let (images, image) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let host = images.host.as_str();
            tracing::info!(%image, host, "an image is missing: building it");
            if let Err(error) = images.ensure(&image, PullMode::AsConfigured, &mut |_| {}).await {
                let failed = FailedBuild::new(Arc::new(error), before);
                let again = failed.again.map(|at| at.saturating_duration_since(Instant::now()).as_secs());
                let remedy = failed.error.remedy(images.profile_of(&image));
                tracing::error!(
                    %image, host, error = %failed.error, remedy, again_after_s = again,
                    "an image could not be built"
                );
                images.cache.lock().failed.insert(image, failed);
            }
        });
        ImageUnavailable::BuildStarted { name: name.to_owned() }
    }

    /// Finds, builds or pulls an image on request. A failed build of before is tried again.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn ensure(
        &self,
        name: &str,
        mode: PullMode,
        watch: BuildWatcher<'_>,
    ) -> Result<ResolvedImage, ImageError> {
        let cache = self.cache.clone();
        cache.lock().failed.remove(name);
        cache.lock().building.entry(name.to_owned()).or_insert_with(|| FIRST_STEP.to_owned());
        let mut follow = |event: BuildEvent| {
            cache.lock().building.insert(name.to_owned(), event.step.clone());
            watch(event);
        };
        let found = self.builder.ensure(name, mode, &mut follow).await;
        cache.lock().building.remove(name);
        let found = found?;
        self.add_layer(name, found.clone()).await?;
        if found.built {
            let took_ms = found.took.as_millis() as u64;
            tracing::info!(image = name, host = %self.host, tag = %found.tag, took_ms, "an image is ready");
        }
        Ok(found)
    }

    /// The host's rows in `image.list`.
    pub async fn rows(&self, profiles: impl Iterator<Item = &Profile>) -> Vec<ImageRow> {
        let mut rows = Vec::new();
        for profile in profiles {
            rows.push(self.row(profile).await);
        }
        rows
    }

    /// Finds images of ours that neither a profile (`names` are their images) nor a container
    /// needs, and removes them unless it is a `dry_run`. One that cannot be removed is in the list
    /// with the reason.
    ///
    /// # Errors
    /// The engine does not say what it has.
    pub async fn prune(
        &self,
        names: impl Iterator<Item = &str>,
        dry_run: bool,
    ) -> Result<Vec<PrunedImage>, EngineError> {
        let mut needed = NeededImages::default();
        for name in names {
            self.builder.add_needed(name, &mut needed);
            match self.builder.find(name).await {
                Ok(found) => drop(needed.tags.insert(layer::tag(&found.id, &self.init))),
                Err(ImageError::Engine(error)) if !error.is_not_found() => return Err(error),
                // nothing is made of one that is not there
                Err(_) => {}
            }
        }
        // containers first: one that is made in between has an image that is needed
        let containers = self.client.list_containers(true, &Filters::new()).await?;
        let used = containers.into_iter().map(|container| container.image_id).collect();
        let images = self.client.list_images(&Filters::new()).await?;
        let mut rows = Vec::new();
        for image in prune::surplus(&images, &needed, &used) {
            let removed = if dry_run { Ok(()) } else { self.remove(&image).await };
            if let (false, Ok(())) = (dry_run, &removed) {
                tracing::info!(host = %self.host, image = %image.tags.join(" "), id = %image.id, "an image was removed");
            }
            rows.push(PrunedImage {
                host: self.host.clone(),
                id: image.id,
                tags: image.tags,
                size_bytes: image.size,
                removed: !dry_run && removed.is_ok(),
                reason: removed.err().map(|error| error.to_string()),
            });
        }
        if !dry_run {
            // names that no profile has any more
            self.cache.lock().ready.retain(|_, image| needed.tags.contains(&image.tag));
        }
        Ok(rows)
    }

    async fn remove(&self, image: &SurplusImage) -> Result<(), EngineError> {
        // an image of others without a name goes with what was made of it, unless it is kept
        let keeps_below = match &image.below {
            Some(id) => match self.client.inspect_image(id).await {
                Ok(below) => {
                    let labels = below.config.and_then(|config| config.labels).unwrap_or_default();
                    below.repo_tags.is_empty() && !labels.contains_key(NAME_LABEL)
                }
                Err(_) => false,
            },
            None => false,
        };
        for tag in &image.tags {
            match keeps_below {
                true => self.client.remove_image_alone(tag).await?,
                false => self.client.remove_image(tag, false).await?,
            }
        }
        Ok(())
    }

    async fn row(&self, profile: &Profile) -> ImageRow {
        let name = &profile.image;
        let (tag, reason) = match self.builder.find(name).await {
            Ok(found) => (Some(found.tag), None),
            Err(error) => {
                let step = self.cache.lock().building.get(name).map(|step| format!("being built: {step}"));
                let reason = || match &error {
                    ImageError::Missing { .. } => format!("{error}; build it: assay images build {}", profile.name),
                    _ => error.to_string(),
                };
                (None, Some(step.unwrap_or_else(reason)))
            }
        };
        let info = match &tag {
            Some(tag) => self.client.inspect_image(tag).await.ok(),
            None => None,
        };
        ImageRow {
            profile: profile.name.clone(),
            image: name.clone(),
            host: self.host.clone(),
            present: tag.is_some(),
            tag,
            id: info.as_ref().map(|info| info.id.clone()),
            size_bytes: info.map(|info| info.size),
            reason,
        }
    }
}
