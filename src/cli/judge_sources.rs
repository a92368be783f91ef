//! The submissions that `assay judge` judges: found, read, and what is expected of them. What is
//! not a program is listed with the reason, and the rest is judged.

use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use schemars::JsonSchema;
use serde::Serialize;

use super::languages::OfferedLanguages;
use super::{CliError, completions};
use package::{Demand, FormatVersion, ProblemPackage, SourceProgram, StatedResult, file_name};

/// Arguments of `judge`.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// The problem package: a folder or a zip file
    pub problem: PathBuf,
    /// Files, folders with one program each, or folders named after a verdict; by default the
    /// package's submissions/
    pub submissions: Vec<PathBuf>,
    /// CPU time limit in seconds, instead of the package's
    #[arg(long, value_name = "SECONDS")]
    pub time_limit: Option<f64>,
    /// The profile, instead of the one that has the files' endings in its `extensions`
    #[arg(long, short, add = ArgValueCandidates::new(completions::profiles))]
    pub language: Option<String>,
}

/// A submission on disk.
#[derive(Debug)]
pub(super) struct SubmissionSource {
    /// Path below the package's submissions/, or the file's name.
    pub name: String,
    /// The folder that it stands in.
    pub folder: String,
    /// Whether it is one of the package's own.
    pub in_package: bool,
    pub program: SourceProgram,
    /// Acceptable verdicts; `None` if neither folder nor source names any.
    pub verdicts: Option<Vec<&'static str>>,
    /// Points that its source names.
    pub points: Option<f64>,
    /// What submissions.yaml demands.
    pub demands: Vec<Demand>,
}

/// A file or folder that was not judged.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SkippedSubmission {
    /// Path below the package's submissions/, or the file's name.
    pub submission: String,
    /// Why it was not judged.
    pub reason: String,
}

/// Finds and reads submissions.
pub(super) struct SubmissionReader<'a> {
    pub problem: &'a ProblemPackage,
    pub args: &'a JudgeArgs,
    pub languages: OfferedLanguages,
    pub skipped: Vec<SkippedSubmission>,
}

