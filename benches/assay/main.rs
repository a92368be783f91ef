//! `make bench`: what assay costs, side by side with what it replaces, in one run on the real engine.
//!
//! * `print(1)` over the socket on a warm sandbox, against the same interpreter executed bare in the same root file
//!   system, and against `docker run` with the same hardening. Paced at half the measured refill rate, with refill
//!   running (the figure that counts), and back to back.
//! * A ping over an open sandbox, no program.
//! * What isolation costs (`isolation`): a cell beside split, the filter, reuse beside bare exec.
//! * Many at once (`crowd`): a burst, ten thousand in line, sixty-four idle sandboxes.
//! * Refill: sandboxes per second through the pool against raw create + start + remove of the same spec.
//!
//! * Judging (`judging`): fifty tests beside bare exec, compile cache, a header compiled in advance, 50 MB in and out, the same
//!   verdict a hundred times.
//!
//! * Runtimes that wait (`hot`): Python, numpy, pytest, node, Java, C++ beside the same executed bare.
//!
//! `BENCH_ONLY=crowd`, `isolation`, `judging`, `refill` or `hot` leaves out all but that; of `hot`, `BENCH_WORK` leaves out what has not that
//! word in its title, or is not `docker`, `throughput` or `idle`. `BENCH_RUNS` (default 200) sets the number of runs of each; every output is verified.
#![allow(clippy::print_stdout, clippy::unwrap_used, unsafe_code)]

mod crowd;
mod hot;
mod isolation;
mod judging;
#[path = "../../tests/it/programs.rs"]
mod programs;
mod refill;
mod throughput;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const CODE: &str = "print(1)\n";

