//! Makes the base image: pulled from a registry, imported from the helper unit, or bootstrapped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use docker::Client;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::bootstrap::{self, BootstrapStream};
use super::catalog::{DEFAULT_SUITE, Definition, NAME_LABEL, suite_of_base};
use super::error::AttemptError;
use super::event::{BuildEvent, BuildWatcher};
use super::log::BuildLog;
use super::registry::Registries;

/// The registry's image that serves as the base of a suite.
fn registry_base(suite: &str) -> String {
    format!("debian:{suite}-slim")
}

/// Time to pull it. Without a network the next way is tried soon.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(20);

/// What the base has in addition to its files.
const CHANGES: [&str; 1] = ["ENV LANG=C.UTF-8"];

/// The changes of an import, with the label that says that the image is ours.
fn changes(definition: &Definition) -> Vec<String> {
    let label = format!("LABEL {NAME_LABEL}={}", definition.name);
    CHANGES.into_iter().map(str::to_owned).chain([label]).collect()
}

/// One attempt to make the base.
pub(super) struct BaseAttempt<'a, 'w> {
    pub(super) client: &'a Client,
    pub(super) registries: &'a Registries,
    pub(super) definition: &'a Definition,
    pub(super) log: &'a mut BuildLog,
    pub(super) watch: BuildWatcher<'w>,
}

impl BaseAttempt<'_, '_> {
    /// Tries the registry, then the helper unit if the daemon is not root, else the bootstrap
    /// script.
    pub(super) async fn make(mut self) -> Result<(), AttemptError> {
        if self.pull_base().await? {
            return Ok(());
        }
        let helper = bootstrap::socket(Some(self.suite()).filter(|suite| *suite != DEFAULT_SUITE));
        if !nix::unistd::geteuid().is_root() && helper.exists() {
            return self.import_from_helper(&helper).await;
        }
        self.bootstrap().await
    }

    fn suite(&self) -> &str {
        suite_of_base(&self.definition.name).unwrap_or(DEFAULT_SUITE)
    }

    fn report(&mut self, step: &str, line: Option<String>) {
        self.log.add(line.as_deref().unwrap_or(step));
        (self.watch)(BuildEvent::new(&self.definition.name, step, line));
    }

    /// Pulls the base, if a registry may be asked. False if none was reached.
    async fn pull_base(&mut self) -> Result<bool, AttemptError> {
        let name = registry_base(self.suite());
        let Some(pull) = self.registries.base(&name) else { return Ok(false) };
        self.report(&format!("asking the registry for {name}"), None);
        let mut ignore = |_| {};
        let pulled = tokio::time::timeout(REGISTRY_TIMEOUT, self.client.ensure_image(&pull, &mut ignore)).await;
        if !matches!(pulled, Ok(Ok(_))) {
            self.report("no registry reached; making it from Debian's packages", None);
            return Ok(false);
        }
        let (repository, digest) = (self.definition.repository(), self.definition.digest());
        self.client.tag_image(&name, &repository, digest).await?;
        Ok(true)
    }

    /// Imports the stream of the helper unit, which runs as root.
    async fn import_from_helper(&mut self, helper: &Path) -> Result<(), AttemptError> {
        self.report("root makes it from Debian's packages (assay-bootstrap.socket)", None);
        let stream = BootstrapStream::open(helper).await;
        let stream = stream.map_err(|source| AttemptError::Helper { socket: helper.to_owned(), source })?;
        let Some((tar, end)) = stream else { return Err(AttemptError::HelperFailed) };
        let (repository, digest) = (self.definition.repository(), self.definition.digest());
        let imported = self.client.import_image(&repository, digest, &changes(self.definition), tar, &mut |_| {}).await;
        if !end.is_complete() {
            remove_partial(self.client, self.definition).await;
            return Err(AttemptError::HelperFailed);
        }
        Ok(imported?)
    }

    /// Runs the bootstrap script and imports its output.
    async fn bootstrap(&mut self) -> Result<(), AttemptError> {
        let program = self.definition.folder.join("bootstrap");
        let mut child = spawn(&program, self.suite())?;
        let (Some(tar), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(AttemptError::Empty);
        };
        let (client, definition, group) = (self.client, self.definition, child.id());
        let import = import_output(client, definition, tar, group);
        let follow = async {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                self.report("making it from Debian's packages", Some(line));
            }
        };
        let (imported, ()) = tokio::join!(import, follow);
        let status = child.wait().await.map_err(AttemptError::Read)?;
        if !status.success() {
            remove_partial(self.client, self.definition).await;
            return Err(AttemptError::Bootstrap { status });
        }
        imported
    }
}

/// Removes an image with half a root file system, so that it does not keep the base's tag.
async fn remove_partial(client: &Client, definition: &Definition) {
    let _ = client.remove_image(&definition.tag(), true).await;
}

fn spawn(program: &Path, suite: &str) -> Result<Child, AttemptError> {
    Command::new(program)
        .arg(suite)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| AttemptError::Start { program: PathBuf::from(program), source })
}

/// Imports a script's output. The import starts at the first byte: the engine and our client allow
/// an upload a minute of silence, and the script needs longer before it writes.
async fn import_output(
    client: &Client,
    definition: &Definition,
    output: ChildStdout,
    group: Option<u32>,
) -> Result<(), AttemptError> {
    let mut tar = BufReader::with_capacity(64 * 1024, output);
    match tokio::time::timeout(bootstrap::FIRST_BYTE_TIMEOUT, tar.fill_buf()).await {
        Ok(Ok([_, ..])) => {
            let (repository, changes) = (definition.repository(), changes(definition));
            Ok(client.import_image(&repository, definition.digest(), &changes, tar, &mut |_| {}).await?)
        }
        Ok(Ok([])) => Err(AttemptError::Empty),
        Ok(Err(error)) => Err(AttemptError::Read(error)),
        Err(_) => {
            if let Some(group) = group.and_then(|id| i32::try_from(id).ok()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            Err(AttemptError::Silent { minutes: bootstrap::FIRST_BYTE_TIMEOUT.as_secs() / 60 })
        }
    }
}
