//! Runtimes that wait for their programs, beside the same command executed bare in the same root file system, and the rest of
//! what one could do instead: the table of targets, `target/bench/speed.json`, and with `BENCH_PLOT=file.svg` the README's plot.
//!
//! Hot and bare run in turn, one at a time, paced at half the rate at which sandboxes with their runtimes waiting come back, with
//! refill running. What bare takes back to back, with nothing beside it, is shown too.

mod plot;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Caller, Daemon, Root, Sample, docker_run, isolation, measure, throughput};

/// One row of the table.
struct Work {
    title: &'static str,
    profile: &'static str,
    image: &'static str,
    /// The bare commands, one after the other.
    bare: &'static [&'static [&'static str]],
    /// Files of the bare command and of the submission.
    files: &'static [(&'static str, &'static str)],
    /// What it prints, where later tests of one submission are measured too.
    prints: Option<&'static str>,
    /// A suite's file, where it is one.
    suite: Option<(&'static str, &'static str)>,
    /// At most so much of the bare command's time.
    asked: f64,
    /// Of `BENCH_RUNS`, one in so many.
    share: usize,
    /// Whether something waits.
    is_hot: bool,
}

const PYTHON: &[&[&str]] = &[&["/usr/bin/python3", "main.py"]];
const HELLO_CPP: &str = "#include <bits/stdc++.h>\nint main() { std::cout << \"hello\\n\"; }\n";
const HELLO_JAVA: &str =
    "public class Main { public static void main(String[] args) { System.out.println(\"hello\"); } }\n";

const TABLE: &[Work] = &[
    Work {
        title: "Python print(1)",
        profile: "python",
        image: "python",
        bare: PYTHON,
        files: &[("main.py", "print(1)\n")],
        prints: Some("1\n"),
        suite: None,
        asked: 0.35,
        share: 1,
        is_hot: true,
    },
    Work {
        title: "Python that imports numpy",
        profile: "python-numpy",
        image: "python",
        bare: PYTHON,
        files: &[("main.py", "import numpy\nprint(numpy.arange(5).sum())\n")],
        prints: Some("10\n"),
        suite: None,
        asked: 0.10,
        share: 3,
        is_hot: true,
    },
    Work {
        title: "pytest with one trivial test",
        profile: "python-pytest",
        image: "python",
        bare: &[&["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_one.py"]],
        files: &[("one.py", "def one(): return 1\n")],
        prints: None,
        suite: Some(("test_one.py", "from one import one\ndef test_one(): assert one() == 1\n")),
        asked: 0.30,
        share: 4,
        is_hot: true,
    },
    Work {
        title: "node console.log(1)",
        profile: "javascript",
        image: "javascript",
        bare: &[&["/usr/bin/node", "main.js"]],
        files: &[("main.js", "console.log(1)\n")],
        prints: Some("1\n"),
        suite: None,
        asked: 0.40,
        share: 4,
        is_hot: true,
    },
    Work {
        title: "Java hello, compile and run",
        profile: "java",
        image: "java",
        bare: &[
            &[
                "/usr/bin/javac",
                "-J-XX:+UseSerialGC",
                "-J-XX:TieredStopAtLevel=1",
                "-encoding",
                "UTF-8",
                "-d",
                ".",
                "Main.java",
            ],
            &[
                "/usr/bin/java",
                "-XX:+UseSerialGC",
                "-XX:-UsePerfData",
                "-XX:MaxRAMPercentage=70",
                "-Xss64m",
                "-cp",
                ".",
                "Main",
            ],
        ],
        files: &[("Main.java", HELLO_JAVA)],
        prints: None,
        suite: None,
        asked: 0.35,
        share: 10,
        is_hot: true,
    },
    Work {
        title: "C++ with bits/stdc++.h, compile and run",
        profile: "cpp",
        image: "cpp",
        bare: &[&["/usr/bin/g++", "-O2", "-std=c++20", "-o", "main", "main.cpp"], &["./main"]],
        files: &[("main.cpp", HELLO_CPP)],
        prints: None,
        suite: None,
        asked: 0.50,
        share: 10,
        is_hot: false,
    },
];

impl Work {
    /// The `n`th submission: none is like another, so nothing was compiled before.
    fn submission(&self, n: usize, prewarm: bool) -> Value {
        let comment =
            if self.image == "java" || self.image == "cpp" { format!("// {n} {prewarm}\n") } else { String::new() };
        let file = |(path, content): &(&str, &str)| json!({ "path": path, "content": format!("{content}{comment}") });
        let files: Vec<Value> = self.files.iter().map(file).collect();
        let mut work = json!({ "language": self.profile, "files": files, "prewarm": prewarm });
        if let Some((path, content)) = self.suite {
            work["suite"] = json!({ "format": "pytest", "files": [{ "path": path, "content": content }] });
        }
        work
    }

