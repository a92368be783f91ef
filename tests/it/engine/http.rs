//! The HTTP listener from outside: its responses, what it refuses, and that no client of it
//! keeps the daemon from judging.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use config::bounds;
use serde_json::{Value, json};

use crate::harness::{Daemon, Options, eventually, submission};

/// Enables the HTTP listener, on a port that the kernel chooses.
pub const OPEN: &str = "[http]\nlisten='127.0.0.1:0'\n";

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The listener's address, `127.0.0.1:port`, from the daemon's log.
pub fn http_address(daemon: &Daemon) -> String {
    let mut found = None;
    eventually("the HTTP listener is open", || {
        let log = daemon.log();
        let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
        found = log.rsplit_once("http://127.0.0.1:").map(|(_, rest)| format!("127.0.0.1:{}", digits(rest)));
        found.is_some()
    });
    found.unwrap()
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream
}

/// Reads one response from a connection that stays open.
fn read(stream: &mut impl Read, has_body: bool) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "it ended in {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut answer = Answer { status: head[9..12].parse().unwrap(), head, body: String::new() };
    if has_body {
        let mut body = vec![0; answer.field("content-length").unwrap().parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
    }
    answer
}

fn ask_with(address: &str, method: &str, path: &str, more: &str) -> Answer {
    let mut stream = connect(address);
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{more}connection: close\r\n\r\n").unwrap();
    read(&mut stream, method != "HEAD")
}

pub fn get(address: &str, path: &str) -> Answer {
    ask_with(address, "GET", path, "")
}

fn bare() -> Options<'static> {
    Options { profiles: "bash", floor: 0, config: OPEN, ..Options::default() }
}

#[test]
fn health_has_the_fields_that_existing_queue_worker_probes_read() {
    let daemon = Daemon::start(&bare());
    daemon.wait_for_engine();
    let address = http_address(&daemon);
    let answer = get(&address, "/health");
    let health = answer.json();
    assert_eq!((answer.status, &health["status"], &health["docker"]), (200, &json!("healthy"), &json!("connected")));
    assert_eq!((&health["redis"], &health["error"]), (&json!("not configured"), &Value::Null));
    assert_eq!(health["instance"], daemon.label);
    let told = health["timestamp"].as_str().unwrap();
    let told = humantime::parse_rfc3339(told).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert!(SystemTime::now().duration_since(told).unwrap() < Duration::from_secs(300));
    // the same checks as over the socket
    let checks = daemon.caller().ok("daemon.health", json!({}))["checks"].clone();
    assert_eq!(health["checks"][0]["name"], checks[0]["name"]);
    assert_eq!(get(&address, "/livez").json(), json!({ "status": "alive" }));
    let ready = get(&address, "/readyz");
    assert_eq!((ready.status, ready.json()), (200, json!({ "status": "ready" })));
}

