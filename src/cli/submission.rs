//! From command line to submission: which language, which files, which limits. What is large becomes a blob.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Map, Value, json};

use super::client::{INLINE_BYTES, RpcClient};
use super::{CliError, completions};

/// What of a submission may stand in its line, before it becomes blobs.
pub(super) const INLINE_BYTES_OF_A_LINE: usize = INLINE_BYTES / 2;

/// What `run` and `submit` take.
#[derive(Debug, Args)]
pub struct SubmissionArgs {
    /// The program's source
    pub file: PathBuf,
    /// The profile; by default the file's ending says it (py, c, cpp, java, js, ts, go, rs, ...)
    #[arg(long, short, add = ArgValueCandidates::new(completions::profiles))]
    pub language: Option<String>,
    /// The program's standard input; by default this command's own, unless that is a terminal
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// More files to put beside it
    #[arg(long = "with", value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Environment of the program
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Where limits start from
    #[arg(long, value_parser = PRESETS)]
    pub preset: Option<String>,
    /// Limits, such as cpu_ms=500,memory_bytes=64M
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',')]
    pub limits: Vec<String>,
    /// CPU time in milliseconds
    #[arg(long)]
    pub cpu_ms: Option<u64>,
    /// Wall time in milliseconds
    #[arg(long)]
    pub wall_ms: Option<u64>,
    /// Memory, such as 128M
    #[arg(long, value_name = "SIZE", alias = "memory")]
    pub memory_bytes: Option<String>,
    /// Processes and threads
    #[arg(long)]
    pub pids: Option<u64>,
    /// CPU share; 1.0 is one CPU
    #[arg(long)]
    pub cpus: Option<f64>,
    /// Output, such as 1M
    #[arg(long, value_name = "SIZE", alias = "output")]
    pub output_bytes: Option<String>,
    /// The largest file, such as 16M
    #[arg(long, value_name = "SIZE")]
    pub file_bytes: Option<String>,
    /// Cut output at its limit instead of ending the run
    #[arg(long)]
    pub truncate_output: bool,
    /// Whom to act for
    #[arg(long)]
    pub tenant: Option<String>,
    /// How to be kept apart
    #[arg(long, value_parser = ["auto", "cell", "split"])]
    pub isolation: Option<String>,
    /// An id of your own: the same id answers the same report
    #[arg(long)]
    pub id: Option<String>,
    /// The program's arguments
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// A submission that is read and checked, but whose large parts are not yet with the daemon.
#[derive(Debug)]
pub struct Draft {
    value: Value,
    files: Vec<(String, Vec<u8>, u32)>,
    stdin: Option<Vec<u8>>,
}

/// The sets of limits that there are.
pub(super) const PRESETS: [&str; 3] = ["judge", "lesson", "agent"];

/// Nothing says it.
pub(super) fn no_language(file: &Path) -> CliError {
    let file = file.display();
    CliError::Usage(format!("cannot tell the language of {file}: say --language; `assay profiles` lists them"))
}

/// The language that a file's ending says.
pub fn language_of(file: &Path) -> Option<&'static str> {
    match file.extension()?.to_str()? {
        "py" => Some("python"),
        "c" => Some("c"),
        "cpp" | "cc" | "cxx" => Some("cpp"),
        "js" | "mjs" | "cjs" => Some("javascript"),
        "sh" | "bash" => Some("bash"),
        "ts" => Some("typescript"),
        "java" => Some("java"),
        "go" => Some("go"),
        "rs" => Some("rust"),
        "rb" => Some("ruby"),
        "php" => Some("php"),
        "pl" => Some("perl"),
        "lua" => Some("lua"),
        "hs" => Some("haskell"),
        "pas" | "pp" => Some("pascal"),
        _ => None,
    }
}

/// `128M` as bytes; K, M and G are powers of 1024.
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

/// Reads everything that the arguments name.
///
/// # Errors
/// A file that cannot be read, a language nobody can tell, a limit that is none.
pub fn draft(args: &SubmissionArgs) -> Result<Draft, CliError> {
    let usage = |text: String| Err(CliError::Usage(text));
    let language = match args.language.as_deref().or_else(|| language_of(&args.file)) {
        Some(language) => language.to_owned(),
        None => return Err(no_language(&args.file)),
    };
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
            return usage(format!("--env {pair}: expected NAME=VALUE"));
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
    if args.truncate_output {
        value["truncate_output"] = json!(true);
    }
    let limits = limits(args)?;
    if !limits.is_empty() {
        value["limits"] = Value::Object(limits);
    }
    Ok(Draft { value, files, stdin: stdin(args.stdin.as_deref())? })
}

