//! JSON lines as the engine sends them: LF or CRLF between values, empty lines ignored. Sans-IO and bounded.

/// The longest line: a build's step with all its output is far below.
pub const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// A line was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line exceeds {MAX_LINE_BYTES} bytes")]
pub struct LineTooLong;

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub struct JsonLines {
    buffer: Vec<u8>,
    /// Where the unread part begins.
    start: usize,
    /// How far the unread part has been searched for a line feed.
    searched: usize,
    finished: bool,
}

impl JsonLines {
    /// An empty decoder.
    pub fn new() -> JsonLines {
        JsonLines::default()
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Says that nothing more comes: an unterminated last line is a line.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// The next line without its end.
    ///
    /// # Errors
    /// It is too long.
    #[expect(clippy::should_implement_trait, reason = "fallible, and fed in between")]
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        loop {
            let line = match self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                Some(offset) => {
                    let end = self.searched + offset;
                    let line = self.buffer[self.start..end].to_vec();
                    self.start = end + 1;
                    line
                }
                None if self.finished && self.start < self.buffer.len() => {
                    let line = self.buffer[self.start..].to_vec();
                    self.start = self.buffer.len();
                    line
                }
                None => {
                    self.searched = self.buffer.len();
                    return if self.buffer.len() - self.start > MAX_LINE_BYTES { Err(LineTooLong) } else { Ok(None) };
                }
            };
            self.searched = self.start;
            if line.len() > MAX_LINE_BYTES {
                return Err(LineTooLong);
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                return Ok(Some(line.to_vec()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = JsonLines::new();
        let mut lines = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(line) = decoder.next().unwrap() {
                lines.push(String::from_utf8(line).unwrap());
            }
        }
        decoder.finish();
        while let Some(line) = decoder.next().unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        lines
    }

    #[test]
    fn a_stream_gives_the_same_lines_however_it_is_cut() {
        let stream = b"{\"a\":1}\r\n\r\n{\"b\":2}\n{\"c\":3}";
        let expected = ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"];
        assert_eq!(decode(&[stream]), expected);
        for split in 0..stream.len() {
            assert_eq!(decode(&[&stream[..split], &stream[split..]]), expected, "{split}");
        }
        assert_eq!(decode(&stream.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn an_endless_line_is_an_error_not_memory() {
        let mut decoder = JsonLines::new();
        decoder.push(&vec![b'x'; MAX_LINE_BYTES]);
        assert_eq!(decoder.next(), Ok(None));
        decoder.push(b"xx");
        assert_eq!(decoder.next(), Err(LineTooLong));
    }
}
