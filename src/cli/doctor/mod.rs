//! `assay doctor`: what this machine, its Docker Engine and the daemon look like, and how to mend what is wrong.
//!
//! It asks the Engine itself, so it works with the daemon down. Every check says what was seen; one that is not well
//! says the remedy. It changes nothing that it does not change back: an image pulled for the test is removed unless it
//! was there before, and the test container is removed whatever happens.

pub mod checks;
pub mod engine;

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{RpcClient, RpcError};
use super::out::{self, Table, Tint};
use checks::{Check, Status};
use engine::{Engine, EngineError};

/// Most questions.
const ASK: Duration = Duration::from_secs(10);
/// `info` walks storage and plugins, and a container's life is several questions.
const SLOW: Duration = Duration::from_secs(30);
/// Small, and on every public registry's mirror.
const TINY: &str = "hello-world";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The Engine, such as unix:///var/run/docker.sock
    #[arg(long, env = "ASSAY_ENGINE_HOST", value_name = "ENDPOINT")]
    pub engine: Option<String>,
    /// The folder of the profiles
    #[arg(long, env = "ASSAY_PROFILES_DIR", value_name = "DIR")]
    pub profiles_dir: Option<PathBuf>,
    /// The first uid that programs run as
    #[arg(long, env = "ASSAY_UID_BASE", default_value_t = 52000)]
    pub uid_base: u32,
    /// How many uids
    #[arg(long, default_value_t = 1024)]
    pub uid_count: u32,
    /// Do not try to reach a registry
    #[arg(long)]
    pub no_pull: bool,
}

/// Runs every check; 1 when one failed.
pub async fn doctor(socket: &Path, json: bool, args: DoctorArgs) -> u8 {
    let mut found = Vec::new();
    engine_checks(&args, &mut found).await;
    found.push(daemon(socket).await);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    found.push(checks::uids(&read("/etc/passwd"), &read("/etc/subuid"), args.uid_base, args.uid_count));
    let failed = found.iter().filter(|check| check.status == Status::Fail).count();
    if json {
        let checks: Vec<Value> = found.iter().map(Check::to_json).collect();
        out::json(&json!({"ok": failed == 0, "checks": checks}));
    } else {
        show(&found);
    }
    u8::from(failed > 0)
}

fn show(found: &[Check]) {
    let mut table = Table::new(&["check", "", "seen"]);
    for check in found {
        let colour = match check.status {
            Status::Ok => Tint::Green,
            Status::Warn => Tint::Yellow,
            Status::Fail => Tint::Red,
            Status::Skip => Tint::Dim,
        };
        table.tinted([
            (check.name.to_owned(), None),
            (check.status.word().to_owned(), Some(colour)),
            (check.seen.clone(), None),
        ]);
        if let Some(remedy) = &check.remedy {
            table.tinted([(String::new(), None), (String::new(), None), (format!("-> {remedy}"), Some(Tint::Bold))]);
        }
    }
    out::stdout(table.render(out::colours()));
    let count = |status| found.iter().filter(|check| check.status == status).count();
    out::line(format_args!(
        "\n{} ok, {} to look at, {} failed, {} skipped",
        count(Status::Ok),
        count(Status::Warn),
        count(Status::Fail),
        count(Status::Skip)
    ));
}

/// The endpoint, in the order that the daemon uses too: ours, Docker's, the default.
fn endpoint(args: &DoctorArgs) -> String {
    let set = |text: &String| !text.is_empty();
    args.engine
        .clone()
        .filter(set)
        .or_else(|| std::env::var("DOCKER_HOST").ok().filter(set))
        .unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
}

