//! What a new sandbox costs: assay's container spec against the same spec with one change; several
//! at a time; and restarting a container instead of creating one.
//!
//! Measures the engine's work only: the init's Ready is not awaited.

use std::time::Instant;

use docker::{Client, ContainerSpec, DEFAULT_SOCKET, WaitCondition};

use crate::engine::{block_on, plan, sandbox_image};
use crate::sample::{Sample, ms_since};

/// Changes a container spec.
type SpecChange = fn(&mut ContainerSpec);

/// Variants of the spec with one change each.
const CHANGES: &[(&str, SpecChange)] = &[
    ("assay's spec", |_| {}),
    ("log driver json-file", |spec| spec.host_config.log_config.kind = "json-file".to_owned()),
    ("network none, set up by the engine", |spec| spec.network_disabled = Some(false)),
    ("IPC mode none (no /dev/shm)", |spec| spec.host_config.ipc_mode = "none".to_owned()),
    ("cgroup namespace of the host", |spec| spec.host_config.cgroupns_mode = "host".to_owned()),
    ("no seccomp profile", |spec| spec.host_config.security_opt.push("seccomp=unconfined".to_owned())),
    ("no masked or read-only paths", |spec| {
        (spec.host_config.masked_paths, spec.host_config.readonly_paths) = (Some(Vec::new()), Some(Vec::new()));
    }),
    ("no tmpfs", |spec| spec.host_config.tmpfs.clear()),
    ("no limits on memory, CPU and processes", |spec| {
        let host = &mut spec.host_config;
        (host.memory, host.memory_swap, host.nano_cpus, host.pids_limit) = (0, 0, 0, 0);
    }),
    ("writable root", |spec| spec.host_config.readonly_rootfs = false),
];

/// Times of a container's steps in milliseconds.
struct LifecycleTimes {
    create: f64,
    start: f64,
    /// From the end of its stream until it is removed.
    remove: f64,
}

/// Creates, attaches and starts a container, then ends it: by DELETE, or by closing its stream.
async fn run_container(client: &Client, spec: &ContainerSpec, name: &str, by_delete: bool) -> LifecycleTimes {
    let begun = Instant::now();
    let created = client.create_container(name, spec).await.unwrap();
    let create = ms_since(begun);
    let stream = client.attach(&created.id).await.unwrap();
    let begun = Instant::now();
    client.start_container(&created.id).await.unwrap();
    let start = ms_since(begun);
    let begun = Instant::now();
    if by_delete {
        drop(stream);
        client.remove_container(&created.id, true).await.unwrap();
    } else {
        // Waits for the removal; the exit status does not matter.
        let wait = client.begin_wait(&created.id, WaitCondition::Removed).await.unwrap();
        drop(stream);
        let _ = wait.exit_status().await;
    }
    LifecycleTimes { create, start, remove: ms_since(begun) }
}

fn spec(image: &str, slot: u32, change: SpecChange) -> ContainerSpec {
    let approved = sandbox::policy::approve(sandbox::policy::build(&plan(image.to_owned(), slot))).unwrap();
    // Changed after the policy's approval: only our own init runs in it.
    let mut spec = approved.spec().clone();
    change(&mut spec);
    spec
}

pub fn all(runs: usize) {
    let runs = (runs / 10).max(8);
    block_on(async {
        let client = Client::unix(DEFAULT_SOCKET);
        let image = sandbox_image(&client).await;
        let name = |what: &str, n: usize| format!("assay-bench-{}-{what}-{n}", std::process::id());
        let p50 = |values: &[f64]| Sample(values.to_vec()).p50();

        println!(
            "  {:<62} {:>7} {:>7} {:>7} {:>7}",
            format!("one container at a time, p50 of {runs} (ms)"),
            "create",
            "start",
            "remove",
            "total"
        );
        let mut rows: Vec<[Vec<f64>; 3]> = vec![Default::default(); CHANGES.len()];
        for n in 0..runs {
            for (at, (_, change)) in CHANGES.iter().enumerate() {
                let times = run_container(&client, &spec(&image, 0, *change), &name("one", n * 100 + at), false).await;
                for (values, value) in rows[at].iter_mut().zip([times.create, times.start, times.remove]) {
                    values.push(value);
                }
            }
        }
        for ((title, _), [create, start, remove]) in CHANGES.iter().zip(&rows) {
            let (create, start, remove) = (p50(create), p50(start), p50(remove));
            println!("  {title:<62} {create:>7.1} {start:>7.1} {remove:>7.1} {:>7.1}", create + start + remove);
        }
        let mut deleted = Vec::new();
        for n in 0..runs {
            let times = run_container(&client, &spec(&image, 0, |_| {}), &name("del", n), true).await;
            deleted.push(times.create + times.start + times.remove);
        }
        println!("  {:<62} {:>31.1}", "removed by DELETE instead of by closing its stream", p50(&deleted));

        println!("\n  {:<62} {:>7}", "containers at a time", "per second");
        for lanes in 1..=4 {
            let begun = Instant::now();
            let all = (0..lanes).map(|lane| {
                let (client, image, name) = (client.clone(), image.clone(), &name);
                async move {
                    for n in 0..runs {
                        let spec = spec(&image, lane as u32, |_| {});
                        run_container(&client, &spec, &name("lane", lanes * 10_000 + lane * 1000 + n), false).await;
                    }
                }
            });
            futures_util::future::join_all(all).await;
            println!("  {lanes:<62} {:>7.1}", (lanes * runs) as f64 / begun.elapsed().as_secs_f64());
        }

        // Ends the same container by closing its stream and starts it again. Its tmpfs mounts are
        // new, its id and cgroup stay the same.
        let mut spec = spec(&image, 0, |_| {});
        spec.host_config.auto_remove = false;
        let created = client.create_container(&name("again", 0), &spec).await.unwrap();
        let mut restarts = Vec::new();
        for _ in 0..runs {
            let begun = Instant::now();
            let stream = client.attach(&created.id).await.unwrap();
            client.start_container(&created.id).await.unwrap();
            let wait = client.begin_wait(&created.id, WaitCondition::NotRunning).await.unwrap();
            drop(stream);
            let _ = wait.exit_status().await;
            restarts.push(ms_since(begun));
        }
        client.remove_container(&created.id, true).await.unwrap();
        println!("\n  {:<62} {:>31.1}", "restarted instead of created: start and end (ms)", p50(&restarts));
    });
}
