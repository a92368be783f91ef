//! The client against a scripted engine: faults that a real engine does not show on demand.

use std::time::Duration;

use docker::stdcopy::{Decoder, StdStream, StdcopyError};
use docker::{ContainerSpec, Error, Filters, LogOptions, Phase, VersionError, WaitCondition};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::fake::{Answer, Fake};
use super::support::{one_file, read};

fn version_is(version: &str) -> Answer {
    Answer::raw(format!("HTTP/1.1 200 OK\r\nApi-Version: {version}\r\nContent-Length: 2\r\n\r\nOK"))
}

fn labelled() -> ContainerSpec {
    ContainerSpec { labels: [("a".to_owned(), "b".to_owned())].into(), ..ContainerSpec::default() }
}

#[tokio::test]
async fn versions_are_negotiated_with_engines_of_every_age() {
    for (offered, negotiated) in
        [("1.41", "1.41"), ("1.44", "1.44"), ("1.47", "1.47"), ("1.51", "1.51"), ("1.55", "1.51")]
    {
        let (fake, client, _listening) = Fake::start();
        fake.script("GET /_ping", version_is(offered));
        client.ping().await.unwrap();
        assert_eq!(client.negotiated().unwrap().to_string(), negotiated, "{offered}");
    }
    for (offered, why) in
        [("1.40", "at least 1.41 (Docker 20.10) is required"), ("9999.0", "knows 1.x"), ("x", "not of the form")]
    {
        let (fake, client, _listening) = Fake::start();
        fake.script("GET /_ping", version_is(offered));
        let error = client.info().await.unwrap_err();
        assert!(error.to_string().contains(why) && error.remedy().is_some() && !error.retryable(), "{error}");
        assert_eq!(client.negotiated(), None);
    }
}

#[tokio::test]
async fn a_reply_without_a_version_is_not_from_an_engine() {
    let (fake, client, _listening) = Fake::start();
    fake.script("GET /_ping", Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"));
    let error = client.info().await.unwrap_err();
    assert!(matches!(&error, Error::Version { problem: VersionError::Missing, .. }), "{error:?}");
    assert!(error.to_string().contains("is this a Docker Engine?"), "{error}");
}

#[tokio::test]
async fn podman_is_recognised_by_its_header() {
    let (fake, client, _listening) = Fake::start();
    let podman = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nLibpod-Api-Version: 5.4.2\r\nContent-Length: 2\r\n\r\nOK";
    fake.script("GET /_ping", Answer::raw(podman));
    assert!(client.ping().await.unwrap().podman);
    assert!(!client.ping().await.unwrap().podman);
}

#[tokio::test]
async fn after_an_engine_upgrade_the_version_is_negotiated_again_within_the_call() {
    let (fake, client, _listening) = Fake::start();
    fake.script("GET /_ping", version_is("1.44"));
    client.ping().await.unwrap();
    let stale = json!({"message": "client version 1.44 is too old. Minimum supported API version is 1.48"});
    fake.script("POST /containers/create", Answer::json(400, &stale));
    assert_eq!(client.create_container("a", &labelled()).await.unwrap().id, "c1");
    assert_eq!(client.negotiated().unwrap().to_string(), "1.51");
    let creates = fake.seen().iter().filter(|request| request.starts_with("POST /containers/create")).count();
    assert_eq!(creates, 2);
}

#[tokio::test]
async fn an_engine_without_a_common_version_is_reported_as_too_new() {
    let (fake, client, _listening) = Fake::start();
    let stale = json!({"message": "client version 1.51 is too old. Minimum supported API version is 1.60"});
    fake.script("GET /info", Answer::json(400, &stale)).script("GET /info", Answer::json(400, &stale));
    let error = client.info().await.unwrap_err();
    assert!(matches!(&error, Error::Version { problem: VersionError::TooNew(_), .. }), "{error:?}");
    assert!(error.remedy().unwrap().contains("upgrade this program"));
}

#[tokio::test]
async fn the_version_in_a_reply_replaces_the_negotiated_one() {
    let (fake, client, _listening) = Fake::start();
    client.ping().await.unwrap();
    let older = "HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nContent-Length: 2\r\n\r\n{}";
    fake.script("GET /info", Answer::raw(older));
    client.info().await.unwrap();
    assert_eq!(client.negotiated().unwrap().to_string(), "1.43");
}

#[tokio::test]
async fn a_create_whose_reply_is_lost_is_found_by_its_name() {
    for lost in [Answer::lost(), Answer::json(201, &json!({"Id": "c1"})).cut(30), Answer::text(201, "{\"Id\":")] {
        let (fake, client, _listening) = Fake::start();
        fake.script("POST /containers/create", lost);
        let created = client.create_container("lost-1", &labelled()).await.unwrap();
        assert!(created.recovered && created.id == "c1", "{created:?}");
    }
}

#[tokio::test]
async fn a_container_that_was_not_created_or_has_other_labels_is_not_recovered() {
    let (fake, client, _listening) = Fake::start();
    fake.script("POST /containers/create", Answer::lost());
    fake.script("GET /containers/lost-1/json", Answer::json(404, &json!({"message": "No such container"})));
    let error = client.create_container("lost-1", &labelled()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { phase: Phase::Head, .. }), "{error:?}");
    fake.script("POST /containers/create", Answer::lost());
    let others = json!({"Id": "c9", "Config": {"Labels": {"a": "another"}}});
    fake.script("GET /containers/lost-1/json", Answer::json(200, &others));
    assert!(client.create_container("lost-1", &labelled()).await.is_err());
    // a refusal is an answer: there is no second request
    fake.script("POST /containers/create", Answer::json(409, &json!({"message": "taken"})));
    let before = fake.seen().len();
    assert!(client.create_container("lost-1", &labelled()).await.unwrap_err().is_conflict());
    assert_eq!(fake.seen().len(), before + 1);
}

