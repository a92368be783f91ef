//! Framing: lines of bounded length. A line that is too long is skipped to its end, so that the
//! connection survives.

use std::time::Instant;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum InputLine {
    /// A line without its terminator.
    Complete(Vec<u8>),
    /// A line beyond the bound, discarded.
    TooLong,
    /// End of file.
    End,
}

/// Reads the next line that is not empty. The last line need not be terminated, so `printf '...' |
/// nc -U` works. `first_byte` becomes the time at which the first byte of the line was available.
pub(super) async fn read(
    reader: &mut (impl AsyncBufRead + Unpin),
    bound: usize,
    first_byte: &mut Option<Instant>,
) -> std::io::Result<InputLine> {
    *first_byte = None;
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(match (too_long, line.is_empty()) {
                (true, _) => InputLine::TooLong,
                (false, true) => InputLine::End,
                (false, false) => InputLine::Complete(line),
            });
        }
        if line.is_empty() && !too_long {
            *first_byte = Some(Instant::now());
        }
        let (piece, used, ended) = match memchr::memchr(b'\n', available) {
            Some(end) => (&available[..end], end + 1, true),
            None => (available, available.len(), false),
        };
        if too_long || line.len() + piece.len() > bound {
            too_long = true;
            line = Vec::new();
        } else {
            line.extend_from_slice(piece);
        }
        reader.consume(used);
        match (ended, too_long) {
            (false, _) => {}
            (true, true) => return Ok(InputLine::TooLong),
            // empty lines are ignored
            (true, false) if line.trim_ascii().is_empty() => line.clear(),
            (true, false) => return Ok(InputLine::Complete(line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(mut input: &[u8]) -> Vec<InputLine> {
        let mut lines = Vec::new();
        loop {
            match read(&mut input, 8, &mut None).await.unwrap() {
                InputLine::End => return lines,
                line => lines.push(line),
            }
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        let complete = |text: &str| InputLine::Complete(text.as_bytes().to_vec());
        assert_eq!(lines(b"one\n123456789\n\r\ntwo").await, [complete("one"), InputLine::TooLong, complete("two")]);
        assert_eq!(lines(b"").await, []);
        assert_eq!(lines(b"12345678\n").await, [complete("12345678")]);
    }
}
