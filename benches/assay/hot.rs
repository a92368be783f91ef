//! Hot runtimes against the same command executed bare in the same root file system.
//!
//! Hot and bare runs alternate, one at a time, at half the rate at which hot sandboxes are
//! refilled. Figures go to `target/bench/speed.json`. Bare times back to back, without refill, are
//! shown too.

mod plot;
pub mod workloads;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bare::{RootFs, bare_python, docker_exec, docker_run, has_docker_cli};
use crate::daemon::{Caller, Daemon, DaemonOptions, ProfileCopy, SINGLE_USE, write_profiles};
use crate::sample::{Sample, measure, measure_in_turn};
use crate::{HotOptions, root, throughput};
use workloads::{WORKLOADS, Workload};

/// The measurements of one workload.
struct WorkloadResult {
    workload: &'static Workload,
    /// Bare, back to back.
    bare_back_to_back: Sample,
    /// Bare, alternating with hot.
    bare: Sample,
    /// Bare, alternating with warm.
    bare_beside_warm: Sample,
    /// The same on one CPU.
    bare_one_cpu: Sample,
    hot: Sample,
    /// The program's own time in hot runs, from its start to its end.
    hot_program: Sample,
    warm: Sample,
    /// The program's own time in warm runs.
    warm_program: Sample,
    /// Median time of the program in tests after the first, without hot runtimes: its files are in
    /// the page cache.
    program_again: Option<f64>,
    /// Time of each further test of a submission in milliseconds.
    further_test: Option<f64>,
    hot_runs: usize,
    /// Memory of a hot sandbox.
    hot_bytes: u64,
    /// Time between the starts of two runs.
    interval: Duration,
}

impl WorkloadResult {
    fn ratio(&self) -> f64 {
        self.hot.p50() / self.bare.p50()
    }
}

/// Tests of a submission beyond the first, where those are measured.
const FURTHER_TESTS: usize = 10;

/// Runs the workload's `n`th submission, which must be accepted.
fn judge(caller: &mut Caller, workload: &Workload, n: &mut usize, prewarm: bool) -> Value {
    *n += 1;
    let report = caller.call("submission.run", workload.submission(*n, prewarm));
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    report
}

/// Runs a submission with further tests.
fn judge_further(caller: &mut Caller, workload: &Workload, prints: &str, prewarm: bool) -> Value {
    let tests = vec![json!({ "stdin": "", "expect": prints }); FURTHER_TESTS + 1];
    let mut submission = workload.submission(0, prewarm);
    (submission["tests"], submission["stop"]) = (json!(tests), json!("never"));
    let report = caller.call("submission.run", submission);
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    report
}

/// Wall time of a run as the report has it; 0 if it did not happen.
fn wall_ms(run: &Value) -> f64 {
    run["wall_ms"].as_f64().unwrap_or_default()
}

/// Wall time of compile and run together.
fn program_ms(report: &Value) -> f64 {
    wall_ms(&report["compile"]) + wall_ms(&report["run"])
}

fn measure_workload(workload: &'static Workload, runs: usize, root: &Path) -> WorkloadResult {
    let runs = (runs / workload.share).max(10);
    workload.write_files(root);
    let (mut run_bare, mut run_one_cpu) = (|| workload.run_bare(root, false), || workload.run_bare(root, true));
    let mut n = 0;

    let hot_wanted = if workload.is_hot { 2 } else { 0 };
    let options = DaemonOptions { profiles: workload.profile, floor: 2, ..DaemonOptions::default() };
    let daemon = Daemon::start(&options);
    let mut caller = daemon.caller();
    let hot_bytes = caller.wait_until_hot(hot_wanted);
    let start = Instant::now();
    for _ in 0..3 {
        judge(&mut caller, workload, &mut n, true);
        caller.wait_until_hot(hot_wanted);
    }
    let interval = start.elapsed() / 3 * 2;
    let mut hot_runs = 0;
    let mut hot_program = Vec::new();
    let mut run_hot = || {
        let report = judge(&mut caller, workload, &mut n, true);
        hot_runs += usize::from(report["start"] == "hot");
        hot_program.push(program_ms(&report));
    };
    let [hot, bare] = measure_in_turn(runs, interval, [&mut run_hot, &mut run_bare]);
    let further_test = workload.prints.map(|prints| {
        caller.wait_until_hot(hot_wanted);
        let further =
            measure((runs / 5).max(10), interval, || drop(judge_further(&mut caller, workload, prints, true)));
        (further.p50() - hot.p50()) / FURTHER_TESTS as f64
    });
    drop(daemon);

    // Without hot runtimes: ending an unused one would be part of the warm run.
    let pool = "hot = 0";
    let folder = write_profiles(&[ProfileCopy { name: workload.profile, of: workload.profile, top: "", pool }]);
    let daemon = Daemon::start_with_profiles(folder.path(), workload.profile, 2, 8, SINGLE_USE);
    let mut caller = daemon.caller();
    caller.wait_until_full();
    let mut warm_program = Vec::new();
    let mut run_warm = || {
        let report = judge(&mut caller, workload, &mut n, false);
        assert_eq!(report["start"], "warm");
        warm_program.push(program_ms(&report));
    };
    let [warm, bare_beside_warm, bare_one_cpu] =
        measure_in_turn((runs / 3).max(5), interval, [&mut run_warm, &mut run_bare, &mut run_one_cpu]);
    let program_again = workload.prints.map(|prints| {
        let report = judge_further(&mut caller, workload, prints, false);
        Sample(report["tests"].as_array().unwrap().iter().skip(1).map(wall_ms).collect()).p50()
    });
    drop(daemon);
    WorkloadResult {
        workload,
        bare_back_to_back: measure(runs, Duration::ZERO, run_bare),
        bare,
        bare_beside_warm,
        bare_one_cpu,
        hot,
        hot_program: Sample(hot_program),
        warm,
        warm_program: Sample(warm_program),
        program_again,
        further_test,
        hot_runs,
        hot_bytes,
        interval,
    }
}

