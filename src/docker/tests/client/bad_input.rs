//! Bad input: invalid addresses, certificates and peers. Each gives a clear error within its
//! bounds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use docker::stdcopy::{Decoder, StdcopyError};
use docker::{
    App, Client, ConnectProblem, Endpoint, EngineTarget, Error, Filters, Phase, Settings, SetupError, TlsFiles,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::fake::{Answer, Fake};
use super::support::Authority;

/// A peer on a Unix socket that calls `serve` for each connection.
fn peer<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(UnixStream) -> F + Send + 'static,
) -> (Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    (Client::unix(path), folder)
}

fn tls_error(files: &TlsFiles) -> String {
    let endpoint = Endpoint::parse("tcp://localhost:2376").unwrap();
    let target = EngineTarget { endpoint, tls: Some(files.clone()), allow_plaintext: false, app: &App::DEFAULT };
    let error = Client::open(&target).unwrap_err();
    assert!(matches!(error, SetupError::Tls(_)), "{error:?}");
    error.to_string()
}

#[test]
fn a_missing_or_invalid_certificate_file_is_named_with_the_problem() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let good = authority.client_files(folder.path());
    let named = |text: String, path: &Path, why: &str| {
        assert!(text.contains(&path.display().to_string()) && text.contains(why), "{text}");
    };
    let none = folder.path().join("none.pem");
    named(tls_error(&TlsFiles { ca: Some(none.clone()), ..good.clone() }), &none, "certificate authority");
    named(tls_error(&TlsFiles { cert: Some(none.clone()), ..good.clone() }), &none, "client's certificate");
    named(tls_error(&TlsFiles { key: Some(none.clone()), ..good.clone() }), &none, "client's key");
    let dir = folder.path().to_owned();
    named(tls_error(&TlsFiles { ca: Some(dir.clone()), ..good.clone() }), &dir, "it is a folder");
    let text = folder.path().join("text.pem");
    std::fs::write(&text, "no certificate").unwrap();
    named(tls_error(&TlsFiles { ca: Some(text.clone()), ..good.clone() }), &text, "no certificate in it");
    named(tls_error(&TlsFiles { key: Some(text.clone()), ..good.clone() }), &text, "no private key in it");
    let cut = folder.path().join("cut.pem");
    std::fs::write(&cut, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();
    named(tls_error(&TlsFiles { cert: Some(cut.clone()), ..good.clone() }), &cut, "not a PEM file");
    let empty_der = folder.path().join("der.pem");
    std::fs::write(&empty_der, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(tls_error(&TlsFiles { ca: Some(empty_der.clone()), ..good.clone() }).contains("der.pem"));
    let encrypted = folder.path().join("encrypted.pem");
    std::fs::write(&encrypted, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    named(tls_error(&TlsFiles { key: Some(encrypted.clone()), ..good.clone() }), &encrypted, "passphrase");
    let huge = folder.path().join("huge.pem");
    std::fs::File::create(&huge).unwrap().set_len(2 << 30).unwrap();
    named(tls_error(&TlsFiles { ca: Some(huge.clone()), ..good.clone() }), &huge, "at most");
    assert!(tls_error(&TlsFiles { key: None, ..good.clone() }).contains("without the client's key"));
    assert!(tls_error(&TlsFiles { cert: None, ..good.clone() }).contains("without the client's certificate"));
    let named_badly = TlsFiles { server_name: Some("not a name".to_owned()), ..good };
    assert!(tls_error(&named_badly).contains("\"not a name\""));
}

#[test]
fn a_key_of_another_certificate_is_refused_before_anything_is_sent() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::new();
    let (files, others) = (authority.client_files(ours.path()), authority.client_files(theirs.path()));
    let error = tls_error(&TlsFiles { key: others.key, ..files });
    assert!(error.contains("does not belong to the certificate"), "{error}");
}

#[test]
fn an_invalid_address_is_refused_with_the_reason() {
    for (host, why) in [
        ("tcp://h:65536", "from 1 to 65535"),
        ("tcp://h:0", "from 1 to 65535"),
        ("tcp://h:2376/v1.41", "\"/v1.41\""),
        ("ssh://me@h", "ssh -L"),
        ("docker.sock", "unix:///path/to/docker.sock"),
        ("tcp://h:2375", "allow_plaintext"),
    ] {
        let settings = Settings { host: Some(host.to_owned()), ..Settings::default() };
        let error = settings.target(&Default::default()).unwrap_err().to_string();
        assert!(error.contains(why), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_folder_given_as_a_socket_is_reported_as_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::unix(folder.path()).ping().await.unwrap_err();
    assert!(matches!(&error, Error::Connect { problem: ConnectProblem::NotASocket("a folder"), .. }), "{error:?}");
    assert!(error.is_unreachable() && !error.retryable());
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_accepts_and_never_answers_is_a_timeout_of_a_named_phase() {
    let (client, _folder) = peer(|stream| async move {
        let _held = stream;
        std::future::pending().await
    });
    let error = client.ping().await.unwrap_err();
    let Error::Timeout { call, phase, .. } = &error else { panic!("{error:?}") };
    assert_eq!((call.name, *phase), ("ping the engine", Phase::Head));
    assert!(error.is_unreachable() && error.retryable() && error.remedy().is_some());
}

#[tokio::test]
async fn a_peer_that_does_not_speak_http_is_reported_as_such() {
    for (name, bytes) in [
        ("HTTP/2", &b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0d\0\x04"[..]),
        ("TLS", b"\x15\x03\x01\0\x02\x02\x46"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        ("an ELF file", b"\x7fELF\x02\x01\x01\0\0\0\0\0"),
    ] {
        let (client, _folder) = peer(move |mut stream| async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(bytes).await;
        });
        let error = client.ping().await.unwrap_err();
        assert!(matches!(error, Error::NotHttp { .. } | Error::Broken { .. }), "{name}: {error:?}");
        assert!(error.is_unreachable() && !error.to_string().is_empty(), "{name}");
    }
    let (client, _folder) = peer(|stream| async move { drop(stream) });
    assert!(matches!(client.ping().await.unwrap_err(), Error::Broken { phase: Phase::Head, .. }));
}

#[tokio::test]
async fn only_the_beginning_of_a_two_gigabyte_error_body_is_read() {
    let (client, _folder) = peer(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let head = format!("HTTP/1.1 500 X\r\nContent-Length: {}\r\n\r\n", 2u64 << 30);
        let _ = stream.write_all(head.as_bytes()).await;
        let block = vec![b'e'; 1 << 16];
        while stream.write_all(&block).await.is_ok() {}
    });
    let error = client.ping().await.unwrap_err();
    let Error::Status { status: 500, message, .. } = &error else { panic!("{error:?}") };
    assert_eq!(message.len(), 4096);
}

#[tokio::test]
async fn reading_an_endless_body_stops_at_its_bound() {
    let (client, _folder) = peer(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let head = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        let chunk = [format!("{:x}\r\n", 1 << 16).into_bytes(), vec![b' '; 1 << 16], b"\r\n".to_vec()].concat();
        while stream.write_all(&chunk).await.is_ok() {}
    });
    client.ping().await.unwrap();
    let error = client.list_containers(true, &Filters::new()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn a_huge_header_a_huge_chunk_and_an_endless_line_are_refused() {
    let (fake, client, _listening) = Fake::start();
    client.ping().await.unwrap();
    fake.script("GET /info", Answer::raw(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n{{}}", "h".repeat(1 << 20))));
    let error = client.info().await.unwrap_err();
    assert!(matches!(error, Error::NotHttp { .. }), "{error:?}");
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n{}";
    fake.script("GET /info", Answer::raw(chunk));
    let error = client.info().await.unwrap_err();
    assert!(matches!(error, Error::Broken { phase: Phase::Body, .. }), "{error:?}");
    let line = "x".repeat(2 << 20);
    fake.script("POST /images/create", Answer::text(200, &line));
    let error = client.pull_image(&"a".parse().unwrap(), None, &mut |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn a_frame_header_of_four_gigabytes_is_refused_before_its_payload_arrives() {
    let (fake, client, _listening) = Fake::start();
    let upgraded = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    fake.script(
        "POST /containers/a/attach",
        Answer::raw([upgraded.as_bytes(), b"\x01\0\0\0\xff\xff\xff\xff"].concat()),
    );
    let (mut reader, _writer) = client.attach("a").await.unwrap().into_split();
    let mut header = [0; 8];
    reader.read_exact(&mut header).await.unwrap();
    assert_eq!(Decoder::new().push(&header, |_, _| ()), Err(StdcopyError::TooLong(u32::MAX)));
}

#[tokio::test]
async fn an_invalid_name_is_never_sent() {
    let nowhere = Client::unix("/nonexistent/docker.sock");
    for name in ["", "../info", "a/b", "a b", "a?b"] {
        let error = nowhere.inspect_container(name).await.unwrap_err();
        assert!(matches!(error, Error::InvalidName { .. }), "{error}");
        assert!(matches!(nowhere.inspect_network(name).await.unwrap_err(), Error::InvalidName { .. }));
    }
    assert!(matches!(nowhere.inspect_image("../containers/json").await.unwrap_err(), Error::InvalidName { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_silent_port_and_a_plaintext_port_are_distinguished() {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new().client_files(folder.path());
    let client = |port: u16| {
        let endpoint = Endpoint::parse(&format!("tcp://127.0.0.1:{port}")).unwrap();
        Client::open(&EngineTarget { endpoint, tls: Some(files.clone()), allow_plaintext: false, app: &App::DEFAULT })
            .unwrap()
    };
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = client(silent.local_addr().unwrap().port()).ping().await.unwrap_err();
    assert!(error.to_string().contains("no answer to the TLS handshake"), "{error}");
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.shutdown().await;
        std::future::pending::<()>().await;
    });
    let error = client(port).ping().await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS") && error.remedy().unwrap().contains("2376"), "{error}");
}

/// Root may use any socket, so the test runs a copy of itself as `nobody`.
#[tokio::test]
async fn a_denied_socket_names_the_group_to_join() {
    const SOCKET: &str = "ASSAY_TEST_DENIED_SOCKET";
    if let Some(path) = std::env::var_os(SOCKET) {
        let error = Client::unix(PathBuf::from(path)).ping().await.unwrap_err();
        assert!(!error.retryable() && error.is_unreachable());
        assert!(error.to_string().contains("permission denied"), "{error}");
        assert!(error.remedy().unwrap().contains("usermod -aG root "), "{error}");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (socket, copy) = (folder.path().join("docker.sock"), folder.path().join("test"));
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o660)).unwrap();
    // copied by another process: a writable descriptor of this one could leak into a child that
    // starts meanwhile, and executing the copy would fail with ETXTBSY
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status().unwrap().success());
    let mut command = Command::new(&copy);
    command.args(["a_denied_socket_names_the_group_to_join", "--nocapture"]).env(SOCKET, &socket);
    let output = command.current_dir("/").uid(65534).gid(65534).output().unwrap();
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && log.contains("1 passed"), "{log}");
}

#[tokio::test]
async fn a_thousand_concurrent_calls_on_an_engine_that_closes_connections_all_end() {
    let (client, _folder) = peer(|stream| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(stream);
    });
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.ping().await })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().unwrap_err().is_unreachable());
    }
}
