//! Measurements below the daemon, with the workspace's own crates: sandboxes made by hand.

use std::time::{Duration, Instant};

use docker::{Client, DEFAULT_SOCKET, Filters};
use protocol::{Isolation, Preset};
use sandbox::lifecycle::{self, CreateOptions, Slots};
use sandbox::policy::{self, MemoryOverheads, SandboxPlan};

use crate::sample::{Sample, ms_since};

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

pub fn plan(image_id: String, slot: u32) -> SandboxPlan {
    SandboxPlan {
        image_id,
        instance: format!("bench-{}", std::process::id()),
        profile: "python".to_owned(),
        slot,
        uid: 52_000 + slot,
        isolation: Isolation::Split,
        runtime: None,
        apparmor: None,
        limits: Preset::Judge.limits(),
        overheads: MemoryOverheads::default(),
        network_disabled: true,
    }
}

/// The newest image with the init in it.
pub async fn sandbox_image(client: &Client) -> String {
    let images = client.list_images(&Filters::new().with("label", "assay.image")).await.unwrap();
    let has_init =
        images.into_iter().filter(|image| image.repo_tags.iter().any(|tag| tag.starts_with("assay/sandbox:")));
    has_init.max_by_key(|image| image.created).unwrap().id
}

/// Containers per second of create, attach, start and remove with the client alone, two at a time
/// like the pool, for 12 s.
pub fn raw_rate() -> f64 {
    block_on(async {
        let client = Client::unix(DEFAULT_SOCKET);
        let image = sandbox_image(&client).await;
        let start = Instant::now();
        let stop = start + Duration::from_secs(12);
        let lanes = (0..2).map(|lane| {
            let (client, image) = (client.clone(), image.clone());
            async move {
                let mut count = 0;
                while Instant::now() < stop {
                    let approved = policy::approve(policy::build(&plan(image.clone(), lane))).unwrap();
                    let name = format!("assay-bench-{}-{lane}-{count}", std::process::id());
                    let created = client.create_container(&name, approved.spec()).await.unwrap();
                    let stream = client.attach(&created.id).await.unwrap();
                    client.start_container(&created.id).await.unwrap();
                    drop(stream);
                    client.remove_container(&created.id, true).await.unwrap();
                    count += 1;
                }
                count
            }
        });
        let count: usize = futures_util::future::join_all(lanes).await.into_iter().sum();
        let rate = count as f64 / start.elapsed().as_secs_f64();
        tokio::time::sleep(Duration::from_secs(2)).await;
        rate
    })
}

/// Round trips to the init of an idle sandbox.
pub fn ping(runs: usize) -> Sample {
    block_on(async {
        let client = Client::unix(DEFAULT_SOCKET);
        let image = sandbox_image(&client).await;
        let slots = Slots::new(46_900, 1);
        let slot = slots.take(format!("assay-bench-ping-{}", std::process::id())).unwrap();
        let plan = plan(image, 0);
        let options = CreateOptions {
            approved: policy::approve(policy::build(&plan)).unwrap(),
            limits: plan.limits,
            isolation: plan.isolation,
            overheads: MemoryOverheads::default(),
            slot,
            prewarm: Vec::new(),
        };
        let sandbox = lifecycle::create(&client, options).await.unwrap();
        let mut values = Vec::with_capacity(runs);
        for _ in 0..runs {
            let start = Instant::now();
            sandbox.ping().await.unwrap();
            values.push(ms_since(start));
        }
        drop(sandbox);
        lifecycle::sweep(&client, &plan.instance, None).await.unwrap();
        Sample(values)
    })
}