#[tokio::test]
async fn a_reply_that_is_cut_at_any_byte_is_an_error() {
    let body = json!([{"Id": "c1", "Names": ["/a"], "Labels": {"k": "v"}}]);
    let whole = Answer::json(200, &body);
    for at in 0..whole.len() {
        let (fake, client, _listening) = Fake::start();
        client.ping().await.unwrap();
        fake.script("GET /containers/json", whole.clone().cut(at));
        let error = client.list_containers(true, &Filters::new()).await.unwrap_err();
        assert!(matches!(error, Error::Broken { .. } | Error::NotHttp { .. }), "cut at {at}: {error:?}");
    }
}

#[tokio::test]
async fn a_chunked_reply_that_is_cut_at_any_byte_is_an_error() {
    let whole = Answer::chunked(&["[{\"Id\":\"c1\"},", "{\"Id\":\"c2\"}]"]);
    for at in 0..whole.len() {
        let (fake, client, _listening) = Fake::start();
        client.ping().await.unwrap();
        fake.script("GET /containers/json", whole.clone().cut(at));
        assert!(client.list_containers(true, &Filters::new()).await.is_err(), "cut at {at}");
    }
    let (fake, client, _listening) = Fake::start();
    fake.script("GET /containers/json", whole);
    assert_eq!(client.list_containers(true, &Filters::new()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_progress_stream_with_an_error_or_a_cut_is_a_failure() {
    let (fake, client, _listening) = Fake::start();
    let image = "r.io/a:1".parse().unwrap();
    let good = "{\"status\":\"Pulling\"}\r\n";
    let bad = "{\"errorDetail\":{\"message\":\"manifest unknown\"},\"error\":\"manifest unknown\"}\r\n";
    fake.script("POST /images/create", Answer::chunked(&[good, bad]));
    let mut steps = 0;
    let error = client.pull_image(&image, None, &mut |_| steps += 1).await.unwrap_err();
    assert!(matches!(&error, Error::Reported { message, .. } if message == "manifest unknown"), "{error:?}");
    assert_eq!(steps, 1);
    let whole = Answer::chunked(&[good, good]);
    let cut = whole.len() - 9;
    fake.script("POST /images/create", whole.cut(cut));
    let error = client.pull_image(&image, None, &mut |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { phase: Phase::Body, .. }), "{error:?}");
    fake.script("POST /images/create", Answer::chunked(&[good, "{\"status\":"]));
    let error = client.pull_image(&image, None, &mut |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::BadReply { .. }), "{error:?}");
}

#[tokio::test]
async fn a_build_that_ends_without_an_image_is_a_failure() {
    let (fake, client, _listening) = Fake::start();
    fake.script("POST /build", Answer::chunked(&["{\"stream\":\"Step 1/1 : FROM x\"}\r\n"]));
    let context = bytes::Bytes::from(one_file("Dockerfile", b"FROM x"));
    let error = client.build_image(&Default::default(), context, &mut |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("without an id"), "{error}");
}

/// Time is simulated: deadlines expire at once, in order.
#[tokio::test(start_paused = true)]
async fn every_phase_that_hangs_ends_at_its_own_deadline() {
    let (fake, client, _listening) = Fake::start();
    client.ping().await.unwrap();
    let start = tokio::time::Instant::now();
    fake.script("GET /containers/a/json", Answer::silence());
    let error = client.inspect_container("a").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Head, .. }), "{error:?}");
    assert!(!error.is_unreachable() && client.negotiated().is_some());
    assert_eq!(start.elapsed().as_secs(), 5);

    fake.script("GET /info", Answer::silence());
    assert!(client.info().await.unwrap_err().is_unreachable());
    assert_eq!(client.negotiated(), None);

    fake.script("GET /info", Answer::json(200, &json!({"NCPU": 2})).stalled(3));
    let error = client.info().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Body, .. }), "{error:?}");

    let start = tokio::time::Instant::now();
    fake.script("DELETE /containers/a", Answer::silence());
    assert!(client.remove_container("a", true).await.is_err());
    assert_eq!(start.elapsed().as_secs(), 60);

    // an error whose body stalls is still that error
    fake.script("GET /containers/a/json", Answer::text(500, "it broke badly").stalled(6));
    let error = client.inspect_container("a").await.unwrap_err();
    assert!(error.status() == Some(500) && error.to_string().ends_with("it broke"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn waits_and_events_have_no_deadline() {
    let (fake, client, _listening) = Fake::start();
    client.ping().await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    fake.script("POST /containers/a/wait", Answer::raw(head).stalled(0));
    let wait = client.begin_wait("a", WaitCondition::NextExit).await.unwrap();
    assert!(tokio::time::timeout(day, wait.exit_status()).await.is_err());
    fake.script("GET /events", Answer::raw(head).stalled(0));
    let mut events = client.events(&Filters::new()).await.unwrap();
    assert!(tokio::time::timeout(day, events.next()).await.is_err());
}

#[tokio::test]
async fn a_wait_that_the_engine_reports_as_failed_is_an_error() {
    let (fake, client, _listening) = Fake::start();
    let failed = json!({"StatusCode": -1, "Error": {"Message": "the container vanished"}});
    fake.script("POST /containers/a/wait", Answer::json(200, &failed));
    let error = client.wait_container("a", WaitCondition::Removed).await.unwrap_err();
    assert!(matches!(error, Error::Reported { .. }), "{error:?}");
    fake.script("POST /containers/a/wait", Answer::json(200, &json!({"StatusCode": 7, "Error": null})));
    assert_eq!(client.wait_container("a", WaitCondition::Removed).await.unwrap(), 7);
}

const UPGRADED: &str = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

#[tokio::test]
async fn bytes_after_the_101_are_kept() {
    let (fake, client, _listening) = Fake::start();
    let frame = b"\x01\0\0\0\0\0\0\x03abc";
    fake.script("POST /containers/c1/attach", Answer::raw([UPGRADED.as_bytes(), frame].concat()));
    let (mut reader, _writer) = client.attach("c1").await.unwrap().into_split();
    let mut decoder = Decoder::new();
    assert_eq!(read(&mut reader, &mut decoder, StdStream::Stdout, usize::MAX).await, "abc");
    assert_eq!(decoder.finish(), Ok(()));
    let attach = fake.seen().pop().unwrap();
    assert_eq!(attach, "POST /containers/c1/attach?stream=1&stdin=1&stdout=1&stderr=1");
}

#[tokio::test]
async fn a_cut_frame_is_distinguished_from_a_clean_end() {
    let (fake, client, _listening) = Fake::start();
    fake.script("POST /containers/c1/attach", Answer::raw([UPGRADED.as_bytes(), b"\x01\0\0\0\0\0\0\x09abc"].concat()));
    let (mut reader, _writer) = client.attach("c1").await.unwrap().into_split();
    let (mut bytes, mut decoder) = (Vec::new(), Decoder::new());
    reader.read_to_end(&mut bytes).await.unwrap();
    decoder.push(&bytes, |_, _| ()).unwrap();
    assert_eq!(decoder.finish(), Err(StdcopyError::Cut));
}

#[tokio::test]
async fn an_attach_that_is_not_upgraded_is_an_error() {
    let (fake, client, _listening) = Fake::start();
    fake.script("POST /containers/c1/attach", Answer::text(200, "x"));
    assert!(client.attach("c1").await.unwrap_err().to_string().contains("not upgraded"));
    fake.script("POST /containers/c1/attach", Answer::raw("HTTP/1.1 409 Conflict\r\n\r\nis paused\r\n"));
    let error = client.attach("c1").await.unwrap_err();
    assert!(error.is_conflict() && error.to_string().ends_with("is paused"), "{error}");
}

#[tokio::test]
async fn an_error_that_the_engine_reports_inside_a_log_is_an_error() {
    let (fake, client, _listening) = Fake::start();
    let frame = "\x03\0\0\0\0\0\0\x04oops";
    fake.script("GET /containers/c1/logs", Answer::text(200, frame));
    let error = client.logs("c1", &LogOptions::default()).await.unwrap().text(100).await.unwrap_err();
    assert!(matches!(&error, Error::Reported { message, .. } if message == "oops"), "{error:?}");
}

#[tokio::test]
async fn a_lost_reply_is_retryable_and_a_malformed_one_is_not() {
    let (fake, client, _listening) = Fake::start();
    fake.script("GET /info", Answer::lost()).script("GET /info", Answer::text(200, "<html>"));
    let error = client.info().await.unwrap_err();
    assert!(error.is_unreachable() && error.retryable(), "{error:?}");
    let error = client.info().await.unwrap_err();
    assert!(matches!(error, Error::BadReply { .. }) && !error.retryable(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn disk_usage_is_retried_for_a_minute_while_another_one_is_running() {
    let (fake, client, _listening) = Fake::start();
    let busy = || Answer::json(500, &json!({"message": "a disk usage operation is already running"}));
    fake.script("GET /system/df", busy()).script("GET /system/df", busy());
    fake.script("GET /system/df", Answer::json(200, &json!({"LayersSize": 7})));
    assert_eq!(client.disk_usage().await.unwrap().layers_bytes, 7);

    for _ in 0..2000 {
        fake.script("GET /system/df", busy());
    }
    let start = tokio::time::Instant::now();
    let error = client.disk_usage().await.unwrap_err();
    assert!(
        error.status() == Some(500) && error.retryable() && start.elapsed() >= Duration::from_secs(60),
        "{error:?}"
    );

    let (fake, client, _listening) = Fake::start();
    fake.script("GET /system/df", Answer::json(500, &json!({"message": "no space left on device"})));
    assert_eq!(client.disk_usage().await.unwrap_err().status(), Some(500));
}

#[tokio::test]
async fn each_call_on_a_unix_socket_has_its_own_connection() {
    let (fake, client, _listening) = Fake::start();
    for _ in 0..3 {
        client.version().await.unwrap();
    }
    // one more for the ping
    assert_eq!(fake.connections(), 4);
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let client = docker::Client::unix(path);
    let call = tokio::spawn(async move { client.ping().await });
    let (mut socket, _) = listener.accept().await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'G');
    call.abort();
    let end = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut Vec::new())).await;
    end.expect("the connection stayed open").unwrap();
}
