//! Limits of a package: `limits` of problem.yaml, and the files that other judges write the time
//! limit to.

use std::path::Path;

use protocol::Ceilings;
use yaml_rust2::Yaml;

use crate::version::FormatVersion;
use crate::{Error, yaml};

const MIB: f64 = 1048576.0;

/// Limits where a package gives none, as the formats propose them.
const MEMORY_MIB: f64 = 2048.0;
const OUTPUT_MIB: f64 = 8.0;
const PROGRAM_SECONDS: f64 = 60.0;

#[derive(Debug, Clone, PartialEq)]
pub struct ProblemLimits {
    /// CPU time in seconds. `None`: to be derived from the jury's accepted submissions.
    pub time: Option<f64>,
    /// A derived limit is the time of the slowest accepted submission times this.
    pub multiplier: f64,
    /// A derived limit is rounded up to a multiple of this, in seconds.
    pub resolution: f64,
    pub memory_mib: f64,
    pub output_mib: f64,
    /// Most bytes of a submission's own files, in KiB.
    pub code_kib: Option<f64>,
    /// CPU time of the compiler in seconds.
    pub compilation_time: f64,
    pub compilation_memory_mib: f64,
    /// CPU time of the validator in seconds.
    pub validation_time: f64,
    pub validation_memory_mib: f64,
    pub validation_output_mib: f64,
    /// How often a program may be run for one test of a multi-pass problem.
    pub passes: u32,
}

const KEYS: [&str; 14] = [
    "time_limit",
    "time_resolution",
    "time_multipliers",
    "time_multiplier",
    "time_safety_margin",
    "memory",
    "output",
    "code",
    "compilation_time",
    "compilation_memory",
    "validation_time",
    "validation_memory",
    "validation_output",
    "validation_passes",
];

impl ProblemLimits {
    pub(crate) fn of(
        root: &Path,
        path: &Path,
        problem: &Yaml,
        version: FormatVersion,
        ini: &DomjudgeSettings,
    ) -> Result<ProblemLimits, Error> {
        let empty = Yaml::Hash(Default::default());
        let map = if yaml::is_absent(&problem["limits"]) { &empty } else { &problem["limits"] };
        if map.as_hash().is_none() {
            return Err(Error::new(path, "limits: expected a map"));
        }
        yaml::only(path, map, &KEYS).map_err(|error| Error::new(path, format!("limits: {}", error.reason)))?;
        let get = |key: &str| -> Result<Option<f64>, Error> {
            let number =
                yaml::number(path, map, key).map_err(|error| Error::new(path, format!("limits.{}", error.reason)))?;
            match number.filter(|number| *number <= 0.0) {
                Some(_) => Err(Error::new(path, format!("limits.{key}: expected a number above 0"))),
                None => Ok(number),
            }
        };
        let at_most = |key: &str, default: f64, most: f64| -> Result<f64, Error> {
            match get(key)? {
                Some(number) if number > most => {
                    Err(Error::new(path, format!("limits.{key}: {number} is more than can be given; at most {most}")))
                }
                number => Ok(number.unwrap_or(default)),
            }
        };
        let multipliers = &map["time_multipliers"];
        if !yaml::is_absent(multipliers) {
            yaml::only(path, multipliers, &["ac_to_time_limit", "time_limit_to_tle"])
                .map_err(|error| Error::new(path, format!("limits.time_multipliers: {}", error.reason)))?;
        }
        let default_multiplier = if version.is_legacy() { 5.0 } else { 2.0 };
        let multiplier = yaml::number(path, multipliers, "ac_to_time_limit")?.or(get("time_multiplier")?);
        for key in ["ac_to_time_limit", "time_limit_to_tle"] {
            if yaml::number(path, multipliers, key)?.is_some_and(|number| number < 1.0) {
                let reason = format!("limits.time_multipliers.{key}: expected a number of at least 1");
                return Err(Error::new(path, reason));
            }
        }
        if let (Some(limit), Some(resolution)) = (get("time_limit")?, get("time_resolution")?)
            && (limit / resolution - (limit / resolution).round()).abs() > 1e-6
        {
            return Err(Error::new(path, "limits.time_limit is not a multiple of limits.time_resolution"));
        }
        let (memory, output) = (Ceilings::MEMORY_BYTES as f64 / MIB, Ceilings::OUTPUT_BYTES as f64 / MIB);
        let seconds = Ceilings::TIME.as_secs_f64() / 3.0;
        let passes = at_most("validation_passes", 2.0, 100.0)?;
        if passes < 2.0 || passes.fract() != 0.0 {
            return Err(Error::new(path, "limits.validation_passes: expected a whole number of at least 2"));
        }
        get("time_safety_margin")?;
        Ok(ProblemLimits {
            time: get("time_limit")?.or(kattis_time_limit(root)?).or(ini.time_limit),
            multiplier: multiplier.filter(|number| *number > 0.0).unwrap_or(default_multiplier),
            resolution: get("time_resolution")?.unwrap_or(1.0),
            memory_mib: at_most("memory", MEMORY_MIB, memory)?,
            output_mib: at_most("output", OUTPUT_MIB, output)?,
            code_kib: get("code")?,
            compilation_time: at_most("compilation_time", PROGRAM_SECONDS, seconds)?,
            compilation_memory_mib: at_most("compilation_memory", MEMORY_MIB, memory)?,
            validation_time: at_most("validation_time", PROGRAM_SECONDS, seconds)?,
            validation_memory_mib: at_most("validation_memory", MEMORY_MIB, memory)?,
            validation_output_mib: at_most("validation_output", OUTPUT_MIB, output)?,
            passes: passes as u32,
        })
    }
}

