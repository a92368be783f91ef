//! Framing: lines of bounded length that end in bounded time. A line that is too long, or that the
//! uid has no room for, is skipped to its end, so that the connection survives.

use std::time::Instant;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::timeout_at;

use crate::calls::socket_bytes::{ByteAccount, HeldBytes};
use config::bounds;

#[derive(Debug)]
pub(super) enum InputLine {
    Complete(ReceivedLine),
    /// A line beyond the bound, discarded.
    TooLong,
    /// A line that would exceed what the socket holds for the uid. It may not have ended; the rest
    /// is discarded.
    OverQuota,
    /// A line that did not end in time. Nothing more is read.
    Unfinished,
    /// End of file.
    End,
}

#[derive(Debug)]
pub(super) struct ReceivedLine {
    /// The line without its terminator.
    pub(super) text: Vec<u8>,
    /// Counts its bytes.
    pub(super) held: HeldBytes,
    /// When its first byte was available.
    pub(super) first_byte: Instant,
}

/// Why a line is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skip {
    TooLong,
    /// Its caller knows already.
    OverQuota,
}

/// Reads lines, and keeps the part of a line that has arrived.
pub(super) struct LineReader<R> {
    reader: R,
    account: ByteAccount,
    line: Vec<u8>,
    /// Counts the capacity of `line`.
    held: HeldBytes,
    skip: Option<Skip>,
    /// When the first byte of the line was available.
    first_byte: Option<Instant>,
}

impl<R: AsyncBufRead + Unpin> LineReader<R> {
    pub(super) fn new(reader: R, account: ByteAccount) -> LineReader<R> {
        let held = account.nothing();
        LineReader { reader, account, line: Vec::new(), held, skip: None, first_byte: None }
    }

    /// Reads the next line that is not empty. The last line need not be terminated, so `printf
    /// '...' | nc -U` works. If the future is dropped, what has arrived of the line is kept.
    pub(super) async fn next(&mut self, bound: usize) -> std::io::Result<InputLine> {
        loop {
            let available = match self.first_byte {
                None => self.reader.fill_buf().await?,
                Some(at) => match timeout_at((at + bounds::LINE_TIME).into(), self.reader.fill_buf()).await {
                    Ok(available) => available?,
                    Err(_) => {
                        self.take();
                        return Ok(InputLine::Unfinished);
                    }
                },
            };
            if available.is_empty() {
                let line = if self.first_byte.is_some() { self.take() } else { None };
                return Ok(line.unwrap_or(InputLine::End));
            }
            let (piece, used, ended) = match memchr::memchr(b'\n', available) {
                Some(end) => (&available[..end], end + 1, true),
                None => (available, available.len(), false),
            };
            self.first_byte.get_or_insert_with(Instant::now);
            let appended = match self.skip {
                Some(_) => Ok(()),
                None => append(&mut self.line, &mut self.held, piece, bound),
            };
            self.reader.consume(used);
            if let Err(skip) = appended {
                self.line = Vec::new();
                self.held.resize(0);
                self.skip = Some(skip);
            }
            let line = if ended { self.take() } else { None };
            match (line, appended) {
                (_, Err(Skip::OverQuota)) => return Ok(InputLine::OverQuota),
                (Some(line), _) => return Ok(line),
                (None, _) => {}
            }
        }
    }

    /// Ends the current line. `None` if there is nothing to say about it: it is empty, or its
    /// caller has the answer.
    fn take(&mut self) -> Option<InputLine> {
        let text = std::mem::take(&mut self.line);
        let held = std::mem::replace(&mut self.held, self.account.nothing());
        match (self.skip.take(), self.first_byte.take()) {
            (Some(Skip::TooLong), _) => Some(InputLine::TooLong),
            (Some(Skip::OverQuota), _) | (None, None) => None,
            (None, Some(_)) if text.trim_ascii().is_empty() => None,
            (None, Some(first_byte)) => Some(InputLine::Complete(ReceivedLine { text, held, first_byte })),
        }
    }
}

/// Appends to a line whose capacity is counted.
fn append(line: &mut Vec<u8>, held: &mut HeldBytes, piece: &[u8], bound: usize) -> Result<(), Skip> {
    let length = line.len() + piece.len();
    if length > bound {
        return Err(Skip::TooLong);
    }
    if length > line.capacity() {
        let capacity = length.max((line.capacity() * 2).min(bound));
        if !held.resize(capacity) {
            return Err(Skip::OverQuota);
        }
        line.reserve_exact(capacity - line.len());
    }
    line.extend_from_slice(piece);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::socket_bytes::SocketBytes;
    use std::time::Duration;
    use tokio::io::{AsyncWriteExt, BufReader, duplex};

    fn word(line: InputLine) -> String {
        match line {
            InputLine::Complete(line) => String::from_utf8(line.text).unwrap(),
            other => format!("{other:?}"),
        }
    }

    async fn lines(input: &[u8]) -> Vec<String> {
        let mut reader = LineReader::new(input, SocketBytes::default().account(protocol::Account::Uid(1)));
        let mut lines = Vec::new();
        loop {
            match reader.next(8).await.unwrap() {
                InputLine::End => return lines,
                line => lines.push(word(line)),
            }
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        assert_eq!(lines(b"one\n123456789\n\r\ntwo").await, ["one", "TooLong", "two"]);
        assert_eq!(lines(b"").await, [""; 0]);
        assert_eq!(lines(b"12345678\n").await, ["12345678"]);
        assert_eq!(lines(b"123456789").await, ["TooLong"]);
    }

    #[tokio::test]
    async fn a_line_without_room_is_skipped_and_the_next_one_is_read() {
        let account = SocketBytes::default().account(protocol::Account::Uid(1));
        let full = account.hold(bounds::MAX_SOCKET_BYTES_PER_UID as usize).unwrap();
        let long = vec![b'x'; 100_000];
        let input = [&long[..], b"\nsmall\n", &long[..], b"\n"].concat();
        let mut reader = LineReader::new(BufReader::with_capacity(1 << 10, &input[..]), account);
        // the answer does not wait for the end of the line
        assert_eq!(word(reader.next(1 << 20).await.unwrap()), "OverQuota");
        assert_eq!(word(reader.next(1 << 20).await.unwrap()), "small");
        drop(full);
        assert_eq!(word(reader.next(1 << 20).await.unwrap()).len(), 100_000);
    }

    #[tokio::test]
    async fn a_part_of_a_line_survives_a_dropped_read() {
        let (mut near, far) = duplex(64);
        let mut reader =
            LineReader::new(BufReader::new(far), SocketBytes::default().account(protocol::Account::Uid(1)));
        near.write_all(b"first ").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(1), reader.next(64)).await.is_err());
        near.write_all(b"half\n").await.unwrap();
        assert_eq!(word(reader.next(64).await.unwrap()), "first half");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_does_not_end_has_a_time_limit_and_an_idle_connection_has_none() {
        let (mut near, far) = duplex(64);
        let mut reader =
            LineReader::new(BufReader::new(far), SocketBytes::default().account(protocol::Account::Uid(1)));
        assert!(tokio::time::timeout(bounds::LINE_TIME * 10, reader.next(64)).await.is_err());
        near.write_all(b"first half").await.unwrap();
        assert_eq!(word(reader.next(64).await.unwrap()), "Unfinished");
    }
}
