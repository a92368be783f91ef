//! Which used sandboxes serve again, and when a kept one gives way to others. Pure: no clock, no
//! IO.
//!
//! ```text
//!   used --ReuseRule--> audit --clean--> kept --its caller returns--> used
//!     |                   |               |
//!     '----- retired -----'---------------'-- idle, used up, or its place is needed
//! ```

use std::time::Duration;

use protocol::{Isolation, ReusePolicy};

/// How long a sandbox serves at most, from its first submission. Bounds what may accumulate in it
/// without being found by an audit.
const MAX_SERVICE: Duration = Duration::from_secs(600);

/// How long a kept sandbox waits for its caller at most.
const KEEP_TIMEOUT: Duration = Duration::from_secs(60);

/// The wait after which a kept sandbox makes room for a ready one. A caller that never came back
/// may not come back at all; its sandbox is held about as long as an engine needs to make one.
const PATIENCE_NEW: Duration = Duration::from_millis(250);
/// The same for a caller that has come back before.
const PATIENCE_KNOWN: Duration = Duration::from_secs(5);

/// Whose used sandboxes serve again, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReuseRule {
    pub policy: ReusePolicy,
    /// Submissions that one sandbox serves at most.
    pub uses: u32,
}

/// How much a sandbox has been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    pub isolation: Isolation,
    /// Submissions that it has served.
    pub uses: u32,
    /// Time since the first of them began.
    pub since_first: Duration,
}

impl ReuseRule {
    /// Whether any sandbox serves again.
    pub fn is_on(self) -> bool {
        self.uses > 1 && self.policy != ReusePolicy::Never
    }

    /// Whether a sandbox may serve a caller with this tenant once more.
    pub fn allows(self, tenant: &str, service: Service) -> bool {
        service.uses < self.uses
            && self.policy.allows(tenant)
            && service.isolation == Isolation::Cell
            && service.since_first < MAX_SERVICE
    }
}

/// Whether a kept sandbox is retired even if its place is not needed.
pub(super) fn is_over(idle: Duration, since_first: Duration) -> bool {
    idle >= KEEP_TIMEOUT || since_first >= MAX_SERVICE
}

/// Whether a kept sandbox makes room for a ready one that no submission waits for yet.
pub(super) fn gives_way(idle: Duration, uses: u32) -> bool {
    idle >= if uses > 1 { PATIENCE_KNOWN } else { PATIENCE_NEW }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USED: Service = Service { isolation: Isolation::Cell, uses: 1, since_first: Duration::from_secs(1) };

    fn rule(policy: ReusePolicy) -> ReuseRule {
        ReuseRule { policy, uses: 50 }
    }

    #[test]
    fn the_policy_says_whose_sandboxes_serve_again() {
        let allowed = |policy| [rule(policy).allows("", USED), rule(policy).allows("a", USED)];
        assert_eq!(allowed(ReusePolicy::Always), [true, true]);
        assert_eq!(allowed(ReusePolicy::Tenant), [false, true]);
        assert_eq!(allowed(ReusePolicy::Never), [false, false]);
        assert!(!rule(ReusePolicy::Never).is_on() && rule(ReusePolicy::Tenant).is_on());
        assert!(!ReuseRule { uses: 1, ..rule(ReusePolicy::Always) }.is_on());
    }

    #[test]
    fn only_cells_serve_again_and_uses_and_age_are_bounded() {
        let allows = |service| rule(ReusePolicy::Always).allows("", service);
        assert!(!allows(Service { isolation: Isolation::Split, ..USED }));
        assert!(allows(Service { uses: 49, ..USED }) && !allows(Service { uses: 50, ..USED }));
        assert!(!allows(Service { since_first: Duration::from_secs(600), ..USED }));
    }

    #[test]
    fn a_caller_that_has_come_back_before_is_waited_for_longer() {
        let second = Duration::from_secs(1);
        assert!(gives_way(second, 1) && !gives_way(second, 2));
        assert!(!gives_way(Duration::from_millis(10), 1) && gives_way(6 * second, 9));
        assert!(is_over(60 * second, second) && is_over(second, 600 * second) && !is_over(second, second));
    }
}
