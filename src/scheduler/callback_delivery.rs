//! Delivers the callbacks of the outbox through assay-egress, at least once each.
//!
//! ```text
//!  waits: for a new one, for the next that is due, for room
//!    |
//!    v
//!  receivers with callbacks that are due, the least busy first
//!    |  at most MAX_PER_RECEIVER each, MAX_DELIVERIES in all: a stuck one keeps no other waiting
//!    v
//!  report --sign--> assay-egress --> 2xx: CallbackEnd     410, last try, too old: given up, WARN
//!                                '-> otherwise: CallbackTry with the next time
//! ```
//!
//! Where assay-egress cannot be asked, a try does not count: callbacks wait until it is there, for
//! [`MAX_AGE`] at most. A daemon that ends between the receiver's answer and the store's delivers
//! again, with the same id.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::callbacks::Callbacks;
use super::egress_client::{EgressUnreachable, ask};
use super::records::now_ms;
use super::store_access::StoreAccess;
use protocol::egress::{EgressReply, EgressRequest, EgressStep};
use store::{CallbackEnd, CallbackTry, DueCallback, Store};
use telemetry::text::clean;
use telemetry::throttle::LogThrottle;

/// Deliveries at a time: as many as assay-egress takes.
const MAX_DELIVERIES: usize = 32;

/// Deliveries to one receiver at a time.
const MAX_PER_RECEIVER: usize = 2;

/// The wait after the first try in vain; it doubles with each, up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// Tries of a callback: with these waits, about a day.
const MAX_TRIES: u32 = 34;

/// How long a callback waits in all, also if it could not be tried: as long as a long weekend
/// without assay-egress.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often assay-egress is asked again that does not answer.
const AGAIN: Duration = Duration::from_secs(5);

/// How often it is asked whether it is there, while nothing is to be delivered.
const PROBE_PERIOD: Duration = Duration::from_secs(30);

/// How long the end of the daemon waits for deliveries under way.
const END_TIME: Duration = Duration::from_secs(5);

static IN_VAIN: LogThrottle = LogThrottle::new();
static UNREACHABLE: LogThrottle = LogThrottle::new();
static NOT_NOTED: LogThrottle = LogThrottle::new();

/// What is done after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AfterTry {
    Delivered,
    Again { after: Duration, counts: bool },
    GiveUp,
}

/// The wait after so many tries in vain, without jitter.
fn backoff(tries: u32) -> Duration {
    BACKOFF.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(MAX_BACKOFF)
}

/// The wait with up to a fifth more or less, so that callbacks that failed together do not come
/// together. `random` is any number.
fn with_jitter(wait: Duration, random: u64) -> Duration {
    wait.mul_f64(0.8 + 0.4 * (random % 1000) as f64 / 1000.0)
}

/// Decides what is done after a try; `tries` are those before it.
fn after_try(reply: &Result<EgressReply, EgressUnreachable>, tries: u32, age: Duration, random: u64) -> AfterTry {
    let is_local = match reply {
        Ok(EgressReply::Answered { status: 200..=299 }) => return AfterTry::Delivered,
        Ok(EgressReply::Answered { status: 410 }) => return AfterTry::GiveUp,
        Err(_) | Ok(EgressReply::Ready | EgressReply::Failed { step: EgressStep::Request, .. }) => true,
        Ok(_) => false,
    };
    match is_local {
        _ if age > MAX_AGE => AfterTry::GiveUp,
        true => AfterTry::Again { after: with_jitter(AGAIN, random), counts: false },
        false if tries + 1 >= MAX_TRIES => AfterTry::GiveUp,
        false => AfterTry::Again { after: with_jitter(backoff(tries + 1), random), counts: true },
    }
}

/// What happened, for the log.
fn describe(reply: &Result<EgressReply, EgressUnreachable>) -> String {
    match reply {
        Ok(EgressReply::Answered { status }) => format!("the receiver answered {status}"),
        Ok(EgressReply::Refused { message }) => format!("refused: {message}"),
        Ok(EgressReply::Failed { step, message }) => format!("{}: {message}", step.as_str()),
        Ok(EgressReply::Ready) => "assay-egress did not deliver it".to_owned(),
        Err(error) => format!("assay-egress: {error}"),
    }
}

