//! A problem as its package describes it: kind, limits, tests, groups and validator.

use std::path::{Path, PathBuf};

use yaml_rust2::Yaml;

use crate::constants::Constants;
use crate::grade::{TestGroup, TestScore};
use crate::groups::{GroupScoring, GroupSettings, check_test_keys, test_group, validator_flags};
use crate::limits::{DomjudgeSettings, ProblemLimits};
use crate::problem_test::{ProblemTest, TestData};
use crate::program::collect;
use crate::submissions::SubmissionRules;
use crate::version::FormatVersion;
use crate::{Error, Languages, SourceProgram, file_name, inside, list, scoring, yaml};
use protocol::language_code::profile_of_code;
use protocol::submission::{CheckerKind, CheckerSpec};

/// How deep groups may be nested below `data/`.
const MAX_DEPTH: usize = 8;

#[derive(Debug)]
pub struct ProblemPackage {
    /// The package's folder, with links resolved.
    pub root: PathBuf,
    pub name: String,
    pub version: FormatVersion,
    pub is_scored: bool,
    pub is_interactive: bool,
    /// Whether a program is run again with the input that the validator wrote.
    pub is_multi_pass: bool,
    /// Whether a submission is a set of answers and no program.
    pub is_submit_answer: bool,
    /// Whether fewer points are better.
    pub minimizes: bool,
    /// The output validator, or the interactor of an interactive problem.
    pub validator: Option<SourceProgram>,
    /// What judges a submission's code.
    pub static_validator: Option<SourceProgram>,
    /// Arguments of the validator, or flags of the default one, for all tests.
    pub flags: Vec<String>,
    pub limits: ProblemLimits,
    pub groups: Vec<TestGroup>,
    pub tests: Vec<ProblemTest>,
    pub constants: Constants,
    /// What submissions/submissions.yaml says.
    pub rules: SubmissionRules,
    /// Profiles that submissions may use; `None`: all.
    pub languages: Option<Vec<String>>,
    /// Languages of its programs by the endings of their files.
    by_ending: Languages,
    /// What was read and has no effect.
    pub notes: Vec<String>,
}

impl ProblemPackage {
    /// Reads a package of at most `max_tests` tests. `languages` are the profiles of its programs.
    ///
    /// # Errors
    /// The first file or key that is missing, wrong or not supported.
    pub fn read(folder: &Path, max_tests: usize, languages: &Languages) -> Result<ProblemPackage, Error> {
        let root = folder.canonicalize().map_err(|error| Error::new(folder, error))?;
        let path = root.join("problem.yaml");
        let ini = DomjudgeSettings::read(&root)?;
        let yaml = match yaml::read(&path, <[u8]>::to_vec)? {
            Some(yaml) => yaml,
            None if ini.exists => Yaml::Hash(Default::default()),
            None => return Err(Error::new(&path, "is missing; is this a problem package?")),
        };
        let version = FormatVersion::of(&path, &yaml)?;
        let unknown = version.check_keys(&path, &yaml)?;
        let mut notes: Vec<String> = unknown.iter().map(|key| format!("problem.yaml: {key} has no effect")).collect();
        notes.extend(ini.unknown.iter().map(|key| format!("domjudge-problem.ini: {key} has no effect")));
        let kind = Kind::of(&path, &yaml)?;
        let validator = validator(&root, version, languages)?;
        if (kind.has("custom") || kind.has("interactive") || kind.has("multi-pass")) && validator.is_none() {
            let folder = root.join(if version.is_legacy() { "output_validators" } else { "output_validator" });
            return Err(Error::new(&folder, "is missing, but the problem needs a validator of its own"));
        }
        let uses_validator = !version.is_legacy() || kind.has("custom") || kind.has("multi-pass");
        let mut settings = GroupSettings::root(version);
        let minimizes = settings.read_grading(&path, &yaml)?;
        let constants = Constants::of(&path, &yaml)?;
        let rules_path = root.join("submissions/submissions.yaml");
        let rules = match yaml::read(&rules_path, |text| constants.fill(text))? {
            Some(map) => SubmissionRules::of(&rules_path, &map)?,
            None => SubmissionRules::default(),
        };
        let mut flags = yaml::strings(&path, &yaml, "validator_flags")?.unwrap_or_default();
        flags.extend(ini.compare_args.iter().cloned());
        let mut problem = ProblemPackage {
            name: name(&yaml).or(ini.name.clone()).unwrap_or_else(|| file_name(&root)),
            version,
            is_scored: kind.has("scoring") || kind.has("score"),
            is_interactive: kind.has("interactive"),
            is_multi_pass: kind.has("multi-pass"),
            is_submit_answer: kind.has("submit-answer"),
            minimizes,
            validator: validator.filter(|_| uses_validator),
            static_validator: static_validator(&root, version, &kind, languages)?,
            flags,
            limits: ProblemLimits::of(&root, &path, &yaml, version, &ini)?,
            groups: Vec::new(),
            tests: Vec::new(),
            constants,
            rules,
            languages: allowed_languages(&path, &yaml)?,
            by_ending: languages.clone(),
            notes,
            root,
        };
        problem.read_group("", "", &settings, 0, max_tests)?;
        if problem.is_scored && version == FormatVersion::Of2025 {
            scoring::check(&problem.root, &problem.groups, &problem.tests, problem.validator.is_some())?;
        }
        if problem.tests.is_empty() {
            return Err(Error::new(&problem.root.join("data"), "has no tests (NAME.in with NAME.ans)"));
        }
        Ok(problem)
    }

