//! `submissions/submissions.yaml`: what the jury says about its example submissions.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::Verdict;
use yaml_rust2::Yaml;

use crate::grade::{Grade, TestScore};
use crate::{Error, glob, yaml};

/// Verdicts of single tests, as the format names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaseVerdicts(u8);

const AC: u8 = 1;
const WA: u8 = 2;
const TLE: u8 = 4;
const RTE: u8 = 8;

impl CaseVerdicts {
    const ALL: CaseVerdicts = CaseVerdicts(AC | WA | TLE | RTE);

    fn parse(path: &Path, map: &Yaml, key: &str) -> Result<Option<CaseVerdicts>, Error> {
        let Some(words) = yaml::strings(path, map, key)? else { return Ok(None) };
        let mut set = 0;
        for word in words {
            set |= match word.to_ascii_uppercase().as_str() {
                "AC" => AC,
                "WA" => WA,
                "TLE" => TLE,
                "RTE" => RTE,
                other => return Err(Error::new(path, format!("{key}: {other:?} is none of AC, WA, TLE, RTE"))),
            };
        }
        Ok(Some(CaseVerdicts(set)))
    }

    fn has(self, verdict: Verdict) -> bool {
        let bits = match verdict {
            Verdict::Accepted => AC,
            Verdict::WrongAnswer | Verdict::Partial => WA,
            Verdict::TimeLimit => TLE,
            // the format has no verdict for too much output
            Verdict::OutputLimit => RTE | WA,
            Verdict::RuntimeError | Verdict::MemoryLimit => RTE,
            _ => 0,
        };
        self.0 & bits != 0
    }

    fn names(self) -> String {
        let all = [(AC, "AC"), (WA, "WA"), (TLE, "TLE"), (RTE, "RTE")];
        all.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// What is demanded of a submission, for all tests or those that a pattern covers.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Pattern of groups and tests below data/; `None`: all.
    pub tests: Option<String>,
    permitted: Option<CaseVerdicts>,
    required: Option<CaseVerdicts>,
    score: Option<(f64, f64)>,
    message: Option<String>,
    /// `Some(false)`: not used for the time limit; otherwise as the verdicts say.
    for_time_limit: Option<bool>,
    is_upper: bool,
}

impl Demand {
    /// Whether the submission must not be too slow, so that its time is a lower bound.
    pub fn bounds_time(&self) -> bool {
        let never_slow = self.permitted.is_some_and(|permitted| permitted.0 & TLE == 0);
        self.for_time_limit.unwrap_or(never_slow && !self.is_upper)
    }

    /// Whether the submission's time is not to be used.
    pub fn opts_out_of_time_limit(&self) -> bool {
        self.for_time_limit == Some(false)
    }

    /// Whether the demand is about this test.
    pub fn covers(&self, test: &str) -> bool {
        self.tests.as_ref().is_none_or(|pattern| glob::covers(pattern, test))
    }

    /// The first thing that the results do not meet. `messages` are the judge messages by test.
    pub fn unmet(
        &self,
        scores: &[TestScore],
        grades: &BTreeMap<String, Grade>,
        messages: &[(String, String)],
        whole: &str,
    ) -> Option<String> {
        let at = self.tests.as_ref().map(|tests| format!(" in {tests}")).unwrap_or_default();
        let mut cases = scores.iter().filter(|score| score.verdict != Verdict::Skipped && self.covers(&score.name));
        if let Some(permitted) = self.permitted
            && let Some(other) = cases.clone().find(|score| !permitted.has(score.verdict))
        {
            let verdict = other.verdict.as_str();
            return Some(format!("permitted{at} is {}, but {} is {verdict}", permitted.names(), other.name));
        }
        if let Some(required) = self.required
            && !cases.any(|score| required.has(score.verdict))
        {
            return Some(format!("no test{at} is {}, which is required", required.names()));
        }
        if let Some((low, high)) = self.score {
            let is_meant = |group: &str| match &self.tests {
                Some(pattern) => glob::matches_all(pattern, group),
                None => group == whole,
            };
            let mut groups = grades.iter().filter(|(group, _)| is_meant(group)).peekable();
            if groups.peek().is_none() {
                return Some(format!("a score is stated{at}, but that group does not exist"));
            }
            if let Some((_, Grade { points, .. })) =
                groups.find(|(_, grade)| grade.points < low - 1e-9 || grade.points > high + 1e-9)
            {
                return Some(format!("the score{at} should be {low} to {high}, but is {points}"));
            }
        }
        if let Some(message) = &self.message
            && !messages.iter().any(|(test, text)| self.covers(test) && text.contains(message))
        {
            return Some(format!("no judge message{at} has {message:?}"));
        }
        None
    }
}

/// An entry of submissions.yaml.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    pattern: String,
    language: Option<String>,
    entry: Option<String>,
    demands: Vec<Demand>,
}

