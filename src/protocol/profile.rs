//! Profiles: how programs of a language are compiled and run. One TOML file each, in
//! `config/profiles`.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::isolation::{IsolationRequest, Relaxation};
use super::limits::{LimitError, Limits, LimitsRequest, Preset};
use super::placeholders::Placeholders;
use super::prewarm::{PrewarmSpec, PrewarmedRuntime};
use super::submission::SuiteFormat;

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
    /// between, as far as `isolation.reuse` allows it. With 1 each submission gets a sandbox of its
    /// own.
    pub reuse: u32,
    /// Ready sandboxes in which the profile's prewarmed runtimes wait.
    pub hot: usize,
}

impl Default for PoolLevels {
    fn default() -> Self {
        PoolLevels { floor: 1, ceiling: 8, max_age_s: 3600, priority: 0, reuse: 200, hot: 2 }
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
/// entry alone if there is none). `{compile_args}` and `{run_args}` stand for the submission's
/// options of that name; without them, the options come after the program's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The file that it was read from, for advice to the operator; empty if it is from elsewhere.
    #[serde(skip)]
    pub file: std::path::PathBuf,
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
    /// Options that a submission may give the compiler: `-O2` is that one, `-D*` all that begin so.
    #[serde(default)]
    pub compile_args: Vec<String>,
    /// Options that a submission may give the interpreter or runtime, as in `compile_args`.
    #[serde(default)]
    pub run_args: Vec<String>,
    /// Files that the compile step makes and the runs need, relative to the box: paths, or patterns
    /// as in a submission's `collect`.
    #[serde(default)]
    pub keep: Vec<String>,
    /// File name extensions of `{sources}`, without the dot.
    #[serde(default)]
    pub source_extensions: Vec<String>,
    /// File name extensions that stand for this language where none is stated, without the dot:
    /// `assay run main.py` runs with the profile that has `py`. Of two profiles with the same one,
    /// neither is chosen.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// The format of its test suites where a command does not say one.
    #[serde(default)]
    pub suite_format: Option<SuiteFormat>,
    /// Whether compiler or runtime find where a program starts: several files need no entry.
    #[serde(default)]
    pub finds_start: bool,
    /// The profile whose sandboxes run its pytest suites: one with the same image, isolation,
    /// runtime and allowances, and a runtime in which the runner waits. Absent, or not such a
    /// profile: its own.
    #[serde(default)]
    pub suites: Option<String>,
    /// Python modules, each with the profile whose runtime has it loaded. Programs that import it
    /// run in a sandbox of that profile while one waits there; what arrives decides whether one
    /// does. It must have the same image, isolation, runtime and allowances, or it is not used.
    #[serde(default)]
    pub imports: BTreeMap<String, String>,
    /// The environment of the program. The submission's variables are added to it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables for a run whose output is read as it comes (`stream` or `stdin_open`, without
    /// tests), so that the program does not keep it back.
    #[serde(default)]
    pub live_env: BTreeMap<String, String>,
    /// The preset that the limits start from.
    #[serde(default)]
    pub preset: Preset,
    /// Limits that differ from the preset's.
    #[serde(default)]
    pub limits: LimitsRequest,
    /// Limits of the compile step that differ from the defaults (10 s of CPU, 30 s of wall time, 1
    /// GiB of memory or the run's if that is more, 1 MiB of output).
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

/// Memory of a compile step where neither profile nor submission says otherwise: compilers need
/// more than most of the programs that they make.
const COMPILE_MEMORY_BYTES: u64 = 1024 * super::limits::MIB;

impl Profile {
    /// The place of the submission's `compile_args` in `compile`.
    pub const COMPILE_ARGS: &str = "{compile_args}";
    /// The place of the submission's `run_args` in `run`.
    pub const RUN_ARGS: &str = "{run_args}";

    /// Whether the sandboxes of two profiles are made alike.
    pub fn is_made_like(&self, other: &Profile) -> bool {
        self.image == other.image
            && self.isolation == other.isolation
            && self.runtime == other.runtime
            && self.allow == other.allow
    }

    /// Whether this profile's programs can run in sandboxes of another one (`imports`).
    pub fn can_run_in(&self, other: &Profile) -> bool {
        self.is_made_like(other) && self.run == other.run && self.env == other.env
    }

    /// The runtimes that wait in the profile's idle sandboxes.
    pub fn prewarmed_runtimes(&self) -> Vec<PrewarmedRuntime> {
        let memory_bytes = self.run_limits().map_or(0, |limits| limits.memory_bytes);
        let placeholders = Placeholders::new(&self.entry, memory_bytes);
        let run: Vec<String> = self.run.iter().filter(|word| *word != Self::RUN_ARGS).cloned().collect();
        self.prewarm.iter().map(|spec| spec.runtime(&run, &placeholders)).collect()
    }

    /// The limits of a run where a submission requests none.
    ///
    /// # Errors
    /// A limit of the profile that is out of range.
    pub fn run_limits(&self) -> Result<Limits, LimitError> {
        self.preset.limits().with(&self.limits)
    }

    /// Memory that the profile's compile step may use by default, in bytes; 0 without one.
    pub fn compile_memory_bytes(&self) -> u64 {
        let limits = self.run_limits().and_then(|run| self.base_compile_limits(run));
        if self.compile.is_empty() { 0 } else { limits.map_or(0, |limits| limits.memory_bytes) }
    }

    /// The limits of the compile step where a submission requests none: the run's processes and CPU
    /// share, which belong to the sandbox, but more time and memory.
    ///
    /// # Errors
    /// A limit of the profile that is out of range.
    pub fn base_compile_limits(&self, run: Limits) -> Result<Limits, LimitError> {
        Limits {
            cpu: Duration::from_secs(10),
            wall: Duration::from_secs(30),
            memory_bytes: run.memory_bytes.max(COMPILE_MEMORY_BYTES),
            output_bytes: super::limits::MIB,
            file_bytes: run.file_bytes.max(64 * super::limits::MIB),
            open_files: run.open_files.max(256),
            ..run
        }
        .with(&self.compile_limits)
    }
}