pub fn all(runs: usize, options: &HotOptions) {
    let is_wanted = |title: &str| options.work.as_ref().is_none_or(|word| title.contains(word.as_str()));
    let mut results: Vec<WorkloadResult> = Vec::new();
    print_head();
    let mut docker = None;
    for group in WORKLOADS.chunk_by(|a, b| a.image == b.image) {
        if !group.iter().any(|workload| is_wanted(workload.title)) {
            continue;
        }
        let profiles = group[0].profile;
        let daemon = Daemon::start(&DaemonOptions { profiles, floor: 0, ceiling: 1, ..DaemonOptions::default() });
        let image = daemon.caller().image(profiles);
        drop(daemon);
        let root = RootFs::export(&image);
        // The bare compiler has no precompiled header, as in Debian.
        let _ = Command::new("sh").arg("-c").arg(format!("rm -rf $(find {} -name '*.gch')", root.0.display())).status();
        for workload in group.iter().filter(|workload| is_wanted(workload.title)) {
            let result = measure_workload(workload, runs, &root.0);
            result.print();
            results.push(result);
        }
        if group[0].image != "python" {
            continue;
        }
        if let Some(first) = results.first() {
            let (end, bare) = (python_exit(&root.0, runs).p50(), first.bare_back_to_back.p50());
            println!("  a bare Python's exit with frozen objects: {end:.1} ms, {:.2} of bare", end / bare);
        }
        if is_wanted("docker") && has_docker_cli() {
            let runs = (runs / 4).max(10);
            let interval = results.first().map_or(Duration::ZERO, |result| result.interval);
            let run = measure(runs, interval, || docker_run(&image));
            docker = Some((run, docker_exec(&image, runs, interval)));
        }
    }
    if let (Some(docker), Some(first)) = (&docker, results.first()) {
        print_docker(docker, &first.hot);
    }
    let throughput = is_wanted("throughput").then(throughput::all);
    let idle = is_wanted("idle").then(idle_memory);
    let mut figures = figures(&results, docker.as_ref());
    figures["throughput"] = json!(throughput);
    figures["idle_mib"] = json!(idle);
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("speed.json"), format!("{figures:#}\n")).unwrap();
    println!("  figures: target/bench/speed.json");
    if let Some(file) = &options.plot {
        std::fs::write(file, plot::bars(&results, docker.as_ref())).unwrap();
        println!("  plot: {}", file.display());
    }
}

/// Time from the last statement of a bare Python program to its exit, with its objects frozen as in
/// a hot runtime: the interpreter's finalization, and the kernel freeing its memory.
fn python_exit(root: &Path, runs: usize) -> Sample {
    const CODE: &str = "import gc, time; gc.collect(); gc.freeze(); print(time.clock_gettime_ns(time.CLOCK_MONOTONIC))";
    let exit = |_| {
        let output = bare_python(root, &["-c", CODE]);
        let now = Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap());
        let printed: u64 = String::from_utf8(output).unwrap().trim().parse().unwrap();
        (now - Duration::from_nanos(printed)).as_secs_f64() * 1e3
    };
    Sample((0..runs).map(exit).collect())
}

/// Memory of an idle Python sandbox in MiB: warm, and hot.
fn idle_memory() -> BTreeMap<&'static str, f64> {
    println!("\nmemory of an idle Python sandbox (MiB)");
    let mut means = BTreeMap::new();
    for (name, pool) in [("warm", "hot = 0"), ("hot", "hot = 4")] {
        let copy = ProfileCopy { name: "python", of: "python", top: "isolation = 'cell'", pool };
        let folder = write_profiles(&[copy]);
        let daemon = Daemon::start_with_profiles(folder.path(), "python", 4, 4, "");
        let mut caller = daemon.caller();
        caller.wait_until_full();
        std::thread::sleep(Duration::from_secs(1));
        let sandboxes = caller.call("sandbox.list", json!({}))["sandboxes"].as_array().unwrap().clone();
        let used: Vec<f64> = sandboxes.iter().filter_map(|sandbox| container_mib(sandbox["id"].as_str()?)).collect();
        let mean = used.iter().sum::<f64>() / used.len().max(1) as f64;
        println!("  {name:<6} {mean:.2}");
        means.insert(name, mean);
    }
    means
}

