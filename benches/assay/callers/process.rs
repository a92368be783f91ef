//! A caller: a process of its own, with a connection that it keeps. It makes calls as it is told on
//! its standard input and answers with the times of each, on the clock that all processes share.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::programs::Program;
use crate::bare::bare_command;

/// Who executes the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Row {
    Bare,
    GoJudge,
    Assay,
}

#[derive(Args)]
pub struct CallerOptions {
    #[arg(long)]
    row: Row,
    #[arg(long)]
    program: Program,
    /// The root file system, go-judge's address, or the daemon's socket
    #[arg(long)]
    at: PathBuf,
    /// States a new tenant in every submission
    #[arg(long)]
    tenants: bool,
}

/// An order to a caller. Times are seconds of [`clock`].
#[derive(Serialize, Deserialize)]
pub enum Order {
    Once,
    /// So many, back to back.
    Times(usize),
    /// Back to back, from one time to another.
    Loop {
        begin: f64,
        until: f64,
    },
    /// Each at its time, whether or not the calls before have ended.
    At(Vec<f64>),
}

/// When a call began and ended. An open loop's call begins when it was due.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Call {
    pub begin: f64,
    pub end: f64,
}

impl Call {
    pub fn ms(self) -> f64 {
        (self.end - self.begin) * 1e3
    }
}

/// Seconds of the monotonic clock.
pub fn clock() -> f64 {
    Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap()).as_secs_f64()
}

fn sleep_until(time: f64) {
    std::thread::sleep(Duration::from_secs_f64((time - clock()).max(0.0)));
}

/// The value as an argument.
pub fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().unwrap().get_name().to_owned()
}

/// A started caller.
pub struct CallerProcess {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl CallerProcess {
    pub fn start(row: Row, program: Program, at: &Path, tenants: bool) -> CallerProcess {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["caller", "--row", &name(row), "--program", &name(program), "--at"])
            .arg(at)
            .args(tenants.then_some("--tenants"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        CallerProcess { child, orders, answers }
    }

    pub fn order(&mut self, order: &Order) {
        writeln!(self.orders, "{}", serde_json::to_string(order).unwrap()).unwrap();
    }

    /// The calls of the last order.
    pub fn answer(&mut self) -> Vec<Call> {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "a caller failed: {:?}", self.child.wait());
        serde_json::from_str(&line).unwrap()
    }

    pub fn once(&mut self) -> Call {
        self.order(&Order::Once);
        self.answer()[0]
    }
}

impl Drop for CallerProcess {
    fn drop(&mut self) {
        // at the end of its orders it ends
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a caller does with one call.
trait Executor {
    fn call(&mut self);

    fn at(&mut self, times: &[f64]) -> Vec<Call> {
        let timed = |begin: &f64| {
            sleep_until(*begin);
            self.call();
            Call { begin: *begin, end: clock() }
        };
        times.iter().map(timed).collect()
    }
}

/// The process of a caller.
pub fn caller(options: &CallerOptions) {
    let mut executor: Box<dyn Executor> = match options.row {
        Row::Bare => Box::new(Bare::prepare(options.program, &options.at)),
        Row::GoJudge => Box::new(GoJudge::connect(options.program, options.at.to_str().unwrap())),
        Row::Assay => Box::new(Assay::connect(options)),
    };
    for line in std::io::stdin().lines() {
        let mut calls = Vec::new();
        let mut once = |executor: &mut dyn Executor| {
            let begin = clock();
            executor.call();
            calls.push(Call { begin, end: clock() });
        };
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Order::Once => once(&mut *executor),
            Order::Times(count) => (0..count).for_each(|_| once(&mut *executor)),
            Order::Loop { begin, until } => {
                sleep_until(begin);
                while clock() < until {
                    once(&mut *executor);
                }
            }
            Order::At(times) => calls = executor.at(&times),
        }
        println!("{}", serde_json::to_string(&calls).unwrap());
    }
}

/// Executes the commands itself, with the image's files as its root.
struct Bare {
    program: Program,
    number: usize,
}

impl Bare {
    fn prepare(program: Program, root: &Path) -> Bare {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        for folder in ["tmp", "proc", "dev"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        mount(Some("tmpfs"), &root.join("tmp"), Some("tmpfs"), MsFlags::empty(), Some("size=256m")).unwrap();
        mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
        mount(Some("/dev"), &root.join("dev"), None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).unwrap();
        chroot(root).unwrap();
        chdir("/tmp").unwrap();
        let bare = Bare { program, number: 0 };
        bare.write_files();
        bare.program.bare_preparation().iter().for_each(|words| drop(run(words)));
        bare
    }

    fn write_files(&self) {
        for (path, content) in self.program.files(&mark(self.number)) {
            std::fs::write(path, content).unwrap();
        }
    }
}

/// Makes a source new.
fn mark(number: usize) -> String {
    format!("{} {number} {}", std::process::id(), clock())
}

fn run(words: &[String]) -> Vec<u8> {
    let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    let output = bare_command(&words[0], &args, "/usr/local/bin:/usr/bin:/bin").output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    output.stdout
}

impl Executor for Bare {
    fn call(&mut self) {
        self.number += 1;
        if matches!(self.program, Program::Java | Program::Typescript) {
            self.write_files();
        }
        for (words, prints) in self.program.bare() {
            let stdout = run(&words);
            assert!(prints == "*" || stdout == prints.as_bytes(), "{words:?} printed {stdout:?}");
        }
    }
}

/// `submission.run` over a connection to the daemon's socket.
struct Assay {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    program: Program,
    tenants: bool,
    number: usize,
}

impl Assay {
    fn connect(options: &CallerOptions) -> Assay {
        let writer = UnixStream::connect(&options.at).unwrap();
        let mut reader = BufReader::new(writer.try_clone().unwrap());
        reader.read_line(&mut String::new()).unwrap();
        Assay { writer, reader, program: options.program, tenants: options.tenants, number: 0 }
    }

