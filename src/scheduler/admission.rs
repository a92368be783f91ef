//! Admits or refuses a submission. Pure: counts in, a decision out.

use std::time::Duration;

use super::callbacks::CallbackDenied;

/// The counts when a submission arrives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueLoad {
    /// Submissions admitted and not answered.
    pub admitted: usize,
    /// Submissions of this uid admitted and not answered.
    pub admitted_of_account: usize,
    /// Bytes of this uid's unanswered submissions, this one included.
    pub bytes_of_account: u64,
    /// Any host takes work.
    pub host_up: bool,
    /// The daemon is draining.
    pub draining: bool,
    /// The mean time to create one sandbox.
    pub create_time: Duration,
    /// The estimated wait for a sandbox, if known.
    pub predicted_wait: Option<Duration>,
    /// The submission's deadline, from its arrival.
    pub deadline: Option<Duration>,
    /// How long a submission without a deadline waits at most.
    pub patience: Duration,
}

/// The configured limits of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueBounds {
    /// Submissions admitted and not answered.
    pub max: usize,
    /// The same for one uid.
    pub max_per_account: usize,
    /// Bytes of one uid's unanswered submissions.
    pub max_bytes_per_account: u64,
}

/// Why a submission was not admitted. `retry_after` is when capacity is likely.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// `[queue] max` is reached.
    #[error("the queue is full ({max} submissions, queue.max)")]
    QueueFull { max: usize, retry_after: Duration },
    /// `[queue] max_per_uid` is reached.
    #[error("you have {max} submissions in the queue already (queue.max_per_uid)")]
    QuotaExceeded { max: usize, retry_after: Duration },
    /// `[queue] max_rate_per_uid` is exceeded.
    #[error("you hand in more than {per_second} submissions per second (queue.max_rate_per_uid)")]
    RateExceeded { per_second: f64, retry_after: Duration },
    /// The predicted wait exceeds the submission's deadline.
    #[error(
        "deadline_ms: the predicted wait for a sandbox is {} ms, the deadline {} ms",
        predicted.as_millis(), deadline.as_millis()
    )]
    DeadlineUnreachable { predicted: Duration, deadline: Duration, retry_after: Duration },
    /// The predicted wait is about as long as `[queue] patience`, or longer: the submission would
    /// wait in vain.
    #[error(
        "the queue is too long: the predicted wait for a sandbox is {} ms, the most is {} ms (queue.patience)",
        predicted.as_millis(), patience.as_millis()
    )]
    WaitTooLong { predicted: Duration, patience: Duration, retry_after: Duration },
    /// The uid's unanswered submissions would hold too many bytes.
    #[error("your submissions in the queue would hold more than {max} bytes")]
    BytesExceeded { max: u64, retry_after: Duration },
    /// The daemon is shutting down.
    #[error("the daemon is draining")]
    Draining,
    /// An operator paused the daemon.
    #[error("the daemon is paused for maintenance; `assay resume` ends that")]
    Paused,
    /// No host takes work. `reason` names each host's failure and the remedy.
    #[error("no Docker host is up: {reason}")]
    NoHost { reason: String },
    /// The hosts cannot give the isolation that the submission requires.
    #[error("isolation: {profile} runs in {offered} here{}", why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())]
    Isolation {
        profile: String,
        offered: &'static str,
        /// Why cells are unavailable; `None` if the profile asks for the offered isolation.
        why: Option<String>,
    },
    /// No host can make a sandbox of this profile until the operator does something.
    #[error(
        "no sandbox can be made for {profile}: {reason}{}",
        remedy.as_ref().map(|remedy| format!(". Remedy: {remedy}")).unwrap_or_default()
    )]
    NoSandbox {
        profile: String,
        reason: String,
        remedy: Option<String>,
        /// Its image cannot be had.
        is_image: bool,
    },
    /// Only the room for reports that are due is left on the disk of the store.
    #[error("the disk of the state folder is full: the submission cannot be stored; submission.run needs no store")]
    StoreFull,
    /// The store cannot be written.
    #[error("the submission cannot be stored: {reason}; submission.run needs no store")]
    NoStore { reason: String },
    /// Too many changes of the store wait for the disk.
    #[error("too many submissions wait to be stored")]
    StoreBusy { retry_after: Duration },
    /// The submission may not have the callback that it asks for.
    #[error("{0}")]
    Callback(#[from] CallbackDenied),
    /// The id belongs to a submission with other content.
    #[error("submission {id:?} exists with other content; choose another id")]
    Conflict { id: String },
}

/// Without a deadline, a submission is admitted if its predicted wait is at most this share of the
/// queue's patience: predictions are not exact, and one that is admitted should not wait in vain.
const PATIENCE_SHARE: f64 = 0.6;