fn seconds(path: &Path, text: &str) -> Result<f64, Error> {
    let number = text.trim().trim_matches(['\'', '"']).trim().parse::<f64>().ok();
    number
        .filter(|number| *number > 0.0 && number.is_finite())
        .ok_or_else(|| Error::new(path, format!("expected a positive number of seconds, got {text:?}")))
}

/// The time limit next to problem.yaml, as Kattis writes it.
fn kattis_time_limit(root: &Path) -> Result<Option<f64>, Error> {
    let path = root.join(".timelimit");
    if path.is_file() { seconds(&path, &yaml::read_text(&path)?).map(Some) } else { Ok(None) }
}

/// What domjudge-problem.ini says.
#[derive(Debug, Default)]
pub(crate) struct DomjudgeSettings {
    pub exists: bool,
    pub name: Option<String>,
    pub time_limit: Option<f64>,
    pub compare_args: Vec<String>,
    /// Keys that are not known.
    pub unknown: Vec<String>,
}

impl DomjudgeSettings {
    pub(crate) fn read(root: &Path) -> Result<DomjudgeSettings, Error> {
        let path = root.join("domjudge-problem.ini");
        if !path.is_file() {
            return Ok(DomjudgeSettings::default());
        }
        let mut found = DomjudgeSettings { exists: true, ..DomjudgeSettings::default() };
        for line in yaml::read_text(&path)?.lines() {
            let Some((key, value)) = line.split_once('=').filter(|_| !line.trim_start().starts_with([';', '#'])) else {
                continue;
            };
            let (key, value) = (key.trim(), value.trim().trim_matches(['\'', '"']).trim());
            match key {
                "timelimit" => found.time_limit = Some(seconds(&path, value)?),
                "name" => found.name = Some(value.to_owned()),
                "special_compare_args" => {
                    found.compare_args = value.split_whitespace().map(str::to_owned).collect();
                }
                "special_run" | "special_compare" if !value.is_empty() => {
                    let reason = format!("{key} names a program outside the package and is not supported");
                    return Err(Error::new(&path, reason));
                }
                "short-name" | "probid" | "color" | "points" | "externalid" | "allow_submit" | "allow_judge"
                | "special_run" | "special_compare" => {}
                other => found.unknown.push(other.to_owned()),
            }
        }
        Ok(found)
    }
}
