//! Mutual TLS: with a real engine, with servers that are wrong in one thing each, and the idle connections.

use std::path::Path;
use std::sync::Arc;

use docker::stdcopy::{Decoder, Stream};
use docker::{Client, Endpoint, Error, Filters, Removal, Target, TlsFiles, WaitCondition};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::json;
use std::io::Cursor;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::fake::{Answer, Fake, Listening};
use super::{REPO, changes, read, spec, tar};
use crate::private_engine::PrivateEngine;

/// Who vouches for certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a test's authority");
        Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A certificate and its key, in PEM.
    fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Docker's three files for a client, in a folder.
    pub fn client_files(&self, folder: &Path) -> TlsFiles {
        self.write(folder, self.issue(&[], ExtendedKeyUsagePurpose::ClientAuth, 2090))
    }

    /// A server's files, for a name, that were good until 2021.
    pub fn expired_files(&self, folder: &Path, name: &str) -> TlsFiles {
        self.write(folder, self.issue(&[name], ExtendedKeyUsagePurpose::ServerAuth, 2021))
    }

    fn server_files(&self, folder: &Path, names: &[&str]) -> TlsFiles {
        self.write(folder, self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, 2090))
    }

    fn write(&self, folder: &Path, (cert, key): (String, String)) -> TlsFiles {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("ca.pem"), self.issuer.pem()).unwrap();
        std::fs::write(folder.join("cert.pem"), cert).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
        TlsFiles::in_folder(folder)
    }
}

fn open(host: &str, port: u16, files: &TlsFiles) -> Client {
    let endpoint = Endpoint::parse(&format!("tcp://{host}:{port}")).unwrap();
    Client::open(&Target { endpoint, tls: Some(files.clone()), allow_plaintext: false }).unwrap()
}

/// A scripted engine behind TLS that wants certificates of `authority`.
async fn fake_tls(
    authority: &Authority,
    (cert, key): (String, String),
    versions: &[&'static SupportedProtocolVersion],
) -> (Fake, u16, Listening) {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.issuer.pem().as_bytes()).unwrap()).unwrap();
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
    authority.issue(names, ExtendedKeyUsagePurpose::ServerAuth, 2090)
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
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
async fn a_server_that_is_wrong_in_one_thing_is_refused_by_that_thing() {
    let (authority, other, folder) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.client_files(folder.path());
    let expired = authority.issue(&["localhost"], ExtendedKeyUsagePurpose::ServerAuth, 2021);
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
    // the name that the certificate does bear can be given
    let server = server_for(&authority, &["another.example"]);
    let (_fake, port, _listening) = fake_tls(&authority, server, &BOTH).await;
    let named = TlsFiles { server_name: Some("another.example".to_owned()), ..files };
    open("localhost", port, &named).ping().await.unwrap();
}

#[tokio::test]
async fn a_client_without_a_certificate_or_with_a_strangers_is_told_so_in_both_versions() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (good, strange) = (authority.client_files(ours.path()), other.client_files(theirs.path()));
    let none = TlsFiles { ca: good.ca.clone(), ..TlsFiles::default() };
    let strange = TlsFiles { ca: good.ca.clone(), ..strange };
    for version in BOTH {
        let server = server_for(&authority, &["localhost"]);
        let (_fake, port, _listening) = fake_tls(&authority, server, &[version]).await;
        for files in [&none, &strange] {
            let error = open("localhost", port, files).ping().await.unwrap_err();
            assert!(error.to_string().contains("does not accept our certificate"), "{version:?}: {error:?}");
            assert!(error.remedy().unwrap().contains("cert.pem"));
        }
    }
}

/// A fake behind TLS, and a client of it.
async fn kept() -> (Fake, Client, Listening) {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.client_files(folder.path());
    let server = server_for(&authority, &["localhost"]);
    let (fake, port, listening) = fake_tls(&authority, server, &BOTH).await;
    (fake, open("localhost", port, &files), listening)
}

