//! How many submissions an account may hand in per second: a bucket of tokens for each. Decisions
//! take the time as an argument.
//!
//! ```text
//!   full: `burst` tokens --a submission takes one--> fewer --`rate` per second--> full again
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use protocol::Account;

/// Buckets above which those that are full are forgotten: a full one says nothing.
const MAX_IDLE_BUCKETS: usize = 256;

/// The configured rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateBound {
    /// Submissions per second on average; 0 for no bound.
    pub per_second: f64,
    /// Submissions at once after a pause.
    pub burst: u32,
}

/// What is left of an account's tokens.
#[derive(Debug, Clone, Copy)]
struct TokenBucket {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// The tokens at a later time.
    fn tokens_at(&self, now: Instant, bound: RateBound) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * bound.per_second;
        (self.tokens + gained).min(f64::from(bound.burst))
    }
}

/// The buckets of all accounts.
#[derive(Debug, Default)]
pub(super) struct RateLimiter(Mutex<HashMap<Account, TokenBucket>>);

impl RateLimiter {
    /// Takes a token of this account.
    ///
    /// # Errors
    /// The time after which there is one.
    pub(super) fn take(&self, account: &Account, now: Instant, bound: RateBound) -> Result<(), Duration> {
        let mut buckets = self.0.lock();
        if bound.per_second <= 0.0 {
            buckets.clear();
            return Ok(());
        }
        if buckets.len() > MAX_IDLE_BUCKETS {
            buckets.retain(|_, bucket| bucket.tokens_at(now, bound) < f64::from(bound.burst));
        }
        let full = TokenBucket { tokens: f64::from(bound.burst), at: now };
        let bucket = buckets.entry(account.clone()).or_insert(full);
        let tokens = bucket.tokens_at(now, bound);
        *bucket = TokenBucket { tokens, at: bucket.at.max(now) };
        if tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::try_from_secs_f64((1.0 - tokens) / bound.per_second).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: RateBound = RateBound { per_second: 2.0, burst: 3 };

    /// Seconds at which one account is admitted, of submissions every `every_ms` for ten seconds.
    fn admitted(bound: RateBound, every_ms: u64) -> usize {
        let (limiter, begun) = (RateLimiter::default(), Instant::now());
        let times = (0..).map(|at| Duration::from_millis(at * every_ms)).take_while(|at| *at < Duration::from_secs(10));
        times.filter(|at| limiter.take(&Account::Uid(7), begun + *at, bound).is_ok()).count()
    }

    #[test]
    fn the_rate_is_kept_on_average_after_the_burst() {
        // 3 at once, then 2 a second
        assert_eq!(admitted(BOUND, 10), 3 + 2 * 10 - 1);
        assert_eq!(admitted(BOUND, 500), 20, "at the rate, nothing is refused");
        assert_eq!(admitted(RateBound { per_second: 0.0, burst: 3 }, 10), 1000);
        assert_eq!(admitted(RateBound { per_second: 0.25, burst: 1 }, 10), 3, "at 0, 4 and 8 s");
    }

    #[test]
    fn a_refusal_says_when_there_is_a_token_again_and_is_right() {
        let (limiter, now) = (RateLimiter::default(), Instant::now());
        for _ in 0..BOUND.burst {
            limiter.take(&Account::Uid(7), now, BOUND).unwrap();
        }
        let after = limiter.take(&Account::Uid(7), now, BOUND).unwrap_err();
        assert_eq!(after, Duration::from_millis(500));
        // refused ones take nothing
        assert!(limiter.take(&Account::Uid(7), now + after - Duration::from_millis(1), BOUND).is_err());
        limiter.take(&Account::Uid(7), now + after, BOUND).unwrap();
        // another account has tokens of its own
        limiter.take(&Account::Uid(8), now, BOUND).unwrap();
        // an earlier time, as between threads, gives nothing
        assert!(limiter.take(&Account::Uid(7), now, BOUND).is_err());
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let (limiter, now) = (RateLimiter::default(), Instant::now());
        for uid in 0..10_000 {
            limiter.take(&Account::Uid(uid), now + Duration::from_secs(uid.into()), BOUND).unwrap();
        }
        assert!(limiter.0.lock().len() <= MAX_IDLE_BUCKETS + 1);
    }
}
