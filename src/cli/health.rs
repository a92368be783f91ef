//! `assay health`: for scripts and monitors. 0 for healthy and degraded, 1 for unhealthy or out of reach.

use std::path::Path;

use serde_json::{Value, json};

use super::client::RpcClient;
use super::complaint::sentences;
use super::out::{self, Tint};
use super::{CliError, progress};

/// Asks `daemon.health`.
///
/// # Errors
/// None: a daemon that cannot be asked is unhealthy.
pub async fn health(socket: &Path, json: bool) -> Result<u8, CliError> {
    let asked = async {
        let mut client = RpcClient::connect(socket).await?;
        client.call("daemon.health", json!({})).await
    };
    let health = match progress::over(progress::DAEMON, asked).await {
        Ok(health) => health,
        Err(error) => {
            let (message, remedy) = sentences(&error.into());
            json!({"status": "unhealthy", "docker": "unknown", "checks": [{"name": "daemon", "ok": false, "message": message, "remedy": remedy}]})
        }
    };
    let well = matches!(health["status"].as_str(), Some("healthy" | "degraded"));
    if json {
        out::json(&health);
    } else {
        show(&health);
    }
    Ok(u8::from(!well))
}

fn show(health: &Value) {
    let word = out::text(health, "status");
    let colour = match word.as_str() {
        "healthy" => Tint::Green,
        "degraded" => Tint::Yellow,
        _ => Tint::Red,
    };
    out::line(out::tint(&out::clean(&word), colour));
    let mut table = out::Table::new(&["check", "", "message"]);
    for check in out::list(health, "checks") {
        let well = check["ok"] == true;
        let mark = if well { ("ok".to_owned(), Some(Tint::Green)) } else { ("fail".to_owned(), Some(Tint::Red)) };
        table.tinted([(out::text(check, "name"), None), mark, (out::text(check, "message"), None)]);
        if let Some(remedy) = check["remedy"].as_str() {
            table.tinted([(String::new(), None), (String::new(), None), (format!("-> {remedy}"), Some(Tint::Dim))]);
        }
    }
    if !table.is_empty() {
        out::stdout(table.render(out::colours()));
    }
}
