//! The Engine client against the real engine.

use assay::docker::{Client, ContainerSpec, Endpoint, Filters, Removal, WaitCondition};

fn client() -> Client {
    Client::new(Endpoint::default())
}

/// Removes what a test made, also when it fails.
struct Made(Vec<String>);

impl Drop for Made {
    fn drop(&mut self) {
        for name in &self.0 {
            crate::harness::engine(&format!("DELETE /containers/{name}?force=1"));
        }
    }
}

/// An image with a shell: the one that the bash profile uses.
async fn image() -> String {
    tokio::task::spawn_blocking(crate::harness::images).await.unwrap();
    let images = client().list_images(&Filters::new().with("label", "assay.image.name=bash")).await.unwrap();
    images.into_iter().next().unwrap().id
}

#[tokio::test]
async fn a_ping_settles_on_a_version_and_info_says_what_the_host_has() {
    let client = client();
    let ping = client.ping().await.unwrap();
    assert!(ping.api_version.to_string().starts_with("1."));
    assert!(!ping.podman);
    let version = client.version().await.unwrap();
    assert!(version.version.is_some());
    let info = client.info().await.unwrap();
    assert!(info.ncpu.unwrap() > 0 && info.mem_total.unwrap() > 0);
    assert_eq!(info.memory_limit, Some(true));
}

#[tokio::test]
async fn a_container_goes_from_create_to_gone() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let client = client();
    let image = image().await;
    let name = format!("assay-clienttest-{}", std::process::id());
    let _made = Made(vec![name.clone()]);
    let mut spec = ContainerSpec {
        image,
        entrypoint: vec!["/bin/bash".to_owned(), "-c".to_owned(), "read x; echo got $x; exit 7".to_owned()],
        open_stdin: true,
        stdin_once: true,
        attach_stdin: true,
        attach_stdout: true,
        attach_stderr: true,
        ..ContainerSpec::default()
    };
    spec.labels.insert("assay.test".to_owned(), name.clone());
    spec.host_config.network_mode = "none".to_owned();
    let created = client.create_container(&name, &spec).await.unwrap();
    assert!(created.warnings.is_empty(), "{:?}", created.warnings);
    let taken = client.create_container(&name, &spec).await.unwrap_err();
    assert!(taken.is_conflict() && !taken.retryable(), "{taken}");

    let (mut reader, mut writer) = client.attach(&created.id).await.unwrap().into_split();
    let waiting = {
        let (client, id) = (client.clone(), created.id.clone());
        tokio::spawn(async move { client.wait_container(&id, WaitCondition::NextExit).await })
    };
    client.start_container(&created.id).await.unwrap();
    client.start_container(&created.id).await.unwrap();
    let listed =
        client.list_containers(true, &Filters::new().with("label", &format!("assay.test={name}"))).await.unwrap();
    assert_eq!(listed.len(), 1);
    writer.write_all(b"hello\n").await.unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    let mut decoder = assay::docker::stdcopy::Decoder::new();
    let mut text = Vec::new();
    decoder.push(&bytes, |_, payload| text.extend_from_slice(payload)).unwrap();
    decoder.finish().unwrap();
    assert_eq!(text, b"got hello\n");
    assert_eq!(waiting.await.unwrap().unwrap(), 7);
    assert_eq!(client.inspect_container(&created.id).await.unwrap().state.exit_code, 7);
    client.kill_container(&created.id).await.unwrap();
    assert_eq!(client.remove_container(&created.id, true).await.unwrap(), Removal::Removed);
    assert_eq!(client.remove_container(&created.id, true).await.unwrap(), Removal::AlreadyGone);
    assert!(client.inspect_container(&created.id).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn what_is_not_there_is_said_by_status_and_in_the_engines_words() {
    let client = client();
    let error = client.inspect_image("assay/no-such-image:1").await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("No such image"), "{error}");
    let error = client.attach("no-such-container").await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("No such container"), "{error}");
    let error = client.inspect_container("../../version").await.unwrap_err();
    assert!(error.to_string().contains("not a name"), "{error}");
}

#[tokio::test]
async fn a_socket_that_is_missing_or_no_engine_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.sock");
    let error = Client::new(Endpoint::Unix(path.clone())).ping().await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("Please make sure Docker is running"), "{error}");

    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let answering = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.unwrap();
    });
    let error = Client::new(Endpoint::Unix(path)).ping().await.unwrap_err();
    assert!(error.to_string().contains("is this a Docker Engine"), "{error}");
    answering.await.unwrap();
}

#[tokio::test]
async fn events_of_a_container_are_followed() {
    let client = client();
    let image = image().await;
    let name = format!("assay-eventtest-{}", std::process::id());
    let _made = Made(vec![name.clone()]);
    let mut events = client.events(&Filters::new().with("container", &name)).await.unwrap();
    let mut spec = ContainerSpec { image, entrypoint: vec!["/bin/true".to_owned()], ..ContainerSpec::default() };
    spec.host_config.network_mode = "none".to_owned();
    let created = client.create_container(&name, &spec).await.unwrap();
    client.start_container(&created.id).await.unwrap();
    let mut actions = Vec::new();
    while actions.last().map(String::as_str) != Some("die") {
        let event = tokio::time::timeout(std::time::Duration::from_secs(30), events.next()).await.unwrap();
        actions.push(event.unwrap().unwrap().action);
    }
    assert_eq!(actions, ["create", "start", "die"]);
}
