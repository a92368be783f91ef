//! Measurements and their statistics.

use std::time::{Duration, Instant};

/// Measurements in milliseconds.
pub struct Sample(pub Vec<f64>);

impl Sample {
    /// The quantile of this share, 0 to 1.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1]
    }

    pub fn p50(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The 95 % confidence interval of the median, by order statistics: no assumption on the
    /// distribution.
    pub fn median_interval(&self) -> (f64, f64) {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let rank = (count / 2.0 - 1.96 * count.sqrt() / 2.0).floor().max(1.0) as usize;
        (sorted[rank - 1], sorted[sorted.len() - rank])
    }

    /// The sample with the lower median.
    pub fn faster(self, other: Sample) -> Sample {
        if self.p50() <= other.p50() { self } else { other }
    }

    /// Prints median and p99, and the ratio of the medians if there is a peer.
    pub fn print(&self, name: &str, peer: Option<&Sample>) {
        let ratio = peer.map(|peer| format!("{:>8.2}x", self.p50() / peer.p50())).unwrap_or_default();
        println!("  {name:<56} {:>9.3} {:>9.3} {ratio}", self.p50(), self.quantile(0.99));
    }
}

/// Milliseconds since then.
pub fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Times `operation`, starting one every `interval` at most.
pub fn measure(runs: usize, interval: Duration, mut operation: impl FnMut()) -> Sample {
    let mut values = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        operation();
        values.push(ms_since(start));
        std::thread::sleep(interval.saturating_sub(start.elapsed()));
    }
    Sample(values)
}

/// Times several operations in turn.
pub fn measure_in_turn<const N: usize>(
    runs: usize,
    interval: Duration,
    mut operations: [&mut dyn FnMut(); N],
) -> [Sample; N] {
    let mut values = [const { Vec::new() }; N];
    for _ in 0..runs {
        for (operation, values) in operations.iter_mut().zip(&mut values) {
            values.extend(measure(1, interval, operation).0);
        }
    }
    values.map(Sample)
}
