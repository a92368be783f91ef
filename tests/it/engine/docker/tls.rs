//! Mutual TLS with a real engine.

use std::io::Cursor;

use docker::stdcopy::{Decoder, StdStream};
use docker::{App, Client, Endpoint, EngineTarget, Removal, TlsFiles, WaitCondition};
use tokio::io::AsyncWriteExt;

use super::support::{Authority, read};
use super::{REPO, changes, spec, tar};
use crate::private_engine::PrivateEngine;

fn open(tls: Option<TlsFiles>) -> Client {
    let endpoint = Endpoint::parse("tcp://localhost:2376").unwrap();
    let allow_plaintext = tls.is_none();
    Client::open(&EngineTarget { endpoint, tls, allow_plaintext, app: &App::DEFAULT }).unwrap()
}

#[test]
fn calls_and_an_attach_work_over_mutual_tls() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let client_files = authority.client_files(&folder.path().join("client"));
    authority.write(&folder.path().join("server"), authority.server_pair(&["localhost", "127.0.0.1"], 2090));
    let untrusted = Authority::new().client_files(&folder.path().join("untrusted"));
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
        let client = open(Some(client_files.clone()));
        client.ping().await.unwrap();
        assert!(client.info().await.unwrap().ncpu.unwrap() > 0);
        let rejected = open(Some(TlsFiles { ca: client_files.ca.clone(), ..untrusted }));
        let error = rejected.ping().await.unwrap_err();
        assert!(error.to_string().contains("does not accept our certificate"), "{error:?}");
        let error = open(None).ping().await.unwrap_err();
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
        assert_eq!(read(&mut reader, &mut decoder, StdStream::Stdout, 10).await, "got hello\n");
        // closing both halves ends the container's input, also over TLS
        drop((reader, writer));
        assert_eq!(wait.exit_status().await.unwrap(), 7);
        assert_eq!(client.remove_container(&created.id, true).await.unwrap(), Removal::Removed);
    });
}
