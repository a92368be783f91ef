//! What a new sandbox costs, and what of it could be saved: the spec that assay uses, and the same with one thing changed, turn
//! by turn; how many at a time; and starting an ended container again instead of making another.
//!
//! No Ready is waited for: it is the engine's work that is measured, not the init's.

use std::time::Instant;

use docker::{Client, ContainerSpec, DEFAULT_SOCKET, WaitCondition};

use super::{Sample, block_on, layered, plan};

type Change = fn(&mut ContainerSpec);

/// A spec that differs in one thing, and in whose favour that would have to be.
const CHANGES: &[(&str, Change)] = &[
    ("as it is", |_| {}),
    ("a log driver (json-file)", |spec| spec.host_config.log_config.kind = "json-file".to_owned()),
    ("a network of its own, with nothing in it, set up by the engine", |spec| spec.network_disabled = Some(false)),
    ("the host's IPC namespace out of reach, but no /dev/shm (none)", |spec| {
        spec.host_config.ipc_mode = "none".to_owned()
    }),
    ("the host's cgroup namespace", |spec| spec.host_config.cgroupns_mode = "host".to_owned()),
    ("no seccomp profile", |spec| spec.host_config.security_opt.push("seccomp=unconfined".to_owned())),
    ("no masked and read-only paths", |spec| {
        (spec.host_config.masked_paths, spec.host_config.readonly_paths) = (Some(Vec::new()), Some(Vec::new()));
    }),
    ("no tmpfs", |spec| spec.host_config.tmpfs.clear()),
    ("no limits of memory, CPU and processes", |spec| {
        let host = &mut spec.host_config;
        (host.memory, host.memory_swap, host.nano_cpus, host.pids_limit) = (0, 0, 0, 0);
    }),
    ("a writable root", |spec| spec.host_config.readonly_rootfs = false),
];

/// One container from nothing to gone: create, attach, start; its stream closes; a DELETE, or the engine's own removal.
struct Life {
    create: f64,
    start: f64,
    gone: f64,
}

async fn life(client: &Client, spec: &ContainerSpec, name: &str, is_deleted: bool) -> Life {
    let ms = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let begun = Instant::now();
    let created = client.create_container(name, spec).await.unwrap();
    let create = ms(begun);
    let stream = client.attach(&created.id).await.unwrap();
    let begun = Instant::now();
    client.start_container(&created.id).await.unwrap();
    let start = ms(begun);
    let begun = Instant::now();
    if is_deleted {
        drop(stream);
        client.remove_container(&created.id, true).await.unwrap();
    } else {
        // its removal is what is waited for, whatever it ended with
        let wait = client.begin_wait(&created.id, WaitCondition::Removed).await.unwrap();
        drop(stream);
        let _ = wait.exit_status().await;
    }
    Life { create, start, gone: ms(begun) }
}

fn spec(image: &str, slot: u32, change: Change) -> ContainerSpec {
    let approved = sandbox::policy::approve(sandbox::policy::build(&plan(image.to_owned(), slot))).unwrap();
    // beyond the policy's eyes: nothing runs in it but our own init
    let mut spec = approved.spec().clone();
    change(&mut spec);
    spec
}

pub fn all(runs: usize) {
    let runs = (runs / 10).max(8);
    block_on(async {
        let client = Client::unix(DEFAULT_SOCKET);
        let image = layered(&client).await;
        let name = |what: &str, n: usize| format!("assay-bench-{}-{what}-{n}", std::process::id());
        let p50 = |values: &[f64]| Sample(values.to_vec()).p50();

        println!("a sandbox of its own, one at a time, p50 of {runs} (ms)           create   start    gone     all");
        let mut rows: Vec<[Vec<f64>; 3]> = vec![Default::default(); CHANGES.len()];
        for n in 0..runs {
            for (at, (_, change)) in CHANGES.iter().enumerate() {
                let lived = life(&client, &spec(&image, 0, *change), &name("one", n * 100 + at), false).await;
                for (values, value) in rows[at].iter_mut().zip([lived.create, lived.start, lived.gone]) {
                    values.push(value);
                }
            }
        }
        for ((title, _), [create, start, gone]) in CHANGES.iter().zip(&rows) {
            let (create, start, gone) = (p50(create), p50(start), p50(gone));
            println!("  {title:<62} {create:>7.1} {start:>7.1} {gone:>7.1} {:>7.1}", create + start + gone);
        }
        let mut deleted = Vec::new();
        for n in 0..runs {
            let lived = life(&client, &spec(&image, 0, |_| {}), &name("del", n), true).await;
            deleted.push(lived.create + lived.start + lived.gone);
        }
        println!("  {:<62} {:>31.1}", "removed by a DELETE instead of by its stream's end", p50(&deleted));

        println!("\nso many at a time                                                 each second");
        for lanes in 1..=4 {
            let begun = Instant::now();
            let all = (0..lanes).map(|lane| {
                let (client, image, name) = (client.clone(), image.clone(), &name);
                async move {
                    for n in 0..runs {
                        let spec = spec(&image, lane as u32, |_| {});
                        life(&client, &spec, &name("lane", lanes * 10_000 + lane * 1000 + n), false).await;
                    }
                }
            });
            futures_util::future::join_all(all).await;
            println!("  {lanes:<62} {:>7.1}", (lanes * runs) as f64 / begun.elapsed().as_secs_f64());
        }

        // the same container ends by its stream's end, and is started again: its tmpfs are new, its id and cgroup the old ones
        let mut spec = spec(&image, 0, |_| {});
        spec.host_config.auto_remove = false;
        let created = client.create_container(&name("again", 0), &spec).await.unwrap();
        let mut again = Vec::new();
        for _ in 0..runs {
            let begun = Instant::now();
            let stream = client.attach(&created.id).await.unwrap();
            client.start_container(&created.id).await.unwrap();
            let wait = client.begin_wait(&created.id, WaitCondition::NotRunning).await.unwrap();
            drop(stream);
            let _ = wait.exit_status().await;
            again.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        client.remove_container(&created.id, true).await.unwrap();
        println!("\n  {:<62} {:>31.1}", "started again instead of made anew: start and end (ms)", p50(&again));
    });
}
