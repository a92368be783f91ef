//! Points of a problem that is scored: from tests to groups to the whole. Pure.
//!
//! A group's tests and groups give it their points by its rule; the root is the sum of what is in it, or what its own rule
//! says.

/// How a group comes to its points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rule {
    Sum,
    Min,
    Max,
    Avg,
    /// All of these, when everything in it is accepted, else nothing.
    AllOrNothing(f64),
}

/// A group: a folder of tests.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// Its path below data/, such as `secret/1`.
    pub path: String,
    pub rule: Rule,
    /// Whether it counts.
    pub counts: bool,
}

/// A test's part.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Its group's path.
    pub group: String,
    pub accepted: bool,
    pub points: f64,
}

/// The points of the group at `path`, with everything below it.
pub(super) fn points(path: &str, groups: &[Group], parts: &[Part]) -> f64 {
    let below = |inner: &str| is_below(path, inner);
    let direct = |group: &&Group| {
        let rest = group.path.strip_prefix(path).map(|rest| rest.trim_start_matches('/'));
        group.counts && below(&group.path) && rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
    };
    let own = parts.iter().filter(|part| part.group == path).map(|part| part.points);
    let inner = groups.iter().filter(direct).map(|group| points(&group.path, groups, parts));
    let all: Vec<f64> = own.chain(inner).collect();
    let rule = groups.iter().find(|group| group.path == path).map_or(Rule::Sum, |group| group.rule);
    if all.is_empty() {
        return 0.0;
    }
    match rule {
        Rule::Sum => all.iter().sum(),
        Rule::Min => all.iter().copied().fold(f64::INFINITY, f64::min),
        Rule::Max => all.iter().copied().fold(0.0, f64::max),
        Rule::Avg => all.iter().sum::<f64>() / all.len() as f64,
        Rule::AllOrNothing(score) => {
            let mut within = parts.iter().filter(|part| part.group == path || below(&part.group));
            if within.all(|part| part.accepted) { score } else { 0.0 }
        }
    }
}

fn is_below(path: &str, inner: &str) -> bool {
    path.is_empty() && !inner.is_empty() || inner.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &str, rule: Rule) -> Group {
        Group { path: path.to_owned(), rule, counts: path != "sample" }
    }

    fn part(group: &str, points: f64) -> Part {
        Part { group: group.to_owned(), accepted: points > 0.0, points }
    }

    #[test]
    fn groups_give_their_points_to_the_group_above() {
        let groups = [
            group("", Rule::Sum),
            group("sample", Rule::Sum),
            group("secret", Rule::Sum),
            group("secret/1", Rule::Min),
            group("secret/2", Rule::AllOrNothing(40.0)),
        ];
        let parts = [
            part("sample", 9.0),
            part("secret/1", 20.0),
            part("secret/1", 20.0),
            part("secret/2", 1.0),
            part("secret/2", 1.0),
        ];
        assert_eq!(points("", &groups, &parts), 60.0);
        let mut worse = parts.to_vec();
        worse[4] = part("secret/2", 0.0);
        assert_eq!(points("", &groups, &worse), 20.0);
        worse[2] = part("secret/1", 5.0);
        assert_eq!((points("", &groups, &worse), points("secret/1", &groups, &worse)), (5.0, 5.0));
    }

    #[test]
    fn a_group_may_take_the_best_or_the_mean() {
        let parts = [part("a", 2.0), part("a", 4.0)];
        assert_eq!(points("a", &[group("a", Rule::Max)], &parts), 4.0);
        assert_eq!(points("a", &[group("a", Rule::Avg)], &parts), 3.0);
        assert_eq!(points("a", &[group("a", Rule::Sum)], &[]), 0.0);
    }
}
