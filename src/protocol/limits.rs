//! Resource limits of a program. [`LimitsRequest`] is partial and in JSON units, [`Limits`]
//! complete.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One mebibyte in bytes.
pub const MIB: u64 = 1024 * 1024;

/// The limits of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time of all processes together.
    pub cpu: Duration,
    pub wall: Duration,
    /// Memory of the program, including its files on tmpfs.
    pub memory_bytes: u64,
    /// Processes and threads together.
    pub pids: u32,
    /// CPU share; 1.0 is one CPU.
    pub cpus: f64,
    /// Bytes of stdout and stderr together.
    pub output_bytes: u64,
    /// The largest file the program may write.
    pub file_bytes: u64,
    /// File descriptors of one process.
    pub open_files: u32,
}

/// Limits as given in JSON and in profiles. An absent field keeps the value of the preset or
/// profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsRequest {
    /// CPU time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Wall time in milliseconds. Absent beside a `cpu_ms`: the largest of twice the CPU time, 2 s,
    /// and the value of the preset or profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// CPU share; 1.0 is one CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Bytes of stdout and stderr together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// The largest file the program may write, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// Open file descriptors of one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
}

/// A named set of limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// 1 CPU, 256 MiB, 64 processes, 2 s of CPU, 10 s of wall time, 1 MiB of output.
    #[default]
    Judge,
    /// 0.5 CPU, 128 MiB, 50 processes, 10 s, 1 MiB of output.
    Lesson,
    /// 1 CPU, 512 MiB, 256 processes, 120 s.
    Agent,
}

impl Preset {
    /// The complete limits of the preset.
    pub fn limits(self) -> Limits {
        let judge = Limits {
            cpu: Duration::from_secs(2),
            wall: Duration::from_secs(10),
            memory_bytes: 256 * MIB,
            pids: 64,
            cpus: 1.0,
            output_bytes: MIB,
            file_bytes: 64 * MIB,
            open_files: 256,
        };
        match self {
            Preset::Judge => judge,
            Preset::Lesson => {
                Limits { cpu: Duration::from_secs(10), memory_bytes: 128 * MIB, pids: 50, cpus: 0.5, ..judge }
            }
            Preset::Agent => Limits {
                cpu: Duration::from_secs(120),
                wall: Duration::from_secs(120),
                memory_bytes: 512 * MIB,
                pids: 256,
                ..judge
            },
        }
    }
}

/// The range of limits that any submission or profile may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings;

impl Ceilings {
    /// At most 2 GiB of memory.
    pub const MEMORY_BYTES: u64 = 2048 * MIB;
    /// The least memory that a runtime can start in.
    pub const MIN_MEMORY_BYTES: u64 = 8 * MIB;
    /// At most two CPUs.
    pub const CPUS: f64 = 2.0;
    /// The least share that still makes progress: 0.05 of a CPU.
    pub const MIN_CPUS: f64 = 0.05;
    /// At most one hour of CPU or wall time.
    pub const TIME: Duration = Duration::from_secs(3600);
    /// Processes and threads: far below the engine's own default of about 4096.
    pub const PIDS: u32 = 1024;
    /// Output of one run, which the daemon keeps in memory.
    pub const OUTPUT_BYTES: u64 = 64 * MIB;
    /// Files are on tmpfs, so none can be larger than the memory.
    pub const FILE_BYTES: u64 = 2048 * MIB;
    /// Open file descriptors of one process.
    pub const OPEN_FILES: u32 = 4096;
}

/// A limit outside its allowed range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {requested}, allowed is {low} to {high}")]
pub struct LimitError {
    /// The field's name in JSON.
    pub field: &'static str,
    pub requested: String,
    pub low: String,
    pub high: String,
}

/// The least wall limit that follows from a CPU limit.
const MIN_FOLLOWING_WALL: Duration = Duration::from_secs(2);

impl From<Limits> for LimitsRequest {
    fn from(limits: Limits) -> LimitsRequest {
        LimitsRequest {
            cpu_ms: Some(limits.cpu.as_millis() as u64),
            wall_ms: Some(limits.wall.as_millis() as u64),
            memory_bytes: Some(limits.memory_bytes),
            pids: Some(limits.pids),
            cpus: Some(limits.cpus),
            output_bytes: Some(limits.output_bytes),
            file_bytes: Some(limits.file_bytes),
            open_files: Some(limits.open_files),
        }
    }
}

