//! The conversation between a submission and its interactor, recorded up to [`TRANSCRIPT_BYTES`].

use parking_lot::Mutex;

/// Bytes of a conversation that are recorded, of both sides together.
const TRANSCRIPT_BYTES: usize = 16 * 1024;

/// One side of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    Submission,
    Interactor,
}

impl Speaker {
    /// The other side.
    #[must_use]
    pub fn other(self) -> Speaker {
        match self {
            Speaker::Submission => Speaker::Interactor,
            Speaker::Interactor => Speaker::Submission,
        }
    }
}

/// A recorded conversation, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    /// What each side wrote until the other one wrote something.
    pub turns: Vec<(Speaker, Vec<u8>)>,
    /// Whether more was written than was recorded.
    pub is_truncated: bool,
}

/// Records a conversation while it goes on.
#[derive(Debug, Default)]
pub(super) struct TranscriptRecorder(Mutex<Transcript>);

impl TranscriptRecorder {
    pub(super) fn record(&self, speaker: Speaker, data: &[u8]) {
        let mut transcript = self.0.lock();
        if transcript.is_truncated {
            return;
        }
        let recorded: usize = transcript.turns.iter().map(|(_, bytes)| bytes.len()).sum();
        let room = TRANSCRIPT_BYTES.saturating_sub(recorded).min(data.len());
        transcript.is_truncated = room < data.len();
        match transcript.turns.last_mut() {
            Some((last, bytes)) if *last == speaker => bytes.extend_from_slice(&data[..room]),
            _ if room > 0 => transcript.turns.push((speaker, data[..room].to_vec())),
            _ => {}
        }
    }

    /// A copy of the conversation so far.
    pub(super) fn snapshot(&self) -> Transcript {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_recorded_up_to_its_bound() {
        let recorder = TranscriptRecorder::default();
        recorder.record(Speaker::Submission, b"1");
        recorder.record(Speaker::Submission, b"2");
        recorder.record(Speaker::Interactor, b"3");
        let turns = vec![(Speaker::Submission, b"12".to_vec()), (Speaker::Interactor, b"3".to_vec())];
        assert_eq!(recorder.snapshot(), Transcript { turns, is_truncated: false });
        recorder.record(Speaker::Submission, &vec![b'x'; TRANSCRIPT_BYTES]);
        let Transcript { turns, is_truncated } = recorder.snapshot();
        assert!(is_truncated && turns.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() == TRANSCRIPT_BYTES);
    }
}
