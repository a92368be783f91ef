//! Requests to the init that were sent and not answered yet, in the order in which they were sent.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use wire::frame::{Collected, Ready};

use super::messages::Lost;

/// One queue per kind of request. The init answers the requests of a kind in order.
#[derive(Default)]
pub(super) struct Pending {
    /// With the token of each ping.
    pub(super) pings: VecDeque<(u64, oneshot::Sender<()>)>,
    pub(super) probes: VecDeque<oneshot::Sender<Ready>>,
    pub(super) collects: VecDeque<oneshot::Sender<Collected>>,
    pub(super) audits: VecDeque<oneshot::Sender<Vec<String>>>,
    /// With the index of the file of each read.
    pub(super) reads: VecDeque<(u32, oneshot::Sender<Vec<u8>>)>,
}

impl Pending {
    /// Answers the oldest request of a queue. `what` names the frame in the error.
    ///
    /// # Errors
    /// No such request is pending.
    pub(super) fn answer<T>(
        queue: &mut VecDeque<oneshot::Sender<T>>,
        value: T,
        what: &'static str,
    ) -> Result<(), Lost> {
        let reply = queue.pop_front().ok_or_else(|| unexpected(what))?;
        // the requester may be gone
        let _ = reply.send(value);
        Ok(())
    }

    /// Like [`Pending::answer`], for requests with a key that the answer repeats.
    ///
    /// # Errors
    /// The oldest request has another key, or there is none.
    pub(super) fn answer_keyed<K: PartialEq, T>(
        queue: &mut VecDeque<(K, oneshot::Sender<T>)>,
        key: &K,
        value: T,
        what: &'static str,
    ) -> Result<(), Lost> {
        match queue.pop_front() {
            Some((expected, reply)) if expected == *key => {
                let _ = reply.send(value);
                Ok(())
            }
            _ => Err(unexpected(what)),
        }
    }
}

/// A frame that answers no request.
pub(super) fn unexpected(what: &str) -> Lost {
    Lost::Protocol(format!("unexpected {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_the_oldest_request_and_an_extra_one_is_an_error() {
        let mut pending = Pending::default();
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        pending.audits.extend([first, second]);
        for residue in ["a", "b"] {
            Pending::answer(&mut pending.audits, vec![residue.to_owned()], "Audited").unwrap();
        }
        assert_eq!(first_answer.try_recv().unwrap(), ["a"]);
        assert_eq!(second_answer.try_recv().unwrap(), ["b"]);
        let error = Pending::answer(&mut pending.audits, Vec::new(), "Audited").unwrap_err();
        assert_eq!(error.to_string(), "the sandbox broke the protocol: unexpected Audited");
    }

    #[test]
    fn a_piece_of_another_file_is_an_error() {
        let mut pending = Pending::default();
        pending.reads.push_back((1, oneshot::channel().0));
        assert!(Pending::answer_keyed(&mut pending.reads, &2, Vec::new(), "Piece").is_err());
    }
}
