//! The client programs of examples/, each against a real daemon: judging, following events, a
//! refusal with a retry, and continuing after a broken connection. A client whose language may be
//! missing on this machine runs in that language's image.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use docker::{Client, ContainerSpec, HostConfig, WaitCondition};
use serde_json::json;

use crate::harness::{Daemon, Options, engine_socket, eventually, root, submission, with};

/// How a client ended.
#[derive(Debug)]
pub struct Ended {
    pub status: i64,
    pub stdout: String,
    pub stderr: String,
}

/// A relay to the daemon that breaks the first connection after this many lines. Returns the count
/// of connections.
fn cutting(path: &Path, daemon: PathBuf, after: usize) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let far = UnixStream::connect(&daemon).unwrap();
            let (mut to_far, from_near) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut &from_near, &mut to_far));
            std::thread::spawn(move || {
                let lines = BufReader::new(&far).split(b'\n').map_while(Result::ok);
                for (number, line) in lines.enumerate() {
                    if first && number == after || (&near).write_all(&[line, b"\n".to_vec()].concat()).is_err() {
                        break;
                    }
                }
                let _ = near.shutdown(std::net::Shutdown::Both);
                let _ = far.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    count
}

/// Runs a command on this machine.
pub fn here(command: &str, folder: &Path, id: &str) -> Ended {
    let mut shell = Command::new("bash");
    shell.args(["-c", command]).env("ASSAY_SOCKET", folder.join("client.sock")).env("ASSAY_ID", id);
    shell.env("examples", root().join("examples")).env("folder", folder);
    let done = shell.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ended { status: done.status.code().map_or(-1, i64::from), stdout: text(&done.stdout), stderr: text(&done.stderr) }
}

/// Runs a command in a profile's image, with the examples and the socket's folder in it.
pub fn inside(image: &str, command: &str, folder: &Path, id: &str) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let examples = root().join("examples");
    let spec = ContainerSpec {
        image: image.to_owned(),
        entrypoint: vec!["/bin/sh".into(), "-c".into()],
        cmd: vec![format!("({command}) >\"$folder/stdout\" 2>\"$folder/stderr\"")],
        env: vec![
            format!("ASSAY_SOCKET={}", folder.join("client.sock").display()),
            format!("ASSAY_ID={id}"),
            format!("examples={}", examples.display()),
            format!("folder={}", folder.display()),
            "HOME=/tmp".into(),
            "GO111MODULE=off".into(),
            "GOCACHE=/tmp/gocache".into(),
            "CGO_ENABLED=0".into(),
        ],
        labels: [("assay.test".to_owned(), "client".to_owned())].into(),
        user: "0:0".into(),
        host_config: HostConfig {
            network_mode: "none".into(),
            binds: vec![format!("{0}:{0}:ro", examples.display()), format!("{0}:{0}", folder.display())],
            ..HostConfig::default()
        },
        ..ContainerSpec::default()
    };
    let status = runtime.block_on(async {
        let client = Client::unix(engine_socket());
        let name = format!("assay-test-client-{}", uuid::Uuid::new_v4());
        let created = client.create_container(&name, &spec).await.unwrap();
        let ended = async {
            client.start_container(&created.id).await?;
            client.wait_container(&created.id, WaitCondition::NotRunning).await
        }
        .await;
        client.remove_container(&created.id, true).await.unwrap();
        ended.unwrap()
    });
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    Ended { status, stdout: text("stdout"), stderr: text("stderr") }
}

