//! Who this daemon is: a name from the configuration and a random id kept in the state folder, so that two daemons on
//! one engine never sweep each other. A lock on the folder keeps a second daemon of the same instance out.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use config;

/// How long a new daemon waits for the reaper of an old one, which holds the lock while it sweeps: longer than it asks an
/// engine that hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A claimed instance. The lock goes when it is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Instance {
    /// The label's value.
    pub(super) label: String,
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Instance {
    /// Makes the state folder, locks it within `patience`, reads or makes the id.
    pub(super) fn claim(config: &config::Instance, patience: Duration) -> Result<Instance, String> {
        let folder = &config.state_dir;
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            format!("failed to {what} in the state folder {}: {error} (instance.state_dir)", folder.display())
        };
        std::fs::create_dir_all(folder).map_err(|error| failed("make a file", &error))?;
        let lock = lock(&folder.join("lock"), patience).map_err(|error| failed("take the lock", &error))?;
        let path = folder.join("instance-id");
        let id = match std::fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => id.trim().to_owned(),
            _ => {
                let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
                std::fs::write(&path, &id).map_err(|error| failed("keep the instance's id", &error))?;
                id
            }
        };
        Ok(Instance { label: format!("{}-{id}", config.name), folder: folder.clone(), _lock: lock })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Takes an exclusive lock, waiting for at most `patience`.
pub(super) fn lock(path: &Path, patience: Duration) -> Result<Flock<File>, String> {
    let open = || File::options().create(true).truncate(false).write(true).open(path).map_err(|e| e.to_string());
    let deadline = Instant::now() + patience;
    loop {
        match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, nix::errno::Errno::EAGAIN)) if Instant::now() < deadline => {
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
    fn an_instance_keeps_its_id_and_lets_no_second_daemon_in() {
        let folder = tempfile::tempdir().unwrap();
        let config = config::Instance { name: "test".to_owned(), state_dir: folder.path().to_owned() };
        let first = Instance::claim(&config, PATIENCE).unwrap();
        let label = first.label.clone();
        assert!(lock(&folder.path().join("lock"), Duration::ZERO).unwrap_err().contains("another daemon"));
        drop(first);
        assert_eq!(Instance::claim(&config, PATIENCE).unwrap().label, label);
        assert!(label.starts_with("test-"));
    }
}
