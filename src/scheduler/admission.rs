//! Who gets in. Pure: counts in, a decision out.

use std::time::Duration;

/// The counts at the moment of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Admitted and not answered.
    pub admitted: usize,
    /// The same, of this caller's uid.
    pub of_uid: usize,
    /// Bytes of this caller's uid that are admitted and not answered, with this submission's.
    pub bytes_of_uid: u64,
    /// Whether any host answers.
    pub host_up: bool,
    /// Whether the daemon is on its way out.
    pub draining: bool,
    /// How long one sandbox takes to be made, as measured.
    pub refill: Duration,
    /// How long this one would wait, when that is known.
    pub predicted: Option<Duration>,
    /// How long it can wait.
    pub deadline: Option<Duration>,
}

/// The bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Admitted and not answered, at most.
    pub max: usize,
    /// The same for one uid.
    pub max_per_uid: usize,
    /// Bytes of one uid.
    pub max_bytes_per_uid: u64,
}

/// The queue says no; try later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Full.
    #[error("the queue is full ({max} submissions)")]
    QueueFull {
        /// The bound.
        max: usize,
        /// When room is likely.
        retry_after: Duration,
    },
    /// This uid has enough.
    #[error("your uid has {max} submissions in the queue already")]
    QuotaExceeded {
        /// The bound.
        max: usize,
        /// When room is likely.
        retry_after: Duration,
    },
    /// It would wait longer than it can.
    #[error(
        "deadline_ms: at the measured rate it would wait {} ms for a sandbox, and its deadline is {} ms",
        predicted.as_millis(), deadline.as_millis()
    )]
    DeadlineUnreachable {
        /// The wait.
        predicted: Duration,
        /// The bound.
        deadline: Duration,
        /// When it may be reached.
        retry_after: Duration,
    },
    /// This uid holds enough memory.
    #[error("your uid's submissions in the queue would hold more than {max} bytes")]
    BytesExceeded {
        /// The bound.
        max: u64,
        /// When room is likely.
        retry_after: Duration,
    },
    /// On its way out.
    #[error("the daemon is draining")]
    Draining,
    /// No engine answers.
    #[error("no Docker host is up: {reason}")]
    NoHost {
        /// What was tried, and the remedy.
        reason: String,
    },
    /// The hosts keep runs apart in another way than the caller insists on.
    #[error("isolation: {profile} runs in {offered} here{}", why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())]
    Isolation {
        /// The profile.
        profile: String,
        /// What there is.
        offered: &'static str,
        /// Why, where it is not the profile's own wish.
        why: Option<String>,
    },
    /// The same id with other content.
    #[error("submission {id:?} exists with other content; choose another id")]
    Conflict {
        /// The id.
        id: String,
    },
}

/// Admits or refuses.
///
/// # Errors
/// The refusal.
pub fn admit(load: Load, bounds: Bounds) -> Result<(), Refusal> {
    if load.draining {
        return Err(Refusal::Draining);
    }
    if !load.host_up {
        return Err(Refusal::NoHost { reason: String::new() });
    }
    // one finished run makes room: at the refill rate that is one refill away, within sensible bounds
    let retry_after = load.refill.clamp(Duration::from_millis(100), Duration::from_secs(10));
    if load.admitted >= bounds.max {
        return Err(Refusal::QueueFull { max: bounds.max, retry_after });
    }
    if load.of_uid >= bounds.max_per_uid {
        return Err(Refusal::QuotaExceeded { max: bounds.max_per_uid, retry_after });
    }
    // one submission always fits: its own bound is lower
    if load.bytes_of_uid > bounds.max_bytes_per_uid && load.of_uid > 0 {
        return Err(Refusal::BytesExceeded { max: bounds.max_bytes_per_uid, retry_after });
    }
    if let (Some(predicted), Some(deadline)) = (load.predicted, load.deadline)
        && predicted > deadline
    {
        let retry_after = predicted.saturating_sub(deadline).clamp(Duration::from_millis(100), Duration::from_secs(60));
        return Err(Refusal::DeadlineUnreachable { predicted, deadline, retry_after });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max: 10, max_per_uid: 4, max_bytes_per_uid: 1000 };
    const CALM: Load = Load {
        admitted: 0,
        of_uid: 0,
        bytes_of_uid: 0,
        host_up: true,
        draining: false,
        refill: Duration::from_millis(300),
        predicted: None,
        deadline: None,
    };

    #[test]
    fn a_calm_queue_admits() {
        assert_eq!(admit(CALM, BOUNDS), Ok(()));
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let refusal = admit(Load { admitted: 10, ..CALM }, BOUNDS).unwrap_err();
        assert_eq!(refusal, Refusal::QueueFull { max: 10, retry_after: Duration::from_millis(300) });
    }

    #[test]
    fn one_uid_cannot_fill_the_queue() {
        assert!(matches!(admit(Load { of_uid: 4, ..CALM }, BOUNDS), Err(Refusal::QuotaExceeded { .. })));
        let heavy = Load { of_uid: 1, bytes_of_uid: 1001, ..CALM };
        assert!(matches!(admit(heavy, BOUNDS), Err(Refusal::BytesExceeded { .. })));
        let alone = Load { bytes_of_uid: 1001, ..CALM };
        assert_eq!(admit(alone, BOUNDS), Ok(()));
    }

    #[test]
    fn a_deadline_that_cannot_be_met_is_refused_at_once_and_one_that_may_be_is_not() {
        let seconds = Duration::from_secs;
        let hurried = Load { predicted: Some(seconds(30)), deadline: Some(seconds(10)), ..CALM };
        let refusal = admit(hurried, BOUNDS).unwrap_err();
        assert!(matches!(refusal, Refusal::DeadlineUnreachable { retry_after, .. } if retry_after == seconds(20)));
        assert_eq!(admit(Load { deadline: Some(seconds(31)), ..hurried }, BOUNDS), Ok(()));
        assert_eq!(admit(Load { predicted: None, ..hurried }, BOUNDS), Ok(()));
        assert_eq!(admit(Load { deadline: None, ..hurried }, BOUNDS), Ok(()));
    }

    #[test]
    fn without_a_host_and_while_draining_nothing_gets_in() {
        assert!(matches!(admit(Load { host_up: false, ..CALM }, BOUNDS), Err(Refusal::NoHost { .. })));
        assert_eq!(admit(Load { draining: true, ..CALM }, BOUNDS), Err(Refusal::Draining));
    }
}
