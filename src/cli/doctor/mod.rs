//! `assay doctor`: checks this machine, its Docker Engine and the daemon, and offers remedies.
//!
//! It calls the Engine itself, so it works with the daemon down. A running daemon is asked which
//! profiles there are and whether their images exist; without one, the profiles of this machine's
//! configuration are looked for on the Engine.
//! It cleans up after itself: an image pulled as a test is removed unless it was present before,
//! and the test container is always removed.

pub mod checks;
pub mod cis;
pub mod host;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{ClientError, HEALTH_TIMEOUT, NO_ANSWER, RpcClient};
use super::out::{self, OutputFormat, TextStyle};
use super::progress::{self, WaitIndicator};
use super::table::TextTable;
use checks::{CheckStatus, DoctorCheck};
use config::{Config, DEFAULT_SOCKET, EnvVars, load_profiles};
use docker::{Client, ContainerSpec, Endpoint, Error, Filters, HostConfig, LogConfig, SetupError, WaitCondition};

/// Bound on a pull, on the test container's run, and on the daemon's list of images.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A small image that every mirror of the public registry has.
const TEST_IMAGE: &str = "hello-world";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The daemon's configuration, which names the Engine [default: /etc/assay/assayd.toml, if it
    /// exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The Engine, instead of the configuration's, such as unix:///var/run/docker.sock
    #[arg(long, value_name = "ENDPOINT")]
    pub engine: Option<String>,
    /// Treat warnings as failures
    #[arg(long)]
    pub strict: bool,
    /// Do not pull an image from a registry
    #[arg(long)]
    pub no_pull: bool,
}

/// The document of `doctor --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DoctorOutput {
    /// Whether no check failed.
    pub ok: bool,
    /// All checks in order.
    pub checks: Vec<checks::CheckOutput>,
}

/// Runs `assay doctor`: 1 if a check failed, or with `--strict` if one warned.
pub async fn doctor(socket: &Path, output: OutputFormat, args: DoctorArgs) -> u8 {
    let mut found = Vec::new();
    let environment = config::environment();
    let config = configuration(&args, &environment, &mut found);
    let (daemon, images) = progress::show_while("checking the daemon", daemon(socket)).await;
    let waiting = WaitIndicator::new("checking the engine");
    let engine = waiting.show_while(engine_checks(&args, &config, &environment, &waiting, &mut found)).await;
    found.extend(match (images, engine) {
        (Some(rows), _) => Some(checks::images_of_daemon(&rows)),
        (None, Some(tags)) => Some(profiles(&config, &tags)),
        (None, None) => None,
    });
    found.extend(tls_key(&config, &environment));
    found.push(daemon);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    found.push(checks::uids(&read("/etc/passwd"), &read("/etc/subuid"), config.uids.base, config.uids.count));
    match client(&config, &environment).ok().map(|client| client.endpoint().clone()) {
        Some(Endpoint::Tcp { .. }) => {
            found.push(DoctorCheck::skip(
                "machine",
                "the engine is on another machine: run assay doctor there too".into(),
            ));
        }
        Some(Endpoint::Unix(socket)) => found.extend(host::HostFiles::new("/").checks(Some(&socket))),
        Some(_) | None => {}
    }
    let failed = found.iter().filter(|check| check.status == CheckStatus::Fail).count();
    let document = DoctorOutput { ok: failed == 0, checks: found.iter().map(DoctorCheck::output).collect() };
    output.print(&document, || show(&found));
    let has_warnings = found.iter().any(|check| check.status == CheckStatus::Warn);
    u8::from(failed > 0 || (args.strict && has_warnings))
}

fn show(found: &[DoctorCheck]) {
    let mut table = TextTable::new(&["check", "", "result"]);
    for check in found {
        let style = match check.status {
            CheckStatus::Ok => TextStyle::Green,
            CheckStatus::Warn => TextStyle::Yellow,
            CheckStatus::Fail => TextStyle::Red,
            CheckStatus::Skip => TextStyle::Dim,
        };
        table.styled_row([
            (check.name.to_owned(), None),
            (check.status.as_str().to_owned(), Some(style)),
            (check.message.clone(), None),
        ]);
        if let Some(remedy) = &check.remedy {
            table.styled_row([
                (String::new(), None),
                (String::new(), None),
                (format!("-> {remedy}"), Some(TextStyle::Bold)),
            ]);
        }
    }
    out::stdout(table.render(out::stdout_has_colors()));
    let count = |status| found.iter().filter(|check| check.status == status).count();
    out::line(format_args!(
        "\n{} ok, {} warnings, {} failed, {} skipped",
        count(CheckStatus::Ok),
        count(CheckStatus::Warn),
        count(CheckStatus::Fail),
        count(CheckStatus::Skip)
    ));
}

