//! `pools`, `hosts`, `profiles`, `sandboxes`: one call, one table. Fields that a daemon does not send show as `-`.

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::client::RpcClient;
use super::out::{self, Table, Tint};
use super::progress::{self, DAEMON};
use super::{CliError, completions};

/// `assay pools`.
///
/// # Errors
/// The daemon's.
pub async fn pools(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let reply = progress::over(DAEMON, client.call("pool.list", json!({}))).await?;
    show(json, &reply, || pool_table(out::list(&reply, "pools")).print("no pools"))
}

/// The commands below `hosts`.
#[derive(Debug, Subcommand)]
pub enum HostsCommand {
    /// Give a host no more work; what runs there ends in peace
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

/// `assay hosts`.
///
/// # Errors
/// The daemon's.
pub async fn hosts(client: &mut RpcClient, json: bool, command: Option<HostsCommand>) -> Result<u8, CliError> {
    let change = match command {
        None => None,
        Some(HostsCommand::Drain { host }) => Some(("host.drain", host)),
        Some(HostsCommand::Resume { host }) => Some(("host.resume", host)),
    };
    if let Some((method, host)) = change {
        client.call(method, json!({ "host": host })).await?;
    }
    let reply = progress::over(DAEMON, client.call("host.list", json!({}))).await?;
    show(json, &reply, || host_table(out::list(&reply, "hosts")).print("no hosts"))
}

/// `assay reload`.
///
/// # Errors
/// The daemon's: the new configuration is wrong, and the old one stays in effect.
pub async fn reload(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let reply = progress::over(DAEMON, client.call("daemon.reload", json!({}))).await?;
    show(json, &reply, || {
        let words = |value: &Value| {
            let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if words.is_empty() { "none".to_owned() } else { out::clean(&words.join(", ")) }
        };
        let hosts = &reply["hosts"];
        out::line(format_args!(
            "hosts     kept {}; added {}; removed {}",
            words(&hosts["kept"]),
            words(&hosts["added"]),
            words(&hosts["removed"])
        ));
        out::line(format_args!("profiles  {}", words(&reply["profiles"])));
        if reply["needs_restart"].as_array().is_some_and(|keys| !keys.is_empty()) {
            out::line(format_args!("changed, and in effect only after a restart: {}", words(&reply["needs_restart"])));
        }
    })
}

/// `assay profiles`.
///
/// # Errors
/// The daemon's.
pub async fn profiles(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let reply = progress::over(DAEMON, client.call("profile.list", json!({}))).await?;
    show(json, &reply, || {
        let mut table = Table::new(&["profile", "entry", "cpu", "wall", "memory", "procs", "description"]);
        for profile in out::list(&reply, "profiles") {
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
}

/// `assay sandboxes`.
///
/// # Errors
/// The daemon's.
pub async fn sandboxes(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let reply = progress::over(DAEMON, client.call("sandbox.list", json!({}))).await?;
    show(json, &reply, || {
        let mut table = Table::new(&["sandbox", "profile", "state", "age", "uid"]);
        for sandbox in out::list(&reply, "sandboxes") {
            table.row([
                out::text(sandbox, "id").chars().take(12).collect(),
                out::text(sandbox, "profile"),
                out::text(sandbox, "state"),
                out::millis_of(sandbox, "age_ms"),
                out::text(sandbox, "uid"),
            ]);
        }
        table.print("no sandboxes");
    })
}

fn show(json: bool, reply: &Value, human: impl FnOnce()) -> Result<u8, CliError> {
    if json {
        out::json(reply)
    } else {
        human()
    }
    Ok(0)
}

/// Pools as a table; also part of `assay status`.
pub fn pool_table(pools: &[Value]) -> Table {
    let mut table = Table::new(&[
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
        let broken = match &pool["broken"] {
            Value::String(why) => why.clone(),
            Value::Bool(true) => "broken".to_owned(),
            _ => pool["hot_failed"]
                .as_str()
                .map(|why| format!("no runtime waits: {}", out::clean(why)))
                .unwrap_or_default(),
        };
        let ready = pool["ready"].as_u64();
        let short = ready.zip(pool["floor"].as_u64()).is_some_and(|(ready, floor)| ready < floor);
        let number = |key| (out::text(pool, key), None);
        table.tinted([
            number("profile"),
            number("host"),
            number("isolation"),
            (out::text(pool, "ready"), Some(if short { Tint::Yellow } else { Tint::Green })),
            number("hot"),
            number("creating"),
            number("leased"),
            number("kept"),
            number("waiting"),
            number("floor"),
            number("level"),
            number("ceiling"),
            (broken, Some(Tint::Red)),
        ]);
    }
    table
}

/// Why a host is not up, or cannot have cells.
fn trouble(host: &Value) -> String {
    let reason = host["reason"].as_str().map(out::clean);
    reason.or_else(|| host["no_cell"].as_str().map(|why| format!("no cells: {}", out::clean(why)))).unwrap_or_default()
}

/// What is taken of what there is: CPUs and memory.
fn room(room: &Value) -> String {
    let number = |key: &str| room[key].as_f64();
    match (number("cpus_taken"), number("cpus")) {
        (Some(taken), Some(all)) => format!(
            "{taken:.1}/{all:.1} cpu, {}/{}",
            out::bytes(room["memory_bytes_taken"].as_u64().unwrap_or(0)),
            out::bytes(room["memory_bytes"].as_u64().unwrap_or(0))
        ),
        _ => "-".to_owned(),
    }
}

/// Hosts as a table; also part of `assay status`.
pub fn host_table(hosts: &[Value]) -> Table {
    let mut table = Table::new(&["host", "state", "engine", "sandboxes", "running", "room taken", "endpoint", ""]);
    for host in hosts {
        let state = out::text(host, "state");
        let colour = if state == "up" { Tint::Green } else { Tint::Yellow };
        table.tinted([
            (out::text(host, "name"), None),
            (state, Some(colour)),
            (out::text(host, "engine"), None),
            (out::text(host, "sandboxes"), None),
            (out::text(host, "running"), None),
            (room(&host["room"]), None),
            (out::text(host, "endpoint"), None),
            (trouble(host), Some(Tint::Red)),
        ]);
    }
    table
}