/// Asserts what every client does. `client` runs one with these arguments under this id.
fn behaves(daemon: &Daemon, client: impl Fn(&str, &str) -> Ended + Sync) {
    let folder = daemon.folder.path();
    std::fs::write(folder.join("double.py"), "print(int(input()) * 2)\n").unwrap();
    let socket = folder.join("client.sock");

    // the connection breaks after hello, the submission's id, and one event
    let count = cutting(&socket, daemon.socket(), 3);
    let ended = client("python \"$folder/double.py\" 21=42 -4=-8 3=7", "double-1");
    assert_eq!(ended.status, 1, "{ended:?}");
    assert_eq!(ended.stdout, "1 accepted\n2 accepted\n3 wrong_answer\nwrong_answer 2/3\n", "{ended:?}");
    assert_eq!(count.load(Ordering::SeqCst), 2, "{ended:?}");
    // it continued with the first event that it had not received
    let accepted = ended.stderr.lines().filter(|line| line.trim() == "accepted").count();
    assert_eq!(accepted, 1, "{ended:?}");
    let rows = daemon.caller().ok("submission.list", json!({}));
    assert_eq!(rows["submissions"].as_array().unwrap().len(), 1, "handed in once, though twice sent: {rows}");

    let ended = client("python \"$folder/double.py\" 21=42", "double-2");
    assert_eq!((ended.status, ended.stdout.as_str()), (0, "1 accepted\naccepted 1/1\n"), "{ended:?}");
    let ended = client("cobol \"$folder/double.py\" 21=42", "double-3");
    assert_eq!((ended.status, ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert!(ended.stderr.contains("unknown_profile"), "{ended:?}");

    // refused while the quota is used up, and admitted afterwards
    let mut caller = daemon.caller();
    let endless =
        with(submission("python", "import time\nwhile True: time.sleep(1)"), "limits", json!({ "wall_ms": 600_000 }));
    let places: Vec<_> = (0..2).map(|_| caller.ok("submission.submit", endless.clone())["id"].clone()).collect();
    let before = caller.ok("daemon.status", json!({}))["counters"]["refused"].clone();
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| client("python \"$folder/double.py\" 21=42", "double-4"));
        eventually("it is refused", || caller.ok("daemon.status", json!({}))["counters"]["refused"] != before);
        for id in &places {
            caller.ok("submission.cancel", json!({ "id": id }));
        }
        running.join().unwrap()
    });
    assert_eq!((ended.status, ended.stdout.as_str()), (0, "1 accepted\naccepted 1/1\n"), "{ended:?}");
    assert!(ended.stderr.contains("quota_exceeded"), "{ended:?}");
    std::fs::remove_file(socket).unwrap();
}

fn daemon() -> Daemon {
    let daemon = Daemon::start(&Options { floor: 1, config: "[queue]\nmax_per_uid=2\n", ..Options::default() });
    daemon.warm();
    daemon
}

/// The image of a profile, which is made when it is missing.
pub fn image(profile: &str) -> String {
    let daemon = Daemon::start(&Options { profiles: profile, floor: 0, ..Options::default() });
    let built = daemon.caller().ok("image.build", json!({ "profile": profile }));
    built["tag"].as_str().unwrap().to_owned()
}

#[test]
fn the_python_client_works() {
    let daemon = daemon();
    let folder = daemon.folder.path();
    behaves(&daemon, |words, id| here(&format!("/usr/bin/python3 \"$examples/client.py\" {words}"), folder, id));
}

#[test]
fn the_shell_client_works() {
    let daemon = daemon();
    let folder = daemon.folder.path();
    behaves(&daemon, |words, id| here(&format!("bash \"$examples/client.sh\" {words}"), folder, id));
}

#[test]
fn the_node_client_works() {
    let (daemon, image) = (daemon(), image("javascript"));
    let folder = daemon.folder.path();
    behaves(&daemon, |words, id| inside(&image, &format!("node \"$examples/client.mjs\" {words}"), folder, id));
}

#[test]
fn the_go_client_works() {
    let (daemon, image) = (daemon(), image("go"));
    let folder = daemon.folder.path();
    let build = inside(
        &image,
        "go vet \"$examples/client.go\" && go build -o \"$folder/client\" \"$examples/client.go\"",
        folder,
        "build",
    );
    assert_eq!(build.status, 0, "{build:?}");
    behaves(&daemon, |words, id| inside(&image, &format!("\"$folder/client\" {words}"), folder, id));
}
