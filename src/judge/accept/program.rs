//! A program's command line, environment and limits, from its profile and the request.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bad;
use crate::rejected::Rejected;
use crate::work::{CompileStep, ProgramStep, WorkFile};
use config::bounds;
use protocol::limits::LimitError;
use protocol::{Limits, LimitsRequest, Placeholders, Profile};

/// The rejection of a limit out of its range; `prefix` is the path of the limits in the request.
pub(super) fn limit_error(prefix: &str, error: &LimitError) -> Rejected {
    Rejected::Denied {
        field: format!("{prefix}.{}", error.field),
        message: format!("{} was asked for, allowed is {} to {}", error.requested, error.low, error.high),
    }
}

/// Rejects limits that belong to the whole sandbox in the limits of a test.
pub(super) fn reject_sandbox_limits(field: &str, request: &LimitsRequest) -> Result<(), Rejected> {
    reject_shared(field, &[("memory_bytes", request.memory_bytes.is_some())])?;
    reject_pids_and_cpus(field, request)
}

/// Rejects limits that a compile step shares with the runs in its sandbox.
fn reject_pids_and_cpus(field: &str, request: &LimitsRequest) -> Result<(), Rejected> {
    reject_shared(field, &[("pids", request.pids.is_some()), ("cpus", request.cpus.is_some())])
}

fn reject_shared(field: &str, limits: &[(&str, bool)]) -> Result<(), Rejected> {
    match limits.iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((name, _)) => Err(bad(
            format!("{field}.{name}"),
            "belongs to the whole sandbox; set it in limits (here: cpu_ms, wall_ms, output_bytes, file_bytes)",
        )),
    }
}

/// The entry file: the requested one, the profile's, the only file, the only one of the language,
/// or where the start is found, the first of them. With `is_optional` it need not be among the
/// files.
pub(super) fn entry(
    field: &str,
    requested: Option<&str>,
    is_optional: bool,
    profile: &Profile,
    files: &[WorkFile],
) -> Result<String, Rejected> {
    let has = |path: &str| files.iter().any(|file| file.path == path);
    let ending = |path: &str| path.rsplit_once('.').map(|(_, ending)| ending.to_owned());
    let endings = profile.source_extensions.iter().chain(&profile.extensions).cloned().chain(ending(&profile.entry));
    let endings: Vec<String> = endings.collect();
    let is_program = |file: &&WorkFile| ending(&file.path).is_some_and(|ending| endings.contains(&ending));
    let mut programs = files.iter().filter(is_program);
    let (first, second) = (programs.next(), programs.next());
    match requested {
        Some(entry) if has(entry) => Ok(entry.to_owned()),
        Some(entry) => Err(bad(field, format!("{entry:?} is not among the files"))),
        None if has(&profile.entry) => Ok(profile.entry.clone()),
        None if files.len() == 1 => Ok(files[0].path.clone()),
        None if let Some(first) = first
            && (second.is_none() || profile.finds_start) =>
        {
            Ok(first.path.clone())
        }
        None if is_optional => Ok(profile.entry.clone()),
        None => Err(bad(field, format!("is missing: there are several files and none is {:?}", profile.entry))),
    }
}

/// Whether a file is one of the profile's `{sources}`.
fn is_source(profile: &Profile, path: &str) -> bool {
    let extensions = &profile.source_extensions;
    path.rsplit_once('.').is_some_and(|(_, extension)| extensions.iter().any(|known| known == extension))
}

/// A program in a profile's language.
#[derive(Clone, Copy)]
pub(super) struct ProfileProgram<'a> {
    pub profile: &'a Profile,
    pub entry: &'a str,
    pub files: &'a [WorkFile],
    pub env: &'a [(String, String)],
    /// Options for the compiler.
    pub compile_args: &'a [String],
    /// Options for the interpreter or runtime.
    pub run_args: &'a [String],
}

/// Checks options against the profile's list.
pub(super) fn check_allowed(
    field: &str,
    profile: &Profile,
    allowed: &[String],
    args: &[String],
) -> Result<(), Rejected> {
    let is_allowed = |arg: &String| {
        allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => arg.starts_with(start),
            None => arg == pattern,
        })
    };
    match args.iter().position(|arg| !is_allowed(arg)) {
        None => Ok(()),
        Some(index) => Err(Rejected::Denied {
            field: format!("{field}[{index}]"),
            message: match allowed {
                [] => format!("the profile {} allows none", profile.name),
                _ => format!("the profile {} allows {}", profile.name, allowed.join(" ")),
            },
        }),
    }
}

impl ProfileProgram<'_> {
    /// The profile's run command, for a run with these limits.
    pub(super) fn run_command(&self, limits: &Limits) -> Vec<String> {
        self.expand(&self.profile.run, limits, Profile::RUN_ARGS, self.run_args)
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
        reject_pids_and_cpus("compile_limits", &request)?;
        let limits = self
            .profile
            .base_compile_limits(run)
            .and_then(|base| base.with(&request))
            .map_err(|error| limit_error("compile_limits", &error))?;
        let step = ProgramStep {
            argv: self.expand(&self.profile.compile, &limits, Profile::COMPILE_ARGS, self.compile_args).into(),
            env: self.env.into(),
            limits,
            stdin: Bytes::new(),
            files: Vec::new(),
        };
        Ok(Some(CompileStep { step, keep: self.profile.keep.clone() }))
    }

    /// Expands `{sources}`, the place of the submission's options, and the [`Placeholders`] in a
    /// profile's command.
    fn expand(&self, words: &[String], limits: &Limits, place: &str, options: &[String]) -> Vec<String> {
        let placeholders = Placeholders::new(self.entry, limits.memory_bytes);
        let safe = Placeholders::safe_path;
        let mut argv = Vec::with_capacity(words.len());
        for word in words {
            if word == place {
                argv.extend_from_slice(options);
            } else if word == "{sources}" {
                let paths = self.files.iter().map(|file| file.path.as_str());
                let sources: Vec<String> = paths.filter(|path| is_source(self.profile, path)).map(safe).collect();
                argv.extend(if sources.is_empty() { vec![safe(self.entry)] } else { sources });
            } else {
                argv.push(placeholders.fill(word));
            }
        }
        if !words.iter().any(|word| word == place) {
            argv.splice(1..1, options.iter().cloned());
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
