//! The ICPC problem package, legacy and 2023-07: what of it judging needs, read and checked before anything is judged.
//!
//! ```text
//!  problem.yaml      kind, limits, validation, flags          .timelimit, domjudge-problem.ini   the time limit, in seconds
//!  data/sample, data/secret[/group...]   NAME.in with NAME.ans, NAME.yaml with args   testdata.yaml, test_group.yaml
//!  output_validators/NAME, output_validator   a program in one of our languages
//!  submissions/VERDICT/...
//! ```
//!
//! Nothing outside the package is read: a link that leads out of it is an error.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use yaml_rust2::Yaml;

use super::score::{Group, Rule};
use super::yaml;
use crate::CliError;
use crate::submission::language_of;

/// The most tests of a package; the daemon's own bound.
const MOST_TESTS: usize = config::bounds::MAX_TESTS;

/// How deep folders are read.
const MOST_DEEP: usize = 8;

/// A problem.
#[derive(Debug)]
pub(super) struct Problem {
    pub root: PathBuf,
    pub name: String,
    pub is_scored: bool,
    pub is_interactive: bool,
    /// The output validator, or the interactor.
    pub validator: Option<Program>,
    pub flags: Vec<String>,
    pub limits: ProblemLimits,
    pub groups: Vec<Group>,
    pub tests: Vec<Test>,
}

/// Its limits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ProblemLimits {
    /// CPU time in seconds; derived from the jury's solutions when nothing says it.
    pub time: Option<f64>,
    /// The slowest accepted solution's time, times this, is the limit.
    pub multiplier: f64,
    /// What a derived limit is rounded up to.
    pub resolution: f64,
    pub memory_mib: Option<f64>,
    pub output_mib: Option<f64>,
    pub validation_time: Option<f64>,
    pub validation_memory_mib: Option<f64>,
}

/// A test.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Test {
    /// Such as `secret/1/03`.
    pub name: String,
    /// Its group's path.
    pub group: String,
    pub input: PathBuf,
    pub answer: PathBuf,
    pub args: Vec<String>,
    /// The validator's flags, where they differ from the problem's.
    pub flags: Option<Vec<String>>,
    /// Points when it is accepted, and when it is not.
    pub accept: f64,
    pub reject: f64,
}

/// A program of one or several files.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Program {
    pub language: String,
    pub entry: String,
    /// Path in the sandbox, and on disk.
    pub files: Vec<(String, PathBuf)>,
}

fn wrong(path: &Path, why: impl std::fmt::Display) -> CliError {
    CliError::Usage(format!("{}: {why}", path.display()))
}

/// What is said of a group, and of those in it that say nothing else.
#[derive(Debug, Clone)]
struct Says {
    rule: Rule,
    accept: f64,
    reject: f64,
    flags: Option<Vec<String>>,
    ignores_sample: bool,
}

impl Problem {
    /// Reads a package.
    ///
    /// # Errors
    /// The first thing that is missing or wrong, with its file.
    pub fn read(folder: &Path) -> Result<Problem, CliError> {
        let root = folder.canonicalize().map_err(|error| wrong(folder, error))?;
        let path = root.join("problem.yaml");
        let yaml = yaml::read(&path)?.ok_or_else(|| wrong(&path, "is missing; is this a problem package?"))?;
        let is_new = yaml["problem_format_version"].as_str().is_some_and(|version| !version.starts_with("legacy"));
        let kinds = yaml::words(&yaml["type"]).unwrap_or_default();
        let validation = yaml::words(&yaml["validation"]).unwrap_or_default();
        let says = |word: &str| kinds.iter().chain(&validation).any(|said| said == word);
        for unknown in ["multi-pass", "submit-answer"] {
            if says(unknown) {
                return Err(wrong(&path, format!("type: {unknown} is not supported")));
            }
        }
        let validator = match is_new {
            true => one_of(&root, &root.join("output_validator"))?,
            false => legacy_validator(&root)?,
        };
        if (says("custom") || says("interactive")) && validator.is_none() {
            let place = if is_new { "output_validator" } else { "output_validators" };
            return Err(wrong(&root.join(place), "is missing, and the problem has a validator of its own"));
        }
        let validator = validator.filter(|_| is_new || says("custom"));
        let flags = yaml::words(&yaml["validator_flags"]).unwrap_or_default();
        let mut problem = Problem {
            name: name(&yaml).unwrap_or_else(|| file_name(&root)),
            is_scored: says("scoring") || says("score"),
            is_interactive: says("interactive"),
            validator,
            flags,
            limits: limits(&root, &yaml, is_new)?,
            groups: Vec::new(),
            tests: Vec::new(),
            root,
        };
        let says = Says { rule: Rule::Sum, accept: 1.0, reject: 0.0, flags: None, ignores_sample: is_new };
        problem.group("", &says, 0)?;
        if problem.tests.is_empty() {
            return Err(wrong(&problem.root.join("data"), "has no tests: no NAME.in with its NAME.ans"));
        }
        Ok(problem)
    }

