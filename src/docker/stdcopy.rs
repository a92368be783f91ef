//! The engine's multiplexed stream: `[stream, 0, 0, 0, length as u32 big-endian]`, then the payload. Sans-IO.
//!
//! Frames split and coalesce arbitrarily, and carry no boundary of the writer's. Payload is handed out as it comes,
//! borrowed from what was pushed: no frame is ever gathered, so nothing is allocated.
//!
//! ```text
//!  Header(n bytes have come) --8th byte--> Payload(stream, left) --left = 0--> Header(0)
//!  anything wrong: Broken, for ever
//! ```

/// The largest frame that is believed. Docker sends 32 KiB at most, Podman 8 KiB (ENGINE 1.2).
pub const MAX_FRAME_BYTES: u32 = 1024 * 1024;

/// The most of a daemon's error that is kept.
const ERROR_KEPT: usize = 4096;

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Type 0: standard input, echoed.
    Stdin,
    /// Type 1.
    Stdout,
    /// Type 2.
    Stderr,
}

/// What is wrong with a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A type that does not exist.
    #[error("a frame of type {0}")]
    UnknownType(u8),
    /// The three bytes behind the type are not zero: the stream has lost its place.
    #[error("a frame's header with garbage in its padding")]
    Padding,
    /// A length that is not believed.
    #[error("a frame of {0} bytes")]
    TooLong(u32),
    /// A frame of type 3: the engine reports an error inside the stream.
    #[error("the engine reported inside the stream: {0}")]
    Reported(String),
    /// The stream ended inside a frame.
    #[error("the stream was cut inside a frame")]
    Cut,
}

#[derive(Debug, Clone)]
enum State {
    Header { have: usize },
    Payload { stream: Stream, left: usize },
    Report { left: usize },
    Broken(StreamError),
}

/// The decoder.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    header: [u8; 8],
    report: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { state: State::Header { have: 0 }, header: [0; 8], report: Vec::new() }
    }
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Takes bytes and hands each piece of payload to `sink`, in order.
    ///
    /// # Errors
    /// The stream is broken; the decoder stays so.
    pub fn push(&mut self, mut bytes: &[u8], mut sink: impl FnMut(Stream, &[u8])) -> Result<(), StreamError> {
        loop {
            match &mut self.state {
                State::Broken(error) => return Err(error.clone()),
                State::Header { have } => {
                    let n = bytes.len().min(8 - *have);
                    self.header[*have..*have + n].copy_from_slice(&bytes[..n]);
                    *have += n;
                    bytes = &bytes[n..];
                    if *have < 8 {
                        return Ok(());
                    }
                    self.state = self.begin();
                }
                State::Payload { stream, left } => {
                    let n = bytes.len().min(*left);
                    if n > 0 {
                        sink(*stream, &bytes[..n]);
                    }
                    *left -= n;
                    bytes = &bytes[n..];
                    if *left > 0 {
                        return Ok(());
                    }
                    self.state = State::Header { have: 0 };
                }
                State::Report { left } => {
                    let n = bytes.len().min(*left);
                    let room = ERROR_KEPT.saturating_sub(self.report.len());
                    self.report.extend_from_slice(&bytes[..n.min(room)]);
                    *left -= n;
                    bytes = &bytes[n..];
                    if *left > 0 {
                        return Ok(());
                    }
                    let words = String::from_utf8_lossy(&self.report).trim().to_owned();
                    self.state = State::Broken(StreamError::Reported(words));
                }
            }
            if bytes.is_empty() && !matches!(self.state, State::Broken(_) | State::Report { left: 0 }) {
                return Ok(());
            }
        }
    }

    fn begin(&self) -> State {
        let [kind, padding @ .., a, b, c, d] = self.header;
        let length = u32::from_be_bytes([a, b, c, d]);
        let left = length as usize;
        match kind {
            4.. => State::Broken(StreamError::UnknownType(kind)),
            _ if padding != [0; 3] => State::Broken(StreamError::Padding),
            _ if length > MAX_FRAME_BYTES => State::Broken(StreamError::TooLong(length)),
            0 => State::Payload { stream: Stream::Stdin, left },
            1 => State::Payload { stream: Stream::Stdout, left },
            2 => State::Payload { stream: Stream::Stderr, left },
            3 => State::Report { left },
        }
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// The stream was cut inside a frame, or was broken before.
    pub fn finish(&self) -> Result<(), StreamError> {
        match &self.state {
            State::Header { have: 0 } | State::Payload { left: 0, .. } => Ok(()),
            State::Broken(error) => Err(error.clone()),
            _ => Err(StreamError::Cut),
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

    fn decode(pieces: &[&[u8]]) -> (Pieces, Result<(), StreamError>) {
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
    fn frames_come_out_the_same_however_the_stream_is_cut() {
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
            assert_eq!(decode(&[&stream[..cut]]).1, Err(StreamError::Cut), "{cut}");
        }
        assert_eq!(decode(&[]).1, Ok(()));
    }

    #[test]
    fn an_error_of_the_daemon_is_an_error() {
        let stream = frame(3, b"boom\n");
        assert_eq!(decode(&[&stream]).1, Err(StreamError::Reported("boom".to_owned())));
        assert_eq!(decode(&stream.chunks(1).collect::<Vec<_>>()).1, Err(StreamError::Reported("boom".to_owned())));
        assert_eq!(decode(&[&frame(3, b"")]).1, Err(StreamError::Reported(String::new())));
    }

    #[test]
    fn nonsense_breaks_the_stream_for_good() {
        assert_eq!(decode(&[&[7, 0, 0, 0, 0, 0, 0, 0]]).1, Err(StreamError::UnknownType(7)));
        assert_eq!(decode(&[b"HTTP/1.1"]).1, Err(StreamError::UnknownType(b'H')));
        assert_eq!(decode(&[&[1, 0, 1, 0, 0, 0, 0, 0]]).1, Err(StreamError::Padding));
        let huge = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decode(&[&huge]).1, Err(StreamError::TooLong(u32::MAX)));
        let mut decoder = Decoder::new();
        assert!(decoder.push(&huge, |_, _| ()).is_err());
        assert!(decoder.push(b"x", |_, _| ()).is_err());
    }
}
