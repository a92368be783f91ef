//! Finds and builds images: the base first, up to three attempts with exponential backoff. The log
//! is kept and named in the error.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::ImageFolders;
use docker::{BuildOptions, Client, ProgressMessage};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::base::BaseAttempt;
use super::catalog::{BASE, Definition, NAME_LABEL, suite_of_base};
use super::error::{AttemptError, ImageError};
use super::event::{BuildEvent, BuildWatcher, PullMode, ResolvedImage};
use super::log::BuildLog;
use super::prune::NeededImages;
use super::registry::{Registries, is_registry_name};

/// Attempts for one image.
const MAX_TRIES: u32 = 3;
/// The pause after the first failed attempt; doubled after the second.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Events of a build that are buffered for other waiting requests. A slow one misses the oldest.
const MAX_BUFFERED_EVENTS: usize = 64;

/// Finds and builds the images of one engine. Each image is built once at a time; concurrent
/// requests for it wait and see the progress. Clones share this state.
#[derive(Debug, Clone)]
pub struct Builder {
    client: Client,
    /// The folders of the definitions.
    images: ImageFolders,
    logs: PathBuf,
    registries: Registries,
    locks: Arc<Mutex<HashMap<String, Arc<BuildLock>>>>,
}

/// Serializes the builds of one image, and distributes the progress of the current one.
#[derive(Debug)]
struct BuildLock {
    lock: tokio::sync::Mutex<()>,
    events: broadcast::Sender<BuildEvent>,
}

impl BuildLock {
    fn new() -> BuildLock {
        BuildLock { lock: tokio::sync::Mutex::default(), events: broadcast::Sender::new(MAX_BUFFERED_EVENTS) }
    }

    /// Waits for the lock, and passes on the events of the build that holds it.
    async fn acquire(&self, watch: BuildWatcher<'_>) -> tokio::sync::MutexGuard<'_, ()> {
        let mut events = self.events.subscribe();
        let lock = self.lock.lock();
        tokio::pin!(lock);
        let guard = loop {
            tokio::select! {
                guard = &mut lock => break guard,
                event = events.recv() => drop(event.map(&mut *watch)),
            }
        };
        while let Ok(event) = events.try_recv() {
            watch(event);
        }
        guard
    }
}

/// The pause before the next attempt. `None` if there is none.
fn pause_after(tries: u32, retryable: bool) -> Option<Duration> {
    (retryable && tries < MAX_TRIES).then(|| FIRST_PAUSE * 2u32.pow(tries.saturating_sub(1)))
}

fn definition(images: &ImageFolders, name: &str) -> Result<Definition, ImageError> {
    let read = match suite_of_base(name) {
        Some(suite) => Definition::read_base(images.of(BASE), suite),
        None => Definition::read_with_base(images, name).map(|(definition, _)| definition),
    };
    read.map_err(|source| ImageError::Definition { name: name.to_owned(), images: images.clone(), source })
}

/// Whether an image may be found, built or pulled, as far as the configuration and the folder of
/// the definitions say. Asks no engine.
///
/// # Errors
/// Its definition cannot be read, or it may not be pulled.
pub fn check_image(images: &ImageFolders, registries: &Registries, name: &str) -> Result<(), ImageError> {
    match is_registry_name(name) {
        true => registries.check(name),
        false => definition(images, name).map(drop),
    }
}

impl Builder {
    /// A builder for the definitions in the folders `images`, with logs in the folder `logs`.
    pub fn new(client: Client, images: ImageFolders, logs: PathBuf, registries: Registries) -> Builder {
        Builder { client, images, logs, registries, locks: Arc::default() }
    }

    fn definition(&self, name: &str) -> Result<Definition, ImageError> {
        definition(&self.images, name)
    }

    /// Finds an image that is up to date. Builds and pulls nothing.
    ///
    /// # Errors
    /// [`ImageError::Missing`] when the engine does not have it.
    pub async fn find(&self, name: &str) -> Result<ResolvedImage, ImageError> {
        if is_registry_name(name) {
            return self.registries.find(&self.client, name).await;
        }
        let definition = self.definition(name)?;
        self.inspect(&definition).await?.ok_or(ImageError::Missing { name: name.to_owned(), tag: definition.tag() })
    }

    /// Whether an image may be found, built or pulled, as far as the configuration and the folder
    /// of the definitions say. Asks no engine.
    ///
    /// # Errors
    /// Its definition cannot be read, or it may not be pulled.
    pub fn check(&self, name: &str) -> Result<(), ImageError> {
        check_image(&self.images, &self.registries, name)
    }

    /// Adds the names that an image has when it is up to date, with the base that it is built on.
    /// Of one whose definition cannot be read, all versions are needed.
    pub fn add_needed(&self, name: &str, needed: &mut NeededImages) {
        if is_registry_name(name) {
            return;
        }
        let read = self.definition(name).and_then(|definition| {
            let base = definition.base().map(|base| self.definition(base)).transpose()?;
            Ok([Some(definition), base])
        });
        match read {
            Ok(definitions) => needed.tags.extend(definitions.iter().flatten().map(Definition::tag)),
            Err(_) => drop(needed.names.insert(name.to_owned())),
        }
    }