/// Decides about one submission.
///
/// # Errors
/// The refusal, with a hint when to retry.
pub fn admit(load: QueueLoad, bounds: QueueBounds) -> Result<(), Refusal> {
    if load.draining {
        return Err(Refusal::Draining);
    }
    if !load.host_up {
        return Err(Refusal::NoHost { reason: String::new() });
    }
    // one finished run frees a sandbox: capacity is one creation away
    let retry_after = load.create_time.clamp(Duration::from_millis(100), Duration::from_secs(10));
    if load.admitted >= bounds.max {
        return Err(Refusal::QueueFull { max: bounds.max, retry_after });
    }
    if load.admitted_of_account >= bounds.max_per_account {
        return Err(Refusal::QuotaExceeded { max: bounds.max_per_account, retry_after });
    }
    // a single submission is bounded by the line and blob limits instead
    if load.bytes_of_account > bounds.max_bytes_per_account && load.admitted_of_account > 0 {
        return Err(Refusal::BytesExceeded { max: bounds.max_bytes_per_account, retry_after });
    }
    // when the queue has become so short that the submission would be admitted
    let after = |predicted: Duration, most: Duration| {
        predicted.saturating_sub(most).clamp(Duration::from_millis(100), Duration::from_secs(60))
    };
    match (load.predicted_wait, load.deadline) {
        (Some(predicted), Some(deadline)) if predicted > deadline => {
            let retry_after = after(predicted, deadline);
            Err(Refusal::DeadlineUnreachable { predicted, deadline, retry_after })
        }
        (Some(predicted), None) if predicted > load.patience.mul_f64(PATIENCE_SHARE) => {
            let (patience, most) = (load.patience, load.patience.mul_f64(PATIENCE_SHARE));
            Err(Refusal::WaitTooLong { predicted, patience, retry_after: after(predicted, most) })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: QueueBounds = QueueBounds { max: 10, max_per_account: 4, max_bytes_per_account: 1000 };
    const IDLE: QueueLoad = QueueLoad {
        admitted: 0,
        admitted_of_account: 0,
        bytes_of_account: 0,
        host_up: true,
        draining: false,
        create_time: Duration::from_millis(300),
        predicted_wait: None,
        deadline: None,
        patience: Duration::from_secs(120),
    };

    #[test]
    fn an_idle_queue_admits() {
        assert_eq!(admit(IDLE, BOUNDS), Ok(()));
    }

    #[test]
    fn a_full_queue_gives_a_retry_hint() {
        let refusal = admit(QueueLoad { admitted: 10, ..IDLE }, BOUNDS).unwrap_err();
        assert_eq!(refusal, Refusal::QueueFull { max: 10, retry_after: Duration::from_millis(300) });
    }

    #[test]
    fn one_account_cannot_fill_the_queue() {
        assert!(matches!(
            admit(QueueLoad { admitted_of_account: 4, ..IDLE }, BOUNDS),
            Err(Refusal::QuotaExceeded { .. })
        ));
        let heavy = QueueLoad { admitted_of_account: 1, bytes_of_account: 1001, ..IDLE };
        assert!(matches!(admit(heavy, BOUNDS), Err(Refusal::BytesExceeded { .. })));
        let single = QueueLoad { bytes_of_account: 1001, ..IDLE };
        assert_eq!(admit(single, BOUNDS), Ok(()));
    }

    #[test]
    fn only_a_deadline_below_the_predicted_wait_is_refused() {
        let seconds = Duration::from_secs;
        let urgent = QueueLoad { predicted_wait: Some(seconds(30)), deadline: Some(seconds(10)), ..IDLE };
        let refusal = admit(urgent, BOUNDS).unwrap_err();
        assert!(matches!(refusal, Refusal::DeadlineUnreachable { retry_after, .. } if retry_after == seconds(20)));
        assert_eq!(admit(QueueLoad { deadline: Some(seconds(31)), ..urgent }, BOUNDS), Ok(()));
        assert_eq!(admit(QueueLoad { predicted_wait: None, ..urgent }, BOUNDS), Ok(()));
        assert_eq!(admit(QueueLoad { deadline: None, ..urgent }, BOUNDS), Ok(()));
    }

    #[test]
    fn without_a_deadline_a_wait_close_to_the_patience_is_refused() {
        let seconds = Duration::from_secs;
        let after = |wait| admit(QueueLoad { predicted_wait: Some(seconds(wait)), ..IDLE }, BOUNDS);
        assert_eq!(after(70), Ok(()));
        let (predicted, patience, retry_after) = (seconds(100), seconds(120), seconds(28));
        assert_eq!(after(100), Err(Refusal::WaitTooLong { predicted, patience, retry_after }));
    }

    #[test]
    fn nothing_is_admitted_without_a_host_or_while_draining() {
        assert!(matches!(admit(QueueLoad { host_up: false, ..IDLE }, BOUNDS), Err(Refusal::NoHost { .. })));
        assert_eq!(admit(QueueLoad { draining: true, ..IDLE }, BOUNDS), Err(Refusal::Draining));
    }
}