    fn request(&mut self) -> String {
        self.number += 1;
        let mark = mark(self.number);
        let mut submission = self.program.submission(&mark);
        if self.tenants {
            submission["tenant"] = json!(mark);
        }
        let params = json!({ "jsonrpc": "2.0", "id": self.number, "method": "submission.run", "params": submission });
        format!("{params}\n")
    }
}

fn read_report(reader: &mut impl BufRead, program: Program) -> usize {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    assert!(reply.get("error").is_none(), "{reply}");
    program.verify(&reply["result"]);
    reply["id"].as_u64().unwrap() as usize
}

impl Executor for Assay {
    fn call(&mut self) {
        let request = self.request();
        self.writer.write_all(request.as_bytes()).unwrap();
        read_report(&mut self.reader, self.program);
    }

    fn at(&mut self, times: &[f64]) -> Vec<Call> {
        let first = self.number + 1;
        let requests: Vec<String> = times.iter().map(|_| self.request()).collect();
        let mut calls: Vec<Call> = times.iter().map(|begin| Call { begin: *begin, end: 0.0 }).collect();
        let (reader, program, writer) = (&mut self.reader, self.program, &mut self.writer);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (begin, request) in times.iter().zip(requests) {
                    sleep_until(*begin);
                    writer.write_all(request.as_bytes()).unwrap();
                }
            });
            for _ in times {
                let id = read_report(reader, program);
                calls[id - first].end = clock();
            }
        });
        calls
    }
}

/// `POST /run` over a connection that is kept.
struct GoJudge {
    stream: BufReader<TcpStream>,
    request: Value,
    stdout: &'static str,
}

impl GoJudge {
    fn connect(program: Program, address: &str) -> GoJudge {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut judge = GoJudge { stream: BufReader::new(stream), request: Value::Null, stdout: "" };
        let (path, source) = program.files("").swap_remove(0);
        let copied = json!({ path: { "content": source } });
        let (words, prints) = program.bare().swap_remove(0);
        let command = match program.bare_preparation().pop() {
            None => command(&words, copied),
            Some(compile) => {
                let mut compile = command(&compile, copied);
                (compile["copyOutCached"], compile["memoryLimit"]) = (json!(["main"]), json!(1 << 30));
                let compiled = judge.post(&json!({ "cmd": [compile] }));
                command(&words, json!({ "main": { "fileId": compiled[0]["fileIds"]["main"] } }))
            }
        };
        (judge.request, judge.stdout) = (json!({ "cmd": [command] }), prints);
        judge
    }

    fn post(&mut self, body: &Value) -> Value {
        let body = body.to_string();
        let head = "POST /run HTTP/1.1\r\nHost: judge\r\nContent-Type: application/json\r\nContent-Length:";
        write!(self.stream.get_mut(), "{head} {}\r\n\r\n{body}", body.len()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        let reply: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(reply[0]["status"], "Accepted", "{reply}");
        reply
    }
}

/// A command of go-judge with the limits of the preset `judge`, but more time.
fn command(words: &[String], copied: Value) -> Value {
    json!({
        "args": words,
        "env": ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"],
        "files": [{ "content": "" }, { "name": "stdout", "max": 65536 }, { "name": "stderr", "max": 65536 }],
        "cpuLimit": 10_000_000_000_u64, "clockLimit": 20_000_000_000_u64,
        "memoryLimit": 1 << 28, "procLimit": 64, "copyIn": copied,
    })
}

impl Executor for GoJudge {
    fn call(&mut self) {
        let request = std::mem::take(&mut self.request);
        let reply = self.post(&request);
        self.request = request;
        assert_eq!(reply[0]["files"]["stdout"], self.stdout, "{reply}");
    }
}
