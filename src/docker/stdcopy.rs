//! Decoder of the engine's multiplexed stream, without I/O.
//!
//! A frame is `[stream, 0, 0, 0, length as u32 big-endian]`, then the payload. Frames arrive split
//! and joined arbitrarily, and their boundaries are not those of the program's writes. Payload is
//! passed on as it arrives, borrowed from the pushed bytes: frames are not buffered, so nothing is
//! allocated.
//!
//! ```text
//!  Header(n bytes received) --8th byte--> Payload(stream, left) --left = 0--> Header(0)
//!  on any error: Broken, permanently
//! ```

/// The largest accepted payload of a frame, in bytes. Docker sends at most 32 KiB, Podman 8 KiB.
pub const MAX_FRAME_BYTES: u32 = 1024 * 1024;

/// The most bytes kept of an error that the engine reports.
const MAX_REPORT: usize = 4096;

/// The standard stream that a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdStream {
    /// Type 0: standard input, echoed by the engine.
    Stdin,
    Stdout,
    Stderr,
}

/// Why a stream cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StdcopyError {
    /// A type that does not exist.
    #[error("a frame of unknown type {0}")]
    UnknownType(u8),
    /// The three bytes after the type are not zero: the stream is out of sync.
    #[error("a frame header with non-zero padding")]
    Padding,
    /// A length above [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes")]
    TooLong(u32),
    /// A frame of type 3: the engine reports an error inside the stream. At most 4 KiB.
    #[error("the engine reported inside the stream: {0}")]
    Reported(String),
    /// The stream ended inside a frame.
    #[error("the stream was cut inside a frame")]
    Cut,
}

#[derive(Debug, Clone)]
enum DecoderState {
    Header { have: usize },
    Payload { stream: StdStream, left: usize },
    Report { left: usize },
    Broken(StdcopyError),
}

