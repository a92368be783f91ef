//! A host's images: found, built unasked when the configuration says so, layered with the init, remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use schemars::JsonSchema;
use serde::Serialize;

use super::{HostConfig, lock};
use crate::image::build::BuildWatcher;
use crate::image::{Builder, ImageError, ResolvedImage, layer};
use docker::Client;
use protocol::Profile;

/// An image that sandboxes can be created from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayeredImage {
    /// The profile's image.
    pub id: String,
    /// Its tag.
    pub tag: String,
    /// The same with our init in it.
    pub layered: String,
}

/// A row of `image.list`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ImageRow {
    /// The profile that needs it.
    pub profile: String,
    /// The image's name.
    pub image: String,
    /// The host.
    pub host: String,
    /// Whether it is there and up to date.
    pub present: bool,
    /// Its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Default)]
struct Known {
    ready: HashMap<String, LayeredImage>,
    building: HashMap<String, String>,
    failed: HashMap<String, String>,
    /// By the id of what is layered: who comes second waits for the first, and finds it made.
    layering: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
}

/// A host's images.
#[derive(Debug, Clone)]
pub struct Images {
    client: Client,
    builder: Builder,
    host: String,
    build_missing: bool,
    init: Arc<Vec<u8>>,
    known: Arc<Mutex<Known>>,
}

impl Images {
    pub(super) fn new(client: Client, config: &HostConfig) -> Images {
        Images {
            builder: Builder::new(
                client.clone(),
                config.images_dir.clone(),
                config.logs_dir.clone(),
                config.registries.clone(),
            ),
            client,
            host: config.name.clone(),
            build_missing: config.build_missing,
            init: Arc::new(config.init.clone()),
            known: Arc::default(),
        }
    }

    /// The image, ready to create from; else why not, in words. A missing one may be on its way after this call.
    pub(super) async fn ready(&self, name: &str) -> Result<LayeredImage, String> {
        if let Some(state) = lock(&self.known).ready.get(name) {
            return Ok(state.clone());
        }
        match self.builder.find(name).await {
            Ok(built) => self.adopt(name, built).await.map_err(|error| error.to_string()),
            Err(ImageError::Missing { .. }) if self.build_missing => Err(self.build_unasked(name)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Forgets what is known: the engine may be another one.
    pub(super) fn forget(&self) {
        let mut known = lock(&self.known);
        known.ready.clear();
        known.failed.clear();
    }

    async fn adopt(&self, name: &str, built: ResolvedImage) -> Result<LayeredImage, ImageError> {
        let turn = lock(&self.known).layering.entry(built.id.clone()).or_default().clone();
        let taken = turn.lock().await;
        let layered = layer::ensure(&self.client, &built.id, &self.init).await?;
        drop(taken);
        let state = LayeredImage { id: built.id, tag: built.tag, layered };
        lock(&self.known).ready.insert(name.to_owned(), state.clone());
        Ok(state)
    }

    fn build_unasked(&self, name: &str) -> String {
        let mut known = lock(&self.known);
        if let Some(step) = known.building.get(name) {
            return format!("image {name:?} is being built: {step}");
        }
        if let Some(reason) = known.failed.get(name) {
            return reason.clone();
        }
        known.building.insert(name.to_owned(), "begun".to_owned());
        drop(known);
        let (images, name) = (self.clone(), name.to_owned());
        let words = format!("image {name:?} is missing and is being built");
        tokio::spawn(async move {
            tracing::info!(image = %name, "an image is missing: building it");
            if let Err(error) = images.make(&name, false, &mut |_| {}).await {
                tracing::error!(image = %name, %error, "an image could not be built");
                lock(&images.known).failed.insert(name, error.to_string());
            }
        });
        words
    }

    /// Finds or builds an image because somebody asked, or pulls it anew.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn make(&self, name: &str, pull: bool, watch: BuildWatcher<'_>) -> Result<ResolvedImage, ImageError> {
        let known = self.known.clone();
        lock(&known).failed.remove(name);
        lock(&known).building.entry(name.to_owned()).or_insert_with(|| "begun".to_owned());
        let mut follow = |event: crate::image::BuildEvent| {
            lock(&known).building.insert(name.to_owned(), event.step.clone());
            watch(event);
        };
        let built = self.builder.ensure(name, pull, &mut follow).await;
        lock(&known).building.remove(name);
        let built = built?;
        self.adopt(name, built.clone()).await?;
        Ok(built)
    }

    /// The rows of `image.list`.
    pub async fn rows(&self, profiles: impl Iterator<Item = &Profile>) -> Vec<ImageRow> {
        let mut rows = Vec::new();
        for profile in profiles {
            let name = &profile.image;
            let (tag, reason) = match self.builder.find(name).await {
                Ok(built) => (Some(built.tag), None),
                Err(error) => {
                    let known = lock(&self.known);
                    let building = known.building.get(name).map(|step| format!("being built: {step}"));
                    (None, Some(building.unwrap_or_else(|| error.to_string())))
                }
            };
            let info = match &tag {
                Some(tag) => self.client.inspect_image(tag).await.ok(),
                None => None,
            };
            rows.push(ImageRow {
                profile: profile.name.clone(),
                image: name.clone(),
                host: self.host.clone(),
                present: tag.is_some(),
                tag,
                id: info.as_ref().map(|info| info.id.clone()),
                size_bytes: info.map(|info| info.size),
                reason,
            });
        }
        rows
    }
}