    /// The same by nobody but the kernel; on `one_cpu`, as a sandbox of the profiles has.
    fn bare(&self, root: &Path, one_cpu: bool) {
        let environment: BTreeMap<&str, &str> = BTreeMap::from([
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ]);
        for words in self.bare {
            let root = root.to_owned();
            // a JVM finds its libraries by /proc
            let wants_proc = self.image == "java";
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).env_clear().envs(&environment).stdin(Stdio::null());
            // SAFETY: only system calls between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    if one_cpu {
                        let mut first = nix::sched::CpuSet::new();
                        first.set(0)?;
                        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &first)?;
                    }
                    if wants_proc {
                        use nix::mount::MsFlags;
                        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
                        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
                    }
                    nix::unistd::chroot(root.as_path())?;
                    if wants_proc {
                        nix::mount::mount(
                            Some("proc"),
                            "/proc",
                            Some("proc"),
                            nix::mount::MsFlags::empty(),
                            None::<&str>,
                        )?;
                    }
                    nix::unistd::chdir("/work")?;
                    Ok(())
                })
            };
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }
}

/// Everything that is known of a row.
struct Row {
    work: &'static Work,
    /// Back to back.
    back_to_back: Sample,
    /// Turn by turn with the hot ones.
    bare: Sample,
    /// Turn by turn with the warm ones.
    beside_warm: Sample,
    /// The same on one CPU.
    alone: Sample,
    hot: Sample,
    /// Of the hot ones, from the order to the end: the program itself.
    program: Sample,
    warm: Sample,
    /// Of the warm ones, the same.
    warm_program: Sample,
    /// The median of the cold tests that follow one, from the order to the end: their sandbox has read everything before.
    again: Option<f64>,
    /// Each further test of a submission, in milliseconds.
    later: Option<f64>,
    hot_count: usize,
    memory_bytes: u64,
    /// From one run to the next.
    pause: Duration,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.hot.p50() / self.bare.p50()
    }
}

fn pool(caller: &mut Caller) -> Value {
    caller.ok("pool.list", json!({}))["pools"][0].clone()
}

/// Tests of a submission beyond the first, where those are measured.
const MORE: usize = 10;