async fn engine_checks(args: &DoctorArgs, found: &mut Vec<Check>) {
    let endpoint = endpoint(args);
    let Some(socket) = endpoint.strip_prefix("unix://") else {
        found.push(Check::skip("engine", format!("{endpoint}: the doctor looks at engines on a Unix socket only")));
        return;
    };
    let engine = Engine { socket: PathBuf::from(socket) };
    let reached = socket_check(&engine).await;
    let well = reached.status == Status::Ok;
    found.push(reached);
    if !well {
        found.push(Check::skip("engine", "not asked: its socket does not open".into()));
        return;
    }
    match engine.ask("GET", "/_ping", None, ASK).await {
        Ok(answer) => {
            let version = engine.ask("GET", "/version", None, ASK).await.map_or(Value::Null, |answer| answer.body);
            found.push(checks::version(&version, answer.api_version.as_deref()));
        }
        Err(error) => {
            found.push(Check::fail(
                "ping",
                error.to_string(),
                "Look at the engine's log: journalctl -u docker.".into(),
            ));
            return;
        }
    }
    match engine.ask("GET", "/info", None, SLOW).await {
        Ok(answer) => {
            found.extend(checks::info(&answer.body));
            found.push(disk(&answer.body));
        }
        Err(error) => {
            found.push(Check::fail(
                "info",
                error.to_string(),
                "Look at the engine's log: journalctl -u docker.".into(),
            ));
        }
    }
    let images = engine.ask("GET", "/images/json", None, SLOW).await;
    let tags = images.as_ref().map(|answer| checks::tags(&answer.body)).unwrap_or_default();
    found.push(if args.no_pull {
        Check::skip("pull", "not tried: --no-pull".into())
    } else {
        pull(&engine, &tags).await
    });
    found.push(run(&engine, &tags).await);
    found.push(match engine.ask("GET", "/containers/json?all=1", None, ASK).await {
        Ok(answer) => checks::containers(&answer.body),
        Err(error) => Check::fail("list", error.to_string(), "Look at the engine's log: journalctl -u docker.".into()),
    });
    found.push(match images {
        Ok(_) => checks::images(&profile_images(args.profiles_dir.as_deref()), &tags),
        Err(error) => {
            Check::fail("images", error.to_string(), "Look at the engine's log: journalctl -u docker.".into())
        }
    });
}

async fn socket_check(engine: &Engine) -> Check {
    let path = engine.socket.display();
    match std::fs::metadata(&engine.socket) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Check::fail(
                "socket",
                format!("{path} is no socket"),
                "Check ASSAY_ENGINE_HOST and DOCKER_HOST.".into(),
            );
        }
        _ => {}
    }
    match tokio::net::UnixStream::connect(&engine.socket).await {
        Ok(_) => Check::ok("socket", format!("{path} opens")),
        Err(error) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "You may not open it: `sudo usermod -aG docker $USER`, then log in again; or use sudo."
                }
                std::io::ErrorKind::NotFound => {
                    "Install and start Docker (`apt install docker.io`), or name the engine with ASSAY_ENGINE_HOST."
                }
                _ => "Please make sure Docker is running: systemctl start docker",
            };
            Check::fail("socket", format!("{path}: {error}"), remedy.into())
        }
    }
}

async fn pull(engine: &Engine, tags: &[String]) -> Check {
    let path = format!("/images/create?fromImage={TINY}&tag=latest");
    let answer = engine.ask("POST", &path, None, SLOW).await;
    let trouble = match &answer {
        Ok(answer) => checks::pull_error(&answer.body),
        Err(error) => Some(error.to_string()),
    };
    if let Some(trouble) = trouble {
        return Check::warn(
            "pull",
            format!("no registry reached ({trouble}); images are built from Debian's packages"),
            None,
        );
    }
    let name = format!("{TINY}:latest");
    if !tags.contains(&name) {
        let _ = engine.ask("DELETE", &format!("/images/{name}"), None, ASK).await;
    }
    Check::ok("pull", format!("{TINY} came from its registry"))
}

