//! Every call against a real engine.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::time::Duration;

use docker::stdcopy::{Decoder, StdStream};
use docker::version::{NEWEST, OLDEST};
use docker::{
    BuildOptions, Client, Error, Filters, LogOptions, NetworkSpec, ProgressMessage, Pull, PullPolicy, Removal,
    UpdateResources, WaitCondition,
};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::support::{one_file, read};
use super::{
    Cleanup, ImageCleanup, REPO, changes, clean_up, client, create, create_as, image, spec, tar, test_label, unique,
};

/// Far more than any of these calls takes.
const SOON: Duration = Duration::from_secs(20);

async fn is_podman(client: &Client) -> bool {
    client.ping().await.unwrap().podman
}

#[tokio::test]
async fn a_ping_negotiates_the_version_for_all_clones() {
    let client = client();
    assert_eq!(client.negotiated(), None);
    let ping = client.ping().await.unwrap();
    assert!((OLDEST..=NEWEST).contains(&ping.api_version) && ping.api_version <= ping.offered);
    assert_eq!(client.clone().negotiated(), Some(ping.api_version));
}

#[tokio::test]
async fn the_engine_reports_its_version_machine_and_disk_usage() {
    let client = client();
    let (version, info) = (client.version().await.unwrap(), client.info().await.unwrap());
    assert_eq!(version.os.as_deref(), Some("linux"));
    assert!(version.version.is_some() && version.api_version.is_some());
    assert!(info.ncpu.unwrap() > 0 && info.mem_total.unwrap() > 0 && info.memory_limit == Some(true));
    let name = image().await;
    let usage = client.disk_usage().await.unwrap();
    let id = client.inspect_image(&name).await.unwrap().id;
    let has = |found: &str| found.trim_start_matches("sha256:") == id.trim_start_matches("sha256:");
    assert!(usage.images.iter().any(|(found, bytes)| has(found) && *bytes > 0), "{usage:?}");
}

