//! Settings of groups of tests: `testdata.yaml` of the legacy format, `test_group.yaml` since then.
//! Folders below inherit what they do not set themselves.

use std::path::Path;

use yaml_rust2::Yaml;

use crate::constants::Constants;
use crate::grade::{Aggregation, TestGroup, VerdictMode};
use crate::version::FormatVersion;
use crate::{Error, yaml};

/// Settings of a group.
#[derive(Debug, Clone)]
pub(crate) struct GroupSettings {
    pub aggregation: Aggregation,
    pub verdict_mode: VerdictMode,
    pub accepts_any: bool,
    pub stops: bool,
    pub ignores_sample: bool,
    pub accept_points: f64,
    pub reject_points: f64,
    /// Most and least points that are possible.
    pub range: Option<(f64, f64)>,
    /// Arguments of the submission.
    pub args: Vec<String>,
    /// Arguments of the validator, after the problem's.
    pub flags: Vec<String>,
    /// The group's own test of the static validator; not inherited.
    pub static_test: Option<StaticTest>,
    /// The group's own scoring as 2025-09 has it; not inherited.
    pub scoring: Option<GroupScoring>,
}

/// `static_validation_score` and `static_validator_args`.
#[derive(Debug, Clone)]
pub(crate) struct StaticTest {
    /// Most points; `None` for `pass-fail`.
    pub score: Option<f64>,
    pub args: Vec<String>,
}

/// `max_score`, `score_aggregation` and `require_pass`.
#[derive(Debug, Clone)]
pub(crate) struct GroupScoring {
    /// `None` where it has no bound.
    pub max_score: Option<f64>,
    pub aggregation: ScoreAggregation,
    pub requires: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScoreAggregation {
    PassFail,
    Sum,
    Min,
}

/// Keys that do not change how a submission is judged, or that are read elsewhere.
const WITHOUT_EFFECT: [&str; 7] = [
    "input_validator_args",
    "input_validator_flags",
    "input_visualizer_args",
    "output_visualizer_args",
    "full_feedback",
    "hint",
    "description",
];
const ARGUMENTS: [&str; 3] = ["args", "output_validator_args", "output_validator_flags"];
const LEGACY: [&str; 6] = ["on_reject", "grading", "grader_flags", "accept_score", "reject_score", "range"];
const SCORING: [&str; 3] = ["max_score", "score_aggregation", "require_pass"];
/// The last is that of a draft.
const STATIC: [&str; 3] = ["static_validation_score", "static_validator_args", "static_validation"];

impl GroupSettings {
    /// The settings above all groups.
    pub(crate) fn root(version: FormatVersion) -> GroupSettings {
        GroupSettings {
            aggregation: Aggregation::Sum,
            verdict_mode: VerdictMode::WorstError,
            accepts_any: false,
            stops: version.is_legacy(),
            ignores_sample: !version.is_legacy(),
            accept_points: 1.0,
            reject_points: 0.0,
            range: None,
            args: Vec::new(),
            flags: Vec::new(),
            static_test: None,
            scoring: None,
        }
    }

    /// The deprecated settings of `grading` in a legacy problem.yaml.
    pub(crate) fn read_grading(&mut self, path: &Path, problem: &Yaml) -> Result<bool, Error> {
        let map = &problem["grading"];
        if yaml::is_absent(map) {
            return Ok(false);
        }
        let known = [
            "objective",
            "show_test_data_groups",
            "on_reject",
            "accept_score",
            "reject_score",
            "range",
            "custom_scoring",
        ];
        yaml::only(path, map, &known).map_err(|error| Error::new(path, format!("grading: {}", error.reason)))?;
        if map["custom_scoring"].as_bool() == Some(true) {
            return Err(Error::new(path, "grading.custom_scoring: graders of a package are not supported"));
        }
        self.accept_points = yaml::number(path, map, "accept_score")?.unwrap_or(self.accept_points);
        self.reject_points = yaml::number(path, map, "reject_score")?.unwrap_or(self.reject_points);
        self.range = range(path, &map["range"])?.or(self.range);
        match yaml::text(&map["on_reject"]).as_deref() {
            None => {}
            Some("first_error" | "break") => self.stops = true,
            Some("worst_error" | "grade" | "continue") => self.stops = false,
            Some(other) => return Err(Error::new(path, format!("grading.on_reject: {other:?} is unknown"))),
        }
        match yaml::text(&map["objective"]).as_deref() {
            None | Some("max") => Ok(false),
            Some("min") => Ok(true),
            Some(other) => Err(Error::new(path, format!("grading.objective: expected min or max, got {other:?}"))),
        }
    }

