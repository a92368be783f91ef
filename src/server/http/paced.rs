//! A connection that ends when its client does not read.
//!
//! ```text
//!  write takes all --> free <------------------------------.
//!  write takes a part, or nothing --> waiting, SLOW_READER  |
//!       '-- SLOW_READER_BYTES were taken meanwhile ---------'
//!       '-- the time is over --> error: the connection ends
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use config::bounds;

/// What the client owes.
struct Debt {
    until: Pin<Box<Sleep>>,
    taken: usize,
}

/// A stream whose writes end with an error if they wait for too long.
pub(super) struct PacedStream<S> {
    stream: S,
    debt: Option<Debt>,
}

impl<S> PacedStream<S> {
    pub(super) fn new(stream: S) -> PacedStream<S> {
        PacedStream { stream, debt: None }
    }

    /// Accounts for a write of `offered` bytes.
    fn account(
        &mut self,
        written: Poll<io::Result<usize>>,
        offered: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) if *bytes == offered => self.debt = None,
            Poll::Ready(Ok(bytes)) => {
                let taken = self.debt.as_ref().map_or(0, |debt| debt.taken) + bytes;
                match &mut self.debt {
                    Some(debt) if taken < bounds::SLOW_READER_BYTES => debt.taken = taken,
                    _ => self.debt = None,
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let debt = self.debt.get_or_insert_with(|| Debt {
                    until: Box::pin(tokio::time::sleep_until(Instant::now() + bounds::SLOW_READER)),
                    taken: 0,
                });
                ready!(debt.until.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.account(written, bytes.len(), context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.account(written, parts.iter().map(|part| part.len()).sum(), context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// Writes `bytes` to a client that reads `piece` bytes each second; how long it took.
    async fn write(bytes: usize, piece: usize) -> (io::Result<()>, Duration) {
        let (ours, mut theirs) = duplex(8192);
        let begun = Instant::now();
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; piece.max(1)];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if piece > 0 && theirs.read(&mut buffer).await.is_ok_and(|bytes| bytes == 0) {
                    return;
                }
            }
        });
        let written = PacedStream::new(ours).write_all(&vec![0; bytes]).await;
        reading.abort();
        (written, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_or_too_little_is_given_up() {
        for piece in [0, 1, 1000] {
            let (written, took) = write(1 << 20, piece).await;
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut, "{piece}");
            assert!(took < bounds::SLOW_READER + Duration::from_secs(2), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_enough_gets_all_of_it() {
        let (written, took) = write(1 << 20, 4096).await;
        assert!(written.is_ok() && took > 5 * bounds::SLOW_READER, "{written:?} {took:?}");
    }
}
