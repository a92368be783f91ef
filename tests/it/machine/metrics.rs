//! The metrics, read over HTTP as a scraper does; and Debian's Prometheus, which scrapes a daemon
//! and evaluates every expression of the alerts and of the dashboard.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::http::{OPEN, get, http_address};
use crate::harness::{Caller, Daemon, Options, eventually, root, submission, with};

/// The sum of all series of this name that have all these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    let mut sum = 0.0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (of, rest) = series.split_once('{').unwrap_or((series, ""));
        if of == name && labels.iter().all(|label| rest.contains(label)) {
            sum += value.parse::<f64>().unwrap();
        }
    }
    sum
}

/// A program that leaves sockets in sockets, which the kernel frees one after the other; all at
/// once, when any process of the machine closes a socket at the right moment.
const RESIDUE: &str = "import os, socket
def pair(): return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
def give(to, fd): socket.send_fds(to, [b'x'], [fd])
inner = os.open('/', os.O_RDONLY)
for _ in range(200):
    a, b = pair()
    give(a, inner)
    os.close(inner)
    a.close()
    inner = b.detach()
a, b = pair()
for fd in inner, a.fileno(), b.fileno(): give(a, fd)";

/// Submissions with every kind of verdict, and some refusals.
fn one_of_everything(caller: &mut Caller) {
    let limited = |code: &str| with(submission("bash", code), "limits", json!({ "wall_ms": 300, "cpu_ms": 300 }));
    let tested = |expect: &str| with(submission("python", "print(1)"), "tests", json!([{ "expect": expect }]));
    let checker = json!({ "kind": "program", "language": "bash",
        "files": [{ "path": "main.sh", "content": "exit 7" }] });
    let works = [
        (submission("python", "print(1)"), "accepted"),
        (tested("1"), "accepted"),
        (tested("2"), "wrong_answer"),
        (submission("python", "1/0"), "runtime_error"),
        (limited("sleep 5"), "time_limit"),
        (submission("c", "int main() {"), "compile_error"),
        (with(submission("c", "int main() { return 0; }"), "collect", json!(["main*"])), "accepted"),
        (with(tested("1"), "checker", checker), "system_error"),
    ];
    for (work, verdict) in works {
        let report = caller.ok("submission.run", work);
        assert_eq!(report["verdict"], verdict, "{report:#}");
    }
    let refused = [
        (json!({ "language": "cobol", "files": [] }), "unknown_profile"),
        (with(submission("python", ""), "tenant", json!("x".repeat(1000))), "bad_request"),
    ];
    for (work, code) in refused {
        assert_eq!(caller.error("submission.run", work)["data"]["code"], code);
    }
}

/// Runs for one tenant in the same sandbox until one leaves residue. Returns how many runs that
/// took.
fn run_until_residue(caller: &mut Caller) -> u32 {
    for runs in 1..50 {
        let code = if runs == 1 { "print(1)" } else { RESIDUE };
        let work = with(submission("python", code), "limits", json!({ "open_files": 512 }));
        assert_eq!(caller.ok("submission.run", with(work, "tenant", json!("t")))["verdict"], "accepted");
        eventually("the audit is over", || {
            caller.ok("pool.list", json!({}))["pools"].as_array().unwrap().iter().all(|pool| pool["leased"] == 0)
        });
        if caller.ok("daemon.status", json!({}))["counters"]["residue"] == 1 {
            return runs;
        }
    }
    panic!("no run left residue");
}

/// A daemon with an HTTP listener, and the listener's address. Sandboxes of callers with a tenant
/// serve again.
fn watched() -> (Daemon, String) {
    let config = format!("{OPEN}[isolation]\nreuse = 'tenant'\n");
    let options = Options { profiles: "python,bash,c", floor: 1, config: &config, ..Options::default() };
    let daemon = Daemon::start(&options);
    let address = http_address(&daemon);
    (daemon, address)
}