/// Waits until every sandbox that shall have its runtimes waiting has them.
fn heated(caller: &mut Caller, is_hot: bool) -> u64 {
    loop {
        let pool = pool(caller);
        assert!(pool["hot_failed"].is_null(), "{pool}");
        let wanted = if is_hot { 2 } else { 0 };
        if pool["ready"] == pool["floor"] && pool["creating"] == 0 && pool["hot"].as_u64() >= Some(wanted) {
            return pool["hot_bytes"].as_u64().unwrap_or_default();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Each of them in its turn, so many times.
fn in_turn<const N: usize>(runs: usize, pause: Duration, mut all: [&mut dyn FnMut(); N]) -> [Sample; N] {
    let mut values = [const { Vec::new() }; N];
    for _ in 0..runs {
        for (one, values) in all.iter_mut().zip(&mut values) {
            values.extend(measure(1, pause, one).0);
        }
    }
    values.map(Sample)
}

fn row(work: &'static Work, runs: usize, root: &Path) -> Row {
    let runs = (runs / work.share).max(10);
    let folder = root.join("work");
    std::fs::create_dir_all(&folder).unwrap();
    for (path, content) in work.files.iter().chain(&work.suite) {
        std::fs::write(folder.join(path), content).unwrap();
    }
    let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
    let daemon = Daemon::start_profiles(&profiles, work.profile, 2, 8, "");
    let mut caller = daemon.caller();
    let memory_bytes = heated(&mut caller, work.is_hot);
    let mut n = 0;
    let mut judge = |caller: &mut Caller, prewarm: bool| {
        n += 1;
        let report = caller.ok("submission.run", work.submission(n, prewarm));
        assert_eq!(report["verdict"], "accepted", "{report:#}");
        report
    };
    // from one to the next: two sandboxes are hot, one is taken
    let begun = Instant::now();
    for _ in 0..3 {
        judge(&mut caller, true);
        heated(&mut caller, work.is_hot);
    }
    let pause = begun.elapsed() / 3 * 2;
    let mut hot_count = 0;
    let wall = |run: &Value| run["wall_ms"].as_f64().unwrap_or_default();
    let programs = |report: &Value| wall(&report["compile"]) + wall(&report["run"]);
    let mut program = Vec::new();
    let (mut bare, mut bare_alone) = (|| work.bare(root, false), || work.bare(root, true));
    let mut judged = || {
        let report = judge(&mut caller, true);
        hot_count += usize::from(report["start"] == "hot");
        program.push(programs(&report));
    };
    let [hot, bare_paced] = in_turn(runs, pause, [&mut judged, &mut bare]);
    let program = Sample(program);
    let many = |caller: &mut Caller, prints: &str, prewarm: bool| {
        let tests = vec![json!({ "stdin": "", "expect": prints }); MORE + 1];
        let mut submission = work.submission(0, prewarm);
        (submission["tests"], submission["stop"]) = (json!(tests), json!("never"));
        let report = caller.ok("submission.run", submission);
        assert_eq!(report["verdict"], "accepted", "{report:#}");
        report
    };
    let later = work.prints.map(|prints| {
        heated(&mut caller, work.is_hot);
        let many = measure((runs / 5).max(10), pause, || drop(many(&mut caller, prints, true)));
        (many.p50() - hot.p50()) / MORE as f64
    });
    drop(daemon);
    // nothing waits there; where something does, ending it would be a part of what is measured
    let folder = isolation::profiles(&[(work.profile, work.profile, "", "hot = 0")]);
    let daemon = Daemon::start_profiles(folder.path(), work.profile, 2, 8, "");
    let mut caller = daemon.caller();
    heated(&mut caller, false);
    let mut warm_program = Vec::new();
    let mut judged = || {
        let report = judge(&mut caller, false);
        assert_eq!(report["start"], "warm");
        warm_program.push(programs(&report));
    };
    let [warm, beside_warm, alone] = in_turn((runs / 3).max(5), pause, [&mut judged, &mut bare, &mut bare_alone]);
    let again = work.prints.map(|prints| {
        let report = many(&mut caller, prints, false);
        Sample(report["tests"].as_array().unwrap().iter().skip(1).map(wall).collect()).p50()
    });
    drop(daemon);
    let back_to_back = measure(runs, Duration::ZERO, bare);
    Row {
        work,
        pause,
        back_to_back,
        bare: bare_paced,
        beside_warm,
        alone,
        hot,
        program,
        warm,
        warm_program: Sample(warm_program),
        again,
        later,
        hot_count,
        memory_bytes,
    }
}

/// Whether this part is wanted: `BENCH_WORK` has a word of its title, or is not set.
fn is_wanted(title: &str) -> bool {
    std::env::var("BENCH_WORK").map_or(true, |word| title.contains(&word))
}

pub fn all(runs: usize) {
    let mut rows: Vec<Row> = Vec::new();
    head();
    let mut python = None;
    for images in TABLE.chunk_by(|a, b| a.image == b.image) {
        if !images.iter().any(|work| is_wanted(work.title)) {
            continue;
        }
        let image = {
            let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
            let daemon = Daemon::start_profiles(&profiles, images[0].profile, 0, 1, "");
            let mut caller = daemon.caller();
            caller.ok("image.build", json!({ "profile": images[0].profile }));
            caller.ok("image.list", json!({}))["images"][0]["tag"].as_str().unwrap().to_owned()
        };
        let root = Root::export(&image);
        // beside a compiler as Debian gives it
        let _ = Command::new("sh").arg("-c").arg(format!("rm -rf $(find {} -name '*.gch')", root.0.display())).status();
        for work in images.iter().filter(|work| is_wanted(work.title)) {
            rows.push(row(work, runs, &root.0));
            rows[rows.len() - 1].print();
        }
        if images[0].image == "python"
            && let Some(first) = rows.first()
        {
            let (end, bare) = (python_end(&root.0, runs).p50(), first.back_to_back.p50());
            println!(
                "  a Python's own end where what it loaded is frozen, executed bare: {end:.1} ms, {:.2} of bare",
                end / bare
            );
        }
        if images[0].image == "python" && is_wanted("docker") {
            let with_docker = super::docker_cli().then(|| {
                let (runs, pause) = ((runs / 4).max(10), rows.first().map_or(Duration::ZERO, |row| row.pause));
                (measure(runs, pause, || docker_run(&image)), docker_exec(&image, runs, pause))
            });
            python = with_docker;
        }
    }
    if let (Some(docker), Some(first)) = (&python, rows.first()) {
        print_docker(docker, &first.hot);
    }
    let crowd = is_wanted("throughput").then(throughput::all);
    let idle = is_wanted("idle").then(idle);
    let mut value = value(&rows, python.as_ref());
    value["throughput"] = json!(crowd);
    value["idle_mib"] = json!(idle);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("speed.json"), format!("{value:#}\n")).unwrap();
    println!("  figures: target/bench/speed.json");
    if let Some(file) = std::env::var_os("BENCH_PLOT") {
        std::fs::write(&file, plot::bars(&rows, python.as_ref())).unwrap();
        println!("  plot: {}", file.to_string_lossy());
    }
}

/// From the last statement of a Python program to its being gone, executed bare, with what was loaded frozen as in a hot one: the
/// interpreter takes itself apart, the kernel takes its memory back.
fn python_end(root: &Path, runs: usize) -> Sample {
    const CODE: &str = "import gc, time; gc.collect(); gc.freeze(); print(time.clock_gettime_ns(time.CLOCK_MONOTONIC))";
    let end = |_| {
        let output = super::bare_python(root, &["-c", CODE]);
        let now = Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap());
        let said: u64 = String::from_utf8(output).unwrap().trim().parse().unwrap();
        (now - Duration::from_nanos(said)).as_secs_f64() * 1e3
    };
    Sample((0..runs).map(end).collect())
}

/// What an idle sandbox holds, in MiB: warm, and with a Python waiting in it.
fn idle() -> BTreeMap<&'static str, f64> {
    println!("\nan idle sandbox of python's holds, all in all (MiB)");
    let mut all = BTreeMap::new();
    for (name, pool) in [("warm", "hot = 0"), ("hot", "hot = 4")] {
        let folder = isolation::profiles(&[("python", "python", "isolation = 'cell'", pool)]);
        let daemon = Daemon::start_profiles(folder.path(), "python", 4, 4, "");
        let mut caller = daemon.caller();
        caller.warm();
        std::thread::sleep(Duration::from_secs(1));
        let ids = caller.ok("sandbox.list", json!({}))["sandboxes"].as_array().unwrap().clone();
        let held: Vec<f64> = ids
            .iter()
            .filter_map(|sandbox| {
                let output = Command::new("docker")
                    .args(["stats", "--no-stream", "--format", "{{.MemUsage}}", sandbox["id"].as_str()?])
                    .output()
                    .ok()?;
                let text = String::from_utf8(output.stdout).ok()?;
                let word = text.split(" / ").next()?.trim().to_owned();
                let number = |unit: &str| word.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
                number("MiB").or_else(|| number("KiB").map(|kib| kib / 1024.0))
            })
            .collect();
        let mean = held.iter().sum::<f64>() / held.len().max(1) as f64;
        println!("  {name:<6} {mean:.2}");
        all.insert(name, mean);
    }
    all
}

