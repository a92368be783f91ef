//! Says in the log why submissions wait for a sandbox, before their callers give up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fair_queue::ProfileName;
use super::no_sandbox::NoSandbox;

/// How long a submission waits before that is said; less where its patience is short.
const LONG: Duration = Duration::from_secs(10);

/// How often it is said at most, for each profile.
const PERIOD: Duration = Duration::from_secs(60);

/// When it was said last, by profile. As many as there are profiles: older entries are removed.
#[derive(Debug, Default)]
pub(super) struct LongWaits(Mutex<HashMap<ProfileName, Instant>>);

impl LongWaits {
    /// Waits for a sandbox within `patience`; `why` is what is short when the wait has become long.
    pub(super) async fn watch<T>(
        &self,
        profile: &ProfileName,
        patience: Duration,
        mut handover: oneshot::Receiver<T>,
        why: impl Fn() -> NoSandbox,
    ) -> Option<T> {
        let long = LONG.min(patience / 4);
        if let Ok(found) = timeout(long, &mut handover).await {
            return found.ok();
        }
        if self.is_due(profile, Instant::now()) {
            let short = why();
            let reason = short.cause.as_ref().map_or_else(|| "no host takes work".to_owned(), ToString::to_string);
            let remedy =
                short.remedy(profile).unwrap_or_else(|| "`assay health` and `assay pools` show more".to_owned());
            tracing::warn!(%profile, waited_s = long.as_secs(), reason, remedy, "submissions wait for a sandbox");
        }
        timeout(patience.saturating_sub(long), handover).await.ok()?.ok()
    }

    fn is_due(&self, profile: &ProfileName, now: Instant) -> bool {
        let mut said = self.0.lock();
        said.retain(|_, last| now.saturating_duration_since(*last) < PERIOD);
        if said.contains_key(profile) {
            return false;
        }
        said.insert(profile.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_logged_once_a_minute_for_each_profile() {
        let (waits, start) = (LongWaits::default(), Instant::now());
        let due = |name: &str, seconds| waits.is_due(&ProfileName::from(name), start + Duration::from_secs(seconds));
        assert_eq!(
            [due("a", 0), due("a", 1), due("b", 1), due("a", 59), due("a", 61)],
            [true, false, true, false, true]
        );
    }
}
