//! Makes images: base first, three tries with exponential backoff, the log kept and named in the error.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::broadcast;

use super::base;
use super::catalog::{BASE, Definition};
use super::source::{Registries, is_registry_name};
use docker::{BuildOptions, Client, Error as EngineError, Progress};

/// Tries of one image.
const TRIES: u32 = 3;
/// The pause after the first failed try; doubled after the second.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The registry's image that the base is, when there is a registry.
const REGISTRY_BASE: &str = "debian:bookworm-slim";
/// How long a registry may take to be reached: without one, nobody should wait.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(20);
/// How long a bootstrap may take until it writes: it fetches a hundred packages, over whatever network there is.
pub(super) const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How many of a build's last events are kept for those who wait for it as well.
const NEWS: usize = 64;
/// How many of the log's last lines stand in an error.
const SHOWN_LINES: usize = 6;

/// What a watcher of a build is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildEvent {
    /// The image.
    pub image: String,
    /// What is going on, in a few words.
    pub step: String,
    /// Steps done.
    pub done: Option<u32>,
    /// Steps in all.
    pub total: Option<u32>,
    /// A line of the log.
    pub line: Option<String>,
}

/// Told while an image is built.
pub type BuildWatcher<'a> = &'a mut (dyn FnMut(BuildEvent) + Send);

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Its id.
    pub id: String,
    /// Its tag.
    pub tag: String,
    /// Whether it was made just now.
    pub built: bool,
    /// How long that took.
    pub took: Duration,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Its definition cannot be read.
    #[error("read the definition of image {name:?} in {folder}: {source}")]
    Definition {
        /// Which.
        name: String,
        /// Where.
        folder: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The Engine could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Every try failed.
    #[error("build image {name:?} in {tries} tries: {last}; the whole log is in {log}")]
    Failed {
        /// Which.
        name: String,
        /// How often.
        tries: u32,
        /// The log's last lines.
        last: String,
        /// The log.
        log: PathBuf,
    },
    /// It can't be had from its registry.
    #[error("use image {name:?}: {message}")]
    Registry {
        /// Which.
        name: String,
        /// Why.
        message: String,
    },
    /// It is not there, and was not to be built.
    #[error("find image {tag}: it is not built yet; build it: assay images build {name}")]
    Missing {
        /// Which.
        name: String,
        /// Its tag.
        tag: String,
    },
}

/// Finds and makes images of one engine. One build of one image at a time; who waits for it is told how it goes.
#[derive(Debug, Clone)]
pub struct Builder {
    client: Client,
    images: PathBuf,
    logs: PathBuf,
    registries: Registries,
    turns: Arc<Mutex<HashMap<String, Arc<Turn>>>>,
}

/// Whose turn it is to make an image, and what whoever makes it tells the others.
#[derive(Debug)]
struct Turn {
    making: tokio::sync::Mutex<()>,
    told: broadcast::Sender<BuildEvent>,
}

impl Turn {
    /// Waits for the turn. Who is too slow for another's news misses the oldest.
    async fn take(&self, watch: BuildWatcher<'_>) -> tokio::sync::MutexGuard<'_, ()> {
        let mut news = self.told.subscribe();
        let turn = self.making.lock();
        tokio::pin!(turn);
        let taken = loop {
            tokio::select! {
                taken = &mut turn => break taken,
                event = news.recv() => drop(event.map(&mut *watch)),
            }
        };
        while let Ok(event) = news.try_recv() {
            watch(event);
        }
        taken
    }
}

/// The pause before another try, if there is one.
fn pause_after(tries: u32, retryable: bool) -> Option<Duration> {
    (retryable && tries < TRIES).then(|| FIRST_PAUSE * 2u32.pow(tries.saturating_sub(1)))
}

impl Builder {
    /// A builder over the definitions in `images`, with logs in `logs`.
    pub fn new(client: Client, images: PathBuf, logs: PathBuf, registries: Registries) -> Builder {
        Builder { client, images, logs, registries, turns: Arc::default() }
    }

