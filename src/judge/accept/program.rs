//! A program's command line, environment and limits: what a profile says, what is asked for, and where they may differ.

use std::collections::BTreeMap;

use super::bad;
use crate::rejected::Rejected;
use crate::work::WorkFile;
use config::bounds;
use protocol::limits::LimitError;
use protocol::{Limits, LimitsRequest, Profile};

pub(super) fn limit_error(prefix: &str, error: &LimitError) -> Rejected {
    Rejected::Denied {
        field: format!("{prefix}.{}", error.field),
        message: format!("{} was asked for, allowed is {} to {}", error.given, error.low, error.high),
    }
}

/// The limits of a profile's compile step, beside those of its runs.
pub(super) fn compile_limits(
    request: Option<&LimitsRequest>,
    profile: &Profile,
    run: Limits,
) -> Result<Limits, Rejected> {
    let wrong = |error: LimitError| limit_error("compile_limits", &error);
    let request = request.copied().unwrap_or_default();
    sandbox_wide("compile_limits", &request)?;
    profile.base_compile_limits(run).and_then(|base| base.with(&request)).map_err(wrong)
}

/// Memory, processes and CPU share belong to the sandbox as a whole, so a single step cannot have its own.
pub(super) fn sandbox_wide(field: &str, request: &LimitsRequest) -> Result<(), Rejected> {
    let wide = [
        ("memory_bytes", request.memory_bytes.is_some()),
        ("pids", request.pids.is_some()),
        ("cpus", request.cpus.is_some()),
    ];
    match wide.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => Err(bad(
            format!("{field}.{name}"),
            "belongs to the whole sandbox; set it in limits (here: cpu_ms, wall_ms, output_bytes, file_bytes)",
        )),
    }
}

/// The file to start with: the one that is asked for, the profile's, the only one; with `anything`, a name will do.
pub(super) fn entry(
    field: &str,
    asked: Option<&str>,
    anything: bool,
    profile: &Profile,
    files: &[WorkFile],
) -> Result<String, Rejected> {
    let has = |path: &str| files.iter().any(|file| file.path == path);
    match asked {
        Some(entry) if has(entry) => Ok(entry.to_owned()),
        Some(entry) => Err(bad(field, format!("{entry:?} is not among the files"))),
        None if has(&profile.entry) => Ok(profile.entry.clone()),
        None if files.len() == 1 => Ok(files[0].path.clone()),
        None if anything => Ok(profile.entry.clone()),
        None => Err(bad(field, format!("name it: there are several files and none is {:?}", profile.entry))),
    }
}

/// `{entry}`, `{stem}` (the entry without its ending) and `{sources}` in a profile's command. A file name that begins with a hyphen cannot become an option.
pub(super) fn expand(words: &[String], entry: &str, profile: &Profile, files: &[WorkFile]) -> Vec<String> {
    let safe = |path: &str| if path.starts_with('-') { format!("./{path}") } else { path.to_owned() };
    let mut argv = Vec::with_capacity(words.len());
    for word in words {
        if word == "{sources}" {
            let is_source = |path: &str| {
                path.rsplit_once('.').is_some_and(|(_, ending)| profile.source_extensions.iter().any(|e| e == ending))
            };
            let sources: Vec<String> =
                files.iter().filter(|file| is_source(&file.path)).map(|file| safe(&file.path)).collect();
            argv.extend(if sources.is_empty() { vec![safe(entry)] } else { sources });
        } else {
            let stem = entry.rsplit_once('.').map_or(entry, |(stem, _)| stem);
            argv.push(word.replace("{entry}", &safe(entry)).replace("{stem}", &safe(stem)));
        }
    }
    argv
}

pub(super) fn environment(
    field: &str,
    base: &BTreeMap<String, String>,
    more: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, Rejected> {
    for (name, value) in more {
        if name.is_empty() || name.contains('=') || name.contains('\0') || value.contains('\0') {
            return Err(bad(format!("{field}.{}", name.escape_debug()), "names have no '=', and neither part a NUL"));
        }
    }
    let merged: BTreeMap<&String, &String> = base.iter().chain(more).collect();
    if merged.len() > bounds::MAX_ENV {
        return Err(bad(field, format!("at most {} variables", bounds::MAX_ENV)));
    }
    Ok(merged.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

pub(super) fn check_program(field: &str, argv: &[String], env: &[(String, String)]) -> Result<(), Rejected> {
    if argv.len() > bounds::MAX_ARGS {
        return Err(bad(field, format!("at most {} arguments", bounds::MAX_ARGS)));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(bad(field, "an argument must not contain a NUL"));
    }
    let bytes = argv.iter().map(|word| word.len() + 8).sum::<usize>()
        + env.iter().map(|(name, value)| name.len() + value.len() + 16).sum::<usize>();
    if bytes > bounds::MAX_ARGV_ENV_BYTES {
        let message = format!("arguments and environment together exceed {} bytes", bounds::MAX_ARGV_ENV_BYTES);
        return Err(Rejected::TooLarge { field: field.to_owned(), message });
    }
    Ok(())
}
