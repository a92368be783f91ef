//! assay's Engine client against bollard, on the same engine in the same run (`make bench`).
//!
//! * Unix socket: ping, list, inspect; calls per second and the 99th percentile.
//! * TLS on loopback, to an engine that the benchmark starts: the same calls.
//! * create + start + remove of one container.
//! * The decoder of multiplexed streams, in memory, against a copy of the same bytes.
//!
//! Blocks of calls alternate between the clients, so that other load affects both. `BENCH_RUNS`
//! (default 200) sets the number of calls.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod decode;
mod engine;

use std::collections::HashMap;
use std::io::Cursor;
use std::process::Command;
use std::time::{Duration, Instant};

use docker::{Client, ContainerSpec, Endpoint, Filters, HostConfig, EngineTarget, TlsFiles};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig as PeerHostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions,
};

use engine::PrivateEngine;

const SOCKET: &str = "/var/run/docker.sock";
const IMAGE: &str = "assay-bench-peers";
const NAME: &str = IMAGE;
const LABEL: (&str, &str) = ("assay.bench", "peers");

fn main() {
    let runs = std::env::var("BENCH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(200);
    println!("{:<40} {:>22} {:>22} {:>7}", "assay's Engine client and bollard 0.21", "assay", "bollard", "ratio");
    decode::measure();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(over_unix(runs));
    over_tls(runs);
}

/// Latencies of one client's calls.
#[derive(Default)]
struct Sample(Vec<Duration>);

impl Sample {
    fn rate(&self) -> f64 {
        self.0.len() as f64 / self.0.iter().sum::<Duration>().as_secs_f64()
    }

    fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[((sorted.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3
    }
}

/// Prints a row: rates, latencies and their ratio.
fn row(name: &str, [ours, theirs]: &[Sample; 2]) {
    let cell = |sample: &Sample| format!("{:.0}/s p99 {:.2} ms", sample.rate(), sample.at(0.99));
    println!("{name:<40} {:>22} {:>22} {:>6.2}x", cell(ours), cell(theirs), ours.rate() / theirs.rate());
}

/// Alternates between the clients: `rounds` times `block` calls of each.
macro_rules! alternate {
    ($rounds:expr, $block:expr, $ours:expr, $theirs:expr) => {{
        let mut samples = [Sample::default(), Sample::default()];
        for round in 0..$rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                for _ in 0..$block {
                    let begun = Instant::now();
                    if which == 0 { $ours } else { $theirs };
                    samples[which].0.push(begun.elapsed());
                }
            }
        }
        samples
    }};
}

/// The three read-only calls.
async fn look(title: &str, ours: &Client, theirs: &Docker, id: &str, rounds: usize) {
    let filters = Filters::new().with("label", &format!("{}={}", LABEL.0, LABEL.1));
    let labels = HashMap::from([("label", vec![format!("{}={}", LABEL.0, LABEL.1)])]);
    let list = ListContainersOptionsBuilder::new().all(true).filters(&labels).build();
    assert_eq!(ours.list_containers(true, &filters).await.unwrap().len(), 1);
    assert_eq!(theirs.list_containers(Some(list.clone())).await.unwrap().len(), 1);
    let ping = alternate!(rounds, 50, drop(ours.ping().await.unwrap()), drop(theirs.ping().await.unwrap()));
    row(&format!("{title}: ping"), &ping);
    let listed = alternate!(
        rounds,
        50,
        drop(ours.list_containers(true, &filters).await.unwrap()),
        drop(theirs.list_containers(Some(list.clone())).await.unwrap())
    );
    row(&format!("{title}: list one of its containers"), &listed);
    let inspected = alternate!(
        rounds,
        50,
        drop(ours.inspect_container(id).await.unwrap()),
        drop(theirs.inspect_container(id, None::<InspectContainerOptions>).await.unwrap())
    );
    row(&format!("{title}: inspect"), &inspected);
}

async fn over_unix(runs: usize) {
    let ours = Client::unix(SOCKET);
    let theirs = Docker::connect_with_unix(SOCKET, 120, bollard::API_DEFAULT_VERSION).unwrap();
    let theirs = theirs.negotiate_version().await.unwrap();
    // A run that was killed may have left it.
    ours.remove_container(NAME, true).await.unwrap();
    import(&ours).await;
    let id = ours.create_container(NAME, &spec()).await.unwrap().id;
    look("Unix socket", &ours, &theirs, &id, (runs / 10).max(2)).await;
    ours.remove_container(&id, true).await.unwrap();
    let lives = alternate!((runs / 10).max(2), 3, one_life(&ours).await, their_life(&theirs).await);
    let [a, b] = [lives[0].at(0.5), lives[1].at(0.5)];
    println!(
        "{:<40} {:>22} {:>22} {:>6.2}x",
        "Unix socket: create + start + remove",
        format!("p50 {a:.1} ms"),
        format!("p50 {b:.1} ms"),
        b / a
    );
    ours.remove_image(IMAGE, true).await.unwrap();
}

fn over_tls(runs: usize) {
    let engine = PrivateEngine::start();
    let client = engine.client_files();
    engine.inside(async move {
        let target = EngineTarget {
            endpoint: Endpoint::parse("tcp://localhost:2376").unwrap(),
            tls: Some(TlsFiles::in_folder(&client)),
            ..EngineTarget::default()
        };
        let ours = Client::open(&target).unwrap();
        let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|name| client.join(name));
        let theirs =
            Docker::connect_with_ssl("tcp://localhost:2376", &key, &cert, &ca, 120, bollard::API_DEFAULT_VERSION).unwrap();
        let theirs = theirs.negotiate_version().await.unwrap();
        import(&ours).await;
        let id = ours.create_container(NAME, &spec()).await.unwrap().id;
        look("TLS on loopback", &ours, &theirs, &id, (runs / 20).max(2)).await;
    });
}

/// An image with one static program that waits.
async fn import(client: &Client) {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("wait.c"), folder.path().join("wait"));
    std::fs::write(&source, "#include <unistd.h>\nint main(void) { pause(); }\n").unwrap();
    let compiled = Command::new("gcc").args(["-static", "-Os", "-s", "-o"]).args([&program, &source]).status();
    assert!(compiled.unwrap().success());
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name(&program, "wait").unwrap();
    let tar = Cursor::new(archive.into_inner().unwrap());
    let changes = ["CMD [\"/wait\"]".to_owned()];
    client.import_image(IMAGE, "latest", &changes, tar, &mut |_| {}).await.unwrap();
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        image: IMAGE.to_owned(),
        labels: [(LABEL.0.to_owned(), LABEL.1.to_owned())].into(),
        host_config: HostConfig { network_mode: "none".to_owned(), ..HostConfig::default() },
        ..ContainerSpec::default()
    }
}

async fn one_life(client: &Client) {
    let id = client.create_container(NAME, &spec()).await.unwrap().id;
    client.start_container(&id).await.unwrap();
    client.remove_container(&id, true).await.unwrap();
}

async fn their_life(docker: &Docker) {
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        labels: Some(HashMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
        host_config: Some(PeerHostConfig { network_mode: Some("none".to_owned()), ..PeerHostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(NAME).build();
    let id = docker.create_container(Some(options), body).await.unwrap().id;
    docker.start_container(&id, None::<StartContainerOptions>).await.unwrap();
    let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    docker.remove_container(&id, Some(force)).await.unwrap();
}