    /// A folder below data/.
    fn group(&mut self, path: &str, above: &Says, deep: usize) -> Result<(), CliError> {
        let folder = self.root.join("data").join(path);
        if deep > MOST_DEEP {
            return Err(wrong(&folder, format!("groups are nested more than {MOST_DEEP} deep")));
        }
        let says = says(&folder, above)?;
        let counts = !(path == "sample" && says.ignores_sample);
        self.groups.push(Group { path: path.to_owned(), rule: says.rule, counts });
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        for entry in list(&self.root, &folder)? {
            let name = file_name(&entry);
            if entry.is_dir() {
                // only these two belong to judging; 2023-07 has more beside them
                if !path.is_empty() || name == "sample" || name == "secret" {
                    self.group(&below(&name), &says, deep + 1)?;
                }
            } else if let Some(base) = name.strip_suffix(".in").filter(|_| !path.is_empty()) {
                let answer = folder.join(format!("{base}.ans"));
                if !answer.is_file() {
                    return Err(wrong(&answer, format!("is missing beside {name}")));
                }
                let own = yaml::read(&folder.join(format!("{base}.yaml")))?.unwrap_or(Yaml::Null);
                let own_flags = [&own["output_validator_args"], &own["output_validator_flags"]];
                self.tests.push(Test {
                    name: below(base),
                    group: path.to_owned(),
                    input: entry,
                    answer: inside(&self.root, &answer)?,
                    args: yaml::words(&own["args"]).unwrap_or_default(),
                    flags: own_flags.into_iter().find_map(yaml::words).or(says.flags.clone()),
                    accept: says.accept,
                    reject: says.reject,
                });
                if self.tests.len() > MOST_TESTS {
                    return Err(wrong(&folder, format!("there are more than {MOST_TESTS} tests")));
                }
            }
        }
        Ok(())
    }

    /// The checker, where it is no program.
    ///
    /// # Errors
    /// Flags that the default validator does not have.
    pub fn default_checker(&self, flags: &[String]) -> Result<Value, CliError> {
        let path = self.root.join("problem.yaml");
        let mut checker = json!({ "kind": "tokens", "case_insensitive": true });
        let mut words = flags.iter().map(String::as_str);
        let mut is_float = false;
        while let Some(word) = words.next() {
            let mut tolerance = |keys: &[&str], words: &mut dyn Iterator<Item = &str>| {
                let number = words.next().and_then(|word| word.parse::<f64>().ok());
                let number = number.ok_or_else(|| wrong(&path, format!("{word}: a number must follow")))?;
                keys.iter().for_each(|key| checker[*key] = json!(number));
                checker["kind"] = json!("float");
                is_float = true;
                Ok::<(), CliError>(())
            };
            match word {
                "case_sensitive" => checker["case_insensitive"] = json!(false),
                "space_change_sensitive" => checker["kind"] = json!("exact"),
                "float_tolerance" => tolerance(&["absolute", "relative"], &mut words)?,
                "float_absolute_tolerance" => tolerance(&["absolute"], &mut words)?,
                "float_relative_tolerance" => tolerance(&["relative"], &mut words)?,
                other => return Err(wrong(&path, format!("the default validator has no flag {other:?}"))),
            }
        }
        if is_float && flags.iter().any(|flag| flag == "space_change_sensitive") {
            return Err(wrong(&path, "space_change_sensitive together with a tolerance is not supported"));
        }
        Ok(checker)
    }
}

fn name(yaml: &Yaml) -> Option<String> {
    let name = &yaml["name"];
    let in_english = || name["en"].as_str().or_else(|| name.as_hash()?.values().next()?.as_str());
    name.as_str().or_else(in_english).map(str::to_owned)
}

fn limits(root: &Path, yaml: &Yaml, is_new: bool) -> Result<ProblemLimits, CliError> {
    let said = &yaml["limits"];
    let get = |key: &str| yaml::number(&said[key]).filter(|number| *number > 0.0);
    let multiplier = match is_new {
        true => yaml::number(&said["time_multipliers"]["ac_to_time_limit"]).unwrap_or(2.0),
        false => get("time_multiplier").unwrap_or(5.0),
    };
    Ok(ProblemLimits {
        time: get("time_limit").or(beside(root)?),
        multiplier,
        resolution: get("time_resolution").unwrap_or(1.0),
        memory_mib: get("memory"),
        output_mib: get("output"),
        validation_time: get("validation_time"),
        validation_memory_mib: get("validation_memory"),
    })
}

/// A time limit that stands beside problem.yaml, as Kattis and DOMjudge write it.
fn beside(root: &Path) -> Result<Option<f64>, CliError> {
    let kattis = root.join(".timelimit");
    let seconds = |path: &Path, text: &str| {
        let number = text.trim().trim_matches(['\'', '"']).parse::<f64>().ok();
        number.filter(|number| *number > 0.0).ok_or_else(|| wrong(path, format!("{text:?} are no seconds")))
    };
    if let Ok(text) = std::fs::read_to_string(&kattis) {
        return seconds(&kattis, &text).map(Some);
    }
    let domjudge = root.join("domjudge-problem.ini");
    let Ok(text) = std::fs::read_to_string(&domjudge) else { return Ok(None) };
    let said = text.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == "timelimit");
    said.map(|(_, value)| seconds(&domjudge, value.trim())).transpose()
}