    /// The settings of the folder at `path` below data/, and whether the folder has a file of its
    /// own.
    pub(crate) fn of_folder(
        &self,
        folder: &Path,
        path: &str,
        version: FormatVersion,
        constants: &Constants,
    ) -> Result<(GroupSettings, bool), Error> {
        let mut settings = GroupSettings { scoring: None, static_test: None, ..self.clone() };
        let (old, new) = (folder.join("testdata.yaml"), folder.join("test_group.yaml"));
        let mut has_file = false;
        if let Some(map) = yaml::read(&old, |text| constants.fill(text))? {
            if !version.has_legacy() {
                return Err(Error::new(&old, "is called test_group.yaml in this version of the format"));
            }
            yaml::only(&old, &map, &[&LEGACY[..], &ARGUMENTS, &WITHOUT_EFFECT].concat())?;
            settings.read_legacy(&old, &map, path)?;
            settings.read_arguments(&old, &map)?;
        }
        if let Some(map) = yaml::read(&new, |text| constants.fill(text))? {
            if version.is_legacy() {
                return Err(Error::new(&new, "is called testdata.yaml in the legacy format"));
            }
            has_file = true;
            let mut known = [&ARGUMENTS[..2], &SCORING, &STATIC[..2], &WITHOUT_EFFECT].concat();
            if version.has_legacy() {
                known.extend(["output_validator_flags", "scoring", STATIC[2]]);
            }
            yaml::only(&new, &map, &known)?;
            settings.static_test = StaticTest::of(&new, &map)?;
            settings.read_scoring(&new, &map, path)?;
            settings.read_arguments(&new, &map)?;
        }
        Ok((settings, has_file))
    }

    fn read_legacy(&mut self, path: &Path, map: &Yaml, group: &str) -> Result<(), Error> {
        match yaml::text(&map["grading"]).as_deref() {
            None | Some("default") => {}
            Some(other) => {
                return Err(Error::new(path, format!("grading: {other:?} is not supported, only \"default\"")));
            }
        }
        match yaml::text(&map["on_reject"]).as_deref() {
            None => {}
            Some("break" | "first_error") => self.stops = true,
            Some("continue" | "grade" | "worst_error") => self.stops = false,
            Some(other) => {
                return Err(Error::new(path, format!("on_reject: expected break or continue, got {other:?}")));
            }
        }
        self.accept_points = yaml::number(path, map, "accept_score")?.unwrap_or(self.accept_points);
        self.reject_points = yaml::number(path, map, "reject_score")?.unwrap_or(self.reject_points);
        self.range = range(path, &map["range"])?.or(self.range);
        let Some(flags) = yaml::strings(path, map, "grader_flags")? else { return Ok(()) };
        (self.aggregation, self.verdict_mode, self.accepts_any) = (Aggregation::Sum, VerdictMode::WorstError, false);
        for flag in flags {
            match flag.as_str() {
                "sum" => self.aggregation = Aggregation::Sum,
                "min" => self.aggregation = Aggregation::Min,
                "max" => self.aggregation = Aggregation::Max,
                "avg" => self.aggregation = Aggregation::Avg,
                "worst_error" | "no_errors" => self.verdict_mode = VerdictMode::WorstError,
                "first_error" => self.verdict_mode = VerdictMode::FirstError,
                "always_accept" => self.verdict_mode = VerdictMode::AlwaysAccept,
                "accept_if_any_accepted" => self.accepts_any = true,
                "ignore_sample" if group.is_empty() => self.ignores_sample = true,
                other => return Err(Error::new(path, format!("grader_flags: {other:?} is not supported here"))),
            }
        }
        Ok(())
    }

    fn read_arguments(&mut self, path: &Path, map: &Yaml) -> Result<(), Error> {
        self.args = yaml::strings(path, map, "args")?.unwrap_or(std::mem::take(&mut self.args));
        if let Some(flags) = validator_flags(path, map)? {
            self.flags = flags;
        }
        Ok(())
    }