    async fn inspect(&self, definition: &Definition) -> Result<Option<ResolvedImage>, ImageError> {
        let tag = definition.tag();
        match self.client.inspect_image(&tag).await {
            Ok(found) => Ok(Some(ResolvedImage { id: found.id, tag, built: false, took: Duration::ZERO })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Finds an image, or builds it. An image of a registry is pulled as `mode` says.
    ///
    /// Dropping the future ends the build; the engine keeps its completed stages. A request during
    /// another one's build of the same image waits for it and sees its progress.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn ensure(
        &self,
        name: &str,
        mode: PullMode,
        watch: BuildWatcher<'_>,
    ) -> Result<ResolvedImage, ImageError> {
        let lock = self.locks.lock().entry(name.to_owned()).or_insert_with(|| Arc::new(BuildLock::new())).clone();
        let _guard = lock.acquire(watch).await;
        let watch: BuildWatcher<'_> = &mut |event: BuildEvent| {
            // an error means that no other request is waiting
            let _ = lock.events.send(event.clone());
            watch(event);
        };
        if is_registry_name(name) {
            return self.registries.ensure(&self.client, name, mode, watch).await;
        }
        let definition = self.definition(name)?;
        if let Some(found) = self.inspect(&definition).await? {
            return Ok(found);
        }
        if let Some(base) = definition.base() {
            Box::pin(self.ensure(base, PullMode::AsConfigured, watch)).await?;
        }
        let begun = Instant::now();
        self.build_with_retries(&definition, watch).await?;
        let found = self.inspect(&definition).await?;
        let built = found.ok_or(ImageError::Missing { name: name.to_owned(), tag: definition.tag() })?;
        Ok(ResolvedImage { built: true, took: begun.elapsed(), ..built })
    }

    async fn build_with_retries(&self, definition: &Definition, watch: BuildWatcher<'_>) -> Result<(), ImageError> {
        let name = definition.name.as_str();
        let mut log = BuildLog::open(&self.logs, name);
        let mut tries = 1;
        loop {
            let Err(error) = self.build_once(definition, &mut log, watch).await else { return Ok(()) };
            let message = error.to_string();
            log.add(&message);
            let Some(pause) = pause_after(tries, error.is_retryable()) else {
                return Err(ImageError::Failed {
                    name: name.to_owned(),
                    tries,
                    last_lines: log.last_lines(),
                    log: log.into_path(),
                    source: Box::new(error),
                });
            };
            let step = format!("try {tries} failed, again in {} s", pause.as_secs());
            watch(BuildEvent::new(name, step, Some(message)));
            tokio::time::sleep(pause).await;
            tries += 1;
        }
    }

    async fn build_once(
        &self,
        definition: &Definition,
        log: &mut BuildLog,
        watch: BuildWatcher<'_>,
    ) -> Result<(), AttemptError> {
        if suite_of_base(&definition.name).is_some() {
            let (client, registries) = (&self.client, &self.registries);
            return BaseAttempt { client, registries, definition, log, watch }.make().await;
        }
        let (_, base) = Definition::read_with_base(&self.images, &definition.name).map_err(AttemptError::Definition)?;
        let context = definition.context().map_err(AttemptError::Definition)?;
        let options = BuildOptions {
            tag: definition.tag(),
            labels: BTreeMap::from([(NAME_LABEL.to_owned(), definition.name.clone())]),
            build_args: BTreeMap::from([("BASE".to_owned(), base.tag())]),
            ..BuildOptions::default()
        };
        let mut event = BuildEvent::new(&definition.name, "building", None);
        let mut follow = |progress: ProgressMessage| {
            let Some(text) = progress.stream.or(progress.status) else { return };
            let text = text.trim_end();
            if text.is_empty() {
                return;
            }
            log.add(text);
            if let Some((done, total)) = parse_step(text) {
                (event.done, event.total) = (Some(done), Some(total));
            }
            watch(BuildEvent { line: Some(text.to_owned()), ..event.clone() });
        };
        self.client.build_image(&options, context, &mut follow).await?;
        Ok(())
    }
}

/// Parses `Step 2/5 : RUN ...`, a line of the classic builder.
fn parse_step(line: &str) -> Option<(u32, u32)> {
    let (done, total) = line.strip_prefix("Step ")?.split_once(" :")?.0.split_once('/')?;
    Some((done.trim().parse().ok()?, total.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_attempts_with_growing_pauses_and_one_if_retrying_is_useless() {
        assert_eq!(pause_after(1, true), Some(Duration::from_secs(2)));
        assert_eq!(pause_after(2, true), Some(Duration::from_secs(4)));
        assert_eq!(pause_after(3, true), None);
        assert_eq!(pause_after(1, false), None);
    }

    #[tokio::test]
    async fn a_request_that_waits_for_another_build_sees_its_progress() {
        let lock = BuildLock::new();
        let first = lock.acquire(&mut |_| unreachable!("no other build runs")).await;
        let mut seen = Vec::new();
        let waiting = async {
            let mut watch = |event: BuildEvent| seen.push(event.step);
            drop(lock.acquire(&mut watch).await);
        };
        let building = async {
            for step in ["one", "two"] {
                tokio::task::yield_now().await;
                lock.events.send(BuildEvent::new("x", step, None)).unwrap();
            }
            tokio::task::yield_now().await;
            drop(first);
        };
        tokio::join!(waiting, building);
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn a_step_of_the_builder_is_parsed_as_progress() {
        assert_eq!(parse_step("Step 2/5 : RUN apt-get update"), Some((2, 5)));
        assert_eq!(parse_step("Reading package lists..."), None);
    }
}
