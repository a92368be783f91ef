//! Deliveries from a store on disk through an assay-egress of ours.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::*;
use crate::callbacks::tests::callbacks;
use crate::receipt::tests::issuer;
use config::StoreSettings;
use store::{
    Attached, CallbackAddress, Finish, FinishResult, HistoryEntry, Intake, IntakeResult, RecordOwner, StagedOutputs,
};

/// A request that reached our assay-egress, and the connection to reply on.
struct Asked {
    request: EgressRequest,
    body: Vec<u8>,
    stream: BufReader<UnixStream>,
}

impl Asked {
    async fn reply(mut self, reply: EgressReply) {
        let line = format!("{}\n", serde_json::to_string(&reply).unwrap());
        // the daemon may be gone
        let _ = self.stream.write_all(line.as_bytes()).await;
    }

    fn callback(&self) -> (String, String, String) {
        match &self.request {
            EgressRequest::Callback { url, delivery, signature, .. } => {
                (url.clone(), delivery.clone(), signature.clone())
            }
            EgressRequest::Probe => panic!("a probe while callbacks wait"),
        }
    }
}

/// Accepts what the daemon asks, until the receiver is dropped.
fn fake_egress(socket: &Path) -> mpsc::UnboundedReceiver<Asked> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    let (sender, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while !sender.is_closed() {
            let (stream, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                () = sender.closed() => return,
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let request: EgressRequest = serde_json::from_str(&line).unwrap();
                let bytes = match &request {
                    EgressRequest::Callback { body_bytes, .. } => *body_bytes,
                    EgressRequest::Probe => 0,
                };
                let mut body = vec![0; bytes];
                stream.read_exact(&mut body).await.unwrap();
                let _ = sender.send(Asked { request, body, stream });
            });
        }
    });
    asked
}

fn open(folder: &Path) -> Arc<StoreAccess> {
    let access = StoreAccess::new(&StoreSettings::default(), issuer());
    access.open(folder).unwrap();
    Arc::new(access)
}

/// Stores a report whose callback waits.
async fn answered(access: &StoreAccess, id: &str, receiver: &str) {
    let store = access.get().unwrap();
    let owner = RecordOwner { principal: "token:ci".to_owned(), tenant: String::new() };
    let (language, inputs) = ("python".to_owned(), StagedOutputs::default());
    let intake = Intake {
        owner: owner.clone(),
        id: id.to_owned(),
        digest: [0; 32],
        language: language.clone(),
        request: Vec::new(),
        inputs,
    };
    let IntakeResult::Accepted { key } = store.intake(intake).done().await.unwrap() else { panic!("{id} is known") };
    let entry = HistoryEntry {
        owner,
        id: id.to_owned(),
        language,
        verdict: "accepted".to_owned(),
        message: String::new(),
        blame: None,
        received_ms: 1,
        total_ms: 1.0,
        cpu_ms: 1.0,
        memory_bytes: 1,
    };
    let callback = CallbackAddress {
        delivery: format!("delivery-{id}"),
        receiver: receiver.to_owned(),
        url: format!("{receiver}/{id}?key=secret"),
        token: [7; 32],
    };
    let finish = Finish {
        key,
        entry,
        report: format!("{{\"id\":\"{id}\"}}").into_bytes(),
        attached: Attached::default(),
        outputs: StagedOutputs::default(),
        is_awaited: true,
        callback: Some(callback),
    };
    let FinishResult::Answered { .. } = store.finish(finish).done().await.unwrap() else { panic!("{id}") };
}

fn waiting(access: &StoreAccess) -> u64 {
    access.get().unwrap().figures().unwrap().callbacks
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const RECEIVER: &str = "https://hooks.example:443";

#[tokio::test]
async fn a_report_is_delivered_signed_and_leaves_the_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("egress.sock");
    let mut asked = fake_egress(&socket);
    let access = open(folder.path());
    answered(&access, "a", RECEIVER).await;
    let callbacks = Arc::new(callbacks(&[], &socket));
    callbacks.start(access.clone());
    let request = asked.recv().await.unwrap();
    let (url, delivery, signature) = request.callback();
    assert_eq!((url.as_str(), delivery.as_str()), ("https://hooks.example:443/a?key=secret", "delivery-a"));
    assert_eq!(request.body, b"{\"id\":\"a\"}");
    let seconds: u64 = signature.split([',', '=']).nth(1).unwrap().parse().unwrap();
    assert!(seconds.abs_diff(u64::try_from(now_ms()).unwrap() / 1000) < 3600);
    assert_eq!(signature, callbacks.key(&[7; 32]).signature(seconds, &request.body));
    request.reply(EgressReply::Answered { status: 204 }).await;
    eventually("it leaves the outbox", || waiting(&access) == 0).await;
    assert_eq!(callbacks.counts.delivered.load(Ordering::Relaxed), 1);
    assert!(callbacks.check(1).is_some_and(|row| row.ok));
}

