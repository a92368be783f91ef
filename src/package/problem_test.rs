//! A test of a problem as its package describes it.

use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq)]
pub struct ProblemTest {
    /// Path below `data/` without the extension, such as `secret/1/03`.
    pub name: String,
    /// Path of its group.
    pub group: String,
    /// `None`: the static validator judges the code, and the program is not run.
    pub data: Option<TestData>,
    pub args: Vec<String>,
    /// All of the validator's arguments.
    pub flags: Vec<String>,
    /// Points if it is accepted.
    pub accept_points: f64,
    /// Points if it is not.
    pub reject_points: f64,
}

/// The files of a test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestData {
    pub input: PathBuf,
    pub answer: PathBuf,
    /// Files that the program finds next to it: path in the sandbox, and path on disk.
    pub files: Vec<(String, PathBuf)>,
}