impl Limits {
    /// Replaces the limits that the request has, each checked against [`Ceilings`]. A CPU limit
    /// alone also raises the wall limit, so that the program can use its CPU time.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn with(mut self, request: &LimitsRequest) -> Result<Limits, LimitError> {
        if let Some(ms) = request.cpu_ms {
            self.cpu = time("cpu_ms", ms)?;
            self.wall = self.wall.max((self.cpu * 2).max(MIN_FOLLOWING_WALL)).min(Ceilings::TIME);
        }
        if let Some(ms) = request.wall_ms {
            self.wall = time("wall_ms", ms)?;
        }
        if let Some(bytes) = request.memory_bytes {
            let (low, high) = (Ceilings::MIN_MEMORY_BYTES, Ceilings::MEMORY_BYTES);
            self.memory_bytes = range("memory_bytes", bytes, low, high)?;
        }
        if let Some(pids) = request.pids {
            self.pids = range("pids", pids, 1, Ceilings::PIDS)?;
        }
        if let Some(cpus) = request.cpus {
            self.cpus = range("cpus", cpus, Ceilings::MIN_CPUS, Ceilings::CPUS)?;
        }
        if let Some(bytes) = request.output_bytes {
            self.output_bytes = range("output_bytes", bytes, 1, Ceilings::OUTPUT_BYTES)?;
        }
        if let Some(bytes) = request.file_bytes {
            self.file_bytes = range("file_bytes", bytes, 0, Ceilings::FILE_BYTES)?;
        }
        if let Some(files) = request.open_files {
            self.open_files = range("open_files", files, 8, Ceilings::OPEN_FILES)?;
        }
        Ok(self)
    }
}

fn time(field: &'static str, ms: u64) -> Result<Duration, LimitError> {
    let high = u64::try_from(Ceilings::TIME.as_millis()).unwrap_or(u64::MAX);
    range(field, ms, 1, high).map(Duration::from_millis)
}

fn range<T: PartialOrd + ToString>(field: &'static str, requested: T, low: T, high: T) -> Result<T, LimitError> {
    if requested >= low && requested <= high {
        return Ok(requested);
    }
    Err(LimitError { field, requested: requested.to_string(), low: low.to_string(), high: high.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lesson_preset_has_its_documented_limits() {
        let lesson = Preset::Lesson.limits();
        assert_eq!((lesson.memory_bytes, lesson.cpus, lesson.pids), (128 * MIB, 0.5, 50));
        assert_eq!((lesson.wall, lesson.output_bytes), (Duration::from_secs(10), MIB));
    }

    #[test]
    fn the_error_for_a_limit_above_its_ceiling_names_the_field() {
        let request = LimitsRequest { memory_bytes: Some(Ceilings::MEMORY_BYTES + 1), ..Default::default() };
        let error = Preset::Judge.limits().with(&request).unwrap_err();
        assert_eq!(error.field, "memory_bytes");
        let request = LimitsRequest { cpus: Some(f64::NAN), ..Default::default() };
        assert_eq!(Preset::Judge.limits().with(&request).unwrap_err().field, "cpus");
    }

    #[test]
    fn the_wall_limit_follows_a_cpu_limit_that_is_given_alone() {
        let wall = |request: LimitsRequest| Preset::Judge.limits().with(&request).unwrap().wall.as_millis();
        let cpu = |ms| LimitsRequest { cpu_ms: Some(ms), ..Default::default() };
        assert_eq!((wall(cpu(30_000)), wall(cpu(5_001)), wall(cpu(1_000))), (60_000, 10_002, 10_000));
        assert_eq!(wall(cpu(3_600_000)), Ceilings::TIME.as_millis());
        assert_eq!(wall(LimitsRequest { wall_ms: Some(500), ..cpu(30_000) }), 500);
        let short = Limits { wall: Duration::from_millis(100), ..Preset::Judge.limits() };
        assert_eq!(short.with(&cpu(10)).unwrap().wall, MIN_FOLLOWING_WALL);
    }

    #[test]
    fn absent_fields_keep_the_preset() {
        let request = LimitsRequest { cpu_ms: Some(5), ..Default::default() };
        let limits = Preset::Judge.limits().with(&request).unwrap();
        assert_eq!(limits.cpu, Duration::from_millis(5));
        assert_eq!(limits.memory_bytes, 256 * MIB);
    }
}
