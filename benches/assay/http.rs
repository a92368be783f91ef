//! The API over HTTP against the socket, on one daemon: a hot run over a kept connection, in
//! alternating pairs; many in flight, in alternating rounds; and what the listener costs a daemon
//! without callers, against one that has none.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::crowd::cpu_seconds;
use crate::daemon::{Caller, Daemon, DaemonOptions, ProfileCopy, write_profiles};
use crate::sample::{Sample, ms_since};

#[derive(Args)]
pub struct HttpOptions {
    /// Alternating pairs of single runs
    #[arg(long, default_value_t = 1000)]
    pairs: usize,
    /// Pause before each run, in which the next runtime is started, in milliseconds
    #[arg(long, default_value_t = 60)]
    pause: u64,
    /// Alternating rounds with many in flight
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Seconds for which an idle daemon is watched
    #[arg(long, default_value_t = 60)]
    idle: u64,
}

const IN_FLIGHT: usize = 64;

const TOKEN: &str = "assay_1111111111111111111111111111111111111111111111111111111111111111";

/// Its SHA-256.
const HASH: &str = "d14fb97d50818fa9d6d65f6289a86cf6d42101a07a7476d6272978036082c008";

/// A kept connection of a caller with a token.
struct HttpCaller(BufReader<TcpStream>);

impl HttpCaller {
    fn connect(port: u16) -> HttpCaller {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        HttpCaller(BufReader::new(stream))
    }

