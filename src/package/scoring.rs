//! Points as 2025-09 has them: what `secret` and its groups may say together, what each test is
//! worth, and what a validator may give.

use std::path::Path;

use protocol::Verdict;

use crate::Error;
use crate::grade::{Aggregation, TestGroup, TestScore};
use crate::groups::{GroupScoring, ScoreAggregation};
use crate::problem_test::ProblemTest;

/// Points of a test without a maximum to which the validator gives none, which is its mistake.
const NO_POINTS_GIVEN: f64 = 1e-9;

/// What 2025-09 demands of `secret` and its groups together.
pub(crate) fn check(root: &Path, all: &[TestGroup], tests: &[ProblemTest], has_validator: bool) -> Result<(), Error> {
    let secret = root.join("data/secret");
    let file = |group: &TestGroup| root.join("data").join(&group.path).join("test_group.yaml");
    let groups: Vec<&TestGroup> = all.iter().filter(|group| group.path.starts_with("secret/")).collect();
    let whole = all.iter().find(|group| group.path == "secret");
    let is_pass_fail = |group: &TestGroup| matches!(group.aggregation, Aggregation::AllOrNothing(_));
    for group in &groups {
        if whole.is_some_and(|whole| whole.max_points.is_some()) && group.max_points.is_none() {
            return Err(Error::new(&file(group), "max_score is missing, as secret has one"));
        }
        if whole.is_some_and(is_pass_fail) && !is_pass_fail(group) {
            return Err(Error::new(&file(group), "score_aggregation: expected pass-fail, as secret has"));
        }
    }
    for group in all {
        let required = all.iter().filter(|other| other.path != "sample" && group.requires.contains(&other.path));
        if let Some(other) = required.into_iter().find(|other| !is_pass_fail(other)) {
            let reason = format!("require_pass: {} has no pass-fail aggregation", other.path);
            return Err(Error::new(&file(group), reason));
        }
        let is_unbounded = group.path.starts_with("secret") && group.max_points.is_none();
        let mut run = tests.iter().filter(|test| test.data.is_some());
        if is_unbounded && !has_validator && run.any(|test| test.group == group.path) {
            return Err(Error::new(&file(group), "max_score: unbounded needs a validator that gives points"));
        }
    }
    if !groups.is_empty()
        && let Some(test) = tests.iter().find(|test| test.group == "secret")
    {
        return Err(Error::new(&secret, format!("has groups, and {} is in none of them", test.name)));
    }
    Ok(())
}

/// Gives the group with this index, and its tests, the points of 2025-09.
pub(crate) fn apply(
    root: &Path,
    group: &mut TestGroup,
    tests: &mut [ProblemTest],
    scoring: &GroupScoring,
    static_test: Option<Option<f64>>,
) -> Result<(), Error> {
    let path = group.path.clone();
    let file = root.join("data").join(&path).join("test_group.yaml");
    for required in &scoring.requires {
        let is_known = required == "sample" || root.join("data").join(required).is_dir();
        if !is_known || required.as_str() >= path.as_str() {
            return Err(Error::new(&file, format!("require_pass: {required:?} is not an earlier group")));
        }
    }
    group.requires = scoring.requires.clone();
    group.max_points = scoring.max_score;
    let mut own: Vec<usize> = (0..tests.len()).filter(|test| tests[*test].group == path).collect();
    let is_pass_fail = scoring.aggregation == ScoreAggregation::PassFail;
    let mut static_points = 0.0;
    if let Some(score) = static_test {
        if score.is_none() != is_pass_fail {
            let expected = if is_pass_fail { "pass-fail" } else { "a number" };
            let reason = format!("static_validation_score: expected {expected}, as score_aggregation says");
            return Err(Error::new(&file, reason));
        }
        static_points = score.unwrap_or_default();
        if scoring.max_score.is_some_and(|max| static_points > max) {
            return Err(Error::new(&file, "static_validation_score is more than max_score"));
        }
        // it has points of its own, and the others share the rest
        own.retain(|test| is_pass_fail || tests[*test].data.is_some());
    }
    let per_test = match (scoring.aggregation, scoring.max_score) {
        (ScoreAggregation::PassFail, None) => {
            return Err(Error::new(&file, "max_score is missing: a group with pass-fail aggregation needs one"));
        }
        (ScoreAggregation::PassFail, Some(max)) => {
            group.aggregation = Aggregation::AllOrNothing(max);
            max / own.len().max(1) as f64
        }
        (ScoreAggregation::Sum, max) => {
            group.aggregation = Aggregation::Sum;
            max.map_or(NO_POINTS_GIVEN, |max| (max - static_points) / own.len().max(1) as f64)
        }
        (ScoreAggregation::Min, max) => {
            group.aggregation = Aggregation::Min;
            max.unwrap_or(NO_POINTS_GIVEN)
        }
    };
    own.into_iter().for_each(|test| tests[test].accept_points = per_test);
    Ok(())
}

/// The first mistake in the points that a validator gave.
pub(crate) fn wrong_points(groups: &[TestGroup], tests: &[ProblemTest], scores: &[TestScore]) -> Option<String> {
    let group_of = |test: &ProblemTest| groups.iter().find(|group| group.path == test.group);
    tests.iter().zip(scores).find_map(|(test, score)| {
        let group = group_of(test).filter(|group| group.counts)?;
        let most = test.accept_points;
        let is_bounded = group.max_points.is_some() || test.data.is_none();
        let mistake = match (score.verdict, group.aggregation) {
            (Verdict::Skipped, _) => return None,
            (Verdict::Accepted, Aggregation::AllOrNothing(_)) if score.points != most => {
                "points, but its group has pass-fail aggregation".to_owned()
            }
            (Verdict::Accepted, _) if !is_bounded && score.points == most => {
                "no points (score.txt), but has no max_score".to_owned()
            }
            (Verdict::Accepted, _) if is_bounded && score.points > most + 1e-6 => {
                format!("{} points of {most}", score.points)
            }
            (Verdict::Accepted, _) => return None,
            _ if score.points > 0.0 => "points, but is not accepted".to_owned(),
            _ => return None,
        };
        Some(format!("{} gets {mistake}.", test.name))
    })
}