fn main() {
    // `cargo test --benches` asks for a list; there is none
    if std::env::args().any(|word| word == "--list" || word == "--test") {
        return;
    }
    let runs: usize = std::env::var("BENCH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(200);
    let daemon = Daemon::start();
    let mut caller = daemon.caller();
    caller.ok("image.build", json!({ "profile": "python" }));
    caller.warm();
    let image = caller.ok("image.list", json!({}))["images"][0]["tag"].as_str().unwrap().to_owned();
    println!("assay bench: {runs} runs each, image {image}, {} CPUs\n", std::thread::available_parallelism().unwrap());

    if std::env::var("BENCH_ONLY").is_ok_and(|only| only == "crowd") {
        let raw = raw_rate(&daemon);
        return crowd::all(daemon, raw);
    }
    if std::env::var("BENCH_ONLY").is_ok_and(|only| only == "isolation") {
        drop(daemon);
        return isolation::all(&Root::export(&image));
    }
    if std::env::var("BENCH_ONLY").is_ok_and(|only| only == "hot") {
        drop(daemon);
        return hot::all(runs);
    }
    if std::env::var("BENCH_ONLY").is_ok_and(|only| only == "refill") {
        drop(daemon);
        return refill::all(runs);
    }
    if std::env::var("BENCH_ONLY").is_ok_and(|only| only == "judging") {
        drop(daemon);
        return judging::all();
    }
    let ping = ping(&daemon, runs.max(1000));
    let rate = refill_rate(&daemon);
    let raw = raw_rate(&daemon);
    caller.warm();
    let root = Root::export(&image);
    let bare = measure(runs, Duration::ZERO, || bare(&root.0));
    caller.warm();
    let mut reports = Vec::new();
    let pause = Duration::from_secs_f64(2.0 / rate);
    let paced = measure(runs, pause, || reports.push(caller.print_one()));
    let again = measure(runs, Duration::ZERO, || self::bare(&root.0));
    caller.warm();
    let rush = measure(runs, Duration::ZERO, || drop(caller.print_one()));
    let docker = docker_cli().then(|| measure(runs, Duration::ZERO, || docker_run(&image)));

    println!("{:<58} {:>9} {:>9} {:>9}", "python print(1)", "p50", "p99", "ratio");
    let bare = bare.better(again);
    bare.row("bare exec in the same root file system", None);
    let warm = reports.iter().filter(|report| report["start"] == "warm").count();
    paced.row(&format!("assay, paced at {:.1}/s with refill ({warm}/{runs} warm)", rate / 2.0), Some(&bare));
    rush.row("assay, back to back (beyond the refill rate)", Some(&bare));
    match &docker {
        Some(docker) => {
            docker.row("docker run, same hardening, back to back", Some(&bare));
            println!("\n  docker run / assay (paced), p50: {:.1} times", docker.p50() / paced.p50());
        }
        None => println!("  docker run: not measured, no docker CLI on this machine"),
    }
    println!("  assay (paced) / bare exec, p50:  {:.2} times", paced.p50() / bare.p50());

    println!("\n{:<58} {:>9} {:>9}", "ping over an open sandbox, no program", "p50", "p99");
    ping.row("round trip host -> engine -> init and back", None);

    println!("\nstages of the paced runs (ms)                                     p50       p99");
    for stage in ["queue_ms", "lease_ms", "copy_in_ms", "setup_ms", "overhead_ms", "run_ms", "total_ms"] {
        let values = reports.iter().map(|report| report["timing"][stage].as_f64().unwrap()).collect();
        Sample(values).row(stage, None);
    }
    let own =
        |report: &Value| report["timing"]["total_ms"].as_f64().unwrap() - report["run"]["wall_ms"].as_f64().unwrap();
    Sample(reports.iter().map(own).collect()).row("all but the program's own run", None);
    let ready: Vec<f64> = daemon.ready_after(10);
    println!("\nrefill");
    Sample(ready).row("from a lease to a ready replacement (ms)", None);
    println!("  through the pool {rate:.2}/s, raw create + start + remove {raw:.2}/s: {:.2} times", rate / raw);
    drop(caller);
    crowd::all(daemon, raw);
    isolation::all(&root);
    drop(root);
    judging::all();
    hot::all(runs);
}

/// Measurements in milliseconds.
struct Sample(Vec<f64>);

impl Sample {
    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1]
    }
    fn p50(&self) -> f64 {
        self.at(0.5)
    }
    /// The one with the lower median: the peer gets its best.
    fn better(self, other: Sample) -> Sample {
        if self.p50() <= other.p50() { self } else { other }
    }
    fn row(&self, name: &str, peer: Option<&Sample>) {
        let ratio = peer.map(|peer| format!("{:>8.2}x", self.p50() / peer.p50())).unwrap_or_default();
        println!("  {name:<56} {:>9.3} {:>9.3} {ratio}", self.p50(), self.at(0.99));
    }
}

