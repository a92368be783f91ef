//! `make bench-crowd`: callers that are processes with connections that they keep, against bare
//! execution of the same files and against go-judge (`GO_JUDGE` names its program; without it its
//! rows are skipped). The daemon has the shipped settings; no tenant is stated.
//!
//! The rows of a table take turns in one run, every output is verified, and the CPU time is that of
//! the whole machine: daemons, engine and refill included.

mod go_judge;
mod process;
mod programs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::bare::RootFs;
use crate::daemon::{Daemon, SINGLE_USE};
use crate::sample::Sample;
use crate::throughput::machine_cpu_ms;
use go_judge::GoJudgeServer;
use process::{Call, CallerProcess, Order, Row, clock};
pub use process::{CallerOptions, caller};
use programs::Program;

#[derive(Args)]
pub struct CallersOptions {
    /// Only these: python, true, true-cpp, cpp, fifty-python, fifty-node, fifty-c, pytest, java,
    /// typescript, open-loop, tenants
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// The go-judge program
    #[arg(long, env = "GO_JUDGE")]
    go_judge: Option<PathBuf>,
    /// Times that each batch is repeated
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a batch that count
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of the open loop
    #[arg(long, default_value_t = 60.0)]
    open_seconds: f64,
    /// Tenants that come once
    #[arg(long, default_value_t = 1000)]
    tenants: usize,
}

/// Seconds before those that count: a full pool serves faster than it can go on.
const RAMP: f64 = 1.0;
const INSTANCE: (&str, u32) = ("bench", 47_000);

