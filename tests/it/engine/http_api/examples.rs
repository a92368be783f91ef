//! The HTTP clients of examples/, each against a real daemon: judging, following events, a refusal
//! with a retry, and continuing after a connection that breaks.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{HttpCaller, TOKEN, settings};
use crate::engine::contract::examples::{Ended, here, image, inside};
use crate::harness::{Daemon, Options, eventually, submission, with};

/// A daemon whose API is on a Unix socket, which a container without a network reaches too, and on
/// none else.
fn daemon() -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("'unix:{}'", folder.path().join("http.sock").display());
    let config = settings("").replace("'127.0.0.1:0'", &socket) + "[queue]\nmax_per_uid=2\n";
    let daemon = Daemon::start(&Options { floor: 1, config: &config, ..Options::default() });
    daemon.warm();
    (daemon, folder)
}

/// A relay to the daemon that breaks the first connection after this many bytes of answers. Returns
/// the count of connections.
fn cutting(path: &Path, daemon: PathBuf, after: usize) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let far = UnixStream::connect(&daemon).unwrap();
            let (mut to_far, from_near) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut &from_near, &mut to_far);
                let _ = to_far.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || {
                let (mut piece, mut passed) = ([0; 64], 0);
                while let Ok(bytes @ 1..) = (&far).read(&mut piece) {
                    if (is_first && passed >= after) || (&near).write_all(&piece[..bytes]).is_err() {
                        break;
                    }
                    passed += bytes;
                }
                let _ = near.shutdown(std::net::Shutdown::Both);
                let _ = far.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    count
}

/// One request over the Unix socket, by curl.
fn curl(socket: &Path, verb: &str, path: &str, body: &Value) -> Value {
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "-X", verb, "--unix-socket"]).arg(socket).arg(format!("http://localhost{path}"));
    curl.args(["-H", &format!("Authorization: Bearer {TOKEN}"), "-H", "Content-Type: application/json"]);
    if !body.is_null() {
        curl.args(["-d", &body.to_string()]);
    }
    let done = curl.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    serde_json::from_slice(&done.stdout).unwrap_or_default()
}

fn behaves(daemon: &Daemon, http: &tempfile::TempDir, client: impl Fn(&str, &str) -> Ended + Sync) {
    let folder = daemon.folder.path();
    std::fs::write(folder.join("double.py"), "print(int(input()) * 2)\n").unwrap();
    let (socket, cut) = (http.path().join("http.sock"), folder.join("client.sock"));

    // the connection breaks in the answer to the submission, and among the events
    for (after, id) in [(128, "double-1"), (1024, "double-2")] {
        let count = cutting(&cut, socket.clone(), after);
        let ended = client("python \"$folder/double.py\" 21=42 -4=-8 3=7", id);
        assert_eq!(ended.status, 1, "{ended:?}");
        assert_eq!(ended.stdout, "1 accepted\n2 accepted\n3 wrong_answer\nwrong_answer 2/3\n", "{ended:?}");
        assert!(count.load(Ordering::SeqCst) >= 2, "it was not cut: {ended:?}");
        let accepted = ended.stderr.lines().filter(|line| line.trim() == "accepted").count();
        assert_eq!(accepted, 1, "an event came twice, or never: {ended:?}");
        std::fs::remove_file(&cut).unwrap();
    }
    let rows = daemon.caller().ok("submission.list", json!({}));
    assert_eq!(rows["submissions"].as_array().unwrap().len(), 2, "handed in once, though twice sent: {rows}");

    let _count = cutting(&cut, socket.clone(), usize::MAX);
    let ended = client("python \"$folder/double.py\" 21=42", "double-3");
    assert_eq!((ended.status, ended.stdout.as_str()), (0, "1 accepted\naccepted 1/1\n"), "{ended:?}");
    let ended = client("cobol \"$folder/double.py\" 21=42", "double-4");
    assert_eq!((ended.status, ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert!(ended.stderr.contains("unknown_profile"), "{ended:?}");

    // refused while the quota of the token is used up, and admitted afterwards
    let endless =
        with(submission("python", "import time\nwhile True: time.sleep(1)"), "limits", json!({ "wall_ms": 600_000 }));
    let submit =
        || curl(&socket, "POST", "/api/v1/submissions?wait=false", &endless)["id"].as_str().unwrap().to_owned();
    let places = [submit(), submit()];
    let mut caller = daemon.caller();
    let before = caller.ok("daemon.status", json!({}))["counters"]["refused"].clone();
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| client("python \"$folder/double.py\" 21=42", "double-5"));
        eventually("it is refused", || caller.ok("daemon.status", json!({}))["counters"]["refused"] != before);
        for id in &places {
            curl(&socket, "DELETE", &format!("/api/v1/submissions/{id}"), &Value::Null);
        }
        running.join().unwrap()
    });
    assert_eq!((ended.status, ended.stdout.as_str()), (0, "1 accepted\naccepted 1/1\n"), "{ended:?}");
    assert!(ended.stderr.contains("quota_exceeded"), "{ended:?}");
    std::fs::remove_file(cut).unwrap();
}

/// What an example needs to know of the listener; `$folder` is that of the relay.
fn variables() -> String {
    format!("ASSAY_URL=\"unix:$folder/client.sock\" ASSAY_TOKEN={TOKEN}")
}

#[test]
fn the_python_client_of_http_works() {
    let (daemon, http) = daemon();
    let folder = daemon.folder.path();
    let client = |words: &str| format!("{} /usr/bin/python3 \"$examples/http_client.py\" {words}", variables());
    behaves(&daemon, &http, |words, id| here(&client(words), folder, id));
}

#[test]
fn the_node_client_of_http_works() {
    let ((daemon, http), image) = (daemon(), image("javascript"));
    let folder = daemon.folder.path();
    let client = |words: &str| format!("{} node \"$examples/http_client.mjs\" {words}", variables());
    behaves(&daemon, &http, |words, id| inside(&image, &client(words), folder, id));
}

#[test]
fn the_clients_of_http_speak_tcp() {
    let (daemon, address) = super::serve(&Options { floor: 1, ..Options::default() });
    let folder = daemon.folder.path();
    std::fs::write(folder.join("double.py"), "print(int(input()) * 2)\n").unwrap();
    for program in ["/usr/bin/python3 \"$examples/http_client.py\"", "node \"$examples/http_client.mjs\""] {
        if program.starts_with("node") && std::process::Command::new("node").arg("--version").output().is_err() {
            continue;
        }
        let variables = format!("ASSAY_URL=http://{address} ASSAY_TOKEN={TOKEN}");
        let ended = here(&format!("{variables} {program} python \"$folder/double.py\" 21=42"), folder, "");
        assert_eq!((ended.status, ended.stdout.as_str()), (0, "1 accepted\naccepted 1/1\n"), "{program}: {ended:?}");
    }
    assert_eq!(HttpCaller::connect(&address).get("/api/v1/submissions").status, 200);
}