fn limits(args: &SubmissionArgs) -> Result<Map<String, Value>, CliError> {
    let mut limits = Map::new();
    let mut given: Vec<(String, String)> = Vec::new();
    for pair in &args.limits {
        match pair.split_once('=') {
            Some((name, amount)) => given.push((name.trim().to_owned(), amount.trim().to_owned())),
            None => return Err(CliError::Usage(format!("--limits {pair}: expected NAME=VALUE"))),
        }
    }
    let own = [
        ("cpu_ms", args.cpu_ms.map(|n| n.to_string())),
        ("wall_ms", args.wall_ms.map(|n| n.to_string())),
        ("memory_bytes", args.memory_bytes.clone()),
        ("pids", args.pids.map(|n| n.to_string())),
        ("cpus", args.cpus.map(|n| n.to_string())),
        ("output_bytes", args.output_bytes.clone()),
        ("file_bytes", args.file_bytes.clone()),
    ];
    given.extend(own.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), amount?))));
    for (name, amount) in given {
        let parsed = match name.as_str() {
            "cpu_ms" | "wall_ms" | "pids" | "open_files" => amount.parse::<u64>().ok().map(|n| json!(n)),
            "memory_bytes" | "output_bytes" | "file_bytes" => size(&amount).map(|n| json!(n)),
            "cpus" => amount.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| json!(n)),
            _ => {
                return Err(CliError::Usage(format!(
                    "no limit is called {name}: cpu_ms, wall_ms, memory_bytes, pids, cpus, output_bytes, file_bytes, open_files"
                )));
            }
        };
        let Some(parsed) = parsed else {
            return Err(CliError::Usage(format!("{name} cannot be {amount}")));
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

/// Name, content, and whether it may be executed.
pub(super) fn read_file(path: &Path) -> Result<(String, Vec<u8>, u32), CliError> {
    use std::os::unix::fs::PermissionsExt;
    let fail = |error: std::io::Error| CliError::Usage(format!("cannot read {}: {error}", path.display()));
    let data = std::fs::read(path).map_err(fail)?;
    let mode = std::fs::metadata(path).map_err(fail)?.permissions().mode();
    Ok((file_name(path)?, data, if mode & 0o111 == 0 { 0o644 } else { 0o755 }))
}

fn stdin(from: Option<&Path>) -> Result<Option<Vec<u8>>, CliError> {
    let mut data = Vec::new();
    match from {
        Some(path) if path != Path::new("-") => {
            data = std::fs::read(path)
                .map_err(|error| CliError::Usage(format!("cannot read {}: {error}", path.display())))?;
        }
        None if std::io::stdin().is_terminal() => return Ok(None),
        // A closed stdin (a service, a detached job) is an empty one.
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

impl Draft {
    /// The submission, with what is large handed over as blobs.
    ///
    /// # Errors
    /// The daemon refuses a blob.
    pub async fn send_blobs(self, client: &mut RpcClient) -> Result<Value, CliError> {
        let mut value = self.value;
        // All inline parts share one line, so they share one allowance.
        let line =
            client.limit("max_line_bytes").map_or(2 * INLINE_BYTES, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let mut room = INLINE_BYTES.min(line / 2);
        let mut files = Vec::new();
        for (path, data, mode) in self.files {
            let mut file = json!({"path": path});
            if mode != 0o644 {
                file["mode"] = json!(format!("{mode:04o}"));
            }
            put(client, &mut file, "content", data, &mut room).await?;
            files.push(file);
        }
        value["files"] = json!(files);
        if let Some(data) = self.stdin {
            put(client, &mut value, "stdin", data, &mut room).await?;
        }
        Ok(value)
    }
}

/// Puts bytes into a field: as text, as base64 in its sibling, or as a blob.
pub(super) async fn put(
    client: &mut RpcClient,
    into: &mut Value,
    key: &str,
    data: Vec<u8>,
    room: &mut usize,
) -> Result<(), CliError> {
    // JSON writes a control character as six bytes, base64 four for three.
    let escapes = data.iter().filter(|byte| **byte < 0x20 || **byte == b'"' || **byte == b'\\').count();
    let cost = data.len() + escapes.saturating_mul(5).max(data.len() / 3);
    if cost > *room {
        into[key] = json!({"blob": client.put_blob(&data).await?});
        return Ok(());
    }
    *room -= cost;
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

    #[test]
    fn the_ending_says_the_language() {
        assert_eq!(language_of(Path::new("a/b.cc")), Some("cpp"));
        assert_eq!(language_of(Path::new("Makefile")), None);
    }
}
