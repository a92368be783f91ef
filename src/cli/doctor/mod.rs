//! `assay doctor`: what this machine, its Docker Engine and the daemon look like, and how to mend what is wrong.
//!
//! It asks the Engine itself, so it works with the daemon down. Every check says what was seen; one that is not well
//! says the remedy. It changes nothing that it does not change back: an image pulled for the test is removed unless it
//! was there before, and the test container is removed whatever happens.

pub mod checks;
pub mod host;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::client::{RpcClient, RpcError};
use super::out::{self, Table, Tint};
use super::progress::{self, Waiting};
use checks::{Check, Status};
use config::{self, Config, Environment, load_profiles};
use docker::{Client, ContainerSpec, Endpoint, Error, Filters, HostConfig, LogConfig, SetupError, WaitCondition};

/// For a pull, a container that ends at once, and the daemon: more is a fault.
const SLOW: Duration = Duration::from_secs(30);
/// Small, and on every public registry's mirror.
const TINY: &str = "hello-world";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The daemon's configuration, which says where the Engine is [default: /etc/assay/assayd.toml, when it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Another Engine than the configuration's, such as unix:///var/run/docker.sock
    #[arg(long, value_name = "ENDPOINT")]
    pub engine: Option<String>,
    /// Fail also over what is only to look at
    #[arg(long)]
    pub strict: bool,
    /// Do not try to reach a registry
    #[arg(long)]
    pub no_pull: bool,
}

/// What `doctor --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DoctorOutput {
    /// Whether nothing failed.
    pub ok: bool,
    /// Every check.
    pub checks: Vec<checks::CheckOutput>,
}

/// Runs every check; 1 when one failed, or with `--strict` when there is anything to look at.
pub async fn doctor(socket: &Path, json: bool, args: DoctorArgs) -> u8 {
    let mut found = Vec::new();
    let environment = config::environment();
    let config = configuration(&args, &environment, &mut found);
    let waiting = Waiting::new("asking the engine");
    waiting.over(engine_checks(&args, &config, &environment, &waiting, &mut found)).await;
    found.extend(key(&config, &environment));
    found.push(progress::over("asking the daemon", daemon(socket)).await);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    found.push(checks::uids(&read("/etc/passwd"), &read("/etc/subuid"), config.uids.base, config.uids.count));
    match client(&config, &environment).ok().map(|client| client.endpoint().clone()) {
        Some(Endpoint::Tcp { .. }) => {
            found.push(Check::skip("machine", "the engine is elsewhere: run the doctor there, too".into()));
        }
        Some(Endpoint::Unix(socket)) => found.extend(host::Machine::at("/").checks(Some(&socket))),
        Some(_) | None => {}
    }
    let failed = found.iter().filter(|check| check.status == Status::Fail).count();
    if json {
        out::json_of(&DoctorOutput { ok: failed == 0, checks: found.iter().map(Check::output).collect() });
    } else {
        show(&found);
    }
    let to_look_at = found.iter().any(|check| check.status == Status::Warn);
    u8::from(failed > 0 || (args.strict && to_look_at))
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

/// What the daemon would use. One that is wrong is a finding, and the defaults serve for the rest.
fn configuration(args: &DoctorArgs, environment: &Environment, found: &mut Vec<Check>) -> Config {
    let mut config = Config::load(args.config.as_deref(), environment).unwrap_or_else(|error| {
        let remedy = "Mend it, then try: assayd --check-config".into();
        found.push(Check::fail("config", format!("failed to {error}"), remedy));
        Config::default()
    });
    if let Some(host) = args.engine.clone().filter(|text| !text.is_empty()) {
        config.engine.host = Some(host);
        config.engine.context = None;
    }
    config
}

/// Whether nobody else can read the client's key: whoever has it is root on the engine's machine [CIS 3.14].
fn key(config: &Config, environment: &Environment) -> Option<Check> {
    let key = config.engine.target(environment).ok()?.tls?.key?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).ok()?.permissions()) & 0o777;
    Some(checks::key_mode(&key.display().to_string(), mode))
}

/// A client of the engine that the daemon would use.
fn client(config: &Config, environment: &Environment) -> Result<Client, SetupError> {
    Client::open(&config.engine.target(environment)?)
}

async fn engine_checks(
    args: &DoctorArgs,
    config: &Config,
    environment: &Environment,
    waiting: &Waiting,
    found: &mut Vec<Check>,
) {
    let client = match client(config, environment) {
        Ok(client) => client,
        Err(error) => {
            let remedy =
                "Check [engine] in assayd.toml, --engine, ASSAY_ENGINE_HOST, DOCKER_HOST and docker context ls.";
            found.push(Check::fail("endpoint", format!("failed to {error}"), remedy.into()));
            return;
        }
    };
    match client.ping().await {
        Ok(ping) => {
            found.push(Check::ok("endpoint", format!("{} answers", client.endpoint())));
            found.push(Check::ok("ping", ping.server.unwrap_or_else(|| "it answers".into())));
        }
        Err(error) => {
            found.push(trouble("endpoint", &error));
            found.push(Check::skip("engine", "not asked: it cannot be reached".into()));
            return;
        }
    }
    found.push(match client.version().await {
        Ok(version) => checks::version(&version),
        Err(error) => trouble("version", &error),
    });
    match client.info().await {
        Ok(info) => {
            found.extend(checks::info(&info));
            found.push(disk(info.docker_root_dir.as_deref()));
        }
        Err(error) => found.push(trouble("info", &error)),
    }
    let images = client.list_images(&Filters::new()).await;
    let tags: Vec<String> = images.iter().flatten().flat_map(|image| &image.repo_tags).cloned().collect();
    waiting.say(format!("pulling {TINY}"));
    found.push(if args.no_pull {
        Check::skip("pull", "not tried: --no-pull".into())
    } else {
        pull(&client, &tags).await
    });
    waiting.say("making a container and running it");
    found.push(run(&client, &tags).await);
    found.push(match client.list_containers(true, &Filters::new()).await {
        Ok(containers) => checks::containers(&containers),
        Err(error) => trouble("list", &error),
    });
    found.push(match images {
        Ok(_) => profiles(config, &tags),
        Err(error) => trouble("images", &error),
    });
}

