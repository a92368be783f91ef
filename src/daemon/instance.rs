//! Identity of this daemon: a name from the configuration and a random id kept in the state folder,
//! so that two daemons on one engine never remove each other's sandboxes. A lock on the folder
//! keeps a second daemon of the instance out.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

/// How long a new daemon waits for the lock, which the reaper of an old daemon holds while it
/// sweeps: longer than the reaper waits for an engine that hangs.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// A claimed instance. The lock is released on drop, or by the kernel when the process ends.
#[derive(Debug)]
pub(super) struct Instance {
    /// Value of the containers' label `assay.instance`.
    pub(super) label: String,
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Instance {
    /// Creates the state folder, locks it within `timeout`, reads or creates the id.
    pub(super) fn claim(config: &config::InstanceSettings, timeout: Duration) -> Result<Instance, String> {
        let folder = &config.state_dir;
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            format!("failed to {what} in the state folder {}: {error} (instance.state_dir)", folder.display())
        };
        std::fs::create_dir_all(folder).map_err(|error| failed("make a file", &error))?;
        let waits = || {
            let (folder, most_s) = (folder.display(), timeout.as_secs());
            tracing::info!(%folder, most_s, "another daemon of this instance is running: waiting for its end");
        };
        let lock = lock(&folder.join("lock"), timeout, waits).map_err(|error| failed("take the lock", &error))?;
        let path = folder.join("instance-id");
        let kept = match std::fs::read(&path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read the instance's id", &error)),
        };
        let id = match kept.as_deref().filter(|id| is_id(id)) {
            Some(id) => id.to_owned(),
            None => {
                let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
                std::fs::write(&path, &id).map_err(|error| failed("keep the instance's id", &error))?;
                if kept.is_some() {
                    tracing::warn!(
                        file = %path.display(), %id,
                        "the instance's id is damaged; a new one is in use: sandboxes of the old one are not removed"
                    );
                }
                id
            }
        };
        Ok(Instance { label: format!("{}-{id}", config.name), folder: folder.clone(), _lock: lock })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Whether a text can be the id: it is a part of a label, and of names of containers.
fn is_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Takes an exclusive lock, waiting at most `timeout`. `waits` is called before it waits.
pub(super) fn lock(path: &Path, timeout: Duration, waits: impl FnOnce()) -> Result<Flock<File>, String> {
    let open = || File::options().create(true).truncate(false).write(true).open(path).map_err(|e| e.to_string());
    let deadline = Instant::now() + timeout;
    let mut waits = Some(waits);
    loop {
        match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, nix::errno::Errno::EAGAIN)) if Instant::now() < deadline => {
                if let Some(waits) = waits.take() {
                    waits();
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            Err((_, nix::errno::Errno::EAGAIN)) => {
                return Err("another daemon of this instance is running; give this one another state folder".to_owned());
            }
            Err((_, errno)) => return Err(errno.desc().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_keeps_its_id_and_excludes_a_second_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let config = config::InstanceSettings { name: "test".to_owned(), state_dir: folder.path().to_owned() };
        let first = Instance::claim(&config, LOCK_TIMEOUT).unwrap();
        let label = first.label.clone();
        assert!(lock(&folder.path().join("lock"), Duration::ZERO, || ()).unwrap_err().contains("another daemon"));
        drop(first);
        assert_eq!(Instance::claim(&config, LOCK_TIMEOUT).unwrap().label, label);
        assert!(label.starts_with("test-"));
    }
}