/// A container's memory by `docker stats`, in MiB.
fn container_mib(id: &str) -> Option<f64> {
    let args = ["stats", "--no-stream", "--format", "{{.MemUsage}}", id];
    let output = Command::new("docker").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let used = text.split(" / ").next()?.trim().to_owned();
    let number = |unit: &str| used.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    number("MiB").or_else(|| number("KiB").map(|kib| kib / 1024.0))
}

fn print_head() {
    println!("\nhot runtimes (ms), at half the refill rate");
    let columns = ["bare", "warm", "hot p50", "p95", "p99", "ratio", "target"].map(|column| format!("{column:>8}"));
    println!("  {:<40} {}", "", columns.join(" "));
}

impl WorkloadResult {
    fn print(&self) {
        let Workload { title, target, is_hot, .. } = self.workload;
        let reached = if self.ratio() <= *target { "reached" } else { "NOT REACHED" };
        let (hot, ratio) = (&self.hot, self.ratio());
        println!(
            "  {title:<40} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {ratio:>8.3} {target:>8.2} {reached}",
            self.bare.p50(),
            self.warm.p50(),
            hot.p50(),
            hot.quantile(0.95),
            hot.quantile(0.99),
        );
        if *is_hot {
            let (count, all, mib) = (self.hot_runs, hot.0.len(), self.hot_bytes as f64 / f64::from(1 << 20));
            let rate = 1.0 / self.interval.as_secs_f64();
            println!("    {count} of {all} runs hot, {rate:.1} runs/s; {mib:.1} MiB per hot sandbox");
        }
        if self.hot_program.p50() > 0.0 {
            let program = self.hot_program.p50();
            println!("    program {program:.1} ms, assay {:.1} ms", hot.p50() - program);
        }
        let back_to_back = self.bare_back_to_back.p50();
        println!("    bare back to back: {back_to_back:.1} ms, ratio {:.3}", hot.p50() / back_to_back);
        self.print_warm();
        if let Some(further) = self.further_test {
            println!("    each further test: {further:.1} ms, {:.3} of bare", further / self.bare.p50());
        }
    }

    fn print_warm(&self) {
        let (warm, program, bare) = (self.warm.p50(), self.warm_program.p50(), self.bare_beside_warm.p50());
        println!(
            "    warm (target +2): {:+.1} ms to bare at the same pace, {:+.1} to bare on one CPU, {:+.1} to bare back to back",
            warm - bare,
            warm - self.bare_one_cpu.p50(),
            warm - self.bare_back_to_back.p50()
        );
        if program > 0.0 {
            println!("      assay {:.1} ms; program {:+.1} to bare at the same pace", warm - program, program - bare);
        }
        if let Some(again) = self.program_again {
            println!("      program in further tests: {:+.1} to the first", again - program);
        }
    }
}

fn print_docker(docker: &(Sample, Sample), hot: &Sample) {
    for (name, sample, target) in
        [("docker run", &docker.0, " (target 60)"), ("docker exec, container running", &docker.1, "")]
    {
        println!("  {name:<40} {:>8.1} {:>8.1} times hot Python{target}", sample.p50(), sample.p50() / hot.p50());
    }
}

/// All measurements as JSON.
fn figures(results: &[WorkloadResult], docker: Option<&(Sample, Sample)>) -> Value {
    let sample = |sample: &Sample| {
        let (p95, p99) = (sample.quantile(0.95), sample.quantile(0.99));
        json!({ "p50_ms": sample.p50(), "p95_ms": p95, "p99_ms": p99, "runs": sample.0.len() })
    };
    let rows: Vec<Value> = results
        .iter()
        .map(|result| {
            json!({
                "work": result.workload.title,
                "profile": result.workload.profile,
                "bare": sample(&result.bare),
                "bare_back_to_back": sample(&result.bare_back_to_back),
                "bare_beside_warm": sample(&result.bare_beside_warm),
                "bare_beside_warm_one_cpu": sample(&result.bare_one_cpu),
                "warm": sample(&result.warm),
                "warm_program": sample(&result.warm_program),
                "program_again_ms": result.program_again,
                "hot": sample(&result.hot),
                "hot_program": sample(&result.hot_program),
                "further_test_ms": result.further_test,
                "hot_runs": result.hot_runs,
                "ratio": result.ratio(),
                "target": result.workload.target,
                "hot_bytes": result.hot_bytes,
                "per_second": 1.0 / result.interval.as_secs_f64(),
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