/// Counts a delivery as under way until it is dropped.
struct DeliverySlot {
    callbacks: Arc<Callbacks>,
    receiver: String,
    history: i64,
}

impl Drop for DeliverySlot {
    fn drop(&mut self) {
        let mut under_way = self.callbacks.under_way.lock();
        if let Some(keys) = under_way.get_mut(&self.receiver) {
            keys.retain(|key| *key != self.history);
            if keys.is_empty() {
                under_way.remove(&self.receiver);
            }
        }
        drop(under_way);
        self.callbacks.changed.notify_one();
    }
}

impl Callbacks {
    /// Starts the task that delivers, until this is dropped.
    pub(super) fn start(self: &Arc<Self>, access: Arc<StoreAccess>) {
        let callbacks = Arc::downgrade(self);
        tokio::spawn(run(callbacks, access));
    }

    /// Starts no further delivery, and waits a bounded time for those under way.
    pub(super) async fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        let until = tokio::time::Instant::now() + END_TIME;
        while !self.under_way.lock().is_empty() && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts what is due and has room. Returns how long to wait for what is due next.
    async fn deliver_due(self: &Arc<Self>, store: &Arc<Store>) -> Result<Duration, store::Error> {
        let mut receivers = on_store(store, Store::waiting_receivers).await?;
        if receivers.is_empty() && self.are_configured() {
            let reply = ask(&self.socket, &EgressRequest::Probe, &[]).await;
            self.note_reachable(&reply);
        }
        receivers.sort_by_key(|waiting| self.keys_under_way(&waiting.receiver).len());
        let now = store.now_ms();
        let mut wait = PROBE_PERIOD;
        for waiting in receivers {
            if waiting.next_ms > now {
                wait = wait.min(Duration::from_millis(waiting.next_ms.saturating_sub(now).unsigned_abs()));
                continue;
            }
            let busy = self.keys_under_way(&waiting.receiver);
            let room = MAX_PER_RECEIVER.saturating_sub(busy.len()).min(MAX_DELIVERIES.saturating_sub(self.busy()));
            // one that ends makes room, and wakes the task
            if room == 0 || self.is_ending.load(Ordering::Relaxed) {
                continue;
            }
            let (receiver, limit) = (waiting.receiver.clone(), room + busy.len());
            let due = on_store(store, move |store| store.due_callbacks(&receiver, limit)).await?;
            let due = due.into_iter().filter(|found| !busy.contains(&found.history));
            for callback in due.take(room) {
                let slot = self.take_slot(&callback);
                let (callbacks, store) = (self.clone(), store.clone());
                tokio::spawn(async move {
                    callbacks.deliver(&store, callback).await;
                    drop(slot);
                });
            }
        }
        Ok(wait)
    }

    fn keys_under_way(&self, receiver: &str) -> Vec<i64> {
        self.under_way.lock().get(receiver).cloned().unwrap_or_default()
    }

    fn busy(&self) -> usize {
        self.under_way.lock().values().map(Vec::len).sum()
    }

    fn take_slot(self: &Arc<Self>, callback: &DueCallback) -> DeliverySlot {
        let (receiver, history) = (callback.address.receiver.clone(), callback.history);
        self.under_way.lock().entry(receiver.clone()).or_default().push(history);
        DeliverySlot { callbacks: self.clone(), receiver, history }
    }

    fn note_reachable(&self, reply: &Result<EgressReply, EgressUnreachable>) {
        let error = reply.as_ref().err().map(ToString::to_string);
        let before = std::mem::replace(&mut *self.unreachable.lock(), error.clone());
        match error {
            Some(error) => {
                if let Some(suppressed) = UNREACHABLE.allow() {
                    tracing::warn!(
                        socket = %self.socket.display(), error, suppressed,
                        remedy = "systemctl enable --now assay-egress.socket, or run assay-egress --config FILE",
                        "assay-egress does not answer: callbacks wait"
                    );
                }
            }
            None if before.is_some() => tracing::info!("assay-egress answers again"),
            None => {}
        }
    }

