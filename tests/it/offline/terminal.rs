//! The program `assay` on a terminal: colour, progress, keys, Ctrl-C; and none of that in a pipe.
//! Needs no engine.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::eventually;

/// A pseudo-terminal with `assay` running on it.
struct Terminal {
    master: std::fs::File,
    slave: OwnedFd,
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(socket: &Path, args: &[&str]) -> Terminal {
        let size = Winsize { ws_row: 20, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = Command::new(crate::programs::program("assay"));
        command.env("ASSAY_SOCKET", socket).env_remove("NO_COLOR").env("TERM", "xterm").args(args);
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let master = std::fs::File::from(pty.master);
        let output = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, received) = (master.try_clone().unwrap(), output.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = reader.read(&mut buffer) {
                received.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Terminal { master, slave: pty.slave, child, output }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, text: &str) {
        eventually(&format!("the terminal shows {text:?}"), || self.text().contains(text));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

/// A daemon for one connection: sends `server.hello`, then runs `act` on the calls it receives.
fn daemon(
    act: impl FnOnce(&mut dyn Iterator<Item = Value>, UnixStream) + Send + 'static,
) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("assay.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let params = json!({ "protocol": 1, "version": "0", "instance": "fake", "limits": {}, "features": [] });
        send(&mut stream, &json!({ "jsonrpc": "2.0", "method": "server.hello", "params": params }));
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        act(&mut lines.map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap()), stream);
    });
    (folder, socket)
}

fn send(stream: &mut UnixStream, line: &Value) {
    let _ = writeln!(stream, "{line}");
}

fn answer(stream: &mut UnixStream, call: &Value, result: &Value) {
    send(stream, &json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }));
}

fn status() -> Value {
    json!({ "version": "0", "instance": "fake", "uptime_ms": 5, "queue": { "callers": [] }, "counters": { "answered": 3 },
        "hosts": [{ "name": "local", "state": "up" }], "pools": [], "stages": {} })
}

/// A daemon that answers every call with a status.
fn status_daemon() -> (tempfile::TempDir, PathBuf) {
    daemon(|lines, mut stream| {
        for call in lines {
            answer(&mut stream, &call, &status());
        }
    })
}

fn has_echo(slave: &OwnedFd) -> bool {
    tcgetattr(slave.as_fd()).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
}

#[test]
fn top_restores_the_terminal_on_q_and_on_ctrl_c() {
    for by_key in [true, false] {
        let (_folder, socket) = status_daemon();
        let mut terminal = Terminal::start(&socket, &["top", "--interval", "0.1"]);
        terminal.wait_for("answers/s");
        eventually("keys are unbuffered", || !has_echo(&terminal.slave));
        match by_key {
            true => terminal.master.write_all(b"q").unwrap(),
            false => terminal.signal(Signal::SIGINT),
        }
        assert_eq!(terminal.wait().code(), Some(0));
        assert!(has_echo(&terminal.slave), "the terminal's settings are restored");
        terminal.wait_for("\x1b[?25h\x1b[?1049l");
        let text = terminal.text();
        assert_eq!((text.matches("\x1b[?1049h").count(), text.matches("\x1b[?1049l").count()), (1, 1));
    }
}