/// A container's whole life, as hardened as a sandbox: create, start, wait, remove.
async fn run(engine: &Engine, tags: &[String]) -> Check {
    let ours = |prefix: &str| tags.iter().find(|tag| tag.starts_with(prefix));
    let Some(image) = ours("assay/base:").or_else(|| ours("assay/bash:")).or_else(|| ours("assay/")) else {
        return Check::skip("run", "no assay/ image on this engine yet; `assay images build` makes them".into());
    };
    let spec = json!({
        "Image": image, "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "exit 7"], "User": "65534:65534",
        "Labels": {"assay.doctor": "1"}, "NetworkDisabled": true,
        "HostConfig": {"NetworkMode": "none", "ReadonlyRootfs": true, "CapDrop": ["ALL"], "AutoRemove": false,
            "SecurityOpt": ["no-new-privileges"], "Memory": 64 << 20, "MemorySwap": 64 << 20, "PidsLimit": 16,
            "NanoCpus": 500_000_000, "LogConfig": {"Type": "none"}}
    });
    let look = "Start one by hand and see: docker run --rm --network none IMAGE true; the engine's log says more.";
    let name = format!("assay-doctor-{}", std::process::id());
    let id = match engine.ask("POST", &format!("/containers/create?name={name}"), Some(spec), SLOW).await {
        Ok(answer) => answer.body["Id"].as_str().unwrap_or(&name).to_owned(),
        Err(error) => {
            // A create that was slow may still have made it.
            let _ = engine.ask("DELETE", &format!("/containers/{name}?force=1&v=1"), None, ASK).await;
            return Check::fail("run", format!("create: {error}"), look.into());
        }
    };
    let begun = std::time::Instant::now();
    let lived = async {
        engine.ask("POST", &format!("/containers/{id}/start"), None, SLOW).await?;
        let took = begun.elapsed();
        let waited = engine.ask("POST", &format!("/containers/{id}/wait"), None, SLOW).await?;
        Ok::<_, EngineError>((took, waited.body["StatusCode"].as_i64()))
    }
    .await;
    let removed = engine.ask("DELETE", &format!("/containers/{id}?force=1&v=1"), None, SLOW).await;
    match (lived, removed) {
        (Ok((took, Some(7))), Ok(_)) => {
            Check::ok("run", format!("a container of {image} started in {} ms, exited and went", took.as_millis()))
        }
        (Ok((_, status)), Ok(_)) => Check::fail("run", format!("it exited with {status:?} instead of 7"), look.into()),
        (Err(error), _) => Check::fail("run", format!("{image}: {error}"), look.into()),
        (_, Err(error)) => Check::fail("run", format!("remove {name}: {error}"), format!("docker rm -f {name}")),
    }
}

fn disk(info: &Value) -> Check {
    let root = info["DockerRootDir"].as_str().unwrap_or("/var/lib/docker");
    match nix::sys::statvfs::statvfs(root) {
        Ok(stat) => checks::disk(root, stat.blocks_available() * stat.fragment_size()),
        Err(error) => Check::skip("disk", format!("{root} cannot be looked at from here: {error}")),
    }
}

/// Profile name and image name of every profile found; empty when there is no folder.
fn profile_images(dir: Option<&Path>) -> Vec<(String, String)> {
    let candidates = [dir, Some(Path::new("/etc/assay/profiles")), Some(Path::new("config/profiles"))];
    let Some(entries) = candidates.into_iter().flatten().find_map(|dir| std::fs::read_dir(dir).ok()) else {
        return Vec::new();
    };
    let mut found: Vec<(String, String)> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "toml"))
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
        .filter_map(|text| text.parse::<toml::Table>().ok())
        .filter_map(|table| Some((table.get("name")?.as_str()?.to_owned(), table.get("image")?.as_str()?.to_owned())))
        .collect();
    found.sort();
    found
}

async fn daemon(socket: &Path) -> Check {
    let asked = async {
        let mut client = RpcClient::connect(socket).await?;
        client.call("daemon.health", json!({})).await
    };
    match tokio::time::timeout(SLOW, asked).await {
        Ok(Ok(health)) => checks::daemon(&health),
        Ok(Err(error)) => {
            let remedy = error.remedy();
            let absent = matches!(&error, RpcError::Connect { source, .. }
                if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused));
            let (seen, _) = super::sentences(&error.into());
            if absent {
                Check::warn("daemon", format!("assayd is not running ({})", socket.display()), remedy)
            } else {
                Check::fail("daemon", seen, remedy.unwrap_or_else(|| "journalctl -u assayd".into()))
            }
        }
        Err(_) => Check::fail(
            "daemon",
            format!("no answer within {} s", SLOW.as_secs()),
            "Its log says why: journalctl -u assayd".into(),
        ),
    }
}