/// `docker exec` into a container that runs already: no isolation between one and the next.
fn docker_exec(image: &str, runs: usize, pause: Duration) -> Sample {
    let name = format!("assay-bench-exec-{}", std::process::id());
    let docker = |words: &[&str]| Command::new("docker").args(words).output().unwrap();
    let sleep = ["run", "-d", "--rm", "--network", "none", "--name", &name, image, "sleep", "600"];
    assert!(docker(&sleep).status.success());
    let sample = measure(runs, pause, || {
        let output = docker(&["exec", &name, "/usr/bin/python3", "-c", "print(1)"]);
        assert_eq!(output.stdout, b"1\n");
    });
    docker(&["rm", "-f", &name]);
    sample
}

fn head() {
    println!("\nruntimes that wait (ms), paced at half their rate, with refill running");
    let columns = ["bare", "warm", "hot p50", "p95", "p99", "ratio", "asked"].map(|column| format!("{column:>8}"));
    println!("  {:<40} {}", "", columns.join(" "));
}

impl Row {
    fn print(&self) {
        let Work { title, asked, is_hot, .. } = self.work;
        let verdict = if self.ratio() <= *asked { "reached" } else { "NOT REACHED" };
        let (hot, ratio) = (&self.hot, self.ratio());
        println!(
            "  {title:<40} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {ratio:>8.3} {asked:>8.2} {verdict}",
            self.bare.p50(),
            self.warm.p50(),
            hot.p50(),
            hot.at(0.95),
            hot.at(0.99),
        );
        if *is_hot {
            let (count, all, mib) = (self.hot_count, hot.0.len(), self.memory_bytes as f64 / f64::from(1 << 20));
            let rate = 1.0 / self.pause.as_secs_f64();
            println!("    {count} of {all} hot, one run at {rate:.1}/s; a sandbox holds {mib:.1} MiB for it");
        }
        if self.program.p50() > 0.0 {
            let (all, program) = (self.hot.p50(), self.program.p50());
            println!(
                "    of it the program itself, from its order to its end, {program:.1} ms; all of assay {:.1}",
                all - program
            );
        }
        let back_to_back = self.back_to_back.p50();
        println!("    bare back to back: {back_to_back:.1} ms, {:.3}", hot.p50() / back_to_back);
        let (warm, program, bare) = (self.warm.p50(), self.warm_program.p50(), self.beside_warm.p50());
        println!(
            "    warm, not hot (asked +2): {:+.1} ms to bare at the same pace, {:+.1} to the same on one CPU, {:+.1} to back to back",
            warm - bare,
            warm - self.alone.p50(),
            warm - back_to_back
        );
        if program > 0.0 {
            println!(
                "      of it assay {:.1}; the program {:+.1} to bare at the same pace",
                warm - program,
                program - bare
            );
        }
        if let Some(again) = self.again {
            println!(
                "      the program where it has run before: {:+.1} to its first run in a sandbox",
                again - program
            );
        }
        if let Some(later) = self.later {
            println!("    each further test of a submission: {later:.1} ms, {:.3} of bare", later / self.bare.p50());
        }
    }
}

