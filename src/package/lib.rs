//! Reader for ICPC problem packages: the formats `legacy`, `2023-07` and `2025-09`.
//!
//! ```text
//!  problem.yaml      version, type, limits, validation, flags, constants
//!  .timelimit, domjudge-problem.ini      time limit in seconds
//!  data/sample, data/secret[/group...]   NAME.in with NAME.ans, NAME.yaml with args, NAME.files
//!                                        testdata.yaml (legacy), test_group.yaml
//!  output_validators/NAME (legacy), output_validator     a program
//!  include/LANGUAGE                      files for every submission
//!  submissions/VERDICT/...               the jury's solutions; submissions.yaml
//! ```
//!
//! A key or file that changes how a problem is judged is honoured, or refused by name.
//!
//! A package is a folder, or a zip that is unpacked into a temporary folder. It is read and checked
//! as a whole before anything is judged. Nothing outside the package is read: a link that leads out
//! of it is an error.

mod archive;
mod constants;
mod expected;
mod glob;
mod grade;
mod groups;
mod languages;
mod limits;
mod problem;
mod problem_test;
mod program;
mod scoring;
mod submissions;
mod version;
mod yaml;

use std::path::{Path, PathBuf};

pub use archive::{UnpackedArchive, unpack};
pub use constants::Constants;
pub use expected::{StatedResult, stated_result, verdicts_of_folder};
pub use grade::{Aggregation, Grade, TestGroup, TestScore, VerdictMode, grades};
pub use languages::{Languages, several};
pub use limits::ProblemLimits;
pub use problem::ProblemPackage;
pub use problem_test::{ProblemTest, TestData};
pub use program::{SCRIPTED, SourceProgram};
pub use submissions::{Demand, SubmissionRule, SubmissionRules};
pub use version::FormatVersion;

/// A file or folder of a package that cannot be read, or is not supported.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct Error {
    pub path: PathBuf,
    pub reason: String,
}

impl Error {
    fn new(path: &Path, reason: impl std::fmt::Display) -> Error {
        Error { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// The last component of a path; empty if there is none.
pub fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The path with links resolved, if it is inside the package.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, Error> {
    let real = path.canonicalize().map_err(|error| Error::new(path, error))?;
    if !real.starts_with(root) {
        return Err(Error::new(path, "leads out of the package"));
    }
    Ok(real)
}

/// The entries of a folder without hidden ones, sorted by name, tests by their names without `.in`.
/// A missing folder has none.
fn list(root: &Path, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::new(folder, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::new(folder, error))?.path();
        inside(root, &path)?;
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort_by_key(|path| {
        let name = file_name(path);
        name.strip_suffix(".in").map(str::to_owned).unwrap_or(name)
    });
    Ok(paths)
}
