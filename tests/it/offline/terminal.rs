//! The program `assay` on a terminal, and what of that a pipe must not get: colour, lines of progress, keys, Ctrl-C. No engine needed.

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

/// A terminal with a program on it.
struct Terminal {
    master: std::fs::File,
    slave: OwnedFd,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(socket: &Path, words: &[&str]) -> Terminal {
        let size = Winsize { ws_row: 20, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = Command::new(crate::programs::program("assay"));
        command.env("ASSAY_SOCKET", socket).env_remove("NO_COLOR").env("TERM", "xterm").args(words);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = std::fs::File::from(pty.master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reading, kept) = (master.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = reading.read(&mut buffer) {
                kept.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Terminal { master, slave: pty.slave, child, seen }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    fn shows(&self, text: &str) {
        eventually(&format!("the terminal shows {text:?}"), || self.text().contains(text));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn ends(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

/// A daemon of one connection: says hello, then does as it is told with the lines that come.
fn daemon(
    act: impl FnOnce(&mut dyn Iterator<Item = Value>, UnixStream) + Send + 'static,
) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("assay.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let params = json!({ "protocol": 1, "version": "0", "instance": "fake", "limits": {}, "features": [] });
        tell(&mut stream, &json!({ "jsonrpc": "2.0", "method": "server.hello", "params": params }));
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        act(&mut lines.map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap()), stream);
    });
    (folder, socket)
}

fn tell(stream: &mut UnixStream, line: &Value) {
    let _ = writeln!(stream, "{line}");
}

fn answer(stream: &mut UnixStream, call: &Value, result: &Value) {
    tell(stream, &json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }));
}

fn status() -> Value {
    json!({ "version": "0", "instance": "fake", "uptime_ms": 5, "queue": { "callers": [] }, "counters": { "answered": 3 },
        "hosts": [{ "name": "local", "state": "up" }], "pools": [], "stages": {} })
}

/// A daemon that answers every look.
fn watched() -> (tempfile::TempDir, PathBuf) {
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
fn top_gives_the_terminal_back_on_q_and_on_ctrl_c() {
    for by_key in [true, false] {
        let (_folder, socket) = watched();
        let mut terminal = Terminal::start(&socket, &["top", "--interval", "0.1"]);
        terminal.shows("answers/s");
        eventually("keys come one by one", || !has_echo(&terminal.slave));
        match by_key {
            true => terminal.master.write_all(b"q").unwrap(),
            false => terminal.signal(Signal::SIGINT),
        }
        assert_eq!(terminal.ends().code(), Some(0));
        assert!(has_echo(&terminal.slave), "keys are as they were");
        terminal.shows("\x1b[?25h\x1b[?1049l");
        let text = terminal.text();
        assert_eq!((text.matches("\x1b[?1049h").count(), text.matches("\x1b[?1049l").count()), (1, 1));
    }
}

#[test]
fn top_waits_for_a_daemon_that_is_gone() {
    let (_folder, socket) = daemon(|lines, mut stream| answer(&mut stream, &lines.next().unwrap(), &status()));
    let mut terminal = Terminal::start(&socket, &["top", "--interval", "0.1"]);
    terminal.shows("Trying again. q leaves.");
    terminal.master.write_all(b"q").unwrap();
    assert_eq!(terminal.ends().code(), Some(0));
}

#[test]
fn top_in_a_pipe_is_plain_text() {
    let (_folder, socket) = watched();
    let mut command = Command::new(crate::programs::program("assay"));
    command.env("ASSAY_SOCKET", socket).args(["top", "--count", "2", "--interval", "0.1"]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let looks = text.matches("instance fake").count();
    // the rate is of the time between two
    assert_eq!((looks, text.matches("answers/s").count(), text.contains('\x1b')), (2, 1, false), "{text}");
}

#[test]
fn colour_is_for_terminals_and_for_who_asks() {
    for (words, no_color, coloured) in [
        (&["status"][..], "", false),
        (&["status", "--color=always"], "1", true),
        (&["status", "--color=never"], "", false),
    ] {
        let (_folder, socket) = watched();
        let mut command = Command::new(crate::programs::program("assay"));
        command.env("ASSAY_SOCKET", socket).env("NO_COLOR", no_color).args(words).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(output.stdout.contains(&0x1b), coloured, "{words:?}");
    }
    let (_folder, socket) = watched();
    let mut terminal = Terminal::start(&socket, &["status"]);
    terminal.ends();
    terminal.shows("\x1b[32mup\x1b[0m");
    let (_folder, socket) = watched();
    let mut terminal = Terminal::start(&socket, &["status", "--color=never"]);
    terminal.ends();
    terminal.shows("local");
    assert!(!terminal.text().contains('\x1b'));
}

/// A program in a file beside the socket.
fn program(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("main.py");
    std::fs::write(&path, "x").unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_wait_of_more_than_a_second_is_shown_until_output_comes() {
    let (sender, seen) = std::sync::mpsc::channel::<()>();
    let (folder, socket) = daemon(move |lines, mut stream| {
        let call = lines.next().unwrap();
        seen.recv().unwrap();
        let event = json!({ "id": "1", "seq": 0, "kind": "stdout", "data": "out\n" });
        tell(&mut stream, &json!({ "jsonrpc": "2.0", "method": "submission.event", "params": event }));
        let run = json!({ "outcome": "exited", "exit_code": 0, "stdout": "out\n" });
        answer(&mut stream, &call, &json!({ "id": "1", "verdict": "accepted", "message": "m", "run": run }));
    });
    let mut terminal = Terminal::start(&socket, &["run", &program(&folder)]);
    // it is shown before the daemon says anything, and so neither before a second is over nor by chance
    terminal.shows("in line: waiting for its turn");
    sender.send(()).unwrap();
    assert_eq!(terminal.ends().code(), Some(0));
    terminal.shows("assay: accepted");
    let text = terminal.text();
    let after = text.split("out\r\n").nth(1).unwrap();
    assert!(!after.contains("in line"), "{after:?}");
}

#[test]
fn an_interrupted_run_is_withdrawn_and_exits_130() {
    let (folder, socket) = daemon(|lines, mut stream| {
        let run = lines.next().unwrap();
        let event = json!({ "id": "1", "seq": 0, "kind": "stdout", "data": "it runs\n" });
        tell(&mut stream, &json!({ "jsonrpc": "2.0", "method": "submission.event", "params": event }));
        let cancel = lines.next().unwrap();
        assert_eq!((&cancel["method"], &cancel["params"]["request"]), (&json!("submission.cancel"), &run["id"]));
        answer(&mut stream, &cancel, &json!({}));
        answer(&mut stream, &run, &json!({ "id": "1", "verdict": "cancelled", "message": "m" }));
    });
    let mut terminal = Terminal::start(&socket, &["run", &program(&folder)]);
    terminal.shows("it runs");
    terminal.signal(Signal::SIGINT);
    assert_eq!(terminal.ends().code(), Some(130));
    terminal.shows("withdrawn");
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_the_daemon() {
    let (sender, over) = std::sync::mpsc::channel::<()>();
    let (folder, socket) = daemon(move |lines, mut stream| {
        lines.next().unwrap();
        let event = json!({ "id": "1", "seq": 0, "kind": "stdout", "data": "it runs\n" });
        tell(&mut stream, &json!({ "jsonrpc": "2.0", "method": "submission.event", "params": event }));
        lines.next().unwrap();
        let event = json!({ "id": "1", "seq": 1, "kind": "stdout", "data": "it is asked\n" });
        tell(&mut stream, &json!({ "jsonrpc": "2.0", "method": "submission.event", "params": event }));
        let _ = over.recv();
    });
    let mut terminal = Terminal::start(&socket, &["run", &program(&folder)]);
    terminal.shows("it runs");
    terminal.signal(Signal::SIGINT);
    terminal.shows("it is asked");
    terminal.signal(Signal::SIGINT);
    assert_eq!(terminal.ends().code(), Some(130));
    drop(sender);
}

#[test]
fn a_daemon_that_dies_in_the_middle_is_said_and_exits_125() {
    for command in ["run", "rejudge"] {
        let (folder, socket) = daemon(|lines, _| drop(lines.next()));
        let mut assay = Command::new(crate::programs::program("assay"));
        let output =
            assay.env("ASSAY_SOCKET", socket).args([command, &program(&folder)]).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("the daemon closed the connection") && said.contains("journalctl -u assayd"), "{said}");
    }
}

#[test]
fn a_reader_that_leaves_ends_a_command_quietly() {
    for words in ["schema", "--help", "completions bash", "man", "schema --list"] {
        let assay = crate::programs::program("assay");
        // the reader is gone before anything is written
        let script = format!("exec 3>&1; {{ sleep 0.2; {assay} {words}; }} 2>&3 | :");
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{words}");
    }
}

#[test]
fn completions_know_what_the_daemon_knows_and_do_without_it() {
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
fn the_commands_of_the_page_about_the_command_line_work() {
    let page = std::fs::read_to_string(crate::harness::root().join("docs/CLI.md")).unwrap();
    let bin = crate::programs::programs();
    let mut count = 0;
    for line in page.split("```sh\n").skip(1).flat_map(|block| block.split("```").next().unwrap().lines()) {
        // to a file of ours, wherever the page puts it
        let (command, _) = line.split_once(" > ").unwrap_or_else(|| panic!("not tried: {line}"));
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash").args(["-c", command]).env("PATH", path).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{line}");
        count += 1;
    }
    assert!(count >= 3);
}