#[test]
fn every_answer_and_every_refusal_is_counted_once_under_its_own_labels() {
    let (daemon, address) = watched();
    daemon.warm();
    let mut caller = daemon.caller();
    one_of_everything(&mut caller);
    let runs_until_residue = run_until_residue(&mut caller);
    let text = get(&address, "/metrics").body;
    let count = |verdict: &str| value(&text, "assay_submissions_total", &[&format!("verdict=\"{verdict}\"")]);
    let runs = f64::from(runs_until_residue);
    for (verdict, expected) in [
        ("accepted", 3.0 + runs),
        ("wrong_answer", 1.0),
        ("runtime_error", 1.0),
        ("time_limit", 1.0),
        ("compile_error", 1.0),
        ("system_error", 1.0),
        ("memory_limit", 0.0),
    ] {
        assert_eq!(count(verdict), expected, "{verdict}\n{text}");
    }
    let is = |name: &str, labels: &[&str], expected: f64| {
        assert_eq!(value(&text, name, labels), expected, "{name} {labels:?}\n{text}");
    };
    is("assay_submissions_total", &[], 8.0 + runs);
    is("assay_submissions_total", &["language=\"c\""], 2.0);
    is("assay_submissions_admitted_total", &[], 8.0 + runs);
    is("assay_submissions_refused_total", &["code=\"unknown_profile\""], 1.0);
    is("assay_submissions_refused_total", &["code=\"bad_request\""], 1.0);
    is("assay_submissions_refused_total", &[], 2.0);
    is("assay_submission_duration_seconds_count", &[], 8.0 + runs);
    is("assay_queue_wait_seconds_count", &[], 8.0 + runs);
    is("assay_audits_total", &["result=\"clean\""], runs - 1.0);
    is("assay_audits_total", &["result=\"residue\""], 1.0);
    is("assay_pool_retirements_total", &["reason=\"residue\"", "profile=\"python\""], 1.0);
    is("assay_pool_leases_total", &["profile=\"c\""], 2.0);
    is("assay_host_state", &["state=\"up\""], 1.0);
    is("assay_host_state", &[], 1.0);
    is("assay_queue_admitted", &[], 0.0);
    // a lease for each, and one for the checker
    is("assay_pool_leases_total", &[], 9.0 + runs);
    for (name, labels) in [
        ("assay_program_cpu_seconds_total", &["language=\"python\""][..]),
        ("assay_program_memory_peak_bytes_count", &["language=\"c\""]),
        ("assay_pool_refill_duration_seconds_count", &["profile=\"python\""]),
        ("assay_engine_call_duration_seconds_count", &["call=\"start_a_container\""]),
        ("assay_engine_info", &["host=\"local\""]),
        ("assay_engine_containers_running", &[]),
        ("assay_engine_images", &[]),
        ("process_cpu_seconds_total", &[]),
        ("process_open_fds", &[]),
        ("assay_state_disk_free_bytes", &[]),
        ("assay_engine_disk_free_bytes", &["host=\"local\""]),
        ("assay_engine_disk_size_bytes", &["host=\"local\""]),
    ] {
        assert!(value(&text, name, labels) > 0.0 || name.ends_with("running"), "{name} {labels:?}\n{text}");
    }
}

/// A condition on a label: key, operator, value.
type Matcher = (String, String, String);

/// The selectors of an expression: names, each with its conditions.
fn selectors(expression: &str) -> Vec<(String, Vec<Matcher>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = ["assay_", "process_"].iter().filter_map(|begin| rest.find(begin)).min() {
        let name: String = rest[at..].chars().take_while(|c| is_name(*c)).collect();
        rest = &rest[at + name.len()..];
        let inner = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let matchers = inner.split("\",").filter(|one| !one.trim().is_empty()).map(|one| {
            let one = one.trim().trim_end_matches('"');
            let key: String = one.chars().take_while(|c| is_name(*c)).collect();
            let (operator, value) = one[key.len()..].split_once('"').unwrap();
            (key, operator.trim().to_owned(), value.to_owned())
        });
        found.push((name, matchers.filter(|(key, ..)| key != "job" && key != "instance").collect()));
    }
    found
}