    /// Whether all tests have to be run for the grade, also after one that is rejected.
    pub fn needs_all_tests(&self) -> bool {
        self.is_scored || self.groups.iter().any(|group| !group.stops && self.version.is_legacy())
    }

    /// A mistake of the validator in the points that it gave, as 2025-09 says.
    pub fn wrong_points(&self, scores: &[TestScore]) -> Option<String> {
        let has_validator = self.validator.is_some() || self.static_validator.is_some();
        let is_new = self.is_scored && self.version == FormatVersion::Of2025 && has_validator;
        is_new.then(|| scoring::wrong_points(&self.groups, &self.tests, scores))?
    }

    /// Reads the folder `data/{path}` and everything below it. Tests belong to the group `group`,
    /// unless the folder is a group of its own.
    fn read_group(
        &mut self,
        path: &str,
        group: &str,
        above: &GroupSettings,
        depth: usize,
        max_tests: usize,
    ) -> Result<(), Error> {
        let folder = self.root.join("data").join(path);
        if depth > MAX_DEPTH {
            return Err(Error::new(&folder, format!("groups are nested more than {MAX_DEPTH} deep")));
        }
        let (settings, has_file) = above.of_folder(&folder, path, self.version, &self.constants)?;
        // since 2025-09 only a folder with settings of its own is a group
        let is_group = self.version.has_legacy() || has_file || matches!(path, "" | "sample" | "secret");
        let group = if is_group { path } else { group };
        if settings.scoring.is_some() && !self.is_scored {
            let reason = "max_score, score_aggregation and require_pass are for scoring problems";
            return Err(Error::new(&folder.join("test_group.yaml"), reason));
        }
        let at = self.groups.len();
        if is_group {
            let is_ignored = path == "sample" && settings.ignores_sample;
            let mut added = test_group(path, &settings, !is_ignored);
            // the legacy flag ignores the verdict, too; since 2025-09 samples give no points
            added.judges = !(is_ignored && self.version.has_legacy());
            self.groups.push(added);
        }
        if has_file && depth > 2 && self.is_scored && self.version == FormatVersion::Of2025 {
            let reason = "a group in a group: only folders in data/secret may have a test_group.yaml";
            return Err(Error::new(&folder.join("test_group.yaml"), reason));
        }
        let first_test = self.tests.len();
        self.tests.extend(self.static_test(&folder, group, &settings)?);
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        for entry in list(&self.root, &folder)? {
            let name = file_name(&entry);
            if entry.is_dir() {
                let is_files =
                    name.strip_suffix(".files").is_some_and(|stem| folder.join(format!("{stem}.in")).exists());
                // Only these two hold tests; newer packages have other folders in data/.
                if !is_files && (!path.is_empty() || name == "sample" || name == "secret") {
                    self.read_group(&join(&name), group, &settings, depth + 1, max_tests)?;
                }
            } else if let Some(stem) = name.strip_suffix(".in").filter(|_| !path.is_empty()) {
                let test = self.read_test(join(stem), group, entry, &settings)?;
                self.tests.push(test);
                if self.tests.len() > max_tests {
                    return Err(Error::new(&folder, format!("there are more than {max_tests} tests")));
                }
            }
        }
        let uses_scores = self.is_scored && is_group && !matches!(path, "" | "sample");
        if uses_scores && (self.version == FormatVersion::Of2025 || settings.scoring.is_some()) {
            let static_score = settings.static_test.as_ref().map(|test| test.score);
            let scoring = settings.scoring.unwrap_or_else(|| GroupScoring::default_of(path));
            scoring::apply(&self.root, &mut self.groups[at], &mut self.tests[first_test..], &scoring, static_score)?;
        }
        if let (Some(test), false) = (&settings.static_test, uses_scores) {
            test.check_without_points(&folder, self.is_scored && path != "sample")?;
        }
        Ok(())
    }

