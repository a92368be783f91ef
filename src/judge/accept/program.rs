//! A program's command line, environment and limits, from its profile and the request.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bad;
use crate::rejected::Rejected;
use crate::work::{CompileStep, ProgramStep, WorkFile};
use config::bounds;
use protocol::limits::LimitError;
use protocol::{Limits, LimitsRequest, Profile};

/// The rejection of a limit out of its range; `prefix` is the path of the limits in the request.
pub(super) fn limit_error(prefix: &str, error: &LimitError) -> Rejected {
    Rejected::Denied {
        field: format!("{prefix}.{}", error.field),
        message: format!("{} was asked for, allowed is {} to {}", error.requested, error.low, error.high),
    }
}

/// Rejects limits that belong to the whole sandbox in the limits of a single step.
pub(super) fn reject_sandbox_limits(field: &str, request: &LimitsRequest) -> Result<(), Rejected> {
    let sandbox_limits = [
        ("memory_bytes", request.memory_bytes.is_some()),
        ("pids", request.pids.is_some()),
        ("cpus", request.cpus.is_some()),
    ];
    match sandbox_limits.into_iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((name, _)) => Err(bad(
            format!("{field}.{name}"),
            "belongs to the whole sandbox; set it in limits (here: cpu_ms, wall_ms, output_bytes, file_bytes)",
        )),
    }
}

/// The entry file: the requested one, the profile's, or the only file. With `is_optional` it need
/// not be among the files.
pub(super) fn entry(
    field: &str,
    requested: Option<&str>,
    is_optional: bool,
    profile: &Profile,
    files: &[WorkFile],
) -> Result<String, Rejected> {
    let has = |path: &str| files.iter().any(|file| file.path == path);
    match requested {
        Some(entry) if has(entry) => Ok(entry.to_owned()),
        Some(entry) => Err(bad(field, format!("{entry:?} is not among the files"))),
        None if has(&profile.entry) => Ok(profile.entry.clone()),
        None if files.len() == 1 => Ok(files[0].path.clone()),
        None if is_optional => Ok(profile.entry.clone()),
        None => Err(bad(field, format!("is missing: there are several files and none is {:?}", profile.entry))),
    }
}

/// A program in a profile's language.
pub(super) struct ProfileProgram<'a> {
    pub profile: &'a Profile,
    pub entry: &'a str,
    pub files: &'a [WorkFile],
    pub env: &'a [(String, String)],
}

impl ProfileProgram<'_> {
    /// The profile's run command.
    pub(super) fn run_command(&self) -> Vec<String> {
        self.expand(&self.profile.run)
    }

    /// The profile's compile step, if it has one. `run` are the limits of the runs in the same
    /// sandbox.
    pub(super) fn compile_step(
        &self,
        request: Option<&LimitsRequest>,
        run: Limits,
    ) -> Result<Option<CompileStep>, Rejected> {
        if self.profile.compile.is_empty() {
            return Ok(None);
        }
        let request = request.copied().unwrap_or_default();
        reject_sandbox_limits("compile_limits", &request)?;
        let limits = self
            .profile
            .base_compile_limits(run)
            .and_then(|base| base.with(&request))
            .map_err(|error| limit_error("compile_limits", &error))?;
        let step = ProgramStep {
            argv: self.expand(&self.profile.compile),
            env: self.env.to_vec(),
            limits,
            stdin: Bytes::new(),
            files: Vec::new(),
        };
        Ok(Some(CompileStep { step, keep: self.profile.keep.clone() }))
    }

    /// Expands `{entry}`, `{stem}` (the entry without its extension) and `{sources}` in a profile's
    /// command. A file name that starts with a hyphen gets `./` in front, so that it is not taken
    /// for an option.
    fn expand(&self, words: &[String]) -> Vec<String> {
        let safe = |path: &str| if path.starts_with('-') { format!("./{path}") } else { path.to_owned() };
        let is_source = |path: &str| {
            let extensions = &self.profile.source_extensions;
            path.rsplit_once('.').is_some_and(|(_, extension)| extensions.iter().any(|known| known == extension))
        };
        let mut argv = Vec::with_capacity(words.len());
        for word in words {
            if word == "{sources}" {
                let paths = self.files.iter().map(|file| file.path.as_str());
                let sources: Vec<String> = paths.filter(|path| is_source(path)).map(safe).collect();
                argv.extend(if sources.is_empty() { vec![safe(self.entry)] } else { sources });
            } else {
                let stem = self.entry.rsplit_once('.').map_or(self.entry, |(stem, _)| stem);
                argv.push(word.replace("{entry}", &safe(self.entry)).replace("{stem}", &safe(stem)));
            }
        }
        argv
    }
}

/// The environment of a program: the profile's with the request's variables in addition or instead.
pub(super) fn environment(
    field: &str,
    base: &BTreeMap<String, String>,
    more: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, Rejected> {
    for (name, value) in more {
        if name.is_empty() || name.contains('=') || name.contains('\0') || value.contains('\0') {
            return Err(bad(
                format!("{field}.{}", name.escape_debug()),
                "a name must not contain '=', and neither part a NUL",
            ));
        }
    }
    let merged: BTreeMap<&String, &String> = base.iter().chain(more).collect();
    if merged.len() > bounds::MAX_ENV {
        return Err(bad(field, format!("at most {} variables", bounds::MAX_ENV)));
    }
    Ok(merged.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Checks the bounds of a command line and its environment.
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
