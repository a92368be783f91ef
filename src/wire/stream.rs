//! Cuts a byte stream into frames: `[length u32 little-endian][body]`.

use super::frame::MAX_FRAME_BYTES;

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamError {
    /// A length of zero or above [`MAX_FRAME_BYTES`].
    BadLength(u32),
    /// The stream ended inside a frame.
    Cut,
}

impl std::fmt::Display for StreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StreamError::BadLength(length) => write!(f, "a frame of {length} bytes"),
            StreamError::Cut => f.write_str("the stream was cut inside a frame"),
        }
    }
}

impl std::error::Error for StreamError {}

/// Gathers pushed bytes and hands out whole frames. Holds at most one frame beyond what was pushed last.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameReader {
    /// At the beginning of a stream.
    pub fn new() -> FrameReader {
        FrameReader::default()
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > MAX_FRAME_BYTES {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The body of the next whole frame.
    ///
    /// # Errors
    /// A length that cannot be; the stream is then useless.
    #[expect(clippy::should_implement_trait, reason = "it lends from itself")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, StreamError> {
        let rest = &self.buffer[self.start..];
        let Some((head, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head);
        let size = length as usize;
        if size == 0 || size > MAX_FRAME_BYTES {
            return Err(StreamError::BadLength(length));
        }
        if body.len() < size {
            return Ok(None);
        }
        let begin = self.start + 4;
        self.start = begin + size;
        Ok(Some(&self.buffer[begin..begin + size]))
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// Something less than a frame is left.
    pub fn finish(&self) -> Result<(), StreamError> {
        if self.start == self.buffer.len() { Ok(()) } else { Err(StreamError::Cut) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        for body in [&b"a"[..], b"hello", &[7; 300]] {
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(body);
        }
        bytes
    }

    fn read(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), StreamError>) {
        let mut reader = FrameReader::new();
        let mut frames = Vec::new();
        for piece in pieces {
            reader.push(piece);
            loop {
                match reader.next() {
                    Ok(Some(body)) => frames.push(body.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (frames, Err(error)),
                }
            }
        }
        (frames, reader.finish())
    }

    #[test]
    fn frames_are_the_same_however_the_stream_is_cut() {
        let bytes = stream();
        let whole = read(&[&bytes]);
        assert_eq!(whole.0.len(), 3);
        assert_eq!(whole.1, Ok(()));
        for split in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..split], &bytes[split..]]), whole, "{split}");
        }
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn a_cut_stream_is_told_from_a_clean_end() {
        let bytes = stream();
        assert_eq!(read(&[&bytes[..bytes.len() - 1]]).1, Err(StreamError::Cut));
        assert_eq!(read(&[]).1, Ok(()));
    }

    #[test]
    fn a_length_that_cannot_be_is_an_error() {
        assert_eq!(read(&[&[0, 0, 0, 0]]).1, Err(StreamError::BadLength(0)));
        assert_eq!(read(&[&[255, 255, 255, 255]]).1, Err(StreamError::BadLength(u32::MAX)));
    }
}
