//! Points of a scored problem: from tests to groups, and from groups to the problem.
//!
//! A group combines the points of its tests and subgroups by its aggregation. The root is a sum
//! unless it has an aggregation of its own.

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

/// A folder of tests.
#[derive(Debug, Clone, PartialEq)]
pub struct TestGroup {
    /// Path below `data/`, such as `secret/1`.
    pub path: String,
    pub aggregation: Aggregation,
    /// Whether its points count for the group above.
    pub counts: bool,
}

/// The result of one test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestScore {
    /// Path of its group.
    pub group: String,
    pub accepted: bool,
    pub points: f64,
}

/// The points of the group at `path`, including everything below it.
pub fn points(path: &str, groups: &[TestGroup], scores: &[TestScore]) -> f64 {
    let below = |inner: &str| is_below(path, inner);
    let is_direct = |group: &&TestGroup| {
        let rest = group.path.strip_prefix(path).map(|rest| rest.trim_start_matches('/'));
        group.counts && below(&group.path) && rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
    };
    let own = scores.iter().filter(|score| score.group == path).map(|score| score.points);
    let inner = groups.iter().filter(is_direct).map(|group| points(&group.path, groups, scores));
    let all: Vec<f64> = own.chain(inner).collect();
    let group = groups.iter().find(|group| group.path == path);
    let aggregation = group.map_or(Aggregation::Sum, |group| group.aggregation);
    if all.is_empty() {
        return 0.0;
    }
    match aggregation {
        Aggregation::Sum => all.iter().sum(),
        Aggregation::Min => all.iter().copied().fold(f64::INFINITY, f64::min),
        Aggregation::Max => all.iter().copied().fold(0.0, f64::max),
        Aggregation::Avg => all.iter().sum::<f64>() / all.len() as f64,
        Aggregation::AllOrNothing(points) => {
            let mut within = scores.iter().filter(|score| score.group == path || below(&score.group));
            if within.all(|score| score.accepted) { points } else { 0.0 }
        }
    }
}

fn is_below(path: &str, inner: &str) -> bool {
    path.is_empty() && !inner.is_empty() || inner.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &str, aggregation: Aggregation) -> TestGroup {
        TestGroup { path: path.to_owned(), aggregation, counts: path != "sample" }
    }

    fn score(group: &str, points: f64) -> TestScore {
        TestScore { group: group.to_owned(), accepted: points > 0.0, points }
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
            score("sample", 9.0),
            score("secret/1", 20.0),
            score("secret/1", 20.0),
            score("secret/2", 1.0),
            score("secret/2", 1.0),
        ];
        assert_eq!(points("", &groups, &scores), 60.0);
        let mut worse = scores.to_vec();
        worse[4] = score("secret/2", 0.0);
        assert_eq!(points("", &groups, &worse), 20.0);
        worse[2] = score("secret/1", 5.0);
        assert_eq!((points("", &groups, &worse), points("secret/1", &groups, &worse)), (5.0, 5.0));
    }

    #[test]
    fn a_group_takes_the_maximum_or_the_mean() {
        let scores = [score("a", 2.0), score("a", 4.0)];
        assert_eq!(points("a", &[group("a", Aggregation::Max)], &scores), 4.0);
        assert_eq!(points("a", &[group("a", Aggregation::Avg)], &scores), 3.0);
        assert_eq!(points("a", &[group("a", Aggregation::Sum)], &[]), 0.0);
    }
}
