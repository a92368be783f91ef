//! A private engine for one test (`scripts/private-engine`), which may be stopped, killed or given
//! TLS. It has a network namespace of its own, so that it cannot disturb another engine;
//! [`PrivateEngine::inside`] runs code there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::harness::{eventually, root};

/// Ends when it is dropped, and with this process.
pub struct PrivateEngine {
    script: Child,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
}

/// Copies images of assay from the host's engine; `names` is a pattern such as `base|bash`.
pub fn load_images(engine: &PrivateEngine, names: &str) {
    let load = format!(
        "docker save $(docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep -E '^assay/({names}):') | docker --host \"$0\" load"
    );
    let host = format!("unix://{}", engine.socket().display());
    let done = Command::new("sh").args(["-c", &load, &host]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

impl PrivateEngine {
    /// Starts an engine with `arguments` for dockerd, and waits until it answers.
    pub fn start(arguments: &[&str]) -> PrivateEngine {
        PrivateEngine::launch(tempfile::tempdir().unwrap(), arguments)
    }

    /// Starts an engine whose data folder holds at most `bytes`.
    pub fn start_on_small_disk(bytes: u64, arguments: &[&str]) -> PrivateEngine {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let size = format!("size={bytes}");
        nix::mount::mount(Some("tmpfs"), &data, Some("tmpfs"), nix::mount::MsFlags::empty(), Some(size.as_str()))
            .unwrap();
        PrivateEngine::launch(folder, arguments)
    }

    fn launch(folder: tempfile::TempDir, arguments: &[&str]) -> PrivateEngine {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let engine = PrivateEngine { script: script(folder.path(), &arguments), arguments, folder };
        engine.wait();
        engine
    }

    fn wait(&self) {
        let socket = self.socket();
        let begun = std::time::Instant::now();
        eventually("the private engine answers", || {
            if begun.elapsed() > Duration::from_secs(40) {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!(
                    "the private engine does not answer:\n{}",
                    log.lines().filter(|line| !line.contains("[core]")).take(60).collect::<Vec<_>>().join("\n")
                );
            }
            use std::io::{Read, Write};
            let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&socket) else { return false };
            let mut reply = [0; 12];
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n").is_ok()
                && stream.read_exact(&mut reply).is_ok()
                && reply.ends_with(b"200")
        });
    }

    /// Kills dockerd with SIGKILL and starts it again on the same data.
    pub fn restart(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        self.end();
        self.script = script(self.folder.path(), &self.arguments);
        self.wait();
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn end(&mut self) {
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

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The file that holds the pid of dockerd.
    pub fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    /// The pid of dockerd.
    pub fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.pid_file()).unwrap();
        text.trim().parse().unwrap()
    }

    /// The engine's network namespace, as a file.
    pub fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    /// Runs something in the engine's network namespace.
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

fn script(folder: &Path, arguments: &[String]) -> Child {
    let mut command = Command::new(root().join("scripts/private-engine"));
    command.arg(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Moves this thread into a network namespace: its sockets are made there from now on.
pub fn enter(namespace: &Path) {
    setns(std::fs::File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        self.end();
        // our file system, the mount that dockerd makes over it, and what a killed dockerd left
        // below
        for _ in 0..4 {
            let _ = nix::mount::umount2(&self.data(), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}