    /// Tries a callback once, and notes the result.
    async fn deliver(&self, store: &Arc<Store>, callback: DueCallback) {
        let history = callback.history;
        let (reply, after) = match on_store(store, move |store| store.report(history)).await {
            Ok(Some(report)) => {
                let reply = self.send(&callback, &report.body).await;
                self.note_reachable(&reply);
                let age = Duration::from_millis(now_ms().saturating_sub(callback.since_ms).max(0).unsigned_abs());
                let random = uuid::Uuid::new_v4().as_u64_pair().0;
                let after = after_try(&reply, callback.tries, age, random);
                (describe(&reply), after)
            }
            Ok(None) => ("its report is gone".to_owned(), AfterTry::GiveUp),
            Err(error) => (error.to_string(), AfterTry::Again { after: AGAIN, counts: false }),
        };
        self.note_result(&callback, &reply, &after);
        let noted = match after {
            AfterTry::Delivered | AfterTry::GiveUp => store.end_callback(CallbackEnd { history }).done().await,
            AfterTry::Again { after, counts } => {
                let wait_ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
                let next_ms = store.now_ms().saturating_add(wait_ms);
                store.callback_tried(CallbackTry { history, next_ms, counts }).done().await
            }
        };
        if let Err(error) = noted {
            if let Some(suppressed) = NOT_NOTED.allow() {
                tracing::warn!(
                    submission = clean(&callback.id), %error, suppressed,
                    "the store did not note the result of a callback: it is delivered again"
                );
            }
            // it is still due: not at once again
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn send(&self, callback: &DueCallback, body: &[u8]) -> Result<EgressReply, EgressUnreachable> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let address = &callback.address;
        let request = EgressRequest::Callback {
            url: address.url.clone(),
            delivery: address.delivery.clone(),
            signature: self.key(&address.token).signature(seconds, body),
            body_bytes: body.len(),
        };
        ask(&self.socket, &request, body).await
    }

    fn note_result(&self, callback: &DueCallback, reply: &str, after: &AfterTry) {
        let DueCallback { id, principal, address, tries, .. } = callback;
        let (submission, receiver, tries) = (clean(id), &address.receiver, tries + 1);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match after {
            AfterTry::Delivered => {
                count(&self.counts.delivered);
                tracing::debug!(submission, principal, receiver, tries, "callback delivered");
            }
            AfterTry::Again { after, .. } => {
                count(&self.counts.failed);
                if let Some(suppressed) = IN_VAIN.allow() {
                    let again_s = after.as_secs();
                    tracing::info!(
                        submission,
                        principal,
                        receiver,
                        tries,
                        reason = clean(reply),
                        again_s,
                        suppressed,
                        "a callback was not delivered and is tried again"
                    );
                }
            }
            AfterTry::GiveUp => {
                count(&self.counts.failed);
                count(&self.counts.given_up);
                tracing::warn!(
                    submission,
                    principal,
                    receiver,
                    tries,
                    reason = clean(reply),
                    remedy = "the report is in history: assay show ID, GET /api/v1/submissions/ID",
                    "a callback is given up"
                );
            }
        }
    }
}

/// Reads the store on a thread that may block.
async fn on_store<T: Send + 'static>(
    store: &Arc<Store>,
    read: impl FnOnce(&Store) -> Result<T, store::Error> + Send + 'static,
) -> Result<T, store::Error> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || read(&store)).await.unwrap_or(Err(store::Error::Closed))
}

async fn run(callbacks: Weak<Callbacks>, access: Arc<StoreAccess>) {
    while let Some(callbacks) = callbacks.upgrade() {
        let wait = match access.get() {
            None => AGAIN,
            Some(store) => callbacks.deliver_due(store).await.unwrap_or(AGAIN),
        };
        tokio::select! {
            () = callbacks.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        if callbacks.is_ending.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
