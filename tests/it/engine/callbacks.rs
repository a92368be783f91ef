//! Callbacks from the outbox of a daemon through the program `assay-egress` to a receiver of ours.
//!
//! Most of them are put into the store of a daemon that has ended, as its predecessor would have
//! left them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::callback::{CallbackKey, CallbackSecret};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::{
    Attached, CallbackAddress, Finish, FinishResult, HistoryEntry, Intake, IntakeResult, Options as StoreOptions,
    RecordOwner, StagedOutputs, Store,
};

use crate::harness::{Daemon, Options, eventually, submission, with};
use crate::programs::program;

/// In place of a status: the receiver says nothing and keeps the connection.
const SILENT: u16 = 0;

/// What arrived: head and body.
type Arrived = Arc<Mutex<Vec<(String, String)>>>;

struct TestReceiver {
    url: String,
    status: Arc<AtomicU16>,
    arrived: Arrived,
}

impl TestReceiver {
    fn start(status: u16) -> TestReceiver {
        TestReceiver::on(TcpListener::bind("127.0.0.1:0").unwrap(), status)
    }

    fn on(listener: TcpListener, status: u16) -> TestReceiver {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (status, arrived) = (Arc::new(AtomicU16::new(status)), Arrived::default());
        let (answers, log) = (status.clone(), arrived.clone());
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut text = String::new();
                let mut buffer = [0; 4096];
                let (head, body) = loop {
                    let bytes = stream.read(&mut buffer).unwrap_or(0);
                    text.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        assert!(bytes > 0, "{text}");
                        continue;
                    };
                    let length = header(head, "content-length").parse().unwrap();
                    if body.len() >= length {
                        break (head.to_owned(), body.to_owned());
                    }
                };
                log.lock().unwrap().push((head, body));
                match answers.load(Ordering::Relaxed) {
                    SILENT => kept.push(stream),
                    status => drop(write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")),
                }
            }
        });
        TestReceiver { url, status, arrived }
    }

    fn arrived(&self) -> Vec<(String, String)> {
        self.arrived.lock().unwrap().clone()
    }

    fn deliveries(&self) -> Vec<String> {
        self.arrived().iter().map(|(head, _)| header(head, "assay-delivery").to_owned()).collect()
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in {head}")).split_once(": ").unwrap().1
}

/// `assay-egress` with the configuration of a daemon. Ends with the test.
struct Egress(Child);

impl Egress {
    fn start(daemon: &Daemon) -> Egress {
        let mut command = Command::new(program("assay-egress"));
        command.arg("--config").arg(daemon.folder.path().join("assayd.toml")).stdin(Stdio::null());
        let log = std::fs::File::options().create(true).append(true).open(daemon.folder.path().join("egress.log"));
        // a proxy that would be noticed
        let proxies = ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"];
        command.envs(proxies.map(|name| (name, "http://127.0.0.1:1"))).stderr(log.unwrap());
        Egress(command.spawn().unwrap())
    }

