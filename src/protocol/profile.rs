//! A profile: the recipe for a language. One TOML file each, in `config/profiles`.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::isolation::{IsolationRequest, Relaxation};
use super::limits::{LimitError, Limits, LimitsRequest, Preset};
use super::prewarm::PrewarmSpec;

/// How many sandboxes a pool keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolLevels {
    /// Sandboxes kept ready. 0 makes every start a cold one.
    pub floor: usize,
    /// Sandboxes at most, ready, being made and leased together.
    pub ceiling: usize,
    /// A ready sandbox older than this is replaced, in seconds.
    pub max_age_s: u64,
    /// Among pools that want a sandbox equally, at a start above all, the higher is served first.
    pub priority: i32,
    /// Submissions that one sandbox serves at most, all of the same uid and stated tenant, with an audit in between. 1: each
    /// gets a sandbox of its own.
    pub reuse: u32,
    /// Of the ready ones, how many have their runtimes waiting in them, where the profile has such.
    pub hot: usize,
}

impl Default for PoolLevels {
    fn default() -> Self {
        PoolLevels { floor: 1, ceiling: 8, max_age_s: 3600, priority: 0, reuse: 1, hot: 2 }
    }
}

impl PoolLevels {
    /// [`PoolLevels::max_age_s`] as a duration.
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age_s)
    }
}

/// The recipe for a language.
///
/// In `run` and `compile`, `{entry}` stands for the entry file, `{stem}` for the same without its ending, and `{sources}` for every submitted file whose name
/// ends in one of `source_extensions` (the entry alone when there is none).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name that a submission's `language` says.
    pub name: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// The image's folder below images/.
    pub image: String,
    /// The default entry file.
    pub entry: String,
    /// The run command.
    pub run: Vec<String>,
    /// The compile command, when the language has one.
    #[serde(default)]
    pub compile: Vec<String>,
    /// What the compile step makes and the runs need, relative to the box: paths, or patterns as in a submission's `collect`.
    #[serde(default)]
    pub keep: Vec<String>,
    /// File name endings that `{sources}` collects, without the dot.
    #[serde(default)]
    pub source_extensions: Vec<String>,
    /// The whole environment of the program (with the submission's added).
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The limits to start from.
    #[serde(default)]
    pub preset: Preset,
    /// Limits that differ from the preset's.
    #[serde(default)]
    pub limits: LimitsRequest,
    /// Limits of the compile step that differ from the defaults (10 s of CPU, 30 s of wall time, 1 MiB of output).
    #[serde(default)]
    pub compile_limits: LimitsRequest,
    /// How its runs are kept apart.
    #[serde(default)]
    pub isolation: IsolationRequest,
    /// The OCI runtime of its sandboxes; the host's when absent.
    #[serde(default)]
    pub runtime: Option<String>,
    /// System calls that its programs may make beside the usual ones.
    #[serde(default)]
    pub allow: Vec<Relaxation>,
    /// Runtimes that wait in its idle sandboxes. Where its runs are in cells.
    #[serde(default)]
    pub prewarm: Vec<PrewarmSpec>,
    /// The pool's levels.
    #[serde(default)]
    pub pool: PoolLevels,
}

impl Profile {
    /// The limits of a run when a submission asks for nothing.
    ///
    /// # Errors
    /// A limit of the profile that is out of range.
    pub fn run_limits(&self) -> Result<Limits, LimitError> {
        self.preset.limits().with(&self.limits)
    }

    /// The limits of the compile step when a submission asks for nothing: the run's memory, processes and CPU share
    /// (they belong to the sandbox), but more time.
    ///
    /// # Errors
    /// A limit of the profile that is out of range.
    pub fn base_compile_limits(&self, run: Limits) -> Result<Limits, LimitError> {
        Limits {
            cpu: Duration::from_secs(10),
            wall: Duration::from_secs(30),
            output_bytes: super::limits::MIB,
            file_bytes: run.file_bytes.max(64 * super::limits::MIB),
            open_files: run.open_files.max(256),
            ..run
        }
        .with(&self.compile_limits)
    }
}
