//! `assay status`: daemon, hosts, pools, queue, and where the time goes.

use serde_json::{Value, json};

use super::client::RpcClient;
use super::out::{self, Table, Tint};
use super::{CliError, lists, progress};

/// The stages in the order in which a submission passes them; others follow by name.
const ORDER: [&str; 7] = ["queue", "lease", "copy_in", "compile", "run", "collect", "total"];

/// Asks `daemon.status`.
///
/// # Errors
/// The daemon's.
pub async fn status(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let status = progress::over(progress::DAEMON, client.call("daemon.status", json!({}))).await?;
    if json {
        out::json(&status)
    } else {
        out::stdout(render(&status));
    }
    Ok(0)
}

/// The whole status as text.
pub fn render(status: &Value) -> String {
    render_with(status, None)
}

/// The same with the rate of answers: a frame of `assay top`.
pub fn render_with(status: &Value, rate: Option<&str>) -> String {
    let queue = &status["queue"];
    let counters = &status["counters"];
    let draining = if status["draining"] == true { ", draining" } else { "" };
    let rate = rate.map(|rate| format!(", {rate} answers/s")).unwrap_or_default();
    let mut text = format!(
        "{} {}, instance {}, up {}{draining}\nqueue   {} waiting, {} running, room for {}{rate}\n",
        out::tint("assayd", Tint::Bold),
        out::clean(&out::text(status, "version")),
        out::clean(&out::text(status, "instance")),
        out::millis_of(status, "uptime_ms"),
        out::text(queue, "queued"),
        out::text(queue, "running"),
        out::text(queue, "max"),
    );
    text += &format!(
        "so far  {} answered ({} warm, {} cold), {} refused, {} tried again, {} system errors\n",
        out::text(counters, "answered"),
        out::text(counters, "warm"),
        out::text(counters, "cold"),
        out::text(counters, "refused"),
        out::text(counters, "retried"),
        out::text(counters, "system_error"),
    );
    let mut section = |name: &str, table: &Table| {
        if !table.is_empty() {
            text += &format!("\n{}\n{}", out::tint(name, Tint::Bold), table.render(out::colours()));
        }
    };
    section("hosts", &lists::host_table(out::list(status, "hosts")));
    section("pools", &lists::pool_table(out::list(status, "pools")));
    section("callers", &caller_table(out::list(queue, "callers")));
    section("stages", &stage_table(&status["stages"]));
    section("failures", &failure_table(out::list(status, "pools")));
    text
}

fn caller_table(callers: &[Value]) -> Table {
    let mut table = Table::new(&["uid", "waiting", "running"]);
    for caller in callers {
        table.row(["uid", "waiting", "running"].map(|key| out::text(caller, key)));
    }
    table
}

/// Creations that failed, by what was waited for.
fn failure_table(pools: &[Value]) -> Table {
    let mut table = Table::new(&["pool", "host", "wait", "failed"]);
    for pool in pools {
        for (wait, count) in pool["failures"].as_object().into_iter().flatten() {
            table.row([out::text(pool, "profile"), out::text(pool, "host"), out::clean(wait), count.to_string()]);
        }
    }
    table
}

fn stage_table(stages: &Value) -> Table {
    let mut table = Table::new(&["stage", "count", "p50", "p95", "p99"]);
    let Some(stages) = stages.as_object() else { return table };
    let mut names: Vec<&String> = stages.keys().collect();
    let place =
        |name: &str| ORDER.iter().position(|stage| *stage == name.trim_end_matches("_ms")).unwrap_or(ORDER.len());
    names.sort_by_key(|name| (place(name), name.as_str()));
    for name in names {
        let stage = &stages[name];
        table.row([
            name.trim_end_matches("_ms").to_owned(),
            out::text(stage, "count"),
            out::millis_of(stage, "p50_ms"),
            out::millis_of(stage, "p95_ms"),
            out::millis_of(stage, "p99_ms"),
        ]);
    }
    table
}
