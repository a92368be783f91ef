//! A problem as its package describes it: kind, limits, tests, groups and validator.

use std::path::{Path, PathBuf};

use yaml_rust2::Yaml;

use crate::constants::Constants;
use crate::grade::{TestGroup, TestScore};
use crate::groups::{GroupScoring, GroupSettings, check_test_keys, test_group, validator_flags};
use crate::limits::{DomjudgeSettings, ProblemLimits};
use crate::problem_test::ProblemTest;
use crate::program::{collect, profile_of_code};
use crate::submissions::SubmissionRules;
use crate::version::FormatVersion;
use crate::{Error, Languages, SourceProgram, file_name, inside, list, scoring, yaml};
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
        let is_new = self.is_scored && self.version == FormatVersion::Of2025 && self.validator.is_some();
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
            let scoring = settings.scoring.unwrap_or_else(|| GroupScoring::default_of(path));
            scoring::apply(&self.root, &mut self.groups[at], &mut self.tests[first_test..], &scoring)?;
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
            input: inside(&self.root, &input)?,
            answer: inside(&self.root, &answer)?,
            files,
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
mod tests {
    use super::*;

    /// A package of these files, with one test and whatever is needed to be read.
    fn read(files: &[(&str, &str)]) -> Result<ProblemPackage, String> {
        let folder = tempfile::tempdir().unwrap();
        let base = [("data/secret/1.in", ""), ("data/secret/1.ans", "")];
        for (name, text) in base.iter().chain(files) {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        ProblemPackage::read(folder.path(), 100, &Languages::new([("python", ["py"]), ("cpp", ["cpp"])]))
            .map_err(|error| error.to_string())
    }

    const NEW: &str = "problem_format_version: 2025-09\nname: x\nuuid: y\n";

    fn new(more: &str) -> String {
        format!("{NEW}{more}")
    }

    #[test]
    fn every_version_is_known_and_others_are_refused() {
        for (version, is) in [
            ("legacy", FormatVersion::Legacy),
            ("legacy-icpc", FormatVersion::Legacy),
            ("2023-07-draft", FormatVersion::Of2023),
            ("2025-09", FormatVersion::Of2025),
            ("draft", FormatVersion::Of2025),
        ] {
            let problem = read(&[("problem.yaml", &format!("problem_format_version: {version}\n"))]).unwrap();
            assert_eq!(problem.version, is, "{version}");
        }
        assert_eq!(read(&[("problem.yaml", "name: x")]).unwrap().version, FormatVersion::Legacy);
        for version in ["2026-01", "2025", "[a]"] {
            let error = read(&[("problem.yaml", &format!("problem_format_version: {version}\n"))]).unwrap_err();
            assert!(error.contains("problem_format_version"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let problem = |text: &str, part: &str| {
            let error = read(&[("problem.yaml", text)]).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        };
        problem(&new("validator_flags: x"), "validator_flags");
        problem(&new("memory: 5"), "memory");
        problem(&new("type: [scoring, pass-fail]"), "exclude");
        problem("type: problem", "problem");
        problem("validation: customised", "customised");
        problem("limits: {mem: 5}", "mem");
        problem("limits: {memory: big}", "limits.memory");
        problem("limits: {memory: 4096}", "limits.memory");
        problem("limits: {output: 0}", "limits.output");
        problem("validator_flags: {a: b}", "validator_flags");
        problem("grading: {custom_scoring: true}", "custom_scoring");
        problem("limits: {time_multipliers: {ac_to_time_limit: 0.5}}", "ac_to_time_limit");
        problem("limits: {time_limit: 1.5, time_resolution: 1}", "time_resolution");
        problem(&new("constants: {a-b: 1}"), "constants");
        problem("- a", "map");
        let group = |version: &str, file: &str, text: &str, part: &str| {
            let error = read(&[("problem.yaml", version), (&format!("data/secret/{file}"), text)]).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        };
        group(&new("type: scoring"), "test_group.yaml", "static_validation_score: 5", "static_validation_score");
        group(&new("type: scoring"), "test_group.yaml", "max_score: many", "max_score");
        group(&new("type: scoring"), "test_group.yaml", "score_aggregation: avg", "score_aggregation");
        group(&new("type: scoring"), "test_group.yaml", "require_pass: secret/9", "require_pass");
        group(&new("type: scoring"), "test_group.yaml", "max_score: unbounded", "unbounded");
        group(&new("type: scoring"), "g/test_group.yaml", "max_score: 5", "secret/1 is in none");
        let groups = |whole: &str, one: &str, two: &str, part: &str| {
            let error = read(&[
                ("problem.yaml", &new("type: scoring")),
                ("data/secret/test_group.yaml", whole),
                ("data/secret/a/test_group.yaml", one),
                ("data/secret/b/test_group.yaml", two),
                ("data/secret/b/1.in", ""),
                ("data/secret/b/1.ans", ""),
            ]);
            assert!(error.as_ref().is_err_and(|error| error.contains(part)), "{part}: {error:?}");
        };
        let bounded = "max_score: 50";
        groups("", bounded, "score_aggregation: sum", "max_score");
        groups("score_aggregation: pass-fail", bounded, "max_score: 5\nscore_aggregation: min", "score_aggregation");
        groups("", "max_score: 5\nscore_aggregation: sum", "max_score: 5\nrequire_pass: secret/a", "require_pass");
        group(&new(""), "test_group.yaml", "max_score: 5", "max_score");
        group(&new(""), "testdata.yaml", "on_reject: break", "test_group.yaml");
        group(&new(""), "1.yaml", "arg: [x]", "arg");
        group("name: x", "test_group.yaml", "args: [x]", "testdata.yaml");
        group("name: x", "testdata.yaml", "grading: custom", "grading");
        group("name: x", "testdata.yaml", "grader_flags: median", "median");
        group("name: x", "testdata.yaml", "on_reject: stop", "on_reject");
        let error = read(&[("domjudge-problem.ini", "special_compare = other\n")]).unwrap_err();
        assert!(error.contains("special_compare"), "{error}");
        let error = read(&[("problem.yaml", &new("")), ("output_validators/v.py", "")]).unwrap_err();
        assert!(error.contains("output_validator"), "{error}");
    }

    #[test]
    fn flags_and_arguments_are_inherited_and_the_problems_flags_stay() {
        let problem = read(&[
            ("problem.yaml", "validator_flags: case_sensitive"),
            ("data/secret/testdata.yaml", "output_validator_flags: float_tolerance 1e-3"),
        ]);
        assert_eq!(problem.unwrap().tests[0].flags, ["case_sensitive", "float_tolerance", "1e-3"]);
        let problem = read(&[
            ("problem.yaml", &new("constants: {n: 7}")),
            ("data/secret/test_group.yaml", "args: [a, '{{n}}']\noutput_validator_args: [x]"),
            ("data/secret/below/2.in", ""),
            ("data/secret/below/2.ans", ""),
            ("data/secret/below/2.yaml", "output_validator_args: [y]\nhint: h"),
            ("data/secret/below/2.files/sub/f.txt", "text"),
        ]);
        let problem = problem.unwrap();
        let of = |name: &str| problem.tests.iter().find(|test| test.name == name).unwrap();
        assert_eq!(
            (of("secret/1").args.clone(), of("secret/1").flags.clone()),
            (vec!["a".into(), "7".into()], vec!["x".into()])
        );
        let below = of("secret/below/2");
        assert_eq!(
            (below.flags.as_slice(), below.args.len(), below.group.as_str()),
            (&["y".to_owned()][..], 2, "secret")
        );
        assert_eq!(below.files[0].0, "sub/f.txt");
    }

    #[test]
    fn tests_are_in_the_order_of_their_names_without_the_ending() {
        let problem = read(&[("problem.yaml", ""), ("data/secret/1-b.in", ""), ("data/secret/1-b.ans", "")]).unwrap();
        let names: Vec<&str> = problem.tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names, ["secret/1", "secret/1-b"]);
    }

    #[test]
    fn a_validator_may_be_a_script_alone_and_have_the_new_name_in_an_old_package() {
        let problem = read(&[("problem.yaml", &new("")), ("output_validator/run", "")]).unwrap();
        assert_eq!(problem.validator.unwrap().entry, "run");
        let problem = read(&[("problem.yaml", "validation: custom"), ("output_validator/v.py", "")]).unwrap();
        assert_eq!(problem.validator.unwrap().entry, "v.py");
        let twice = ["float_tolerance", "1", "float_absolute_tolerance", "2"].map(str::to_owned);
        assert!(read(&[("problem.yaml", &new(""))]).unwrap().default_checker(&twice).is_err());
        assert!(read(&[("problem.yaml", "")]).unwrap().default_checker(&twice).is_ok());
    }

    #[test]
    fn points_of_2025_come_from_max_score() {
        let problem =
            read(&[("problem.yaml", &new("type: scoring")), ("data/secret/2.in", ""), ("data/secret/2.ans", "")]);
        assert_eq!(problem.unwrap().tests[0].accept_points, 50.0);
    }

    #[test]
    fn limits_have_the_formats_defaults() {
        let limits = read(&[("problem.yaml", "limits: {validation_time: 12.5}")]).unwrap().limits;
        assert_eq!((limits.memory_mib, limits.output_mib, limits.validation_time), (2048.0, 8.0, 12.5));
        let limits = read(&[("problem.yaml", "\u{feff}limits:\n  time_limit: 1.5\n")]).unwrap().limits;
        assert_eq!(limits.time, Some(1.5));
        let problem = read(&[("domjudge-problem.ini", "\u{feff}timelimit='3'\nname = \"N\"\n")]).unwrap();
        assert_eq!((problem.limits.time, problem.name.as_str()), (Some(3.0), "N"));
    }
}
