//! Builds a submission from the command line. Large contents are uploaded as blobs.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Map, Value, json};

use super::client::{INLINE_BYTES, RpcClient};
use super::languages::{OfferedLanguages, stated};
use super::{CliError, completions};

/// Space for inline contents in one line of the protocol; the rest become blobs.
pub(super) const INLINE_BUDGET_BYTES: usize = INLINE_BYTES / 2;

/// Arguments of `run` and `submit`.
#[derive(Debug, Args)]
pub struct SubmissionArgs {
    /// The program's source
    pub file: PathBuf,
    /// The profile; by default the one that has the file's ending in its `extensions`
    #[arg(long, short, add = ArgValueCandidates::new(completions::profiles))]
    pub language: Option<String>,
    /// The program's standard input; by default this command's own, unless that is a terminal
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// Another file to put next to the program
    #[arg(long = "with", value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// An environment variable of the program
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// The set of limits to start from
    #[arg(long, value_parser = PRESETS)]
    pub preset: Option<String>,
    /// Limits, such as cpu_ms=500,memory_bytes=64M
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',')]
    pub limits: Vec<String>,
    /// CPU time limit in milliseconds
    #[arg(long)]
    pub cpu_ms: Option<u64>,
    /// Wall time limit in milliseconds
    #[arg(long)]
    pub wall_ms: Option<u64>,
    /// Memory limit, such as 128M
    #[arg(long, value_name = "SIZE", alias = "memory")]
    pub memory_bytes: Option<String>,
    /// Limit on processes and threads
    #[arg(long)]
    pub pids: Option<u64>,
    /// CPU share; 1.0 is one CPU
    #[arg(long)]
    pub cpus: Option<f64>,
    /// Output limit, such as 1M
    #[arg(long, value_name = "SIZE", alias = "output")]
    pub output_bytes: Option<String>,
    /// File size limit, such as 16M
    #[arg(long, value_name = "SIZE")]
    pub file_bytes: Option<String>,
    /// Truncate output at its limit instead of ending the run
    #[arg(long)]
    pub truncate_output: bool,
    /// The tenant to act for
    #[arg(long)]
    pub tenant: Option<String>,
    /// The isolation between programs
    #[arg(long, value_parser = ["auto", "cell", "split"])]
    pub isolation: Option<String>,
    /// Use a sandbox that serves this submission only
    #[arg(long)]
    pub fresh: bool,
    /// An id of your choice; the same id returns the same report
    #[arg(long)]
    pub id: Option<String>,
    /// The program's arguments
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// A file to send.
#[derive(Debug)]
pub(super) struct LocalFile {
    pub name: String,
    pub data: Vec<u8>,
    /// 0o755 if the file is executable, else 0o644.
    pub mode: u32,
}

/// A checked submission whose contents are not yet sent to the daemon.
#[derive(Debug)]
pub struct SubmissionDraft {
    value: Value,
    /// The program's source, if the daemon's profiles say what its language is.
    unknown: Option<PathBuf>,
    files: Vec<LocalFile>,
    stdin: Option<Vec<u8>>,
}

/// Values of `--preset`.
pub(super) const PRESETS: [&str; 3] = ["judge", "lesson", "agent"];

/// Parses a size such as `128M`; K, M and G are powers of 1024.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads the files and checks the options.
///
/// # Errors
/// Usage: a file cannot be read, the language is unknown, or an option's value is not valid.
pub fn draft(args: &SubmissionArgs) -> Result<SubmissionDraft, CliError> {
    let language = stated(args.language.as_deref(), &args.file)?;
    let entry = file_name(&args.file)?;
    let mut files = vec![read_file(&args.file)?];
    for path in &args.with {
        files.push(read_file(path)?);
    }
    let mut value = json!({"language": language, "entry": entry});
    if !args.args.is_empty() {
        value["args"] = json!(args.args);
    }
    let mut env = Map::new();
    for pair in &args.env {
        let Some((name, content)) = pair.split_once('=') else {
            return Err(CliError::Usage(format!("--env {pair}: expected NAME=VALUE")));
        };
        env.insert(name.to_owned(), json!(content));
    }
    if !env.is_empty() {
        value["env"] = Value::Object(env);
    }
    for (name, content) in
        [("preset", &args.preset), ("tenant", &args.tenant), ("id", &args.id), ("isolation", &args.isolation)]
    {
        if let Some(content) = content {
            value[name] = json!(content);
        }
    }
    for (name, is_set) in [("truncate_output", args.truncate_output), ("fresh", args.fresh)] {
        if is_set {
            value[name] = json!(true);
        }
    }
    let limits = limits(args)?;
    if !limits.is_empty() {
        value["limits"] = Value::Object(limits);
    }
    let unknown = language.is_none().then(|| args.file.clone());
    Ok(SubmissionDraft { value, unknown, files, stdin: stdin(args.stdin.as_deref())? })
}

