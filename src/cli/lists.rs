//! `pools`, `hosts`, `profiles`, `sandboxes`, `reload`, `drain`, `resume`: one call, one table.
//! Fields that are missing in the reply are shown as `-`.

use std::time::Duration;

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::client::RpcClient;
use super::out::{self, OutputFormat, TextStyle};
use super::progress::{self, DAEMON};
use super::table::TextTable;
use super::{CliError, completions};

/// Calls a method without parameters and prints its result.
async fn call_and_print(
    client: &mut RpcClient,
    output: OutputFormat,
    method: &str,
    text: impl FnOnce(&Value),
) -> Result<u8, CliError> {
    let reply = progress::show_while(DAEMON, client.call(method, json!({}))).await?;
    output.print(&reply, || text(&reply));
    Ok(0)
}

/// Runs `assay pools`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn pools(client: &mut RpcClient, output: OutputFormat) -> Result<u8, CliError> {
    call_and_print(client, output, "pool.list", |reply| {
        pool_table(out::list(reply, "pools")).print("no pools");
    })
    .await
}

/// The commands below `hosts`.
#[derive(Debug, Subcommand)]
pub enum HostsCommand {
    /// Give a host no new work; what runs there finishes
    Drain {
        /// The host's name
        #[arg(add = ArgValueCandidates::new(completions::hosts))]
        host: String,
    },
    /// Give a drained host work again
    Resume {
        /// The host's name
        #[arg(add = ArgValueCandidates::new(completions::hosts))]
        host: String,
    },
}

/// Runs `assay hosts`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn hosts(
    client: &mut RpcClient,
    output: OutputFormat,
    command: Option<HostsCommand>,
) -> Result<u8, CliError> {
    let change = match command {
        None => None,
        Some(HostsCommand::Drain { host }) => Some(("host.drain", host)),
        Some(HostsCommand::Resume { host }) => Some(("host.resume", host)),
    };
    if let Some((method, host)) = change {
        client.call(method, json!({ "host": host })).await?;
    }
    call_and_print(client, output, "host.list", |reply| {
        host_table(out::list(reply, "hosts")).print("no hosts");
    })
    .await
}

/// Runs `assay reload`.
///
/// # Errors
/// A broken connection, or an error response: the new configuration is not valid, and the old one
/// stays in effect.
pub async fn reload(client: &mut RpcClient, output: OutputFormat) -> Result<u8, CliError> {
    call_and_print(client, output, "daemon.reload", |reply| {
        let names = |value: &Value| {
            let names: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if names.is_empty() { "none".to_owned() } else { out::clean(&names.join(", ")) }
        };
        let hosts = &reply["hosts"];
        out::line(format_args!(
            "hosts     kept {}; added {}; removed {}",
            names(&hosts["kept"]),
            names(&hosts["added"]),
            names(&hosts["removed"])
        ));
        out::line(format_args!("profiles  {}", names(&reply["profiles"])));
        if reply["needs_restart"].as_array().is_some_and(|keys| !keys.is_empty()) {
            out::line(format_args!("changed, in effect after a restart: {}", names(&reply["needs_restart"])));
        }
    })
    .await
}

/// How often `assay drain --wait` looks.
const DRAIN_POLL: Duration = Duration::from_millis(200);

/// Runs `assay drain`: nothing new is admitted, and the daemon stays.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn drain(client: &mut RpcClient, output: OutputFormat, wait: bool) -> Result<u8, CliError> {
    let mut admission = client.call("daemon.pause", json!({})).await?;
    if wait {
        let idle = async {
            while admission["queued"] != 0 || admission["running"] != 0 {
                tokio::time::sleep(DRAIN_POLL).await;
                // the same again: it says how much is left
                admission = client.call("daemon.pause", json!({})).await?;
            }
            Ok::<(), CliError>(())
        };
        progress::show_while("waiting for what runs", idle).await?;
    }
    output.print(&admission, || show_admission(&admission));
    Ok(0)
}

/// Runs `assay resume`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn resume(client: &mut RpcClient, output: OutputFormat) -> Result<u8, CliError> {
    call_and_print(client, output, "daemon.resume", show_admission).await
}

fn show_admission(admission: &Value) {
    let left = format!("{} waiting, {} running", out::text(admission, "queued"), out::text(admission, "running"));
    out::line(match admission["paused"] == true {
        true => format!("paused: new submissions are refused until `assay resume`; {left}"),
        false => format!("resumed: submissions are admitted; {left}"),
    });
}