/// The daemon's configuration. If it is not valid, that is a failed check, and the defaults are
/// used.
fn configuration(args: &DoctorArgs, environment: &EnvVars, found: &mut Vec<DoctorCheck>) -> Config {
    let mut config = Config::load(args.config.as_deref(), environment).unwrap_or_else(|error| {
        let remedy = "Fix it, then run assayd --check-config.".into();
        found.push(DoctorCheck::fail("config", format!("failed to {error}"), remedy));
        Config::default()
    });
    if let Some(host) = args.engine.clone().filter(|text| !text.is_empty()) {
        config.engine.host = Some(host);
        config.engine.context = None;
    }
    config
}

/// Permissions of the client's private key, which gives root access to the engine's machine (CIS
/// Docker Benchmark 3.14).
fn tls_key(config: &Config, environment: &EnvVars) -> Option<DoctorCheck> {
    let key = config.engine.target(environment).ok()?.tls?.key?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).ok()?.permissions()) & 0o777;
    Some(checks::key_mode(&key.display().to_string(), mode))
}

/// A client of the engine that the configuration names.
fn client(config: &Config, environment: &EnvVars) -> Result<Client, SetupError> {
    Client::open(&config.engine.target(environment)?)
}

/// Checks the engine. Returns the tags of its images, if it answers.
async fn engine_checks(
    args: &DoctorArgs,
    config: &Config,
    environment: &EnvVars,
    waiting: &WaitIndicator,
    found: &mut Vec<DoctorCheck>,
) -> Option<Vec<String>> {
    let client = match client(config, environment) {
        Ok(client) => client,
        Err(error) => {
            let remedy =
                "Check [engine] in assayd.toml, --engine, ASSAY_ENGINE_HOST, DOCKER_HOST and docker context ls.";
            found.push(DoctorCheck::fail("endpoint", format!("failed to {error}"), remedy.into()));
            return None;
        }
    };
    match client.ping().await {
        Ok(ping) => {
            found.push(DoctorCheck::ok("endpoint", format!("{} answers", client.endpoint())));
            found.push(DoctorCheck::ok("ping", ping.server.unwrap_or_else(|| "it answers".into())));
        }
        Err(error) => {
            found.push(call_failed("endpoint", &error));
            found.push(DoctorCheck::skip("engine", "not checked: it cannot be reached".into()));
            return None;
        }
    }
    found.push(match client.version().await {
        Ok(version) => checks::version(&version),
        Err(error) => call_failed("version", &error),
    });
    match client.info().await {
        Ok(info) => {
            found.extend(checks::info(&info));
            found.push(disk(info.docker_root_dir.as_deref()));
        }
        Err(error) => found.push(call_failed("info", &error)),
    }
    let images = client.list_images(&Filters::new()).await;
    let tags: Vec<String> = images.iter().flatten().flat_map(|image| &image.repo_tags).cloned().collect();
    waiting.set(format!("pulling {TEST_IMAGE}"));
    found.push(if args.no_pull {
        DoctorCheck::skip("pull", "skipped: --no-pull".into())
    } else {
        pull(&client, &tags).await
    });
    waiting.set("running a test container");
    found.push(run_container(&client, &tags).await);
    found.push(match client.list_containers(true, &Filters::new()).await {
        Ok(containers) => checks::containers(&containers),
        Err(error) => call_failed("list", &error),
    });
    if let Err(error) = images {
        found.push(call_failed("images", &error));
        return None;
    }
    Some(tags)
}

/// A failed check for a failed call, with the client's remedy if it has one.
fn call_failed(name: &'static str, error: &Error) -> DoctorCheck {
    let remedy = error.remedy().unwrap_or_else(|| "Look at the engine's log: journalctl -u docker".into());
    DoctorCheck::fail(name, format!("failed to {error}"), remedy)
}

async fn pull(client: &Client, tags: &[String]) -> DoctorCheck {
    let mut ignore = |_| {};
    let name = format!("{TEST_IMAGE}:latest");
    let Ok(image) = name.parse() else { return DoctorCheck::skip("pull", format!("{name} is not a valid image name")) };
    let problem = match tokio::time::timeout(TIMEOUT, client.pull_image(&image, None, &mut ignore)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("not finished within {} s", TIMEOUT.as_secs())),
    };
    if let Some(problem) = problem {
        let message =
            format!("no registry could be reached ({problem}); images are built from Debian packages instead");
        return DoctorCheck::warn("pull", message, None);
    }
    if !tags.contains(&name) {
        let _ = client.remove_image(&name, false).await;
    }
    DoctorCheck::ok("pull", format!("{TEST_IMAGE} was pulled from its registry"))
}

