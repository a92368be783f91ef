//! SIGKILL of the daemon at random instants under the load of four callers: every submission that
//! was acknowledged gets one report, and equal ids have equal reports. A kill meets submissions
//! before and after their commit, queued, in a sandbox, judged and answered.
//!
//! `make chaos-store` kills 100 times; `make test` does so a few times.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use store::{HistoryFilter, Store};

use super::volatile_disk::Random;
use crate::harness::{Daemon, Options, submission, with};

/// Kills in `make test`; ASSAY_STORE_INSTANTS asks for more.
const INSTANTS: usize = 8;

const CALLERS: usize = 4;

/// Size of the large outputs, which are files beside the database.
const LARGE_BYTES: usize = 1_500_000;

/// A connection that ends when the daemon is killed.
struct Connection {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Connection {
    /// Connects; waits while the daemon is not up.
    fn open(socket: &Path) -> Connection {
        for _ in 0..3000 {
            if let Ok(writer) = UnixStream::connect(socket)
                && let Ok(reader) = writer.try_clone()
            {
                let mut connection = Connection { writer, reader: BufReader::new(reader) };
                if connection.line().is_some() {
                    return connection;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the daemon does not listen");
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(1..) => serde_json::from_str(&line).ok(),
            _ => None,
        }
    }

    /// The response; `None` if the daemon was killed before.
    fn call(&mut self, method: &str, params: &Value) -> Option<Value> {
        let line = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.writer.write_all(format!("{line}\n").as_bytes()).ok()?;
        self.line()
    }
}

/// A submission whose output is its id.
fn work(id: &str, kind: u64) -> Value {
    let code = match kind {
        0 => format!("echo {id}"),
        1 => format!("sleep 0.3; echo {id}"),
        2 => "cat".to_owned(),
        _ => format!("head -c {LARGE_BYTES} /dev/zero | tr '\\0' x; echo {id}"),
    };
    let work = with(submission("bash", &code), "id", json!(id));
    with(work, "limits", json!({ "cpu_ms": 60_000, "wall_ms": 120_000, "output_bytes": 4_000_000 }))
}

/// What callers were told.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<Vec<String>>,
    reports: Mutex<BTreeMap<String, Value>>,
}

impl Told {
    /// An id has one report.
    fn report(&self, id: &str, report: Value) {
        let mut reports = self.reports.lock().unwrap();
        let known = reports.entry(id.to_owned()).or_insert_with(|| report.clone());
        assert_eq!(*known, report, "{id} has two reports");
    }
}

/// Hands in one submission until it is acknowledged, and asks for some reports.
fn hand_in(socket: &Path, told: &Told, id: &str, random: &mut Random) {
    let kind = random.below(4);
    let mut connection = Connection::open(socket);
    loop {
        let mut work = work(id, kind);
        if kind == 2 {
            let put = json!({ "data_b64": BASE64.encode(format!("{id}\n")), "offset": 0, "eof": true });
            match connection.call("blob.put", &put) {
                Some(answer) => work["stdin"] = answer["result"].clone(),
                None => {
                    connection = Connection::open(socket);
                    continue;
                }
            }
        }
        match connection.call("submission.submit", &work) {
            Some(answer) if answer["result"]["id"] == id => break,
            // the blob of the first try has another id
            Some(answer) if kind == 2 && answer["error"]["data"]["code"] == "conflict" => break,
            Some(answer) => panic!("{id}: {answer}"),
            None => connection = Connection::open(socket),
        }
    }
    told.acknowledged.lock().unwrap().push(id.to_owned());
    let earlier = {
        let acknowledged = told.acknowledged.lock().unwrap();
        acknowledged[random.below(acknowledged.len() as u64) as usize].clone()
    };
    for id in [id, &earlier] {
        if random.below(2) == 0
            && let Some(answer) = connection.call("submission.wait", &json!({ "id": id }))
        {
            // a daemon that has just begun to end says so
            assert!(answer["result"]["verdict"].is_string(), "{id}: {answer}");
            told.report(id, answer["result"].clone());
        }
    }
}

/// The report has the output of its submission.
fn check(connection: &mut Connection, id: &str, report: &Value) {
    let stdout = match report["run"]["stdout"]["blob"].as_str() {
        None => report["run"]["stdout"].as_str().unwrap_or_default().to_owned(),
        Some(blob) => {
            let ask = json!({ "blob": blob, "offset": LARGE_BYTES, "max": 100 });
            let answer = connection.call("blob.get", &ask).unwrap();
            let bytes = answer["result"]["data_b64"].as_str().unwrap_or_else(|| panic!("{id}: {answer}"));
            String::from_utf8(BASE64.decode(bytes).unwrap()).unwrap()
        }
    };
    assert_eq!((&report["verdict"], stdout.trim_end()), (&json!("accepted"), id), "{report}");
}

#[test]
fn what_was_acknowledged_is_answered_once_wherever_the_daemon_is_killed() {
    let asked = std::env::var("ASSAY_STORE_INSTANTS").ok().map(|count| count.parse::<usize>().unwrap());
    let instants = asked.unwrap_or(INSTANTS);
    let seed = std::env::var("ASSAY_STORE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut daemon = Daemon::start(&Options { profiles: "bash", floor: 2, ceiling: 4, ..Options::default() });
    let socket = daemon.socket();
    let (told, over) = (Told::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (told, over, socket) = (&told, &over, &socket);
                scope.spawn(move || {
                    let mut random = Random::new(seed * 1000 + caller as u64);
                    for number in 0.. {
                        if over.load(Ordering::SeqCst) {
                            break;
                        }
                        hand_in(socket, told, &format!("{caller}-{number}"), &mut random);
                    }
                })
            })
            .collect();
        let mut random = Random::new(seed);
        for _ in 0..instants {
            if callers.iter().any(|caller| caller.is_finished()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(random.below(700)));
            daemon.kill9();
            daemon.start_again();
        }
        over.store(true, Ordering::SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
    let acknowledged = told.acknowledged.lock().unwrap().clone();
    let mut connection = Connection::open(&socket);
    let mut given_up = 0;
    for id in &acknowledged {
        let answer = connection.call("submission.wait", &json!({ "id": id })).unwrap();
        let report = answer["result"].clone();
        told.report(id, report.clone());
        // it ran at three of the kills
        let is_given_up = report["message"].as_str().is_some_and(|message| message.contains("ended 3 times"));
        match is_given_up {
            true => given_up += 1,
            false => check(&mut connection, id, &report),
        }
    }
    daemon.terminate();
    let store = Store::open(&daemon.folder.path().join("state"), store::Options::default()).unwrap();
    let (mut rows, mut after) = (BTreeMap::<String, usize>::new(), None);
    loop {
        let page = store.list(&HistoryFilter::default(), after, 1000).unwrap();
        page.rows.into_iter().for_each(|row| *rows.entry(row.entry.id).or_default() += 1);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let once = acknowledged.iter().filter(|id| rows.get(*id) == Some(&1)).count();
    eprintln!(
        "{instants} kills, {} acknowledged, {once} answered once, {given_up} given up after three starts",
        acknowledged.len()
    );
    assert_eq!(once, acknowledged.len(), "{rows:?}");
    assert_eq!(store.held().unwrap(), []);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    assert!(acknowledged.len() >= instants, "the load was small");
}