    fn judge(&mut self, submission: &Value) -> Value {
        let body = submission.to_string();
        let head = format!(
            "POST /api/v1/submissions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(head.as_bytes()).unwrap();
        let (mut status, mut length) = (String::new(), 0);
        self.0.read_line(&mut status).unwrap();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

fn submission(text: &str) -> Value {
    let files = json!([{ "path": "main.py", "content": text }]);
    json!({ "language": "python", "preset": "judge", "files": files, "deadline_ms": 600_000 })
}

fn settings(port: u16) -> String {
    format!(
        "[queue]\nmax=1024\nmax_per_uid=256\n[http]\nlisten='127.0.0.1:{port}'\napi=true\n\
         [[http.tokens]]\nname='bench'\nsha256='{HASH}'\ntenant='bench'\n"
    )
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn all(options: &HttpOptions) {
    let port = free_port();
    let copy = ProfileCopy { name: "python", of: "python", top: "", pool: "reuse = 1000000" };
    let profiles = write_profiles(&[copy]);
    let daemon = Daemon::start_with_profiles(profiles.path(), "python", 2, 8, &settings(port));
    let mut caller = daemon.caller();
    caller.image("python");
    caller.wait_until_hot(2);
    pairs(options, &mut caller, &mut HttpCaller::connect(port));
    many(options, &daemon, port);
    drop(daemon);
    idle(options);
}

/// One run at a time, through each door by turns; the door that is first changes.
fn pairs(options: &HttpOptions, socket: &mut Caller, http: &mut HttpCaller) {
    let mut samples = [Sample(Vec::new()), Sample(Vec::new())];
    for pair in 0.. {
        let (mut times, mut is_hot) = ([0.0; 2], true);
        for turn in 0..2 {
            let door = (pair + turn) % 2;
            std::thread::sleep(Duration::from_millis(options.pause));
            // a text of its own in each pair, so that nothing is cached
            let work = submission(&format!("print({pair})\n"));
            let start = Instant::now();
            let report = if door == 0 { socket.call("submission.run", work) } else { http.judge(&work) };
            times[door] = ms_since(start);
            assert_eq!(report["run"]["stdout"], format!("{pair}\n"), "{report:#}");
            is_hot &= report["start"] == "hot";
        }
        // the first pairs only warm caches up
        if pair >= 4 && is_hot {
            samples.iter_mut().zip(times).for_each(|(sample, time)| sample.0.push(time));
        }
        if samples[0].0.len() == options.pairs {
            break;
        }
        assert!(pair < 2 * options.pairs + 10, "too few runs are hot: give --pause more");
    }
    let [socket, http] = samples;
    let difference = Sample(http.0.iter().zip(&socket.0).map(|(http, socket)| http - socket).collect());
    let (low, high) = difference.median_interval();
    println!("\n{} alternating pairs of hot Python over a kept connection (ms)", options.pairs);
    println!("  socket p50 {:.3}, HTTP p50 {:.3}", socket.p50(), http.p50());
    println!(
        "  HTTP - socket: median {:+.3}, 95 % interval {low:+.3} to {high:+.3} (bound: below 0.4)",
        difference.p50()
    );
}

/// Runs per second with [`IN_FLIGHT`] callers, each with one at a time.
fn goodput(seconds: u64, judge: impl Fn(usize) -> Box<dyn FnMut(&Value) -> Value> + Sync) -> f64 {
    let (is_counted, is_over, count) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..IN_FLIGHT {
            let (judge, is_counted, is_over, count) = (&judge, &is_counted, &is_over, &count);
            scope.spawn(move || {
                let mut judge = judge(number);
                let work = submission(crate::PRINT_ONE);
                while !is_over.load(Ordering::Relaxed) {
                    let report = judge(&work);
                    assert_eq!((&report["verdict"], &report["run"]["stdout"]), (&json!("accepted"), &json!("1\n")));
                    count.fetch_add(u64::from(is_counted.load(Ordering::Relaxed)), Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_secs(3));
        is_counted.store(true, Ordering::Relaxed);
        let start = Instant::now();
        std::thread::sleep(Duration::from_secs(seconds));
        is_counted.store(false, Ordering::Relaxed);
        let rate = count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        rate
    })
}

fn many(options: &HttpOptions, daemon: &Daemon, port: u16) {
    println!("\n{IN_FLIGHT} in flight, {} alternating rounds of {} s (runs/s)", options.rounds, options.seconds);
    let mut ratios = Vec::new();
    for round in 0..options.rounds {
        let mut rates = [0.0; 2];
        for turn in 0..2 {
            let door = (round + turn) % 2;
            rates[door] = goodput(options.seconds, |_| match door {
                0 => {
                    let mut caller = daemon.caller();
                    Box::new(move |work| caller.call("submission.run", work.clone()))
                }
                _ => {
                    let mut caller = HttpCaller::connect(port);
                    Box::new(move |work| caller.judge(work))
                }
            });
        }
        println!("  socket {:>6.1}, HTTP {:>6.1}, ratio {:.3}", rates[0], rates[1], rates[1] / rates[0]);
        ratios.push(rates[1] / rates[0]);
    }
    println!("  median ratio {:.3} (bound: at least 0.95)", Sample(ratios).p50());
}

/// Bytes of memory that belong to a process alone, in MiB.
fn private_mib(pid: u32) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap()
    };
    (of("Private_Clean:") + of("Private_Dirty:")) / 1024.0
}

/// Memory, and CPU time in milliseconds, of daemons without callers.
fn idle(options: &HttpOptions) {
    let port = free_port();
    let with = settings(port);
    let sides = [("without", "", 47_000), ("with", with.as_str(), 49_000)];
    let daemons = sides.map(|(instance, config, uid_base)| {
        let floor = 0;
        let instance = format!("bench-{instance}");
        let options = DaemonOptions { instance: &instance, config, uid_base, floor, ..DaemonOptions::default() };
        let daemon = Daemon::start(&options);
        drop(daemon.caller());
        daemon
    });
    std::thread::sleep(Duration::from_secs(10));
    let before = daemons.each_ref().map(|daemon| cpu_seconds(daemon.pid()));
    std::thread::sleep(Duration::from_secs(options.idle));
    println!("\nidle for {} s", options.idle);
    let costs = [0, 1].map(|side| {
        let pid = daemons[side].pid();
        let (cpu_ms, memory) = ((cpu_seconds(pid) - before[side]) * 1e3, private_mib(pid));
        println!("  {} the API: {cpu_ms:.0} ms of CPU time, {memory:.2} MiB", sides[side].0);
        (cpu_ms, memory)
    });
    println!(
        "  difference: {:+.0} ms, {:+.2} MiB (bound: below 3 MiB)",
        costs[1].0 - costs[0].0,
        costs[1].1 - costs[0].1
    );
}
