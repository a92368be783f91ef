//! `assay status`: daemon, queue, hosts, pools and stage times.

use protocol::status::Stage;
use serde_json::{Value, json};
use strum::VariantArray as _;

use super::client::RpcClient;
use super::out::{self, OutputFormat, TextStyle};
use super::table::TextTable;
use super::{CliError, lists, progress};

/// Runs `assay status`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn status(client: &mut RpcClient, output: OutputFormat) -> Result<u8, CliError> {
    let status = progress::show_while(progress::DAEMON, client.call("daemon.status", json!({}))).await?;
    output.print(&status, || out::stdout(render(&status, None)));
    Ok(0)
}

/// The status as text; `rate` is the rate of answers per second that `assay top` shows.
pub fn render(status: &Value, rate: Option<f64>) -> String {
    let queue = &status["queue"];
    let counters = &status["counters"];
    let draining = match status["phase"].as_str() {
        Some("paused") => ", paused (`assay resume`)",
        _ if status["draining"] == true => ", draining",
        _ => "",
    };
    let rate = rate.map(|rate| format!(", {rate:.1} answers/s")).unwrap_or_default();
    let mut text = format!(
        "{} {}, instance {}, up {}{draining}\nqueue   {} waiting, {} running, at most {}{rate}\n",
        out::styled("assayd", TextStyle::Bold),
        out::clean(&out::text(status, "version")),
        out::clean(&out::text(status, "instance")),
        out::millis_of(status, "uptime_ms"),
        out::text(queue, "queued"),
        out::text(queue, "running"),
        out::text(queue, "max"),
    );
    text += &format!(
        "total   {} answered ({} warm, {} cold), {} refused, {} retried, {} system errors\n",
        out::text(counters, "answered"),
        out::text(counters, "warm"),
        out::text(counters, "cold"),
        out::text(counters, "refused"),
        out::text(counters, "retried"),
        out::text(counters, "system_error"),
    );
    let mut section = |name: &str, table: &TextTable| {
        if !table.is_empty() {
            text += &format!("\n{}\n{}", out::styled(name, TextStyle::Bold), table.render(out::stdout_has_colors()));
        }
    };
    section("hosts", &lists::host_table(out::list(status, "hosts")));
    section("pools", &lists::pool_table(out::list(status, "pools")));
    section("callers", &caller_table(out::list(queue, "callers")));
    section("stages", &stage_table(&status["stages"]));
    section("failures", &failure_table(out::list(status, "pools")));
    text
}

fn caller_table(callers: &[Value]) -> TextTable {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut table = TextTable::new(&["caller", "user", "waiting", "running"]);
    for caller in callers {
        let [uid, waiting, running] = ["uid", "waiting", "running"].map(|key| out::text(caller, key));
        let name = out::caller(caller);
        let user = user_of(&users, &uid).map_or("-".to_owned(), out::clean);
        table.row([name, user, waiting, running]);
    }
    table
}

/// The name of a uid in a text as in /etc/passwd.
fn user_of<'a>(users: &'a str, uid: &str) -> Option<&'a str> {
    let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.find(|fields| fields.get(2) == Some(&uid)).and_then(|fields| fields.first().copied())
}

/// Failed creations, by the step that failed.
fn failure_table(pools: &[Value]) -> TextTable {
    let mut table = TextTable::new(&["pool", "host", "step", "failed"]);
    for pool in pools {
        for (step, count) in pool["failures"].as_object().into_iter().flatten() {
            table.row([out::text(pool, "profile"), out::text(pool, "host"), out::clean(step), count.to_string()]);
        }
    }
    table
}

fn stage_table(stages: &Value) -> TextTable {
    let mut table = TextTable::new(&["stage", "count", "p50", "p95", "p99"]);
    let Some(stages) = stages.as_object() else { return table };
    let mut names: Vec<&String> = stages.keys().collect();
    // stages in their order, then those that this version does not know
    let position = |name: &str| {
        let known = Stage::VARIANTS.iter().position(|stage| stage.as_str() == name.trim_end_matches("_ms"));
        known.unwrap_or(Stage::VARIANTS.len())
    };
    names.sort_by_key(|name| (position(name), name.as_str()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_has_the_name_of_its_user() {
        let users = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/:/bin/false\nbroken\n";
        assert_eq!((user_of(users, "33"), user_of(users, "3")), (Some("web"), None));
    }
}