#[test]
fn every_series_that_an_alert_reads_exists_before_the_first_submission() {
    let (daemon, address) = watched();
    daemon.warm();
    let text = get(&address, "/metrics").body;
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let exists = |name: &str, matchers: &[Matcher]| {
        series.iter().any(|line| {
            let labels = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
            labels.is_some_and(|labels| {
                matchers.iter().all(|(key, operator, value)| {
                    let has = |value: &str| labels.contains(&format!("{key}=\"{value}\""));
                    let any = value.split('|').any(has);
                    any != operator.starts_with('!')
                })
            })
        })
    };
    let mut read = 0;
    for (alert, rule) in rules() {
        for (name, matchers) in selectors(&rule["expr"]) {
            assert!(exists(&name, &matchers), "{alert}: no series {name} {matchers:?}");
            // each of several alternatives by itself
            for (key, operator, values) in matchers.iter().filter(|(_, operator, _)| operator == "=~") {
                for value in values.split('|') {
                    let one = [(key.clone(), operator.clone(), value.to_owned())];
                    assert!(exists(&name, &one), "{alert}: no series {name} {one:?}");
                }
            }
            read += 1;
        }
    }
    assert!(read > 20, "{read} selectors");
    // an alert on errors reads each call's own series
    for kind in ["timeout", "unreachable", "broken", "server_error"] {
        let label = |key: &str, value: &str| (key.to_owned(), "=".to_owned(), value.to_owned());
        let matchers = [label("call", "update_a_container"), label("kind", kind)];
        assert!(exists("assay_engine_call_errors_total", &matchers), "{kind}");
    }
}

/// The table of docs/METRICS.md, from a scrape, or the name of a metric without a series.
fn metrics_table(text: &str) -> Result<String, String> {
    let of = |mark: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(mark));
        lines.filter_map(|line| line.split_once(' ')).map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
    };
    let (help, kinds) = (of("# HELP "), of("# TYPE "));
    let mut table = "| metric | kind | labels | what it says |\n|---|---|---|---|\n".to_owned();
    for (name, kind) in &kinds {
        let begins = |line: &&str| {
            let rest = line.strip_prefix(name.as_str());
            rest.is_some_and(|rest| ["{", " ", "_count{", "_count "].iter().any(|begin| rest.starts_with(begin)))
        };
        let Some(row) = text.lines().find(begins) else { return Err(name.clone()) };
        let inner = row.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inner, _)| inner);
        let keys = inner.split("\",").filter_map(|label| Some(format!("`{}`", label.split_once('=')?.0)));
        table += &format!("| `{name}` | {kind} | {} | {} |\n", keys.collect::<Vec<_>>().join(", "), help[name]);
    }
    Ok(table)
}

#[test]
fn the_reference_of_metrics_is_what_a_scrape_says() {
    let (daemon, address) = watched();
    daemon.warm();
    one_of_everything(&mut daemon.caller());
    // some appear with their first series: of an audit, a retired sandbox, the engine's facts
    let mut table = Err(String::new());
    eventually("every metric has a series, and runtimes wait", || {
        let text = get(&address, "/metrics").body;
        table = metrics_table(&text);
        table.is_ok() && value(&text, "assay_pool_hot_memory_bytes", &[]) > 0.0
    });
    let path = root().join("docs/METRICS.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- metrics -->\n", "<!-- end of metrics -->");
    let (from, to) = (page.find(begin).unwrap() + begin.len(), page.find(end).unwrap());
    let mut now = page.clone();
    now.replace_range(from..to, &table.unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).unwrap();
    } else {
        let only_in = |one: &str, other: &str| -> Vec<String> {
            let missing = |line: &&str| !other.lines().any(|of_other| of_other == *line);
            one.lines().filter(missing).map(str::to_owned).collect()
        };
        let (more, less) = (only_in(&now, &page), only_in(&page, &now));
        let remedy = "UPDATE_GOLDEN=1 cargo test --test it metrics::the_reference";
        assert!(now == page, "docs/METRICS.md is not what the code says: {remedy}\nnew: {more:#?}\ngone: {less:#?}");
    }
}

