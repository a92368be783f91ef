//! Splits a byte stream into frames.
//!
//! A pure state machine: bytes are pushed, frame bodies come out. At the end of the stream it
//! reports whether the end lies between two frames. It buffers what was pushed and not yet taken,
//! so the caller bounds it (one read beyond one frame).
//!
//! ```text
//!          push                      next: Some(body)
//! (empty) ------> (part of a frame) -----------------> (empty or part of a frame)
//!                  | next: None = push more
//!                  | length 0 or over MAX_FRAME_BYTES
//!                  v
//!              (broken: every next returns the same error)
//! ```

use super::frame::MAX_FRAME_BYTES;

/// Why a stream cannot be split into frames. Final: the start of a next frame is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// A frame's length exceeds [`MAX_FRAME_BYTES`].
    TooLong(u32),
    /// A frame's length is 0: even the kind is missing.
    Empty,
    /// The stream ended inside a frame.
    Cut {
        /// Bytes of the incomplete frame that arrived, including its length field.
        have: usize,
    },
}

impl std::fmt::Display for FramingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("read a frame from the stream: ")?;
        match self {
            Self::TooLong(length) => write!(f, "its length is {length} bytes, more than {MAX_FRAME_BYTES}"),
            Self::Empty => f.write_str("its length is 0"),
            Self::Cut { have } => write!(f, "the stream ends {have} bytes into it"),
        }
    }
}

impl std::error::Error for FramingError {}

/// Splits pushed bytes into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that were already returned.
    taken: usize,
    broken: Option<FramingError>,
}

impl FrameReader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes of the stream, in pieces of any size.
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

    /// The body (kind and payload) of the next complete frame, or `None` when more bytes are
    /// needed.
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

    /// Checks whether the stream may end here: `Ok` between two frames.
    ///
    /// # Errors
    /// [`FramingError::Cut`] inside a frame, or the error that broke the stream earlier. Frames
    /// that were pushed but not taken count as cut, so take them first.
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
