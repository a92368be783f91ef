//! The Engine client against a real engine. Its other tests are in `src/docker/tests`.
//!
//! `ASSAY_TEST_ENGINE` selects another engine than Docker's default for `live` (`make test-engines`
//! sets it). Every object made on an engine has the label `assay.test=docker` and a unique name; a
//! guard removes it, also when a test fails.

mod live;
pub mod registry;
#[path = "../../../../src/docker/tests/support/mod.rs"]
pub mod support;
mod tls;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Cursor;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use docker::{Client, ContainerSpec, Environment, Filters, HostConfig, Settings};
use tokio::sync::OnceCell;

const REPO: &str = "assay-test-docker";
const LABEL: &str = "assay.test=docker";

/// Echoes each line on stdout, writes a line to stderr, and exits with 7 at end of file.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <string.h>
int main(void) {
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        printf("got %s", line);
        fflush(stdout);
        fprintf(stderr, "echoed\n");
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

fn test_label() -> Filters {
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

/// A tar archive with one static program.
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

/// The image that all tests share. It stays for the next run; its tag depends on the program.
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

/// Runs `work` on the engine from a `Drop`, which cannot await: on a thread of its own.
fn clean_up<F: Future<Output = ()> + Send>(work: impl FnOnce(Client) -> F + Send + 'static) {
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
        clean_up(async move |client| drop(client.remove_container(&name, true).await));
    }
}

/// Removes its image when the test ends.
struct ImageCleanup(String);

impl Drop for ImageCleanup {
    fn drop(&mut self) {
        let name = self.0.clone();
        clean_up(async move |client| drop(client.remove_image(&name, true).await));
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