/// The file's entries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubmissionRules(Vec<Entry>);

/// What the file says about one submission.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubmissionRule {
    pub language: Option<String>,
    pub entry: Option<String>,
    pub demands: Vec<Demand>,
}

const DEMAND_KEYS: [&str; 5] = ["permitted", "required", "score", "message", "use_for_time_limit"];
const OTHER_KEYS: [&str; 4] = ["language", "entrypoint", "authors", "model_solution"];

impl SubmissionRules {
    /// Reads the file's text as it was parsed.
    pub(crate) fn of(path: &Path, file: &Yaml) -> Result<SubmissionRules, Error> {
        let mut entries = Vec::new();
        for (pattern, map) in file.as_hash().into_iter().flatten() {
            let pattern = yaml::text(pattern).ok_or_else(|| Error::new(path, "a pattern is not a text"))?;
            if yaml::is_absent(map) {
                continue;
            }
            let hash = map.as_hash().ok_or_else(|| Error::new(path, format!("{pattern}: expected a map")))?;
            let mut demands = vec![demand(path, map, &pattern, None)?];
            for (key, value) in hash {
                let key = yaml::text(key).unwrap_or_default();
                if DEMAND_KEYS.contains(&key.as_str()) || OTHER_KEYS.contains(&key.as_str()) {
                    continue;
                }
                if value.as_hash().is_none() {
                    return Err(Error::new(path, format!("{pattern}: the key {key:?} is unknown")));
                }
                yaml::only(path, value, &DEMAND_KEYS)?;
                demands.push(demand(path, value, &pattern, Some(key))?);
            }
            let (language, entry) = (yaml::text(&map["language"]), yaml::text(&map["entrypoint"]));
            entries.push(Entry { pattern, language, entry, demands });
        }
        Ok(SubmissionRules(entries))
    }

    /// What the file says about the submission at this path below submissions/.
    pub fn about(&self, path: &str) -> SubmissionRule {
        let mut rule = SubmissionRule::default();
        for entry in self.0.iter().filter(|entry| glob::covers(&entry.pattern, path)) {
            rule.language = entry.language.clone().or(rule.language);
            rule.entry = entry.entry.clone().or(rule.entry);
            rule.demands.extend(entry.demands.iter().cloned());
        }
        rule.demands.retain(|demand| {
            demand.permitted.is_some()
                || demand.required.is_some()
                || demand.score.is_some()
                || demand.message.is_some()
                || demand.for_time_limit.is_some()
        });
        rule
    }

    /// Whether the file says something else about a folder with a fixed meaning.
    pub fn replaces_folder(&self, folder: &str) -> bool {
        let changes =
            |entry: &&Entry| entry.demands.iter().any(|demand| demand.permitted.is_some() || demand.required.is_some());
        self.0.iter().filter(changes).any(|entry| entry.pattern == folder)
    }
}

/// A folder's own demands: they are replaced key by key, not added to.
fn of_folder(folder: &str) -> (Option<CaseVerdicts>, Option<CaseVerdicts>) {
    let (permitted, required) = match folder {
        "accepted" => (AC, AC),
        "rejected" => (CaseVerdicts::ALL.0, RTE | TLE | WA),
        "wrong_answer" => (AC | WA, WA),
        "time_limit_exceeded" => (AC | TLE, TLE),
        "run_time_error" => (AC | RTE, RTE),
        "brute_force" => (AC | RTE | TLE, RTE | TLE),
        _ => return (None, None),
    };
    (Some(CaseVerdicts(permitted)), Some(CaseVerdicts(required)))
}

