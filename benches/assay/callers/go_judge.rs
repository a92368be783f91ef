//! A go-judge of its own for the benchmark, on an image's files.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ADDRESS: &str = "127.0.0.1:47050";

/// A running go-judge. Dropping it ends it.
pub struct GoJudgeServer {
    child: Child,
    _folder: tempfile::TempDir,
}

impl GoJudgeServer {
    /// Starts this program with its defaults and two containers made ahead; runs see these files.
    pub fn start(program: &Path, root: &Path) -> GoJudgeServer {
        let folder = tempfile::tempdir().unwrap();
        let mounts = folder.path().join("mount.yaml");
        std::fs::write(&mounts, mount_file(root)).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .current_dir(folder.path())
            .arg("-dir")
            .arg(folder.path())
            .args(["-cgroup-prefix", "assay-bench-go-judge", "-http-addr", ADDRESS, "-pre-fork", "2"])
            .arg("-mount-conf")
            .arg(&mounts)
            .args(["-release", "-silent"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = GoJudgeServer { child, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(ADDRESS).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "go-judge does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub fn address(&self) -> &'static Path {
        Path::new(ADDRESS)
    }
}

impl Drop for GoJudgeServer {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// The image's files read-only, a working folder and /tmp in memory, and a /proc.
fn mount_file(root: &Path) -> String {
    let bind = |source: String, target: &str, options: &str| {
        format!("  - {{type: bind, source: \"{source}\", target: \"{target}\"{options}}}\n")
    };
    let folders = ["/bin", "/lib", "/lib64", "/usr", "/etc/ld.so.cache", "/etc/alternatives"];
    let there = folders.into_iter().filter(|path| root.join(&path[1..]).exists());
    let folders: String =
        there.map(|path| bind(format!("{}{path}", root.display()), path, ", readonly: true")).collect();
    let devices = ["/dev/null", "/dev/urandom", "/dev/random", "/dev/zero", "/dev/full"];
    let devices: String = devices.into_iter().map(|path| bind(path.to_owned(), path, "")).collect();
    let memory: String = ["/w", "/tmp"]
        .into_iter()
        .map(|path| format!("  - {{type: tmpfs, target: {path}, data: \"size=128m,nr_inodes=4k\"}}\n"))
        .collect();
    format!(
        "mount:\n{folders}{devices}{memory}proc: true\nworkDir: /w\nhostName: judge\ndomainName: judge\nuid: 1536\ngid: 1536\n"
    )
}