    /// The test of the static validator in a group that has one.
    fn static_test(&self, folder: &Path, group: &str, settings: &GroupSettings) -> Result<Option<ProblemTest>, Error> {
        let Some(test) = &settings.static_test else { return Ok(None) };
        if self.static_validator.is_none() {
            let reason = "static_validation_score: the package has no static_validator";
            return Err(Error::new(&folder.join("test_group.yaml"), reason));
        }
        Ok(Some(ProblemTest {
            // no file of a package has a name with a space
            name: format!("{group}/static validation"),
            group: group.to_owned(),
            data: None,
            args: Vec::new(),
            flags: test.args.clone(),
            accept_points: test.score.unwrap_or(settings.accept_points),
            reject_points: settings.reject_points,
        }))
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
        let own_path = input.with_extension("yaml");
        let own = yaml::read(&own_path, |text| self.constants.fill(text))?.unwrap_or(Yaml::Hash(Default::default()));
        check_test_keys(&own_path, &own)?;
        let args = yaml::strings(&own_path, &own, "args")?.unwrap_or_else(|| settings.args.clone());
        let own_flags = validator_flags(&own_path, &own)?.unwrap_or_else(|| settings.flags.clone());
        let mut files = Vec::new();
        let folder = input.with_extension("files");
        if folder.is_dir() {
            collect(&self.root, &folder, "", &mut files, 0)?;
        }
        Ok(ProblemTest {
            name,
            group: group.to_owned(),
            data: Some(TestData { input: inside(&self.root, &input)?, answer: inside(&self.root, &answer)?, files }),
            args,
            flags: [self.flags.as_slice(), &own_flags].concat(),
            accept_points: settings.accept_points,
            reject_points: settings.reject_points,
        })
    }

    /// Adds the package's files for the program's language, in the place of its own.
    ///
    /// # Errors
    /// A link leads out of the package.
    pub fn add_included(&self, program: &mut SourceProgram) -> Result<(), Error> {
        let include = self.root.join("include");
        let is_for = |folder: &PathBuf| profile_of_code(&file_name(folder)) == program.language;
        let folders: Vec<PathBuf> = list(&self.root, &include)?.into_iter().filter(|path| path.is_dir()).collect();
        let folder = folders.iter().find(|folder| is_for(folder));
        let Some(folder) = folder.or(folders.iter().find(|folder| file_name(folder) == "default")) else {
            return Ok(());
        };
        let mut files = Vec::new();
        collect(&self.root, folder, "", &mut files, 0)?;
        program.files.retain(|(name, _)| !files.iter().any(|(other, _)| other == name));
        let has_main = |name: &str| {
            let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
            matches!(stem.as_deref(), Some("main" | "__main__"))
                && self.by_ending.of_name(Path::new(name)).contains(&program.language)
        };
        if let Some((driver, _)) = files.iter().find(|(name, _)| has_main(name)) {
            program.entry.clone_from(driver);
        }
        program.files.extend(files);
        Ok(())
    }

