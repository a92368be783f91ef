//! Verdict and points of a problem: from tests to groups, and from groups to the problem.
//!
//! ```text
//!  test (verdict, points) --.
//!  group (grade of its own) -+--> the group's verdict mode and aggregation --> grade of the group
//!                                '--> a group that stops at a rejection ignores what follows it
//! ```

use std::collections::BTreeMap;

use protocol::Verdict;

/// How a group combines the points of its members.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregation {
    Sum,
    Min,
    Max,
    Avg,
    /// These points if every test in the group is accepted, else 0.
    AllOrNothing(f64),
}

/// How a group's verdict follows from those of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictMode {
    /// The gravest: a crash before a limit before a wrong answer.
    WorstError,
    FirstError,
    AlwaysAccept,
}

/// A folder of tests.
#[derive(Debug, Clone, PartialEq)]
pub struct TestGroup {
    /// Path below `data/`, such as `secret/1`; empty for all.
    pub path: String,
    pub aggregation: Aggregation,
    pub verdict_mode: VerdictMode,
    /// Accepted if any member is.
    pub accepts_any: bool,
    /// Whether what follows a rejected member is ignored.
    pub stops: bool,
    /// Whether its points count for the group above.
    pub counts: bool,
    /// Whether its verdict counts for the group above.
    pub judges: bool,
    /// Most points that it may have.
    pub max_points: Option<f64>,
    /// Groups that must be accepted, or this one gets nothing.
    pub requires: Vec<String>,
}

impl TestGroup {
    /// A group that sums up the points of its members.
    pub fn sum(path: &str) -> TestGroup {
        TestGroup {
            path: path.to_owned(),
            aggregation: Aggregation::Sum,
            verdict_mode: VerdictMode::WorstError,
            accepts_any: false,
            stops: false,
            counts: true,
            judges: true,
            max_points: None,
            requires: Vec::new(),
        }
    }
}

/// The result of one test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestScore {
    pub name: String,
    /// Path of its group.
    pub group: String,
    /// Skipped tests do not count.
    pub verdict: Verdict,
    pub points: f64,
}

/// The result of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grade {
    pub verdict: Verdict,
    pub points: f64,
}

/// The grade of every group, by its path. Groups and tests are in the order of the package.
pub fn grades(groups: &[TestGroup], scores: &[TestScore]) -> BTreeMap<String, Grade> {
    let mut done = BTreeMap::new();
    // what a group requires comes before it: the samples, and groups of its own depth
    let mut order: Vec<&TestGroup> = groups.iter().collect();
    order.sort_by_key(|group| {
        let is_sample = group.path == "sample" || is_below("sample", &group.path);
        (!is_sample, std::cmp::Reverse(if group.path.is_empty() { 0 } else { depth(&group.path) }))
    });
    for group in order {
        let grade = grade(group, groups, scores, &done);
        done.insert(group.path.clone(), grade);
    }
    done
}

fn depth(path: &str) -> usize {
    1 + path.matches('/').count()
}

/// Whether the group at `inner` is a direct member of the one at `path`.
fn is_member(groups: &[TestGroup], path: &str, inner: &str) -> bool {
    let parent = groups
        .iter()
        .filter(|group| group.path != inner && is_below(&group.path, inner))
        .max_by_key(|group| group.path.len());
    parent.is_some_and(|parent| parent.path == path)
}

