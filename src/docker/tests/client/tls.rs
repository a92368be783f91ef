//! Mutual TLS with a scripted engine: servers with one defect each, and idle connections.

use std::sync::Arc;

use docker::{App, Client, Endpoint, EngineTarget, Error, Filters, TlsFiles};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::fake::{Answer, Fake, Listening};
use super::support::Authority;

fn open(host: &str, port: u16, files: &TlsFiles) -> Client {
    let endpoint = Endpoint::parse(&format!("tcp://{host}:{port}")).unwrap();
    Client::open(&EngineTarget { endpoint, tls: Some(files.clone()), allow_plaintext: false, app: &App::DEFAULT })
        .unwrap()
}

/// A scripted engine behind TLS that requires client certificates of `authority`.
async fn fake_tls(
    authority: &Authority,
    (cert, key): (String, String),
    versions: &[&'static SupportedProtocolVersion],
) -> (Fake, u16, Listening) {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let fake = Fake::default();
    let serving = fake.clone();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, serving) = (acceptor.clone(), serving.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serving.serve(stream).await;
                }
            });
        }
    });
    (fake, port, Listening { _folder: None, task })
}

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

fn server_for(authority: &Authority, names: &[&str]) -> (String, String) {
    authority.server_pair(names, 2090)
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_supported() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.client_files(folder.path());
    for version in BOTH {
        let server = server_for(&authority, &["localhost", "127.0.0.1"]);
        let (_fake, port, _listening) = fake_tls(&authority, server, &[version]).await;
        for host in ["localhost", "127.0.0.1"] {
            open(host, port, &files).ping().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_with_a_defect_is_refused_and_the_error_names_it() {
    let (authority, other, folder) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.client_files(folder.path());
    let expired = authority.server_pair(&["localhost"], 2021);
    let cases = [
        (expired, "has expired", "renew"),
        (server_for(&authority, &["another.example"]), "is for another name", "subjectAltName"),
        (server_for(&other, &["localhost"]), "not signed by the authority", "ca.pem"),
    ];
    for (server, why, remedy) in cases {
        let (fake, port, _listening) = fake_tls(&authority, server, &BOTH).await;
        let error = open("localhost", port, &files).ping().await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }) && error.is_unreachable() && !error.retryable(), "{error:?}");
        assert!(error.to_string().contains(why) && error.remedy().unwrap().contains(remedy), "{error}");
        assert!(fake.seen().is_empty());
    }
    // the name in the certificate can be configured
    let server = server_for(&authority, &["another.example"]);
    let (_fake, port, _listening) = fake_tls(&authority, server, &BOTH).await;
    let named = TlsFiles { server_name: Some("another.example".to_owned()), ..files };
    open("localhost", port, &named).ping().await.unwrap();
}

#[tokio::test]
async fn a_missing_or_untrusted_client_certificate_is_reported_in_both_versions() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (good, untrusted) = (authority.client_files(ours.path()), other.client_files(theirs.path()));
    let none = TlsFiles { ca: good.ca.clone(), ..TlsFiles::default() };
    let untrusted = TlsFiles { ca: good.ca.clone(), ..untrusted };
    for version in BOTH {
        let server = server_for(&authority, &["localhost"]);
        let (_fake, port, _listening) = fake_tls(&authority, server, &[version]).await;
        for files in [&none, &untrusted] {
            let error = open("localhost", port, files).ping().await.unwrap_err();
            assert!(error.to_string().contains("does not accept our certificate"), "{version:?}: {error:?}");
            assert!(error.remedy().unwrap().contains("cert.pem"));
        }
    }
}

/// A scripted engine behind TLS, and a client of it.
async fn engine_behind_tls() -> (Fake, Client, Listening) {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.client_files(folder.path());
    let server = server_for(&authority, &["localhost"]);
    let (fake, port, listening) = fake_tls(&authority, server, &BOTH).await;
    (fake, open("localhost", port, &files), listening)
}

#[tokio::test]
async fn calls_over_tls_reuse_connections() {
    let (fake, client, _listening) = engine_behind_tls().await;
    for _ in 0..5 {
        client.version().await.unwrap();
        assert!(client.inspect_container("absent").await.unwrap_err().is_not_found());
    }
    assert_eq!(fake.connections(), 1);
    for _ in 0..3 {
        let (a, b, c) = tokio::join!(client.info(), client.version(), client.ping());
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
    }
    assert!(fake.connections() <= 3, "{}", fake.connections());
}

#[tokio::test]
async fn an_idle_connection_that_the_engine_closed_fails_no_call() {
    let (fake, client, _listening) = engine_behind_tls().await;
    for _ in 0..20 {
        // answers, then closes the connection without announcing it
        let body = "HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: 2\r\n\r\n{}";
        fake.script("GET /info", Answer::raw(body));
        client.info().await.unwrap();
        client.kill_container("a").await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_may_have_taken_effect_is_not_repeated() {
    let (fake, client, _listening) = engine_behind_tls().await;
    client.version().await.unwrap();
    fake.script("POST /containers/a/start", Answer::lost());
    let error = client.start_container("a").await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    let starts = |fake: &Fake| fake.seen().iter().filter(|request| request.contains("/start")).count();
    assert_eq!(starts(&fake), 1);
    // a GET is repeated
    client.version().await.unwrap();
    fake.script("GET /info", Answer::lost());
    client.info().await.unwrap();
}

#[tokio::test]
async fn a_connection_with_an_unread_reply_is_not_reused() {
    let (fake, client, _listening) = engine_behind_tls().await;
    let long = "{\"status\":\"Pulling\"}\r\n".repeat(2000);
    fake.script("POST /images/create", Answer::text(200, &long));
    let image = "a".parse().unwrap();
    {
        let mut ignore = |_| ();
        let pull = client.pull_image(&image, None, &mut ignore);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(300), pull).await;
    }
    fake.script("GET /events", Answer::json(200, &json!({"Type": "container", "Action": "die"})));
    let mut events = client.events(&Filters::new()).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().action, "die");
    drop(events);
    client.version().await.unwrap();
}
