//! The Engine client: against the real engine, against a scripted one, against peers that are none.
//!
//! `ASSAY_TEST_ENGINE` names another engine than Docker's usual one for `live` (`make test-engines` does). Everything made
//! on an engine carries the label `assay.test=docker` and a name of its own; a guard removes it also when a test fails.

mod bad;
pub mod fake;
mod faults;
mod live;
pub mod registry;
mod tls;

pub use tls::Authority;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Cursor;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use docker::stdcopy::{Decoder, Stream};
use docker::{Client, ContainerSpec, Environment, Filters, HijackReader, HostConfig, Settings};
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;
use tokio::time::timeout;

const REPO: &str = "assay-test-docker";
const LABEL: &str = "assay.test=docker";

/// Echoes a line back on stdout, says so on stderr, and exits with 7 at end of file.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <string.h>
int main(void) {
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        printf("got %s", line);
        fflush(stdout);
        fprintf(stderr, "said\n");
        if (!strcmp(line, "quit\n")) return 3;
    }
    return 7;
}
"#;

/// A client of the engine under test.
fn client() -> Client {
    let host = std::env::var("ASSAY_TEST_ENGINE").ok().filter(|host| !host.is_empty());
    let settings = Settings { host, ..Settings::default() };
    Client::open(&settings.target(&Environment::default()).unwrap()).unwrap()
}

fn ours() -> Filters {
    Filters::new().with("label", LABEL)
}

fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("assay-test-docker-{what}-{}-{count}", std::process::id())
}

fn changes() -> Vec<String> {
    vec![format!("LABEL {LABEL}"), "CMD [\"/echo\"]".to_owned()]
}

/// A tar archive with one static program in it.
fn tar() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("echo.c"), folder.path().join("echo"));
    std::fs::write(&source, PROGRAM).unwrap();
    let compiled = Command::new("gcc").args(["-static", "-Os", "-s", "-o"]).args([&program, &source]).status();
    assert!(compiled.unwrap().success());
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name(&program, "echo").unwrap();
    archive.into_inner().unwrap()
}

/// A tar archive with one file in it.
fn one_file(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

/// The image that all tests share. It stays for the next run, under a tag that changes with the program.
async fn image() -> String {
    static DONE: OnceCell<String> = OnceCell::const_new();
    let name = DONE.get_or_init(|| async {
        let mut hash = DefaultHasher::new();
        PROGRAM.hash(&mut hash);
        let tag = format!("shared-{:016x}", hash.finish());
        let (client, name) = (client(), format!("{REPO}:{tag}"));
        if client.inspect_image(&name).await.is_err() {
            client.import_image(REPO, &tag, &changes(), Cursor::new(tar()), &mut |_| {}).await.unwrap();
        }
        name
    });
    name.await.clone()
}

async fn spec() -> ContainerSpec {
    ContainerSpec {
        image: image().await,
        cmd: vec!["/echo".to_owned()],
        labels: BTreeMap::from([("assay.test".to_owned(), "docker".to_owned())]),
        open_stdin: true,
        stdin_once: true,
        attach_stdin: true,
        attach_stdout: true,
        attach_stderr: true,
        host_config: HostConfig {
            network_mode: "none".to_owned(),
            memory: 64 << 20,
            memory_swap: 64 << 20,
            init: Some(false),
            ..HostConfig::default()
        },
        ..ContainerSpec::default()
    }
}

/// Runs something on the engine when the test ends, however it ends. On a thread of its own: a drop can't await.
fn at_last<F: Future<Output = ()> + Send>(work: impl FnOnce(Client) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work(client()));
    });
    let _ = thread.join();
}

/// Removes its container when the test ends.
struct Cleanup(String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let name = self.0.clone();
        at_last(async move |client| drop(client.remove_container(&name, true).await));
    }
}

/// Removes its image when the test ends.
struct ImageCleanup(String);

impl Drop for ImageCleanup {
    fn drop(&mut self) {
        let name = self.0.clone();
        at_last(async move |client| drop(client.remove_image(&name, true).await));
    }
}

async fn create(what: &str) -> (Client, String, Cleanup) {
    create_as(what, spec().await).await
}

async fn create_as(what: &str, spec: ContainerSpec) -> (Client, String, Cleanup) {
    let (client, name) = (client(), unique(what));
    let cleanup = Cleanup(name.clone());
    let created = client.create_container(&name, &spec).await.unwrap();
    assert!(created.warnings.is_empty(), "{:?}", created.warnings);
    (client, created.id, cleanup)
}

/// Reads until `bytes` of `wanted` have come, or the end.
async fn read(reader: &mut HijackReader, decoder: &mut Decoder, wanted: Stream, bytes: usize) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while text.len() < bytes {
        let read = timeout(Duration::from_secs(20), reader.read(&mut buffer));
        let count = read.await.expect("silence on the attach").unwrap();
        if count == 0 {
            break;
        }
        let take = |stream, piece: &[u8]| {
            if stream == wanted {
                text.extend_from_slice(piece)
            }
        };
        decoder.push(&buffer[..count], take).unwrap();
    }
    String::from_utf8(text).unwrap()
}