/// Runs `assay profiles`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn profiles(client: &mut RpcClient, output: OutputFormat) -> Result<u8, CliError> {
    call_and_print(client, output, "profile.list", |reply| {
        let mut table = TextTable::new(&["profile", "entry", "cpu", "wall", "memory", "procs", "description"]);
        for profile in out::list(reply, "profiles") {
            let limits = &profile["limits"];
            table.row([
                out::text(profile, "name"),
                out::text(profile, "entry"),
                out::millis_of(limits, "cpu_ms"),
                out::millis_of(limits, "wall_ms"),
                out::bytes_of(limits, "memory_bytes"),
                out::text(limits, "pids"),
                out::text(profile, "description"),
            ]);
        }
        table.print("no profiles");
    })
    .await
}

/// Runs `assay sandboxes`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn sandboxes(client: &mut RpcClient, output: OutputFormat) -> Result<u8, CliError> {
    call_and_print(client, output, "sandbox.list", |reply| {
        let mut table = TextTable::new(&["sandbox", "profile", "state", "age", "caller"]);
        for sandbox in out::list(reply, "sandboxes") {
            table.row([
                out::text(sandbox, "id").chars().take(12).collect(),
                out::text(sandbox, "profile"),
                out::text(sandbox, "state"),
                out::millis_of(sandbox, "age_ms"),
                out::caller(sandbox),
            ]);
        }
        table.print("no sandboxes");
    })
    .await
}

/// Table of pools, also for `assay status`.
pub fn pool_table(pools: &[Value]) -> TextTable {
    let mut table = TextTable::new(&[
        "pool",
        "host",
        "isolation",
        "ready",
        "hot",
        "creating",
        "leased",
        "kept",
        "waiting",
        "floor",
        "level",
        "ceiling",
        "",
    ]);
    for pool in pools {
        let problem = match &pool["broken"] {
            Value::String(reason) => reason.clone(),
            Value::Bool(true) => "broken".to_owned(),
            _ => pool["hot_failed"]
                .as_str()
                .map(|reason| format!("no hot runtimes: {}", out::clean(reason)))
                .unwrap_or_default(),
        };
        let ready = pool["ready"].as_u64();
        let is_below_floor = ready.zip(pool["floor"].as_u64()).is_some_and(|(ready, floor)| ready < floor);
        let number = |key| (out::text(pool, key), None);
        table.styled_row([
            number("profile"),
            number("host"),
            number("isolation"),
            (out::text(pool, "ready"), Some(if is_below_floor { TextStyle::Yellow } else { TextStyle::Green })),
            number("hot"),
            number("creating"),
            number("leased"),
            number("kept"),
            number("waiting"),
            number("floor"),
            number("level"),
            number("ceiling"),
            (problem, Some(TextStyle::Red)),
        ]);
    }
    table
}

/// Why a host is not up, or does not support cells.
fn host_problem(host: &Value) -> String {
    let reason = host["reason"].as_str().map(out::clean);
    reason
        .or_else(|| host["no_cell"].as_str().map(|reason| format!("no cells: {}", out::clean(reason))))
        .unwrap_or_default()
}

/// CPUs and memory in use, of the total.
fn capacity(room: &Value) -> String {
    let number = |key: &str| room[key].as_f64();
    match (number("cpus_taken"), number("cpus")) {
        (Some(taken), Some(total)) => format!(
            "{taken:.1}/{total:.1} cpu, {}/{}",
            out::bytes(room["memory_bytes_taken"].as_u64().unwrap_or(0)),
            out::bytes(room["memory_bytes"].as_u64().unwrap_or(0))
        ),
        _ => "-".to_owned(),
    }
}

/// Table of hosts, also for `assay status`.
pub fn host_table(hosts: &[Value]) -> TextTable {
    let mut table = TextTable::new(&["host", "state", "engine", "sandboxes", "running", "in use", "endpoint", ""]);
    for host in hosts {
        let state = out::text(host, "state");
        let style = if state == "up" { TextStyle::Green } else { TextStyle::Yellow };
        table.styled_row([
            (out::text(host, "name"), None),
            (state, Some(style)),
            (out::text(host, "engine"), None),
            (out::text(host, "sandboxes"), None),
            (out::text(host, "running"), None),
            (capacity(&host["room"]), None),
            (out::text(host, "endpoint"), None),
            (host_problem(host), Some(TextStyle::Red)),
        ]);
    }
    table
}
