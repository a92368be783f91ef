//! `assay health`, for scripts and monitoring. Exit status 0 if the daemon is healthy or degraded,
//! 1 if it is unhealthy or cannot be reached.

use std::path::Path;

use serde_json::{Value, json};

use super::client::{HEALTH_TIMEOUT, NO_ANSWER, RpcClient};
use super::error_output::describe;
use super::out::{self, OutputFormat, TextStyle};
use super::progress;
use super::table::TextTable;

/// Runs `assay health`. A daemon that cannot be reached, or does not answer within five seconds,
/// counts as unhealthy.
pub async fn health(socket: &Path, output: OutputFormat) -> u8 {
    let call = async {
        let mut client = RpcClient::connect(socket).await?;
        client.call("daemon.health", json!({})).await
    };
    let health = match progress::show_while(progress::DAEMON, tokio::time::timeout(HEALTH_TIMEOUT, call)).await {
        Ok(Ok(health)) => health,
        failed => {
            let (message, remedy) = match failed {
                Ok(Err(error)) => describe(&error.into()),
                _ => {
                    let message = format!("assayd did not answer within {} s", HEALTH_TIMEOUT.as_secs());
                    (message, Some(NO_ANSWER.to_owned()))
                }
            };
            let check = json!({"name": "daemon", "ok": false, "message": message, "remedy": remedy});
            json!({"status": "unhealthy", "docker": "unknown", "checks": [check]})
        }
    };
    let is_up = matches!(health["status"].as_str(), Some("healthy" | "degraded"));
    output.print(&health, || show(&health));
    u8::from(!is_up)
}

fn show(health: &Value) {
    let status = out::text(health, "status");
    let style = match status.as_str() {
        "healthy" => TextStyle::Green,
        "degraded" => TextStyle::Yellow,
        _ => TextStyle::Red,
    };
    out::line(out::styled(&out::clean(&status), style));
    let mut table = TextTable::new(&["check", "", "message"]);
    for check in out::list(health, "checks") {
        let mark = if check["ok"] == true {
            ("ok".to_owned(), Some(TextStyle::Green))
        } else {
            ("fail".to_owned(), Some(TextStyle::Red))
        };
        table.styled_row([(out::text(check, "name"), None), mark, (out::text(check, "message"), None)]);
        if let Some(remedy) = check["remedy"].as_str() {
            table.styled_row([
                (String::new(), None),
                (String::new(), None),
                (format!("-> {remedy}"), Some(TextStyle::Dim)),
            ]);
        }
    }
    if !table.is_empty() {
        out::stdout(table.render(out::stdout_has_colors()));
    }
}