    fn read_scoring(&mut self, path: &Path, map: &Yaml, group: &str) -> Result<(), Error> {
        let old = &map["scoring"];
        if !yaml::is_absent(old) {
            yaml::only(path, old, &["score", "aggregation"])
                .map_err(|error| Error::new(path, format!("scoring: {}", error.reason)))?;
            let score = yaml::number(path, old, "score")?;
            self.aggregation = match (yaml::text(&old["aggregation"]).as_deref(), score) {
                (Some("min"), _) => Aggregation::Min,
                (Some("sum"), _) => Aggregation::Sum,
                (Some("pass-fail") | None, Some(score)) => Aggregation::AllOrNothing(score),
                (other, _) => {
                    return Err(Error::new(path, format!("scoring: the aggregation {other:?} needs a score")));
                }
            };
        }
        let has_scoring = SCORING.iter().any(|key| !yaml::is_absent(&map[*key]));
        if !has_scoring {
            return Ok(());
        }
        if group == "sample" || group.is_empty() {
            return Err(Error::new(
                path,
                "max_score, score_aggregation and require_pass are for secret and its groups",
            ));
        }
        let max_score = match &map["max_score"] {
            absent if yaml::is_absent(absent) => None,
            Yaml::String(text) if text == "unbounded" => Some(None),
            _ => match yaml::number(path, map, "max_score")? {
                Some(number) if number >= 0.0 => Some(Some(number)),
                _ => return Err(Error::new(path, "max_score: expected a number of at least 0 or \"unbounded\"")),
            },
        };
        let aggregation = match yaml::text(&map["score_aggregation"]).as_deref() {
            None => None,
            Some("pass-fail") => Some(ScoreAggregation::PassFail),
            Some("sum") => Some(ScoreAggregation::Sum),
            Some("min") => Some(ScoreAggregation::Min),
            Some(other) => {
                let reason = format!("score_aggregation: expected pass-fail, sum or min, got {other:?}");
                return Err(Error::new(path, reason));
            }
        };
        let requires = match &map["require_pass"] {
            Yaml::String(name) => vec![name.clone()],
            _ => yaml::strings(path, map, "require_pass")?.unwrap_or_default(),
        };
        let default = GroupScoring::default_of(group);
        self.scoring = Some(GroupScoring {
            max_score: max_score.unwrap_or(default.max_score),
            aggregation: aggregation.unwrap_or(default.aggregation),
            requires,
        });
        Ok(())
    }
}

impl StaticTest {
    fn of(path: &Path, map: &Yaml) -> Result<Option<StaticTest>, Error> {
        let own = yaml::strings(path, map, "static_validator_args")?;
        let draft = &map["static_validation"];
        let (value, args) = match draft {
            Yaml::Boolean(true) => (&Yaml::Null, Vec::new()),
            Yaml::Hash(_) => {
                yaml::only(path, draft, &["args", "score"])
                    .map_err(|error| Error::new(path, format!("static_validation: {}", error.reason)))?;
                (&draft["score"], yaml::strings(path, draft, "args")?.unwrap_or_default())
            }
            Yaml::Boolean(false) | Yaml::Null | Yaml::BadValue => match &map["static_validation_score"] {
                value if !yaml::is_absent(value) => (value, own.unwrap_or_default()),
                _ if own.is_some() => {
                    return Err(Error::new(path, "static_validator_args: static_validation_score is missing"));
                }
                _ => return Ok(None),
            },
            _ => return Err(Error::new(path, "static_validation: expected true, false or a map")),
        };
        let score = match value {
            Yaml::String(text) if text == "pass-fail" => None,
            absent if yaml::is_absent(absent) => None,
            Yaml::Integer(number) if *number >= 0 => Some(*number as f64),
            _ => {
                let reason = "static_validation_score: expected a whole number of at least 0 or \"pass-fail\"";
                return Err(Error::new(path, reason));
            }
        };
        Ok(Some(StaticTest { score, args }))
    }

    /// A group whose tests give no points has a test without them.
    pub(crate) fn check_without_points(&self, folder: &Path, is_scored: bool) -> Result<(), Error> {
        if self.score.is_none() || is_scored {
            return Ok(());
        }
        let reason = "static_validation_score: expected pass-fail, as the group's tests give no points";
        Err(Error::new(&folder.join("test_group.yaml"), reason))
    }
}

impl GroupScoring {
    /// What `secret` or a group below it has without keys of its own.
    pub(crate) fn default_of(group: &str) -> GroupScoring {
        let (max_score, aggregation) = match group {
            "secret" => (Some(100.0), ScoreAggregation::Sum),
            _ => (None, ScoreAggregation::PassFail),
        };
        GroupScoring { max_score, aggregation, requires: Vec::new() }
    }
}

/// A group's settings for the grade.
pub(crate) fn test_group(path: &str, settings: &GroupSettings, counts: bool) -> TestGroup {
    TestGroup {
        path: path.to_owned(),
        aggregation: settings.aggregation,
        verdict_mode: settings.verdict_mode,
        accepts_any: settings.accepts_any,
        stops: settings.stops,
        counts,
        judges: true,
        max_points: settings.range.map(|(_, high)| high).filter(|high| high.is_finite()),
        requires: Vec::new(),
    }
}

/// The validator's arguments in a group's or a test's file: a list, a text, or the legacy map of
/// `name` and `flags`.
pub(crate) fn validator_flags(path: &Path, map: &Yaml) -> Result<Option<Vec<String>>, Error> {
    if map["output_validator_flags"].as_hash().is_some() {
        let inner = &map["output_validator_flags"];
        yaml::only(path, inner, &["name", "flags"])
            .map_err(|error| Error::new(path, format!("output_validator_flags: {}", error.reason)))?;
        return Ok(Some(yaml::strings(path, inner, "flags")?.unwrap_or_default()));
    }
    let args = yaml::strings(path, map, "output_validator_args")?;
    Ok(args.or(yaml::strings(path, map, "output_validator_flags")?))
}

/// The keys of a test's own file.
pub(crate) fn check_test_keys(path: &Path, map: &Yaml) -> Result<(), Error> {
    yaml::only(path, map, &[&ARGUMENTS[..], &WITHOUT_EFFECT].concat())
}

/// Two numbers, of which either may be infinite.
fn range(path: &Path, value: &Yaml) -> Result<Option<(f64, f64)>, Error> {
    if yaml::is_absent(value) {
        return Ok(None);
    }
    let text = yaml::text(value).unwrap_or_default();
    let numbers: Option<Vec<f64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    match numbers.as_deref() {
        Some([low, high]) => Ok(Some((*low, *high))),
        _ => Err(Error::new(path, "range: expected two numbers")),
    }
}
