//! Limits: what a program may use. A request is partial and in JSON units; [`Limits`] is whole and typed.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One mebibyte.
pub const MIB: u64 = 1024 * 1024;

/// The whole set of limits of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time of the process tree.
    pub cpu: Duration,
    /// Wall time.
    pub wall: Duration,
    /// Memory of the program, its files on tmpfs included, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// CPU share; 1.0 is one CPU.
    pub cpus: f64,
    /// stdout and stderr together, in bytes.
    pub output_bytes: u64,
    /// The largest file the program may write, in bytes.
    pub file_bytes: u64,
    /// Open file descriptors.
    pub open_files: u32,
}

/// A partial set of limits as it stands in JSON and in profiles. Absent fields keep what was there before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsRequest {
    /// CPU time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Wall time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// CPU share; 1.0 is one CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// stdout and stderr together, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// The largest file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// Open file descriptors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
}

/// A named set of limits (DESIGN section 4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// 1 CPU, 256 MiB, 64 processes, 2 s of CPU, 10 s of wall time, 1 MiB of output.
    #[default]
    Judge,
    /// 0.5 CPU, 128 MiB, 50 processes, 10 s, 1 MiB of output (FEATURES S1.4).
    Lesson,
    /// 1 CPU, 512 MiB, 256 processes, 120 s (FEATURES S2.5).
    Agent,
}

impl Preset {
    /// The preset's limits.
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

/// What no submission and no profile may exceed (FEATURES S3.6).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings;

impl Ceilings {
    /// 2 GiB of memory.
    pub const MEMORY_BYTES: u64 = 2048 * MIB;
    /// The least that a runtime can start in.
    pub const MIN_MEMORY_BYTES: u64 = 8 * MIB;
    /// 2.0 CPUs.
    pub const CPUS: f64 = 2.0;
    /// The least share that still makes progress: 0.05 of a CPU.
    pub const MIN_CPUS: f64 = 0.05;
    /// One hour, CPU or wall.
    pub const TIME: Duration = Duration::from_secs(3600);
    /// Processes: below the engine's own default of 4096 or so by a wide margin.
    pub const PIDS: u32 = 1024;
    /// Output that one run may keep in the daemon's memory.
    pub const OUTPUT_BYTES: u64 = 64 * MIB;
    /// A file lives on tmpfs, so it cannot be larger than memory.
    pub const FILE_BYTES: u64 = 2048 * MIB;
    /// Open files.
    pub const OPEN_FILES: u32 = 4096;
}

/// A limit that cannot be granted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {requested}, allowed is {low} to {high}")]
pub struct LimitError {
    /// The field's name as it stands in JSON.
    pub field: &'static str,
    /// What was asked for.
    pub requested: String,
    /// The least allowed.
    pub low: String,
    /// The most allowed.
    pub high: String,
}

impl Limits {
    /// These limits with the request's fields in place of their own, checked against [`Ceilings`].
    ///
    /// # Errors
    /// Names the first field that is out of its range.
    pub fn with(mut self, request: &LimitsRequest) -> Result<Limits, LimitError> {
        if let Some(ms) = request.cpu_ms {
            self.cpu = time("cpu_ms", ms)?;
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
    fn the_lesson_preset_is_the_one_of_the_feature_list() {
        let lesson = Preset::Lesson.limits();
        assert_eq!((lesson.memory_bytes, lesson.cpus, lesson.pids), (128 * MIB, 0.5, 50));
        assert_eq!((lesson.wall, lesson.output_bytes), (Duration::from_secs(10), MIB));
    }

    #[test]
    fn a_limit_above_its_ceiling_is_refused_by_name() {
        let request = LimitsRequest { memory_bytes: Some(Ceilings::MEMORY_BYTES + 1), ..Default::default() };
        let error = Preset::Judge.limits().with(&request).unwrap_err();
        assert_eq!(error.field, "memory_bytes");
        let request = LimitsRequest { cpus: Some(f64::NAN), ..Default::default() };
        assert_eq!(Preset::Judge.limits().with(&request).unwrap_err().field, "cpus");
    }

    #[test]
    fn absent_fields_keep_the_preset() {
        let request = LimitsRequest { cpu_ms: Some(5), ..Default::default() };
        let limits = Preset::Judge.limits().with(&request).unwrap();
        assert_eq!(limits.cpu, Duration::from_millis(5));
        assert_eq!(limits.memory_bytes, 256 * MIB);
    }
}
