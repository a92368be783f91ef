//! `assay token`: make, list and revoke tokens of the HTTP API.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::RpcClient;
use super::out::{self, OutputFormat};
use super::table::TextTable;
use super::{CliError, progress, when};

/// The commands below `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it: it is not shown again
    ///
    /// The name stands for what the token hands in: in history, in logs and in quotas. A name that
    /// had a token is taken, also when that was revoked; --replace rotates it.
    Add {
        /// The token's name: letters, digits, dots, underscores and hyphens
        name: String,
        /// The tenant that it acts for, and no other; with --replace it stays
        #[arg(long, required_unless_present = "replace")]
        tenant: Option<String>,
        /// What its bearer may do; submit if absent, and with --replace it stays
        #[arg(long)]
        role: Option<TokenRoleArg>,
        /// When it ends: in 12h, 90d or 52w, or at the beginning of a day such as 2027-01-31 (UTC)
        #[arg(long, value_name = "WHEN", value_parser = end)]
        expires: Option<i64>,
        /// Revoke the token that the name has, and give the name and its history to the new one
        #[arg(long)]
        replace: bool,
    },
    /// Show all tokens, with their last use
    List,
    /// End a token and its browser sessions, at once
    Revoke {
        /// The token's name
        name: String,
    },
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum TokenRoleArg {
    /// Submit, and see what it handed in
    Submit,
    /// See everything, and administer
    Admin,
}

impl TokenRoleArg {
    fn as_str(self) -> &'static str {
        match self {
            TokenRoleArg::Submit => "submit",
            TokenRoleArg::Admin => "admin",
        }
    }
}

fn end(text: &str) -> Result<i64, String> {
    when::parse_future(text, when::now_ms()).ok_or_else(|| when::FUTURE_FORMS.to_owned())
}

/// Runs `assay token`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn token(client: &mut RpcClient, output: OutputFormat, command: TokenCommand) -> Result<u8, CliError> {
    match command {
        TokenCommand::Add { name, tenant, role, expires, replace } => {
            let params = json!({
                "name": name, "tenant": tenant, "role": role.map(TokenRoleArg::as_str), "expires_ms": expires,
                "replace": replace,
            });
            let reply = progress::show_while(progress::DAEMON, client.call("token.add", params)).await?;
            output.print(&reply, || {
                out::line(out::text(&reply, "token"));
                out::note("keep it: the daemon has its hash only, and does not show it again");
                out::note(format_args!("its callbacks are signed with the key {}", out::text(&reply, "callback_key")));
                if reply["api"] == false {
                    out::note("the API is off: set http.api = true in assayd.toml and restart the daemon");
                }
            });
        }
        TokenCommand::List => {
            let reply = progress::show_while(progress::DAEMON, client.call("token.list", json!({}))).await?;
            output.print(&reply, || table(out::list(&reply, "tokens")).print("no tokens"));
        }
        TokenCommand::Revoke { name } => {
            let call = client.call("token.revoke", json!({ "name": name }));
            let reply = progress::show_while(progress::DAEMON, call).await?;
            output.print(&reply, || out::line(format_args!("{} is revoked", out::clean(&name))));
        }
    }
    Ok(0)
}

fn table(rows: &[Value]) -> TextTable {
    let mut table = TextTable::new(&["name", "tenant", "role", "state", "from", "created", "by", "expires", "used"]);
    for row in rows {
        let time = |key: &str| row[key].as_i64().map_or_else(|| "-".to_owned(), when::show);
        let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
        table.row([
            text("name"),
            text("tenant"),
            text("role"),
            text("state"),
            text("origin"),
            time("created_ms"),
            text("created_by"),
            time("expires_ms"),
            time("used_ms"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_every_token_with_what_is_known_of_it() {
        let rows = [
            json!({ "name": "ci", "tenant": "acme", "role": "submit", "state": "active", "origin": "store",
                "created_ms": 1_796_053_200_000_i64, "created_by": "uid:0", "expires_ms": null, "used_ms": null }),
            json!({ "name": "file", "tenant": "acme", "role": "admin", "state": "expired", "origin": "configuration",
                "created_ms": null, "created_by": null, "expires_ms": 1_796_053_200_000_i64, "used_ms": null }),
        ];
        let text = table(&rows).render(false);
        assert!(text.contains("2026-11-30 15:40:00  uid:0"), "{text}");
        assert!(text.contains("configuration") && text.contains("expired"), "{text}");
    }
}
