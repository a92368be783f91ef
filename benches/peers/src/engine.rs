//! A private engine with mutual TLS, in a network namespace of its own.

use std::fs::File;
use std::future::Future;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// The engine; it ends on drop, or when this process ends.
pub struct PrivateEngine {
    script: Child,
    folder: tempfile::TempDir,
}

impl PrivateEngine {
    pub fn start() -> PrivateEngine {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        let made = Command::new(scripts.join("docker-certs")).arg(&certs).arg("localhost").stdout(Stdio::null()).status();
        assert!(made.unwrap().success());
        let file = |name: &str| certs.join("server").join(name);
        let mut command = Command::new(scripts.join("private-engine"));
        command.arg(folder.path()).args(["--host", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert"]);
        command.arg(file("ca.pem")).arg("--tlscert").arg(file("cert.pem")).arg("--tlskey").arg(file("key.pem"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let engine = PrivateEngine { script: command.spawn().unwrap(), folder };
        let socket = engine.folder.path().join("docker.sock");
        for _ in 0..600 {
            if UnixStream::connect(&socket).is_ok() {
                return engine;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the private engine does not answer");
    }

    pub fn client_files(&self) -> PathBuf {
        self.folder.path().join("certs/client")
    }

    /// Runs a function in the engine's network namespace.
    pub fn inside(&self, work: impl Future<Output = ()> + Send + 'static) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        let namespace = File::open(format!("/proc/{}/ns/net", pid.trim())).unwrap();
        let thread = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
        });
        thread.join().unwrap();
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
