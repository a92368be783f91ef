//! `make bench`: what assay costs, against what it replaces, in one run on a real engine.
//!
//! | benchmark | measures |
//! |---|---|
//! | `warm` | Python's `print(1)` on a warm sandbox against bare execution and `docker run` |
//! | `callers` | callers as processes against bare exec and go-judge (`make bench-crowd`) |
//! | `crowd` | many at once: a burst, ten thousand queued, sixty-four idle sandboxes |
//! | `cells` | a cell against a loop of the same system calls, in CPU time of the whole machine |
//! | `isolation` | a cell against split, the seccomp filter, reuse against bare execution |
//! | `judging` | fifty tests, compile cache, precompiled header, 50 MB in and out, repeatability |
//! | `talk` | a question and its answer of an interactive problem, against a ping |
//! | `hot` | hot runtimes against the same command executed bare |
//! | `refill` | what parts of a container's creation cost |
//! | `http` | the API over HTTP against the socket, and its idle cost (`make bench-http`) |
//! | `pairs` | two builds of the daemon against each other, in alternating pairs |
//!
//! Without a name, all but `callers`, `refill`, `http` and `pairs` run. "Bare" is the same program
//! executed directly in the image's root file system. Every output is verified.
#![allow(clippy::print_stdout, clippy::unwrap_used, unsafe_code)]

mod bare;
mod callers;
mod cells;
mod crowd;
mod daemon;
mod engine;
mod hot;
mod http;
mod isolation;
mod judging;
mod pairs;
#[path = "../../tests/it/programs.rs"]
mod programs;
mod refill;
mod sample;
mod talk;
mod throughput;
mod warm;

use std::path::{Path, PathBuf};

use bare::RootFs;
use clap::{Args, Parser, Subcommand};
use daemon::{Daemon, DaemonOptions};

const PRINT_ONE: &str = "print(1)\n";

/// Benchmarks of assay
#[derive(Parser)]
#[command(name = "assay-bench")]
struct Arguments {
    /// Runs per measurement; slow ones take a share of it
    #[arg(long, global = true, env = "BENCH_RUNS", default_value_t = 200)]
    runs: usize,
    /// Passed by cargo bench
    #[arg(long, global = true, hide = true)]
    bench: bool,
    #[command(subcommand)]
    benchmark: Option<Benchmark>,
}

#[derive(Subcommand)]
enum Benchmark {
    Warm,
    Crowd,
    Cells,
    Isolation,
    Judging,
    Hot(HotOptions),
    Refill,
    Talk,
    Http(http::HttpOptions),
    Pairs(pairs::PairsOptions),
    Callers(callers::CallersOptions),
    #[command(hide = true)]
    Caller(callers::CallerOptions),
}

#[derive(Args)]
struct HotOptions {
    /// Only rows whose title contains this; also docker, throughput, idle
    #[arg(long, env = "BENCH_WORK")]
    work: Option<String>,
    /// Write a bar chart to this SVG file
    #[arg(long, env = "BENCH_PLOT")]
    plot: Option<PathBuf>,
}

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn main() {
    // `cargo test --benches` passes --test, test runners pass --list: there are no tests.
    if std::env::args().any(|arg| arg == "--list" || arg == "--test") {
        return;
    }
    let mut arguments = Arguments::parse();
    if let (None, Ok(name)) = (&arguments.benchmark, std::env::var("BENCH_ONLY")) {
        arguments = Arguments::parse_from(["assay-bench", &name]);
    }
    let runs = arguments.runs;
    if let Some(Benchmark::Caller(options)) = &arguments.benchmark {
        return callers::caller(options);
    }
    println!("assay bench on {} CPUs", std::thread::available_parallelism().unwrap());
    match arguments.benchmark {
        Some(Benchmark::Hot(options)) => hot::all(runs, &options),
        Some(Benchmark::Talk) => talk::all(runs),
        Some(Benchmark::Judging) => judging::all(),
        Some(Benchmark::Http(options)) => http::all(&options),
        Some(Benchmark::Pairs(options)) => pairs::all(&options),
        Some(Benchmark::Callers(options)) => callers::all(&options),
        Some(Benchmark::Caller(_)) => unreachable!(),
        Some(Benchmark::Refill) => {
            python_image();
            refill::all(runs);
        }
        Some(Benchmark::Cells) => cells::all(runs),
        Some(Benchmark::Isolation) => isolation::all(&RootFs::export(&python_image())),
        Some(Benchmark::Crowd) => {
            let daemon = Daemon::start(&DaemonOptions::default());
            daemon.caller().image("python");
            crowd::all(daemon, engine::raw_rate());
        }
        Some(Benchmark::Warm) => drop(warm(runs)),
        None => {
            let (daemon, root, raw) = warm(runs);
            crowd::all(daemon, raw);
            isolation::all(&root);
            cells::all(runs);
            drop(root);
            judging::all();
            talk::all(runs);
            hot::all(runs, &HotOptions { work: None, plot: None });
        }
    }
}

/// Makes sure that Python's image exists, and returns its tag.
fn python_image() -> String {
    Daemon::start(&DaemonOptions::default()).caller().image("python")
}

fn warm(runs: usize) -> (Daemon, RootFs, f64) {
    let daemon = Daemon::start(&DaemonOptions::default());
    let mut caller = daemon.caller();
    let image = caller.image("python");
    caller.wait_until_full();
    let raw = engine::raw_rate();
    let root = RootFs::export(&image);
    warm::all(&daemon, &image, &root, runs, raw);
    (daemon, root, raw)
}