fn print_docker(docker: &(Sample, Sample), hot: &Sample) {
    for (name, sample, asked) in
        [("docker run", &docker.0, " (asked 60)"), ("docker exec into one that runs", &docker.1, "")]
    {
        println!("  {name:<40} {:>8.1} {:>8.1} times hot Python{asked}", sample.p50(), sample.p50() / hot.p50());
    }
}

fn value(rows: &[Row], docker: Option<&(Sample, Sample)>) -> Value {
    let sample = |sample: &Sample| json!({ "p50_ms": sample.p50(), "p95_ms": sample.at(0.95), "p99_ms": sample.at(0.99), "runs": sample.0.len() });
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "work": row.work.title, "profile": row.work.profile, "bare": sample(&row.bare), "bare_back_to_back": sample(&row.back_to_back), "bare_beside_warm": sample(&row.beside_warm), "bare_beside_warm_one_cpu": sample(&row.alone), "warm": sample(&row.warm), "warm_program": sample(&row.warm_program), "program_again_ms": row.again,
                "hot": sample(&row.hot), "hot_program": sample(&row.program), "later_test_ms": row.later, "hot_runs": row.hot_count, "ratio": row.ratio(), "asked": row.work.asked,
                "hot_bytes": row.memory_bytes, "per_second": 1.0 / row.pause.as_secs_f64(),
            })
        })
        .collect();
    json!({
        "rows": rows,
        "docker_run": docker.map(|(run, _)| sample(run)),
        "docker_exec": docker.map(|(_, exec)| sample(exec)),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
    })
}