/// A call that failed, with the client's remedy or the place to look.
fn trouble(name: &'static str, error: &Error) -> Check {
    let remedy = error.remedy().unwrap_or_else(|| "look at the engine's log: journalctl -u docker".into());
    Check::fail(name, format!("failed to {error}"), remedy)
}

async fn pull(client: &Client, tags: &[String]) -> Check {
    let mut ignore = |_| {};
    let name = format!("{TINY}:latest");
    let Ok(image) = name.parse() else { return Check::skip("pull", format!("{name} is no image's name")) };
    let trouble = match tokio::time::timeout(SLOW, client.pull_image(&image, None, &mut ignore)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("not done within {} s", SLOW.as_secs())),
    };
    if let Some(trouble) = trouble {
        let seen = format!("no registry reached ({trouble}); images are built from Debian's packages");
        return Check::warn("pull", seen, None);
    }
    if !tags.contains(&name) {
        let _ = client.remove_image(&name, false).await;
    }
    Check::ok("pull", format!("{TINY} came from its registry"))
}

/// A container's whole life, as hardened as a sandbox: create, start, wait, remove.
async fn run(client: &Client, tags: &[String]) -> Check {
    let ours = |prefix: &str| tags.iter().find(|tag| tag.starts_with(prefix));
    let Some(image) = ours("assay/base:").or_else(|| ours("assay/bash:")).or_else(|| ours("assay/")) else {
        return Check::skip("run", "no assay/ image on this engine yet; `assay images build` makes them".into());
    };
    let spec = ContainerSpec {
        image: image.clone(),
        entrypoint: vec!["/bin/sh".into()],
        cmd: vec!["-c".into(), "exit 7".into()],
        user: "65534:65534".into(),
        labels: [("assay.doctor".to_owned(), "1".to_owned())].into(),
        host_config: HostConfig {
            network_mode: "none".into(),
            readonly_rootfs: true,
            cap_drop: vec!["ALL".into()],
            security_opt: vec!["no-new-privileges".into()],
            memory: 64 << 20,
            memory_swap: 64 << 20,
            nano_cpus: 500_000_000,
            pids_limit: 16,
            ipc_mode: "private".into(),
            log_config: LogConfig { kind: "none".into(), ..LogConfig::default() },
            ..HostConfig::default()
        },
        ..ContainerSpec::default()
    };
    let name = format!("assay-doctor-{}", std::process::id());
    let begun = Instant::now();
    let lived = async {
        let created = client.create_container(&name, &spec).await?;
        client.start_container(&created.id).await?;
        let took = begun.elapsed();
        let waited = tokio::time::timeout(SLOW, client.wait_container(&created.id, WaitCondition::NotRunning)).await;
        Ok::<_, Error>((took, waited.ok().transpose()?))
    }
    .await;
    // By name: a create that was given up may still have made it.
    let removed = client.remove_container(&name, true).await;
    match (lived, removed) {
        (Ok((took, Some(7))), Ok(_)) => Check::ok(
            "run",
            format!("a container of {image} was made and started in {} ms, exited and went", took.as_millis()),
        ),
        (Ok((_, status)), Ok(_)) => {
            let seen =
                status.map_or("it did not end".to_owned(), |status| format!("it exited with {status} instead of 7"));
            Check::fail(
                "run",
                seen,
                format!("see what this does: docker run --rm --network none --entrypoint /bin/sh {image} -c 'exit 7'"),
            )
        }
        (Err(error), _) => trouble("run", &error),
        (_, Err(error)) => {
            Check::fail("run", format!("{name} is left: failed to {error}"), format!("docker rm -f {name}"))
        }
    }
}

fn disk(root: Option<&str>) -> Check {
    let root = root.unwrap_or("/var/lib/docker");
    match nix::sys::statvfs::statvfs(root) {
        Ok(stat) => checks::disk(root, stat.blocks_available() * stat.fragment_size()),
        Err(error) => Check::skip("disk", format!("{root} cannot be looked at from here: {error}")),
    }
}

/// The profiles, and whether the engine has their images.
fn profiles(config: &Config, tags: &[String]) -> Check {
    match load_profiles(config, &config::Origins::default()) {
        Ok(profiles) => {
            let images: Vec<_> = profiles.into_iter().map(|profile| (profile.name, profile.image)).collect();
            checks::images(&images, tags)
        }
        Err(error) if config.profiles.dir.exists() => {
            Check::fail("profiles", format!("failed to {error}"), "Mend it, then try: assayd --check-config".into())
        }
        Err(_) => Check::skip("images", format!("there are no profiles in {}", config.profiles.dir.display())),
    }
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
            let (seen, _) = super::complaint::sentences(&error.into());
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
