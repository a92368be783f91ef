//! An engine of a test's own (`scripts/private-engine`): with TLS, to be stopped, to be killed. In a network namespace of
//! its own, so that it can't be in another engine's way; [`PrivateEngine::inside`] goes there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::harness::{eventually, root};

/// It ends with this value, and with this process.
pub struct PrivateEngine {
    script: Child,
    folder: tempfile::TempDir,
}

impl PrivateEngine {
    /// Starts one with dockerd's `arguments`, and waits until it answers.
    pub fn start(arguments: &[&str]) -> PrivateEngine {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(root().join("scripts/private-engine"));
        command.arg(folder.path()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let engine = PrivateEngine { script: command.spawn().unwrap(), folder };
        let socket = engine.socket();
        eventually("the private engine answers", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// dockerd's.
    pub fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        text.trim().parse().unwrap()
    }

    /// Its network namespace, as a file.
    pub fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    /// Runs something where the engine's loopback is.
    pub fn inside<T: Send + 'static, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send + 'static) -> T {
        let namespace = self.namespace();
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// This thread's sockets are made in that namespace from now on.
fn enter(namespace: &Path) {
    setns(std::fs::File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        for _ in 0..300 {
            match self.script.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(50)),
                _ => return,
            }
        }
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