#[test]
fn only_get_and_head_of_known_routes_are_answered() {
    let daemon = Daemon::start(&bare());
    let address = http_address(&daemon);
    for path in ["/health", "/livez", "/readyz", "/metrics", "/metrics?x=1"] {
        let (get, head) = (ask_with(&address, "GET", path, ""), ask_with(&address, "HEAD", path, ""));
        assert_eq!((get.status, head.status, head.field("content-type")), (200, 200, get.field("content-type")));
        assert!(head.field("content-length").unwrap().parse::<usize>().unwrap() > 0 && head.body.is_empty());
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
            let no = ask_with(&address, method, path, "");
            assert_eq!((no.status, no.field("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    for path in ["/", "/metric", "/metrics/", "/health/../metrics", "//health", "/%6detrics"] {
        let no = get(&address, path);
        assert_eq!(no.status, 404, "{path}");
        assert_eq!(no.json()["paths"], json!(["/health", "/livez", "/readyz", "/metrics"]));
    }
    for more in ["content-length: 3\r\n", "transfer-encoding: chunked\r\n"] {
        let no = ask_with(&address, "POST", "/health", more);
        assert_eq!((no.status, no.field("connection")), (413, Some("close")), "{no:?}");
    }
}

#[test]
fn without_an_engine_the_daemon_is_unhealthy_with_a_reason_and_stays_up() {
    let daemon = Daemon::start_bare(&Options {
        engine: Some("unix:///nowhere/docker.sock"),
        config: OPEN,
        ..Options::default()
    });
    let address = http_address(&daemon);
    // until the first ping of the engine, submissions are admitted and wait
    eventually("the engine was asked", || get(&address, "/health").status == 500);
    let health = get(&address, "/health").json();
    assert_eq!(health["status"], "unhealthy");
    assert_eq!(health["docker"], "disconnected");
    let error = health["error"].as_str().unwrap();
    assert!(error.contains("/nowhere/docker.sock"), "{error}");
    assert_eq!(get(&address, "/livez").status, 200);
    let ready = get(&address, "/readyz");
    assert_eq!((ready.status, &ready.json()["status"]), (503, &json!("not ready")));
    let metrics = get(&address, "/metrics").body;
    assert!(metrics.contains("assay_host_state{host=\"local\",state=\"down\"} 1.0\n"), "{metrics}");
    assert!(metrics.contains("call=\"ping_the_engine\",kind=\"unreachable\""), "{metrics}");
    assert!(!metrics.contains("assay_engine_info"), "{metrics}");
}

#[test]
fn a_draining_daemon_reports_it_until_its_end_and_is_not_ready() {
    let mut daemon = Daemon::start(&Options { floor: 1, ..bare() });
    let address = http_address(&daemon);
    daemon.warm();
    let mut caller = daemon.caller();
    let run = caller.send("submission.run", &submission("bash", "sleep 6; echo done"));
    let mut admin = daemon.caller();
    eventually("it runs", || admin.ok("daemon.status", json!({}))["queue"]["running"] == 1);
    admin.ok("daemon.drain", json!({}));
    let ready = get(&address, "/readyz");
    assert_eq!((ready.status, &ready.json()["reason"]), (503, &json!("the daemon is draining")));
    let health = get(&address, "/health");
    assert_eq!(
        (health.status, &health.json()["draining"], &health.json()["status"]),
        (200, &json!(true), &json!("degraded"))
    );
    assert!(get(&address, "/metrics").body.contains("assay_draining 1.0\n"));
    assert_eq!(get(&address, "/livez").status, 200);
    assert_eq!(caller.answer(run)["result"]["run"]["stdout"], "done\n");
    daemon.child.wait().unwrap();
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let daemon = Daemon::start(&bare());
    let mut stream = connect(&http_address(&daemon));
    // three pipelined requests, in pieces of 7 bytes
    let three = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: x\r\n\r\nHEAD /readyz HTTP/1.1\r\nhost: x\r\n\r\n";
    for piece in three.as_bytes().chunks(7) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let answers = [read(&mut stream, true), read(&mut stream, true), read(&mut stream, false)];
    assert_eq!(answers.map(|answer| answer.status), [200, 404, 200]);
    // degraded until the engine has answered everything that is asked at the start
    let mut health = || {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        read(&mut stream, true).json()
    };
    eventually("the daemon is healthy", || health()["status"] == "healthy");
    for _ in 0..20 {
        let now = health();
        assert_eq!(now["status"], "healthy", "{now}");
    }
    // a client that has shut down its writing half gets its response, as with `printf ... | nc`
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read(&mut stream, true).status, 200);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    // an HTTP/1.0 connection is closed after its response
    let mut old = connect(&http_address(&daemon));
    old.write_all(b"GET /livez HTTP/1.0\r\n\r\n").unwrap();
    let mut all = String::new();
    old.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.0 200") && all.ends_with("{\"status\":\"alive\"}\n"), "{all}");
}

#[test]
fn hostile_http_clients_do_not_stop_judging() {
    let daemon = Daemon::start(&Options { floor: 2, ..bare() });
    let address = http_address(&daemon);
    daemon.warm();
    let mut caller = daemon.caller();
    let mut judges = move |when: &str| {
        let report = caller.run("bash", "echo 1");
        assert_eq!(report["verdict"], "accepted", "{when}: {report}");
    };
    // garbage of every kind, each on a connection of its own
    let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let garbage: [&[u8]; 9] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello \r\n\r\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.status\"}\n\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost\x00: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        large.as_bytes(),
        many.as_bytes(),
    ];
    for words in garbage {
        let mut stream = connect(&address);
        // the daemon may close the connection before everything is written
        let _ = stream.write_all(words);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let refused = ["HTTP/1.1 4", "HTTP/1.0 4"].iter().any(|start| answer.starts_with(start));
        assert!(answer.is_empty() || refused, "{}: {answer}", words.escape_ascii().to_string().get(..60).unwrap_or(""));
    }
    judges("after garbage");

    // as many connections as the daemon accepts, each with an incomplete request
    let mut slow: Vec<TcpStream> = (0..bounds::MAX_HTTP_CONNECTIONS).map(|_| connect(&address)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ").unwrap();
    }
    let mut refused = None;
    eventually("one connection too many is refused", || {
        let mut text = Vec::new();
        let _ = connect(&address).read_to_end(&mut text);
        refused = Some(String::from_utf8_lossy(&text).into_owned());
        refused.as_ref().is_some_and(|text| text.starts_with("HTTP/1.1 503"))
    });
    assert!(refused.unwrap().contains("too many connections"));
    judges("while all HTTP connections are taken");
    // further bytes do not keep them open, and then the next connection is accepted
    eventually("the slow ones are closed", || {
        slow.retain_mut(|stream| stream.write_all(b"y").is_ok());
        slow.is_empty()
    });
    eventually("the next one is answered", || {
        let mut stream = connect(&address);
        let mut text = String::new();
        let asked = stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut text));
        asked.is_ok() && text.contains("200 OK")
    });
    judges("afterwards");
    let metrics = get(&address, "/metrics").body;
    let refused =
        metrics.lines().find_map(|line| line.strip_prefix("assay_http_connections_opened_total{result=\"refused\"} "));
    assert!(refused.unwrap().parse::<f64>().unwrap() >= 1.0, "{metrics}");
}

