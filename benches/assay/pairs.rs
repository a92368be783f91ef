//! Two builds of the daemon in alternating pairs: the median difference of a hot run, with its 95 %
//! confidence interval. Both daemons run at the same time, each with an instance, a socket and uids
//! of its own, on the same engine and images. A pair starts when both pools are full and hot; every
//! second pair runs in the other order. With `--reuse` each daemon serves all its runs from one
//! sandbox: no container is created beside the measurement, which narrows the interval.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::daemon::{Caller, Daemon, DaemonOptions, ProfileCopy, write_profiles};
use crate::hot::workloads::{WORKLOADS, Workload};
use crate::sample::{Sample, ms_since};

#[derive(Args)]
pub struct PairsOptions {
    /// Folder with the old assayd and assay-init
    #[arg(long)]
    old: PathBuf,
    /// Folder with the new assayd and assay-init
    #[arg(long)]
    new: PathBuf,
    /// Pairs per row
    #[arg(long, default_value_t = 500)]
    pairs: usize,
    /// Serve all runs of a daemon from one sandbox
    #[arg(long)]
    reuse: bool,
    /// With --reuse: pause before each run, in which the next runtime is started, in milliseconds
    #[arg(long, default_value_t = 60)]
    pause: u64,
    /// Only rows whose title contains this
    #[arg(long, env = "BENCH_WORK")]
    work: Option<String>,
}

/// Sandboxes in each pool, without reuse.
const FLOOR: u64 = 2;

/// Submissions that a sandbox serves with `--reuse`: more than a benchmark has.
const REUSE: &str = "reuse = 1000000";

/// Time for the engine to remove the used sandbox before the next run.
const SETTLE: Duration = Duration::from_millis(50);

pub fn all(options: &PairsOptions) {
    println!("\n{} alternating pairs, hot runs (ms)", options.pairs);
    println!("  {:<40} {:>8} {:>8} {:>10}  95 % interval", "", "old p50", "new p50", "new - old");
    let is_wanted = |workload: &&Workload| {
        workload.is_hot && options.work.as_ref().is_none_or(|word| workload.title.contains(word.as_str()))
    };
    for workload in WORKLOADS.iter().filter(is_wanted) {
        let [old, new] = measure(workload, options);
        let difference = Sample(new.0.iter().zip(&old.0).map(|(new, old)| new - old).collect());
        let (low, high) = difference.median_interval();
        let median = difference.p50();
        let title = workload.title;
        println!("  {title:<40} {:>8.2} {:>8.2} {median:>+10.3}  {low:+.3} to {high:+.3}", old.p50(), new.p50());
    }
}

/// The times of the old and the new daemon, pair by pair.
fn measure(workload: &Workload, options: &PairsOptions) -> [Sample; 2] {
    let floor = if options.reuse { 1 } else { FLOOR as usize };
    // in the profile, since older daemons do not know `isolation.reuse`
    let pool = if options.reuse { REUSE } else { "reuse = 1" };
    let profiles = write_profiles(&[ProfileCopy { name: workload.profile, of: workload.profile, top: "", pool }]);
    let sides = [("bench-old", 47_000, &options.old), ("bench-new", 49_000, &options.new)];
    let daemons = sides.map(|(instance, uid_base, folder)| {
        Daemon::start(&DaemonOptions {
            program: Some(folder.join("assayd")),
            instance,
            uid_base,
            profiles_dir: profiles.path().to_owned(),
            profiles: workload.profile,
            floor,
            config: "",
            ..DaemonOptions::default()
        })
    });
    let mut callers = daemons.each_ref().map(Daemon::caller);
    for caller in &mut callers {
        caller.image(workload.profile);
        caller.wait_until_hot(floor as u64);
    }
    let mut samples = [Sample(Vec::new()), Sample(Vec::new())];
    // The first pair of each order only warms caches up.
    for pair in 0.. {
        let mut times = [0.0; 2];
        let mut is_hot = true;
        for turn in 0..2 {
            let side = (pair + turn) % 2;
            options.wait_until_ready(&mut callers);
            // The same text on both sides, and a new one in each pair, so that nothing is cached.
            let mut submission = workload.submission(pair, true);
            submission["tenant"] = json!("pairs");
            let start = Instant::now();
            let report = callers[side].call("submission.run", submission);
            times[side] = ms_since(start);
            assert_eq!(report["verdict"], "accepted", "{report:#}");
            is_hot &= report["start"] == "hot";
        }
        if pair >= 2 && is_hot {
            samples.iter_mut().zip(times).for_each(|(sample, time)| sample.0.push(time));
        }
        if samples[0].0.len() == options.pairs {
            break;
        }
        assert!(pair < 2 * options.pairs + 10, "too few runs are hot: give --pause more");
    }
    samples
}

impl PairsOptions {
    /// Waits until a run is likely to be hot on both sides, and the machine quiet.
    fn wait_until_ready(&self, callers: &mut [Caller; 2]) {
        if self.reuse {
            // a kept sandbox does not tell whether its next runtime has started
            return std::thread::sleep(Duration::from_millis(self.pause));
        }
        for caller in callers {
            caller.wait_until_hot(FLOOR);
        }
        std::thread::sleep(SETTLE);
    }
}