#[tokio::test]
async fn calls_over_tls_share_a_connection_and_parallel_ones_keep_theirs() {
    let (fake, client, _listening) = kept().await;
    for _ in 0..5 {
        client.version().await.unwrap();
        assert!(client.inspect_container("nobody").await.unwrap_err().is_not_found());
    }
    assert_eq!(fake.connections(), 1);
    for _ in 0..3 {
        let (a, b, c) = tokio::join!(client.info(), client.version(), client.ping());
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
    }
    assert!(fake.connections() <= 3, "{}", fake.connections());
}

#[tokio::test]
async fn a_kept_connection_that_the_engine_closed_costs_nobody_a_call() {
    let (fake, client, _listening) = kept().await;
    for _ in 0..20 {
        // answered, and then closed although nothing said so
        let body = "HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: 2\r\n\r\n{}";
        fake.script("GET /info", Answer::raw(body));
        client.info().await.unwrap();
        client.kill_container("a").await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_may_have_been_made_is_not_made_again() {
    let (fake, client, _listening) = kept().await;
    client.version().await.unwrap();
    fake.script("POST /containers/a/start", Answer::lost());
    let error = client.start_container("a").await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    let starts = |fake: &Fake| fake.seen().iter().filter(|request| request.contains("/start")).count();
    assert_eq!(starts(&fake), 1);
    // what only looks is asked again by itself
    client.version().await.unwrap();
    fake.script("GET /info", Answer::lost());
    client.info().await.unwrap();
}

#[tokio::test]
async fn a_reply_that_was_not_read_to_its_end_is_not_followed_by_another() {
    let (fake, client, _listening) = kept().await;
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

/// The engine that all tests of this kind share would be better; a static is never dropped, so each has its own.
#[test]
fn a_real_engine_over_mutual_tls_does_all_that_it_does_over_its_socket() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let client_files = authority.client_files(&folder.path().join("client"));
    authority.server_files(&folder.path().join("server"), &["localhost", "127.0.0.1"]);
    let strange = Authority::new().client_files(&folder.path().join("strange"));
    let file = |name: &str| folder.path().join("server").join(name).display().to_string();
    let engine = PrivateEngine::start(&[
        "--host",
        "tcp://127.0.0.1:2376",
        "--tlsverify",
        "--tlscacert",
        &file("ca.pem"),
        "--tlscert",
        &file("cert.pem"),
        "--tlskey",
        &file("key.pem"),
    ]);
    engine.inside(move || async move {
        let client = open("localhost", 2376, &client_files);
        client.ping().await.unwrap();
        assert!(client.info().await.unwrap().ncpu.unwrap() > 0);
        let stranger = open("localhost", 2376, &TlsFiles { ca: client_files.ca.clone(), ..strange });
        let error = stranger.ping().await.unwrap_err();
        assert!(error.to_string().contains("does not accept our certificate"), "{error:?}");
        let plain = Endpoint::parse("tcp://127.0.0.1:2376").unwrap();
        let plain = Client::open(&Target { endpoint: plain, tls: None, allow_plaintext: true }).unwrap();
        let error = plain.ping().await.unwrap_err();
        assert!(error.remedy().unwrap().contains("TLS port"), "{error:?}");

        client.import_image(REPO, "tls", &changes(), Cursor::new(tar()), &mut |_| ()).await.unwrap();
        let mut spec = spec().await;
        spec.image = format!("{REPO}:tls");
        let created = client.create_container("over-tls", &spec).await.unwrap();
        let (mut reader, mut writer) = client.attach(&created.id).await.unwrap().into_split();
        let wait = client.begin_wait(&created.id, WaitCondition::NextExit).await.unwrap();
        client.start_container(&created.id).await.unwrap();
        let mut decoder = Decoder::new();
        writer.write_all(b"hello\n").await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(read(&mut reader, &mut decoder, Stream::Stdout, 10).await, "got hello\n");
        // closing both halves ends the container's input, over TLS too
        drop((reader, writer));
        assert_eq!(wait.exit_status().await.unwrap(), 7);
        assert_eq!(client.remove_container(&created.id, true).await.unwrap(), Removal::Removed);
    });
}