/// Creates, starts and removes a container that is hardened like a sandbox.
async fn run_container(client: &Client, tags: &[String]) -> DoctorCheck {
    let ours = |prefix: &str| tags.iter().find(|tag| tag.starts_with(prefix));
    let Some(image) = ours("assay/base:").or_else(|| ours("assay/bash:")).or_else(|| ours("assay/")) else {
        return DoctorCheck::skip(
            "run",
            "this engine has no assay/ image yet; `assay images build` builds them".into(),
        );
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
    let started_at = Instant::now();
    let result = async {
        let created = client.create_container(&name, &spec).await?;
        client.start_container(&created.id).await?;
        let took = started_at.elapsed();
        let waited = tokio::time::timeout(TIMEOUT, client.wait_container(&created.id, WaitCondition::NotRunning)).await;
        Ok::<_, Error>((took, waited.ok().transpose()?))
    }
    .await;
    // By name: a create call that failed may still have created it.
    let removed = client.remove_container(&name, true).await;
    match (result, removed) {
        (Ok((took, Some(7))), Ok(_)) => DoctorCheck::ok(
            "run",
            format!(
                "a container of {image} was created and started in {} ms, exited and was removed",
                took.as_millis()
            ),
        ),
        (Ok((_, status)), Ok(_)) => {
            let message =
                status.map_or("it did not exit".to_owned(), |status| format!("it exited with {status} instead of 7"));
            DoctorCheck::fail(
                "run",
                message,
                format!("Try it by hand: docker run --rm --network none --entrypoint /bin/sh {image} -c 'exit 7'"),
            )
        }
        (Err(error), _) => call_failed("run", &error),
        (_, Err(error)) => {
            DoctorCheck::fail("run", format!("{name} is left over: failed to {error}"), format!("docker rm -f {name}"))
        }
    }
}

fn disk(root: Option<&str>) -> DoctorCheck {
    let root = root.unwrap_or("/var/lib/docker");
    match nix::sys::statvfs::statvfs(root) {
        Ok(stat) => checks::disk(root, stat.blocks_available() * stat.fragment_size()),
        Err(error) => DoctorCheck::skip("disk", format!("cannot access {root} from here: {error}")),
    }
}

/// Whether the engine has the images of all profiles on this machine, for when no daemon answers.
fn profiles(config: &Config, tags: &[String]) -> DoctorCheck {
    match load_profiles(config, &config::Origins::default()) {
        Ok(profiles) => {
            let images: Vec<_> = profiles.into_iter().map(|profile| (profile.name, profile.image)).collect();
            checks::images(&images, tags, &config.profiles.dir)
        }
        Err(error) if config.profiles.dir.exists() => DoctorCheck::fail(
            "profiles",
            format!("failed to {error}"),
            "Fix it, then run assayd --check-config.".into(),
        ),
        Err(_) => DoctorCheck::skip("images", format!("{} has no profiles", config.profiles.dir.display())),
    }
}

/// Where the daemon's unit is, if it was installed.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/assayd.service",
    "/lib/systemd/system/assayd.service",
    "/usr/local/lib/systemd/system/assayd.service",
];

/// Checks the daemon. If it answers, also returns the rows of its profiles' images.
async fn daemon(socket: &Path) -> (DoctorCheck, Option<Vec<Value>>) {
    let see_log = || "See its log: journalctl -u assayd -p warning".to_owned();
    let call = async {
        let mut client = RpcClient::connect(socket).await?;
        client.call("daemon.health", json!({})).await.map(|health| (client, health))
    };
    let error = match tokio::time::timeout(HEALTH_TIMEOUT, call).await {
        Ok(Ok((mut client, health))) => {
            let images = tokio::time::timeout(TIMEOUT, client.call("image.list", json!({}))).await;
            let rows = images.ok().and_then(Result::ok).map(|reply| out::list(&reply, "images").to_vec());
            return (checks::daemon(&health), rows);
        }
        Ok(Err(error)) => error,
        Err(_) => {
            let message = format!("it did not answer within {} s", HEALTH_TIMEOUT.as_secs());
            return (DoctorCheck::fail("daemon", message, NO_ANSWER.to_owned()), None);
        }
    };
    let is_absent = matches!(&error, ClientError::Connect { source, .. }
        if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused));
    let remedy = error.remedy();
    if !is_absent {
        let (message, _) = super::error_output::describe(&error.into());
        return (DoctorCheck::fail("daemon", message, remedy.unwrap_or_else(see_log)), None);
    }
    let message = format!("assayd is not running ({})", socket.display());
    // no socket was named, none is there, and no unit: the daemon is not installed, it did not die
    let is_expected =
        socket != Path::new(DEFAULT_SOCKET) || socket.exists() || UNITS.iter().any(|unit| Path::new(unit).exists());
    let check = match is_expected {
        true => DoctorCheck::fail("daemon", message, remedy.unwrap_or_else(see_log)),
        false => DoctorCheck::warn("daemon", message, remedy),
    };
    (check, None)
}
