//! Frames cut out of a stream of bytes.
//!
//! A pure machine: bytes are pushed, bodies come out; at the end it says whether the cut was between two frames. It holds
//! what was pushed and not yet taken, so whoever pushes bounds it (one read's worth beyond one frame).
//!
//! ```text
//!          push                      next: Some(body)
//! (empty) ------> (part of a frame) -----------------> (empty or part of a frame)
//!                  | next: None = push more
//!                  | length 0 or over MAX_FRAME_BYTES
//!                  v
//!              (broken: every next is the same error)
//! ```

use super::frame::MAX_FRAME_BYTES;

/// Why a stream is no stream of frames. Final: there is no finding the next frame's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// A frame claims to be longer than [`MAX_FRAME_BYTES`].
    TooLong(u32),
    /// A frame claims to be empty; even the kind is missing.
    Empty,
    /// The stream ended inside a frame.
    Cut {
        /// Bytes of the unfinished frame that did arrive, its length's included.
        have: usize,
    },
}

impl std::fmt::Display for FramingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut a frame out of the stream: ")?;
        match self {
            Self::TooLong(claimed) => write!(f, "it claims {claimed} bytes"),
            Self::Empty => f.write_str("it claims to be empty"),
            Self::Cut { have } => write!(f, "the stream ends {have} bytes into it"),
        }
    }
}

impl std::error::Error for FramingError {}

/// Cuts frames out of pushed bytes.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes at the buffer's start that were given out already.
    taken: usize,
    broken: Option<FramingError>,
}

impl FrameReader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes of the stream. Any cut is fine.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        if self.taken == self.buffer.len() {
            self.buffer.clear();
        } else if self.taken > 0 {
            self.buffer.drain(..self.taken);
        }
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame's body (kind and payload), or `None` when more bytes are needed.
    ///
    /// # Errors
    /// A length of zero or beyond [`MAX_FRAME_BYTES`]; from then on always the same error.
    #[allow(clippy::should_implement_trait, reason = "it lends, an Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, FramingError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((head, _)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let claimed = u32::from_le_bytes(*head);
        let length = usize::try_from(claimed).unwrap_or(usize::MAX);
        if length == 0 || length > MAX_FRAME_BYTES {
            let error = if length == 0 { FramingError::Empty } else { FramingError::TooLong(claimed) };
            self.broken = Some(error);
            self.buffer = Vec::new();
            self.taken = 0;
            return Err(error);
        }
        if rest.len() < 4 + length {
            return Ok(None);
        }
        let start = self.taken + 4;
        self.taken = start + length;
        Ok(self.buffer.get(start..start + length))
    }

    /// Whether the stream may end here: `Ok` between two frames.
    ///
    /// # Errors
    /// [`FramingError::Cut`] inside a frame, or the error that broke the stream earlier. Frames that were pushed but not
    /// taken count as cut: take them first.
    pub fn finish(&self) -> Result<(), FramingError> {
        match (self.broken, self.buffer.len() - self.taken) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(()),
            (None, have) => Err(FramingError::Cut { have }),
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
