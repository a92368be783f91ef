//! Chooses the host for a submission, and spreads the demand for new sandboxes over the hosts.
//! Pure.

/// A host that may offer a sandbox.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Ready sandboxes of the profile.
    pub ready: usize,
    /// The reserved share of the host's capacity; 1.0 is all of it.
    pub load: f64,
    /// The submission lost a sandbox on this host before.
    pub avoid: bool,
}

/// The index of the best candidate: not an avoided host, then the most ready sandboxes, then the
/// lowest load, then the first. An avoided host is taken if there is no other.
pub fn choose(candidates: &[Candidate]) -> Option<usize> {
    let order = |at: &usize| (candidates[*at].avoid, std::cmp::Reverse(candidates[*at].ready));
    let better = |a: &usize, b: &usize| {
        order(a).cmp(&order(b)).then(candidates[*a].load.total_cmp(&candidates[*b].load)).then(a.cmp(b))
    };
    (0..candidates.len()).min_by(better)
}

/// Splits `demand` over hosts by weight. Shares are rounded up, so their sum is at least `demand`.
pub fn spread(demand: usize, weights: &[f64]) -> Vec<usize> {
    let all: f64 = weights.iter().map(|weight| weight.max(0.0)).sum();
    if all <= 0.0 {
        return vec![demand; weights.len()];
    }
    weights.iter().map(|weight| (demand as f64 * weight.max(0.0) / all).ceil() as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(ready: usize, load: f64) -> Candidate {
        Candidate { ready, load, avoid: false }
    }

    #[test]
    fn the_most_ready_host_wins_then_the_least_loaded_then_the_first() {
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[candidate(1, 0.0), candidate(3, 0.9)]), Some(1));
        assert_eq!(choose(&[candidate(2, 0.9), candidate(2, 0.1)]), Some(1));
        assert_eq!(choose(&[candidate(2, 0.1), candidate(2, 0.1)]), Some(0));
    }

    #[test]
    fn an_avoided_host_is_chosen_only_if_there_is_no_other() {
        let lost = Candidate { avoid: true, ..candidate(9, 0.0) };
        assert_eq!(choose(&[lost, candidate(1, 1.0)]), Some(1));
        assert_eq!(choose(&[lost]), Some(0));
    }

    #[test]
    fn demand_is_spread_by_weight_and_fully_covered() {
        assert_eq!(spread(5, &[4.0]), [5]);
        assert_eq!(spread(5, &[2.0, 2.0]), [3, 3]);
        assert_eq!(spread(9, &[2.0, 1.0]), [6, 3]);
        assert_eq!(spread(0, &[1.0, 1.0]), [0, 0]);
        assert_eq!(spread(3, &[0.0, 0.0]), [3, 3]);
    }
}
