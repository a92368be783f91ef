//! A daemon for a benchmark, and its callers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{PRINT_ONE, root};

/// For benchmarks of new sandboxes.
pub const SINGLE_USE: &str = "[isolation]\nreuse = 'never'\n";

/// What a daemon is started with.
#[derive(Clone)]
pub struct DaemonOptions<'a> {
    /// The assayd program; by default that of this build.
    pub program: Option<PathBuf>,
    pub instance: &'a str,
    /// First uid of its sandboxes; daemons on one engine need ranges of their own.
    pub uid_base: u32,
    pub profiles_dir: PathBuf,
    /// Names of profiles, separated by commas.
    pub profiles: &'a str,
    pub floor: usize,
    pub ceiling: usize,
    /// The configuration file's text.
    pub config: &'a str,
}

impl Default for DaemonOptions<'_> {
    fn default() -> Self {
        DaemonOptions {
            program: None,
            instance: "bench",
            uid_base: 47_000,
            profiles_dir: root().join("config/profiles"),
            profiles: "python",
            floor: 4,
            ceiling: 8,
            config: SINGLE_USE,
        }
    }
}

/// A running daemon with a socket and a state folder of its own.
pub struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    pub fn start(options: &DaemonOptions) -> Daemon {
        let (floor, ceiling) = (options.floor.to_string(), options.ceiling.to_string());
        Daemon::spawn(options, &[("ASSAY_POOL_FLOOR", &floor), ("ASSAY_POOL_CEILING", &ceiling)])
    }

    fn spawn(options: &DaemonOptions, levels: &[(&str, &str)]) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("assayd.toml");
        std::fs::write(&config, options.config).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let program = options.program.clone().unwrap_or_else(|| crate::programs::program("assayd").into());
        let child = Command::new(program)
            .arg("--config")
            .arg(config)
            .env("ASSAY_IMAGES_DIR", root().join("images"))
            .env("ASSAY_PROFILES_DIR", &options.profiles_dir)
            .env("ASSAY_SOCKET", folder.path().join("assay.sock"))
            .env("ASSAY_STATE_DIR", folder.path().join("state"))
            .env("ASSAY_INSTANCE", options.instance)
            .env("ASSAY_PROFILES", options.profiles)
            .envs(levels.iter().copied())
            .env("ASSAY_UID_BASE", options.uid_base.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Daemon { child, folder }
    }

    /// Starts a daemon with the shipped settings for these profiles, and the settings in `config`.
    pub fn start_as_shipped(profiles: &str, config: &str, (instance, uid_base): (&str, u32)) -> Daemon {
        let options = DaemonOptions { profiles, config, instance, uid_base, ..DaemonOptions::default() };
        Daemon::spawn(&options, &[])
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("assay.sock")
    }

    /// Kills the daemon; its reaper removes its sandboxes.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::thread::sleep(Duration::from_secs(3));
    }

    /// Connects, for at most 20 s.
    pub fn caller(&self) -> Caller {
        let start = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(self.folder.path().join("assay.sock")) {
                let mut caller =
                    Caller { writer: stream.try_clone().unwrap(), reader: BufReader::new(stream), last_id: 0 };
                caller.read_line();
                return caller;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the daemon does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// A connection to a daemon.
pub struct Caller {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    last_id: u64,
}

impl Caller {
    pub fn read_line(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub fn send(&mut self, method: &str, params: &Value) {
        self.last_id += 1;
        let line = json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params });
        self.writer.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Calls a method that must succeed.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(method, &params);
        loop {
            let line = self.read_line();
            if line["id"] == self.last_id {
                assert!(line.get("error").is_none(), "{method}: {line}");
                return line["result"].clone();
            }
        }
    }

    /// The first pool.
    pub fn pool(&mut self) -> Value {
        self.call("pool.list", json!({}))["pools"][0].clone()
    }

    /// Waits until the first pool is full.
    pub fn wait_until_full(&mut self) {
        self.wait_until_hot(0);
    }

    /// Waits until the first pool is full and this many of its sandboxes have their hot runtimes;
    /// returns the bytes that a hot sandbox holds.
    pub fn wait_until_hot(&mut self, hot: u64) -> u64 {
        loop {
            let pool = self.pool();
            assert!(pool["hot_failed"].is_null(), "{pool}");
            if pool["ready"] == pool["floor"] && pool["creating"] == 0 && pool["hot"].as_u64() >= Some(hot) {
                return pool["hot_bytes"].as_u64().unwrap_or_default();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs `print(1)` in Python and checks the report.
    pub fn print_one(&mut self) -> Value {
        let files = json!([{ "path": "main.py", "content": PRINT_ONE }]);
        let report = self.call("submission.run", json!({ "language": "python", "preset": "judge", "files": files }));
        assert_eq!((&report["verdict"], &report["run"]["stdout"]), (&json!("accepted"), &json!("1\n")), "{report}");
        report
    }

    /// Builds a profile's image if it is missing, and returns its tag.
    pub fn image(&mut self, profile: &str) -> String {
        self.call("image.build", json!({ "profile": profile }));
        let images = self.call("image.list", json!({}));
        let image = images["images"].as_array().unwrap().iter().find(|image| image["profile"] == profile).unwrap();
        image["tag"].as_str().unwrap().to_owned()
    }
}

/// Writes profiles to a folder, each a copy of a shipped one with other settings.
pub fn write_profiles(profiles: &[ProfileCopy]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for ProfileCopy { name, of, top, pool } in profiles {
        let shipped = root().join(format!("config/profiles/{of}.toml"));
        let text = std::fs::read_to_string(shipped).unwrap();
        let (head, rest) = text.split_at(text.find("\n[").unwrap());
        let head = head.replacen(&format!("name = \"{of}\""), &format!("name = \"{name}\""), 1);
        let text = format!("{head}\n{top}\n{}", rest.replace("[pool]\n", &format!("[pool]\n{pool}\n")));
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    }
    folder
}

/// A copy of a shipped profile.
pub struct ProfileCopy<'a> {
    pub name: &'a str,
    /// The shipped profile's name.
    pub of: &'a str,
    /// Lines to add at the top.
    pub top: &'a str,
    /// Lines to add to `[pool]`.
    pub pool: &'a str,
}

impl Daemon {
    /// Starts a daemon with written profiles; see [`write_profiles`].
    pub fn start_with_profiles(folder: &Path, profiles: &str, floor: usize, ceiling: usize, config: &str) -> Daemon {
        let profiles_dir = folder.to_owned();
        Daemon::start(&DaemonOptions { profiles_dir, profiles, floor, ceiling, config, ..DaemonOptions::default() })
    }
}