#[test]
fn every_stage_of_a_submission_is_recorded_once() {
    let daemon = Daemon::start(&Options { profiles: "python", config: OPEN, ..Options::default() });
    let address = http_address(&daemon);
    daemon.warm();
    let mut caller = daemon.caller();
    let work = with(submission("python", "print(1)"), "tests", json!([{ "expect": "1" }]));
    let work = with(work, "collect", json!(["main.py"]));
    assert_eq!(caller.ok("submission.run", work)["verdict"], "accepted");
    let once = [
        "accept", "admit", "collect", "decide", "lease", "parse", "queue", "reply", "run", "send", "set_up", "total",
        "wire",
    ];
    let mut stages = Value::Null;
    // the duration of a reply is known only after the reply is written
    eventually("the reply is counted", || {
        stages = caller.ok("daemon.status", json!({}))["stages"].clone();
        stages.get("reply").is_some()
    });
    let told: Vec<&String> = stages.as_object().unwrap().keys().collect();
    assert_eq!(told, once);
    let of = |stage: &str| stages[stage]["p50_ms"].as_f64().unwrap();
    let parts = ["parse", "admit", "queue", "lease", "send", "set_up", "run", "wire", "decide", "collect"];
    let parts: f64 = parts.into_iter().map(of).sum();
    assert!(parts > 0.0 && parts <= of("total"), "{parts} of {stages:#}");
    let text = get(&address, "/metrics").body;
    for stage in once {
        let label = format!("stage=\"{stage}\"");
        assert_eq!(value(&text, "assay_stage_duration_seconds_count", &[&label]), 1.0, "{stage}\n{text}");
    }
    assert_eq!(value(&text, "assay_stage_duration_seconds_count", &["stage=\"compile\""]), 0.0);
}

#[test]
fn a_scrape_never_waits_for_an_engine_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    // accepts connections and never answers
    let silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept() {
            held.push(stream);
        }
    });
    let engine = format!("unix://{}", path.display());
    let daemon = Daemon::start_bare(&Options { engine: Some(&engine), config: OPEN, ..Options::default() });
    let address = http_address(&daemon);
    eventually("its silence is noticed", || {
        let text = get(&address, "/metrics").body;
        assert_eq!(get(&address, "/livez").status, 200);
        value(&text, "assay_host_state", &["state=\"down\""]) == 1.0
    });
    let text = get(&address, "/metrics").body;
    assert!(value(&text, "assay_engine_call_errors_total", &["kind=\"timeout\""]) >= 1.0, "{text}");
    assert_eq!(get(&address, "/health").status, 500);
}

fn tool(name: &str) -> Command {
    let known =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|at| at.join(name).exists()));
    assert!(known, "{name} is missing: apt-get install --no-install-recommends prometheus (scripts/test does it)");
    Command::new(name)
}

