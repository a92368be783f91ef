//! Pulls from a real registry with a password (Debian's docker-registry, unpacked into the build
//! folder).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use docker::registry::Credentials;
use docker::{App, Client, Error, Filters, Pull, PullPolicy};
use serde_json::json;

use super::{ImageCleanup, client, image, unique};
use crate::harness::{Daemon, Options, eventually, root, submission, with};

/// The user assay with the bcrypt hash of "secret".
const HTPASSWD: &str = "assay:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// The registry's program. The package is unpacked instead of installed: installing it would start
/// a service on port 5000.
pub fn program() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let tools = root().join("target/tools");
        let program = tools.join("usr/bin/docker-registry");
        if !program.exists() {
            std::fs::create_dir_all(&tools).unwrap();
            let fetch = "cd \"$1\" && get() { apt-get -o Acquire::Retries=3 \"$@\"; } \
                         && { get download docker-registry || { get update && get download docker-registry; }; } \
                         && rm -rf unpacked && dpkg -x docker-registry_*.deb unpacked && rm docker-registry_*.deb \
                         && mkdir -p usr/bin && mv unpacked/usr/bin/docker-registry usr/bin/ && rm -r unpacked";
            let done = Command::new("sh").args(["-c", fetch, "sh"]).arg(&tools).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        program
    })
}

struct Registry {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    fn start() -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            at("data"),
            at("htpasswd")
        );
        std::fs::write(at("config.yml"), config).unwrap();
        std::fs::write(at("htpasswd"), HTPASSWD).unwrap();
        let mut command = Command::new(program());
        command.args(["serve", &at("config.yml")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Registry { child: command.spawn().unwrap(), folder, port };
        eventually("the registry listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let host = registry.host();
        registry.docker(&["login", "--username", "assay", "--password", "secret", &host]);
        registry
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The Docker configuration folder in which `docker login` stored the password.
    fn docker_folder(&self) -> PathBuf {
        self.folder.path().join("docker")
    }

    /// Runs the docker command: the client has no push.
    fn docker(&self, arguments: &[&str]) {
        let mut command = Command::new("docker");
        command.arg("--config").arg(self.docker_folder()).args(arguments).stdin(Stdio::null());
        let done = command.output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Pushes an image of the engine under a new name, and removes that name from the engine.
    fn push(&self, image: &str, name: &str) -> String {
        let name = format!("{}/{name}", self.host());
        self.docker(&["tag", image, &name]);
        self.docker(&["push", &name]);
        self.docker(&["rmi", &name]);
        name
    }
}

fn pull(policy: PullPolicy, name: &str, credentials: Option<Credentials>) -> Pull {
    Pull { image: name.parse().unwrap(), policy, credentials }
}

async fn ensure(client: &Client, pull: &Pull) -> Result<(String, usize), Error> {
    let mut steps = 0;
    let found = client.ensure_image(pull, &mut |_| steps += 1).await?;
    Ok((found.repo_digests.into_iter().next().unwrap_or_default(), steps))
}

#[tokio::test]
async fn an_image_is_pulled_with_the_password_that_docker_login_stored() {
    let image = image().await;
    let (registry, name) = tokio::task::spawn_blocking(move || {
        let registry = Registry::start();
        let name = registry.push(&image, &format!("team/echo:{}", unique("pull")));
        (registry, name)
    })
    .await
    .unwrap();
    let client = client();
    let _cleanup = ImageCleanup(name.clone());
    let anonymous = ensure(&client, &pull(PullPolicy::IfMissing, &name, None)).await.unwrap_err();
    assert!(matches!(anonymous, Error::Status { .. } | Error::Reported { .. }), "{anonymous:?}");
    let wrong = Credentials::new(&registry.host(), "assay", "guess");
    let refused = ensure(&client, &pull(PullPolicy::IfMissing, &name, Some(wrong))).await.unwrap_err();
    assert!(!refused.to_string().contains("guess"), "{refused}");

    let parsed = name.parse().unwrap();
    let found = Credentials::find(&registry.docker_folder(), &parsed, &App::DEFAULT).unwrap();
    assert!(found.is_some());
    let missing = pull(PullPolicy::IfMissing, &name, found.clone());
    let (digest, steps) = ensure(&client, &missing).await.unwrap();
    assert!(steps > 0);
    assert_eq!(ensure(&client, &missing).await.unwrap().1, 0, "already present");
    assert!(ensure(&client, &pull(PullPolicy::Always, &name, found.clone())).await.unwrap().1 > 0);

    // an image named by its digest cannot have changed, and another digest is another image
    let pinned = pull(PullPolicy::Always, &digest, found.clone());
    assert_eq!(ensure(&client, &pinned).await.unwrap().1, 0);
    let other = digest.replace(&digest[digest.len() - 4..], "0000");
    assert!(ensure(&client, &pull(PullPolicy::IfMissing, &other, found)).await.is_err());
}

#[test]
fn a_daemon_runs_images_of_a_trusted_registry_only() {
    crate::harness::images();
    let registry = Registry::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bash = runtime.block_on(async {
        // images that contain the init have its label as well
        let filter = Filters::new().with("label", "assay.image.name=bash");
        let images = client().list_images(&filter).await.unwrap();
        let tag = images.into_iter().flat_map(|image| image.repo_tags).find(|tag| tag.starts_with("assay/bash:"));
        tag.unwrap()
    });
    let name = registry.push(&bash, "team/bash:1");
    let _cleanup = ImageCleanup(name.clone());
    let profiles = tempfile::tempdir().unwrap();
    for (profile, image) in [("far", name.clone()), ("stranger", name.replace("/team/", "/others/"))] {
        let text = std::fs::read_to_string(root().join("config/profiles/bash.toml")).unwrap();
        let text = text.replace("name = \"bash\"", &format!("name = {profile:?}"));
        let text = text.replace("image = \"bash\"", &format!("image = {image:?}"));
        std::fs::write(profiles.path().join(format!("{profile}.toml")), text).unwrap();
    }
    let trusted = format!("['{}/team/*']", registry.host());
    let daemon = Daemon::start(&Options {
        profiles: "",
        profiles_dir: Some(profiles.path()),
        trusted: &trusted,
        env: &[("DOCKER_CONFIG", registry.docker_folder().to_str().unwrap())],
        ..Options::default()
    });
    let mut caller = daemon.caller();
    let report = caller.ok("submission.run", submission("far", "echo from afar"));
    assert_eq!(report["run"]["stdout"], "from afar\n", "{report}");
    let hurried = with(submission("stranger", "echo"), "deadline_ms", json!(3000));
    let refused = caller.call("submission.run", hurried);
    assert!(refused.to_string().contains("images.trusted"), "{refused}");
    let pulled = caller.ok("image.pull", json!({ "profile": "far" }));
    assert_eq!((&pulled["tag"], &pulled["built"]), (&json!(name), &json!(true)));
    let rows = caller.ok("image.list", json!({}));
    let far = rows["images"].as_array().unwrap().iter().find(|row| row["profile"] == "far").unwrap();
    assert_eq!((&far["present"], &far["tag"]), (&json!(true), &json!(name)));
}