    /// The checker that does what the format's default validator does with these flags.
    ///
    /// # Errors
    /// A flag is unknown, or a combination is not supported.
    pub fn default_checker(&self, flags: &[String]) -> Result<CheckerSpec, Error> {
        let path = self.root.join("problem.yaml");
        let mut checker = CheckerSpec { kind: CheckerKind::Tokens, case_insensitive: true, ..CheckerSpec::default() };
        let has = |flag: &str| flags.iter().filter(|other| *other == flag).count();
        let both = has("float_tolerance");
        if self.version == FormatVersion::Of2025
            && (both > 1
                || ["float_absolute_tolerance", "float_relative_tolerance"].iter().any(|flag| both + has(flag) > 1))
        {
            return Err(Error::new(&path, "output_validator_args: a float tolerance is given twice"));
        }
        let mut rest = flags.iter().map(String::as_str);
        while let Some(flag) = rest.next() {
            let mut tolerance = || {
                let number = rest.next().and_then(|text| text.parse::<f64>().ok()).filter(|number| *number >= 0.0);
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

/// The words of `type` and of the legacy `validation`.
struct Kind(Vec<String>);

impl Kind {
    fn of(path: &Path, yaml: &Yaml) -> Result<Kind, Error> {
        let types = yaml::strings(path, yaml, "type")?.unwrap_or_default();
        let validation = yaml::strings(path, yaml, "validation")?.unwrap_or_default();
        let known = ["pass-fail", "scoring", "multi-pass", "interactive", "submit-answer"];
        if let Some(other) = types.iter().find(|word| !known.contains(&word.as_str())) {
            return Err(Error::new(path, format!("type: {other:?} is not supported; these are: {}", known.join(", "))));
        }
        let known = ["default", "custom", "score", "interactive", "multi-pass"];
        if let Some(other) = validation.iter().find(|word| !known.contains(&word.as_str())) {
            return Err(Error::new(
                path,
                format!("validation: {other:?} is not supported; these are: {}", known.join(", ")),
            ));
        }
        let kind = Kind([types, validation].concat());
        let excluded = [("pass-fail", "scoring"), ("submit-answer", "multi-pass"), ("submit-answer", "interactive")];
        match excluded.into_iter().find(|(one, other)| kind.has(one) && kind.has(other)) {
            Some((one, other)) => Err(Error::new(path, format!("type: {one} and {other} exclude each other"))),
            None => Ok(kind),
        }
    }

    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|found| found == word)
    }
}

/// The problem's name: as it is, in English, or in the first language.
fn name(yaml: &Yaml) -> Option<String> {
    let name = &yaml["name"];
    let translated = || name["en"].as_str().or_else(|| name.as_hash()?.values().next()?.as_str()).map(str::to_owned);
    yaml::text(name).or_else(translated)
}

/// The profiles that submissions may use; `None`: all.
fn allowed_languages(path: &Path, yaml: &Yaml) -> Result<Option<Vec<String>>, Error> {
    let listed = yaml::strings(path, yaml, "languages")?.filter(|list| !list.iter().any(|code| code == "all"));
    Ok(listed.map(|list| list.iter().map(|code| profile_of_code(code).to_owned()).collect()))
}

/// The package's output validator.
fn validator(root: &Path, version: FormatVersion, languages: &Languages) -> Result<Option<SourceProgram>, Error> {
    let (new, old) = (root.join("output_validator"), root.join("output_validators"));
    if !version.has_legacy() && old.exists() {
        return Err(Error::new(&old, "is called output_validator in this version of the format"));
    }
    if old.exists() && (version.is_legacy() || !new.exists()) {
        return legacy_validator(root, &old, languages);
    }
    if version.has_legacy() {
        // drafts kept the folder in the folder; DOMjudge reads the new name in all versions
        return legacy_validator(root, &new, languages);
    }
    SourceProgram::validator(root, &new, languages)
}

/// The package's static validator.
fn static_validator(
    root: &Path,
    version: FormatVersion,
    kind: &Kind,
    languages: &Languages,
) -> Result<Option<SourceProgram>, Error> {
    let folder = root.join("static_validator");
    if version.is_legacy() || !folder.exists() {
        return Ok(None);
    }
    if kind.has("submit-answer") {
        return Err(Error::new(&folder, "answers alone (submit-answer) have no code for a static validator"));
    }
    SourceProgram::validator(root, &folder, languages)
}

/// The single program in a folder of validators.
fn legacy_validator(root: &Path, folder: &Path, languages: &Languages) -> Result<Option<SourceProgram>, Error> {
    match list(root, folder)?.as_slice() {
        [] => Ok(None),
        [only] if only.is_dir() => SourceProgram::validator(root, only, languages),
        // Several files in the folder itself are one program.
        many if many.iter().all(|path| path.is_file()) => SourceProgram::validator(root, folder, languages),
        _ => Err(Error::new(folder, "has several validators; only one is supported")),
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