/// The limits from `--limits` and the options of their own, which win.
fn limits(args: &SubmissionArgs) -> Result<Map<String, Value>, CliError> {
    let mut given: Vec<(String, String)> = Vec::new();
    for pair in &args.limits {
        match pair.split_once('=') {
            Some((name, amount)) => given.push((name.trim().to_owned(), amount.trim().to_owned())),
            None => return Err(CliError::Usage(format!("--limits {pair}: expected NAME=VALUE"))),
        }
    }
    let options = [
        ("cpu_ms", args.cpu_ms.map(|n| n.to_string())),
        ("wall_ms", args.wall_ms.map(|n| n.to_string())),
        ("memory_bytes", args.memory_bytes.clone()),
        ("pids", args.pids.map(|n| n.to_string())),
        ("cpus", args.cpus.map(|n| n.to_string())),
        ("output_bytes", args.output_bytes.clone()),
        ("file_bytes", args.file_bytes.clone()),
    ];
    given.extend(options.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), amount?))));
    let mut limits = Map::new();
    for (name, amount) in given {
        let (parsed, expected) = match name.as_str() {
            "cpu_ms" | "wall_ms" | "pids" | "open_files" => {
                (amount.parse::<u64>().ok().map(|n| json!(n)), "a whole number")
            }
            "memory_bytes" | "output_bytes" | "file_bytes" => (size(&amount).map(|n| json!(n)), "a size such as 64M"),
            "cpus" => (amount.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| json!(n)), "a number"),
            _ => {
                return Err(CliError::Usage(format!(
                    "unknown limit {name}; the limits are cpu_ms, wall_ms, memory_bytes, pids, cpus, output_bytes, \
                     file_bytes, open_files"
                )));
            }
        };
        let Some(parsed) = parsed else {
            return Err(CliError::Usage(format!("{name}: expected {expected}, got {amount:?}")));
        };
        limits.insert(name, parsed);
    }
    Ok(limits)
}

fn file_name(path: &Path) -> Result<String, CliError> {
    path.file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| CliError::Usage(format!("{} has no file name", path.display())))
}

/// Reads a file with its name and mode.
pub(super) fn read_file(path: &Path) -> Result<LocalFile, CliError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error: std::io::Error| CliError::cannot_read(path, error);
    let data = std::fs::read(path).map_err(failed)?;
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    Ok(LocalFile { name: file_name(path)?, data, mode: if mode & 0o111 == 0 { 0o644 } else { 0o755 } })
}

fn stdin(from: Option<&Path>) -> Result<Option<Vec<u8>>, CliError> {
    let mut data = Vec::new();
    match from {
        Some(path) if path != Path::new("-") => {
            data = std::fs::read(path).map_err(|error| CliError::cannot_read(path, error))?;
        }
        None if std::io::stdin().is_terminal() => return Ok(None),
        // A closed stdin (a service, a detached job) counts as empty.
        _ => {
            if let Err(error) = std::io::stdin().lock().read_to_end(&mut data)
                && from.is_some()
            {
                return Err(CliError::Usage(format!("cannot read stdin: {error}")));
            }
        }
    }
    Ok((!data.is_empty()).then_some(data))
}

impl SubmissionDraft {
    /// Finds out the language if none was stated, uploads what is large, and returns the
    /// submission.
    ///
    /// # Errors
    /// The language is unknown, or the daemon refuses a blob.
    pub async fn upload(self, client: &mut RpcClient) -> Result<Value, CliError> {
        let mut value = self.value;
        if let Some(file) = &self.unknown {
            value["language"] = json!(OfferedLanguages::of(client).await?.of_file(file)?);
        }
        // All inline contents are in the same line, so they share one budget.
        let line =
            client.limit("max_line_bytes").map_or(2 * INLINE_BYTES, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let mut budget = INLINE_BYTES.min(line / 2);
        let mut files = Vec::new();
        for file in self.files {
            let mut entry = json!({"path": file.name});
            if file.mode != 0o644 {
                entry["mode"] = json!(format!("{:04o}", file.mode));
            }
            put(client, &mut entry, "content", file.data, &mut budget).await?;
            files.push(entry);
        }
        value["files"] = json!(files);
        if let Some(data) = self.stdin {
            put(client, &mut value, "stdin", data, &mut budget).await?;
        }
        Ok(value)
    }
}

/// Puts bytes into the field `key`: as text, as base64 in `{key}_b64`, or, beyond the budget, as a
/// blob. Inline contents reduce the budget.
pub(super) async fn put(
    client: &mut RpcClient,
    into: &mut Value,
    key: &str,
    data: Vec<u8>,
    budget: &mut usize,
) -> Result<(), CliError> {
    // JSON writes a control character as six bytes; base64 writes four bytes for three.
    let escapes = data.iter().filter(|byte| **byte < 0x20 || **byte == b'"' || **byte == b'\\').count();
    let cost = data.len() + escapes.saturating_mul(5).max(data.len() / 3);
    if cost > *budget {
        into[key] = json!({"blob": client.put_blob(&data).await?});
        return Ok(());
    }
    *budget -= cost;
    match String::from_utf8(data) {
        Ok(text) => into[key] = json!(text),
        Err(bytes) => into[format!("{key}_b64")] = json!(BASE64.encode(bytes.as_bytes())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(
            (size("128M"), size("1k"), size("7"), size("2GiB")),
            (Some(128 << 20), Some(1024), Some(7), Some(2 << 30))
        );
        assert_eq!((size("x"), size(""), size("1T"), size("99999999999G")), (None, None, None, None));
    }
}
