//! The bodies of the fuzz targets. `cargo fuzz` drives them with new inputs, and
//! `tests/it/offline/corpus.rs` replays the corpora on stable. No target may panic or hang, or give
//! different results for one input that is split in two ways.

mod deciders;
mod policy;

use deciders::{admission, health, placement, stock};
use policy::policy;

/// The body of a target.
type Target = fn(&[u8]);

/// Runs a target; panics when it finds something, or when the name is unknown.
pub fn run(name: &str, data: &[u8]) {
    let target = ALL.iter().find(|(known, _)| *known == name);
    target.expect("a target of this name").1(data);
}

/// Every target; `cargo fuzz list` shows the same names.
const ALL: [(&str, Target); 8] = [
    ("admission", admission),
    ("health", health),
    ("fair_queue", fair_queue),
    ("http", http),
    ("placement", placement),
    ("policy", policy),
    ("stock", stock),
    ("wire", wire),
];

/// The fair queue against a plain list: nothing is lost, duplicated, or served without a free
/// sandbox, and whatever can be served is served.
fn fair_queue(data: &[u8]) {
    use protocol::{Account, Caller};
    use scheduler::fair_queue::{FairQueue, Lane, ProfileName, QueueKey, QueueTicket, Room};
    #[derive(Debug, Clone, PartialEq)]
    struct Item(u32, ProfileName, usize);
    impl QueueKey for Item {
        fn key(&self) -> (Account, ProfileName) {
            (Account::Uid(self.0), self.1.clone())
        }
    }
    let profile = |byte: u8| -> ProfileName { ["a", "b", "c"][usize::from(byte % 3)].into() };
    let mut queue = FairQueue::default();
    let mut model: Vec<(QueueTicket, Item)> = Vec::new();
    for (number, step) in data.chunks_exact(3).enumerate() {
        let [action, caller, more] = [step[0], step[1], step[2]];
        match action % 4 {
            0 | 1 => {
                let item = Item(u32::from(caller % 5), profile(more), number);
                let tenant = (caller / 5 % 3).to_string();
                let room = Room { memory: u64::from(more / 64), ..Room::default() };
                let lane = Lane { profile: item.1.clone(), fresh: caller >= 128, room };
                let ticket = queue.enqueue(&Caller::of_uid(item.0, tenant), &lane, u32::from(more / 3), item.clone());
                model.push((ticket, item));
            }
            2 if !model.is_empty() => {
                let (ticket, item) = model.swap_remove(usize::from(caller) % model.len());
                assert_eq!(queue.remove(&ticket), Some(item));
                assert_eq!(queue.remove(&ticket), None);
            }
            _ => {
                let is_free = |name: &ProfileName| more & (1 << (name.as_bytes()[0] - b'a')) != 0;
                let may_run = |account: &Account| *account != Account::Uid(u32::from(caller % 8));
                let is_servable = model.iter().any(|(_, item)| may_run(&Account::Uid(item.0)) && is_free(&item.1));
                let popped = queue.pop_next(&mut |account| may_run(account), &mut |_, lane| is_free(&lane.profile));
                assert_eq!(popped.is_some(), is_servable);
                if let Some(popped) = popped {
                    assert!(may_run(&Account::Uid(popped.0)) && is_free(&popped.1));
                    let at = model.iter().position(|(_, item)| *item == popped).expect("served an item not queued");
                    model.swap_remove(at);
                }
            }
        }
        assert_eq!(queue.len(), model.len());
        assert_eq!(queue.waiting_by_account().values().sum::<usize>(), model.len());
    }
    while queue.pop_next(&mut |_| true, &mut |_, _| true).is_some() {
        assert!(model.pop().is_some());
    }
    assert!(model.is_empty() && queue.is_empty());
}

/// A connection of the HTTP API: what the parsers of its routes answer does not depend on how the
/// bytes are split.
fn http(data: &[u8]) {
    // hyper closes the connection of this preface without an answer if it comes in one piece
    if data.trim_ascii_start().starts_with(b"PRI") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let answers = |size: usize| {
        let pieces = data.chunks(size).map(<[u8]>::to_vec).collect();
        runtime.block_on(server::http::parse_requests(pieces))
    };
    let whole = answers(data.len().max(1));
    assert_eq!(answers(7), whole);
    assert_eq!(answers(1), whole);
}

/// Wire frames in pieces of several sizes: what decodes encodes to the same bytes.
fn wire(data: &[u8]) {
    use wire::{codec, stream::FrameReader};
    for size in [1, 7, data.len().max(1)] {
        let mut reader = FrameReader::new();
        for piece in data.chunks(size) {
            reader.push(piece);
            while let Ok(Some(body)) = reader.next() {
                let body = body.to_vec();
                let mut bytes = Vec::new();
                if let Ok(frame) = codec::decode_to_init(&body) {
                    codec::encode_to_init(&frame, &mut bytes);
                    assert_eq!(&bytes[4..], &body[..]);
                }
                bytes.clear();
                if let Ok(frame) = codec::decode_from_init(&body) {
                    codec::encode_from_init(&frame, &mut bytes);
                    assert_eq!(&bytes[4..], &body[..]);
                }
            }
        }
    }
}