    fn definition(&self, name: &str) -> Result<Definition, ImageError> {
        let read = |name: &str, over: &str| {
            Definition::read(&self.images, name, over).map_err(|source| ImageError::Definition {
                name: name.to_owned(),
                folder: self.images.join(name),
                source,
            })
        };
        let base = read(BASE, "")?;
        if name == BASE { Ok(base) } else { read(name, base.digest()) }
    }

    /// The image, when it is there and up to date.
    ///
    /// # Errors
    /// [`ImageError::Missing`] when it is not.
    pub async fn find(&self, name: &str) -> Result<ResolvedImage, ImageError> {
        if is_registry_name(name) {
            return self.registries.find(&self.client, name).await;
        }
        let definition = self.definition(name)?;
        self.look(&definition).await?.ok_or(ImageError::Missing { name: name.to_owned(), tag: definition.tag() })
    }

    async fn look(&self, definition: &Definition) -> Result<Option<ResolvedImage>, ImageError> {
        let tag = definition.tag();
        match self.client.inspect_image(&tag).await {
            Ok(found) => Ok(Some(ResolvedImage { id: found.id, tag, built: false, took: Duration::ZERO })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The image, made when it is not there; one of a registry is pulled as the policy says, or when `pull` asks for it.
    /// Dropping the future ends the build; what stages it had are kept by the engine. Who waits for another's build of the
    /// same image watches that one.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn ensure(&self, name: &str, pull: bool, watch: BuildWatcher<'_>) -> Result<ResolvedImage, ImageError> {
        let turn = {
            let new = || Turn { making: tokio::sync::Mutex::default(), told: broadcast::Sender::new(NEWS) };
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(name.to_owned()).or_insert_with(|| Arc::new(new())).clone()
        };
        let _taken = turn.take(watch).await;
        let watch: BuildWatcher<'_> = &mut |event: BuildEvent| {
            // an error says that nobody else waits
            let _ = turn.told.send(event.clone());
            watch(event);
        };
        if is_registry_name(name) {
            return self.registries.ensure(&self.client, name, pull, watch).await;
        }
        let definition = self.definition(name)?;
        if let Some(found) = self.look(&definition).await? {
            return Ok(found);
        }
        if name != BASE {
            Box::pin(self.ensure(BASE, false, watch)).await?;
        }
        let begun = Instant::now();
        let mut log = Log::open(&self.logs, name);
        for tries in 1.. {
            let made = match name {
                BASE => self.make_base(&definition, &mut log, watch).await,
                _ => self.build(&definition, &mut log, watch).await,
            };
            let Err((message, retryable)) = made else { break };
            log.line(&message);
            match pause_after(tries, retryable) {
                Some(pause) => {
                    let step = format!("try {tries} failed, again in {} s", pause.as_secs());
                    watch(BuildEvent { image: name.to_owned(), step, done: None, total: None, line: Some(message) });
                    tokio::time::sleep(pause).await;
                }
                None => {
                    return Err(ImageError::Failed {
                        name: name.to_owned(),
                        tries,
                        last: log.last_lines(),
                        log: log.path,
                    });
                }
            }
        }
        let found = self.look(&definition).await?;
        let built = found.ok_or(ImageError::Missing { name: name.to_owned(), tag: definition.tag() })?;
        Ok(ResolvedImage { built: true, took: begun.elapsed(), ..built })
    }

    async fn build(
        &self,
        definition: &Definition,
        log: &mut Log,
        watch: BuildWatcher<'_>,
    ) -> Result<(), (String, bool)> {
        let base = self.definition(BASE).map_err(|error| (error.to_string(), false))?;
        let context = definition.context().map_err(|error| (error.to_string(), false))?;
        let options = BuildOptions {
            tag: definition.tag(),
            labels: BTreeMap::from([("assay.image.name".to_owned(), definition.name.clone())]),
            build_args: BTreeMap::from([("BASE".to_owned(), base.tag())]),
            ..BuildOptions::default()
        };
        let mut event = BuildEvent {
            image: definition.name.clone(),
            step: "building".to_owned(),
            done: None,
            total: None,
            line: None,
        };
        let mut follow = |progress: Progress| {
            let Some(text) = progress.stream.or(progress.status) else { return };
            let text = text.trim_end();
            if text.is_empty() {
                return;
            }
            log.line(text);
            if let Some((done, total)) = step_of(text) {
                (event.done, event.total) = (Some(done), Some(total));
            }
            watch(BuildEvent { line: Some(text.to_owned()), ..event.clone() });
        };
        self.client
            .build_image(&options, context, &mut follow)
            .await
            .map(drop)
            .map_err(|error| (error.to_string(), error.retryable()))
    }

    /// Has the base made by the unit of root's that listens there.
    async fn import_base(&self, definition: &Definition, helper: &Path) -> Result<(), (String, bool)> {
        let failed = "the bootstrap failed; its words: journalctl -u 'assay-bootstrap@*'";
        let asked = base::Tar::ask(helper).await;
        let asked = asked.map_err(|error| (format!("could not ask {}: {error}", helper.display()), true))?;
        let Some((tar, whole)) = asked else { return Err((failed.to_owned(), true)) };
        let (repository, digest) = (definition.repository(), definition.digest());
        let imported = self.client.import_image(&repository, digest, &changes(), tar, &mut |_| {}).await;
        if !whole.is_whole() {
            // an image of half a root file system must not stay under this name
            let _ = self.client.remove_image(&definition.tag(), true).await;
            return Err((failed.to_owned(), true));
        }
        imported.map_err(|error| (error.to_string(), error.retryable()))
    }

    async fn make_base(
        &self,
        definition: &Definition,
        log: &mut Log,
        watch: BuildWatcher<'_>,
    ) -> Result<(), (String, bool)> {
        let mut say = |step: &str, line: Option<String>, log: &mut Log| {
            log.line(line.as_deref().unwrap_or(step));
            watch(BuildEvent { image: BASE.to_owned(), step: step.to_owned(), done: None, total: None, line });
        };
        if let Some(pull) = self.registries.base(REGISTRY_BASE) {
            say(&format!("asking the registry for {REGISTRY_BASE}"), None, log);
            let mut ignore = |_| {};
            let pulled = tokio::time::timeout(REGISTRY_PATIENCE, self.client.ensure_image(&pull, &mut ignore)).await;
            if matches!(pulled, Ok(Ok(_))) {
                return self
                    .client
                    .tag_image(REGISTRY_BASE, &definition.repository(), definition.digest())
                    .await
                    .map_err(|error| (error.to_string(), error.retryable()));
            }
            say("no registry reached; making it from Debian's packages", None, log);
        }
        let helper = Path::new(base::SOCKET);
        if !nix::unistd::geteuid().is_root() && helper.exists() {
            say("root makes it from Debian's packages (assay-bootstrap.socket)", None, log);
            return self.import_base(definition, helper).await;
        }
        let mut child = tokio::process::Command::new(definition.folder.join("bootstrap"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| (format!("could not start {}: {error}", definition.folder.display()), false))?;
        let (Some(tar), Some(words)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(("the bootstrap has no output".to_owned(), false));
        };
        let mut words = BufReader::new(words).lines();
        let (repository, digest) = (definition.repository(), definition.digest().to_owned());
        let (mut ignore, changes, group) = (|_| {}, changes(), child.id());
        let import = async {
            // the engine and we give an upload a minute of silence, and a root file system takes longer to make
            let mut tar = BufReader::with_capacity(64 * 1024, tar);
            match tokio::time::timeout(BOOTSTRAP_PATIENCE, tar.fill_buf()).await {
                Ok(Ok([_, ..])) => {
                    let imported = self.client.import_image(&repository, &digest, &changes, tar, &mut ignore).await;
                    imported.map_err(|error| (error.to_string(), error.retryable()))
                }
                Ok(Ok([])) => Err(("the bootstrap wrote nothing".to_owned(), true)),
                Ok(Err(error)) => Err((format!("read the bootstrap's output: {error}"), true)),
                Err(_) => {
                    if let Some(group) = group.and_then(|id| i32::try_from(id).ok()) {
                        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                    }
                    Err((format!("the bootstrap wrote nothing in {} min", BOOTSTRAP_PATIENCE.as_secs() / 60), true))
                }
            }
        };
        let talk = async {
            while let Ok(Some(line)) = words.next_line().await {
                say("making it from Debian's packages", Some(line), log);
            }
        };
        let (imported, ()) = tokio::join!(import, talk);
        let status = child.wait().await.map_err(|error| (error.to_string(), true))?;
        if !status.success() {
            // an image of half a root file system must not stay under this name
            let _ = self.client.remove_image(&definition.tag(), true).await;
            // 3: something is missing that time does not bring
            return Err((format!("the bootstrap failed ({status})"), status.code() != Some(3)));
        }
        imported
    }
}

/// What the base has beside its files.
fn changes() -> [String; 1] {
    ["ENV LANG=C.UTF-8".to_owned()]
}

/// `Step 2/5 : RUN ...` as numbers.
fn step_of(line: &str) -> Option<(u32, u32)> {
    let (done, total) = line.strip_prefix("Step ")?.split_once(" :")?.0.split_once('/')?;
    Some((done.trim().parse().ok()?, total.trim().parse().ok()?))
}

/// A build's log: a file, and its last lines.
struct Log {
    path: PathBuf,
    file: Option<std::fs::File>,
    last: Vec<String>,
}

impl Log {
    fn open(folder: &Path, name: &str) -> Log {
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let path = folder.join(format!("{name}-{stamp}.log"));
        let _ = std::fs::create_dir_all(folder);
        let file = std::fs::File::create(&path).inspect_err(|error| {
            tracing::warn!(log = %path.display(), %error, "the build's log cannot be kept");
        });
        Log { path, file: file.ok(), last: Vec::new() }
    }

    fn line(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(file) = &mut self.file {
                let _ = writeln!(file, "{line}");
            }
            if self.last.len() == SHOWN_LINES {
                self.last.remove(0);
            }
            self.last.push(line.trim().chars().take(300).collect());
        }
    }

    fn last_lines(&self) -> String {
        self.last.join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_tries_with_growing_pauses_and_none_without_hope() {
        assert_eq!(pause_after(1, true), Some(Duration::from_secs(2)));
        assert_eq!(pause_after(2, true), Some(Duration::from_secs(4)));
        assert_eq!(pause_after(3, true), None);
        assert_eq!(pause_after(1, false), None);
    }

    #[tokio::test]
    async fn who_waits_for_anothers_build_is_told_how_it_goes() {
        let turn = Turn { making: tokio::sync::Mutex::default(), told: broadcast::Sender::new(NEWS) };
        let event =
            |step: &str| BuildEvent { image: "x".into(), step: step.into(), done: None, total: None, line: None };
        let first = turn.take(&mut |_| unreachable!("nobody else makes it")).await;
        let mut heard = Vec::new();
        let waiting = async {
            let mut watch = |event: BuildEvent| heard.push(event.step);
            drop(turn.take(&mut watch).await);
        };
        let making = async {
            for step in ["one", "two"] {
                tokio::task::yield_now().await;
                turn.told.send(event(step)).unwrap();
            }
            tokio::task::yield_now().await;
            drop(first);
        };
        tokio::join!(waiting, making);
        assert_eq!(heard, ["one", "two"]);
    }

    #[test]
    fn a_builders_step_is_read_as_progress() {
        assert_eq!(step_of("Step 2/5 : RUN apt-get update"), Some((2, 5)));
        assert_eq!(step_of("Reading package lists..."), None);
    }
}
