//! Whom smaller submissions must not pass any more. What needs much room would otherwise wait for
//! as long as smaller ones come and take each part that is given back. Pure: time is an argument.
//!
//! ```text
//!   no room for it --> noted --smaller ones pass it, HOLD is over--> held: nothing else is served
//!        ^             |  ^                                            |  |
//!        |             |  '----------------- HELD is over -------------'  |
//!        '-------------'------- served, gone, or there is room -----------'
//! ```
//!
//! What runs may take minutes, and one caller's large submissions must not stop everyone else: so
//! it is held for a moment only, and then passed again.

use std::time::{Duration, Instant};

use super::fair_queue::Lane;
use protocol::Caller;

/// How long smaller submissions may pass one. Shorter would leave capacity unused more often.
const HOLD: Duration = Duration::from_secs(5);

/// How long nothing else is served for its sake: most runs end within that.
const HELD: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Noted {
    key: (Caller, Lane),
    since: Instant,
    /// Whether one that needs less has been served since.
    was_passed: bool,
}

#[derive(Debug, Default)]
pub(super) struct RoomHold(Option<Noted>);

impl RoomHold {
    /// The caller and lane for which everything else has to leave room.
    pub(super) fn held(&self, now: Instant) -> Option<&(Caller, Lane)> {
        let is_held =
            |noted: &&Noted| noted.was_passed && (HOLD..HOLD + HELD).contains(&now.duration_since(noted.since));
        self.0.as_ref().filter(is_held).map(|noted| &noted.key)
    }

    /// Whether time alone may change what is held.
    pub(super) fn is_noted(&self) -> bool {
        self.0.is_some()
    }

    /// One of this caller and lane was served.
    pub(super) fn served(&mut self, caller: &Caller, lane: &Lane) {
        let Some(noted) = &mut self.0 else { return };
        let (held_for, held) = &noted.key;
        if (held_for, held) == (caller, lane) {
            self.0 = None;
        } else {
            let (less, more) = (lane.room, held.room);
            noted.was_passed |= less.memory < more.memory || less.micro_cpus < more.micro_cpus;
        }
    }

    /// These wait because no host has room for them.
    pub(super) fn update(&mut self, short: Vec<(Caller, Lane)>, now: Instant) {
        if let Some(noted) = self.0.as_mut().filter(|noted| short.contains(&noted.key)) {
            if noted.was_passed && now.duration_since(noted.since) >= HOLD + HELD {
                (noted.since, noted.was_passed) = (now, false);
            }
            return;
        }
        // the largest is passed most easily
        let largest = short.into_iter().max_by_key(|(_, lane)| (lane.room.memory, lane.room.micro_cpus));
        self.0 = largest.map(|key| Noted { key, since: now, was_passed: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fair_queue::Room;

    fn key(uid: u32, memory: u64) -> (Caller, Lane) {
        let room = Room { micro_cpus: 1_000_000, memory };
        (Caller::of_uid(uid, ""), Lane { room, ..Lane::from("c") })
    }

    #[test]
    fn what_is_passed_by_smaller_ones_for_a_while_is_held() {
        let (big, small, begun) = (key(1, 8), key(2, 1), Instant::now());
        let mut hold = RoomHold::default();
        hold.update(vec![small.clone(), big.clone()], begun);
        hold.served(&small.0, &small.1);
        assert_eq!(hold.held(begun + HOLD / 2), None);
        hold.update(vec![big.clone()], begun + HOLD / 2);
        assert_eq!(hold.held(begun + HOLD), Some(&big));
        hold.served(&big.0, &big.1);
        assert_eq!(hold.held(begun + HOLD), None);
    }

    #[test]
    fn what_is_held_is_passed_again_if_its_room_does_not_come() {
        let (big, small, begun) = (key(1, 8), key(2, 1), Instant::now());
        let mut hold = RoomHold::default();
        hold.update(vec![big.clone()], begun);
        hold.served(&small.0, &small.1);
        assert!(hold.held(begun + HOLD).is_some() && hold.is_noted());
        let over = begun + HOLD + HELD;
        assert_eq!(hold.held(over), None);
        hold.update(vec![big.clone()], over);
        hold.served(&small.0, &small.1);
        assert_eq!((hold.held(over + HOLD / 2), hold.held(over + HOLD)), (None, Some(&big)));
    }

    #[test]
    fn nothing_is_held_while_all_need_the_same_or_there_is_room() {
        let (one, other, begun) = (key(1, 8), key(2, 8), Instant::now());
        let mut hold = RoomHold::default();
        hold.update(vec![one.clone()], begun);
        hold.served(&other.0, &other.1);
        assert_eq!(hold.held(begun + HOLD), None);
        let small = key(3, 1);
        hold.served(&small.0, &small.1);
        assert_eq!(hold.held(begun + HOLD), Some(&one));
        hold.update(Vec::new(), begun + HOLD);
        assert_eq!(hold.held(begun + HOLD * 2), None);
    }
}
