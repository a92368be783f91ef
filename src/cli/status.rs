//! `assay status`: daemon, hosts, pools, queue, and where the time goes.

use serde_json::{Value, json};

use super::client::RpcClient;
use super::out::{self, Table, Tint};
use super::{CliError, lists};

/// The stages in the order in which a submission passes them; others follow by name.
const ORDER: [&str; 7] = ["queue", "lease", "copy_in", "compile", "run", "collect", "total"];

/// Asks `daemon.status`.
///
/// # Errors
/// The daemon's.
pub async fn status(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let status = client.call("daemon.status", json!({})).await?;
    if json {
        out::json(&status)
    } else {
        show(&status)
    }
    Ok(0)
}

fn show(status: &Value) {
    out::line(format_args!(
        "assayd {}, instance {}, up {}",
        out::clean(&out::text(status, "version")),
        out::clean(&out::text(status, "instance")),
        out::millis_of(status, "uptime_ms")
    ));
    let queue = &status["queue"];
    out::line(format_args!(
        "queue   {} waiting, {} running, room for {}",
        out::text(queue, "queued"),
        out::text(queue, "running"),
        out::text(queue, "max")
    ));
    section("hosts", &lists::host_table(out::list(status, "hosts")));
    section("pools", &lists::pool_table(out::list(status, "pools")));
    section("stages", &stage_table(&status["stages"]));
}

fn section(name: &str, table: &Table) {
    if !table.is_empty() {
        out::line("");
        out::line(out::tint(name, Tint::Bold));
        out::stdout(table.render(out::colours()));
    }
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
