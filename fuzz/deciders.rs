//! The pure decision functions with random inputs, each compared with a plainer model.

use std::time::Duration;

/// Reads bytes as small numbers; yields zeros at the end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: u8) -> usize {
        usize::from(self.next() % bound)
    }

    fn is(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// A pool's stock under random events: the number to create is that of a one-by-one model, the
/// ceiling holds, and no request waits while a sandbox could be created.
pub fn stock(data: &[u8]) {
    use sandbox::pool::stock::{HostLoad, Levels, Stock};
    let mut numbers = Numbers(data);
    let floor = numbers.below(12);
    let levels = Levels { floor, ceiling: floor.max(1) + numbers.below(12) };
    let mut stock: Stock<()> = Stock::default();
    while !numbers.0.is_empty() {
        match numbers.below(9) {
            0 => {
                stock.demand = numbers.below(30);
                stock.strangers = stock.demand;
            }
            1 if stock.creating > 0 => {
                stock.creating -= 1;
                stock.ready.push_back(());
            }
            2 => stock.creating = stock.creating.saturating_sub(1),
            3 if stock.ready.pop_front().is_some() => stock.leased += 1,
            4 => stock.leased = stock.leased.saturating_sub(1),
            5 => drop(stock.ready.pop_back()),
            6 if stock.leased > 0 => {
                stock.leased -= 1;
                stock.kept += 1;
            }
            _ => {
                let load = HostLoad { busy: numbers.is() };
                let want = stock.to_create(levels, load);
                let target = if load.busy { levels.floor.div_ceil(2) } else { levels.floor };
                let (mut in_hand, mut more) = (stock.ready.len() + stock.creating, 0);
                let most = if load.busy { in_hand.max(stock.demand) + 1 } else { usize::MAX };
                let enough = most.min(stock.demand + target);
                while in_hand + stock.leased + stock.kept < levels.ceiling && in_hand < enough {
                    in_hand += 1;
                    more += 1;
                }
                let evicted = stock.to_evict(levels);
                assert!(evicted <= stock.kept);
                let room = stock.to_make_room(levels);
                assert!((evicted..=stock.kept).contains(&room));
                stock.kept -= evicted;
                // every request gets a sandbox, or the ceiling is reached
                let served = stock.ready.len() + stock.creating + stock.to_create(levels, load);
                assert!(
                    served >= stock.demand || served + stock.leased + stock.kept == levels.ceiling && stock.kept == 0
                );
                stock.kept += evicted;
                assert_eq!(want, more, "{stock:?} {levels:?} {load:?}");
                stock.creating += want;
            }
        }
        assert!(stock.ready.len() + stock.creating + stock.leased + stock.kept <= levels.ceiling);
    }
}

/// Admission: an admitted submission passes every bound; a refused one gets a true reason and a
/// retry hint within bounds.
pub fn admission(data: &[u8]) {
    use scheduler::Refusal;
    use scheduler::admission::{QueueBounds, QueueLoad, admit};
    let mut numbers = Numbers(data);
    while !numbers.0.is_empty() {
        let maybe =
            |numbers: &mut Numbers<'_>| numbers.is().then(|| Duration::from_millis(100 * numbers.below(8) as u64));
        let load = QueueLoad {
            admitted: numbers.below(6),
            admitted_of_account: numbers.below(6),
            bytes_of_account: numbers.below(6) as u64,
            host_up: numbers.below(8) > 0,
            draining: numbers.below(8) == 0,
            create_time: Duration::from_millis(70 * u64::from(numbers.next())),
            predicted_wait: maybe(&mut numbers),
            deadline: maybe(&mut numbers),
            patience: Duration::from_millis(400),
        };
        let bounds = QueueBounds {
            max: 1 + numbers.below(5),
            max_per_account: 1 + numbers.below(5),
            max_bytes_per_account: numbers.below(5) as u64,
        };
        let full = load.admitted >= bounds.max;
        let quota = load.admitted_of_account >= bounds.max_per_account;
        let heavy = load.admitted_of_account > 0 && load.bytes_of_account > bounds.max_bytes_per_account;
        let late = matches!((load.predicted_wait, load.deadline), (Some(wait), Some(most)) if wait > most);
        let is_patient = load.deadline.is_none();
        let long = is_patient && load.predicted_wait.is_some_and(|wait| wait > load.patience * 3 / 5);
        let is_hint =
            |retry_after: Duration| (Duration::from_millis(100)..=Duration::from_secs(10)).contains(&retry_after);
        let is_correct = match admit(load, bounds) {
            Ok(()) => load.host_up && !load.draining && !full && !quota && !heavy && !late && !long,
            Err(Refusal::Draining) => load.draining,
            Err(Refusal::NoHost { .. }) => !load.host_up,
            Err(Refusal::QueueFull { retry_after, .. }) => full && is_hint(retry_after),
            Err(Refusal::QuotaExceeded { retry_after, .. }) => quota && is_hint(retry_after),
            Err(Refusal::BytesExceeded { retry_after, .. }) => heavy && is_hint(retry_after),
            Err(Refusal::DeadlineUnreachable { retry_after, .. }) => late && retry_after > Duration::ZERO,
            Err(Refusal::WaitTooLong { retry_after, .. }) => long && is_hint(retry_after),
            Err(
                Refusal::Conflict { .. }
                | Refusal::Callback(_)
                | Refusal::Isolation { .. }
                | Refusal::NoSandbox { .. }
                | Refusal::RateExceeded { .. }
                | Refusal::StoreFull
                | Refusal::StoreBusy { .. }
                | Refusal::NoStore { .. }
                | Refusal::Paused,
            ) => false,
        };
        assert!(is_correct, "{load:?} {bounds:?}: {:?}", admit(load, bounds));
    }
}

/// Host choice: no host is better than the chosen one, and the demand is covered by the hosts'
/// shares.
pub fn placement(data: &[u8]) {
    use scheduler::host_choice::{Candidate, choose, spread};
    let mut numbers = Numbers(data);
    let hosts: Vec<Candidate> = (0..numbers.below(6))
        .map(|_| Candidate {
            ready: numbers.below(4),
            load: f64::from(numbers.next() % 5) / 4.0,
            avoid: numbers.below(4) == 0,
        })
        .collect();
    let mut best: Option<usize> = None;
    for (at, host) in hosts.iter().enumerate() {
        let better = best.is_none_or(|best| {
            let best = hosts[best];
            match (best.avoid, host.avoid) {
                (true, false) => true,
                (false, true) => false,
                _ => host.ready > best.ready || (host.ready == best.ready && host.load < best.load),
            }
        });
        if better {
            best = Some(at);
        }
    }
    assert_eq!(choose(&hosts), best);
    let (demand, weights) = (numbers.below(40), hosts.iter().map(|host| host.load).collect::<Vec<_>>());
    let shares = spread(demand, &weights);
    assert_eq!(shares.len(), weights.len());
    assert!(shares.is_empty() || shares.iter().sum::<usize>() >= demand);
    assert!(shares.iter().all(|share| *share <= demand));
}

/// A host's health after a random history, compared with a model that sees the whole history.
pub fn health(data: &[u8]) {
    use protocol::rows::HostState;
    use sandbox::host::health::{EngineStatus, Observation};
    let seen: Vec<Observation> = data
        .iter()
        .map(|byte| [Observation::Answered, Observation::Failed, Observation::Suspected][usize::from(byte % 3)])
        .collect();
    let state = seen.iter().fold(EngineStatus::default(), |engine, seen| engine.after(*seen)).state(false);
    let answered = seen.iter().rposition(|seen| *seen == Observation::Answered);
    let since = &seen[answered.map_or(0, |at| at + 1)..];
    let expected = match (answered, since) {
        (None, since) if since.contains(&Observation::Failed) => HostState::Down,
        (None, _) => HostState::Unknown,
        (Some(_), []) => HostState::Up,
        (Some(_), [_, rest @ ..]) if rest.contains(&Observation::Failed) => HostState::Down,
        (Some(_), _) => HostState::Suspect,
    };
    assert_eq!(state, expected, "{seen:?}");
}