fn demand(path: &Path, map: &Yaml, pattern: &str, tests: Option<String>) -> Result<Demand, Error> {
    let (mut permitted, mut required) =
        (CaseVerdicts::parse(path, map, "permitted")?, CaseVerdicts::parse(path, map, "required")?);
    if tests.is_none() && (permitted.is_some() || required.is_some()) {
        let (default_permitted, default_required) = of_folder(pattern);
        (permitted, required) = (permitted.or(default_permitted), required.or(default_required));
    }
    let number = |value: &Yaml| yaml::text(value).and_then(|text| text.trim().parse::<f64>().ok());
    let score = match &map["score"] {
        absent if yaml::is_absent(absent) => None,
        Yaml::Array(items) => match items.iter().map(number).collect::<Option<Vec<f64>>>().as_deref() {
            Some([low, high]) => Some((*low, *high)),
            _ => return Err(Error::new(path, format!("{pattern}: score: expected a number or two"))),
        },
        value => match number(value) {
            Some(score) => Some((score, score)),
            None => return Err(Error::new(path, format!("{pattern}: score: expected a number or two"))),
        },
    };
    let (for_time_limit, is_upper) = match &map["use_for_time_limit"] {
        absent if yaml::is_absent(absent) => (None, false),
        Yaml::Boolean(true) => (None, false),
        Yaml::Boolean(false) => (Some(false), false),
        Yaml::String(text) if text == "lower" => (Some(true), false),
        Yaml::String(text) if text == "upper" => (Some(false), true),
        _ => {
            return Err(Error::new(
                path,
                format!("{pattern}: use_for_time_limit: expected true, false, lower or upper"),
            ));
        }
    };
    let message = yaml::text(&map["message"]).filter(|message| !message.is_empty());
    Ok(Demand { tests, permitted, required, score, message, for_time_limit, is_upper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use yaml_rust2::YamlLoader;

    fn rules(text: &str) -> Result<SubmissionRules, Error> {
        SubmissionRules::of(Path::new("s"), &YamlLoader::load_from_str(text).unwrap().remove(0))
    }

    fn scores(list: &[(&str, Verdict)]) -> Vec<TestScore> {
        let one = |(name, verdict): &(&str, Verdict)| {
            let name = (*name).to_owned();
            TestScore { group: "secret".to_owned(), name, verdict: *verdict, points: 0.0 }
        };
        list.iter().map(one).collect()
    }

    fn unmet(rules: &SubmissionRules, path: &str, list: &[(&str, Verdict)]) -> Vec<String> {
        let demands = rules.about(path).demands;
        demands.iter().filter_map(|demand| demand.unmet(&scores(list), &BTreeMap::new(), &[], "secret")).collect()
    }

    #[test]
    fn demands_hold_for_the_tests_that_they_cover() {
        let rules =
            rules("a.py:\n  sample: {permitted: [AC]}\n  secret/*-hard: {permitted: [AC, TLE], required: [TLE]}")
                .unwrap();
        let (ac, wa, tle) = (Verdict::Accepted, Verdict::WrongAnswer, Verdict::TimeLimit);
        assert!(unmet(&rules, "a.py", &[("sample/1", ac), ("secret/1-hard", tle), ("secret/2", wa)]).is_empty());
        assert_eq!(unmet(&rules, "a.py", &[("sample/1", wa), ("secret/1-hard", ac)]).len(), 2);
        assert!(unmet(&rules, "b.py", &[("sample/1", wa)]).is_empty());
    }

    #[test]
    fn a_folder_keeps_the_demands_that_are_not_replaced() {
        let rules = rules("accepted: {permitted: [WA]}\ntime_limit_exceeded/*: {required: [TLE]}").unwrap();
        assert!(rules.replaces_folder("accepted") && !rules.replaces_folder("time_limit_exceeded"));
        let found = unmet(&rules, "accepted/x.py", &[("secret/1", Verdict::WrongAnswer)]);
        assert!(found[0].contains("no test is AC"), "{found:?}");
    }

    #[test]
    fn a_mistake_is_an_error_and_the_time_limit_can_be_chosen() {
        for bad in
            ["a: {permitted: [OK]}", "a: {permited: [AC]}", "a: {score: x}", "a: {use_for_time_limit: 3}", "a: [1]"]
        {
            assert!(rules(bad).is_err(), "{bad}");
        }
        let bounds = |text: &str| rules(text).unwrap().about("a").demands.iter().any(Demand::bounds_time);
        assert!(bounds("a: {permitted: [AC, WA]}") && bounds("a: {use_for_time_limit: lower}"));
        assert!(!bounds("a: {permitted: [AC, TLE]}") && !bounds("a: {permitted: [AC], use_for_time_limit: false}"));
    }
}