#[tokio::test]
async fn one_that_is_not_delivered_waits_and_one_that_is_gone_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("egress.sock");
    let mut asked = fake_egress(&socket);
    let access = open(folder.path());
    answered(&access, "a", RECEIVER).await;
    let callbacks = Arc::new(callbacks(&[], &socket));
    callbacks.start(access.clone());
    asked.recv().await.unwrap().reply(EgressReply::Answered { status: 302 }).await;
    eventually("it failed", || callbacks.counts.failed.load(Ordering::Relaxed) == 1).await;
    // some four to six seconds later
    let again = asked.recv().await.unwrap();
    assert_eq!((again.callback().1.as_str(), waiting(&access)), ("delivery-a", 1));
    again.reply(EgressReply::Answered { status: 410 }).await;
    eventually("it is given up", || waiting(&access) == 0).await;
    assert_eq!(callbacks.counts.given_up.load(Ordering::Relaxed), 1);
    let store = access.get().unwrap();
    assert!(store.find(None, None, "a").unwrap().is_some(), "its report stays");
}

#[tokio::test]
async fn a_stuck_receiver_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("egress.sock");
    let mut asked = fake_egress(&socket);
    let access = open(folder.path());
    for at in 0..40 {
        answered(&access, &format!("stuck-{at}"), "https://stuck.example:443").await;
    }
    let callbacks = Arc::new(callbacks(&[], &socket));
    callbacks.start(access.clone());
    let mut held = Vec::new();
    for _ in 0..MAX_PER_RECEIVER {
        held.push(asked.recv().await.unwrap());
    }
    for at in 0..5 {
        let id = format!("other-{at}");
        answered(&access, &id, RECEIVER).await;
        callbacks.changed.notify_one();
        let request = asked.recv().await.unwrap();
        assert_eq!(request.callback().1, format!("delivery-{id}"));
        request.reply(EgressReply::Answered { status: 200 }).await;
    }
    eventually("the others are delivered", || waiting(&access) == 40).await;
    assert!(asked.try_recv().is_err(), "no more than {MAX_PER_RECEIVER} at a time");
    // room for the next one
    held.pop().unwrap().reply(EgressReply::Answered { status: 200 }).await;
    assert!(asked.recv().await.unwrap().callback().0.contains("stuck"));
}

#[tokio::test]
async fn without_assay_egress_callbacks_wait_and_no_try_counts() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("egress.sock");
    let access = open(folder.path());
    answered(&access, "a", RECEIVER).await;
    let callbacks = Arc::new(callbacks(&[], &socket));
    callbacks.start(access.clone());
    eventually("health says it", || callbacks.check(1).is_some_and(|row| !row.ok)).await;
    let mut asked = fake_egress(&socket);
    // one that dies under a delivery is asked again, too
    drop(asked.recv().await.unwrap());
    let request = asked.recv().await.unwrap();
    let store = access.get().unwrap();
    let mut due = store.due_callbacks(RECEIVER, 1).unwrap();
    assert_eq!(due.pop().unwrap().tries, 0);
    request.reply(EgressReply::Answered { status: 200 }).await;
    eventually("it is delivered", || waiting(&access) == 0).await;
    assert!(callbacks.check(1).is_some_and(|row| row.ok));
}