fn measure(runs: usize, pause: Duration, mut one: impl FnMut()) -> Sample {
    let mut values = Vec::with_capacity(runs);
    for _ in 0..runs {
        let begun = Instant::now();
        one();
        values.push(begun.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(pause.saturating_sub(begun.elapsed()));
    }
    Sample(values)
}

struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Daemon {
        Daemon::start_with(4, 8, "")
    }

    /// With these levels, and more configuration.
    fn start_with(floor: usize, ceiling: usize, more: &str) -> Daemon {
        let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
        Daemon::start_profiles(&profiles, "python", floor, ceiling, more)
    }

    /// With profiles of one's own.
    fn start_profiles(profiles: &Path, names: &str, floor: usize, ceiling: usize, more: &str) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = folder.path().join("assayd.toml");
        std::fs::write(&config, more).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(crate::programs::program("assayd"))
            .arg("--config")
            .arg(config)
            .env("ASSAY_IMAGES_DIR", root.join("images"))
            .env("ASSAY_PROFILES_DIR", profiles)
            .env("ASSAY_SOCKET", folder.path().join("assay.sock"))
            .env("ASSAY_STATE_DIR", folder.path().join("state"))
            .env("ASSAY_INSTANCE", "bench")
            .env("ASSAY_PROFILES", names)
            .env("ASSAY_POOL_FLOOR", floor.to_string())
            .env("ASSAY_POOL_CEILING", ceiling.to_string())
            .env("ASSAY_UID_BASE", "47000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Daemon { child, folder }
    }

    /// Ends it without an answer to anybody; its reaper cleans up.
    fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::thread::sleep(Duration::from_secs(3));
    }

    fn caller(&self) -> Caller {
        let begun = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(self.folder.path().join("assay.sock")) {
                let mut caller =
                    Caller { writer: stream.try_clone().unwrap(), reader: BufReader::new(stream), next: 0 };
                caller.line();
                return caller;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the daemon does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Milliseconds from a lease of the whole shelf's last sandbox to a full shelf again, one sandbox at a time.
    fn ready_after(&self, runs: usize) -> Vec<f64> {
        let mut caller = self.caller();
        (0..runs)
            .map(|_| {
                caller.warm();
                let begun = Instant::now();
                caller.print_one();
                caller.warm();
                begun.elapsed().as_secs_f64() * 1e3
            })
            .collect()
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

struct Caller {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    next: u64,
}

impl Caller {
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn send(&mut self, method: &str, params: &Value) -> u64 {
        self.next += 1;
        let line = json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        self.writer.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.next
    }

    fn ok(&mut self, method: &str, params: Value) -> Value {
        self.send(method, &params);
        loop {
            let line = self.line();
            if line["id"] == self.next {
                assert!(line.get("error").is_none(), "{method}: {line}");
                return line["result"].clone();
            }
        }
    }

    fn warm(&mut self) {
        loop {
            let pools = self.ok("pool.list", json!({}));
            let pool = &pools["pools"][0];
            if pool["ready"] == pool["floor"] && pool["creating"] == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn print_one(&mut self) -> Value {
        let files = json!([{ "path": "main.py", "content": CODE }]);
        let report = self.ok("submission.run", json!({ "language": "python", "preset": "judge", "files": files }));
        assert_eq!((&report["verdict"], &report["run"]["stdout"]), (&json!("accepted"), &json!("1\n")), "{report}");
        report
    }

    fn created(&mut self) -> u64 {
        self.ok("pool.list", json!({}))["pools"][0]["created"].as_u64().unwrap()
    }
}

/// Sandboxes per second through the pool, while four callers take each as soon as it is ready.
fn refill_rate(daemon: &Daemon) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (mut caller, stop) = (daemon.caller(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    caller.print_one();
                }
            })
        })
        .collect();
    let mut caller = daemon.caller();
    std::thread::sleep(Duration::from_secs(3));
    let (begun, before) = (Instant::now(), caller.created());
    std::thread::sleep(Duration::from_secs(12));
    let rate = (caller.created() - before) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().unwrap();
    }
    rate
}

/// A runtime for what uses the library itself.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

fn plan(image_id: String, slot: u32) -> sandbox::policy::SandboxPlan {
    sandbox::policy::SandboxPlan {
        image_id,
        instance: format!("bench-{}", std::process::id()),
        profile: "python".to_owned(),
        slot,
        uid: 52_000 + slot,
        isolation: protocol::Isolation::Split,
        runtime: None,
        apparmor: None,
        limits: protocol::Preset::Judge.limits(),
        overheads: sandbox::policy::MemoryOverheads::default(),
        network_disabled: true,
    }
}

/// The image that sandboxes are created from, with the init in it.
async fn layered(client: &docker::Client) -> String {
    let images = client.list_images(&docker::Filters::new().with("label", "assay.image")).await.unwrap();
    let newest = images.into_iter().filter(|image| image.repo_tags.iter().any(|tag| tag.starts_with("assay/sandbox:")));
    newest.max_by_key(|image| image.created).unwrap().id
}

