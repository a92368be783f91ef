//! Feeds the service manager's watchdog, only while every loop that the daemon depends on makes
//! progress.
//!
//! ```text
//!  every third of WatchdogSec:  request an acknowledgement from each loop
//!      -> all acknowledge: WATCHDOG=1
//!      -> one is stuck: its name is logged, no WATCHDOG=1 until it acknowledges
//! ```
//!
//! Monitored are the loop that accepts connections, the main loop, the allocator of the scheduler
//! and the replenisher of each pool. None of them waits for an engine: an engine that is down or
//! hangs must not get the daemon killed. No timer sends WATCHDOG=1 by itself.

use std::sync::Arc;
use std::time::Duration;

use sandbox::host::Fleet;
use scheduler::SubmissionService;
use telemetry::liveness::LivenessProbe;

/// A loop that must make progress.
struct MonitoredLoop {
    /// Name for the log.
    name: String,
    /// Requests an acknowledgement.
    request: Box<dyn Fn() + Send + Sync>,
    /// Number of acknowledgements so far; `None` when the loop has ended, which is not a fault.
    acknowledged: Box<dyn Fn() -> Option<u64> + Send + Sync>,
}

impl MonitoredLoop {
    fn of_probe(name: &str, probe: &Arc<LivenessProbe>) -> MonitoredLoop {
        let (requesting, counting) = (probe.clone(), probe.clone());
        MonitoredLoop {
            name: name.to_owned(),
            request: Box::new(move || requesting.request()),
            acknowledged: Box::new(move || counting.acknowledged()),
        }
    }
}

/// The loops to monitor now: pools come and go with a reload.
fn monitored_loops(
    fleet: &Fleet,
    submissions: &Arc<SubmissionService>,
    accept_loop: &Arc<LivenessProbe>,
    main_loop: &Arc<LivenessProbe>,
) -> Vec<MonitoredLoop> {
    let (requesting, counting) = (submissions.clone(), submissions.clone());
    let mut loops = vec![
        MonitoredLoop::of_probe("accept", accept_loop),
        MonitoredLoop::of_probe("main", main_loop),
        MonitoredLoop {
            name: "allocator".to_owned(),
            request: Box::new(move || requesting.allocator().wake()),
            acknowledged: Box::new(move || Some(counting.allocator().iterations())),
        },
    ];
    for host in fleet.all().iter() {
        for pool in host.pools() {
            let counting = pool.clone();
            loops.push(MonitoredLoop {
                name: format!("replenisher of pool {} on {}", pool.profile(), host.name()),
                request: Box::new(move || pool.wake()),
                acknowledged: Box::new(move || counting.loop_count()),
            });
        }
    }
    loops
}

/// Time between two looks at the acknowledgements.
const POLL_PERIOD: Duration = Duration::from_millis(10);

/// Resolves when every loop has acknowledged since the call. Logs once which loops are missing
/// after `patience`.
async fn all_acknowledged(loops: &[MonitoredLoop], patience: Duration) {
    let mut missing: Vec<(&MonitoredLoop, u64)> = loops
        .iter()
        .filter_map(|monitored| Some((monitored, (monitored.acknowledged)()?)))
        .inspect(|(monitored, _)| (monitored.request)())
        .collect();
    let mut left = Some(patience);
    loop {
        missing.retain(|(monitored, before)| (monitored.acknowledged)().is_some_and(|count| count <= *before));
        if missing.is_empty() {
            return;
        }
        tokio::time::sleep(POLL_PERIOD).await;
        left = match left.map(|left| left.saturating_sub(POLL_PERIOD)) {
            Some(Duration::ZERO) => {
                let loops = missing.iter().map(|(monitored, _)| monitored.name.as_str()).collect::<Vec<_>>().join(", ");
                tracing::error!(loops, "watchdog notification withheld: a main loop is stuck");
                None
            }
            left => left,
        };
    }
}

/// Sends WATCHDOG=1 while the daemon makes progress; `timeout` is the service manager's
/// WatchdogSec.
pub(super) async fn watch(
    fleet: Arc<Fleet>,
    submissions: Arc<SubmissionService>,
    accept_loop: Arc<LivenessProbe>,
    main_loop: Arc<LivenessProbe>,
    timeout: Duration,
) {
    let period = timeout / 3;
    loop {
        all_acknowledged(&monitored_loops(&fleet, &submissions, &accept_loop, &main_loop), period).await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        tokio::time::sleep(period).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_loop(probe: &Arc<LivenessProbe>) -> tokio::task::JoinHandle<()> {
        let probe = probe.clone();
        tokio::spawn(async move {
            loop {
                probe.requested().await;
                probe.acknowledge();
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_when_all_loops_acknowledge_and_not_while_one_is_stuck() {
        let (one, other) = (Arc::new(LivenessProbe::default()), Arc::new(LivenessProbe::default()));
        let loops = [MonitoredLoop::of_probe("one", &one), MonitoredLoop::of_probe("other", &other)];
        let _one = run_loop(&one);
        let patience = Duration::from_secs(1);
        let hour = Duration::from_secs(3600);
        let stuck = tokio::time::timeout(hour, all_acknowledged(&loops, patience)).await;
        assert!(stuck.is_err(), "the watchdog was fed although one loop is stuck");
        let _other = run_loop(&other);
        let running = tokio::time::timeout(hour, all_acknowledged(&loops, patience)).await;
        assert!(running.is_ok(), "the watchdog was not fed although all loops acknowledge");
    }

    #[tokio::test(start_paused = true)]
    async fn earlier_acknowledgements_do_not_count_and_an_ended_loop_is_not_waited_for() {
        let (one, ended) = (Arc::new(LivenessProbe::default()), Arc::new(LivenessProbe::default()));
        let loops = [MonitoredLoop::of_probe("one", &one), MonitoredLoop::of_probe("ended", &ended)];
        one.acknowledge();
        ended.mark_ended();
        let patience = Duration::from_secs(1);
        assert!(tokio::time::timeout(Duration::from_secs(9), all_acknowledged(&loops, patience)).await.is_err());
        let _one = run_loop(&one);
        all_acknowledged(&loops, patience).await;
    }
}