#[tokio::test]
async fn a_daemon_that_died_before_it_noted_the_answer_delivers_again_with_the_same_id() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("egress.sock");
    let mut asked = fake_egress(&socket);
    let access = open(folder.path());
    answered(&access, "a", RECEIVER).await;
    let first = Arc::new(callbacks(&[], &socket));
    first.start(access.clone());
    let delivered = asked.recv().await.unwrap();
    // its store is closed, as that of a process that is gone
    let store = access.get().unwrap().clone();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    let id = delivered.callback().1;
    delivered.reply(EgressReply::Answered { status: 200 }).await;
    first.is_ending.store(true, Ordering::Relaxed);
    drop(access);
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("assay.db") && entry.path().is_file() {
            std::fs::copy(entry.path(), copy.path().join(name)).unwrap();
        }
    }
    let access = open(copy.path());
    let second = Arc::new(callbacks(&[], &socket));
    second.start(access.clone());
    let again = asked.recv().await.unwrap();
    assert_eq!(again.callback().1, id);
    again.reply(EgressReply::Answered { status: 200 }).await;
    eventually("it leaves the outbox", || waiting(&access) == 0).await;
}

#[tokio::test]
async fn the_end_starts_no_delivery_and_waits_for_those_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("egress.sock");
    let mut asked = fake_egress(&socket);
    let access = open(folder.path());
    answered(&access, "a", RECEIVER).await;
    let callbacks = Arc::new(callbacks(&[], &socket));
    callbacks.start(access.clone());
    let request = asked.recv().await.unwrap();
    let ending = tokio::spawn({
        let callbacks = callbacks.clone();
        async move { callbacks.end().await }
    });
    eventually("it ends", || callbacks.is_ending.load(Ordering::Relaxed)).await;
    answered(&access, "b", RECEIVER).await;
    callbacks.changed.notify_one();
    request.reply(EgressReply::Answered { status: 200 }).await;
    ending.await.unwrap();
    assert_eq!(waiting(&access), 1, "the delivery under way is noted, the new one is left to the next daemon");
    assert!(asked.try_recv().is_err());
}

#[test]
fn what_follows_a_try_depends_on_its_answer() {
    let answered = |status| Ok(EgressReply::Answered { status });
    let failed = |step| Ok(EgressReply::Failed { step, message: String::new() });
    let refused = || Ok(EgressReply::Refused { message: String::new() });
    let (new, old) = (Duration::ZERO, MAX_AGE + Duration::from_secs(1));
    for status in [200, 201, 204, 299] {
        assert_eq!(after_try(&answered(status), MAX_TRIES, old, 500), AfterTry::Delivered, "{status}");
    }
    assert_eq!(after_try(&answered(410), 0, new, 500), AfterTry::GiveUp);
    let all: [fn() -> Result<EgressReply, EgressUnreachable>; 1] = [|| Err(EgressUnreachable::Silent)];
    for (reply, counts) in [
        (answered(100), true),
        (answered(301), true),
        (answered(404), true),
        (answered(429), true),
        (answered(500), true),
        (refused(), true),
        (failed(EgressStep::Resolve), true),
        (failed(EgressStep::Connect), true),
        (failed(EgressStep::Tls), true),
        (failed(EgressStep::Answer), true),
        (failed(EgressStep::Request), false),
        (Ok(EgressReply::Ready), false),
        (all[0](), false),
    ] {
        let expected = AfterTry::Again { after: Duration::from_secs(5), counts };
        assert_eq!(after_try(&reply, 0, new, 500), expected, "{reply:?}");
        let last = after_try(&reply, MAX_TRIES - 1, new, 500);
        assert_eq!(last == AfterTry::GiveUp, counts, "{reply:?}: {last:?}");
        assert_eq!(after_try(&reply, 0, old, 500), AfterTry::GiveUp, "{reply:?}");
    }
}

#[test]
fn the_tries_of_a_callback_take_about_a_day() {
    let waits: Vec<Duration> = (1..MAX_TRIES).map(backoff).collect();
    assert!(waits.is_sorted() && waits[0] == BACKOFF && waits[waits.len() - 1] == MAX_BACKOFF);
    let hours = waits.iter().sum::<Duration>().as_secs_f64() / 3600.0;
    assert!((23.0..26.0).contains(&hours), "{hours}");
    let wait = Duration::from_secs(100);
    let spread: Vec<Duration> = [0, 500, 999].map(|random| with_jitter(wait, random)).into();
    assert!(spread.is_sorted() && spread[0] == Duration::from_secs(80) && spread[2] < Duration::from_secs(120));
}
