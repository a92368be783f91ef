//! Reader for ICPC problem packages, format `legacy` and `2023-07`.
//!
//! ```text
//!  problem.yaml      type, limits, validation, flags
//!  .timelimit, domjudge-problem.ini      time limit in seconds
//!  data/sample, data/secret[/group...]   NAME.in with NAME.ans, NAME.yaml with args
//!                                        testdata.yaml (legacy), test_group.yaml (2023-07)
//!  output_validators/NAME (legacy), output_validator (2023-07)   a program
//!  submissions/VERDICT/...               the jury's solutions
//! ```
//!
//! A package is a folder, or a zip that is unpacked into a temporary folder. It is read and checked
//! as a whole before anything is judged. Nothing outside the package is read: a link that leads out
//! of it is an error.

mod archive;
mod expected;
mod problem;
mod program;
mod score;
mod yaml;

use std::path::{Path, PathBuf};

pub use archive::{UnpackedArchive, unpack};
pub use expected::{verdicts_of_folder, verdicts_of_source};
pub use problem::{ProblemLimits, ProblemPackage, ProblemTest};
pub use program::{SourceProgram, language_of};
pub use score::{Aggregation, TestGroup, TestScore, points};

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

/// The entries of a folder, sorted by name, without hidden ones. A missing folder has none.
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
    paths.sort();
    Ok(paths)
}