fn is_below(path: &str, inner: &str) -> bool {
    path.is_empty() && !inner.is_empty() || inner.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

fn grade(group: &TestGroup, groups: &[TestGroup], scores: &[TestScore], done: &BTreeMap<String, Grade>) -> Grade {
    let nothing = Grade { verdict: Verdict::WrongAnswer, points: 0.0 };
    if group.requires.iter().any(|path| done.get(path).is_some_and(|grade| grade.verdict != Verdict::Accepted)) {
        return nothing;
    }
    // members by the names of their first tests, in the package's order
    let mut members: Vec<(&str, Grade, bool, bool)> = Vec::new();
    for score in scores.iter().filter(|score| score.group == group.path && score.verdict != Verdict::Skipped) {
        members.push((&score.name, Grade { verdict: score.verdict, points: score.points }, true, true));
    }
    for inner in groups.iter().filter(|inner| is_member(groups, &group.path, &inner.path)) {
        let has_tests = scores.iter().any(|score| {
            (score.group == inner.path || is_below(&inner.path, &score.group)) && score.verdict != Verdict::Skipped
        });
        if let Some(grade) = done.get(&inner.path).filter(|_| has_tests) {
            members.push((&inner.path, *grade, inner.counts, inner.judges));
        }
    }
    members.sort_by_key(|(name, ..)| *name);
    if group.stops
        && let Some(at) = members.iter().position(|(_, grade, _, judges)| *judges && grade.verdict != Verdict::Accepted)
    {
        members.truncate(at + 1);
    }
    let verdicts: Vec<Verdict> =
        members.iter().filter(|(.., judges)| *judges).map(|(_, grade, ..)| grade.verdict).collect();
    let points: Vec<f64> =
        members.iter().filter(|(_, _, counts, _)| *counts).map(|(_, grade, ..)| grade.points).collect();
    let verdict = verdict(group, &verdicts);
    let points = match group.aggregation {
        Aggregation::AllOrNothing(all) if verdict == Verdict::Accepted => all,
        Aggregation::AllOrNothing(_) => 0.0,
        _ if points.is_empty() => 0.0,
        Aggregation::Sum => points.iter().sum(),
        Aggregation::Min => points.iter().copied().fold(f64::INFINITY, f64::min),
        Aggregation::Max => points.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Aggregation::Avg => points.iter().sum::<f64>() / points.len() as f64,
    };
    Grade { verdict, points }
}

fn verdict(group: &TestGroup, verdicts: &[Verdict]) -> Verdict {
    let is_rejected = |verdict: &&Verdict| **verdict != Verdict::Accepted;
    if group.accepts_any && verdicts.contains(&Verdict::Accepted) {
        return Verdict::Accepted;
    }
    match group.verdict_mode {
        VerdictMode::AlwaysAccept => Verdict::Accepted,
        VerdictMode::FirstError => verdicts.iter().find(is_rejected).copied().unwrap_or(Verdict::Accepted),
        VerdictMode::WorstError => {
            let gravity = |verdict: &&Verdict| match verdict {
                Verdict::RuntimeError => 5,
                Verdict::MemoryLimit => 4,
                Verdict::TimeLimit => 3,
                Verdict::OutputLimit => 2,
                Verdict::WrongAnswer | Verdict::Partial => 1,
                _ => 9,
            };
            let rejected = verdicts.iter().filter(is_rejected);
            rejected.rev().max_by_key(gravity).copied().unwrap_or(Verdict::Accepted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &str, aggregation: Aggregation) -> TestGroup {
        TestGroup { aggregation, counts: path != "sample", ..TestGroup::sum(path) }
    }

    fn score(name: &str, points: f64) -> TestScore {
        let group = name.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        let verdict = if points > 0.0 { Verdict::Accepted } else { Verdict::WrongAnswer };
        TestScore { name: name.to_owned(), group, verdict, points }
    }

    fn points(groups: &[TestGroup], scores: &[TestScore]) -> f64 {
        grades(groups, scores)[""].points
    }

    #[test]
    fn groups_pass_their_points_to_the_group_above() {
        let groups = [
            group("", Aggregation::Sum),
            group("sample", Aggregation::Sum),
            group("secret", Aggregation::Sum),
            group("secret/1", Aggregation::Min),
            group("secret/2", Aggregation::AllOrNothing(40.0)),
        ];
        let scores = [
            score("sample/1", 9.0),
            score("secret/1/1", 20.0),
            score("secret/1/2", 20.0),
            score("secret/2/1", 1.0),
            score("secret/2/2", 1.0),
        ];
        assert_eq!(points(&groups, &scores), 60.0);
        let mut worse = scores.to_vec();
        worse[4] = score("secret/2/2", 0.0);
        assert_eq!(points(&groups, &worse), 20.0);
        worse[2] = score("secret/1/2", 5.0);
        assert_eq!((points(&groups, &worse), grades(&groups, &worse)["secret/1"].points), (5.0, 5.0));
    }

    #[test]
    fn a_group_takes_the_maximum_or_the_mean() {
        let scores = [score("a/1", 2.0), score("a/2", 4.0)];
        let of = |aggregation| points(&[group("", Aggregation::Sum), group("a", aggregation)], &scores);
        assert_eq!((of(Aggregation::Max), of(Aggregation::Avg)), (4.0, 3.0));
        assert_eq!(points(&[group("", Aggregation::Sum)], &[]), 0.0);
    }

    #[test]
    fn a_group_that_stops_ignores_what_follows_a_rejected_member() {
        let scores = [score("a/1", 1.0), score("a/2", 0.0), score("a/3", 1.0)];
        let stops = TestGroup { stops: true, ..group("a", Aggregation::Sum) };
        assert_eq!(points(&[group("", Aggregation::Sum), stops.clone()], &scores), 1.0);
        assert_eq!(points(&[group("", Aggregation::Sum), TestGroup { stops: false, ..stops }], &scores), 2.0);
    }

    #[test]
    fn a_required_group_that_failed_takes_the_points_of_those_that_need_it() {
        let needs = TestGroup { requires: vec!["a".to_owned()], ..group("b", Aggregation::Sum) };
        let groups = [group("", Aggregation::Sum), group("a", Aggregation::Sum), needs];
        assert_eq!(points(&groups, &[score("a/1", 1.0), score("b/1", 5.0)]), 6.0);
        assert_eq!(points(&groups, &[score("a/1", 0.0), score("b/1", 5.0)]), 0.0);
        let needs = TestGroup { requires: vec!["sample".to_owned()], ..group("secret/b", Aggregation::Sum) };
        let groups = [group("", Aggregation::Sum), group("sample", Aggregation::Sum), needs];
        assert_eq!(points(&groups, &[score("sample/1", 0.0), score("secret/b/1", 5.0)]), 0.0);
    }

    #[test]
    fn the_verdict_is_the_gravest_the_first_or_any_accepted() {
        let scores = |verdicts: &[Verdict]| -> Vec<TestScore> {
            let one =
                |(at, verdict): (usize, &Verdict)| TestScore { verdict: *verdict, ..score(&format!("a/{at}"), 0.0) };
            verdicts.iter().enumerate().map(one).collect()
        };
        let (ac, wa, tle, rte) = (Verdict::Accepted, Verdict::WrongAnswer, Verdict::TimeLimit, Verdict::RuntimeError);
        let of = |group: TestGroup, verdicts: &[Verdict]| grades(&[group], &scores(verdicts))["a"].verdict;
        let plain = group("a", Aggregation::Sum);
        assert_eq!(of(plain.clone(), &[ac, wa, rte, tle]), rte);
        assert_eq!(of(TestGroup { verdict_mode: VerdictMode::FirstError, ..plain.clone() }, &[ac, wa, rte]), wa);
        assert_eq!(of(TestGroup { accepts_any: true, ..plain.clone() }, &[wa, ac]), ac);
        assert_eq!(of(TestGroup { verdict_mode: VerdictMode::AlwaysAccept, ..plain }, &[wa]), ac);
    }
}