/// Runs a command with this input; returns its output. Panics if it fails.
fn output_of(command: &mut Command, input: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

const RULES: &str = "config/prometheus/assay.rules.yml";

#[test]
fn every_alert_fires_when_it_should_and_no_other_does() {
    let said = output_of(tool("promtool").args(["check", "rules", RULES]).current_dir(root()), "");
    assert!(said.contains("SUCCESS"), "{said}");
    let said = output_of(
        tool("promtool").args(["check", "config", "config/prometheus/prometheus.yml"]).current_dir(root()),
        "",
    );
    assert!(said.contains("SUCCESS"), "{said}");
    let said =
        output_of(tool("promtool").args(["test", "rules", "tests/prometheus/alerts.yml"]).current_dir(root()), "");
    assert!(said.contains("SUCCESS"), "{said}");
    // every alert has a test there, and a runbook of its name
    let tests = std::fs::read_to_string(root().join("tests/prometheus/alerts.yml")).unwrap();
    for (alert, rule) in rules() {
        assert!(tests.contains(&format!("  - name: {alert}\n")), "{alert} has no test");
        let kebab = alert.chars().fold(String::new(), |kebab, c| match c.is_ascii_uppercase() {
            true if !kebab.is_empty() => format!("{kebab}-{}", c.to_ascii_lowercase()),
            _ => format!("{kebab}{}", c.to_ascii_lowercase()),
        });
        assert_eq!(rule["runbook_url"], format!("docs/OPERATIONS.md#{kebab}"), "{alert}");
        assert!(!rule["summary"].is_empty() && !rule["description"].is_empty(), "{alert}");
    }
}

/// The rules' expressions and annotations by alert.
fn rules() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = std::fs::read_to_string(root().join(RULES)).unwrap();
    let docs = yaml_rust2::YamlLoader::load_from_str(&text).unwrap();
    let rules = docs[0]["groups"][0]["rules"].as_vec().unwrap();
    let words = |rule: &yaml_rust2::Yaml| {
        let mut all = BTreeMap::from([("expr".to_owned(), rule["expr"].as_str().unwrap().to_owned())]);
        for name in ["summary", "description", "runbook_url"] {
            all.insert(name.to_owned(), rule["annotations"][name].as_str().unwrap().to_owned());
        }
        all
    };
    rules.iter().map(|rule| (rule["alert"].as_str().unwrap().to_owned(), words(rule))).collect()
}

/// Every expression of the dashboard, with the title of its panel or annotation.
fn dashboard() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("config/grafana/assay.json")).unwrap();
    let board: Value = serde_json::from_str(&text).unwrap();
    let mut all = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for annotation in board["annotations"]["list"].as_array().unwrap() {
        all.push((annotation["name"].as_str().unwrap().to_owned(), annotation["expr"].as_str().unwrap().to_owned()));
    }
    all
}

/// A Prometheus server for one test.
struct Prometheus {
    child: Child,
    folder: tempfile::TempDir,
    address: String,
    /// The time at which expressions are evaluated, in Unix seconds; `None` for now.
    at: Option<f64>,
}

impl Prometheus {
    fn start(address: &str) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\n\
             scrape_configs: [{{ job_name: assay, static_configs: [{{ targets: ['{address}'] }}] }}]\n",
            root().join(RULES).display()
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = tool("prometheus")
            .args([
                "--config.file",
                "prometheus.yml",
                "--storage.tsdb.path",
                "data",
                "--web.listen-address",
                "127.0.0.1:0",
            ])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut prometheus = Prometheus { child, folder, address: String::new(), at: None };
        eventually("Prometheus listens", || {
            let log = prometheus.log();
            let port = log
                .split("address=127.0.0.1:")
                .skip(1)
                .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
            let port = port.filter(|port| !port.is_empty() && port != "0").last();
            prometheus.address = port.map(|port| format!("127.0.0.1:{port}")).unwrap_or_default();
            !prometheus.address.is_empty() && TcpStream::connect(&prometheus.address).is_ok()
        });
        prometheus
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn api(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nhost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// The rows of an expression. Panics if it is not valid.
    fn query(&self, what: &str, expr: &str) -> Vec<Value> {
        let encoded: String = expr
            .bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect();
        let at = self.at.map(|at| format!("&time={at}")).unwrap_or_default();
        let answer = self.api(&format!("/api/v1/query?query={encoded}{at}"));
        assert_eq!(answer["status"], "success", "{what}: {expr}: {answer}");
        match answer["data"]["resultType"].as_str() {
            Some("vector") => answer["data"]["result"].as_array().unwrap().clone(),
            _ => vec![answer["data"]["result"].clone()],
        }
    }

    fn number(&self, expr: &str) -> f64 {
        let rows = self.query("a number", expr);
        rows.first().map_or(f64::NAN, |row| row["value"][1].as_str().unwrap().parse().unwrap())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of Prometheus\n{}", self.log());
        }
    }
}

