//! The images of one host: found, built if the configuration allows it, layered with the init, and
//! cached.

use std::collections::HashMap;
use std::sync::Arc;

use docker::Client;
use parking_lot::Mutex;
use protocol::Profile;
use protocol::rows::ImageRow;

use super::options::HostOptions;
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

/// By name, except `layering`.
#[derive(Debug, Default)]
struct ImageCache {
    ready: HashMap<String, LayeredImage>,
    /// The current step of each build in progress.
    building: HashMap<String, String>,
    failed: HashMap<String, Arc<ImageError>>,
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
        if let Some(error) = cache.failed.get(name) {
            return ImageUnavailable::Failed(error.clone());
        }
        cache.building.insert(name.to_owned(), FIRST_STEP.to_owned());
        drop(cache);
        let (images, image) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            tracing::info!(%image, "an image is missing: building it");
            if let Err(error) = images.ensure(&image, PullMode::AsConfigured, &mut |_| {}).await {
                tracing::error!(%image, %error, "an image could not be built");
                images.cache.lock().failed.insert(image, Arc::new(error));
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

    async fn row(&self, profile: &Profile) -> ImageRow {
        let name = &profile.image;
        let (tag, reason) = match self.builder.find(name).await {
            Ok(found) => (Some(found.tag), None),
            Err(error) => {
                let step = self.cache.lock().building.get(name).map(|step| format!("being built: {step}"));
                (None, Some(step.unwrap_or_else(|| error.to_string())))
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
