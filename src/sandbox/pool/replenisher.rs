//! The task of a pool that creates sandboxes up to the current level and retires unusable ones.
//!
//! It is woken by events: an offer was taken, a lease ended, the demand changed, a creation ended,
//! a ready sandbox died, a run on the host ended. After a failed creation it waits, exponentially
//! longer each time, and then tries one creation alone; `last_error` stays set until one succeeds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::inventory::{CreationTicket, PoolInner, PoolInventory};
use super::stock::HostLoad;

/// The pool is inspected at least this often, so that old sandboxes are found.
const IDLE_INTERVAL: Duration = Duration::from_secs(2);

/// Runs until the pool is closed.
pub(super) async fn replenish(pool: Arc<PoolInner>) {
    while let Some((tickets, pause)) = plan(&pool) {
        pool.loop_count.fetch_add(1, Ordering::Relaxed);
        for ticket in tickets {
            tokio::spawn(create_one(ticket));
        }
        let _ = tokio::time::timeout(pause, pool.wake.notified()).await;
    }
}

/// Retires, evicts, prewarms, and decides how many sandboxes to create and how long to wait
/// afterwards. `None` when the pool is closed.
fn plan(pool: &Arc<PoolInner>) -> Option<(Vec<CreationTicket>, Duration)> {
    let mut inventory = pool.lock();
    if inventory.closed {
        return None;
    }
    inventory.retire_unusable_ready(pool.settings.max_age);
    let levels = inventory.levels(pool.settings.levels);
    inventory.evict_kept(pool.settings.max_age, levels);
    let backoff = inventory.not_before.and_then(|at| at.checked_duration_since(Instant::now()));
    let load = HostLoad { busy: pool.share.running.load(Ordering::Relaxed) > 0 };
    // the sandboxes that are leased next; while a run is in progress only half, as with creations
    let hot = if load.busy { pool.settings.hot.div_ceil(2) } else { pool.settings.hot };
    inventory.stock.ready.iter_mut().take(hot).for_each(|pooled| pooled.sandbox.prewarm());
    log_hot_failure(pool, &mut inventory);
    let wanted = inventory.stock.to_create(levels, load);
    let count = match backoff {
        _ if inventory.paused => 0,
        Some(_) => 0,
        // the operator may have corrected what keeps all creations from success
        None if inventory.last_error.as_ref().is_some_and(|error| error.is_hopeless()) => {
            usize::from(inventory.stock.creating == 0).min(inventory.stock.below_ceiling(levels))
        }
        None if inventory.failures > 0 => wanted.min(1),
        None => wanted,
    };
    inventory.stock.creating += count;
    let tickets = (0..count).map(|_| CreationTicket::new(pool.clone(), inventory.generation)).collect();
    Some((tickets, backoff.unwrap_or(IDLE_INTERVAL)))
}

/// Logs why no runtime waits in ready sandboxes, once for each reason.
fn log_hot_failure(pool: &PoolInner, inventory: &mut PoolInventory) {
    let states: Vec<_> = inventory.stock.ready.iter().map(|pooled| pooled.sandbox.prewarm_state()).collect();
    let failed = states.iter().find_map(|state| state.failed.clone());
    if states.iter().any(|state| state.is_hot()) || failed.is_none() || failed == inventory.hot_failure {
        return;
    }
    tracing::warn!(
        profile = %pool.profile, host = %pool.host, reason = failed,
        "the profile's prewarmed runtime cannot wait: its programs start cold"
    );
    inventory.hot_failure = failed;
}

/// Creates a sandbox, and wakes the pool when it dies.
async fn create_one(ticket: CreationTicket) {
    let pool = ticket.pool.clone();
    if let Some(mut end) = create(ticket).await {
        let _ = end.wait_for(|ended| *ended).await;
        pool.wake.notify_one();
    }
}

/// Creates a sandbox with a permit, which is held for the creation only. Returns the signal of the
/// sandbox's end if the pool took it.
async fn create(ticket: CreationTicket) -> Option<watch::Receiver<bool>> {
    let pool = ticket.pool.clone();
    let _permit = pool.share.creating.acquire(pool.clone()).await;
    if pool.lock().closed {
        return None;
    }
    let begun = Instant::now();
    let (sandbox, image) = match pool.factory.make().await {
        Ok(made) => made,
        Err(error) => {
            pool.record_failure(error, random_fraction());
            return None;
        }
    };
    let end = sandbox.watch_end();
    pool.add_ready(ticket, sandbox, image, begun.elapsed()).then_some(end)
}

/// A random number between 0 and 1; 0 when the kernel has no randomness to give.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX))
}
