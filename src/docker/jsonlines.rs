//! Newline-separated JSON, split without I/O.
//!
//! Pulls, builds and events arrive as one JSON object per line, ended by LF or CRLF. The splitter
//! is pushed bytes and lends lines out of one buffer; it skips blank lines. The length of a line is
//! bounded, so a stream without a newline ends in an error instead of filling memory. The last line
//! may lack its newline: [`Splitter::finish`] lends it, and the JSON parser decides whether it is
//! complete.

use serde::de::DeserializeOwned;

/// The most bytes of a line. A build puts a whole line of its commands' output into one object.
pub const MAX_LINE: usize = 1 << 20;

/// Why the next line is not available.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// More than [`MAX_LINE`] bytes without a newline. The splitter stays in this state.
    #[error("split the reply into lines: one is longer than {MAX_LINE} bytes")]
    TooLong,
    /// The line is not the expected JSON. The following lines are not affected.
    #[error("parse a line of the reply")]
    Json(#[source] serde_json::Error),
}

/// Splits a stream into lines. Push bytes, then take lines until it returns `None`.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    start: usize,
    /// The bytes before this offset contain no newline, so each byte is scanned once.
    scanned: usize,
}

impl Splitter {
    pub fn new() -> Splitter {
        Splitter::default()
    }

    /// Appends received bytes. Take all lines before pushing again: the buffer is not bounded
    /// otherwise.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that is not blank, without its ending, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`LineError::TooLong`].
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineError> {
        loop {
            let Some(newline) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') else {
                self.scanned = self.buffer.len();
                return match self.scanned - self.start > MAX_LINE {
                    true => Err(LineError::TooLong),
                    false => Ok(None),
                };
            };
            let (from, to) = (self.start, self.scanned + newline);
            if to - from > MAX_LINE {
                return Err(LineError::TooLong);
            }
            self.start = to + 1;
            self.scanned = self.start;
            if !trim(&self.buffer[from..to]).is_empty() {
                return Ok(Some(trim(&self.buffer[from..to])));
            }
        }
    }

    /// The next line, parsed.
    ///
    /// # Errors
    /// [`LineError::TooLong`], or [`LineError::Json`] for this line only.
    pub fn next_value<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LineError> {
        self.next_line()?.map(parse).transpose()
    }

    /// At end of file: a last line without a newline, if there is one.
    pub fn finish(&mut self) -> Option<&[u8]> {
        let from = std::mem::replace(&mut self.start, self.buffer.len());
        self.scanned = self.start;
        Some(trim(&self.buffer[from..])).filter(|line| !line.is_empty())
    }

    /// At end of file: the last line, parsed.
    ///
    /// # Errors
    /// [`LineError::Json`] if the stream was cut inside an object.
    pub fn finish_value<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LineError> {
        self.finish().map(parse).transpose()
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    serde_json::from_slice(line).map_err(LineError::Json)
}

fn trim(line: &[u8]) -> &[u8] {
    line.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"{\"a\":1}\r\n\n{\"b\":\"x y\"}\n\r\n[3]\r\n";
    const LINES: [&str; 3] = ["{\"a\":1}", "{\"b\":\"x y\"}", "[3]"];

    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Splitter) {
        let (mut splitter, mut lines) = (Splitter::new(), Vec::new());
        for piece in pieces {
            splitter.push(piece);
            while let Some(line) = splitter.next_line().unwrap() {
                lines.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        (lines, splitter)
    }

    #[test]
    fn lines_come_out_the_same_however_the_bytes_arrive() {
        assert_eq!(split([TEXT]).0, LINES);
        assert_eq!(split(TEXT.chunks(1)).0, LINES);
        for at in 0..=TEXT.len() {
            let (lines, mut splitter) = split([&TEXT[..at], &TEXT[at..]]);
            assert_eq!(lines, LINES, "split at {at}");
            assert!(splitter.finish().is_none());
        }
    }

    #[test]
    fn a_last_line_without_a_newline_is_returned_at_the_end() {
        let (lines, mut splitter) = split([TEXT, b"{\"c\":2}"]);
        assert_eq!(lines, LINES);
        let last: serde_json::Value = splitter.finish_value().unwrap().unwrap();
        assert_eq!(last["c"], 2);
        assert!(splitter.finish().is_none());
    }

    #[test]
    fn a_stream_cut_inside_an_object_is_an_error_at_the_end() {
        let (_, mut splitter) = split([TEXT, b"{\"c\":"]);
        assert!(splitter.finish_value::<serde_json::Value>().is_err());
    }

    #[test]
    fn a_line_that_is_not_json_does_not_affect_the_next() {
        let mut splitter = Splitter::new();
        splitter.push(b"oops\n{\"a\":1}\n");
        assert!(splitter.next_value::<serde_json::Value>().is_err());
        let value: serde_json::Value = splitter.next_value().unwrap().unwrap();
        assert_eq!(value["a"], 1);
    }

    #[test]
    fn the_length_of_a_line_is_bounded() {
        let mut splitter = Splitter::new();
        for _ in 0..MAX_LINE / 4096 {
            splitter.push(&[b'x'; 4096]);
            assert!(splitter.next_line().unwrap().is_none());
        }
        splitter.push(b"x");
        assert!(matches!(splitter.next_line(), Err(LineError::TooLong)));
    }
}