#[test]
fn a_unix_socket_is_the_groups_only_and_gone_with_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let config = format!("[http]\nlisten='unix:{}'\n", path.display());
    let mut daemon = Daemon::start(&Options { config: &config, ..bare() });
    daemon.wait_for_engine();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(read(&mut stream, true).json()["docker"], "connected");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    daemon.terminate();
    assert!(!path.exists());
}

/// Executes a command with a listener that is passed under the name `http`, as systemd does with
/// assay-http.socket.
const PASSED: &str = "import os, socket, sys
listener = socket.create_server(('127.0.0.1', 0))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='http')
os.execvp(sys.argv[1], sys.argv[1:])";

#[test]
fn a_listener_passed_as_http_takes_precedence_over_the_configuration() {
    let under = ["python3", "-c", PASSED];
    let config = "[http]\nlisten='127.0.0.1:1'\n";
    let daemon = Daemon::start(&Options { under: &under, config, ..bare() });
    let address = http_address(&daemon);
    assert_eq!((get(&address, "/health").status, get(&address, "/metrics").status), (200, 200));
    assert!(daemon.log().contains("http.listen is ignored"), "{}", daemon.log());
    // callers have a socket of their own
    assert!(daemon.socket().exists());
    assert_eq!(daemon.caller().run("bash", "echo 1")["verdict"], "accepted");
}

#[test]
fn http_is_off_unless_it_is_configured() {
    let daemon = Daemon::start(&Options { config: "", ..bare() });
    assert!(!daemon.log().contains("http://"), "{}", daemon.log());
    let mut listening = String::new();
    for table in ["tcp", "tcp6"] {
        listening += &std::fs::read_to_string(format!("/proc/{}/net/{table}", daemon.child.id())).unwrap();
    }
    // a listening socket of this process would be among its descriptors by its inode
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id()))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let is_open = |line: &str| sockets.iter().any(|inode| line.split_whitespace().nth(9) == Some(inode));
    assert!(!listening.lines().any(is_open), "{listening}");
}