#[test]
fn top_reconnects_to_a_daemon_that_is_gone() {
    let (_folder, socket) = daemon(|lines, mut stream| answer(&mut stream, &lines.next().unwrap(), &status()));
    let mut terminal = Terminal::start(&socket, &["top", "--interval", "0.1"]);
    terminal.wait_for("Trying again. Press q to quit.");
    terminal.master.write_all(b"q").unwrap();
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn top_in_a_pipe_is_plain_text() {
    let (_folder, socket) = status_daemon();
    let mut command = Command::new(crate::programs::program("assay"));
    command.env("ASSAY_SOCKET", socket).args(["top", "--count", "2", "--interval", "0.1"]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let frames = text.matches("instance fake").count();
    // Only the second frame has a rate: it needs two statuses.
    assert_eq!((frames, text.matches("answers/s").count(), text.contains('\x1b')), (2, 1, false), "{text}");
}

#[test]
fn colour_is_for_terminals_unless_options_say_otherwise() {
    for (args, no_color, has_color) in [
        (&["status"][..], "", false),
        (&["status", "--color=always"], "1", true),
        (&["status", "--color=never"], "", false),
    ] {
        let (_folder, socket) = status_daemon();
        let mut command = Command::new(crate::programs::program("assay"));
        command.env("ASSAY_SOCKET", socket).env("NO_COLOR", no_color).args(args).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(output.stdout.contains(&0x1b), has_color, "{args:?}");
    }
    let (_folder, socket) = status_daemon();
    let mut terminal = Terminal::start(&socket, &["status"]);
    terminal.wait();
    terminal.wait_for("\x1b[32mup\x1b[0m");
    let (_folder, socket) = status_daemon();
    let mut terminal = Terminal::start(&socket, &["status", "--color=never"]);
    terminal.wait();
    terminal.wait_for("local");
    assert!(!terminal.text().contains('\x1b'));
}

/// Writes a program next to the socket.
fn program(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("main.py");
    std::fs::write(&path, "x").unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_wait_of_more_than_a_second_is_shown_until_output_comes() {
    let (sender, may_answer) = std::sync::mpsc::channel::<()>();
    let (folder, socket) = daemon(move |lines, mut stream| {
        let call = lines.next().unwrap();
        may_answer.recv().unwrap();
        let event = json!({ "id": "1", "seq": 0, "kind": "stdout", "data": "out\n" });
        send(&mut stream, &json!({ "jsonrpc": "2.0", "method": "submission.event", "params": event }));
        let run = json!({ "outcome": "exited", "exit_code": 0, "stdout": "out\n" });
        answer(&mut stream, &call, &json!({ "id": "1", "verdict": "accepted", "message": "m", "run": run }));
    });
    let mut terminal = Terminal::start(&socket, &["run", &program(&folder)]);
    // The daemon answers only after the line was shown, so it cannot be missed.
    terminal.wait_for("queued: waiting for a turn");
    sender.send(()).unwrap();
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.wait_for("assay: accepted");
    let text = terminal.text();
    let after = text.split("out\r\n").nth(1).unwrap();
    assert!(!after.contains("queued"), "{after:?}");
}

#[test]
fn an_interrupted_run_is_cancelled_and_exits_130() {
    let (folder, socket) = daemon(|lines, mut stream| {
        let run = lines.next().unwrap();
        let event = json!({ "id": "1", "seq": 0, "kind": "stdout", "data": "running\n" });
        send(&mut stream, &json!({ "jsonrpc": "2.0", "method": "submission.event", "params": event }));
        let cancel = lines.next().unwrap();
        assert_eq!((&cancel["method"], &cancel["params"]["request"]), (&json!("submission.cancel"), &run["id"]));
        answer(&mut stream, &cancel, &json!({}));
        answer(&mut stream, &run, &json!({ "id": "1", "verdict": "cancelled", "message": "m" }));
    });
    let mut terminal = Terminal::start(&socket, &["run", &program(&folder)]);
    terminal.wait_for("running");
    terminal.signal(Signal::SIGINT);
    assert_eq!(terminal.wait().code(), Some(130));
    terminal.wait_for("the submission is cancelled");
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_the_daemon() {
    let (sender, over) = std::sync::mpsc::channel::<()>();
    let (folder, socket) = daemon(move |lines, mut stream| {
        lines.next().unwrap();
        let event = json!({ "id": "1", "seq": 0, "kind": "stdout", "data": "running\n" });
        send(&mut stream, &json!({ "jsonrpc": "2.0", "method": "submission.event", "params": event }));
        lines.next().unwrap();
        let event = json!({ "id": "1", "seq": 1, "kind": "stdout", "data": "cancelling\n" });
        send(&mut stream, &json!({ "jsonrpc": "2.0", "method": "submission.event", "params": event }));
        let _ = over.recv();
    });
    let mut terminal = Terminal::start(&socket, &["run", &program(&folder)]);
    terminal.wait_for("running");
    terminal.signal(Signal::SIGINT);
    terminal.wait_for("cancelling");
    terminal.signal(Signal::SIGINT);
    assert_eq!(terminal.wait().code(), Some(130));
    drop(sender);
}

#[test]
fn a_daemon_that_dies_during_a_run_is_an_error_with_status_125() {
    for command in ["run", "rejudge"] {
        let (folder, socket) = daemon(|lines, _| drop(lines.next()));
        let mut assay = Command::new(crate::programs::program("assay"));
        let output =
            assay.env("ASSAY_SOCKET", socket).args([command, &program(&folder)]).stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{stderr}");
        assert!(stderr.contains("the daemon closed the connection"), "{stderr}");
        assert!(stderr.contains("journalctl -u assayd"), "{stderr}");
    }
}

#[test]
fn a_closed_pipe_ends_a_command_without_a_message() {
    for words in ["schema", "--help", "completions bash", "man", "schema --list"] {
        let assay = crate::programs::program("assay");
        // The reader exits before anything is written.
        let script = format!("exec 3>&1; {{ sleep 0.2; {assay} {words}; }} 2>&3 | :");
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{words}");
    }
}

#[test]
fn completions_ask_the_daemon_and_work_without_it() {
    let (folder, socket) = daemon(|lines, mut stream| {
        let call = lines.next().unwrap();
        assert_eq!(call["method"], "profile.list");
        let rows = json!({ "profiles": [{ "name": "python", "description": "CPython" }, { "name": "perl" }, { "name": "c" }] });
        answer(&mut stream, &call, &rows);
    });
    let bin = crate::programs::programs();
    let complete = |words: &str| {
        let script = format!(
            "PATH={}:$PATH; . <(assay completions bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; \
             _clap_complete_assay assay \"${{COMP_WORDS[COMP_CWORD]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            bin.display()
        );
        let output = Command::new("bash").args(["-c", &script]).env("ASSAY_SOCKET", &socket).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("assay run --language p"), ["python", "perl"]);
    drop(folder);
    assert_eq!(complete("assay run --language p"), Vec::<String>::new());
    assert_eq!(complete("assay run --preset l"), ["lesson"]);
    assert_eq!(complete("assay hos"), ["hosts"]);
    for shell in ["zsh", "fish"] {
        let output = Command::new(crate::programs::program("assay")).args(["completions", shell]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("ASSAY_COMPLETE"), "{shell}");
    }
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(crate::programs::program("assay")).arg("man").arg(folder.path()).output().unwrap();
    assert!(output.status.success());
    for (name, words) in
        [("assay.1", "EXIT STATUS"), ("assay-run.1", "EXAMPLES"), ("assay-images-build.1", "assay schema")]
    {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(text.contains(words), "{name}: {text}");
    }
}

#[test]
fn the_commands_in_the_command_line_document_work() {
    let page = std::fs::read_to_string(crate::harness::root().join("docs/CLI.md")).unwrap();
    let bin = crate::programs::programs();
    let mut count = 0;
    for line in page.split("```sh\n").skip(1).flat_map(|block| block.split("```").next().unwrap().lines()) {
        // Without the redirection into the system's folders.
        let (command, _) = line.split_once(" > ").unwrap_or_else(|| panic!("no redirection in {line}"));
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash").args(["-c", command]).env("PATH", path).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{line}");
        count += 1;
    }
    assert!(count >= 3);
}