/// What a folder's testdata.yaml (legacy) or test_group.yaml (2023-07) says.
fn says(folder: &Path, above: &Says) -> Result<Says, CliError> {
    let mut says = Says { flags: above.flags.clone(), ..above.clone() };
    if let Some(yaml) = yaml::read(&folder.join("testdata.yaml"))? {
        says.accept = yaml::number(&yaml["accept_score"]).unwrap_or(says.accept);
        says.reject = yaml::number(&yaml["reject_score"]).unwrap_or(says.reject);
        for flag in yaml::words(&yaml["grader_flags"]).unwrap_or_default() {
            match flag.as_str() {
                "sum" => says.rule = Rule::Sum,
                "min" => says.rule = Rule::Min,
                "max" => says.rule = Rule::Max,
                "avg" => says.rule = Rule::Avg,
                "ignore_sample" => says.ignores_sample = true,
                // how a verdict is chosen: ours is always the first
                _ => {}
            }
        }
        says.flags = yaml::words(&yaml["output_validator_flags"]).or(says.flags);
    }
    if let Some(yaml) = yaml::read(&folder.join("test_group.yaml"))? {
        let scoring = &yaml["scoring"];
        let score = yaml::number(&scoring["score"]);
        says.rule = match (scoring["aggregation"].as_str(), score) {
            (Some("min"), _) => Rule::Min,
            (Some("sum"), _) => Rule::Sum,
            (Some("pass-fail") | None, Some(score)) => Rule::AllOrNothing(score),
            _ => says.rule,
        };
        says.flags = yaml::words(&yaml["output_validator_args"]).or(says.flags);
    }
    Ok(says)
}

/// The path without links, when it is inside the package.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, CliError> {
    let real = path.canonicalize().map_err(|error| wrong(path, error))?;
    match real.starts_with(root) {
        true => Ok(real),
        false => Err(wrong(path, "leads out of the package")),
    }
}

/// What is in a folder, in the order of the names; nothing where there is none.
fn list(root: &Path, folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(folder, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| wrong(folder, error))?.path();
        inside(root, &path)?;
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The one program that a legacy package's output_validators/ has.
fn legacy_validator(root: &Path) -> Result<Option<Program>, CliError> {
    let folder = root.join("output_validators");
    match list(root, &folder)?.as_slice() {
        [] => Ok(None),
        [one] => one_of(root, one),
        // files side by side are one program
        many if many.iter().all(|path| path.is_file()) => one_of(root, &folder),
        _ => Err(wrong(&folder, "has several validators; only one is supported")),
    }
}

/// A program that is a file, or a folder of files.
pub(super) fn one_of(root: &Path, path: &Path) -> Result<Option<Program>, CliError> {
    if !path.exists() {
        return Ok(None);
    }
    let mut files = Vec::new();
    match path.is_dir() {
        true => collect(root, path, "", &mut files, 0)?,
        false => files.push((file_name(path), inside(root, path)?)),
    }
    if files.iter().any(|(name, _)| name == "build" || name == "run") {
        return Err(wrong(path, "has a build or run script of its own, which is not supported; hand its source in"));
    }
    program(path, files).map(Some)
}

fn collect(
    root: &Path,
    folder: &Path,
    below: &str,
    files: &mut Vec<(String, PathBuf)>,
    deep: usize,
) -> Result<(), CliError> {
    if deep > MOST_DEEP {
        return Err(wrong(folder, format!("is nested more than {MOST_DEEP} deep")));
    }
    for path in list(root, folder)? {
        let name = format!("{below}{}", file_name(&path));
        match path.is_dir() {
            true => collect(root, &path, &format!("{name}/"), files, deep + 1)?,
            false => files.push((name, inside(root, &path)?)),
        }
    }
    Ok(())
}

/// Which language files are in, and which of them is begun with.
pub(super) fn program(path: &Path, files: Vec<(String, PathBuf)>) -> Result<Program, CliError> {
    let known = |(name, _): &&(String, PathBuf)| language_of(Path::new(name)).is_some();
    let sources: Vec<&(String, PathBuf)> = files.iter().filter(known).collect();
    let is_main = |(name, _): &&&(String, PathBuf)| {
        let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
        stem.is_some_and(|stem| stem == "main" || stem == "validate" || stem == "validator")
    };
    let first = sources.iter().find(is_main).or(sources.first());
    let (entry, language) = first
        .and_then(|(name, _)| Some((name.clone(), language_of(Path::new(name))?.to_owned())))
        .ok_or_else(|| wrong(path, "has no source in a language that is known by its ending"))?;
    Ok(Program { language, entry, files })
}