/// An incremental decoder. Push bytes as they arrive, then call [`Decoder::finish`].
#[derive(Debug)]
pub struct Decoder {
    state: DecoderState,
    header: [u8; 8],
    report: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { state: DecoderState::Header { have: 0 }, header: [0; 8], report: Vec::new() }
    }
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Decodes `bytes` and passes each piece of payload to `sink`, in order.
    ///
    /// # Errors
    /// The stream is not valid. Every later call returns the same error.
    pub fn push(&mut self, mut bytes: &[u8], mut sink: impl FnMut(StdStream, &[u8])) -> Result<(), StdcopyError> {
        loop {
            match &mut self.state {
                DecoderState::Broken(error) => return Err(error.clone()),
                DecoderState::Header { have } => {
                    let n = bytes.len().min(8 - *have);
                    self.header[*have..*have + n].copy_from_slice(&bytes[..n]);
                    *have += n;
                    bytes = &bytes[n..];
                    if *have < 8 {
                        return Ok(());
                    }
                    self.state = self.begin_frame();
                }
                DecoderState::Payload { stream, left } => {
                    let n = bytes.len().min(*left);
                    if n > 0 {
                        sink(*stream, &bytes[..n]);
                    }
                    *left -= n;
                    bytes = &bytes[n..];
                    if *left > 0 {
                        return Ok(());
                    }
                    self.state = DecoderState::Header { have: 0 };
                }
                DecoderState::Report { left } => {
                    let n = bytes.len().min(*left);
                    let room = MAX_REPORT.saturating_sub(self.report.len());
                    self.report.extend_from_slice(&bytes[..n.min(room)]);
                    *left -= n;
                    bytes = &bytes[n..];
                    if *left > 0 {
                        return Ok(());
                    }
                    let text = String::from_utf8_lossy(&self.report).trim().to_owned();
                    self.state = DecoderState::Broken(StdcopyError::Reported(text));
                }
            }
            if bytes.is_empty() && !matches!(self.state, DecoderState::Broken(_) | DecoderState::Report { left: 0 }) {
                return Ok(());
            }
        }
    }

    fn begin_frame(&self) -> DecoderState {
        let [kind, padding @ .., a, b, c, d] = self.header;
        let length = u32::from_be_bytes([a, b, c, d]);
        let left = length as usize;
        match kind {
            4.. => DecoderState::Broken(StdcopyError::UnknownType(kind)),
            _ if padding != [0; 3] => DecoderState::Broken(StdcopyError::Padding),
            _ if length > MAX_FRAME_BYTES => DecoderState::Broken(StdcopyError::TooLong(length)),
            0 => DecoderState::Payload { stream: StdStream::Stdin, left },
            1 => DecoderState::Payload { stream: StdStream::Stdout, left },
            2 => DecoderState::Payload { stream: StdStream::Stderr, left },
            3 => DecoderState::Report { left },
        }
    }

    /// Call this at the end of the stream.
    ///
    /// # Errors
    /// The stream ended inside a frame, or was not valid before.
    pub fn finish(&self) -> Result<(), StdcopyError> {
        match &self.state {
            DecoderState::Header { have: 0 } | DecoderState::Payload { left: 0, .. } => Ok(()),
            DecoderState::Broken(error) => Err(error.clone()),
            _ => Err(StdcopyError::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    type Pieces = Vec<(u8, Vec<u8>)>;

    fn decode(pieces: &[&[u8]]) -> (Pieces, Result<(), StdcopyError>) {
        let mut decoder = Decoder::new();
        let mut out = Pieces::new();
        for piece in pieces {
            let pushed = decoder.push(piece, |stream, payload| {
                let kind = stream as u8;
                match out.last_mut() {
                    Some((last, bytes)) if *last == kind => bytes.extend(payload),
                    _ => out.push((kind, payload.to_vec())),
                }
            });
            if pushed.is_err() {
                return (out, pushed);
            }
        }
        (out, decoder.finish())
    }

    #[test]
    fn frames_decode_the_same_however_the_stream_is_split() {
        let mut stream = frame(1, b"hello");
        stream.extend(frame(1, b""));
        stream.extend(frame(2, b"world"));
        let expected = (vec![(1, b"hello".to_vec()), (2, b"world".to_vec())], Ok(()));
        assert_eq!(decode(&[&stream]), expected);
        for split in 0..=stream.len() {
            assert_eq!(decode(&[&stream[..split], &stream[split..]]), expected, "{split}");
        }
        assert_eq!(decode(&stream.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_cut_frame_is_not_a_clean_end() {
        let stream = frame(1, b"hello");
        for cut in 1..stream.len() {
            assert_eq!(decode(&[&stream[..cut]]).1, Err(StdcopyError::Cut), "{cut}");
        }
        assert_eq!(decode(&[]).1, Ok(()));
    }

    #[test]
    fn an_error_reported_by_the_engine_is_an_error() {
        let stream = frame(3, b"boom\n");
        assert_eq!(decode(&[&stream]).1, Err(StdcopyError::Reported("boom".to_owned())));
        assert_eq!(decode(&stream.chunks(1).collect::<Vec<_>>()).1, Err(StdcopyError::Reported("boom".to_owned())));
        assert_eq!(decode(&[&frame(3, b"")]).1, Err(StdcopyError::Reported(String::new())));
    }

    #[test]
    fn an_invalid_header_breaks_the_stream_permanently() {
        assert_eq!(decode(&[&[7, 0, 0, 0, 0, 0, 0, 0]]).1, Err(StdcopyError::UnknownType(7)));
        assert_eq!(decode(&[b"HTTP/1.1"]).1, Err(StdcopyError::UnknownType(b'H')));
        assert_eq!(decode(&[&[1, 0, 1, 0, 0, 0, 0, 0]]).1, Err(StdcopyError::Padding));
        let huge = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decode(&[&huge]).1, Err(StdcopyError::TooLong(u32::MAX)));
        let mut decoder = Decoder::new();
        assert!(decoder.push(&huge, |_, _| ()).is_err());
        assert!(decoder.push(b"x", |_, _| ()).is_err());
    }
}
