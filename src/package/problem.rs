//! A problem as its package describes it: kind, limits, tests, groups and validator.

use std::path::{Path, PathBuf};

use yaml_rust2::Yaml;

use crate::score::{Aggregation, TestGroup};
use crate::{Error, SourceProgram, file_name, inside, list, yaml};
use protocol::submission::{CheckerKind, CheckerSpec};

/// How deep groups may be nested below `data/`.
const MAX_DEPTH: usize = 8;

#[derive(Debug)]
pub struct ProblemPackage {
    /// The package's folder, with links resolved.
    pub root: PathBuf,
    pub name: String,
    pub is_scored: bool,
    pub is_interactive: bool,
    /// The output validator, or the interactor of an interactive problem.
    pub validator: Option<SourceProgram>,
    /// Arguments of the validator, or flags of the default one.
    pub flags: Vec<String>,
    pub limits: ProblemLimits,
    pub groups: Vec<TestGroup>,
    pub tests: Vec<ProblemTest>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProblemLimits {
    /// CPU time in seconds. `None`: to be derived from the jury's accepted submissions.
    pub time: Option<f64>,
    /// A derived limit is the time of the slowest accepted submission times this.
    pub multiplier: f64,
    /// A derived limit is rounded up to a multiple of this, in seconds.
    pub resolution: f64,
    pub memory_mib: Option<f64>,
    pub output_mib: Option<f64>,
    /// CPU time of the validator in seconds.
    pub validation_time: Option<f64>,
    pub validation_memory_mib: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProblemTest {
    /// Path below `data/` without the extension, such as `secret/1/03`.
    pub name: String,
    /// Path of its group.
    pub group: String,
    pub input: PathBuf,
    pub answer: PathBuf,
    pub args: Vec<String>,
    /// The validator's flags, if they differ from the problem's.
    pub flags: Option<Vec<String>>,
    /// Points if it is accepted.
    pub accept_points: f64,
    /// Points if it is not.
    pub reject_points: f64,
}

/// Settings of a group; subgroups inherit them.
#[derive(Debug, Clone)]
struct GroupSettings {
    aggregation: Aggregation,
    accept_points: f64,
    reject_points: f64,
    flags: Option<Vec<String>>,
    ignores_sample: bool,
}

impl ProblemPackage {
    /// Reads a package of at most `max_tests` tests.
    ///
    /// # Errors
    /// The first file that is missing, wrong or not supported.
    pub fn read(folder: &Path, max_tests: usize) -> Result<ProblemPackage, Error> {
        let root = folder.canonicalize().map_err(|error| Error::new(folder, error))?;
        let path = root.join("problem.yaml");
        let yaml = yaml::read(&path)?.ok_or_else(|| Error::new(&path, "is missing; is this a problem package?"))?;
        let version = yaml["problem_format_version"].as_str();
        let is_new = version.is_some_and(|version| !version.starts_with("legacy"));
        let types = yaml::strings(&yaml["type"]).unwrap_or_default();
        let validation = yaml::strings(&yaml["validation"]).unwrap_or_default();
        let has = |word: &str| types.iter().chain(&validation).any(|found| found == word);
        for unsupported in ["multi-pass", "submit-answer"] {
            if has(unsupported) {
                return Err(Error::new(&path, format!("type: {unsupported} is not supported")));
            }
        }
        let validator =
            if is_new { SourceProgram::read(&root, &root.join("output_validator"))? } else { legacy_validator(&root)? };
        if (has("custom") || has("interactive")) && validator.is_none() {
            let folder = root.join(if is_new { "output_validator" } else { "output_validators" });
            return Err(Error::new(&folder, "is missing, but the problem needs a validator of its own"));
        }
        let mut problem = ProblemPackage {
            name: name(&yaml).unwrap_or_else(|| file_name(&root)),
            is_scored: has("scoring") || has("score"),
            is_interactive: has("interactive"),
            validator: validator.filter(|_| is_new || has("custom")),
            flags: yaml::strings(&yaml["validator_flags"]).unwrap_or_default(),
            limits: limits(&root, &yaml, is_new)?,
            groups: Vec::new(),
            tests: Vec::new(),
            root,
        };
        let settings = GroupSettings {
            aggregation: Aggregation::Sum,
            accept_points: 1.0,
            reject_points: 0.0,
            flags: None,
            ignores_sample: is_new,
        };
        problem.read_group("", &settings, 0, max_tests)?;
        if problem.tests.is_empty() {
            return Err(Error::new(&problem.root.join("data"), "has no tests (NAME.in with NAME.ans)"));
        }
        Ok(problem)
    }

    /// Reads the folder `data/{path}` and everything below it.
    fn read_group(&mut self, path: &str, above: &GroupSettings, depth: usize, max_tests: usize) -> Result<(), Error> {
        let folder = self.root.join("data").join(path);
        if depth > MAX_DEPTH {
            return Err(Error::new(&folder, format!("groups are nested more than {MAX_DEPTH} deep")));
        }
        let settings = group_settings(&folder, above)?;
        let counts = !(path == "sample" && settings.ignores_sample);
        self.groups.push(TestGroup { path: path.to_owned(), aggregation: settings.aggregation, counts });
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        for entry in list(&self.root, &folder)? {
            let name = file_name(&entry);
            if entry.is_dir() {
                // Only these two hold tests; a 2023-07 package has other folders in data/.
                if !path.is_empty() || name == "sample" || name == "secret" {
                    self.read_group(&join(&name), &settings, depth + 1, max_tests)?;
                }
            } else if let Some(stem) = name.strip_suffix(".in").filter(|_| !path.is_empty()) {
                let test = self.read_test(join(stem), path, entry, &settings)?;
                self.tests.push(test);
                if self.tests.len() > max_tests {
                    return Err(Error::new(&folder, format!("there are more than {max_tests} tests")));
                }
            }
        }
        Ok(())
    }

    fn read_test(
        &self,
        name: String,
        group: &str,
        input: PathBuf,
        settings: &GroupSettings,
    ) -> Result<ProblemTest, Error> {
        let answer = input.with_extension("ans");
        if !answer.is_file() {
            return Err(Error::new(&answer, format!("is missing next to {}", file_name(&input))));
        }
        let own = yaml::read(&input.with_extension("yaml"))?.unwrap_or(Yaml::Null);
        let own_flags = [&own["output_validator_args"], &own["output_validator_flags"]];
        Ok(ProblemTest {
            name,
            group: group.to_owned(),
            input,
            answer: inside(&self.root, &answer)?,
            args: yaml::strings(&own["args"]).unwrap_or_default(),
            flags: own_flags.into_iter().find_map(yaml::strings).or(settings.flags.clone()),
            accept_points: settings.accept_points,
            reject_points: settings.reject_points,
        })
    }

    /// The checker that does what the format's default validator does with these flags.
    ///
    /// # Errors
    /// A flag is unknown, or a combination is not supported.
    pub fn default_checker(&self, flags: &[String]) -> Result<CheckerSpec, Error> {
        let path = self.root.join("problem.yaml");
        let mut checker = CheckerSpec { kind: CheckerKind::Tokens, case_insensitive: true, ..CheckerSpec::default() };
        let mut rest = flags.iter().map(String::as_str);
        while let Some(flag) = rest.next() {
            let mut tolerance = || {
                let number = rest.next().and_then(|text| text.parse::<f64>().ok());
                number.ok_or_else(|| Error::new(&path, format!("{flag}: expected a number after it")))
            };
            match flag {
                "case_sensitive" => checker.case_insensitive = false,
                "space_change_sensitive" => checker.kind = CheckerKind::Exact,
                "float_tolerance" => {
                    let number = Some(tolerance()?);
                    (checker.absolute, checker.relative) = (number, number);
                }
                "float_absolute_tolerance" => checker.absolute = Some(tolerance()?),
                "float_relative_tolerance" => checker.relative = Some(tolerance()?),
                other => return Err(Error::new(&path, format!("the default validator has no flag {other:?}"))),
            }
        }
        if checker.absolute.or(checker.relative).is_some() {
            if checker.kind == CheckerKind::Exact {
                let reason = "space_change_sensitive together with a tolerance is not supported";
                return Err(Error::new(&path, reason));
            }
            checker.kind = CheckerKind::Float;
        }
        Ok(checker)
    }
}

/// The problem's name: as it is, in English, or in the first language.
fn name(yaml: &Yaml) -> Option<String> {
    let name = &yaml["name"];
    let translated = || name["en"].as_str().or_else(|| name.as_hash()?.values().next()?.as_str());
    name.as_str().or_else(translated).map(str::to_owned)
}

fn limits(root: &Path, yaml: &Yaml, is_new: bool) -> Result<ProblemLimits, Error> {
    let limits = &yaml["limits"];
    let get = |key: &str| yaml::number(&limits[key]).filter(|number| *number > 0.0);
    // The defaults are those of the two formats.
    let multiplier = if is_new {
        yaml::number(&limits["time_multipliers"]["ac_to_time_limit"]).unwrap_or(2.0)
    } else {
        get("time_multiplier").unwrap_or(5.0)
    };
    Ok(ProblemLimits {
        time: get("time_limit").or(time_limit_file(root)?),
        multiplier,
        resolution: get("time_resolution").unwrap_or(1.0),
        memory_mib: get("memory"),
        output_mib: get("output"),
        validation_time: get("validation_time"),
        validation_memory_mib: get("validation_memory"),
    })
}

/// The time limit in a file next to problem.yaml, as Kattis and DOMjudge write it.
fn time_limit_file(root: &Path) -> Result<Option<f64>, Error> {
    let seconds = |path: &Path, text: &str| {
        let number = text.trim().trim_matches(['\'', '"']).parse::<f64>().ok();
        number
            .filter(|number| *number > 0.0)
            .ok_or_else(|| Error::new(path, format!("expected a positive number of seconds, got {text:?}")))
    };
    let kattis = root.join(".timelimit");
    if let Ok(text) = std::fs::read_to_string(&kattis) {
        return seconds(&kattis, &text).map(Some);
    }
    let domjudge = root.join("domjudge-problem.ini");
    let Ok(text) = std::fs::read_to_string(&domjudge) else { return Ok(None) };
    let mut settings = text.lines().filter_map(|line| line.split_once('='));
    let limit = settings.find(|(key, _)| key.trim() == "timelimit");
    limit.map(|(_, value)| seconds(&domjudge, value.trim())).transpose()
}

/// The settings in a folder's testdata.yaml (legacy) or test_group.yaml (2023-07).
fn group_settings(folder: &Path, above: &GroupSettings) -> Result<GroupSettings, Error> {
    let mut settings = above.clone();
    if let Some(yaml) = yaml::read(&folder.join("testdata.yaml"))? {
        settings.accept_points = yaml::number(&yaml["accept_score"]).unwrap_or(settings.accept_points);
        settings.reject_points = yaml::number(&yaml["reject_score"]).unwrap_or(settings.reject_points);
        for flag in yaml::strings(&yaml["grader_flags"]).unwrap_or_default() {
            match flag.as_str() {
                "sum" => settings.aggregation = Aggregation::Sum,
                "min" => settings.aggregation = Aggregation::Min,
                "max" => settings.aggregation = Aggregation::Max,
                "avg" => settings.aggregation = Aggregation::Avg,
                "ignore_sample" => settings.ignores_sample = true,
                // Flags for the choice of the verdict: assay always takes the first failure.
                _ => {}
            }
        }
        settings.flags = yaml::strings(&yaml["output_validator_flags"]).or(settings.flags);
    }
    if let Some(yaml) = yaml::read(&folder.join("test_group.yaml"))? {
        let scoring = &yaml["scoring"];
        let score = yaml::number(&scoring["score"]);
        settings.aggregation = match (scoring["aggregation"].as_str(), score) {
            (Some("min"), _) => Aggregation::Min,
            (Some("sum"), _) => Aggregation::Sum,
            (Some("pass-fail") | None, Some(score)) => Aggregation::AllOrNothing(score),
            _ => settings.aggregation,
        };
        settings.flags = yaml::strings(&yaml["output_validator_args"]).or(settings.flags);
    }
    Ok(settings)
}

/// The single program in a legacy package's output_validators/.
fn legacy_validator(root: &Path) -> Result<Option<SourceProgram>, Error> {
    let folder = root.join("output_validators");
    match list(root, &folder)?.as_slice() {
        [] => Ok(None),
        [only] => SourceProgram::read(root, only),
        // Several files in the folder itself are one program.
        many if many.iter().all(|path| path.is_file()) => SourceProgram::read(root, &folder),
        _ => Err(Error::new(&folder, "has several validators; only one is supported")),
    }
}