/// Create, start and remove of the same spec by the bare client, two at a time like the pool: per second.
fn raw_rate(_: &Daemon) -> f64 {
    block_on(async {
        let client = docker::Client::unix(docker::DEFAULT_SOCKET);
        let image = layered(&client).await;
        let stop = Instant::now() + Duration::from_secs(12);
        let begun = Instant::now();
        let lanes = (0..2).map(|lane| {
            let (client, image) = (client.clone(), image.clone());
            async move {
                let mut count = 0;
                while Instant::now() < stop {
                    let approved =
                        sandbox::policy::approve(sandbox::policy::build(&plan(image.clone(), lane))).unwrap();
                    let name = format!("assay-bench-{}-{lane}-{count}", std::process::id());
                    let created = client.create_container(&name, approved.spec()).await.unwrap();
                    let stream = client.attach(&created.id).await.unwrap();
                    client.start_container(&created.id).await.unwrap();
                    drop(stream);
                    client.remove_container(&created.id, true).await.unwrap();
                    count += 1;
                }
                count
            }
        });
        let count: usize = futures_util::future::join_all(lanes).await.into_iter().sum();
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        tokio::time::sleep(Duration::from_secs(2)).await;
        rate
    })
}

fn ping(_: &Daemon, runs: usize) -> Sample {
    block_on(async {
        let client = docker::Client::unix(docker::DEFAULT_SOCKET);
        let image = layered(&client).await;
        let slots = sandbox::lifecycle::Slots::new(46_900, 1);
        let slot = slots.take(format!("assay-bench-ping-{}", std::process::id())).unwrap();
        let plan = plan(image, 0);
        let recipe = sandbox::lifecycle::CreateOptions {
            approved: sandbox::policy::approve(sandbox::policy::build(&plan)).unwrap(),
            limits: plan.limits,
            isolation: plan.isolation,
            overheads: sandbox::policy::MemoryOverheads::default(),
            slot,
            prewarm: Vec::new(),
        };
        let sandbox = sandbox::lifecycle::create(&client, recipe).await.unwrap();
        let mut values = Vec::with_capacity(runs);
        for _ in 0..runs {
            let begun = Instant::now();
            sandbox.ping().await.unwrap();
            values.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        drop(sandbox);
        sandbox::lifecycle::sweep(&client, &plan.instance, None).await.unwrap();
        Sample(values)
    })
}

/// The image's root file system, unpacked.
struct Root(PathBuf);

impl Root {
    fn export(image: &str) -> Root {
        let path = std::env::temp_dir().join(format!("assay-bench-root-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let name = format!("assay-bench-export-{}", std::process::id());
        let script = format!(
            "docker create --name {name} {image} true >/dev/null && docker export {name} | tar -C {} -xf - ; docker rm {name} >/dev/null",
            path.display()
        );
        let status = Command::new("sh").arg("-c").arg(script).status().unwrap();
        assert!(status.success());
        std::fs::write(path.join("main.py"), CODE).unwrap();
        Root(path)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A Python of this root file system, executed bare; what it printed.
fn bare_python(root: &Path, words: &[&str]) -> Vec<u8> {
    let root = root.to_owned();
    let mut command = Command::new("/usr/bin/python3");
    let environment: BTreeMap<&str, &str> = BTreeMap::from([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ]);
    command.args(words).env_clear().envs(environment).stdin(Stdio::null());
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::chroot(root.as_path())?;
            nix::unistd::chdir("/")?;
            Ok(())
        })
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn bare(root: &Path) {
    assert_eq!(bare_python(root, &["main.py"]), b"1\n");
}

fn docker_cli() -> bool {
    Command::new("docker").arg("version").output().is_ok_and(|output| output.status.success())
}

fn docker_run(image: &str) {
    let output = Command::new("docker")
        .args(["run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--user", "52000:52000"])
        .args(["--security-opt", "no-new-privileges", "--memory", "256m", "--memory-swap", "256m", "--cpus", "1"])
        .args(["--pids-limit", "64", "--tmpfs", "/box:exec,mode=1777", "--tmpfs", "/tmp", "--log-driver", "none"])
        .args([image, "/usr/bin/python3", "-c", "print(1)"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"1\n", "{output:?}");
}
