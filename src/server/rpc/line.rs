//! Framing: lines with a bound. A line that is too long is skipped to its end, so that the connection survives it.

use std::time::Instant;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Whole(Vec<u8>),
    /// One beyond the bound, thrown away.
    TooLong,
    /// Nothing more comes. What stood behind the last line's end is gone.
    End,
}

/// Reads the next line. An unterminated last one counts as a line: `printf '...' | nc -U` works. `first` becomes when its first
/// byte was read.
pub(super) async fn read(
    reader: &mut (impl AsyncBufRead + Unpin),
    bound: usize,
    first: &mut Option<Instant>,
) -> std::io::Result<Line> {
    *first = None;
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(match (too_long, line.is_empty()) {
                (true, _) => Line::TooLong,
                (false, true) => Line::End,
                (false, false) => Line::Whole(line),
            });
        }
        if line.is_empty() && !too_long {
            *first = Some(Instant::now());
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
            (true, true) => return Ok(Line::TooLong),
            // an empty line is no request and no error
            (true, false) if line.trim_ascii().is_empty() => line.clear(),
            (true, false) => return Ok(Line::Whole(line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(mut input: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        loop {
            match read(&mut input, 8, &mut None).await.unwrap() {
                Line::End => return lines,
                line => lines.push(line),
            }
        }
    }

    #[tokio::test]
    async fn a_line_too_long_is_skipped_and_the_next_one_is_read() {
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(lines(b"one\n123456789\n\r\ntwo").await, [whole("one"), Line::TooLong, whole("two")]);
        assert_eq!(lines(b"").await, []);
        assert_eq!(lines(b"12345678\n").await, [whole("12345678")]);
    }
}
