//! Profiles: how programs of a language are compiled and run. One TOML file each, in
//! `config/profiles`.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::isolation::{IsolationRequest, Relaxation};
use super::limits::{LimitError, Limits, LimitsRequest, Preset};
use super::prewarm::{PrewarmSpec, PrewarmedRuntime};

/// How many sandboxes the pool of a profile keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolLevels {
    /// Sandboxes kept ready without demand. With 0 the first start after a quiet time is cold.
    pub floor: usize,
    /// Most sandboxes at a time, whether ready, being created or leased.
    pub ceiling: usize,
    /// Age in seconds at which a ready sandbox is replaced.
    pub max_age_s: u64,
    /// Of pools that need a sandbox equally, the one with the higher priority gets it first.
    pub priority: i32,
    /// Most submissions that one sandbox serves, all of the same uid and tenant, with an audit in
    /// between. With 1 each submission gets a sandbox of its own.
    pub reuse: u32,
    /// Ready sandboxes in which the profile's prewarmed runtimes wait.
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

/// How programs of a language are compiled and run.
///
/// In `run` and `compile`, `{entry}` stands for the entry file, `{stem}` for the entry without its
/// extension, and `{sources}` for every submitted file with one of the `source_extensions` (the
/// entry alone if there is none).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The value of `language` in a submission.
    pub name: String,
    /// One line that describes it in lists.
    #[serde(default)]
    pub description: String,
    /// The image's folder in images/.
    pub image: String,
    /// The default entry file.
    pub entry: String,
    /// The run command.
    pub run: Vec<String>,
    /// The compile command. Empty: programs are not compiled.
    #[serde(default)]
    pub compile: Vec<String>,
    /// Files that the compile step makes and the runs need, relative to the box: paths, or patterns
    /// as in a submission's `collect`.
    #[serde(default)]
    pub keep: Vec<String>,
    /// File name extensions of `{sources}`, without the dot.
    #[serde(default)]
    pub source_extensions: Vec<String>,
    /// The environment of the program. The submission's variables are added to it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The preset that the limits start from.
    #[serde(default)]
    pub preset: Preset,
    /// Limits that differ from the preset's.
    #[serde(default)]
    pub limits: LimitsRequest,
    /// Limits of the compile step that differ from the defaults (10 s of CPU, 30 s of wall time, 1
    /// MiB of output).
    #[serde(default)]
    pub compile_limits: LimitsRequest,
    /// The isolation that its runs require.
    #[serde(default)]
    pub isolation: IsolationRequest,
    /// The OCI runtime of its sandboxes. Absent: the host's default.
    #[serde(default)]
    pub runtime: Option<String>,
    /// System calls that its programs may make in addition to the default ones.
    #[serde(default)]
    pub allow: Vec<Relaxation>,
    /// Runtimes that wait in its idle sandboxes. Only used with isolation `cell`.
    #[serde(default)]
    pub prewarm: Vec<PrewarmSpec>,
    /// How many sandboxes its pool keeps.
    #[serde(default)]
    pub pool: PoolLevels,
}

impl Profile {
    /// The runtimes that wait in the profile's idle sandboxes.
    pub fn prewarmed_runtimes(&self) -> Vec<PrewarmedRuntime> {
        self.prewarm.iter().map(|spec| spec.runtime(&self.run, &self.entry)).collect()
    }

    /// The limits of a run where a submission requests none.
    ///
    /// # Errors
    /// A limit of the profile that is out of range.
    pub fn run_limits(&self) -> Result<Limits, LimitError> {
        self.preset.limits().with(&self.limits)
    }

    /// The limits of the compile step where a submission requests none: the run's memory, processes
    /// and CPU share, which belong to the sandbox, but more time.
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