#[tokio::test]
async fn a_container_is_created_attached_started_and_removed() {
    let (client, id, _cleanup) = create("life").await;
    let (mut reader, mut writer) = client.attach(&id).await.unwrap().into_split();
    let wait = client.begin_wait(&id, WaitCondition::NextExit).await.unwrap();
    client.start_container(&id).await.unwrap();
    client.start_container(&id).await.unwrap();

    let mut decoder = Decoder::new();
    writer.write_all(b"hello\n").await.unwrap();
    assert_eq!(read(&mut reader, &mut decoder, StdStream::Stdout, 10).await, "got hello\n");
    let info = client.inspect_container(&id).await.unwrap();
    assert!(info.state.running && info.state.pid > 0 && info.id == id);
    assert_eq!(info.config.labels.unwrap()["assay.test"], "docker");

    writer.write_all(b"quit\n").await.unwrap();
    let rest = read(&mut reader, &mut decoder, StdStream::Stdout, usize::MAX).await;
    assert_eq!((rest.as_str(), decoder.finish()), ("got quit\n", Ok(())));
    assert_eq!(timeout(SOON, wait.exit_status()).await.unwrap().unwrap(), 3);
    let state = client.inspect_container(&id).await.unwrap().state;
    assert_eq!((state.status.as_str(), state.exit_code), ("exited", 3));

    client.kill_container(&id).await.unwrap();
    assert_eq!(client.remove_container(&id, false).await.unwrap(), Removal::Removed);
    assert_eq!(client.remove_container(&id, true).await.unwrap(), Removal::AlreadyGone);
    assert!(client.inspect_container(&id).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_shutdown_or_dropped_writer_does_not_end_the_containers_input() {
    let (client, id, _cleanup) = create("halfclose").await;
    let (mut reader, mut writer) = client.attach(&id).await.unwrap().into_split();
    client.start_container(&id).await.unwrap();
    writer.write_all(b"a\n").await.unwrap();
    writer.shutdown().await.unwrap();
    drop(writer);
    let mut decoder = Decoder::new();
    assert_eq!(read(&mut reader, &mut decoder, StdStream::Stdout, 6).await, "got a\n");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(client.inspect_container(&id).await.unwrap().state.running);
    // Closing both halves ends the input: the program reads end of file and exits with 7.
    let wait = client.begin_wait(&id, WaitCondition::NextExit).await.unwrap();
    drop(reader);
    assert_eq!(timeout(SOON, wait.exit_status()).await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn a_killed_container_is_dead_when_the_call_returns() {
    let (client, id, _cleanup) = create("kill").await;
    let _attached = client.attach(&id).await.unwrap();
    client.start_container(&id).await.unwrap();
    let wait = client.begin_wait(&id, WaitCondition::NotRunning).await.unwrap();
    client.kill_container(&id).await.unwrap();
    assert_eq!(timeout(SOON, wait.exit_status()).await.unwrap().unwrap(), 137);
    client.kill_container(&id).await.unwrap();
    client.kill_container("assay-test-docker-absent").await.unwrap();
}

#[tokio::test]
async fn a_stop_waits_for_the_grace_period_and_then_kills() {
    // PID 1 without a handler ignores SIGTERM
    let (client, id, _cleanup) = create("stop").await;
    let _attached = client.attach(&id).await.unwrap();
    client.start_container(&id).await.unwrap();
    client.stop_container(&id, Duration::from_millis(1)).await.unwrap();
    let state = client.inspect_container(&id).await.unwrap().state;
    assert_eq!((state.running, state.exit_code), (false, 137));
    client.stop_container(&id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn limits_change_while_a_container_runs() {
    let (client, id, _cleanup) = create("update").await;
    let _attached = client.attach(&id).await.unwrap();
    client.start_container(&id).await.unwrap();
    let resources = UpdateResources {
        memory: Some(96 << 20),
        memory_swap: Some(96 << 20),
        nano_cpus: Some(500_000_000),
        pids_limit: Some(20),
    };
    let warnings = client.update_container(&id, &resources).await.unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(client.stats(&id).await.unwrap().memory_stats.limit, 96 << 20);
}

#[tokio::test]
async fn top_and_stats_show_a_running_container() {
    let (client, id, _cleanup) = create("stats").await;
    let (mut reader, mut writer) = client.attach(&id).await.unwrap().into_split();
    client.start_container(&id).await.unwrap();
    writer.write_all(b"a\n").await.unwrap();
    read(&mut reader, &mut Decoder::new(), StdStream::Stdout, 6).await;
    match client.top(&id).await {
        Ok(top) => {
            assert_eq!(top.processes.len(), 1, "{top:?}");
            assert!(top.processes[0].iter().any(|cell| cell.contains("/echo")), "{top:?}");
        }
        // Podman runs the image's own ps, and this image has none
        Err(error) => assert!(is_podman(&client).await && error.to_string().contains("`ps` not found"), "{error}"),
    }
    let stats = client.stats(&id).await.unwrap();
    assert_eq!((stats.memory_stats.limit, stats.pids_stats.current), (64 << 20, 1));
    assert!(stats.cpu_stats.cpu_usage.total_usage > 0 && stats.memory_stats.usage > 0);
    let mut stream = client.stats_stream(&id).await.unwrap();
    for _ in 0..2 {
        assert!(timeout(SOON, stream.next()).await.unwrap().unwrap().is_some());
    }
}

#[tokio::test]
async fn a_log_is_read_in_full_in_part_and_while_it_grows() {
    let mut logged = spec().await;
    logged.host_config.log_config.kind = "json-file".to_owned();
    let (client, id, _cleanup) = create_as("logs", logged).await;
    let (mut reader, mut writer) = client.attach(&id).await.unwrap().into_split();
    client.start_container(&id).await.unwrap();
    let mut follow = client.logs(&id, &LogOptions { follow: true, ..LogOptions::default() }).await.unwrap();
    writer.write_all(b"a\nb\nquit\n").await.unwrap();
    read(&mut reader, &mut Decoder::new(), StdStream::Stdout, usize::MAX).await;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let all = async {
        while follow
            .next(|stream, piece| {
                if stream == StdStream::Stdout { &mut stdout } else { &mut stderr }.extend_from_slice(piece)
            })
            .await
            .unwrap()
        {}
    };
    timeout(SOON, all).await.unwrap();
    assert_eq!(
        (stdout.as_slice(), stderr.as_slice()),
        (&b"got a\ngot b\ngot quit\n"[..], &b"echoed\nechoed\nechoed\n"[..])
    );
    let whole = client.logs(&id, &LogOptions::default()).await.unwrap().text(1000).await.unwrap();
    assert_eq!(whole.len(), stdout.len() + stderr.len());
    let last = LogOptions { tail: Some(1), timestamps: true, ..LogOptions::default() };
    let last = client.logs(&id, &last).await.unwrap().text(1000).await.unwrap();
    let last = String::from_utf8_lossy(&last).into_owned();
    assert!(last.starts_with("20") && last.lines().count() == 1, "{last}");
    let small = client.logs(&id, &LogOptions::default()).await.unwrap().text(3).await.unwrap_err();
    assert!(matches!(small, Error::TooLarge { limit: 3, .. }), "{small}");
}

#[tokio::test]
async fn files_are_copied_into_and_out_of_a_container() {
    let (client, id, _cleanup) = create("files").await;
    let content = vec![b'x'; 300_000];
    client.put_archive(&id, "/", Cursor::new(one_file("note", &content))).await.unwrap();
    let stat = client.stat_path(&id, "/note").await.unwrap();
    assert_eq!((stat.name.as_str(), stat.size), ("note", 300_000));
    let mut archive = Vec::new();
    let bytes = client.get_archive(&id, "/note", 1 << 20, &mut archive).await.unwrap();
    assert_eq!(bytes, archive.len() as u64);
    let mut back = tar::Archive::new(archive.as_slice());
    let mut read = Vec::new();
    io::Read::read_to_end(&mut back.entries().unwrap().next().unwrap().unwrap(), &mut read).unwrap();
    assert!(read == content);
    let small = client.get_archive(&id, "/note", 1000, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(small, Error::TooLarge { limit: 1000, .. }), "{small}");
    for error in [
        client.stat_path(&id, "/nothing").await.unwrap_err(),
        client.get_archive(&id, "/nothing", 1, &mut Vec::new()).await.unwrap_err(),
    ] {
        assert!(error.is_not_found(), "{error}");
    }
    // Podman creates the folder
    let put = client.put_archive(&id, "/nothing", Cursor::new(one_file("a", b""))).await;
    assert!(put.is_ok() == is_podman(&client).await, "{put:?}");
}

#[tokio::test]
async fn containers_are_listed_by_label_and_names_are_unique() {
    let (client, id, cleanup) = create("list").await;
    let listed = client.list_containers(true, &test_label()).await.unwrap();
    let found = listed.iter().find(|container| container.id == id).unwrap();
    assert_eq!((found.state.as_str(), &found.names), ("created", &vec![format!("/{}", cleanup.0)]));
    let running = client.list_containers(false, &test_label()).await.unwrap();
    assert!(running.iter().all(|container| container.id != id));
    let other = Filters::new().with("label", "assay.test=other");
    assert!(client.list_containers(true, &other).await.unwrap().is_empty());

    let again = client.create_container(&cleanup.0, &spec().await).await.unwrap_err();
    assert!(again.is_conflict() && !again.retryable(), "{again}");
}

#[tokio::test]
async fn a_prune_removes_only_objects_with_its_label_and_requires_one() {
    let client = client();
    let refused = client.prune_containers(&Filters::new()).await.unwrap_err();
    assert!(refused.to_string().contains("label"), "{refused}");
    assert!(client.prune_images(&Filters::new().with("dangling", "true")).await.is_err());
    let label = format!("assay.prune={}", unique("label"));
    let mut pruned = spec().await;
    let (key, value) = label.split_once('=').unwrap();
    pruned.labels.insert(key.to_owned(), value.to_owned());
    let (_, labelled, _cleanup) = create_as("prune", pruned).await;
    let (_, other, _other) = create("noprune").await;
    let report = client.prune_containers(&Filters::new().with("label", &label)).await.unwrap();
    assert_eq!(report.removed, [labelled]);
    assert!(client.inspect_container(&other).await.is_ok());
    let report = client.prune_images(&Filters::new().with("label", &label)).await.unwrap();
    assert!(report.removed.is_empty());
}

#[tokio::test]
async fn eight_concurrent_removals_all_succeed() {
    let (client, id, _cleanup) = create("race").await;
    let _attached = client.attach(&id).await.unwrap();
    client.start_container(&id).await.unwrap();
    let removals: Vec<_> = (0..8)
        .map(|_| {
            let (client, id) = (client.clone(), id.clone());
            tokio::spawn(async move { client.remove_container(&id, true).await })
        })
        .collect();
    let mut removed = 0;
    for removal in removals {
        removed += usize::from(removal.await.unwrap().unwrap() == Removal::Removed);
    }
    assert!(removed >= 1);
    assert!(client.inspect_container(&id).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn eight_concurrent_disk_usage_calls_all_succeed() {
    let client = client();
    client.ping().await.unwrap();
    let counts: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.disk_usage().await })
        })
        .collect();
    for count in counts {
        count.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn every_call_on_an_absent_object_reports_not_found() {
    let (client, missing) = (client(), "assay-test-docker-absent");
    let mut absent = spec().await;
    absent.image = "assay-test-docker-absent:0".to_owned();
    let errors = [
        client.inspect_container(missing).await.unwrap_err(),
        client.start_container(missing).await.unwrap_err(),
        client.attach(missing).await.unwrap_err(),
        client.begin_wait(missing, WaitCondition::NextExit).await.unwrap_err(),
        client.update_container(missing, &UpdateResources::default()).await.unwrap_err(),
        client.top(missing).await.unwrap_err(),
        client.logs(missing, &LogOptions::default()).await.unwrap_err(),
        client.create_container(&unique("absent"), &absent).await.unwrap_err(),
        client.inspect_image(missing).await.unwrap_err(),
        client.tag_image(missing, "a", "b").await.unwrap_err(),
        client.inspect_network(missing).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_not_found() && !error.retryable() && !error.is_unreachable(), "{error}");
        assert!(!error.to_string().ends_with(": "), "{error}");
    }
    assert_eq!(client.remove_container(missing, true).await.unwrap(), Removal::AlreadyGone);
    client.remove_image(missing, false).await.unwrap();
    client.remove_network(missing).await.unwrap();
}

#[tokio::test]
async fn an_image_is_imported_tagged_listed_and_removed() {
    let (client, tag) = (client(), unique("tag"));
    let mut steps: Vec<ProgressMessage> = Vec::new();
    let import = Cursor::new(tar());
    client.import_image(REPO, &tag, &changes(), import, &mut |step| steps.push(step)).await.unwrap();
    let name = format!("{REPO}:{tag}");
    let _cleanup = ImageCleanup(name.clone());
    assert!(!steps.is_empty());
    let info = client.inspect_image(&name).await.unwrap();
    assert_eq!(info.config.as_ref().unwrap().labels.as_ref().unwrap()["assay.test"], "docker");
    assert!(info.repo_tags.iter().any(|found| found.ends_with(&name)) && info.size > 0);

    let other = format!("{tag}-other");
    client.tag_image(&info.id, REPO, &other).await.unwrap();
    let listed = client.list_images(&test_label()).await.unwrap();
    let found = listed.iter().find(|image| image.id == info.id).unwrap();
    assert!(found.repo_tags.iter().any(|found| found.ends_with(&other)), "{found:?}");
    client.remove_image(&format!("{REPO}:{other}"), false).await.unwrap();
    client.remove_image(&name, false).await.unwrap();
    assert!(client.inspect_image(&name).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn an_invalid_archive_is_an_error_and_makes_no_image() {
    let (client, tag) = (client(), unique("bad"));
    let garbage = Cursor::new(vec![7; 16 << 20]);
    let error = client.import_image(REPO, &tag, &changes(), garbage, &mut |_| {}).await.unwrap_err();
    assert!(!matches!(error, Error::Connect { .. } | Error::Timeout { .. }), "{error:?}");
    assert!(client.inspect_image(&format!("{REPO}:{tag}")).await.unwrap_err().is_not_found());
}

/// An archive as `docker save` writes it, of one file.
fn saved(name: &str) -> Vec<u8> {
    let hex = |bytes: &[u8]| base16ct::lower::encode_string(&Sha256::digest(bytes));
    let layer = one_file("loaded", b"yes");
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"assay.test": "docker"}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "a test"}],
    })
    .to_string();
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in
        [("layer.tar", layer.as_slice()), (&config_name, config.as_bytes()), ("manifest.json", manifest.as_bytes())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn saved_images_are_loaded_and_an_invalid_archive_is_an_error() {
    let client = client();
    let name = format!("{REPO}:{}", unique("load"));
    let _cleanup = ImageCleanup(name.clone());
    client.load_images(Cursor::new(saved(&name)), &mut |_| {}).await.unwrap();
    let found = client.inspect_image(&name).await.unwrap();
    assert_eq!(found.config.unwrap().labels.unwrap()["assay.test"], "docker");
    let error = client.load_images(Cursor::new(one_file("manifest.json", b"{")), &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Status { .. } | Error::Reported { .. }), "{error:?}");
}

#[tokio::test]
async fn a_build_returns_the_images_id_and_a_failed_step_is_an_error() {
    let client = client();
    let name = format!("{REPO}:{}", unique("build"));
    let _cleanup = ImageCleanup(name.clone());
    let options = BuildOptions {
        tag: name.clone(),
        labels: BTreeMap::from([("assay.test".to_owned(), "docker".to_owned())]),
        build_args: BTreeMap::from([("WORD".to_owned(), "b c".to_owned())]),
        network_mode: Some("none".to_owned()),
        no_cache: true,
        memory: Some(128 << 20),
        ..BuildOptions::default()
    };
    let base = image().await;
    let context = |dockerfile: String| bytes::Bytes::from(one_file("Dockerfile", dockerfile.as_bytes()));
    let mut output = String::new();
    let good = context(format!("FROM {base}\nARG WORD\nLABEL word=$WORD\n"));
    let mut follow = |step: ProgressMessage| output.push_str(&step.stream.unwrap_or_default());
    let id = client.build_image(&options, good, &mut follow).await.unwrap();
    assert!(output.to_lowercase().contains("step 1/"), "{output}");
    let found = client.inspect_image(&name).await.unwrap();
    assert!(found.id.trim_start_matches("sha256:").starts_with(id.trim_start_matches("sha256:")), "{id}");
    assert_eq!(found.config.unwrap().labels.unwrap()["word"], "b c");

    let failing = context(format!("FROM {base}\nRUN [\"/nothing\"]\n"));
    let error = client.build_image(&options, failing, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Reported { .. }), "{error:?}");
}

#[tokio::test]
async fn a_pull_from_an_unreachable_registry_is_an_error() {
    let image = "localhost:1/assay-test-docker:0".parse().unwrap();
    let error = client().pull_image(&image, None, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Status { .. } | Error::Reported { .. }), "{error:?}");
}

#[tokio::test]
async fn the_pull_policy_decides_whether_the_registry_is_used() {
    let client = client();
    let name = image().await;
    let pull = |policy, name: &str| Pull { image: name.parse().unwrap(), policy, credentials: None };
    for policy in [PullPolicy::Never, PullPolicy::IfMissing] {
        assert!(client.ensure_image(&pull(policy, &name), &mut |_| {}).await.is_ok());
    }
    let absent = "localhost:1/assay-test-docker:0";
    let never = client.ensure_image(&pull(PullPolicy::Never, absent), &mut |_| {}).await.unwrap_err();
    assert!(never.is_not_found() && never.to_string().contains("pull policy is never"), "{never}");
    for policy in [PullPolicy::IfMissing, PullPolicy::Always] {
        let error = client.ensure_image(&pull(policy, absent), &mut |_| {}).await.unwrap_err();
        assert!(matches!(error, Error::Status { .. } | Error::Reported { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_network_is_created_inspected_and_removed() {
    let (client, name) = (client(), unique("network"));
    let spec = NetworkSpec {
        name: name.clone(),
        driver: "bridge".to_owned(),
        internal: true,
        check_duplicate: true,
        labels: BTreeMap::from([("assay.test".to_owned(), "docker".to_owned())]),
        ..NetworkSpec::default()
    };
    let created = client.create_network(&spec).await;
    if let Err(error) = &created {
        // the engines of `make test-engines` run without a bridge and cannot create one
        assert!(std::env::var_os("ASSAY_TEST_ENGINE").is_some(), "{error}");
        assert!(!error.is_unreachable(), "{error}");
        return;
    }
    let made = name.clone();
    struct Network(String);
    impl Drop for Network {
        fn drop(&mut self) {
            let name = self.0.clone();
            clean_up(async move |client| drop(client.remove_network(&name).await));
        }
    }
    let _cleanup = Network(made);
    let found = client.inspect_network(&name).await.unwrap();
    assert_eq!((found.driver.as_str(), found.internal), ("bridge", true));
    assert!(client.list_networks(&test_label()).await.unwrap().iter().any(|network| network.name == name));
    assert!(client.create_network(&spec).await.unwrap_err().is_conflict());
    client.remove_network(&name).await.unwrap();
    assert!(client.inspect_network(&name).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn events_report_a_create_and_an_idle_stream_stays_open() {
    let client = client();
    image().await;
    let mut events = client.events(&test_label().with("type", "container")).await.unwrap();
    let (_, id, _cleanup) = create("events").await;
    loop {
        let event = timeout(SOON, events.next()).await.unwrap().unwrap().unwrap();
        if event.actor.id == id {
            assert_eq!((event.kind.as_str(), event.action.as_str()), ("container", "create"));
            assert_eq!(event.actor.attributes["assay.test"], "docker");
            assert!(event.time_nano > 0);
            return;
        }
    }
}

/// A reader that returns some blocks of 512 bytes and then fails.
struct Failing(usize);

impl tokio::io::AsyncRead for Failing {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        if self.0 == 0 {
            return std::task::Poll::Ready(Err(io::Error::other("the disk is on fire")));
        }
        self.0 -= 1;
        buffer.put_slice(&[0; 512]);
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_failing_reader_of_an_upload_is_not_the_engines_fault() {
    let (client, tag) = (client(), unique("unread"));
    let error = client.import_image(REPO, &tag, &changes(), Failing(1), &mut |_| {}).await.unwrap_err();
    assert!(matches!(&error, Error::Upload { source, .. } if source.to_string().contains("on fire")), "{error:?}");
    assert!(!error.is_unreachable() && !error.retryable() && client.negotiated().is_some());
    assert!(client.inspect_image(&format!("{REPO}:{tag}")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_failed_connect_resets_the_version() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("docker.sock");
    let real = client();
    let docker::Endpoint::Unix(path) = real.endpoint() else { return };
    std::os::unix::fs::symlink(path, &link).unwrap();
    let client = Client::unix(&link);
    client.ping().await.unwrap();
    assert!(client.negotiated().is_some());
    std::fs::remove_file(&link).unwrap();
    assert!(client.info().await.unwrap_err().is_unreachable());
    assert_eq!(client.negotiated(), None);
}

#[tokio::test]
async fn a_container_with_unread_output_is_removed_after_its_attach_is_closed() {
    let (client, id, _cleanup): (_, _, Cleanup) = create("unread").await;
    let (_reader, mut writer) = client.attach(&id).await.unwrap().into_split();
    client.start_container(&id).await.unwrap();
    // more unread output than the engine buffers (about 1.3 MB)
    let line = [b"x".repeat(199), b"\n".to_vec()].concat();
    let flood = async {
        for _ in 0..20_000 {
            writer.write_all(&line).await.unwrap();
        }
    };
    let stuck = timeout(Duration::from_secs(3), flood).await;
    assert!(stuck.is_err(), "the engine accepted all input");
    drop((_reader, writer));
    assert_eq!(timeout(SOON, client.remove_container(&id, true)).await.unwrap().unwrap(), Removal::Removed);
}