impl SubmissionReader<'_> {
    /// The submissions to judge: those named on the command line, else all of the package.
    pub fn all(&mut self) -> Result<Vec<SubmissionSource>, CliError> {
        let mut paths = Vec::new();
        if self.args.submissions.is_empty() {
            let folder = self.problem.root.join("submissions");
            if !folder.is_dir() {
                return Err(CliError::Usage(format!("{} is missing; name the submissions", folder.display())));
            }
            paths.extend(children(&folder)?.into_iter().filter(|path| path.is_dir()));
        } else {
            paths.extend(self.args.submissions.iter().cloned());
        }
        let mut sources = Vec::new();
        for path in paths {
            let is_verdict = path.is_dir() && package::verdicts_of_folder(&file_name(&path)).is_some();
            // Folders in the package's submissions/ hold submissions, whatever their names.
            let holds_many = is_verdict || (self.args.submissions.is_empty() && path.is_dir());
            for path in if holds_many { children(&path)? } else { vec![path] } {
                sources.extend(self.read(&path)?);
            }
        }
        Ok(sources)
    }

    /// Submissions of the package whose time is a lower bound for the time limit.
    pub fn for_time_limit(&mut self) -> Result<Vec<SubmissionSource>, CliError> {
        let submissions = self.problem.root.join("submissions");
        let folders = match (submissions.is_dir(), self.problem.version) {
            (false, _) => Vec::new(),
            (true, FormatVersion::Legacy) => vec![submissions.join("accepted")],
            (true, _) => children(&submissions)?,
        };
        let mut sources = Vec::new();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            for path in children(folder)? {
                sources.extend(self.read(&path)?);
            }
        }
        sources.retain(|source| self.bounds_time(source));
        Ok(sources)
    }

    fn bounds_time(&self, source: &SubmissionSource) -> bool {
        let is_out = source.demands.iter().any(|demand| demand.tests.is_none() && demand.opts_out_of_time_limit());
        let never_slow = match self.problem.version {
            FormatVersion::Legacy => source.folder == "accepted",
            _ => matches!(source.folder.as_str(), "accepted" | "wrong_answer" | "run_time_error"),
        };
        let by_folder = never_slow && !is_out && !self.problem.rules.replaces_folder(&source.folder);
        by_folder || source.demands.iter().any(Demand::bounds_time)
    }

    /// Reads a submission. `None` if it is not a program; the reason is added to the skipped ones.
    fn read(&mut self, path: &Path) -> Result<Option<SubmissionSource>, CliError> {
        let problem = self.problem;
        let failed = |error: std::io::Error| CliError::cannot_read(path, error);
        let real = path.canonicalize().map_err(failed)?;
        // where it stands counts, not where a link leads
        let place = std::path::absolute(path).map_err(failed)?;
        let parent = place.parent().map_or(place.clone(), |parent| parent.canonicalize().unwrap_or(parent.to_owned()));
        let place = parent.join(file_name(&place));
        let folder = file_name(&parent);
        let name = match place.strip_prefix(problem.root.join("submissions")) {
            Ok(below) => below.display().to_string(),
            Err(_) => file_name(&place),
        };
        let root = match (place.starts_with(&problem.root), real.is_dir()) {
            (true, _) => problem.root.clone(),
            (false, true) => real.clone(),
            (false, false) => real.parent().map_or(real.clone(), Path::to_owned),
        };
        let rule = problem.rules.about(&name);
        let program = match &self.args.language {
            _ if problem.is_submit_answer => SourceProgram::answers(&root, &place)?,
            // With --language, the extension may be unknown.
            Some(language) if real.is_file() => {
                let name = file_name(&place);
                Ok(SourceProgram { language: language.clone(), entry: name.clone(), files: vec![(name, real.clone())] })
            }
            _ => SourceProgram::submission(&root, &place, &self.languages.by_ending, rule.language.as_deref())?,
        };
        let program = program.and_then(|program| self.usable(program, rule.entry));
        let mut program = match program {
            Ok(program) => program,
            Err(reason) => {
                self.skip(name, reason);
                return Ok(None);
            }
        };
        let mut stated = StatedResult::default();
        for (_, file) in program.files.iter().filter(|_| !problem.is_submit_answer) {
            let own = package::stated_result(&std::fs::read(file).unwrap_or_default());
            (stated.verdicts, stated.points) = (stated.verdicts.or(own.verdicts), stated.points.or(own.points));
        }
        if !problem.is_submit_answer {
            problem.add_included(&mut program)?;
        }
        let of_folder = package::verdicts_of_folder(&folder).filter(|_| !problem.rules.replaces_folder(&folder));
        let verdicts = stated.verdicts.or(of_folder.map(<[_]>::to_vec));
        let in_package = self.args.submissions.is_empty();
        let (points, demands) = (stated.points, rule.demands);
        Ok(Some(SubmissionSource { name, folder, in_package, program, verdicts, points, demands }))
    }

    /// The program with the options of the command line and submissions.yaml, if it may be judged.
    fn usable(&self, mut program: SourceProgram, entry: Option<String>) -> Result<SourceProgram, String> {
        if let Some(language) = self.args.language.as_ref().filter(|_| !self.problem.is_submit_answer) {
            program.language.clone_from(language);
        }
        if let Some(entry) = entry.filter(|entry| program.files.iter().any(|(name, _)| name == entry)) {
            program.entry = entry;
        }
        let language = &program.language;
        if !self.languages.names.contains(language) && self.args.language.is_none() {
            return Err(format!("the daemon has no profile {language}"));
        }
        if self.problem.languages.as_ref().is_some_and(|allowed| !allowed.contains(language)) {
            return Err(format!("the problem does not allow {language}"));
        }
        let bytes: u64 = program.files.iter().filter_map(|(_, path)| Some(path.metadata().ok()?.len())).sum();
        match self.problem.limits.code_kib {
            Some(most) if bytes as f64 > most * 1024.0 => {
                Err(format!("its {bytes} bytes are more than limits.code allows ({most} KiB)"))
            }
            _ => Ok(program),
        }
    }

    fn skip(&mut self, submission: String, reason: String) {
        if !self.skipped.iter().any(|known| known.submission == submission) {
            self.skipped.push(SkippedSubmission { submission, reason });
        }
    }
}

/// The entries of a folder, sorted, without hidden ones and the jury's notes.
fn children(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let failed = |error: std::io::Error| CliError::cannot_read(folder, error);
    let all: Result<Vec<PathBuf>, _> =
        std::fs::read_dir(folder).map_err(failed)?.map(|entry| Ok(entry?.path())).collect();
    let mut all = all.map_err(failed)?;
    all.retain(|path| !file_name(path).starts_with('.') && file_name(path) != "submissions.yaml");
    all.sort();
    Ok(all)
}
