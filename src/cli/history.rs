//! `assay history`: finished submissions, newest first, or how many there are.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Map, Value, json};

use super::client::RpcClient;
use super::out::{self, OutputFormat, TextStyle};
use super::table::TextTable;
use super::{CliError, completions, progress, when};

/// Rows of one call.
const PAGE_ROWS: usize = 500;

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only submissions that were answered since: today, yesterday, 12h, 7d, 2026-11-29,
    /// 2026-11-29T18:30 (UTC)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<i64>,
    /// Only submissions that were answered before
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<i64>,
    /// Only submissions with this verdict, such as system_error
    #[arg(long)]
    pub verdict: Option<String>,
    /// Only submissions of this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only submissions in this language
    #[arg(long, add = ArgValueCandidates::new(completions::profiles))]
    pub language: Option<String>,
    /// Show at most so many
    #[arg(long, value_name = "ROWS", default_value_t = 50, conflicts_with_all = ["all", "stats"])]
    pub limit: usize,
    /// Show all
    #[arg(long, conflicts_with = "stats")]
    pub all: bool,
    /// Count by language, tenant and verdict instead (`assay schema submission.stats.result`)
    #[arg(long)]
    pub stats: bool,
}

fn time(text: &str) -> Result<i64, String> {
    when::parse(text, when::now_ms()).ok_or_else(|| when::FORMS.to_owned())
}

/// Runs `assay history`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn history(client: &mut RpcClient, output: OutputFormat, args: HistoryArgs) -> Result<u8, CliError> {
    let HistoryArgs { since, until, verdict, tenant, language, limit, all, stats } = args;
    let mut filter = Map::new();
    let fields = [
        ("since_ms", since.map(Value::from)),
        ("until_ms", until.map(Value::from)),
        ("verdict", verdict.map(Value::from)),
        ("tenant", tenant.map(Value::from)),
        ("language", language.map(Value::from)),
    ];
    filter.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    if stats {
        let call = client.call("submission.stats", Value::Object(filter));
        let reply = progress::show_while(progress::DAEMON, call).await?;
        output.print(&reply, || stats_table(out::list(&reply, "rows")).print("no submissions"));
        return Ok(0);
    }
    let most = if all { usize::MAX } else { limit.max(1) };
    let found = progress::show_while(progress::DAEMON, pages(client, &filter, most)).await?;
    output.print(&found, || {
        let rows = out::list(&found, "submissions");
        table(rows).print("no submissions");
        if found["next_cursor"].is_string() {
            out::note(format_args!("the newest {}; more with --limit or --all", rows.len()));
        }
    });
    Ok(0)
}

/// All pages up to a number of rows, as one.
async fn pages(client: &mut RpcClient, filter: &Map<String, Value>, most: usize) -> Result<Value, CliError> {
    let (mut rows, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut params = filter.clone();
        params.insert("limit".to_owned(), json!((most - rows.len()).min(PAGE_ROWS)));
        if cursor.is_string() {
            params.insert("cursor".to_owned(), cursor);
        }
        let mut page = client.call("submission.list", Value::Object(params)).await?;
        if let Value::Array(found) = page["submissions"].take() {
            rows.extend(found);
        }
        cursor = page["next_cursor"].take();
        if !cursor.is_string() || rows.len() >= most {
            break;
        }
    }
    let mut all = json!({ "submissions": rows });
    if cursor.is_string() {
        all["next_cursor"] = cursor;
    }
    Ok(all)
}

/// The style of a verdict.
pub(crate) fn verdict_style(verdict: &str) -> TextStyle {
    match verdict {
        "accepted" => TextStyle::Green,
        "system_error" => TextStyle::Red,
        _ => TextStyle::Yellow,
    }
}

fn table(rows: &[Value]) -> TextTable {
    let mut table = TextTable::new(&[
        "answered (UTC)",
        "id",
        "caller",
        "tenant",
        "language",
        "verdict",
        "total",
        "cpu",
        "memory",
        "message",
    ]);
    for row in rows {
        let verdict = out::text(row, "verdict");
        let style = verdict_style(&verdict);
        let message = row["message"].as_str().unwrap_or_default();
        let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        let message = match row["blame"].as_str() {
            Some(blame) => format!("{first} (blame: {blame})"),
            None => first.to_owned(),
        };
        table.styled_row([
            (row["answered_ms"].as_i64().map_or("-".to_owned(), when::show), None),
            (out::text(row, "id"), None),
            (out::text(row, "principal"), None),
            (out::text(row, "tenant"), None),
            (out::text(row, "language"), None),
            (verdict, Some(style)),
            (out::millis_of(row, "total_ms"), None),
            (out::millis_of(row, "cpu_ms"), None),
            (out::bytes_of(row, "memory_bytes"), None),
            (message, Some(TextStyle::Dim)),
        ]);
    }
    table
}

fn stats_table(rows: &[Value]) -> TextTable {
    let mut table = TextTable::new(&["language", "tenant", "verdict", "count", "mean total", "cpu", "most memory"]);
    for row in rows {
        let verdict = out::text(row, "verdict");
        let style = verdict_style(&verdict);
        table.styled_row([
            (out::text(row, "language"), None),
            (out::text(row, "tenant"), None),
            (verdict, Some(style)),
            (out::text(row, "count"), None),
            (out::millis_of(row, "mean_total_ms"), None),
            (out::millis_of(row, "cpu_ms"), None),
            (out::bytes_of(row, "max_memory_bytes"), None),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_why_and_whose_fault_it_was() {
        let row = json!({
            "id": "a", "uid": 7, "principal": "uid:7", "tenant": "T", "language": "python", "verdict": "system_error",
            "blame": "host", "message": "\nThe engine is gone.\nTwice.", "answered_ms": 1_796_053_200_000_i64,
            "total_ms": 12.5, "cpu_ms": 0.0, "memory_bytes": 0,
        });
        let text = table(&[row]).render(false);
        assert!(text.contains("2026-11-30 15:40:00  a   uid:7   T       python    system_error"), "{text}");
        assert!(text.trim_end().ends_with("The engine is gone. (blame: host)"), "{text}");
    }
}