    fn kill9(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon that ended and left callbacks to this URL, with these ids.
struct Left {
    daemon: Daemon,
    _sockets: tempfile::TempDir,
}

fn state(daemon: &Daemon) -> PathBuf {
    daemon.folder.path().join("state")
}

fn leave(url: &str, ids: &[&str]) -> Left {
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("egress.sock");
    let config = format!("[http]\ncallbacks=['{url}', 'hooks.example']\negress_socket='{}'\n", socket.display());
    let mut daemon = Daemon::start_bare(&Options { profiles: "bash", floor: 0, config: &config, ..Options::default() });
    daemon.terminate();
    let store = Store::open(&state(&daemon), StoreOptions::default()).unwrap();
    for id in ids {
        put(&store, id, url);
    }
    drop(store);
    daemon.start_again();
    Left { daemon, _sockets: sockets }
}

fn put(store: &Store, id: &str, url: &str) {
    let owner = RecordOwner { principal: "token:ci".to_owned(), tenant: "t".to_owned() };
    let intake = Intake {
        owner: owner.clone(),
        id: id.to_owned(),
        digest: [0; 32],
        language: "bash".to_owned(),
        request: b"{}".to_vec(),
        inputs: StagedOutputs::default(),
    };
    let IntakeResult::Accepted { key } = store.intake(intake).wait().unwrap() else { panic!("{id} is known") };
    let entry = HistoryEntry {
        owner,
        id: id.to_owned(),
        language: "bash".to_owned(),
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
        receiver: url.to_owned(),
        url: format!("{url}/hook?key=secret-{id}"),
        token: [7; 32],
    };
    let finish = Finish {
        key,
        entry,
        report: report(id).into_bytes(),
        attached: Attached::default(),
        outputs: StagedOutputs::default(),
        is_awaited: true,
        callback: Some(callback),
    };
    assert!(matches!(store.finish(finish).wait().unwrap(), FinishResult::Answered { .. }));
}

fn report(id: &str) -> String {
    json!({
        "id": id, "verdict": "accepted", "message": "", "blame": null, "tests": [], "timing": {},
        "score": { "passed": 0, "total": 0, "points": 0.0, "max_points": 0.0 },
    })
    .to_string()
}

/// Callbacks that wait, as the store of a daemon that has ended says.
fn waiting(daemon: &mut Daemon) -> u64 {
    daemon.terminate();
    Store::open(&state(daemon), StoreOptions::default()).unwrap().figures().unwrap().callbacks
}

fn row(daemon: &Daemon) -> Value {
    let health = daemon.caller().ok("daemon.health", json!({}));
    let mut rows = health["checks"].as_array().unwrap().iter();
    rows.find(|row| row["name"] == "callbacks").unwrap_or_else(|| panic!("{health}")).clone()
}

/// Computes the signature with Python, from the secret's file, as a receiver with the key would.
fn python_signature(state: &Path, signature: &str, body: &str) -> String {
    let script = "
import hashlib, hmac, sys
secret = bytes.fromhex(open(sys.argv[1]).read().strip())
of_key = b'assay callback: key of a token, version 1\\0' + bytes([7] * 32)
key = hmac.new(secret, of_key, hashlib.sha256).hexdigest()
t = dict(part.split('=') for part in sys.argv[2].split(','))['t']
print(f't={t},v1=' + hmac.new(key.encode(), f'{t}.{sys.argv[3]}'.encode(), hashlib.sha256).hexdigest())";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(state.join("callback-secret")).args([signature, body]);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn callbacks_of_an_earlier_daemon_are_delivered_signed_and_the_log_has_no_url() {
    let receiver = TestReceiver::start(204);
    let Left { mut daemon, _sockets } = leave(&receiver.url, &["a", "b", "c"]);
    // they wait, and health says for what
    eventually("health says it", || row(&daemon)["ok"] == false);
    assert!(row(&daemon)["remedy"].as_str().unwrap().contains("assay-egress --config FILE"), "{}", row(&daemon));
    assert!(receiver.arrived().is_empty());
    let _egress = Egress::start(&daemon);
    eventually("all are delivered", || receiver.arrived().len() == 3);
    for (head, body) in receiver.arrived() {
        let id = header(&head, "assay-delivery").trim_start_matches("delivery-");
        assert!(head.starts_with(&format!("POST /hook?key=secret-{id} HTTP/1.1")), "{head}");
        assert_eq!(body, report(id));
        let signature = header(&head, "assay-signature");
        assert_eq!(signature, python_signature(&state(&daemon), signature, &body));
        assert_eq!(format!("http://{}", header(&head, "host")), receiver.url);
    }
    eventually("health is well again", || row(&daemon)["ok"] == true);
    assert_eq!(waiting(&mut daemon), 0);
    let egress_log = std::fs::read_to_string(daemon.folder.path().join("egress.log")).unwrap();
    for log in [daemon.log(), egress_log] {
        assert!(!log.contains("secret-") && !log.contains("/hook"), "{log}");
    }
}

#[test]
fn a_receiver_that_was_down_gets_its_callback_when_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let Left { mut daemon, _sockets } = leave(&format!("http://{address}"), &["a"]);
    let _egress = Egress::start(&daemon);
    eventually("it was tried", || daemon.log().contains("reason=\"connect: "));
    assert!(daemon.log().contains("submission=\"a\""), "{}", daemon.log());
    let receiver = TestReceiver::on(TcpListener::bind(address).unwrap(), 500);
    eventually("it is tried again", || !receiver.arrived().is_empty());
    receiver.status.store(200, Ordering::Relaxed);
    eventually("and again", || receiver.arrived().len() == 2);
    assert_eq!(receiver.deliveries(), ["delivery-a"; 2]);
    eventually("it is noted", || row(&daemon)["message"] == "0 waiting");
    assert_eq!(waiting(&mut daemon), 0);
}

#[test]
fn a_kill_of_either_process_delivers_again_with_the_same_id() {
    let receiver = TestReceiver::start(SILENT);
    let Left { mut daemon, _sockets } = leave(&receiver.url, &["a"]);
    let mut egress = Egress::start(&daemon);
    eventually("it arrived", || receiver.arrived().len() == 1);
    // between the receiver's answer and the note of it
    daemon.kill9();
    daemon.start_again();
    eventually("the next daemon delivers it", || receiver.arrived().len() == 2);
    egress.kill9();
    eventually("health says it", || row(&daemon)["ok"] == false);
    receiver.status.store(200, Ordering::Relaxed);
    let _egress = Egress::start(&daemon);
    eventually("it is delivered", || row(&daemon)["message"] == "0 waiting");
    assert_eq!(receiver.deliveries(), ["delivery-a"; 3]);
    assert_eq!(waiting(&mut daemon), 0);
}

#[test]
fn a_receiver_that_is_no_longer_named_gets_nothing() {
    let receiver = TestReceiver::start(200);
    let Left { mut daemon, _sockets } = leave(&receiver.url, &["a"]);
    let config = daemon.folder.path().join("assayd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(&format!("'{}', ", receiver.url), "")).unwrap();
    let _egress = Egress::start(&daemon);
    eventually("it is refused", || daemon.log().contains("is not a receiver of callbacks here"));
    assert!(receiver.arrived().is_empty());
    assert_eq!(waiting(&mut daemon), 1, "it waits: the operator may name it again");
}

#[test]
fn a_caller_without_a_token_may_not_name_a_url() {
    let config = "[http]\ncallbacks=['hooks.example']\n";
    let daemon = Daemon::start_bare(&Options { profiles: "bash", floor: 0, config, ..Options::default() });
    let mut caller = daemon.caller();
    for method in ["submission.submit", "submission.run"] {
        for url in ["https://hooks.example/a", "https://evil.example/", "nonsense"] {
            let submission = with(submission("bash", "echo x"), "callback_url", json!(url));
            let error = caller.error(method, submission);
            assert_eq!((&error["data"]["code"], &error["data"]["field"]), (&json!("denied"), &json!("callback_url")));
            assert!(error["message"].as_str().unwrap().contains("assay token add"), "{error}");
        }
    }
}

const TOKEN: &str = "assay_0000000000000000000000000000000000000000000000000000000000000000";

/// POSTs a submission with a token over HTTP on a Unix socket; returns status and body.
fn post(socket: &Path, path: &str, submission: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let body = submission.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

#[test]
fn a_token_gets_its_reports_delivered_also_by_the_next_daemon() {
    let receiver = TestReceiver::start(200);
    let sockets = tempfile::tempdir().unwrap();
    let (http, egress) = (sockets.path().join("http.sock"), sockets.path().join("egress.sock"));
    let sha256: String = Sha256::digest(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = format!(
        "[http]\nlisten='unix:{}'\napi=true\ncallbacks=['{}']\negress_socket='{}'\n\
         [[http.tokens]]\nname='ci'\nsha256='{sha256}'\ntenant='t'\n",
        http.display(),
        receiver.url,
        egress.display()
    );
    let mut daemon = Daemon::start(&Options { profiles: "bash", config: &config, ..Options::default() });
    daemon.wait_for_engine();
    let mut egress = Egress::start(&daemon);
    let asks =
        |id: &str, url: &str| with(with(submission("bash", "echo x"), "id", json!(id)), "callback_url", json!(url));
    let url = format!("{}/hook?key=secret", receiver.url);

    // the key is shown to who makes a token, and in no list
    let added = daemon.caller().ok("token.add", json!({ "name": "made", "tenant": "t" }));
    let sha256: [u8; 32] = Sha256::digest(added["token"].as_str().unwrap()).into();
    assert_eq!(added["callback_key"], callback_key(&state(&daemon), &sha256).as_str());
    assert!(!daemon.caller().ok("token.list", json!({})).to_string().contains("callback_key"));
    let page = std::fs::read_to_string(crate::harness::root().join("docs/OPERATIONS.md")).unwrap();
    let from = page.find("{ printf 'assay callback: key").unwrap();
    let command = page[from..].split("```").next().unwrap().replace("/var/lib/assay", state(&daemon).to_str().unwrap());
    let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let computed = Command::new("sh").args(["-c", &command]).env("SHA256", hex).output().unwrap();
    let computed = String::from_utf8(computed.stdout).unwrap();
    assert!(computed.trim().ends_with(added["callback_key"].as_str().unwrap()), "{computed}");

    // what cannot be delivered is refused at once
    for (path, url, status, code) in [
        ("/api/v1/submissions?wait=false", "http://evil.example/", 403, "denied"),
        ("/api/v1/submissions?wait=false", "http://127.0.0.1:1/", 403, "denied"),
        ("/api/v1/submissions?wait=false", "nonsense", 400, "bad_request"),
        ("/api/v1/submissions?wait=true", &url, 400, "bad_request"),
    ] {
        let (found, problem) = post(&http, path, &asks("refused", url));
        assert_eq!((found, &problem["code"], &problem["field"]), (status, &json!(code), &json!("callback_url")));
    }

    let (status, first) = post(&http, "/api/v1/submissions?wait=false", &asks("first", &url));
    assert_eq!((status, &first["id"]), (202, &json!("first")));
    eventually("it is delivered", || receiver.arrived().len() == 1);
    let (head, body) = receiver.arrived().remove(0);
    let delivered: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&delivered["id"], &delivered["verdict"], &delivered["run"]["stdout"]),
        (&json!("first"), &json!("accepted"), &json!("x\n"))
    );
    let key = callback_key(&state(&daemon), &Sha256::digest(TOKEN).into());
    let signature = header(&head, "assay-signature");
    let seconds = signature.split([',', '=']).nth(1).unwrap().parse().unwrap();
    assert_eq!(signature, key.signature(seconds, body.as_bytes()));

    // acknowledged, and killed with everything that delivers
    egress.kill9();
    let ids: Vec<String> = (0..10).map(|at| format!("later-{at}")).collect();
    for id in &ids {
        assert_eq!(post(&http, "/api/v1/submissions?wait=false", &asks(id, &url)).0, 202);
    }
    daemon.kill9();
    daemon.start_again();
    let _egress = Egress::start(&daemon);
    eventually("all are delivered", || receiver.arrived().len() > ids.len());
    let mut of_deliveries = BTreeMap::<String, BTreeSet<String>>::new();
    for (head, body) in receiver.arrived() {
        let report: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(report["verdict"], "accepted");
        let id = report["id"].as_str().unwrap().to_owned();
        of_deliveries.entry(id).or_default().insert(header(&head, "assay-delivery").to_owned());
    }
    let found: Vec<&String> = of_deliveries.keys().collect();
    assert_eq!(found, std::iter::once(&"first".to_owned()).chain(&ids).collect::<Vec<_>>());
    assert!(of_deliveries.values().all(|deliveries| deliveries.len() == 1), "{of_deliveries:?}");
    assert!(!daemon.log().contains("key=secret"), "{}", daemon.log());
}

/// The key of a token, as `assay token add` shows it.
fn callback_key(state: &Path, sha256: &[u8; 32]) -> CallbackKey {
    let secret = std::fs::read_to_string(state.join("callback-secret")).unwrap();
    CallbackSecret::from_text(&secret).unwrap().key(sha256)
}

#[test]
fn the_receiver_of_the_examples_believes_signed_reports_only_and_drops_repeats() {
    let secret = CallbackSecret::from_text(&"0f".repeat(32)).unwrap();
    let mut python = Command::new("python3");
    python.arg(crate::harness::root().join("examples/callback_receiver.py"));
    python.env("CALLBACK_KEY", secret.key(&[7; 32]).as_str());
    let mut child = python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let _ends_with_the_test = Egress(child);
    let url = lines.next().unwrap().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let send = |delivery: &str, signature: &str, body: &str| {
        let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        let length = body.len();
        let head = format!("Assay-Delivery: {delivery}\r\nAssay-Signature: {signature}\r\nContent-Length: {length}");
        stream
            .write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\nConnection: close\r\n\r\n{body}").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let sign = |seconds: u64, body: &str| secret.key(&[7; 32]).signature(seconds, body.as_bytes());
    let (first, second) = (report("a"), report("b"));
    for (delivery, signature, body, status) in [
        ("1", sign(now, &first), &first, 204),
        ("1", sign(now, &first), &first, 204),
        ("2", sign(now, &first), &second, 401),
        ("2", sign(now - 3600, &second), &second, 401),
        ("2", secret.key(&[8; 32]).signature(now, second.as_bytes()), &second, 401),
        ("2", "t=,v1=".to_owned(), &second, 401),
        ("2", "nonsense".to_owned(), &second, 401),
        ("2", sign(now, &second), &second, 204),
    ] {
        assert_eq!(send(delivery, &signature, body), status, "{delivery} {signature}");
    }
    let printed: Vec<String> = lines.by_ref().take(2).map(Result::unwrap).collect();
    assert_eq!(printed, ["a accepted", "b accepted"]);
}
