//! `pools`, `hosts`, `profiles`, `sandboxes`: one call, one table. Fields that a daemon does not send show as `-`.

use serde_json::{Value, json};

use super::CliError;
use super::client::RpcClient;
use super::out::{self, Table, Tint};

/// `assay pools`.
///
/// # Errors
/// The daemon's.
pub async fn pools(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let reply = client.call("pool.list", json!({})).await?;
    show(json, &reply, || pool_table(out::list(&reply, "pools")).print("no pools"))
}

/// `assay hosts`.
///
/// # Errors
/// The daemon's.
pub async fn hosts(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let reply = client.call("host.list", json!({})).await?;
    show(json, &reply, || host_table(out::list(&reply, "hosts")).print("no hosts"))
}

/// `assay profiles`.
///
/// # Errors
/// The daemon's.
pub async fn profiles(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let reply = client.call("profile.list", json!({})).await?;
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
    let reply = client.call("sandbox.list", json!({})).await?;
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
    let mut table = Table::new(&["pool", "host", "ready", "creating", "leased", "waiting", "floor", "ceiling", ""]);
    for pool in pools {
        let broken = match &pool["broken"] {
            Value::String(why) => why.clone(),
            Value::Bool(true) => "broken".to_owned(),
            _ => String::new(),
        };
        let ready = pool["ready"].as_u64();
        let short = ready.zip(pool["floor"].as_u64()).is_some_and(|(ready, floor)| ready < floor);
        let number = |key| (out::text(pool, key), None);
        table.tinted([
            number("profile"),
            number("host"),
            (out::text(pool, "ready"), Some(if short { Tint::Yellow } else { Tint::Green })),
            number("creating"),
            number("leased"),
            number("waiting"),
            number("floor"),
            number("ceiling"),
            (broken, Some(Tint::Red)),
        ]);
    }
    table
}

/// Hosts as a table; also part of `assay status`.
pub fn host_table(hosts: &[Value]) -> Table {
    let mut table = Table::new(&["host", "state", "engine", "sandboxes", "endpoint"]);
    for host in hosts {
        let state = out::text(host, "state");
        let colour = if state == "up" { Tint::Green } else { Tint::Yellow };
        table.tinted([
            (out::text(host, "name"), None),
            (state, Some(colour)),
            (out::text(host, "engine"), None),
            (out::text(host, "sandboxes"), None),
            (out::text(host, "endpoint"), None),
        ]);
    }
    table
}