pub fn all(options: &CallersOptions) {
    let is_wanted = |name: &str| options.rows.is_empty() || options.rows.iter().any(|row| row == name);
    let programs: Vec<Program> =
        Program::value_variants().iter().copied().filter(|program| is_wanted(&process::name(*program))).collect();
    let mut figures = Vec::new();
    for profile in ["python", "cpp", "javascript", "c", "java", "typescript"] {
        let programs: Vec<Program> = programs.iter().copied().filter(|program| program.profile() == profile).collect();
        let is_python = profile == "python";
        if programs.is_empty() && !(is_python && (is_wanted("open-loop") || is_wanted("tenants"))) {
            continue;
        }
        let daemon = Daemon::start_as_shipped(profile, "", INSTANCE);
        let root = RootFs::export(&daemon.caller().image(profile));
        daemon.caller().wait_until_full();
        let side = Side { options, daemon: &daemon, root: &root.0 };
        for program in programs {
            figures.push(if program.is_closed_loop() { side.closed_loop(program) } else { side.in_turn(program) });
        }
        if is_python && is_wanted("open-loop") {
            figures.push(side.open_loop());
        }
        if is_python && is_wanted("tenants") {
            figures.push(side.tenants());
        }
    }
    let folder = crate::root().join("target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("callers.json"), format!("{:#}\n", json!(figures))).unwrap();
    println!("\nfigures: target/bench/callers.json");
}

/// What the rows are measured on.
struct Side<'a> {
    options: &'a CallersOptions,
    daemon: &'a Daemon,
    root: &'a Path,
}

/// The sums of a row's batches.
#[derive(Default)]
struct Batches {
    runs: f64,
    seconds: f64,
    cpu_ms: f64,
    times: Vec<f64>,
}

impl Batches {
    fn per_second(&self) -> f64 {
        self.runs / self.seconds
    }

    fn cpu_ms_each(&self) -> f64 {
        self.cpu_ms / self.runs
    }

    fn json(&self) -> Value {
        let times = Sample(self.times.clone());
        json!({
            "per_second": self.per_second(), "cpu_ms": self.cpu_ms_each(),
            "p50_ms": times.p50(), "p99_ms": times.quantile(0.99),
        })
    }

    /// A batch of these callers, back to back.
    fn add(&mut self, callers: &mut [CallerProcess], seconds: f64) {
        let begin = clock() + 0.05;
        let (from, until) = (begin + RAMP, begin + RAMP + seconds);
        callers.iter_mut().for_each(|caller| caller.order(&Order::Loop { begin, until }));
        let at = |time: f64| {
            std::thread::sleep(std::time::Duration::from_secs_f64((time - clock()).max(0.0)));
            machine_cpu_ms()
        };
        let (before, after) = (at(from), at(until));
        for call in callers.iter_mut().flat_map(CallerProcess::answer) {
            let inside = call.end.min(until) - call.begin.max(from);
            if inside > 0.0 {
                self.runs += inside / (call.end - call.begin);
                self.times.push(call.ms());
            }
        }
        self.seconds += seconds;
        self.cpu_ms += after - before;
    }
}

/// A ratio and its goal.
fn judged(ratio: f64, goal: f64, is_reached: bool) -> String {
    format!("{ratio:.2} (goal {goal}{})", if is_reached { "" } else { ", NOT REACHED" })
}

fn at_least(ratio: f64, goal: f64) -> String {
    judged(ratio, goal, ratio >= goal)
}

fn at_most(ratio: f64, goal: f64) -> String {
    judged(ratio, goal, ratio <= goal)
}

impl Side<'_> {
    fn callers(&self, row: Row, program: Program, at: &Path, count: usize) -> Vec<CallerProcess> {
        let _ = self;
        let mut callers: Vec<_> = (0..count).map(|_| CallerProcess::start(row, program, at, false)).collect();
        // connects, prepares and warms up
        callers.iter_mut().for_each(|caller| {
            caller.once();
        });
        callers
    }

    /// One, two and four callers back to back, row by row in turn.
    fn closed_loop(&self, program: Program) -> Value {
        let mut rows = vec![(Row::Bare, "bare exec", self.callers(Row::Bare, program, self.root, 4))];
        let go_judge = self.options.go_judge.as_ref().map(|path| GoJudgeServer::start(path, self.root));
        if let Some(server) = &go_judge {
            rows.push((Row::GoJudge, "go-judge", self.callers(Row::GoJudge, program, server.address(), 4)));
        }
        rows.push((Row::Assay, "assay", self.callers(Row::Assay, program, &self.daemon.socket(), 4)));
        let mut batches: BTreeMap<(usize, &str), Batches> = BTreeMap::new();
        for _ in 0..self.options.rounds {
            for count in [1, 2, 4] {
                for (_, name, callers) in &mut rows {
                    let batch = batches.entry((count, name)).or_default();
                    batch.add(&mut callers[..count], self.options.seconds);
                }
            }
        }
        println!("\n{}", program.title());
        println!("  {:<22} {:>10} {:>10} {:>8} {:>8}", "", "per second", "CPU ms", "p50", "p99");
        let mut figures = Vec::new();
        for ((count, name), batch) in &batches {
            let (times, plural) = (Sample(batch.times.clone()), if *count > 1 { "s" } else { "" });
            println!(
                "  {:<22} {:>10.1} {:>10.2} {:>8.2} {:>8.2}",
                format!("{count} caller{plural}, {name}"),
                batch.per_second(),
                batch.cpu_ms_each(),
                times.p50(),
                times.quantile(0.99)
            );
            figures.push(json!({ "callers": count, "row": name, "figures": batch.json() }));
        }
        if go_judge.is_none() {
            println!("  skipped: go-judge (GO_JUDGE names no program)");
        }
        compare(program, &batches);
        json!({ "program": program.title(), "rows": figures })
    }

    /// Bare and assay in turn, each with as many callers as the row has.
    fn in_turn(&self, program: Program) -> Value {
        let (count, goal) = match program {
            Program::FiftyPython => (1, 0.6),
            Program::FiftyNode => (1, 0.7),
            Program::FiftyC => (1, 1.4),
            Program::Pytest => (1, 0.3),
            Program::Java => (2, 0.6),
            _ => (2, 0.4),
        };
        let mut bare = self.callers(Row::Bare, program, self.root, count);
        let mut ours = self.callers(Row::Assay, program, &self.daemon.socket(), count);
        let (mut bare_ms, mut ours_ms) = (Vec::new(), Vec::new());
        if count > 1 {
            let (mut of_bare, mut of_ours) = (Batches::default(), Batches::default());
            for _ in 0..self.options.rounds {
                of_bare.add(&mut bare, 3.0 * self.options.seconds);
                of_ours.add(&mut ours, 3.0 * self.options.seconds);
            }
            (bare_ms, ours_ms) = (of_bare.times, of_ours.times);
        } else {
            for _ in 0..5 * self.options.rounds {
                bare_ms.push(bare[0].once().ms());
                // paced: the caller thinks between two calls
                std::thread::sleep(std::time::Duration::from_millis(300));
                ours_ms.push(ours[0].once().ms());
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
        }
        let (bare, ours) = (Sample(bare_ms), Sample(ours_ms));
        let pace = if count > 1 { "back to back" } else { "paced" };
        println!("\n{} ({count} at a time, {pace}; ms)", program.title());
        bare.print("bare", None);
        ours.print("assay", None);
        println!("  assay to bare: {}", at_most(ours.p50() / bare.p50(), goal));
        json!({ "program": program.title(), "bare_ms": bare.p50(), "assay_ms": ours.p50(), "goal": goal })
    }

    /// Arrivals at random times, at 0.7 of what four callers get back to back.
    fn open_loop(&self) -> Value {
        let program = Program::Python;
        let mut callers = self.callers(Row::Assay, program, &self.daemon.socket(), 4);
        let mut idle = Vec::new();
        for _ in 0..40 {
            std::thread::sleep(std::time::Duration::from_millis(200));
            idle.push(callers[0].once().ms());
        }
        let mut capacity = Batches::default();
        capacity.add(&mut callers, 2.0 * self.options.seconds);
        let rate = 0.7 * capacity.per_second();
        let mut time = clock() + 1.0;
        let (end, mut times) = (time + self.options.open_seconds, Vec::new());
        let mut random = Random(clock().to_bits());
        while time < end {
            time -= random.uniform().ln() / rate;
            times.push(time);
        }
        callers[0].order(&Order::At(times));
        let calls: Vec<Call> = callers[0].answer();
        let (open, idle) = (Sample(calls.iter().map(|call| call.ms()).collect()), Sample(idle));
        println!("\nopen loop: Python print(1), {rate:.0} arrivals a second, {:.0} s (ms)", self.options.open_seconds);
        idle.print("idle, one at a time", None);
        open.print("open loop", None);
        let (p50, p99) = (open.p50() / idle.p50(), open.quantile(0.99) / idle.p50());
        println!("  p50 to idle p50: {}; p99: {}", at_most(p50, 1.5), at_most(p99, 4.0));
        json!({ "program": "open loop", "rate": rate, "p50_to_idle": p50, "p99_to_idle": p99 })
    }

    /// Tenants that come once each, by four callers, against the same without reuse.
    fn tenants(&self) -> Value {
        let single = Daemon::start_as_shipped("python", SINGLE_USE, ("bench-single", 49_000));
        single.caller().wait_until_full();
        let rate = |daemon: &Daemon, count: usize| {
            let start = |_| CallerProcess::start(Row::Assay, Program::Python, &daemon.socket(), true);
            let mut callers: Vec<_> = (0..4).map(start).collect();
            let begun = clock();
            callers.iter_mut().for_each(|caller| caller.order(&Order::Times(count / 4)));
            let calls: usize = callers.iter_mut().map(|caller| caller.answer().len()).sum();
            calls as f64 / (clock() - begun)
        };
        let part = (self.options.tenants / 4).max(20);
        let (mut reused, mut unused) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            unused.push(rate(&single, part));
            reused.push(rate(self.daemon, part));
        }
        let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
        let (reused, unused) = (mean(&reused), mean(&unused));
        println!("\n{} tenants that come once, 4 callers", 4 * part);
        println!("  single use {unused:.1}/s, as shipped {reused:.1}/s: {}", at_least(reused / unused, 1.0));
        json!({ "program": "tenants", "single_use_per_second": unused, "per_second": reused })
    }
}

/// Prints the ratios that have a goal.
fn compare(program: Program, batches: &BTreeMap<(usize, &str), Batches>) {
    let of = |count: usize, name: &str| batches.iter().find(|(key, _)| **key == (count, name)).map(|(_, batch)| batch);
    let (Some(ours), Some(bare)) = (of(4, "assay"), of(4, "bare exec")) else { return };
    if program == Program::Python {
        for (count, goal) in [(1, 2.2), (2, 1.5), (4, 1.6)] {
            let (Some(ours), Some(bare)) = (of(count, "assay"), of(count, "bare exec")) else { continue };
            println!("  {count}: assay to bare {}", at_least(ours.per_second() / bare.per_second(), goal));
        }
        println!("  CPU per run to bare's {}", at_most(ours.cpu_ms_each() / bare.cpu_ms_each(), 0.65));
    } else {
        println!("  CPU ms per run {}", at_most(ours.cpu_ms_each(), 3.5));
    }
    if let Some(judge) = of(4, "go-judge") {
        let goal = if program == Program::Python { 2.8 } else { 2.0 };
        println!("  4: assay to go-judge {}", at_least(ours.per_second() / judge.per_second(), goal));
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// Above 0 and at most 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((mixed ^ (mixed >> 31)) >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }
}