/// What an alert compares: its expression without the last comparison.
fn compared(expr: &str) -> &str {
    let operators = [" == ", " > ", " < "];
    let at = operators.iter().filter_map(|operator| expr.rfind(operator)).max();
    at.map_or(expr, |at| &expr[..at]).trim()
}

/// Alerts on series that exist only after a failure.
const NOTHING_TO_COMPARE: [&str; 1] = ["AssayEngineCallErrors"];

/// Panels that are empty without failures.
const EMPTY_WHEN_WELL: [&str; 2] = ["Could not be made", "Starts"];

#[test]
fn prometheus_scrapes_a_busy_daemon_and_every_expression_has_a_result() {
    let (daemon, address) = watched();
    daemon.warm();
    let said = output_of(tool("promtool").args(["check", "metrics"]), &get(&address, "/metrics").body);
    assert_eq!(said, "", "promtool check metrics has complaints");

    let mut prometheus = Prometheus::start(&address);
    let mut caller = daemon.caller();
    one_of_everything(&mut caller);
    // a rate needs two different samples of a series: the first round creates every series, the
    // second one changes it
    eventually("the first round is scraped", || prometheus.number("sum(assay_submissions_total)") == 8.0);
    one_of_everything(&mut caller);
    // all answers and refusals. Later queries are evaluated at the time of this sample: on a busy
    // machine a late scrape would leave a range without samples
    eventually("the second round is scraped", || {
        let rows =
            prometheus.query("rounds", "sum(assay_submissions_total) + sum(assay_submissions_refused_total) == 20");
        prometheus.at = rows.first().and_then(|row| row["value"][0].as_f64());
        prometheus.at.is_some()
    });
    let said = output_of(tool("promtool").args(["check", "metrics"]), &get(&address, "/metrics").body);
    assert_eq!(said, "", "promtool check metrics has complaints");

    let targets = prometheus.api("/api/v1/targets");
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")), "{targets:#}");
    // Prometheus requested and parsed OpenMetrics: types and units are known
    let kinds = prometheus.api("/api/v1/targets/metadata?metric=assay_stage_duration_seconds");
    assert_eq!(
        (&kinds["data"][0]["type"], &kinds["data"][0]["unit"]),
        (&json!("histogram"), &json!("seconds")),
        "{kinds}"
    );
    let verdict = |verdict: &str| prometheus.number(&format!("sum(assay_submissions_total{{verdict=\"{verdict}\"}})"));
    let counts = ["accepted", "wrong_answer", "time_limit", "system_error"].map(verdict);
    assert_eq!(counts, [6.0, 2.0, 2.0, 2.0]);
    assert_eq!(prometheus.number("sum(assay_submissions_refused_total)"), 4.0);

    for (alert, rule) in rules() {
        let expr = &rule["expr"];
        prometheus.query(&alert, expr);
        let rows = prometheus.query(&alert, compared(expr));
        assert!(!rows.is_empty() || NOTHING_TO_COMPARE.contains(&alert.as_str()), "{alert} compares nothing: {expr}");
    }
    for (panel, expr) in dashboard() {
        let expr = expr.replace("$__rate_interval", "1m").replace("$instance", ".*");
        assert!(!expr.contains('$'), "{panel}: {expr}");
        let rows = prometheus.query(&panel, &expr);
        assert!(!rows.is_empty() || EMPTY_WHEN_WELL.contains(&panel.as_str()), "{panel} shows nothing: {expr}");
    }
    // Prometheus also evaluates the rules on its own, without an error
    eventually("the rules are evaluated", || {
        let rules = prometheus.api("/api/v1/rules");
        let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap().clone();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
        rules.iter().all(|rule| rule["health"] == "ok")
    });
}
